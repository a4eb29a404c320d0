//! Programs that only look: at pages, at the register; and readers that stop in the middle of it. Nobody waits for them.
#![forbid(unsafe_code)]

use super::{BOUND, RECEIVERS, begin_stranger, conclude, output_of, place, stranger, working};
use crate::harness::{Foreground, Pipeline, Role, wait_until};
use crate::header::build;
use rustix::process::Signal;
use std::process::Command;
use std::time::Duration;

const LOOKER: &str = r#"
#define _POSIX_C_SOURCE 200809L
#include "ipc_pipeline.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

static const void *map(const char *path, size_t size, const char *magic) {
    const void *segment = mmap(0, size, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_NOFOLLOW), 0);
    return segment != MAP_FAILED && ipcp_is_whole(segment, magic) ? segment : 0;
}

int main(int argc, char **argv) {
    static struct ipcp_row rows[IPCP_ROWS_MAX];
    const struct ipcp_page *page = argc == 3 ? map(argv[1], sizeof *page, IPCP_PAGE_MAGIC) : 0;
    const struct ipcp_register *newest = page ? map(argv[2], sizeof *newest, IPCP_REGISTER_MAGIC) : 0;
    uint64_t durable;
    if (!newest || !ipcp_durable(page, &durable) || ipcp_snapshot(newest, rows) != 1) return 2;
    printf("%s %llu\n", page->address, (unsigned long long)page->counters[0]);
    printf("%llu %llu %llu %lld\n", (unsigned long long)durable, (unsigned long long)rows[0].n,
           (unsigned long long)rows[0].count, (long long)rows[0].sum[0]);
    return 0;
}
"#;

/// C with the header, Python with nothing, `status --json` and the record say the same.
#[test]
fn pages_and_register_by_mmap() {
    let (mut p, _) = working(["unix", "shm", "shm"]);
    let record = conclude(&mut p);
    let head = p.head().unwrap();
    p.wait_for("log has counted all", BOUND, |p| p.counter(Role::Log, "entries") == head);
    let status = p.status();
    let (log, n) = (&status["daemons"]["log"], &status["daemons"]["stat"]["seq"]);
    let sum: i64 = record.iter().map(|e| e.value as i64).sum();
    let wanted = format!("{} {n} {} {sum}\n", status["durable"], record.len());
    assert_eq!(stranger(&p, &["pages", &p.name]), wanted);
    let dir = tempfile::tempdir().unwrap();
    let mut looker = Command::new(build(dir.path(), LOOKER));
    let said = output_of({
        looker.arg(p.paths.page(Role::Log)).arg(p.paths.snapshot());
        looker
    });
    let (address, entries) = (log["listens_at"].as_str().unwrap(), &log["counters"]["entries"]);
    assert_eq!(said, format!("{address} {entries}\n{wanted}"));
}

/// How long it takes until so much more is durable: the best of some rounds, so that a busy machine does not count.
fn pace(p: &mut Pipeline) -> Duration {
    let mut round = || {
        let due = p.durable() + 400;
        p.wait_for("it goes on", BOUND, |p| p.durable() >= due)
    };
    (0..3).map(|_| round()).min().unwrap()
}

/// Entries that log and stat got over their carriers.
fn carried(p: &Pipeline) -> [u64; 2] {
    [Role::Log, Role::Stat].map(|role| p.counter(role, "carried"))
}

/// Somebody holds what each role listens at, and all segments, and is stopped.
fn stopped_holders(carriers: [&str; 3]) {
    let (mut p, ports) = working(carriers);
    let before = pace(&mut p);
    let mut holders: Vec<Foreground> = Vec::new();
    for (i, role) in RECEIVERS.into_iter().enumerate() {
        let place = if carriers[i] == "tcp" { ports[i].to_string() } else { place(&p, carriers[i], role) };
        let holder = begin_stranger(&p, &["hold", carriers[i], &place, &p.name]);
        // Its carrier, the spool, the register and four pages.
        wait_until("the stranger holds everything", BOUND, || holder.out().contains("held 7"));
        holder.signal(Signal::STOP);
        holders.push(holder);
    }
    let (durable, came) = (p.durable(), carried(&p));
    let with_them = pace(&mut p);
    let came = carried(&p).into_iter().zip(came).map(|(now, then)| now - then).min().unwrap();
    let durable = p.durable() - durable;
    assert!(with_them < 2 * before, "{carriers:?}: {before:?} alone, {with_them:?} with stopped readers");
    assert!(2 * came >= durable, "{carriers:?}: of {durable} entries only {came} came over the carriers");
    drop(holders);
    conclude(&mut p);
}

#[test]
fn stopped_holders_of_queues_and_a_socket_hold_nothing_up() {
    stopped_holders(["mq", "sysv", "unix"]);
}

#[test]
fn stopped_holders_of_a_socket_a_fifo_and_a_port_hold_nothing_up() {
    stopped_holders(["unix", "fifo", "tcp"]);
}
