//! Programs that are not ours in the place of a receiver: they listen at a socket and get what conv and stat send, by the page
//! of formats alone.
#![forbid(unsafe_code)]

use super::{BOUND, check_lines, conclude, in_the_sources, output_of, place, working};
use crate::checker::Entry;
use crate::harness::{Pipeline, Role};

/// Enough that positions wrap and messages are cut; few enough for a second.
const WANTED: usize = 500;
/// Snapshots.
const WANTED_ROWS: usize = 5;

/// A pipeline without its daemon of this role, and what tests/foreign/receiver.py prints in its place.
fn in_the_place_of(role: Role, carrier: &str, carriers: [&str; 3]) -> (Pipeline, String) {
    let (mut p, ports) = working(carriers);
    p.stop(role, BOUND);
    let port = ports[role as usize - 1].to_string();
    let place = if ["tcp", "udp"].contains(&carrier) { port } else { place(&p, carrier, role) };
    let lock = p.run_dir().join(format!("{}.lock", role.name()));
    let lock = lock.to_str().unwrap();
    let mut receiver = p.command("python3");
    receiver.arg(in_the_sources("tests/foreign/receiver.py"));
    match role {
        Role::Report => receiver.args(["rows", carrier, &place, lock, &WANTED_ROWS.to_string()]),
        _ => receiver.args(["entries", carrier, &place, &p.name, role.name(), lock, &WANTED.to_string()]),
    };
    let text = output_of(receiver);
    (p, text)
}

/// In the place of ipc-stat: entries, whole, in order, none twice. Then stat comes back, and has all in its statistics.
fn gets_entries(carrier: &str) {
    let (mut p, text) = in_the_place_of(Role::Stat, carrier, ["shm", carrier, "shm"]);
    p.start(Role::Stat);
    let carried = p.counter(Role::Stat, "carried");
    p.wait_for("the edge has its receiver again", BOUND, |p| p.counter(Role::Stat, "carried") > carried);
    let record = conclude(&mut p);
    let seqs = check_lines(&text, &record);
    assert!(seqs.len() == WANTED && seqs.is_sorted_by(|a, b| a < b), "all of them in order, none twice");
}

/// What a snapshot must say of the first `n` entries.
fn is_true(line: &str, record: &[Entry]) -> bool {
    let [n, count, sum] = line.split(' ').map(|word| word.parse::<i64>().unwrap()).collect::<Vec<_>>()[..]
    else {
        return false;
    };
    let folded: Vec<i64> = record.iter().filter(|e| e.seq as i64 <= n).map(|e| e.value.into()).collect();
    (folded.len() as i64, folded.iter().sum()) == (count, sum)
}

/// In the place of ipc-report: snapshots, whole, each as the record says. Then report comes back, and prints.
fn gets_snapshots(carrier: &str) {
    let (mut p, text) = in_the_place_of(Role::Report, carrier, ["shm", "shm", carrier]);
    p.start(Role::Report);
    let printed = p.counter(Role::Report, "printed");
    p.wait_for("report prints again", BOUND, |p| p.counter(Role::Report, "printed") > printed);
    let record = conclude(&mut p);
    assert_eq!(text.lines().count(), WANTED_ROWS, "{text}");
    for line in text.lines() {
        assert!(is_true(line, &record), "{carrier}: n, count, sum: {line}");
    }
}

#[test]
fn python_gets_entries_from_a_socket() {
    gets_entries("unix");
}

#[test]
fn python_gets_entries_from_tcp() {
    gets_entries("tcp");
}

#[test]
fn python_gets_entries_from_udp() {
    gets_entries("udp");
}

#[test]
fn python_gets_snapshots_from_a_socket() {
    gets_snapshots("unix");
}

#[test]
fn python_gets_snapshots_from_tcp() {
    gets_snapshots("tcp");
}

#[test]
fn python_gets_snapshots_from_udp() {
    gets_snapshots("udp");
}
