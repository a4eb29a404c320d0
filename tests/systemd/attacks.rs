//! T10: an unprivileged user against the pipeline of the machine; in the group, which may look, and outside of it, which may not
//! even that. Before its first start, while it runs, stopped, and after a reboot.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::attack_list::{ALL_QUEUES, ALL_SYSV, ATTACKS, Attack, QUEUE_SQUATS, SQUATS, SQUATTED, Success};
use crate::edges::over;
use crate::machine::Machine;
use crate::{ROLES, on_both, size, start, stop, unit};

const USERS: [&str; 2] = ["stranger", "member"];
const STATES: [&str; 4] = ["never started", "running", "stopped", "rebooted"];
/// All that the daemons can listen at: first these, after the reboot the others.
const FIRST: [&str; 3] = ["mq:", "sysv:", "fifo:"];
const OTHERS: [&str; 3] = ["unix:", "fifo:", "mq:"];

/// What came of each attack (row) in each state (column).
#[derive(Default)]
struct Results {
    rows: BTreeMap<&'static str, [BTreeSet<String>; 4]>,
    succeeded: Vec<String>,
}

impl Results {
    fn note(&mut self, attack: &'static str, state: &str, result: &str) {
        let column = STATES.iter().position(|name| *name == state).unwrap();
        self.rows.entry(attack).or_default()[column].insert(result.to_owned());
    }

    fn judge(&mut self, attack: &'static str, state: &str, user: &str, result: Result<&str, ()>) {
        self.note(attack, state, result.unwrap_or("SUCCEEDED"));
        if result.is_err() {
            self.succeeded.push(format!("{attack} ({state}, by a {user})"));
        }
    }

    /// The table, and no attack that succeeded.
    fn show(self, release: &str) {
        let line = |name: &str, cells: [String; 4]| {
            let [a, b, c, d] = cells;
            format!("{name:<40} {a:<28} {b:<28} {c:<28} {d}\n")
        };
        let mut table = line(release, STATES.map(str::to_owned));
        for (attack, cells) in &self.rows {
            let joined = |cell: &BTreeSet<String>| cell.iter().cloned().collect::<Vec<_>>().join(", ");
            table += &line(attack, cells.each_ref().map(joined));
        }
        println!("{table}{release}: {} attacks, by a stranger and by a member of the group", self.rows.len());
        assert!(
            self.rows.len() >= 60 && self.succeeded.is_empty(),
            "attacks succeeded: {:#?}",
            self.succeeded
        );
    }
}

/// Before each line: what its words mean. Of a process that is not there, a number that nobody has: `kill 0` would mean the attacker.
const WORDS: &str = "S=/dev/shm/ipc-pipeline Q=/dev/mqueue/ipc-pipeline R=/run/ipc-pipeline L=/var/lib/ipc-pipeline\n\
     for d in conv log stat report; do eval $d=$(pidof ipc-$d || echo 4194000); done\n";
/// The same for System V queues. Everybody sees in /proc which there are, and whose.
const NUMBERS: &str = "ours=,$(id -u _ipc-log),$(id -u _ipc-stat),$(id -u _ipc-report),\n\
     sysv=$(awk -v ours=$ours 'NR>1 && index(ours, \",\" $8 \",\") {print $2}' /proc/sysvipc/msg)\n\
     sysv=${sysv:-2147483647}\n";

fn line_of(line: &str) -> String {
    let numbers = if line.contains("$sysv") { NUMBERS } else { "" };
    format!("{WORDS}{numbers}{line}")
}

