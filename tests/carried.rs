//! What stat is sent over a carrier: most of it need not be read in the record, and what was damaged since it came is not
//! folded.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{check_record, check_statistics};
use harness::{Page, Pipeline, Role, Spool, Witness, snapshot_rows};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);

/// Thousands of entries wait for the disk at a time, far more than a carrier holds.
#[test]
fn stat_empties_its_carrier_while_entries_wait_for_the_disk() {
    for carrier in ["mq", "fifo", "unix", "sysv"] {
        let mut p = Pipeline::new(&format!(
            "[source]\nkind = \"random\"\nseed = 5\n[conv]\nrate = \"200 kHz\"\n[spool]\ncapacity = 65536\n\
             [log]\nsync = \"100ms\"\n[edge]\nlog = \"shm:\"\nstat = \"{carrier}:\"\nreport = \"shm:\"\n"
        ));
        p.start_all();
        let count = |p: &Pipeline| (p.counter(Role::Stat, "folded"), p.counter(Role::Stat, "replayed"));
        p.wait_for("it runs", BOUND, |p| p.folded() > 20_000);
        // On a busy machine stat itself may come too late for a while: two stretches of many, one behind the other, must do.
        let mut good = 0;
        let kept_up = (0..30).any(|_| {
            let (folded, replayed) = count(&p);
            p.wait_for("it goes on", BOUND, |p| p.folded() > folded + 50_000);
            let (folded_then, replayed_then) = count(&p);
            let (folded, replayed) = (folded_then - folded, replayed_then - replayed);
            eprintln!("{carrier}: {replayed} of {folded} were read in the record");
            good = if replayed * 6 < folded { good + 1 } else { 0 };
            good == 2
        });
        assert!(kept_up, "{carrier}: most was read in the record{}", p.state());
        [Role::Conv, Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
        p.remove_objects();
        p.assert_nothing_left();
    }
}

/// An entry reaches stat whole, and its slot is damaged before ipc-log looks there: the record has CORRUPT, and so has stat (P2).
#[test]
fn what_was_damaged_since_it_came_is_not_folded() {
    let mut p = Pipeline::new(
        "[source]\nkind = \"random\"\nseed = 5\n[conv]\nrate = \"200 Hz\"\n[spool]\ncapacity = 4096\n\
         [edge]\nlog = \"mq:\"\nstat = \"fifo:\"\nreport = \"shm:\"\n",
    );
    let witness = Witness::start(&p.paths, &p.lives);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.folded() > 20);
    p.signal(Role::Log, Signal::STOP);
    p.wait_for("log stands still", BOUND, |p| p.head() > Some(p.durable() + 20));
    let received = |p: &Pipeline, role| Page::open(&p.paths.page(role)).unwrap().received().unwrap();
    let victim = received(&p, Role::Log) + 5;
    p.wait_for("stat has it", BOUND, |p| received(p, Role::Stat) > victim);
    let capacity = Spool::open(&p.paths.spool()).unwrap().capacity;
    let spool = File::options().write(true).open(p.paths.spool()).unwrap();
    spool.write_all_at(&[0x55; 4], 4096 + 32 * (victim % capacity) + 16).unwrap();
    p.signal(Role::Log, Signal::CONT);
    p.wait_for("the record goes on behind it", BOUND, |p| p.folded() > victim + 20);
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() == head && p.folded() == head);
    witness.look_once();
    let (seen, last) = (witness.finish(), snapshot_rows(&p.paths.snapshot()));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = check_record(&p.record());
    assert_eq!((report.last, report.lost[0]), (head, 1), "the record has it as CORRUPT{}", p.state());
    let said = p.said_by(Role::Log);
    assert!(said.contains("entries were damaged in the spool: 1;"), "{said}");
    assert_eq!(last.first().map(|row| row.row.corrupt), Some(1), "stat took what came");
    let wrong = check_statistics(&report.record, &seen.published);
    assert!(wrong.is_empty(), "{wrong}{}", p.state());
    p.remove_objects();
    p.assert_nothing_left();
}

/// Who stands still at the end of one edge holds up neither conv nor log: it reads the rest in the record.
#[test]
fn a_frozen_stat_slows_nobody_down() {
    for carrier in ["mq", "unix", "sysv"] {
        let mut p = Pipeline::new(&format!(
            "[source]\nkind = \"random\"\nseed = 5\n[conv]\nrate = \"max\"\nlock_step = true\n[log]\nsync = \"1ms\"\n\
             [edge]\nlog = \"shm:\"\nstat = \"{carrier}:\"\nreport = \"shm:\"\n"
        ));
        p.start_all();
        p.wait_for("it runs", BOUND, |p| p.folded() > 300);
        let pace = |p: &mut Pipeline| {
            let before = p.durable();
            p.wait_for("durable goes on", BOUND, |p| p.durable() >= before + 300)
        };
        let alone = pace(&mut p);
        p.signal(Role::Stat, Signal::STOP);
        // The first ones still find room in the carrier.
        for _ in 0..4 {
            pace(&mut p);
        }
        let frozen = pace(&mut p);
        p.signal(Role::Stat, Signal::CONT);
        assert!(frozen < alone * 4, "{carrier}: {frozen:.1?} for what took {alone:.1?}");
        let durable = p.durable();
        p.wait_for("stat reads the rest", BOUND, |p| p.folded() >= durable);
        [Role::Conv, Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
        p.remove_objects();
        p.assert_nothing_left();
    }
}
