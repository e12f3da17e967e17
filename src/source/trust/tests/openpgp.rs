//! Commits signed with OpenPGP keys by git and gpg.

use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::workshop::{MADE, NOW, Workshop, said, sealed, trust, unsigned};
use crate::model::Zone;
use crate::source::trust::{Refusal, Revoked, SignatureKind, Signers, Trust, verify};

const DAY: i64 = 86_400;

/// A home of gpg where a key is made in January 2026.
struct Home(Workshop);

impl Home {
    fn new() -> Self {
        Self(Workshop::new())
    }

    /// Makes a key and gives its fingerprint.
    fn key(&self, who: &str, algorithm: &str, expire: &str) -> String {
        self.at("20260101T000000", &["--quick-generate-key", who, algorithm, "sign,cert", expire]);
        self.fingerprints(who).remove(0)
    }

    /// Gives the key `of` a subkey, and its fingerprint.
    fn subkey(&self, of: &str, algorithm: &str, usage: &str, expire: &str) -> String {
        self.at("20260101T000000", &["--quick-add-key", of, algorithm, usage, expire]);
        self.fingerprints(of).pop().expect("a subkey")
    }

    fn at(&self, time: &str, arguments: &[&str]) -> String {
        // The clock stands, or a key would be made a second after what is made next on a machine that is busy.
        self.0.gpg(&[&["--faked-system-time", &format!("{time}!")], arguments].concat())
    }

    /// What gpg has no command for but a dialogue.
    fn dialogue(&self, key: &str, said: &str) {
        let quiet =
            ["--pinentry-mode", "loopback", "--passphrase", "", "--no-tty", "--faked-system-time", "20260201T000000"];
        self.0.ask("gpg", &[&quiet[..], &["--command-fd", "0", "--edit-key", key]].concat(), said.as_bytes());
    }

    fn fingerprints(&self, of: &str) -> Vec<String> {
        let listed = self.0.gpg(&["--with-colons", "--list-keys", of]);
        listed
            .lines()
            .filter_map(|line| line.strip_prefix("fpr:::::::::"))
            .map(|line| line.trim_end_matches(':').to_owned())
            .collect()
    }

    fn export(&self, keys: &[&str]) -> String {
        self.0.gpg(&[&["--armor", "--export"], keys].concat())
    }

    /// A commit with `key` at `time`, whatever that key says of it.
    fn commit(&self, key: &str, time: i64) -> Vec<u8> {
        self.0.commit_by_gpg(key, "--faked-system-time=20260201T000000", time)
    }

    fn said(&self, commit: &[u8], signers: &str) -> (&'static str, String) {
        said(self.0.judge(commit, signers))
    }
}

#[test]
fn commits_signed_with_every_kind_of_key_are_believed() {
    let home = Home::new();
    let keys: Vec<String> = ["ed25519", "rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521"]
        .iter()
        .map(|algorithm| home.key(&format!("Ana <{algorithm}@example.org>"), algorithm, "never"))
        .collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let ring = home.export(&names);
    let one_by_one = names.iter().fold(String::new(), |text, key| text + "# a key\n" + &home.export(&[key]) + "\n");
    for (key, name) in keys.iter().zip(["ed25519", "rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521"]) {
        let commit = home.commit(key, MADE);
        let signed = home.0.judge(&commit, &ring).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((signed.principal, signed.kind), (format!("Ana <{name}@example.org>"), SignatureKind::OpenPgp));
        assert_eq!(&signed.fingerprint, key);
        assert_eq!(home.said(&commit, &one_by_one).0, "fine", "{name}");
    }
    // As they are, without an armour.
    let path = home.0.path().join("ring").into_os_string().into_string().expect("UTF-8");
    home.0.gpg(&["--output", &path, "--export"]);
    let binary = std::fs::read(&path).expect("a keyring");
    let commit = home.commit(&keys[0], MADE);
    assert_eq!(said(verify(&commit, home.0.hash, &trust(&binary, ""), NOW)).0, "fine");
    // Somebody who is not among them, and a file of SSH keys.
    let (reason, sentence) = home.said(&commit, &home.export(&names[1..]));
    assert_eq!(reason, "unknown-key");
    assert!(
        sentence.starts_with(&format!("it is signed by {}, which is no key of /etc/signers;", keys[0])),
        "{sentence}"
    );
    let (_, line) = home.0.ed25519("key");
    assert_eq!(home.said(&commit, &format!("ana {line}")).0, "unknown-key");
    let both = Signers::parse("a", line_of(&line).as_bytes(), &Zone::utc()).expect("signers");
    let both = both.and(Signers::parse("b", ring.as_bytes(), &Zone::utc()).expect("signers"));
    let trust = Trust { signers: both, revoked: Revoked::default() };
    assert_eq!(said(verify(&commit, home.0.hash, &trust, NOW)).0, "fine");
    let by_ssh = home.0.commit(&home.0.path().join("key").into_os_string().into_string().expect("UTF-8"));
    assert_eq!(said(verify(&by_ssh, home.0.hash, &trust, NOW)).0, "fine");
}

