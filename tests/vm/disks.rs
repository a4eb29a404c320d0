//! T7: the disk of the guest is full, refused by a quota, read-only, slow, silent, or fails, one after the other, under the shipped
//! units. It is seen, nothing is lost, and it goes on by itself.

use crate::clocks::lives;
use crate::guest::{Between, Disk, Guest};
use crate::{Deck, SOURCE, comes_back, scale, seeded};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A ring of two seconds, so that a disk that takes nothing is soon felt by conv; no tick is given up for that.
const SMALL_RING: &str = "[conv]\nrate = \"2 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 4096\n\
     [log]\nsync = \"5ms\"\nsegment = \"64KiB\"\n";

/// In this time a state is shown in a guest whose every instruction is emulated, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// Longer than the ring of two seconds, and than the patience of the guest's watchdog of five.
const LONG: Duration = Duration::from_secs(7);

const BALLAST: &str = "/var/lib/ipc-pipeline/ballast";

/// What log says.
const REFUSED: [&str; 2] = ["Nothing is lost: entries stay in the spool", "the disk takes entries again"];
const LATE: [&str; 2] = ["the disk does not answer in time", "the disk answers in time again"];

#[derive(Clone, Copy, Debug)]
enum Bad {
    Full,
    Quota,
    ReadOnly,
    Slow,
    Silent,
    Failing,
}

const ALL: [Bad; 6] = [Bad::Full, Bad::Quota, Bad::ReadOnly, Bad::Slow, Bad::Silent, Bad::Failing];

impl Bad {
    /// What root does in the guest, and what makes it good again.
    fn commands(self, disk: &Disk) -> [String; 2] {
        let linear = table(format!("0 {} linear /dev/vdb 0", disk.sectors()));
        match self {
            // Large pieces first, then what is left, that of root included.
            Bad::Full => {
                let fill = "for size in 64k 1k; do dd if=/dev/zero bs=$size 2>/dev/null; done";
                [format!("{fill} >{BALLAST}; true"), format!("rm {BALLAST}")]
            }
            Bad::Quota => [quota(1), quota(0)],
            // Unlike `mount`, the kernel's own emergency does not mind that files are open for writing.
            Bad::ReadOnly => [
                "echo u >/proc/sysrq-trigger".into(),
                "mount -o remount,rw / && mount -o remount,rw /var/lib/ipc-pipeline".into(),
            ],
            Bad::Slow => {
                let each = "0 /dev/vdb 0 300";
                [table(format!("0 {} delay /dev/vdb 0 {each}", disk.sectors())), linear]
            }
            Bad::Silent => ["dmsetup suspend --nolockfs --noflush data".into(), "dmsetup resume data".into()],
            Bad::Failing => [table(failing(disk)), linear],
        }
    }

    fn state(self) -> &'static str {
        match self {
            Bad::Full | Bad::Quota => "disk full",
            Bad::ReadOnly => "read-only file system",
            Bad::Slow | Bad::Silent => "disk slow",
            Bad::Failing => "disk error",
        }
    }

    /// When it begins, and when it is over.
    fn words(self) -> [&'static str; 2] {
        if matches!(self, Bad::Slow | Bad::Silent) { LATE } else { REFUSED }
    }
}

/// The device from now on. The file system is not told: it would want to write all it has, before.
fn table(lines: String) -> String {
    format!(
        "echo '{lines}' | sed 's/;/\\n/g' | dmsetup reload data && dmsetup suspend --nolockfs data && dmsetup resume data"
    )
}

/// Every write fails where no file is yet; what the file system has for itself stays as it is.
fn failing(disk: &Disk) -> String {
    let (mut lines, mut at) = (Vec::new(), 0);
    let mut piece = |at: u64, end: u64, kind: &str, more: &str| {
        if end > at {
            lines.push(format!("{at} {} {kind} /dev/vdb {at}{more}", end - at));
        }
    };
    for [first, end] in disk.free_sectors() {
        piece(at, first, "linear", "");
        piece(first, end, "flakey", " 0 3600 1 error_writes");
        at = end;
    }
    piece(at, disk.sectors(), "linear", "");
    lines.join(";")
}

