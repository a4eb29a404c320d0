//! `ipc-pipeline bench`: how fast this machine carries messages from one process to another, by every way it has.
#![forbid(unsafe_code)]

mod bars;
mod child;
mod control;
mod curves;
mod entries;
mod job;
mod kernel;
mod like_2017;
mod limits;
mod mechanism;
mod memory;
mod pair;
mod probe;
mod queues;
mod room;
mod show;
mod statistics;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_pipeline::args::EXIT_USAGE;
use ipc_pipeline::daemon::{EXIT_SYSTEM, Failure};
use ipc_pipeline::logging;

use self::entries::Carried;
use self::job::{Job, Task};
use self::kernel::Kernel;
use self::limits::Limits;
use self::mechanism::{LINE, MESSAGE_MAX, Mechanism, SMALLEST};
use self::memory::{Locked, Spool};
use self::pair::Reports;
use self::queues::{Appended, Mq, Signals, Sysv};
use self::statistics::{PERCENTS, Spread};
use crate::progress::Bar;
use crate::say;

pub const HELP: &str = "Examples:
  ipc-pipeline bench
  ipc-pipeline bench --only pipe,mq,ring --json
  ipc-pipeline bench --only mq,unix-seqpacket --sizes 512,4096,8192

Each figure is the median of several samples between two processes, each on a processor of its own
where there are two. Every byte is written and checked. Figures of a machine that does something
else at the same time are lower bounds.

Exit codes: 0 everything was measured, 71 something could not be; the rest was.";

/// What the user asks for.
#[derive(clap::Args)]
pub struct Args {
    /// Only these, with commas between: see the first column
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Bytes of a message, with commas between: multiples of 32 up to 65536 (32: single entries of the ring and our carriers); what a mechanism cannot carry is left out
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,1024,65536", value_parser = size)]
    sizes: Vec<usize>,
    /// Few and short samples: to see that all works, not how fast
    #[arg(long)]
    quick: bool,
    /// For machines: one JSON object
    #[arg(long)]
    json: bool,
    /// For spreadsheets: one line for each figure
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Draw the figures into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Repeat a known experiment with Python instead: 8 MiB in messages of 1 KiB
    #[arg(long, conflicts_with_all = ["only", "sizes", "csv", "plot"])]
    like_2017: bool,
    /// One of the two processes of a sample
    #[arg(long, hide = true, value_name = "WHO")]
    child: Option<String>,
}

/// Whole entries.
fn size(text: &str) -> Result<usize, String> {
    let is_size = |n: &usize| (SMALLEST..=MESSAGE_MAX).contains(n) && n.is_multiple_of(SMALLEST);
    text.parse().ok().filter(is_size).ok_or_else(|| "a multiple of 32, from 32 to 65536, is allowed".into())
}

/// How much is measured.
struct Effort {
    sizes: Vec<usize>,
    rounds: usize,
    stream: Duration,
    round_trips: u64,
    wake_ups: u64,
    limits: Duration,
}

impl Effort {
    fn of(quick: bool, sizes: &[usize]) -> Effort {
        let sizes = sizes.to_vec();
        if quick {
            let (stream, limits) = (Duration::from_millis(10), Duration::from_millis(2));
            Effort { sizes, rounds: 1, stream, round_trips: 60, wake_ups: 30, limits }
        } else {
            let (stream, limits) = (Duration::from_millis(200), Duration::from_millis(100));
            Effort { sizes, rounds: 5, stream, round_trips: 4000, wake_ups: 1000, limits }
        }
    }

    /// The sizes that this mechanism carries.
    fn sizes_of(&self, mechanism: &dyn Mechanism) -> Vec<usize> {
        match mechanism.only_size() {
            Some(size) => vec![size],
            None => self.sizes.iter().copied().filter(|size| *size <= mechanism.message_max()).collect(),
        }
    }

    fn job(&self, mechanism: &dyn Mechanism, task: Task, size: usize) -> Job {
        let count = match task {
            Task::Stream => (mechanism.bytes_max() / size) as u64,
            Task::RoundTrip => self.round_trips,
            Task::WakeUp => self.wake_ups,
        };
        Job { task, size, time: self.stream, count, warm_percent: 20 }
    }
}

/// What several samples of one task say.
pub struct Figure {
    /// Of which mechanism.
    pub mechanism: &'static str,
    /// What was measured.
    pub task: Task,
    /// Bytes of a message.
    pub size: usize,
    /// Messages a second; of latencies: median in ns.
    pub value: Spread,
    /// Latency that 99 % have at most, ns; the median of the samples.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The whole of the latencies: so many percent have at most so many ns. As far as there was a message beyond.
    pub curve: Vec<(f64, f64)>,
    /// Time of both processors for a message, ns.
    pub cpu: f64,
    /// System calls of both processes for a message.
    pub calls: f64,
    /// How far apart the processors were.
    pub distance: &'static str,
    /// Samples that count.
    pub samples: usize,
    /// Part of the best of the same task and size.
    pub ratio: f64,
}

