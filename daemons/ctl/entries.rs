//! The entries of a record one by one, with the time of day, and what had to be left out: the loop under everything that
//! looks at single entries.
#![forbid(unsafe_code)]

use ipc_pipeline::entry::{self, Entry, Kind, LEN};
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::summary::Summary;
use ipc_pipeline::text::counted;
use ipc_pipeline::wall::WallClock;

use crate::walk::{Step, Walk};

/// What stands next.
pub enum Met {
    /// A whole entry of a known kind.
    Entry(Entry, Kind),
    /// The entry with this seq is damaged.
    Damaged(u64),
    /// The entries up to the summary's were removed on purpose; this is known of them.
    Summary(Box<Summary>),
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Entries that are damaged or missing.
    pub entries: u64,
    /// The summary of removed entries is damaged: neither they nor the time of day behind them are known by it.
    pub summary: bool,
}

impl Damage {
    /// What is to be said of it; `None`: there is none.
    pub fn text(&self) -> Option<String> {
        let entries = (self.entries > 0).then(|| {
            format!("{} left out", counted(self.entries, "damaged entry was", "damaged entries were"))
        });
        let summary = self.summary.then(|| "the summary of what was removed is damaged".to_owned());
        let parts: Vec<String> = entries.into_iter().chain(summary).collect();
        let them = if self.entries == 1 && !self.summary { "it" } else { "them" };
        (!parts.is_empty()).then(|| format!("{}; `ipc-pipeline verify` names {them}", parts.join("; ")))
    }
}

/// The entries of a record from one of them on.
pub struct Entries {
    /// Where we are.
    pub walk: Walk,
    /// The time of day there.
    pub wall: WallClock,
    /// What was left out so far.
    pub damage: Damage,
}

impl Entries {
    /// From entry `begin` on, before which the clock is `wall`.
    ///
    /// # Errors
    /// The record cannot be read; its damage is no error.
    pub fn from(reader: RecordReader, begin: u64, wall: WallClock) -> Result<Entries, ReadError> {
        let damage = Damage { entries: 0, summary: reader.summary_is_damaged()? };
        Ok(Entries { walk: Walk::from(reader, begin)?, wall, damage })
    }

    /// Gives the next entries, none beyond `last`, and the clock after each. False: there are no more now.
    ///
    /// # Errors
    /// The record cannot be read.
    #[inline]
    pub fn step(&mut self, last: u64, mut take: impl FnMut(Met, &WallClock)) -> Result<bool, ReadError> {
        let Entries { walk, wall, damage } = self;
        let from = walk.next;
        if from > last {
            return Ok(false);
        }
        let bytes = match walk.step(Some(last))? {
            Step::Entries(bytes) => bytes,
            Step::Gap(seq) => {
                damage.entries += seq.min(last.saturating_add(1)) - from;
                return Ok(true);
            }
            Step::Summary(summary) => {
                *wall = summary.wall;
                take(Met::Summary(summary), wall);
                return Ok(true);
            }
            Step::End => return Ok(false),
        };
        let (entries, _) = bytes.as_chunks::<LEN>();
        let mut seqs = from..;
        for part in entries.chunks(entry::PART) {
            for ((entry, is_whole), seq) in entry::checked(part).zip(seqs.by_ref()) {
                match entry.kind().filter(|_| entry.seq == seq && is_whole) {
                    Some(kind) => {
                        wall.take(&entry, kind);
                        take(Met::Entry(entry, kind), wall);
                    }
                    None => {
                        damage.entries += 1;
                        take(Met::Damaged(seq), wall);
                    }
                }
            }
        }
        Ok(true)
    }
}
