//! The summary: what is kept of entries 1..n when their segments are removed (docs/formats.md, Summary).
//!
//! It holds all that readers need to go on behind entry n as if they had read everything: the statistics, the state of the
//! audit, where the source stands, the wall clock. It is made durable before the first of those files goes, so a record
//! that does not begin with entry 1 always has one.
#![forbid(unsafe_code)]

use crate::audit::{Audit, STATE_LEN};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskError, read_full, write_all};
use crate::entry::{Entry, LEN};
use crate::fields::{get, get_u32, get_u64, put};
use crate::fold::Fold;
use crate::header::SEQ_LIMIT;
use crate::mark::{Position, SourcePosition};
use crate::settings::Settings;
use crate::wall::WallClock;
use std::io;

/// Name of the file.
pub const SUMMARY: &str = "summary";
/// Name under which it is made.
const NEW: &str = "summary.new";
const MAGIC: [u8; 8] = *b"IPCPSUM1";
const LAYOUT: u32 = 1;
const STATE: usize = 128;
const HEAD_LEN: usize = STATE + STATE_LEN;
const CRC_LEN: usize = 4;
/// No summary is larger: what is larger is neither read nor written.
const LEN_MAX: u64 = if cfg!(test) { 1 << 20 } else { 1 << 30 };

/// What is known after entry n.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Number of the record.
    pub log_id: u64,
    /// n, its epoch, and where the source stands.
    pub position: Position,
    /// The bytes of entry n.
    pub entry: [u8; LEN],
    /// The statistics as stat makes them: damaged entries count as corrupt.
    pub fold: Fold,
    /// What the entries prove.
    pub audit: Audit,
    /// The wall clock.
    pub wall: WallClock,
}

impl Summary {
    /// Of no entries yet, with what these settings ask for.
    pub fn new(log_id: u64, settings: &Settings) -> Summary {
        let (position, wall) = (Position::default(), WallClock::default());
        let (fold, audit) = (Fold::with(settings), Audit::with(settings));
        Summary { log_id, position, entry: [0; LEN], fold, audit, wall }
    }

    /// The same summary, going on with other settings.
    pub fn go_on_with(mut self, settings: &Settings) -> Summary {
        self.fold = self.fold.go_on_with(settings);
        self.audit.totals = self.audit.totals.go_on_with(settings);
        self
    }

    /// The last entry that is summed up; 0: none.
    pub fn n(&self) -> u64 {
        self.position.seq
    }

    /// Goes on over the whole entries that `bytes` begins with; the first one stands at n + 1.
    pub fn take_bytes(&mut self, bytes: &[u8]) {
        let (entries, _) = bytes.as_chunks::<LEN>();
        self.audit.take_bytes(bytes);
        for b in entries {
            let e = Entry::from_bytes(b);
            let whole = e.seq == self.n() + 1 && e.is_whole();
            match e.kind().filter(|_| whole) {
                Some(kind) => self.wall.take(&e, kind),
                None if whole => {} // of a newer version
                None => self.position.advance_rotten(),
            }
            if whole {
                self.position.advance(&[*b]);
            }
            if self.fold.fold(&e).is_err() {
                // As stat does. It cannot fail: the stand-in has the right seq, kind and CRC.
                let _ = self.fold.fold(&Entry::corrupt(self.fold.n + 1, self.fold.epoch));
            }
            self.entry = *b;
        }
    }

