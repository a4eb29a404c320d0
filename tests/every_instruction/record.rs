//! log's disk thread, killed at every instruction: recovery, grant, append, rotation, mark.
//!
//! What every entry and every grant must be follows from its number alone, so nothing that the judge compares with comes
//! from what it judges.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ipc_pipeline::disk::DirDisk;
use ipc_pipeline::entry::{Entry, LEN, Reason};
use ipc_pipeline::header::{Header, Segment, offset_of};
use ipc_pipeline::mark::{Grant, SourcePosition};
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::record::{Record, Recovered, Settings};

use crate::directory::{Told, Watch, copy, in_memory};
use crate::life::{Life, boundaries, dice};

/// Entries in a segment, and in an epoch: few, and with no common divisor, so that they meet in every way.
pub const SEGMENT: u64 = 8;
pub const EPOCH: u64 = 19;

// The words of `Told`.
const LOG_ID: usize = 0;
/// Nothing above this was ever given to the record.
const ASKED: usize = 1;
const APPENDED: usize = 2;
const DURABLE: usize = 3;
const GRANT_ASKED: usize = 4;
const GRANTED: usize = 5;

fn epoch_of(seq: u64) -> u64 {
    seq.div_ceil(EPOCH)
}

pub fn grant(epoch: u64) -> Grant {
    Grant { nonce: epoch * 1_000_003, epoch: epoch as u32, base: (epoch - 1) * EPOCH + 1 }
}

pub fn entry(seq: u64) -> Entry {
    let epoch = epoch_of(seq) as u32;
    match (seq - 1) % EPOCH {
        0 => Entry::epoch(seq, epoch, 5),
        1 => Entry::source(seq, epoch, 1000 * u64::from(epoch), 77),
        11 => Entry::loss(seq, epoch, 0, Reason::Full, 3),
        12 => Entry::loss(seq, epoch, 0, Reason::Missed, 9),
        _ => Entry::sample(seq, epoch, seq * 10, 0, (seq as i32).wrapping_mul(0x9E37_79B1_u32 as i32)),
    }
}

pub fn bytes(seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    seqs.flat_map(|seq| entry(seq).to_bytes()).collect()
}

/// Where the source stands after entry `seq`.
fn position(seq: u64) -> Option<SourcePosition> {
    let source = |epoch: u64| (epoch - 1) * EPOCH + 2;
    let epoch = if seq < source(epoch_of(seq).max(1)) { epoch_of(seq).max(1) - 1 } else { epoch_of(seq) };
    if epoch == 0 {
        return None;
    }
    let taken = |at: u64| match (at - 1) % EPOCH {
        0 | 12 => 0,
        11 => 3,
        _ => 1,
    };
    let index = 1000 * epoch + (source(epoch) + 1..=seq).map(taken).sum::<u64>();
    Some(SourcePosition { seq: source(epoch), id: 77, index })
}

pub fn open(dir: &Path, new_log_id: u64) -> Result<(Record<DirDisk>, Recovered), String> {
    let disk = DirDisk::open(dir).map_err(|e| e.to_string())?;
    let settings = Settings { segment_entries: SEGMENT, channels: Vec::new() };
    Record::open(disk, settings, new_log_id, || 9).map_err(|e| e.to_string())
}

// ---- what is stepped through ----------------------------------------------------------------------------------------

/// One life: recovers, then grants, appends and commits, up to about this entry.
fn log(dir: &Path, told: &Told, life: u64, upto: u64) {
    let (mut record, _) = open(dir, 100 + life).unwrap();
    told.say(LOG_ID, record.log_id());
    told.say(APPENDED, record.end());
    told.say(DURABLE, record.durable());
    while record.end() < upto {
        let next = record.end() + 1;
        let epoch = epoch_of(next);
        if epoch > record.current_grant().map_or(0, |g| g.epoch.into()) {
            told.say(GRANT_ASKED, epoch);
            record.grant(grant(epoch)).unwrap();
            told.say(DURABLE, record.durable());
            told.say(GRANTED, epoch);
        }
        let last = (next + (next + life) % 6).min(epoch * EPOCH);
        told.say(ASKED, last.max(told.get(ASKED)));
        record.append(&bytes(next..=last)).unwrap();
        told.say(APPENDED, record.end());
        told.say(DURABLE, record.durable()); // rotation commits too
        if (last + life).is_multiple_of(3) {
            told.say(DURABLE, record.sync().unwrap());
        }
    }
}

// ---- the judge ------------------------------------------------------------------------------------------------------

