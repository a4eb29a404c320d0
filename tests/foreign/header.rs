//! The published header: it compiles for everybody, and says what docs/formats.md and the daemons say.
#![forbid(unsafe_code)]

use super::in_the_sources;
use ipc_pipeline::page::{COUNTER_NAMES, State};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"];

/// Compiles a source file with the header; what the compiler has to say.
fn compile(compiler: &[&str], source: &Path, out: &Path) -> Result<(), String> {
    let mut cc = Command::new(compiler[0]);
    cc.args(&compiler[1..]).args(STRICT).arg("-I").arg(in_the_sources("packaging/include"));
    let output = cc.arg(source).arg("-o").arg(out).output().expect("it is there: apt install gcc g++");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A program in C.
pub fn build(dir: &Path, text: &str) -> PathBuf {
    let (source, program) = (dir.join("program.c"), dir.join("program"));
    fs::write(&source, text).unwrap();
    compile(&["cc", "-std=c11"], &source, &program).unwrap();
    program
}

#[test]
fn it_compiles_as_c_and_as_cpp() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "#include \"ipc_pipeline.h\"\n#include \"ipc_pipeline.h\"\nint main(void) { return IPCP_CONV; }\n";
    build(dir.path(), text);
    let source = dir.path().join("program.cc");
    fs::write(&source, text).unwrap();
    for standard in ["-std=c++11", "-std=c++20"] {
        compile(&["c++", standard], &source, &dir.path().join("program")).unwrap();
    }
}

/// Each field, and where docs/formats.md says that it stands: the words there, which begin with the offset.
const PLACES: &[(&str, &[(&str, &str)])] = &[
    (
        "entry",
        &[
            ("seq", "0 | 8 | `seq`"),
            ("t_ns", "8 | 8 | `t_ns`"),
            ("value", "16 | 4 | `value` i32"),
            ("channel", "20 | 2 | `channel` u16"),
            ("kind", "22 | 1 | `kind`"),
            ("flags", "23 | 1 | `flags`"),
            ("epoch", "24 | 4 | `epoch` u32"),
            ("crc", "28 | 4 | CRC"),
        ],
    ),
    (
        "spool",
        &[
            ("magic", "0 | magic `IPCPSPL1`"),
            ("layout", "8 layout u32 = 1"),
            ("header_len", "12 header_len u32"),
            ("entry_len", "16 entry_len u32"),
            ("entry_ver", "20 entry_ver u32"),
            ("capacity", "24 capacity u64"),
            ("log_id", "32 log_id u64"),
            ("epoch", "40 epoch u32"),
            ("base", "48 base u64"),
            ("crc", "60 CRC"),
            ("start_wall_ns", "64 | start_wall_ns u64, start_mono_ns u64"),
            ("generation", "88 generation u64"),
            ("head", "128 | `head` u64"),
            ("tail", "256 | `tail` u64"),
            ("retired", "384 | `retired` u64"),
            ("position", "512, 640 | position, two slots of eight u64"),
            ("position[1]", "640 | position"),
            ("drops", "768, 896 | drops"),
            ("drops[1]", "896 | drops"),
            ("source", "1024, 1152 | source"),
            ("source[1]", "1152 | source"),
        ],
    ),
    (
        "page",
        &[
            ("magic", "0 | magic `IPCPPAG1`"),
            ("role", "12 role u32"),
            ("log_id", "64 | log_id u64"),
            ("epoch", "72 epoch u64"),
            ("pid", "80 pid u64"),
            ("start_wall_ns", "88 start_wall_ns u64"),
            ("generation", "96 generation of the spool"),
            ("session", "128 | session u64"),
            ("received", "256 | received u64"),
            ("durable", "384 | durable u64"),
            ("not_durable", "392 its complement"),
            ("waiting", "512 | waiting u64"),
            ("state", "640 | state u64"),
            ("beat", "648 beat u64"),
            ("record", "768 | record of eight u64"),
            ("counters", "1024 | counters, 64 u64"),
            ("address", "1536 | own input address, 256 bytes"),
            ("reload_pid", "1792 | reading the configuration"),
            ("reload_count", "1800 count u64"),
            ("reload_result", "1808 result u64"),
            ("reload_text", "1824 text, 2,016 bytes"),
        ],
    ),
    ("register", &[("version", "128 `version` u64"), ("rows", "4096 + 81920 * (v & 1)")]),
    (
        "row",
        &[
            ("n", "0 | n (seq) u64"),
            ("version", "8 version u64"),
            ("epoch", "16 epoch u32"),
            ("channel", "20 channel u16"),
            ("rows", "22 rows u16"),
            ("count", "24 count u64"),
            ("sum", "32 sum i128"),
            ("sum_squares", "48 sum of squares u128"),
            ("min", "64 min, 68 max, 72 first, 76 last i32"),
            ("max", "68 max"),
            ("first", "72 first"),
            ("last", "76 last"),
            ("t_ns", "80 t_ns of the last sample u64"),
            ("missed", "88 missed"),
            ("full", "96 full"),
            ("bad", "104 bad"),
            ("abandoned", "112 abandoned"),
            ("corrupt", "120 corrupt"),
            ("unread", "128 unread u64"),
            ("log_id", "136 log_id u64"),
            ("window", "144 | window u8"),
            ("unit", "145 its unit u8"),
            ("percentiles", "146 number of percentiles u8"),
            ("closed", "147 u8 1: a window is closed"),
            ("known", "148 u8 1: the percentiles are known"),
            ("has_average", "149 u8 1: there is a fading average"),
            ("size", "152 | size"),
            ("step", "160 step"),
            ("from", "168 first position"),
            ("to", "176 position behind the last, u64"),
            ("percentile", "184 | percentiles, 8 u32"),
            ("percentile_code", "216 their codes, 8 i32"),
            ("weight", "248 | W u64"),
            ("average", "256 the fading average i64"),
            ("rate_codes", "264 | rate of change: difference i64"),
            ("rate_ns", "272 time ns u64"),
            ("alarms", "280 | alarms that are on u8"),
            ("stale", "281 u8 1: stale"),
            ("alarm_changes", "288 changes u64"),
            ("alarm_seq", "296 seq of the sample of the last change u64"),
            ("limits", "304 | limits, 40 bytes"),
            ("crc", "508 | CRC"),
        ],
    ),
    (
        "limits",
        &[
            ("high_side", "0 side of high u8"),
            ("low_side", "1 that of low u8"),
            ("hits", "4 hits u32"),
            ("high_begin", "8 begin, 12 end of high i32"),
            ("high_end", "12 end of high i32"),
            ("low_begin", "16 begin, 20 end of low i32"),
            ("low_end", "20 end of low i32"),
            ("rate_codes", "24 codes, 32 seconds of rate u64"),
            ("rate_seconds", "32 seconds of rate u64"),
        ],
    ),
];

