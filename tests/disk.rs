//! ipc-log and bad disks: full, read-only, stalled, failing. The state is shown, nothing is lost, and it goes on by
//! itself as soon as the disk does.
//!
//! Real file systems are mounted for this, so these tests are ignored unless `make test` finds that it may mount, and
//! `make test-root` runs them by sudo.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Foreground, Pipeline, Role, Spool, process, processes, signal_pid, wait_until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(30);

/// A command that must succeed.
#[track_caller]
fn must(program: &str, args: &[&str]) -> String {
    let missing = |e| panic!("{program} (of util-linux, mount or e2fsprogs, often in /usr/sbin): {e}");
    let out = Command::new(program).args(args).output().unwrap_or_else(missing);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A file system of its own where an instance keeps its record; unmounted when dropped.
struct Volume {
    dir: PathBuf,
}

impl Volume {
    /// A tmpfs of this size.
    #[track_caller]
    fn tmpfs(p: &Pipeline, size: &str) -> Volume {
        let volume = Volume::at(p.record());
        must("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "none", volume.path()]);
        volume
    }

    /// An ext4 in a file, on a loop device.
    #[track_caller]
    fn ext4(p: &Pipeline, options: &str) -> Volume {
        Volume::ext4_at(p, p.record(), options)
    }

    #[track_caller]
    fn ext4_at(p: &Pipeline, dir: PathBuf, options: &str) -> Volume {
        let volume = Volume::at(dir);
        let image = p.dir().join("image");
        File::create(&image).unwrap().set_len(32 << 20).unwrap();
        must("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        volume.mount_image(p, options);
        volume
    }

    #[track_caller]
    fn mount_image(&self, p: &Pipeline, options: &str) {
        let image = p.dir().join("image");
        must("mount", &["-o", &format!("loop,{options}"), image.to_str().unwrap(), self.path()]);
        fs::set_permissions(&self.dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[track_caller]
    fn at(dir: PathBuf) -> Volume {
        fs::create_dir_all(&dir).unwrap();
        for above in dir.ancestors().skip(1).take(2) {
            fs::set_permissions(above, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        Volume { dir }
    }

    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.dir.join("ballast")).unwrap();
        // large pieces first, then what is left of the last page
        for piece in [1 << 16, 4096, 512, 1] {
            while std::io::Write::write(&mut file, &vec![0; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.dir.join("ballast")).unwrap();
    }

    #[track_caller]
    fn remount(&self, how: &str) {
        must("mount", &["-o", &format!("remount,{how}"), self.path()]);
    }

    fn unmount(&self) {
        must("umount", &["-l", self.path()]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").args(["-u", self.path()]).output();
        let _ = Command::new("umount").args(["-l", self.path()]).output();
    }
}

/// Seconds of samples through a small ring, so that a disk that takes nothing is soon felt by conv.
fn pipeline(lines: u64) -> Pipeline {
    Pipeline::of_lines(
        lines,
        "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 2048\n\
         [log]\nsync = \"5ms\"\nsegment = \"64KiB\"\n",
    )
}

#[track_caller]
fn wait_for_state(p: &Pipeline, run: &mut Foreground, role: Role, state: &str) {
    wait_until(&format!("{role:?} shows {state:?}\n{}", run.err()), BOUND, || p.state_of(role) == state);
    assert!(run.is_running());
}

#[track_caller]
fn ends_exactly(p: &mut Pipeline, run: &mut Foreground, lines: u64) {
    run.ends_with(0, BOUND);
    assert_eq!(p.judge_lines(lines).samples, lines);
    assert!(run.last_line().contains(&format!("n={lines} ")), "{}", run.last_line());
    p.assert_nothing_left();
}

#[test]
#[ignore = "mounts file systems, so it needs root"]
fn disk_full_and_free_again() {
    let mut p = pipeline(60_000);
    let volume = Volume::tmpfs(&p, "8m");
    let mut run = p.run(&[]);
    for round in 1..=3 {
        run.wait_for_durable(6_000 * round, BOUND);
        volume.fill();
        wait_for_state(&p, &mut run, Role::Log, "disk full");
        wait_for_state(&p, &mut run, Role::Conv, "spool full");
        let (stuck, at_risk) = (run.durable(), p.status()["at_risk"].as_u64());
        assert!(at_risk > Some(2000), "{at_risk:?}");
        // Killed on the full disk, it comes back to a full disk.
        if round == 2 {
            assert!(run.kill(Role::Log));
            wait_for_state(&p, &mut run, Role::Log, "disk full");
        }
        p.expect(&["verify"], 0);
        volume.free();
        run.wait_for_durable(stuck + 4000, BOUND);
        wait_for_state(&p, &mut run, Role::Log, "running");
    }
    assert!(run.err().contains("No space left on device"), "{}", run.err());
    ends_exactly(&mut p, &mut run, 60_000);
}

#[test]
#[ignore = "mounts file systems, so it needs root"]
fn stopped_on_a_full_disk_the_spool_stays() {
    let mut p = pipeline(30_000);
    let volume = Volume::tmpfs(&p, "8m");
    let mut run = p.run(&[]);
    run.wait_for_durable(6_000, BOUND);
    volume.fill();
    wait_for_state(&p, &mut run, Role::Conv, "spool full");
    run.signal(Signal::INT);
    run.ends_with(71, BOUND);
    let spool = Spool::open(&p.paths.spool()).expect("the spool stays");
    let left = spool.head().unwrap() - p.durable();
    assert!(left > 1000);
    let said = format!("holds {left} accepted entries that are not in the record");
    assert!(run.err().contains(&said), "{said}\n{}", run.err());
    let text = p.expect(&["objects", "remove"], 71);
    assert!(text.contains(&said), "{text}");
    // Another run on the full disk loses nothing, either.
    let mut run = p.run(&[]);
    wait_for_state(&p, &mut run, Role::Log, "disk full");
    run.signal(Signal::TERM);
    run.ends_with(71, BOUND);
    volume.free();
    let mut run = p.run(&[]);
    ends_exactly(&mut p, &mut run, 30_000);
}

#[test]
#[ignore = "mounts file systems, so it needs root"]
fn begun_on_a_full_disk() {
    let mut p = pipeline(10_000);
    let volume = Volume::tmpfs(&p, "1m");
    volume.fill();
    let mut run = p.run(&[]);
    wait_for_state(&p, &mut run, Role::Log, "disk full");
    wait_for_state(&p, &mut run, Role::Conv, "waiting for ipc-log");
    volume.free();
    ends_exactly(&mut p, &mut run, 10_000);
}

#[test]
#[ignore = "mounts file systems, so it needs root"]
fn a_read_only_file_system() {
    let mut p = pipeline(40_000);
    let volume = Volume::tmpfs(&p, "16m");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 5_000);
    // A file system with files open for writing cannot be made read-only: log has to be away for a moment.
    p.kill(Role::Log);
    volume.remount("ro");
    p.start(Role::Log);
    p.wait_for("log says so", BOUND, |p| p.state_of(Role::Log) == "read-only file system");
    p.wait_for("conv waits", BOUND, |p| p.state_of(Role::Conv) == "spool full");
    std::thread::sleep(Duration::from_millis(500)); // it is tried a few times
    volume.remount("rw");
    p.wait_for("all is accepted", BOUND, |p| !p.is_running(Role::Conv));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let said = p.said_by(Role::Log).matches("Read-only file system").count();
    assert_eq!(said, 1, "said once:\n{}", p.said_by(Role::Log));
    assert_eq!(p.judge_lines(40_000).samples, 40_000);
    p.remove_objects();
    p.assert_nothing_left();
}

/// No new names in the directory: neither root nor anybody can add a segment.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn a_directory_that_takes_no_new_file() {
    let mut p = pipeline(60_000);
    let volume = Volume::tmpfs(&p, "16m");
    let mut run = p.run(&[]);
    run.wait_for_durable(5_000, BOUND);
    must("chattr", &["+i", volume.path()]);
    wait_for_state(&p, &mut run, Role::Log, "disk error");
    wait_for_state(&p, &mut run, Role::Conv, "spool full");
    p.expect(&["verify"], 0);
    must("chattr", &["-i", volume.path()]);
    ends_exactly(&mut p, &mut run, 60_000);
}

#[test]
#[ignore = "mounts file systems, so it needs root"]
fn a_stalled_disk() {
    let mut p = pipeline(60_000);
    let volume = Volume::ext4(&p, "nodelalloc");
    let mut run = p.run(&[]);
    run.wait_for_durable(5_000, BOUND);
    let pids = Role::ALL.map(|role| run.daemon(role));
    must("fsfreeze", &["-f", volume.path()]);
    wait_for_state(&p, &mut run, Role::Log, "disk slow");
    wait_for_state(&p, &mut run, Role::Conv, "spool full");
    let stuck = run.durable();
    // Longer than the watchdog's patience of 3 s: a stalled disk is no hanging daemon.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(p.state_of(Role::Log), "disk slow");
    assert_eq!(Role::ALL.map(|role| run.daemon(role)), pids, "nobody was replaced:\n{}", run.err());
    slow_is_said(&run, "what is accepted waits in the spool", 0);
    must("fsfreeze", &["-u", volume.path()]);
    run.wait_for_durable(stuck + 4000, BOUND);
    wait_for_state(&p, &mut run, Role::Log, "running");
    slow_is_said(&run, "what is accepted waits in the spool", 1);
    ends_exactly(&mut p, &mut run, 60_000);
}

/// A stall is said once, with what it means, and its end once, if it is over.
#[track_caller]
fn slow_is_said(run: &Foreground, meanwhile: &str, over: usize) {
    let count = |text: &str| run.err().matches(text).count();
    wait_until("it is said", BOUND, || count("the disk answers in time again") == over);
    assert_eq!(count(&format!("the disk does not answer in time: {meanwhile}")), 1, "{}", run.err());
}

/// Not even SIGKILL ends a process before its call to the disk returns: it is not waited for.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn two_signals_on_a_stalled_disk_end_at_once() {
    let mut p = pipeline(60_000);
    let volume = Volume::ext4(&p, "nodelalloc");
    let mut run = p.run(&[]);
    run.wait_for_durable(5_000, BOUND);
    let log = run.daemon(Role::Log).unwrap();
    must("fsfreeze", &["-f", volume.path()]);
    wait_for_state(&p, &mut run, Role::Conv, "spool full");
    run.signal(Signal::INT);
    wait_until("conv has gone", BOUND, || run.daemon(Role::Conv).is_none());
    run.signal_again(Signal::INT);
    let begun = Instant::now();
    run.ends_with(71, BOUND);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(run.err().contains("ended at once"), "{}", run.err());
    must("fsfreeze", &["-u", volume.path()]);
    wait_until("log dies when the disk answers", BOUND, || process(log).is_none());
    let mut run = p.run(&[]);
    ends_exactly(&mut p, &mut run, 60_000);
}

/// Where stat keeps its checkpoints: it shows what is wrong, and the statistics go on.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn a_stalled_disk_under_the_checkpoints() {
    let mut p = Pipeline::of_lines(
        400_000,
        "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[log]\nsync = \"5ms\"\n[stat]\ncheckpoint = \"10ms\"\n",
    );
    let volume = Volume::ext4_at(&p, p.record().with_file_name("stat"), "nodelalloc");
    let mut run = p.run(&[]);
    wait_until("a checkpoint", BOUND, || p.counter(Role::Stat, "checkpoints").wrapping_add(1) > 1);
    let stat = run.daemon(Role::Stat);
    must("fsfreeze", &["-f", volume.path()]);
    wait_for_state(&p, &mut run, Role::Stat, "disk slow");
    let (folded, saved) = (p.folded(), p.counter(Role::Stat, "checkpoints"));
    // Longer than the watchdog's patience of 3 s.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(run.daemon(Role::Stat), stat, "stat was replaced:\n{}", run.err());
    assert!(p.folded() > folded + 20_000, "the statistics go on: {folded}, {}", p.folded());
    assert_eq!(p.counter(Role::Stat, "checkpoints"), saved);
    slow_is_said(&run, "checkpoints wait, and the statistics go on", 0);
    must("fsfreeze", &["-u", volume.path()]);
    wait_for_state(&p, &mut run, Role::Stat, "running");
    slow_is_said(&run, "checkpoints wait, and the statistics go on", 1);
    wait_until("another checkpoint", BOUND, || p.counter(Role::Stat, "checkpoints") > saved + 1);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    p.judge();
    p.assert_nothing_left();
}

/// log's first work is on the disk, too; it must show itself all the same.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn begun_on_a_stalled_disk() {
    let mut p = pipeline(20_000);
    let volume = Volume::ext4(&p, "nodelalloc");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 5_000);
    p.kill(Role::Log);
    must("fsfreeze", &["-f", volume.path()]);
    p.start(Role::Log);
    p.wait_for("log shows it", BOUND, |p| p.state_of(Role::Log) == "disk slow");
    p.wait_for("conv waits", BOUND, |p| p.state_of(Role::Conv) == "spool full");
    must("fsfreeze", &["-u", volume.path()]);
    p.wait_for("all is accepted", BOUND, |p| !p.is_running(Role::Conv));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    assert_eq!(p.judge_lines(20_000).samples, 20_000);
    p.remove_objects();
    p.assert_nothing_left();
}

/// /dev/shm takes no new page while it is full: said once by each daemon, and made again when there is space. The pipeline
/// has a /dev/shm of its own, in a mount namespace.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn pages_removed_while_their_memory_is_full() {
    let p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n[spool]\ncapacity = 1024\n");
    let err = p.dir().join("err");
    let mut c = p.command("unshare");
    c.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" run --config \"$1\"",
    ]);
    c.arg(env!("CARGO_BIN_EXE_ipc-pipeline")).arg(p.config());
    let mut run = c.stdout(Stdio::null()).stderr(File::create(&err).unwrap()).spawn().unwrap();
    let daemons = || {
        let mut all: Vec<i32> = children(run.id()).collect();
        all.sort();
        all
    };
    let inside = PathBuf::from(format!("/proc/{}/root", run.id()));
    let within = |path: PathBuf| inside.join(path.strip_prefix("/").unwrap());
    let (shm, spool) = (inside.join("dev/shm"), within(p.paths.spool()));
    let mut names = Role::ALL.map(|role| within(p.paths.page(role))).to_vec();
    names.push(within(p.paths.snapshot()));
    wait_until("it runs", BOUND, || Spool::open(&spool).and_then(|s| s.head()) > Some(500));
    let before = daemons();
    let ballast = shm.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    names.iter().for_each(|name| fs::remove_file(name).unwrap());
    let said = |name: &str| fs::read_to_string(&err).unwrap().matches(name).count();
    let objects = ["page.conv", "page.log", "page.stat", "page.report", "snapshot"];
    wait_until("all say so", BOUND, || objects.iter().all(|name| said(name) > 0));
    std::thread::sleep(Duration::from_millis(500)); // does one say it again, or end?
    let text = || fs::read_to_string(&err).unwrap();
    assert!(objects.iter().all(|name| said(name) == 1), "once each:\n{}", text());
    assert_eq!((before.len(), daemons()), (4, before), "{}", text());
    fs::remove_file(&ballast).unwrap();
    wait_until("all are back", BOUND, || names.iter().all(|name| name.exists()));
    signal_pid(run.id() as i32, Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", text());
    p.judge();
}

