//! The edge to report, if it is not the snapshot register itself: the newest snapshot goes out, and again while nothing is new.
#![forbid(unsafe_code)]

use ipc_pipeline::carrier::Lane;
use ipc_pipeline::daemon::{Context, Said};
use ipc_pipeline::edge::Sent;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::Role;
use ipc_pipeline::snapshot::{ROW_LEN, Snapshot};

/// A snapshot goes out again after this time, ns: a carrier may lose it, and report may come late.
const AGAIN_NS: u64 = 500_000_000;

/// The way to report.
pub struct Newest {
    lane: Lane,
    said: Said,
    rows: Vec<u8>,
    /// Bytes of it that have gone out.
    sent: usize,
    next_ns: u64,
    /// report listens elsewhere: nothing is sent.
    is_elsewhere: bool,
}

impl Newest {
    /// As the configuration wants it; `None` for `shm:`.
    pub fn to_report(context: &Context) -> Option<Newest> {
        let mut lane = Lane::to(&context.names, Role::Report, context.config.edge.report)?;
        lane.look();
        Some(Newest {
            lane,
            said: Said::default(),
            rows: Vec::new(),
            sent: 0,
            next_ns: 0,
            is_elsewhere: false,
        })
    }

    /// Rules E4 and E7; `there` is where report's page says that it listens.
    pub fn look(&mut self, there: Option<String>, now_ns: u64) {
        self.lane.look();
        let ours = self.lane.address();
        self.is_elsewhere = there.as_ref().is_some_and(|there| *there != ours.to_string());
        if let Some(trouble) = self.lane.trouble() {
            if self.said.is_new(trouble) {
                log::error!(id = Message::ObjectTrouble; "nothing reaches ipc-report: {trouble}. Trying again every 100 ms");
            }
        } else if let Some(there) = there.filter(|there| *there != ours.to_string()) {
            if self.said.is_new(&there) {
                log::error!(
                    id = Message::WrongAddress;
                    "ipc-report listens at {there}, and ipc-stat is configured to send to {ours}: nothing reaches it; restart the one that has the old configuration"
                );
            }
        } else {
            self.said.clear();
        }
        if now_ns >= self.next_ns {
            self.sent = 0;
        }
        self.send(now_ns);
    }

    /// This is the newest one now. What is left of an older one does not go out any more.
    pub fn publish(&mut self, snapshot: &Snapshot, now_ns: u64) {
        self.rows = snapshot.encode();
        self.sent = 0;
        self.send(now_ns);
    }

    /// Sends what there is room for; the rest at the next look, unless there is a newer one by then.
    fn send(&mut self, now_ns: u64) {
        let Some(outlet) = self.lane.outlet().filter(|_| !self.is_elsewhere) else { return };
        let most = (outlet.message_max() / ROW_LEN).max(1) * ROW_LEN;
        while let Some(left) = self.rows.get(self.sent..).filter(|left| !left.is_empty()) {
            let message = &left[..left.len().min(most)];
            match outlet.send(message) {
                Sent::Sent => self.sent += message.len(),
                Sent::Full => return,
                Sent::Gone => {
                    self.sent = 0;
                    return self.lane.close();
                }
            }
            self.next_ns = now_ns + AGAIN_NS;
        }
        if outlet.flush() == Sent::Gone {
            self.lane.close();
        }
    }
}
