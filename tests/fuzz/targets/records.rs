//! Records as a whole: files with any content, and right files with any damage.

use super::digest;
use super::disks::{MemoryDisk, with_files};
use super::formats::{bytes_of, history, seal_end, seal_header, seal_mark};
use super::sources::rows_of;
use crate::source;
use ipc_pipeline::compress;
use ipc_pipeline::config::{ChannelConfig, Config, OnBad, SourceConfig};
use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::header::{ChannelRow, Form, Segment, segments};
use ipc_pipeline::mark::Grant;
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::record::{Record, RecordError, Recovered, Settings};
use ipc_pipeline::segment_file::SegmentFile;
use std::cell::OnceCell;

/// Names and bytes.
type Files = Vec<(String, Vec<u8>)>;

const SEGMENT: u64 = 30;
/// Files that a record may have.
const NAMES: [&str; 9] = [
    "durable.mark",
    "summary",
    "00000000000000000001.seg",
    "00000000000000000031.seg",
    "00000000000000000061.seg",
    "00000000000000000001.segz",
    "00000000000000000031.segz",
    "00000000000000000001.seg.bad",
    "00000000000000000031.segz.new",
];

fn open(disk: MemoryDisk) -> Result<(Record<MemoryDisk>, Recovered), RecordError> {
    let settings = Settings { segment_entries: SEGMENT, channels: vec![ChannelRow::default(); 2] };
    Record::open(disk, settings, 42, || 9)
}

/// The history as a record: two sealed segments, of which the first is compressed if so wanted, and a last one.
fn right_record(compressed: bool) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let (mut record, _) = open(disk.clone()).expect("a new record");
    let history = history();
    let (first, second) = history.split_at(63);
    for (epoch, entries) in [(1, first), (2, second)] {
        record.grant(Grant { nonce: 5, epoch, base: record.end() + 1 }).expect("a grant");
        record.append(&bytes_of(entries)).expect("entries");
        record.sync().expect("in memory");
    }
    if compressed {
        compress::compress_sealed(&disk, &|seq| seq == 1).expect("in memory");
    }
    disk
}

/// All entries of a record as any reader gets them: seq by place, and the bytes.
fn entries_of(disk: &MemoryDisk) -> Vec<(u64, [u8; LEN])> {
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    let segments = segments(&names);
    let (mut all, mut some) = (Vec::new(), Vec::new());
    for (i, segment) in segments.iter().enumerate() {
        let file = SegmentFile::open(disk, *segment).expect("memory is read");
        let (end, mut from) = (segments.get(i + 1).map(|next| next.first), segment.first);
        while all.len() < 4096 {
            let n = file.read(disk, from, end, 100, &mut some).expect("memory is read");
            assert_eq!((n * LEN, n <= 100), (some.len(), true));
            if n == 0 {
                break;
            }
            all.extend((from..).zip(some.as_chunks().0.iter().copied()));
            from += n as u64;
        }
    }
    all
}

// ---- one compressed segment

const COMPRESSED: Segment = Segment { first: 1, form: Form::Compressed };

thread_local! {
    static SEGZ: OnceCell<Vec<u8>> = const { OnceCell::new() };
    static RECORDS: OnceCell<[Files; 2]> = const { OnceCell::new() };
}

/// 10,000 entries in three blocks.
fn long_segz() -> Vec<u8> {
    let make = || {
        let disk = MemoryDisk::default();
        let settings = Settings { segment_entries: 10_000, channels: vec![ChannelRow::default()] };
        let (mut record, _) = Record::open(disk.clone(), settings, 42, || 9).expect("a new record");
        record.grant(Grant { nonce: 5, epoch: 1, base: 1 }).expect("a grant");
        record.append(&bytes_of(&(1..=10_000).map(long_entry).collect::<Vec<_>>())).expect("entries");
        record.sync().expect("in memory");
        compress::compress_all(&disk, &|_| true).expect("in memory");
        let found = disk.files().into_iter().find(|(name, _)| *name == COMPRESSED.name());
        found.expect("a compressed segment").1
    };
    SEGZ.with(|segz| segz.get_or_init(make).clone())
}

