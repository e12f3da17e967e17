use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::worker::{self, Wall};

/// What stays open to the worker. It is all that is read before its wall stands.
#[derive(Debug, Args)]
pub(super) struct FetchWorker {
    /// The user and group to become, as numbers
    #[arg(long, value_name = "UID:GID", value_parser = user)]
    user: Option<(u32, u32)>,
    /// The control group to move into
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Where clones may be written
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// How large a file may be written there, in bytes
    #[arg(long, value_name = "BYTES")]
    room: Option<u64>,
    /// What may be read
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// A TCP port that may be connected to; without any there is no network
    #[arg(long)]
    port: Vec<u16>,
    /// Programs may be started
    #[arg(long)]
    programs: bool,
}

impl FetchWorker {
    pub(super) fn run(self) -> ExitCode {
        let Self { user, cgroup, cache, room, read, port, programs } = self;
        let ports = (!port.is_empty()).then_some(port);
        worker::main(&Wall { user, cgroup, cache, room, read, ports, programs })
    }
}

pub(super) fn user(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "is not UID:GID".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn a_wall_is_told_by_its_arguments() {
        let wall = Wall {
            user: Some((990, 991)),
            cgroup: Some(PathBuf::from("/sys/fs/cgroup/x")),
            cache: Some(PathBuf::from("/var/cache/trueup/clone")),
            room: Some(1 << 30),
            read: vec![PathBuf::from("/-a"), PathBuf::from("/b c")],
            ports: Some(vec![443, 53]),
            programs: true,
        };
        for wall in [wall, Wall::default()] {
            let arguments = ["trueup".to_owned()].into_iter().chain(wall.arguments());
            let Verb::FetchWorker(parsed) = Cli::try_parse_from(arguments).expect("understood").verb else {
                panic!("another verb")
            };
            let FetchWorker { user, cgroup, cache, room, read, port, programs } = parsed;
            let ports = (!port.is_empty()).then_some(port);
            assert_eq!(Wall { user, cgroup, cache, room, read, ports, programs }, wall);
        }
    }
}
