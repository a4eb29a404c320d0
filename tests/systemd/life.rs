//! The life of an installed pipeline: started, read, rebooted, beside another one, wrongly configured, upgraded, removed.
#![forbid(unsafe_code)]

use crate::checker::check_record;
use crate::machine::Machine;
use crate::{FAST, ROLES, on_both, start, stop, unit};

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn install_start_read_stop() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        assert_eq!(m.does("systemctl is-enabled ipc-pipeline.target").trim(), "enabled");
        assert_eq!(m.property("ipc-pipeline.target", "ActiveState"), "inactive");
        m.does("systemctl start ipc-pipeline.target");
        // The reference job gives a sample every 800 ms.
        let took = m.wait_for("lines in the journal", |m| {
            m.does("journalctl -u ipc-report --no-pager -o cat")
                .lines()
                .filter(|l| l.starts_with("value: n=") && !l.starts_with("value: n=0"))
                .count()
                > 1
        });
        println!("{release}: lines after {took:?}");
        for role in ROLES {
            assert_eq!(m.property(&unit(role), "ActiveState"), "active");
            assert!(!m.property(&unit(role), "StatusText").is_empty(), "{role} says how it is");
            assert_eq!(m.property(&unit(role), "NRestarts"), "0", "{role}");
        }
        m.does("ipc-pipeline verify --system && useradd -m stranger");
        for command in ["status", "verify", "top --once", "tail --once", "export", "reload", "objects list"] {
            let said = m.refuses(&Machine::as_user("stranger", &format!("ipc-pipeline {command} --system")));
            assert!(said.contains("`adduser NAME ipc-pipeline`"), "{command}: {said}");
        }
        m.does("useradd -m -G ipc-pipeline member");
        for command in
            ["status", "verify", "top --once", "tail --once", "export --output /dev/null", "objects list"]
        {
            m.does(&Machine::as_user("member", &format!("ipc-pipeline {command} --system")));
        }
        assert!(stop(&mut m).samples > 1);
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn two_instances_keep_apart_and_a_reboot_goes_on() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.write("/etc/ipc-pipeline/second.toml", "[source]\nkind = \"wave\"\n[conv]\nrate = \"100 Hz\"\n");
        m.does("systemctl enable --now ipc-pipeline@second.target");
        start(&mut m, FAST);
        m.wait_for("the second one runs", |m| {
            m.status("--system --name second")["durable"].as_u64() > Some(50)
        });
        let pids = |m: &Machine| ROLES.map(|role| m.main_pid(&unit(role)));
        let before = pids(&m);
        m.does("systemctl stop ipc-pipeline@second.target");
        m.does("ipc-pipeline verify --system --name second");
        assert_eq!(pids(&m), before, "the first one does not notice");
        m.does("systemctl start ipc-pipeline@second.target");

        let durable = m.status("--system")["durable"].as_u64().unwrap();
        m.power_off();
        let first = check_record(&m.path("/var/lib/ipc-pipeline/log"));
        assert!(first.faults.is_empty() && first.last >= durable, "{}", first.faults);
        m.boot();
        m.wait_for("both go on", |m| {
            m.status("--system")["durable"].as_u64() > Some(first.last + 100)
                && m.status("--system --name second")["durable"].as_u64() > Some(100)
        });
        m.does("ipc-pipeline verify --system --name second");
        assert_eq!(stop(&mut m).epochs, 2, "a reboot begins a new epoch at the next number");
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn a_wrong_configuration_fails_once() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
        m.does("systemctl start ipc-pipeline.target");
        for role in ROLES {
            m.wait_for("it has failed", |m| m.property(&unit(role), "ActiveState") == "failed");
            assert_eq!(m.property(&unit(role), "NRestarts"), "0", "{role}");
            assert_eq!(m.property(&unit(role), "ExecMainStatus"), "78", "{role}");
        }
        assert!(m.does("journalctl -p err -o cat --no-pager").contains("conv.rate"));
        m.refuses("ipc-pipeline doctor --system");
        m.does("systemctl stop ipc-pipeline.target");
        nothing_is_left(&mut m);
        start(&mut m, FAST);
        m.does("ipc-pipeline doctor --system");
        doctor_knows_what_no_unit_may_have(&m);
        stop(&mut m);
    });
}

