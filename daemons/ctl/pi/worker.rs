//! One of the processes that compute.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use ipc_pipeline::daemon::EXIT_SYSTEM;

use super::fault::Fault;
use super::run::Job;
use super::sums::message;
use super::{Via, series};

/// The environment variable with the tag of the run: arguments are seen by every user.
pub const TAG: &str = "IPC_PIPELINE_PI_TAG";

/// Computes the share of worker `index` and sends it; the exit code. What goes wrong is told on standard error, which
/// whoever gathers reads.
pub fn work(job: Job, index: u32, via: Option<Via>, at: &str) -> u8 {
    match send(job, index, via, at) {
        Ok(()) => 0,
        Err(fault) => {
            let _ = io::stderr().write_all(format!("{}\t{}\n", fault.said, fault.remedy).as_bytes());
            EXIT_SYSTEM
        }
    }
}

fn send(job: Job, index: u32, via: Option<Via>, at: &str) -> Result<(), Fault> {
    let tag = std::env::var(TAG).ok().and_then(|tag| tag.parse().ok());
    let (Some(tag), Some(via), true) = (tag, via, index < job.workers) else {
        return Err(Fault::new("a worker is started by `ipc-pipeline pi` only", "leave out --worker"));
    };
    let sum = series::sum(series::share(index, job.workers, job.terms));
    via.send(at, &message(tag, index, sum), sum).map_err(|e| {
        Fault::system(via, format_args!("send the sum of worker {index} over {}", via.name()), &e)
    })
}
