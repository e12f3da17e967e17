//! Every stable reason word that the code can say stands in the README's table.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands before a reason word in the code.
const MARKS: &[&str] = &[
    "reason: \"",
    ".reason(\"",
    "stalled(\"",
    "refused(name, \"",
    "raise(state, \"",
    "refuse(\"",
    "refusal(\"",
    "Class::Transient, \"",
    "Class::Stalled, \"",
];

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && text.contains('-')
}

fn collect(directory: &Path, words: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, words);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Where words are what a match gives.
        let matches = matches!(name, "error.rs" | "guard.rs" | "stop.rs" | "refusal.rs" | "chain.rs" | "effective.rs")
            || path.ends_with("source/error.rs");
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let marks = MARKS.iter().copied().chain(matches.then_some("=> \"")).chain(matches.then_some("(\""));
            for mark in marks {
                for part in line.split(mark).skip(1) {
                    let word = part.split('"').next().unwrap_or_default();
                    if is_word(word) {
                        words.insert(word.to_owned());
                    }
                }
            }
        }
    }
}

#[test]
fn every_reason_word_stands_in_the_readme() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut words = BTreeSet::new();
    collect(&home.join("src"), &mut words);
    assert!(words.len() > 30, "only {words:?} are seen");
    let readme = fs::read_to_string(home.join("README.md")).expect("README.md");
    let missing: Vec<&String> = words.iter().filter(|word| !readme.contains(&format!("| `{word}` |"))).collect();
    assert!(missing.is_empty(), "the table of reason words lacks {missing:?}");
}