/// quotactl(2) of the kernel: so many KiB for the user of log, 0: as much as there is.
fn quota(kibibytes: u64) -> String {
    format!(
        "perl -e 'my $disk = \"/dev/dm-0\"; my $limits = pack(\"Q8LL\", {kibibytes}, 0, 0, 0, 0, 0, 0, 0, 1, 0); \
         exit(syscall(179, 0x80000800, $disk, scalar(getpwnam(\"_ipc-log\")), $limits) != 0)'"
    )
}

/// Waits until `status` and the service manager show this state of log.
fn wait_for_state(guest: &mut Guest, state: &str) {
    let begun = Instant::now();
    loop {
        let said = guest.does("ipc-pipeline status --system --json; systemctl show -P StatusText ipc-log");
        // Just started it has said nothing yet.
        let (status, text) = said.split_once('\n').unwrap_or((&said, ""));
        let status: Value = serde_json::from_str(status).unwrap_or_else(|e| panic!("{said}: {e}"));
        if status["daemons"]["log"]["state"] == state && text.starts_with(state) {
            return;
        }
        assert!(begun.elapsed() < BOUND, "log does not show {state:?}: {said}\n{}", guest.console());
    }
}

/// The disk gets bad, and good again.
fn try_out(guest: &mut Guest, disk: &Disk, bad: Bad) {
    let said = |guest: &Guest| bad.words().map(|word| guest.console().matches(word).count());
    // That a disk is slow is said once a minute at most, and it may have been while the guest came up.
    let [begun, over] = if bad.state() == "disk slow" { [0, 0] } else { said(guest) };
    // Meanwhile the disk holds all that there is, whole.
    guest.does("fsfreeze -f /var/lib/ipc-pipeline");
    let [begin, end] = bad.commands(disk);
    guest.does("fsfreeze -u /var/lib/ipc-pipeline");
    guest.does(&begin);
    wait_for_state(guest, bad.state());
    guest.wait_for("the console shows that it is bad", |guest| said(guest)[0] > begun);
    guest.work_for(if matches!(bad, Bad::Silent) { LONG } else { LONG / 3 });
    guest.does(&end);
    guest.wait_for("the console shows that it is good", |guest| said(guest)[1] > over);
    wait_for_state(guest, "running");
    let printed = guest.printed.len();
    guest.wait_for("it goes on", |guest| guest.printed.len() > printed + 2);
}

#[test]
#[ignore = "needs root and QEMU"]
fn a_disk_that_gets_bad_and_good_again() {
    let (mut rng, faults) = (seeded(), scale::size("VM_FAULTS", [ALL.len() as u64, 60, 1_000]));
    let disk = Disk::new("ext4", 64, &format!("{SOURCE}{SMALL_RING}"));
    disk.count_for_quotas();
    let mut guest = Guest::start(&disk, &Between::Mapper);
    guest
        .wait_for("it prints, and verify has ended", |guest| guest.has_verified() && guest.printed.len() > 5);
    let before = lives(&mut guest);
    let mut deck = Deck::of(&ALL);
    for number in 0..faults {
        let bad = deck.draw(&mut rng);
        let begun = Instant::now();
        try_out(&mut guest, &disk, bad);
        println!("fault {number}: {bad:?}, {:?}", begun.elapsed());
        assert_eq!(lives(&mut guest), before, "after {bad:?} it was started again\n{}", guest.console());
    }
    guest.does("ipc-pipeline verify --system");
    let shown = guest.cut();
    let last = &shown.last().unwrap().line;
    assert_eq!((&last["lost"]["missed"], &last["lost"]["dropped"]), (&0.into(), &0.into()), "{last}");
    disk.forget_quotas();
    scale::tally(faults, None);
    let faults = comes_back(&disk.image(), &shown);
    assert!(faults.is_empty(), "{faults}");
}
