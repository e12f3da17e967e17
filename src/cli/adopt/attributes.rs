//! What Git makes of the ends of lines as it takes a file in: gitattributes(5). What the host would read then is not what
//! stands there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;

use crate::host::{Error, WorkTree};
use crate::kinds;

const NAME: &str = ".gitattributes";

/// Git itself reads no longer one.
const LIMIT: u64 = 100 << 20;

/// The attributes of a checkout.
pub(super) struct Attributes {
    top: WorkTree,
    /// The repository of the fleet in it, with a slash behind it; empty where it is all of it.
    fleet: String,
    /// By path in the checkout; each is read once.
    known: RefCell<BTreeMap<String, Rc<[Rule]>>>,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    /// From 1.
    line: usize,
    what: What,
    attributes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    /// A macro of this name.
    Macro(String),
    /// Paths below the directory of the file.
    Paths(String),
}

impl Attributes {
    /// Those of the checkout that `root` is, or is in.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    pub(super) fn of(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("cannot look at {}", root.display()))?;
        let top = root.ancestors().find(|above| above.join(".git").symlink_metadata().is_ok()).unwrap_or(&root);
        let fleet =
            root.strip_prefix(top).ok().and_then(Path::to_str).context("the path of the checkout is not UTF-8")?;
        let fleet = if fleet.is_empty() { String::new() } else { format!("{fleet}/") };
        Ok(Self { top: WorkTree::open(top)?, fleet, known: RefCell::default() })
    }

    /// Why a file of this content would not be kept as it is at `path` of the fleet.
    pub(super) fn change(&self, path: &str, content: &[u8]) -> Option<String> {
        if !content.windows(2).any(|pair| pair == b"\r\n") {
            return None;
        }
        let path = format!("{}{path}", self.fleet);
        let by = match self.changes_line_ends(&path, content.contains(&0)) {
            Ok(by) => by?,
            Err(error) => format!("{NAME}, which cannot be read: {}", error.chain()),
        };
        Some(format!("it has lines that end in CR and LF, which Git would change by {by}; say `-text` of {path} there"))
    }

    /// Which line has it do so.
    fn changes_line_ends(&self, path: &str, binary: bool) -> Result<Option<String>, Error> {
        let mut files = vec![self.read(NAME)?];
        let inside = path.match_indices('/').map(|(at, _)| &path[..=at]);
        let mut at: Vec<&str> = vec![""];
        for directory in inside {
            files.push(self.read(&format!("{directory}{NAME}"))?);
            at.push(directory);
        }
        // This one has the last word, and is of the whole checkout.
        const OWN: &str = ".git/info/attributes";
        files.push(self.read(OWN)?);
        at.push("");
        let all: Vec<(&str, &[Rule])> = at.into_iter().zip(files.iter().map(|file| &**file)).collect();
        let Some((file, line)) = deciding(&all, path, binary) else { return Ok(None) };
        let name = if file + 1 == all.len() { OWN.to_owned() } else { format!("{}{NAME}", all[file].0) };
        Ok(Some(format!("{name}:{line}")))
    }

    fn read(&self, path: &str) -> Result<Rc<[Rule]>, Error> {
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
        }
        let content = self.top.read(path, LIMIT)?.unwrap_or_default();
        let rules: Rc<[Rule]> = rules(&String::from_utf8_lossy(&content)).into();
        self.known.borrow_mut().insert(path.to_owned(), rules.clone());
        Ok(rules)
    }
}

fn rules(text: &str) -> Vec<Rule> {
    let rule = |(at, line): (usize, &str)| {
        let line = line.trim();
        let (pattern, attributes) = match line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some(quoted) => quoted,
            None => line.split_once(char::is_whitespace)?,
        };
        let mut attributes: Vec<String> = attributes.split_whitespace().map(str::to_owned).collect();
        let what = match pattern {
            _ if pattern.starts_with(['#', '!']) => return None,
            "[attr]" => What::Macro(attributes.drain(..1.min(attributes.len())).next()?),
            _ => match pattern.strip_prefix("[attr]") {
                Some(name) => What::Macro(name.to_owned()),
                None => What::Paths(pattern.to_owned()),
            },
        };
        Some(Rule { line: at + 1, what, attributes })
    };
    text.lines().enumerate().filter_map(rule).collect()
}

/// What is said of a path.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// `text`, and of old `crlf`: whether line ends are changed; `None` where that depends on the content.
    text: Option<Option<bool>>,
    eol: bool,
    by: Option<(usize, usize)>,
}

