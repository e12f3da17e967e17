use std::collections::BTreeSet;

use base64ct::{Base64, Base64Unpadded, Encoding};
use sha2::Digest as _;

use super::Refusal;
use super::ssh::Key;
use crate::model::one_line;

/// The largest file, in bytes.
const LARGEST: usize = 1 << 20;
/// How ssh-keygen's own, binary list begins.
const KRL: &[u8] = b"SSHKRL\n\0";
/// How the fingerprint of an SSH key begins.
const SHA256: &str = "SHA256:";

/// Keys that were taken back, by fingerprint: `SHA256:…` of SSH keys, upper-case hexadecimal digits of OpenPGP keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked(BTreeSet<String>);

impl Revoked {
    /// The keys that `content` lists, one a line: an SSH public key as OpenSSH writes it, its fingerprint, or the
    /// fingerprint of an OpenPGP key. There may be none. `file` is what it is called in messages.
    ///
    /// # Errors
    /// `bad-trust` where a line is not understood.
    pub fn parse(file: &str, content: &[u8]) -> Result<Self, Refusal> {
        let bad = |line, why: String| Refusal::BadTrust { file: one_line(file, 400), line, why };
        if content.starts_with(KRL) {
            let why = "is a binary KRL; list the revoked keys, or their fingerprints, as text, one a line";
            return Err(bad(None, why.to_owned()));
        }
        if content.len() > LARGEST {
            return Err(bad(None, format!("is larger than {LARGEST} bytes")));
        }
        let mut revoked = BTreeSet::new();
        for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let listed = std::str::from_utf8(line).ok().map(str::trim).filter(|line| !line.contains('\0'));
            match listed {
                Some("") => {}
                Some(line) => {
                    revoked.insert(fingerprint(line).map_err(|why| bad(Some(at + 1), why.to_owned()))?);
                }
                None => return Err(bad(Some(at + 1), "is no text".to_owned())),
            }
        }
        Ok(Self(revoked))
    }

    /// Adds fingerprints that were revoked at other times: what was once taken back stays so.
    pub fn unite(&mut self, earlier: impl IntoIterator<Item = String>) {
        self.0.extend(earlier);
    }

    /// The fingerprints, in order, to be kept.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether none of the keys that a signature rests on is revoked; the first of them made it.
    ///
    /// # Errors
    /// `revoked-key`.
    pub fn check(&self, keys: impl IntoIterator<Item = String>) -> Result<(), Refusal> {
        let mut keys = keys.into_iter().peekable();
        let signer = keys.peek().cloned().unwrap_or_default();
        match keys.find(|key| self.0.contains(key)) {
            None => Ok(()),
            Some(key) if key == signer => Err(Refusal::RevokedKey { key, why: "which was revoked".to_owned() }),
            Some(key) => {
                Err(Refusal::RevokedKey { key: signer, why: format!("which rests on {key}, which was revoked") })
            }
        }
    }
}

