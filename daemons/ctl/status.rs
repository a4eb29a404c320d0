//! `ipc-pipeline status`: how a pipeline is doing, from copies of its pages and of the spool's header. Nobody is asked,
//! so nobody is disturbed.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::page::{self, COUNTER_NAMES, Page, State};
use ipc_pipeline::segment::{Copied, Memory};
use ipc_pipeline::spool::{HEADER_WORDS, Overview};
use ipc_pipeline::sys;
use serde_json::{Map, Value, json};

use crate::say;

/// Exit code: not all four daemons are running.
const EXIT_NOT_RUNNING: u8 = 3;
/// A daemon whose loop has not turned for so long is not running, ns.
const DEAD_NS: u64 = 1_000_000_000;

/// The table fits an ordinary terminal.
const WIDTH: u16 = 80;

/// What a role's page says.
struct Standing {
    role: Role,
    page: Option<Page<Copied>>,
    /// How long ago its loop turned, ns.
    age_ns: u64,
}

impl Standing {
    fn of(names: &Names, role: Role, now: u64) -> Standing {
        let copy = Copied::read(&names.page(role), page::WORDS);
        let page = copy.and_then(|c| Page::new(c, role.index()));
        let age_ns = page.as_ref().map_or(u64::MAX, |p| now.saturating_sub(p.beat()));
        Standing { role, page, age_ns }
    }

    fn is_running(&self) -> bool {
        self.age_ns < DEAD_NS && self.page.as_ref().and_then(Page::state) != Some(State::Ended)
    }

    fn state(&self) -> String {
        match self.page.as_ref().map(|p| p.state()) {
            None => "not there".into(),
            Some(Some(State::Ended)) => State::Ended.name().into(),
            Some(_) if !self.is_running() => format!("no sign of life for {} s", self.age_ns / 1_000_000_000),
            Some(state) => state.map_or("unknown", State::name).into(),
        }
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = COUNTER_NAMES[self.role.index()].iter().enumerate();
        names.filter_map(|(i, name)| Some((*name, self.page.as_ref()?.counter(i))))
    }
}

/// The whole command.
pub fn status(common: &CommonArgs, as_json: bool) -> Result<u8, Failure> {
    let (_, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    let now = sys::monotonic_ns();
    let roles = Role::ALL.map(|role| Standing::of(&names, role, now));
    let spool = Copied::read(&names.spool(), HEADER_WORDS).and_then(|c| Overview::of(c.words()));
    say(&if as_json { machine(&names, &roles, spool) } else { people(&names, &roles, spool) })?;
    Ok(if roles.iter().all(Standing::is_running) { 0 } else { EXIT_NOT_RUNNING })
}

/// seq of each role: accepted, received, folded, printed.
fn seq(standing: &Standing, spool: Option<Overview>) -> Option<u64> {
    let page = standing.page.as_ref()?;
    match standing.role {
        Role::Conv => spool.map(|s| s.head),
        _ => Some(page.received()),
    }
}

fn durable(roles: &[Standing; 4]) -> u64 {
    roles[Role::Log.index()].page.as_ref().and_then(Page::durable).unwrap_or(0)
}

fn at_risk(roles: &[Standing; 4], spool: Option<Overview>) -> u64 {
    let durable = durable(roles);
    spool.map_or(0, |s| s.head.saturating_sub(durable.max(s.tail)))
}

fn people(names: &Names, roles: &[Standing; 4], spool: Option<Overview>) -> String {
    let head = spool.map_or(0, |s| s.head);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["daemon", "pid", "state", "seq", "lag", "counts"]);
    for standing in roles {
        let seq = seq(standing, spool);
        let text = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
        let counts: Vec<String> =
            standing.counters().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        table.add_row([
            standing.role.program().into(),
            text(standing.page.as_ref().filter(|_| standing.is_running()).map(Page::pid)),
            standing.state(),
            text(seq),
            text(seq.filter(|_| head > 0).map(|n| head.saturating_sub(n))),
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
        return format!("instance {name}: not running; {kept} {}\n", record.display());
    }
    let spool_text = spool.map_or("no spool".into(), |s| {
        let used = 100 * s.head.saturating_sub(s.tail) / s.header.capacity;
        format!("epoch {}, spool of {} entries, {used} % held", s.header.epoch, s.header.capacity)
    });
    format!(
        "instance {}: {spool_text}\naccepted {head}, durable {}, at risk {}\n\n{}\n",
        names.instance(),
        durable(roles),
        at_risk(roles, spool),
        table.trim_fmt()
    )
}

fn machine(names: &Names, roles: &[Standing; 4], spool: Option<Overview>) -> String {
    let daemons: Map<String, Value> = roles
        .iter()
        .map(|s| {
            let counters: Map<String, Value> = s.counters().map(|(k, n)| (k.to_owned(), n.into())).collect();
            let value = json!({
                "running": s.is_running(),
                "state": s.state(),
                "pid": s.page.as_ref().filter(|_| s.is_running()).map(Page::pid),
                "seq": seq(s, spool),
                "counters": counters,
            });
            (s.role.name().to_owned(), value)
        })
        .collect();
    let spool_json = spool.map(|s| {
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
        "durable": durable(roles),
        "at_risk": at_risk(roles, spool),
        "spool": spool_json,
        "daemons": daemons,
    });
    format!("{whole}\n")
}
