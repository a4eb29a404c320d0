//! What the pages and the spool's header say, by copy: nobody is asked, so nobody is disturbed. For `status`, `top`, and those
//! who follow a pipeline.
#![forbid(unsafe_code)]

use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::page::{self, COUNTER_NAMES, Page, State};
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::segment::{Copied, Memory, Shm};
use ipc_pipeline::spool::{HEADER_WORDS, Overview};
use ipc_pipeline::sys;

/// A daemon whose loop has not turned for so long is not running, ns.
const DEAD_NS: u64 = 1_000_000_000;

/// All of it at one moment.
pub struct Standings {
    /// The four daemons, by [`Role::index`].
    pub roles: [Standing; 4],
    /// The spool, if there is one.
    pub spool: Option<Overview>,
    /// Highest durable seq.
    durable: Option<u64>,
    /// CLOCK_MONOTONIC of the copy, ns.
    pub at_ns: u64,
}

impl Standings {
    /// Looks.
    pub fn of(names: &Names) -> Standings {
        let at_ns = sys::monotonic_ns();
        let roles = Role::ALL.map(|role| Standing::of(names, role, at_ns));
        let spool =
            Copied::read(&Shm::of(names), &names.spool(), HEADER_WORDS).and_then(|c| Overview::of(c.words()));
        let mut standings = Standings { roles, spool, durable: None, at_ns };
        let shown = standings.role(Role::Log).page.as_ref().and_then(Page::durable);
        // Pages are gone after the end of a pipeline, the mark is not.
        standings.durable = shown.or_else(|| marked(names));
        standings
    }

    /// This role.
    pub fn role(&self, role: Role) -> &Standing {
        let [conv, log, stat, report] = &self.roles;
        match role {
            Role::Conv => conv,
            Role::Log => log,
            Role::Stat => stat,
            Role::Report => report,
        }
    }

    /// seq of each role: accepted, received, folded, printed.
    pub fn seq(&self, role: Role) -> Option<u64> {
        let page = self.role(role).page.as_ref()?;
        match role {
            Role::Conv => self.spool.map(|s| s.head),
            // What has come by a carrier is not folded before it is durable.
            Role::Stat => page.durable(),
            _ => Some(page.received()),
        }
    }

    /// Highest seq that conv has accepted.
    pub fn head(&self) -> u64 {
        self.spool.map_or(0, |s| s.head)
    }

    /// Highest durable seq: by ipc-log, or where it has left no page by the mark of the record. `None`: nobody knows.
    pub fn durable(&self) -> Option<u64> {
        self.durable
    }

    /// Entries that a power cut would take.
    pub fn at_risk(&self) -> u64 {
        self.spool.map_or(0, |s| s.at_risk(self.durable.unwrap_or(0)))
    }

    /// How far things have come, in words: by the spool, or without one what the record holds.
    pub fn text(&self) -> String {
        let durable = self.durable.map_or("unknown".into(), |n| n.to_string());
        match (self.spool, self.durable) {
            (Some(spool), _) => {
                format!("accepted {}, durable {durable}, at risk {}", spool.head, self.at_risk())
            }
            (None, Some(1..)) => format!("the record goes up to entry {durable}, all of it durable"),
            (None, _) => "the record holds nothing yet".into(),
        }
    }
}

/// Highest durable seq by the mark.
fn marked(names: &Names) -> Option<u64> {
    let reader = RecordReader::open(&names.record_dir()).ok()?;
    Some(reader.mark().ok()??.durable.seq)
}

/// What a role's page says.
pub struct Standing {
    /// Which daemon.
    pub role: Role,
    /// Its page, if there is one.
    pub page: Option<Page<Copied>>,
    /// How long ago its loop turned, ns.
    age_ns: u64,
}

impl Standing {
    fn of(names: &Names, role: Role, now: u64) -> Standing {
        let copy = Copied::read(&Shm::of(names), &names.page(role), page::WORDS);
        let page = copy.and_then(|c| Page::new(c, role.index()));
        let age_ns = page.as_ref().map_or(u64::MAX, |p| now.saturating_sub(p.beat()));
        Standing { role, page, age_ns }
    }

    /// Has its loop turned lately?
    pub fn is_running(&self) -> bool {
        self.age_ns < DEAD_NS && self.page.as_ref().and_then(Page::state) != Some(State::Ended)
    }

    /// Its state, in words.
    pub fn state(&self) -> String {
        match self.page.as_ref().map(|p| p.state()) {
            None => "not there".into(),
            Some(Some(State::Ended)) => State::Ended.name().into(),
            // Its page is there, and its loop has never turned: there is nothing to count from.
            Some(_) if self.page.as_ref().is_some_and(|page| page.beat() == 0) => "not started yet".into(),
            Some(_) if !self.is_running() => format!("no sign of life for {} s", self.age_ns / 1_000_000_000),
            Some(state) => state.map_or("unknown", State::name).into(),
        }
    }

    /// Its counters with their names.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = COUNTER_NAMES[self.role.index()].iter().enumerate();
        names.filter_map(|(i, name)| Some((*name, self.page.as_ref()?.counter(i))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_pipeline::names::shm_path;
    use ipc_pipeline::page::OwnPage;

    #[test]
    fn only_who_has_turned_its_loop_gives_no_sign_of_life() {
        let names = Names::for_user(Some(&format!("standing-{}", std::process::id()))).unwrap();
        let state = |now| Standing::of(&names, Role::Stat, now).state();
        assert_eq!(state(5), "not there");
        let page = OwnPage::open(Shm::of(&names), &names.page(Role::Stat), Role::Stat.index()).unwrap();
        page.begin(0, 7, 1, 0);
        let (never, late) = (state(90 * DEAD_NS), 95 * DEAD_NS);
        page.set_beat(late - DEAD_NS / 2);
        let [alive, silent] = [late, late + 3 * DEAD_NS].map(state);
        std::fs::remove_file(shm_path(&names.page(Role::Stat))).unwrap();
        assert_eq!([never, alive, silent], ["not started yet", "starting", "no sign of life for 3 s"]);
    }
}
