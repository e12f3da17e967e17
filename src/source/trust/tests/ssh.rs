//! Commits signed with SSH keys by git and ssh-keygen.

use base64ct::{Base64, Encoding};
use gix_hash::Kind;
use sha2::{Digest, Sha256, Sha512};
use signature::Signer as _;
use ssh_key::PrivateKey;
use ssh_key::public::KeyData;

use super::workshop::{MADE, NOW, Workshop, fingerprint, said, sealed, trust, unsigned};
use crate::source::trust::{SignatureKind, verify};

#[test]
fn commits_signed_with_every_kind_of_key_are_believed() {
    let kinds: &[&[&str]] = &[
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "4096"],
    ];
    let workshop = Workshop::new();
    let mut signers = String::new();
    let mut commits = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let (path, line) = workshop.key(&format!("key{at}"), kind);
        signers += &format!("user{at}@example.org {line}\n");
        commits.push((workshop.commit(&path), fingerprint(&workshop, &path)));
    }
    for (at, (commit, fingerprint)) in commits.iter().enumerate() {
        let signed = workshop.judge(commit, &signers).unwrap_or_else(|why| panic!("{:?}: {why}", kinds[at]));
        assert_eq!(signed.principal, format!("user{at}@example.org"));
        assert_eq!((&signed.fingerprint, signed.kind), (fingerprint, SignatureKind::Ssh));
    }
}

#[test]
fn a_repository_of_sha_256_has_its_own_header() {
    let workshop = Workshop::of(Kind::Sha256);
    let (path, line) = workshop.ed25519("key");
    let commit = workshop.commit(&path);
    let signers = format!("ana {line}");
    assert_eq!(said(workshop.judge(&commit, &signers)), ("fine", "ana".to_owned()));
    let other = String::from_utf8(commit).expect("text").replacen("gpgsig-sha256", "gpgsig", 1);
    assert_eq!(said(workshop.judge(other.as_bytes(), &signers)).0, "unknown-signature");
}

#[test]
fn no_bit_of_a_commit_can_be_changed_and_no_byte_left_out() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    workshop.commit(&path);
    let commit = workshop.commit(&path);
    let trust = trust(format!("ana {line}"), "");
    let judged = |commit: &[u8]| verify(commit, Kind::Sha1, &trust, NOW);
    assert!(judged(&commit).is_ok());
    for at in 0..commit.len() {
        assert!(judged(&commit[..at]).is_err(), "cut at {at}");
        assert!(judged(&[&commit[..at], &commit[at + 1..]].concat()).is_err(), "without byte {at}");
        for bit in [1, 0x20, 0x80] {
            let mut changed = commit.clone();
            changed[at] ^= bit;
            assert!(judged(&changed).is_err(), "byte {at} of {}", String::from_utf8_lossy(&changed));
        }
    }
    assert!(judged(&[&commit[..], b"x"].concat()).is_err());
}

#[test]
fn who_signed_is_told_where_the_key_is_nobody_s() {
    let workshop = Workshop::new();
    let (path, _) = workshop.ed25519("key");
    let (_, other) = workshop.ed25519("other");
    let (reason, sentence) = said(workshop.judge(&workshop.commit(&path), &format!("ben {other}")));
    assert_eq!(reason, "unknown-key");
    let key = fingerprint(&workshop, &path);
    assert_eq!(
        sentence,
        format!(
            "it is signed by {key}, which is no key of /etc/signers; add it there, or have somebody sign who is there"
        )
    );
    assert_eq!(said(workshop.judge(unsigned(MADE).as_bytes(), &format!("ben {other}"))).0, "unsigned");
    let x509 = sealed(&unsigned(MADE), "-----BEGIN SIGNED MESSAGE-----\nYW5h\n-----END SIGNED MESSAGE-----");
    assert_eq!(said(workshop.judge(&x509, &format!("ben {other}"))).0, "unknown-signature");
}

#[test]
fn a_signature_that_was_made_for_something_else_is_none() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let payload = unsigned(MADE);
    for (namespace, reason) in
        [("git", "fine"), ("file", "bad-signature"), ("git ", "bad-signature"), ("Git", "bad-signature")]
    {
        let (_, armored) =
            workshop.ask("ssh-keygen", &["-Y", "sign", "-f", &path, "-n", namespace], payload.as_bytes());
        let judged = said(workshop.judge(&sealed(&payload, &armored), &format!("ana {line}")));
        assert_eq!(judged.0, reason, "{namespace}: {}", judged.1);
    }
    // Over the other hash that ssh-keygen knows.
    let arguments = ["-Y", "sign", "-O", "hashalg=sha256", "-f", &path, "-n", "git"];
    let (_, armored) = workshop.ask("ssh-keygen", &arguments, payload.as_bytes());
    assert_eq!(said(workshop.judge(&sealed(&payload, &armored), &format!("ana {line}"))).0, "fine");
}

