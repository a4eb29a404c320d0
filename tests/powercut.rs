//! T6a: the record against every disk state that a power cut may leave.
//!
//! A model disk keeps for each file what is on the platter and what the process sees. A power cut then makes of each
//! 512-byte sector that was written and not synced: the old one, the new one, zeros, garbage, or a torn one; of each
//! file length anything between; of the directory's unsynced changes any subset. The only mercy: bytes that a write
//! does not change stay. Random histories (appends, group commits, rotation, grants, EIO, kills, power cuts, also in
//! the middle of recovery; segments that are compressed, and removed behind a summary) are checked against a list in
//! memory.
//!
//! POWERCUT_STATES and POWERCUT_SEED in the environment change how many states are tried, and which.

mod scale;

use ipc_pipeline::compress::compress_sealed;
use ipc_pipeline::disk::Disk;
use ipc_pipeline::entry::{Entry, Kind, LEN, Reason};
use ipc_pipeline::header::{Form, Segment};
use ipc_pipeline::mark::{Grant, Mark, SourcePosition};
use ipc_pipeline::record::{Record, Recovered, Settings};
use ipc_pipeline::retention::{Keep, Retention};
use ipc_pipeline::segment_file::SegmentFile;
use ipc_pipeline::summary::Summary;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

const SECTOR: usize = 512;
const HEADER: usize = 4096;
const LOG_ID: u64 = 42;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A file: what is on the platter, what the process sees, and which sectors are on their way.
#[derive(Clone, Default)]
struct Inode {
    synced: Vec<u8>,
    now: Vec<u8>,
    dirty: u128,
}

