//! Events that raise the messages of the journal, one after the other on one machine.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use ipc_pipeline::messages::Message;

use crate::machine::Machine;
use crate::{FAST, ROLES, unit};

const RECORD: &str = "/var/lib/ipc-pipeline/log";
/// A small disk for it.
const SMALL: &str = "-t tmpfs -o size=512k,mode=750,uid=_ipc-log,gid=ipc-pipeline none";

/// All of them.
pub fn play_all(m: &mut Machine) {
    for scene in [
        trouble_with_everything_around,
        sources,
        lives,
        names,
        spools,
        records,
        disks,
        disks_that_fail,
        a_clock_that_is_set,
        a_panic,
        by_hand,
        a_journal_that_does_not_read,
    ] {
        scene(m);
        at_rest(m);
    }
}

/// Stopped, with nothing left of what was.
fn at_rest(m: &Machine) {
    let all = ROLES.map(unit).join(" ");
    m.run(&format!(
        "systemctl stop 'by-hand*' ipc-pipeline.target {all} ipc-pipeline-objects.service; systemctl reset-failed; \
         umount {RECORD}; rm -rf /dev/shm/ipc-pipeline* {RECORD} /var/lib/ipc-pipeline/stat"
    ));
}

fn begin(m: &mut Machine, config: &str) {
    m.write("/etc/ipc-pipeline/pipeline.toml", config);
    m.does("systemctl start ipc-pipeline.target");
}

fn count(m: &Machine, message: Message) -> usize {
    m.does(&format!("journalctl -o cat -q MESSAGE_ID={}", message.id())).lines().count()
}

