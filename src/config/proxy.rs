use super::url::check_host;

/// The TCP port of the proxy `url`: `http://HOST:PORT`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that names it; the URL itself is not repeated, as it may hold a
/// password.
pub fn proxy_port(url: &str) -> Result<u16, String> {
    const RULE: &str = "is the address of a proxy, like \"http://proxy.example.org:3128\"";
    if url.len() > 300 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(RULE.to_owned());
    }
    let address = url.strip_prefix("http://").ok_or(RULE)?;
    if address.contains('@') {
        return Err(
            "holds a user name or a password, which everybody would be shown; take a proxy that asks for none \
                    of this host"
                .to_owned(),
        );
    }
    check_host(address)?;
    // Other programs differ in which port they mean where none is named.
    let port = address.rsplit_once(':').map(|(_, port)| port).ok_or(RULE)?;
    port.parse().map_err(|_| RULE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        assert_eq!(proxy_port("http://proxy.example.org:3128"), Ok(3128));
        assert_eq!(proxy_port("http://[2001:db8::1]:8080"), Ok(8080));
        for bad in [
            "",
            "proxy:3128",
            "http://proxy",
            "http://[2001:db8::1]",
            "http://proxy:0",
            "http://proxy:99999",
            "http://proxy:3128/",
            "http://:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://a b:1",
            "http://h:1\n",
        ] {
            assert!(proxy_port(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_of_a_proxy_is_refused_and_not_repeated() {
        for bad in ["http://ana:s3cret@proxy:3128", "http://s3cret@proxy:3128", "http://proxy:s3cret", "s3cret"] {
            let why = proxy_port(bad).expect_err("refused");
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert!(proxy_port("http://ana:s3cret@proxy:3128").expect_err("refused").contains("password"));
    }
}
