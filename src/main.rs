//! The `trueup` command: see [`trueup::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    trueup::cli::main()
}
