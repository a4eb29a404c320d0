//! `ipc-pipeline pi`: pi as sqrt(8 * sum of 1/(2k+1)^2), the sum computed by many processes and gathered over each mechanism
//! of the machine. A test of the machine's IPC: a mechanism that is missing, full or broken is said, and nothing is left.
#![forbid(unsafe_code)]

mod fault;
mod fifo;
mod file;
mod inherited;
mod mechanism;
mod mq;
mod place;
mod run;
mod series;
mod shm;
mod streams;
mod sums;
mod sysv;
mod worker;

use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ipc_pipeline::daemon::{EXIT_SYSTEM, Failure};
use serde_json::{Value, json};

pub use fault::Fault;
pub use mechanism::Via;
pub use run::{Job, Stop, compute};

use crate::say;

/// Examples and exit codes.
pub const HELP: &str = "Examples:
  ipc-pipeline pi
  ipc-pipeline pi --via mq --workers 100
  ipc-pipeline pi --terms 1000000000 --via pipe --json

With the default terms each mechanism gives 3.14159262176. Exit codes: 0 all did, 64 usage, 71 some did not.";

/// The table fits an ordinary terminal.
const WIDTH: u16 = 80;

/// The command line of `pi`.
#[derive(clap::Args)]
pub struct Args {
    /// Processes that compute
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// Terms of the sum; up to 2^52, so that 2k+1 is exact
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 52))]
    terms: u64,
    /// What the sums come over
    #[arg(long, value_name = "MECHANISM", default_value = ALL, value_parser = choices())]
    via: Choice,
    /// For machines: one JSON object
    #[arg(long)]
    json: bool,
    /// Be this worker
    #[arg(long, hide = true, value_name = "INDEX")]
    worker: Option<u32>,
    /// Where a worker finds the mechanism
    #[arg(long, hide = true, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    at: String,
}

/// Every mechanism.
const ALL: &str = "all";

/// One mechanism, or all of them.
#[derive(Clone, Copy)]
struct Choice(Option<Via>);

fn choices() -> impl TypedValueParser<Value = Choice> {
    PossibleValuesParser::new(Via::ALL.map(Via::name).into_iter().chain([ALL]))
        .map(|name| Choice(Via::ALL.into_iter().find(|via| via.name() == name)))
}

/// What came over one mechanism.
struct Outcome {
    via: Via,
    pi: Result<f64, Fault>,
    time: Duration,
}

/// The whole command.
pub fn command(args: &Args) -> Result<u8, Failure> {
    let job = Job { workers: args.workers, terms: args.terms };
    if let Some(index) = args.worker {
        return Ok(worker::work(job, index, args.via.0, &args.at));
    }
    let stop = Stop::listen()?;
    let vias = args.via.0.map_or(Via::ALL.to_vec(), |via| vec![via]);
    let outcomes: Vec<Outcome> = vias
        .into_iter()
        .map_while(|via| {
            let begin = Instant::now();
            let pi = compute(via, job, &stop);
            (!stop.is_asked()).then(|| Outcome { via, pi, time: begin.elapsed() })
        })
        .collect();
    stop.obey();
    say(&if args.json { machine(job, &outcomes) } else { people(&outcomes) })?;
    Ok(if outcomes.iter().all(|outcome| outcome.pi.is_ok()) { 0 } else { EXIT_SYSTEM })
}

fn people(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for Outcome { via, pi, time } in outcomes {
        let time = format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let said = match pi {
            Ok(pi) => format!("{pi:.11}"),
            Err(fault) => fault.to_string(),
        };
        table.add_row([via.name().to_owned(), time, said]);
    }
    if let Some(times) = table.column_mut(1) {
        times.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

fn machine(job: Job, outcomes: &[Outcome]) -> String {
    let one = |Outcome { via, pi, time }: &Outcome| {
        let fault = pi.as_ref().err();
        json!({
            "via": via.name(),
            // As text, as it is printed.
            "pi": pi.as_ref().ok().map(|pi| format!("{pi:.11}")),
            "time_ns": time.as_nanos() as u64,
            "said": fault.map_or("", |fault| &fault.said),
            "remedy": fault.map_or("", |fault| &fault.remedy),
        })
    };
    let results: Value = outcomes.iter().map(one).collect();
    format!("{:#}\n", json!({ "workers": job.workers, "terms": job.terms, "results": results }))
}
