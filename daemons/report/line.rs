//! What one print says: a snapshot, what is not in it, and how all of it is shown.
#![forbid(unsafe_code)]

use ipc_pipeline::config::{ChannelConfig, Config, Format, WatchConfig};
use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::settings::Percentile;
use ipc_pipeline::snapshot::{Row, Snapshot};
use std::sync::LazyLock;

use crate::{csv, json, text};

/// One print.
pub struct News {
    /// The newest snapshot.
    pub snapshot: Snapshot,
    /// How many snapshots since the last print are not shown.
    pub coalesced: u64,
    /// How many entries are accepted and not yet durable; `None`: not known.
    pub at_risk: Option<u64>,
}

/// How values are shown.
pub struct Style {
    /// In which form.
    pub format: Format,
    /// The channels, as they are configured.
    pub channels: Vec<Channel>,
    /// Digits after the point of values that are no integers.
    pub digits: u8,
    /// The percentiles that are asked for.
    pub percentiles: Vec<Percentile>,
    /// May the text have colours?
    pub coloured: bool,
}

/// How the values of a channel are shown.
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Its unit; may be empty.
    pub unit: String,
    /// From its codes to physical values.
    pub conversion: Conversion,
    /// What it is watched for.
    pub watch: WatchConfig,
}

/// What a row says, as decimal text in the channel's unit; `None`: it has no such value.
pub struct Numbers {
    /// Sum of the samples.
    pub sum: Option<String>,
    /// Their mean, rounded to the digits of the style, as are the deviation, the fading average and the rate.
    pub mean: Option<String>,
    /// Their standard deviation.
    pub deviation: Option<String>,
    /// The smallest.
    pub min: Option<String>,
    /// The largest.
    pub max: Option<String>,
    /// The first one.
    pub first: Option<String>,
    /// The last one.
    pub last: Option<String>,
    /// The average with fading weights.
    pub ewma: Option<String>,
    /// The change from the last sample but one to the last one, per second.
    pub rate: Option<String>,
    /// Each percentile and its value, in rising order if they are configured so.
    pub percentiles: Vec<(Percentile, Option<String>)>,
}

impl Style {
    /// As it is configured.
    pub fn of(config: &Config, coloured: bool) -> Style {
        Style {
            format: config.report.format,
            channels: config.channels.iter().map(Channel::of).collect(),
            digits: config.report.digits,
            percentiles: config.stat.settings.percentiles.clone(),
            coloured,
        }
    }

    /// What stands before everything else, if something does.
    pub fn header(&self) -> Option<String> {
        (self.format == Format::Csv).then(|| csv::header(self))
    }

    /// The lines of one print, without their ends.
    pub fn lines(&self, news: &News) -> Vec<String> {
        match self.format {
            Format::Text => text::lines(news, self),
            Format::Json => vec![json::line(news, self)],
            Format::Csv => csv::lines(news, self),
        }
    }

    /// The lines of one print, as one text for each row that is shown, with the row. A line that says all has no row, unless
    /// there is only one.
    pub fn parts(&self, news: &News) -> Vec<(Option<Row>, String)> {
        let rows = news.rows();
        let counts = match self.format {
            Format::Text => text::counts(&rows, self),
            Format::Csv => vec![1; rows.len()],
            Format::Json => {
                let only = (rows.len() == 1).then(|| rows.into_iter().next()).flatten();
                return vec![(only, json::line(news, self))];
            }
        };
        let mut lines = self.lines(news).into_iter();
        // What is said of the whole record stands before all rows; a message begins with its row.
        let notes = lines.len().saturating_sub(counts.iter().sum());
        let notes: Vec<String> = lines.by_ref().take(notes).collect();
        let of_rows = rows.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        let mut parts: Vec<_> = of_rows
            .map(|(row, count)| (Some(row), lines.by_ref().take(count).collect::<Vec<_>>().join("\n")))
            .collect();
        if let Some((_, last)) = parts.last_mut() {
            notes.iter().for_each(|note| *last += &format!("\n{note}"));
        }
        parts
    }

    /// How a row's channel is shown; one that is not configured shows its codes.
    pub fn channel(&self, row: &Row) -> &Channel {
        static UNKNOWN: LazyLock<Channel> =
            LazyLock::new(|| Channel::of(&ChannelConfig { name: String::new(), ..ChannelConfig::default() }));
        self.channels.get(row.channel as usize).unwrap_or_else(|| &UNKNOWN)
    }
}

impl Channel {
    /// As it is configured.
    pub fn of(config: &ChannelConfig) -> Channel {
        Channel {
            name: config.name.clone(),
            unit: config.unit.clone(),
            conversion: config.conversion(),
            watch: config.watch.clone(),
        }
    }

    /// Can it have alarms?
    pub fn is_watched(&self) -> bool {
        let WatchConfig { high, low, max_rate, stale, .. } = &self.watch;
        high.is_some() || low.is_some() || max_rate.is_some() || stale.is_some()
    }

    /// The percentile of the physical values that this one of the codes is: with a negative scale what was above is below.
    pub fn percentile(&self, of_codes: Percentile) -> Percentile {
        if self.conversion.is_rising() { of_codes } else { of_codes.from_above() }
    }
}

impl News {
    /// The rows; while there is no sample, one of the first channel that says so.
    pub fn rows(&self) -> Vec<Row> {
        if self.snapshot.rows.is_empty() {
            self.snapshot.totals_or_none()
        } else {
            self.snapshot.rows.clone()
        }
    }