fn long_entry(seq: u64) -> Entry {
    match seq {
        1 => Entry::epoch(1, 1, 5),
        2 => Entry::source(2, 1, 0, 77),
        3 => Entry::grid(3, 1, 0, 1_000_000),
        _ => Entry::sample(
            seq,
            1,
            (seq - 4) * 1000,
            0,
            (seq as i32).wrapping_mul(0x9E37_79B9_u32 as i32) >> 20,
        ),
    }
}

pub fn segz_seeds() -> Vec<Vec<u8>> {
    let files = right_record(true).files();
    files.into_iter().filter(|(name, _)| name.ends_with("z")).map(|(_, bytes)| bytes).collect()
}

/// Any bytes as a compressed segment: wherever one begins to read, the same entries stand in the same places.
pub fn segz(bytes: &[u8]) {
    let disk = MemoryDisk::default();
    disk.put(&COMPRESSED.name(), bytes.to_vec());
    let all = entries_of(&disk);
    let file = SegmentFile::open(&disk, COMPRESSED).expect("memory is read");
    let (mut some, from) = (Vec::new(), digest(bytes) % 200 + 1);
    let n = file.read(&disk, from, None, 7, &mut some).expect("memory is read");
    let same = all.iter().skip(from as usize - 1).map(|(_, b)| *b).take(n);
    assert!(some.as_chunks::<LEN>().0.iter().copied().eq(same), "read from {from} on it says something else");
}

/// Right bytes with damage: each entry is the one that stood there, or is seen to be damaged.
pub fn segz_damaged(script: &[u8]) {
    let disk = MemoryDisk::default();
    let mut bytes = long_segz();
    edit(&mut bytes, script);
    disk.put(&COMPRESSED.name(), bytes);
    for (seq, b) in entries_of(&disk) {
        let entry = Entry::from_bytes(&b);
        assert!(is_damage(&entry, seq) || entry == long_entry(seq), "{entry:?} in the place of entry {seq}");
    }
}

// ---- damage

/// Does whoever reads it see that it is not what was written here?
fn is_damage(entry: &Entry, seq: u64) -> bool {
    !entry.is_whole() || entry.seq != seq
}

pub fn script_seeds() -> Vec<Vec<u8>> {
    (0..8u8).map(|i| [i, i.wrapping_mul(37), i, 200 - i, 4 * i + 1, 80 + i, 16, 3].to_vec()).collect()
}

/// Damages bytes as the script says: four of its bytes are what, where (two), and how much.
fn edit(bytes: &mut Vec<u8>, script: &[u8]) {
    for [what, low, high, much] in script.as_chunks().0.iter().take(8) {
        let at = u16::from_le_bytes([*low, *high]) as usize % bytes.len().max(1);
        let part = 16 * (*much as usize + 1);
        let end = bytes.len().min(at + part);
        match what % 6 {
            0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (much % 8)),
            2 => bytes[at..end].fill(0),
            3 => bytes.truncate(at),
            4 => bytes.extend(std::iter::repeat_n(*much, part)),
            _ => bytes[at..end].rotate_left((*much as usize).min(end - at)),
        }
    }
}

