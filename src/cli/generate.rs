//! What packages install beside the program and its units, made from the definitions of the command itself, so
//! that no option is missing there: completions of shells, and a man page a verb.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// What stands in the page of the whole command after its verbs, see man-pages(7). Of each verb only the first.
const EXIT_STATUS: &str = "\
.SH EXIT STATUS
.TP
.B 0
In sync, or done.
.TP
.B 1
Something failed.
.TP
.B 2
Changes are pending, or there is drift that is only reported.
.TP
.B 3
Refused or stalled: nothing goes on before somebody acts.
";

/// The rest of it.
const FILES: &str = "\
.SH FILES
.TP
.I /etc/trueup/agent.toml
What this host's root says about trueup, and after it
.IR /etc/trueup/agent.d/*.toml ;
see
.BR trueup-agent.toml (5).
.TP
.I /var/lib/trueup
What trueup knows of this host and what it kept. Root's alone.
.TP
.I /run/trueup/trueup.sock
The socket that the agent answers on, a Varlink service.
.SH SEE ALSO
.BR trueup-agent.toml (5),
.BR systemctl (1),
.BR journalctl (1)
";

/// Ends the page of a verb.
const SEE_ALSO: &str = ".SH SEE ALSO\n.BR trueup (1),\n.BR trueup-agent.toml (5)\n";

/// The page of the agent's settings, up to the file that is packaged, which explains every key itself.
const SETTINGS_PAGE: &str = "\
.SH NAME
trueup-agent.toml \\- what a host's root says about trueup
.SH SYNOPSIS
.I /etc/trueup/agent.toml
.br
.I /etc/trueup/agent.d/*.toml
.SH DESCRIPTION
Read in this order, the fragments by their names; the later file wins, key by key. Without
.B source.url
the agent idles as
.IR unconfigured .
Unknown keys are errors. The directories and every file belong to root and are written by nobody else.
.PP
The agent reads them when it starts and on
.BR \"systemctl reload trueup\" ;
where they are wrong then, it keeps what it has and says so.
.B trueup doctor
says what is in force, and where each value came from.
.SH KEYS
As packaged. A line that is commented out shows the default, or an example where there is none.
.PP
.nf
";

/// The settings as they are packaged.
const SETTINGS: &str = include_str!("../../packaging/agent.toml");

/// Make completions and man pages, for packages.
#[derive(Debug, Args)]
pub(super) struct Generate {
    /// An existing directory, into which all files go
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Generate {
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<u8> {
        anyhow::ensure!(self.directory.is_dir(), "{}: no such directory; make it first", self.directory.display());
        // Before the completions: making them adds the verb `help`, which is no page of its own.
        let pages = pages(command.clone()).context("cannot make the man pages")?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, "trueup", &self.directory)
                .with_context(|| format!("cannot write the completion for {shell}"))?;
        }
        for (name, page) in pages {
            write(&self.directory.join(&name), &page)?;
        }
        Ok(0)
    }
}

#[allow(clippy::disallowed_methods, reason = "where a package is built, not on a host that is kept in order")]
fn write(path: &Path, page: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// The man pages, each with its file name: of the command, and of every verb that is not hidden.
fn pages(command: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default().to_owned();
    let mut pages = vec![page(command.clone(), &version, &[EXIT_STATUS, FILES])?];
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        pages.push(page(verb.clone(), &version, &[EXIT_STATUS, SEE_ALSO])?);
    }
    pages.push(("trueup-agent.toml.5".to_owned(), settings_page(&version).into_bytes()));
    Ok(pages)
}

fn page(command: Command, version: &str, more: &[&str]) -> std::io::Result<(String, Vec<u8>)> {
    let verbs = command.has_subcommands();
    let man = Man::new(command).manual("trueup").source(format!("trueup {version}"));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if verbs {
        man.render_subcommands_section(&mut text)?;
    }
    text.extend(more.concat().bytes());
    Ok((man.get_filename(), text))
}

/// In section 5: `trueup-agent(1)` is a verb.
fn settings_page(version: &str) -> String {
    let mut text = format!(".TH trueup-agent.toml 5 \"\" \"trueup {version}\" \"trueup\"\n{SETTINGS_PAGE}");
    for line in SETTINGS.lines() {
        // A line that begins with a dot or a quote would be a request of roff(7).
        text.push_str("\\&");
        text.push_str(&line.replace('\\', "\\\\").replace('-', "\\-"));
        text.push('\n');
    }
    text.push_str(".fi\n.SH SEE ALSO\n.BR trueup (1)\n");
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_verb_that_is_shown_has_a_page_and_no_other() {
        let command = super::super::Cli::command();
        let mut wanted: Vec<String> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(|verb| format!("trueup-{}.1", verb.get_name()))
            .collect();
        wanted.insert(0, "trueup.1".to_owned());
        wanted.push("trueup-agent.toml.5".to_owned());
        let pages = pages(command).expect("memory takes all");
        assert_eq!(pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), wanted);
        for (name, page) in &pages {
            let text = String::from_utf8_lossy(page);
            let status = if name.ends_with(".1") { ".SH EXIT STATUS" } else { ".SH KEYS" };
            for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", status, ".SH SEE ALSO"] {
                assert!(text.contains(part), "{name} lacks {part}: {text}");
            }
            assert!(text.contains(concat!("trueup ", env!("CARGO_PKG_VERSION"))), "{name}: {text}");
        }
    }

    #[test]
    fn the_page_of_the_settings_holds_every_line_of_the_packaged_file() {
        let page = settings_page("0");
        for line in ["[source]", "#url = \"https://git.example.org/fleet.git\"", "#setid = false"] {
            assert!(SETTINGS.lines().any(|packaged| packaged == line), "{line}");
            assert!(page.lines().any(|shown| shown == format!("\\&{line}")), "{line}: {page}");
        }
        assert_eq!(page.matches("\n\\&").count(), SETTINGS.lines().count());
    }

    #[test]
    fn all_of_it_lands_in_one_directory_which_has_to_be_there() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let into = |directory: &Path| Generate { directory: directory.to_owned() }.run(super::super::Cli::command());
        into(scratch.path()).expect("written");
        for name in ["trueup.bash", "_trueup", "trueup.fish", "trueup.1", "trueup-run.1"] {
            assert!(scratch.path().join(name).is_file(), "{name}");
        }
        for name in ["trueup-fetch-worker.1", "trueup-generate.1", "trueup-help.1"] {
            assert!(!scratch.path().join(name).exists(), "{name}");
        }
        let error = into(&scratch.path().join("nowhere")).expect_err("it is not made").to_string();
        assert!(error.contains("make it first"), "{error}");
    }
}
