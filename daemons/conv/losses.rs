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

    /// Why they were missed, each cause with its number.
    fn causes(&self) -> String {
        let causes = [
            (self.down, "while no ipc-conv ran"),
            (self.late, "too late for the processor"),
            (self.blocked, "for want of room in the spool"),
            (self.silent, "because the source gave nothing"),
        ];
        let causes = causes.iter().filter(|(ticks, _)| *ticks > 0);
        causes.map(|(ticks, why)| format!("{ticks} {why}")).collect::<Vec<_>>().join(", ")
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

/// What the log of a service is told of losses: of each kind at once, and then once a minute while they go on.
#[derive(Default)]
pub struct LossNews {
    /// What was told of missed ticks, and before when no more is, ns.
    missed: (Missed, u64),
    /// The same of dropped rows of this epoch, those of lives before among them; `None`: there was no spool yet.
    dropped: (Option<u64>, u64),
}

impl LossNews {
    /// Tells what is due of the ticks `missed` in this life and the rows `dropped` in this epoch, at `now`, ns.
    pub fn tell(&mut self, missed: &Missed, dropped: Option<u64>, now: u64) {
        if let Some(since) = self.ticks(missed, now) {
            let (ticks, Missed { down, late, blocked, silent, .. }) = (since.ticks(), since);
            log::warn!(
                target: SERVICE, id = Message::TicksMissed, ticks, down, late, blocked, silent;
                "{} passed without a sample: {}", counted(ticks, "tick", "ticks"), since.causes()
            );
        }
        if let Some(rows) = self.rows(dropped, now) {
            log::warn!(
                target: SERVICE, id = Message::SamplesLost, rows;
                "{} of samples dropped: the spool is full, as ipc-log does not keep up or is not there",
                counted(rows, "row", "rows")
            );
        }
    }

    /// What is to be told of missed ticks now.
    fn ticks(&mut self, missed: &Missed, now: u64) -> Option<Missed> {
        let (told, next) = &mut self.missed;
        let since = missed.since(told);
        if since.ticks() == 0 || now < *next {
            return None;
        }
        self.missed = (*missed, now.saturating_add(TELL_NS));
        Some(since)
    }

    /// How many dropped rows are to be told now. A new epoch counts them anew.
    fn rows(&mut self, dropped: Option<u64>, now: u64) -> Option<u64> {
        let (told, next) = &mut self.dropped;
        let dropped = dropped?;
        let since = dropped.saturating_sub(*told.get_or_insert(dropped));
        if since == 0 || now < *next {
            *told = told.map(|told| told.min(dropped));
            return None;
        }
        self.dropped = (Some(dropped), now.saturating_add(TELL_NS));
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = TELL_NS;

    #[test]
    fn missed_ticks_are_told_at_once_and_then_once_a_minute_until_none_is_untold() {
        let mut news = LossNews::default();
        let mut missed = Missed { unread: 5, ..Missed::default() };
        assert!(news.ticks(&missed, 1).is_none(), "those have a message of their source");
        (missed.down, missed.late) = (2, 1);
        let told = news.ticks(&missed, 2).unwrap();
        assert_eq!(
            (told.ticks(), told.causes().as_str()),
            (3, "2 while no ipc-conv ran, 1 too late for the processor")
        );
        assert!(news.ticks(&missed, 10 * MINUTE).is_none(), "nothing new");
        missed.silent += 7;
        assert_eq!(news.ticks(&missed, 10 * MINUTE).unwrap().causes(), "7 because the source gave nothing");
        missed.blocked += 1;
        assert!(news.ticks(&missed, 11 * MINUTE - 1).is_none());
        missed.blocked += 1;
        assert_eq!(news.ticks(&missed, 11 * MINUTE).unwrap().ticks(), 2, "all since the last message");
    }

    #[test]
    fn dropped_rows_are_told_whatever_else_is() {
        let mut news = LossNews::default();
        assert!(news.ticks(&Missed { late: 1, ..Missed::default() }, 1).is_some());
        assert_eq!(news.rows(None, 1), None);
        assert_eq!(news.rows(Some(40), 1), None, "those of a life before were told by it");
        assert_eq!(news.rows(Some(41), 1), Some(1));
        assert_eq!(news.rows(Some(50), 2), None);
        assert_eq!(news.rows(Some(52), 1 + MINUTE), Some(11));
        // A new epoch.
        assert_eq!(news.rows(Some(0), 2 + MINUTE), None);
        assert_eq!(news.rows(Some(3), 3 * MINUTE), Some(3));
    }
}
