//! The findings as tables for people, and as JSON and CSV for machines.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::job::Task;
use super::{Figure, Findings, probe};

/// For people: how fast, how late, and what the machine allows.
pub fn table(findings: &Findings) -> String {
    let of = |wanted: fn(&Task) -> bool| findings.figures.iter().filter(move |f| wanted(&f.task));
    let mut parts = vec![limits(findings)];
    if !findings.figures.is_empty() {
        parts.push(streams(of(|t| *t == Task::Stream)));
        parts.push(latencies(of(|t| *t != Task::Stream)));
    }
    let missing = |(name, why): &(&str, String)| format!("{name} cannot be measured: {why}\n");
    let missing: String = findings.missing.iter().map(missing).collect();
    parts.push(missing);
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn limits(findings: &Findings) -> String {
    let l = &findings.limits;
    let line = if probe::is_pinned() {
        format!("cache line to the other processor and back {:.0} ns, ", l.cache_line_round_trip)
    } else {
        "one processor, ".to_owned()
    };
    format!(
        "this machine: {line}system call {:.0} ns, futex hand-over {:.1} us,\nmemcpy {:.1} GB/s in the cache, {:.1} GB/s in memory; {}\n",
        l.system_call,
        l.futex / 1e3,
        l.memcpy_cached / 1e9,
        l.memcpy_large / 1e9,
        if probe::is_pinned() { "each process on a processor of its own" } else { "not pinned" },
    )
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table
}

fn finished(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

fn streams<'f>(figures: impl Iterator<Item = &'f Figure>) -> String {
    let mut table = new_table(&[
        "one way",
        "bytes",
        "messages/s",
        "range",
        "MB/s",
        "of best",
        "CPU ns each",
        "calls each",
        "distance",
    ]);
    for f in figures {
        table.add_row([
            f.mechanism.to_owned(),
            f.size.to_string(),
            short(f.value.median),
            format!("{}-{}", short(f.value.min), short(f.value.max)),
            format!("{:.0}", f.value.median * f.size as f64 / 1e6),
            format!("{:.3}", f.ratio),
            format!("{:.0}", f.cpu),
            format!("{:.2}", f.calls),
            f.distance.to_owned(),
        ]);
    }
    finished(table)
}

fn latencies<'f>(figures: impl Iterator<Item = &'f Figure>) -> String {
    let mut table = new_table(&[
        "latency, us",
        "what",
        "p50",
        "range",
        "p99",
        "p99.9",
        "of best",
        "calls each",
        "distance",
    ]);
    let us = |ns: f64| format!("{:.2}", ns / 1e3);
    for f in figures {
        table.add_row([
            f.mechanism.to_owned(),
            f.task.word().replace('_', " "),
            us(f.value.median),
            format!("{}-{}", us(f.value.min), us(f.value.max)),
            us(f.p99),
            us(f.p999),
            format!("{:.3}", f.ratio),
            format!("{:.2}", f.calls),
            f.distance.to_owned(),
        ]);
    }
    finished(table)
}

/// 1234567 as 1.23 M.
fn short(n: f64) -> String {
    match n {
        n if n >= 99.95e6 => format!("{:.0} M", n / 1e6),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// For machines. Times in ns, rates a second.
pub fn json(findings: &Findings) -> String {
    let l = &findings.limits;
    let missing: Vec<Value> =
        findings.missing.iter().map(|(name, why)| json!({"mechanism": name, "why": why})).collect();
    let whole = json!({
        "pinned": probe::is_pinned(),
        "limits": {
            "memcpy_cached_bytes_per_s": l.memcpy_cached,
            "memcpy_large_bytes_per_s": l.memcpy_large,
            "cache_line_round_trip_ns": l.cache_line_round_trip,
            "system_call_ns": l.system_call,
            "futex_ns": l.futex,
        },
        "figures": findings.figures.iter().map(of_figure).collect::<Vec<_>>(),
        "missing": missing,
    });
    format!("{whole}\n")
}

fn of_figure(f: &Figure) -> Value {
    let mut value = json!({
        "mechanism": f.mechanism,
        "task": f.task.word(),
        "bytes": f.size,
        "cpu_ns_per_message": f.cpu,
        "calls_per_message": f.calls,
        "distance": f.distance,
        "samples": f.samples,
        "ratio": f.ratio,
    });
    let spread = json!({"median": f.value.median, "min": f.value.min, "max": f.value.max});
    if f.task == Task::Stream {
        value["messages_per_s"] = spread;
        value["bytes_per_s"] = (f.value.median * f.size as f64).into();
    } else {
        value["p50_ns"] = spread;
        value["p99_ns"] = f.p99.into();
        value["percentiles_ns"] = json!(f.curve);
        value["p999_ns"] = f.p999.into();
    }
    value
}

/// For spreadsheets: one line for each figure, times in ns, rates a second.
pub fn csv(findings: &Findings) -> String {
    let head = "mechanism,task,bytes,median,min,max,p99_ns,p999_ns,cpu_ns_per_message,calls_per_message,ratio,distance,samples\n";
    let line = |f: &Figure| {
        let Figure { mechanism, size, value: v, p99, p999, cpu, calls, ratio, distance, samples, .. } = f;
        let (task, late) = (f.task.word(), f.task != Task::Stream);
        let late = if late { format!("{p99},{p999}") } else { ",".to_owned() };
        format!(
            "{mechanism},{task},{size},{:.1},{:.1},{:.1},{late},{cpu:.1},{calls:.4},{ratio:.5},{distance},{samples}\n",
            v.median, v.min, v.max
        )
    };
    findings.figures.iter().fold(head.to_owned(), |text, f| text + &line(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 999.0, 1500.0, 1_234_567.0, 123e6].map(short),
            ["0", "999", "1.5 k", "1.23 M", "123 M"]
        );
    }
}