impl Inode {
    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            self.dirty |= 1 << sector;
        }
    }

    /// Brings the chosen dirty sectors and the length to the platter; none is dirty afterwards.
    fn sync(&mut self, mut chosen: impl FnMut() -> bool) {
        self.synced.resize(self.now.len(), 0);
        for sector in 0..self.now.len().div_ceil(SECTOR) {
            if self.dirty >> sector & 1 == 1 && chosen() {
                let range = sector * SECTOR..self.now.len().min((sector + 1) * SECTOR);
                self.synced[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        self.dirty = 0;
    }

    /// What the platter holds after the power came back.
    fn after_cut(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let (low, high) = (self.synced.len().min(self.now.len()), self.synced.len().max(self.now.len()));
        let len = match rng.u8(0..4) {
            0 => self.synced.len(),
            1 => self.now.len(),
            _ => rng.usize(low..=high),
        };
        let mut after = self.synced.clone();
        after.resize(len, 0);
        let all = rng.u8(0..12);
        for sector in (0..len.div_ceil(SECTOR)).filter(|s| self.dirty >> s & 1 == 1) {
            let fate = if all < 5 { all } else { rng.u8(0..5) };
            let torn = rng.usize(0..SECTOR);
            let range = sector * SECTOR..len.min((sector + 1) * SECTOR);
            for (byte, at) in after[range.clone()].iter_mut().zip(range) {
                let (old, new) = (self.synced.get(at).copied(), self.now.get(at).copied());
                if old == new {
                    continue;
                }
                *byte = match fate {
                    0 => old.unwrap_or(0),
                    1 => new.or(old).unwrap_or(0),
                    2 => 0,
                    3 => rng.u8(..),
                    _ if at % SECTOR < torn => new.or(old).unwrap_or(0),
                    _ => old.unwrap_or(0),
                };
            }
        }
        after
    }
}

#[derive(Clone)]
enum Change {
    Put(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Put(name, id) => {
            names.insert(name.clone(), *id);
        }
        Change::Rename(from, to, id) => {
            if names.get(from) == Some(id) {
                names.remove(from);
            }
            names.insert(to.clone(), *id);
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

#[derive(Clone)]
struct State {
    inodes: Vec<Rc<Inode>>,
    synced_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// So many calls go through; then the process is dead.
    calls_left: u64,
    /// The sync of a segment fails once, after bringing some of it to the platter.
    failing_sync: bool,
    rng: fastrand::Rng,
}

#[derive(Clone)]
struct ModelDisk(Rc<RefCell<State>>);

impl ModelDisk {
    fn new(rng: fastrand::Rng) -> ModelDisk {
        ModelDisk(Rc::new(RefCell::new(State {
            inodes: Vec::new(),
            synced_names: BTreeMap::new(),
            names: BTreeMap::new(),
            changes: Vec::new(),
            calls_left: u64::MAX,
            failing_sync: false,
            rng,
        })))
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.borrow_mut();
        if state.calls_left == 0 {
            return Err(io::Error::other("dead"));
        }
        state.calls_left -= 1;
        work(&mut state)
    }

    /// The next process lives for so many calls; one sync of a segment fails with EIO, now and then.
    fn let_live(&self, calls: u64) {
        let mut state = self.0.borrow_mut();
        state.calls_left = calls;
        state.failing_sync = state.rng.u8(0..4) == 0;
    }

    fn is_dead(&self) -> bool {
        self.0.borrow().calls_left == 0
    }

    fn after_cut(&self, rng: &mut fastrand::Rng) -> ModelDisk {
        let state = self.0.borrow();
        let mut names = state.synced_names.clone();
        let fate = rng.u8(0..4);
        for change in &state.changes {
            if fate == 0 || fate > 1 && rng.bool() {
                apply(&mut names, change);
            }
        }
        let inodes = state.inodes.iter().map(|inode| {
            if inode.dirty == 0 && inode.synced == inode.now {
                return Rc::clone(inode);
            }
            let after = inode.after_cut(rng);
            Rc::new(Inode { synced: after.clone(), now: after, dirty: 0 })
        });
        ModelDisk(Rc::new(RefCell::new(State {
            inodes: inodes.collect(),
            synced_names: names.clone(),
            names,
            changes: Vec::new(),
            calls_left: u64::MAX,
            failing_sync: false,
            rng: rng.fork(),
        })))
    }

    /// First seq, form and contents of all segments that count, in their order (docs/formats.md).
    fn segments(&self) -> Vec<(u64, Form, usize)> {
        let state = self.0.borrow();
        let mut found = BTreeMap::new();
        for (ending, form) in [(".seg.bad", Form::Bad), (".segz", Form::Compressed), (".seg", Form::Plain)] {
            for (name, &id) in state.names.iter().filter(|(name, _)| name.get(20..) == Some(ending)) {
                found.insert(name[..20].parse().unwrap(), (form, id));
            }
        }
        found.into_iter().map(|(first, (form, id))| (first, form, id)).collect()
    }

    /// The entries of a segment up to `last`, as it stands there or as it is decompressed.
    fn contents(&self, (first, form, id): (u64, Form, usize), last: u64) -> Vec<u8> {
        if form != Form::Compressed {
            return self.0.borrow().inodes[id].now[HEADER..].to_vec();
        }
        let file = SegmentFile::open(self, Segment { first, form }).unwrap();
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while let n @ 1.. =
            file.read(self, first + (all.len() / LEN) as u64, Some(last + 1), 1000, &mut some).unwrap()
        {
            assert_eq!(n * LEN, some.len());
            all.extend_from_slice(&some);
        }
        all
    }

    /// Does this, whatever is left of the life of the process.
    fn outside_of_life<T>(&self, work: impl FnOnce() -> T) -> T {
        let calls = std::mem::replace(&mut self.0.borrow_mut().calls_left, u64::MAX);
        let done = work();
        self.0.borrow_mut().calls_left = calls;
        done
    }

    fn mark(&self) -> Option<Mark> {
        let state = self.0.borrow();
        let file = &state.inodes[*state.names.get("durable.mark")?].now;
        [0, 4096].iter().filter_map(|&at| Mark::decode(file.get(at..at + 128)?)).max_by_key(|m| m.counter)
    }

    fn flip_bit(&self, id: usize, at: usize, bit: u8) {
        let mut state = self.0.borrow_mut();
        let inode = Rc::make_mut(&mut state.inodes[id]);
        inode.now[at] ^= 1 << bit;
        inode.synced[at] ^= 1 << bit;
    }
}

impl Disk for ModelDisk {
    type File = usize;

    fn list(&self) -> io::Result<Vec<String>> {
        self.call(|state| Ok(state.names.keys().cloned().collect()))
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.call(|state| state.names.get(name).copied().ok_or(io::ErrorKind::NotFound.into()))
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.call(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = state.inodes.len();
            state.inodes.push(Rc::default());
            state.names.insert(name.to_owned(), id);
            state.changes.push(Change::Put(name.to_owned(), id));
            Ok(id)
        })
    }

    fn len(&self, &file: &usize) -> io::Result<u64> {
        self.call(|state| Ok(state.inodes[file].now.len() as u64))
    }

    fn read_at(&self, &file: &usize, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(|state| {
            let rest = state.inodes[file].now.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    fn write_at(&self, &file: &usize, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.call(|state| {
            // Now and then a short write.
            let n = if state.rng.u8(0..8) == 0 { state.rng.usize(1..=bytes.len()) } else { bytes.len() };
            let inode = Rc::make_mut(&mut state.inodes[file]);
            let (from, to) = (offset as usize, offset as usize + n);
            let old_len = inode.now.len();
            inode.now.resize(old_len.max(to), 0);
            inode.now[from..to].copy_from_slice(&bytes[..n]);
            inode.touch(from.min(old_len), to);
            Ok(n)
        })
    }

    fn set_len(&self, &file: &usize, len: u64) -> io::Result<()> {
        self.call(|state| {
            let inode = Rc::make_mut(&mut state.inodes[file]);
            let (old, new) = (inode.now.len(), len as usize);
            inode.now.resize(new, 0);
            inode.touch(old.min(new), old.max(new));
            Ok(())
        })
    }

    fn sync_data(&self, &file: &usize) -> io::Result<()> {
        self.call(|state| {
            let State { inodes, rng, failing_sync, .. } = state;
            let inode = Rc::make_mut(&mut inodes[file]);
            // Only a segment fails, and only when it has something to lose.
            if *failing_sync && inode.dirty != 0 && inode.now.get(..8) == Some(b"IPCPSEG1") {
                *failing_sync = false;
                inode.sync(|| rng.bool());
                return Err(io::Error::from_raw_os_error(if rng.bool() { EIO } else { ENOSPC }));
            }
            inode.sync(|| true);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state| {
            let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            let change = Change::Rename(from.to_owned(), to.to_owned(), id);
            apply(&mut state.names, &change);
            state.changes.push(change);
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call(|state| {
            state.changes.clear();
            state.synced_names = state.names.clone();
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|state| {
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.changes.push(Change::Remove(name.to_owned()));
            Ok(())
        })
    }
}

/// What the record must hold.
struct Truth {
    /// Entry s is `entries[s - 1]`.
    entries: Vec<[u8; LEN]>,
    /// Where the source stands after each.
    sources: Vec<Option<SourcePosition>>,
    /// The highest durable seq that anybody could have seen.
    published: u64,
    grant: Option<Grant>,
    /// A grant that was asked for and not confirmed; it may have come through.
    asked: Option<Grant>,
    segment_entries: u64,
    highest_epoch: u32,
}

impl Truth {
    fn push(&mut self, e: Entry) {
        let mut position = self.source_after(self.entries.len() as u64);
        let by = match e.kind().unwrap() {
            Kind::Source => {
                position = Some(SourcePosition { seq: e.seq, id: e.wide_value(), index: e.t_ns });
                0
            }
            Kind::Sample | Kind::Corrupt => 1,
            Kind::Loss(Reason::Full | Reason::Bad) => e.count(),
            _ => 0,
        };
        if let Some(p) = &mut position {
            p.index += by;
        }
        self.entries.push(e.to_bytes());
        self.sources.push(position);
    }

    fn truncate(&mut self, end: u64) {
        self.entries.truncate(end as usize);
        self.sources.truncate(end as usize);
    }

    fn source_after(&self, end: u64) -> Option<SourcePosition> {
        self.sources[..end as usize].last().copied().flatten()
    }

    fn epoch_after(&self, end: u64) -> u32 {
        self.entries[..end as usize].last().map_or(0, |b| Entry::from_bytes(b).epoch)
    }

    fn open(&self, disk: &ModelDisk) -> Option<(Record<ModelDisk>, Recovered)> {
        let settings = Settings { segment_entries: self.segment_entries, channels: Vec::new() };
        // A sync may fail once; the next try succeeds.
        let open = || Record::open(disk.clone(), settings.clone(), LOG_ID, || 7);
        match open().or_else(|_| open()) {
            Ok(opened) => Some(opened),
            Err(_) if disk.is_dead() => None,
            Err(e) => panic!("the record cannot be opened: {e}"),
        }
    }

    /// Is what was recovered right? Entries in `rotten` were damaged on purpose.
    fn check(&self, disk: &ModelDisk, record: &Record<ModelDisk>, r: &Recovered, rotten: &[u64]) {
        let end = r.durable;
        assert_eq!((record.end(), record.durable(), r.log_id), (end, end, LOG_ID));
        assert!(end >= self.published, "durable {} was published, {end} recovered", self.published);
        assert!(end <= self.entries.len() as u64, "{end} recovered, {} ever written", self.entries.len());
        disk.outside_of_life(|| self.check_entries(disk, end, rotten));
        assert_eq!(r.source, self.source_after(end), "position after {end}");
        assert_eq!(r.epoch, self.epoch_after(end), "epoch after {end}");
        assert!(
            r.grant == self.grant || r.grant == self.asked,
            "{:?} or {:?}: {:?}",
            self.grant,
            self.asked,
            r.grant
        );
    }

    fn check_entries(&self, disk: &ModelDisk, end: u64, rotten: &[u64]) {
        let segments = disk.segments();
        let summed_up = self.check_summary(disk, segments[0].0);
        for (i, &segment) in segments.iter().enumerate() {
            let first = segment.0;
            let last = segments.get(i + 1).map_or(end, |(next, ..)| end.min(next - 1));
            if last <= summed_up {
                continue; // what a power cut left of what was removed
            }
            let right = &self.entries[first as usize - 1..(last as usize).max(first as usize - 1)];
            let found = disk.contents(segment, last);
            if found.starts_with(right.as_flattened()) {
                continue;
            }
            for ((seq, right), found) in (first..).zip(right).zip(found.as_chunks().0) {
                assert!(found == right || rotten.contains(&seq), "entry {seq} of {end} is another");
            }
            assert!(found.len() >= right.len() * LEN, "segment {first} is too short for {last}");
        }
    }

    /// A record that begins with `first` has a summary of what was before it. Returns the last entry that is summed up.
    fn check_summary(&self, disk: &ModelDisk, first: u64) -> u64 {
        let Some(found) = Summary::read(disk).unwrap() else {
            assert_eq!(first, 1);
            return 0;
        };
        let n = found.n();
        let mut right = Summary::new(LOG_ID, &Default::default());
        right.take_bytes(self.entries[..n as usize].as_flattened());
        assert!(found.encode() == right.encode(), "the summary of {n} is another");
        assert!(first <= n + 1, "{first} is not the entry behind {n}");
        n
    }

    /// Cuts the power here, perhaps again during recovery, and checks what is left. Returns the number of states.
    fn cut_and_check(&self, disk: &ModelDisk, rng: &mut fastrand::Rng) -> u64 {
        let mut states = 1;
        let mut disk = disk.after_cut(rng);
        while rng.u8(0..3) == 0 {
            disk.let_live(rng.u64(1..25));
            if let Some((record, recovered)) = self.open(&disk) {
                self.check(&disk, &record, &recovered, &[]);
            }
            disk = disk.after_cut(rng);
            states += 1;
        }
        let rotten = if rng.u8(0..4) == 0 { self.rot(&disk, rng) } else { Vec::new() };
        disk.let_live(u64::MAX);
        let (record, recovered) = self.open(&disk).expect("nothing kills this one");
        self.check(&disk, &record, &recovered, &rotten);
        states
    }

    /// Flips bits of entries that the mark names.
    fn rot(&self, disk: &ModelDisk, rng: &mut fastrand::Rng) -> Vec<u64> {
        let durable = disk.mark().map_or(0, |mark| mark.durable.seq);
        let segments = disk.segments();
        let summed_up =
            disk.outside_of_life(|| Summary::read(disk)).unwrap().map_or(0, |summary| summary.n());
        let mut rotten = Vec::new();
        if durable > 0 {
            for _ in 0..rng.u8(1..4) {
                let seq = rng.u64(1..=durable);
                let found = segments.iter().rfind(|(first, ..)| *first <= seq);
                let Some(&(first, form, id)) = found.filter(|_| seq > summed_up) else { continue };
                if form == Form::Compressed {
                    // It is one block: all of it is lost, and the mark must name all.
                    if segments
                        .iter()
                        .find(|(next, ..)| *next > first)
                        .is_none_or(|(next, ..)| *next > durable)
                    {
                        continue;
                    }
                    let len = disk.0.borrow().inodes[id].now.len();
                    disk.flip_bit(id, rng.usize(HEADER..len), rng.u8(0..8));
                    rotten.extend(first..=durable);
                } else {
                    let at = HEADER + LEN * (seq - first) as usize;
                    disk.flip_bit(id, at + rng.usize(0..LEN), rng.u8(0..8));
                    rotten.push(seq);
                }
            }
        }
        rotten
    }
}

/// One log, from one open to its death.
struct Life<'a> {
    truth: &'a mut Truth,
    disk: &'a ModelDisk,
    record: Record<ModelDisk>,
    rng: &'a mut fastrand::Rng,
    states: u64,
}

impl Life<'_> {
    fn run(&mut self, spool_is_gone: bool) {
        if spool_is_gone || self.truth.grant.is_none() {
            self.new_epoch();
        }
        for _ in 0..self.rng.u32(5..60) {
            match self.rng.u8(0..20) {
                0 => self.new_epoch(),
                1 => self.disk.0.borrow_mut().failing_sync = true,
                2 => self.keep(),
                3..8 => self.commit(),
                _ => self.take(),
            }
            if self.disk.is_dead() {
                return;
            }
            self.probe();
        }
    }

    fn probe(&mut self) {
        self.truth.published = self.truth.published.max(self.record.durable());
        if self.rng.u8(0..3) == 0 {
            for _ in 0..self.rng.u8(1..8) {
                self.states += self.truth.cut_and_check(self.disk, self.rng);
            }
        }
    }

    /// What the keeper does: whatever fails is tried again some time.
    fn keep(&mut self) {
        if self.rng.bool() {
            let _ = compress_sealed(self.disk, &|_| true);
        } else {
            let keep = Keep { size: Some(self.rng.u64(0..40_000)), time: None };
            let (disk, settings) = (self.disk, &Default::default());
            let _ = Retention { disk, log_id: LOG_ID, keep, settings, now_ns: 0 }.remove_oldest();
        }
    }

    /// Some more entries are accepted, and appended.
    fn take(&mut self) {
        let Some(grant) = self.truth.grant.filter(|_| self.truth.asked.is_none()) else {
            return self.new_epoch();
        };
        for _ in 0..self.rng.u32(1..12) {
            let seq = self.truth.entries.len() as u64 + 1;
            let rng = &mut *self.rng;
            let e = match (seq.checked_sub(grant.base), rng.u8(0..30)) {
                (_, 0) => Entry::corrupt(seq, grant.epoch),
                (Some(0), _) => Entry::epoch(seq, grant.epoch, rng.u64(..)),
                (Some(1), _) | (_, 1) => {
                    Entry::source(seq, grant.epoch, rng.u64(0..1 << 40), rng.u64(0..1 << 48))
                }
                (_, 2) => Entry::loss(seq, grant.epoch, 1, Reason::Full, rng.u32(1..)),
                (_, 3) => Entry::loss(seq, grant.epoch, 1, Reason::Missed, rng.u32(1..)),
                _ => Entry::sample(seq, grant.epoch, rng.u64(..), 0, rng.i32(..)),
            };
            self.truth.push(e);
        }
        self.append();
    }

    /// Appends what the record does not have yet, from the spool.
    fn append(&mut self) {
        while self.record.end() < self.truth.entries.len() as u64 {
            let rest = &self.truth.entries[self.record.end() as usize..];
            let Err(e) = self.record.append(rest.as_flattened()) else { break };
            if self.disk.is_dead() {
                return;
            }
            self.probe();
            // A sync fails once; then the next try succeeds, after setting aside if that is asked for.
            let set_aside = self.record.set_aside();
            if self.disk.is_dead() {
                return;
            }
            assert!(set_aside.is_ok() && self.record.durable() >= self.truth.published, "{e}");
            self.probe();
        }
    }

    fn commit(&mut self) {
        while !self.disk.is_dead() && self.record.sync().is_err() {
            self.truth.published = self.truth.published.max(self.record.durable());
            if self.disk.is_dead() {
                return;
            }
            self.probe();
            if self.record.set_aside().is_ok() {
                // Until the cut is on the disk a power cut may bring back what was cut off.
                if self.rng.bool() && self.record.sync().is_ok() {
                    // The old spool is given up: other entries will have these numbers.
                    self.truth.truncate(self.record.end());
                    return self.new_epoch();
                }
                self.append();
            }
        }
    }

    fn new_epoch(&mut self) {
        self.commit();
        self.append();
        if self.disk.is_dead() {
            return;
        }
        self.truth.highest_epoch += 1;
        let grant =
            Grant { nonce: self.rng.u64(..), epoch: self.truth.highest_epoch, base: self.record.end() + 1 };
        self.truth.asked = Some(grant);
        match self.record.grant(grant) {
            Ok(()) => {
                self.truth.grant = Some(grant);
                self.truth.asked = None;
            }
            Err(_) => self.commit(),
        }
    }
}

fn history(seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = ModelDisk::new(rng.fork());
    let mut truth = Truth {
        entries: Vec::new(),
        sources: Vec::new(),
        published: 0,
        grant: None,
        asked: None,
        segment_entries: rng.u64(3..40),
        highest_epoch: 0,
    };
    let mut states = 0;
    let mut spool_is_gone = false;
    for _ in 0..8 {
        disk.let_live(if rng.u8(0..3) > 0 { rng.u64(1..300) } else { u64::MAX });
        if let Some((record, recovered)) = truth.open(&disk) {
            truth.check(&disk, &record, &recovered, &[]);
            truth.published = recovered.durable;
            if spool_is_gone || truth.asked.is_some() {
                truth.truncate(recovered.durable); // else the rest is taken from the spool once more
            }
            if truth.asked.is_some() {
                (truth.grant, truth.asked) = (recovered.grant, None);
                spool_is_gone = true; // conv has retired it: only a new grant goes on
            }
            let mut life = Life { truth: &mut truth, disk: &disk, record, rng: &mut rng, states: 0 };
            life.run(spool_is_gone);
            life.truth.published = life.truth.published.max(life.record.durable());
            states += life.states;
            spool_is_gone = false;
        }
        if rng.bool() {
            disk = disk.after_cut(&mut rng);
            spool_is_gone = true;
        }
        disk.let_live(u64::MAX);
        truth.segment_entries = rng.u64(3..40);
    }
    states
}

#[test]
fn no_power_cut_takes_what_was_durable() {
    let wanted = scale::size("POWERCUT_STATES", [400_000, 100_000_000, 1_000_000_000]);
    let mut seed = scale::seed_or("POWERCUT_SEED", 1);
    let mut states = 0;
    while states < wanted {
        let tried = std::panic::catch_unwind(|| history(seed));
        states +=
            tried.unwrap_or_else(|_| panic!("after {states} states: POWERCUT_SEED={seed} shows it again"));
        seed += 1;
    }
    scale::tally(states, None);
}
