use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::reach::{self, Reached};
use super::run::print_problems;
use super::{Ground, print, tell};
use crate::compile;
use crate::config::{self, Origin, Settings, SourceSettings, shown, ssh_server};
use crate::host::{Attributes, NodeType, Over, Reader, Writer};
use crate::model::{Class, Stage, Stop, Update, Word, one_line};
use crate::reconcile::{self, Ask, SETTINGS};
use crate::report::{Palette, Report, State, plan_text, result_text};

/// The settings file as the package brings it.
const PACKAGED: &str = include_str!("../../packaging/agent.toml");
/// Where the file that stood there goes.
const BEFORE: &str = "/etc/trueup/agent.toml.before-setup";
const SERVICE: &str = "trueup.service";

/// Let this host follow a repository.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// The repository: https://…, ssh://…, user@host:path, or an absolute path
    url: String,
    /// The branch to follow
    #[arg(long)]
    branch: Option<String>,
    /// Subdirectory of the repository that is the fleet repository
    #[arg(long, value_name = "DIR", value_parser = super::subdirectory)]
    path: Option<String>,
    /// Which host to be, instead of this machine's own name
    #[arg(long)]
    name: Option<String>,
    /// observe: never change this host; hold: keep to what is approved; auto
    #[arg(long, value_name = "MODE", value_parser = update)]
    update: Option<Update>,
    /// https: certificate authorities to believe instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// https: the proxy to go through, http://HOST:PORT
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// https: the certificate that the server asks for
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<String>,
    /// https: its private key, root's only
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<String>,
    /// https: the file with the token, root's only
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// ssh: the private key, root's only
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<String>,
    /// ssh: the pinned keys of the server
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<String>,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Also where another repository is followed now
    #[arg(long)]
    force: bool,
    /// Only write the settings below this directory; nothing is fetched or started
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn update(text: &str) -> Result<Update, String> {
    Update::parse(text).ok_or_else(|| "it has to be auto, hold or observe".to_owned())
}

/// What the settings file is and what it is to be.
struct Change {
    /// `None` where there is no file.
    old: Option<String>,
    new: String,
    settings: Settings,
}

impl Change {
    fn is_needed(&self) -> bool {
        self.old.as_ref() != Some(&self.new)
    }
}

