//! Lines for spreadsheets: one for each channel and for each of its windows, all with the same columns.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::line::{News, Numbers, Style};
use ipc_pipeline::settings::Percentile;
use ipc_pipeline::snapshot::Row;

/// The columns before the percentiles.
const FIRST: [&str; 20] = [
    "seq",
    "epoch",
    "channel",
    "name",
    "unit",
    "window",
    "from",
    "to",
    "count",
    "sum",
    "mean",
    "stddev",
    "min",
    "max",
    "first",
    "last",
    "ewma",
    "rate",
    "alarm",
    "alarm_changes",
];
/// The columns behind the losses.
const LAST: [&str; 2] = ["at_risk", "coalesced"];

/// The names of the columns.
pub fn header(style: &Style) -> String {
    let percentiles = columns(style).into_iter().map(|p| format!("p{p}"));
    let losses = ["missed", "unread", "dropped", "bad", "abandoned", "corrupt"];
    let names = FIRST.into_iter().map(str::to_owned).chain(percentiles);
    names.chain(losses.into_iter().chain(LAST).map(str::to_owned)).collect::<Vec<_>>().join(",")
}

/// The rows of the snapshot.
pub fn lines(news: &News, style: &Style) -> Vec<String> {
    let columns = columns(style);
    news.rows().iter().map(|row| line(row, news, style, &columns)).collect()
}

/// Every percentile that some channel has, in rising order.
fn columns(style: &Style) -> Vec<Percentile> {
    let each = style.channels.iter().flat_map(|c| style.percentiles.iter().map(|p| c.percentile(*p)));
    each.map(|p| (p.millionths(), p)).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn line(row: &Row, news: &News, style: &Style, columns: &[Percentile]) -> String {
    let channel = style.channel(row);
    let numbers = Numbers::exact(row, channel, style.digits);
    let (window, span) = (row.window.map(|of| of.window.to_string()), row.window.and_then(|of| of.span));
    let [from, to] = [span.map(|(from, _)| from), span.map(|(_, to)| to)].map(of_number);
    let mut cells = vec![
        news.snapshot.n.to_string(),
        news.snapshot.epoch.to_string(),
        row.channel.to_string(),
        quoted(&channel.name),
        quoted(&channel.unit),
        window.unwrap_or_default(),
        from,
        to,
        row.stats.count.to_string(),
    ];
    let Numbers { sum, mean, deviation, min, max, first, last, ewma, rate, percentiles } = numbers;
    let values = [sum, mean, deviation, min, max, first, last, ewma, rate];
    let changes = row.window.is_none().then_some(row.alarm.changes);
    let of_percentile = |p: &Percentile| percentiles.iter().find(|(found, _)| found == p)?.1.clone();
    cells.extend(values.map(Option::unwrap_or_default));
    cells.extend([row.alarms(), of_number(changes)]); // a window has none
    cells.extend(columns.iter().map(of_percentile).map(Option::unwrap_or_default));
    cells.extend(news.losses().map(|(_, n, _)| n.to_string()));
    cells.extend([of_number(news.at_risk), news.coalesced.to_string()]);
    cells.join(",")
}

fn of_number(n: Option<u64>) -> String {
    n.map_or_else(String::new, |n| n.to_string())
}

/// A text as a cell: in quotes if it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::tests::{channel, news, settings, style};
    use ipc_pipeline::config::Format;

    #[test]
    fn every_line_has_every_column() {
        let channels = vec![channel("in, \"out\"", "C", 1, "1"), channel("p", "hPa", 0, "-1")];
        let style = style(Format::Csv, channels, &settings());
        let rows: Vec<[i32; 2]> = (0..61).map(|i| [215 + i % 3, 1013 - i]).collect();
        let rows: Vec<&[i32]> = rows.iter().map(|row| row.as_slice()).collect();
        let news = News { coalesced: 9, at_risk: Some(7), ..news(&settings(), &rows, 2) };
        assert_eq!(
            header(&style),
            "seq,epoch,channel,name,unit,window,from,to,count,sum,mean,stddev,min,max,first,last,ewma,rate,\
             alarm,alarm_changes,p0.1,p50,p99.9,missed,unread,dropped,bad,abandoned,corrupt,at_risk,coalesced"
        );
        let name = "\"in, \"\"out\"\"\"";
        let lines = lines(&news, &style);
        assert_eq!(
            lines[..2],
            [
                format!(
                    "124,1,0,{name},C,,,,61,1317.5,21.598361,0.082647,21.5,21.7,21.5,21.5,21.571429,-0.200000,,0,,21.6,21.7,2,0,0,0,0,0,7,9"
                ),
                format!(
                    "124,1,0,{name},C,1min,0,60000000000,60,1296.0,21.600000,0.082339,21.5,21.7,21.5,21.7,,,,,,21.6,21.7,2,0,0,0,0,0,7,9"
                ),
            ]
        );
        assert!(
            lines[2].starts_with("124,1,1,p,hPa,,,,61,-59963,-983.000000,17.752934,-1013,-953,-1013,-953,")
        );
        assert!(lines[2].ends_with(",1.000000,,0,-1013,-983,,2,0,0,0,0,0,7,9"), "{}", lines[2]);
        assert_eq!(lines.len(), 4);
        let commas = |line: &str| line.replace(name, "").matches(',').count();
        assert!(lines.iter().all(|line| commas(line) == commas(&header(&style))));
    }

    #[test]
    fn without_a_sample_a_line_says_so() {
        let style = style(Format::Csv, vec![channel("v", "", 0, "1")], &Default::default());
        let lines = lines(&news(&Default::default(), &[], 0), &style);
        assert_eq!(lines, ["1,1,0,v,,,,,0,,,,,,,,,,,0,0,0,0,0,0,0,0,0"]);
    }
}
