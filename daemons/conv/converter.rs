//! The loop of ipc-conv: ticks that are due, samples for them, entries in the spool.
#![forbid(unsafe_code)]

mod service;

use std::time::Duration;

use ipc_pipeline::config::{OnBad, Policy, Rate};
use ipc_pipeline::daemon::{self, Context, EXIT_DATA, EXIT_OBJECT, Failure, Looks, SILENT_NS, Said, Waiting};
use ipc_pipeline::entry::MAX_CHANNELS;
use ipc_pipeline::grid::{Due, Grid};
use ipc_pipeline::messages::Message;
use ipc_pipeline::page::State;
use ipc_pipeline::publisher::{Event, LOOK_NS, Publisher, Settings};
use ipc_pipeline::segment::Shm;
use ipc_pipeline::spool::{Drops, Feed, Position};
use ipc_pipeline::sys;

use crate::events::tell;
use crate::lateness::Lateness;
use crate::losses::{LossNews, Missed, Pending, Wait};
use crate::outages::Outages;
use crate::presence::Presence;
use crate::priority;
use crate::pump::Pump;
use crate::source::{self, Source, Supply};
use crate::wallclock::{self, Clocks};

/// While lanes are fed, what has become durable is looked for this often.
const SLICE: Duration = Duration::from_millis(1);

/// Samples of one commit at most: enough to make the costs of a commit vanish, few enough to keep latency low.
const BATCH: usize = 1024;
/// A grid finer than this is served in bursts: waking for each tick would burn a core.
const BURST_NS: u64 = 200_000;
/// Bad inputs said one by one; after them only their number.
const BAD_SAID_MAX: u64 = 10;

/// At the end, losses wait for room in the spool no longer than this, ns.
const LAST_NS: u64 = 2_000_000_000;

/// What a turn of the loop came to.
enum Next {
    /// There may be more to do at once.
    Again,
    /// Nothing before this instant (CLOCK_MONOTONIC, ns).
    At(u64),
    /// Nothing before more entries are durable, or this instant.
    Durable(u64),
    /// The source has ended, or `count` is reached.
    End,
}

struct Converter {
    publisher: Publisher<Shm>,
    pump: Pump,
    source: Box<dyn Source>,
    settings: Settings,
    policy: Policy,
    lock_step: bool,
    late_max_ns: u64,
    count: u64,
    on_bad: OnBad,
    /// Highest durable seq at the beginning of this turn.
    durable_seen: Option<u64>,
    /// Did we take over spool and source position yet?
    begun: bool,
    feed: Feed,
    start_ns: u64,
    tick: u64,
    /// Position in the source: rows times columns; in the midst of a row only where a power cut has torn it.
    index: u64,
    /// Samples in a row: the number of channels.
    columns: u16,
    /// Which channels those are.
    table: u64,
    pending: Pending,
    values: Vec<i32>,
    outages: Outages,
    bad_said: u64,
    bad_line: Option<String>,
    lateness: Lateness,
    missed: Missed,
    /// What we waited for at the last turn.
    waits: Wait,
    /// The first of the pending losses was found then.
    pending_since: Option<u64>,
    /// Steps of the wall clock seen by this life, and suspends seen so far.
    clock_steps: u64,
    suspended_ns: u64,
    waited: u64,
    waiting_since: Option<u64>,
    waiting: Waiting,
    /// What the log was told of ipc-log, and of losses.
    log_presence: Presence,
    loss_news: LossNews,
    failed: Said,
    woken: u64,
}