impl Setup {
    /// Everything is judged before anything is written: a host never has settings that do not work.
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let ground = Ground { root: self.root.clone(), json: false };
        let host = ground.reader()?;
        ensure!(
            !host.is_machine() || rustix::process::geteuid().is_root(),
            "setup writes {SETTINGS} and starts the agent, which needs root: sudo trueup setup …"
        );
        let change = self.change(&host).context("nothing was written")?;
        if !host.is_machine() {
            let mut host = super::take(host)?;
            write(&mut host, &change)?;
            print(&format!("{} names {}\n", host.below_root(SETTINGS).display(), shown(&self.url)));
            return Ok(0);
        }
        let reached = self.try_source(&host, &change.settings).context("nothing was written")?;
        let name = select(&host, &change.settings, &reached).context("nothing was written")?;
        self.tell_what(&change, &reached, &name);
        show_plan(&host, &change.settings)?;
        if !self.agreed()? {
            return Ok(State::Pending.exit_code());
        }
        wait_for_lock(&host)?;
        let mut host = super::take(host)?;
        write(&mut host, &change)?;
        enable(host)
    }

    /// The keys that the command line gives, as agent.toml has them.
    fn keys(&self) -> Vec<(&'static str, &str)> {
        let given = [
            ("source.url", Some(self.url.as_str())),
            ("source.branch", self.branch.as_deref()),
            ("source.path", self.path.as_deref()),
            ("source.ca_file", self.ca_file.as_deref()),
            ("source.proxy", self.proxy.as_deref()),
            ("source.client_cert", self.client_cert.as_deref()),
            ("source.client_key", self.client_key.as_deref()),
            ("source.token_file", self.token_file.as_deref()),
            ("source.ssh_key", self.ssh_key.as_deref()),
            ("source.known_hosts", self.known_hosts.as_deref()),
            ("host.name", self.name.as_deref()),
            ("policy.update", self.update.map(Word::as_str)),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn change(&self, host: &Reader) -> anyhow::Result<Change> {
        config::transport(&self.url).map_err(|why| anyhow::anyhow!("the URL {why}"))?;
        let linked = host.look(SETTINGS)?.is_some_and(|meta| meta.node == NodeType::Symlink);
        ensure!(!linked, "{SETTINGS} is a symbolic link: set url in [source] of the file that it leads to");
        let old = match host.read(SETTINGS, 1 << 20)? {
            Some(bytes) => Some(String::from_utf8(bytes).with_context(|| format!("{SETTINGS} is not UTF-8"))?),
            None => None,
        };
        self.not_another(old.as_deref())?;
        let mut new = old.clone().unwrap_or_else(|| PACKAGED.to_owned());
        for (key, value) in self.keys() {
            // What holds already needs no line of its own.
            if !says(&new, key, value) {
                new = config::edited(&new, key, value).context(SETTINGS)?;
            }
        }
        let settings = reconcile::settings_with(host, &new)?;
        for (key, _) in self.keys() {
            if let Origin::File { path, line } = settings.origin(key)
                && path != SETTINGS
            {
                bail!("{path}:{line} sets {key} too, and wins over {SETTINGS}; take it out there");
            }
        }
        Ok(Change { old, new, settings })
    }

    /// Another source is somebody's decision, not ours to overwrite.
    fn not_another(&self, old: Option<&str>) -> anyhow::Result<()> {
        let settings = config::settings(&[(SETTINGS.to_owned(), old.unwrap_or_default().to_owned())]);
        if let Some(source) = settings.ok().and_then(|settings| settings.source)
            && !self.force
        {
            let urls: Vec<String> = source.urls.iter().map(|url| shown(url)).collect();
            ensure!(
                source.urls == [self.url.as_str()],
                "{SETTINGS} follows {} already; --force follows {} instead",
                urls.join(", "),
                shown(&self.url)
            );
        }
        Ok(())
    }

    fn try_source(&self, host: &Reader, settings: &Settings) -> anyhow::Result<Reached> {
        let source = settings.source.as_ref().context("no source came of it")?;
        if let Some(server) = ssh_server(&self.url) {
            is_pinned(host, &server, source)?;
        }
        let reached = reach::reach(host, settings, &super::executable()?);
        host.say("");
        let reached = reached.map_err(|why| {
            let message = format!("{}; {}", why.message, why.advice());
            stop(Stage::Fetch, why.class, why.reason, &message)
        })?;
        if !reached.fleet {
            let message = format!(
                "{} has no trueup.toml at {}: --path says which subdirectory is the fleet repository, --branch which branch",
                reached.place,
                if source.path.is_empty() { "its root" } else { &source.path }
            );
            bail!(stop(Stage::Compile, Class::Stalled, "not-a-fleet", &message));
        }
        Ok(reached)
    }

    fn tell_what(&self, change: &Change, reached: &Reached, name: &str) {
        let mut out = format!(
            "{} {} is at {}; this host is hosts/{name}\n",
            reached.place,
            reached.branch,
            one_line(&format!("{} {}", reached.revision.short(), reached.revision.subject), 80)
        );
        for one in change.settings.in_force().iter().filter(|one| one.origin != Origin::Default) {
            out.push_str(&format!("  {:22} {}\n", one.key, one_line(&one.value, 200)));
        }
        out.push('\n');
        print(&out);
    }

    /// Whether to go on: whoever sits at a terminal is asked.
    fn agreed(&self) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            tell("Nothing was written, since there is no terminal to ask on; --yes goes on without asking.\n");
            return Ok(false);
        }
        print(&format!("Write this to {SETTINGS}, and let the agent do it? [y/N] "));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        let agreed = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !agreed {
            print("Nothing was written.\n");
        }
        Ok(agreed)
    }
}

