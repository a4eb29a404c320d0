//! ipc-report tells people: a line on standard output for the newest snapshot of the statistics.
#![forbid(unsafe_code)]

mod line;
mod printer;

use std::process::ExitCode;

use ipc_pipeline::daemon;
use ipc_pipeline::names::Role;

fn main() -> ExitCode {
    daemon::main(Role::Report, printer::run)
}
