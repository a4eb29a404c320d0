//! What a user leaves in shared memory and queues is removed by logind when the last session of that user ends (RemoveIPC=yes, as
//! Debian has it). The users of the daemons are of the system, and left alone.
#![forbid(unsafe_code)]

use serde_json::Value;

use crate::edges::over;
use crate::machine::Machine;
use crate::{on_both, start, stop};

/// A session of this user, by PAM and logind, that ends with the line.
fn session(user: &str, line: &str) -> String {
    format!("systemd-run --quiet --wait --pipe --collect -p KillMode=process su -l {user} -c '{line}'")
}

/// Everything of the machine's pipeline that has a name or a number: if it was made anew, it has another one.
fn objects(m: &Machine) -> String {
    m.does("stat -c '%n %i %U' /dev/shm/ipc-pipeline.* /dev/mqueue/ipc-pipeline.* /run/ipc-pipeline/*; ipcs -q | awk '/_ipc-/ {print $1, $2, $3}'")
}

/// What doctor says to this user about logging out.
fn log_out_of(m: &Machine, user: &str) -> Value {
    let said = m.run(&session(user, "ipc-pipeline doctor --name mine --json"));
    let findings: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    findings.into_iter().find(|finding| finding["what"] == "log-out").expect("doctor looks at it")
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn who_logs_out_takes_only_their_own() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.write("/etc/systemd/logind.conf.d/soon.conf", "[Login]\nUserStopDelaySec=0\n");
        m.does("systemctl restart systemd-logind && useradd -m -G ipc-pipeline -s /bin/sh person");
        start(&mut m, &over(["mq:", "sysv:", "fifo:"]));
        let before = objects(&m);

        assert_eq!(log_out_of(&m, "person")["verdict"], "look");
        assert!(log_out_of(&m, "person")["remedy"].as_str().unwrap().contains("enable-linger"));
        let theirs = "touch /dev/shm/theirs /dev/mqueue/theirs && ipcmk -Q >/dev/null";
        m.does(&session(
            "person",
            &format!("loginctl show-user person -p State && {theirs} && test -e /dev/shm/theirs"),
        ));
        m.wait_for("logind has removed it", |m| {
            !m.run("ls /dev/shm/theirs || ls /dev/mqueue/theirs || ipcs -q | grep person").status.success()
        });
        // As the users of the daemons themselves, who are of the system.
        m.does(&session("_ipc-conv -s /bin/sh", "loginctl show-user _ipc-conv -p State"));
        m.wait_for("no session is left", |m| m.does("loginctl list-users --no-legend").trim().is_empty());
        assert_eq!(objects(&m), before, "{release}: nothing of the machine was touched");

        m.write("/etc/systemd/logind.conf.d/soon.conf", "[Login]\nUserStopDelaySec=0\nRemoveIPC=no\n");
        m.does("systemctl restart systemd-logind");
        assert_eq!(log_out_of(&m, "person")["verdict"], "good", "logind removes nothing");
        m.write("/etc/systemd/logind.conf.d/soon.conf", "[Login]\nUserStopDelaySec=0\n");
        m.does("systemctl restart systemd-logind");
        assert_eq!(log_out_of(&m, "person")["verdict"], "look");

        m.does("systemd-run --quiet --wait --pipe loginctl enable-linger person");
        assert_eq!(log_out_of(&m, "person")["verdict"], "good");
        m.does(&session("person", &format!("{theirs} && ipc-pipeline objects create --quiet --name mine")));
        m.wait_for("no session is left", |m| {
            m.does("loginctl show-user --value -p State person").trim() == "lingering"
        });
        m.does("ls /dev/shm/theirs /dev/mqueue/theirs /dev/shm/ipc-pipeline@mine.spool");
        stop(&mut m);
    });
}
