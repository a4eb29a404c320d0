//! The line that people read.
#![forbid(unsafe_code)]

use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::fold::{Losses, Stats};
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::snapshot::{Row, Snapshot};

/// How values are shown.
pub struct Style {
    /// The channels, as the record keeps them.
    pub channels: Vec<ChannelRow>,
    /// Digits after the point of values that are no integers.
    pub digits: u8,
}

/// One line for each channel that has samples; one that says so if none has.
pub fn lines(snapshot: &Snapshot, style: &Style) -> Vec<String> {
    let losses = losses(&snapshot.losses);
    let unknown = ChannelRow::default();
    let row = |channel: u16| style.channels.get(channel as usize).unwrap_or(&unknown);
    let of = |total: &Row| line(&total.stats, row(total.channel), style.digits) + &losses;
    let lines: Vec<String> = snapshot.totals().map(of).collect();
    if lines.is_empty() { vec![format!("{}: n=0{losses}", row(0).name)] } else { lines }
}

fn line(stats: &Stats, row: &ChannelRow, digits: u8) -> String {
    let ChannelRow { name, unit, .. } = row;
    let label = if unit.is_empty() { name.clone() } else { format!("{name} [{unit}]") };
    let conversion = Conversion::of(row);
    let value = |value: Exact| conversion.text(&value, digits);
    format!(
        "{label}: n={} sum={} mean={} stddev={} min={} max={} first={} last={}",
        stats.count,
        value(conversion.sum(stats)),
        exact::text(conversion.mean(stats), digits),
        exact::text(conversion.deviation(stats), digits),
        value(conversion.min(stats)),
        value(conversion.max(stats)),
        value(conversion.value(stats.first)),
        value(conversion.value(stats.last)),
    )
}

/// What is missing, if anything is.
fn losses(losses: &Losses) -> String {
    let parts = [
        ("missed", losses.missed),
        ("unread", losses.unread),
        ("dropped", losses.full),
        ("bad", losses.bad),
        ("abandoned", losses.abandoned),
        ("corrupt", losses.corrupt),
    ];
    parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(" {name}={n}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_pipeline::entry::{Entry, Reason};
    use ipc_pipeline::fold::Fold;

    fn style(decimals: u8) -> Style {
        let row = ChannelRow { name: "t".into(), unit: "C".into(), decimals, ..ChannelRow::default() };
        Style { channels: vec![row], digits: 3 }
    }

    #[test]
    fn a_line_has_everything_exactly() {
        let mut fold = Fold::new();
        let lines = |fold: &Fold, style: &Style| lines(&Snapshot::of(fold, 1, 7), style);
        assert_eq!(lines(&fold, &style(0)), ["t: n=0"]);
        for (seq, value) in [(1, 20018), (2, -5), (3, 7)] {
            fold.fold(&Entry::sample(seq, 1, 0, 0, value)).unwrap();
        }
        fold.fold(&Entry::loss(4, 1, 0, Reason::Missed, 3)).unwrap();
        assert_eq!(
            lines(&fold, &style(4)),
            [
                "t [C]: n=3 sum=2.0020 mean=0.667 stddev=1.156 min=-0.0005 max=2.0018 first=2.0018 last=0.0007 missed=3"
            ]
        );
        assert_eq!(
            lines(&fold, &style(0)),
            [
                "t [C]: n=3 sum=20020 mean=6673.333 stddev=11556.822 min=-5 max=20018 first=20018 last=7 missed=3"
            ]
        );
    }
}
