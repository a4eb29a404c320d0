//! Recovery of the record: what of it counts after a crash or a power cut, and how it is made durable again.
//!
//! 1. Entries up to `trusted` are on stable storage: those that the mark names, and everything before the last
//!    segment (a segment gets its name only after everything before it was synced). One of them that is damaged now
//!    is bit rot: it stays as it is, and nothing behind it is touched.
//! 2. Behind `trusted`, in the last segment, entries count as long as each is whole, has the next seq, and has the
//!    epoch of the one before it, or the granted epoch exactly at its base. A LOSS(abandoned) does not: it counts only
//!    together with the grant in the mark that names it ([`Record::give_up`]).
//! 3. The rest of the last segment is cut off. What counts behind `trusted` is written again, because an earlier
//!    EIO may have left pages in memory that never reached the disk; then it is synced, named by the mark, published.
//!
//! It can be cut off anywhere itself and run again.
#![forbid(unsafe_code)]

use crate::disk::{Disk, DiskError, Trouble, read_full, write_all};
use crate::entry::{Entry, Kind, LEN, Reason};
use crate::header::{Form, HEADER_LEN, Header, Segment, check_table, is_new, offset_of, segments};
use crate::mark::{Grant, MARK, Mark, MarkFile, Position, read_newest};
use crate::record::{
    AppendError, Last, Record, RecordError, Recovered, Settings, build, publish, rename_bad,
};
use crate::segment_file::SegmentFile;
use crate::summary::{SUMMARY, Summary};
use std::io;

/// Entries that are read and written at a time: 1 MiB.
const CHUNK: u64 = 32_768;

/// Recovers the record, or makes a new one; see [`Record::open`].
pub(crate) fn recover<D: Disk>(
    disk: D,
    mut settings: Settings,
    new_log_id: u64,
    wall_ns: fn() -> u64,
) -> Result<(Record<D>, Recovered), RecordError> {
    settings.segment_entries = settings.segment_entries.max(1); // or rotation would never end
    check_table(&settings.channels)?;
    let (files, created) = match sweep(&disk)? {
        files if files.is_empty() => (vec![begin(&disk, &settings, new_log_id, wall_ns())?], true),
        files => (begin_behind_compressed(&disk, files, wall_ns())?, false),
    };
    let headers = Headers::read(&disk, &files)?;
    if headers.any.channels != settings.channels {
        return Err(RecordError::Channels { place: disk.place(&last_of(&files).name()) });
    }
    let log_id = headers.any.log_id;
    let (mut mark_file, mark) = MarkFile::open(&disk, log_id)?;
    let grant = mark.and_then(|mark| mark.grant);

    let summed_up = summed_up(&disk, &files, log_id)?;
    let Scan { mut last, len, trusted, end, rotten } = scan(&disk, &files, mark, summed_up, headers.last)?;
    let header = Header { created_ns: wall_ns(), ..headers.any };
    write_again(&disk, &mut last, &header, trusted, end.seq, len)?;
    if mark.is_none_or(|mark| mark.durable != end) {
        mark_file.write(&disk, log_id, end, grant)?;
        mark_file.sync(&disk)?;
    }

    let recovered = Recovered {
        log_id,
        durable: end.seq,
        epoch: end.epoch,
        source: end.source,
        grant,
        created,
        truncated: len.saturating_sub(offset_of(last_of(&files).first, end.seq + 1)).div_ceil(LEN as u64),
        rotten,
        rewritten: end.seq - trusted.seq,
    };
    last.limit = settings.segment_entries.max(end.seq + 1 - last.segment.first);
    let record = Record {
        disk,
        settings,
        log_id,
        wall_ns,
        last,
        mark: mark_file,
        grant,
        end,
        durable: end,
        dirty: false,
        suspect: None,
    };
    Ok((record, recovered))
}

impl<D: Disk> Record<D> {
    /// Writes what was given up, and lets a later epoch begin behind it: one step. Killed anywhere, the record has both
    /// when it is opened again, or neither, because such a LOSS counts only once the mark names it, and the mark that
    /// does so holds the grant. When this returns both are on stable storage. Ends the use of the record: after an error
    /// it is opened again. `loss` follows the last entry, and the epoch begins with the one behind it.
    pub fn give_up(mut self, loss: &Entry, grant: Grant) -> Result<(), AppendError> {
        let Position { seq: end, epoch: before, .. } = self.end;
        if grant.base != loss.seq.saturating_add(1) || grant.epoch <= before {
            return Err(AppendError::Grant { epoch: grant.epoch, base: grant.base, end, before });
        }
        self.append(&loss.to_bytes())?; // a new segment for it may bring a mark, which must not hold the grant yet
        self.grant = Some(grant);
        self.sync()?;
        Ok(self.mark.sync(&self.disk)?)
    }
}

