//! ipc-log makes every accepted entry durable, once and in order: the record is the truth.
#![forbid(unsafe_code)]

mod keeper;
mod recorder;
mod text;
mod writer;

use std::process::ExitCode;

use ipc_pipeline::daemon;
use ipc_pipeline::names::Role;

fn main() -> ExitCode {
    daemon::main(Role::Log, recorder::run)
}
