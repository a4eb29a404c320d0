//! `bench --child`: one of the two processes. It does what it is told on its standard input, a socket, and ends.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use ipc_pipeline::args::EXIT_USAGE;
use ipc_pipeline::daemon::{EXIT_SYSTEM, Failure};
use ipc_pipeline::sys::{self, QueuedSignal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::ClockId;

use super::control::{hear, tell};
use super::job::{Job, Report, Task};
use super::mechanism::{End, Mechanism, Port, Side};
use super::statistics::PERCENTS;
use super::{all, probe};

/// How the reason ends when a message was sent and never came.
pub const LOST: &str = "was lost on the way";
/// The first word of the last message of a stream.
const LAST: u64 = u64::MAX;
/// A stream looks at the clock after so many messages.
const LOOK: u64 = 16;
/// Between two wake-ups: long enough that the other process sleeps.
const PAUSE: Duration = Duration::from_micros(150);

/// The whole process. `who`: the mechanism, and what the bench tells both ends: known from the first instant on, so that
/// whatever has a name can be removed.
pub fn main(who: &str) -> Result<u8, Failure> {
    let (name, word) = who.split_once(' ').unwrap_or((who, ""));
    let Some(mechanism) = all().find(|m| m.name() == name) else {
        return Err(Failure::new(EXIT_USAGE, "this is for `ipc-pipeline bench` itself"));
    };
    let Err(why) = work(mechanism, word);
    if tell(io::stdin(), &format!("failed {why}"), &[]).is_err() {
        mechanism.abandon(word);
    }
    Ok(EXIT_SYSTEM)
}

fn work(mechanism: &'static dyn Mechanism, word: &str) -> io::Result<Infallible> {
    QueuedSignal::block()?; // here, so that no other thread can be hit by one
    end_with_the_bench(mechanism, word.to_owned());
    let (line, fds) = hear(io::stdin())?;
    let (job, side, peer) = Job::read(&line).ok_or(io::ErrorKind::InvalidInput)?;
    probe::pin(side as usize);
    let end = End { side, fds, word: word.to_owned(), peer, load: job.load() };
    let mut port = mechanism.join(end)?;
    tell(io::stdin(), "ready", &[])?;
    hear(io::stdin())?;
    let cpu = cpu_ns();
    let mut report = match (job.task, side) {
        (Task::Stream, Side::First) => pour(&mut *port, &job),
        (Task::Stream, Side::Second) => drain(&mut *port, &job),
        (Task::RoundTrip, Side::First) => ask(&mut *port, &job),
        (Task::RoundTrip, Side::Second) => answer(&mut *port, &job),
        (Task::WakeUp, Side::First) => knock(&mut *port, &job),
        (Task::WakeUp, Side::Second) => wake(&mut *port, &job),
    }?;
    report.cpu = cpu_ns() - cpu;
    tell(io::stdin(), &report.line(), &[])?;
    loop {
        // The other end may still be reading what is ours: the bench says when it is over, by closing the socket.
        std::thread::park();
    }
}

/// Whatever the main thread waits for: without the bench there is nothing to do.
fn end_with_the_bench(mechanism: &'static dyn Mechanism, word: String) {
    std::thread::spawn(move || {
        let socket = io::stdin();
        // Only the end of it is waited for: what is said there is for the main thread.
        let mut fds = [PollFd::new(&socket, PollFlags::empty())];
        while fds.iter().all(|fd| fd.revents().is_empty()) {
            let _ = poll(&mut fds, None);
        }
        mechanism.abandon(&word);
        std::process::exit(EXIT_SYSTEM.into());
    });
}

fn cpu_ns() -> u64 {
    let t = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec.max(0) as u64 * 1_000_000_000 + t.tv_nsec.max(0) as u64
}

/// Fills a message from its first word, so that the other end can check every byte.
fn fill(message: &mut [u8], word: u64) {
    for (bytes, i) in message.as_chunks_mut::<8>().0.iter_mut().zip(0..) {
        *bytes = word.wrapping_add(i).to_le_bytes();
    }
}

/// The first word of a message that is as it was sent.
fn checked(message: &[u8], stride: usize) -> io::Result<u64> {
    let word = first(message);
    let is_true = |(i, part): (usize, &[u8])| first(part) == word.wrapping_add((i * stride / 8) as u64);
    if message.chunks_exact(stride).enumerate().all(is_true) {
        return Ok(word);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a message came garbled"))
}

fn first(message: &[u8]) -> u64 {
    message.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn pour(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let mut message = vec![0; job.size];
    let mut report = Report { begun: sys::monotonic_ns(), ..Report::default() };
    let end = report.begun + job.time.as_nanos() as u64;
    loop {
        let n = report.messages;
        let over = n + 1 >= job.count || n.is_multiple_of(LOOK) && n > 0 && sys::monotonic_ns() >= end;
        fill(&mut message, if over { LAST } else { n });
        report.calls += u64::from(port.send(&message)?);
        report.messages += 1;
        if over {
            report.calls += u64::from(port.flush()?);
            report.ended = sys::monotonic_ns();
            return Ok(report);
        }
    }
}

fn drain(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let mut message = vec![0; job.size];
    let warm = job.time.as_nanos() as u64 * job.warm_percent / 100;
    let begun = sys::monotonic_ns();
    let mut report = Report { begun, ..Report::default() };
    let mut is_warm = warm == 0;
    loop {
        report.calls += u64::from(port.receive(&mut message)?);
        let word = checked(&message, port.stride())?;
        let n = report.messages;
        report.messages += 1;
        report.measured += u64::from(is_warm);
        if word == LAST {
            report.ended = sys::monotonic_ns();
            if report.measured < LOOK {
                // It was over before it was warm: then all of it counts.
                (report.measured, report.begun) = (report.messages, begun);
            }
            return Ok(report);
        }
        if word != n {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message {n} {LOST}")));
        }
        if !is_warm && n.is_multiple_of(LOOK) {
            let now = sys::monotonic_ns();
            is_warm = now - begun >= warm;
            report.begun = now;
        }
    }
}

/// Messages that a task of latency begins with and does not count.
fn warm_up(job: &Job) -> u64 {
    job.count * job.warm_percent / 100
}

fn with_latencies(mut report: Report, latencies: &Histogram<u64>) -> Report {
    report.measured = latencies.len();
    report.latencies = PERCENTS.map(|percent| latencies.value_at_percentile(percent));
    report
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).map_err(io::Error::other)
}

fn ask(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let (mut message, mut out, mut latencies) = (vec![0; job.size], vec![0; job.size], histogram()?);
    let mut report = Report { begun: sys::monotonic_ns(), ..Report::default() };
    let warm = warm_up(job);
    for n in 0..job.count {
        fill(&mut message, n);
        let begun = sys::monotonic_ns();
        report.calls += u64::from(port.send(&message)?);
        report.calls += u64::from(port.receive(&mut out)?);
        let took = sys::monotonic_ns() - begun;
        if checked(&out, port.stride())? != n {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is that to another question"));
        }
        if n >= warm {
            latencies.saturating_record(took);
        }
        report.messages += 1;
    }
    report.ended = sys::monotonic_ns();
    Ok(with_latencies(report, &latencies))
}

fn answer(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let mut message = vec![0; job.size];
    let mut report = Report::default();
    for _ in 0..job.count {
        report.calls += u64::from(port.receive(&mut message)?);
        let word = checked(&message, port.stride())?;
        fill(&mut message, word);
        report.calls += u64::from(port.send(&message)?);
        report.messages += 1;
    }
    Ok(report)
}

fn knock(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let mut message = vec![0; job.size];
    let mut report = Report::default();
    for _ in 0..job.count {
        std::thread::sleep(PAUSE);
        fill(&mut message, sys::monotonic_ns());
        report.calls += u64::from(port.send(&message)?);
        report.messages += 1;
    }
    Ok(report)
}

fn wake(port: &mut dyn Port, job: &Job) -> io::Result<Report> {
    let (mut message, mut latencies) = (vec![0; job.size], histogram()?);
    let (mut report, warm) = (Report::default(), warm_up(job));
    for n in 0..job.count {
        report.calls += u64::from(port.receive(&mut message)?);
        let now = sys::monotonic_ns();
        let sent = checked(&message, port.stride())?;
        if n >= warm {
            latencies.saturating_record(now.saturating_sub(sent));
        }
        report.messages += 1;
    }
    Ok(with_latencies(report, &latencies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_checked() {
        let mut message = vec![0; 1024];
        fill(&mut message, 77);
        assert_eq!(checked(&message, 8).unwrap(), 77);
        for at in 8..message.len() {
            message[at] ^= 1;
            assert!(checked(&message, 8).is_err(), "byte {at}");
            message[at] ^= 1;
        }
    }
}
