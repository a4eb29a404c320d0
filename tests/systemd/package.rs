//! What the maintainer scripts do beyond one pipeline that runs: instances, policies, chroots. And what the drop-ins allow.
#![forbid(unsafe_code)]

use crate::machine::Machine;
use crate::{FAST, ROLES, on_both, start, stop, unit};

const SECOND: &str = "[source]\nkind = \"wave\"\n[conv]\nrate = \"100 Hz\"\n";
/// A server of numbers, one every 10 ms.
const SERVER: &str = "systemd-run --quiet --unit=server systemd-socket-activate --listen=127.0.0.1:45671 --accept --inetd \
                      sh -c 'while echo 7; do sleep 0.01; done'";
const CLIENT: &str = "[source]\nkind = \"command\"\n\
                      command = [\"bash\", \"-c\", \"exec cat </dev/tcp/127.0.0.1/45671\"]\n[conv]\nrate = \"max\"\n";

/// All services of the default pipeline and of the instance `second`.
fn services() -> Vec<String> {
    let of = |role: &&str| [unit(role), format!("ipc-{role}@second.service")];
    ROLES.iter().flat_map(of).collect()
}

fn main_pids(m: &Machine) -> Vec<u32> {
    services().iter().map(|service| m.main_pid(service)).collect()
}

/// The package once more, by another version.
fn other_version(m: &Machine, version: &str) -> String {
    let deb = format!("/opt/{version}.deb");
    m.does(&format!(
        "rm -rf /opt/x && dpkg-deb -R /opt/ipc-pipeline.deb /opt/x \
         && sed -i 's/^Version: .*/Version: {version}/' /opt/x/DEBIAN/control && dpkg-deb -Zgzip -b /opt/x {deb}"
    ));
    deb
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn instances_are_upgraded_removed_and_purged_too() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("useradd -m stranger");
        m.does(&Machine::as_user("stranger", "touch /dev/shm/ipc-pipeline@theirs.spool"));
        m.write("/etc/ipc-pipeline/second.toml", SECOND);
        m.does("systemctl enable --now ipc-pipeline@second.target");
        start(&mut m, FAST);
        let before = main_pids(&m);
        assert!(before.iter().all(|pid| *pid > 0), "{before:?}");

        let newer = other_version(&m, "9.0");
        m.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
        m.does(&format!("chmod 755 /usr/sbin/policy-rc.d && dpkg -i {newer} && rm /usr/sbin/policy-rc.d"));
        assert_eq!(main_pids(&m), before, "a policy that forbids it is obeyed");

        m.does("dpkg -i /opt/ipc-pipeline.deb"); // a downgrade
        for (service, old) in services().iter().zip(&before) {
            assert_ne!(m.main_pid(service), *old, "{service} is of the package that is installed");
            assert_eq!(m.property(service, "ActiveState"), "active");
        }
        m.does("ipc-pipeline verify --system && ipc-pipeline verify --system --name second");

        m.does("dpkg -r ipc-pipeline");
        assert_eq!(m.does("pgrep -x 'ipc-(conv|log|stat|report)' || true"), "", "nothing runs");
        assert_eq!(m.does("ls /dev/shm").trim(), "ipc-pipeline@theirs.spool");
        m.does("test -e /var/lib/ipc-pipeline/log/durable.mark -a -e /var/lib/ipc-pipeline/@second/log/durable.mark");

        m.does("dpkg -i /opt/ipc-pipeline.deb");
        assert_eq!(m.does("systemctl is-enabled ipc-pipeline@second.target").trim(), "enabled");
        m.does("systemctl start ipc-pipeline.target ipc-pipeline@second.target");
        m.does("dpkg -P ipc-pipeline");
        assert_eq!(m.does("ls /dev/shm").trim(), "ipc-pipeline@theirs.spool", "what is a user's stays");
        assert_eq!(
            m.does("ls /etc/ipc-pipeline").trim(),
            "second.toml",
            "what the administrator wrote stays"
        );
        m.refuses("ls -d /var/lib/ipc-pipeline /run/ipc-pipeline 2>/dev/null | grep .");
        m.refuses("find /etc/systemd -name 'ipc-*' | grep .");
    });
}

