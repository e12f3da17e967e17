//! One look at, and one fetch from, a server.

use std::path::Path;

use gix::ObjectId;
use gix::protocol::transport::client;
use gix::protocol::transport::client::blocking_io::http::Transport;
use gix::remote::{Connection, Direction};

use super::clone::LARGEST_OBJECT;
use super::http::Http;
use super::look;
use super::protocol::Remote;
use super::trouble::{Result, Trouble};
use super::weight;

/// Where what a server advertises is kept until the agent has judged it.
const CANDIDATE: &str = "refs/trueup/candidate";

/// How a fetch ended.
pub(super) enum Fetched {
    /// The tip is at hand.
    Tip(ObjectId),
    /// The tip is at hand, as it was before.
    Same(ObjectId),
    /// The server's ids are of another kind than the clone's.
    OtherHash(gix::hash::Kind),
}

/// Settings of the clone: nothing of the user's or the system's is read, and what is set here wins.
pub(super) fn options(remote: &Remote) -> Result<gix::open::Options> {
    let scheme = scheme(remote)?;
    let mut set = vec![
        "protocol.allow=never".to_owned(),
        format!("protocol.{scheme}.allow=always"),
        "core.logAllRefUpdates=false".to_owned(),
        "gitoxide.credentials.terminalPrompt=false".to_owned(),
        format!("gitoxide.objects.allocLimit={LARGEST_OBJECT}"),
        // Each has memory of its own, of which the worker has only so much, however many cores there are.
        "pack.threads=4".to_owned(),
    ];
    if scheme == "ssh" {
        set.push(format!("core.sshCommand={}", ssh_command(remote)?));
        set.push("ssh.variant=ssh".to_owned());
    }
    Ok(gix::open::Options::isolated()
        .open_path_as_is(true)
        .strict_config(true)
        .with(gix::sec::Trust::Full)
        .config_overrides(set))
}

fn scheme(remote: &Remote) -> Result<&'static str> {
    let insecure = |scheme| match remote.insecure {
        true => Ok(scheme),
        false => Err(Trouble::new("insecure", format!("{}: {scheme} is not allowed", remote.url))),
    };
    match remote.url.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") => Ok("https"),
        Some("ssh") | None => Ok("ssh"),
        Some("http") => insecure("http"),
        Some("git") => insecure("git"),
        Some(_) => Err(Trouble::new("bad-request", "no such transport")),
    }
}

/// ssh with pinned host keys, one key, no questions, and nothing from configuration files; ssh_config(5).
fn ssh_command(remote: &Remote) -> Result<String> {
    // This line is split into words by whoever runs it.
    let plain = |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+@:,-".contains(&b));
    if !plain(&remote.ssh_key) || !plain(&remote.known_hosts) {
        return Err(Trouble::new(
            "bad-request",
            "source.ssh_key and source.known_hosts may hold letters, digits and / . _ + @ : , - only",
        ));
    }
    let mut command = format!(
        "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o UserKnownHostsFile={} \
         -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=2 \
         -o PreferredAuthentications=publickey -o IdentityAgent=none -o ClearAllForwardings=yes -o ForwardAgent=no -o ControlPath=none -o PermitLocalCommand=no",
        remote.known_hosts
    );
    if !remote.ssh_key.is_empty() {
        command.push_str(&format!(" -i {} -o IdentitiesOnly=yes", remote.ssh_key));
    }
    Ok(command)
}

/// Looks at the branch, and fetches what is missing of it into `repository`, whole history. Where the
/// advertised commit is at hand already, no pack is asked for.
pub(super) fn fetch(repository: &gix::Repository, remote: &Remote, branch: &str) -> Result<Fetched> {
    let failed = |error: gix::Error| Trouble::remote(remote, &error);
    let has = at_hand(repository)?;
    if let Some(has) = has
        && look::still_there(remote, branch, has)
    {
        return Ok(Fetched::Same(has));
    }
    let prepared = repository
        .remote_at_without_url_rewrite(remote.url.as_str())
        .and_then(|at| {
            at.with_fetch_tags(gix::remote::fetch::Tags::None).with_refspecs([spec(branch).as_str()], Direction::Fetch)
        })
        .map_err(failed)?;
    if matches!(scheme(remote)?, "https" | "http") {
        let (url, version) = prepared.sanitized_url_and_version(Direction::Fetch).map_err(failed)?;
        let transport = Transport::new_http(Http::new(remote), url, version, false);
        return receive(repository, prepared.to_connection_with_transport(transport), remote, branch, has);
    }
    receive(repository, prepared.connect(Direction::Fetch).map_err(failed)?, remote, branch, has)
}

