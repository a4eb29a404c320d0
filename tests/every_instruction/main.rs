//! Suite T2: a kill at every instruction. A role runs as a child that is single-stepped; between any two of its
//! instructions the parent judges what a SIGKILL would leave. Then it is really killed, over and over, and a next life
//! goes on.
//!
//! Random kills miss windows of a few instructions; stepping does not.

mod abandon;
mod checkpoint;
mod directory;
mod life;
mod record;
#[path = "../scale.rs"]
mod scale;
mod spool;
