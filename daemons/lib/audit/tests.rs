//! Tests of the audit: hand-made records that break one rule each, and random histories that break none.
#![forbid(unsafe_code)]

use super::*;

const P: u64 = 2_777_777_778; // 360 Hz in ps
const PS: u128 = 1000; // in a ns

fn tick(k: u64) -> u64 {
    500 + (k as u128 * P as u128 / PS) as u64
}

/// Numbers the entries 1, 2, 3 ... and seals them.
fn record(entries: &[Entry]) -> Vec<Entry> {
    (1..).zip(entries).map(|(seq, e)| Entry { seq, ..*e }.seal()).collect()
}

fn opening(epoch: u32, period_ps: u64) -> Vec<Entry> {
    vec![Entry::epoch(0, epoch, 7), Entry::source(0, epoch, 0, 1), Entry::grid(0, epoch, 500, period_ps)]
}

fn on_grid(entries: &[Entry]) -> Vec<Entry> {
    record(&[opening(1, P), entries.to_vec()].concat())
}

fn sample(k: u64) -> Entry {
    Entry::sample(0, 1, tick(k), 0, k as i32)
}

fn other(k: u64) -> Entry {
    Entry::sample(0, 1, tick(k), 1, k as i32)
}

fn loss(last: u64, reason: Reason, count: u32) -> Entry {
    Entry::loss(0, 1, tick(last), reason, count)
}

fn audit(entries: &[Entry]) -> Audit {
    let mut audit = Audit::new();
    let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_bytes()).collect();
    assert_eq!(audit.take_bytes(&bytes), entries.len());
    audit.finish();
    audit
}

fn faults(entries: &[Entry]) -> Vec<(u64, Fault)> {
    let audit = audit(entries);
    let ticks = audit.ticks;
    if audit.faults == 0 {
        assert_eq!(ticks.planned, ticks.taken + ticks.empty + ticks.full + ticks.hidden);
    }
    assert_eq!(audit.faults as usize, audit.findings().len());
    audit.findings().iter().map(|f| (f.seq, f.fault)).collect()
}

fn good() -> Vec<Entry> {
    on_grid(&[
        sample(0),
        other(0),
        loss(5, Reason::Missed, 2),
        loss(5, Reason::Full, 3),
        loss(5, Reason::Bad, 9),
        sample(6),
        other(6),
        Entry::clock(0, 1, 9, -4),
        sample(7),
        other(7),
        sample(8),
        other(8),
    ])
}

#[test]
fn a_true_record_has_no_findings() {
    let audit = audit(&good());
    assert_eq!(audit.findings(), []);
    assert_eq!(audit.ticks, Ticks { planned: 9, taken: 4, empty: 2, full: 3, hidden: 0 });
    assert_eq!((audit.epochs, audit.totals.n, audit.totals.losses.bad), (1, 15, 9));
    assert_eq!(audit.totals.channel(1).map(|s| s.count), Some(4));
}

#[test]
fn every_rotten_entry_is_one_finding() {
    for rotten in 0..good().len() {
        let mut entries = good();
        entries[rotten].value ^= 1 << 30;
        assert_eq!(faults(&entries), [(rotten as u64 + 1, Fault::Damaged)]);
    }
}

#[test]
fn corrupt_may_stand_for_anything() {
    for place in 0..good().len() {
        let mut entries = good();
        entries[place] = Entry::corrupt(place as u64 + 1, 1);
        assert_eq!(faults(&entries), [], "entry {}", place + 1);
        assert_eq!(audit(&entries).totals.losses.corrupt, 1);
    }
    let mut entries = good();
    entries[9] = Entry::corrupt(10, 1);
    entries[10] = Entry::corrupt(11, 1);
    assert_eq!(audit(&entries).ticks.hidden, 0);
    entries[12] = Entry::corrupt(13, 1);
    assert_eq!(audit(&entries).ticks.hidden, 0);
    entries[11] = Entry::corrupt(12, 1);
    assert_eq!(faults(&entries), []);
    assert_eq!(audit(&entries).ticks.hidden, 1);
}

#[test]
fn an_entry_left_out_or_twice_is_one_or_two_findings() {
    for gone in 0..good().len() - 1 {
        let mut entries = good();
        entries.remove(gone);
        let found = faults(&entries);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0], (gone as u64 + 1, Fault::Order { found: gone as u64 + 2 }));
        let mut entries = good();
        entries.insert(gone, entries[gone]);
        assert!((1..=2).contains(&faults(&entries).len()));
    }
}

