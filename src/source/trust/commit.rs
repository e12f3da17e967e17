//! A commit taken apart into its signature and what that is over.

use gix_hash::Kind;

use super::Refusal;
use crate::model::{CommitId, one_line};

/// The longest signature that is looked at, in bytes.
const LONGEST_SIGNATURE: usize = 64 << 10;
/// The most parents that a commit may have.
const MOST_PARENTS: usize = 1024;

/// A commit, taken apart.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    raw: &'a [u8],
    kind: Kind,
    /// In the order of the commit.
    pub parents: Vec<CommitId>,
    /// When the committer says that it was made, in seconds since 1970.
    pub committed: i64,
    /// Headers whose name begins with `gpgsig`: their names, and where they stand, continuation lines included.
    signatures: Vec<(&'a [u8], std::ops::Range<usize>)>,
}

/// What was signed, and the signature, armour and all.
#[derive(Debug)]
pub(super) struct Signature {
    /// The commit without the header that holds the signature, byte for byte.
    pub payload: Vec<u8>,
    /// As text; it is not believed to be UTF-8.
    pub armored: Vec<u8>,
}

impl<'a> Commit<'a> {
    /// Takes `raw` apart: a commit as Git hashes it, without the header of the object.
    ///
    /// # Errors
    /// `bad-signature` where it is not of the shape that Git writes: who reads it otherwise would see another commit.
    pub fn of(raw: &'a [u8], kind: Kind) -> Result<Self, Refusal> {
        shape(raw, kind)
            .ok_or_else(|| Refusal::BadSignature("the commit is not of the shape that Git writes".to_owned()))
    }

    /// The one signature, and what it is over.
    ///
    /// # Errors
    /// `unsigned`, `several-signatures`, `unknown-signature`.
    pub fn signature(&self) -> Result<Signature, Refusal> {
        let [(name, place)] = &self.signatures[..] else {
            return Err(match self.signatures.len() {
                0 => Refusal::Unsigned,
                several => Refusal::SeveralSignatures(several),
            });
        };
        // The header of the other hash signs the commit as it would be in a repository of that hash.
        let own: &[u8] = if self.kind == Kind::Sha1 { b"gpgsig" } else { b"gpgsig-sha256" };
        if *name != own {
            return Err(Refusal::UnknownSignature(format!(
                "stands in the header {}, and in a repository of this hash it is {}; sign it anew here",
                one_line(&String::from_utf8_lossy(name), 40),
                String::from_utf8_lossy(own)
            )));
        }
        if place.len() > LONGEST_SIGNATURE {
            return Err(Refusal::UnknownSignature(format!("is longer than {LONGEST_SIGNATURE} bytes; sign it anew")));
        }
        let mut armored = Vec::with_capacity(place.len());
        for line in self.raw[place.clone()].split_inclusive(|byte| *byte == b'\n') {
            // The first line has the name and a space before the value, each that follows a space.
            let value = line.strip_prefix(b" ").or_else(|| line.strip_prefix(own)?.strip_prefix(b" "));
            armored.extend_from_slice(value.unwrap_or_default());
        }
        let payload = [&self.raw[..place.start], &self.raw[place.end..]].concat();
        Ok(Signature { payload, armored })
    }
}

/// `tree`, any number of `parent`, `author`, `committer`, then whatever else, up to the first empty line.
fn shape(raw: &[u8], kind: Kind) -> Option<Commit<'_>> {
    let mut commit = Commit { raw, kind, parents: Vec::new(), committed: 0, signatures: Vec::new() };
    let mut expected: &[&[u8]] = &[b"tree"];
    let mut at = 0;
    while at < raw.len() && raw[at] != b'\n' {
        let start = at;
        at = line_end(raw, at)?;
        let line = &raw[start..at - 1];
        while raw.get(at) == Some(&b' ') {
            at = line_end(raw, at)?;
        }
        let name = line.split(|byte| *byte == b' ').next()?;
        let value = line.get(name.len() + 1..).unwrap_or_default();
        if !expected.is_empty() {
            // None of these goes on over more lines.
            if !expected.contains(&name) || at != start + line.len() + 1 {
                return None;
            }
            expected = match name {
                b"tree" => {
                    id(value, kind)?;
                    &[b"parent", b"author"]
                }
                b"parent" => {
                    commit.parents.push(id(value, kind)?);
                    (commit.parents.len() <= MOST_PARENTS).then_some(&[b"parent" as &[u8], b"author"][..])?
                }
                b"author" => &[b"committer"],
                _ => {
                    commit.committed = time(value)?;
                    &[]
                }
            };
        } else if [&b"tree"[..], b"parent", b"author", b"committer"].contains(&name) {
            return None;
        } else if name.starts_with(b"gpgsig") {
            commit.signatures.push((name, start..at));
        }
    }
    expected.is_empty().then_some(commit)
}

/// Where the line that begins at `from` ends, its line end included.
fn line_end(raw: &[u8], from: usize) -> Option<usize> {
    Some(from + raw[from..].iter().position(|byte| *byte == b'\n')? + 1)
}

fn id(value: &[u8], kind: Kind) -> Option<CommitId> {
    let text = std::str::from_utf8(value).ok()?;
    (text.len() == kind.len_in_hex()).then(|| text.parse().ok())?
}

