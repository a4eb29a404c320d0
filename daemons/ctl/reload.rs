//! `ipc-pipeline reload`: has running daemons read their configuration again, and waits until each has said what came of it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use ipc_pipeline::args::{CommonArgs, EXIT_CONFIG};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::{Names, Role, Scope};
use ipc_pipeline::page::{self, Page, Reloads};
use ipc_pipeline::reload::listens;
use ipc_pipeline::segment::{Copied, Shm};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Map, Value, json};

use crate::place::instance;
use crate::say;

/// For `--help`.
pub const HELP: &str = "Examples:
  ipc-pipeline reload --system
      all daemons of the machine's pipeline; as root
  ipc-pipeline reload report --name demo --config demo.toml
      one daemon of your own pipeline
  systemctl reload ipc-log
      the same as `ipc-pipeline reload log --system`

A configuration with a fault changes nothing: the daemons go on with the one that they have. What can change while they run:
conv.max_late, log.sync, log.compress, log.keep_size, log.keep_time, stat.checkpoint, and all of [report]. What else has
changed is named, with the command that restarts the daemon. --set given to a daemon stays in force.

Exit codes: 0 all of it is in force, 1 some of it needs a restart, 3 the daemon is not running or did not answer,
71 not permitted, 78 the configuration has faults.";

/// Exit code: some of it needs a restart.
const EXIT_RESTART: u8 = 1;
/// Exit code: not running, or no answer.
const EXIT_NO_ANSWER: u8 = 3;

/// How long an answer is waited for: a daemon looks every 200 ms at least.
const PATIENCE: Duration = Duration::from_secs(5);
/// A moment between two looks.
const TURN: Duration = Duration::from_millis(5);

/// The keys of the table of channels that a record keeps.
const KEPT: [&str; 6] =
    ["channel", "channel.name", "channel.unit", "channel.decimals", "channel.scale", "channel.offset"];

/// The arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Only this daemon; without it all that are running
    #[arg(value_name = "DAEMON", value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    daemon: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
    /// For machines: one JSON object
    #[arg(long)]
    json: bool,
}

/// What a daemon says.
enum Answer {
    Taken {
        changed: Vec<String>,
        restart: Vec<String>,
    },
    Refused(String),
    NotRunning,
    /// It was started by a version that would be killed by the question.
    TooOld,
    Silent,
}

/// The whole command.
pub fn reload(args: &Args) -> Result<u8, Failure> {
    let (_, names) = instance(&args.common)?;
    let named = Role::ALL.into_iter().find(|role| Some(role.name()) == args.daemon.as_deref());
    let roles = named.map_or(Role::ALL.to_vec(), |role| vec![role]);
    let asked: Vec<(Role, Asked)> = roles
        .into_iter()
        .map(|role| Ok((role, Asked::ask(&names, role)?)))
        .collect::<Result<_, Failure>>()?;
    let begun = Instant::now();
    let mut answers = Vec::new();
    for (role, asked) in asked {
        answers.push((role, asked.wait(&names, role, begun)?));
    }
    let text =
        if args.json { machine(&names, &answers) } else { people(&names, &answers, args.common.quiet) };
    say(&text)?;
    Ok(code(&answers, named.is_some()))
}

/// A daemon that was asked.
enum Asked {
    /// By the process of this number; its answer is known by a count of so much at least.
    Waits {
        pid: u64,
        count: u64,
    },
    Not(Answer),
}

