//! Files are judged before they are installed: by the system's own judges, and by what the repository says. One that
//! fails is not installed, nor is any other of a set that a unit uses.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Applied, Ground, joined, set};
use crate::host::{Output, Program, Trial, Writer};
use crate::kinds::file::{self, Judge};
use crate::kinds::{Observed, Phase, Spec, unit};
use crate::model::{Id, Outcome, one_line};
use crate::plan::{Action, Plan, Step};
use crate::secret::Plain;

/// How long one judge may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the service manager may take besides, to run it.
const BESIDES: Duration = Duration::from_secs(20);
/// What is said goes nowhere; addresses of this host can be bound to, and names asked for here, as servers do when they
/// judge their own configuration. Where the kernel cannot filter so, systemd goes without; systemd.resource-control(5).
const NOTHING_LEAVES: &[&str] = &["IPAddressDeny=any", "IPAddressAllow=localhost"];
/// For what has no business with one at all.
const NO_NETWORK: &[&str] = &["PrivateNetwork=yes"];
/// Where sshd was never started by its unit it has no directory for its unprivileged half.
const FOR_SSHD: &[&str] = &["RuntimeDirectory=sshd", "RuntimeDirectoryPreserve=yes", "RuntimeDirectoryMode=0755"];
/// The word for what was judged and failed.
pub const FAILED: &str = "validation-failed";

/// Judges what the steps of these phases are to install. What fails is noted as failed, and the others of its set as
/// skipped: neither is tried then.
pub(super) fn validate(ground: &mut Ground<'_>, plan: &Plan, phases: &[Phase], applied: &mut Applied) {
    // In a directory there is nothing that could run a command.
    if ground.settled || !ground.host.is_machine() {
        return;
    }
    let due = |step: &&Step| phases.contains(&step.phase) && !applied.outcomes.contains_key(&step.id);
    let due: Vec<&Step> = plan.steps.iter().filter(due).collect();
    let mut failed = BTreeMap::new();
    let units = judge(ground, &due, &mut failed);
    joined::judge(ground, &due, &mut failed);
    judge_units(ground, &units, &mut failed);
    for (id, because) in whole_sets(ground, plan, &failed) {
        applied.outcomes.entry(id).or_insert(Outcome::Skipped { because });
    }
    for (id, message) in failed {
        applied.outcomes.insert(id, Outcome::Failed { reason: FAILED.to_owned(), message });
    }
}

/// A new unit file or drop-in, to be judged with the others.
struct NewUnit<'p> {
    id: &'p Id,
    name: &'p str,
    content: Plain,
    secret: bool,
}

