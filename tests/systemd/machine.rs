//! A container with a real systemd as process 1, made of a fresh Debian root and the package; gone when the value is dropped.
//!
//! The package and the roots are made by `make test-systemd` (tests/systemd/run.sh), which names them in the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Everything that should happen does so within this time, on a busy machine too.
pub const BOUND: Duration = Duration::from_secs(60);

/// One container.
pub struct Machine {
    dir: tempfile::TempDir,
    root: PathBuf,
    nspawn: Option<Child>,
    /// Its process 1, as we see it.
    leader: i32,
    /// Its own, so that two machines do not share theirs: what one removes the other would miss.
    cgroups: Vec<PathBuf>,
}

/// Enters the cgroups before `--`, and becomes what stands behind it.
const ENTER: &str =
    r#"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@""#;

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value.unwrap_or_else(|| panic!("{name} is not set: `make test-systemd` runs these tests")).into()
}

/// The package.
pub fn package() -> PathBuf {
    variable("IPC_PIPELINE_DEB")
}

impl Machine {
    /// Boots a fresh Debian of this release, without the package.
    pub fn bare(release: &str) -> Machine {
        let dir = tempfile::tempdir_in(variable("IPC_PIPELINE_ROOTS")).unwrap();
        let root = dir.path().join("root");
        for sub in ["root", "upper", "work"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let lower = variable("IPC_PIPELINE_ROOTS").join(release);
        let layers = format!(
            "lowerdir={},upperdir={d}/upper,workdir={d}/work",
            lower.display(),
            d = dir.path().display()
        );
        let mount = ["-t", "overlay", "overlay", "-o", &layers];
        assert!(Command::new("mount").args(mount).arg(&root).status().unwrap().success());
        let mut machine = Machine { dir, root, nspawn: None, leader: 0, cgroups: Vec::new() };
        machine.boot();
        machine
    }

    /// Boots one with the package installed.
    pub fn with_package(release: &str) -> Machine {
        let machine = Machine::bare(release);
        machine.install();
        machine
    }

    /// Installs the package, also over itself.
    pub fn install(&self) {
        fs::copy(package(), self.root.join("opt/ipc-pipeline.deb")).unwrap();
        self.does("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/ipc-pipeline.deb");
    }

    /// Starts the container and waits until it is up.
    pub fn boot(&mut self) {
        let name = format!("ipc-pipeline-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.cgroups = cgroups(&name);
        let mut nspawn = Command::new("sh");
        nspawn.args(["-c", ENTER, "sh"]).args(&self.cgroups).args(["--", "systemd-nspawn"]);
        nspawn
            .args([
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--private-network",
                "--system-call-filter=@clock",
            ])
            .args(["--machine", &name, "-D"])
            .arg(&self.root);
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nspawn = nspawn.spawn().expect("systemd-nspawn (systemd-container)");
        let pid = nspawn.id();
        self.nspawn = Some(nspawn);
        self.wait_for("a process 1", |machine| {
            machine.leader = leader_below(pid).unwrap_or(0);
            machine.leader != 0
        });
        self.wait_for("the container is up", |machine| {
            let state = machine.run("systemctl is-system-running --wait");
            ["running", "degraded"].contains(&text(&state.stdout).trim())
        });
    }

    /// Shuts it down in good order; [`Machine::boot`] starts it again, with what is on its disk.
    pub fn power_off(&mut self) {
        self.run("systemctl poweroff");
        if let Some(mut nspawn) = self.nspawn.take() {
            let begun = Instant::now();
            while nspawn.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < 2 * BOUND, "it does not power off");
                sleep(Duration::from_millis(20));
            }
        }
        self.leave_cgroups();
    }

    fn leave_cgroups(&mut self) {
        let dirs = std::mem::take(&mut self.cgroups);
        let _ = Command::new("find").args(&dirs).args(["-depth", "-type", "d", "-delete"]).status();
    }