/// Everything that was found.
pub struct Findings {
    /// The machine's own limits.
    pub limits: Limits,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What could not be, and why.
    pub missing: Vec<(&'static str, String)>,
}

/// All mechanisms, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static dyn Mechanism> {
    const ALL: [&dyn Mechanism; 22] = [
        &Kernel::Pipe,
        &Kernel::Fifo,
        &Mq,
        &Sysv,
        &Kernel::UnixStream,
        &Kernel::UnixSeqpacket,
        &Kernel::UnixDatagram,
        &Kernel::Socketpair,
        &Kernel::Tcp,
        &Kernel::Udp,
        &Kernel::Multicast,
        &Appended,
        &Signals,
        &Locked,
        &Spool::Sleeping,
        &Spool::Spinning,
        &Carried::Mq,
        &Carried::Fifo,
        &Carried::Unix,
        &Carried::Sysv,
        &Carried::Tcp,
        &Carried::Udp,
    ];
    ALL.into_iter()
}

/// The whole command.
pub fn bench(args: &Args) -> Result<u8, Failure> {
    if let Some(who) = &args.child {
        return child::main(who);
    }
    let (chosen, effort) = (chosen(&args.only)?, Effort::of(args.quick, &args.sizes));
    if args.like_2017 {
        let lines = like_2017::run(&chosen, effort.rounds);
        say(&if args.json { like_2017::json(&lines) } else { like_2017::table(&lines) })?;
        return Ok(if like_2017::is_complete(&lines) { 0 } else { EXIT_SYSTEM });
    }
    // It takes minutes: a file that cannot be written is said before.
    let plot = args.plot.as_ref().map(|path| Plot::create(path)).transpose()?;
    let findings = measure(&chosen, &effort);
    say(&match (args.json, args.csv) {
        (true, _) => show::json(&findings),
        (_, true) => show::csv(&findings),
        _ => show::table(&findings),
    })?;
    if args.csv {
        warn_of(&findings.missing);
    }
    if let Some(plot) = plot {
        plot.write(&bars::svg(&findings).map_err(Failure::system)?)?;
    }
    Ok(if findings.missing.is_empty() { 0 } else { EXIT_SYSTEM })
}

/// The file that `--plot` names.
struct Plot<'a> {
    path: &'a Path,
    file: File,
}

impl Plot<'_> {
    fn create(path: &Path) -> Result<Plot<'_>, Failure> {
        let file = File::create(path).map_err(|e| Plot::failure(path, &e))?;
        Ok(Plot { path, file })
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(|e| Plot::failure(self.path, &e))
    }

    fn failure(path: &Path, why: &io::Error) -> Failure {
        Failure::system(format!("cannot write {}: {why}", path.display()))
    }
}