/// As in an installer that makes a root for another machine: no systemd that runs, not even /proc.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn it_is_installed_where_no_systemd_runs() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("dpkg -P ipc-pipeline");
        let install = "mount -t tmpfs none /run && umount -l /proc && dpkg -i /opt/ipc-pipeline.deb";
        m.does(&format!("unshare --mount sh -c '{install}'"));
        m.power_off();
        m.boot();
        m.wait_for("the target was enabled", |m| m.status("--system")["durable"].as_u64() > Some(0));
        stop(&mut m);
    });
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn each_drop_in_allows_what_it_says_and_no_less_will_do() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        // From the package i2c-tools.
        m.does("groupadd --system i2c");
        start(&mut m, FAST);
        for name in ["serial", "i2c", "iio-buffer", "command", "network", "loopback", "realtime"] {
            m.does(&format!(
                "rm -rf /etc/systemd/system/ipc-conv.service.d && mkdir -p /etc/systemd/system/ipc-conv.service.d \
                 && cp /usr/share/doc/ipc-pipeline/drop-ins/{name}.conf /etc/systemd/system/ipc-conv.service.d/ \
                 && systemctl daemon-reload && systemctl restart ipc-conv"
            ));
            let durable = m.status("--system")["durable"].as_u64().unwrap();
            m.wait_for(name, |m| m.status("--system")["durable"].as_u64() > Some(durable + 100));
        }
        real_time(&mut m);
        stop(&mut m);
        network(&mut m);
    });
}

/// With the drop-in of the name realtime, which is in place. The right to it is given here by a capability, for in some
/// containers nobody may raise limits; that the sandbox lets it through is what there is to see.
fn real_time(m: &mut Machine) {
    m.write(
        "/etc/systemd/system/ipc-conv.service.d/right.conf",
        "[Service]\nAmbientCapabilities=CAP_SYS_NICE\nCapabilityBoundingSet=CAP_SYS_NICE\n",
    );
    m.write("/etc/ipc-pipeline/pipeline.toml", &FAST.replace("[conv]", "[conv]\nrealtime = 50"));
    let restart = "systemctl daemon-reload && systemctl restart ipc-conv";
    let policy = |m: &Machine| m.does("chrt -p $(systemctl show --value -p MainPID ipc-conv)");
    m.does(restart);
    assert_eq!(m.property("ipc-conv.service", "LimitRTPRIO"), "50");
    m.wait_for("real-time priority", |m| policy(m).contains("SCHED_FIFO"));
    for line in ["RestrictRealtime=", "SystemCallFilter="] {
        let place = "/etc/systemd/system/ipc-conv.service.d/realtime.conf";
        m.does(&format!("cp {place} /opt/whole.conf && sed -i '/^{line}/d' {place} && {restart}"));
        let refused =
            "journalctl -u ipc-conv -o cat --since=-5min | tail -n 20 | grep 'cannot take the real-time'";
        m.does(refused);
        assert!(policy(m).contains("SCHED_OTHER"), "{line} is needed");
        m.does(&format!("mv /opt/whole.conf {place}"));
    }
    m.does(&format!("rm -r /etc/systemd/system/ipc-conv.service.d && {restart}"));
}

/// A program that talks over TCP, without and with the drop-in.
fn network(m: &mut Machine) {
    m.does(SERVER);
    m.write("/etc/ipc-pipeline/second.toml", CLIENT);
    m.does("systemctl start ipc-pipeline@second.target");
    m.wait_for("the sandbox refuses it", |m| {
        m.does("journalctl -u ipc-conv@second -o cat").contains("Address family not supported")
    });
    m.does(
        "mkdir -p /etc/systemd/system/ipc-conv@second.service.d \
         && cp /usr/share/doc/ipc-pipeline/drop-ins/network.conf /etc/systemd/system/ipc-conv@second.service.d/ \
         && systemctl daemon-reload && systemctl restart ipc-conv@second",
    );
    m.wait_for("numbers come in", |m| m.status("--system --name second")["durable"].as_u64() > Some(100));
    m.does("systemctl stop ipc-pipeline@second.target server.service");
}