/// Waits until it was said, if it will be: who calls all the scenes looks for all messages, and tells which are missing.
fn said(m: &mut Machine, message: Message) {
    let begun = Instant::now();
    while count(m, message) == 0 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn all_said<const N: usize>(m: &mut Machine, messages: [Message; N]) {
    messages.into_iter().for_each(|message| said(m, message));
}

#[track_caller]
fn samples_go_on(m: &mut Machine) {
    let before = m.status("--system")["durable"].as_u64();
    m.wait_for("samples go on", |m| m.status("--system")["durable"].as_u64() > before);
}

/// A source with bad lines, alarms with a command that fails, a text file that cannot be, a priority that is refused.
fn trouble_with_everything_around(m: &mut Machine) {
    m.write(
        "/opt/source",
        "echo hello >&2\nwhile :; do echo 5; sleep 0.3; echo 50; echo x; sleep 0.3; done\n",
    );
    begin(
        m,
        "[source]\nkind = \"command\"\ncommand = [\"sh\", \"/opt/source\"]\non_bad = \"skip\"\n\
         [conv]\nrate = \"max\"\nrealtime = 50\n[log]\nsync = \"10ms\"\ntext = \"/nowhere/x\"\n\
         [report]\ncommand = [\"false\"]\n[[channel]]\nname = \"v\"\nhigh = 10\n",
    );
    all_said(
        m,
        [
            Message::Started,
            Message::RecordOpened,
            Message::EpochBegins,
            Message::Line,
            Message::ProgramSaid,
            Message::BadInput,
            Message::AlarmBegins,
            Message::AlarmOver,
            Message::CommandFailed,
            Message::TextTrouble,
            Message::RealtimeRefused,
        ],
    );
    m.does("systemctl stop ipc-pipeline.target");
    said(m, Message::Ended);
}

/// A sensor that is away for a while, a source that ends at a bad line, a wrong configuration.
fn sources(m: &mut Machine) {
    m.write("/opt/value", "7\n");
    let poll = "[source]\nkind = \"poll\"\nfiles = [\"/opt/value\"]\n";
    begin(m, &format!("{poll}{FAST}").replace("1 kHz", "100 Hz"));
    samples_go_on(m);
    m.does("mv /opt/value /opt/away");
    said(m, Message::SourceTrouble);
    m.does("mv /opt/away /opt/value");
    said(m, Message::SourceBack);
    m.write("/opt/lines", "1\n2\nthree\n");
    m.write(
        "/etc/ipc-pipeline/pipeline.toml",
        "[source]\nkind = \"lines\"\npath = \"/opt/lines\"\n[conv]\nrate = \"max\"\n",
    );
    at_rest(m);
    m.run("systemctl start ipc-pipeline.target");
    said(m, Message::InputRefused);
    m.does("systemctl stop ipc-conv.service");
    m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
    m.run("systemctl restart ipc-report.service");
    said(m, Message::ConfigRefused);
}

/// Kills and freezes.
fn lives(m: &mut Machine) {
    m.write("/etc/ipc-pipeline/pipeline.toml", FAST);
    m.does("systemctl start ipc-report.service");
    said(m, Message::Waiting);
    begin(m, FAST);
    samples_go_on(m);
    m.does("systemctl reload ipc-report.service");
    said(m, Message::ConfigReadAgain);
    m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
    m.does("systemctl kill -s USR1 ipc-stat.service");
    said(m, Message::ConfigNotTaken);
    m.write("/etc/ipc-pipeline/pipeline.toml", FAST);
    m.does("systemctl kill -s KILL ipc-conv.service");
    all_said(m, [Message::CutShort, Message::Resumed, Message::TicksMissed]);
    samples_go_on(m);
    m.does("systemctl kill -s STOP ipc-stat.service");
    said(m, Message::Watchdog);
    m.does("systemctl stop ipc-log.service");
    said(m, Message::LogGone);
    m.does("systemctl start ipc-log.service");
    said(m, Message::LogBack);
    m.wait_for("a kill between two marks", |m| {
        m.run("systemctl kill -s KILL ipc-log.service; sleep 0.4");
        count(m, Message::Recovered) > 0
    });
}

/// Names that are deleted or taken while the daemons run.
fn names(m: &mut Machine) {
    begin(m, FAST);
    samples_go_on(m);
    m.does("rm /dev/shm/ipc-pipeline.spool");
    said(m, Message::ObjectRepaired);
    // Again if stat was quicker than we.
    m.does("cd /dev/shm; until rm ipc-pipeline.page.stat && mkdir ipc-pipeline.page.stat; do :; done");
    said(m, Message::ObjectTrouble);
    m.does("rm /run/ipc-pipeline/report.lock");
    said(m, Message::ObjectGone);
}

/// Spools that are unusable, too small, full, left.
fn spools(m: &mut Machine) {
    let small =
        format!("[spool]\ncapacity = 256\n{FAST}").replace("[conv]", "[conv]\npolicy = \"drop-newest\"");
    begin(m, &small);
    samples_go_on(m);
    m.write("/etc/ipc-pipeline/pipeline.toml", &small.replace("256", "1024"));
    m.does("systemctl restart ipc-conv.service");
    said(m, Message::OldCapacity);
    m.does("systemctl stop ipc-log.service");
    said(m, Message::SamplesLost);
    m.does("systemctl stop ipc-conv.service");
    said(m, Message::LeftInSpool);
    m.does("systemctl start ipc-log.service && systemctl start ipc-conv.service");
    samples_go_on(m);
    m.does("systemctl stop ipc-conv.service ipc-log.service");
    m.does("head -c 4096 /dev/urandom | dd of=/dev/shm/ipc-pipeline.spool conv=notrunc status=none");
    m.does("systemctl start ipc-log.service ipc-conv.service");
    said(m, Message::SpoolUnusable);
    samples_go_on(m);
    m.does("systemctl stop ipc-log.service");
    m.wait_for("entries are only in the spool", |m| m.status("--system")["at_risk"].as_u64() > Some(100));
    damage_in_the_spool(m);
    m.does("systemctl start ipc-log.service");
    said(m, Message::DamagedInSpool);
    // A page that says another address, while its owner cannot put it right.
    m.does(
        "kill -STOP $(pidof ipc-log) && printf 'mq:/elsewhere\\0' \
         | dd of=/dev/shm/ipc-pipeline.page.log bs=1 seek=1536 conv=notrunc status=none",
    );
    said(m, Message::WrongAddress);
}

/// The tenth entry that is not durable yet (docs/formats.md says where it stands); a byte of its value.
fn damage_in_the_spool(m: &Machine) {
    let capacity: u64 = m.does("od -An -tu8 -j24 -N8 /dev/shm/ipc-pipeline.spool").trim().parse().unwrap();
    let seq = m.status("--system")["durable"].as_u64().unwrap() + 10;
    let at = 4096 + 32 * (seq % capacity) + 16;
    m.does(&format!(
        "printf '\\377\\125' | dd of=/dev/shm/ipc-pipeline.spool bs=1 seek={at} conv=notrunc status=none"
    ));
}

/// Records that are damaged, unreadable, another one, shortened.
fn records(m: &mut Machine) {
    // A small spool: what was in it long ago can be read only from the record.
    begin(m, &format!("[spool]\ncapacity = 256\n{FAST}segment = \"64KiB\"\n"));
    m.wait_for("two segments", |m| {
        m.run(&format!("test $(ls {RECORD}/*.seg | wc -l) -gt 1")).status.success()
    });
    m.does(&format!(
        "chown root {RECORD}/../stat && chmod 555 {RECORD}/../stat && systemctl stop ipc-stat.service"
    ));
    said(m, Message::CheckpointTrouble);
    m.does(&format!(
        "rm -f {RECORD}/../stat/*; chmod 600 {RECORD}/0*1.seg; systemctl start ipc-stat.service"
    ));
    said(m, Message::RecordUnreadable);
    m.does(&format!("chmod 640 {RECORD}/*.seg; systemctl stop ipc-stat.service; rm -f {RECORD}/../stat/*"));
    // The entry of seq 100 or so; the file begins with its header.
    m.does(&format!(
        "printf x | dd of=$(ls {RECORD}/*.seg | head -n 1) bs=1 seek=7205 conv=notrunc status=none"
    ));
    m.does("systemctl start ipc-stat.service");
    said(m, Message::Damaged);
    m.does("systemctl stop ipc-conv.service ipc-log.service");
    m.does(&format!("mv {RECORD} /var/lib/ipc-pipeline/old"));
    m.does("systemctl start ipc-log.service ipc-conv.service");
    said(m, Message::ForeignRecord);
    m.does(
        "systemctl stop ipc-conv.service; rm /dev/shm/ipc-pipeline.spool; systemctl start ipc-conv.service",
    );
    said(m, Message::StatisticsAnew);
    m.does("rm -rf /var/lib/ipc-pipeline/old");
    at_rest(m);
    let short = "[conv]\nrate = \"50 kHz\"\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\nkeep_size = \"1MiB\"\ncompress = true\n";
    begin(m, short);
    said(m, Message::RecordShortened);
    m.wait_for("the keeper cannot read a segment", |m| {
        m.run(&format!("chown root {RECORD}/*.seg; chmod 600 {RECORD}/*.seg"));
        count(m, Message::KeeperTrouble) > 0
    });
}

/// Disks that are full, or that refuse.
fn disks(m: &mut Machine) {
    m.does(&format!("mkdir -p {RECORD} && mount {SMALL} {RECORD}"));
    begin(m, &format!("{FAST}segment = \"64KiB\"\n"));
    samples_go_on(m);
    m.run(&format!("head -c 1M /dev/zero >{RECORD}/ballast"));
    said(m, Message::DiskFull);
    m.does(&format!("rm {RECORD}/ballast"));
    said(m, Message::DiskBack);
    at_rest(m);
    m.does(&format!("mkdir -p {RECORD} && mount {SMALL} {RECORD} && mount -o remount,ro {RECORD}"));
    m.write("/etc/ipc-pipeline/pipeline.toml", FAST);
    m.does("systemctl start --no-block ipc-pipeline.target");
    said(m, Message::DiskTrouble);
}

/// A disk that refuses what it had taken, and one that takes its time.
fn disks_that_fail(m: &mut Machine) {
    begin(m, FAST);
    samples_go_on(m);
    let before = count(m, Message::DiskTrouble);
    let failing = m.inject("ipc-log.service", "fdatasync:error=EIO");
    m.wait_for("an error", |m| count(m, Message::DiskTrouble) > before);
    drop(failing);
    said(m, Message::TakenAgain);
    samples_go_on(m);
    let slow = m.inject("ipc-log.service", "fdatasync:delay_enter=2000000");
    said(m, Message::DiskSlow);
    drop(slow);
    said(m, Message::DiskInTime);
}

/// conv comes back in a time namespace whose clock of the ticks is 3 s ahead: so the wall clock is 3 s behind it. Only from outside
/// may such a one be made.
fn a_clock_that_is_set(m: &mut Machine) {
    begin(m, FAST);
    samples_go_on(m);
    m.does("systemctl stop ipc-conv.service");
    m.does(
        "setsid systemd-cat sh -c 'JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2) exec unshare --time --monotonic 3 --boottime 3 -- \
         setpriv --reuid=_ipc-conv --regid=ipc-pipeline --init-groups -- ipc-conv --system' >/dev/null 2>&1 &",
    );
    said(m, Message::ClockStep);
    m.does("kill $(pidof ipc-conv); while pidof ipc-conv; do sleep 0.1; done");
}

/// No bug of ours is known that ends a daemon. So the standard library panics, which does so when the kernel has no memory for a
/// new thread's signal stack: the thread that reads a configuration again. With a stack that an earlier one has left nothing else
/// on its way asks for that.
fn a_panic(m: &mut Machine) {
    begin(m, FAST);
    samples_go_on(m);
    m.does("systemctl reload ipc-report.service");
    let short = m.inject("ipc-report.service", "mprotect:error=ENOMEM");
    let pid = m.main_pid("ipc-report.service");
    let begun = Instant::now();
    while m.main_pid("ipc-report.service") == pid && begun.elapsed() < Duration::from_secs(10) {
        m.run("systemctl kill -s USR1 ipc-report.service");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(short);
    said(m, Message::Bug);
}

/// A daemon of ours in a service made for it, as its user.
fn as_service(role: &str, more: &str, line: &str) -> String {
    format!(
        "systemd-run --quiet --collect --unit=by-hand-$(date +%N) -p User=_ipc-{role} -p Group=ipc-pipeline {more} -- {line}"
    )
}

/// What nobody does but by mistake.
fn by_hand(m: &mut Machine) {
    begin(m, FAST);
    samples_go_on(m);
    m.does(&as_service("conv", "", "ipc-conv --system"));
    said(m, Message::SecondInstance);
    m.does(&as_service("conv", "-p InaccessiblePaths=/run/ipc-pipeline", "ipc-conv --system"));
    said(m, Message::SystemRefused);
    m.does("systemctl stop ipc-report.service");
    m.does(&as_service("report", "", "sh -c 'ipc-report --system | true'"));
    said(m, Message::NobodyReads);
    m.does("useradd -m user; systemd-run --quiet --collect --unit=by-hand -p User=user ipc-pipeline run --name mine --for 5s");
    m.wait_for("its conv", |m| m.run("pgrep -u user -x ipc-conv").status.success());
    m.wait_for("a kill", |m| {
        m.run("pkill -KILL -u user -x ipc-conv");
        count(m, Message::Restarted) > 0
    });
    m.does("systemctl stop by-hand.service || true");
}

/// Messages that find no room.
fn a_journal_that_does_not_read(m: &mut Machine) {
    begin(m, &format!("{FAST}[report]\nmax_lines_per_second = 300\n"));
    samples_go_on(m);
    m.does("kill -STOP $(pidof systemd-journald); sleep 3; kill -CONT $(pidof systemd-journald)");
    said(m, Message::MessagesLost);
}
