use super::{Refusal, proxy::FileRow};
use crate::host::{Error, Writer};

/// What a batch of changes to unit files came to: each name's answer, and whether any link may have
/// changed, so that a daemon-reload is due.
pub type UnitFileResults = (Vec<Result<(), Error>>, bool);

impl Writer {
    /// Makes systemd read its unit files again.
    ///
    /// # Errors
    /// Where it cannot be asked or does not answer.
    pub fn daemon_reload(&mut self) -> Result<(), Error> {
        let bus = self.bus()?;
        self.say("reloading systemd's unit files");
        bus.runtime.block_on(bus.manager.reload()).map_err(|error| Error::Unit {
            thing: "systemd".to_owned(),
            what: "daemon-reload",
            why: Refusal::from(error).text,
        })
    }

    /// Has systemd forget that these failed. What it does not know has not.
    pub fn reset_failed_units(&mut self, names: &[&str]) {
        if let Ok(bus) = self.bus() {
            bus.all(names.iter().map(|name| bus.manager.reset_failed_unit(name)));
        }
    }

    /// Makes the links of each unit's `[Install]` section. Links in the way, of an alias, are replaced.
    pub fn enable_units(&mut self, names: &[&str]) -> UnitFileResults {
        self.unit_files("enable", names, async |manager, names| {
            manager.enable_unit_files(names, false, true).await.map(|(_, rows)| rows)
        })
    }

    /// Removes every link to each unit; `runtime` means those in /run, which a reboot forgets.
    pub fn disable_units(&mut self, names: &[&str], runtime: bool) -> UnitFileResults {
        self.unit_files("disable", names, async |manager, names| manager.disable_unit_files(names, runtime).await)
    }

    /// Links each unit to /dev/null. A unit file that stands in /etc/systemd/system is never replaced.
    pub fn mask_units(&mut self, names: &[&str]) -> UnitFileResults {
        self.unit_files("mask", names, async |manager, names| manager.mask_unit_files(names, false, false).await)
    }

    /// Removes the links to /dev/null, those in /run too.
    pub fn unmask_units(&mut self, names: &[&str]) -> UnitFileResults {
        let (mut results, changed) =
            self.unit_files("unmask", names, async |manager, names| manager.unmask_unit_files(names, false).await);
        let runtime =
            self.unit_files("unmask", names, async |manager, names| manager.unmask_unit_files(names, true).await);
        for (result, also) in results.iter_mut().zip(runtime.0) {
            if result.is_ok() {
                *result = also;
            }
        }
        (results, changed || runtime.1)
    }

    /// One call for all names; where it is refused, one for each, so that each answers for itself.
    fn unit_files(
        &mut self,
        what: &'static str,
        names: &[&str],
        call: impl AsyncFn(&super::proxy::ManagerProxy<'static>, &[&str]) -> zbus::Result<Vec<FileRow>>,
    ) -> UnitFileResults {
        if names.is_empty() {
            return (Vec::new(), false);
        }
        let bus = match self.bus() {
            Ok(bus) => bus,
            Err(error) => return (super::jobs::nobody(names, what, &error.to_string()), false),
        };
        if let Ok(rows) = bus.runtime.block_on(call(&bus.manager, names)) {
            return (names.iter().map(|_| Ok(())).collect(), !rows.is_empty());
        }
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let answer = bus.runtime.block_on(call(&bus.manager, &[name]));
            results.push(answer.map(drop).map_err(|error| Refusal::from(error).refused(name, what)));
        }
        // A batch that was refused may have been done in part, which no answer tells.
        (results, true)
    }
}
