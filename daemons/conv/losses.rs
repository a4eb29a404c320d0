//! What is lost between two accepted entries, and how it gets into the record.
#![forbid(unsafe_code)]

use ipc_pipeline::entry::Reason;
use ipc_pipeline::segment::Memory;
use ipc_pipeline::spool::{Position, SpoolWriter, losses_needed};

/// Rows dealt with since the last accepted entry, for LOSS entries before the next sample.
#[derive(Clone, Copy, Default)]
pub struct Pending {
    /// Ticks that passed before conv could take them.
    pub missed: u64,
    /// Ticks without a reading.
    pub unread: u64,
    /// Rows dropped because the spool was full.
    pub full: u64,
    /// Inputs that were no row.
    pub bad: u64,
}

impl Pending {
    /// LOSS entries that it takes to say so.
    pub fn entries(&self) -> u64 {
        losses_needed(self.missed)
            + losses_needed(self.unread)
            + losses_needed(self.full)
            + losses_needed(self.bad)
    }

    /// The counts after these losses.
    pub fn after(self, position: Position) -> Position {
        Position {
            full: position.full + self.full,
            bad: position.bad + self.bad,
            empty: position.empty + self.missed + self.unread,
            ..position
        }
    }

    /// Pushes the entries; there must be room for [`Pending::entries`]. A row has `columns` samples.
    pub fn push<M: Memory>(self, spool: &mut SpoolWriter<M>, columns: u16, t_ns: u64) {
        spool.push_losses(self.missed, Reason::Missed, 1, t_ns);
        spool.push_losses(self.unread, Reason::Unread, 1, t_ns);
        spool.push_losses(self.full, Reason::Full, columns, t_ns);
        spool.push_losses(self.bad, Reason::Bad, columns, t_ns);
    }
}

/// Empty ticks of this life, by cause: all but `unread` are missed, which the record does not tell apart.
#[derive(Clone, Copy, Default)]
pub struct Missed {
    /// No conv was running.
    pub down: u64,
    /// conv did not get the processor in time.
    pub late: u64,
    /// The spool was full, or the last sample not yet durable with `lock_step`.
    pub blocked: u64,
    /// The source had no reading.
    pub unread: u64,
    /// The source had nothing to give: a pipe or a program that said nothing.
    pub silent: u64,
}

/// What conv waits for while ticks pass.
#[derive(Clone, Copy, Default)]
pub enum Wait {
    /// For nothing but the next tick.
    #[default]
    Tick,
    /// For room in the spool, or until the last sample is durable.
    Room,
    /// For something from the source.
    Source,
}

impl Missed {
    /// The count of ticks that passed during such a wait.
    pub fn by(&mut self, wait: Wait) -> &mut u64 {
        match wait {
            Wait::Tick => &mut self.late,
            Wait::Room => &mut self.blocked,
            Wait::Source => &mut self.silent,
        }
    }
}