/// Judges each file by itself; gives back the unit files, which are judged together.
fn judge<'p>(ground: &mut Ground<'_>, due: &[&'p Step], failed: &mut BTreeMap<Id, String>) -> Vec<NewUnit<'p>> {
    let mut units = Vec::new();
    for step in due {
        if !has_new_content(step) {
            continue;
        }
        let Spec::File(spec) = &step.want else { continue };
        // Whoever reads it knows it by this name.
        let path = step.seen.known_as(&step.id);
        let judges = file::judges(path, spec);
        if judges.is_empty() || ground.host.interrupted() {
            continue;
        }
        // What is not to be had fails when it is to be written.
        let content = file::content(ground.host, ground.payloads, step.id.name(), spec);
        let Ok(Some(content)) = content else { continue };
        for judge in judges {
            if judge == Judge::Unit {
                let name = file::unit_file(path).unwrap_or_default();
                units.push(NewUnit { id: &step.id, name, content: content.clone(), secret: step.secret });
            } else if let Err(why) = judged(ground.host, path, &content, &judge, step.secret) {
                failed.insert(step.id.clone(), why);
                break;
            }
        }
    }
    units
}

/// Whether `step` is going to install a content that is another than what stands there.
pub(super) fn has_new_content(step: &Step) -> bool {
    let Spec::File(file::Spec { what: file::What::Regular { content, .. }, .. }) = &step.want else { return false };
    let same = match &step.seen {
        Observed::File(file::Observed::Present(present)) => {
            matches!(&present.what, file::Standing::Regular { digest, .. } if digest == content)
        }
        _ => false,
    };
    // What stood there before was good enough then.
    !same && step.action != Action::LetGo
}

/// Whether `judge` accepts `content` at `path`, staged under its own name.
fn judged(host: &mut Writer, path: &str, content: &[u8], judge: &Judge, secret: bool) -> Result<(), String> {
    host.say(&format!("judging {path}"));
    let trial = host.trial().map_err(|error| error.chain())?;
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let staged = trial.put(name, content).map_err(|error| error.chain())?;
    let staged = staged.to_string_lossy().into_owned();
    let Some((command, properties)) = command(host, judge, &staged) else { return Ok(()) };
    let output = run(host, &command, properties)?;
    let said = said(&output, &trial, path);
    match output.status {
        0 => Ok(()),
        _ if *judge == Judge::Sshd && file::sshd_cannot_tell(&said) => Ok(()),
        // It may say the very line that it does not like.
        status if secret => Err(unsaid(&command[0], status)),
        status => Err(refusal(&command[0], &said, status)),
    }
}

/// How `judge` is asked about the file `staged`, and with which properties of the unit that it runs in; none where it is not
/// installed: then nobody reads the file either.
pub(super) fn command(host: &Writer, judge: &Judge, staged: &str) -> Option<(Vec<String>, &'static [&'static str])> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    Some(match judge {
        Judge::Declared(command) => (command.iter().map(|word| word.replace("{}", staged)).collect(), &[]),
        Judge::Sudoers if is_there(host, "/usr/sbin/visudo") => {
            (words(&["/usr/sbin/visudo", "-cf", staged]), NO_NETWORK)
        }
        Judge::Sshd if is_there(host, "/usr/sbin/sshd") => (words(&["/usr/sbin/sshd", "-t", "-f", staged]), FOR_SSHD),
        Judge::Sudoers | Judge::Sshd | Judge::Unit => return None,
    })
}

/// Whether the `validate` of a unit accepts what stands in place now.
/// Where `secret`, nothing of what it says is told.
pub(super) fn in_place(host: &mut Writer, command: &[String], secret: bool) -> Result<(), String> {
    host.say(&format!("judging with {}", one_line(&command.join(" "), 100)));
    let output = run(host, command, &[])?;
    let both = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    match output.status {
        0 => Ok(()),
        status if secret => Err(unsaid(&command[0], status)),
        status => Err(refusal(&command[0], &last_lines(&String::from_utf8_lossy(&both)), status)),
    }
}

pub(super) fn refusal(program: &str, said: &str, status: i32) -> String {
    let program = one_line(program, 100);
    if said.is_empty() {
        format!("{program} refuses it (exit status {status})")
    } else {
        format!("{program} refuses it: {said}")
    }
}

pub(super) fn unsaid(program: &str, status: i32) -> String {
    let program = one_line(program, 100);
    format!("{program} refuses it (exit status {status}); what it said is not shown, since it read a secret")
}

/// What was said last, which is why.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    one_line(&lines[lines.len().saturating_sub(6)..].join("; "), 600)
}

fn is_there(host: &Writer, path: &str) -> bool {
    host.look(path).is_ok_and(|found| found.is_some())
}

/// Runs a judge: with an environment of its own, without network, and ended with all that it started.
pub(super) fn run(host: &mut Writer, command: &[String], properties: &[&str]) -> Result<Output, String> {
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    // Where systemd is the service manager, see sd_booted(3).
    let alone = Program::new(program).args(arguments).limit(LIMIT);
    let booted = host.below_root("/run/systemd/system").is_dir();
    let program = if booted { in_unit(command, properties) } else { alone };
    host.run(&program.any_status()).map_err(|error| error.chain())
}

