//! `systemctl reload`: comes back when the daemon has answered, fails with the reason if not all is taken, and never costs
//! a service anything.
#![forbid(unsafe_code)]

use super::{FAST, ROLES, on_both, start, stop, unit};
use crate::machine::Machine;

const FILE: &str = "/etc/ipc-pipeline/pipeline.toml";

/// What the journal has of a unit, as messages.
fn said(m: &Machine, unit: &str) -> String {
    m.does(&format!("journalctl -u {unit} --no-pager -o cat"))
}

/// The journal has this text of a unit; it gets there a little after it was said.
#[track_caller]
fn says(m: &mut Machine, unit: &str, text: &str) {
    m.wait_for(text, |m| said(m, unit).contains(text));
}

/// The processes of the four services, and that all are active.
fn pids(m: &Machine) -> Vec<u32> {
    ROLES
        .iter()
        .map(|role| {
            assert_eq!(m.property(&unit(role), "ActiveState"), "active", "{role}");
            assert_eq!(m.property(&unit(role), "SubState"), "running", "{role}");
            m.main_pid(&unit(role))
        })
        .collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn a_reload_is_taken_or_refused_and_nobody_dies() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("useradd -m -G ipc-pipeline member");
        start(&mut m, FAST);
        let before = pids(&m);
        // Nothing new: each of them, by the way of its unit.
        for role in ROLES {
            m.does(&format!("systemctl reload ipc-{role}"));
            says(&mut m, &unit(role), "the configuration was read again: nothing has changed");
        }

        // Of another form from the next line on.
        m.write(FILE, &format!("{FAST}[report]\nformat = \"csv\"\n"));
        m.does("systemctl reload ipc-report");
        says(&mut m, "ipc-report", "the configuration was read again: changed report.format");
        m.wait_for("lines of the other form", |m| {
            said(m, "ipc-report").lines().rev().take(20).any(|line| line.split(',').count() > 10)
        });

        // A fault: nothing changes, and systemctl says that it failed.
        m.write(FILE, "[conv]\nrate = \"fast\"\n");
        m.refuses("systemctl reload ipc-log");
        says(&mut m, "ipc-log", "conv.rate");
        assert_eq!(m.run("ipc-pipeline reload --system").status.code(), Some(78));

        // Something that only a restart brings.
        m.write(FILE, "[conv]\nrate = \"500 Hz\"\n[log]\nsync = \"5ms\"\n");
        m.refuses("systemctl reload ipc-conv");
        says(&mut m, "ipc-conv", "systemctl restart ipc-conv");
        let output = m.run("ipc-pipeline reload --system");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        for line in [
            "ipc-conv: nothing has changed; needs a restart: conv.period/rate\n",
            "ipc-log: changed log.sync\n",
            "ipc-stat: nothing has changed\n",
            "ipc-report: changed report.format\n",
            "  systemctl restart ipc-conv\n",
        ] {
            assert!(text.contains(line), "{release}: {line}{text}");
        }
        assert_eq!(pids(&m), before, "{release}: nobody was restarted");
        m.does("systemctl restart ipc-conv && ipc-pipeline reload --system");

        // Who may only look may not ask either.
        let output = m.run(&Machine::as_user("member", "ipc-pipeline reload --system"));
        assert_eq!(output.status.code(), Some(71), "{release}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("as root, or `systemctl reload ipc-conv`"));

        // A signal at the start of a life, again and again.
        for _ in 0..5 {
            m.does("systemctl restart ipc-stat; systemctl reload ipc-stat");
        }
        for role in ROLES {
            assert_eq!(m.property(&unit(role), "NRestarts"), "0", "{release}: {role}");
            m.wait_for("it tells how it is", |m| {
                let status = m.property(&unit(role), "StatusText");
                status.contains(" entries/s; entry ") && status.contains("lost")
            });
        }
        let catalog = m.does("journalctl --no-pager -x -u ipc-log");
        assert!(catalog.contains("A daemon has read its configuration again"), "{release}");
        stop(&mut m);
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn an_instance_reloads_its_own_file() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        let file = "/etc/ipc-pipeline/second.toml";
        m.write(file, FAST);
        m.does("systemctl start ipc-pipeline@second.target");
        m.wait_for("it runs", |m| m.status("--system --name second")["durable"].as_u64() > Some(50));
        m.write(file, &format!("{FAST}[stat]\ncheckpoint = \"1s\"\newma = 0.5\n"));
        m.refuses("systemctl reload ipc-stat@second");
        says(&mut m, "ipc-stat@second", "changed stat.checkpoint; needs a restart: stat.ewma");
        says(&mut m, "ipc-stat@second", "  systemctl restart ipc-stat@second");
        m.does("systemctl restart ipc-stat@second && systemctl reload ipc-stat@second");
        m.does("systemctl stop ipc-pipeline@second.target");
        m.does("ipc-pipeline verify --system --name second");
    });
}
