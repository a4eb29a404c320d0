//! Sources: where samples come from. One small type each behind one trait.
#![forbid(unsafe_code)]

mod aside;
mod command;
pub mod hwmon;
pub mod iio;
mod lines;
mod poll;
mod quiet;
mod random;
mod replay;
mod rows;
pub mod sensors;
mod wave;

use std::time::Duration;

use ipc_pipeline::config::{Config, Rate, SourceConfig};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::sys;

use aside::Aside;
use command::Command;
use hwmon::Hwmon;
use iio::Iio;
use lines::Lines;
use poll::Poll;
use quiet::Quiet;
use random::Random;
use replay::Replay;
use sensors::SensorReader;
use wave::Wave;

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
    /// The program that the configuration names is not there.
    #[error("cannot find the program {name:?} of source.command: install it, or give its path")]
    NoProgram {
        /// The program as configured.
        name: String,
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
        "{path} ends after {found} rows, but {wanted} of its rows are in the record already: it is not the file it was. Put the old one back, or use another instance --name for the new one"
    )]
    Shrunk {
        /// The path as configured.
        path: String,
        /// Rows that are there.
        found: u64,
        /// Rows that should be skipped.
        wanted: u64,
    },
}

impl From<SourceError> for Failure {
    /// What the system refused only for now is worth a new start; anything else somebody must mend first.
    fn from(e: SourceError) -> Failure {
        match &e {
            SourceError::Read { .. } => Failure::system(e),
            SourceError::Unusable { why, .. } if sys::is_momentary(why) => Failure::system(e),
            _ => Failure::config(e),
        }
    }
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
    let period_ps = match config.conv.rate {
        Rate::Every { period_ps } => period_ps,
        Rate::Max => 0,
    };
    let period = Duration::from_nanos(period_ps / 1000);
    Ok(match &config.source {
        SourceConfig::Random { min, max, seed } => Box::new(Random::new(*min, *max, *seed, decimals.len())),
        SourceConfig::Wave(wave) => Box::new(Wave::new(wave, period_ps, decimals.len())),
        SourceConfig::Lines { path, format, .. } => {
            let lines = Lines::open(path, format, &decimals)?;
            if lines.is_file() {
                Box::new(lines)
            } else {
                Box::new(Quiet::new(lines, path.display().to_string(), period))
            }
        }
        SourceConfig::Command { command, format, .. } => {
            let name = command.first().cloned().unwrap_or_default();
            Box::new(Quiet::new(Command::new(command, format, &decimals)?, name, period))
        }
        SourceConfig::Poll { files, columns } => {
            let poll = Poll::new(files, columns, &decimals);
            Box::new(Aside::new("poll", poll, decimals.len(), period)?)
        }
        SourceConfig::Hwmon(sensors) => {
            let hwmon = SensorReader::<Hwmon>::new(sensors, &decimals);
            Box::new(Aside::new("hwmon", hwmon, decimals.len(), period)?)
        }
        SourceConfig::Iio(sensors) => {
            let iio = SensorReader::<Iio>::new(sensors, &decimals);
            Box::new(Aside::new("iio", iio, decimals.len(), period)?)
        }
        SourceConfig::Replay { path, speed, .. } => Box::new(Replay::open(path, *speed, &decimals)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_new_start_may_mend_is_started_again() {
        let code = |errno| {
            let why = std::io::Error::from_raw_os_error(errno);
            Failure::from(SourceError::Unusable { path: "in.txt".into(), why }).code
        };
        let (missing, forbidden, device_fails, no_memory, no_descriptor) = (2, 13, 5, 12, 24);
        assert_eq!([missing, forbidden].map(code), [78, 78]);
        assert_eq!([device_fails, no_memory, no_descriptor].map(code), [71, 71, 71]);
    }
}
