//! `ipc-pipeline check`: all faults of a configuration at once, without starting anything.
#![forbid(unsafe_code)]

use ipc_pipeline::args::{ArgsError, CommonArgs};
use ipc_pipeline::config::{Config, Fault, Place};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::Names;
use serde_json::{Value, json};

use crate::say;

/// The whole command.
pub fn check(common: &CommonArgs, as_json: bool) -> Result<u8, Failure> {
    let resolved = common.resolve();
    if as_json {
        let code = resolved.as_ref().map_or_else(ArgsError::exit_code, |_| 0);
        return say(&format!("{:#}\n", machine(common, &resolved))).map(|()| code);
    }
    let (config, names) = resolved.map_err(|e| Failure::new(e.exit_code(), e))?;
    if !common.quiet {
        say(&people(common, &config, &names))?;
    }
    Ok(0)
}

fn people(common: &CommonArgs, config: &Config, names: &Names) -> String {
    let file =
        common.config_file().map_or("the built-in defaults".to_owned(), |file| file.display().to_string());
    format!(
        "{file}: no faults; instance {}, record in {}, spool of {} entries ({} MiB)\n",
        names.instance(),
        names.record_dir().display(),
        config.spool.capacity,
        (config.spool.capacity * 32).div_ceil(1 << 20)
    )
}

fn machine(common: &CommonArgs, resolved: &Result<(Config, Names), ArgsError>) -> Value {
    let file = common.config_file().map(|file| file.display().to_string());
    let faults: Vec<Value> = match resolved {
        Ok((_, names)) => {
            let record = names.record_dir().display().to_string();
            return json!({"file": file, "faults": [], "instance": names.instance(), "record": record});
        }
        Err(ArgsError::Config(faults)) => faults.list().iter().map(fault).collect(),
        Err(other) => vec![json!({"text": other.to_string()})],
    };
    json!({"file": file, "faults": faults})
}

fn fault(fault: &Fault) -> Value {
    let (line, column, set) = match &fault.place {
        Place::Whole => (None, None, None),
        Place::Line { line, column } => (Some(line), Some(column), None),
        Place::Set { text, .. } => (None, None, Some(text)),
    };
    json!({"line": line, "column": column, "set": set, "key": fault.key, "text": fault.text})
}
