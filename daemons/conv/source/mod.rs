//! Sources: where samples come from. One small type each behind one trait.
#![forbid(unsafe_code)]

mod lines;
mod random;

use ipc_pipeline::config::{Config, SourceConfig};

pub use lines::Lines;
pub use random::Random;

/// What a source gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Supply {
    /// So many rows at the start of the buffer, at least one.
    Rows(usize),
    /// The next row is no row of samples; the sentence says where and what.
    Bad(String),
    /// A source that is read at each tick has no reading now; the sentence says why.
    Unread(String),
    /// Nothing at the moment.
    Nothing,
    /// There will be no more.
    End,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the configuration names is not there or cannot be a source.
    #[error(
        "cannot use source.path {path}: {why}; a relative path begins in the directory in which the daemon was started"
    )]
    Unusable {
        /// The path as configured.
        path: String,
        /// The reason given.
        why: std::io::Error,
    },
    /// Reading failed on the way.
    #[error("cannot read {path}: {why}")]
    Read {
        /// The path as configured.
        path: String,
        /// The reason given.
        why: std::io::Error,
    },
    /// A replayable source has become shorter.
    #[error(
        "{path} ends after {found} lines, but {wanted} of its lines are in the record already: it is not the file it was. Put the old one back, or use another instance --name for the new one"
    )]
    Shrunk {
        /// The path as configured.
        path: String,
        /// Lines that are there.
        found: u64,
        /// Lines that should be skipped.
        wanted: u64,
    },
}

/// Something that gives rows of samples, one for each tick: a sample of each channel, in their order.
pub trait Source {
    /// Goes to row `row`, from 0, as far as the source can: a pipe goes on wherever it is.
    fn seek(&mut self, row: u64) -> Result<(), SourceError>;

    /// The rows from the present one on, as many as `out` takes, which is a whole number of them; never blocks.
    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError>;
}

/// The source that the configuration names.
pub fn open(config: &Config) -> Result<Box<dyn Source>, SourceError> {
    let decimals: Vec<u8> = config.channels.iter().map(|channel| channel.decimals).collect();
    Ok(match &config.source {
        SourceConfig::Random { min, max, seed } => Box::new(Random::new(*min, *max, *seed, decimals.len())),
        SourceConfig::Lines { path, .. } => Box::new(Lines::open(path, &decimals)?),
    })
}
