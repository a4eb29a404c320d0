//! Programs that do what the names' modes let them: they write junk where a role listens, or take what is meant for it.
#![forbid(unsafe_code)]

use super::{BOUND, RECEIVERS, begin_stranger, check_lines, conclude, place, stranger, working};
use crate::harness::{Pipeline, Role};
use std::process::Command;

/// Waits until a counter of the role has become larger by more than that.
fn wait_for_more(p: &mut Pipeline, role: Role, counter: &str, more: u64) {
    let before = p.counter(role, counter);
    p.wait_for(&format!("{counter} of {role:?} grows"), BOUND, |p| p.counter(role, counter) > before + more);
}

/// log and stat get their entries over their carriers again, once nobody disturbs them.
fn goes_on(p: &mut Pipeline) {
    wait_for_more(p, Role::Log, "carried", 100);
    wait_for_more(p, Role::Stat, "carried", 100);
}

/// Garbage and forgeries of all kinds, for log and for stat: nothing of it is taken, and `status` counts it.
fn junk_is_refused(carrier: &str) {
    let (mut p, _) = working([carrier, carrier, "shm"]);
    for role in [Role::Log, Role::Stat] {
        stranger(&p, &["junk", carrier, &place(&p, carrier, role), &p.name, role.name(), "200"]);
        for counter in ["bad", "injected"] {
            assert!(
                p.counter(role, counter) > 10,
                "{carrier}: {role:?} counts what is {counter}{}",
                p.state()
            );
        }
    }
    goes_on(&mut p);
    let record = conclude(&mut p);
    assert!(record.iter().all(|e| e.value != -7 && e.value != 1 << 21));
}

/// What was on its way to a role and is taken by somebody else comes once more. (By [`conclude`]: nothing is lost.)
fn a_thief_costs_nothing(carrier: &str) {
    let carriers = [carrier, carrier, "fifo"];
    let (mut p, _) = working(carriers);
    let mut thieves = RECEIVERS.map(|role| {
        let carrier = carriers[role as usize - 1];
        begin_stranger(&p, &["steal", carrier, &place(&p, carrier, role), "30"])
    });
    thieves.iter_mut().for_each(|thief| thief.ends_with(0, BOUND));
    goes_on(&mut p);
    let record = conclude(&mut p);
    if carrier == "fifo" {
        return; // they have pieces
    }
    for thief in &thieves[..2] {
        // True entries of ours. Some may be there twice: what was stolen was sent again.
        let stolen = check_lines(&thief.out(), &record);
        assert!(stolen.len() >= 20, "{carrier}: only {} samples were stolen", stolen.len());
    }
}

#[test]
fn posix_ipc_sends_junk() {
    junk_is_refused("mq");
}

#[test]
fn posix_ipc_steals() {
    a_thief_costs_nothing("mq");
}

#[test]
fn junk_by_the_key_of_a_system_v_queue() {
    junk_is_refused("sysv");
}

#[test]
fn theft_by_the_key_of_a_system_v_queue() {
    a_thief_costs_nothing("sysv");
}

#[test]
fn python_writes_junk_into_fifos() {
    junk_is_refused("fifo");
}

#[test]
fn python_reads_fifos() {
    a_thief_costs_nothing("fifo");
}

/// Each of its connections takes the place of the sender's, which comes back.
#[test]
fn python_sends_junk_to_sockets() {
    junk_is_refused("unix");
}

/// What sysv_ipc can do with a key: its receiver makes another queue, and all goes on.
#[test]
fn sysv_ipc_removes_queues() {
    let (mut p, _) = working(["sysv", "sysv", "sysv"]);
    for role in RECEIVERS {
        let file = place(&p, "sysv", role);
        let key = || std::fs::read_to_string(&file).unwrap_or_default();
        let old = key();
        stranger(&p, &["remove", old.trim()]);
        p.wait_for("there is another queue", BOUND, |_| !key().is_empty() && key() != old);
    }
    goes_on(&mut p);
    conclude(&mut p);
}

/// What socat prints of these addresses, or has from standard input; how it ends does not matter.
fn socat(input: &[u8], addresses: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, input).unwrap();
    let mut socat = Command::new("timeout");
    socat.args(["20", "socat", "-u"]).args(addresses).stdin(std::fs::File::open(file).unwrap());
    socat.output().expect("it is there: apt install socat").stdout
}

#[test]
fn socat_reads_and_writes() {
    let (mut p, ports) = working(["unix", "fifo", "tcp"]);
    let (socket, fifo) = (place(&p, "unix", Role::Log), place(&p, "fifo", Role::Stat));
    let garbage: Vec<u8> = (0..40_000).map(|_| fastrand::u8(..)).collect();
    let bad = [Role::Log, Role::Stat].map(|role| p.counter(role, "bad"));
    socat(&garbage, &["STDIN", &format!("UNIX-CONNECT:{socket},socktype=5")]);
    socat(&garbage, &["STDIN", &format!("OPEN:{fifo},wronly")]);
    for (role, bad) in [Role::Log, Role::Stat].into_iter().zip(bad) {
        p.wait_for("the garbage is refused", BOUND, |p| p.counter(role, "bad") > bad);
    }
    let stolen = socat(&[], &[&format!("OPEN:{fifo},rdonly,readbytes=5000"), "STDOUT"]);
    assert_eq!(stolen.len(), 5_000);
    let said = socat(&[], &[&format!("TCP:127.0.0.1:{}", ports[2]), "STDOUT"]);
    assert_eq!(String::from_utf8_lossy(&said), "ipc-report has its sender already\n");
    goes_on(&mut p);
    conclude(&mut p);
}