fn in_unit(command: &[String], properties: &[&str]) -> Program {
    let limit = format!("RuntimeMaxSec={}", LIMIT.as_secs());
    let mut run = Program::new("systemd-run").args(["--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]);
    run = run.arg("--description=Validation of trueup").limit(LIMIT + BESIDES);
    for property in [&limit, "KillMode=control-group"].iter().chain(NOTHING_LEAVES).chain(properties) {
        run = run.arg("-p").arg(*property);
    }
    run.arg("--setenv=LC_ALL=C.UTF-8").command_of_unit(command.iter().map(String::as_str))
}

/// What was said, of the file that is meant.
fn said(output: &Output, trial: &Trial, path: &str) -> String {
    let both = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    let text = String::from_utf8_lossy(&both);
    let staged = format!("{}/", trial.path().display());
    let real = path.rfind('/').map_or("", |at| &path[..=at]);
    last_lines(&text.replace(&staged, real))
}

/// Its status does not tell whether it judged; see systemd-analyze(1).
const VERIFY: &str = "/usr/bin/systemd-analyze verify --man=no \"$@\"; echo judged";
/// How what it prints ends then.
const JUDGED: &str = "judged\n";

/// Judges new unit files and drop-ins together, as they belong together; of a drop-in with the unit file that is there.
fn judge_units(ground: &mut Ground<'_>, units: &[NewUnit<'_>], failed: &mut BTreeMap<Id, String>) {
    if units.is_empty() || ground.host.interrupted() || !is_there(ground.host, "/usr/bin/systemd-analyze") {
        return;
    }
    ground.host.say("judging unit files");
    let found = stage_units(ground.host, units).and_then(|(trial, names)| {
        if names.is_empty() {
            return Ok(None);
        }
        let mut command: Vec<String> = ["/bin/sh", "-c", VERIFY, "sh"].iter().map(|&word| word.to_owned()).collect();
        command.extend(names.iter().map(|name| trial.path().join(name).to_string_lossy().into_owned()));
        let output = run(ground.host, &command, NO_NETWORK)?;
        match output.text().ends_with(JUDGED) {
            true => Ok(Some((output, trial))),
            false => Err(format!("systemd-analyze did not come to its end (exit status {})", output.status)),
        }
    });
    match found {
        Ok(None) => {}
        Ok(Some((output, trial))) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            for unit in units {
                let staged = trial.path().join(unit.name);
                let complaints = file::unit_complaints(&text, &staged.to_string_lossy(), unit.name);
                if !complaints.is_empty() && unit.secret {
                    failed.insert(
                        unit.id.clone(),
                        "systemd refuses it; what it said is not shown, since this is a secret".to_owned(),
                    );
                } else if !complaints.is_empty() {
                    let why = format!("systemd refuses it: {}", complaints.join("; "));
                    failed.insert(unit.id.clone(), one_line(&why, 600));
                }
            }
        }
        Err(why) => failed.extend(units.iter().map(|unit| (unit.id.clone(), format!("cannot be judged: {why}")))),
    }
}

/// Puts new unit files where they are judged; with the names of the units that are to be loaded.
fn stage_units(host: &Writer, units: &[NewUnit<'_>]) -> Result<(Trial, Vec<String>), String> {
    let trial = host.trial().map_err(|error| error.chain())?;
    let mut names = Vec::new();
    for unit in units {
        trial.put(unit.name, &unit.content).map_err(|error| error.chain())?;
        let name = unit.name.split_once(".d/").map_or(unit.name, |(of, _)| of);
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    // A drop-in alone is no unit; that of a unit nobody has cannot be judged.
    names.retain(|name| {
        let new = units.iter().any(|unit| unit.name == name);
        new || unit::DIRECTORIES.iter().any(|directory| {
            let there = host.read_following(&format!("{directory}/{name}"), 1 << 20);
            there.is_ok_and(|content| content.is_some_and(|content| trial.put(name, &content).is_ok()))
        })
    });
    Ok((trial, names))
}

/// What may not be installed since something of the same set failed: the files that one unit uses are installed
/// together or not at all. What is removed stays with the rest.
fn whole_sets(ground: &Ground<'_>, plan: &Plan, failed: &BTreeMap<Id, String>) -> BTreeMap<Id, Id> {
    let mut others = BTreeMap::new();
    if failed.is_empty() {
        return others;
    }
    let files = plan.steps.iter().map(|step| &step.id).filter(|id| id.kind() == "file").cloned().collect();
    for set in set::of_units(ground.desired, &plan.reads, &files) {
        let Some(because) = set.files.iter().find(|file| failed.contains_key(*file)) else { continue };
        let rest = set.files.iter().filter(|file| !failed.contains_key(*file));
        others.extend(rest.map(|file| (file.clone(), because.clone())));
    }
    others
}
