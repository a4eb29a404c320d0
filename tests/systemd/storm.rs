//! T5: kills, freezes, and a service manager that is replaced, while samples are taken: nothing is lost, and it goes on soon.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::{FAST, ROLES, on_both_alone, scale, start, stop, unit};

/// In this time there is a new process: what the issue promises of nine in ten faults. The rest may have met a machine that had
/// no processor for them; their worst is printed.
const NEW_LIFE: Duration = Duration::from_secs(1);

/// One fault in the life of a service.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    Freeze,
    /// The service manager replaces itself, and right behind it a kill.
    Reexecution,
}

/// What came of it.
struct Outcome {
    new_life: Duration,
    new_durable: Duration,
}

fn fault(m: &mut Machine, role: &str, fault: Fault) -> Outcome {
    let service = unit(role);
    let before = m.main_pid(&service);
    let durable = m.status("--system")["durable"].as_u64().unwrap();
    if fault == Fault::Reexecution {
        m.does("systemctl daemon-reexec");
    }
    let signal = if fault == Fault::Freeze { "STOP" } else { "KILL" };
    let begun = Instant::now();
    m.does(&format!("kill -{signal} {before}"));
    m.wait_for("a new life", |m| ![0, before].contains(&m.main_pid(&service)));
    let new_life = begun.elapsed();
    // While it starts it is not watched: frozen then, it would be replaced only after TimeoutStartSec=.
    m.wait_for("it has started", |m| m.property(&service, "ActiveState") == "active");
    m.wait_for("new durable entries", |m| m.status("--system")["durable"].as_u64() > Some(durable + 50));
    Outcome { new_life, new_durable: begun.elapsed() }
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn kills_freezes_and_reexecutions_change_nothing() {
    on_both_alone(|release| {
        let mut m = Machine::with_package(release);
        start(&mut m, FAST);
        let mut random = fastrand::Rng::with_seed(scale::seed_or("STORM_SEED", 4));
        // Four in five are kills.
        let (mut outcomes, cycles) = (Vec::new(), scale::size("STORM_KILLS", [190, 5_000, 50_000]) as usize);
        for cycle in 0..cycles {
            let kind = match cycle % 10 {
                4 | 9 => Fault::Freeze,
                7 => Fault::Reexecution,
                _ => Fault::Kill,
            };
            outcomes.push(fault(&mut m, ROLES[random.usize(..4)], kind));
        }
        let late = outcomes.iter().filter(|outcome| outcome.new_life > NEW_LIFE).count();
        let worst_life = outcomes.iter().map(|outcome| outcome.new_life).max().unwrap();
        let worst = outcomes.iter().map(|outcome| outcome.new_durable).max().unwrap();
        println!(
            "{release}: {cycles} faults; a new life after {worst_life:.3?} at worst, {late} later than {NEW_LIFE:?}; \
             from a fault to 50 new durable entries {worst:.3?} at worst"
        );
        assert!(
            late * 10 <= cycles,
            "{late} of {cycles} lives began later than {NEW_LIFE:?} after the fault"
        );
        let report = stop(&mut m);
        assert_eq!(report.epochs, 1, "no fault costs the grid its place");
        scale::tally(cycles as u64, Some(worst));
    });
}
