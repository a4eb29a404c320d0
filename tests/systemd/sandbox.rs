//! Each line of the sandbox keeps something out: a probe that is run under the unit as it is fails, and with the line taken out it
//! succeeds. And what systemd itself thinks of the units.
#![forbid(unsafe_code)]

use crate::machine::Machine;
use crate::{ROLES, on_both};

/// What a line of the sandbox forbids.
struct Claim {
    /// The line, or its beginning.
    line: &'static str,
    /// Other lines that forbid the same; they are taken out, too, on both sides.
    beside: &'static [&'static str],
    /// What the probe needs to be worth something, on both sides.
    given: &'static str,
    /// Shell that succeeds if the forbidden can be done.
    probe: &'static str,
}

const fn claim(line: &'static str, probe: &'static str) -> Claim {
    Claim { line, beside: &[], given: "", probe }
}

const NICE: &str = "CapabilityBoundingSet=CAP_SYS_NICE\nAmbientCapabilities=CAP_SYS_NICE\n";

/// Of all four services, and of the objects service, as far as it has the line.
const CLAIMS: &[Claim] = &[
    claim("CapabilityBoundingSet=", "grep -q '^CapBnd:.*[1-9a-f].......$' /proc/self/status"),
    Claim {
        line: "NoNewPrivileges=",
        // systemd sets it for each of these, as the kernel demands it.
        beside: &[
            "SystemCall",
            "MemoryDeny",
            "RestrictAddress",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "LockPersonality",
            "PrivateDevices",
            "ProtectClock",
            "ProtectHostname",
            "ProtectKernel",
        ],
        given: "User=_ipc-conv\n",
        probe: "grep -q '^NoNewPrivs:.*0' /proc/self/status",
    },
    claim("PrivateDevices=", "test -e /dev/theirs"),
    claim("PrivateNetwork=", "test $(readlink /proc/self/ns/net) = $(cat /opt/probe/net)"),
    claim("PrivateTmp=", "test -e /tmp/theirs"),
    Claim {
        line: "ProtectClock=",
        beside: &["SystemCallFilter=", "SystemCallErrorNumber="],
        given: "",
        // adjtimex, which asks and sets nothing.
        probe: "perl -e '$b=\"\\0\" x 208; exit(syscall(159,$b)<0)'",
    },
    claim(
        "ProtectControlGroups=",
        "grep -q ' /sys/fs/cgroup\\(/systemd\\|/unified\\)\\? rw' /proc/self/mountinfo",
    ),
    claim("ProtectHome=", "test -e /home/theirs"),
    claim("ProtectHostname=", "test $(readlink /proc/self/ns/uts) = $(cat /opt/probe/uts)"),
    claim("ProtectKernelLogs=", "test $(stat -c %a /proc/kmsg) != 0"),
    claim("ProtectKernelModules=", "test -e /usr/lib/modules/theirs"),
    claim("ProtectKernelTunables=", "! grep -q ' /proc/irq ro' /proc/self/mountinfo"),
    claim("ProtectProc=", "test -e /proc/1/status"),
    claim("ProtectSystem=", "touch /opt/theirs/x"),
    claim("ReadOnlyPaths=", "touch /run/theirs/x"),
    Claim {
        line: "IPAddressDeny=",
        beside: &["RestrictAddressFamilies=", "PrivateNetwork="],
        given: "",
        probe: "perl -MSocket -e 'socket S,AF_INET,SOCK_DGRAM,0; exit !send S,\"x\",0,sockaddr_in(9,INADDR_LOOPBACK)'",
    },
    claim("LockPersonality=", "setarch -R true"),
    claim("MemoryDenyWriteExecute=", "perl -e 'exit(syscall(9,0,4096,7,0x22,-1,0)<0)'"),
    claim("RestrictAddressFamilies=", "perl -MSocket -e 'exit !socket S,AF_INET,SOCK_DGRAM,0'"),
    claim("RestrictNamespaces=", "unshare --user true"),
    Claim {
        line: "RestrictRealtime=",
        beside: &["SystemCallFilter=", "SystemCallErrorNumber=", "CapabilityBoundingSet="],
        given: NICE,
        probe: "chrt -f 1 true",
    },
    claim("RestrictSUIDSGID=", "touch /dev/shm/theirs.$$; chmod 4755 /dev/shm/theirs.$$"),
    // Of another architecture is a number of x32: without the filter the kernel says that it has no such call.
    claim("SystemCallArchitectures=", "perl -e 'syscall 0x40000027; exit 0'"),
    // ptrace(PTRACE_TRACEME).
    claim("SystemCallFilter=@system-service", "perl -e 'exit(syscall(101,0,0,0,0)<0)'"),
    Claim {
        line: "SystemCallFilter=~",
        beside: &["CapabilityBoundingSet="],
        given: NICE,
        probe: "renice -n -1 -p $$",
    },
    // Without it who calls what is forbidden is killed, instead of being told so.
    claim("SystemCallErrorNumber=", "renice -n 1 -p $$; test $? -gt 128"),
    claim("UMask=", "touch /dev/shm/theirs.$$; test $(stat -c %a /dev/shm/theirs.$$) != 600"),
    claim("User=", "test $(id -u) = 0"),
    claim("Group=", "test $(id -gn) != ipc-pipeline"),
];

