//! What was measured, for people.

use std::fmt::Write;
use std::{fs, iter};

use super::Passes;
use super::agent::Agent;
use super::floor::{Floor, Part};
use super::peers::Peer;

/// The machine, in one line.
pub fn machine(systemctl_version: &str) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches(['\t', ' ', ':']));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = rustix::system::uname();
    let systemd = systemctl_version.split_whitespace().nth(1).unwrap_or("?");
    format!(
        "trueup {} on {count} × {model}, Linux {}, systemd {systemd}; medians.",
        env!("CARGO_PKG_VERSION"),
        kernel.release().to_string_lossy()
    )
}

/// One size: what trueup took, what others took, what the floor took, and how they compare.
pub fn table(n: usize, passes: &Passes, floors: &[Floor], peers: &[(Peer, Passes)]) -> String {
    let mut out = format!("| W({n}) | wall, ms | CPU, ms | peak memory, MB |\n| --- | ---: | ---: | ---: |\n");
    let mut row = |what: &str, wall: f64, cpu: f64, peak: Option<u64>| {
        let peak = peak.map_or(String::new(), |kib| format!("{:.1}", kib as f64 * 1024.0 / 1e6));
        let _ = writeln!(out, "| {what} | {} | {} | {peak} |", number(wall), number(cpu));
    };
    let others = peers.iter().map(|(peer, passes)| (peer.name(), passes));
    for (who, passes) in iter::once(("**trueup**", passes)).chain(others) {
        let Passes { first, idle, repaired } = passes;
        for (what, took) in [("first convergence", first), ("nothing to do", idle), ("one file repaired", repaired)] {
            row(&format!("{who}, {what}"), took.wall, took.cpu, Some(took.peak));
        }
    }
    let (wall, cpu) = idle(floors, Part::Fresh);
    row("floor of nothing to do: the sum of what is marked ·", wall, cpu, None);
    let known = idle(floors, Part::Agent);
    row("floor of nothing to do in an agent: the sum of what is marked °", known.0, known.1, None);
    for floor in floors {
        row(&format!("floor: {}{}", floor.what, floor.part.mark()), floor.wall, floor.cpu, None);
    }
    let _ = writeln!(
        out,
        "\nNothing to do: {:.1} × the floor (wall), {:.1} × (CPU).",
        passes.idle.wall / wall,
        passes.idle.cpu / cpu
    );
    if let Some(grouped) = floors.iter().find(|floor| floor.what.contains("one syncfs")) {
        let _ = writeln!(out, "First convergence: {:.1} × the grouped floor (wall).", passes.first.wall / grouped.wall);
    }
    out
}

/// The agent, all sizes side by side.
pub fn agents(agents: &[(usize, Agent, Option<f64>)]) -> String {
    let mut out = String::from("| the agent |");
    for (n, ..) in agents {
        let _ = write!(out, " W({n}) |");
    }
    let _ = writeln!(out, "\n| --- |{}", " ---: |".repeat(agents.len()));
    let mut row = |what: &str, value: &dyn Fn(&Agent) -> String| {
        let values: String = agents.iter().map(|(_, agent, _)| format!(" {} |", value(agent))).collect();
        let _ = writeln!(out, "| {what} |{values}");
    };
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    for (k, when) in ["after its first pass", "after 60 polls"].into_iter().enumerate() {
        row(&format!("proportional set size, MB, {when}"), &|agent| megabytes(agent.rest.memory[k].pss));
        row("- of it no file", &|agent| megabytes(agent.rest.memory[k].own));
        row("- resident set size", &|agent| megabytes(agent.rest.memory[k].rss));
    }
    row("threads while it waits", &|agent| agent.rest.threads.to_string());
    row("wake-ups a minute without a poll", &|agent| format!("{:.1}", agent.rest.wakes));
    row("CPU a minute without a poll, ms", &|agent| format!("{:.2}", agent.rest.cpu));
    for (over, polls) in [("https", (|agent| &agent.https) as fn(&Agent) -> &_), ("`git://`", |agent| &agent.git)] {
        row(&format!("**a poll with nothing new** over {over}: CPU, ms"), &|agent| {
            number(polls(agent).agent + polls(agent).worker)
        });
        row("- of it the agent: the whole pass", &|agent| number(polls(agent).agent));
        row("- of it the fetch worker", &|agent| number(polls(agent).worker));
        row("- wall, ms", &|agent| number(polls(agent).took));
        row("- requests at the server", &|agent| format!("{:.1}", polls(agent).requests));
    }
    if agents.iter().all(|(.., floor)| floor.is_some()) {
        let _ = write!(out, "| its whole pass over `git://` beside the floor of one (CPU) |");
        for (_, agent, floor) in agents {
            let floor = floor.unwrap_or(f64::NAN);
            let _ =
                write!(out, " {} to {}: {:.1} × |", number(agent.git.agent), number(floor), agent.git.agent / floor);
        }
        out.push('\n');
    }
    out
}

/// What a pass with nothing to do cannot do without, together: wall and CPU.
pub fn idle(floors: &[Floor], of: Part) -> (f64, f64) {
    let parts = floors.iter().filter(|floor| floor.part == of || floor.part == Part::Both);
    parts.fold((0.0, 0.0), |(wall, cpu), floor| (wall + floor.wall, cpu + floor.cpu))
}

/// Three digits that say something.
fn number(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms >= 100.0 => format!("{ms:.0}"),
        ms if ms >= 10.0 => format!("{ms:.1}"),
        ms => format!("{ms:.2}"),
    }
}