fn line_of(key: &str) -> String {
    format!("ana {key}\n")
}

#[test]
fn a_key_has_to_be_valid_when_the_commit_says_that_it_was_made_and_now() {
    let home = Home::new();
    let key = home.key("Ana", "ed25519", "2026-10-01");
    let ring = home.export(&[&key]);
    let (may, november) = (MADE - 180 * DAY, MADE);
    for (made, now, reason) in [
        (may, may, "fine"),
        (may, november, "expired-key"),
        (november, november, "expired-key"),
        (november, may, "expired-key"),
        (MADE - 400 * DAY, may, "not-yet-valid-key"),
        (may, MADE - 400 * DAY, "unknown-key"),
    ] {
        let commit = home.commit(&key, made);
        let (judged, sentence) = said(home.0.judge_at(&commit, &ring, "", now));
        assert_eq!(judged, reason, "made {made}, judged {now}: {sentence}");
        assert!(sentence.contains(&key) || reason == "fine", "{sentence}");
    }
    // Prolonged, it is valid, for commits that were made before that, too.
    home.at("20261015T000000", &["--quick-set-expire", &key, "2027-10-01"]);
    let (old, prolonged) = (home.commit(&key, may), home.export(&[&key]));
    assert_eq!(home.said(&old, &prolonged).0, "fine");
    assert_eq!(home.said(&old, &ring).0, "expired-key");
    home.at("20261016T000000", &["--quick-set-expire", &key, "2026-10-20"]);
    assert_eq!(home.said(&old, &home.export(&[&key])).0, "expired-key", "shortened");
}

#[test]
fn a_subkey_signs_where_it_is_bound_as_one_to_sign_with() {
    let home = Home::new();
    let primary = home.key("Ana", "ed25519", "never");
    let signing = home.subkey(&primary, "rsa2048", "sign", "2026-12-01");
    let expired = home.subkey(&primary, "ed25519", "sign", "2026-10-01");
    let ring = home.export(&[&primary]);
    let commit = home.commit(&format!("{signing}!"), MADE);
    let signed = home.0.judge(&commit, &ring).expect("believed");
    assert_eq!(signed.fingerprint, primary);
    assert_eq!(said(home.0.judge_at(&commit, &ring, "", MADE + 40 * DAY)).0, "expired-key");
    let (reason, sentence) = home.said(&home.commit(&format!("{expired}!"), MADE), &ring);
    assert_eq!((reason, sentence.contains(&expired)), ("expired-key", true), "{sentence}");
    for revoked in [&signing, &primary] {
        let (reason, sentence) = said(home.0.judge_at(&commit, &ring, revoked, NOW));
        assert_eq!((reason, sentence.contains(revoked.as_str())), ("revoked-key", true), "{sentence}");
    }
    assert_eq!(said(home.0.judge_at(&commit, &ring, &expired, NOW)).0, "fine");
    // One that never said itself that it belongs there could be anybody's.
    for (edited, reason) in
        [(edited(&ring, &signing, Edit::Keep), "fine"), (edited(&ring, &signing, Edit::NoBack), "unknown-key")]
    {
        let judged = said(verify(&commit, home.0.hash, &trust(&edited, ""), NOW));
        assert_eq!(judged.0, reason, "{}", judged.1);
    }
    let foreign = said(verify(&commit, home.0.hash, &trust(edited(&ring, &signing, Edit::BackOf(&expired)), ""), NOW));
    assert_eq!(foreign.0, "unknown-key", "{}", foreign.1);
    let unbound = said(verify(&commit, home.0.hash, &trust(edited(&ring, &signing, Edit::Unbound), ""), NOW));
    assert_eq!(unbound.0, "unknown-key", "{}", unbound.1);
}

/// What to do with the binding of a subkey.
enum Edit<'a> {
    Keep,
    NoBack,
    BackOf(&'a str),
    Unbound,
}

