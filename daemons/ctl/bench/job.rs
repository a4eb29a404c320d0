//! What the two processes are told to do, and what they say about it: lines of text on a socket between them and the bench.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::mechanism::{Load, Side};
use super::statistics::PERCENTS;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// As many messages as go one way.
    Stream,
    /// A question and its answer, over and over.
    RoundTrip,
    /// From sending until a receiver that slept has it.
    WakeUp,
}

impl Task {
    /// All, for words.
    pub const ALL: [Task; 3] = [Task::Stream, Task::RoundTrip, Task::WakeUp];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Task::Stream => "stream",
            Task::RoundTrip => "round_trip",
            Task::WakeUp => "wake_up",
        }
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is measured.
    pub task: Task,
    /// Bytes of a message.
    pub size: usize,
    /// A stream ends after so long.
    pub time: Duration,
    /// Any task ends after so many messages.
    pub count: u64,
    /// Messages of so long, or so many of them, are not measured: a hundredth part of the whole, 0 to 99.
    pub warm_percent: u64,
}

impl Job {
    /// What it asks of the mechanism.
    pub fn load(&self) -> Load {
        Load { size: self.size, is_stream: self.task == Task::Stream }
    }

    /// For a process.
    pub fn line(&self, side: Side, peer: i32) -> String {
        let side = if side == Side::First { 1 } else { 2 };
        let Job { task, size, time, count, warm_percent } = self;
        let (task, time) = (task.word(), time.as_nanos());
        format!("{side} {peer} {task} {size} {time} {count} {warm_percent}")
    }

    /// The other way.
    pub fn read(line: &str) -> Option<(Job, Side, i32)> {
        let mut words = line.split(' ');
        let side = if words.next()? == "1" { Side::First } else { Side::Second };
        let peer = words.next()?.parse().ok()?;
        let task = words.next()?;
        let task = Task::ALL.into_iter().find(|t| t.word() == task)?;
        let size = words.next()?.parse().ok()?;
        let time = Duration::from_nanos(words.next()?.parse().ok()?);
        let count = words.next()?.parse().ok()?;
        let warm_percent = words.next()?.parse().ok()?;
        let job = Job { task, size, time, count, warm_percent };
        Some((job, side, peer))
    }
}

/// What one process has found. Times in ns; what does not apply is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that it sent or received in all.
    pub messages: u64,
    /// Of them those that were measured.
    pub measured: u64,
    /// CLOCK_MONOTONIC at the start of what was measured.
    pub begun: u64,
    /// And at its end.
    pub ended: u64,
    /// Time of the processor.
    pub cpu: u64,
    /// System calls.
    pub calls: u64,
    /// Latencies, at each of [`PERCENTS`].
    pub latencies: [u64; PERCENTS.len()],
}

impl Report {
    /// The latency that so many percent have at most; 0 for a percentage that is none of [`PERCENTS`].
    pub fn latency(&self, percent: f64) -> u64 {
        let mut each = PERCENTS.iter().zip(self.latencies);
        each.find(|(of, _)| **of == percent).map_or(0, |(_, latency)| latency)
    }

    /// For the bench.
    pub fn line(&self) -> String {
        let Report { messages, measured, begun, ended, cpu, calls, latencies } = self;
        let line = format!("done {messages} {measured} {begun} {ended} {cpu} {calls}");
        latencies.iter().fold(line, |line, latency| format!("{line} {latency}"))
    }

    /// The other way.
    pub fn read(line: &str) -> Option<Report> {
        let numbers: Result<Vec<u64>, _> = line.strip_prefix("done ")?.split(' ').map(str::parse).collect();
        let numbers = numbers.ok()?;
        let ([messages, measured, begun, ended, cpu, calls], latencies) = numbers.split_first_chunk()?;
        let [messages, measured, begun, ended, cpu, calls] =
            [*messages, *measured, *begun, *ended, *cpu, *calls];
        let latencies = latencies.try_into().ok()?;
        Some(Report { messages, measured, begun, ended, cpu, calls, latencies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_all() {
        let job =
            Job { task: Task::WakeUp, size: 64, time: Duration::from_millis(3), count: 7, warm_percent: 20 };
        let read = Job::read(&job.line(Side::Second, 12)).unwrap();
        assert_eq!(read, (job, Side::Second, 12));
        let report = Report {
            messages: 1,
            measured: 2,
            begun: 3,
            ended: 4,
            cpu: 5,
            calls: 6,
            latencies: std::array::from_fn(|i| i as u64 + 7),
        };
        assert_eq!(Report::read(&report.line()), Some(report));
        assert_eq!([50.0, 99.0, 12.5].map(|percent| report.latency(percent)), [13, 20, 0]);
        assert_eq!(Report::read("done 1 2"), None);
        assert_eq!(Job::read("1 2 fly 3"), None);
    }
}
