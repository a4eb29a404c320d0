//! What outside bytes may meet, one target each, and what must hold for every input.
//!
//! A target is told nothing about where its input comes from. All of them: no panic, and memory in proportion to the input.
//! Decoders besides: what was decoded and is encoded again is decoded to the same; and where a CRC covers the bytes, damage
//! gives an error or the undamaged content, never another one.

mod disks;
mod formats;
mod records;
mod shared;
mod sources;
mod texts;

use allocation_counter::measure;

/// One of the readers of outside bytes.
pub struct Target {
    pub name: &'static str,
    /// Right inputs, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Tries one input; panics if something does not hold.
    pub check: fn(&[u8]),
    /// Makes the CRCs right, so that nonsense comes behind the first door too.
    pub seal: Option<fn(&mut [u8])>,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
    /// Bytes of memory that may be in use at once, beside [`MEMORY_PER_BYTE`].
    pub memory: u64,
}

/// So much memory each byte of the input may cost.
const MEMORY_PER_BYTE: u64 = 256;

impl Target {
    const fn new(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, check: fn(&[u8])) -> Target {
        Target { name, seeds, check, seal: None, words: &[], memory: 1 << 20 }
    }

    const fn sealed_by(self, seal: fn(&mut [u8])) -> Target {
        Target { seal: Some(seal), ..self }
    }

    const fn made_of(self, words: &'static [&'static str]) -> Target {
        Target { words, ..self }
    }

    const fn with_memory(self, memory: u64) -> Target {
        Target { memory, ..self }
    }

    /// Tries the input as it is, and with right CRCs.
    pub fn try_input(&self, input: &[u8]) {
        self.within_memory(input);
        if let Some(seal) = self.seal {
            let mut sealed = input.to_vec();
            seal(&mut sealed);
            if sealed != input {
                self.within_memory(&sealed);
            }
        }
    }

    fn within_memory(&self, input: &[u8]) {
        let used = measure(|| (self.check)(input)).bytes_max;
        let most = self.memory + MEMORY_PER_BYTE * input.len() as u64;
        assert!(used <= most, "{used} bytes of memory for {} of input, more than {most}", input.len());
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target::new("entry", formats::entry_seeds, formats::entry).sealed_by(formats::seal_entries),
    // Percentiles keep a counter for each code and channel, whatever the number of entries.
    Target::new("entries", formats::entries_seeds, formats::entries)
        .sealed_by(formats::seal_entries)
        .with_memory(64 << 20),
    Target::new("block", formats::block_seeds, formats::block).sealed_by(formats::seal_block),
    Target::new("header", formats::header_seeds, formats::header).sealed_by(formats::seal_header),
    Target::new("mark", formats::mark_seeds, formats::mark).sealed_by(formats::seal_mark),
    Target::new("checkpoint", formats::checkpoint_seeds, formats::checkpoint)
        .sealed_by(formats::seal_end)
        .with_memory(64 << 20),
    Target::new("summary", formats::summary_seeds, formats::summary)
        .sealed_by(formats::seal_summary)
        .with_memory(64 << 20),
    Target::new("snapshot", formats::snapshot_seeds, formats::snapshot).sealed_by(formats::seal_rows),
    Target::new("register", formats::register_seeds, formats::register),
    Target::new("spool", shared::spool_seeds, shared::spool).sealed_by(shared::seal_spool),
    Target::new("page", shared::page_seeds, shared::page).sealed_by(shared::seal_page),
    Target::new("edge", shared::edge_seeds, shared::edge).sealed_by(formats::seal_entries),
    Target::new("segz", records::segz_seeds, records::segz),
    Target::new("segz-damaged", records::script_seeds, records::segz_damaged),
    Target::new("record", records::record_seeds, records::record).with_memory(8 << 20),
    Target::new("record-damaged", records::script_seeds, records::record_damaged).with_memory(8 << 20),
    Target::new("replay-record", records::record_seeds, records::replay).with_memory(8 << 20),
    Target::new("replay-csv", sources::csv_seeds, sources::csv).made_of(sources::CSV),
    Target::new("rows", sources::rows_seeds, sources::rows).made_of(sources::ROWS),
    Target::new("hwmon", sources::sensor_seeds, sources::hwmon).made_of(sources::NUMBERS),
    Target::new("iio", sources::sensor_seeds, sources::iio).made_of(sources::NUMBERS),
    Target::new("config", texts::config_seeds, texts::config).made_of(texts::KEYS).with_memory(4 << 20),
    Target::new("where", texts::where_seeds, texts::condition).made_of(texts::WHERE),
    Target::new("words", texts::word_seeds, texts::words).made_of(texts::WORDS),
];

/// A number that depends on all bytes, for choices that must be the same whenever the input is.
pub fn digest(bytes: &[u8]) -> u64 {
    let half = |seed: u32| u64::from(crc32c::crc32c_append(seed, bytes));
    half(1) << 32 | half(0x5a5a_5a5a)
}

/// What a CRC promises: bytes with one damage of up to 32 bits in a row, or cut, are refused, or they say the same.
pub fn assert_covered(bytes: &[u8], read: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let Some(content) = read(bytes) else { return };
    let mut dice = fastrand::Rng::with_seed(digest(bytes));
    for round in 0..4 {
        let mut damaged = bytes.to_vec();
        if round == 3 {
            damaged.truncate(dice.usize(..bytes.len().max(1)));
        } else {
            let at = dice.usize(..bytes.len().max(4) - 3);
            let burst = (dice.u32(1..) >> dice.u32(..32)).max(1).to_le_bytes();
            damaged.iter_mut().skip(at).zip(burst).for_each(|(byte, flip)| *byte ^= flip);
        }
        if let Some(other) = read(&damaged) {
            assert!(other == content, "damage of round {round} gives other content");
        }
    }
}
