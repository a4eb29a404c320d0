//! `ipc-pipeline status`: how a pipeline is doing, from copies of its pages and of the spool's header, and if an alarm is
//! on the names of the channels from the record. Nobody is asked, so nobody is disturbed.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::Names;
use ipc_pipeline::page::Page;
use ipc_pipeline::reader::RecordReader;
use serde_json::{Map, Value, json};

use crate::alarms::Alarms;
use crate::lost::Lost;
use crate::place::instance;
use crate::standing::{Standing, Standings};
use crate::{said, say};

/// Exit code: not all four daemons are running.
const EXIT_NOT_RUNNING: u8 = 3;

/// The table fits an ordinary terminal.
const WIDTH: u16 = 80;

/// The whole command.
pub fn status(common: &CommonArgs, as_json: bool) -> Result<u8, Failure> {
    let (config, names) = instance(common)?;
    let (standings, word) = (Standings::of(&names), said::newest(&names));
    let lost = Lost::of(&standings, word.as_ref());
    let alarms = Alarms::of(word.as_ref(), || names_of_channels(&names, config));
    let show = if as_json { machine } else { people };
    let text = show(&names, &standings, &lost, &alarms);
    say(&text)?;
    Ok(if standings.roles.iter().all(Standing::is_running) { 0 } else { EXIT_NOT_RUNNING })
}

/// As the record has them, so that no configuration need be at hand; without a record as they are configured.
fn names_of_channels(names: &Names, config: Config) -> Vec<String> {
    match RecordReader::open(&names.record_dir()) {
        Ok(record) => record.channels().iter().map(|row| row.name.clone()).collect(),
        Err(_) => config.channels.into_iter().map(|channel| channel.name).collect(),
    }
}

/// The carrier of the edge to it, by its page.
fn listens_at(standing: &Standing) -> Option<String> {
    standing.page.as_ref()?.address()
}

fn people(names: &Names, standings: &Standings, lost: &Lost, alarms: &Alarms) -> String {
    let Standings { roles, spool, .. } = standings;
    let head = standings.head();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["daemon", "pid", "state", "seq", "lag", "listens at", "counts"]);
    for standing in roles {
        let seq = standings.seq(standing.role);
        let text = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
        let counts: Vec<String> =
            standing.counters().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        table.add_row([
            standing.role.program().into(),
            text(standing.page.as_ref().filter(|_| standing.is_running()).map(Page::pid)),
            standing.state(),
            text(seq),
            text(seq.filter(|_| head > 0).map(|n| head.saturating_sub(n))),
            listens_at(standing).unwrap_or_else(|| "-".into()),
            counts.join(", "),
        ]);
    }
    for i in [1, 3, 4] {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if spool.is_none() && roles.iter().all(|r| r.page.is_none()) {
        let (name, record) = (names.instance(), names.record_dir());
        let kept = if record.exists() { "its record is in" } else { "there is no record yet in" };
        let held = if record.exists() { standings.text() + "\n" } else { String::new() };
        return format!("instance {name}: not running; {kept} {}\n{held}", record.display());
    }
    let spool_text = spool.map_or("no spool".into(), |s| {
        let used = 100 * s.head.saturating_sub(s.tail) / s.header.capacity;
        format!("epoch {}, spool of {} entries, {used} % held", s.header.epoch, s.header.capacity)
    });
    let alarms = alarms.texts().into_iter().map(|text| format!("alarm: {text}"));
    let notes = lost.lines().into_iter().chain(alarms);
    format!(
        "instance {}: {spool_text}\n{}\n{}\n{}\n",
        names.instance(),
        standings.text(),
        notes.map(|line| line + "\n").collect::<String>(),
        table.trim_fmt()
    )
}

fn machine(names: &Names, standings: &Standings, lost: &Lost, alarms: &Alarms) -> String {
    let daemons: Map<String, Value> = standings
        .roles
        .iter()
        .map(|s| {
            let counters: Map<String, Value> = s.counters().map(|(k, n)| (k.to_owned(), n.into())).collect();
            let value = json!({
                "running": s.is_running(),
                "state": s.state(),
                "pid": s.page.as_ref().filter(|_| s.is_running()).map(Page::pid),
                "seq": standings.seq(s.role),
                "listens_at": listens_at(s),
                "counters": counters,
            });
            (s.role.name().to_owned(), value)
        })
        .collect();
    let spool_json = standings.spool.map(|s| {
        json!({
            "log_id": format!("{:016x}", s.header.log_id),
            "epoch": s.header.epoch,
            "capacity": s.header.capacity,
            "base": s.header.base,
            "head": s.head,
            "tail": s.tail,
        })
    });
    let whole = json!({
        "instance": names.instance(),
        "durable": standings.durable(),
        "at_risk": standings.at_risk(),
        "lost": lost.json(),
        "alarms": alarms.json(),
        "spool": spool_json,
        "daemons": daemons,
    });
    format!("{whole}\n")
}
