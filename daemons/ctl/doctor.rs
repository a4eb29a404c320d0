//! `ipc-pipeline doctor`: is this machine as a pipeline needs it? Each finding says what to do. Nothing is changed, and
//! what is made for a trial is removed.
#![forbid(unsafe_code)]

mod ipc;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use comfy_table::{ContentArrangement, Table, presets};
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::{GROUP, Names, Role, Scope};
use ipc_pipeline::{objects, sys};
use nix::unistd::{Group, User};
use serde_json::{Value, json};

use crate::say;

/// Examples and exit codes.
pub const HELP: &str = "Examples:
  ipc-pipeline doctor
  ipc-pipeline doctor --system --json

Exit codes: 0 all is well or worth a look, 1 something is wrong.";

/// Exit code: something is wrong.
const EXIT_WRONG: u8 = 1;
/// The table fits an ordinary terminal.
const WIDTH: u16 = 80;
/// Less room than this for the record is worth a look, bytes.
const ROOM: u64 = 1 << 30;
/// Segments besides the spool, bytes: pages, register.
const OTHER_SEGMENTS: u64 = 1 << 20;
/// `f_type` of tmpfs, statfs(2).
const TMPFS: i64 = 0x0102_1994;
/// 2024-01-01: a clock before that was never set, ns since 1970.
const CLOCK_NS: u64 = 1_704_067_200_000_000_000;

/// Asks logind for its RemoveIPC=.
const LOGIND_REMOVES_IPC: [&str; 5] = [
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "RemoveIPC",
];
/// With one of these a service deletes, or does not see, what the daemons share.
const NOT_IN_A_UNIT: [&str; 3] = ["RemoveIPC", "DynamicUser", "PrivateIPC"];

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, but not as well as it could.
    Look,
    Wrong,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Look => "look",
            Verdict::Wrong => "WRONG",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    said: String,
    /// What to do; empty if all is well.
    remedy: String,
}

fn good(what: &'static str, said: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Good, said: said.into(), remedy: String::new() }
}

fn look(what: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Look, said: said.into(), remedy: remedy.into() }
}

fn wrong(what: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Wrong, said: said.into(), remedy: remedy.into() }
}

/// The whole command.
pub fn doctor(common: &CommonArgs, as_json: bool) -> Result<u8, Failure> {
    let findings = match common.resolve() {
        Ok((config, names)) => examine(&config, &names)?,
        Err(e) => {
            vec![wrong("configuration", e.to_string(), "mend it; `ipc-pipeline check` says this alone")]
        }
    };
    say(&if as_json { machine(&findings) } else { people(&findings) })?;
    Ok(if findings.iter().any(|finding| finding.verdict == Verdict::Wrong) { EXIT_WRONG } else { 0 })
}

fn examine(config: &Config, names: &Names) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![
        good("configuration", "no faults"),
        shared_memory(config, names),
        directories(names),
        disk(names),
        clock(),
        barriers(),
    ];
    match names.scope() {
        Scope::User => findings.extend(log_out(names)),
        Scope::System => {
            findings.extend(users());
            findings.push(group());
            findings.extend(units(names));
        }
    }
    findings.extend(ipc::findings(config)?);
    Ok(findings)
}

/// The spool is there as a whole before a daemon uses it, so its room is what counts.
fn shared_memory(config: &Config, names: &Names) -> Finding {
    const WHAT: &str = "/dev/shm";
    let needed = config.spool.capacity * 32 + OTHER_SEGMENTS;
    let held = ipc_pipeline::names::shm_path(&names.spool()).metadata().map_or(0, |spool| spool.len());
    let Ok(stat) = rustix::fs::statfs(WHAT) else {
        return wrong(WHAT, "it is not there", "mount it: mount -t tmpfs tmpfs /dev/shm");
    };
    let free = stat.f_bavail * stat.f_bsize as u64 + held;
    let said = format!("{} MiB free, {} MiB needed", free >> 20, needed.div_ceil(1 << 20));
    if free < needed {
        return wrong(
            WHAT,
            said,
            "free some of it, enlarge it (mount -o remount,size=...), or lower spool.capacity",
        );
    }
    if stat.f_type != TMPFS {
        return look(
            WHAT,
            said + "; it is no tmpfs",
            "mount a tmpfs there: on a disk each entry is written twice",
        );
    }
    good(WHAT, said)
}

