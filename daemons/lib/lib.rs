//! The library of ipc-pipeline, in layers that only point down (tests/tidy.rs holds the allowed edges):
//! 0 `sys`; 1 pure logic; 2 named objects and files; 3 what every `main` needs.
#![deny(unsafe_code)]

pub mod entry;
pub mod ring;
pub mod sync;

// Under loom only the ring itself is built, on loom's atomics.
#[cfg(not(loom))]
pub mod address;
#[cfg(not(loom))]
pub mod args;
#[cfg(not(loom))]
pub mod audit;
#[cfg(not(loom))]
pub mod block;
#[cfg(not(loom))]
pub mod carrier;
#[cfg(not(loom))]
pub mod checkpoint;
#[cfg(not(loom))]
pub mod compress;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod daemon;
#[cfg(not(loom))]
pub mod decimal;
#[cfg(not(loom))]
pub mod disk;
#[cfg(not(loom))]
pub mod edge;
#[cfg(not(loom))]
pub mod exact;
#[cfg(not(loom))]
pub mod fields;
#[cfg(not(loom))]
pub mod fold;
#[cfg(not(loom))]
pub mod grid;
#[cfg(not(loom))]
pub mod header;
#[cfg(not(loom))]
pub mod intake;
#[cfg(not(loom))]
pub mod journal;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod lock;
#[cfg(not(loom))]
pub mod logging;
#[cfg(not(loom))]
pub mod mark;
#[cfg(not(loom))]
pub mod messages;
#[cfg(not(loom))]
pub mod names;
#[cfg(not(loom))]
pub mod notify;
#[cfg(not(loom))]
pub mod objects;
#[cfg(not(loom))]
pub mod page;
#[cfg(not(loom))]
pub mod program;
#[cfg(not(loom))]
pub mod publisher;
#[cfg(not(loom))]
pub mod reader;
#[cfg(not(loom))]
pub mod record;
#[cfg(not(loom))]
pub mod recovery;
#[cfg(not(loom))]
pub mod register;
#[cfg(not(loom))]
pub mod reload;
#[cfg(not(loom))]
pub mod retention;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
pub mod segment_file;
#[cfg(not(loom))]
pub mod settings;
#[cfg(not(loom))]
pub mod sink;
#[cfg(not(loom))]
pub mod snapshot;
#[cfg(not(loom))]
pub mod spool;
#[cfg(not(loom))]
pub mod summary;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod syslog;
#[cfg(not(loom))]
pub mod text;
#[cfg(not(loom))]
pub mod timeline;
#[cfg(not(loom))]
pub mod wall;
