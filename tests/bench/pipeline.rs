//! The whole pipeline: at full speed against what the disk takes, and at rest.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::page::{self, Page};
use ipc_pipeline::segment::{Copied, Shm};

/// The record is written here: on a disk, not in memory.
const DIR: &str = env!("CARGO_TARGET_TMPDIR");

/// Everything that can be asked of stat, but for more of the same.
const STATISTICS: &str = r#"
[stat]
percentiles = [50, 99]
ewma = 0.0625
[[window]]
size = "1s"
step = "100ms"
[[window]]
size = "60s"
[[window]]
size = 10000
step = 1000
"#;
const PAIRS: usize = 5;
const PAIR_S: u64 = 3;

struct Running {
    run: Child,
    name: String,
    dir: PathBuf,
}

impl Running {
    /// With the default configuration, but these settings of it.
    fn start(sets: &[&str]) -> Running {
        Running::start_with("", sets)
    }

    /// With this configuration, but these settings of it.
    fn start_with(config: &str, sets: &[&str]) -> Running {
        let name = format!("bench-{}", std::process::id());
        let dir = Path::new(DIR).join(&name);
        std::fs::create_dir_all(&dir).expect("a directory for the record");
        let file = dir.join("pipeline.toml");
        std::fs::write(&file, config).expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipc-pipeline"));
        command.args(["run", "--quiet", "--name", &name, "--config"]).arg(&file);
        sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        let run = command
            .env("XDG_RUNTIME_DIR", &dir)
            .env("XDG_STATE_HOME", &dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("ipc-pipeline run");
        let running = Running { run, name, dir };
        while Role::ALL.iter().any(|role| running.page(*role).is_none_or(|p| p.pid() == 0)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn page(&self, role: Role) -> Option<Page<Copied>> {
        let name = format!("ipc-pipeline@{}.page.{role}", self.name);
        let shm = Shm::of(&Names::for_user(Some(&self.name)).ok()?);
        Page::new(Copied::read(&shm, &name, page::WORDS)?, role.index())
    }

    fn durable(&self) -> u64 {
        self.page(Role::Log).and_then(|p| p.durable()).unwrap_or(0)
    }

    fn pid(&self, role: Role) -> u64 {
        self.page(role).map_or(0, |p| p.pid())
    }

    fn stop(mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.run.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.run.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// CPU time of a process so far, s. Not from /proc/<pid>/stat: its unit of 10 ms is as much as a daemon at rest needs in 20 s.
fn cpu(pid: u64) -> f64 {
    let of_thread = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0)
    };
    threads(pid).map(of_thread).sum::<f64>() / 1e9
}

/// Where /proc keeps what it knows of each thread of a process.
fn threads(pid: u64) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|thread| thread.path())
}

/// The number behind `key` in a status file of /proc.
fn status(path: &Path, key: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn wakeups(pid: u64) -> u64 {
    threads(pid).map(|thread| status(&thread.join("status"), "voluntary_ctxt_switches")).sum()
}

/// Memory of its own beside shared segments, KiB.
fn own_kib(pid: u64) -> u64 {
    status(Path::new(&format!("/proc/{pid}/status")), "RssAnon")
}

/// What `dd conv=fdatasync` reaches in the same directory with as many bytes, M entries/s. The same number of bytes
/// matters: a virtual disk lets the first gigabytes through much faster than the next.
fn dd(entries: u64) -> f64 {
    let mebibytes = (entries * 32).div_ceil(1 << 20);
    let file = Path::new(DIR).join("bench-dd");
    let begun = Instant::now();
    let ok = Command::new("dd")
        .args([
            "if=/dev/zero",
            &format!("of={}", file.display()),
            "bs=1M",
            &format!("count={mebibytes}"),
            "conv=fdatasync",
            "status=none",
        ])
        .status()
        .is_ok_and(|s| s.success());
    let seconds = begun.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&file);
    if ok { entries as f64 / seconds / 1e6 } else { f64::NAN }
}

/// Full speed: entries made durable in 10 s, four processes, unpinned.
pub fn run() {
    println!(
        "pipeline: rate = \"max\", group commit 50 ms, four processes unpinned, record on the disk of {DIR}"
    );
    for capacity in ["65536", "1048576"] {
        let running = Running::start(&[
            IN_PLACE,
            "conv.rate=max",
            &format!("spool.capacity={capacity}"),
            "log.segment=1GiB",
        ]);
        std::thread::sleep(Duration::from_secs(1));
        let spent = |running: &Running| Role::ALL.map(|r| cpu(running.pid(r)));
        let (from, begun, cpu_from) = (running.durable(), Instant::now(), spent(&running));
        let memory_from = Role::ALL.map(|r| own_kib(running.pid(r)));
        std::thread::sleep(Duration::from_secs(10));
        let (entries, seconds, cpu_to) =
            (running.durable() - from, begun.elapsed().as_secs_f64(), spent(&running));
        let memory = Role::ALL.map(|r| own_kib(running.pid(r)));
        let folded = running.page(Role::Stat).and_then(|p| p.durable()).unwrap_or(0);
        let lag = running.durable().saturating_sub(folded);
        running.stop();
        let anchor = dd(entries);
        let rate = entries as f64 / seconds / 1e6;
        println!(
            "  spool {capacity:>8}: {rate:>6.1} M entries/s ({:.0} MB/s durable); dd of as many bytes {anchor:.1}; ratio {:.2}; stat lags {lag}",
            rate * 32.0,
            rate / anchor
        );
        let ns = |i: usize| (cpu_to[i] - cpu_from[i]) * 1e9 / entries as f64;
        let text = |i: usize| {
            format!(
                "{} {:.1} ns, {} KiB (+{})",
                Role::ALL[i],
                ns(i),
                memory[i],
                memory[i].saturating_sub(memory_from[i])
            )
        };
        println!(
            "    CPU per entry and memory of its own: {}",
            (0..4).map(text).collect::<Vec<_>>().join("; ")
        );
    }
    statistics();
}

/// What the statistics leave of the rate at which entries pass the whole pipeline, up to stat.
fn statistics() {
    let ratio = |_| {
        let (core, all) = (folded_in_a_second(""), folded_in_a_second(STATISTICS));
        println!("    core {core:.1} M entries/s, with all statistics {all:.1}; ratio {:.2}", all / core);
        all / core
    };
    println!("  with three windows, their percentiles and a fading average, pairs of {PAIR_S} s each:");
    println!("    median of the ratios {:.2}", crate::median((0..PAIRS).map(ratio).collect()));
}

/// The core, without a carrier.
const IN_PLACE: &str = "edge.log=shm:";

/// M entries/s that stat has folded.
fn folded_in_a_second(config: &str) -> f64 {
    let running = Running::start_with(
        config,
        &[IN_PLACE, "conv.rate=max", "spool.capacity=1048576", "log.segment=1GiB"],
    );
    let folded = || running.page(Role::Stat).and_then(|page| page.durable()).unwrap_or(0);
    std::thread::sleep(Duration::from_secs(1));
    let (from, begun) = (folded(), Instant::now());
    std::thread::sleep(Duration::from_secs(PAIR_S));
    let rate = (folded() - from) as f64 / begun.elapsed().as_secs_f64() / 1e6;
    running.stop();
    rate
}

/// The reference job at rest.
pub fn idle() {
    println!("idle: the reference job, 1.25 Hz, 20 s");
    let running = Running::start(&[]);
    std::thread::sleep(Duration::from_secs(2));
    let look = || Role::ALL.map(|r| (cpu(running.pid(r)), wakeups(running.pid(r))));
    let from = look();
    std::thread::sleep(Duration::from_secs(20));
    let to = look();
    let total: f64 = (0..4).map(|i| to[i].0 - from[i].0).sum();
    let text = |i: usize| format!("{} {:.1}", Role::ALL[i], (to[i].1 - from[i].1) as f64 / 20.0);
    println!(
        "  CPU of all four {:.2} %; wake-ups a second: {}",
        total / 20.0 * 100.0,
        (0..4).map(text).collect::<Vec<_>>().join(", ")
    );
    running.stop();
}