/// The fingerprint of the key that `line` is about.
fn fingerprint(line: &str) -> Result<String, &'static str> {
    const SHAPE: &str = "is no key; a line is an SSH public key, its fingerprint (SHA256:…), or the whole fingerprint of an OpenPGP key (40 or 64 hexadecimal digits)";
    let mut words = line.split_whitespace();
    let (first, second) = (words.next().ok_or(SHAPE)?, words.next());
    if let Some(digest) = first.strip_prefix(SHA256) {
        let whole = Base64Unpadded::decode_vec(digest.trim_end_matches('=')).is_ok_and(|digest| digest.len() == 32);
        return if whole { Ok(first.trim_end_matches('=').to_owned()) } else { Err("is no whole SHA256 fingerprint") };
    }
    let hex: String = line.split_whitespace().collect();
    if [40, 64].contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hex.to_ascii_uppercase());
    }
    if first.contains("-cert-v01@") {
        return Err("is a certificate; list its key, or the key of its authority");
    }
    // Of whatever kind: also what is not verified here can be revoked.
    let blob = second.and_then(|base64| Base64::decode_vec(base64).ok()).ok_or(SHAPE)?;
    let length = u32::try_from(first.len()).map_err(|_| SHAPE)?;
    if !blob.starts_with(&[&length.to_be_bytes(), first.as_bytes()].concat()) {
        return Err(SHAPE);
    }
    // The fingerprint of what is cut is that of no key.
    if Key::is_cut(&blob) {
        return Err("is no whole key");
    }
    Ok(format!("{SHA256}{}", Base64Unpadded::encode_string(&sha2::Sha256::digest(&blob))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const FINGERPRINT: &str = "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ";
    const V4: &str = "D1A66E1A23B182C9980F788CFBFCC82A015E7330";

    fn parsed(text: &str) -> Result<Vec<String>, Refusal> {
        Revoked::parse("/etc/revoked", text.as_bytes()).map(|revoked| revoked.0.into_iter().collect())
    }

    #[test]
    fn keys_are_listed_whole_or_by_fingerprint() {
        assert_eq!(parsed(&format!("# gone\n\n  {KEY} ana's # lost\r\n")), Ok(vec![FINGERPRINT.to_owned()]));
        assert_eq!(parsed(&format!("{FINGERPRINT} ana\n{FINGERPRINT}=\n")), Ok(vec![FINGERPRINT.to_owned()]));
        let spaced = "d1a6 6e1a 23b1 82c9 980f  788c fbfc c82a 015e 7330 # ben";
        assert_eq!(parsed(&format!("{spaced}\n{V4}")), Ok(vec![V4.to_owned()]));
        assert_eq!(parsed(&"ab".repeat(32)), Ok(vec!["AB".repeat(32)]));
        assert_eq!(parsed("# none yet\n"), Ok(vec![]));
    }

    #[test]
    fn what_is_not_understood_refuses_the_list() {
        for bad in [
            "ana",
            "SHA256:abc",
            "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
            &V4[..16],
            &V4[1..],
            "ssh-ed25519",
            &KEY.replace("AAAAC3", "AAAAC4"),
            &KEY.replace("ssh-ed25519", "ssh-rsa"),
            &KEY[..KEY.len() - 4],
            &format!("{KEY}AAAA"),
            "ssh-ed25519-cert-v01@openssh.com AAAA",
            &format!("no-pty {KEY}"),
            "a\0b",
        ] {
            let refusal = parsed(&format!("{FINGERPRINT}\n{bad}\n")).expect_err(bad);
            assert!(refusal.to_string().starts_with("/etc/revoked:2: is "), "{bad}: {refusal}");
        }
        let krl = Revoked::parse("x", b"SSHKRL\n\0\0\0\0\x01").expect_err("binary");
        assert!(krl.to_string().contains("as text"), "{krl}");
        assert!(Revoked::parse("x", &[b'\n'; LARGEST]).is_ok());
        assert!(Revoked::parse("x", &[b'\n'; LARGEST + 1]).is_err());
        assert!(Revoked::parse("x", b"# caf\xe9\n").is_ok() || Revoked::parse("x", b"\xe9\n").is_err());
    }

    #[test]
    fn a_revocation_once_seen_is_kept() {
        let mut revoked = Revoked::parse("x", V4.as_bytes()).expect("a list");
        revoked.unite([FINGERPRINT.to_owned()]);
        assert_eq!(revoked.fingerprints().collect::<Vec<_>>(), [V4, FINGERPRINT]);
        let check =
            |keys: &[&str]| revoked.check(keys.iter().map(|key| (*key).to_owned())).map_err(|why| why.to_string());
        assert_eq!(check(&["SHA256:x"]), Ok(()));
        assert!(check(&[FINGERPRINT]).expect_err("revoked").contains(&format!("by {FINGERPRINT}, which was revoked")));
        let rests = check(&["SHA256:x", FINGERPRINT]).expect_err("its authority");
        assert!(rests.contains(&format!("by SHA256:x, which rests on {FINGERPRINT}, which was revoked")), "{rests}");
    }
}
