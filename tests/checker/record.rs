//! Reading a record: which file holds which entry, and the mark.

use super::bytes::{crc, u32_at, u64_at};
use super::{Faults, compressed};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER: u64 = 4096;
const ENTRY: u64 = 32;

/// What `durable.mark` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub counter: u64,
    pub log_id: u64,
    pub durable: u64,
    pub epoch: u32,
    pub source_seq: u64,
    pub identity: u64,
    pub index: u64,
    pub grant_nonce: u64,
    pub grant_epoch: u32,
    pub grant_base: u64,
}

/// The files of a record in the order of their entries.
pub struct Record {
    pub dir: PathBuf,
    pub log_id: u64,
    pub channels: u32,
    pub mark: Option<Mark>,
    parts: Vec<Part>,
}

/// One segment: it counts for first..end.
struct Part {
    path: PathBuf,
    file: File,
    first: u64,
    end: u64,
    bytes: u64,
    bad: bool,
    epoch_before: u32,
}

pub struct Walked {
    pub last: u64,
}

impl Record {
    /// Open every segment and check headers, names, holes between files, and the mark.
    pub fn open(dir: &Path, faults: &mut Faults) -> Record {
        let mut record =
            Record { dir: dir.into(), log_id: 0, channels: 0, mark: None, parts: segments(dir, faults) };
        record.check_headers(faults);
        record.cut_overlaps(faults);
        match read_mark(dir) {
            Ok(mark) => record.mark = mark,
            Err(e) => faults.add(format!("durable.mark: {e}")),
        }
        match record.mark {
            None if record.last() > 0 => faults.add("durable.mark holds no valid mark"),
            Some(m) if !record.parts.is_empty() && m.log_id != record.log_id => {
                faults.add(format!("durable.mark is of log {}, the segments of {}", m.log_id, record.log_id))
            }
            _ => (),
        }
        record
    }

    /// Seq of the last entry that the files have room for; 0: none.
    pub fn last(&self) -> u64 {
        self.parts.last().map_or(0, |p| p.end - 1)
    }

    /// The bytes of one entry, whatever they are.
    pub fn entry(&self, seq: u64) -> Option<[u8; 32]> {
        let part = &self.parts[self.parts.partition_point(|p| p.end <= seq)..].first()?;
        let mut raw = [0; 32];
        let at = HEADER + ENTRY * seq.checked_sub(part.first)?;
        part.file.read_exact_at(&mut raw, at).ok()?;
        Some(raw)
    }

    /// Visit all entries in order until the visitor says false. It is told the header's epoch with the first entry
    /// of each segment.
    pub fn walk(&self, visit: &mut impl FnMut(&[u8; 32], Option<u32>) -> bool) -> Walked {
        let mut buffer = vec![0; 1 << 20];
        for part in &self.parts {
            let (mut seq, mut header) = (part.first, Some(part.epoch_before));
            while seq < part.end {
                let want = ((part.end - seq) * ENTRY).min(buffer.len() as u64) as usize;
                let at = HEADER + ENTRY * (seq - part.first);
                part.file.read_exact_at(&mut buffer[..want], at).expect("a segment shrank under the check");
                for raw in buffer[..want].as_chunks::<32>().0 {
                    if !visit(raw, header.take()) {
                        return Walked { last: seq - 1 };
                    }
                    seq += 1;
                }
            }
        }
        Walked { last: self.last() }
    }

    /// Bytes of the files behind the entry `last`.
    pub fn bytes_after(&self, last: u64) -> u64 {
        let behind = |p: &Part| p.bytes.saturating_sub(HEADER + ENTRY * (last + 1).saturating_sub(p.first));
        self.parts.last().map_or(0, behind)
    }

    /// The same record without a torn tail.
    pub fn ending_at(mut self, last: u64) -> Record {
        self.parts.retain_mut(|p| {
            p.end = p.end.min(last + 1);
            p.end > p.first
        });
        self
    }