fn attacked(m: &mut Machine, state: &str, user: &str, attack: &Attack, results: &mut Results) {
    let (name, line, success) = attack;
    let is_running = ["running", "rebooted"].contains(&state);
    let done = m.run(&Machine::as_user(user, &line_of(line))).status.success();
    let result = match success {
        Success::ForStrangers if user == "member" => Ok(if done { "may look" } else { "nothing there" }),
        // A name in shared memory is everybody's while nobody has it: what is made there is a squat, and taken back.
        Success::Done if !is_running && (line.contains("${S}") || line.contains("${Q}")) => {
            Ok("nothing there")
        }
        Success::Done | Success::ForStrangers if done => Err(()),
        Success::Done | Success::ForStrangers => Ok("refused"),
        Success::If(harm) if is_running && m.run(harm).status.success() => Err(()),
        Success::If(_) | Success::Noticed => Ok("no effect"),
    };
    if is_running {
        let before = m.status("--system")["durable"].as_u64();
        m.wait_for(&format!("samples go on after: {name}"), |m| {
            m.status("--system")["durable"].as_u64() > before
        });
    }
    results.judge(name, state, user, result);
}

fn all_attacks(m: &mut Machine, state: &str, results: &mut Results) {
    let lives = |m: &Machine| ROLES.map(|role| m.property(&unit(role), "NRestarts"));
    let before = lives(m);
    // While nothing runs, half of it, by turns, will do for every day.
    let users = if m.main_pid("ipc-log.service") > 0 { USERS.len() } else { size(1, USERS.len()) };
    for (n, attack) in ATTACKS.iter().enumerate() {
        USERS.iter().cycle().skip(n).take(users).for_each(|user| attacked(m, state, user, attack, results));
    }
    assert_eq!(lives(m), before, "{state}: no daemon was made to end");
    tidy_up(m);
}

/// What is a user's and would be in the way of the next state; ours is not touched.
fn tidy_up(m: &Machine) {
    m.does("find /dev/shm /dev/mqueue /tmp -mindepth 1 \\( -user stranger -o -user member \\) -delete");
    for user in USERS {
        m.does(&Machine::as_user(user, "ipcrm --all; true"));
    }
}

/// The squats of one round, as lines of shell: half of all kinds, each at a name of its own.
fn squats(round: usize) -> impl Iterator<Item = (&'static str, String)> {
    let half = SQUATTED.len();
    let chosen = SQUATS.iter().skip(round % 2 * half).take(half).enumerate();
    let files = chosen.map(move |(n, (kind, line))| {
        let place = SQUATTED[(n + round) % half];
        (*kind, format!("X=/dev/shm/ipc-pipeline.{place}\n{line}"))
    });
    let (kind, line) = QUEUE_SQUATS[round % QUEUE_SQUATS.len()];
    files.chain([(kind, format!("N=ipc-pipeline.log X=/dev/mqueue/ipc-pipeline.log\n{line}"))])
}

/// Squats our names, starts, and looks that each is ours again.
fn squat_and_start(m: &mut Machine, state: &str, round: usize, results: &mut Results) {
    for (n, (kind, line)) in squats(round).enumerate() {
        m.does(&Machine::as_user(USERS[n % 2], &line));
        results.note(kind, state, "taken back");
    }
    start(m, &over(FIRST));
    ours_again(m);
}

fn ours_again(m: &mut Machine) {
    let owners = [
        ("spool", "conv"),
        ("snapshot", "stat"),
        ("page.conv", "conv"),
        ("page.log", "log"),
        ("page.stat", "stat"),
        ("page.report", "report"),
    ];
    for (object, role) in owners {
        m.wait_for(&format!("{object} belongs to {role}"), |m| {
            let seen = m.run(&format!("stat -c '%U %G %a %F' /dev/shm/ipc-pipeline.{object}")).stdout;
            String::from_utf8_lossy(&seen).trim() == format!("_ipc-{role} ipc-pipeline 640 regular file")
        });
    }
    assert_eq!(
        m.does("stat -c '%U %G %a %n' /dev/mqueue/ipc-pipeline.log").trim(),
        "_ipc-log _ipc-conv 620 /dev/mqueue/ipc-pipeline.log"
    );
    m.does("test -s /etc/passwd && test ! -e /var/lib/ipc-pipeline/evil && ipc-pipeline verify --system");
}

