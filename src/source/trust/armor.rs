//! Base64 between a line that begins and one that ends it: PROTOCOL.sshsig of OpenSSH, and RFC 9580, section 6.

use base64ct::{Base64, Encoding};

const SSH: Frame = Frame { begin: "-----BEGIN SSH SIGNATURE-----", end: "-----END SSH SIGNATURE-----" };
const OPENPGP: Frame = Frame { begin: "-----BEGIN PGP SIGNATURE-----", end: "-----END PGP SIGNATURE-----" };
const OPENPGP_KEYS: Frame =
    Frame { begin: "-----BEGIN PGP PUBLIC KEY BLOCK-----", end: "-----END PGP PUBLIC KEY BLOCK-----" };

struct Frame {
    begin: &'static str,
    end: &'static str,
}

/// What kind of signature an armour holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Armor {
    Ssh,
    OpenPgp,
}

/// What kind of signature `text` begins with.
pub(super) fn kind(text: &[u8]) -> Option<Armor> {
    let first = text.split(|byte| *byte == b'\n').next()?.trim_ascii_end();
    [(SSH, Armor::Ssh), (OPENPGP, Armor::OpenPgp)]
        .into_iter()
        .find_map(|(frame, kind)| (first == frame.begin.as_bytes()).then_some(kind))
}

/// What stands in the armour of an SSH signature, which is all that `text` may be.
pub(super) fn ssh(text: &[u8]) -> Option<Vec<u8>> {
    base64(&inside(text, &SSH)?)
}

/// What stands in the armour of an OpenPGP signature, which is all that `text` may be.
#[cfg(feature = "openpgp")]
pub(super) fn openpgp(text: &[u8]) -> Option<Vec<u8>> {
    openpgp_body(&inside(text, &OPENPGP)?)
}

/// Whether `content` is OpenPGP keys: in armour, or as they are.
pub(super) fn is_openpgp_keys(content: &[u8]) -> bool {
    // The first byte of a packet has its highest bit set, and UTF-8 begins with no such byte.
    let binary = content.first().is_some_and(|first| first & 0x80 != 0) && std::str::from_utf8(content).is_err();
    binary || content.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == OPENPGP_KEYS.begin.as_bytes())
}

/// What stands in the armours of OpenPGP keys that `text` is made of, one after the other. Between them may be empty
/// lines and comments.
///
/// # Errors
/// The number of the line, from 1, that is not understood.
#[cfg(feature = "openpgp")]
pub(super) fn openpgp_keys(text: &str) -> Result<Vec<u8>, usize> {
    let mut all = Vec::new();
    let mut block: Option<(usize, Vec<&str>)> = None;
    for (at, line) in text.lines().map(str::trim_ascii_end).enumerate() {
        match &mut block {
            None if line == OPENPGP_KEYS.begin => block = Some((at + 1, Vec::new())),
            None if line.is_empty() || line.starts_with('#') => {}
            None => return Err(at + 1),
            Some((begun, lines)) if line == OPENPGP_KEYS.end => {
                all.extend(openpgp_body(lines).ok_or(*begun)?);
                block = None;
            }
            Some((_, lines)) => lines.push(line),
        }
    }
    block.map_or(Ok(all), |(begun, _)| Err(begun))
}

/// The lines within `frame`, where `text` is that and nothing else.
fn inside<'a>(text: &'a [u8], frame: &Frame) -> Option<Vec<&'a str>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.trim_ascii_end().lines().map(str::trim_ascii_end);
    (lines.next()? == frame.begin && lines.next_back()? == frame.end).then(|| lines.collect())
}

/// Headers, an empty line, base64, and a checksum that protects nothing and is not looked at.
#[cfg(feature = "openpgp")]
fn openpgp_body(lines: &[&str]) -> Option<Vec<u8>> {
    let empty = lines.iter().position(|line| line.is_empty())?;
    let (headers, body) = (&lines[..empty], &lines[empty + 1..]);
    if !headers.iter().all(|header| header.contains(": ") || header.ends_with(':')) {
        return None;
    }
    base64(match body {
        [body @ .., checksum] if checksum.len() == 5 && checksum.starts_with('=') => body,
        body => body,
    })
}

fn base64(lines: &[&str]) -> Option<Vec<u8>> {
    Base64::decode_vec(&lines.concat()).ok().filter(|content| !content.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_armour_is_all_that_there_is() {
        let text = "-----BEGIN SSH SIGNATURE-----\nYW5h\nYmVu\n-----END SSH SIGNATURE-----\n";
        assert_eq!(kind(text.as_bytes()), Some(Armor::Ssh));
        assert_eq!(ssh(text.as_bytes()).expect("an armour"), b"anaben");
        assert_eq!(ssh(text.replace('\n', "\r\n").as_bytes()).expect("other line ends"), b"anaben");
        assert_eq!(ssh(format!("{text} \n").as_bytes()).expect("git may end so"), b"anaben");
        for wrong in [
            text.replace("YW5h", "YW5"),
            text.replace("YW5h", "YW 5h"),
            text.replace("YW5h", "YW5é"),
            text.replace("YW5h\nYmVu\n", ""),
            text.replace("END", "ENDE"),
            text.replace("BEGIN", "BEGINNE"),
            format!(" {text}"),
            format!("{text}more\n"),
            format!("{text}{text}"),
            "-----BEGIN SSH SIGNATURE-----\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(ssh(wrong.as_bytes()), None, "{wrong}");
        }
        for other in ["-----BEGIN SIGNED MESSAGE-----\n", "-----BEGIN PGP MESSAGE-----\n", "", "x"] {
            assert_eq!(kind(other.as_bytes()), None, "{other}");
        }
    }

    #[cfg(feature = "openpgp")]
    #[test]
    fn an_openpgp_armour_has_headers_and_a_checksum() {
        let text = "-----BEGIN PGP SIGNATURE-----\nVersion: 1\nComment:\n\nYW5h\n=abcd\n-----END PGP SIGNATURE-----\n";
        assert_eq!(kind(text.as_bytes()), Some(Armor::OpenPgp));
        assert_eq!(openpgp(text.as_bytes()).expect("an armour"), b"ana");
        assert_eq!(openpgp(text.replace("=abcd\n", "").as_bytes()).expect("no checksum"), b"ana");
        for wrong in [
            text.replace("\n\n", "\n"),
            text.replace("Version: 1", "Version"),
            text.replace("=abcd", "=abcd\nYW5h"),
            format!("{text}{text}"),
        ] {
            assert_eq!(openpgp(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[cfg(feature = "openpgp")]
    #[test]
    fn keys_stand_one_after_the_other() {
        let block = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nYW5h\n-----END PGP PUBLIC KEY BLOCK-----\n";
        let text = format!("# Ana\n{block}\n# Ben\n{}", block.replace('\n', "\r\n"));
        assert!(is_openpgp_keys(text.as_bytes()) && is_openpgp_keys(&[0x99, 1, 0xff]));
        assert!(!is_openpgp_keys("é ssh-ed25519 AAAA".as_bytes()) && !is_openpgp_keys(b""));
        assert_eq!(openpgp_keys(&text), Ok(b"anaana".to_vec()));
        for (wrong, line) in [
            (format!("{text}x\n"), 12),
            (format!("{text}{}", block.replace("YW5h", "YW5")), 12),
            (text.replacen("-----END PGP PUBLIC KEY BLOCK-----", "", 1), 2),
            (text.replacen("-----BEGIN PGP PUBLIC KEY BLOCK-----", "", 1), 4),
        ] {
            assert_eq!(openpgp_keys(&wrong), Err(line), "{wrong}");
        }
    }
}