#[test]
fn ticks_must_add_up() {
    let (expected, found) = (tick(1), tick(2));
    let lost = Fault::TicksLost { expected, found };
    assert_eq!(faults(&on_grid(&[sample(0), sample(2), sample(3)])), [(5, lost)]);
    let twice = Fault::TicksTwice { expected, found: tick(0) };
    assert_eq!(faults(&on_grid(&[sample(0), sample(0), sample(1)])), [(5, twice)]);
    let off = Entry::sample(0, 1, tick(1) + 1, 0, 5);
    let fault = Fault::OffGrid { expected, found: tick(1) + 1 };
    assert_eq!(faults(&on_grid(&[sample(0), off, sample(2)])), [(5, fault)]);
    for (count, right) in [(2, false), (3, true), (4, false)] {
        for reason in [Reason::Missed, Reason::Unread, Reason::Full] {
            let entries = on_grid(&[sample(0), loss(3, reason, count), sample(4), sample(5)]);
            assert_eq!(faults(&entries).is_empty(), right, "{count} {reason:?}");
            assert!(faults(&entries).len() <= 1);
        }
    }
}

#[test]
fn a_run_of_losses_may_be_broken_by_a_restart_or_by_the_end() {
    let restart = [
        sample(0),
        loss(4, Reason::Missed, 2),
        loss(9, Reason::Missed, 5),
        loss(9, Reason::Full, 2),
        sample(10),
    ];
    assert_eq!(faults(&on_grid(&restart)), []);
    let cut = on_grid(&[sample(0), loss(4, Reason::Missed, 2)]);
    assert_eq!(faults(&cut), []);
    let power_cut = [cut.clone(), opening(2, P)].concat();
    assert_eq!(faults(&record(&power_cut)), []);
    let late = on_grid(&[sample(0), loss(4, Reason::Missed, 6)]);
    assert_eq!(faults(&late).len(), 1);
}

#[test]
fn other_channels_have_the_time_of_channel_0() {
    let fault = Fault::OtherTime { channel: 1, expected: tick(0), found: tick(1) };
    assert_eq!(faults(&on_grid(&[sample(0), other(1), sample(1), other(1)])), [(5, fault)]);
    // The rest of a row that a power cut has torn begins its epoch.
    assert_eq!(faults(&on_grid(&[other(0), sample(0)])), []);
}

#[test]
fn without_a_grid_time_only_goes_forward() {
    let at = |t_ns| Entry::sample(0, 1, t_ns, 0, 0);
    let free = |entries: &[Entry]| faults(&record(&[opening(1, 0), entries.to_vec()].concat()));
    assert_eq!(
        free(&[at(5), at(5), Entry::loss(0, 1, 6, Reason::Full, 9), Entry::clock(0, 1, 7, 1), at(9)]),
        []
    );
    let back = Fault::TimeGoesBack { last: 9, found: 8 };
    assert_eq!(free(&[at(9), at(8), at(9)]), [(5, back)]);
    assert_eq!(free(&[at(9), Entry::clock(0, 1, 8, 1), at(9)]), [(5, back)]);
    let next_epoch = [vec![at(9)], opening(2, 0), vec![Entry::sample(0, 2, 1, 0, 0)]].concat();
    assert_eq!(free(&next_epoch), []);
}

#[test]
fn a_grid_may_change_within_an_epoch() {
    let entries = [
        sample(0),
        Entry::source(0, 1, 5, 2),
        Entry::grid(0, 1, 9_000_000, 1_000_000),
        Entry::sample(0, 1, 9_000_000, 0, 1),
        Entry::sample(0, 1, 9_001_000, 0, 1),
    ];
    assert_eq!(faults(&on_grid(&entries)), []);
}

#[test]
fn epochs_begin_as_they_must() {
    let abandoned = Entry::loss(0, 1, 44, Reason::Abandoned, 5);
    let first = [vec![abandoned], opening(2, P)].concat();
    assert_eq!(faults(&record(&first)), []);
    assert_eq!(faults(&record(&[vec![sample(0)], opening(1, P)].concat()))[0], (1, Fault::BeforeEpoch));
    let falls = [opening(3, P), opening(3, P)].concat();
    assert_eq!(faults(&record(&falls)), [(4, Fault::EpochFalls { last: 3, found: 3 })]);
    let middle =
        [good(), vec![Entry::sample(0, 2, tick(9), 0, 0), Entry::sample(0, 2, tick(10), 0, 0)]].concat();
    assert_eq!(faults(&record(&middle)), [(16, Fault::WrongEpoch { expected: 1, found: 2 })]);
    let mut headless = opening(1, P);
    headless.remove(1);
    headless.push(sample(0));
    assert_eq!(faults(&record(&headless)), [(2, Fault::Opening { epoch: 1, expected: "SOURCE" })]);
    let mut gridless = opening(1, P);
    gridless[2] = sample(0);
    assert_eq!(faults(&record(&gridless)), [(3, Fault::Opening { epoch: 1, expected: "GRID" })]);
    // A power cut may end an epoch after any of its entries.
    let cut = [opening(1, P)[..2].to_vec(), opening(2, P)].concat();
    assert_eq!(faults(&record(&cut)), []);
    // CORRUPT and rot may stand for the entries that begin the second epoch, too.
    for place in 0..3 {
        let mut entries =
            record(&[opening(1, P), opening(2, P), vec![Entry { epoch: 2, ..sample(0) }]].concat());
        entries[3 + place] = Entry::corrupt(4 + place as u64, 2);
        assert_eq!(faults(&entries), []);
        entries[3 + place].crc ^= 1;
        assert_eq!(faults(&entries), [(4 + place as u64, Fault::Damaged)]);
        assert_eq!(audit(&entries).epochs, 2);
    }
}