/// A drop-in that somebody wrote.
fn doctor_knows_what_no_unit_may_have(m: &Machine) {
    for line in ["RemoveIPC=yes", "DynamicUser=yes", "PrivateIPC=yes"] {
        m.write("/etc/systemd/system/ipc-stat.service.d/bad.conf", &format!("[Service]\n{line}\n"));
        m.does("systemctl daemon-reload");
        let said = m.refuses("ipc-pipeline doctor --system --json");
        assert!(said.contains("=yes, by which") && said.contains("bad.conf"), "{line}: {said}");
    }
    m.does("rm -r /etc/systemd/system/ipc-stat.service.d && systemctl daemon-reload && ipc-pipeline doctor --system");
}

/// Not even where the names were, nor a service that has failed.
fn nothing_is_left(m: &mut Machine) {
    let objects = "ipc-pipeline-objects.service";
    m.wait_for("the objects have ended", |m| m.property(objects, "ActiveState") != "deactivating");
    assert_eq!(m.property(objects, "ActiveState"), "inactive");
    let names = m
        .run("find /run/ipc-pipeline /dev/shm /dev/mqueue -name 'ipc-pipeline*'; ipcs -q | grep _ipc-")
        .stdout;
    assert_eq!(String::from_utf8_lossy(&names), "");
}

/// The last step in making the objects is held up: it would write where nobody reads.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn stopped_while_the_objects_are_made() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("mkdir -p /run/ipc-pipeline && mkfifo /run/ipc-pipeline/manifest.new");
        m.does("systemctl start --no-block ipc-pipeline.target");
        m.wait_for("names are made", |m| {
            let made = "test -e /dev/shm/ipc-pipeline.spool -a -e /dev/mqueue/ipc-pipeline.log -a -e /run/ipc-pipeline/log.lock";
            m.run(made).status.success()
        });
        assert_eq!(m.property("ipc-pipeline-objects.service", "ActiveState"), "activating");
        m.does("systemctl stop ipc-pipeline.target");
        nothing_is_left(&mut m);
        start(&mut m, FAST);
        stop(&mut m);
        nothing_is_left(&mut m);
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn upgrade_under_load_remove_and_purge() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        start(&mut m, FAST);
        let (objects, before) =
            (m.property("ipc-pipeline-objects.service", "InvocationID"), m.main_pid("ipc-conv.service"));
        m.install();
        assert_ne!(m.main_pid("ipc-conv.service"), before, "the new programs run");
        assert_eq!(m.property("ipc-pipeline-objects.service", "InvocationID"), objects);
        let durable = m.status("--system")["durable"].as_u64().unwrap();
        m.wait_for("it goes on", |m| m.status("--system")["durable"].as_u64() > Some(durable + 500));
        m.does("ipc-pipeline verify --system");

        m.does("dpkg -r ipc-pipeline");
        m.wait_for("nothing runs", |m| {
            m.run("pgrep -x 'ipc-(conv|log|stat|report)'").status.code() == Some(1)
        });
        let report = check_record(&m.path("/var/lib/ipc-pipeline/log"));
        assert!(report.faults.is_empty() && report.epochs == 1, "{}", report.faults);
        m.does("test -e /etc/ipc-pipeline/pipeline.toml");
        m.install();
        m.does("systemctl start ipc-pipeline.target");
        m.wait_for("it goes on", |m| m.status("--system")["durable"].as_u64() > Some(report.last + 100));
        m.does("dpkg -P ipc-pipeline");
        for gone in
            ["/var/lib/ipc-pipeline", "/etc/ipc-pipeline", "/run/ipc-pipeline", "/dev/shm/ipc-pipeline.*"]
        {
            m.refuses(&format!("ls -d {gone}"));
        }
    });
}
