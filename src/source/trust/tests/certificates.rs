//! Commits signed with certificates that ssh-keygen made.

use super::workshop::{NOW, Workshop, fingerprint, said, sealed};
use crate::model::Zone;
use crate::source::trust::{SignatureKind, Signers};

struct Certified {
    workshop: Workshop,
    /// The line of the authority, allowed to certify who ends in `@example.org`.
    signers: String,
}

impl Certified {
    fn new() -> Self {
        let workshop = Workshop::new();
        let (_, authority) = workshop.ed25519("ca");
        workshop.ed25519("key");
        Self { signers: format!("*@example.org cert-authority {authority}"), workshop }
    }

    /// A commit signed with the key, certified with `arguments`.
    fn commit(&self, arguments: &[&str]) -> Vec<u8> {
        let path = |name: &str| self.workshop.path().join(name).into_os_string().into_string().expect("UTF-8");
        let fixed = ["-q", "-s", &path("ca"), "-I", "an id"];
        self.workshop.run("ssh-keygen", &[&fixed[..], arguments, &[&path("key.pub")]].concat());
        self.workshop.commit(&path("key-cert.pub"))
    }

    fn said(&self, commit: &[u8]) -> (&'static str, String) {
        said(self.workshop.judge(commit, &self.signers))
    }
}

const ANA: &[&str] = &["-n", "ben,ana@example.org"];

#[test]
fn a_certificate_is_believed_by_its_authority_and_for_whom_it_names() {
    let certified = Certified::new();
    let commit = certified.commit(ANA);
    let signed = certified.workshop.judge(&commit, &certified.signers).expect("believed");
    assert_eq!((signed.principal.as_str(), signed.kind), ("ana@example.org", SignatureKind::SshCertificate));
    let key = certified.workshop.path().join("key").into_os_string().into_string().expect("UTF-8");
    assert_eq!(signed.fingerprint, fingerprint(&certified.workshop, &key));
    let (_, line) = certified.workshop.ed25519("other");
    for (signers, reason) in [
        (certified.signers.replace("*@example.org", "*@example.com"), "unknown-key"),
        (certified.signers.replace("*@example.org", "*@example.org,!ana@*"), "unknown-key"),
        (certified.signers.replace("*@example.org", "an id"), "bad-trust"),
        (certified.signers.replace("cert-authority ", ""), "unknown-key"),
        (format!("ana@example.org {line}"), "unknown-key"),
        (format!("ana@example.org cert-authority {line}"), "unknown-key"),
        (format!("ana@example.org cert-authority {line}\n{}", certified.signers), "fine"),
        (certified.signers.replace("cert-authority", "cert-authority,namespaces=\"file\""), "unknown-key"),
    ] {
        let judged = Signers::parse("/etc/signers", signers.as_bytes(), &Zone::utc())
            .and_then(|_| certified.workshop.judge(&commit, &signers));
        assert_eq!(said(judged).0, reason, "{signers}");
    }
}

#[test]
fn the_key_alone_is_nobody_s_where_only_its_authority_is_known() {
    let certified = Certified::new();
    let path = |name: &str| certified.workshop.path().join(name).into_os_string().into_string().expect("UTF-8");
    assert_eq!(certified.said(&certified.workshop.commit(&path("key"))).0, "unknown-key");
    assert_eq!(certified.said(&certified.workshop.commit(&path("ca"))).0, "unknown-key", "an authority only certifies");
    // And the other way round: who is known by key is not known by certificate.
    let line = std::fs::read_to_string(path("key.pub")).expect("its line");
    let commit = certified.commit(ANA);
    assert_eq!(said(certified.workshop.judge(&commit, &format!("ana {line}"))).0, "unknown-key");
}

#[test]
fn a_certificate_has_to_be_valid_when_the_commit_says_that_it_was_made_and_now() {
    let certified = Certified::new();
    // The commit is made on 2026-11-01, and judged on 2026-11-02, each at midnight.
    for (validity, reason) in [
        ("20261101000000:20261102000001", "fine"),
        ("20261101000000:20261102000000", "expired-key"),
        ("20261101000001:20271101000000", "not-yet-valid-key"),
        ("20261102000000:20271101000000", "not-yet-valid-key"),
        ("20201101000000:20261101000000", "expired-key"),
        ("20201101000000:forever", "fine"),
        ("always:20271101000000", "fine"),
    ] {
        let commit = certified.commit(&[ANA, &["-V", validity]].concat());
        let (judged, sentence) = certified.said(&commit);
        assert_eq!(judged, reason, "{validity}: {sentence}");
    }
    let commit = certified.commit(ANA);
    let late = certified.signers.replace("cert-authority", "cert-authority,valid-before=\"20261101Z\"");
    assert_eq!(said(certified.workshop.judge(&commit, &late)).0, "expired-key", "the authority expired");
    let expired = certified.commit(&[ANA, &["-V", "20201101000000:20261101000000"]].concat());
    let (_, sentence) = certified.said(&expired);
    assert!(sentence.contains("valid until 2026-10-31 23:59:59 UTC (its certificate)"), "{sentence}");
}