/// The keys of `ring`, where `edit` is done to the subkey with this fingerprint.
fn edited(ring: &str, subkey: &str, edit: Edit<'_>) -> Vec<u8> {
    use pgp::packet::{Packet, PacketParser, PacketTrait, SubpacketData};
    use pgp::ser::Serialize;
    use pgp::types::KeyDetails;
    let bytes = crate::source::trust::armor::openpgp_keys(ring).expect("armoured");
    let packets: Vec<Packet> =
        PacketParser::new(std::io::Cursor::new(&bytes)).collect::<Result<_, _>>().expect("packets");
    let after = |fingerprint: &str| {
        let is_it = |packet: &Packet| matches!(packet, Packet::PublicSubkey(key) if format!("{:X}", key.fingerprint()) == fingerprint);
        packets.iter().position(is_it).expect("the subkey") + 1
    };
    let back = |at: usize| {
        let Packet::Signature(signature) = &packets[at] else { panic!("a binding") };
        let unhashed = &signature.config().expect("known").unhashed_subpackets;
        let place = unhashed
            .iter()
            .position(|sub| matches!(sub.data, SubpacketData::EmbeddedSignature(_)))
            .expect("a back signature");
        (place, unhashed[place].clone())
    };
    let mut out = Vec::new();
    for (at, packet) in packets.iter().enumerate() {
        let mut packet = packet.clone();
        if at == after(subkey) {
            let Packet::Signature(signature) = &mut packet else { panic!("a binding") };
            match edit {
                Edit::Keep => {}
                Edit::NoBack => drop(signature.unhashed_subpacket_remove(back(at).0).expect("removed")),
                Edit::BackOf(other) => {
                    signature.unhashed_subpacket_remove(back(at).0).expect("removed");
                    signature.unhashed_subpacket_push(back(after(other)).1).expect("put");
                }
                Edit::Unbound => continue,
            }
        }
        match packet {
            Packet::Signature(signature) => signature.to_writer_with_header(&mut out).expect("written"),
            other => other.to_writer(&mut out).expect("written"),
        }
    }
    out
}

