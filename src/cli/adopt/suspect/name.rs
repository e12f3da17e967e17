//! Files that are credentials by their name.

/// Files that hold nothing else, whatever they look like; `closed` to others, also those whose name or place only hints
/// at it.
pub(super) fn by_name(path: &str, closed: bool, text: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        ".netrc",
        "_netrc",
        ".pgpass",
        ".my.cnf",
        ".htpasswd",
        ".git-credentials",
        ".dockercfg",
        ".vault-token",
        ".erlang.cookie",
        "krb5.keytab",
        "sasl_passwd",
        "chap-secrets",
        "pap-secrets",
        "ipsec.secrets",
        "random-seed",
    ];
    const ENDS: &[&str] =
        &[".keytab", ".kdbx", ".p8", ".p12", ".pfx", ".pkcs12", ".jks", ".keystore", ".ppk", ".htpasswd", ".tdb"];
    // What may be public too, and says so then.
    const KEYS: &[&str] = &[".key", "_key", "privatekey", ".keyring"];
    const PACKAGES: &[&str] = &["/usr/share/keyrings/", "/etc/apt/keyrings/", "/etc/apt/trusted.gpg.d/"];
    const HINTS: &[&str] = &["passwd", "pgpass", "netrc", "secret", "credential", "cookie"];
    const ROOMS: &[&str] =
        &["/private/", "/credstore/", "/cryptsetup-keys.d/", "/.gnupg/private-keys-v1.d/", "/.docker/"];
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let name = without_endings(&name);
    let ssh = name.starts_with("ssh_host_") && name.ends_with("_key")
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].contains(&name);
    let public = PACKAGES.iter().any(|at| path.starts_with(at))
        || !closed && (text.contains("PUBLIC KEY") || text.contains("DNSKEY"));
    if ssh || !public && KEYS.iter().any(|end| name.ends_with(end)) {
        return Some("a private key, by its name");
    }
    if NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end)) {
        return Some("credentials, by its name");
    }
    let hint = HINTS.iter().any(|hint| name.contains(hint)) || ROOMS.iter().any(|room| path.contains(room));
    (closed && hint).then_some("credentials, by its name and that not everybody may read it")
}

/// A name without what is put behind it where a file is made into a map, or kept.
fn without_endings(name: &str) -> &str {
    const ENDS: &[&str] = &[".db", ".lmdb", ".bak", ".old", ".orig", "~"];
    let mut name = name;
    loop {
        let end = ENDS.iter().find_map(|end| name.strip_suffix(end));
        let kept = || name.rsplit_once('.').filter(|(_, end)| end.starts_with("dpkg-") || end.starts_with("rpm"));
        let Some(shorter) = end.or_else(|| kept().map(|(shorter, _)| shorter)) else { return name };
        name = shorter;
    }
}
