//! The library of ipc-pipeline, in layers that only point down (tests/tidy.rs holds the allowed edges):
//! 0 `sys`; 1 pure logic; 2 named objects and files; 3 what every `main` needs.
#![deny(unsafe_code)]

pub mod address;
pub mod config;
pub mod decimal;
pub mod entry;
pub mod names;
pub mod sync;
