use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use super::{Error, Reader};

/// What a user database may hold at most.
const LIMIT: u64 = 16 << 20;

/// Users and groups as they are now. On a machine the name service switch is asked (nsswitch.conf(5)), each
/// name once; a directory that stands for a machine has its own `/etc/passwd` and `/etc/group`.
#[derive(Debug)]
pub struct Users {
    machine: bool,
    passwd: Table,
    group: Table,
    asked: RefCell<BTreeMap<(What, Question), Answer>>,
    /// Names of numbers that were asked for.
    named: RefCell<Named>,
}

/// All names of users and groups by their numbers, shared by whoever asks.
type Named = BTreeMap<(What, u32), Arc<[String]>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    User,
    Group,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Id(String),
    Name(u32),
}

#[derive(Debug, Clone)]
enum Answer {
    Nobody,
    Id(u32),
    Name(String),
}

/// Names and numbers of passwd(5) or group(5), in order.
#[derive(Debug, Default)]
struct Table(Vec<(String, u32)>);

impl Reader {
    /// Users and groups, to be asked for as long as one batch of work takes and then made anew.
    ///
    /// # Errors
    /// Where the files of a directory that stands for a machine cannot be read.
    pub fn users(&self) -> Result<Users, Error> {
        let table = |path| -> Result<Table, Error> {
            let content = self.read_following(path, LIMIT)?.unwrap_or_default();
            Ok(Table::parse(&String::from_utf8_lossy(&content)))
        };
        Ok(Users {
            machine: self.is_machine(),
            passwd: table("/etc/passwd")?,
            group: table("/etc/group")?,
            asked: RefCell::default(),
            named: RefCell::default(),
        })
    }
}

impl Users {
    /// The number of the user `name`; digits are the number itself. `None` where nobody has that name.
    ///
    /// # Errors
    /// Where the name service does not answer.
    pub fn uid(&self, name: &str) -> Result<Option<u32>, Error> {
        self.id(What::User, name)
    }

    /// The number of the group `name`, as [`Users::uid`].
    ///
    /// # Errors
    /// Where the name service does not answer.
    pub fn gid(&self, name: &str) -> Result<Option<u32>, Error> {
        self.id(What::Group, name)
    }

    /// Every name that is known of the user `uid`, the usual one first.
    ///
    /// # Errors
    /// Where the name service does not answer.
    pub fn user_names(&self, uid: u32) -> Result<Arc<[String]>, Error> {
        self.names(What::User, uid)
    }

    /// Every name that is known of the group `gid`, the usual one first.
    ///
    /// # Errors
    /// Where the name service does not answer.
    pub fn group_names(&self, gid: u32) -> Result<Arc<[String]>, Error> {
        self.names(What::Group, gid)
    }

    fn table(&self, what: What) -> &Table {
        match what {
            What::User => &self.passwd,
            What::Group => &self.group,
        }
    }

