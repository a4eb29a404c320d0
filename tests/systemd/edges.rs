//! Each carrier on each edge between the services, each of which has a user and a sandbox of its own.
#![forbid(unsafe_code)]

use crate::machine::Machine;
use crate::{FAST, ROLES, journal, on_both, start, stop, unit};

/// The configuration with these carriers: to log, to stat, to report.
pub fn over([log, stat, report]: [&str; 3]) -> String {
    format!(
        "{FAST}[edge]\nlog = \"{log}\"\nstat = \"{stat}\"\nreport = \"{report}\"\n[report]\ndigits = 12\n"
    )
}

/// Starts it so; entries are carried to their receivers, and what is printed in the end is what `verify` computes.
fn carries(m: &mut Machine, edges: [&str; 3]) {
    start(m, &over(edges));
    for (role, edge) in ["log", "stat", "report"].into_iter().zip(edges) {
        m.wait_for(&format!("{role} is sent entries over {edge}"), |m| {
            let daemon = &m.status("--system")["daemons"][role];
            let carried = daemon["counters"]["carried"].as_u64() > Some(100);
            daemon["listens_at"] == edge && (carried || edge == "shm:" || role == "report")
        });
    }
    let lives = ROLES.map(|role| m.property(&unit(role), "InvocationID"));
    stop(m);
    for life in lives {
        let said = m.does(&format!("journalctl -o cat -q -p warning _SYSTEMD_INVOCATION_ID={life}"));
        assert!(!said.contains("reaches"), "{edges:?}: {said}");
    }
    journal::last_lines_are_those_of_verify(m);
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn each_carrier_between_services() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        for carrier in ["mq:", "fifo:", "unix:", "sysv:", "shm:"] {
            carries(&mut m, [carrier; 3]);
        }
    });
}

/// Installs loopback.conf as its first lines say, for an instance too.
fn use_loopback(m: &Machine, instance: &str) {
    m.does(&format!(
        "for role in conv log stat report; do mkdir -p /etc/systemd/system/ipc-$role{instance}.service.d; \
         sed 's/\\(ipc-[a-z]*\\)[.]service/\\1{instance}.service/g' /usr/share/doc/ipc-pipeline/drop-ins/loopback.conf \
         >/etc/systemd/system/ipc-$role{instance}.service.d/loopback.conf; done; systemctl daemon-reload"
    ));
}

/// Without a network a service says what is missing, once; with the drop-in all four have one that is theirs alone.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn ports_between_services() {
    const PORTS: [&str; 3] = ["tcp:127.0.0.1:51337", "udp:127.0.0.1:51337", "tcp:127.0.0.1:51338"];
    const OTHERS: [&str; 3] = ["udp:127.0.0.1:51337", "tcp:127.0.0.1:51337", "udp:127.0.0.1:51338"];
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.write("/etc/ipc-pipeline/pipeline.toml", &over(PORTS));
        m.run("systemctl start ipc-pipeline.target");
        m.wait_for("the sandbox refuses it", |m| m.property("ipc-log.service", "ExecMainStatus") == "78");
        assert_eq!(m.property("ipc-log.service", "NRestarts"), "0");
        m.wait_for("it says what to do", |m| {
            m.does("journalctl -o cat -t ipc-log").contains("loopback.conf")
        });
        m.does("systemctl stop ipc-pipeline.target");

        use_loopback(&m, "");
        use_loopback(&m, "@second");
        assert_eq!(m.does("systemd-analyze verify --man=no ipc-conv.service ipc-log.service ipc-stat.service ipc-report.service ipc-log@second.service 2>&1"), "");
        // The same ports at the same time: each pipeline has its own. A stranger has neither.
        m.write("/etc/ipc-pipeline/second.toml", &over(PORTS));
        m.does("systemctl start ipc-pipeline@second.target");
        carries(&mut m, PORTS);
        carries(&mut m, OTHERS);
        m.wait_for("the second one is sent entries", |m| {
            m.status("--system --name second")["daemons"]["log"]["counters"]["carried"].as_u64() > Some(100)
        });
        m.refuses("perl -MSocket -e 'socket S,AF_INET,SOCK_STREAM,0; exit !connect S,sockaddr_in(51337,INADDR_LOOPBACK)'");
        m.does("systemctl stop ipc-pipeline@second.target && ipc-pipeline verify --system --name second");
        they_stay_together(&mut m);
    });
}

/// Killed one after the other they stay in one network; without the line that says so they are never in one.
fn they_stay_together(m: &mut Machine) {
    let carried = |m: &Machine| m.status("--system")["daemons"]["log"]["counters"]["carried"].as_u64();
    start(m, &over(["tcp:127.0.0.1:51337", "shm:", "shm:"]));
    for role in ["log", "conv", "report", "stat"] {
        m.does(&format!("systemctl kill -s KILL ipc-{role}.service"));
        let before = m.status("--system")["durable"].as_u64();
        m.wait_for("samples go on", |m| m.status("--system")["durable"].as_u64() > before);
    }
    let before = carried(m);
    m.wait_for("entries are carried", |m| carried(m) > before);
    stop(m);
    m.does("sed -i '/^JoinsNamespaceOf=/d' /etc/systemd/system/ipc-*.service.d/loopback.conf && systemctl daemon-reload");
    start(m, &over(["tcp:127.0.0.1:51337", "shm:", "shm:"]));
    let before = m.status("--system")["durable"].as_u64().unwrap();
    m.wait_for("log reads the spool itself", |m| {
        m.status("--system")["durable"].as_u64() > Some(before + 500)
    });
    assert_eq!(carried(m), Some(0), "the line is needed");
    stop(m);
}
