//! Which installed packages provide a name, as rpm has it.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{newest_file, sound};
use super::is_name;
use crate::host::{Error, Output, Program, Reader};

/// By which name it is remembered.
const REMEMBERED: &str = "what rpm's packages provide";

/// The names that were asked for, and who provides them.
type Answer = (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>);

/// By name, the installed packages that provide one of `names`.
pub fn provided(host: &Reader, names: &BTreeSet<&str>) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let asked: BTreeSet<String> = names.iter().filter(|name| is_name(name)).map(|name| (*name).to_owned()).collect();
    let ask = || -> Result<Answer, Error> {
        let mut all = BTreeMap::new();
        for name in &asked {
            // One a question: of several nothing tells which line is whose.
            let query =
                Program::new("rpm").args(["-q", "--whatprovides", "--qf", "%{NAME}\\n", "--", name]).any_status();
            let by = answer(&host.query(&query)?).map_err(|why| Error::Unknown { thing: "rpm".to_owned(), why })?;
            all.insert(name.clone(), by);
        }
        Ok((asked.clone(), all))
    };
    let Some(file) = newest_file(host)? else { return Ok(ask()?.1) };
    let mut known = host.found_in(REMEMBERED, &file, ask)?;
    if known.0 != asked {
        // Of several questions the last is remembered.
        host.forget_found(REMEMBERED);
        known = host.found_in(REMEMBERED, &file, ask)?;
    }
    Ok(known.1.clone())
}

/// The names of packages; none where rpm says that none provides it.
fn answer(output: &Output) -> Result<BTreeSet<String>, String> {
    sound(output)?;
    match output.status {
        0 => Ok(output.text().lines().map(str::to_owned).collect()),
        _ => Ok(BTreeSet::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_provides_a_name_is_read_and_nobody_is_nobody() {
        let output =
            |status, stdout: &str, stderr: &str| Output { status, stdout: stdout.into(), stderr: stderr.into() };
        assert_eq!(answer(&output(0, "postfix\n", "")), Ok(BTreeSet::from(["postfix".to_owned()])));
        assert_eq!(answer(&output(1, "no package provides mail\n", "")), Ok(BTreeSet::new()));
        assert!(answer(&output(1, "", "error: cannot open Packages database\n")).is_err());
    }
}