    /// The checkpoint that stat would have made here.
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::new(self.log_id, &Entry::from_bytes(&self.entry), self.fold.clone())
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; HEAD_LEN];
        let checkpoint = self.checkpoint().encode();
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, LAYOUT.to_le_bytes());
        put(&mut b, 12, (checkpoint.len() as u32).to_le_bytes());
        put(&mut b, 16, self.log_id.to_le_bytes());
        put(&mut b, 24, self.position.seq.to_le_bytes());
        put(&mut b, 32, self.entry);
        put(&mut b, 64, self.position.epoch.to_le_bytes());
        if let Some(source) = self.position.source {
            put(&mut b, 72, source.seq.to_le_bytes());
            put(&mut b, 80, source.id.to_le_bytes());
            put(&mut b, 88, source.index.to_le_bytes());
        }
        put(&mut b, 96, self.wall.epoch.to_le_bytes());
        if let Some(zero_ns) = self.wall.zero_ns {
            put(&mut b, 100, 1u32.to_le_bytes());
            put(&mut b, 104, zero_ns.to_le_bytes());
        }
        put(&mut b, STATE, self.audit.state());
        b.extend_from_slice(&checkpoint);
        b.extend(crc32c::crc32c(&b).to_le_bytes());
        b
    }

    /// The summary in these bytes; `None` unless it is whole and its parts belong together.
    pub fn decode(bytes: &[u8]) -> Option<Summary> {
        let (body, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
        if crc32c::crc32c(body).to_le_bytes() != *crc || body.first_chunk() != Some(&MAGIC) {
            return None;
        }
        let (head, checkpoint) = body.split_at_checked(HEAD_LEN)?;
        if get_u32(head, 8) != LAYOUT || get_u32(head, 12) as usize != checkpoint.len() {
            return None;
        }
        let Checkpoint { log_id, fold, .. } = Checkpoint::decode(checkpoint)?;
        let audit = Audit::from_state(&get(head, STATE), fold.clone())?;
        let source =
            SourcePosition { seq: get_u64(head, 72), id: get_u64(head, 80), index: get_u64(head, 88) };
        let seq = Some(get_u64(head, 24)).filter(|seq| (1..SEQ_LIMIT).contains(seq))?;
        let known = get_u32(head, 100) == 1;
        let wall = WallClock {
            epoch: get_u32(head, 96),
            zero_ns: known.then(|| i128::from_le_bytes(get(head, 104))),
        };
        let position =
            Position { seq, epoch: get_u32(head, 64), source: (source.seq != 0).then_some(source) };
        let one = (log_id, fold.n, audit.next()) == (get_u64(head, 16), seq, seq + 1);
        one.then(|| Summary { log_id, position, entry: get(head, 32), fold, audit, wall })
    }

    /// The summary in this directory. `None`: there is none, or it is damaged.
    ///
    /// # Errors
    /// What the disk said.
    pub fn read<D: Disk>(disk: &D) -> Result<Option<Summary>, DiskError> {
        let fail = |e| DiskError::new(disk, "read", SUMMARY, e);
        let file = match disk.open(SUMMARY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fail)?,
        };
        let mut bytes = vec![0; disk.len(&file).map_err(fail)?.min(LEN_MAX) as usize];
        let n = read_full(disk, &file, &mut bytes, 0).map_err(fail)?;
        bytes.truncate(n);
        Ok(Summary::decode(&bytes))
    }

    /// Puts it in place of the one before; durable when this returns.
    ///
    /// # Errors
    /// What the disk refused, or it is too large to be read again; one of the two is in place then.
    pub fn write<D: Disk>(&self, disk: &D) -> Result<(), DiskError> {
        let fail = |doing| move |e| DiskError::new(disk, doing, SUMMARY, e);
        let bytes = self.encode();
        if bytes.len() as u64 > LEN_MAX {
            let large = format!(
                "it would have {} bytes, more than {LEN_MAX}; ask for fewer or shorter windows, or for no percentiles",
                bytes.len()
            );
            return Err(fail("write")(io::Error::other(large)));
        }
        match disk.remove(NEW) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail("make")(e)),
            _ => {}
        }
        let file = disk.create(NEW).map_err(fail("make"))?;
        write_all(disk, &file, &bytes, 0).map_err(|(_, e)| fail("write")(e))?;
        disk.sync_data(&file).map_err(fail("sync"))?;
        disk.rename(NEW, SUMMARY).map_err(fail("make"))?;
        disk.sync_dir().map_err(fail("sync the directory of"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DirDisk;
    use crate::settings::{Percentile, Unit, Window};

    /// Written all the same it would be taken for damaged, when what it sums up is already gone.
    #[test]
    fn one_that_nobody_would_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DirDisk::open(dir.path()).unwrap();
        let windows = vec![Window::new(Unit::Samples, 64 << 12, 1 << 12).unwrap(); 4];
        let settings =
            Settings { percentiles: vec![Percentile::new(0).unwrap()], windows, ..Settings::default() };
        let mut summary = Summary::new(42, &settings);
        let take = |summary: &mut Summary, to: u64| {
            for seq in summary.n() + 1..=to {
                let code = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
                summary.take_bytes(&Entry::sample(seq, 1, seq, 0, code as i32).to_bytes());
            }
        };
        take(&mut summary, 10_000);
        summary.write(&disk).unwrap();
        take(&mut summary, 300_000);
        let refused = summary.write(&disk).unwrap_err().to_string();
        assert!(refused.contains("more than"), "{refused}");
        assert_eq!(Summary::read(&disk).unwrap().unwrap().n(), 10_000);
    }
}
