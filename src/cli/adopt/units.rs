//! How a unit is, as a declaration says it. Pure.

use super::manifest::{Said, Says};
use crate::kinds::unit::{Active, FileState, Load, Observed};

/// What there is to say of a unit. What is `None` is left unsaid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) enabled: Option<bool>,
    pub(super) active: Option<bool>,
    pub(super) masked: Option<bool>,
}

/// What there is to say of a unit that was found like this. `triggered`: a socket, timer or path unit starts it.
///
/// # Errors
/// Why nothing can be said: the reason word, and a line for people.
pub(super) fn state(seen: &Observed, triggered: bool) -> Result<State, (&'static str, &'static str)> {
    if seen.is_absent() {
        return Err(("no-such-unit", "there is no unit of this name here"));
    }
    if seen.file == FileState::Masked {
        return match seen.is_active() {
            true => Err(("unit-state", "it is masked, and runs all the same: stop it, or unmask it")),
            false => Ok(State { masked: Some(true), ..State::default() }),
        };
    }
    if seen.is_masked() {
        return Err(("unit-state", "it is masked until the next reboot only, which cannot be declared"));
    }
    match (seen.file, seen.load) {
        (FileState::Alias, _) => return Err(("unit-state", "it is another name of a unit: name that one")),
        (FileState::Transient, _) => {
            return Err(("unit-state", "a program made it while the system runs; nothing makes it again"));
        }
        (FileState::Bad, _) | (_, Load::BadSetting | Load::Error) => {
            return Err(("unit-state", "systemd cannot read it; see systemctl status"));
        }
        _ => {}
    }
    let enabled = match seen.file {
        FileState::Enabled => Some(true),
        FileState::Disabled => Some(false),
        // Others have nothing to enable, or are so until the next reboot.
        _ => None,
    };
    let active = match seen.active {
        Some(active) if active.is_active() => Some(true),
        // What runs now and then is not active in between, and is not to be stopped when it is. Whether a unit whose
        // condition does not hold here would run elsewhere is not known.
        Some(Active::Inactive) if enabled.is_some() && !seen.oneshot && !triggered && !seen.condition_failed => {
            Some(false)
        }
        _ => None,
    };
    let state = State { enabled, active, masked: None };
    match state == State::default() {
        true => Err(("unit-state", "it is neither enabled nor running, and nothing of that is its own to say")),
        false => Ok(state),
    }
}

/// Whether somebody put the unit file `path` where only this boot has it, systemd.unit(5): no declaration brings it back.
/// What generators put there they put there again.
pub(super) fn goes_with_a_reboot(path: &str) -> bool {
    const RUN: [&str; 4] = [
        "/run/systemd/system/",
        "/run/systemd/system.attached/",
        "/run/systemd/system.control/",
        "/run/systemd/transient/",
    ];
    RUN.iter().any(|directory| path.starts_with(directory))
}

impl State {
    /// As an entry of `[units]`.
    pub(super) fn says(&self) -> Says {
        let word = |word: &str| Says::Word(word.to_owned());
        match (self.enabled, self.active, self.masked) {
            (Some(true), Some(true), None) => word("on"),
            (Some(false), Some(false), None) => word("off"),
            (None, None, Some(true)) => word("masked"),
            _ => self.attributes(),
        }
    }

    /// The same at length.
    pub(super) fn attributes(&self) -> Says {
        let said = [("enabled", self.enabled), ("active", self.active), ("masked", self.masked)];
        Says::Attributes(said.into_iter().filter_map(|(name, flag)| Some((name, Said::Flag(flag?)))).collect())
    }
}

/// The units that start `name` when they are set up to, by their usual names.
pub(super) fn triggers(name: &str) -> Vec<String> {
    let Some(stem) = name.strip_suffix(".service") else { return Vec::new() };
    ["socket", "timer", "path"].map(|kind| format!("{stem}.{kind}")).to_vec()
}

