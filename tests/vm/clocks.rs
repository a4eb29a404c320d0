//! T12: root sets the clock of the guest while the pipeline runs: by a second and by decades, to the edges of what 32 bits can
//! hold, some of the times right when a segment is rotated.

use crate::checker::{CLOCK, Entry, check_record};
use crate::guest::{Between, Disk, Guest, Mounted};
use crate::{Deck, comes_back, scale, seeded};

/// A new segment every second, the one before compressed, and all that goes by time of day.
const BY_THE_CLOCK: &str = "[conv]\nrate = \"2 kHz\"\nmax_late = \"1h\"\n[log]\nsync = \"5ms\"\nsegment = \"64KiB\"\n\
     compress = true\n[[window]]\nsize = \"1s\"\n";

/// Waits until another segment is begun.
const ROTATION: &str = "cd /var/lib/ipc-pipeline/log; newest() { for file in *.seg; do :; done; }; \
     newest; old=$file; while [ \"$file\" = \"$old\" ]; do sleep 0.01; newest; done";

/// Between a reading of two clocks in the guest may pass so much, ms.
const TOLERANCE: i64 = 100;

const YEARS: i64 = 20 * 365 * 86_400_000;

/// What root does with the clock.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// By so many ms.
    By(i64),
    /// To so many seconds since 1970.
    To(i64),
}

/// Just after 1970, which is as far back as the kernel lets itself be set; just before 31 bits of seconds are full, and 32.
const STEPS: [Step; 9] = [
    Step::By(2_000),
    Step::By(-2_000),
    Step::By(3_600_000),
    Step::By(-3_600_000),
    Step::By(YEARS),
    Step::By(-YEARS),
    Step::To(86_400),
    Step::To((1 << 31) - 2),
    Step::To((1 << 32) - 2),
];

impl Step {
    /// For the guest's clock.pl. By no step further back than the kernel goes, nor beyond its end in 2232: there it goes the other
    /// way.
    fn words(self, now: i64) -> String {
        match self {
            // It is that already: too small a step to be told.
            Step::To(seconds) if (now - seconds * 1000).abs() < 3_000 => "by 2000".into(),
            Step::To(seconds) => format!("to {seconds}000"),
            Step::By(ms) if (86_400_000..7_000_000_000_000).contains(&(now + ms)) => format!("by {ms}"),
            Step::By(ms) => format!("by {}", -ms),
        }
    }
}

/// Makes this step, and gives by how much the clock was set, in ms.
fn make(guest: &mut Guest, step: Step, rotated: bool) -> i64 {
    let now: i64 = guest.does("date +%s%3N").parse().unwrap();
    if rotated {
        guest.does(ROTATION);
    }
    guest.does(&format!("perl /etc/clock.pl {}", step.words(now))).parse().unwrap()
}

/// The daemons' processes, and how often each was started again.
pub fn lives(guest: &mut Guest) -> String {
    guest.does("systemctl show -p Id,MainPID,NRestarts ipc-conv ipc-log ipc-stat ipc-report")
}

#[test]
#[ignore = "needs root and QEMU"]
fn the_clock_is_set() {
    let (mut rng, steps) = (seeded(), scale::size("VM_STEPS", [STEPS.len() as u64, 50, 500]) as usize);
    let disk = Disk::of(BY_THE_CLOCK, 64 + steps as u64 / 10);
    let mut guest = Guest::start(&disk, &Between::Nothing);
    guest
        .wait_for("it prints, and verify has ended", |guest| guest.has_verified() && guest.printed.len() > 5);
    let before = lives(&mut guest);
    let (mut made, mut deck) = (Vec::new(), Deck::of(&STEPS));
    for number in 0..steps {
        let (step, rotated) = (deck.draw(&mut rng), rng.bool());
        made.push(make(&mut guest, step, rotated));
        println!("step {number}: {step:?}, {} ms, behind a rotation: {rotated}", made[number]);
        guest.wait_for("conv says so", |guest| {
            guest.console().matches("the wall clock was set: it stepped by").count() > number
        });
        let printed = guest.printed.len();
        guest.wait_for("it goes on", |guest| guest.printed.len() > printed + 2);
    }
    assert_eq!(lives(&mut guest), before, "a daemon was started again\n{}", guest.console());
    let verified = guest.does("ipc-pipeline verify --system");
    let console = guest.console();
    for word in ["Watchdog timeout", "panicked"] {
        assert!(!console.contains(word), "{word}: {console}");
    }
    let windows = guest.does("ipc-pipeline export --windows --system");
    let shown = guest.cut();
    let recorded = recorded(&disk);
    let alike = |(a, b): (&i64, &i64)| (a - b).abs() < TOLERANCE;
    let all = recorded.len() == made.len() && recorded.iter().zip(&made).all(alike);
    assert!(all, "made: {made:?}\nin the record: {recorded:?}\n{verified}");
    same_windows(&windows);
    assert!(
        shown.iter().all(|printed| printed.line["lost"]["missed"] == 0),
        "{:?}",
        shown.last().unwrap().line
    );
    scale::tally(steps as u64, None);
    let faults = comes_back(&disk.image(), &shown);
    assert!(faults.is_empty(), "{faults}");
}

/// A window of a second is one, whatever the clock does meanwhile. Only the first one of the epoch begins later.
fn same_windows(csv: &str) {
    let counts = csv.lines().skip(2).map(|line| line.split(',').nth(4).unwrap());
    assert!(counts.clone().count() > 10 && counts.clone().all(|count| count == "2000"), "{csv}");
}

/// The steps of a second and more in the record.
fn recorded(disk: &Disk) -> Vec<i64> {
    let mounted = Mounted::at(&disk.copy("steps.img"), &disk.beside("steps"));
    let report = check_record(&disk.beside("steps").join("log"));
    assert!(report.faults.is_empty(), "{}", report.faults);
    let mut steps = Vec::new();
    report.record.walk(&mut |raw, _| {
        let e = Entry::read(raw);
        if e.kind == CLOCK {
            steps.push((e.wide() << 16) as i64 >> 16);
        }
        true
    });
    drop(report);
    drop(mounted);
    steps.retain(|ms| ms.abs() >= 1000);
    steps
}