/// What has no place in a table of numbers.
fn warn_of(missing: &[(&str, String)]) {
    logging::start("ipc-pipeline", log::LevelFilter::Info, false);
    for (name, why) in missing {
        log::warn!("{name} cannot be measured: {why}");
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static dyn Mechanism>, Failure> {
    if let Some(unknown) = only.iter().find(|name| all().all(|m| m.name() != **name)) {
        let names: Vec<&str> = all().map(|m| m.name()).collect();
        let text = format!("--only: there is no mechanism {unknown:?}; allowed: {}", names.join(", "));
        return Err(Failure::new(EXIT_USAGE, text));
    }
    Ok(all().filter(|m| only.is_empty() || only.iter().any(|name| name == m.name())).collect())
}

/// Every mechanism with every task; one that cannot be measured does not hold up the others.
fn measure(chosen: &[&'static dyn Mechanism], effort: &Effort) -> Findings {
    let limits = Limits::measure(effort.limits);
    let (mut figures, mut missing) = (Vec::new(), Vec::new());
    let bar = Bar::of_steps("measuring");
    for (done, mechanism) in chosen.iter().enumerate() {
        bar.name(format!("measuring {}", mechanism.name()));
        bar.at(done as u64, chosen.len() as u64);
        match measure_one(*mechanism, effort) {
            Ok(found) => figures.extend(found),
            Err(why) => missing.push((mechanism.name(), why)),
        }
    }
    drop(bar);
    compare(&mut figures);
    Findings { limits, figures, missing }
}

fn measure_one(mechanism: &'static dyn Mechanism, effort: &Effort) -> Result<Vec<Figure>, String> {
    let sizes = effort.sizes_of(mechanism);
    if sizes.is_empty() {
        return Err(format!("it carries {} bytes at once at most", mechanism.message_max()));
    }
    let streams = sizes.iter().map(|size| (Task::Stream, *size));
    let small = mechanism.only_size().unwrap_or(LINE);
    let tasks = streams.chain([(Task::RoundTrip, small), (Task::WakeUp, small)]);
    tasks.map(|(task, size)| figure(mechanism, &effort.job(mechanism, task, size), effort.rounds)).collect()
}

/// Samples until enough count: one during which the processors came closer or went apart says nothing.
fn figure(mechanism: &'static dyn Mechanism, job: &Job, rounds: usize) -> Result<Figure, String> {
    let mut accepted: Vec<(Reports, &'static str)> = Vec::new();
    let (mut last, mut lost) = (None, None);
    for _ in 0..3 * rounds {
        let before = probe::class(probe::round_trip_ns());
        let reports = match pair::sample(mechanism, job) {
            // Where the kernel may drop messages one that did so is no sample.
            Err(why) if why.ends_with(child::LOST) => {
                lost = Some(why);
                continue;
            }
            sampled => sampled?,
        };
        if probe::class(probe::round_trip_ns()) == before {
            accepted.push((reports, before));
        } else {
            last = Some((reports, "changing"));
        }
        if accepted.len() == rounds {
            break;
        }
    }
    // On a machine that never rests a doubtful sample is better than none, and says that it is one.
    if accepted.is_empty() {
        accepted.extend(last);
    }
    let nothing = || {
        let tries = 3 * rounds;
        lost.map_or("nothing came of it".into(), |why| format!("{why}, in each of {tries} samples"))
    };
    summary(mechanism.name(), job, &accepted).ok_or_else(nothing)
}

fn summary(mechanism: &'static str, job: &Job, samples: &[(Reports, &'static str)]) -> Option<Figure> {
    let spread = |of: &dyn Fn(&Reports) -> f64| {
        let values: Vec<f64> = samples.iter().map(|(reports, _)| of(reports)).collect();
        Spread::of(&values)
    };
    let timed = |r: &Reports| if job.task == Task::RoundTrip { r.first } else { r.second };
    let value = match job.task {
        Task::Stream => spread(&|r| rate(&r.second)),
        Task::RoundTrip | Task::WakeUp => spread(&|r| timed(r).latency(50.0) as f64),
    }?;
    let latency = |percent| spread(&|r| timed(r).latency(percent) as f64).map(|spread| spread.median);
    let measured: u64 = samples.iter().map(|(reports, _)| timed(reports).measured).sum();
    let known = PERCENTS.into_iter().filter(|percent| (100.0 - percent) * measured as f64 >= 100.0);
    let curve = known.filter(|_| job.task != Task::Stream).filter_map(|p| Some((p, latency(p)?)));
    let each = |of: fn(&job::Report) -> u64| {
        spread(&|r| (of(&r.first) + of(&r.second)) as f64 / r.first.messages.max(1) as f64)
    };
    let distance = samples.first()?.1;
    let same = samples.iter().all(|(_, class)| *class == distance);
    Some(Figure {
        mechanism,
        task: job.task,
        size: job.size,
        value,
        p99: latency(99.0)?,
        p999: latency(99.9)?,
        curve: curve.collect(),
        cpu: each(|r| r.cpu)?.median,
        calls: each(|r| r.calls)?.median,
        distance: if same { distance } else { "mixed" },
        samples: samples.len(),
        ratio: 0.0,
    })
}

/// Messages a second.
fn rate(report: &job::Report) -> f64 {
    report.measured as f64 * 1e9 / report.ended.saturating_sub(report.begun).max(1) as f64
}

/// Gives each its ratio to the best of the same task and size.
fn compare(figures: &mut [Figure]) {
    // A latency is that of the smallest message, whatever its size.
    let kind_of = |f: &Figure| (f.task.word(), if f.task == Task::Stream { f.size } else { 0 });
    let kinds: BTreeSet<(&str, usize)> = figures.iter().map(kind_of).collect();
    for kind in kinds {
        let mut of_kind: Vec<&mut Figure> = figures.iter_mut().filter(|f| kind_of(f) == kind).collect();
        let values: Vec<f64> = of_kind.iter().map(|f| f.value.median).collect();
        let more_is_better = kind.0 == Task::Stream.word();
        for (figure, ratio) in of_kind.iter_mut().zip(statistics::ratios(&values, more_is_better)) {
            figure.ratio = ratio;
        }
    }
}
