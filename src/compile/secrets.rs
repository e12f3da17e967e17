//! Files of a tree that end in `.age`: opened where there is a key, else judged by what their header says.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::file::Found;
use super::layers::{self, FLEET};
use super::merge::Place;
use super::work::Work;
use crate::kinds::file::{Sealed, What};
use crate::manifest::{self, At, Problem};
use crate::model::{Digest, one_line};
use crate::secret::{self, Header, Keys, Locked, Plain, Recipient, SUFFIX};
use crate::source::{Entry, Snapshot};

/// What compiling does about secrets.
#[derive(Debug, Clone, Copy, Default)]
pub enum Secrets<'a> {
    /// They are left closed.
    #[default]
    Closed,
    /// They are left closed, and told of where somebody who has to read one cannot.
    Judged,
    /// They are opened with these keys.
    Opened(&'a dyn Keys),
}

/// What a secret comes to here.
pub(super) fn find(
    work: &Work<'_>,
    place: &Place,
    sealed: &Arc<[u8]>,
    (executable, templates): (bool, usize),
) -> Result<Found, Box<Problem>> {
    let refused = |why: &str, hint: &str| Box::new(place.error(why).hint(hint));
    if !secret::SUPPORTED {
        let hint = "install one that was built with it; raw = true in [files] ships the file as it is";
        return Err(refused("this trueup was built without the feature `secrets`", hint));
    }
    let hint = format!("encrypt it with `trueup secret encrypt {}`", one_line(&place.path, 200));
    let header = Header::read(sealed).map_err(|why| {
        refused(why, &format!("{hint}; what was committed in the clear is known by now, so change it too"))
    })?;
    if header.is_by_passphrase() {
        return Err(refused("this is encrypted with a passphrase, which no host can type", &hint));
    }
    let opened = match work.secrets {
        Secrets::Opened(keys) => keys.open(sealed).and_then(|plain| whole(work, keys, (sealed, plain), templates)),
        Secrets::Closed | Secrets::Judged => Err(Locked::Away),
    };
    let (what, stored) = opened.unwrap_or_else(|why| (What::Sealed { why }, Arc::clone(sealed)));
    let mode = Some(if executable { 0o700 } else { 0o600 });
    let secret = Some(Sealed(Digest::of(&stored)));
    // What cannot be read is never written, and so not stored.
    let content = matches!(what, What::Regular { .. }).then_some(stored);
    Ok(Found { what, content, mode, secret })
}

/// The content of a secret that was opened, rendered where it is a template; and that as it is stored.
fn whole(
    work: &Work<'_>,
    keys: &dyn Keys,
    (sealed, plain): (&Arc<[u8]>, Plain),
    templates: usize,
) -> Result<(What, Arc<[u8]>), Locked> {
    let regular = |plain: &[u8]| What::Regular { content: Digest::of(plain), size: plain.len() as u64 };
    if templates == 0 {
        return Ok((regular(&plain), Arc::clone(sealed)));
    }
    let mut plain = plain;
    for _ in 0..templates {
        let text =
            std::str::from_utf8(&plain).map_err(|_| Locked::Template("it is a template, and not UTF-8".to_owned()))?;
        // An error could say the very words it does not like, and they are of the secret: only where it is, is told.
        let rendered = work.scope.render("secret", text).map_err(|trouble| {
            let line = trouble.span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let at = line.map(|line| format!(", at line {line}")).unwrap_or_default();
            Locked::Template(format!(
                "it is a template that does not render{at}; what is wrong is not shown, since it is a secret"
            ))
        })?;
        plain = Plain::from(rendered);
    }
    // What this host is undone to needs neither vars nor facts of then.
    let stored = keys.seal(&plain)?;
    Ok((regular(&plain), stored.into()))
}

/// Tells where somebody whom this host's manifests name cannot read the secret at `place`.
pub(super) fn judge(work: &mut Work<'_>, place: &Place) {
    let Secrets::Judged = work.secrets else { return };
    let Some(Entry::File { content, .. }) = work.snapshot.entries.get(&place.path) else { return };
    let Ok(header) = Header::read(content) else { return };
    let hint = format!("encrypt it anew with `trueup secret rekey {}`", one_line(&place.path, 200));
    let (fleet, host) = (&work.layers.0[0], &work.layers.0[work.layers.0.len() - 1]);
    let named = [fleet, host].map(|here| here.layer.recipients.iter().map(move |at| (&here.manifest, &at.value)));
    let mut unnamed = BTreeSet::new();
    let mut problems = Vec::new();
    for (manifest, recipient) in named.into_iter().flatten() {
        match header.is_for(recipient) {
            Some(true) => {}
            Some(false) => {
                let message = format!("this secret is not encrypted to {} of {manifest}", recipient.fingerprint());
                problems.push(place.error(message).hint(&hint));
            }
            None => drop(unnamed.insert(recipient)),
        }
    }
    if header.unnamed() < unnamed.len() {
        let message = format!(
            "this secret is encrypted to {} of the {} keys of age that {} and trueup.toml name",
            header.unnamed(),
            unnamed.len(),
            host.manifest
        );
        problems.push(place.error(message).hint(&hint));
    }
    if host.layer.recipients.is_empty() {
        let message =
            "this host has secrets, and its manifest does not name its key: whether it can read them is not checked";
        let hint = "put its /etc/ssh/ssh_host_ed25519_key.pub there: [secrets] recipient = \"ssh-ed25519 AAAA…\"";
        problems.push(Problem::note(&host.manifest, None, message).hint(hint));
    }
    work.problems.append(&mut problems);
}

