//! What units read whenever they start, by their own settings: environment files and credentials. systemd itself is
//! asked, which has read unit file and drop-ins and filled in the specifiers, and only once something is to change: a
//! look at a host with nothing to do does not pay for it.

use std::collections::BTreeMap;

use globset::escape;

use super::{Load, OnChange, name};
use crate::host::{Error, Reader, StartFiles};
use crate::kinds::{Observed, Spec};
use crate::model::Id;

/// Where systemd looks for a credential that is no path; systemd.exec(5).
const STORES: [&str; 4] = ["/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"];

/// Adds to what was seen of each unit that is `wanted` the files that it reads as it starts, as far as these may move it
/// or are judged with the others that it uses.
/// Those that systemd does not tell of have their error from now on, and are the answer.
pub fn add<'d>(
    host: &Reader,
    wanted: impl Iterator<Item = (&'d Id, &'d Spec)>,
    observed: &mut BTreeMap<Id, Result<Observed, Error>>,
) -> Vec<Id> {
    let Some(bus) = host.bus().ok().filter(|_| host.is_machine()) else { return Vec::new() };
    let matters = |(id, spec): &(&Id, &Spec)| match (spec, observed.get(id)) {
        (Spec::Unit(want), Some(Ok(Observed::Unit(seen)))) => {
            let matters = want.on_change != OnChange::None || !want.validate.is_empty();
            matters && seen.load == Load::Loaded && !name::is_template(id.name())
        }
        _ => false,
    };
    let units: Vec<&Id> = wanted.filter(matters).map(|(id, _)| id).collect();
    let names: Vec<&str> = units.iter().map(|id| id.name()).collect();
    let mut untold = Vec::new();
    for (id, files) in units.into_iter().zip(bus.start_files(&names)) {
        let Some(seen) = observed.get_mut(id) else { continue };
        match (files, seen) {
            (Ok(files), Ok(Observed::Unit(seen))) => {
                let canonical = |pattern: String| host.canonical(&pattern).unwrap_or(pattern);
                seen.start_files = patterns(&files).into_iter().map(canonical).collect();
            }
            (Err(error), seen) => {
                *seen = Err(error);
                untold.push(id.clone());
            }
            (Ok(_), _) => {}
        }
    }
    untold
}

/// The patterns of the paths of all of them.
fn patterns(files: &StartFiles) -> Vec<String> {
    let mut all: Vec<String> = files.environment.iter().map(|path| as_ours(path)).collect();
    for (names, ending) in [(&files.credentials, ""), (&files.encrypted, ".encrypted")] {
        for path in names {
            let stored = |store: &str| escape(&format!("{store}{ending}/{path}"));
            let places = match path.starts_with('/') {
                true => vec![escape(path)],
                false => STORES.into_iter().map(stored).collect(),
            };
            // A directory is loaded with all that is in it.
            all.extend(places.iter().map(|place| format!("{place}/**")));
            all.extend(places);
        }
    }
    // From whichever store has one of that name, encrypted or not.
    for names in &files.imported {
        let names = as_ours(names);
        all.extend(STORES.iter().flat_map(|store| ["", ".encrypted"].map(|ending| format!("{store}{ending}/{names}"))));
    }
    all
}

/// A pattern of glob(7) as one of ours: there, braces are nothing special, and two stars no more than one.
fn as_ours(glob: &str) -> String {
    let mut ours = String::with_capacity(glob.len());
    for letter in glob.chars() {
        match letter {
            '*' if ours.ends_with('*') => {}
            '{' | '}' => ours.extend(['[', letter, ']']),
            other => ours.push(other),
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::pattern;

    fn matches(files: &StartFiles, path: &str) -> bool {
        patterns(files).iter().any(|text| pattern(text).expect("a pattern").compile_matcher().is_match(path))
    }

    #[test]
    fn an_environment_file_may_be_a_pattern_of_systemds() {
        let environment = ["/etc/default/app", "/etc/app/**/*.env", "/etc/{a,b}", "/etc/[xy].env"];
        let files = StartFiles { environment: environment.map(str::to_owned).to_vec(), ..StartFiles::default() };
        for used in ["/etc/default/app", "/etc/app/one/1.env", "/etc/{a,b}", "/etc/x.env"] {
            assert!(matches(&files, used), "{used}");
        }
        for other in
            ["/etc/default/app2", "/etc/default", "/etc/app/1.env", "/etc/app/one/two/1.env", "/etc/a", "/etc/z.env"]
        {
            assert!(!matches(&files, other), "{other}");
        }
    }

    #[test]
    fn a_credential_is_a_file_a_directory_or_a_name_in_the_stores() {
        let credentials = ["/etc/app/*key", "/etc/app.d", "token"].map(str::to_owned).to_vec();
        let (encrypted, imported) = (vec!["sealed".to_owned()], vec!["web.*".to_owned(), "whole".to_owned()]);
        let files = StartFiles { credentials, encrypted, imported, ..StartFiles::default() };
        for used in [
            "/etc/app/*key",
            "/etc/app.d/a/b",
            "/etc/credstore/token",
            "/usr/lib/credstore/token/part",
            "/etc/credstore.encrypted/sealed",
            "/etc/credstore/web.key",
            "/usr/lib/credstore.encrypted/web.key",
            "/run/credstore/whole",
        ] {
            assert!(matches(&files, used), "{used}");
        }
        for other in [
            "/etc/app/akey",
            "/etc/credstore/other",
            "/etc/credstore/sealed",
            "/etc/credstore.encrypted/token",
            "/etc/credstore/webkey",
            "/etc/credstore/web.d/key",
        ] {
            assert!(!matches(&files, other), "{other}");
        }
    }
}
