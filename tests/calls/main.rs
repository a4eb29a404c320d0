//! T3: whatever system call a daemon makes, it may die there, or be refused there. strace does both, over shared memory and over
//! each kind of carrier; then everything must go on, and at the end everything is judged.
//!
//! `T3_KILLS` chooses how many kills each role gets on each carrier, `T3_ERRORS` how many errors each carrier gets, `T3_SEED`
//! which. `T3_ONLY="log pwrite64"` takes only such errors, `T3_FAULT="log pwrite64 ENOSPC 12+"` this one alone, on each carrier.
#![forbid(unsafe_code)]

#[path = "../checker/mod.rs"]
mod checker;
mod deck;
mod errors;
#[path = "../harness/mod.rs"]
mod harness;
mod kills;
mod possible;
#[path = "../scale.rs"]
mod scale;
mod tracer;
