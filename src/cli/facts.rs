use std::fmt::Write as _;

use clap::Args;

use super::Ground;

/// What conditions and templates know of this host.
#[derive(Debug, Args)]
pub(super) struct Print {
    #[command(flatten)]
    ground: Ground,
}

impl Print {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let facts = self.ground.reader()?.facts()?;
        if self.ground.json {
            super::print_json(&facts)?;
            return Ok(0);
        }
        let mut out = String::new();
        let mut line = |name: &str, value: Option<String>| {
            let value = value.unwrap_or_else(|| "(not known)".to_owned());
            let _ = writeln!(out, "{:22} {}", format!("facts.{name}"), crate::model::one_line(&value, 200));
        };
        let os = facts.os.as_ref();
        line("os.id", os.map(|os| os.id.clone()));
        line("os.family", os.and_then(|os| os.family).map(|family| family.as_str().to_owned()));
        line("os.version", os.map(|os| os.version.clone()));
        line("os.codename", os.map(|os| os.codename.clone()));
        line("arch", facts.arch.clone());
        line("hostname", facts.hostname.clone());
        line("fqdn", facts.fqdn.clone());
        line("machine_id", facts.machine_id.clone());
        line("cpus", facts.cpus.map(|cpus| cpus.to_string()));
        line("memory_mib", facts.memory_mib.map(|memory| memory.to_string()));
        super::print(&out);
        Ok(0)
    }
}