/// Whether `text` sets `key` to this and nothing else.
fn says(text: &str, key: &str, value: &str) -> bool {
    let Ok(settings) = config::settings(&[(SETTINGS.to_owned(), text.to_owned())]) else { return false };
    settings.origin(key) != Origin::Default
        && match key {
            "source.url" => settings.source.is_some_and(|source| source.urls == [value]),
            _ => settings.in_force().iter().any(|one| one.key == key && one.value == value),
        }
}

fn stop(stage: Stage, class: Class, reason: &str, message: &str) -> Stop {
    Stop { stage, class, reason: reason.to_owned(), message: one_line(message, 1500) }
}

/// A server of ssh is believed by its pinned key only, and nobody is pinned blindly.
fn is_pinned(host: &Reader, server: &str, source: &SourceSettings) -> anyhow::Result<()> {
    let file = source.known_hosts.to_string_lossy();
    let keys = match source.known_hosts.exists() {
        true => reach::pinned(host, server, &file).map_err(anyhow::Error::msg)?,
        false => Vec::new(),
    };
    if !keys.is_empty() {
        print(&format!("{server} is pinned in {file}: {}\n", keys.join(", ")));
        return Ok(());
    }
    let mut message = format!("{file} has no key of {server}; {}", reach::how_to_pin(server, source));
    // Somebody has believed it here before: that is worth knowing, and still for somebody to compare.
    for known in ["/root/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"] {
        let keys =
            if std::path::Path::new(known).exists() { reach::pinned(host, server, known) } else { Ok(Vec::new()) };
        if let Some(keys) = keys.ok().filter(|keys| !keys.is_empty()) {
            let keys = keys.join(", ");
            message.push_str(&format!(
                "; {known} has {keys}: if that is right, `ssh-keygen -F '{server}' -f {known} | grep -v '^#' >>{file}`"
            ));
        }
    }
    bail!(stop(Stage::Fetch, Class::Stalled, "bad-host-key", &message))
}

