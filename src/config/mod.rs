//! Storey 1: the agent's own settings. Pure: the texts of the fragments go in, valid settings or
//! every problem come out; who calls reads `/etc/trueup/agent.toml` and `/etc/trueup/agent.d/*.toml`.

mod credential;
mod edit;
mod origin;
mod parse;
mod problem;
mod proxy;
mod settings;
mod url;
mod values;

pub use credential::{credential, how_to_load};
pub use edit::{EditError, edited};
pub use origin::{InForce, Origin};
pub use parse::settings;
pub use problem::ConfigProblem;
pub use proxy::proxy_port;
pub use settings::{
    ChangeSettings, HostSettings, PolicySettings, SecretsSettings, Settings, SourceSettings, StateSettings,
    TrustSettings,
};
pub use url::{Transport, endpoint, is_branch_name, port, shown, ssh_server, transport};
pub use values::{duration, subdirectory};
