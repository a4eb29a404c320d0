//! ipc-stat keeps exact statistics: a pure fold over what is durable, and nothing else.
#![forbid(unsafe_code)]

mod carried;
mod follower;
mod newest;
mod saver;
mod stale;

use std::process::ExitCode;

use ipc_pipeline::daemon;
use ipc_pipeline::names::Role;

fn main() -> ExitCode {
    daemon::main(Role::Stat, follower::run)
}
