//! What systemd's engines say of lines that are ours, told from what they say of the distribution's. Pure.

use std::collections::BTreeSet;

use crate::kinds::Activation;
use crate::model::one_line;

/// What is ours of what an engine reads.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// The paths of the files.
    files: BTreeSet<String>,
    /// What their lines are about: a path or a name; or how it begins and how it ends.
    about: BTreeSet<(String, Option<String>)>,
}

impl Ours {
    /// The file `path`, with this `content`, is ours: see tmpfiles.d(5), sysusers.d(5).
    pub(super) fn add(&mut self, path: &str, what: Activation, content: &str) {
        self.files.insert(path.to_owned());
        for line in content.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let mut fields = line.split_whitespace().skip(1).map(|field| field.trim_matches(['"', '\'']));
            let Some(first) = fields.next() else { continue };
            if what == Activation::Tmpfiles {
                // What specifiers and patterns stand for is known to the engine alone.
                let special = ['%', '*', '?', '[', ']'];
                let start = first.split(special).next().unwrap_or_default();
                let end = first.rfind(special).map(|at| first[at..].find('/').map_or("", |slash| &first[at + slash..]));
                self.about.extend((start.len() > 1).then(|| (start.to_owned(), end.map(str::to_owned))));
            } else {
                let names = std::iter::once(first).chain(fields.next().into_iter().flat_map(|field| field.split(':')));
                let is_name = |name: &&str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                self.about.extend(names.filter(is_name).map(|name| (name.to_owned(), None)));
            }
        }
    }

    /// The lines of what an engine `said` that tell of something of ours, other than what was done.
    pub(super) fn lines<'s>(&self, said: &'s str) -> Vec<&'s str> {
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Creating "));
        lines.filter(|line| self.is_of_ours(line)).collect()
    }

    fn is_of_ours(&self, line: &str) -> bool {
        let is_file = |file: &str| file.starts_with('/') && file.ends_with(".conf") && !file.contains(' ');
        if let Some((file, _)) = line.split_once(':').filter(|(file, _)| is_file(file)) {
            // What the administrator wrote is nobody else's.
            return self.files.contains(file) || file.starts_with("/etc/");
        }
        let words = || line.split_whitespace().map(|word| word.trim_matches(['"', '\'', '.', ',', ':', ';']));
        let is_about = |word: &str, (about, end): &(String, Option<String>)| match end {
            None => word == about,
            Some(end) => word.starts_with(about.as_str()) && word.ends_with(end.as_str()),
        };
        words().any(|word| self.about.iter().any(|about| is_about(word, about)))
    }
}

/// The last of `lines`, joined.
pub(super) fn last(lines: &[&str]) -> String {
    one_line(&lines[lines.len().saturating_sub(4)..].join("; "), 600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_tmpfiles_says_of_a_path_is_ours_where_our_lines_are_about_that() {
        let mut ours = Ours::default();
        let content = "# d /srv/not\nd /srv/app 0755 root root\nL+ /srv/link - - - - /etc/x\nf \"/srv/%H/f\" 0644\nd /\np /srv/x.conf\n";
        ours.add("/etc/tmpfiles.d/app.conf", Activation::Tmpfiles, content);
        for line in [
            "/etc/tmpfiles.d/app.conf:1: Unknown command type 'Q'",
            "/etc/tmpfiles.d/theirs.conf:1: Unknown command type 'Q'",
            "\"/srv/app\" already exists and is not a directory.",
            "Failed to create symlink '/srv/link': Not a directory",
            "Failed to open/create file /srv/web-01/f: Not a directory",
            "Failed to create FIFO /srv/x.conf: Not a directory",
            "Detected unsafe path transition /srv (owned by x) → /srv/y (owned by root) during canonicalization of /srv/app.",
        ] {
            assert_eq!(ours.lines(&format!("\n{line}\n")), [line]);
        }
        for line in [
            "/usr/lib/tmpfiles.d/a.conf:3: Failed to resolve user 'x': No such process",
            "/usr/lib/tmpfiles.d/a.conf:3: /srv/app is theirs as well",
            "Failed to create directory or subvolume \"/proc/x\": No such file or directory",
            "\"/srv/not\" already exists and is not a directory.",
            "\"/srv/app2\" already exists and is not a directory.",
        ] {
            assert_eq!(ours.lines(line), [] as [&str; 0]);
        }
        assert_eq!(Ours::default().lines("\"/srv/app\" already exists and is not a directory."), [] as [&str; 0]);
    }

    #[test]
    fn what_systemd_sysusers_says_of_a_name_is_ours_where_our_lines_are_about_that() {
        let mut ours = Ours::default();
        ours.add("/etc/sysusers.d/app.conf", Activation::Sysusers, "u app 0:data \"An app\" /srv\nm app - \nr - 5-9\n");
        let said = "Creating group 'app' with GID 995.\nSuggested user ID 0 for app already used.\nGroup data not found.\n\
                    Suggested user ID 1 for theirs already used.\n\
                    /etc/sysusers.d/app.conf:1: Conflict with earlier configuration for user 'root', ignoring line.\n\
                    /usr/lib/sysusers.d/x.conf:1: Conflict with earlier configuration for user 'app', ignoring line.\n";
        let told = [
            "Suggested user ID 0 for app already used.",
            "Group data not found.",
            "/etc/sysusers.d/app.conf:1: Conflict with earlier configuration for user 'root', ignoring line.",
        ];
        assert_eq!(ours.lines(said), told);
        assert_eq!(last(&["a", "b", "c", "d", "e"]), "b; c; d; e");
    }
}
