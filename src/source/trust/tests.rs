mod certificates;
#[cfg(feature = "openpgp")]
mod openpgp;
mod ssh;
pub(super) mod workshop;

#[cfg(not(feature = "openpgp"))]
#[test]
fn without_openpgp_nothing_of_it_is_believed_and_everybody_is_told() {
    use self::workshop::{MADE, NOW, sealed, trust, unsigned};
    use crate::model::Zone;
    use crate::source::trust::{Signers, verify};
    let trust = trust("ana ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti", "");
    let commit = sealed(&unsigned(MADE), "-----BEGIN PGP SIGNATURE-----\n\nYW5h\n-----END PGP SIGNATURE-----");
    let refusal = verify(&commit, gix_hash::Kind::Sha1, &trust, NOW).expect_err("not verified");
    assert_eq!((refusal.reason(), refusal.to_string().contains("has no OpenPGP")), ("unknown-signature", true));
    let keys = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nYW5h\n-----END PGP PUBLIC KEY BLOCK-----";
    let refusal = Signers::parse("/etc/keys", keys.as_bytes(), &Zone::utc()).expect_err("not read");
    assert_eq!((refusal.reason(), refusal.to_string().contains("has no OpenPGP")), ("bad-trust", true));
}
