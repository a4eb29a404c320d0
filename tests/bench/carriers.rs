//! Our carriers beside what carries them: entries in batches, as the daemons send them, and the bare mechanism with messages of the
//! size that the carrier uses, in one run of `ipc-pipeline bench`.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use serde_json::Value;

const LEN: f64 = 32.0;
/// A batch of the carriers, and of the ring, in bytes.
const BATCH: usize = 65536;
/// Carrier, what it is made of, and the size of its messages there.
const PAIRS: [(&str, &str, usize); 6] = [
    ("carrier-mq", "mq", 8192),
    ("carrier-fifo", "fifo", 4096),
    ("carrier-unix", "unix-seqpacket", 8192),
    ("carrier-sysv", "sysv", 8192),
    ("carrier-tcp", "tcp", 32768),
    ("carrier-udp", "udp", 8192),
];
/// Whatever the kernel has that can carry a batch at once.
const KERNEL: &str = "pipe,fifo,unix-stream,unix-seqpacket,unix-datagram,socketpair,tcp";

/// Both figures of each pair, and the ring beside the kernel.
pub fn run() {
    println!(
        "carriers: entries in batches of 2,048, beside the bare mechanism with messages of the carrier's size"
    );
    for (carrier, bare, size) in PAIRS {
        let Some(found) = bench(&format!("{bare},{carrier}"), &[size, BATCH]) else { continue };
        let (Some(ours), Some(theirs)) = (stream(&found, carrier, BATCH), stream(&found, bare, size)) else {
            let why = why_not(&found);
            println!("  {carrier}: cannot be compared with {bare}: {why}");
            continue;
        };
        println!(
            "  {carrier:<13} {:>6.1} M entries/s   {bare} with {size} bytes {:>6.1} M entries/s   ratio {:.2}   {}",
            ours.0 / LEN / 1e6,
            theirs.0 / LEN / 1e6,
            ours.0 / theirs.0,
            ours.1
        );
    }
    ring();
}

fn ring() {
    for size in [1024, BATCH] {
        let Some(found) = bench(&format!("{KERNEL},ring,ring-spin"), &[size]) else { return };
        let best = KERNEL.split(',').filter_map(|name| Some((stream(&found, name, size)?.0, name)));
        let best = best.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, "none"));
        for name in ["ring", "ring-spin"] {
            if let Some((ours, distance)) = stream(&found, name, size) {
                println!(
                    "  {name:<13} {:>6.1} M entries/s in batches of {size} bytes, {:.2} of {}, the best of the kernel   {distance}",
                    ours / LEN / 1e6,
                    ours / best.0,
                    best.1
                );
            }
        }
        let trip = figure(&found, "ring-spin", "round_trip", 64).and_then(|f| f["p50_ns"]["median"].as_f64());
        if let (Some(trip), Some(bare)) = (trip, found["limits"]["cache_line_round_trip_ns"].as_f64()) {
            println!(
                "  ring-spin     round trip {trip:.0} ns, {:.2} of a bare cache line's {bare:.0} ns",
                trip / bare
            );
        }
    }
}

fn bench(only: &str, sizes: &[usize]) -> Option<Value> {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipc-pipeline"));
    command.args(["bench", "--json", "--only", only, "--sizes", &sizes.join(",")]);
    let out = command.stderr(Stdio::inherit()).output().ok()?;
    serde_json::from_slice(&out.stdout).ok()
}

/// What could not be measured, and why.
fn why_not(found: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let missing = found["missing"].as_array().into_iter().flatten();
    let lines: Vec<String> =
        missing.map(|m| format!("{}: {}", word(&m["mechanism"]), word(&m["why"]))).collect();
    lines.join("; ")
}

fn figure<'v>(found: &'v Value, name: &str, task: &str, size: usize) -> Option<&'v Value> {
    let is_it = |f: &&Value| f["mechanism"] == name && f["task"] == task && f["bytes"] == size;
    found["figures"].as_array()?.iter().find(is_it)
}

/// Bytes a second, and how far apart the processors were.
fn stream<'v>(found: &'v Value, name: &str, size: usize) -> Option<(f64, &'v str)> {
    let f = figure(found, name, "stream", size)?;
    Some((f["bytes_per_s"].as_f64()?, f["distance"].as_str()?))
}