/// The names below /etc/systemd/system that its own files have: unit files, and directories of drop-ins. Those of the
/// service that a socket, timer or path starts are among them, without which it is nothing.
pub(super) fn files(name: &str) -> (Vec<String>, Vec<String>) {
    let template = name.rsplit_once('.').and_then(|(stem, kind)| {
        let (prefix, instance) = stem.split_once('@')?;
        (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
    });
    let started = name.rsplit_once('.').filter(|(_, kind)| ["socket", "timer", "path"].contains(kind));
    // A socket may start an instance for each connection.
    let started =
        started.map(|(stem, _)| [format!("{stem}.service"), format!("{}@.service", stem.trim_end_matches('@'))]);
    let names: Vec<String> =
        std::iter::once(name.to_owned()).chain(template).chain(started.into_iter().flatten()).collect();
    let drop_ins = names.iter().map(|name| format!("{name}.d")).collect();
    (names, drop_ins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(file: FileState, active: Active) -> Observed {
        Observed { load: Load::Loaded, file, ..Observed::nothing(Some(active)) }
    }

    fn said(seen: &Observed, triggered: bool) -> Result<String, &'static str> {
        let state = state(seen, triggered).map_err(|(reason, _)| reason)?;
        Ok(match state.says() {
            Says::Word(word) => word,
            Says::Attributes(said) => said.iter().map(|(name, flag)| format!("{name} {flag:?} ")).collect::<String>(),
        }
        .replace("Flag(", "")
        .replace(") ", " ")
        .trim()
        .to_owned())
    }

    #[test]
    fn a_unit_is_declared_as_it_is() {
        use Active::{Active as Runs, Failed, Inactive};
        use FileState::{Disabled, Enabled, EnabledRuntime, Generated, Indirect, Linked, None as NoFile, Static};
        for (file, active, wanted) in [
            (Enabled, Runs, Ok("on")),
            (Disabled, Inactive, Ok("off")),
            (Enabled, Inactive, Ok("enabled true active false")),
            (Disabled, Runs, Ok("enabled false active true")),
            (Enabled, Failed, Ok("enabled true")),
            (Static, Runs, Ok("active true")),
            (Indirect, Runs, Ok("active true")),
            (Generated, Runs, Ok("active true")),
            (Linked, Runs, Ok("active true")),
            (NoFile, Runs, Ok("active true")),
            (EnabledRuntime, Runs, Ok("active true")),
            (Static, Inactive, Err("unit-state")),
            (FileState::Alias, Runs, Err("unit-state")),
            (FileState::Transient, Runs, Err("unit-state")),
            (FileState::Bad, Inactive, Err("unit-state")),
            (FileState::Masked, Inactive, Ok("masked")),
            (FileState::Masked, Runs, Err("unit-state")),
            (FileState::MaskedRuntime, Inactive, Err("unit-state")),
        ] {
            assert_eq!(said(&seen(file, active), false).as_deref(), wanted.as_ref().copied(), "{file:?} {active:?}");
        }
        let mut absent = seen(NoFile, Inactive);
        absent.load = Load::NotFound;
        assert_eq!(said(&absent, false), Err("no-such-unit"));
    }

    #[test]
    fn what_runs_now_and_then_is_not_declared_inactive() {
        let seen = seen(FileState::Disabled, Active::Inactive);
        assert_eq!(said(&seen, true).as_deref(), Ok("enabled false"));
        assert_eq!(said(&Observed { oneshot: true, ..seen.clone() }, false).as_deref(), Ok("enabled false"));
        assert_eq!(said(&Observed { condition_failed: true, ..seen.clone() }, false).as_deref(), Ok("enabled false"));
        // Below a directory nothing runs.
        assert_eq!(said(&Observed { active: None, ..seen }, false).as_deref(), Ok("enabled false"));
    }

    #[test]
    fn a_unit_file_in_run_is_gone_after_a_reboot_unless_a_generator_made_it() {
        assert!(goes_with_a_reboot("/run/systemd/system/runt.service"));
        assert!(goes_with_a_reboot("/run/systemd/transient/run-1.service"));
        for stays in
            ["/run/systemd/generator/srv.mount", "/usr/lib/systemd/system/a.service", "/etc/systemd/system/a.service"]
        {
            assert!(!goes_with_a_reboot(stays), "{stays}");
        }
    }

    #[test]
    fn its_files_are_its_own_and_its_template_s() {
        assert_eq!(files("a.service"), (vec!["a.service".to_owned()], vec!["a.service.d".to_owned()]));
        assert_eq!(files("a@b.service").0, ["a@b.service", "a@.service"]);
        assert_eq!(files("a@.service").1, ["a@.service.d"]);
        assert_eq!(files("a.timer").0, ["a.timer", "a.service", "a@.service"]);
        assert_eq!(triggers("a@b.service"), ["a@b.socket", "a@b.timer", "a@b.path"]);
        assert_eq!(triggers("a.timer"), Vec::<String>::new());
    }
}