    /// Runs a line of shell in it, as its superuser.
    pub fn run(&self, line: &str) -> Output {
        let leader = self.leader.to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-a", "--", "/bin/sh", "-c", line]).env_clear();
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).output().expect("nsenter (util-linux)")
    }

    /// Runs a line that must succeed; gives what it printed.
    #[track_caller]
    pub fn does(&self, line: &str) -> String {
        let output = self.run(line);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {}\n{out}{err}{}", output.status, self.story());
        out
    }

    /// Runs a line that must not succeed; gives what it said.
    #[track_caller]
    pub fn refuses(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{line} succeeded:\n{said}");
        said
    }

    /// Runs a line as another user.
    pub fn as_user(user: &str, line: &str) -> String {
        let quoted = line.replace('\'', "'\\''");
        format!("setpriv --reuid={user} --regid={user} --init-groups -- /bin/sh -c '{quoted}'")
    }

    /// Waits until this is so, or fails with the story of the machine.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Machine) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < BOUND, "after {BOUND:?} still not: {what}\n{}", self.story());
            sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        text(&self.run(&format!("systemctl show --value -p {name} {unit}")).stdout).trim().to_owned()
    }

    /// Process number of a service, as the container sees it.
    pub fn main_pid(&self, unit: &str) -> u32 {
        self.property(unit, "MainPID").parse().unwrap_or(0)
    }

    /// Disturbs the system calls of a service, as `strace -e inject=` says it, until it is dropped. The container has no strace:
    /// ours is attached from outside.
    pub fn inject(&self, unit: &str, what: &str) -> Injected {
        let pid = self.pid_outside(self.main_pid(unit)).expect("the service runs");
        let call = what.split(':').next().unwrap_or_default();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={what}")]);
        Injected(strace.stdin(Stdio::null()).spawn().expect("strace"))
    }

    /// The number that a process of the container has outside.
    fn pid_outside(&self, pid: u32) -> Option<u32> {
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = space(&self.leader.to_string())?;
        let is_it = |outside: &String| {
            let status = fs::read_to_string(format!("/proc/{outside}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let inside = numbers.and_then(|numbers| numbers.split_whitespace().last());
            inside == Some(&*pid.to_string()) && space(outside).as_ref() == Some(&ours)
        };
        let all = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        all.into_iter().find(is_it)?.parse().ok()
    }

    /// What `ipc-pipeline status` says of an instance; null if nothing.
    pub fn status(&self, arguments: &str) -> serde_json::Value {
        let output = self.run(&format!("ipc-pipeline status --json {arguments}"));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A place in it, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Writes a file in it.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }

    fn story(&self) -> String {
        let journal = self.run("journalctl --no-pager -n 60; systemctl --no-pager status 'ipc-*' | head -60");
        text(&journal.stdout)
    }
}

/// A process whose system calls are disturbed for as long as this lives.
pub struct Injected(Child);

impl Drop for Injected {
    fn drop(&mut self) {
        // It lets go of the process, which a killed one does, too; but not in the midst of a call that it holds up.
        let strace = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(strace, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut nspawn) = self.nspawn.take() {
            // All of it ends with its process 1.
            let leader = rustix::process::Pid::from_raw(self.leader);
            let _ = leader.map(|leader| rustix::process::kill_process(leader, rustix::process::Signal::KILL));
            let _ = nspawn.wait();
        }
        self.leave_cgroups();
        let _ = Command::new("umount").arg(&self.root).status();
        let _ = &self.dir;
    }
}

/// Makes cgroups of this name below our own, where systemd keeps services: one of version 2, or one of version 1 and one beside it.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mount_of = |hierarchy: &str| match hierarchy {
        "" if base.join("unified").exists() => Some(base.join("unified")),
        "" => Some(base.to_owned()),
        "name=systemd" => Some(base.join("systemd")),
        _ => None,
    };
    let dir_of = |line: &str| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        Some(mount_of(hierarchy)?.join(path.trim_start_matches('/')).join(name))
    };
    let dirs: Vec<PathBuf> = ours.lines().filter_map(dir_of).collect();
    dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    dirs
}

/// The child of nspawn that is process 1 of the container. There is another one before it, which ends.
fn leader_below(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let is_first = |pid: &&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().skip(1).eq(["1"]))
    };
    children.split_whitespace().find(is_first)?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
