//! What the kernel's mechanisms of IPC do and allow: each is tried with two processes, and the limits are looked at that
//! carriers come to.
#![forbid(unsafe_code)]

use std::fmt::Display;

use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use rustix::process::{Resource, getrlimit};

use super::{Finding, good, look, wrong};
use crate::pi::{self, Job, Stop, Via};

/// Enough to see that all comes, and right.
const TRIAL: Job = Job { workers: 2, terms: 1000 };
/// What the carrier `mq:` asks for: messages, and bytes of each.
const MESSAGES: u64 = 10;
const MESSAGE: u64 = 8192;
/// What the kernel charges a user for such a queue, bytes: each message has 96 more.
const QUEUE: u64 = MESSAGES * (MESSAGE + 96);
/// Bytes in a System V queue: below the first the carrier `sysv:` does not work, below the second it is slow.
const SYSV_LEAST: u64 = 1024;
const SYSV_USUAL: u64 = 16384;

/// All of them.
pub fn findings(config: &Config) -> Result<Vec<Finding>, Failure> {
    let needs = Needs::of(config);
    let mut findings = vec![queue_memory(&needs), locked_memory()];
    findings.extend(queues(&needs));
    findings.extend(sysv_queues(&needs));
    findings.extend(strangers(&needs));
    findings.extend(trials(&needs)?);
    Ok(findings)
}

/// The carriers of the configuration, by their schemes.
struct Needs([&'static str; 3]);

impl Needs {
    fn of(config: &Config) -> Needs {
        Needs([config.edge.log, config.edge.stat, config.edge.report].map(|address| address.scheme()))
    }

    /// Edges that it carries.
    fn edges(&self, carrier: &str) -> u64 {
        self.0.iter().filter(|scheme| **scheme == carrier).count() as u64
    }

    /// What is not there is wrong only if it is needed.
    fn lacking(
        &self,
        carrier: &str,
        what: &'static str,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        if self.edges(carrier) > 0 { wrong(what, said, remedy) } else { look(what, said, remedy) }
    }
}

/// Each mechanism carries the sums of `ipc-pipeline pi`.
fn trials(needs: &Needs) -> Result<Vec<Finding>, Failure> {
    let stop = Stop::listen()?;
    let mut findings = Vec::new();
    for via in Via::ALL {
        findings.push(match pi::compute(via, TRIAL, &stop) {
            Ok(_) => good(via.name(), "two processes gave their sums over it"),
            Err(fault) => needs.lacking(via.name(), via.name(), fault.said, fault.remedy),
        });
        stop.obey();
    }
    Ok(findings)
}

/// A number that the kernel shows.
fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    text.trim().parse().ok()
}

fn or_no_limit(limit: Option<u64>) -> impl Display {
    limit.map_or("no limit".to_owned(), |limit| format!("{limit} bytes"))
}

/// Without them in the kernel the trial of `mq` says so.
fn queues(needs: &Needs) -> Option<Finding> {
    const WHAT: &str = "fs.mqueue";
    let [messages, message, queues] =
        ["msg_max", "msgsize_max", "queues_max"].map(|limit| sysctl(&format!("fs.mqueue.{limit}")));
    let (messages, message, queues) = (messages?, message?, queues?);
    let said = format!("msg_max {messages}, msgsize_max {message}, queues_max {queues}");
    let wanted = needs.edges("mq").max(1);
    if messages >= MESSAGES && message >= MESSAGE && queues >= wanted {
        return Some(good(WHAT, said));
    }
    let remedy = format!(
        "sysctl -w fs.mqueue.msg_max={MESSAGES} fs.mqueue.msgsize_max={MESSAGE} fs.mqueue.queues_max=256, \
         and in /etc/sysctl.d for ever"
    );
    Some(needs.lacking("mq", WHAT, said, remedy))
}

fn queue_memory(needs: &Needs) -> Finding {
    const WHAT: &str = "queue memory";
    let limit = getrlimit(Resource::Msgqueue).current;
    let wanted = needs.edges("mq").max(1) * QUEUE;
    let said = format!("{} for this user's queues, {wanted} needed", or_no_limit(limit));
    if limit.is_none_or(|limit| limit >= wanted) {
        return good(WHAT, said);
    }
    needs.lacking("mq", WHAT, said, format!("ulimit -q {wanted}, or LimitMSGQUEUE={wanted} in a unit"))
}

/// Shown, so that nobody looks for a fault there.
fn locked_memory() -> Finding {
    let limit = getrlimit(Resource::Memlock).current;
    good("locked memory", format!("{}; a pipeline needs none", or_no_limit(limit)))
}

/// A port has no owner and no mode.
fn strangers(needs: &Needs) -> Option<Finding> {
    let open = needs.edges("tcp") + needs.edges("udp");
    (open > 0).then(|| {
        look(
            "open to others",
            format!("{open} of the edges over tcp or udp: any user of this machine can send there. Nothing of it is believed, but it costs time"),
            "where others have accounts, choose mq:, fifo: or unix: in [edge]",
        )
    })
}

fn sysv_queues(needs: &Needs) -> Option<Finding> {
    const WHAT: &str = "System V queues";
    let [bytes, message, queues] =
        ["msgmnb", "msgmax", "msgmni"].map(|limit| sysctl(&format!("kernel.{limit}")));
    let (bytes, message, queues) = (bytes?, message?, queues?);
    let said = format!("kernel.msgmnb {bytes}, msgmax {message}, msgmni {queues}");
    let remedy = format!("sysctl -w kernel.msgmnb={SYSV_USUAL} kernel.msgmax={MESSAGE} kernel.msgmni=32000");
    Some(if bytes < SYSV_LEAST || message < MESSAGE || queues < needs.edges("sysv").max(1) {
        needs.lacking("sysv", WHAT, said, remedy)
    } else if bytes < SYSV_USUAL {
        look(WHAT, said + ": so small a queue is slow", remedy)
    } else {
        good(WHAT, said)
    })
}