/// Squats by a service that is started at boot, before ours.
fn squat_at_boot(m: &mut Machine, round: usize, results: &mut Results) {
    let mut unit = "[Unit]\nBefore=ipc-pipeline-objects.service\n[Service]\nType=oneshot\nUser=stranger\nKillMode=none\n".to_owned();
    for (n, (kind, line)) in squats(round).enumerate() {
        m.write(&format!("/opt/squat{n}"), &line);
        unit += &format!("ExecStart=-/bin/sh /opt/squat{n}\n");
        results.note(kind, "rebooted", "taken back");
    }
    m.write("/etc/systemd/system/squatter.service", &(unit + "[Install]\nWantedBy=multi-user.target\n"));
    m.does("systemctl daemon-reload && systemctl enable squatter.service");
    m.power_off();
    m.boot();
    assert_eq!(m.property("squatter.service", "ExecMainStatus"), "0", "it was there first");
    samples_go_on(m);
    ours_again(m);
}

fn squats_while_running(m: &mut Machine, state: &str, results: &mut Results) {
    for round in 0..QUEUE_SQUATS.len() {
        for (kind, line) in squats(round) {
            let done = m.run(&Machine::as_user("member", &line)).status.success();
            results.judge(kind, state, "member", if done { Err(()) } else { Ok("refused") });
        }
    }
    tidy_up(m);
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn no_attack_of_an_unprivileged_user_succeeds() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        let mut results = Results::default();
        m.does("useradd -m member && usermod -a -G ipc-pipeline member && useradd -m stranger");
        all_attacks(&mut m, "never started", &mut results);
        for round in 0..2 {
            m.does("dpkg -P ipc-pipeline 2>/dev/null; groupadd -f --system ipc-pipeline");
            m.install();
            squat_and_start(&mut m, "never started", round, &mut results);
            if round == 0 {
                stop(&mut m);
            }
        }
        all_attacks(&mut m, "running", &mut results);
        squats_while_running(&mut m, "running", &mut results);
        stop(&mut m);
        all_attacks(&mut m, "stopped", &mut results);
        for round in 2..4 {
            squat_and_start(&mut m, "stopped", round, &mut results);
            stop(&mut m);
        }
        for round in 4..6 {
            squat_at_boot(&mut m, round, &mut results);
        }
        squats_while_running(&mut m, "rebooted", &mut results);
        stop(&mut m);
        start(&mut m, &over(OTHERS));
        all_attacks(&mut m, "rebooted", &mut results);
        stop(&mut m);
        sharpness(&mut m);
        results.show(release);
    });
}

/// These change the machine for good.
const FOR_GOOD: [&str; 9] = [
    "remove the record",
    "rename the state directory",
    "rename the run directory",
    "remove a lock",
    "stop the target",
    "mask a service",
    "change a service",
    "another configuration",
    "another program",
];

/// What is refused to others works for the superuser, else the line proves nothing. Refused to all are daemons that run twice,
/// locks that are held, and what needs a pipeline that is stopped.
fn sharpness(m: &mut Machine) {
    let tried = |attack: &&Attack| {
        matches!(attack.2, Success::Done | Success::ForStrangers) && !FOR_GOOD.contains(&attack.0)
    };
    let mut blunt: Vec<&Attack> = ATTACKS.iter().filter(tried).collect();
    for edges in [FIRST, OTHERS] {
        m.write("/etc/ipc-pipeline/pipeline.toml", &over(edges));
        blunt.retain(|(_, line, _)| {
            m.does("systemctl start ipc-pipeline.target");
            m.wait_for("all run", |m| ROLES.iter().all(|role| m.main_pid(&unit(role)) > 0));
            !m.run(&line_of(line)).status.success()
        });
        m.does("systemctl stop ipc-pipeline.target");
    }
    let blunt: Vec<&str> = blunt.iter().map(|(name, _, _)| *name).collect();
    println!("refused to the superuser, too: {blunt:?}");
    assert!(blunt.len() * 5 < ATTACKS.len(), "too many lines prove nothing");
}