fn children(of: u32) -> impl Iterator<Item = i32> {
    processes().into_iter().filter(move |p| p.parent == of as i32).map(|p| p.pid)
}

/// Rule E9 holds for a log, too, that is told to stop before it has opened its record.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn told_to_stop_before_the_record_is_open() {
    let mut p = pipeline(20_000);
    let volume = Volume::ext4(&p, "nodelalloc");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 5_000);
    p.kill(Role::Log);
    p.wait_for("conv waits", BOUND, |p| p.state_of(Role::Conv) == "spool full");
    p.stop(Role::Conv, BOUND);
    must("fsfreeze", &["-f", volume.path()]);
    p.start(Role::Log);
    p.wait_for("log shows it", BOUND, |p| p.state_of(Role::Log) == "disk slow");
    p.signal(Role::Log, Signal::TERM);
    std::thread::sleep(Duration::from_millis(500)); // it shall look around a few times
    must("fsfreeze", &["-u", volume.path()]);
    p.stop(Role::Log, BOUND);
    assert_eq!(Some(p.durable()), p.head(), "{}", p.state());
    [Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.judge();
    p.remove_objects();
    p.assert_nothing_left();
}

/// What ext4 does after an error of its own: read-only until it is mounted anew.
#[test]
#[ignore = "mounts file systems, so it needs root"]
fn a_file_system_that_gives_up() {
    let mut p = pipeline(40_000);
    let volume = Volume::ext4(&p, "errors=remount-ro");
    let device = must("findmnt", &["-n", "-o", "SOURCE", volume.path()]);
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.trim_start_matches("/dev/"));
    let mut run = p.run(&[]);
    run.wait_for_durable(5_000, BOUND);
    fs::write(trigger, "1").unwrap();
    wait_until("log shows trouble", BOUND, || {
        ["read-only file system", "disk error"].contains(&p.state_of(Role::Log).as_str())
    });
    wait_for_state(&p, &mut run, Role::Conv, "spool full");
    run.signal(Signal::INT);
    run.ends_with(71, BOUND);
    let at_risk = p.status()["at_risk"].as_u64();
    assert!(at_risk > Some(1000), "{at_risk:?}");
    // Mended, as an administrator would.
    volume.unmount();
    wait_until("the device is free", BOUND, || {
        !Path::new(&format!("/sys/fs/ext4/{}", &device[5..])).exists()
    });
    let image = p.dir().join("image");
    let _ = Command::new("e2fsck").args(["-fy", image.to_str().unwrap()]).output(); // 1: mended
    volume.mount_image(&p, "defaults");
    let mut run = p.run(&[]);
    ends_exactly(&mut p, &mut run, 40_000);
}
