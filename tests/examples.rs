//! Every example compiles and converges, each of its hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn trueup(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trueup")).args(arguments).output().expect("it runs")
}

/// The directories below `examples/` that are fleet repositories.
fn fleets() -> Vec<PathBuf> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let below = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).expect("examples").map(|entry| entry.expect("readable").path()).collect()
    };
    let found = below(&examples);
    let deeper = found.iter().filter(|path| path.is_dir()).flat_map(|path| below(path));
    found.iter().cloned().chain(deeper).filter(|path| path.join("trueup.toml").exists()).collect()
}

/// A copy outside of any Git repository, so that it is read as it stands.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success());
}

#[test]
fn every_host_of_every_example_is_checked_and_converges_and_stays_so() {
    let fleets = fleets();
    for known in ["examples/fleet", "examples/demo/fleet"] {
        assert!(fleets.iter().any(|fleet| fleet.ends_with(known)), "{known} is no longer there: {fleets:?}");
    }
    for fleet in fleets {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let copied = scratch.path().join("fleet");
        copy(&fleet, &copied);
        let repo = copied.to_str().expect("text");

        let checked = trueup(&["check", repo, "--json"]);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
        let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let hosts = checked["hosts"].as_array().expect("hosts");
        assert!(!hosts.is_empty(), "{repo} has no host");

        for host in hosts {
            let name = host["name"].as_str().expect("a name");
            let root = scratch.path().join(name);
            fs::create_dir(&root).expect("made");
            let run = ["run", "--repo", repo, "--host", name, "--root", root.to_str().expect("text"), "--json"];
            let first = trueup(&run);
            assert_eq!(first.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&first.stdout));
            let second: serde_json::Value = serde_json::from_slice(&trueup(&run).stdout).expect("JSON");
            assert_eq!(second["state"], "in-sync", "{name}");
            assert_eq!(second["steps"].as_array().map(Vec::len), Some(0), "{name}: {second:#}");
            assert!(root.join("etc/motd").exists(), "{name} has what its roles declare");
        }
    }
}