fn directories(names: &Names) -> Finding {
    const WHAT: &str = "directories";
    if names.scope() == Scope::System && !names.run_dir().exists() {
        return look(
            WHAT,
            format!("{} is not there yet", names.run_dir().display()),
            "systemctl start ipc-pipeline.target makes it",
        );
    }
    if ![names.run_dir(), names.state_dir()].iter().all(|dir| dir.exists()) {
        return good(WHAT, "they are made when a daemon starts");
    }
    // They are there, so this makes nothing.
    match objects::make_directories(names) {
        Ok(()) => good(WHAT, format!("{}, {}", names.run_dir().display(), names.state_dir().display())),
        Err(e) => wrong(WHAT, e.to_string(), "do what this says"),
    }
}

fn disk(names: &Names) -> Finding {
    const WHAT: &str = "disk";
    let place = existing(&names.record_dir());
    let Ok(stat) = rustix::fs::statfs(&place) else {
        return wrong(WHAT, format!("{} cannot be looked at", place.display()), "check its owner and mode");
    };
    let free = stat.f_bavail * stat.f_bsize as u64;
    let said = format!("{} MiB free for the record in {}", free >> 20, names.record_dir().display());
    if stat.f_type == TMPFS {
        return look(WHAT, said + ", which is in memory", "a reboot loses the record: keep it on a disk");
    }
    if free < ROOM {
        return look(
            WHAT,
            said,
            "free some, or bound the record: log.keep_size, log.keep_time, log.compress",
        );
    }
    good(WHAT, said)
}

/// The nearest directory above that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn clock() -> Finding {
    const WHAT: &str = "clock";
    if sys::wall_ns() < CLOCK_NS {
        return wrong(WHAT, "it was never set", "set it, or let it be set: timedatectl set-ntp true");
    }
    match run("timedatectl", &["show", "--value", "-p", "NTPSynchronized"]).as_deref() {
        Some("no") => look(
            WHAT,
            "nobody keeps it right",
            "ticks do not depend on it, times of day do: timedatectl set-ntp true",
        ),
        Some("yes") => good(WHAT, "kept right by NTP"),
        _ => good(WHAT, "set"),
    }
}

fn barriers() -> Finding {
    const WHAT: &str = "wake-ups";
    if sys::register_for_barriers() {
        return good(WHAT, "the kernel has membarrier");
    }
    look(WHAT, "the kernel has no membarrier", "each commit costs a fence: a kernel from 4.16 on has it")
}

/// logind removes what a user has in /dev/shm when the last session ends, unless it lingers, or RemoveIPC=no says otherwise.
fn log_out(names: &Names) -> Option<Finding> {
    const WHAT: &str = "log-out";
    let uid = rustix::process::getuid();
    let user = User::from_uid(uid.as_raw().into()).ok().flatten()?;
    // Users of the system are left alone.
    if uid.as_raw() < 1000 || !Path::new("/run/systemd/seats").exists() {
        return None;
    }
    let lingers = Path::new("/var/lib/systemd/linger").join(&user.name).exists();
    Some(if lingers {
        good(WHAT, format!("{} lingers: its pipelines stay", user.name))
    } else if run("busctl", &LOGIND_REMOVES_IPC).as_deref() == Some("b false") {
        good(WHAT, "logind removes nobody's objects (RemoveIPC=no)")
    } else {
        look(
            WHAT,
            format!("the objects of instance {} go when {} logs out", names.instance(), user.name),
            "loginctl enable-linger",
        )
    })
}