/// The same over `connection`, whatever that is; `has` is what is at hand.
fn receive<T: client::blocking_io::Transport>(
    repository: &gix::Repository,
    connection: Connection<'_, 'static, '_, T>,
    remote: &Remote,
    branch: &str,
    has: Option<ObjectId>,
) -> Result<Fetched> {
    let failed = |error: gix::Error| Trouble::remote(remote, &error);
    let fetch = connection
        .with_credentials(|action| login(remote, action))
        .prepare_fetch(gix::progress::Discard, gix::remote::ref_map::Options::default())
        .map_err(failed)?;

    let map = fetch.ref_map();
    let advertised = map.mappings.iter().find_map(|mapping| mapping.remote.as_id()).map(ToOwned::to_owned);
    let Some(advertised) = advertised else {
        return Err(Trouble::new("no-such-branch", format!("{} has no branch {branch}", remote.url)));
    };
    if advertised.kind() != map.object_hash {
        // gix would wait for objects that cannot come.
        let message = format!("{}: its branch is at {advertised}, which is no id of {}", remote.url, map.object_hash);
        return Err(Trouble::new("fetch-failed", message));
    }
    if map.object_hash != repository.object_hash() {
        return Ok(Fetched::OtherHash(map.object_hash));
    }
    if has == Some(advertised) {
        return Ok(Fetched::Same(advertised));
    }
    match weight::bounded(|scale, stop| fetch.receive(scale, stop)) {
        Some(received) => received.map_err(failed)?,
        None => {
            let message = format!("{}: what it sends unfolds to more than any repository of its size", remote.url);
            return Err(Trouble::new("too-large", message));
        }
    };
    Ok(Fetched::Tip(advertised))
}

fn spec(branch: &str) -> String {
    // Forced: whether the branch only moved forward is for the agent to judge.
    format!("+refs/heads/{branch}:{CANDIDATE}")
}

/// The commit that was fetched last, where it is really there.
fn at_hand(repository: &gix::Repository) -> Result<Option<ObjectId>> {
    let damaged = |error: gix::Error| Trouble::damaged("the clone", &error);
    let Some(mut reference) = repository.try_find_reference(CANDIDATE).map_err(damaged)? else { return Ok(None) };
    let id = reference.peel_to_id().map_err(damaged)?.detach();
    repository.find_commit(id).map_err(damaged)?;
    Ok(Some(id))
}

/// Asked for after the server has refused us without: the token, to the authority it is for.
fn login(
    remote: &Remote,
    action: gix::credentials::helper::Action,
) -> gix::Result<Option<gix::credentials::protocol::Outcome>> {
    let gix::credentials::helper::Action::Get(context) = action else { return Ok(None) };
    let asked = context.url.as_ref().map(ToString::to_string).unwrap_or_default();
    match &remote.login {
        Some((user, secret)) if asked.starts_with("https://") && authority(&asked) == authority(&remote.url) => {
            Ok(Some(gix::credentials::protocol::Outcome {
                identity: gix::sec::identity::Account {
                    username: user.clone(),
                    password: secret.0.clone(),
                    oauth_refresh_token: None,
                },
                next: context.into(),
            }))
        }
        _ => Err(gix::error::unauthenticated("access denied: the server asks for a login").into()),
    }
}

fn authority(url: &str) -> &str {
    url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""))
}

/// Opens the clone in `directory`.
pub(super) fn open(directory: &Path, remote: &Remote) -> Result<gix::Repository> {
    gix::open_opts(directory, options(remote)?)
        .map_err(|error| Trouble::damaged(format_args!("the clone {}", directory.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Secret;
    use super::*;

    fn remote(url: &str) -> Remote {
        Remote {
            url: url.to_owned(),
            cache: "/nowhere".to_owned(),
            beside: Vec::new(),
            insecure: false,
            ca_file: String::new(),
            proxy: String::new(),
            client_cert: String::new(),
            client_key: String::new(),
            login: Some(("ana".to_owned(), Secret("s3cret".to_owned()))),
            ssh_key: "/k".to_owned(),
            known_hosts: "/h".to_owned(),
        }
    }

    fn ask(url: &str) -> bool {
        let context = gix::credentials::protocol::Context { url: Some(url.into()), ..Default::default() };
        login(&remote("https://git.example.org/fleet.git"), gix::credentials::helper::Action::Get(context)).is_ok()
    }

    #[test]
    fn the_token_goes_to_its_own_authority_only() {
        assert!(ask("https://git.example.org/fleet.git"));
        for other in [
            "https://evil.example/fleet.git",
            "http://git.example.org/fleet.git",
            "https://git.example.org:8443/x",
            "https://git.example.org.evil/x",
            "ssh://git.example.org/x",
        ] {
            assert!(!ask(other), "{other}");
        }
    }

    #[test]
    fn insecure_transports_and_odd_paths_are_refused_here_too() {
        let refused = |remote: &Remote| options(remote).map(|_| ()).expect_err("refused").reason;
        assert_eq!(refused(&remote("http://h/x")), "insecure");
        assert_eq!(refused(&remote("git://h/x")), "insecure");
        assert_eq!(refused(&remote("file:///x")), "bad-request");
        let odd = Remote { ssh_key: "/k -o ProxyCommand=x".to_owned(), ..remote("git@h:x") };
        assert_eq!(refused(&odd), "bad-request");
    }
}