/// One line, so that it does not matter where lines of the page end.
fn formats() -> String {
    let text = fs::read_to_string(in_the_sources("docs/formats.md")).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The manual page has the same words (tests/pages.rs).
#[test]
fn it_says_what_the_formats_say() {
    let formats = formats();
    let mut text = String::from("#include \"ipc_pipeline.h\"\n");
    for (name, fields) in PLACES {
        for (field, words) in *fields {
            assert!(formats.contains(words), "docs/formats.md does not say {words:?} of {name}.{field}");
            let offset: usize = words.split([' ', ',']).next().unwrap().parse().unwrap();
            let place = format!("offsetof(struct ipcp_{name}, {field}) == {offset}");
            text += &format!("IPCP_ASSERT({place}, \"{name}.{field}\");\n");
        }
    }
    for (state, name) in State::ALL {
        let number = state as u64;
        let constant = format!("{state:?}").chars().fold(String::from("IPCP"), |text, c| {
            text + if c.is_uppercase() { "_" } else { "" } + &c.to_uppercase().to_string()
        });
        text += &format!("IPCP_ASSERT({constant} == {number}, \"{name}\");\n");
    }
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), &(text + "int main(void) { return 0; }\n"));
}

#[test]
fn the_formats_name_all_counters() {
    for (role, names) in ["conv", "log", "stat", "report"].iter().zip(COUNTER_NAMES) {
        let words = format!("| {role} | {} |", names.join(", "));
        assert!(formats().contains(&words), "docs/formats.md does not say {words:?}");
    }
}
