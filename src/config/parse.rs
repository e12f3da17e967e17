use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::origin::Origin;
use super::problem::{ConfigProblem, Place, hint};
use super::proxy::proxy_port;
use super::settings::{Settings, SourceSettings};
use super::url::{is_branch_name, transport};
use super::values::{Written, article};
use crate::model::{CommitId, TrustMode, one_line};

/// What one fragment may hold at most, in bytes.
const LONGEST: usize = 1 << 20;

/// How often a source may be looked at: from this
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// to this.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Every key of every section, DESIGN §9.
pub(super) const SECTIONS: &[(&str, &[&str])] = &[
    (
        "source",
        &[
            "source.url",
            "source.branch",
            "source.path",
            "source.interval",
            "source.max_age",
            "source.allow_insecure",
            "source.ca_file",
            "source.proxy",
            "source.client_cert",
            "source.client_key",
            "source.token_file",
            "source.ssh_key",
            "source.known_hosts",
            "source.timeout",
        ],
    ),
    ("host", &["host.name"]),
    ("trust", &["trust.signers", "trust.revoked", "trust.mode", "trust.introduction", "trust.floor"]),
    ("policy", &["policy.update", "policy.takeover", "policy.setid"]),
    ("change", &["change.settle", "change.deadline", "change.restarts"]),
    ("state", &["state.originals", "state.edits"]),
    ("secrets", &["secrets.identity"]),
];

/// So that a service that starts and dies at once is seen.
const SHORTEST_SETTLE: Duration = Duration::from_secs(1);
const LONGEST_SETTLE: Duration = Duration::from_secs(5 * 60);
const SHORTEST_DEADLINE: Duration = Duration::from_secs(20);
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
/// Of restarts within ten minutes: so many are remembered.
const MOST_RESTARTS: usize = 1000;

/// What is known so far. Later fragments overwrite, key by key.
struct Draft {
    settings: Settings,
    source: SourceSettings,
    /// Each URL with the problem that it is where insecure transports are not allowed.
    urls: Vec<(String, Option<ConfigProblem>)>,
    problems: Vec<ConfigProblem>,
}

/// The settings that `fragments` (path and text of each, in order) make: the later wins, key by key.
/// No fragments at all, or none with a `source.url`, is `unconfigured`.
///
/// # Errors
/// Every problem of every fragment, in order.
pub fn settings(fragments: &[(String, String)]) -> Result<Settings, Vec<ConfigProblem>> {
    let mut draft =
        Draft { settings: Settings::default(), source: SourceSettings::at(""), urls: Vec::new(), problems: Vec::new() };
    for (path, text) in fragments {
        draft.read(Place { path, text, start: 0 });
    }
    draft.finish()
}

impl Draft {
    fn read(&mut self, file: Place<'_>) {
        if file.text.len() > LONGEST {
            self.problems.push(file.problem(format!("the file is longer than {LONGEST} bytes")));
            return;
        }
        let root = match DeTable::parse(file.text) {
            Ok(root) => root,
            Err(error) => {
                let place = file.at(&error.span().unwrap_or(0..0));
                self.problems.push(place.problem(error.message().trim_end().replace('\n', "; ")));
                return;
            }
        };
        for (section, value) in in_order(root.get_ref()) {
            self.section(section, value, file);
        }
    }