/// The time of `Ana <ana@example.org> 1700000000 +0100`.
fn time(value: &[u8]) -> Option<i64> {
    let after = value.iter().rposition(|byte| *byte == b'>')? + 1;
    let text = std::str::from_utf8(&value[after..]).ok()?;
    let mut parts = text.strip_prefix(' ')?.split(' ');
    let (seconds, zone) = (parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = digits(seconds) && zone.strip_prefix(['+', '-']).is_some_and(digits) && parts.next().is_none();
    whole.then(|| seconds.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "tree b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\nparent 0123456789012345678901234567890123456789\nauthor Ana <a@x> 1700000000 +0100\ncommitter Ben <b@x> 1700000001 -0330\n";
    const SIGNATURE: &str = "gpgsig -----BEGIN X-----\n \n line\n -----END X-----\n";

    fn reason(raw: &str) -> &'static str {
        match Commit::of(raw.as_bytes(), Kind::Sha1).and_then(|commit| commit.signature().map(drop)) {
            Ok(()) => "fine",
            Err(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn what_is_signed_is_the_commit_without_the_signature_byte_for_byte() {
        let body = "encoding ISO-8859-1\n\nsubject\n\ngpgsig -----BEGIN X-----\n no header\n";
        let raw = format!("{HEAD}{SIGNATURE}{body}");
        let commit = Commit::of(raw.as_bytes(), Kind::Sha1).expect("a commit");
        assert_eq!(commit.committed, 1_700_000_001);
        assert_eq!(commit.parents, ["0123456789012345678901234567890123456789".parse().expect("an id")]);
        let signed = commit.signature().expect("signed");
        assert_eq!(String::from_utf8_lossy(&signed.payload), format!("{HEAD}{body}"));
        assert_eq!(signed.armored, b"-----BEGIN X-----\n\nline\n-----END X-----\n");
    }

    #[test]
    fn exactly_one_signature_counts_whatever_the_others_are_called() {
        assert_eq!(reason(&format!("{HEAD}\nsubject\n")), "unsigned");
        assert_eq!(reason(&format!("{HEAD}{SIGNATURE}\nsubject\n")), "fine");
        for second in ["gpgsig", "gpgsig-sha256", "gpgsig-x", "gpgsigx"] {
            let second = SIGNATURE.replacen("gpgsig", second, 1);
            assert_eq!(reason(&format!("{HEAD}{SIGNATURE}{second}\nsubject\n")), "several-signatures", "{second}");
            assert_eq!(reason(&format!("{HEAD}{SIGNATURE}other x\n{second}\n")), "several-signatures", "{second}");
        }
        for other in ["gpgsig-sha256", "gpgsigx"] {
            let other = SIGNATURE.replacen("gpgsig", other, 1);
            assert_eq!(reason(&format!("{HEAD}{other}\nsubject\n")), "unknown-signature", "{other}");
        }
        let long = format!("{HEAD}{}\nsubject\n", SIGNATURE.replacen("line", &"x".repeat(LONGEST_SIGNATURE), 1));
        assert_eq!(reason(&long), "unknown-signature");
        // What a merge keeps of the tag that it merged is the tag's.
        let tag = "mergetag object 0123456789012345678901234567890123456789\n gpgsig x\n -----BEGIN X-----\n";
        assert_eq!(reason(&format!("{HEAD}{tag}{SIGNATURE}\nsubject\n")), "fine");
        assert_eq!(reason(&format!("{HEAD}{tag}\nsubject\n")), "unsigned");
    }

    #[test]
    fn a_commit_that_could_be_read_otherwise_is_refused() {
        let whole = format!("{HEAD}{SIGNATURE}\nsubject\n");
        assert_eq!(reason(&whole), "fine");
        let wrong = [
            whole.replacen("tree", "eert", 1),
            format!("{SIGNATURE}{whole}"),
            format!("x y\n{whole}"),
            whole.replacen("author", "gpgsig x\nauthor", 1),
            whole.replacen("author", "author\n x\nauthor", 1),
            whole.replacen("author Ana", "author\n Ana", 1),
            whole.replacen(" Ana", " Ana\n committer C <c@x> 1 +0000", 1),
            whole.replacen("gpgsig", "committer Ben <b@x> 1600000001 +0000\ngpgsig", 1),
            whole.replacen("gpgsig", "tree b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\ngpgsig", 1),
            whole.replacen("0123456789", "012345678", 1),
            whole.replacen("1700000001", "-1", 1),
            whole.replacen("1700000001", "99999999999999999999", 1),
            whole.replacen(" -0330", "", 1),
            whole.replacen(" -0330", " -0330 1", 1),
            whole.replacen("> 17", ">17", 2),
            HEAD.trim_end().to_owned(),
            "tree b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\n\n".to_owned(),
            String::new(),
        ];
        for raw in wrong {
            assert_eq!(reason(&raw), "bad-signature", "{raw}");
        }
        assert!(Commit::of(whole.as_bytes(), Kind::Sha256).is_err(), "ids of the other hash");
        let parents = "parent 0123456789012345678901234567890123456789\n".repeat(MOST_PARENTS);
        assert_eq!(reason(&whole.replacen("author", &format!("{parents}author"), 1)), "bad-signature");
    }
}
