//! Tests of the configuration through its public face; those of whole files are in tests/config.rs.
#![forbid(unsafe_code)]

use super::*;
use crate::limits::{Limit, Limits, Slope};
use crate::settings::{Percentile, Unit, Weight, Window};

fn load(text: &str, sets: &[&str]) -> Result<Config, Faults> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    read::config(Document::read(text, &sets)).map_err(|faults| Faults::new(Some("f".to_owned()), faults))
}

fn good(text: &str, sets: &[&str]) -> Config {
    load(text, sets).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str, sets: &[&str]) -> String {
    load(text, sets).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_the_reference_job() {
    let config = Config::load(None, &[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.source, SourceConfig::Random { min: 0, max: 100, seed: None });
    assert_eq!(config.conv.rate, Rate::Every { period_ps: 800_000_000_000 });
    assert_eq!(config.log.segment_entries(), (67_108_864 - 4096) / 32);
}

#[test]
fn every_key_arrives() {
    let config = good(
        r#"
        instance.name = "a-B_9"
        [source]
        kind = "random"
        seed = 3
        [conv]
        rate = "360 Hz"
        policy = "drop-newest"
        max_late = "3ms"
        count = 5
        align = true
        realtime = 50
        [spool]
        capacity = 256
        [edge]
        log = "udp:5"
        stat = "tcp:localhost:5"
        report = "sysv:"
        [log]
        sync = "always"
        segment = "64KiB"
        text = "s.txt"
        [stat]
        checkpoint = "1h"
        percentiles = [50, 99.9]
        ewma = 0.25
        [[window]]
        size = "1min"
        step = "10s"
        [[window]]
        size = 1000
        [report]
        format = "json"
        max_lines_per_second = 1000
        digits = 30
        command = ["logger", "-t", "alarm"]
        command_limit = "1min"
        [[channel]]
        name = "ecg"
        unit = "µV"
        decimals = 9
        scale = 0.0048828125
        offset = "-5"
        high = "-0.016"
        low = -0.03
        hysteresis = 1e-4
        max_rate = 3
        hits = 4
        stale = "1min"
        [[channel]]
        name = "b"
        "#,
        &[],
    );
    let wanted = Config {
        instance: Some("a-B_9".to_owned()),
        source: SourceConfig::Random { min: 0, max: 100, seed: Some(3) },
        conv: ConvConfig {
            rate: Rate::Every { period_ps: 2_777_777_778 },
            policy: Policy::DropNewest,
            lock_step: false,
            max_late: Some(Duration::from_millis(3)),
            count: 5,
            align: true,
            realtime: 50,
        },
        spool: SpoolConfig { capacity: 256 },
        edge: EdgeConfig { log: Address::Udp(5), stat: Address::Tcp(5), report: Address::Sysv },
        log: LogConfig {
            sync: Sync::Always,
            segment: 65_536,
            text: Some("s.txt".into()),
            ..LogConfig::default()
        },
        stat: StatConfig {
            checkpoint: Duration::from_secs(3600),
            settings: Settings {
                percentiles: [50_000_000, 99_900_000].into_iter().filter_map(Percentile::new).collect(),
                ewma: Weight::new(1 << 30),
                windows: vec![
                    Window::new(Unit::Time, 60_000_000_000, 10_000_000_000).unwrap(),
                    Window::new(Unit::Samples, 1000, 1000).unwrap(),
                ],
                limits: vec![(
                    0,
                    Limits {
                        high: Limit::above(1_723_200_000, 1_702_720_000),
                        low: Limit::below(-1_144_000_000, -1_123_520_000),
                        rate: Slope::new(614_400_000_000, 1),
                        hits: 4,
                    },
                )],
            },
        },
        report: ReportConfig {
            format: Format::Json,
            max_lines_per_second: 1000,
            digits: 30,
            command: ["logger", "-t", "alarm"].map(str::to_owned).to_vec(),
            command_limit: Duration::from_secs(60),
        },
        channels: vec![
            ChannelConfig {
                name: "ecg".to_owned(),
                unit: "µV".to_owned(),
                decimals: 9,
                scale: Decimal { digits: 48_828_125, places: 10 },
                offset: Decimal { digits: -5, places: 0 },
                watch: WatchConfig {
                    high: Some(Decimal { digits: -16, places: 3 }),
                    low: Some(Decimal { digits: -3, places: 2 }),
                    max_rate: Some(Decimal { digits: 3, places: 0 }),
                    hysteresis: Decimal { digits: 1, places: 4 },
                    hits: 4,
                    stale: Some(Duration::from_secs(60)),
                },
            },
            ChannelConfig { name: "b".to_owned(), ..ChannelConfig::default() },
        ],
    };
    assert_eq!(config, wanted);
    assert!(good("conv.lock_step = true", &[]).conv.lock_step);
    let random = good("source = {kind = \"random\", min = -5, max = -5, seed = 0}", &[]);
    assert_eq!(random.source, SourceConfig::Random { min: -5, max: -5, seed: Some(0) });
    assert_eq!(good("log.sync = \"1ms\"", &[]).log.sync, Sync::Every(Duration::from_millis(1)));
}

#[test]
fn lateness_is_a_period_but_at_least_10_ms() {
    let late = |text| good(text, &[]).conv.late_limit();
    assert_eq!(late(""), Duration::from_millis(800));
    assert_eq!(late("conv.rate = \"1 kHz\""), Duration::from_millis(10));
    assert_eq!(late("conv.max_late = \"0s\""), Duration::ZERO);
}

#[test]
fn a_set_goes_over_the_file_and_over_an_earlier_set() {
    let config = good("spool.capacity = 256", &["spool.capacity=512", "spool.capacity = 1024"]);
    assert_eq!(config.spool.capacity, 1024);
    assert_eq!(good("spool.capacity = 3", &["spool.capacity=512"]).spool.capacity, 512);
}

#[test]
fn a_set_is_a_toml_value_or_else_text() {
    assert_eq!(good("", &["conv.rate=max"]).conv.rate, Rate::Max);
    assert_eq!(good("", &["conv.rate=\"max\""]).conv.rate, Rate::Max);
    assert_eq!(good("", &["conv.rate=50/s"]).conv.rate, Rate::Every { period_ps: 20_000_000_000 });
    assert!(good("", &["conv.lock_step=true"]).conv.lock_step);
    // A key that wants text takes what looks like a number.
    assert_eq!(good("", &["instance.name=2024"]).instance.as_deref(), Some("2024"));
    assert_eq!(good("", &["channel.name=true", "channel.unit="]).channels[0].name, "true");
    assert_eq!(good("[[channel]]\nname = \"a\"\nunit = \"b\"", &["channel.name=c"]).channels[0].unit, "b");
}

#[test]
fn a_set_reaches_each_of_several_tables_by_its_number() {
    let text =
        "[[channel]]\nname = \"a\"\n[[channel]]\nname = \"b\"\n[[window]]\nsize = 5\n[[window]]\nsize = 7\n";
    let config =
        good(text, &["channel.1.unit=V", "channel.0.unit=\"A\"", "channel.1.unit=mV", "window.1.size=9"]);
    assert_eq!(config.channels.iter().map(|c| &c.unit).collect::<Vec<_>>(), ["A", "mV"]);
    assert_eq!(config.stat.settings.windows, [5, 9].map(|n| Window::new(Unit::Samples, n, n).unwrap()));
    assert_eq!(good("", &["channel.0.unit=V"]).channels[0].unit, "V");
    assert_eq!(
        faults(text, &["channel.unit=V", "channel.2.unit=V", "channel.0.unti=V", "channel.x.unit=V"]),
        "--set channel.unit=V: found 2 tables [[channel]]; allowed: channel.0.unit to channel.1.unit\n\
         --set channel.2.unit=V: found 2 tables [[channel]]; allowed: channel.0.unit to channel.1.unit\n\
         --set channel.0.unti=V: unknown key; allowed in [channel]: name, unit, decimals, scale, offset, high, low, max_rate, \
         hysteresis, hits, stale; did you mean `unit`?\n\
         --set channel.x.unit=V: found 2 tables [[channel]]; allowed: channel.0.x.unit to channel.1.x.unit\n\
         4 faults in f"
    );
    assert_eq!(
        faults("", &["channel.1.unit=V"]),
        "--set channel.1.unit=V: found one table [[channel]]; allowed: channel.unit or channel.0.unit\n1 fault in f"
    );
}

#[test]
fn a_set_puts_the_keys_aside_that_exclude_it() {
    assert_eq!(good("conv.period = \"1s\"", &["conv.rate=max"]).conv.rate, Rate::Max);
    let every = Rate::Every { period_ps: 2_500_000_000 };
    assert_eq!(good("conv.rate = \"max\"", &["conv.period=2.5ms"]).conv.rate, every);
    let text = "[source]\nkind = \"random\"\nmin = 1\nmax = 2";
    let lines = SourceConfig::Lines { path: "-".into(), format: LineFormat::default(), on_bad: OnBad::Stop };
    assert_eq!(good(text, &["source.kind=lines", "source.path=-"]).source, lines);
    let text = "[source]\nkind = \"lines\"\npath = \"x\"";
    assert_eq!(good(text, &["source.kind=random"]).source, SourceConfig::default());
}

#[test]
fn faults_in_sets_name_the_set() {
    assert_eq!(
        faults("", &["conv.rate=fast"]),
        "--set conv.rate=fast: found \"fast\"; allowed: 0.01 Hz to 1 MHz in mHz Hz kHz MHz or /s, like \
         \"360 Hz\" or \"50/s\"; or \"max\"\n1 fault in f"
    );
    assert_eq!(
        faults("", &["conv.period=1s", "conv.rate=max"]),
        "--set conv.rate=max: found both period and rate; allowed: one of the two\n1 fault in f"
    );
    assert_eq!(
        faults("", &["conf.rate=max", "report.digit=3", "x"]),
        "--set conf.rate=max: unknown section; allowed: instance, source, conv, spool, edge, log, stat, report, \
         channel, window; did you mean `conv`?\n\
         --set report.digit=3: unknown key; allowed in [report]: format, max_lines_per_second, digits, command, command_limit; did you mean \
         `digits`?\n\
         --set x: found no section.key=value; allowed: for example --set conv.rate=max\n3 faults in f"
    );
    let error = Config::load(None, &["x.y=1".to_owned()]).unwrap_err().to_string();
    assert!(error.ends_with("1 fault in the command line"), "{error}");
    assert_eq!(
        faults("edge.log = \"a\\nb:\"", &["x\n\u{1b}"]),
        "f:1:12: edge.log: there is no carrier `a?b`; allowed: shm: mq: fifo: unix: sysv: tcp:PORT udp:PORT\n\
         --set x??: found no section.key=value; allowed: for example --set conv.rate=max\n2 faults in f"
    );
}

#[test]
fn every_bound_holds_on_both_sides() {
    let bounds = [
        ("source.min", "-2147483648", "-2147483649"),
        ("source.max", "2147483647", "2147483648"),
        ("source.seed", "9223372036854775807", "9223372036854775808"),
        ("source.seed", "0", "-1"),
        ("conv.count", "9223372036854775807", "9223372036854775808"),
        ("conv.count", "0", "-1"),
        ("conv.period", "1us", "999999ps"),
        ("conv.period", "1us", "999.999ns"),
        ("conv.period", "100s", "100.000000000001s"),
        ("conv.rate", "1MHz", "1000001 Hz"),
        ("conv.rate", "0.01Hz", "9mHz"),
        ("conv.max_late", "1h", "61min"),
        ("spool.capacity", "256", "128"),
        ("spool.capacity", "67108864", "134217728"),
        ("spool.capacity", "512", "513"),
        ("log.sync", "1ms", "999us"),
        ("log.sync", "10s", "10001ms"),
        ("log.segment", "64KiB", "63KiB"),
        ("log.segment", "16GiB", "17GiB"),
        ("stat.checkpoint", "10ms", "9ms"),
        ("stat.checkpoint", "1h", "61min"),
        ("stat.percentiles", "0", "-0.1"),
        ("stat.percentiles", "[100]", "[50, 100.000001]"),
        ("stat.percentiles", "[1,2,3,4,5,6,7,8]", "[1,2,3,4,5,6,7,8,9]"),
        ("stat.percentiles", "[0.000001]", "[]"),
        ("stat.ewma", "0.000001", "0.0000009"),
        ("stat.ewma", "1", "1.01"),
        ("conv.rate=max window.size", "1us", "999ns"),
        ("window.size", "10000h", "10001h"),
        ("window.size", "1", "0"),
        ("window.size", "1000000000000", "1000000000001"),
        ("report.max_lines_per_second", "1", "0"),
        ("report.max_lines_per_second", "1000", "1001"),
        ("report.digits", "0", "-1"),
        ("report.digits", "30", "31"),
        (
            "channel.name",
            "0123456789012345678901234567890123456789",
            "01234567890123456789012345678901234567890",
        ),
        ("channel.name", "x", ""),
        ("channel.unit", "0123456789abcdef", "0123456789abcdefg"),
        ("instance.name", "a-Z_9", "a b"),
        ("source.kind=lines source.path=- source.columns", "[1]", "[0]"),
        ("source.kind=lines source.path=- source.columns", "999", "1000"),
        ("source.kind=lines source.path=- source.columns", "[1]", "[1, 2]"),
        ("source.kind=lines source.path=- source.separator", "\"\\t\"", "0"),
        ("source.kind=lines source.path=- source.comment", "//------", "//-------"),
        ("source.kind=wave source.amplitude", "2147483647", "0"),
        ("source.kind=wave source.bits", "2", "1"),
        ("source.kind=wave source.bits", "32", "33"),
        ("source.kind=wave source.phase", "359", "360"),
        ("source.kind=wave source.frequency", "1 mHz", "0.5 mHz"),
        ("source.kind=wave source.frequency", "625 mHz", "626 mHz"), // half of 1.25 Hz
        ("source.kind=wave conv.rate", "1 MHz", "max"),
        ("source.kind=poll source.files=a conv.rate", "1 kHz", "1001 Hz"),
        ("source.kind=iio source.sensors=a/b conv.rate", "1 kHz", "max"),
        ("source.kind=hwmon source.sensors", "a@b/c d", "a@b/"),
        ("source.kind=replay source.path=a conv.rate=max source.speed", "0.001", "0"),
        ("source.kind=replay source.path=a source.speed=1 conv.rate", "max", "1 Hz"),
    ];
    for (key, inside, outside) in bounds {
        // Words before the last one are other settings.
        let sets = |value: &str| -> Vec<String> {
            let mut sets: Vec<String> = key.split(' ').map(str::to_owned).collect();
            sets.last_mut().unwrap().push_str(&format!("={value}"));
            sets
        };
        let (inside, bad) = (sets(inside), sets(outside));
        good("", &inside.iter().map(String::as_str).collect::<Vec<_>>());
        let text = faults("", &bad.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(text.contains("; allowed: "), "{key}={outside}: {text}");
    }
}

#[test]
fn identities_are_frozen() {
    let identity = |source: SourceConfig, decimals| {
        let channels = vec![ChannelConfig { decimals, ..ChannelConfig::default() }];
        Config { source, channels, ..Config::default() }.identity_in(Path::new("/data"))
    };
    let random = |seed| identity(SourceConfig::Random { min: 0, max: 100, seed }, 0);
    let lines = |path: &str, decimals, on_bad| {
        let format = LineFormat::default();
        identity(SourceConfig::Lines { path: path.into(), format, on_bad }, decimals)
    };
    // Computed once by an FNV-1a written in another language.
    assert_eq!(random(None), RANDOM_NONE);
    assert_eq!(random(Some(7)), RANDOM_7);
    assert_eq!(lines("ecg.txt", 0, OnBad::Stop), LINES_ECG);
    assert_eq!(lines("-", 4, OnBad::Skip), LINES_STDIN);
    assert_eq!(lines("./ecg.txt", 0, OnBad::Skip), LINES_ECG);
    assert_eq!(lines("/data//ecg.txt", 0, OnBad::Stop), LINES_ECG);
    assert_ne!(lines("ecg.txt", 1, OnBad::Stop), LINES_ECG);
    assert_eq!(Config::default().identity_of_source().unwrap(), RANDOM_NONE);
    for (sets, identity) in IDENTITIES {
        let config = good("", &sets.split('|').collect::<Vec<_>>());
        assert_eq!(config.identity_in(Path::new("/data")), identity, "{sets}");
    }
}

#[test]
fn a_live_source_is_asked_for_the_newest_tick_only() {
    let late = |sets: &[&str]| good("", sets).late_limit();
    let poll = ["source.kind=poll", "source.files=a", "conv.period=2ms"];
    assert_eq!(late(&poll), Duration::from_nanos(1_999_999));
    assert_eq!(late(&[&poll[..], &["conv.max_late=1ms"]].concat()), Duration::from_millis(1));
    assert_eq!(late(&["conv.period=2ms"]), Duration::from_millis(10));
}

#[test]
fn a_list_may_be_one_value() {
    let files = |set| match good("", &["source.kind=poll", set]).source {
        SourceConfig::Poll { files, .. } => files,
        other => panic!("{other:?}"),
    };
    assert_eq!(files("source.files=a"), files("source.files=[\"a\"]"));
}

#[test]
fn sensors_are_named_by_chip_and_label() {
    let read = |text| SensorName::read(text).map(|name| (name.to_string(), name.device, name.label));
    let with = |device: &str| Some(device.to_owned());
    assert_eq!(read("a/b c"), Some(("a/b c".to_owned(), None, "b c".to_owned())));
    assert_eq!(read("a@0:1.0/b"), Some(("a@0:1.0/b".to_owned(), with("0:1.0"), "b".to_owned())));
    for bad in ["", "a", "/b", "a/", "@x/b", "a@/b", "a/../b", "a/b\n"] {
        assert_eq!(read(bad), None, "{bad:?}");
    }
}

#[test]
fn a_bound_that_cannot_be_read_is_one_fault() {
    let text = faults("source.min = 200\nsource.max = 1e9", &[]);
    assert!(text.ends_with("1 fault in f") && text.contains("found float 1e9"), "{text}");
}

#[test]
fn deep_nesting_is_a_fault_and_no_overflow() {
    let deep = "[".repeat(60_000);
    assert!(load(&format!("a = {deep}"), &[]).is_err());
    assert!(load("", &[&format!("spool.capacity={deep}")]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 2048, failure_persistence: None, ..Default::default()
    })]

    /// Whatever the text: no panic, and a refusal names its places in order.
    #[test]
    fn no_text_panics(
        text in "(\\[?\\[?(source|conv|channel|x)\\]?\\]?\n?|(kind|rate|min|\"ä\") ?= ?(\"max\"|-?[0-9.e]{1,4}|\\{|')\r?\n?|\\PC){0,8}",
        set in "(source|conv|channel|x)?\\.?(kind|rate|name)?=?(\"|'|\\[|\\{|\n|\\PC){0,5}",
    ) {
        if let Err(faults) = load(&text, &[&set]) {
            proptest::prop_assert!(!faults.list().is_empty());
            proptest::prop_assert!(faults.list().is_sorted_by_key(|fault| fault.place.clone()));
            proptest::prop_assert_eq!(faults.to_string().lines().count(), faults.list().len() + 1);
        }
    }
}

const RANDOM_NONE: u64 = 0x05c1_2cd1_6458;
const RANDOM_7: u64 = 0x350c_8d1c_245e;
const LINES_ECG: u64 = 0xbfc2_1448_9ab1;
const LINES_STDIN: u64 = 0xd8e6_9b79_8b5a;
/// Settings and the identity of their source with /data as working directory, computed in another language too.
const IDENTITIES: [(&str, u64); 8] = [
    (
        "source.kind=wave|source.shape=square|source.frequency=0.5 Hz|source.bits=12|source.phase=90",
        0x2919_39d1_8bc6,
    ),
    (
        "source.kind=lines|source.path=a.txt|source.columns=2|source.separator=;|source.comment=#|source.header=true",
        0x8319_43af_c19c,
    ),
    ("source.kind=lines|source.path=-|source.header=true|channel.decimals=2", 0x645c_5096_f1a3),
    ("source.kind=command|source.command=[\"a\", \"-b c\"]|channel.decimals=2", 0x3716_f8b5_8585),
    ("source.kind=poll|source.files=./b|channel.decimals=2", 0x5fae_14a4_2980),
    ("source.kind=hwmon|source.sensors=a/b c", 0x776a_347f_7f1f),
    ("source.kind=iio|source.sensors=a@d/b|source.root=x", 0x6fd4_e9a5_b0a2),
    ("source.kind=replay|source.path=/r|channel.decimals=2", 0x75fa_5278_f41c),
];

/// Nothing is wrong with a configuration that the system does not read to us now: a service manager shall try again.
#[test]
fn a_file_that_cannot_be_read_now_may_be_read_later() {
    let is_momentary = |path| Config::load(Some(Path::new(path)), &[]).unwrap_err().is_momentary();
    assert!(is_momentary("/proc/self/mem"), "reading at 0 gives EIO");
    assert!(!is_momentary("/nowhere/pipeline.toml"));
}
