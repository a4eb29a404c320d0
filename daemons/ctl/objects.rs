//! `ipc-pipeline objects`: the named objects of an instance.
#![forbid(unsafe_code)]

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::{EXIT_SECOND, Failure};
use ipc_pipeline::journal::Journal;
use ipc_pipeline::logging;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::Names;
use ipc_pipeline::objects::{self, ObjectsError};
use ipc_pipeline::page::Page;
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::segment::{Copied, Shm};
use ipc_pipeline::{names::Role, page};
use serde_json::json;

use crate::place::may_look;
use crate::say;

/// What to do with them.
#[derive(Subcommand)]
pub enum Command {
    /// Make all that is missing: directories, locks, a placeholder for each segment, and what the daemons listen at
    Create {
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Put right what is missing or of the wrong type, for the daemons that are not running
    Repair {
        #[command(flatten)]
        common: CommonArgs,
        /// Only those of this daemon
        #[arg(long, value_parser = role)]
        role: Option<Role>,
    },
    /// Remove all; refused while a daemon runs, or while the spool holds entries that are not in the record
    Remove {
        #[command(flatten)]
        common: CommonArgs,
        /// Give up entries that are only in the spool; their number is written into the record as a loss
        #[arg(long)]
        abandon: bool,
    },
    /// List all, whether they are there or not
    List {
        #[command(flatten)]
        common: CommonArgs,
        /// For machines: one JSON array
        #[arg(long)]
        json: bool,
    },
}

/// The whole command.
pub fn objects(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Create { common } => {
            let (config, names) = resolve(&common)?;
            objects::create(&names, &config.edge.listeners()).map_err(failure)?;
            if common.quiet { Ok(0) } else { list(&names, false) }
        }
        Command::Repair { common, role } => {
            let roles = role.map_or(Role::ALL.to_vec(), |role| vec![role]);
            // A wrong configuration is for the daemon itself to say: this runs before each of its starts.
            let listeners = resolve(&common).map(|(config, _)| config.edge.listeners());
            let listeners = listeners.as_ref().map_or(&[][..], |listeners| listeners);
            let done = objects::repair(&names(&common)?, listeners, &roles).map_err(failure)?;
            tell(&done)?;
            Ok(0)
        }
        Command::Remove { common, abandon } => {
            let names = names(&common)?;
            let config = abandon.then(|| resolve(&common));
            let removed = remove(&names, config.transpose()?.as_ref().map(|(config, _)| config))?;
            let text: String = removed.iter().map(|path| format!("removed {}\n", path.display())).collect();
            if common.quiet { Ok(0) } else { say(&text).map(|()| 0) }
        }
        Command::List { common, json } => {
            let names = names(&common)?;
            may_look(&names)?;
            list(&names, json)
        }
    }
}

/// What was repaired: to who asked for it; where a service manager did, to its log, where warnings are looked for.
fn tell(done: &[String]) -> Result<(), Failure> {
    if !Journal::is_behind(std::io::stdout()) {
        return say(&done.iter().map(|line| format!("{line}\n")).collect::<String>());
    }
    logging::start("ipc-pipeline", log::LevelFilter::Info, false);
    for line in done {
        log::warn!(id = Message::ObjectRepaired; "{line}");
    }
    Ok(())
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.name() == text);
    found.ok_or_else(|| "this is none of conv, log, stat, report".to_owned())
}

fn resolve(common: &CommonArgs) -> Result<(Config, Names), Failure> {
    common.resolve().map_err(|e| Failure::new(e.exit_code(), e))
}

fn names(common: &CommonArgs) -> Result<Names, Failure> {
    common.names().map_err(|e| Failure::new(e.exit_code(), e))
}

/// The exit code that fits.
pub fn failure(e: ObjectsError) -> Failure {
    match e {
        ObjectsError::Alive { .. } => Failure::new(EXIT_SECOND, e),
        _ => Failure::system(e),
    }
}

/// Removes all objects of a pipeline that is at rest. Entries that are only in the spool are given up with a configuration,
/// which says how the record is written; without one they keep the spool there.
pub fn remove(names: &Names, give_up: Option<&Config>) -> Result<Vec<std::path::PathBuf>, Failure> {
    let quiet = objects::quiet(names).map_err(failure)?;
    let durable = durable(names);
    if let Some(config) = give_up
        && let Some(lost) = objects::at_risk(names, durable)
    {
        crate::abandon::write_loss(config, names, lost)?;
    }
    objects::remove(names, quiet, durable, give_up.is_some()).map_err(failure)
}

/// What the record holds: its identity and highest durable seq, by ipc-log's page and by the mark on disk.
fn durable(names: &Names) -> Option<(u64, u64)> {
    let reader = RecordReader::open(&names.record_dir()).ok()?;
    let marked = reader.mark().ok().flatten().map_or(0, |mark| mark.durable.seq);
    let page = Copied::read(&Shm::of(names), &names.page(Role::Log), page::WORDS)
        .and_then(|c| Page::new(c, Role::Log.index()));
    let shown = page.filter(|p| p.log_id() == reader.log_id()).and_then(|p| p.durable()).unwrap_or(0);
    Some((reader.log_id(), marked.max(shown)))
}

fn list(names: &Names, as_json: bool) -> Result<u8, Failure> {
    let objects = objects::list(names);
    if as_json {
        let rows: Vec<_> = objects
            .iter()
            .map(|o| json!({"kind": o.kind, "path": o.path.display().to_string(), "size": o.size}))
            .collect();
        say(&format!("{}\n", json!(rows)))?;
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["object", "bytes", "path"]);
    for object in objects {
        let size = match object.size {
            None => "-".into(),
            Some(0) if ["spool", "page", "snapshot"].contains(&object.kind) => "placeholder".into(),
            Some(n) => n.to_string(),
        };
        table.add_row([object.kind.into(), size, object.path.display().to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    say(&format!("{}\n", table.trim_fmt()))?;
    Ok(0)
}
