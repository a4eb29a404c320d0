//! ipc-conv takes samples from its source on a fixed grid and publishes them in the spool.
#![forbid(unsafe_code)]

mod converter;
mod events;
mod lateness;
mod losses;
mod outages;
mod presence;
mod priority;
mod pump;
mod source;
mod wallclock;

use std::process::ExitCode;

use ipc_pipeline::daemon;
use ipc_pipeline::names::Role;

fn main() -> ExitCode {
    daemon::main(Role::Conv, converter::run)
}
