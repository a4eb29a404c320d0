//! What is run, and how each names its dice.
#![forbid(unsafe_code)]

/// A part of a test program, or of a target of `make`, that puts faults in.
pub struct Suite {
    /// As in the table.
    pub name: &'static str,
    /// What it counts.
    pub faults: &'static str,
    pub how: How,
}

/// How it is called.
pub enum How {
    /// `cargo test --test PROGRAM -- FILTER`
    Test(&'static str, &'static str),
    /// `make TARGET ARGS=FILTER`: what needs the package.
    Make(&'static str, &'static str),
}

const fn test(
    name: &'static str,
    faults: &'static str,
    program: &'static str,
    filter: &'static str,
) -> Suite {
    Suite { name, faults, how: How::Test(program, filter) }
}

const fn make(name: &'static str, faults: &'static str, target: &'static str, filter: &'static str) -> Suite {
    Suite { name, faults, how: How::Make(target, filter) }
}

/// In the order of a round.
pub const SUITES: &[Suite] = &[
    test("every instruction", "instructions", "every_instruction", ""),
    test("simulated edges", "histories", "simulation", "nothing_accepted"),
    test("power cuts, model", "states of a disk", "powercut", "no_power_cut"),
    test("kills at a system call", "kills", "calls", "kills::"),
    test("errors of system calls", "errors", "calls", "errors::over"),
    test("damaged objects", "cells", "damage", "every_object"),
    test("hostile bytes", "inputs", "fuzz", ""),
    test("kill storms", "kills", "storm", "ring_of"),
    test("kills while segments are removed", "kills", "keep", "kills_while"),
    make("storm under systemd", "kills and freezes", "test-systemd", "storm::"),
    make("power cuts of a machine", "cuts", "test-vm", "cuts_of_the_whole_machine"),
    make("disks with a cache", "disks", "test-vm", "any_state"),
    make("a disk that fails", "failed writes", "test-vm", "a_disk_that_fails"),
    make("disks full, read-only, slow, silent", "faults", "test-vm", "a_disk_that_gets_bad"),
    make("a clock that is set", "steps", "test-vm", "the_clock_is_set"),
];
