//! ipc-report tells people, or machines: lines on standard output for the newest snapshot of the statistics.
#![forbid(unsafe_code)]

mod alarms;
mod arrivals;
mod command;
mod csv;
mod feed;
mod json;
mod line;
mod output;
mod printer;
mod text;

use std::process::ExitCode;

use ipc_pipeline::daemon;
use ipc_pipeline::names::Role;

fn main() -> ExitCode {
    daemon::main(Role::Report, printer::run)
}