#[test]
fn a_key_has_to_be_valid_when_the_commit_says_that_it_was_made_and_now() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let expired = format!("ana valid-before=\"20261031Z\" {line}");
    let to_come = format!("ana valid-after=\"20261103Z\" {line}");
    let both = format!("ana valid-after=\"20261101Z\",valid-before=\"20261102Z\" {line}");
    const DAY: i64 = 86_400;
    // The commit is dated by who signs it: into the time of the key, too.
    for (signers, made, now, reason) in [
        (&expired, MADE, NOW, "expired-key"),
        (&expired, MADE - 2 * DAY, NOW, "expired-key"),
        (&expired, MADE, MADE - 2 * DAY, "expired-key"),
        (&expired, MADE - 2 * DAY, MADE - 2 * DAY, "fine"),
        (&to_come, MADE, NOW, "not-yet-valid-key"),
        (&to_come, MADE + 9 * DAY, NOW, "not-yet-valid-key"),
        (&to_come, MADE, NOW + 9 * DAY, "not-yet-valid-key"),
        (&to_come, MADE + 9 * DAY, NOW + 9 * DAY, "fine"),
        (&both, MADE, NOW, "fine"),
        (&both, MADE - 1, NOW, "not-yet-valid-key"),
        (&both, MADE, NOW + 1, "expired-key"),
    ] {
        let commit = workshop.commit_at(&path, made);
        let (judged, sentence) = said(workshop.judge_at(&commit, signers, "", now));
        assert_eq!(judged, reason, "{signers}: made {made}, judged {now}: {sentence}");
    }
    let (_, sentence) = said(workshop.judge(&workshop.commit(&path), &expired));
    assert!(
        sentence.ends_with(
            "(ana), which was valid until 2026-10-31 00:00:00 UTC (/etc/signers:1), and it is 2026-11-02 00:00:00 UTC now; \
             sign with another key, or mend /etc/signers:1"
        ),
        "{sentence}"
    );
}

#[test]
fn another_line_may_allow_what_one_does_not() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let commit = workshop.commit(&path);
    let expired = format!("old valid-before=\"20200101Z\" {line}\n");
    let files = format!("files namespaces=\"file,git-tag\" {line}\n");
    let fine = format!("\"Ana B\" namespaces=\"g?t,!file\" {line}\n");
    let judged = |signers: &[&str]| said(workshop.judge(&commit, &signers.concat()));
    assert_eq!(judged(&[&expired, &files, &fine]), ("fine", "Ana B".to_owned()));
    assert_eq!(judged(&[&files, &expired]).0, "expired-key");
    assert_eq!(judged(&[&expired, &files]).0, "expired-key");
    let (reason, sentence) = judged(&[&files]);
    assert_eq!(reason, "unknown-key");
    assert!(sentence.contains("(files), which may not sign commits; add \"git\" to its namespaces at /etc/signers:1"));
    assert_eq!(judged(&[&format!("ca cert-authority {line}")]).0, "unknown-key", "an authority signs no commits");
}

#[test]
fn a_revoked_key_is_refused_whatever_any_date_says() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let commit = workshop.commit(&path);
    let key = fingerprint(&workshop, &path);
    for revoked in [&line, &key] {
        for signers in [format!("ana {line}"), format!("ana valid-before=\"20200101Z\" {line}")] {
            let (reason, sentence) = said(workshop.judge_at(&commit, &signers, revoked, NOW));
            assert_eq!((reason, sentence.contains(&key)), ("revoked-key", true), "{sentence}");
        }
    }
    let (_, other) = workshop.ed25519("other");
    assert_eq!(said(workshop.judge_at(&commit, &format!("ana {line}"), &other, NOW)).0, "fine");
}

#[test]
fn an_rsa_key_that_is_too_short_is_told() {
    let workshop = Workshop::new();
    let (path, line) = workshop.key("short", &["-t", "rsa", "-b", "1024"]);
    let (reason, sentence) = said(workshop.judge(&workshop.commit(&path), &format!("ana {line}")));
    assert_eq!(reason, "weak-key");
    assert!(sentence.contains(&fingerprint(&workshop, &path)) && sentence.contains("1024 bits"), "{sentence}");
}

