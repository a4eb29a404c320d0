//! strace beside a daemon: it counts its calls, or lets one of them fail.

use crate::deck::FIRST;
use crate::harness::{Pipeline, Role, signal_pid, wait_until};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(10);
/// strace needs a moment to leave all threads.
const PATIENCE: Duration = Duration::from_secs(1);

/// strace that runs beside a daemon, as nobody's child.
pub struct Tracer {
    role: Role,
    out: PathBuf,
}

impl Tracer {
    /// Starts the daemon under strace, which does what these expressions say (`-e`).
    pub fn start(p: &mut Pipeline, role: Role, expressions: &[&str]) -> Tracer {
        let out = p.dir().join(format!("strace.{}", role.name()));
        let _ = fs::remove_file(&out); // of the one before
        // -D: the daemon is the child that was started. -I2: who traces can be told to leave. -y: what a number of a file stands for.
        let mut tracer = vec!["strace", "-D", "-I2", "-f", "-qq", "-y", "-o", out.to_str().unwrap()];
        expressions.iter().for_each(|e| tracer.extend(["-e", e]));
        p.start_under(&tracer, role);
        Tracer { role, out }
    }

    /// The calls that it has let fail so far, one a line.
    pub fn failed(&self) -> Vec<String> {
        let text = fs::read(&self.out).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
    }

    /// Has the daemon itself begun, or is it still the loader that runs?
    pub fn has_begun(&self) -> bool {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap_or_default()).contains(FIRST)
    }

    /// The daemon is left alone from here on. A call that was under way may end with ENOSYS: one error more.
    pub fn lift(&self, p: &Pipeline) {
        let Some(daemon) = p.pid(self.role) else { return };
        let Some(tracer) = tracer_of(daemon) else { return };
        signal_pid(tracer, Signal::TERM);
        let begun = Instant::now();
        wait_until("strace has left the daemon", BOUND, || {
            // It may wait for ever for a thread that ends meanwhile; the kernel frees whom a tracer that is gone held.
            if begun.elapsed() > PATIENCE {
                signal_pid(tracer, Signal::KILL);
            }
            tracer_of(daemon).is_none()
        });
    }

    /// For each call how often the thread that made it most often has made it.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        let text = fs::read(&self.out).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut threads: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for (thread, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
            let call = rest.trim_start().split('(').next().unwrap_or_default();
            if call.starts_with(|c: char| c.is_ascii_alphabetic()) {
                *threads.entry((thread, call)).or_default() += 1;
            }
        }
        let mut counts = BTreeMap::new();
        for ((_, call), n) in threads {
            let most: &mut u32 = counts.entry(call.to_owned()).or_default();
            *most = n.max(*most);
        }
        counts
    }
}

/// Who traces any thread of this process.
fn tracer_of(process: i32) -> Option<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let said = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    said.filter_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
        line.trim().parse().ok().filter(|pid| *pid != 0)
    })
    .next()
}
