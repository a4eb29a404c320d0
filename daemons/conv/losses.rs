//! What is lost between two accepted entries, and how it gets into the record.
#![forbid(unsafe_code)]

use ipc_pipeline::daemon::TELL_NS;
use ipc_pipeline::entry::Reason;
use ipc_pipeline::logging::SERVICE;
use ipc_pipeline::messages::Message;
use ipc_pipeline::segment::Memory;
use ipc_pipeline::spool::{Position, SpoolWriter, losses_needed};
use ipc_pipeline::text::counted;

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
    /// What was counted since `before`.
    fn since(&self, before: &Missed) -> Missed {
        Missed {
            down: self.down - before.down,
            late: self.late - before.late,
            blocked: self.blocked - before.blocked,
            unread: self.unread - before.unread,
            silent: self.silent - before.silent,
        }
    }

    /// The ticks that were missed; those without a reading are told with their source.
    fn ticks(&self) -> u64 {
        self.down + self.late + self.blocked + self.silent
    }

    /// The count of ticks that passed during such a wait.
    pub fn by(&mut self, wait: Wait) -> &mut u64 {
        match wait {
            Wait::Tick => &mut self.late,
            Wait::Room => &mut self.blocked,
            Wait::Source => &mut self.silent,
        }
    }
}

/// What the log of a service is told of losses: at once, and then once a minute while they go on.
#[derive(Default)]
pub struct LossNews {
    told: Missed,
    /// Rows dropped in this epoch, of lives before too; `None`: there was no spool yet.
    dropped: Option<u64>,
    next_ns: u64,
}

impl LossNews {
    /// `missed` of this life, `dropped` rows of this epoch, at `now`, ns.
    pub fn tell(&mut self, missed: &Missed, dropped: Option<u64>, now: u64) {
        if now < self.next_ns {
            return;
        }
        let since = missed.since(&self.told);
        let (ticks, rows) = (since.ticks(), self.dropped_since(dropped));
        if ticks > 0 {
            let Missed { down, late, blocked, silent, .. } = since;
            log::warn!(
                target: SERVICE, id = Message::TicksMissed, ticks, down, late, blocked, silent;
                "{} passed without a sample: {down} while no ipc-conv ran, {late} too late for the processor, {blocked} for want of room in the spool, {silent} because the source gave nothing",
                counted(ticks, "tick", "ticks")
            );
        }
        if rows > 0 {
            log::warn!(
                target: SERVICE, id = Message::SamplesLost, rows;
                "{} of samples dropped: the spool is full, as ipc-log does not keep up",
                counted(rows, "row", "rows")
            );
        }
        if ticks > 0 || rows > 0 {
            self.next_ns = now.saturating_add(TELL_NS);
        }
        self.told = *missed;
    }

    fn dropped_since(&mut self, dropped: Option<u64>) -> u64 {
        let Some(now) = dropped else { return 0 };
        now.saturating_sub(self.dropped.replace(now).unwrap_or(now))
    }
}