/// What the probes look for.
const PREPARE: &str = "mkdir -p /opt/probe /opt/theirs /run/theirs /home/theirs /usr/lib/modules/theirs \
     && chmod 777 /opt/theirs /run/theirs && touch /dev/theirs /tmp/theirs \
     && readlink /proc/1/ns/net >/opt/probe/net && readlink /proc/1/ns/uts >/opt/probe/uts \
     && { umount /proc/irq || true; } && mount --bind /proc/irq /proc/irq";

/// Of a service these lines say how it runs; the probe runs otherwise.
const OF_THE_RUN: [&str; 14] = [
    "Type=",
    "NotifyAccess=",
    "Exec",
    "Restart=",
    "RestartSec=",
    "RestartPrevent",
    "WatchdogSec=",
    "LimitMSGQUEUE=",
    "Timeout",
    "StateDirectory",
    "SupplementaryGroups=",
    "RemainAfterExit=",
    "ReadWritePaths=",
    "#",
];

/// The lines of a unit's sandbox.
fn sandbox(text: &str) -> Vec<&str> {
    let (_, service) = text.split_once("[Service]\n").unwrap();
    service
        .lines()
        .filter(|line| !line.is_empty() && !OF_THE_RUN.iter().any(|run| line.starts_with(run)))
        .collect()
}

fn is_one_of(line: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| line.starts_with(beginning))
}

/// Makes a service that tries it under these lines.
fn make_probe(m: &Machine, name: &str, lines: &[&str], claim: &Claim) {
    m.write(&format!("/opt/probe/{name}"), claim.probe);
    let service =
        lines.iter().filter(|line| !is_one_of(line, claim.beside)).copied().collect::<Vec<_>>().join("\n");
    let text =
        format!("[Service]\nType=oneshot\n{service}\n{}ExecStart=/bin/sh /opt/probe/{name}\n", claim.given);
    m.write(&format!("/etc/systemd/system/{name}.service"), &text);
}

/// Could it be done?
fn can(m: &Machine, name: &str) -> bool {
    let done = m.run(&format!("systemctl start {name}.service")).status.success();
    let code: u32 = m.property(name, "ExecMainStatus").parse().unwrap();
    // These are of systemd itself, which could not set it up.
    assert!(!(200..300).contains(&code), "{name}: the probe was not run: {code}");
    done
}

/// Why this line cannot be tried in this container.
fn hindrance(m: &Machine, claim: &Claim) -> Option<&'static str> {
    let is_v2 = m.run("test -e /sys/fs/cgroup/cgroup.controllers").status.success();
    (claim.line == "IPAddressDeny=" && !is_v2)
        .then_some("systemd filters addresses only with cgroups of version 2")
}

