use std::path::PathBuf;

/// How a URL of the source is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A directory of this machine: `/srv/fleet.git`, `file:///srv/fleet.git`.
    Local(PathBuf),
    /// `https://`.
    Https,
    /// `ssh://`, or `git@host:path`.
    Ssh,
    /// `http://`: neither secret nor authentic.
    Http,
    /// `git://`: neither secret nor authentic.
    Git,
}

impl Transport {
    /// Whether anybody between here and there may read and change what is transported.
    pub fn is_insecure(&self) -> bool {
        matches!(self, Self::Http | Self::Git)
    }
}

/// The longest URL that is taken, in bytes.
const LONGEST: usize = 2048;

/// How `url` is reached.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that names it; the URL itself is not repeated, as
/// it may hold a password.
pub fn transport(url: &str) -> Result<Transport, String> {
    if url.is_empty() {
        return Err("is empty".to_owned());
    }
    if url.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds a space or a control character".to_owned());
    }
    if url.starts_with('/') {
        return Ok(Transport::Local(PathBuf::from(url)));
    }
    if let Some(path) = url.strip_prefix("file:") {
        return local(path);
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return scp_like(url);
    };
    let transport = match scheme {
        "https" => Transport::Https,
        "ssh" => Transport::Ssh,
        "http" => Transport::Http,
        "git" => Transport::Git,
        _ => {
            return Err(format!(
                "has the scheme {scheme:?}; known are https, ssh, file, and http and git where allow_insecure = true"
            ));
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    check_user(user, transport == Transport::Ssh)?;
    check_host(host)?;
    if rest.len() <= authority.len() + 1 {
        return Err("names no repository after the host".to_owned());
    }
    if rest.contains(['?', '#']) {
        return Err("has a ? or #, and what follows it may be a secret that would be shown to everybody; put a token \
                    into a file that only root can read and name it as token_file"
            .to_owned());
    }
    Ok(transport)
}

fn check_user(user: Option<&str>, ssh: bool) -> Result<(), String> {
    match user {
        Some(user) if user.contains(':') || !ssh => Err(
            "holds a user name or a password; put the token into a file that only root can read and name it as token_file"
                .to_owned(),
        ),
        Some(user) if user.is_empty() || user.starts_with('-') => Err("has a user name that cannot be used".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address stands in brackets, its own colons with it.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        return Err("names no host that can be reached".to_owned());
    }
    match port {
        Some(port) if port.parse::<u16>().map_or(true, |port| port == 0) => {
            Err("has a port that is no port".to_owned())
        }
        _ => Ok(()),
    }
}

fn scp_like(url: &str) -> Result<Transport, String> {
    const WRONG: &str = "is neither a URL, nor an absolute path, nor user@host:path";
    let (authority, path) = url.split_once(':').ok_or(WRONG)?;
    if authority.contains('/') || path.is_empty() || path.starts_with(':') {
        return Err(WRONG.to_owned());
    }
    // `user:password@host:path` is no scp-like address, and would put the password into the path.
    check_user(path.split('/').next().filter(|first| first.contains('@') && first.contains(':')), true)?;
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    check_user(user, true)?;
    check_host(host)?;
    Ok(Transport::Ssh)
}

fn local(path: &str) -> Result<Transport, String> {
    let path = path
        .strip_prefix("//localhost/")
        .map_or_else(|| path.strip_prefix("//").unwrap_or(path).to_owned(), |path| format!("/{path}"));
    if !path.starts_with('/') {
        return Err("names no absolute path; local repositories look like file:///srv/fleet.git".to_owned());
    }
    percent_decoded(&path)
        .map(|path| Transport::Local(PathBuf::from(path)))
        .ok_or_else(|| "has a % that stands for nothing".to_owned())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        match u8::from_str_radix(digits, 16).ok()? {
            0 => return None,
            byte => bytes.push(byte),
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// `url` as it may be shown to anybody: no password, no user of a URL that needs none, no query.
pub fn shown(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (url, masked) = (&url[..end], if end < url.len() { "?…" } else { "" });
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority = rest.split('/').next().unwrap_or_default();
    let shown = match authority.rsplit_once('@') {
        None => rest.to_owned(),
        Some((user, host)) => {
            let name = user.split_once(':').map(|(name, _)| name);
            // The user of ssh is part of the address, and no secret; elsewhere a token may stand for one.
            let user = match (name, scheme) {
                (None, "ssh" | "") => user.to_owned(),
                (Some(name), "ssh" | "") => format!("{name}:…"),
                _ => "…".to_owned(),
            };
            format!("{user}@{host}{}", &rest[authority.len()..])
        }
    };
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{shown}{masked}")
}

/// The server of an ssh URL, as known_hosts(5) names it: `git.example.org`, or `[git.example.org]:2222`. `None` for
/// any other URL.
pub fn ssh_server(url: &str) -> Option<String> {
    if transport(url) != Ok(Transport::Ssh) {
        return None;
    }
    let (name, port) = server(url)?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    Some(if port.is_none_or(|port| port == "22") { name.to_owned() } else { format!("[{name}]:{}", port?) })
}

/// The TCP port that a URL which [`transport`] takes is reached at; `None` for a directory.
pub fn port(url: &str) -> Option<u16> {
    let usual = match transport(url).ok()? {
        Transport::Local(_) => return None,
        Transport::Https => 443,
        Transport::Ssh => 22,
        Transport::Http => 80,
        Transport::Git => 9418,
    };
    server(url)?.1.map_or(Some(usual), |port| port.parse().ok())
}

/// Where a URL which [`transport`] takes, or that of a proxy, is connected to, as getaddrinfo(3) takes it: a name or an
/// address, and the TCP port; `None` for a directory.
pub fn endpoint(url: &str) -> Option<(String, u16)> {
    let (name, written) = server(url).filter(|_| !matches!(transport(url), Ok(Transport::Local(_))))?;
    let port = written.and_then(|port| port.parse().ok()).or_else(|| port(url))?;
    Some((name.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

/// The host of a URL that names one, an IPv6 address in its brackets, and the port as written.
fn server(url: &str) -> Option<(&str, Option<&str>)> {
    let authority = match url.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next()?,
        // In `user@host:path` a port cannot be told; an IPv6 address stands in brackets.
        None => match url.find("]:") {
            Some(end) => &url[..=end],
            None => url.split_once(':')?.0,
        },
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    })
}

/// Whether `name` can be a branch: the rules of git-check-ref-format(1) for `refs/heads/NAME`, and no
/// leading dash.
pub fn is_branch_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    !name.is_empty()
        && name.len() <= 255
        && name != "@"
        && name != "HEAD"
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(bad)
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_connected_to_at_an_endpoint() {
        for (url, expected) in [
            ("https://h/x", Some(("h", 443))),
            ("ssh://git@[2001:db8::1]:2222/x", Some(("2001:db8::1", 2222))),
            ("git@h:x/y", Some(("h", 22))),
            ("http://proxy:3128", Some(("proxy", 3128))),
            ("/srv/fleet.git", None),
            ("file:///srv/fleet:80/x.git", None),
        ] {
            assert_eq!(endpoint(url), expected.map(|(name, port)| (name.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn the_port_is_that_of_the_url_or_of_its_transport() {
        for (url, expected) in [
            ("https://h/x", Some(443)),
            ("https://h:8443/x", Some(8443)),
            ("http://[::1]/x", Some(80)),
            ("http://[::1]:81/x", Some(81)),
            ("git://h/x", Some(9418)),
            ("ssh://git@h/x", Some(22)),
            ("ssh://git@h:2222/x", Some(2222)),
            ("git@h:x", Some(22)),
            ("/srv/x", None),
            ("no", None),
        ] {
            assert_eq!(port(url), expected, "{url}");
        }
    }

    #[test]
    fn every_way_to_name_a_repository_is_known() {
        let local = |path: &str| Ok(Transport::Local(PathBuf::from(path)));
        assert_eq!(transport("/srv/fleet.git"), local("/srv/fleet.git"));
        assert_eq!(transport("file:///srv/my%20fleet"), local("/srv/my fleet"));
        assert_eq!(transport("file://localhost/srv/x"), local("/srv/x"));
        assert_eq!(transport("https://git.example.org/fleet.git"), Ok(Transport::Https));
        assert_eq!(transport("https://git.example.org:8443/fleet.git"), Ok(Transport::Https));
        assert_eq!(transport("ssh://git@git.example.org:2222/fleet.git"), Ok(Transport::Ssh));
        assert_eq!(transport("ssh://git@[2001:db8::1]:22/fleet.git"), Ok(Transport::Ssh));
        assert_eq!(transport("git@git.example.org:fleet.git"), Ok(Transport::Ssh));
        assert_eq!(transport("http://127.0.0.1:8080/x"), Ok(Transport::Http));
        assert_eq!(transport("git://127.0.0.1/x"), Ok(Transport::Git));
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for url in [
            "",
            "fleet",
            "./fleet",
            "ftp://h/x",
            "https://",
            "https:///x",
            "https://host",
            "https://host/",
            "https://-oX/x",
            "https://h:0/x",
            "https://h:99999/x",
            "ssh://-oProxyCommand=x/y",
            "-oX@h:p",
            "git@-h:p",
            "git@h:",
            "file:fleet",
            "file://other/x%2",
            "https://h/a b",
            "https://h/a\nb",
            "ext::sh -c x",
            "ext::sh",
            "https://h\u{202e}/x",
        ] {
            assert!(transport(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_without_being_repeated() {
        for url in ["https://ana:s3cret@h/x", "https://s3cret@h/x", "ssh://git:s3cret@h/x", "git:s3cret@h:x"] {
            let why = transport(url).expect_err("refused");
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert!(transport("https://ana:s3cret@h/x").expect_err("refused").contains("token_file"));
    }

    #[test]
    fn what_is_shown_of_a_url_holds_no_secret() {
        for (url, wanted) in [
            ("https://git.example.org/fleet.git", "https://git.example.org/fleet.git"),
            ("https://ana:s3cret@h/x@y", "https://…@h/x@y"),
            ("https://s3cret@h/x", "https://…@h/x"),
            ("https://h/x?token=s3cret", "https://h/x?…"),
            ("ssh://git@h:22/x", "ssh://git@h:22/x"),
            ("ssh://git:s3cret@h/x", "ssh://git:…@h/x"),
            ("git@h:x", "git@h:x"),
            ("/srv/fleet.git", "/srv/fleet.git"),
            ("file:///srv/a@b", "file:///srv/a@b"),
        ] {
            assert_eq!(shown(url), wanted);
        }
    }

    #[test]
    fn the_server_of_an_ssh_url_is_named_as_known_hosts_names_it() {
        let server = |url| ssh_server(url).unwrap_or_default();
        assert_eq!(server("git@git.example.org:fleet.git"), "git.example.org");
        assert_eq!(server("git.example.org:fleet.git"), "git.example.org");
        assert_eq!(server("ssh://git@git.example.org/fleet.git"), "git.example.org");
        assert_eq!(server("ssh://git@git.example.org:22/fleet.git"), "git.example.org");
        assert_eq!(server("ssh://git@git.example.org:2222/fleet.git"), "[git.example.org]:2222");
        assert_eq!(server("ssh://git@[2001:db8::1]/fleet.git"), "2001:db8::1");
        assert_eq!(server("ssh://git@[2001:db8::1]:2222/x"), "[2001:db8::1]:2222");
        assert_eq!(ssh_server("https://h/x"), None);
        assert_eq!(ssh_server("/srv/x"), None);
    }

    #[test]
    fn branches_follow_the_rules_of_git() {
        for good in ["main", "release/1.2", "a-b_c", "größe"] {
            assert!(is_branch_name(good), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a b", "a*", "a~1", "a^", "a:b", "@",
            "a@{1}", "HEAD", "a.",
        ] {
            assert!(!is_branch_name(bad), "{bad}");
        }
    }
}