/// The file of `all`, the weakest first and each with its directory, and the line in it by which the line ends of `path` are
/// changed.
fn deciding(all: &[(&str, &[Rule])], path: &str, binary: bool) -> Option<(usize, usize)> {
    let mut macros: BTreeMap<&str, &[String]> = BTreeMap::new();
    let of_old = ["-diff".to_owned(), "-merge".to_owned(), "-text".to_owned()];
    macros.insert("binary", &of_old);
    let mut said = Said::default();
    for (file, (directory, rules)) in all.iter().enumerate() {
        for rule in *rules {
            match &rule.what {
                What::Macro(name) => drop(macros.insert(name, &rule.attributes)),
                What::Paths(pattern) => {
                    if path.strip_prefix(directory).is_some_and(|below| matches(pattern, below)) {
                        apply(&mut said, &macros, &rule.attributes, (file, rule.line), 3);
                    }
                }
            }
        }
    }
    let changed = match said.text {
        Some(Some(changed)) => changed,
        Some(None) => !binary,
        None => said.eol,
    };
    said.by.filter(|_| changed)
}

fn apply(said: &mut Said, macros: &BTreeMap<&str, &[String]>, attributes: &[String], by: (usize, usize), depth: usize) {
    for attribute in attributes {
        let before = (said.text, said.eol);
        match attribute.as_str() {
            "text" | "crlf" | "text=input" | "crlf=input" => said.text = Some(Some(true)),
            "-text" | "-crlf" => said.text = Some(Some(false)),
            "text=auto" | "crlf=auto" => said.text = Some(None),
            "!text" | "!crlf" => said.text = None,
            "eol=lf" | "eol=crlf" => said.eol = true,
            "-eol" | "!eol" => said.eol = false,
            name => {
                if let (Some(more), Some(depth)) = (macros.get(name), depth.checked_sub(1)) {
                    apply(said, macros, more, by, depth);
                }
            }
        }
        if (said.text, said.eol) != before {
            said.by = Some(by);
        }
    }
}

/// Whether `pattern` is of `path`, below the directory of its file. One that is no pattern to us may be of any.
fn matches(pattern: &str, path: &str) -> bool {
    let anchored = pattern.trim_end_matches('/').contains('/');
    if pattern.ends_with('/') {
        return false;
    }
    // Braces mean nothing to Git.
    let pattern: String = pattern
        .trim_start_matches('/')
        .chars()
        .map(|c| if "{}".contains(c) { format!("[{c}]") } else { c.to_string() })
        .collect();
    let name = path.rsplit('/').next().unwrap_or(path);
    kinds::pattern(&pattern).map_or(true, |glob| glob.compile_matcher().is_match(if anchored { path } else { name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(all: &[(&str, &str)], path: &str) -> Option<(usize, usize)> {
        let parsed: Vec<(&str, Vec<Rule>)> = all.iter().map(|(at, text)| (*at, rules(text))).collect();
        let all: Vec<(&str, &[Rule])> = parsed.iter().map(|(at, rules)| (*at, rules.as_slice())).collect();
        deciding(&all, path, false)
    }

    #[test]
    fn the_last_line_that_is_about_a_path_decides() {
        let path = "hosts/a/files/etc/x.conf";
        for (text, wanted) in [
            ("", None),
            ("* text=auto eol=lf\n", Some(1)),
            ("# * text\n\n*.conf text\n", Some(3)),
            ("* text=auto\n*.conf -text\n", None),
            ("*.conf -text\n* text=auto\n", Some(2)),
            ("* text=auto\n*.conf binary\n", None),
            ("[attr]plain -text\n* text\n*.conf plain\n", None),
            ("* eol=crlf\n", Some(1)),
            ("* -text eol=lf\n", None),
            ("* crlf=input\n", Some(1)),
            ("* text\n* !text\n", None),
            ("*.bin text\nx.con text\n", None),
            ("hosts/** text\n", Some(1)),
            ("/hosts/a/files/**/x.conf text\n", Some(1)),
            ("a/files/** text\n", None),
            ("etc text\n", None),
            ("hosts/ text\n", None),
            ("*.{conf,x} text\n", None),
            ("\"*.conf\" text\n", Some(1)),
            ("*.conf diff=x\n", None),
        ] {
            assert_eq!(by(&[("", text)], path), wanted.map(|line| (0, line)), "{text}");
        }
        assert_eq!(by(&[("", "* text\n"), ("hosts/", "* -text\n")], path), None);
        assert_eq!(by(&[("", "* -text\n"), ("hosts/", "a/** text\n")], path), Some((1, 1)));
        assert_eq!(by(&[("", "* text\n"), ("hosts/a/", "/x.conf -text\n")], path), Some((0, 1)));
        assert_eq!(by(&[("", ""), ("", "* text=auto\n")], path), Some((1, 1)));
    }

    #[test]
    fn what_is_no_text_is_left_as_it_is_by_a_guess_only() {
        let auto = rules("* text=auto\n");
        assert_eq!(deciding(&[("", &auto)], "x", true), None);
        let text = rules("* text\n");
        assert_eq!(deciding(&[("", &text)], "x", true), Some((0, 1)));
    }
}
