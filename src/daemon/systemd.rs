//! What systemd hears of the agent, and the socket that it made for it: sd_notify(3), sd_listen_fds(3).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::UnixListener;

use super::SOCKET;

/// Says something to systemd. Where nobody listens that is no failure.
pub(super) fn say(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

/// The agent is up.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// Settings are being read anew.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        say(&[NotifyState::Reloading, now]);
    }
}

/// The agent is ending.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub(super) fn status(line: &str) {
    say(&[NotifyState::Status(line)]);
}

/// Work goes on.
pub(super) fn feed_watchdog() {
    say(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear that; `None` where it does not.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The status socket: the one that systemd made, or one of our own where the agent was started by hand.
///
/// # Errors
/// Where there is none and none can be made.
pub(super) fn socket() -> io::Result<UnixListener> {
    let listener = match ListenFd::from_env().take_unix_listener(0)? {
        Some(listener) => listener,
        None => bind(Path::new(SOCKET))?,
    };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Whoever holds the agent's lock is the only one, so a socket that is there already is nobody's.
#[allow(clippy::disallowed_methods, reason = "a socket of the agent's own, in its own runtime directory")]
fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // Anybody may ask; what they may ask for is decided by who they are.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}
