//! Units below a directory that stands for a machine: what `systemctl --root` would do. Nothing runs
//! there, so only unit files and their links are looked at and made.

use std::collections::BTreeSet;

use super::links::{self, Enablement, Follow, LIMIT, Links, NULL, SYSTEM, View};
use super::rules::{self, refused};
use super::{FileState, Load, Observed, Spec, Unit, name};
use crate::host::{Attributes, Error, Over, Reader, Writer};
use crate::kinds::Job;

/// Looks at `names`.
pub(super) fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, Error>> {
    let links = match links::all(host) {
        Ok(links) => links,
        Err(error) => {
            let why = error.chain();
            let unknown = |name: &&str| Err(Error::Unknown { thing: format!("unit:{name}"), why: why.clone() });
            return names.iter().map(unknown).collect();
        }
    };
    names.iter().map(|name| look(host, &links, name)).collect()
}

fn look(host: &Reader, links: &Links, name: &str) -> Result<Observed, Error> {
    if !name::is_valid(name) {
        return Err(refused(name, "not-a-unit-name", "unit names end in their type, as nginx.service"));
    }
    let mut seen = Observed::nothing(None);
    let Some(found) = View::now(host).find(name)? else { return Ok(seen) };
    seen.load = if found.state == FileState::Masked { Load::Masked } else { Load::Loaded };
    seen.file = match found.state {
        FileState::Disabled if !links::of(links, name).is_empty() => FileState::Enabled,
        state => state,
    };
    seen.instances_only = name::is_template(name) && seen.is_enabled() && links::has_none_of_its_own(host, links, name);
    Ok(seen)
}