/// Somebody who has to be able to read a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// Where it is named: `trueup.toml`, `hosts/web-01/host.toml`.
    pub manifest: String,
    /// Its key.
    pub recipient: Recipient,
}

/// Who has to be able to read a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// Those whose keys are known.
    pub known: BTreeSet<Reader>,
    /// Hosts whose manifest names no key.
    pub nameless: BTreeSet<String>,
}

/// Who has to be able to read the secret at `path` of the repository: the fleet's recipients, and every host whose tree it
/// is in, or that includes the role it is of, whatever the condition. Every layer must have been read.
///
/// # Errors
/// Why there can be no secret at `path`, or which mistake in a manifest may hide somebody.
pub fn readers(snapshot: &Snapshot, path: &str) -> Result<Readers, String> {
    let layer = layer_of(snapshot, path)?;
    let mut problems = Vec::new();
    let named = |manifest: &str, recipients: Vec<At<Recipient>>| {
        let manifest = manifest.to_owned();
        recipients.into_iter().map(move |at| Reader { manifest: manifest.clone(), recipient: at.value })
    };
    let mut readers = Readers::default();
    readers.known.extend(named(FLEET, layers::fleet_recipients(snapshot, &mut problems)));
    for host in &snapshot.hosts {
        let has_it = match layer.strip_prefix("hosts/") {
            Some(only) => only == host,
            None => layers::reachable(snapshot, host, &mut problems).contains(&layer),
        };
        if !has_it {
            continue;
        }
        let recipients = layers::host_recipients(snapshot, host, &mut problems);
        if recipients.is_empty() {
            readers.nameless.insert(host.clone());
        }
        readers.known.extend(named(&format!("hosts/{host}/host.toml"), recipients));
    }
    Problem::order(&mut problems);
    let mut wrong = problems.iter().filter(|problem| problem.is_error());
    match wrong.next() {
        None => Ok(readers),
        Some(first) => Err(may_hide(snapshot, first, wrong.count())),
    }
}

/// Whether `path` of the repository is one that a secret can have.
pub fn is_of_secret(snapshot: &Snapshot, path: &str) -> bool {
    layer_of(snapshot, path).is_ok()
}

/// The layer that the secret at `path` is of.
fn layer_of(snapshot: &Snapshot, path: &str) -> Result<String, String> {
    let words: Vec<&str> = path.splitn(4, '/').collect();
    let [kind @ ("hosts" | "roles"), name, "files" | "units", rest] = words[..] else {
        return Err("is in no tree: a secret is in hosts/NAME/files/, roles/NAME/files/, or units/ of one".to_owned());
    };
    let known = if kind == "hosts" { &snapshot.hosts } else { &snapshot.roles };
    if !known.contains(name) {
        return Err(format!("is in no layer: there is no {kind}/{name}"));
    }
    if rest.len() <= SUFFIX.len() || !rest.ends_with(SUFFIX) {
        return Err(format!("does not end in {SUFFIX}"));
    }
    Ok(format!("{kind}/{name}"))
}

/// A manifest that is wrong may name a reader where nobody looks: `[secret]`, `recipient` for `recipients`, a key with a
/// letter too few. Whoever is missing then could not read the secret any more, and nobody would know.
fn may_hide(snapshot: &Snapshot, first: &Problem, more: usize) -> String {
    let text = first.span.as_ref().and_then(|span| Some((manifest::text_of(snapshot)(&first.path)?, span)));
    let line = text.map(|(text, span)| format!(", line {}", text.position(span).0)).unwrap_or_default();
    let hint = first.hint.as_ref().map(|hint| format!(" ({})", one_line(hint, 100))).unwrap_or_default();
    let more = if more == 0 { String::new() } else { format!(", and {more} more: `trueup check`") };
    format!(
        "cannot be encrypted before the manifests are right, who has to read it may be missing: {}{line}: {}{hint}{more}",
        one_line(&first.path, 200),
        one_line(&first.message, 200),
    )
}