/// The segments of the record, after removing those that were never finished.
fn sweep<D: Disk>(disk: &D) -> Result<Vec<Segment>, DiskError> {
    let names = disk.list().map_err(|e| DiskError::new(disk, "list", "", e))?;
    for name in names.iter().filter(|name| is_new(name)) {
        disk.remove(name).map_err(|e| DiskError::new(disk, "remove", name, e))?;
    }
    Ok(segments(&names))
}

/// Begins a new record with an empty segment.
fn begin<D: Disk>(
    disk: &D,
    settings: &Settings,
    log_id: u64,
    created_ns: u64,
) -> Result<Segment, RecordError> {
    if let Some(seq) = durable_without_segments(disk)? {
        return Err(RecordError::Missing { seq, place: disk.place("") });
    }
    let channels = settings.channels.clone();
    let header = Header { log_id, first_seq: 1, epoch: 0, created_ns, channels };
    let segment = Segment::plain(1);
    let file = build(disk, &header)?;
    sync_new(disk, &file, 1)?;
    publish(disk, segment)?;
    Ok(segment)
}

/// A compressed segment is never written again: if it is the last one, an empty one is begun behind it.
fn begin_behind_compressed<D: Disk>(
    disk: &D,
    mut files: Vec<Segment>,
    created_ns: u64,
) -> Result<Vec<Segment>, RecordError> {
    let last = last_of(&files);
    if last.form != Form::Compressed {
        return Ok(files);
    }
    let header =
        read_header(disk, last)?.ok_or_else(|| RecordError::Header { place: disk.place(&last.name()) })?;
    let file = SegmentFile::open(disk, last).map_err(|e| DiskError::new(disk, "open", &last.name(), e))?;
    let mut entry = Vec::new();
    file.read(disk, file.end() - 1, None, 1, &mut entry)?;
    let epoch = entry.first_chunk().map_or(header.epoch, |b| Entry::from_bytes(b).epoch);
    let segment = Segment::plain(file.end());
    let file = build(disk, &Header { first_seq: segment.first, epoch, created_ns, ..header })?;
    sync_new(disk, &file, segment.first)?;
    publish(disk, segment)?;
    files.push(segment);
    Ok(files)
}