/// Converges each job, one by one: there is nothing to gain from a batch of links.
pub(super) fn apply(host: &mut Writer, jobs: &[Job<'_, Unit>], enablement: &Enablement) -> Vec<Result<(), Error>> {
    jobs.iter().map(|job| converge(host, job.name, (job.want, job.seen), enablement)).collect()
}

fn converge(
    host: &mut Writer,
    name: &str,
    (want, seen): (&Spec, &Observed),
    enablement: &Enablement,
) -> Result<(), Error> {
    // What the plan saw is from before the files were written.
    let mut now = look(host, &links::all(host)?, name)?;
    let mask = format!("{SYSTEM}/{name}");
    if want.masked == Some(true) {
        if now.file == FileState::Masked {
            return Ok(());
        }
        if host.read_link(&mask)?.is_some() || host.read(&mask, LIMIT)?.is_some() {
            let why =
                format!("{mask} stands where the mask would be; take it out of the tree, or declare the unit off");
            return Err(refused(name, "unit-file-in-the-way", &why));
        }
        return host.make_symlink(&mask, NULL, Attributes::default(), Over::Nothing);
    }
    if now.is_masked() && want.masked == Some(false) {
        if host.read_link(&mask)?.as_deref() == Some(NULL) {
            host.remove(&mask)?;
        }
        now = look(host, &links::all(host)?, name)?;
    }
    match want.enabled {
        Some(true) if now.is_masked() => {
            Err(refused(name, "masked", "it is masked here; declare `masked = false`, or remove the mask"))
        }
        Some(true) if now.is_absent() => Err(deferred(name)),
        Some(true) => {
            let follows = seen.follow.as_ref().is_some_and(|follow| !follow.come.is_empty());
            if follows || !rules::diff(want, &now).is_empty() {
                enable(host, name, &mut BTreeSet::new())?;
            }
            seen.follow.as_ref().map_or(Ok(()), |follow| unfollow(host, name, follow))
        }
        Some(false) if !rules::diff(want, &now).is_empty() => unlink(host, name, enablement),
        _ => Ok(()),
    }
}

fn deferred(name: &str) -> Error {
    refused(name, "deferred", "its unit file is not below this directory; its package brings it on the machine")
}

/// Makes the links of `name` and of what its `[Install]` section names with it.
fn enable(host: &mut Writer, name: &str, seen: &mut BTreeSet<String>) -> Result<(), Error> {
    if !name::is_valid(name) || !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let found = View::now(host).find(name)?.ok_or_else(|| deferred(name))?;
    let links = found.install.links(name).map_err(|error| refused(name, "cannot-enable", &error.to_string()))?;
    for link in links {
        let link = format!("{SYSTEM}/{link}");
        match host.read_link(&link)? {
            Some(target) if target == found.path => continue,
            // As `systemctl --force enable`: a link of another unit gives way, a file never does.
            Some(_) => host.remove(&link)?,
            None => {}
        }
        host.make_symlink(&link, &found.path, Attributes::default(), Over::Nothing)?;
    }
    for also in &found.install.also {
        enable(host, also, seen)?;
    }
    Ok(())
}

/// Removes every link that enabling `name` could have made, and what its section names with it, but what is declared to be
/// enabled; its unit file stays where it is.
pub(super) fn unlink(host: &mut Writer, name: &str, enablement: &Enablement) -> Result<(), Error> {
    let (go, _) = links::of_disabling(host, name, enablement)?;
    remove(host, &go)
}

/// Removes the links of `follow` that go, as the section of `name` stands by now. What leads to another unit by now, or is no
/// link any more, is somebody else's.
pub(super) fn unfollow(host: &mut Writer, name: &str, follow: &Follow) -> Result<(), Error> {
    let (asked, there) = (View::now(host).asked(name)?, links::all(host)?);
    let goes = |path: &&String| !asked.contains_key(*path) && there.get(*path) == follow.asked.get(*path);
    let go = follow.go.iter().filter(goes).cloned().collect();
    remove(host, &go)
}

/// Removes these links, and with the last of them the directory that they are in, as systemctl(1).
fn remove(host: &mut Writer, links: &BTreeSet<String>) -> Result<(), Error> {
    for link in links {
        host.remove(link)?;
    }
    // One that cannot is in nobody's way.
    for (directory, _) in links.iter().filter_map(|link| link.rsplit_once('/')).filter(|(above, _)| *above != SYSTEM) {
        drop(host.remove_directory(directory));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::OnChange;
    use super::*;
    use crate::host::Reader;
    use std::fs;
    use std::path::Path;

    const NGINX: &str =
        "[Service]\nExecStart=/bin/x\n[Install]\nWantedBy=multi-user.target\nAlias=www.service\nAlso=nginx.socket\n";

    struct Place {
        _directory: tempfile::TempDir,
        host: Writer,
    }

    impl Place {
        #[allow(clippy::disallowed_methods, reason = "a scratch directory")]
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a scratch directory");
            for (path, content) in files {
                let path = directory.path().join(path.trim_start_matches('/'));
                fs::create_dir_all(path.parent().expect("has one")).expect("scratch");
                match content.strip_prefix("-> ") {
                    Some(target) => std::os::unix::fs::symlink(target, path).expect("scratch"),
                    None => fs::write(path, content).expect("scratch"),
                }
            }
            let reader = Reader::directory(directory.path()).expect("it is there");
            Self { host: Writer::take(reader).expect("nobody else is here"), _directory: directory }
        }

        fn file(&self, name: &str) -> FileState {
            observe(&self.host, &[name]).remove(0).expect("can be looked at").file
        }

        fn converge(&mut self, name: &str, want: &Spec) -> Result<(), Error> {
            let seen = observe(&self.host, &[name]).remove(0).expect("can be looked at");
            let result = converge(&mut self.host, name, (want, &seen), &Enablement::new());
            if result.is_ok() {
                let seen = observe(&self.host, &[name]).remove(0).expect("can be looked at");
                assert_eq!(rules::diff(want, &seen), [], "converged");
            }
            result
        }

        fn target(&self, path: &str) -> Option<String> {
            let path = self.host.root_path().join(path.trim_start_matches('/'));
            fs::read_link(Path::new(&path)).ok().map(|target| target.display().to_string())
        }
    }

    fn enabled(enabled: bool) -> Spec {
        Spec { enabled: Some(enabled), active: Some(enabled), masked: Some(false), ..Spec::default() }
    }

    #[test]
    fn enabling_links_as_the_install_section_says_and_disabling_takes_it_all_back() {
        let mut place = Place::new(&[
            ("/usr/lib/systemd/system/nginx.service", NGINX),
            ("/usr/lib/systemd/system/nginx.socket", "[Install]\nWantedBy=sockets.target\n"),
        ]);
        assert_eq!(place.file("nginx.service"), FileState::Disabled);
        place.converge("nginx.service", &enabled(true)).expect("can be enabled");
        let service = Some("/usr/lib/systemd/system/nginx.service".to_owned());
        assert_eq!(place.target("/etc/systemd/system/multi-user.target.wants/nginx.service"), service);
        assert_eq!(place.target("/etc/systemd/system/www.service"), service);
        assert_eq!(place.file("nginx.socket"), FileState::Enabled);
        assert_eq!(place.file("www.service"), FileState::Alias);

        place.converge("nginx.service", &enabled(false)).expect("can be disabled");
        assert_eq!(place.target("/etc/systemd/system/www.service"), None);
        assert_eq!(place.file("nginx.service"), FileState::Disabled);
        assert_eq!(place.file("nginx.socket"), FileState::Disabled);
        assert_eq!(place.host.list(SYSTEM).expect("can be listed"), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_a_unit_file_may_be_relative() {
        for target in
            ["../../../usr/lib/systemd/system/ssh.service", "../../../../usr/./lib/systemd//system/ssh.service"]
        {
            let mut place = Place::new(&[
                ("/usr/lib/systemd/system/ssh.service", "[Install]\nWantedBy=multi-user.target\n"),
                ("/etc/systemd/system/ssh.service", &format!("-> {target}")),
            ]);
            assert_eq!(place.file("ssh.service"), FileState::Disabled, "{target}");
            place.converge("ssh.service", &enabled(true)).expect("can be enabled");
        }
    }

    #[test]
    fn an_instance_is_enabled_by_its_template() {
        let template = "[Install]\nWantedBy=multi-user.target\n";
        let mut place = Place::new(&[("/lib/systemd/system/app@.service", template)]);
        place.converge("app@one.service", &enabled(true)).expect("can be enabled");
        assert_eq!(
            place.target("/etc/systemd/system/multi-user.target.wants/app@one.service").as_deref(),
            Some("/lib/systemd/system/app@.service")
        );
        assert_eq!(place.file("app@two.service"), FileState::Disabled);
        assert_eq!(place.converge("app@.service", &Spec { enabled: Some(true), ..Spec::default() }).ok(), Some(()));
        let other = "[Install]\nWantedBy=multi-user.target\n";
        let mut place = Place::new(&[("/lib/systemd/system/bare@.service", other)]);
        assert_eq!(place.converge("bare@.service", &enabled(true)).expect_err("no instance").reason(), "cannot-enable");
    }

    #[test]
    fn a_unit_whose_package_is_still_to_come_is_deferred() {
        let mut place = Place::new(&[]);
        let seen = observe(&place.host, &["nginx.service"]).remove(0).expect("nothing there is an answer");
        assert!(seen.is_absent());
        assert_eq!(place.converge("nginx.service", &enabled(true)).expect_err("no file").reason(), "deferred");
        place.converge("nginx.service", &enabled(false)).expect("absent is off");
    }

    #[test]
    fn masks_are_links_to_dev_null_and_never_replace_a_file() {
        let mut place = Place::new(&[
            ("/usr/lib/systemd/system/nginx.service", NGINX),
            ("/usr/lib/systemd/system/nginx.socket", "[Socket]\n"),
            ("/etc/systemd/system/own.service", "[Service]\n"),
        ]);
        let mask = Spec { masked: Some(true), ..Spec::default() };
        place.converge("nginx.service", &mask).expect("can be masked");
        assert_eq!(place.target("/etc/systemd/system/nginx.service").as_deref(), Some("/dev/null"));
        assert_eq!(place.converge("own.service", &mask).expect_err("a file").reason(), "unit-file-in-the-way");

        let undeclared = Spec { masked: None, ..enabled(true) };
        assert_eq!(place.converge("nginx.service", &undeclared).expect_err("masked").reason(), "masked");
        place.converge("nginx.service", &enabled(true)).expect("unmasked, then enabled");
    }

    #[test]
    fn static_units_and_drop_ins_are_understood() {
        let mut place = Place::new(&[
            ("/usr/lib/systemd/system/static.service", "[Service]\nExecStart=/bin/x\n"),
            ("/usr/lib/systemd/system/late.service", "[Service]\nExecStart=/bin/x\n"),
            ("/etc/systemd/system/late.service.d/install.conf", "[Install]\nWantedBy=late.target\n"),
            ("/etc/systemd/system/empty.service", ""),
            ("/etc/systemd/system/off.service", "-> /dev/null"),
        ]);
        assert_eq!(place.file("static.service"), FileState::Static);
        place.converge("static.service", &enabled(true)).expect("nothing to do");
        assert_eq!(place.file("empty.service"), FileState::Masked);
        assert_eq!(place.file("off.service"), FileState::Masked);
        place.converge("late.service", &enabled(true)).expect("its drop-in says where");
        assert!(place.target("/etc/systemd/system/late.target.wants/late.service").is_some());
    }

    #[test]
    fn nothing_but_links_is_ever_removed() {
        let mut place = Place::new(&[
            ("/usr/lib/systemd/system/a.service", "[Install]\nWantedBy=x.target\n"),
            ("/etc/systemd/system/x.target.wants/a.service", "a file, not a link"),
        ]);
        assert_eq!(place.file("a.service"), FileState::Disabled);
        let want = Spec { on_change: OnChange::None, ..enabled(false) };
        place.converge("a.service", &want).expect("nothing to do");
    }
}