/// Judges what a kill would leave now; returns the last entry that a next life would find.
fn look(dir: &Path, scratch: &Path, told: &Told) -> Result<u64, String> {
    no_half_segment(dir)?;
    let copy = copy(dir, scratch);
    let (_, found) = open(&copy, 1)?;
    let [log_id, asked, appended, durable] = [LOG_ID, ASKED, APPENDED, DURABLE].map(|word| told.get(word));
    let end = found.durable;
    if log_id != 0 && found.log_id != log_id {
        return Err(format!("record {log_id} has become {}", found.log_id));
    }
    if end < appended || end > asked {
        return Err(format!("recovered up to {end}; appended were {appended}, and never more than {asked}"));
    }
    if end - found.rewritten < durable {
        return Err(format!("durable was {durable}, but only {} are known to be", end - found.rewritten));
    }
    if found.rotten > 0 || found.source != position(end) || u64::from(found.epoch) != epoch_of(end) {
        return Err(format!("{found:?}, but after {end} the source is at {:?}", position(end)));
    }
    entries_are_right(&copy, end)?;
    let (asked, granted) = (told.get(GRANT_ASKED), told.get(GRANTED));
    let epoch = found.grant.map_or(0, |g| u64::from(g.epoch));
    if epoch < granted || epoch > asked || found.grant.is_some_and(|g| g != grant(epoch)) {
        return Err(format!("{:?}; asked for was {asked}, granted {granted}", found.grant));
    }
    Ok(end)
}

fn no_half_segment(dir: &Path) -> Result<(), String> {
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        let Some(segment) = file.file_name().to_str().and_then(Segment::from_name) else { continue };
        let header = Header::decode(&std::fs::read(file.path()).unwrap());
        if header.is_none_or(|h| h.first_seq != segment.first) {
            return Err(format!("{} is half a segment", segment.name()));
        }
    }
    Ok(())
}

/// Every entry up to `end`, in order and bit for bit.
fn entries_are_right(dir: &Path, end: u64) -> Result<(), String> {
    let mut reader = RecordReader::open(dir).map_err(|e| e.to_string())?;
    let (mut next, mut some) = (1, Vec::new());
    while next <= end {
        let n = reader.read(next, 1000, &mut some).map_err(|e| e.to_string())? as u64;
        if n == 0 {
            return Err(format!("entry {next} of {end} is gone"));
        }
        for (seq, b) in (next..).zip(some.chunks_exact(LEN).take(n as usize)) {
            if b != entry(seq).to_bytes() {
                return Err(format!("entry {seq} is {:?}", Entry::from_bytes(b.try_into().unwrap())));
            }
        }
        next += n;
    }
    Ok(())
}

/// What a kill in the middle of a long write leaves: entry `end + 1` whole, and a piece of the one behind it.
fn tear(dir: &Path, end: u64, told: &Told) {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    names.retain(|path| path.file_name().and_then(|n| Segment::from_name(n.to_str()?)).is_some());
    let Some(path) = names.iter().max() else { return };
    let first = Segment::from_name(path.file_name().unwrap().to_str().unwrap()).unwrap().first;
    let file: File = OpenOptions::new().write(true).open(path).unwrap();
    if end >= first && end + 2 < first + SEGMENT {
        file.write_all_at(&bytes(end + 1..=end + 2)[..LEN + 20], offset_of(first, end + 1)).unwrap();
        told.say(ASKED, told.get(ASKED).max(end + 1));
    }
}

/// Steps through lives, `instructions` in all. A life ends some instructions after it has changed the files `changes()`
/// times; then, if so wished, the end of the record is torn. Returns the last entry.
fn lives(instructions: u64, mut changes: impl FnMut() -> u64, torn: bool) -> u64 {
    let (dir, scratch, told) = (in_memory(), in_memory(), Told::new());
    if torn {
        log(dir.path(), &told, 0, 2 * EPOCH); // something to recover
    }
    let mut watch = Watch::new(dir.path());
    let mut random = dice(5);
    let (mut n, mut life, mut end) = (0, 0, 0);
    while n < instructions {
        life += 1;
        let mut child = Life::start(|| log(dir.path(), &told, life, u64::MAX));
        let (last_change, mut more) = (watch.changed + changes(), 1 + random.u64(0..3_000));
        while more > 0 && n < instructions {
            if watch.is_new(&told) {
                end = look(dir.path(), scratch.path(), &told)
                    .unwrap_or_else(|e| panic!("life {life}, boundary {n}: {e}"));
            }
            assert!(child.step());
            n += 1;
            more -= u64::from(watch.changed >= last_change);
        }
        child.kill();
        if torn && life % 3 > 0 {
            tear(dir.path(), end, &told);
            watch.is_new(&told); // that was us
        }
    }
    assert!(watch.changed > 30, "only {} changes of the files were seen", watch.changed);
    assert!(told.get(GRANTED) > 1, "no second epoch was begun");
    end
}

/// One long life.
#[test]
fn a_record_can_be_killed_anywhere() {
    assert!(lives(2 * boundaries(), || u64::MAX / 2, false) > EPOCH);
}

/// These lives end in recovery or soon after it.
#[test]
fn recovery_can_be_killed_anywhere() {
    let mut random = dice(6);
    lives(8 * boundaries(), || random.u64(0..7), true);
}
