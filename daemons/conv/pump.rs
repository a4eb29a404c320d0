//! Sends what is accepted along the edges that have a carrier: a look at the receiver's page says where it stands, the spool
//! holds what comes next.
#![forbid(unsafe_code)]

use std::time::Duration;

use ipc_pipeline::carrier::{self, Blind, Lane};
use ipc_pipeline::daemon::{Context, Said};
use ipc_pipeline::edge::{Peer, Sender, Sent};
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::Role;
use ipc_pipeline::page::PeerPage;
use ipc_pipeline::segment::Shm;
use ipc_pipeline::spool::SpoolWriter;
use ipc_pipeline::sys::Map;

/// A lane over which nothing went out for this long, ns, is stuck: whoever receives there stands still.
const STUCK_NS: u64 = 10_000_000;
/// A lane that is stuck is tried again after this time at the latest.
const STUCK_LOOK: Duration = Duration::from_millis(20);

/// All lanes of conv; none for edges over `shm:`.
pub struct Pump {
    lanes: Vec<Outgoing>,
    /// For lanes whose room cannot be waited for.
    blind: Blind,
    /// When something went out last.
    moved_ns: u64,
}

struct Outgoing {
    lane: Lane,
    sender: Sender,
    page: PeerPage<Shm>,
    /// The receiver's address as its page had it at the last look.
    listens_at: Option<String>,
    /// Entries that could not go out at the last turn.
    is_behind: bool,
    said: Said,
}

impl Pump {
    /// Lanes as the configuration wants them.
    pub fn new(context: &Context) -> Pump {
        let (names, edge) = (&context.names, &context.config.edge);
        let outgoing = |(receiver, address)| {
            Some(Outgoing {
                lane: Lane::to(names, receiver, address)?,
                // Whatever the spool no longer holds stat reads in the record.
                sender: Sender::new(&address.to_string(), receiver == Role::Stat),
                page: PeerPage::new(context.shm.clone(), &names.page(receiver), receiver.index()),
                listens_at: None,
                is_behind: false,
                said: Said::default(),
            })
        };
        let ours = [(Role::Log, edge.log), (Role::Stat, edge.stat)];
        let lanes = ours.into_iter().filter_map(outgoing).collect();
        let mut pump = Pump { lanes, blind: Blind::default(), moved_ns: 0 };
        pump.look();
        pump
    }

    /// Rule E4, and what users should know. To be called at every look.
    pub fn look(&mut self) {
        self.lanes.iter_mut().for_each(Outgoing::look);
    }

    /// Sends what there is room for.
    #[inline]
    pub fn turn(&mut self, spool: Option<&mut SpoolWriter<Map>>, now_ns: u64) {
        if self.lanes.is_empty() {
            return;
        }
        let Some(spool) = spool else { return };
        let sent: u64 = self.lanes.iter_mut().map(|lane| lane.turn(spool, now_ns)).sum();
        if sent > 0 {
            self.blind.moved();
            self.moved_ns = now_ns;
        }
    }

    /// Is there more to send, over lanes whose receivers take it?
    pub fn is_flowing(&self, now_ns: u64) -> bool {
        self.is_behind() && now_ns.saturating_sub(self.moved_ns) < STUCK_NS
    }

    /// For how long something else may be waited for, so that what is left to send is not forgotten.
    pub fn may_rest(&self, limit: Duration) -> Duration {
        if self.is_behind() { limit.min(STUCK_LOOK) } else { limit }
    }

    fn is_behind(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_behind)
    }

    /// Sleeps until more may be sent, but not longer than `limit`. False: there is nothing to wait for.
    pub fn wait(&mut self, limit: Duration) -> bool {
        if !self.is_behind() {
            return false;
        }
        let fds: Vec<_> =
            self.lanes.iter().filter(|lane| lane.is_behind).map(|lane| lane.lane.room()).collect();
        let is_blind = fds.iter().any(Option::is_none);
        let limit = if is_blind { limit.min(self.blind.next_wait()) } else { limit };
        carrier::wait(fds.into_iter().flatten(), true, limit);
        true
    }
}

impl Outgoing {
    fn look(&mut self) {
        self.page.look();
        self.lane.look();
        self.listens_at = self.page.get().and_then(|page| page.address());
        let (program, ours) = (self.lane.receiver().program(), self.lane.address());
        if let Some(trouble) = self.lane.trouble() {
            if self.said.is_new(trouble) {
                log::error!(id = Message::ObjectTrouble; "nothing reaches {program}: {trouble}. Trying again every 100 ms");
            }
        } else if let Some(there) = self.listens_at.as_ref().filter(|there| **there != ours.to_string()) {
            // Of ipc-log the publisher says it: nothing is accepted then.
            if self.lane.receiver() != Role::Log && self.said.is_new(there) {
                log::error!(
                    id = Message::WrongAddress;
                    "{program} listens at {there}, and ipc-conv is configured to send to {ours}: nothing is sent; restart the one that has the old configuration"
                );
            }
        } else {
            self.said.clear();
        }
    }

    /// Returns how many entries went out.
    fn turn(&mut self, spool: &SpoolWriter<Map>, now_ns: u64) -> u64 {
        self.is_behind = false;
        let (Some(page), Some(address)) = (self.page.get(), self.listens_at.as_deref()) else { return 0 };
        let Some(outlet) = self.lane.outlet() else { return 0 };
        let peer = Peer { session: page.session(), received: page.received(), state: page.state(), address };
        let standing = (spool.tail(), spool.head());
        let sent = self.sender.turn(outlet, &peer, spool.ring(), standing, now_ns);
        let is_behind = || self.sender.sent() < spool.head() && self.sender.is_right(&peer);
        self.is_behind = sent.is_ok() && (is_behind() || outlet.flush() == Sent::Full);
        sent.unwrap_or_else(|_| {
            self.lane.close();
            0
        })
    }
}
