//! The snapshot register: stat's newest values in shared memory, for whoever wants to read them. The newest wins; nobody
//! is waited for.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::segment::{Access, Memory, SegmentError, Segments};
use crate::snapshot::{self, REGISTER_LEN, ROW_LEN, SLOT_LEN, Snapshot, VERSION_AT, slot_at};

const WORDS: usize = REGISTER_LEN / 8;

fn bytes_of(words: &[AtomicU64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect()
}

/// The rows in a slot, and no more: most slots are nearly empty.
fn rows_of(slot: &[AtomicU64]) -> Vec<u8> {
    let head = bytes_of(&slot[..ROW_LEN / 8]);
    let rows = snapshot::rows_in(&head).clamp(1, snapshot::ROWS_MAX);
    bytes_of(&slot[..rows * ROW_LEN / 8])
}

fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (to, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
        to.store(chunk.iter().rev().fold(0, |w, b| w << 8 | *b as u64), Ordering::Relaxed);
    }
}

fn is_register(words: &[AtomicU64]) -> bool {
    words.len() == WORDS && snapshot::check_header(&bytes_of(&words[..snapshot::HEADER_LEN / 8])).is_ok()
}

fn version(words: &[AtomicU64]) -> &AtomicU64 {
    &words[VERSION_AT / 8]
}

fn slot(words: &[AtomicU64], version: u64) -> &[AtomicU64] {
    let at = slot_at(version) / 8;
    &words[at..at + SLOT_LEN / 8]
}

/// stat's end of the register.
pub struct Register<S: Segments> {
    segments: S,
    name: String,
    memory: S::Mem,
}

impl<S: Segments> Register<S> {
    /// Takes over the register of an earlier life, or makes one.
    pub fn open(segments: S, name: &str) -> Result<Register<S>, SegmentError> {
        let old = segments.open(name, Access::Write).filter(|m| is_register(m.words()));
        let memory = match old {
            Some(memory) => memory,
            None => make(&segments, name, None)?,
        };
        Ok(Register { segments, name: name.into(), memory })
    }

    /// Is it still there under its name? If not it is made again, with the last snapshot in it. True if so.
    pub fn look(&mut self) -> Result<bool, SegmentError> {
        if self.segments.is_current(&self.name, &self.memory) {
            return Ok(false);
        }
        self.memory = make(&self.segments, &self.name, Some(self.memory.words()))?;
        Ok(true)
    }

    /// Number of the newest snapshot; 0: none.
    pub fn version(&self) -> u64 {
        version(self.memory.words()).load(Ordering::Relaxed)
    }

    /// Publishes a snapshot; its version must be one more than the last. A kill on the way leaves the last one.
    pub fn publish(&self, snapshot: &Snapshot) {
        let words = self.memory.words();
        // A reader that still copies the slot being overwritten finds its rows torn or of another version.
        std::sync::atomic::fence(Ordering::Release);
        store_bytes(slot(words, snapshot.version), &snapshot.encode());
        version(words).store(snapshot.version, Ordering::Release);
    }

    /// The word that changes with every snapshot.
    pub fn version_word(&self) -> &AtomicU64 {
        version(self.memory.words())
    }
}

fn make<S: Segments>(segments: &S, name: &str, old: Option<&[AtomicU64]>) -> Result<S::Mem, SegmentError> {
    segments.create(name, WORDS, &mut |words| {
        for (to, from) in words.iter().zip(old.unwrap_or_default()).skip(8) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        store_bytes(words, &snapshot::header());
    })
}

/// A reader's end of the register; it may not be there yet.
pub struct RegisterReader<S: Segments> {
    segments: S,
    name: String,
    memory: Option<S::Mem>,
}

impl<S: Segments> RegisterReader<S> {
    /// Looks for the register of this name.
    pub fn new(segments: S, name: &str) -> RegisterReader<S> {
        let mut reader = RegisterReader { segments, name: name.into(), memory: None };
        reader.look();
        reader
    }

    /// Looks whether the name leads to another register now.
    pub fn look(&mut self) {
        let current = self.memory.as_ref().is_some_and(|m| self.segments.is_current(&self.name, m));
        if !current {
            let found = self.segments.open(&self.name, Access::Read).filter(|m| is_register(m.words()));
            self.memory = found.or(self.memory.take());
        }
    }

    /// Is there one?
    pub fn is_there(&self) -> bool {
        self.memory.is_some()
    }

    /// Number of the newest snapshot; 0: none.
    pub fn version(&self) -> u64 {
        self.memory.as_ref().map_or(0, |m| version(m.words()).load(Ordering::Acquire))
    }

    /// The newest snapshot; `None` if there is none, or stat is faster than we are just now.
    pub fn read(&self) -> Option<Snapshot> {
        let words = self.memory.as_ref()?.words();
        for _ in 0..8 {
            let v = version(words).load(Ordering::Acquire);
            let bytes = rows_of(slot(words, v));
            if v == 0 {
                return None;
            }
            if let Ok(snapshot) = Snapshot::decode(&bytes)
                && snapshot.version == v
            {
                return Some(snapshot);
            }
        }
        None
    }

    /// Is it this snapshot that stands, or stood last, in the register? Nothing else was ever said by stat.
    pub fn holds(&self, snapshot: &Snapshot) -> bool {
        let Some(memory) = &self.memory else { return false };
        let newest = version(memory.words()).load(Ordering::Acquire);
        let kept = newest.saturating_sub(1).max(1)..=newest;
        let rows = rows_of(slot(memory.words(), snapshot.version));
        kept.contains(&snapshot.version) && rows == snapshot.encode()
    }

    /// The word that changes with every snapshot.
    pub fn version_word(&self) -> Option<&AtomicU64> {
        self.memory.as_ref().map(|m| version(m.words()))
    }
}