fn users() -> Vec<Finding> {
    let names = Role::ALL.map(|role| format!("_{}", role.program()));
    let missing: Vec<&String> =
        names.iter().filter(|name| !User::from_name(name).is_ok_and(|user| user.is_some())).collect();
    if missing.is_empty() {
        return vec![good("users", "each daemon has one of its own")];
    }
    let said = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ") + " not there";
    vec![wrong("users", said, "install the package, or run systemd-sysusers")]
}

fn group() -> Finding {
    const WHAT: &str = "group";
    let Some(group) = Group::from_name(GROUP).ok().flatten() else {
        return wrong(WHAT, format!("{GROUP} is not there"), "install the package, or run systemd-sysusers");
    };
    let ours = nix::unistd::getgroups().unwrap_or_default();
    if rustix::process::geteuid().is_root() || ours.contains(&group.gid) {
        return good(WHAT, "you may look: status, top, export, verify with --system");
    }
    look(
        WHAT,
        format!("you are no member of {GROUP}"),
        format!("to look: adduser USER {GROUP} as root, then log in anew"),
    )
}

fn units(names: &Names) -> Vec<Finding> {
    let name = names.prefix().split_once('@').map_or(String::new(), |(_, name)| format!("@{name}"));
    let unit = |role: Role| format!("{}{name}.service", role.program());
    let target = format!("ipc-pipeline{name}.target");
    let Some(enabled) = run("systemctl", &["is-enabled", &target]) else {
        return vec![look(
            "units",
            "there is no systemd that runs here",
            "start the daemons by hand, or `ipc-pipeline run` as a user",
        )];
    };
    let mut findings = vec![if enabled == "enabled" {
        good("target", format!("{target} starts with the machine"))
    } else {
        look(
            "target",
            format!("{target} is {enabled}"),
            format!("to start with the machine: systemctl enable {target}"),
        )
    }];
    for role in Role::ALL {
        let property =
            |name: &str| run("systemctl", &["show", "--value", "-p", name, &unit(role)]).unwrap_or_default();
        let (state, restarts, drop_ins) =
            (property("ActiveState"), property("NRestarts"), property("DropInPaths"));
        let said = match (restarts.as_str(), drop_ins.as_str()) {
            ("0" | "", "") => state.clone(),
            (restarts, "") => format!("{state}, restarted {restarts} times"),
            (restarts, drop_ins) => format!("{state}, restarted {restarts} times, with {drop_ins}"),
        };
        if let Some(line) = NOT_IN_A_UNIT.into_iter().find(|line| property(line) == "yes") {
            findings.push(wrong(
                role.program(),
                format!("it has {line}=yes, by which daemons lose what they share; with {drop_ins}"),
                format!("take it out: systemctl revert {0}, or systemctl edit {0}", unit(role)),
            ));
            continue;
        }
        findings.push(match state.as_str() {
            "active" => good(role.program(), said),
            "failed" => wrong(role.program(), said, format!("journalctl -u {} says why", unit(role))),
            _ => look(role.program(), said, format!("systemctl start {target}")),
        });
    }
    findings
}

/// What a program prints, in one line; `None` if it is not there.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty() || output.status.success()).then_some(text)
}

fn people(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for Finding { what, verdict, said, remedy } in findings {
        let text = if remedy.is_empty() { said.clone() } else { format!("{said}\n-> {remedy}") };
        table.add_row([verdict.word().to_owned(), (*what).to_owned(), text]);
    }
    format!("{}\n", table.trim_fmt())
}

fn machine(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        json!({
            "what": finding.what,
            "verdict": finding.verdict.word().to_lowercase(),
            "said": finding.said,
            "remedy": finding.remedy,
        })
    };
    format!("{:#}\n", findings.iter().map(one).collect::<Value>())
}
