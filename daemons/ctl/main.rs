//! ipc-pipeline, the one command for people.
#![forbid(unsafe_code)]

mod export;
mod verify;
mod walk;

fn main() {}
