//! Each daemon is refused its n-th call of some kind, or that and all behind it for a while. It may go on, or end and say so by
//! an exit code upon which a service manager starts it again; then the pipeline must be as before.

use crate::checker::{check_accepted, check_record, check_source, check_statistics};
use crate::deck::{Counts, Deck, Fault};
use crate::harness::{Page, Pipeline, Role, Witness, all_edges, samples, value};
use crate::scale;
use crate::tracer::Tracer;
use fastrand::Rng;
use std::any::Any;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// To be as before.
const BOUND: Duration = Duration::from_secs(10);
/// What has not come to its n-th call by then comes to it when it ends, or never.
const PATIENCE: Duration = Duration::from_millis(500);
/// Errors on each carrier.
const ERRORS: [u64; 3] = [30, 1_200, 20_000];
/// Errors to one life of a pipeline.
const ROUND: u64 = 40;
/// So many found errors are enough.
const MANY: usize = 12;
/// More than a round takes.
const LINES: u64 = 4_000_000;
/// As in the units of systemd.
const RESTART: Duration = Duration::from_millis(100);
/// In the words of a page.
const RUNNING: Option<u64> = Some(1);

/// Everything that makes calls of its own is on.
fn config(carrier: &str) -> String {
    format!(
        "[conv]\nrate = \"10 kHz\"\n[spool]\ncapacity = 2048\n\
         [log]\nsync = \"5ms\"\nsegment = \"64KiB\"\ncompress = true\ntext = \"samples.txt\"\n\
         [stat]\ncheckpoint = \"20ms\"\n[report]\nmax_lines_per_second = 100\ncommand = [\"true\"]\n\
         {}[[channel]]\nname = \"c\"\nhigh = 1000000\nhysteresis = 1000\n",
        all_edges(carrier)
    )
}

/// What came of the errors of one role.
#[derive(Clone, Copy, Default)]
struct Row {
    tried: u64,
    /// The daemon ended and was started again.
    ended: u64,
    worst: Duration,
}

/// One life of a pipeline.
struct Round {
    p: Pipeline,
    witness: Witness,
}

impl Round {
    fn new(carrier: &str) -> Round {
        let mut p = Pipeline::of_lines(LINES, &config(carrier));
        let witness = Witness::start(&p.paths, &p.lives);
        p.start_all();
        p.wait_for("it runs", BOUND, |p| p.folded() > 10);
        Round { p, witness }
    }

    /// Which calls each daemon makes in a second of its life, from its beginning to its end.
    fn survey(&mut self) -> [Counts; 4] {
        Role::ALL.map(|role| {
            self.p.kill(role);
            let tracer = Tracer::start(&mut self.p, role, &["trace=all"]);
            sleep(Duration::from_millis(300));
            let before = self.p.head().unwrap_or_default();
            self.p.wait_for("all is as before", BOUND, |p| is_beyond(p, before));
            self.p.stop(role, BOUND);
            self.p.start(role);
            tracer.counts()
        })
    }

