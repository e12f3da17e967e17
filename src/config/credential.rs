//! Files that systemd hands to the agent's unit: `LoadCredential=` and its like, systemd.exec(5).

use std::path::{Path, PathBuf};

/// Where those of `trueup.service` lie while it runs. Root may read them there, whoever started it.
const DIRECTORY: &str = "/run/credentials/trueup.service";

/// The longest name, in bytes.
const LONGEST: usize = 255;

/// Where the credential `name` lies; `None` where no credential can have that name.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+@,-".contains(&b);
    let named = !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.bytes().all(plain);
    named.then(|| Path::new(DIRECTORY).join(name))
}

/// The name of the credential that lies at `path`, where one would.
pub fn credential(path: &Path) -> Option<&str> {
    path.strip_prefix(DIRECTORY).ok()?.to_str().filter(|name| !name.contains('/'))
}

/// What to do where the credential `name` is missing.
pub fn how_to_load(name: &str) -> String {
    format!(
        "write `LoadCredential={name}:/etc/trueup/{name}` (or LoadCredentialEncrypted=) below [Service] into a drop-in of \
         trueup.service (systemctl edit trueup), and restart it; it is there while the service runs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_a_plain_name_and_its_place() {
        let token = path("fleet-token").expect("a name");
        assert_eq!(token, Path::new("/run/credentials/trueup.service/fleet-token"));
        assert_eq!(credential(&token), Some("fleet-token"));
        let longest = "n".repeat(LONGEST);
        assert!(path(&longest).is_some());
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a:b", "ä", &format!("{longest}n")] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
        for other in ["/etc/trueup/token", "/run/credentials/trueup.service/a/b", "/run/credentials/other.service/a"] {
            assert_eq!(credential(Path::new(other)), None, "{other}");
        }
    }
}
