//! What stat says in the snapshot register, and its rows as texts.
#![forbid(unsafe_code)]

use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::names::Names;
use ipc_pipeline::segment::Shm;
use ipc_pipeline::snapshot::{self, REGISTER_LEN, Row, Snapshot};

/// A register that is being written is read so often again.
const TRIES: usize = 8;

/// stat's newest word about the channels.
pub struct Said {
    /// By channel, and for each channel by window.
    pub lines: Vec<Line>,
}

/// A channel since the start, or in one of its windows. All values are texts.
pub struct Line {
    /// Its number.
    pub channel: u16,
    /// Which window; `None`: since the start.
    pub window: Option<String>,
    /// Number of samples.
    pub count: u64,
    /// The newest value.
    pub last: String,
    /// Their mean.
    pub mean: String,
    /// The smallest.
    pub min: String,
    /// The largest.
    pub max: String,
    /// Percentiles: which, and the value.
    pub percentiles: Vec<(String, String)>,
}

/// The newest word; `None` if there is none, or it cannot be read just now.
pub fn newest(names: &Names) -> Option<Snapshot> {
    (0..TRIES).find_map(|_| {
        let bytes = Shm::of(names).bytes(&names.snapshot(), REGISTER_LEN).ok()?;
        snapshot::present(&bytes).ok()
    })?
}

impl Said {
    /// The texts of a word about these channels.
    pub fn of(snapshot: &Snapshot, channels: &[ChannelRow], digits: u8) -> Said {
        let lines = snapshot.rows.iter().map(|row| {
            let table = channels.get(row.channel as usize).cloned().unwrap_or_default();
            line(row, Conversion::of(&table), digits)
        });
        Said { lines: lines.collect() }
    }
}

fn line(row: &Row, conversion: Conversion, digits: u8) -> Line {
    let stats = &row.stats;
    let value = |value: Exact| match stats.count {
        0 => exact::ABSENT.to_owned(),
        _ => conversion.text(&value, digits),
    };
    let percentiles = row.percentiles.iter().map(|(which, code)| {
        let text = code.map(|code| conversion.text(&conversion.value(code), digits));
        // With a negative scale the values fall where the codes rise.
        let which = if conversion.is_rising() { *which } else { which.from_above() };
        (format!("p{which}"), text.unwrap_or_else(|| exact::ABSENT.to_owned()))
    });
    Line {
        channel: row.channel,
        window: row.window.map(|of| of.window.to_string()),
        count: stats.count,
        last: value(conversion.value(stats.last)),
        mean: exact::text(conversion.mean(stats), digits),
        min: value(conversion.min(stats)),
        max: value(conversion.max(stats)),
        percentiles: percentiles.collect(),
    }
}
