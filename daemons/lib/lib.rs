//! The library of ipc-pipeline, in layers that only point down (tests/tidy.rs holds the allowed edges):
//! 0 `sys`; 1 pure logic; 2 named objects and files; 3 what every `main` needs.
#![deny(unsafe_code)]

pub mod audit;
pub mod checkpoint;
pub mod entry;
pub mod exact;
pub mod fields;
pub mod fold;
pub mod snapshot;
pub mod sync;