    fn id(&self, what: What, name: &str) -> Result<Option<u32>, Error> {
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            // The greatest number means "leave it as it is" to chown(2).
            return Ok(name.parse().ok().filter(|&id| id != u32::MAX));
        }
        if name.is_empty() || name.contains(['\0', ':', '\n', '/']) {
            return Ok(None);
        }
        let known = self.table(what).0.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        if !self.machine {
            return Ok(known.or((name == "root").then_some(0)));
        }
        match self.ask(what, Question::Id(name.to_owned()))? {
            Answer::Id(id) => Ok(Some(id)),
            _ => Ok(None),
        }
    }

    fn names(&self, what: What, id: u32) -> Result<Arc<[String]>, Error> {
        if let Some(names) = self.named.borrow().get(&(what, id)) {
            return Ok(Arc::clone(names));
        }
        let mut names: Vec<String> =
            self.table(what).0.iter().filter(|(_, known)| *known == id).map(|(name, _)| name.clone()).collect();
        if self.machine
            && let Answer::Name(name) = self.ask(what, Question::Name(id))?
        {
            names.retain(|known| *known != name);
            names.insert(0, name);
        }
        if names.is_empty() && id == 0 {
            names.push("root".to_owned());
        }
        let names: Arc<[String]> = names.into();
        self.named.borrow_mut().insert((what, id), Arc::clone(&names));
        Ok(names)
    }

    fn ask(&self, what: What, question: Question) -> Result<Answer, Error> {
        let key = (what, question);
        if let Some(answer) = self.asked.borrow().get(&key) {
            return Ok(answer.clone());
        }
        let user = |user: User| (user.name, user.uid.as_raw());
        let group = |group: Group| (group.name, group.gid.as_raw());
        let found = match &key {
            (What::User, Question::Id(name)) => User::from_name(name).map(|found| found.map(user)),
            (What::User, Question::Name(id)) => User::from_uid(Uid::from_raw(*id)).map(|found| found.map(user)),
            (What::Group, Question::Id(name)) => Group::from_name(name).map(|found| found.map(group)),
            (What::Group, Question::Name(id)) => Group::from_gid(Gid::from_raw(*id)).map(|found| found.map(group)),
        };
        let answer = match (found, &key.1) {
            // getpwnam(3): some services say so by an error.
            (Ok(None) | Err(Errno::ENOENT | Errno::ESRCH), _) => Answer::Nobody,
            (Ok(Some((_, id))), Question::Id(_)) => Answer::Id(id),
            (Ok(Some((name, _))), Question::Name(_)) => Answer::Name(name),
            (Err(errno), question) => {
                let name = match question {
                    Question::Id(name) => crate::model::one_line(name, 64),
                    Question::Name(id) => id.to_string(),
                };
                let word = if what == What::User { "user" } else { "group" };
                let why = format!("the name service does not answer: {}", errno.desc());
                return Err(Error::Unknown { thing: format!("{word} {name}"), why });
            }
        };
        self.asked.borrow_mut().insert(key, answer.clone());
        Ok(answer)
    }
}

impl Table {
    /// The first field is the name, the third the number; lines that are not like that are passed over.
    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
            Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]
mod tests {
    use super::*;

    fn directory(passwd: Option<&str>) -> (tempfile::TempDir, Users) {
        let root = tempfile::tempdir().expect("a scratch directory");
        if let Some(passwd) = passwd {
            std::fs::create_dir(root.path().join("etc")).expect("made");
            std::fs::write(root.path().join("etc/passwd"), passwd).expect("written");
        }
        let users = Reader::directory(root.path()).expect("opened").users().expect("read");
        (root, users)
    }

    #[test]
    fn a_directory_has_its_own_users() {
        let (_root, users) = directory(Some(
            "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n+nis\napp:x:1500:1500::/:/bin/sh\n",
        ));
        assert_eq!(users.uid("app").expect("told"), Some(1500));
        assert_eq!(users.uid("daemon").expect("told"), None, "the machine's own users are not the directory's");
        assert_eq!(*users.user_names(0).expect("told"), ["root", "toor"]);
        assert_eq!(users.gid("root").expect("told"), Some(0), "root is there without a file");
        assert!(users.group_names(1500).expect("told").is_empty());
    }

    #[test]
    fn digits_are_a_number_and_the_greatest_is_nobody() {
        let (_root, users) = directory(None);
        assert_eq!(users.uid("1234").expect("told"), Some(1234));
        assert_eq!(users.uid("4294967295").expect("told"), None);
        assert_eq!(users.uid("99999999999").expect("told"), None);
        assert_eq!(users.uid("").expect("told"), None);
        assert_eq!(users.uid("root:x").expect("told"), None);
    }

    #[test]
    fn a_machine_is_asked_through_its_name_service() {
        let users = Reader::machine().expect("opened").users().expect("read");
        assert_eq!(users.uid("root").expect("told"), Some(0));
        assert_eq!(users.user_names(0).expect("told")[0], "root");
        assert_eq!(users.uid("nobody-has-this-name").expect("told"), None);
        assert!(users.group_names(3_999_999_999).expect("told").is_empty());
    }
}
