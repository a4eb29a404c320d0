//! What the maintainer scripts do beyond one pipeline that runs: instances, policies, chroots. And what the drop-ins allow.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::edges::over;
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

/// Entries that are only in the spool keep it through a removal, with all that is beside it; a purge takes everything.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn purge_removes_what_a_spool_has_kept() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        start(&mut m, &over(["mq:", "sysv:", "fifo:"]));
        m.does("systemctl stop ipc-log.service");
        m.wait_for("entries are only in the spool", |m| m.status("--system")["at_risk"].as_u64() > Some(100));
        m.does("dpkg -r ipc-pipeline");
        m.does("test -s /dev/shm/ipc-pipeline.spool -a -e /dev/mqueue/ipc-pipeline.log && ipcs -q | grep _ipc-stat");
        m.does("dpkg -P ipc-pipeline");
        assert_eq!(
            m.does("ls /dev/shm /dev/mqueue; ipcs -q | grep _ipc- || true").trim(),
            "/dev/mqueue:\n\n/dev/shm:"
        );
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

/// A drop-in for a source: a program that gives numbers only if it may do all this, and the lines that let it. What DevicePolicy=
/// and DeviceAllow= still forbid cannot be seen in a container, where systemd has no say about devices.
struct ForSource {
    name: &'static str,
    may: &'static str,
    lines: &'static [&'static str],
}

const FOR_SOURCES: [ForSource; 4] = [
    ForSource {
        name: "serial",
        may: "test -r /dev/ttyUSB0",
        lines: &["PrivateDevices=", "SupplementaryGroups="],
    },
    ForSource {
        name: "i2c",
        may: "test -r /dev/i2c-1 && test -w /dev/i2c-1",
        lines: &["PrivateDevices=", "SupplementaryGroups="],
    },
    ForSource {
        name: "iio-buffer",
        may: "test -r /dev/iio:device0 && ! grep -q ' /proc/irq ro' /proc/self/mountinfo",
        lines: &["PrivateDevices=", "ProtectKernelTunables="],
    },
    ForSource {
        name: "command",
        // Memory to write into and to run; another process; a priority.
        may: "perl -e 'exit(syscall(9,0,4096,7,0x22,-1,0)<0)' && test -e /proc/1/status && renice -n 1 -p $$",
        lines: &["MemoryDenyWriteExecute=", "ProtectProc=", "SystemCallFilter="],
    },
];

/// Stand-ins of devices; the group is from the package i2c-tools.
const DEVICES: &str = "groupadd --system i2c && cd /dev && mkfifo -m 660 ttyUSB0 i2c-1 iio:device0 \
                       && chgrp dialout ttyUSB0 && chgrp i2c i2c-1 && chgrp ipc-pipeline iio:device0 \
                       && { umount /proc/irq || true; } && mount --bind /proc/irq /proc/irq";
const FROM_A_PROGRAM: &str = "[source]\nkind = \"command\"\ncommand = [\"sh\", \"/opt/source\"]\n\
                              [conv]\nrate = \"max\"\n[log]\nsync = \"10ms\"\n";
const DROP_INS: &str = "/etc/systemd/system/ipc-conv.service.d";

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn each_drop_in_allows_what_it_says_and_no_less_will_do() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does(DEVICES);
        start(&mut m, FAST);
        m.write("/etc/ipc-pipeline/pipeline.toml", FROM_A_PROGRAM);
        FOR_SOURCES.iter().for_each(|drop_in| for_a_source(&mut m, drop_in));
        m.write("/etc/ipc-pipeline/pipeline.toml", FAST);
        for name in ["network", "loopback", "realtime"] {
            install_drop_in(&m, name);
            m.does("systemctl daemon-reload && systemctl restart ipc-conv");
            samples_come(&mut m, name);
        }
        real_time(&mut m);
        stop(&mut m);
        network(&mut m);
    });
}

/// In place of any other.
fn install_drop_in(m: &Machine, name: &str) {
    m.does(&format!(
        "rm -rf {DROP_INS} && mkdir -p {DROP_INS} && cp /usr/share/doc/ipc-pipeline/drop-ins/{name}.conf {DROP_INS}/"
    ));
}

fn durable(m: &Machine) -> u64 {
    m.status("--system")["durable"].as_u64().unwrap()
}

fn samples_come(m: &mut Machine, what: &str) {
    let before = durable(m);
    m.wait_for(what, |m| durable(m) > before + 50);
}

/// Some entries tell of the new life of conv and its source; samples would be far more.
fn no_samples_come(m: &Machine, what: &str) {
    m.does("systemctl daemon-reload && systemctl restart ipc-conv");
    let (before, begun) = (durable(m), Instant::now());
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(durable(m) < before + 30, "{what}");
    }
}

fn for_a_source(m: &mut Machine, drop_in: &ForSource) {
    let name = drop_in.name;
    m.write("/opt/source", &format!("{{ {}; }} >&2 && while echo 7; do sleep 0.01; done\n", drop_in.may));
    m.does(&format!("rm -rf {DROP_INS}"));
    no_samples_come(m, &format!("{name}.conf is not needed"));
    install_drop_in(m, name);
    m.does("systemctl daemon-reload && systemctl restart ipc-conv");
    samples_come(m, name);
    for line in drop_in.lines {
        install_drop_in(m, name);
        m.does(&format!(
            "grep -q '^{line}' {DROP_INS}/{name}.conf && sed -i '/^{line}/d' {DROP_INS}/{name}.conf"
        ));
        no_samples_come(m, &format!("{line} of {name}.conf is not needed"));
    }
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
