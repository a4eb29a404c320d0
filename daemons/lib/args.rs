//! The command line that the four daemons share, and from it configuration and names.
#![forbid(unsafe_code)]

use crate::config::{Config, Faults};
use crate::journal;
use crate::names::{Names, NamesError, Role, check_instance};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use log::LevelFilter;
use std::ffi::OsString;
use std::path::PathBuf;

/// Exit code of a wrong command line.
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a wrong configuration; the daemon is not restarted.
pub const EXIT_CONFIG: u8 = 78;
/// Exit code: the system refused something.
pub const EXIT_SYSTEM: u8 = 71;

/// Where the configurations of this machine's pipelines are: `pipeline.toml`, and `NAME.toml` of the others.
pub const CONFIG_DIR: &str = "/etc/ipc-pipeline";

/// What every daemon, and every command that needs an instance, takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonArgs {
    /// Read the configuration from FILE; without it the built-in defaults hold, or with --system that of the instance in
    /// /etc/ipc-pipeline
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Work in the instance NAME, whatever the configuration says
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    pub name: Option<String>,

    /// Work with a pipeline of this machine, which systemd runs, instead of one of this user; NAME is then one of its
    /// instances, ipc-pipeline@NAME.target
    #[arg(long)]
    pub system: bool,

    /// Set one key over the configuration, as section.key=value; of several channels or windows as channel.0.key=value; may
    /// be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Say more; twice: everything
    #[arg(long, short, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Say only warnings and errors
    #[arg(long, short)]
    pub quiet: bool,
}

fn instance_name(text: &str) -> Result<String, NamesError> {
    check_instance(text).map(|()| text.to_owned())
}

/// Why the arguments give no configuration and names.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// The configuration has faults.
    #[error(transparent)]
    Config(#[from] Faults),
    /// The instance has no names.
    #[error(transparent)]
    Names(#[from] NamesError),
}

impl ArgsError {
    /// The exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ArgsError::Config(faults) if faults.is_momentary() => EXIT_SYSTEM,
            _ => EXIT_CONFIG,
        }
    }
}

impl CommonArgs {
    /// Configuration and names: the name from `--name`, else from the configuration, else `u<uid>`.
    ///
    /// With `--system` the name from `--name` alone, and the configuration from that instance's file. From here on the
    /// messages of this process name the instance.
    pub fn resolve(&self) -> Result<(Config, Names), ArgsError> {
        let resolved = self.config_and_names();
        let known = resolved.as_ref().ok().map(|(_, names)| names.instance().to_owned());
        if let Some(instance) = known.or_else(|| self.presumed_instance()) {
            journal::set_instance(&instance);
        }
        resolved
    }

    /// The names alone: of a pipeline of the machine they do not depend on the configuration, which may be wrong.
    pub fn names(&self) -> Result<Names, ArgsError> {
        if self.system {
            return Ok(Names::for_system(self.name.as_deref())?);
        }
        self.resolve().map(|(_, names)| names)
    }

    fn config_and_names(&self) -> Result<(Config, Names), ArgsError> {
        let config = Config::load(self.config_file().as_deref(), &self.set)?;
        let names = if self.system {
            Names::for_system(self.name.as_deref())?
        } else {
            Names::for_user(self.name.as_deref().or(config.instance.as_deref()))?
        };
        Ok((config, names))
    }

    /// The name of the instance, as far as it is known without the configuration.
    fn presumed_instance(&self) -> Option<String> {
        let name = self.name.as_deref();
        let names = if self.system { Names::for_system(name) } else { Names::for_user(name) };
        names.ok().map(|names| names.instance().to_owned())
    }

    /// The configuration that is read, if one is.
    pub fn config_file(&self) -> Option<PathBuf> {
        let of_system = || {
            let name = self.name.as_deref().unwrap_or("pipeline");
            PathBuf::from(format!("{CONFIG_DIR}/{name}.toml"))
        };
        self.config.clone().or_else(|| self.system.then(of_system))
    }

    /// The least important level of message that is wanted: info, unless `-v` or `-q` say otherwise.
    pub const fn level(&self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Warn,
            (false, 0) => LevelFilter::Info,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        }
    }
}

/// The command line of a daemon.
#[derive(Parser, Debug)]
#[command(version)]
pub struct DaemonArgs {
    /// What all programs share.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Log to the syslog daemon (/dev/log) instead of standard error; for service managers other than systemd. The journal,
    /// if there is one, comes first
    #[arg(long)]
    pub syslog: bool,
}

/// Reads the command line of the daemon with this role; `arguments` begin with the program's name.
///
/// The error is also the answer to `--help` and `--version`: give it to [`report_usage`].
pub fn parse<T>(role: Role, arguments: impl IntoIterator<Item = T>) -> Result<DaemonArgs, clap::Error>
where
    T: Into<OsString> + Clone,
{
    let mut matches = command(role).try_get_matches_from(arguments)?;
    DaemonArgs::from_arg_matches_mut(&mut matches)
}

