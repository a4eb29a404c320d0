//! Each line of the units that says how the services live together is needed: what it promises holds with the unit as it is, and does
//! not with the line taken out; and what the units must not say breaks a promise.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::{FAST, RELEASES, ROLES, on_both, size, unit};

/// How a unit is changed.
enum Change {
    /// The lines that begin so are taken out.
    Without(&'static str),
    /// This line is put into `[Service]`.
    With(&'static str),
}

/// A promise, and the change of a unit that breaks it.
struct Claim {
    unit: &'static str,
    change: Change,
    /// Does it hold? Begins with a fresh start.
    holds: fn(&mut Machine) -> bool,
}

use Change::{With, Without};

const CLAIMS: &[Claim] = &[
    Claim { unit: "ipc-conv.service", change: With("RemoveIPC=yes"), holds: a_restart_keeps_the_spool },
    Claim { unit: "ipc-conv.service", change: With("DynamicUser=yes"), holds: a_restart_keeps_the_spool },
    Claim { unit: "ipc-report.service", change: With("RuntimeDirectory=ipc-pipeline"), holds: locks_stay },
    Claim { unit: "ipc-report.service", change: Without("StartLimitIntervalSec="), holds: many_kills },
    Claim { unit: "ipc-report.service", change: Without("Restart=on-failure"), holds: one_kill },
    Claim { unit: "ipc-report.service", change: Without("WatchdogSec="), holds: one_freeze },
    Claim {
        unit: "ipc-report.service",
        change: Without("RestartPreventExitStatus="),
        holds: a_wrong_configuration_fails_once,
    },
    Claim { unit: "ipc-report.service", change: Without("Type=notify"), holds: started_means_ready },
    Claim { unit: "ipc-report.service", change: Without("PartOf="), holds: the_target_stops_all },
    Claim { unit: "ipc-pipeline-objects.service", change: Without("PartOf="), holds: no_name_is_left },
    Claim { unit: "ipc-pipeline-objects.service", change: Without("ExecStopPost="), holds: no_name_is_left },
    Claim {
        unit: "ipc-pipeline-objects.service",
        change: Without("RemainAfterExit="),
        holds: no_name_is_left,
    },
    Claim {
        unit: "ipc-pipeline-objects.service",
        change: Without("ReadWritePaths="),
        holds: directories_are_made,
    },
    Claim { unit: "ipc-conv.service", change: Without("After="), holds: stopped_in_order },
    Claim { unit: "ipc-log.service", change: Without("After="), holds: stopped_in_order },
    Claim { unit: "ipc-stat.service", change: Without("After="), holds: stopped_in_order },
    Claim { unit: "ipc-report.service", change: Without("After="), holds: stopped_in_order },
    Claim { unit: "ipc-report.service", change: Without("Wants="), holds: one_brings_the_objects },
    Claim { unit: "ipc-conv.service", change: Without("ExecStartPre="), holds: a_squat_is_put_right },
    Claim { unit: "ipc-log.service", change: Without("StateDirectory="), holds: fresh },
    Claim { unit: "ipc-log.service", change: Without("ReadWritePaths="), holds: fresh },
    Claim { unit: "ipc-log.service", change: Without("StateDirectoryMode="), holds: the_record_is_private },
    Claim { unit: "ipc-conv.service", change: Without("SupplementaryGroups="), holds: entries_are_carried },
    Claim { unit: "ipc-stat.service", change: Without("SupplementaryGroups="), holds: lines_are_carried },
    Claim { unit: "ipc-pipeline.target", change: Without("Wants="), holds: fresh },
    Claim { unit: "ipc-pipeline.target", change: Without("WantedBy="), holds: can_be_enabled },
];

/// Lines that no claim is about, and why.
const NOT_CLAIMED: &[(&str, &str)] = &[
    ("Description=", "it is for people"),
    ("Documentation=", "it is for people"),
    ("NotifyAccess=main", "it is what Type=notify means, said aloud"),
    ("RestartSec=100ms", "it is systemd's own value, said aloud"),
    ("TimeoutStartSec=15s", "a shorter wait than systemd's own 90 s: to see it would take as long"),
    ("RestartPreventExitStatus=", "it is the same in all four; claimed of report"),
    ("ExecReload=", "tests/systemd/reload.rs"),
    ("LimitMSGQUEUE=", "it takes nine queues and more to miss it"),
    ("ExecStart=", "without it there is no service"),
    ("Type=oneshot", "with RemainAfterExit= and without ExecStart= of a daemon systemd has no other"),
];

/// Is this so within some seconds? Longer than a restart takes, much shorter than a test may.
fn soon(m: &mut Machine, mut done: impl FnMut(&mut Machine) -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        if done(m) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn durable(m: &Machine) -> Option<u64> {
    m.status("--system")["durable"].as_u64()
}

fn at_rest(m: &Machine) {
    m.write("/etc/ipc-pipeline/pipeline.toml", FAST);
    let all = ROLES.map(unit).join(" ");
    m.run(&format!(
        "systemctl stop ipc-pipeline.target {all} ipc-pipeline-objects.service; systemctl reset-failed; \
         ipc-pipeline objects remove --system --abandon; rm -rf /dev/shm/ipc-pipeline* /var/lib/ipc-pipeline/*"
    ));
}

/// Does the pipeline start, with nothing there?
fn fresh(m: &mut Machine) -> bool {
    at_rest(m);
    m.run("timeout 8 systemctl start ipc-pipeline.target");
    soon(m, |m| durable(m) > Some(20))
}

/// Does a service get a new process after this?
fn lives_on(m: &mut Machine, role: &str, signal: &str) -> bool {
    let before = m.main_pid(&unit(role));
    m.run(&format!("kill -{signal} {before}"));
    let lives = soon(m, |m| ![0, before].contains(&m.main_pid(&unit(role))));
    m.run(&format!("kill -KILL {before}"));
    lives
}

fn a_restart_keeps_the_spool(m: &mut Machine) -> bool {
    let inode = |m: &Machine| m.run("stat -c %i /dev/shm/ipc-pipeline.spool").stdout;
    if !fresh(m) {
        return false;
    }
    let before = (inode(m), durable(m));
    m.run(
        "systemctl stop ipc-log.service; systemctl restart ipc-conv.service; systemctl start ipc-log.service",
    );
    soon(m, |m| durable(m) > before.1) && inode(m) == before.0
}

fn locks_stay(m: &mut Machine) -> bool {
    fresh(m)
        && m.run("systemctl restart ipc-report.service && test -e /run/ipc-pipeline/conv.lock")
            .status
            .success()
}

fn many_kills(m: &mut Machine) -> bool {
    fresh(m) && (0..8).all(|_| lives_on(m, "report", "KILL"))
}

fn one_kill(m: &mut Machine) -> bool {
    fresh(m) && lives_on(m, "report", "KILL")
}

fn one_freeze(m: &mut Machine) -> bool {
    fresh(m)
        && soon(m, |m| m.property("ipc-report.service", "ActiveState") == "active")
        && lives_on(m, "report", "STOP")
}

fn a_wrong_configuration_fails_once(m: &mut Machine) -> bool {
    at_rest(m);
    m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
    m.run("systemctl start --no-block ipc-report.service");
    soon(m, |m| m.property("ipc-report.service", "ActiveState") == "failed")
}

fn started_means_ready(m: &mut Machine) -> bool {
    at_rest(m);
    m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
    !m.run("systemctl start ipc-report.service").status.success()
}

fn the_target_stops_all(m: &mut Machine) -> bool {
    let started = fresh(m);
    m.run("systemctl stop ipc-pipeline.target");
    started && soon(m, |m| ROLES.iter().all(|role| m.main_pid(&unit(role)) == 0))
}

fn no_name_is_left(m: &mut Machine) -> bool {
    let started = fresh(m);
    let is_active = m.property("ipc-pipeline-objects.service", "ActiveState") == "active";
    m.run("systemctl stop ipc-pipeline.target");
    let names = |m: &Machine| m.run("ls /dev/shm/ipc-pipeline*").status.success();
    started && is_active && soon(m, |m| !names(m))
}

fn directories_are_made(m: &mut Machine) -> bool {
    at_rest(m);
    m.run("rm -rf /run/ipc-pipeline /var/lib/ipc-pipeline");
    m.run(
        "systemctl start ipc-pipeline-objects.service; test -d /run/ipc-pipeline -a -d /var/lib/ipc-pipeline",
    )
    .status
    .success()
}

/// The producer first, its consumers when it has ended, the objects last; each takes half a second to end.
fn stopped_in_order(m: &mut Machine) -> bool {
    m.does(
        "for r in conv log stat report; do mkdir -p /etc/systemd/system/ipc-$r.service.d; \
         printf '[Service]\\nExecStopPost=/bin/sleep 0.5\\n' >/etc/systemd/system/ipc-$r.service.d/slow.conf; done; \
         systemctl daemon-reload",
    );
    let started = fresh(m);
    m.run("systemctl stop ipc-pipeline.target");
    let all: Vec<String> =
        ROLES.map(unit).into_iter().chain(["ipc-pipeline-objects.service".into()]).collect();
    let ended = soon(m, |m| {
        all.iter().all(|unit| ["inactive", "failed"].contains(&&*m.property(unit, "ActiveState")))
    });
    let at = |unit: &str, what: &str| -> u64 { m.property(unit, what).parse().unwrap_or(0) };
    let in_order = all.windows(2).all(|pair| {
        at(&pair[1], "ActiveExitTimestampMonotonic") >= at(&pair[0], "InactiveEnterTimestampMonotonic")
    });
    m.does("rm -r /etc/systemd/system/ipc-*.service.d; systemctl daemon-reload");
    started && ended && in_order
}

fn one_brings_the_objects(m: &mut Machine) -> bool {
    at_rest(m);
    m.run("timeout 5 systemctl start ipc-report.service");
    m.property("ipc-pipeline-objects.service", "ActiveState") == "active"
}

fn a_squat_is_put_right(m: &mut Machine) -> bool {
    if !fresh(m) {
        return false;
    }
    m.run("systemctl stop ipc-conv.service; rm -f /dev/shm/ipc-pipeline.page.conv; mkdir /dev/shm/ipc-pipeline.page.conv");
    let before = durable(m);
    m.run("timeout 5 systemctl start ipc-conv.service");
    soon(m, |m| durable(m) > before) && m.run("test -f /dev/shm/ipc-pipeline.page.conv").status.success()
}

fn the_record_is_private(m: &mut Machine) -> bool {
    fresh(m) && m.does("stat -c %a /var/lib/ipc-pipeline/log").trim() == "750"
}

/// conv may write into log's queue.
fn entries_are_carried(m: &mut Machine) -> bool {
    fresh(m) && soon(m, |m| m.status("--system")["daemons"]["log"]["counters"]["carried"].as_u64() > Some(20))
}

/// stat may write into report's FIFO. Without that report reads the register after a while, and stat says why.
fn lines_are_carried(m: &mut Machine) -> bool {
    let printed = |m: &Machine| m.status("--system")["daemons"]["report"]["counters"]["printed"].as_u64();
    let said =
        "journalctl -o cat -q _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID ipc-stat.service)";
    fresh(m) && soon(m, |m| printed(m) > Some(1)) && !m.does(said).contains("nothing reaches ipc-report")
}

fn can_be_enabled(m: &mut Machine) -> bool {
    m.run("systemctl disable ipc-pipeline.target; systemctl enable ipc-pipeline.target");
    m.run("systemctl is-enabled ipc-pipeline.target").stdout == b"enabled\n"
}

fn text_of(m: &Machine, unit: &str) -> String {
    std::fs::read_to_string(m.path(&format!("/usr/lib/systemd/system/{unit}"))).unwrap()
}

/// The unit changed so; the line that is to go must be there.
fn changed(text: &str, change: &Change) -> String {
    match change {
        With(line) => text.replace("[Service]\n", &format!("[Service]\n{line}\n")),
        Without(beginning) => {
            let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(beginning)).collect();
            assert!(kept.len() < text.lines().count(), "no line {beginning} in\n{text}");
            kept.join("\n") + "\n"
        }
    }
}

fn name_of(claim: &Claim) -> String {
    match claim.change {
        With(line) => format!("{} with {}", claim.unit, line.replace('\n', ", ")),
        Without(line) => format!("{} without {line}", claim.unit),
    }
}

/// Each line of the units before the sandbox is claimed of one of them, or has its reason why not.
fn every_line_is_claimed(m: &Machine) {
    let is_claimed = |line: &str| {
        let by_claim =
            |claim: &Claim| matches!(claim.change, Without(beginning) if line.starts_with(beginning));
        CLAIMS.iter().any(by_claim) || NOT_CLAIMED.iter().any(|(beginning, _)| line.starts_with(beginning))
    };
    for unit in ROLES
        .map(unit)
        .into_iter()
        .chain(["ipc-pipeline-objects.service".into(), "ipc-pipeline.target".into()])
    {
        let text = text_of(m, &unit);
        let lines = text.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
        let others: Vec<&str> =
            lines.filter(|line| !is_claimed(line) && !crate::sandbox::is_claimed(line)).collect();
        assert!(others.is_empty(), "{unit}: nothing shows what these are for: {others:?}");
    }
}

/// For every day each release tries half of them; both releases all of them in a nightly run.
fn of_this_release(release: &str) -> impl Iterator<Item = &'static Claim> {
    let first = if size(0, 1) == 0 { RELEASES.iter().position(|name| *name == release).unwrap() } else { 0 };
    CLAIMS.iter().skip(first).step_by(size(RELEASES.len(), 1))
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn each_line_of_the_units_is_needed() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        every_line_is_claimed(&m);
        let mut wrong = Vec::new();
        let mut last: Option<&Claim> = None;
        for claim in of_this_release(release) {
            // Neighbours in the table that are about one promise try it as it is only once.
            let is_tried = last.is_some_and(|last| std::ptr::fn_addr_eq(last.holds, claim.holds));
            let as_it_is = is_tried || (claim.holds)(&mut m);
            last = Some(claim);
            let place = format!("/etc/systemd/system/{}", claim.unit);
            m.write(&place, &changed(&text_of(&m, claim.unit), &claim.change));
            m.does("systemctl daemon-reload");
            let otherwise = (claim.holds)(&mut m);
            at_rest(&m);
            m.does(&format!("rm {place} && systemctl daemon-reload && systemctl reset-failed"));
            println!(
                "{release}: {}: {}",
                name_of(claim),
                if otherwise { "STILL HOLDS" } else { "breaks it" }
            );
            if (as_it_is, otherwise) != (true, false) {
                wrong.push(format!("{}: holds as it is: {as_it_is}, otherwise: {otherwise}", name_of(claim)));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}