/// The whole work of ipc-conv, until it is told to stop or its source ends.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    let mut converter = Converter::start(context)?;
    context.ready();
    let mut looks = Looks::default();
    let outcome = loop {
        let now = sys::monotonic_ns();
        context.notifier.turn(now);
        let look = looks.is_due(now);
        if look {
            // Before the publisher looks: who has lost the lock must not put "its" spool back over its successor's.
            context.check_lock()?;
        }
        // Before an epoch begins, too: its first entries would name our source.
        if !converter.begun
            && let Err(failure) = converter.check_table()
        {
            break Err(failure);
        }
        let state = converter.publisher.turn(now);
        if look {
            if converter.publisher.is_superseded() {
                return Err(Failure::new(
                    EXIT_OBJECT,
                    "the spool was given up: ending, to begin a new epoch",
                ));
            }
            converter.pump.look();
            converter.look(state, now);
            context.reload(&mut converter);
            if context.notifier.status_due(now) {
                converter.report_status(&mut context.notifier, state, now);
            }
        }
        if context.stopping() {
            break Ok(());
        }
        let next = converter.turn(state, now);
        converter.pump.turn(converter.publisher.spool(), now);
        match next {
            Ok(Next::Again) => {}
            Ok(Next::At(deadline)) => converter.sleep(deadline.min(now + looks.rest(now).as_nanos() as u64)),
            Ok(Next::Durable(deadline)) => converter.wait_for_durable(now, deadline.min(now + LOOK_NS)),
            Ok(Next::End) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    converter.finish();
    outcome
}

impl Converter {
    fn start(context: &Context) -> Result<Converter, Failure> {
        let config = &context.config;
        let period_ps = match config.conv.rate {
            Rate::Every { period_ps } => period_ps,
            Rate::Max => 0,
        };
        let settings = Settings {
            capacity: config.spool.capacity,
            source_id: config
                .identity_of_source()
                .map_err(|e| Failure::system(format!("cannot find the working directory: {e}")))?,
            period_ps,
            align: config.conv.align,
        };
        let source = source::open(config).map_err(Failure::from)?;
        priority::set(config.conv.realtime);
        let mut publisher =
            Publisher::start(context.shm.clone(), context.segments(), settings, daemon::nonce())
                .map_err(Failure::system)?;
        if context.lock_was_young() {
            publisher.fence();
        }
        publisher.page().begin(
            0,
            ipc_pipeline::page::new_session(),
            std::process::id().into(),
            sys::wall_ns(),
        );
        publisher.expect_address(config.edge.log.to_string());
        if sys::register_for_barriers() {
            publisher.spare_fences(); // a fence for each commit halves the rate of single entries
        }
        // A tick is at most a hundredth of the period late for want of timer precision, within reason.
        sys::set_timer_slack((period_ps / 100_000).clamp(1000, 50_000));
        Ok(Converter {
            publisher,
            pump: Pump::new(context),
            source,
            settings,
            policy: config.conv.policy,
            lock_step: config.conv.lock_step,
            late_max_ns: service::late_max_ns(config),
            count: config.conv.count,
            on_bad: config.source.on_bad(),
            durable_seen: None,
            begun: false,
            feed: Feed::default(),
            start_ns: 0,
            tick: 0,
            index: 0,
            columns: config.channels.len().clamp(1, MAX_CHANNELS) as u16,
            table: service::table(config),
            pending: Pending::default(),
            values: vec![0; BATCH],
            outages: Outages::default(),
            bad_said: 0,
            bad_line: None,
            lateness: Lateness::new().map_err(Failure::system)?,
            missed: Missed::default(),
            waits: Wait::default(),
            pending_since: None,
            clock_steps: 0,
            suspended_ns: wallclock::suspended_ns(),
            waited: 0,
            waiting_since: None,
            waiting: Waiting::default(),
            log_presence: Presence::default(),
            loss_news: LossNews::default(),
            failed: Said::default(),
            woken: 0,
        })
    }

    /// One turn of work in this state.
    fn turn(&mut self, state: State, now: u64) -> Result<Next, Failure> {
        self.durable_seen = self.publisher.durable();
        match state {
            State::Running | State::Full => {}
            // The handshake takes a few turns of ipc-log.
            State::WaitingForLog | State::Starting => return Ok(self.wait_for_log(now)),
            _ => return Ok(Next::At(now + LOOK_NS)),
        }
        if !self.begun {
            self.begin()?;
        }
        if !self.take_over_feed(now) {
            return Ok(Next::Durable(u64::MAX));
        }
        if self.left() == Some(0) {
            return Ok(Next::End); // at once, not at the next tick
        }
        if self.settings.period_ps == 0 { self.turn_without_grid(now) } else { self.turn_on_grid(now) }
    }

    fn wait_for_log(&mut self, now: u64) -> Next {
        let since = *self.waiting_since.get_or_insert(now);
        // Before an epoch begins there is no grid; its ticks would have been so many.
        self.waited = if self.begun {
            self.waited
        } else {
            (now - since).saturating_mul(1000).checked_div(self.settings.period_ps).unwrap_or(0)
        };
        let patience = if now - since < 1_000_000_000 { 1_000_000 } else { LOOK_NS / 2 };
        Next::At(now + patience)
    }

    /// The spool is there, new or of an earlier life: go on from its position.
    fn begin(&mut self) -> Result<(), Failure> {
        let Some(spool) = self.publisher.spool() else { return Ok(()) };
        let (position, drops) = (spool.position(), spool.drops());
        self.feed = spool.feed();
        self.start_ns = spool.header().start_mono_ns;
        self.tick = position.tick;
        // Dropped rows were taken from the source and consumed their ticks.
        self.index = if drops.n > 0 { drops.index } else { position.index };
        self.pending.full = drops.n;
        // Bad inputs between them were passed too; no entry says so yet.
        let passed = self.index.saturating_sub(position.index) / self.columns as u64;
        self.pending.bad = passed.saturating_sub(drops.n);
        self.tick += if self.feed.period_ps > 0 { drops.n } else { 0 };
        if self.feed.source_id == self.settings.source_id {
            self.source.seek(self.index / self.columns as u64).map_err(Failure::from)?;
        }
        self.begun = true;
        self.missed.down += self.miss_ticks(sys::monotonic_ns(), self.late_max_ns).missed;
        Ok(())
    }

    /// A spool of an earlier life may come from another source or grid: the entries that say so go out first, after the
    /// losses of the old one. False: no room for them yet.
    fn take_over_feed(&mut self, now: u64) -> bool {
        let Settings { source_id, period_ps, .. } = self.settings;
        if (self.feed.source_id, self.feed.period_ps) == (source_id, period_ps) {
            return true;
        }
        self.missed.late += self.miss_ticks(now, 0).missed;
        let t_ns = self.last_tick_ns(now);
        let pending = std::mem::take(&mut self.pending);
        let same_source = self.feed.source_id == source_id;
        if self.publisher.room() < pending.entries() + 2 {
            self.pending = pending;
            return false;
        }
        let index = if same_source { self.index } else { 0 };
        let feed = Feed {
            clock_ms: self.feed.clock_ms,
            ..self.settings.feed(now.saturating_sub(self.start_ns), sys::wall_ns())
        };
        let columns = self.columns;
        let Some(spool) = self.publisher.spool() else { return false };
        pending.push(spool, columns, t_ns);
        spool.push_feed(feed, index);
        let position = Position { index, tick: 0, ..pending.after(spool.position()) };
        spool.commit(position);
        (self.feed, self.tick, self.index) = (feed, 0, index);
        self.ring();
        true
    }

    fn grid(&self) -> Grid {
        Grid { origin_ns: self.feed.origin_ns, period_ps: self.feed.period_ps }
    }

    /// The instant that a LOSS carries: that of the last tick dealt with.
    fn last_tick_ns(&self, now: u64) -> u64 {
        if self.feed.period_ps == 0 {
            return now.saturating_sub(self.start_ns);
        }
        self.grid().time_of(self.tick.saturating_sub(1))
    }

    /// Counts ticks more than `late_max_ns` late as missed; says how many, and how many are still to be taken.
    fn miss_ticks(&mut self, now: u64, late_max_ns: u64) -> Due {
        if self.feed.period_ps == 0 {
            return Due::default();
        }
        let due = self.grid().due(self.tick, now.saturating_sub(self.start_ns), late_max_ns);
        self.tick += due.missed;
        self.pending.missed += due.missed;
        due
    }

    fn turn_on_grid(&mut self, now: u64) -> Result<Next, Failure> {
        let Due { missed, take: due } = self.miss_ticks(now, self.late_max_ns);
        let waits = std::mem::take(&mut self.waits);
        *self.missed.by(waits) += missed;
        if due == 0 {
            self.waits = waits;
            let next = self.start_ns.saturating_add(self.grid().time_of(self.tick));
            let burst = if self.settings.period_ps / 1000 < BURST_NS { now + BURST_NS } else { 0 };
            return Ok(Next::At(next.max(burst)));
        }
        let wanted = due.min(self.batch());
        match self.admit(wanted) {
            0 if self.policy == Policy::DropNewest => self.drop_newest(wanted as usize),
            0 => {
                self.waits = Wait::Room;
                Ok(Next::Durable(now + self.late_max_ns))
            }
            n => self.take(n as usize, now),
        }
    }

    fn turn_without_grid(&mut self, now: u64) -> Result<Next, Failure> {
        match self.admit(self.batch()) {
            0 => Ok(Next::Durable(u64::MAX)),
            n => self.take(n as usize, now),
        }
    }

    /// Rows of one commit at most.
    fn batch(&self) -> u64 {
        BATCH as u64 / self.columns as u64
    }

    /// How many of `wanted` rows may be published now, behind the pending losses.
    fn admit(&mut self, wanted: u64) -> u64 {
        let room = self.publisher.room().saturating_sub(self.pending.entries()) / self.columns as u64;
        let Some(spool) = self.publisher.spool() else { return 0 };
        let head = spool.head();
        if self.lock_step && room > 0 {
            return (self.publisher.durable() == Some(head)).into();
        }
        wanted.min(room)
    }

    /// Rows left of `count`; `None`: there is no end.
    fn left(&mut self) -> Option<u64> {
        let samples = self.publisher.spool().map_or(0, |s| s.position().samples);
        (self.count > 0).then(|| self.count.saturating_sub(samples))
    }

    /// Takes up to `n` rows from the source and publishes them.
    fn take(&mut self, n: usize, now: u64) -> Result<Next, Failure> {
        let n = self.left().map_or(n, |left| n.min(left.min(BATCH as u64) as usize));
        let n = if self.skip() > 0 { n.min(1) } else { n };
        match self.supply(n)? {
            Ok(taken) => {
                self.publish(taken, now);
                Ok(Next::Again)
            }
            Err(next) => Ok(next),
        }
    }

    /// Samples of the next row that are in the record already.
    fn skip(&self) -> usize {
        (self.index % self.columns as u64) as usize
    }

    /// The spool is full and the source does not wait: rows are taken, dropped and counted.
    fn drop_newest(&mut self, n: usize) -> Result<Next, Failure> {
        let n = self.left().map_or(n, |left| n.min(left.min(BATCH as u64) as usize));
        match self.supply(n)? {
            Ok(taken) => {
                self.index += taken as u64 * self.columns as u64;
                self.tick += taken as u64;
                self.pending.full += taken as u64;
                let drops = Drops { n: self.pending.full, index: self.index };
                if let Some(spool) = self.publisher.spool() {
                    spool.note_drops(drops);
                }
                Ok(Next::Again)
            }
            Err(next) => Ok(next),
        }
    }

    /// Asks the source for `n` rows: how many it gave, or what to do instead.
    fn supply(&mut self, n: usize) -> Result<Result<usize, Next>, Failure> {
        if n == 0 {
            return Ok(Err(Next::End));
        }
        let wanted = n * self.columns as usize;
        match self.source.fill(&mut self.values[..wanted]).map_err(Failure::from)? {
            Supply::Rows(taken) => {
                self.is_read();
                Ok(Ok(taken))
            }
            Supply::Nothing => {
                self.waits = Wait::Source;
                Ok(Err(Next::At(sys::monotonic_ns() + 5_000_000)))
            }
            Supply::End => Ok(Err(Next::End)),
            Supply::Bad(text) => self.bad_input(text).map(Err),
            Supply::Unread(text) => Ok(Err(self.no_reading(&text))),
        }
    }

    /// The tick passes without a sample: said once, counted always.
    fn no_reading(&mut self, text: &str) -> Next {
        let grid = self.feed.period_ps > 0;
        if let Some(news) = self.outages.begins(text, grid, sys::monotonic_ns()) {
            log::warn!(id = Message::SourceTrouble; "{news}");
        }
        if !grid {
            return Next::At(sys::monotonic_ns() + LOOK_NS);
        }
        self.tick += 1;
        self.pending.unread += 1;
        self.missed.unread += 1;
        Next::Again
    }

    fn is_read(&mut self) {
        if self.outages.end() {
            log::info!(id = Message::SourceBack; "the source gives readings again");
        }
    }

    fn bad_input(&mut self, text: String) -> Result<Next, Failure> {
        if self.on_bad == OnBad::Stop {
            return Err(Failure::new(
                EXIT_DATA,
                format!("{text}; stopping, as source.on_bad = \"stop\" says"),
            ));
        }
        self.index += self.columns as u64;
        self.pending.bad += 1;
        self.bad_said += 1;
        if self.bad_said <= BAD_SAID_MAX {
            let rest = if self.bad_said == BAD_SAID_MAX { "; further ones are only counted" } else { "" };
            log::warn!(id = Message::BadInput; "{text}; skipped and counted{rest}");
        } else {
            self.bad_line = Some(text);
        }
        Ok(Next::Again)
    }

    /// The pending losses and `rows` rows become accepted entries, with the position after them.
    fn publish(&mut self, rows: usize, now: u64) {
        let t_loss = self.last_tick_ns(now);
        let (grid, tick, t_now) = (self.grid(), self.tick, now.saturating_sub(self.start_ns));
        let pending = std::mem::take(&mut self.pending);
        let (columns, skip) = (self.columns, self.skip());
        self.note_lateness(rows as u64, now);
        let values = self.values.get(skip..rows * columns as usize).unwrap_or_default();
        // The rest of a torn row takes no tick: its channel 0 took one.
        let ticks = if skip > 0 { 0 } else { rows as u64 };
        self.index += values.len() as u64;
        self.tick += if grid.period_ps > 0 { ticks } else { 0 };
        let Some(spool) = self.publisher.spool() else { return };
        pending.push(spool, columns, t_loss);
        match grid.period_ps {
            0 => spool.push_rows(values, skip as u16, columns, |_| t_now),
            _ => spool.push_rows(values, skip as u16, columns, |row| grid.time_of(tick + row)),
        }
        let before = pending.after(spool.position());
        spool.commit(Position {
            index: self.index,
            tick: self.tick,
            samples: before.samples + ticks,
            ..before
        });
        self.ring();
    }

    /// How late the ticks of these rows are taken.
    fn note_lateness(&mut self, rows: u64, now: u64) {
        let (grid, t_now) = (self.grid(), now.saturating_sub(self.start_ns));
        for tick in (self.tick..self.tick + rows).filter(|_| grid.period_ps > 0) {
            self.lateness.record(t_now.saturating_sub(grid.time_of(tick)));
        }
    }

    /// Losses wait for the next sample to go with it; if none comes for a second, they go out alone.
    fn publish_old_losses(&mut self, now: u64) {
        if self.pending.entries() == 0 || !self.may_push() {
            self.pending_since = None;
        } else if now - *self.pending_since.get_or_insert(now) >= 1_000_000_000
            && self.publisher.room() >= self.pending.entries()
        {
            self.publish(0, now);
        }
    }

    /// A step of the wall clock becomes a CLOCK entry, so that the record can tell wall time by itself.
    fn look_at_wall_clock(&mut self, now: u64) {
        // The first tick of a grid may lie ahead (`align`).
        let t_ns = self.last_tick_ns(now).min(now.saturating_sub(self.start_ns));
        // Not between drops and their LOSS: a commit that does not say them would make a next life forget them.
        let ready = self.may_push() && self.pending.entries() == 0 && self.publisher.room() > 0;
        let Some(clocks) = Clocks::read().filter(|_| ready) else { return };
        let Some(spool) = self.publisher.spool() else { return };
        let start = Clocks { monotonic: spool.header().start_mono_ns, wall: spool.header().start_wall_ns };
        let Some(ms) = clocks.step_since(start, spool.feed().clock_ms) else { return };
        spool.push_clock(ms, t_ns);
        let position = spool.position();
        spool.commit(position);
        self.feed = spool.feed();
        self.ring();
        self.clock_steps += 1;
        let slept = std::mem::replace(&mut self.suspended_ns, wallclock::suspended_ns());
        let seconds = ms as f64 / 1000.0;
        // Made of two readings: without a suspend it may as well be some ns less.
        if self.suspended_ns.saturating_sub(slept) >= 1_000_000_000 {
            log::warn!(
                id = Message::ClockStep, milliseconds = ms;
                "the machine was suspended: the wall clock is {seconds:+.3} s ahead of the ticks' clock"
            );
        } else if ms.abs() >= 1000 {
            log::warn!(id = Message::ClockStep, milliseconds = ms; "the wall clock was set: it stepped by {seconds:+.3} s; the ticks do not follow it");
        }
    }

    /// Have we taken over a spool, and is it one in which entries are accepted now?
    fn may_push(&self) -> bool {
        self.begun && self.publisher.accepts()
    }

    fn ring(&self) {
        if let Some(word) = self.publisher.bell() {
            sys::wake(word);
        }
    }

    fn sleep(&mut self, deadline: u64) {
        self.woken += 1;
        if !self.pump.wait(Duration::from_nanos(deadline.saturating_sub(sys::monotonic_ns()))) {
            sys::sleep_until(deadline);
        }
    }

    /// Sleeps until ipc-log makes more entries durable.
    fn wait_for_durable(&mut self, now: u64, deadline: u64) {
        self.woken += 1;
        let limit = Duration::from_nanos(deadline.saturating_sub(now));
        // One cannot sleep on both. Who stands still at the end of a lane must not keep us from what ipc-log says.
        if self.pump.is_flowing(now) {
            self.pump.wait(limit.min(SLICE));
            return;
        }
        let Some(log) = self.publisher.log().get() else { return sys::sleep_until(deadline) };
        // What was durable before we looked for room: a commit since then must not be slept through.
        let Some(seen) = self.durable_seen else { return sys::sleep_until(now + LOOK_NS / 100) };
        // ipc-log rings after every commit without asking who sleeps.
        sys::wait(log.durable_word(), seen, self.pump.may_rest(limit));
    }

    /// The spool may be full, and what was dropped for that would be in no record if this is the last life of the spool.
    fn wait_for_room(&mut self) {
        let end = sys::monotonic_ns() + LAST_NS;
        loop {
            let now = sys::monotonic_ns();
            self.durable_seen = self.publisher.durable();
            if self.publisher.room() >= self.pending.entries() || now >= end {
                return;
            }
            self.pump.look();
            self.pump.turn(self.publisher.spool(), now);
            self.wait_for_durable(now, end.min(now + LOOK_NS));
            self.publisher.look();
        }
    }

    /// The end: pending losses go out if they fit; else they stay with the spool for the next life.
    fn finish(&mut self) {
        let now = sys::monotonic_ns();
        self.publisher.look();
        if self.may_push() {
            self.miss_ticks(now, self.late_max_ns);
            let t_ns = self.last_tick_ns(now);
            self.wait_for_room();
            let (pending, index, tick) = (self.pending, self.index, self.tick);
            let columns = self.columns;
            let fits = self.publisher.room() >= pending.entries();
            if let Some(spool) = self.publisher.spool().filter(|_| fits) {
                pending.push(spool, columns, t_ns);
                spool.commit(Position { index, tick, ..pending.after(spool.position()) });
                self.pending = Pending::default();
            }
            self.ring();
        }
        self.tell_of_losses(u64::MAX); // what is not said now never is
        self.count_up();
        self.warn_of_what_is_left(now);
        self.publisher.page().set_state(State::Ended);
    }

    /// Nobody is there to make the last entries durable: that is no failure of ours, but must be said.
    fn warn_of_what_is_left(&mut self, now: u64) {
        let head = self.publisher.spool().map_or(0, |s| s.head());
        let left = self.publisher.durable().map_or(0, |durable| head.saturating_sub(durable));
        if left > 0 && !self.log_answers(now) {
            log::warn!(id = Message::LeftInSpool, entries = left; "{left} entries are only in the spool: start ipc-log to make them durable");
        }
    }

    /// Does ipc-log turn its loop?
    fn log_answers(&self, now: u64) -> bool {
        let log = self.publisher.log().get();
        log.is_some_and(|p| now.saturating_sub(p.beat()) < SILENT_NS && p.state() != Some(State::Ended))
    }

    /// At every look: what users should know.
    fn look(&mut self, state: State, now: u64) {
        for event in self.publisher.take_events() {
            // What fails is tried again every 100 ms, and said once.
            match event {
                Event::Failed(text) if !self.failed.is_new(&text) => {}
                event => tell(&event),
            }
        }
        self.publish_old_losses(now);
        self.look_at_wall_clock(now);
        if let Some(text) = self.bad_line.take() {
            log::debug!(id = Message::BadInput; "{text}; skipped and counted");
        }
        if matches!(state, State::Running | State::Full) {
            self.waiting_since = None;
        }
        if self.waiting.is_news(state == State::WaitingForLog, now) {
            log::info!(id = Message::Waiting; "waiting for ipc-log: no sample is taken before its record is there");
        }
        self.log_presence.tell(self.log_answers(now));
        self.tell_of_losses(now);
        self.count_up();
    }

    fn tell_of_losses(&mut self, now: u64) {
        let pending = self.pending;
        let dropped = self.publisher.spool().map(|spool| pending.after(spool.position()).full);
        self.loss_news.tell(&self.missed, dropped, now);
    }

    fn count_up(&mut self) {
        let pending = self.pending;
        let Some(spool) = self.publisher.spool() else {
            return self.publisher.page().set_counters(&[0, 0, 0, 0, 0, self.waited]);
        };
        let p = pending.after(spool.position());
        let taken = p.samples + p.full;
        let ([p50, p99, late_max], remade) = (self.lateness.summary(), self.publisher.remade());
        let Missed { down, late, blocked, unread, silent } = self.missed;
        let since_epoch = [taken + p.empty, taken, p.empty, p.full, p.bad, self.waited];
        let of_this_life =
            [late_max, remade, self.woken, p50, p99, down, late, blocked, unread, self.clock_steps, silent];
        let counters = [&since_epoch[..], &of_this_life].concat();
        self.publisher.page().set_counters(&counters);
    }
}