    /// True: it came to this call.
    fn strike(&mut self, fault: &Fault, hold: Duration, row: &mut Row) -> bool {
        let (p, role) = (&mut self.p, fault.role);
        p.kill(role);
        p.note(format_args!("fault: {fault}"));
        let [trace, inject] = fault.expressions();
        let tracer = Tracer::start(p, role, &[&trace, &inject]);
        let begun = Instant::now();
        while tracer.failed().is_empty() && !p.is_dead(role) && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(2));
        }
        if p.is_dead(role) {
        } else if tracer.failed().is_empty() {
            p.ask_to_stop(role);
            self.ends(fault);
        } else if fault.lasting {
            self.endure(fault, &tracer, hold);
        }
        tracer.lift(&self.p);
        let lifted = Instant::now();
        row.ended += self.returns(fault, &tracer);
        let failed = tracer.failed();
        if let Some(first) = failed.first() {
            let (times, back) = (failed.len(), lifted.elapsed());
            self.p.note(format_args!("it was: {first}; {times} times; back after {back:.1?}"));
            row.tried += 1;
            row.worst = row.worst.max(back);
        }
        // The runtime of Rust gives up in its own words where it gets no stack for signals, before `main` begins.
        let story = self.p.story();
        let mut panics = story.lines().filter(|line| line.contains("panicked at"));
        assert!(
            panics.all(|line| line.contains("/std/src/sys/pal/unix/stack_overflow.rs:")),
            "{fault}: a panic{}",
            self.p.state()
        );
        !failed.is_empty()
    }

    /// The error lasts. A disk that refuses what log writes must be shown, and while nothing is synced nothing is durable.
    fn endure(&mut self, fault: &Fault, tracer: &Tracer, hold: Duration) {
        let refused = || tracer.failed().iter().any(|l| l.contains(".seg>") || l.contains("durable.mark>"));
        let stays = fault.role == Role::Log && fault.call == "fdatasync" && !fault.is_of_a_moment();
        let before = (stays && refused()).then(|| self.p.durable());
        sleep(hold);
        if let Some(before) = before {
            let dead = self.p.is_dead(Role::Log);
            assert!(dead || self.p.durable() == before, "{fault}: durable without a sync{}", self.p.state());
        }
        let state = match fault.error.as_str() {
            "ENOSPC" | "EDQUOT" => "disk full",
            "EIO" => "disk error",
            _ => return,
        };
        let writes = fault.role == Role::Log && ["pwrite64", "fdatasync"].contains(&fault.call.as_str());
        if writes && refused() {
            let shown = |p: &Pipeline| p.is_dead(Role::Log) || p.state_of(Role::Log) == state;
            self.p.wait_for(&format!("status shows {state}"), BOUND, shown);
        }
    }

    /// Waits for its end.
    fn ends(&mut self, fault: &Fault) {
        let begun = Instant::now();
        while !self.p.is_dead(fault.role) {
            assert!(begun.elapsed() < BOUND, "{fault}: it does not end{}", self.p.state());
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all is as before. Gives how often the daemon ended; it is started again, as by a service manager.
    fn returns(&mut self, fault: &Fault, tracer: &Tracer) -> u64 {
        let before = self.p.head().unwrap_or_default();
        let (begun, mut ended) = (Instant::now(), 0);
        while !is_beyond(&self.p, before) {
            ended += u64::from(self.revive(fault, tracer));
            self.p.reap();
            assert!(begun.elapsed() < BOUND, "{fault}: not as before{}", self.p.state());
            sleep(Duration::from_millis(1));
        }
        ended
    }

    /// Starts it again if it has ended; true: it had.
    fn revive(&mut self, fault: &Fault, tracer: &Tracer) -> bool {
        let (p, role) = (&mut self.p, fault.role);
        let Some(status) = p.take_dead(role) else { return false };
        p.note(format_args!("{} ended: {status}", role.name()));
        let asked = p.is_asked_to_stop(role);
        assert!(
            !tracer.has_begun() || may_end_so(fault, status, asked),
            "{fault}: it ended with {status}{}",
            p.state()
        );
        sleep(RESTART);
        p.start(role);
        true
    }

    /// Thaw, drain, stop, and judge everything.
    fn finish(mut self) {
        let p = &mut self.p;
        p.stop(Role::Conv, BOUND);
        let head = p.head().unwrap();
        p.wait_for("log has drained the spool", BOUND, |p| p.durable() == head);
        p.wait_for("stat has folded everything", BOUND, |p| p.folded() == head);
        self.witness.look_once();
        let seen = self.witness.finish();
        [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
        let report = check_record(&p.record());
        let mut faults = report.faults.clone();
        if (report.last, report.lost[0], report.lost[2..].iter().sum::<u64>()) != (head, 0, 0) {
            faults.add(format!("the record ends at {} of {head}, lost {:?}", report.last, report.lost));
        }
        let (_, _, wrong) = check_source(&report.record, value);
        faults.join(wrong);
        faults.join(seen.faults);
        faults.join(check_accepted(&report.record, &seen.accepted));
        faults.join(check_statistics(&report.record, &seen.published));
        assert!(faults.is_empty(), "{faults}{}", p.state());
        p.expect(&["verify"], 0);
        text_is_whole(p, samples(&report.record).into_iter().map(|sample| sample.seq));
        p.remove_objects();
        p.assert_nothing_left();
    }
}

/// Do all four run, and have entries behind `before` come through to the last of them?
fn is_beyond(p: &Pipeline, before: u64) -> bool {
    let page = |role| Page::open(&p.paths.page(role));
    let printed = page(Role::Report).and_then(|page| page.received());
    let all_run = || Role::ALL.into_iter().all(|role| page(role).and_then(|page| page.state()) == RUNNING);
    p.durable() > before && p.folded() > before && printed > Some(before) && all_run()
}

/// Each sample has its line in the text file.
fn text_is_whole(p: &Pipeline, samples: impl Iterator<Item = u64>) {
    let text = std::fs::read_to_string(p.dir().join("samples.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let told = lines.filter_map(|line| line.rsplit_once('#')?.1.parse::<u64>().ok());
    assert!(told.eq(samples), "the text file has not all samples, each once{}", p.state());
}

/// Does the service manager start it again, and is it no bug of ours?
fn may_end_so(fault: &Fault, status: ExitStatus, asked: bool) -> bool {
    let obeyed = asked && (status.code() == Some(0) || status.signal() == Some(15));
    let out_of_memory = fault.is_of_memory() && status.signal() == Some(6);
    obeyed || out_of_memory || matches!(status.code(), Some(69 | 71 | 74))
}

fn errors_over(carrier: &str) {
    let seed = scale::seed_or("T3_SEED", 1);
    eprintln!("{carrier}: T3_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let alone = std::env::var("T3_FAULT").ok();
    let alone = alone.map(|text| Fault::read(&text).expect("T3_FAULT is like \"log pwrite64 ENOSPC 12+\""));
    let (mut rows, mut found, mut absent) = ([Row::default(); 4], Vec::new(), 0);
    let mut round = Round::new(carrier);
    let mut deck = Deck::new(round.survey(), &std::env::var("T3_ONLY").unwrap_or_default());
    round.finish();
    let mut left = alone.as_ref().map_or(scale::size("T3_ERRORS", ERRORS), |_| 1);
    while left > 0 {
        let mut last = None;
        let life = catch_unwind(AssertUnwindSafe(|| {
            let mut round = Round::new(carrier);
            for _ in 0..ROUND.min(left) {
                let fault = alone.clone().unwrap_or_else(|| deck.draw(&mut rng));
                last = Some(fault.clone());
                left -= 1;
                let hold = Duration::from_millis(rng.u64(50..300));
                absent += u64::from(!round.strike(&fault, hold, &mut rows[fault.role as usize]));
            }
            round.finish();
        }));
        let last = last.map(|fault| fault.to_string()).unwrap_or_default();
        found.extend(life.err().map(|e| format!("T3_FAULT=\"{last}\": {}", text_of(&*e))));
        if found.len() >= MANY {
            break;
        }
    }
    show(carrier, &rows);
    eprintln!("{carrier}: {absent} calls were never made, {} different errors in all", deck.len());
    scale::tally(rows.iter().map(|row| row.tried).sum(), rows.iter().map(|row| row.worst).max());
    assert!(found.is_empty(), "{} errors found, T3_SEED={seed}:\n{}", found.len(), found.join("\n"));
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| text.to_string());
    fixed.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn show(carrier: &str, rows: &[Row; 4]) {
    eprintln!("| role | carrier | errors | daemon ended | worst recovery |\n|---|---|---|---|---|");
    for (role, row) in Role::ALL.into_iter().zip(rows) {
        let Row { tried, ended, worst } = row;
        eprintln!("| {} | {carrier} | {tried} | {ended} | {worst:.2?} |", role.name());
    }
}

/// Always tried: a disk that is full, fails or is interrupted, and what once was handled wrongly.
const ALWAYS: [&str; 9] = [
    "log pwrite64 ENOSPC 40",
    "log pwrite64 ENOSPC 40+",
    "log pwrite64 EINTR 40+",
    "log fdatasync EIO 20",
    "log fdatasync EIO 20+",
    "conv getcwd ENOMEM 1+", // the same file was taken for another source, and began anew
    "conv read EINTR 20+",   // a file that was interrupted was called shorter than it was
    "log fstat ENOMEM 30",   // a lock file that could not be asked for was taken for removed
    "report statx EIO 1+",   // a program that could not be looked for was called missing
];

#[test]
fn always_tried() {
    let mut round = Round::new("shm");
    for text in ALWAYS {
        let fault = Fault::read(text).unwrap();
        assert!(round.strike(&fault, Duration::from_millis(200), &mut Row::default()), "{text}: not made");
    }
    round.finish();
}

#[test]
fn over_shm() {
    errors_over("shm");
}

#[test]
fn over_mq() {
    errors_over("mq");
}

#[test]
fn over_fifo() {
    errors_over("fifo");
}

#[test]
fn over_unix() {
    errors_over("unix");
}

#[test]
fn over_sysv() {
    errors_over("sysv");
}

#[test]
fn over_tcp() {
    errors_over("tcp");
}

#[test]
fn over_udp() {
    errors_over("udp");
}