/// What a mark says is durable in a directory without segments: somebody has removed them.
fn durable_without_segments<D: Disk>(disk: &D) -> Result<Option<u64>, DiskError> {
    let newest = match disk.open(MARK) {
        Ok(file) => read_newest(disk, &file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let newest = newest.map_err(|e| DiskError::new(disk, "read", MARK, e))?;
    Ok(newest.map(|(_, mark)| mark.durable.seq).filter(|&seq| seq > 0))
}

/// The headers that say which record this is.
struct Headers {
    /// The one of the last segment, unless it is damaged.
    last: Option<Header>,
    /// The last one that is whole.
    any: Header,
}

impl Headers {
    fn read<D: Disk>(disk: &D, files: &[Segment]) -> Result<Headers, RecordError> {
        let last = read_header(disk, last_of(files))?;
        let mut any = last.clone();
        for &segment in files.iter().rev().skip(1) {
            if any.is_some() {
                break;
            }
            any = read_header(disk, segment)?;
        }
        let any = any.ok_or_else(|| RecordError::Header { place: disk.place(&last_of(files).name()) })?;
        Ok(Headers { last, any })
    }
}

fn read_header<D: Disk>(disk: &D, segment: Segment) -> Result<Option<Header>, DiskError> {
    let file = open(disk, segment)?;
    let mut b = vec![0; HEADER_LEN];
    read(disk, &file, segment, &mut b, 0)?;
    Ok(Header::decode(&b).filter(|header| header.first_seq == segment.first))
}

/// What is known of the entries before the first one that must be there: nothing, or the summary says it.
fn summed_up<D: Disk>(disk: &D, files: &[Segment], log_id: u64) -> Result<Position, RecordError> {
    let first = files.first().map_or(1, |segment| segment.first);
    let summary = Summary::read(disk)?.filter(|summary| summary.log_id == log_id);
    let position = summary.map_or(Position::default(), |summary| summary.position);
    if first > position.seq + 1 && position.seq == 0 && disk.open(SUMMARY).is_ok() {
        return Err(RecordError::Summary { place: disk.place(SUMMARY), first });
    }
    if first > position.seq + 1 {
        return Err(RecordError::Missing { seq: position.seq + 1, place: disk.place("") });
    }
    Ok(position)
}

/// What of the record counts.
struct Scan<F> {
    last: Last<F>,
    /// Length of the last segment in bytes.
    len: u64,
    /// Up to here entries count whatever they look like.
    trusted: Position,
    /// The last entry that counts.
    end: Position,
    rotten: u64,
}

fn scan<D: Disk>(
    disk: &D,
    files: &[Segment],
    mark: Option<Mark>,
    summed_up: Position,
    last_header: Option<Header>,
) -> Result<Scan<D::File>, RecordError> {
    let segment = last_of(files);
    let file = open(disk, segment)?;
    let len = disk.len(&file).map_err(|e| DiskError::new(disk, "measure", &segment.name(), e))?;
    // The mark may lag behind what was removed.
    let mut trusted =
        mark.map(|mark| mark.durable).filter(|durable| durable.seq > summed_up.seq).unwrap_or(summed_up);
    let mut rotten = 0;
    while trusted.seq + 1 < segment.first {
        rotten += trust_segment(disk, files, &mut trusted)?;
    }
    if let (None, Some(header)) = (mark, last_header) {
        trusted.epoch = header.epoch.max(trusted.epoch);
    }
    if trusted.seq >= segment.first && offset_of(segment.first, trusted.seq + 1) > len {
        let seq = segment.first + len.saturating_sub(HEADER_LEN as u64) / LEN as u64;
        return Err(RecordError::Missing { seq, place: disk.place(&segment.name()) });
    }
    let last = Last { file, segment, limit: 0 };
    let mut end = trusted;
    while scan_chunk(disk, &last, len, &mut end, mark)? {}
    Ok(Scan { last, len, trusted, end, rotten })
}

/// Goes on from `at` to the end of the segment that holds the next entry, or by one chunk. Nothing is cut off here,
/// so damaged entries are only counted.
fn trust_segment<D: Disk>(disk: &D, files: &[Segment], at: &mut Position) -> Result<u64, RecordError> {
    let next = files.partition_point(|segment| segment.first <= at.seq + 1);
    let (Some(&segment), Some(&after)) = (files.get(next.wrapping_sub(1)), files.get(next)) else {
        return Err(RecordError::Missing { seq: at.seq + 1, place: disk.place("") });
    };
    let file =
        SegmentFile::open(disk, segment).map_err(|e| DiskError::new(disk, "open", &segment.name(), e))?;
    let mut rotten = 0;
    let mut buf = Vec::new();
    while at.seq + 1 < after.first {
        file.read(disk, at.seq + 1, Some(after.first), CHUNK as usize, &mut buf)?;
        let (entries, _) = buf.as_chunks::<LEN>();
        if entries.is_empty() {
            return Err(RecordError::Missing { seq: at.seq + 1, place: disk.place(&segment.name()) });
        }
        for b in entries {
            if is_entry(b, at.seq + 1) {
                at.advance(&[*b]);
            } else {
                at.advance_rotten();
                rotten += 1;
            }
        }
    }
    Ok(rotten)
}

/// Goes on from `at` over entries of the last segment that count, at most one chunk. True: there may be more.
fn scan_chunk<D: Disk>(
    disk: &D,
    last: &Last<D::File>,
    len: u64,
    at: &mut Position,
    mark: Option<Mark>,
) -> Result<bool, DiskError> {
    let offset = offset_of(last.segment.first, at.seq + 1);
    let mut buf = vec![0; len.saturating_sub(offset).min(CHUNK * LEN as u64) as usize];
    let n = read(disk, &last.file, last.segment, &mut buf, offset)?;
    let (entries, _) = buf.get(..n).unwrap_or_default().as_chunks::<LEN>();
    for b in entries {
        if !counts(b, at, mark) || is_half_given_up(b, mark) {
            return Ok(false);
        }
        at.advance(&[*b]);
    }
    Ok(entries.len() as u64 == CHUNK)
}

/// May this entry follow `at`, though nothing says that it was durable?
fn counts(b: &[u8; LEN], at: &Position, mark: Option<Mark>) -> bool {
    let e = Entry::from_bytes(b);
    is_entry(b, at.seq + 1) && (e.epoch == at.epoch || e.epoch > at.epoch && may_begin(&e, mark))
}

/// May an epoch begin with this entry? Only one that was granted. Without any mark, which no crash brings about,
/// nothing tells what was granted, and what is whole is kept.
fn may_begin(e: &Entry, mark: Option<Mark>) -> bool {
    mark.is_none_or(|mark| mark.grant.is_some_and(|grant| (grant.epoch, grant.base) == (e.epoch, e.seq)))
}

/// Is this what was left of giving up a spool, which was not finished? Without any mark nothing tells.
fn is_half_given_up(b: &[u8; LEN], mark: Option<Mark>) -> bool {
    mark.is_some() && Entry::from_bytes(b).kind() == Some(Kind::Loss(Reason::Abandoned))
}

fn is_entry(b: &[u8; LEN], seq: u64) -> bool {
    let e = Entry::from_bytes(b);
    e.seq == seq && e.is_whole()
}

/// Cuts off what does not count and makes the rest durable: in place, or in a new segment if the last one is bad.
fn write_again<D: Disk>(
    disk: &D,
    last: &mut Last<D::File>,
    header: &Header,
    trusted: Position,
    end: u64,
    len: u64,
) -> Result<(), DiskError> {
    if !last.segment.is_bad() {
        match in_place(disk, last, trusted.seq, end, len) {
            Err(e) if e.trouble() == Trouble::Damaged => {}
            done => return done,
        }
    }
    in_new_segment(disk, last, header, trusted, end)
}

fn in_place<D: Disk>(
    disk: &D,
    last: &Last<D::File>,
    trusted: u64,
    end: u64,
    len: u64,
) -> Result<(), DiskError> {
    let whole = offset_of(last.segment.first, end + 1);
    let fail = |doing| move |e| DiskError::new(disk, doing, &last.segment.name(), e);
    if len > whole || trusted != end {
        disk.set_len(&last.file, whole).map_err(fail("cut"))?;
        copy(disk, last, trusted, end, &last.file, last.segment.first)?;
    }
    // Also when nothing is to be done: an earlier life may have cut it without a sync, and a power cut would undo that.
    disk.sync_data(&last.file).map_err(fail("sync"))
}

/// The new segment gets its name only when the entries are in it: they may have been durable before.
fn in_new_segment<D: Disk>(
    disk: &D,
    last: &mut Last<D::File>,
    header: &Header,
    trusted: Position,
    end: u64,
) -> Result<(), DiskError> {
    let segment = Segment::plain(trusted.seq + 1);
    let header = Header { first_seq: segment.first, epoch: trusted.epoch, ..header.clone() };
    let file = build(disk, &header)?;
    copy(disk, last, trusted.seq, end, &file, segment.first)?;
    sync_new(disk, &file, segment.first)?;
    rename_bad(disk, &mut last.segment)?;
    publish(disk, segment)?;
    *last = Last { file, segment, limit: 0 };
    Ok(())
}

/// Copies entries `after + 1 ..= end` from the last segment to `to`, a segment that begins with `first`.
fn copy<D: Disk>(
    disk: &D,
    last: &Last<D::File>,
    mut after: u64,
    end: u64,
    to: &D::File,
    first: u64,
) -> Result<(), DiskError> {
    let mut buf = Vec::new();
    while after < end {
        buf.resize((end - after).min(CHUNK) as usize * LEN, 0);
        let n = read(disk, &last.file, last.segment, &mut buf, offset_of(last.segment.first, after + 1))?;
        let whole = (after + 1..).zip(buf.as_chunks().0).all(|(seq, b)| is_entry(b, seq));
        if n < buf.len() || !whole {
            // It was whole a moment ago. After EIO a file system may drop its pages and show what is on the disk.
            let changed = io::Error::other("it changed while it was read");
            return Err(DiskError::new(disk, "copy", &last.segment.name(), changed));
        }
        write_all(disk, to, &buf, offset_of(first, after + 1))
            .map_err(|(_, e)| DiskError::new(disk, "write", &last.segment.name(), e))?;
        after += (buf.len() / LEN) as u64;
    }
    Ok(())
}

fn open<D: Disk>(disk: &D, segment: Segment) -> Result<D::File, DiskError> {
    disk.open(&segment.name()).map_err(|e| DiskError::new(disk, "open", &segment.name(), e))
}

fn read<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: Segment,
    buf: &mut [u8],
    offset: u64,
) -> Result<usize, DiskError> {
    read_full(disk, file, buf, offset).map_err(|e| DiskError::new(disk, "read", &segment.name(), e))
}

fn sync_new<D: Disk>(disk: &D, file: &D::File, first: u64) -> Result<(), DiskError> {
    disk.sync_data(file).map_err(|e| DiskError::new(disk, "sync", &Segment::plain(first).new_name(), e))
}

// A record has at least one segment when this is called.
fn last_of(files: &[Segment]) -> Segment {
    files.last().copied().unwrap_or(Segment::plain(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DirDisk;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    const FIRST: &str = "00000000000000000001.seg";

    fn open(dir: &Path) -> Result<(Record<DirDisk>, Recovered), RecordError> {
        let disk = DirDisk::open(dir).unwrap();
        Record::open(disk, Settings { segment_entries: 10, channels: Vec::new() }, 42, || 9)
    }

    /// A record of 5 durable entries, and behind them these, as a dead process left them.
    fn record_and(tail: &[Entry]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (mut record, _) = open(dir.path()).unwrap();
        record.grant(crate::mark::Grant { nonce: 1, epoch: 1, base: 1 }).unwrap();
        let entries: Vec<u8> = (1..=5).flat_map(|seq| Entry::sample(seq, 1, 0, 0, 0).to_bytes()).collect();
        record.append(&entries).unwrap();
        record.sync().unwrap();
        append_bytes(dir.path(), FIRST, &tail.iter().flat_map(Entry::to_bytes).collect::<Vec<_>>());
        dir
    }

    fn append_bytes(dir: &Path, name: &str, bytes: &[u8]) {
        OpenOptions::new().append(true).open(dir.join(name)).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn an_epoch_that_was_not_granted_does_not_begin() {
        let dir = record_and(&[Entry::sample(6, 1, 0, 0, 0), Entry::epoch(7, 2, 0)]);
        let recovered = open(dir.path()).unwrap().1;
        assert_eq!((recovered.durable, recovered.epoch, recovered.truncated), (6, 1, 1));
    }

    #[test]
    fn without_a_mark_all_is_scanned() {
        let dir = record_and(&[Entry::epoch(6, 2, 0), Entry::sample(7, 2, 0, 0, 0)]);
        fs::remove_file(dir.path().join(MARK)).unwrap();
        let recovered = open(dir.path()).unwrap().1;
        assert_eq!((recovered.durable, recovered.epoch, recovered.rewritten), (7, 2, 7));
    }

    #[test]
    fn what_does_not_count_is_cut_off() {
        let dir = record_and(&[Entry::sample(6, 1, 0, 0, 0), Entry::sample(8, 1, 0, 0, 0)]);
        append_bytes(dir.path(), FIRST, b"torn");
        let recovered = open(dir.path()).unwrap().1;
        assert_eq!((recovered.durable, recovered.truncated, recovered.rewritten), (6, 2, 1));
        assert_eq!(fs::metadata(dir.path().join(FIRST)).unwrap().len(), offset_of(1, 7));
        let again = open(dir.path()).unwrap().1;
        assert_eq!((again.durable, again.truncated, again.rewritten), (6, 0, 0));
    }

    #[test]
    fn durable_entries_that_are_gone_are_an_error() {
        let dir = record_and(&[]);
        let file = OpenOptions::new().write(true).open(dir.path().join(FIRST)).unwrap();
        file.set_len(offset_of(1, 3)).unwrap();
        assert!(matches!(open(dir.path()), Err(RecordError::Missing { seq: 3, .. })));
        fs::remove_file(dir.path().join(FIRST)).unwrap();
        assert!(matches!(open(dir.path()), Err(RecordError::Missing { seq: 5, .. })));
    }

    #[test]
    fn a_damaged_header_needs_another_to_stand_in() {
        let dir = record_and(&[]);
        let (mut record, _) = open(dir.path()).unwrap();
        let more: Vec<u8> = (6..=12).flat_map(|seq| Entry::sample(seq, 1, 0, 0, 0).to_bytes()).collect();
        record.append(&more).unwrap();
        drop(record);
        let spoil = |name: &str| {
            let mut bytes = fs::read(dir.path().join(name)).unwrap();
            bytes[30] ^= 1;
            fs::write(dir.path().join(name), bytes).unwrap();
        };
        spoil("00000000000000000011.seg");
        assert_eq!(open(dir.path()).unwrap().1.durable, 12);
        spoil(FIRST);
        assert!(matches!(open(dir.path()), Err(RecordError::Header { .. })));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(FIRST)).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(FIRST), "{error}");
        fs::remove_file(dir.path().join(FIRST)).unwrap();
        fs::create_dir(dir.path().join(FIRST)).unwrap();
        assert!(open(dir.path()).is_err());
    }

    #[test]
    fn a_record_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DirDisk::open(&dir.path().join("state/log")).unwrap();
        let lock = disk.lock().unwrap();
        assert!(matches!(disk.lock(), Err(crate::disk::DirError::Busy { .. })));
        drop(lock);
        disk.lock().unwrap();
    }
}
