//! The package under a real systemd, on both releases of Debian: started, killed, attacked, upgraded, removed.
//!
//! `make test-systemd` makes the package and the roots and runs these; they need root and systemd-nspawn.
#![forbid(unsafe_code)]

#[path = "../checker/mod.rs"]
mod checker;
mod machine;
mod package;
mod reload;

use checker::check_record;
use machine::Machine;
use std::time::{Duration, Instant};

const ROLES: [&str; 4] = ["conv", "log", "stat", "report"];
const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// 1,000 samples a second.
const FAST: &str = "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n";

fn on_both(test: impl Fn(&str)) {
    RELEASES.into_iter().for_each(test);
}

fn unit(role: &str) -> String {
    format!("ipc-{role}.service")
}

/// Starts the pipeline of a machine with this configuration and waits until samples are durable.
fn start(m: &mut Machine, config: &str) {
    m.write("/etc/ipc-pipeline/pipeline.toml", config);
    m.does("systemctl start ipc-pipeline.target");
    m.wait_for("samples are durable", |m| m.status("--system")["durable"].as_u64() > Some(5));
}

/// Stops it: no process and no object is left, and the record is true.
fn stop(m: &mut Machine) -> checker::Report {
    m.does("systemctl stop ipc-pipeline.target");
    m.wait_for("all have stopped", |m| ROLES.iter().all(|role| m.main_pid(&unit(role)) == 0));
    m.wait_for("the objects are gone", |m| {
        m.does("ls /dev/shm | grep '^ipc-pipeline[.]' | grep -vc aside || true").trim() == "0"
    });
    m.does("ipc-pipeline verify --system");
    let report = check_record(&m.path("/var/lib/ipc-pipeline/log"));
    assert!(report.faults.is_empty(), "{}", report.faults);
    report
}

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
                .filter(|l| l.starts_with("value: n="))
                .count()
                > 1
        });
        println!("{release}: lines after {took:?}");
        for role in ROLES {
            assert_eq!(m.property(&unit(role), "ActiveState"), "active");
            assert!(!m.property(&unit(role), "StatusText").is_empty(), "{role} says how it is");
            assert_eq!(m.property(&unit(role), "NRestarts"), "0", "{role}");
        }
        m.does("ipc-pipeline verify --system");
        assert!(stop(&mut m).samples > 1);
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn kills_freezes_and_reexecutions_change_nothing() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        start(&mut m, FAST);
        let (mut random, mut worst) = (fastrand::Rng::with_seed(4), Duration::ZERO);
        for cycle in 0..40 {
            let role = ROLES[random.usize(..4)];
            let before = m.main_pid(&unit(role));
            let durable = m.status("--system")["durable"].as_u64().unwrap();
            let signal = if cycle % 5 == 4 { "STOP" } else { "KILL" };
            if cycle % 10 == 7 {
                m.does("systemctl daemon-reexec");
            }
            let begun = Instant::now();
            m.does(&format!("kill -{signal} {before}"));
            m.wait_for("a new life", |m| ![0, before].contains(&m.main_pid(&unit(role))));
            let new_life = begun.elapsed();
            // While it starts it is not watched: frozen then, it is replaced after TimeoutStartSec=.
            m.wait_for("it has started", |m| m.property(&unit(role), "ActiveState") == "active");
            m.wait_for("new durable entries", |m| {
                m.status("--system")["durable"].as_u64() > Some(durable + 50)
            });
            worst = worst.max(begun.elapsed());
            println!("{release}: SIG{signal} to {role}: new life after {new_life:?}");
        }
        println!("{release}: worst time from a fault to 50 new durable entries {worst:?}");
        let report = stop(&mut m);
        assert_eq!(report.epochs, 1, "no kill costs the grid its place");
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn members_of_the_group_may_look_and_nobody_else() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("useradd -m member && usermod -a -G ipc-pipeline member && useradd -m stranger");
        start(&mut m, FAST);
        let looks =
            ["status", "verify", "top --once", "export --output /dev/null", "tail --once", "objects list"];
        for look in looks {
            let line = format!("ipc-pipeline {look} --system");
            m.does(&Machine::as_user("member", &line));
        }
        for look in ["verify", "export --output /dev/null", "tail --once"] {
            m.refuses(&Machine::as_user("stranger", &format!("ipc-pipeline {look} --system")));
        }
        let attacks = [
            "cat /dev/shm/ipc-pipeline.spool",
            "cat /dev/shm/ipc-pipeline.page.log",
            "cat /dev/shm/ipc-pipeline.snapshot",
            "echo x > /dev/shm/ipc-pipeline.spool",
            "rm -f /dev/shm/ipc-pipeline.spool",
            "mv /dev/shm/ipc-pipeline.spool /dev/shm/x",
            "ln -sf /etc/passwd /dev/shm/ipc-pipeline.spool",
            "touch /dev/shm/ipc-pipeline.snapshot",
            "chmod 666 /dev/shm/ipc-pipeline.page.conv",
            "truncate -s 0 /dev/shm/ipc-pipeline.page.log",
            "ls /run/ipc-pipeline",
            "echo x > /run/ipc-pipeline/conv.lock",
            "flock -n /run/ipc-pipeline/log.lock true",
            "ls /var/lib/ipc-pipeline",
            "cat /var/lib/ipc-pipeline/log/durable.mark",
            "echo x >> /etc/ipc-pipeline/pipeline.toml",
            "kill -9 $(pidof ipc-conv)",
            "kill -STOP $(pidof ipc-log)",
            "cat /proc/$(pidof ipc-log)/maps",
            "cat /proc/$(pidof ipc-log)/fd/0",
            "ipc-pipeline objects remove --system",
            "ipc-pipeline objects repair --system",
            "ipc-pipeline objects create --system",
            "ipc-conv --system",
            "ipc-log --system",
            "ipc-stat --system",
            "ipc-report --system",
            "ipc-pipeline run --system --for 1s",
            "ipc-pipeline archive --system",
            "systemctl stop ipc-pipeline.target",
        ];
        for who in ["stranger", "member"] {
            for attack in attacks {
                let may_read = who == "member"
                    && (attack.starts_with("cat /dev/shm")
                        || attack.starts_with("ls ")
                        || attack.starts_with("cat /var"));
                if !may_read {
                    m.refuses(&Machine::as_user(who, attack));
                }
            }
        }
        for role in ROLES {
            assert_eq!(m.property(&unit(role), "NRestarts"), "0", "{role} did not notice");
        }
        stop(&mut m);
    });
}

/// Names that a stranger has taken before the first start, and what stands there after a reboot.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn squatted_names_are_taken_back() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("useradd -m stranger");
        let squats = [
            "touch /dev/shm/ipc-pipeline.spool",
            "mkdir /dev/shm/ipc-pipeline.snapshot",
            "mkfifo /dev/shm/ipc-pipeline.page.log",
            "ln -s /etc/passwd /dev/shm/ipc-pipeline.page.conv",
            "head -c 4096 /dev/zero > /dev/shm/ipc-pipeline.page.stat; chmod 666 /dev/shm/ipc-pipeline.page.stat",
        ];
        squats.iter().for_each(|squat| _ = m.does(&Machine::as_user("stranger", squat)));
        start(&mut m, FAST);
        assert_eq!(m.does("stat -c %U /dev/shm/ipc-pipeline.spool").trim(), "_ipc-conv");
        m.does("ipc-pipeline verify --system");
        m.does("test -s /etc/passwd");
        stop(&mut m);
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
        start(&mut m, FAST);
        m.does("ipc-pipeline doctor --system");
        stop(&mut m);
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