/// What a stranger can use up: all memory that is shared, all names in it, all queues of either kind.
const FILLS: [&str; 4] = [
    "cat /dev/zero >/dev/shm/theirs; true",
    "n=0; while touch /dev/shm/theirs.$n; do n=$((n + 1)); done; true",
    ALL_QUEUES,
    ALL_SYSV,
];

fn empty(m: &Machine) {
    m.does("find /dev/shm /dev/mqueue -user stranger -delete");
    m.does(&Machine::as_user("stranger", "ipcrm --all=msg; true"));
}

#[track_caller]
fn samples_go_on(m: &mut Machine) {
    let before = m.status("--system")["durable"].as_u64();
    m.wait_for("samples go on", |m| m.status("--system")["durable"].as_u64() > before);
}

/// What is there already has its place, so nothing stops; what is new cannot be made, which is said, and goes on by itself as
/// soon as there is room.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn what_a_stranger_uses_up_is_said_and_survived() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        m.does("useradd -m stranger && mount -o remount,size=16M,nr_inodes=200 /dev/shm");
        for fill in FILLS.map(|line| Machine::as_user("stranger", line)) {
            start(&mut m, &over(FIRST));
            m.does(&fill);
            for role in ROLES {
                m.does(&format!("systemctl kill -s KILL ipc-{role}.service"));
                samples_go_on(&mut m);
            }
            m.does("rm /dev/shm/ipc-pipeline.page.stat");
            m.does(&fill);
            samples_go_on(&mut m);
            empty(&m);
            m.wait_for("the page is back", |m| {
                m.run("test -s /dev/shm/ipc-pipeline.page.stat").status.success()
            });
            stop(&mut m);

            m.does(&fill);
            m.run("timeout 10 systemctl start --no-block ipc-pipeline.target");
            m.wait_for("it is said", |m| {
                m.does("journalctl -u 'ipc-*' -p warning -o cat --since=-1min")
                    .contains("No space left on device")
            });
            empty(&m);
            samples_go_on(&mut m);
            stop(&mut m);
            m.does("rm -rf /var/lib/ipc-pipeline/log /var/lib/ipc-pipeline/stat && journalctl --rotate && journalctl --vacuum-time=1s");
        }
    });
}

/// What stands behind @ ends up in names of files: none of these does, whoever starts them.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn instances_with_evil_names_are_refused() {
    on_both(|release| {
        let m = Machine::with_package(release);
        m.does("find / -xdev -not -path '/proc/*' -not -path '/var/log/*' -not -path '/run/*' -not -path '*/systemd-private-*' | sort >/opt/before");
        for name in [
            "..-..-tmp-x",
            "..%%2f..%%2ftmp",
            "\\x2e\\x2e",
            "a.b",
            "a b",
            "\\x24(touch -tmp-x)",
            &"n".repeat(33),
        ] {
            for service in ["ipc-conv", "ipc-log", "ipc-stat", "ipc-report"] {
                m.refuses(&format!("systemctl start '{service}@{name}.service'; systemctl is-active '{service}@{name}.service'"));
            }
            // This one stays active whatever it could not make, so that its end removes what others have made since.
            m.run(&format!("systemctl start 'ipc-pipeline-objects@{name}.service'"));
        }
        // systemd itself makes the state directory of an instance, whatever its name; it has no slash, so it lies where it should.
        let new = m.does(
            "find / -xdev -not -path '/proc/*' -not -path '/var/log/*' -not -path '/run/*' -not -path '*/systemd-private-*' | sort | diff /opt/before - \
             | grep '^>' | grep -v '> /opt/' | grep -Ev '^> /var/lib/ipc-pipeline/@[^/]+(/log|/stat)?$' || true",
        );
        assert_eq!(new, "", "{release}: no file was made");
        assert_eq!(m.does("ls /dev/shm"), "");
    });
}