/// Damages any files of a right record: recovery refuses it or goes on, what can be read is what was written, and what is
/// then written and synced is there the next time.
pub fn record_damaged(script: &[u8]) {
    let Some((head, rest)) = script.split_first() else { return };
    let make = || [false, true].map(|compressed| right_record(compressed).files());
    let files = RECORDS.with(|records| records.get_or_init(make)[usize::from(head % 2)].clone());
    let disk = MemoryDisk::default();
    let several = files.len();
    for (i, (name, mut bytes)) in files.into_iter().enumerate() {
        // Each part of the script is for one file; one that begins with 255 removes it.
        let mine = rest.chunks(5).filter(|part| part[0] as usize % several == i);
        let mut gone = false;
        for part in mine.take(3) {
            gone |= part.get(1) == Some(&255);
            edit(&mut bytes, &part[1..]);
        }
        if !gone {
            disk.put(&name, bytes);
        }
    }
    let history = history();
    let before = |seq: u64| seq.checked_sub(1).and_then(|i| history.get(i as usize));
    let Ok((mut record, recovered)) = open(disk.clone()) else { return };
    for (seq, b) in entries_of(&disk) {
        let entry = Entry::from_bytes(&b);
        let is_true = is_damage(&entry, seq) || before(seq) == Some(&entry);
        assert!(is_true, "{entry:?} in the place of entry {seq}: {recovered:?}");
    }
    let (base, epoch) = (record.end() + 1, 50);
    record.grant(Grant { nonce: 9, epoch, base }).expect("a grant after recovery");
    let new = [
        Entry::epoch(base, epoch, 1),
        Entry::source(base + 1, epoch, 0, 1),
        Entry::grid(base + 2, epoch, 0, 0),
    ];
    record.append(&bytes_of(&new)).expect("entries after recovery");
    record.sync().expect("in memory");
    drop(record);
    let (again, found) = open(disk.clone()).expect("what was opened once is opened again");
    assert_eq!((again.log_id(), found.durable, found.epoch), (recovered.log_id, base + 2, epoch));
    let all = entries_of(&disk);
    let kept = all.iter().filter(|(seq, _)| *seq >= base).map(|(_, b)| Entry::from_bytes(b));
    assert!(kept.eq(new), "what was synced is read again");
}

// ---- any files

/// Puts files one behind the other: number of the name, length, bytes.
fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, bytes) in disk.files() {
        let number = NAMES.iter().position(|known| *known == name).expect("a known name");
        packed.push(number as u8);
        packed.extend((bytes.len() as u32).to_le_bytes());
        packed.extend(bytes);
    }
    packed
}

/// The other way round; lengths that are too large end with the bytes.
fn unpack(mut packed: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    while let Some(([number, len @ ..], rest)) = packed.split_first_chunk::<5>() {
        let len = (u32::from_le_bytes(*len) as usize).min(rest.len());
        let mut bytes = rest[..len].to_vec();
        let name = NAMES[*number as usize % NAMES.len()];
        // An odd upper half of the number: with right CRCs.
        if number / 16 % 2 == 1 {
            seal(name, &mut bytes);
        }
        files.push((name.to_owned(), bytes));
        packed = &rest[len..];
    }
    files
}

fn seal(name: &str, bytes: &mut [u8]) {
    match name {
        "durable.mark" => seal_mark(bytes),
        "summary" => super::formats::seal_summary(bytes),
        _ => {
            seal_header(bytes);
            let entries = bytes.get_mut(4096..).unwrap_or_default();
            entries.as_chunks_mut::<LEN>().0.iter_mut().for_each(|entry| seal_end(entry));
        }
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    [false, true].map(|compressed| pack(&right_record(compressed))).to_vec()
}

/// Any files as a record: recovery refuses them or makes a record of them that goes on.
pub fn record(packed: &[u8]) {
    let disk = MemoryDisk::default();
    unpack(packed).into_iter().for_each(|(name, bytes)| drop(disk.put(&name, bytes)));
    let _ = entries_of(&disk);
    let Ok((mut record, _)) = open(disk.clone()) else { return };
    let _ = (record.position(), record.sealed_before(), record.is_suspect());
    let (base, epoch) = (record.end() + 1, record.epoch().saturating_add(1));
    if record.grant(Grant { nonce: 9, epoch, base }).is_ok() {
        record.append(&Entry::epoch(base, epoch, 1).to_bytes()).expect("an entry after recovery");
        record.sync().expect("in memory");
    }
    let _ = open(disk);
}

/// The same files for those that only read.
pub fn replay(packed: &[u8]) {
    with_files(&unpack(packed), |dir| {
        if let Ok(mut reader) = RecordReader::open(dir) {
            let _ = (reader.headers(), reader.mark(), reader.summary(), reader.summary_is_damaged());
            let _ = ipc_pipeline::timeline::wall_before(&mut reader, digest(packed) % 100);
            let config = Config {
                channels: vec![ChannelConfig::default(); reader.channels().len().max(1)],
                source: SourceConfig::Replay { path: dir.to_owned(), speed: None, on_bad: OnBad::Skip },
                ..Config::default()
            };
            if let Ok(mut source) = source::open(&config) {
                let _ = rows_of(&mut *source, config.channels.len(), 7);
            }
        }
    });
}
