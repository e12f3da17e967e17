//! Sweeps that are too long for every run: of what they go through a sample is taken by a seed that is printed, and
//! can be given again as `TRUEUP_SEED`; all of it where `TRUEUP_LONG` is set, as `tests/long` does.

use std::fmt;
use std::process::Command;

/// Numbers that look as if thrown; Knuth's MMIX.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// By the seed that was given, else by that of these sources.
    pub fn new() -> Self {
        Self::of(Self::seed())
    }

    /// By this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed that was given, else one that the sources have of their own: what was seen green of them stays so, and the
    /// next are thrown anew. Said in either case.
    pub fn seed() -> u64 {
        let given = std::env::var("TRUEUP_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.or_else(of_these_sources).unwrap_or_else(|| u64::from(std::process::id()));
        println!("TRUEUP_SEED={seed}");
        seed
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// The beginning of the name that Git has for the sources that are checked out here.
fn of_these_sources() -> Option<u64> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD:src"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    u64::from_str_radix(std::str::from_utf8(&output.stdout).ok()?.get(..8)?, 16).ok()
}

/// Whether whole sweeps are asked for.
pub fn long() -> bool {
    std::env::var_os("TRUEUP_LONG").is_some()
}

/// `most` of `all`, in no order; all of it where that is asked for.
pub fn sample<T: fmt::Debug>(mut all: Vec<T>, most: usize) -> Vec<T> {
    if long() || all.len() <= most {
        return all;
    }
    let mut dice = Dice::new();
    for i in 0..most {
        let other = i + dice.below(all.len() - i);
        all.swap(i, other);
    }
    all.truncate(most);
    all
}
