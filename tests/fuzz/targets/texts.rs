//! Text that people write: the configuration, conditions, words of the command line.

use super::disks::with_files;
use crate::{condition, moment};
use condition::{Condition, channel_number};
use ipc_pipeline::address::Address;
use ipc_pipeline::config::{self, Config, SensorName};
use ipc_pipeline::decimal::{self, Decimal};
use ipc_pipeline::entry::Entry;
use ipc_pipeline::exact::Conversion;
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::names::{Role, check_instance};
use ipc_pipeline::settings::{Percentile, Weight};

pub const KEYS: &[&str] = &[
    "[source]\n",
    "[conv]\n",
    "[spool]\n",
    "[edge]\n",
    "[log]\n",
    "[stat]\n",
    "[report]\n",
    "[[channel]]\n",
    "[[window]]\n",
    "kind = \"random\"\n",
    "kind = \"lines\"\n",
    "path = \"in.txt\"\n",
    "rate = \"2 kHz\"\n",
    "period = \"1ms\"\n",
    "capacity = 512\n",
    "sync = \"always\"\n",
    "log = \"tcp:51337\"\n",
    "scale = \"-0.5\"\n",
    "decimals = 9\n",
    "size = ",
    "keep_size = \"1GiB\"\n",
    "percentiles = [50, 99.9]\n",
    "high = 1e21\n",
    "\"\"\"",
    "{",
    "}",
    "[",
    "]",
    "=",
    ".",
    "-9223372036854775808",
];
pub const WHERE: &[&str] = &[
    "value",
    "channel",
    "seq",
    "t",
    "and",
    "or",
    "not",
    "(",
    ")",
    "<",
    "<=",
    "!=",
    ">",
    " ",
    "\"",
    "'",
    "2026-01-31",
    "10min",
    "1e21",
    "-0.000000000000000000001",
    "18446744073709551615",
];
pub const WORDS: &[&str] = &[
    "tcp:",
    "udp:127.0.0.1:",
    "mq:",
    "shm:",
    "65536",
    "1e-9",
    "e",
    "2.5ms",
    "10min",
    "1 kHz",
    "chip@0000:01:00.0/temp1",
    "2026-11-21T12:00:00Z",
    "9999-12-31T23:59:59.999999999",
    "-",
    "+",
    ".",
    "18446744073709551616",
    "h",
];

pub fn config_seeds() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../../config/pipeline.toml");
    // Without its comments, which say nothing to the reader.
    let plain: String =
        shipped.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let more = "[source]\nkind = \"lines\"\npath = \"a.txt\"\ncolumns = [1, 2]\n[conv]\nrate = \"2 kHz\"\n[edge]\nlog = \"udp:51338\"\n\
                [[channel]]\nname = \"a\"\nscale = \"0.005\"\nhigh = 5\n[[channel]]\nname = \"b\"\nunit = \"mV\"\n";
    let sets =
        "source.kind=wave\nsource.amplitude=100\nconv.rate=1 kHz\nreport.digits=3\nchannel.decimals=2\n";
    vec![plain.into(), more.into(), sets.into()]
}

/// As a file, and its lines as `--set`.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let sets: Vec<String> = text.lines().take(30).map(str::to_owned).collect();
    let of_file = with_files(&[("c.toml".to_owned(), bytes.to_vec())], |dir| {
        Config::load(Some(&dir.join("c.toml")), &[])
    });
    for loaded in [of_file, Config::load(None, &sets)] {
        match loaded {
            Ok(config) => {
                let _ = (config.identity_of_source(), config.late_limit(), config.log.segment_entries());
                let roles = [Role::Conv, Role::Log, Role::Stat, Role::Report];
                for role in roles {
                    assert!(config.differences(&config, role).is_empty());
                    assert_eq!(config.taking(&config, role), config);
                }
            }
            Err(faults) => {
                assert!(!faults.list().is_empty());
                let text = faults.to_string();
                assert!(
                    !text.contains(|c: char| c.is_control() && c != '\n'),
                    "for a terminal this is not: {text:?}"
                );
            }
        }
    }
}

fn channels() -> Vec<ChannelRow> {
    let row = |name: &str, scale: &str| ChannelRow {
        name: name.into(),
        scale: scale.into(),
        offset: "-1024".into(),
        decimals: 2,
        ..ChannelRow::default()
    };
    vec![row("a", "0.005"), row("b [x]", "-3"), row("c", "0")]
}

pub fn where_seeds() -> Vec<Vec<u8>> {
    [
        "value > 900 and not channel = 'b [x]'",
        "(t >= 2026-01-31T12:00:00Z or t < 10min) and seq != 5",
        "not not (value<=-0.5)",
        "value = 1e21 or value >= -999999999999999999999",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A condition and its opposite: of both exactly one holds.
pub fn condition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let channels = channels();
    for raw in [false, true] {
        let condition = match Condition::parse(&text, raw, &channels) {
            Ok(condition) => condition,
            Err(why) => {
                assert!(!why.is_empty());
                continue;
            }
        };
        let opposite = Condition::parse(&format!("not ({text})"), raw, &channels);
        for (channel, value) in [(0, 0), (1, i32::MIN), (2, i32::MAX), (31, 900), (9, -1)] {
            for wall in [None, Some(0), Some(i128::MAX)] {
                let sample = Entry::sample(u64::from(channel) + 4, 1, 9, channel, value);
                let holds = condition.holds(&sample, wall);
                // It may be refused: nested too deep.
                if let Ok(opposite) = &opposite {
                    assert_ne!(opposite.holds(&sample, wall), holds, "{text:?} {sample:?}");
                }
            }
        }
    }
}

pub fn word_seeds() -> Vec<Vec<u8>> {
    [
        "tcp:127.0.0.1:51337",
        "mq:",
        "-0.00250",
        "2e3",
        "2.5ms",
        "1h",
        "chip@dev/temp1",
        "2026-11-21T12:00:00Z",
        "a-b_9",
        "99.99",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// One word for all who read words: what is shown of it is read as the same.
pub fn words(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Some(duration) = config::duration(text) {
        assert_eq!(config::duration(&config::show_duration(duration)), Some(duration), "{text:?}");
    }
    if let Some(name) = SensorName::read(text) {
        assert_eq!(SensorName::read(&name.to_string()), Some(name));
    }
    if check_instance(text).is_ok() {
        assert!(
            text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{text:?}"
        );
    }
    let _ = (moment::parse(text), channel_number(text, &channels()));
    numbers(text);
}

fn numbers(text: &str) {
    for decimals in [0, 2, 9] {
        if let Ok(code) = decimal::parse(text, decimals) {
            assert_eq!(decimal::parse_rounded(text, decimals, 0), Ok(code), "nothing is rounded in {text:?}");
            assert_eq!(decimal::parse(&decimal::format_scaled(code.into(), decimals), decimals), Ok(code));
        }
        for power in [-6, 0, 3] {
            let _ = decimal::parse_rounded(text, decimals, power);
        }
    }
    let Some(number) = Decimal::read(text) else { return };
    assert_eq!(Decimal::read(&number.to_string()), Some(number), "{text:?}");
    let _ = (Percentile::of(&number), Weight::of(&number));
    let row = ChannelRow { scale: text.into(), offset: text.into(), decimals: 9, ..ChannelRow::default() };
    let conversion = Conversion::of(&row);
    let _ = (conversion.value(i32::MIN).text(9), conversion.factor_and_addend(), conversion.is_rising());
    let _ = (
        conversion.above(&number, &number),
        conversion.below(&number, &Decimal::ZERO),
        conversion.slope(&number),
    );
}