#[test]
fn unknown_kinds_and_empty_losses_are_found() {
    let mut entries = good();
    entries[14] = Entry { kind: 44, ..entries[14] }.seal();
    assert_eq!(faults(&entries), [(15, Fault::Unknown { kind: 44, flags: 0 })]);
    let empty = on_grid(&[Entry::loss(0, 1, 0, Reason::Bad, 0)]);
    assert_eq!(faults(&empty), [(4, Fault::EmptyLoss)]);
}

#[test]
fn entries_that_are_missing_are_one_finding() {
    for (gone, end) in [(4, 5), (4, 9), (1, 12), (2, 3), (9, 15)] {
        let (before, after) = (good()[..gone].to_vec(), good()[end..].to_vec());
        let mut audit = Audit::new();
        before.iter().for_each(|e| audit.take(e));
        audit.skip_to(end as u64 + 1);
        after.iter().for_each(|e| audit.take(e));
        audit.finish();
        let fault = Fault::Missing { next: end as u64 + 1 };
        assert_eq!(audit.findings(), [Finding { seq: gone as u64 + 1, fault }]);
        assert_eq!(audit.next(), 16);
    }
}

#[test]
fn findings_are_bounded_and_counted() {
    let bad = vec![Entry::sample(1, 1, 0, 0, 0); 1000];
    let mut audit = audit(&bad);
    assert_eq!(audit.findings().len(), FINDINGS_MAX);
    assert!(audit.faults >= 999);
    audit.take_bytes(&[0xff; 64]);
    let finding = audit.findings()[0].to_string();
    assert!(finding.starts_with("entry 1: ") && finding.contains("before the first EPOCH"), "{finding}");
}

/// What conv could write: two channels on a grid, runs of losses, restarts, new grids, new epochs.
fn random_history(random: &mut impl FnMut(u64) -> u64) -> Vec<Entry> {
    let (mut epoch, mut k, mut period, mut origin) = (1, 0, P, 500);
    let mut entries = opening(epoch, period);
    for _ in 0..random(20) {
        let at = |k: u64| origin + (k as u128 * period as u128 / PS) as u64;
        match random(10) {
            0 => {
                let (missed, full, bad) = (random(4) as u32, 1 + random(3) as u32, 1 + random(2) as u32);
                k += missed as u64 + full as u64;
                let t_ns = at(k - 1);
                let counts = [(Reason::Missed, missed), (Reason::Full, full), (Reason::Bad, bad)];
                let some = counts.into_iter().filter(|(_, count)| *count > 0);
                entries.extend(some.map(|(reason, count)| Entry::loss(0, epoch, t_ns, reason, count)));
            }
            1 => entries.push(Entry::clock(0, epoch, at(k), -3)),
            2 if random(3) == 0 => {
                (origin, period, k) = (at(k) + 1, 1_000_001 + random(P), 0);
                entries.push(Entry::source(0, epoch, 0, 5));
                entries.push(Entry::grid(0, epoch, origin, period));
            }
            3 if random(3) == 0 => {
                (epoch, k, period, origin) = (epoch + 1, 0, P, 500);
                entries.extend(opening(epoch, period));
            }
            _ => {
                entries.push(Entry::sample(0, epoch, at(k), 0, 7));
                entries.push(Entry::sample(0, epoch, at(k), 1, 7));
                k += 1;
            }
        }
    }
    record(&entries)
}

#[test]
fn random_true_histories_have_no_findings_and_rotten_ones_one() {
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for _ in 0..20_000 {
        let mut entries = random_history(&mut random);
        assert_eq!(faults(&entries), [], "{entries:#?}");
        for _ in 0..random(4) {
            let place = random(entries.len() as u64) as usize;
            entries[place] = Entry::corrupt(entries[place].seq, entries[place].epoch);
        }
        assert_eq!(faults(&entries), [], "{entries:#?}");
        let place = random(entries.len() as u64) as usize;
        entries[place].crc ^= 1;
        assert_eq!(faults(&entries), [(place as u64 + 1, Fault::Damaged)], "{entries:#?}");
    }
}

#[test]
fn nonsense_never_panics() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 33
    };
    for _ in 0..2000 {
        let extreme = [0, 1, u64::MAX, u64::MAX - 1, 1 << 47];
        let mut audit = Audit::new();
        for seq in 1..40 {
            let t_ns = extreme[random() as usize % 5];
            let (value, kind) = (random() as i32, random() as u8 % 9);
            let (channel, flags, epoch) =
                (random() as u16 % 3 * 21845, random() as u8 % 6, random() as u32 % 3);
            audit.take(&Entry { seq, t_ns, value, channel, kind, flags, epoch, crc: 0 }.seal());
        }
        audit.finish();
    }
}