/// Can it be done under the unit as it is, with what stands beside the line taken out, and without the line? Only the last may be.
fn each_line_is_needed(m: &Machine, unit: &str) -> Vec<String> {
    let text = std::fs::read_to_string(m.path(&format!("/usr/lib/systemd/system/{unit}"))).unwrap();
    let (lines, mut tried) = (sandbox(&text), Vec::new());
    for (n, line) in lines.iter().enumerate() {
        let Some(claim) = CLAIMS.iter().find(|claim| line.starts_with(claim.line)) else {
            panic!("{unit}: nothing here shows what {line} is for");
        };
        if let Some(why) = hindrance(m, claim) {
            println!("{unit}: {line} is not tried: {why}");
            continue;
        }
        let without: Vec<&str> = lines.iter().filter(|other| *other != line).copied().collect();
        let names = ["whole", "alone", "without"].map(|kind| format!("probe-{n}-{kind}"));
        // What stands beside it is taken out only to see what this line does alone.
        make_probe(m, &names[0], &lines, &Claim { beside: &[], given: "", ..*claim });
        make_probe(m, &names[1], &lines, claim);
        make_probe(m, &names[2], &without, claim);
        tried.push((line, names));
    }
    m.does("systemctl daemon-reload");
    let seen = tried.into_iter().map(|(line, names)| (line, names.map(|name| can(m, &name))));
    seen.filter(|(_, seen)| *seen != [false, false, true])
        .map(|(line, seen)| format!("{unit}: {line}: {seen:?}"))
        .collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn each_line_of_the_sandbox_keeps_something_out() {
    on_both(|release| {
        let m = Machine::with_package(release);
        m.does(PREPARE);
        // The sandboxes of the four are the same: tests/units.rs.
        for unit in ["ipc-conv.service", "ipc-pipeline-objects.service"] {
            let wrong = each_line_is_needed(&m, unit);
            assert!(wrong.is_empty(), "{release}: {wrong:#?}");
        }
        judged_by_systemd(&m);
    });
}

/// In tenths, as `systemd-analyze security` counts.
fn exposure_limit(role: &str) -> u32 {
    if ["stat", "report"].contains(&role) { 8 } else { 10 }
}

fn judged_by_systemd(m: &Machine) {
    let units = "/usr/lib/systemd/system/ipc-*";
    let said = m.does(&format!(
        "systemd-analyze verify --man=no $(ls {units} | grep -v @) $(ls {units} | grep @ | sed 's/@/@x/') 2>&1"
    ));
    assert_eq!(said, "", "systemd-analyze verify is silent");
    for role in ROLES {
        for unit in [format!("ipc-{role}.service"), format!("ipc-{role}@x.service")] {
            let said = m.does(&format!(
                "systemd-analyze security --no-pager --threshold={} {unit}",
                exposure_limit(role)
            ));
            println!("{}", said.lines().last().unwrap_or_default());
        }
    }
    for name in ["serial", "i2c", "iio-buffer", "command", "network", "loopback", "realtime"] {
        m.does(&format!(
            "rm -rf /etc/systemd/system/ipc-conv.service.d && mkdir -p /etc/systemd/system/ipc-conv.service.d \
             && cp /usr/share/doc/ipc-pipeline/drop-ins/{name}.conf /etc/systemd/system/ipc-conv.service.d/ && systemctl daemon-reload"
        ));
        // As in tests/package.rs.
        let said = m.does("systemd-analyze security --no-pager --threshold=15 ipc-conv.service");
        println!("{name}: {}", said.lines().last().unwrap_or_default());
        assert_eq!(m.does("systemd-analyze verify --man=no ipc-conv.service 2>&1"), "", "{name}");
    }
    m.does("rm -r /etc/systemd/system/ipc-conv.service.d && systemctl daemon-reload");
}

/// Is this line one of those that are shown here to be needed?
pub fn is_claimed(line: &str) -> bool {
    CLAIMS.iter().any(|claim| line.starts_with(claim.line))
}