    fn section(&mut self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>, file: Place<'_>) {
        let here = file.at(&name.span());
        let written = name.get_ref().as_ref();
        let Some((section, keys)) = SECTIONS.iter().find(|(known, _)| *known == written) else {
            let known: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
            self.problems.push(here.problem(match value.get_ref() {
                DeValue::Table(_) => format!("unknown section [{}]{}", one_line(written, 60), hint(written, &known)),
                _ => match section_of(written) {
                    Some(full) => format!("{written:?} belongs below [{}]", full.split('.').next().unwrap_or_default()),
                    None => format!("unknown key \"{}\"{}", one_line(written, 60), hint(written, &known)),
                },
            }));
            return;
        };
        let Some(table) = value.get_ref().as_table() else {
            let what = article(value.get_ref().type_str());
            self.problems.push(here.problem(format!("{section} is a section, [{section}], not {what}")));
            return;
        };
        for (key, value) in in_order(table) {
            let written: &str = key.get_ref().as_ref();
            let known = keys.iter().find(|full| full.strip_prefix(section).is_some_and(|rest| rest[1..] == *written));
            let Some(name) = known else {
                let short: Vec<&str> = keys.iter().map(|full| &full[section.len() + 1..]).collect();
                let hint = hint(written, &short);
                let message = format!("unknown key \"{}\" in [{section}]{hint}", one_line(written, 60));
                self.problems.push(file.at(&key.span()).problem(message));
                continue;
            };
            let place = file.at(&value.span());
            match self.take(&Written { name, value: value.get_ref(), place }) {
                Ok(()) => {
                    let origin = Origin::File { path: file.path.to_owned(), line: file.at(&key.span()).line() };
                    self.settings.written.insert(name, origin);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn take(&mut self, written: &Written<'_>) -> Result<(), ConfigProblem> {
        let settings = &mut self.settings;
        match written.name {
            "source.url" => self.urls = urls(written)?,
            "source.branch" => {
                let branch = written.text()?;
                if !is_branch_name(branch) {
                    return Err(written.problem("is not the name of a branch (see git-check-ref-format(1))"));
                }
                self.source.branch = branch.to_owned();
            }
            "source.path" => self.source.path = written.subdirectory()?,
            "source.interval" => {
                self.source.interval = written.duration_within(SHORTEST_INTERVAL, LONGEST_INTERVAL)?;
            }
            "source.max_age" => self.source.max_age = written.duration()?,
            "source.allow_insecure" => self.source.allow_insecure = written.flag()?,
            "source.ca_file" => self.source.ca_file = Some(written.credential()?),
            "source.proxy" => {
                let proxy = written.text()?;
                proxy_port(proxy).map_err(|why| written.problem(&why))?;
                self.source.proxy = Some(proxy.to_owned());
            }
            "source.client_cert" => self.source.client_cert = Some(written.credential()?),
            "source.client_key" => self.source.client_key = Some(written.credential()?),
            "source.token_file" => self.source.token_file = Some(written.credential()?),
            "source.ssh_key" => self.source.ssh_key = Some(written.plain_credential()?),
            "source.known_hosts" => self.source.known_hosts = written.plain_credential()?,
            "source.timeout" => self.source.timeout = written.duration()?,
            "host.name" => settings.host.name = Some(written.host_name()?),
            "policy.update" => settings.policy.update = written.word()?,
            "policy.takeover" => settings.policy.takeover = written.word()?,
            "policy.setid" => settings.policy.setid = written.flag()?,
            "change.deadline" => {
                settings.change.deadline = written.duration_within(SHORTEST_DEADLINE, LONGEST_DEADLINE)?;
            }
            "change.settle" => settings.change.settle = written.duration_within(SHORTEST_SETTLE, LONGEST_SETTLE)?,
            "change.restarts" => settings.change.restarts = written.count(1, MOST_RESTARTS)?,
            "state.originals" => settings.state.originals = written.duration()?,
            "secrets.identity" => settings.secrets.identity = Some(written.credential()?),
            "state.edits" => settings.state.edits = written.duration()?,
            _ => self.trust(written)?,
        }
        Ok(())
    }

    fn trust(&mut self, written: &Written<'_>) -> Result<(), ConfigProblem> {
        const MOST: usize = 16;
        let trust = &mut self.settings.trust;
        match written.name {
            "trust.signers" => {
                let files = written.texts()?;
                if files.is_empty() || files.len() > MOST {
                    return Err(written.problem(&format!("is one file, or a list of at most {MOST}")));
                }
                trust.signers = files.iter().map(Written::file).collect::<Result<_, _>>()?;
            }
            "trust.revoked" => trust.revoked = Some(written.file()?),
            "trust.mode" => trust.mode = written.word()?,
            "trust.introduction" => trust.introduction = commit(written)?,
            _ => trust.floor = commit(written)?,
        }
        Ok(())
    }

    /// Trust that would be configured and not kept is worse than none.
    fn trust_is_whole(&mut self) {
        let trust = &self.settings.trust;
        let chain = trust.mode == TrustMode::Chain;
        let wrong = match () {
            () if chain && !trust.is_configured() => Some((
                "trust.mode",
                "\"chain\" needs trust.signers: who signs the commits that come before the repository says it",
            )),
            () if chain && trust.introduction.is_none() => Some((
                "trust.mode",
                "\"chain\" needs trust.introduction, the full id of the commit that the chain begins with",
            )),
            () if !chain && trust.introduction.is_some() => {
                Some(("trust.introduction", "belongs to trust.mode = \"chain\""))
            }
            () if trust.revoked.is_some() && !trust.is_configured() => {
                Some(("trust.revoked", "takes keys back that trust.signers would have to give"))
            }
            () => None,
        };
        if let Some((key, why)) = wrong {
            self.wrong(key, why);
        }
    }

    /// What strikes before anything can have settled would undo everything.
    fn deadline_leaves_time(&mut self) {
        if self.settings.change.deadline < self.settings.change.settle * 2 {
            let key = if self.settings.written.contains_key("change.deadline") { "deadline" } else { "settle" };
            self.wrong(&format!("change.{key}"), "leaves no time: change.deadline is at least twice change.settle");
        }
    }

    /// A certificate is of no use without its key, nor the key without it.
    fn certificate_is_whole(&mut self) {
        match (&self.source.client_cert, &self.source.client_key) {
            (Some(_), None) => self.wrong("source.client_cert", "needs source.client_key, its private key"),
            (None, Some(_)) => self.wrong("source.client_key", "needs source.client_cert, its certificate"),
            _ => {}
        }
    }

    /// The key that was written is of no use, beside what else was or was not.
    fn wrong(&mut self, key: &str, why: &str) {
        let (path, line) = match self.settings.origin(key) {
            Origin::File { path, line } => (path, line),
            _ => (String::new(), 0),
        };
        self.problems.push(ConfigProblem { path, line, column: 1, message: format!("{key} {why}") });
    }

    fn finish(mut self) -> Result<Settings, Vec<ConfigProblem>> {
        let insecure = self.urls.iter_mut().filter_map(|(_, problem)| problem.take());
        if !self.source.allow_insecure {
            self.problems.extend(insecure);
        }
        self.certificate_is_whole();
        self.trust_is_whole();
        self.deadline_leaves_time();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        if !self.urls.is_empty() {
            let urls = self.urls.into_iter().map(|(url, _)| url).collect();
            self.settings.source = Some(SourceSettings { urls, ..self.source });
        }
        Ok(self.settings)
    }
}

fn urls(written: &Written<'_>) -> Result<Vec<(String, Option<ConfigProblem>)>, ConfigProblem> {
    const MOST: usize = 16;
    let items = written.texts()?;
    if items.is_empty() || items.len() > MOST {
        return Err(written.problem(&format!("is one URL, or a list of at most {MOST}")));
    }
    let checked = items.iter().map(|item| {
        let url = item.text()?;
        let transport = transport(url).map_err(|why| item.problem(&why))?;
        let insecure = transport.is_insecure().then(|| {
            item.problem(
                "can be read and changed by anybody on the way; use https or ssh, or set allow_insecure = true",
            )
        });
        Ok((url.to_owned(), insecure))
    });
    checked.collect()
}

/// The full id of a commit; empty is none.
fn commit(written: &Written<'_>) -> Result<Option<CommitId>, ConfigProblem> {
    match written.text()? {
        "" => Ok(None),
        id => {
            let wrong = |_| written.problem("is the full id of a commit, 40 or 64 hexadecimal digits");
            id.parse().map(Some).map_err(wrong)
        }
    }
}

/// The full name of the key `written`, where exactly that key stands in some section.
fn section_of(written: &str) -> Option<&'static str> {
    SECTIONS.iter().flat_map(|(_, keys)| *keys).copied().find(|full| full.split('.').nth(1) == Some(written))
}

/// The entries of `table` as they stand in the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<toml::de::DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| -> usize {
        let span: Range<usize> = key.span();
        span.start
    });
    entries
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::model::{Takeover, Update};

