//! `make bench`: what the core reaches on this machine, as ratios within one run (docs/performance.md says how to read
//! it). Never a timed test: nothing fails here.
#![forbid(unsafe_code)]

mod carriers;
mod compressed;
mod latency;
mod pipeline;
#[path = "../../daemons/ctl/bench/probe.rs"]
#[allow(dead_code)] // `bench` uses more of it
mod probe;
mod ring;
mod statistics;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.first().map(String::as_str) {
        // Child processes of the measurements below.
        Some("ring-reader") => ring::reader(&args[1..]),
        Some("latency-waiter") => latency::waiter(&args[1..]),
        Some("futex-waiter") => latency::futex_waiter(&args[1..]),
        Some("compressed") => compressed::run(),
        Some("ring") => ring::run(),
        Some("round-trip") => ring::round_trips(),
        Some("latency") => latency::run(),
        Some("idle") => pipeline::idle(),
        Some("pipeline") => pipeline::run(),
        Some("statistics") => statistics::run(),
        Some("carriers") => carriers::run(),
        Some(other) => {
            println!(
                "unknown measurement {other}; there are: ring, round-trip, latency, pipeline, idle, statistics, compressed, carriers"
            )
        }
        None => {
            ring::run();
            latency::run();
            pipeline::idle();
            pipeline::run();
            statistics::run();
            compressed::run();
            carriers::run();
        }
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which the part `p` of all lies.
fn percentile(values: &mut [u64], p: f64) -> u64 {
    values.sort_unstable();
    let at = ((values.len() as f64 * p) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(0)
}