#[test]
fn what_its_owner_revoked_is_refused() {
    let home = Home::new();
    let key = home.key("Ana", "ed25519", "never");
    let subkey = home.subkey(&key, "ed25519", "sign", "never");
    let (by_key, by_subkey) = (home.commit(&format!("{key}!"), MADE), home.commit(&format!("{subkey}!"), MADE));
    let ring = home.export(&[&key]);
    assert_eq!((home.said(&by_key, &ring).0, home.said(&by_subkey, &ring).0), ("fine", "fine"));
    // The revocation that gpg makes with each key, spoilt by a colon so that nobody uses it by mistake.
    let path = home.0.path().join(format!("gnupg/openpgp-revocs.d/{key}.rev"));
    let note = std::fs::read_to_string(path).expect("a revocation");
    let revocation = note[note.find(":-----BEGIN").expect("spoilt") + 1..].to_owned();
    for both in [format!("{ring}\n{revocation}"), format!("{revocation}\n{ring}")] {
        for commit in [&by_key, &by_subkey] {
            let (reason, sentence) = home.said(commit, &both);
            assert_eq!((reason, sentence.contains(&key)), ("revoked-key", true), "{sentence}");
        }
    }
    let lone = Signers::parse("/etc/signers", revocation.as_bytes(), &Zone::utc()).expect_err("of no key here");
    assert!(lone.to_string().contains("a revocation that is of none of its keys"), "{lone}");
    // Of a subkey alone.
    let ring_before = ring.clone() + "\n";
    home.dialogue(&key, "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let ring = home.export(&[&key]) + "\n";
    let (reason, sentence) = home.said(&by_subkey, &ring);
    assert_eq!((reason, sentence.contains("whose subkey")), ("revoked-key", true), "{sentence}");
    assert_eq!(home.said(&by_key, &ring).0, "fine");
    // What one copy of a key takes back is taken back, wherever the other stands.
    let twice = [ring_before.clone() + &ring, ring.clone() + &ring_before];
    for both in &twice {
        assert_eq!((home.said(&by_subkey, both).0, home.said(&by_key, both).0), ("revoked-key", "fine"));
    }
    let file = |text: &str| Signers::parse("x", text.as_bytes(), &Zone::utc()).expect("signers");
    for signers in [file(&ring_before).and(file(&ring)), file(&ring).and(file(&ring_before))] {
        let trust = Trust { signers, revoked: Revoked::default() };
        assert_eq!(said(verify(&by_subkey, home.0.hash, &trust, NOW)).0, "revoked-key");
    }
    home.0.file("rev", &revocation);
    home.0.gpg(&["--import", "rev"]);
    assert_eq!(home.said(&by_key, &home.export(&[&key])).0, "revoked-key");
}

#[test]
fn what_its_owner_says_of_a_key_now_counts() {
    let home = Home::new();
    let key = home.key("Ana <ana@example.org>", "ed25519", "never");
    home.at("20260102T000000", &["--quick-add-uid", &key, "Ana <ana@example.com>"]);
    home.at("20260103T000000", &["--quick-set-primary-uid", &key, "Ana <ana@example.org>"]);
    let commit = home.commit(&key, MADE);
    assert_eq!(home.said(&commit, &home.export(&[&key])), ("fine", "Ana <ana@example.org>".to_owned()));
    home.at("20260104T000000", &["--quick-revoke-uid", &key, "Ana <ana@example.org>"]);
    assert_eq!(home.said(&commit, &home.export(&[&key])), ("fine", "Ana <ana@example.com>".to_owned()));
    // It is one to certify with from now on, and not to sign with.
    home.dialogue(&key, "change-usage\ns\nq\nsave\n");
    let (reason, sentence) = home.said(&commit, &home.export(&[&key]));
    assert_eq!((reason, sentence.contains("not one to sign with")), ("unknown-key", true), "{sentence}");
}

#[test]
fn what_can_be_forged_is_not_believed() {
    let home = Home::new();
    let weak = home.key("Weak", "rsa1024", "never");
    let key = home.key("Ana", "rsa2048", "never");
    let ring = home.export(&[&weak, &key]);
    let (reason, sentence) = home.said(&home.commit(&weak, MADE), &ring);
    assert_eq!((reason, sentence.contains("1024 bits")), ("weak-key", true), "{sentence}");
    for (hash, reason) in [("SHA1", "weak-key"), ("RIPEMD160", "weak-key"), ("SHA224", "fine"), ("SHA512", "fine")] {
        let commit = home.0.commit_by_gpg(&key, &format!("--digest-algo {hash}"), MADE);
        let (judged, sentence) = home.said(&commit, &ring);
        assert_eq!(judged, reason, "{hash}: {sentence}");
        assert!(reason == "fine" || sentence.contains(&key), "{sentence}");
    }
    // A key that holds together by SHA-1 alone.
    home.0.gpg(&["--cert-digest-algo", "SHA1", "--quick-generate-key", "Old", "rsa2048", "sign,cert", "never"]);
    let old = home.fingerprints("Old").remove(0);
    let commit = home.0.commit_by_gpg(&old, "", NOW);
    let (reason, sentence) = said(home.0.judge_at(&commit, &home.export(&[&old]), "", i64::from(u32::MAX)));
    assert_eq!((reason, sentence.contains("by a hash that can be forged")), ("weak-key", true), "{sentence}");
    // The last word counts, also where it is the weaker one.
    let commit = home.commit(&key, MADE);
    home.at("20260301T000000", &["--cert-digest-algo", "SHA1", "--quick-set-expire", &key, "2027-10-01"]);
    assert_eq!(home.said(&commit, &home.export(&[&key])).0, "weak-key");
    home.at("20260302T000000", &["--quick-set-expire", &key, "2027-10-01"]);
    assert_eq!(home.said(&commit, &home.export(&[&key])).0, "fine");
}

#[test]
fn only_one_signature_over_bytes_is_one() {
    let home = Home::new();
    let key = home.key("Ana", "ed25519", "never");
    let other = home.key("Ben", "ed25519", "never");
    let ring = home.export(&[&key, &other]);
    let signed = |arguments: &str| home.said(&home.0.commit_by_gpg(&key, arguments, MADE), &ring);
    assert_eq!(signed("").0, "fine");
    assert_eq!(signed(&format!("-u {other}")).0, "several-signatures");
    assert_eq!(signed("--textmode").0, "unknown-signature");
    assert_eq!(signed("--sig-notation x@example.org=y").0, "fine");
    assert_eq!(signed("--sig-notation !x@example.org=y").0, "unknown-signature", "critical, and not understood");
    assert_eq!(signed("--faked-system-time=20260201T000000 --default-sig-expire 1d").0, "expired-key");
    assert_eq!(signed("--faked-system-time=20260201T000000 --default-sig-expire 900d").0, "fine");
    for (armored, reason) in [
        ("-----BEGIN PGP SIGNATURE-----\n\nYW5h\n-----END PGP SIGNATURE-----", "bad-signature"),
        ("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----", "bad-signature"),
        ("-----BEGIN PGP MESSAGE-----\n\nYW5h\n-----END PGP MESSAGE-----", "unknown-signature"),
    ] {
        assert_eq!(home.said(&sealed(&unsigned(MADE), armored), &ring).0, reason, "{armored}");
    }
}

#[test]
fn no_bit_that_is_signed_can_be_changed_and_none_that_is_not_ends_the_pass() {
    let home = Home::new();
    let key = home.key("Ana", "ed25519", "never");
    let commit = home.commit(&key, MADE);
    let trust = trust(home.export(&[&key]), "");
    let judged = |commit: &[u8]| verify(commit, home.0.hash, &trust, NOW);
    let text = String::from_utf8(commit.clone()).expect("text");
    let signature = text.find("gpgsig").expect("signed")..text.find("-----END").expect("signed");
    for at in 0..commit.len() {
        assert!(judged(&commit[..at]).is_err(), "cut at {at}");
        let mut changed = commit.clone();
        changed[at] ^= 1;
        let result = judged(&changed);
        assert!(signature.contains(&at) || result.is_err(), "byte {at}");
    }
}

#[test]
fn a_keyring_that_is_not_understood_is_not_used() {
    let home = Home::new();
    let key = home.key("Ana", "ed25519", "never");
    let ring = home.export(&[&key]);
    let secret = home.0.gpg(&["--armor", "--export-secret-keys", &key]);
    let path = home.0.path().join("ring").into_os_string().into_string().expect("UTF-8");
    home.0.gpg(&["--output", &path, "--export-secret-keys"]);
    let refused = |content: &[u8]| match Signers::parse("/etc/signers", content, &Zone::utc()) {
        Ok(_) => "taken".to_owned(),
        Err(refusal @ Refusal::BadTrust { .. }) => refusal.to_string(),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(refused(ring.as_bytes()), "taken");
    assert!(refused(&std::fs::read(&path).expect("exported")).contains("holds a secret key"));
    assert!(refused(secret.as_bytes()).starts_with("/etc/signers:1: "), "no armour of public keys");
    assert!(refused(format!("{ring}\nana").as_bytes()).contains("no OpenPGP public key"));
    let binary = crate::source::trust::armor::openpgp_keys(&ring).expect("armoured");
    for at in 1..binary.len() {
        // Cut between two packets it is a shorter keyring.
        let cut = refused(&binary[..at]);
        assert!(cut != "taken" || pgp_ends(&binary[..at]), "cut at {at}");
    }
    assert!(
        refused(&[&binary[..], &[0xcb, 6, b'b', 0, 0, 0, 0, 0]].concat()).contains("no OpenPGP public key"),
        "data"
    );
    assert!(refused(&[&binary[..], &[0xfc, 1, 0]].concat()).contains("not understood"), "a packet that is to come");
    assert!(refused(&[0xd0; 1 << 21]).contains("larger than"));
}

/// Whether `bytes` are whole packets, and perhaps the beginning of the header of another.
fn pgp_ends(bytes: &[u8]) -> bool {
    pgp::packet::PacketParser::new(std::io::Cursor::new(bytes)).all(|packet| packet.is_ok())
}

const SIGNERS: &str = "ana ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_signature_ends_the_pass(
        tag in prop_oneof![Just(0xc2), 0x80..=0xff_u8],
        length in prop_oneof![Just(None), prop::collection::vec(any::<u8>(), 1..6).prop_map(Some)],
        begin in prop::sample::select(vec![&b""[..], b"\x04\0\x16\x08", b"\x06\0\x1b\x0a", b"\x03\x05"]),
        bytes in prop::collection::vec(any::<u8>(), 0..180),
    ) {
        let length = length.unwrap_or_else(|| vec![u8::try_from(begin.len() + bytes.len()).expect("short")]);
        let base64 = Base64::encode_string(&[&[tag][..], &length, begin, &bytes].concat());
        let armored = format!("-----BEGIN PGP SIGNATURE-----\n\n{base64}\n-----END PGP SIGNATURE-----");
        let judged = verify(&sealed(&unsigned(MADE), &armored), gix_hash::Kind::Sha1, &trust(SIGNERS, ""), NOW);
        prop_assert!(judged.is_err());
    }
}