/// The definition of that command line, for who describes it.
pub fn command(role: Role) -> clap::Command {
    DaemonArgs::command().name(role.program()).about(purpose(role)).after_help(examples(role))
}

/// Prints what clap has to say, help to standard output and errors to standard error, and returns the exit
/// code: 0 for `--help` and `--version`, else [`EXIT_USAGE`].
pub fn report_usage(error: &clap::Error) -> u8 {
    // Nobody is left to tell when standard output or error is gone.
    let _ = error.print();
    usage_code(error)
}

fn usage_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { EXIT_USAGE } else { 0 }
}

const fn purpose(role: Role) -> &'static str {
    match role {
        Role::Conv => "Takes samples from the source on their grid and publishes them in the spool",
        Role::Log => "Makes every entry of the spool durable, once and in order: the record",
        Role::Stat => "Folds the durable entries into exact statistics and publishes snapshots",
        Role::Report => "Prints the newest snapshot of the statistics",
    }
}

fn examples(role: Role) -> String {
    let program = role.program();
    let own = match role {
        Role::Conv => "--set conv.rate=max --set conv.count=1000",
        Role::Log => "--set log.sync=always",
        Role::Stat => "--set stat.checkpoint=1s",
        Role::Report => "--set report.digits=3",
    };
    format!(
        "Examples:\n\
         \x20 {program}\n      with the defaults, in your own instance\n\
         \x20 {program} --config config/pipeline.toml\n      with a file\n\
         \x20 {program} --name bench {own}\n      in an instance of its own, one thing changed\n\n\
         The daemons of one instance may be started in any order; give all of them the same --config, --name \
         and --set.\nExit codes: 0 done, 64 usage, 65 bad input, 69 an object must be made anew, 70 bug, 71 system, \
         74 nobody reads, 75 already running, 78 configuration."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<CommonArgs, clap::Error> {
        parse(Role::Conv, [&["ipc-conv"], arguments].concat()).map(|args| args.common)
    }

    #[test]
    fn clap_finds_no_fault_in_the_definition() {
        DaemonArgs::command().debug_assert();
    }

    #[test]
    fn every_argument_arrives() {
        let arguments = [
            "--config",
            "a.toml",
            "--name",
            "x",
            "--set",
            "conv.rate=max",
            "--set",
            "spool.capacity=256",
            "-vv",
        ];
        let args = read(&arguments).unwrap();
        assert_eq!(args.config, Some(PathBuf::from("a.toml")));
        assert_eq!(args.name.as_deref(), Some("x"));
        assert_eq!(args.set, ["conv.rate=max", "spool.capacity=256"]);
        assert_eq!(args.level(), LevelFilter::Trace);
    }

    #[test]
    fn levels() {
        let level = |arguments: &[&str]| read(arguments).unwrap().level();
        assert_eq!(level(&[]), LevelFilter::Info);
        assert_eq!(level(&["--verbose"]), LevelFilter::Debug);
        assert_eq!(level(&["-q"]), LevelFilter::Warn);
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_0() {
        let wrong: [&[&str]; 5] =
            [&["--frobnicate"], &["file"], &["--name", "a/b"], &["-q", "-v"], &["--config"]];
        for arguments in wrong {
            assert_eq!(usage_code(&read(arguments).unwrap_err()), EXIT_USAGE, "{arguments:?}");
        }
        for arguments in [["--help"], ["-h"], ["--version"], ["-V"]] {
            assert_eq!(usage_code(&read(&arguments).unwrap_err()), 0, "{arguments:?}");
        }
    }

    #[test]
    fn help_tells_purpose_and_examples() {
        for role in Role::ALL {
            let help = parse(role, [role.program(), "--help"]).unwrap_err().to_string();
            assert!(help.starts_with(purpose(role)), "{help}");
            assert!(
                help.contains("Examples:") && help.contains(&format!("Usage: {}", role.program())),
                "{help}"
            );
        }
        let version = read(&["--version"]).unwrap_err().to_string();
        assert_eq!(version, format!("ipc-conv {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_name_is_the_arguments_else_the_configurations_else_the_users() {
        let instance = |arguments: &[&str]| {
            let (_, names) = read(arguments).unwrap().resolve().unwrap();
            names.instance().to_owned()
        };
        assert_eq!(instance(&["--set", "instance.name=a"]), "a");
        assert_eq!(instance(&["--set", "instance.name=a", "--name", "b"]), "b");
        assert_eq!(instance(&[]), format!("u{}", rustix::process::getuid().as_raw()));
    }

    #[test]
    fn faults_of_the_configuration_are_78() {
        let error = read(&["--set", "conv.rate=fast"]).unwrap().resolve().unwrap_err();
        assert_eq!(error.exit_code(), EXIT_CONFIG);
        assert!(error.to_string().contains("--set conv.rate=fast: found"), "{error}");
    }
}