#[test]
fn what_no_signature_covers_may_not_stand_in_one() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let payload = unsigned(MADE);
    let (_, armored) = workshop.ask("ssh-keygen", &["-Y", "sign", "-f", &path, "-n", "git"], payload.as_bytes());
    let blob = Base64::decode_vec(&armored.lines().filter(|line| !line.contains('-')).collect::<String>());
    let blob = blob.expect("base64");
    let place = blob.windows(7).rposition(|part| part == b"\0\0\0\x03git").expect("a namespace") + 7;
    for (reserved, reason) in [(&b""[..], "fine"), (b"x", "bad-signature")] {
        let blob = [&blob[..place], &string(reserved), &blob[place + 4..]].concat();
        let base64 = Base64::encode_string(&blob);
        let armored = format!("-----BEGIN SSH SIGNATURE-----\n{base64}\n-----END SSH SIGNATURE-----\n");
        assert_eq!(said(workshop.judge(&sealed(&payload, &armored), &format!("ana {line}"))).0, reason);
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// A key like that of a security key, made here, where there is none; see PROTOCOL.u2f of OpenSSH.
struct Token {
    name: &'static str,
    key: Vec<u8>,
    pair: PrivateKey,
}

impl Token {
    fn new(workshop: &Workshop, kind: &[&str]) -> Self {
        let (path, _) = workshop.key(kind[1], kind);
        let pair = PrivateKey::from_openssh(std::fs::read(path).expect("a key")).expect("a key");
        let (name, parts) = match pair.public_key().key_data() {
            KeyData::Ed25519(key) => ("sk-ssh-ed25519@openssh.com", string(&key.0)),
            KeyData::Ecdsa(key) => {
                ("sk-ecdsa-sha2-nistp256@openssh.com", [string(b"nistp256"), string(key.as_sec1_bytes())].concat())
            }
            _ => panic!("of these two kinds"),
        };
        Self { name, key: [string(name.as_bytes()), parts, string(b"ssh:")].concat(), pair }
    }

    fn line(&self) -> String {
        format!("{} {}", self.name, Base64::encode_string(&self.key))
    }

    /// A signature over `payload`, armoured, with these flags, and the public key `key`: its own or a certificate.
    fn sign(&self, payload: &str, flags: u8, key: &[u8]) -> String {
        let fixed = [string(b"git"), string(b""), string(b"sha512")].concat();
        let message = [b"SSHSIG".to_vec(), fixed.clone(), string(&Sha512::digest(payload.as_bytes()))].concat();
        let trailer = [&[flags][..], &7_u32.to_be_bytes()].concat();
        let signed = [&Sha256::digest(b"ssh:")[..], &trailer, &Sha256::digest(message)].concat();
        let signature = self.pair.try_sign(&signed).expect("signs");
        let signature = [string(self.name.as_bytes()), string(signature.as_bytes()), trailer].concat();
        let blob = [b"SSHSIG\0\0\0\x01".to_vec(), string(key), fixed, string(&signature)].concat();
        let base64 = Base64::encode_string(&blob);
        format!("-----BEGIN SSH SIGNATURE-----\n{base64}\n-----END SSH SIGNATURE-----\n")
    }
}

#[test]
fn a_security_key_has_to_be_touched() {
    let workshop = Workshop::new();
    let payload = unsigned(MADE);
    for kind in [&["-t", "ed25519"][..], &["-t", "ecdsa", "-b", "256"]] {
        let token = Token::new(&workshop, kind);
        let signers = format!("ana {}", token.line());
        for (flags, reason) in [(1, "fine"), (5, "fine"), (0, "bad-signature"), (4, "bad-signature")] {
            let armored = token.sign(&payload, flags, &token.key);
            let judged = said(workshop.judge(&sealed(&payload, &armored), &signers));
            assert_eq!(judged.0, reason, "{} {flags}: {}", token.name, judged.1);
            assert!(reason == "fine" || judged.1.contains("nobody touched"), "{}", judged.1);
            // That it is as a security key would make it, ssh-keygen says; of the touch it says nothing.
            let (file, signature) = (workshop.file("signers", &signers), workshop.file("sig", &armored));
            let arguments = ["-Y", "verify", "-f", &file, "-I", "ana", "-n", "git", "-s", &signature];
            assert!(workshop.ask("ssh-keygen", &arguments, payload.as_bytes()).0, "{} {flags}", token.name);
        }
        let other = Token::new(&Workshop::new(), kind);
        let armored = other.sign(&payload, 1, &token.key);
        assert_eq!(said(workshop.judge(&sealed(&payload, &armored), &signers)).0, "bad-signature");
    }
}

#[test]
fn a_certificate_may_ask_that_a_security_key_verifies_who_touches_it() {
    let workshop = Workshop::new();
    let (authority, line) = workshop.ed25519("ca");
    let signers = format!("ana cert-authority {line}");
    let token = Token::new(&workshop, &["-t", "ed25519"]);
    let certify = |name: &str, line: &str| {
        let public = workshop.file(&format!("{name}.pub"), line);
        let arguments = ["-q", "-s", &authority, "-I", "id", "-n", "ana", "-O", "verify-required", &public];
        workshop.run("ssh-keygen", &arguments);
        let path = workshop.path().join(format!("{name}-cert.pub"));
        std::fs::read_to_string(path).expect("a certificate")
    };
    let certificate = certify("token", &token.line());
    let blob = Base64::decode_vec(certificate.split(' ').nth(1).expect("base64")).expect("base64");
    let payload = unsigned(MADE);
    for (flags, reason) in [(5, "fine"), (1, "bad-signature"), (4, "bad-signature")] {
        let judged = said(workshop.judge(&sealed(&payload, &token.sign(&payload, flags, &blob)), &signers));
        assert_eq!(judged.0, reason, "{flags}: {}", judged.1);
    }
    // A key that is none of these cannot.
    let (path, line) = workshop.ed25519("key");
    certify("key", &line);
    let judged = said(workshop.judge(&workshop.commit(&format!("{path}-cert.pub")), &signers));
    assert_eq!((judged.0, judged.1.contains("verifies who touches")), ("bad-signature", true), "{}", judged.1);
}