    const PATH: &str = "/etc/trueup/agent.toml";

    fn parse(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        settings(&[(PATH.to_owned(), text.to_owned())])
    }

    fn problems(text: &str) -> Vec<String> {
        parse(text).expect_err("problems").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_configured_is_unconfigured() {
        assert_eq!(settings(&[]), Ok(Settings::default()));
        assert_eq!(parse("[policy]\nupdate = \"observe\"\n").expect("valid").source, None);
    }

    #[test]
    fn the_smallest_is_a_url() {
        let source =
            parse("[source]\nurl = \"https://git.example.org/fleet.git\"\n").expect("valid").source.expect("a source");
        assert_eq!(source, SourceSettings::at("https://git.example.org/fleet.git"));
        assert_eq!((source.branch.as_str(), source.timeout), ("main", Duration::from_secs(300)));
        assert_eq!((source.interval, source.max_age), (Duration::from_secs(60), Duration::from_secs(24 * 3600)));
    }

    #[test]
    fn every_key_of_the_design_is_taken() {
        let text = r#"
            [source]
            url = ["https://a.example/x", "git@b.example:x"]
            branch = "release/1"
            path = "fleet/prod/"
            interval = "90s"
            max_age = "36h"
            allow_insecure = false
            ca_file = "/etc/ssl/ours.pem"
            proxy = "http://proxy.example.org:3128"
            client_cert = "/etc/trueup/client.pem"
            client_key = "client-key"
            token_file = "/etc/trueup/token"
            ssh_key = "/etc/trueup/key"
            known_hosts = "/etc/trueup/hosts"
            timeout = "10m"
            [host]
            name = "web-01"
            [trust]
            mode = "head"
            floor = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9"
            [policy]
            update = "hold"
            takeover = "refuse"
            setid = true
            [change]
            settle = "45s"
            deadline = "10m"
            restarts = 3
            [state]
            originals = "6h"
            edits = "7d"
        "#;
        let settings = parse(text).expect("valid");
        let source = settings.source.as_ref().expect("a source");
        assert_eq!(source.urls, ["https://a.example/x", "git@b.example:x"]);
        assert_eq!((source.branch.as_str(), source.path.as_str()), ("release/1", "fleet/prod"));
        assert_eq!(source.ssh_key, Some(PathBuf::from("/etc/trueup/key")));
        assert_eq!(source.proxy.as_deref(), Some("http://proxy.example.org:3128"));
        assert_eq!(source.client_cert, Some(PathBuf::from("/etc/trueup/client.pem")));
        assert_eq!(source.client_key, Some(PathBuf::from("/run/credentials/trueup.service/client-key")));
        assert_eq!(source.timeout, Duration::from_secs(600));
        assert_eq!(settings.host.name.as_deref(), Some("web-01"));
        assert_eq!((settings.policy.update, settings.policy.takeover), (Update::Hold, Takeover::Refuse));
        assert_eq!(settings.state.originals, Duration::from_secs(6 * 3600));
        assert_eq!(settings.trust.floor.as_ref().map(|id| id.short()), Some("4f2a9c1"));
        assert_eq!(source.interval, Duration::from_secs(90));
        assert_eq!(source.max_age, Duration::from_secs(36 * 3600));
        assert_eq!(settings.change.deadline, Duration::from_secs(600));
        assert_eq!(settings.change.settle, Duration::from_secs(45));
        assert_eq!(settings.change.restarts, 3);
    }

    #[test]
    fn a_count_is_a_whole_number_within_its_bounds() {
        let with = |value: &str| format!("[change]\nrestarts = {value}\n");
        for (value, read) in [("1", 1), ("0x10", 16), ("1000", 1000)] {
            assert_eq!(parse(&with(value)).expect("valid").change.restarts, read);
        }
        for value in ["0", "1001", "-1", "99999999999999999999", "2.5", "\"5\""] {
            let said = problems(&with(value));
            assert!(said.len() == 1 && said[0].contains("change.restarts is"), "{value}: {said:?}");
        }
    }

    #[test]
    fn a_deadline_leaves_time_to_settle() {
        assert!(parse("[change]\nsettle = \"30s\"\ndeadline = \"1m\"\n").is_ok());
        let said = problems("[change]\nsettle = \"30s\"\ndeadline = \"59s\"\n");
        assert!(said.len() == 1 && said[0].contains("change.deadline leaves no time"), "{said:?}");
        assert!(problems("[change]\ndeadline = \"10s\"\n")[0].contains("deadline"));
    }

    #[test]
    fn the_later_fragment_wins_key_by_key() {
        let fragment = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let settings = settings(&[
            fragment("a", "[source]\nurl = \"/one\"\nbranch = \"a\"\n[host]\nname = \"a\""),
            fragment("b", "[source]\nbranch = \"b\"\n"),
        ])
        .expect("valid");
        let source = settings.source.expect("a source");
        assert_eq!((source.urls[0].as_str(), source.branch.as_str()), ("/one", "b"));
        assert_eq!(settings.host.name.as_deref(), Some("a"));
    }

    #[test]
    fn an_unknown_key_has_its_place_and_the_nearest_known() {
        assert_eq!(
            problems("[source]\nurl = \"/x\"\nbrnach = \"main\"\n"),
            ["/etc/trueup/agent.toml:3:1: unknown key \"brnach\" in [source]; did you mean \"branch\"?"]
        );
        assert_eq!(
            problems("[sorce]\n"),
            ["/etc/trueup/agent.toml:1:2: unknown section [sorce]; did you mean \"source\"?"]
        );
        assert_eq!(problems("url = \"/x\""), ["/etc/trueup/agent.toml:1:1: \"url\" belongs below [source]"]);
    }

    #[test]
    fn every_problem_is_told_in_order() {
        let found = problems(
            "[source]\nurl = 3\nbranch = \"a..b\"\ntimeout = \"soon\"\npath = \"../x\"\n[host]\nname = \"Web 01\"\n[policy]\nupdate = \"aut\"\nsetid = 1\nhost = 1\n[state]\nedits = \"0s\"\n",
        );
        let starts = [
            "2:7: source.url is a string or a list of strings, not an integer",
            "3:10: source.branch is not the name of a branch",
            "4:11: source.timeout is a duration",
            "5:8: source.path is a path relative",
            "7:8: host.name is a host name in lower case",
            "9:10: policy.update cannot be \"aut\"; did you mean \"auto\"?",
            "10:9: policy.setid is true or false, not an integer",
            "11:1: unknown key \"host\" in [policy]",
            "13:9: state.edits is from 1s to ten years",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(&format!("{PATH}:{start}")), "{found} / {start}");
        }
    }