    /// What was lost, each by its name, and whether the samples themselves are gone rather than their instants.
    pub fn losses(&self) -> [(&'static str, u64, bool); 6] {
        let losses = &self.snapshot.losses;
        [
            ("missed", losses.missed, false),
            ("unread", losses.unread, false),
            ("dropped", losses.full, true),
            ("bad", losses.bad, true),
            ("abandoned", losses.abandoned, true),
            ("corrupt", losses.corrupt, true),
        ]
    }
}

impl Numbers {
    /// For people: single values too have at most `digits` digits after the point, unless their codes have more.
    pub fn rounded(row: &Row, channel: &Channel, digits: u8) -> Numbers {
        Numbers::with(row, channel, digits, digits)
    }

    /// For machines: single values and sums have all their digits.
    pub fn exact(row: &Row, channel: &Channel, digits: u8) -> Numbers {
        Numbers::with(row, channel, digits, u8::MAX)
    }

    fn with(row: &Row, channel: &Channel, digits: u8, places: u8) -> Numbers {
        let (stats, c) = (&row.stats, &channel.conversion);
        let single = |value: &dyn Fn() -> Exact| (stats.count > 0).then(|| c.text(&value(), places));
        let rounded = |value: Option<Exact>| value.map(|value| value.text(digits));
        let percentile = |(p, code): &(Percentile, Option<i32>)| {
            (channel.percentile(*p), code.map(|code| c.text(&c.value(code), places)))
        };
        let mut percentiles: Vec<_> = row.percentiles.iter().map(percentile).collect();
        if !c.is_rising() {
            percentiles.reverse();
        }
        Numbers {
            sum: single(&|| c.sum(stats)),
            mean: rounded(c.mean(stats)),
            deviation: rounded(c.deviation(stats)),
            min: single(&|| c.min(stats)),
            max: single(&|| c.max(stats)),
            first: single(&|| c.value(stats.first)),
            last: single(&|| c.value(stats.last)),
            ewma: rounded(row.ewma.map(|ewma| c.ewma(ewma))),
            rate: rounded(row.rate.map(|rate| c.rate(&rate))),
            percentiles,
        }
    }
}

/// The text of a value, or what stands for none.
pub fn or_absent(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or(exact::ABSENT)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use ipc_pipeline::decimal::Decimal;
    use ipc_pipeline::entry::{Entry, Reason};
    use ipc_pipeline::fold::Fold;
    use ipc_pipeline::settings::{Settings, Unit, Weight, Window};

    pub fn channel(name: &str, unit: &str, decimals: u8, scale: &str) -> Channel {
        Channel::of(&ChannelConfig {
            name: name.into(),
            unit: unit.into(),
            decimals,
            scale: Decimal::read(scale).unwrap(),
            ..ChannelConfig::default()
        })
    }

    pub fn settings() -> Settings {
        Settings {
            percentiles: [50_000_000, 99_900_000].map(|p| Percentile::new(p).unwrap()).to_vec(),
            ewma: Weight::new(1 << 31),
            windows: vec![Window::new(Unit::Time, 60_000_000_000, 60_000_000_000).unwrap()],
            ..Settings::default()
        }
    }

    pub fn style(format: Format, channels: Vec<Channel>, settings: &Settings) -> Style {
        let percentiles = settings.percentiles.clone();
        Style { format, channels, digits: 6, percentiles, coloured: false }
    }

    /// One sample of each of these channels a second, then losses.
    pub fn news(settings: &Settings, rows: &[&[i32]], missed: u32) -> News {
        let mut fold = Fold::with(settings);
        fold.fold(&Entry::epoch(1, 1, 0)).unwrap();
        for (second, row) in rows.iter().enumerate() {
            for (channel, value) in (0u16..).zip(*row) {
                let t_ns = 1_000_000_000 * second as u64;
                fold.fold(&Entry::sample(fold.n + 1, 1, t_ns, channel, *value)).unwrap();
            }
        }
        if missed > 0 {
            fold.fold(&Entry::loss(fold.n + 1, 1, 0, Reason::Missed, missed)).unwrap();
        }
        News { snapshot: Snapshot::of(&fold, 1, 7), coalesced: 0, at_risk: Some(0) }
    }

    #[test]
    fn a_negative_scale_turns_percentiles_around() {
        let settings = Settings {
            percentiles: [0, 10_000_000, 100_000_000].map(|p| Percentile::new(p).unwrap()).to_vec(),
            ..Settings::default()
        };
        let values: Vec<[i32; 1]> = (1..=100).map(|i| [i]).collect();
        let rows: Vec<&[i32]> = values.iter().map(|v| v.as_slice()).collect();
        let news = news(&settings, &rows, 0);
        let numbers = Numbers::rounded(&news.rows()[0], &channel("v", "", 0, "-1"), 0);
        let shown: Vec<_> =
            numbers.percentiles.iter().map(|(p, v)| format!("{p}={}", or_absent(v))).collect();
        assert_eq!(shown, ["0=-100", "90=-10", "100=-1"]);
        assert_eq!((numbers.min.as_deref(), numbers.max.as_deref()), (Some("-100"), Some("-1")));
        assert_eq!(numbers.rate.as_deref(), Some("-1"));
    }
}
