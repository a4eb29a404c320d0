//! What samples are read from: text in lines, an export, sensors of the kernel.

use super::disks::with_files;
use crate::source::hwmon::Hwmon;
use crate::source::iio::Iio;
use crate::source::sensors::{Class, SensorReader};
use crate::source::{self, Source, Supply};
use ipc_pipeline::config::{ChannelConfig, Config, LineFormat, OnBad, SensorName, Sensors, SourceConfig};
use std::path::PathBuf;

pub const CSV: &[&str] = &[
    "seq,time,channel,value\n",
    "seq,time,channel,code\n",
    "\n",
    ",",
    "2023-11-14T22:13:20Z",
    "2147483647",
    "-2147483648.5",
    "1e9",
    "\"",
];
pub const ROWS: &[&str] =
    &["\n", "\r\n", ",", ";", "\t", "# ", "1e-3", "-2147483648", "0x10", "\u{e4}", "nan", "+1"];
pub const NUMBERS: &[&str] =
    &["\n", "1e9", "-1e-21", "999999999999999999999", "0.000000001", "-", ".", "2147483648", "1e-99", "\0"];

/// What a source gives: rows, and `None` for what is none. At most 20,000 of them.
pub fn rows_of(source: &mut dyn Source, channels: usize, batch: usize) -> Vec<Option<Vec<i32>>> {
    let (mut rows, mut out) = (Vec::new(), vec![0; batch * channels]);
    while rows.len() < 20_000 {
        match source.fill(&mut out) {
            Ok(Supply::Rows(n)) => {
                assert!((1..=batch).contains(&n));
                rows.extend(out.chunks(channels).take(n).map(|row| Some(row.to_vec())));
            }
            Ok(Supply::Bad(why)) => {
                assert!(!why.contains(|c: char| c.is_control()), "for a terminal this is not: {why:?}");
                rows.push(None);
            }
            Ok(Supply::Unread(_) | Supply::Nothing | Supply::End) | Err(_) => break,
        }
    }
    rows
}

/// A file as a source: however it is read, and from whichever row on, it gives the same.
fn read_file(bytes: &[u8], channels: usize, source: impl Fn(PathBuf) -> SourceConfig) {
    with_files(&[("in".to_owned(), bytes.to_vec())], |dir| {
        let channel = |i| ChannelConfig { decimals: i as u8 * 2, ..ChannelConfig::default() };
        let channels_of = (0..channels).map(channel).collect();
        let config = Config { source: source(dir.join("in")), channels: channels_of, ..Config::default() };
        let Ok(mut all) = source::open(&config) else { return };
        let all = rows_of(&mut *all, channels, 1);
        let mut again = source::open(&config).expect("it was opened before");
        let from = all.len() / 2;
        again.seek(from as u64).expect("so many rows were there");
        assert!(rows_of(&mut *again, channels, 7) == all[from..], "in larger pieces it gives something else");
    });
}

pub fn csv_seeds() -> Vec<Vec<u8>> {
    let text = "seq,time,channel,value\n4,2023-11-14T22:13:20.000000000Z,0,15\n5,2023-11-14T22:13:20.000000000Z,1,-7.25\n\
                8,2023-11-14T22:13:20.200000000Z,0,2\n9,2023-11-14T22:13:20.300000000Z,0,3\n10,,1,8\n11,,0,bad\n12,,1,8\n";
    let raw = text.replace("value", "code").replace("-7.25", "-725");
    vec![text.into(), raw.into(), text[..90].into(), format!("{text}{}", "1,".repeat(3000)).into()]
}

pub fn csv(bytes: &[u8]) {
    read_file(bytes, 2, |path| SourceConfig::Replay { path, speed: None, on_bad: OnBad::Skip });
}

pub fn rows_seeds() -> Vec<Vec<u8>> {
    let text = "time;value\n# a comment\n1;2.5;3\n4;-5;6e2\n\n7,8,9\n10 11\t12\r\nnothing\n13;14;15";
    let long = format!("1 2 3\n{}\n4 5 6\n", "7".repeat(5000));
    [0u8, 1, 2, 4, 7, 15]
        .map(|form| [&[form][..], text.as_bytes()].concat())
        .into_iter()
        .chain([[&[0], long.as_bytes()].concat()])
        .collect()
}

/// The first byte chooses how lines are cut.
pub fn rows(bytes: &[u8]) {
    let Some((form, text)) = bytes.split_first() else { return };
    let set = |bit: u8| form >> bit & 1 == 1;
    let format = LineFormat {
        columns: if set(0) { vec![3, 1] } else { Vec::new() },
        separator: if set(1) { Some(';') } else { None },
        comment: if set(2) { Some("# ".into()) } else { None },
        header: set(3),
    };
    read_file(text, 2, |path| SourceConfig::Lines { path, format: format.clone(), on_bad: OnBad::Skip });
}

pub fn sensor_seeds() -> Vec<Vec<u8>> {
    [
        "45499\n0.125\n-1.5",
        "-3\n\n1000",
        "2147483647\n2\n2147483647",
        "1e-3\n999999999999999999999\n0.000000000000000000001",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A device whose files hold the lines of the input: the reading, its scale, its offset.
fn sensor<C: Class>(bytes: &[u8], label: &str, names: [&str; 3]) {
    let mut lines = bytes.splitn(3, |b| *b == b'\n');
    let mut files: Vec<(String, Vec<u8>)> = names
        .iter()
        .filter_map(|name| Some((format!("{}/device0/{name}", C::FOLDER), lines.next()?.to_vec())))
        .collect();
    files.push((format!("{}/device0/name", C::FOLDER), b"chip\n".to_vec()));
    with_files(&files, |root| {
        let sensors = vec![SensorName { chip: "chip".into(), device: None, label: label.into() }];
        for decimals in [0, 3, 9] {
            let sensors = Sensors { sensors: sensors.clone(), root: root.to_owned() };
            let mut reader = SensorReader::<C>::new(&sensors, &[decimals]);
            let supply = reader.fill(&mut [0]).expect("sensors do not end a source");
            assert!(matches!(supply, Supply::Rows(1) | Supply::Unread(_)));
        }
    });
}

pub fn hwmon(bytes: &[u8]) {
    sensor::<Hwmon>(bytes, "temp1", ["temp1_input", "temp1_label", "power1_average"]);
}

pub fn iio(bytes: &[u8]) {
    sensor::<Iio>(bytes, "in_voltage0", ["in_voltage0_raw", "in_voltage_scale", "in_voltage0_offset"]);
}