    #[test]
    fn broken_toml_names_its_place() {
        let found = problems("[source]\nurl = \n");
        assert!(found[0].starts_with("/etc/trueup/agent.toml:2:7: "), "{found:?}");
    }

    #[test]
    fn insecure_transports_need_a_word_that_may_stand_in_another_fragment() {
        assert!(problems("[source]\nurl = \"http://h/x\"\n")[0].contains(":2:7: source.url can be read and changed"));
        assert!(parse("[source]\nurl = \"git://h/x\"\nallow_insecure = true\n").is_ok());
        let fragments = [
            ("a".to_owned(), "[source]\nurl = \"http://h/x\"".to_owned()),
            ("b".to_owned(), "source.allow_insecure = true".to_owned()),
        ];
        assert!(settings(&fragments).is_ok());
    }

    #[test]
    fn credentials_in_a_url_are_not_repeated() {
        let found = problems("[source]\nurl = \"https://ana:s3cret@h/x\"\n");
        assert!(found[0].contains("token_file") && !found[0].contains("s3cret"), "{found:?}");
    }

    #[test]
    fn a_name_without_a_slash_is_a_credential_of_the_unit() {
        let text = "[source]\nurl = \"git@h:x\"\nssh_key = \"key\"\nknown_hosts = \"hosts\"\ntoken_file = \"t\"\nca_file = \"c\"\n";
        let source = parse(text).expect("valid").source.expect("a source");
        let at = |name: &str| PathBuf::from(format!("/run/credentials/trueup.service/{name}"));
        assert_eq!((source.ssh_key, source.known_hosts), (Some(at("key")), at("hosts")));
        assert_eq!((source.token_file, source.ca_file), (Some(at("t")), Some(at("c"))));
        for bad in ["", "..", "a b", "./token", "a:b"] {
            let found = problems(&format!("[source]\nurl = \"/x\"\ntoken_file = \"{bad}\"\n"));
            assert!(found[0].contains(":3:14: source.token_file is the absolute path"), "{bad:?}: {found:?}");
        }
    }