impl Asked {
    fn ask(names: &Names, role: Role) -> Result<Asked, Failure> {
        let Some(said) = said(names, role) else { return Ok(Asked::Not(Answer::NotRunning)) };
        let Reloads { pid, count, .. } = said.reloads();
        let open = |pid: u64| pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok();
        // From here on the number means this process, whatever it is.
        let Some(process) = open(pid) else {
            let lives = open(said.pid()).is_some() && pid == 0;
            return Ok(Asked::Not(if lives { Answer::TooOld } else { Answer::NotRunning }));
        };
        if !listens(pid, role) {
            return Ok(Asked::Not(Answer::NotRunning));
        }
        match pidfd_send_signal(process, Signal::USR1) {
            // What it is reading just now may be older than the file that we were called for.
            Ok(()) => Ok(Asked::Waits { pid, count: count + count % 2 + 2 }),
            Err(Errno::SRCH) => Ok(Asked::Not(Answer::NotRunning)),
            Err(e) => Err(not_permitted(names, role, e)),
        }
    }

    fn wait(self, names: &Names, role: Role, begun: Instant) -> Result<Answer, Failure> {
        let mut asked = self;
        loop {
            let (pid, count) = match asked {
                Asked::Waits { pid, count } => (pid, count),
                Asked::Not(answer) => return Ok(answer),
            };
            let said = said(names, role).map(|page| page.reloads()).unwrap_or_default();
            if said.pid != pid {
                // A new life: it may have read its configuration before we were called.
                asked = Asked::ask(names, role)?;
            } else if said.count >= count && said.count.is_multiple_of(2) && is_whole(names, role, &said) {
                return Ok(Answer::of(&said));
            } else if begun.elapsed() > PATIENCE {
                return Ok(if listens(pid, role) { Answer::Silent } else { Answer::NotRunning });
            }
            std::thread::sleep(TURN);
        }
    }
}

/// The page of this role, by copy.
fn said(names: &Names, role: Role) -> Option<Page<Copied>> {
    Page::new(Copied::read(&Shm::of(names), &names.page(role), page::WORDS)?, role.index())
}

/// Does a second copy say the same? The count only rises, so nothing was written between.
fn is_whole(names: &Names, role: Role, said_before: &Reloads) -> bool {
    said(names, role).is_some_and(|page| page.reloads() == *said_before)
}

fn not_permitted(names: &Names, role: Role, e: Errno) -> Failure {
    let remedy = match names.scope() {
        Scope::User => String::new(),
        Scope::System => format!("; as root, or `systemctl reload {}`", unit(names, role)),
    };
    Failure::system(format!("cannot ask {} to read its configuration: {e}{remedy}", role.program()))
}

impl Answer {
    fn of(said: &Reloads) -> Answer {
        if !said.taken {
            return Answer::Refused(said.text.clone());
        }
        let mut lines =
            said.text.lines().map(|line| line.split(' ').filter(|key| !key.is_empty()).map(str::to_owned));
        let mut keys = || lines.next().into_iter().flatten().collect();
        Answer::Taken { changed: keys(), restart: keys() }
    }

    fn word(&self) -> &'static str {
        match self {
            Answer::Taken { restart, .. } if !restart.is_empty() => "needs a restart",
            Answer::Taken { .. } => "taken",
            Answer::Refused(_) => "refused",
            Answer::NotRunning => "not running",
            Answer::TooOld => "too old",
            Answer::Silent => "no answer",
        }
    }

    fn text(&self) -> String {
        match self {
            Answer::Taken { changed, restart } => {
                let changed = if changed.is_empty() {
                    "nothing has changed".to_owned()
                } else {
                    format!("changed {}", changed.join(", "))
                };
                let restart = if restart.is_empty() {
                    String::new()
                } else {
                    format!("; needs a restart: {}", restart.join(", "))
                };
                changed + &restart
            }
            Answer::Refused(why) => format!("nothing has changed: {}", why.trim_end().replace('\n', "\n  ")),
            Answer::NotRunning => "not running: it reads its configuration when it starts".to_owned(),
            Answer::TooOld => "was started by an older version, which cannot: needs a restart".to_owned(),
            Answer::Silent => format!(
                "no answer within {} s: it reads its configuration as soon as it can; see `ipc-pipeline status`",
                PATIENCE.as_secs()
            ),
        }
    }

    fn needs_restart(&self) -> bool {
        matches!(self, Answer::TooOld) || matches!(self, Answer::Taken { restart, .. } if !restart.is_empty())
    }

    /// Would a restart of log be refused, because its record has other channels?
    fn needs_new_record(&self, role: Role) -> bool {
        let is_kept = |key: &String| KEPT.contains(&key.as_str());
        role == Role::Log && matches!(self, Answer::Taken { restart, .. } if restart.iter().any(is_kept))
    }
}