#[test]
fn a_certificate_that_says_what_cannot_be_kept_to_is_refused() {
    let certified = Certified::new();
    for (arguments, reason, about) in [
        (&["-O", "force-command=true"][..], "unknown-signature", "\"force-command\""),
        (&["-O", "source-address=10.0.0.0/8"], "unknown-signature", "\"source-address\""),
        (&["-O", "critical:x@example.org"], "unknown-signature", "\"x@example.org\""),
        (&["-h"], "unknown-signature", "of a host"),
        (&["-O", "extension:x@example.org=y"], "fine", ""),
        (&["-O", "clear"], "fine", ""),
    ] {
        let (judged, sentence) = certified.said(&certified.commit(&[ANA, arguments].concat()));
        assert_eq!((judged, sentence.contains(about)), (reason, true), "{arguments:?}: {sentence}");
    }
    let (judged, sentence) = certified.said(&certified.commit(&[]));
    assert_eq!((judged, sentence.contains("names nobody")), ("unknown-signature", true), "{sentence}");
}

#[test]
fn a_certificate_is_revoked_with_its_key_or_its_authority() {
    let certified = Certified::new();
    let commit = certified.commit(ANA);
    for name in ["key", "ca"] {
        let path = certified.workshop.path().join(name).into_os_string().into_string().expect("UTF-8");
        let revoked = fingerprint(&certified.workshop, &path);
        let judged = said(certified.workshop.judge_at(&commit, &certified.signers, &revoked, NOW));
        assert_eq!((judged.0, judged.1.contains(&revoked)), ("revoked-key", true), "{name}: {}", judged.1);
    }
}

#[test]
fn no_bit_of_a_certificate_can_be_changed() {
    use base64ct::{Base64, Encoding};
    let certified = Certified::new();
    let commit = String::from_utf8(certified.commit(ANA)).expect("text");
    let (begin, end) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
    let inner = commit.split_once(begin).expect("signed").1.split_once(end).expect("signed").0;
    let blob = Base64::decode_vec(&inner.replace(['\n', ' '], "")).expect("base64");
    let payload = format!(
        "{}\n{}",
        commit.split_once("gpgsig").expect("signed").0.trim_end(),
        commit.split_once(end).expect("signed").1
    );
    let wrapped = |blob: &[u8]| {
        sealed(&payload.replacen("\n\n\n", "\n\n", 1), &format!("{begin}\n{}\n{end}", Base64::encode_string(blob)))
    };
    assert_eq!(certified.said(&wrapped(&blob)).0, "fine");
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert_ne!(certified.said(&wrapped(&changed)).0, "fine", "byte {at}");
        assert_ne!(certified.said(&wrapped(&blob[..at])).0, "fine", "cut at {at}");
    }
}

#[test]
fn other_kinds_of_keys_are_certified_too() {
    let workshop = Workshop::new();
    let (authority, line) = workshop.key("ca", &["-t", "rsa", "-b", "2048"]);
    for (name, kind) in
        [("e", ["-t", "ecdsa", "-b", "256"]), ("r", ["-t", "rsa", "-b", "2048"]), ("p", ["-t", "ecdsa", "-b", "521"])]
    {
        let (path, _) = workshop.key(name, &kind);
        let certify = |hash: &str| {
            let arguments = ["-q", "-s", &authority, "-t", hash, "-I", "id", "-n", "ana", &format!("{path}.pub")];
            workshop.run("ssh-keygen", &arguments);
            said(workshop.judge(&workshop.commit(&format!("{path}-cert.pub")), &format!("ana cert-authority {line}")))
        };
        assert_eq!(certify("rsa-sha2-512"), ("fine", "ana".to_owned()), "{kind:?}");
        assert_eq!(certify("rsa-sha2-256").0, "fine", "{kind:?}");
        let (reason, sentence) = certify("ssh-rsa");
        assert_eq!((reason, sentence.contains("SHA-1")), ("bad-signature", true), "{sentence}");
    }
    let (authority, line) = workshop.key("weak", &["-t", "rsa", "-b", "1024"]);
    let (path, _) = workshop.ed25519("key");
    workshop.run("ssh-keygen", &["-q", "-s", &authority, "-I", "id", "-n", "ana", &format!("{path}.pub")]);
    let judged =
        said(workshop.judge(&workshop.commit(&format!("{path}-cert.pub")), &format!("ana cert-authority {line}")));
    assert_eq!(judged.0, "weak-key", "{}", judged.1);
}
