use super::Reader;
use crate::model::one_line;

/// A process whose login nobody set has this one (`audit_set_loginuid(3)`).
const UNSET: u32 = u32::MAX;
/// Longer names are cut.
const LONGEST: usize = 64;

impl Reader {
    /// Who is behind the process `pid` of the user `uid`, in one word for people: the name of the user that logged in
    /// (`/proc/PID/loginuid`, which survives sudo(8) and su(1)), else the name of `uid`; where no user database
    /// knows a name, the number.
    ///
    /// The name service may be slow to answer: not to be called where others wait.
    pub fn login_name(&self, pid: Option<i32>, uid: u32) -> String {
        let login = pid.filter(|_| self.is_machine()).and_then(|pid| {
            let text = std::fs::read_to_string(self.below_root(&format!("/proc/{pid}/loginuid"))).ok()?;
            parse(&text)
        });
        let uid = login.unwrap_or(uid);
        let names = self.users().and_then(|users| users.user_names(uid)).unwrap_or_default();
        names.first().map_or_else(|| uid.to_string(), |name| one_line(name, LONGEST))
    }
}

/// The user of a `loginuid`; `None` where nobody logged in.
fn parse(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|&login| login != UNSET)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_was_never_set_is_nobody() {
        assert_eq!(parse("1000\n"), Some(1000));
        assert_eq!(parse("4294967295"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn without_a_login_the_user_itself_is_named_and_without_a_name_its_number() {
        let root = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(root.path().join("etc")).expect("made");
        std::fs::write(root.path().join("etc/passwd"), "alice:x:1500:1500::/:/bin/sh\n").expect("written");
        let reader = Reader::directory(root.path()).expect("opened");
        assert_eq!(reader.login_name(Some(1), 1500), "alice");
        assert_eq!(reader.login_name(None, 0), "root");
        assert_eq!(reader.login_name(None, 1501), "1501");
    }

    #[test]
    fn on_a_machine_a_process_that_is_gone_leaves_the_user() {
        let reader = Reader::machine().expect("opened");
        assert_eq!(reader.login_name(Some(i32::MAX), 0), "root");
    }
}
