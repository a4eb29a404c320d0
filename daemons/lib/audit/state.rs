//! The state of an audit as bytes, so that it can go on behind entries that are no longer there (docs/formats.md, Summary).
#![forbid(unsafe_code)]

use super::{Audit, Grid, Run, Stage, Ticks, Time};
use crate::fields::{get_u32, get_u64, put};
use crate::fold::Fold;

/// Size of the state in bytes.
pub const STATE_LEN: usize = 152;
/// No number of things in a record is larger; what is larger comes from no audit.
const COUNT_MAX: u64 = 1 << 62;

const JUMPED: u8 = 1;
const BLIND: u8 = 2;
const GRID: u8 = 4;
const FREE: u8 = 8;
const ZERO: u8 = 16;
const RUN: u8 = 32;
const RUN_UNSURE: u8 = 64;
const UNSURE: u8 = 128;

impl Audit {
    /// All of it but the totals and the findings themselves.
    pub fn state(&self) -> [u8; STATE_LEN] {
        let Ticks { planned, taken, empty, full, hidden } = self.ticks;
        let Time { grid, free, zero, last, run, unsure } = self.time;
        let (g, r) = (grid.unwrap_or(Grid::default()), run.unwrap_or_default());
        let numbers = [
            planned,
            taken,
            empty,
            full,
            hidden,
            self.epochs,
            self.faults,
            self.unread,
            self.next,
            self.jumped.unwrap_or(0),
            g.origin_ns,
            g.period_ps,
            g.tick,
            zero.unwrap_or(0),
            last,
            r.seq,
            r.t_ns,
            r.ticks,
        ];
        let mut b = [0; STATE_LEN];
        for (i, number) in numbers.into_iter().enumerate() {
            put(&mut b, 8 * i, number.to_le_bytes());
        }
        let flags = [
            (JUMPED, self.jumped.is_some()),
            (BLIND, self.blind),
            (GRID, grid.is_some()),
            (FREE, free),
            (ZERO, zero.is_some()),
            (RUN, run.is_some()),
            (RUN_UNSURE, r.unsure),
            (UNSURE, unsure),
        ];
        let flags = flags.into_iter().filter(|(_, is)| *is).fold(0, |all, (flag, _)| all | flag);
        put(&mut b, 144, self.epoch.to_le_bytes());
        put(&mut b, 148, [self.stage as u8, flags]);
        b
    }

    /// The audit with this state, with `totals` over the same entries. `None`: no audit has this state.
    pub fn from_state(b: &[u8; STATE_LEN], totals: Fold) -> Option<Audit> {
        let [stage, flags] = [b[148], b[149]];
        let is = |flag| flags & flag != 0;
        let count = |i: usize| Some(get_u64(b, 8 * i)).filter(|n| *n <= COUNT_MAX);
        let number = |i: usize| get_u64(b, 8 * i);
        let stages = [Stage::Before, Stage::WantSource, Stage::WantGrid, Stage::Open];
        let (origin_ns, period_ps, tick) = (number(10), number(11), count(12)?);
        let grid = Grid::new(origin_ns, period_ps).at_tick(tick);
        if is(GRID) && period_ps == 0 {
            return None;
        }
        let run = Run { seq: number(15), t_ns: number(16), ticks: count(17)?, unsure: is(RUN_UNSURE) };
        let time = Time {
            grid: is(GRID).then_some(grid),
            free: is(FREE),
            zero: is(ZERO).then(|| number(13)),
            last: number(14),
            run: is(RUN).then_some(run),
            unsure: is(UNSURE),
        };
        Some(Audit {
            totals,
            ticks: Ticks {
                planned: count(0)?,
                taken: count(1)?,
                empty: count(2)?,
                full: count(3)?,
                hidden: count(4)?,
            },
            epochs: count(5)?,
            faults: count(6)?,
            findings: Vec::new(),
            unread: count(7)?,
            next: count(8)?,
            jumped: is(JUMPED).then(|| number(9)),
            blind: is(BLIND),
            stage: *stages.get(stage as usize)?,
            epoch: get_u32(b, 144),
            time,
        })
    }
}
