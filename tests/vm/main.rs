//! T6b, T6c, T7 and T12: a whole machine, emulated by QEMU, that runs the installed package. Its power is cut, its disk gets bad, its
//! clock is set.
//!
//! `make test-vm` makes the guest and runs these; they need root, because file systems are mounted. In the environment:
//! VM_CUTS, VM_STATES, VM_FAULTS and VM_STEPS, how many; VM_SEED, which; VM_DISK, the file system: ext4, xfs or btrfs.
#![forbid(unsafe_code)]

#[path = "../checker/mod.rs"]
mod checker;
mod clocks;
mod disks;
mod guest;
#[path = "../harness/mod.rs"]
mod harness;
mod judge;
#[path = "../scale.rs"]
mod scale;
mod writes;

use guest::{Between, Disk, Guest, Printed};
use judge::judge;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use writes::Writes;

const SOURCE: &str =
    "[source]\nkind = \"random\"\nseed = 6\nmin = -1000\nmax = 1000\n[report]\nformat = \"json\"\n";

/// As much as goes.
const FULL_RATE: &str = "[conv]\nrate = \"max\"\n[log]\nsync = \"10ms\"\nsegment = \"1MiB\"\n";

/// Little data and much that happens to files: a new segment every 0.4 s, the one before compressed.
const MANY_FILES: &str =
    "[conv]\nrate = \"5 kHz\"\n[log]\nsync = \"5ms\"\nsegment = \"64KiB\"\ncompress = true\n";

/// What a pipeline goes on with that comes back on a disk.
const COMES_BACK: &str = "[conv]\nrate = \"max\"\ncount = 100\n[log]\nsync = \"5ms\"\n";

fn variable<T: FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn seeded() -> fastrand::Rng {
    fastrand::Rng::with_seed(scale::seed("VM_SEED"))
}

/// Draws at random; everything comes once before anything comes again.
struct Deck<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    fn of(all: &[T]) -> Deck<T> {
        Deck { all: all.to_vec(), left: Vec::new() }
    }

    fn draw(&mut self, rng: &mut fastrand::Rng) -> T {
        if self.left.is_empty() {
            self.left = self.all.clone();
            rng.shuffle(&mut self.left);
        }
        self.left.pop().unwrap()
    }
}

impl Disk {
    /// One of this size, or the least that the file system can be made of, for a pipeline with this configuration.
    fn of(config: &str, mebibytes: u64) -> Disk {
        let kind = variable("VM_DISK", "ext4".to_owned());
        let least = match kind.as_str() {
            "xfs" => 300,
            "btrfs" => 128,
            _ => 0,
        };
        Disk::new(&kind, mebibytes.max(least), &format!("{SOURCE}{config}"))
    }
}

/// Lets a pipeline go on upon this disk, which is changed by that, and gives what is wrong.
fn comes_back(image: &Path, shown: &[Printed]) -> checker::Faults {
    judge(image, &format!("{SOURCE}{COMES_BACK}"), shown)
}

/// At full rate, again and again on the same disk, and one cut in three while the machine comes back from the one before.
#[test]
#[ignore = "needs root and QEMU"]
fn cuts_of_the_whole_machine() {
    let (mut rng, cuts) = (seeded(), scale::size("VM_CUTS", [3, 400, 5_000]));
    let (mut disk, mut shown) = (Disk::of(FULL_RATE, 512), Vec::new());
    for cut in 0..cuts {
        // The record grows with each life.
        if cut > 0 && cut % 9 == 0 {
            (disk, shown) = (Disk::of(FULL_RATE, 512), Vec::new());
        }
        let mut guest = Guest::start(&disk, &Between::Nothing);
        if cut % 3 == 1 {
            guest.wait_for("log starts", |guest| guest.console().contains("Starting ipc-log.service"));
        } else {
            guest.wait_for("it prints, and verify has ended", |guest| {
                guest.has_verified() && !guest.printed.is_empty()
            });
        }
        guest.work_for(Duration::from_millis(rng.u64(..2_000)));
        shown.extend(guest.cut());
        println!("cut {cut}: {} lines shown", shown.len());
        let faults = comes_back(&disk.copy("cut.img"), &shown);
        assert!(faults.is_empty(), "cut {cut}: {faults}");
    }
    scale::tally(cuts, None);
}

/// Writes fail once, all over the disk: what they carried is taken from the spool again, without a restart. Then the power goes.
#[test]
#[ignore = "needs root and QEMU"]
fn a_disk_that_fails_here_and_there() {
    let disk = Disk::new("ext4", 64, &format!("{SOURCE}{FULL_RATE}"));
    let mut guest = Guest::start(&disk, &Between::Faults(disk.free(512 << 10)));
    let failures = |guest: &Guest| guest.console().matches("the device fails").count();
    guest.wait_for("writes have failed, and it prints", |guest| {
        failures(guest) >= 5 && guest.printed.len() > 5
    });
    let printed = guest.printed.len();
    guest.wait_for("it goes on", |guest| guest.printed.len() > printed + 10);
    let console = guest.console();
    println!("{} failures said", failures(&guest));
    scale::tally(failures(&guest) as u64, None);
    assert!(!console.contains("ipc-log.service: Main process exited"), "{console}");
    let faults = comes_back(&disk.image(), &guest.cut());
    assert!(faults.is_empty(), "{faults}");
}

/// Every request of the data disk is recorded; then disks are made as a power cut at any of them may leave a disk with a cache.
#[test]
#[ignore = "needs root and QEMU"]
fn any_state_of_a_disk_with_a_cache() {
    let (mut rng, states) = (seeded(), scale::size("VM_STATES", [50, 20_000, 100_000]));
    let disk = Disk::of(MANY_FILES, 64);
    let before = disk.copy("before.img");
    let mut guest = Guest::start(&disk, &Between::Recorder);
    guest.wait_for("it prints", |guest| guest.printed.len() > 30);
    guest.work_for(Duration::from_millis(rng.u64(..500)));
    let shown = guest.cut();
    let writes = Writes::read(&before, &disk.writes());
    println!("{} requests, {} flushes, {} lines shown", writes.len(), writes.flushes(), shown.len());

    let image = disk.beside("state.img");
    let mut verdict = |kept: u64, told: u64| {
        writes.state(kept, &mut rng, &image);
        let shown: Vec<Printed> = shown.iter().filter(|printed| printed.at <= told).cloned().collect();
        comes_back(&image, &shown)
    };
    for state in 0..states {
        let cut = writes.len() - writes.len() * state / states;
        let faults = verdict(cut, cut);
        assert!(faults.is_empty(), "state {state}, after request {cut} of {}: {faults}", writes.len());
    }
    // Would it be seen? This disk has kept nothing since half of the lines, whatever it said; nor has one on which log does not call
    // for a flush.
    let lied = verdict(shown[shown.len() / 2].at, writes.len());
    assert!(lied.has("had been shown"), "a disk that lied was not found out: {lied}");
    println!("{states} states without a fault; a disk that had lied was found out");
    scale::tally(states, None);
}