    fn check_headers(&mut self, faults: &mut Faults) {
        let mut table: Option<Vec<u8>> = None;
        for part in &mut self.parts {
            let mut h = [0; HEADER as usize];
            let name = part.path.display();
            if let Err(e) = part.file.read_exact_at(&mut h, 0) {
                faults.add(format!("{name}: no header: {e}"));
                continue;
            }
            if crc(&h[..4092]) != u32_at(&h, 4092) {
                faults.add(format!("{name}: header has a bad CRC"));
            }
            let sizes = (u32_at(&h, 8), u32_at(&h, 12), u32_at(&h, 16));
            if &h[..8] != b"IPCPSEG1" || sizes != (1, 4096, 32) {
                faults.add(format!("{name}: magic or layout is wrong"));
            }
            if u64_at(&h, 32) != part.first {
                faults.add(format!("{name}: header says first seq {}", u64_at(&h, 32)));
            }
            part.epoch_before = u32_at(&h, 40);
            // Channels and log_id belong to the record: the same in every header.
            let common = [&h[20..32], &h[64..64 + 32 * 120]].concat();
            if table.get_or_insert_with(|| common.clone()) != &common {
                faults.add(format!("{name}: log_id or channel table differs from the first segment"));
            }
            (self.channels, self.log_id) = (u32_at(&h, 20), u64_at(&h, 24));
        }
        if !self.parts.is_empty() && !(1..=32).contains(&self.channels) {
            faults.add(format!("{} channels", self.channels));
        }
    }

    /// A segment ends where the next begins. Only a `.bad` one may hold more.
    fn cut_overlaps(&mut self, faults: &mut Faults) {
        if let Some(first) = self.parts.first().map(|p| p.first).filter(|f| *f != 1) {
            faults.add(format!("the record begins with entry {first}"));
        }
        let firsts: Vec<u64> = self.parts.iter().skip(1).map(|p| p.first).collect();
        for (part, next) in self.parts.iter_mut().zip(firsts) {
            let name = part.path.display();
            let odd = part.bytes.saturating_sub(HEADER) % ENTRY != 0;
            if part.end < next {
                faults.add(format!(
                    "hole: {name} ends with {}, the next segment begins with {next}",
                    part.end - 1
                ));
            } else if !part.bad && (part.end > next || odd) {
                faults.add(format!("{name} holds more than the entries before {next}"));
            }
            part.end = part.end.min(next);
        }
    }
}

fn segments(dir: &Path, faults: &mut Faults) -> Vec<Part> {
    let mut parts: Vec<Part> = match fs::read_dir(dir) {
        Ok(list) => list.flatten().filter_map(|f| part(&f.path(), faults)).collect(),
        Err(e) => {
            faults.add(format!("{}: {e}", dir.display()));
            Vec::new()
        }
    };
    // Of two files with one first seq the segment counts, not the `.bad` one: that comes first and ends at once.
    parts.sort_by_key(|p| (p.first, !p.bad, p.path.clone()));
    // A segment that has been compressed and is not yet removed: either counts.
    parts.dedup_by(|next, kept| next.first == kept.first && !kept.bad);
    parts
}

fn part(path: &Path, faults: &mut Faults) -> Option<Part> {
    let name = path.file_name()?.to_str()?;
    let ending = [".seg.bad", ".segz", ".seg"].into_iter().find(|ending| name.ends_with(ending))?;
    let (bad, digits) = (ending == ".seg.bad", name.strip_suffix(ending)?);
    let Some(first) = digits.parse().ok().filter(|_| digits.len() == 20) else {
        faults.add(format!("{}: not the name of a segment", path.display()));
        return None;
    };
    let file = if ending == ".segz" { compressed::plain(path, faults) } else { File::open(path) };
    let file = file.map_err(|e| faults.add(format!("{}: {e}", path.display()))).ok()?;
    let bytes = file.metadata().expect("fstat of an open file").len();
    let end = first + bytes.saturating_sub(HEADER) / ENTRY;
    Some(Part { path: path.into(), file, first, end, bytes, bad, epoch_before: 0 })
}

/// The valid mark with the larger counter; none in a new record.
fn read_mark(dir: &Path) -> std::io::Result<Option<Mark>> {
    let bytes = match fs::read(dir.join("durable.mark")) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let marks = [0, 4096].into_iter().filter_map(|at| bytes.get(at..at + 128)).filter_map(mark);
    Ok(marks.max_by_key(|m| m.counter))
}

fn mark(b: &[u8]) -> Option<Mark> {
    let valid = &b[..8] == b"IPCPMRK1" && crc(&b[..124]) == u32_at(b, 124);
    valid.then(|| Mark {
        counter: u64_at(b, 8),
        log_id: u64_at(b, 16),
        durable: u64_at(b, 24),
        epoch: u32_at(b, 32),
        source_seq: u64_at(b, 40),
        identity: u64_at(b, 48),
        index: u64_at(b, 56),
        grant_nonce: u64_at(b, 64),
        grant_epoch: u32_at(b, 72),
        grant_base: u64_at(b, 80),
    })
}