/// Which directory of the repository this host is.
fn select(host: &Reader, settings: &Settings, reached: &Reached) -> anyhow::Result<String> {
    const SHOWN: usize = 10;
    let (facts, setting) = (host.facts()?, settings.host.name.as_deref());
    if let Some(name) = compile::select(&reached.hosts, setting, &facts) {
        return Ok(name.to_owned());
    }
    let tried = compile::names_tried(setting, &facts).join(", ");
    let names: Vec<&str> = reached.hosts.iter().take(SHOWN).map(String::as_str).collect();
    let more = if reached.hosts.len() > SHOWN { ", …" } else { "" };
    let message = format!(
        "the repository has no directory for this host: looked for hosts/{tried}; there are {}{more}; add one, or say --name",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    bail!(stop(Stage::Compile, Class::Stalled, "no-such-host", &message))
}

/// What the first pass would do. A revision that cannot be applied is told; it does not make the settings wrong.
fn show_plan(host: &Reader, settings: &Settings) -> anyhow::Result<()> {
    let ask = Ask::new("plan", settings.clone(), host, super::executable()?);
    let mut report = Report::new("plan");
    let (report, planned) = match reconcile::look(host, &ask, &mut report) {
        Ok(looked) => (looked.report, true),
        Err(stop) => {
            report.stopped(&stop);
            (report, false)
        }
    };
    host.say("");
    let palette = Palette::new(true);
    if planned || !report.steps.is_empty() {
        print(&plan_text(&report, host.now(), palette));
    }
    print_problems(&report);
    if !planned || report.state >= State::Degraded {
        print(&result_text(&report, palette));
    }
    Ok(())
}

/// A pass may be under way; it is not long.
fn wait_for_lock(host: &Reader) -> anyhow::Result<()> {
    const STEP: Duration = Duration::from_millis(200);
    const TIMES: u32 = 300;
    for _ in 0..TIMES {
        let Some(holder) = host.lock_holder("/var/lib/trueup/lock")? else { break };
        if host.interrupted() {
            bail!("interrupted; nothing was written");
        }
        host.say(&format!("waiting for the pass that is under way: {holder}"));
        std::thread::sleep(STEP);
    }
    host.say("");
    Ok(())
}

/// The old file beside, the new one in its place: each whole at every instant.
fn write(host: &mut Writer, change: &Change) -> anyhow::Result<()> {
    if !change.is_needed() {
        print(&format!("{SETTINGS} says so already.\n"));
        return Ok(());
    }
    let root = host.can_own().then_some(0);
    let attributes = Attributes { uid: root, gid: root, mode: Some(0o644), unlisted: None };
    if let Some(old) = &change.old {
        host.write_file(BEFORE, attributes, old.as_bytes(), Over::Leaf)?;
        print(&format!("{BEFORE} is what stood there before.\n"));
    }
    host.write_file(SETTINGS, attributes, change.new.as_bytes(), Over::Leaf)?;
    print(&format!("{SETTINGS} is written.\n"));
    Ok(())
}

/// Enables what the package installed and has it run with the new settings.
fn enable(mut host: Writer) -> anyhow::Result<u8> {
    let by_hand = |why: &str| {
        print(&format!(
            "{why}\nNext: install the package and `systemctl enable --now trueup`; until then `trueup run` is one pass.\n"
        ));
    };
    let statuses = match host.bus() {
        Ok(bus) => bus.statuses(&[SERVICE]),
        Err(error) => {
            by_hand(&format!("The agent was not started: {error}."));
            return Ok(1);
        }
    };
    let status = statuses.into_iter().next().expect("each name has its answer")?;
    if status.load == "not-found" {
        by_hand("The agent was not started: trueup.service is not installed.");
        return Ok(0);
    }
    let active = matches!(status.active.as_str(), "active" | "reloading");
    let (enabled, changed) = host.enable_units(&[SERVICE]);
    if changed {
        host.daemon_reload()?;
    }
    let (start, reload): (&[&str], &[&str]) = if active { (&[], &[SERVICE]) } else { (&[SERVICE], &[]) };
    let results: Vec<_> = enabled.into_iter().chain(host.hand_over(start, reload)).collect();
    let mut failed = false;
    for error in results.into_iter().filter_map(Result::err) {
        failed = true;
        tell(&format!("{}\n", one_line(&error.chain(), 400)));
    }
    print(match (failed, active) {
        (true, _) => "Next: systemctl status trueup · journalctl -u trueup · trueup doctor\n",
        (false, true) => {
            "trueup.service is enabled, and has read it.\nNext: trueup status --watch · journalctl -fu trueup · trueup doctor\n"
        }
        (false, false) => {
            "trueup.service is enabled and started.\nNext: trueup status --watch · journalctl -fu trueup · trueup doctor\n"
        }
    });
    Ok(u8::from(failed))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests set the scene themselves")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use clap::Parser;

    use super::*;

    const URL: &str = "https://git.example.org/fleet.git";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        setup: Setup,
    }

    fn run(root: &Path, arguments: &[&str]) -> anyhow::Result<u8> {
        let root = root.to_str().expect("text");
        let line = [&["setup"], arguments, &["--root", root]].concat();
        Line::try_parse_from(line).expect("it is understood").setup.run()
    }

    fn text(root: &Path) -> Option<String> {
        fs::read_to_string(root.join("etc/trueup/agent.toml")).ok()
    }

    fn standing(root: &Path, text: &str) {
        fs::create_dir_all(root.join("etc/trueup")).expect("made");
        fs::write(root.join("etc/trueup/agent.toml"), text).expect("written");
    }

    #[track_caller]
    fn refused(root: &Path, arguments: &[&str]) -> String {
        let before = text(root);
        let error = super::super::output::chain(&run(root, arguments).expect_err("refused"));
        assert_eq!(text(root), before, "nothing was written");
        assert!(error.starts_with("nothing was written"), "{error}");
        error
    }

    #[test]
    fn a_directory_gets_the_packaged_file_with_the_source_in_it() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let given = [URL, "--branch", "release", "--update", "observe", "--name", "web-01", "--ca-file", "/ca.pem"];
        assert_eq!(run(scratch.path(), &given).expect("done"), 0);
        let written = text(scratch.path()).expect("written");
        assert!(PACKAGED.lines().all(|line| written.lines().any(|kept| kept == line)), "comments are kept");
        let host = Reader::directory(scratch.path()).expect("opened");
        let settings = reconcile::settings(&host).expect("valid");
        let source = settings.source.expect("a source");
        assert_eq!((source.urls[0].as_str(), source.branch.as_str()), (URL, "release"));
        assert_eq!(source.ca_file, Some(PathBuf::from("/ca.pem")));
        assert_eq!((settings.policy.update, settings.host.name.as_deref()), (Update::Observe, Some("web-01")));
        let mode = fs::metadata(scratch.path().join("etc/trueup/agent.toml")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert!(!scratch.path().join("etc/trueup/agent.toml.before-setup").exists(), "nothing stood there before");
    }

    #[test]
    fn doing_it_again_changes_nothing() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        for _ in 0..2 {
            assert_eq!(run(scratch.path(), &[URL, "--update", "hold"]).expect("done"), 0);
        }
        let once = text(scratch.path()).expect("written");
        assert_eq!(once.lines().filter(|line| line.starts_with("url")).count(), 1);
        assert!(!scratch.path().join("etc/trueup/agent.toml.before-setup").exists());
    }

    #[test]
    fn another_source_is_not_overwritten_without_force_and_is_kept_beside_with_it() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let ours = "# ours\n[source]\nurl = \"https://other.example/x\"\nbranch = \"b\"\n";
        standing(scratch.path(), ours);
        let error = refused(scratch.path(), &[URL]);
        assert!(error.contains("follows https://other.example/x already") && error.contains("--force"), "{error}");
        run(scratch.path(), &[URL, "--force"]).expect("done");
        assert_eq!(text(scratch.path()).expect("written"), ours.replace("https://other.example/x", URL));
        let before = fs::read_to_string(scratch.path().join("etc/trueup/agent.toml.before-setup")).expect("kept");
        assert_eq!(before, ours);
    }

    #[test]
    fn what_would_not_work_is_refused_with_nothing_written() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let root = scratch.path();
        for (arguments, why) in [
            (&["https://ana:s3cret@h/x"][..], "token_file"),
            (&["fleet"], "neither a URL"),
            (&["http://h/x"], "allow_insecure"),
            (&[URL, "--branch", "a..b"], "source.branch"),
            (&[URL, "--name", "Web 01"], "host.name"),
            (&[URL, "--ca-file", "tls/ca.pem"], "source.ca_file"),
        ] {
            let error = refused(root, arguments);
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        }
        standing(root, "[source\n");
        assert!(refused(root, &[URL]).contains("no TOML"));
        standing(root, "[sorce]\n");
        assert!(refused(root, &[URL]).contains("unknown section"));
    }

    #[test]
    fn a_fragment_that_would_win_is_named() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(scratch.path().join("etc/trueup/agent.d")).expect("made");
        let fragment = scratch.path().join("etc/trueup/agent.d/site.toml");
        fs::write(&fragment, "[source]\nurl = \"https://other.example/x\"\n").expect("written");
        assert!(refused(scratch.path(), &[URL]).contains("/etc/trueup/agent.d/site.toml:2 sets source.url too"));
        fs::write(&fragment, "[source]\ntimeout = \"1m\"\n").expect("written");
        run(scratch.path(), &[URL]).expect("done");
    }

    #[test]
    fn a_link_is_not_replaced_by_a_file() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        standing(scratch.path(), "");
        let file = scratch.path().join("etc/trueup/agent.toml");
        fs::rename(&file, scratch.path().join("etc/trueup/real.toml")).expect("moved");
        std::os::unix::fs::symlink("real.toml", &file).expect("linked");
        assert!(refused(scratch.path(), &[URL]).contains("symbolic link"));
    }
}