/// The unit of a daemon.
fn unit(names: &Names, role: Role) -> String {
    role.program().to_owned() + &template(names)
}

/// What stands behind the names of units: nothing for the machine's one default pipeline.
fn template(names: &Names) -> String {
    if names.arguments() == "--system" { String::new() } else { format!("@{}", names.instance()) }
}

fn people(names: &Names, answers: &[(Role, Answer)], quiet: bool) -> String {
    let wanted = |(_, answer): &&(Role, Answer)| !quiet || answer.word() != "taken";
    let mut text: String = answers
        .iter()
        .filter(wanted)
        .map(|(role, answer)| format!("{}: {}\n", role.program(), answer.text()))
        .collect();
    text += &remedy(names, answers).map(|remedy| remedy + "\n").unwrap_or_default();
    text
}

/// What to do for what needs a restart.
fn remedy(names: &Names, answers: &[(Role, Answer)]) -> Option<String> {
    let roles: Vec<Role> = answers.iter().filter(|(_, a)| a.needs_restart()).map(|(role, _)| *role).collect();
    if roles.is_empty() {
        return None;
    }
    let new_record = answers.iter().any(|(role, answer)| answer.needs_new_record(*role));
    let units: Vec<String> = roles.iter().map(|role| unit(names, *role)).collect();
    let (target, arguments) = (format!("ipc-pipeline{}.target", template(names)), names.arguments());
    Some(match (names.scope(), new_record) {
        (Scope::System, false) => format!("  systemctl restart {}", units.join(" ")),
        (Scope::System, true) => format!(
            "  a record keeps its channels: systemctl stop {target} && ipc-pipeline archive {arguments} && systemctl start {target}"
        ),
        (Scope::User, false) => {
            "  end `ipc-pipeline run` (Ctrl-C) and start it again; or the daemons, if they were started by hand".into()
        }
        (Scope::User, true) => format!(
            "  a record keeps its channels: end `ipc-pipeline run` (Ctrl-C), `ipc-pipeline archive {arguments}`, and start it again"
        ),
    })
}

fn machine(names: &Names, answers: &[(Role, Answer)]) -> String {
    let daemons: Map<String, Value> = answers
        .iter()
        .map(|(role, answer)| {
            let (changed, restart) = match answer {
                Answer::Taken { changed, restart } => (changed.as_slice(), restart.as_slice()),
                _ => Default::default(),
            };
            let value = json!({
                "result": answer.word(),
                "text": answer.text(),
                "changed": changed,
                "restart": restart,
            });
            (role.name().to_owned(), value)
        })
        .collect();
    let remedy = remedy(names, answers);
    let remedy = remedy.as_deref().map(str::trim);
    format!("{}\n", json!({"instance": names.instance(), "daemons": daemons, "remedy": remedy}))
}

/// `named`: the user wants this daemon to answer.
fn code(answers: &[(Role, Answer)], named: bool) -> u8 {
    let any = |is: &dyn Fn(&Answer) -> bool| answers.iter().any(|(_, answer)| is(answer));
    let nobody = answers.iter().all(|(_, answer)| matches!(answer, Answer::NotRunning));
    if any(&|answer| matches!(answer, Answer::Refused(_))) {
        EXIT_CONFIG
    } else if any(&|answer| matches!(answer, Answer::Silent))
        || nobody
        || named && any(&|a| matches!(a, Answer::NotRunning))
    {
        EXIT_NO_ANSWER
    } else if any(&Answer::needs_restart) {
        EXIT_RESTART
    } else {
        0
    }
}