#[cfg(all(test, feature = "secrets"))]
mod tests {
    use super::super::tests::{debian, repo};
    use super::super::{Options, compile};
    use super::*;
    use crate::kinds::{Spec, file};
    use crate::model::Id;

    const FLEET_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    const HOST_KEY: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

    /// A key ring that takes what it is given for opened; it counts nothing and knows nobody.
    #[derive(Debug)]
    struct Opens(Result<&'static str, Locked>);

    impl Keys for Opens {
        fn open(&self, _: &[u8]) -> Result<Plain, Locked> {
            self.0.clone().map(|text| text.as_bytes().to_vec().into())
        }

        fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Locked> {
            Ok(plain.iter().rev().copied().collect())
        }
    }

    fn sealed(to: &[&str]) -> String {
        let to: Vec<Recipient> = to.iter().map(|key| Recipient::parse(key).expect("a key")).collect();
        String::from_utf8(secret::seal(b"x", &to, true).expect("sealed")).expect("armoured")
    }

    fn spec(snapshot: &Snapshot, secrets: Secrets<'_>, path: &str) -> (file::Spec, usize) {
        let options = Options { secrets, ..Options::default() };
        let compiled = compile(snapshot, "web-01", &debian(), &options).expect("compiled");
        match &compiled.desired.resources[&Id::new("file", path)].spec {
            Spec::File(spec) => (spec.clone(), compiled.payloads.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_stored_of_a_secret_is_encrypted_and_what_it_is_compared_by_is_its_content() {
        let plain = sealed(&[FLEET_KEY]);
        let snapshot = repo(&[
            ("hosts/web-01/files/etc/key.age", &plain),
            ("*hosts/web-01/files/etc/run.age", &plain),
            ("hosts/web-01/files/etc/x.conf.j2.age", &plain),
        ]);
        let keys = Opens(Ok("{{ host.name }}\n"));
        let (key, payloads) = spec(&snapshot, Secrets::Opened(&keys), "/etc/key");
        assert_eq!((key.mode, key.payload(), payloads), (Some(0o600), Some(Digest::of(plain.as_bytes())), 2));
        assert_eq!(key.what, What::Regular { content: Digest::of(b"{{ host.name }}\n"), size: 16 });
        assert_eq!(spec(&snapshot, Secrets::Opened(&keys), "/etc/run").0.mode, Some(0o700));
        let (rendered, _) = spec(&snapshot, Secrets::Opened(&keys), "/etc/x.conf");
        assert_eq!(rendered.what, What::Regular { content: Digest::of(b"web-01\n"), size: 7 });
        assert_eq!(rendered.payload(), Some(Digest::of(b"\n10-bew")), "as it was rendered, and sealed anew");
        // Without a key it is a secret all the same, of which nothing is stored.
        let locked = Opens(Err(Locked::NotForUs("x".to_owned())));
        for secrets in [Secrets::Closed, Secrets::Opened(&locked)] {
            let (key, payloads) = spec(&snapshot, secrets, "/etc/key");
            assert!(matches!(key.what, What::Sealed { .. }) && key.secret.is_some() && payloads == 0, "{key:?}");
        }
    }

    #[test]
    fn a_file_that_is_decrypted_twice_or_sets_what_the_agent_does_is_a_mistake() {
        let plain = sealed(&[FLEET_KEY]);
        for (path, said) in [
            ("hosts/web-01/files/etc/x.age.age", "decrypted once"),
            ("hosts/web-01/files/etc/x.age.j2", "decrypted once"),
            ("hosts/web-01/files/etc/trueup/agent.d/50-x.toml.age", "has to be readable"),
        ] {
            let compiled = compile(&repo(&[(path, &plain)]), "web-01", &debian(), &Options::default());
            let problems = compiled.expect_err("a mistake");
            assert!(problems[0].message.contains(said), "{problems:?}");
        }
    }

    #[test]
    fn who_cannot_read_a_secret_is_told_as_far_as_its_header_tells() {
        let fleet = format!("format = 1\n[secrets]\nrecipients = [\"{FLEET_KEY}\"]\n");
        let host = format!("[secrets]\nrecipient = \"{HOST_KEY}\"\n");
        let told = |to: &[&str], host: &str| {
            let text = sealed(to);
            let files = [
                ("trueup.toml", fleet.as_str()),
                ("hosts/web-01/host.toml", host),
                ("hosts/web-01/files/etc/key.age", &text),
            ];
            let options = Options { secrets: Secrets::Judged, ..Options::default() };
            let problems = match compile(&repo(&files), "web-01", &debian(), &options) {
                Ok(compiled) => compiled.notes,
                Err(problems) => problems,
            };
            problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert_eq!(told(&[FLEET_KEY, HOST_KEY], &host), Vec::<String>::new());
        let [only] = &told(&[HOST_KEY], &host)[..] else { panic!("one") };
        assert!(
            only.starts_with("this secret is not encrypted to ssh-ed25519 SHA256:") && only.ends_with("of trueup.toml")
        );
        assert_eq!(
            told(&[FLEET_KEY], &host),
            ["this secret is encrypted to 0 of the 1 keys of age that hosts/web-01/host.toml and trueup.toml name"]
        );
        let [note] = &told(&[FLEET_KEY], "")[..] else { panic!("one") };
        assert!(note.contains("does not name its key"), "{note}");
    }

    #[test]
    fn a_secret_of_a_role_is_for_every_host_that_may_include_it() {
        let fleet = format!("format = 1\n[secrets]\nrecipients = [\"{FLEET_KEY}\"]\n");
        let host = format!("roles = ['web']\n[secrets]\nrecipient = \"{HOST_KEY}\"\n");
        let snapshot = repo(&[
            ("trueup.toml", &fleet),
            ("hosts/web-01/host.toml", &host),
            ("hosts/web-02/host.toml", "roles = [{ role = 'base', when = 'false' }]\n"),
            ("hosts/db/host.toml", &host.replace("'web'", "")),
            ("roles/web/role.toml", "roles = ['base']\n"),
            ("roles/base/role.toml", ""),
        ]);
        let of = |path: &str| readers(&snapshot, path).expect("a place for a secret");
        let manifests = |readers: &Readers| readers.known.iter().map(|one| one.manifest.clone()).collect::<Vec<_>>();
        let base = of("roles/base/files/etc/x.age");
        assert_eq!(manifests(&base), ["hosts/web-01/host.toml", "trueup.toml"]);
        assert_eq!(base.nameless, BTreeSet::from(["web-02".to_owned()]));
        assert_eq!(manifests(&of("hosts/db/units/x.service.age")), ["hosts/db/host.toml", "trueup.toml"]);
        for wrong in ["x.age", "hosts/db/x.age", "hosts/db/files/x", "hosts/db/files/.age", "other/db/files/x.age"] {
            assert!(readers(&snapshot, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whoever_a_mistake_may_hide_is_not_taken_for_nobody() {
        let fleet = format!("format = 1\n[secrets]\nrecipients = [\"{FLEET_KEY}\"]\n");
        let host = format!("roles = ['web']\n[secrets]\nrecipient = \"{HOST_KEY}\"\n");
        let (web_01, web_02) = ("hosts/web-01/files/x.age", "hosts/web-02/files/x.age");
        let whole = [
            ("trueup.toml", fleet.clone()),
            ("hosts/web-01/host.toml", host.clone()),
            ("hosts/web-02/host.toml", host),
            ("roles/web/role.toml", "roles = ['base']\n".to_owned()),
            ("roles/base/role.toml", String::new()),
        ];
        let why = |(manifest, right, wrong): (&str, &str, &str), path: &str| {
            let text = |(at, text): &(&'static str, String)| {
                (*at, if *at == manifest { text.replace(right, wrong) } else { text.clone() })
            };
            let files: Vec<_> = whole.iter().map(text).collect();
            let files: Vec<_> = files.iter().map(|(at, text)| (*at, text.as_str())).collect();
            readers(&repo(&files), path).err()
        };
        for (mistake, stopped, goes_on) in [
            (("trueup.toml", "[secrets]", "[secret]"), &["roles/base/files/x.age", web_01, web_02][..], &[][..]),
            // A host's own secrets are its own, and what is wrong elsewhere takes nothing from them.
            (("hosts/web-01/host.toml", "recipient", "recipent"), &["roles/base/files/x.age", web_01], &[web_02]),
            (("hosts/web-01/host.toml", "'web'", "'wbe'"), &["roles/base/files/x.age"], &[web_01, web_02]),
            (("roles/web/role.toml", "'base'", "'bsae'"), &["roles/base/files/x.age"], &[web_01, web_02]),
            (("roles/web/role.toml", "roles", "role"), &["roles/base/files/x.age"], &[web_01, web_02]),
        ] {
            for path in stopped {
                let why = why(mistake, path).unwrap_or_else(|| panic!("{mistake:?}: {path} went on"));
                assert!(why.contains(&format!("{}, line ", mistake.0)), "{why}");
            }
            for path in goes_on {
                assert_eq!(why(mistake, path), None, "{mistake:?}");
            }
        }
        let why = why(("trueup.toml", "[secrets]", "x = 1\n[secret]"), web_01).expect("two mistakes");
        assert!(why.contains(": trueup.toml, line 2: unknown key `x` ("), "{why}");
        assert!(why.ends_with("), and 1 more: `trueup check`"), "{why}");
    }
}