    #[test]
    fn a_certificate_and_its_key_belong_together_and_a_proxy_has_no_password() {
        let found = problems("[source]\nurl = \"/x\"\nclient_cert = \"/c\"\n");
        assert_eq!(found, [format!("{PATH}:3:1: source.client_cert needs source.client_key, its private key")]);
        let found = problems("[source]\nurl = \"/x\"\nclient_key = \"/k\"\n");
        assert!(found[0].contains("source.client_key needs source.client_cert"), "{found:?}");
        let found = problems("[source]\nproxy = \"http://ana:s3cret@p:1\"\n");
        assert!(found[0].contains(":2:9: source.proxy holds a user name") && !found[0].contains("s3cret"), "{found:?}");
    }

    #[test]
    fn trust_that_would_not_be_kept_is_refused() {
        let id = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9";
        let signers = "signers = \"/etc/trueup/allowed_signers\"\n";
        for (lines, said) in [
            ("mode = \"chain\"\n".to_owned(), "needs trust.signers"),
            (format!("{signers}mode = \"chain\"\n"), "needs trust.introduction"),
            (format!("{signers}introduction = \"{id}\"\n"), "belongs to trust.mode"),
            ("revoked = \"/x\"\n".to_owned(), "trust.signers"),
            ("signers = []\n".to_owned(), "one file"),
            ("signers = \"x\"\n".to_owned(), "absolute path"),
            ("mode = \"tail\"\n".to_owned(), "known are head, chain"),
            ("floor = \"4f2a9c1\"\n".to_owned(), "full id"),
        ] {
            let found = problems(&format!("[trust]\n{lines}"));
            assert!(found[0].contains(said) && found[0].starts_with(PATH), "{found:?}");
        }
        assert!(parse("[trust]\nfloor = \"\"\n").is_ok());
        let two = parse("[trust]\nsigners = [\"/a\", \"/b\"]\nrevoked = \"/c\"\n").expect("valid").trust;
        assert!(two.is_configured() && two.mode == TrustMode::Head && two.signers.len() == 2);
        let chain = parse(&format!("[trust]\n{signers}mode = \"chain\"\nintroduction = \"{id}\"\n"));
        assert_eq!(
            chain.expect("valid").trust.introduction.map(|id| id.short().to_owned()).as_deref(),
            Some("4f2a9c1")
        );
    }

