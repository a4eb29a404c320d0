//! The package under a real systemd, on both releases of Debian: started, killed, attacked, upgraded, removed.
//!
//! `make test-systemd` makes the package and the roots and runs these; they need root and systemd-nspawn.
#![forbid(unsafe_code)]

mod attack_list;
mod attacks;
#[path = "../checker/mod.rs"]
mod checker;
mod directives;
mod edges;
mod journal;
mod life;
mod logout;
mod machine;
mod package;
mod reload;
mod sandbox;
#[path = "../scale.rs"]
mod scale;
mod scenes;
mod storm;

use checker::check_record;
use machine::Machine;
use std::sync::RwLock;

const ROLES: [&str; 4] = ["conv", "log", "stat", "report"];
const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// 1,000 samples a second.
const FAST: &str = "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n";

/// Several tests at a time may have it, or one that looks at how long things take.
static MACHINE: RwLock<()> = RwLock::new(());

/// Tries it on both releases at once, each in a container of its own.
fn on_both(test: impl Fn(&str) + Sync) {
    let _shared = MACHINE.read().unwrap_or_else(|e| e.into_inner());
    in_containers(test);
}

/// The same while nothing else runs.
fn on_both_alone(test: impl Fn(&str) + Sync) {
    let _alone = MACHINE.write().unwrap_or_else(|e| e.into_inner());
    in_containers(test);
}

fn in_containers(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for release in RELEASES {
            scope.spawn(|| test(release));
        }
    });
}

fn unit(role: &str) -> String {
    format!("ipc-{role}.service")
}

/// Starts the pipeline of a machine with this configuration and waits until samples are durable.
fn start(m: &mut Machine, config: &str) {
    m.write("/etc/ipc-pipeline/pipeline.toml", config);
    // A record tells what is durable while nothing runs, too.
    let before = m.status("--system")["durable"].as_u64().unwrap_or(0);
    m.does("systemctl start ipc-pipeline.target");
    m.wait_for("samples are durable", |m| m.status("--system")["durable"].as_u64() > Some(before + 5));
}

/// Stops it: no process and no object is left, and the record is true.
fn stop(m: &mut Machine) -> checker::Report {
    m.does("systemctl stop ipc-pipeline.target");
    m.wait_for("all have stopped", |m| ROLES.iter().all(|role| m.main_pid(&unit(role)) == 0));
    m.wait_for("the objects are gone", |m| {
        let names =
            "{ ls /dev/shm /dev/mqueue | grep '^ipc-pipeline[.]'; ipcs -q | grep _ipc-; } | grep -vc aside";
        m.does(&format!("{names} || true")).trim() == "0"
    });
    m.does("ipc-pipeline verify --system");
    let report = check_record(&m.path("/var/lib/ipc-pipeline/log"));
    assert!(report.faults.is_empty(), "{}", report.faults);
    report
}

/// How much of something: `usual`, or as much as `more` at night and before a release.
fn size(usual: usize, more: usize) -> usize {
    let [usual, more] = [usual, more].map(|n| n as u64);
    scale::usual([usual, more, more]) as usize
}