    #[test]
    fn the_interval_is_from_a_second_to_a_day() {
        let interval = |text: &str| {
            parse(&format!("[source]\nurl = \"/x\"\ninterval = \"{text}\"\n"))
                .map(|settings| settings.source.expect("a source").interval.as_secs())
                .map_err(|problems| problems[0].message.clone())
        };
        assert_eq!([interval("1s"), interval("2s")], [Ok(1), Ok(2)]);
        assert_eq!([interval("86399s"), interval("86400s"), interval("1d")], [Ok(86_399), Ok(86_400), Ok(86_400)]);
        for (bad, shown) in [("0s", "0s"), ("86401s", "86401s"), ("25h", "25h"), ("2d", "2d"), ("20000d", "20000d")] {
            let wanted = format!("source.interval is from 1s to 1d, and this is {shown}");
            assert_eq!(interval(bad), Err(wanted), "{bad}");
        }
        assert!(interval("soon").expect_err("refused").contains("is a duration"));
    }

    #[test]
    fn lengths_of_time_have_units_and_bounds() {
        let edits =
            |text: &str| parse(&format!("[state]\nedits = {text}\n")).map(|settings| settings.state.edits.as_secs());
        assert_eq!(edits("\"1s\""), Ok(1));
        assert_eq!(edits("\"30d\""), Ok(30 * 24 * 3600));
        for bad in [
            "60",
            "\"\"",
            "\"s\"",
            "\"-1s\"",
            "\"1.5h\"",
            "\"1w\"",
            "\"99999999999999999999d\"",
            "\"4000d\"",
            "\"é\"",
            "\"1é\"",
        ] {
            assert!(edits(bad).is_err(), "{bad}");
        }
    }
}
