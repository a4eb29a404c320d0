//! ipc-conv as a service: what it tells the service manager, and how it takes another configuration.
#![forbid(unsafe_code)]

use ipc_pipeline::config::Config;
use ipc_pipeline::notify::{Notifier, Status};
use ipc_pipeline::page::{Page, State};
use ipc_pipeline::reload::Reloads;
use ipc_pipeline::spool::Position;
use ipc_pipeline::sys::Map;

use super::Converter;

impl Converter {
    /// Tells the manager how it stands.
    pub(super) fn report_status(&mut self, notifier: &mut Notifier, state: State, now: u64) {
        let (pending, durable) = (self.pending, self.publisher.durable());
        let (head, p) = self
            .publisher
            .spool()
            .map_or((0, Position::default()), |spool| (spool.head(), pending.after(spool.position())));
        let status = Status {
            state: state.name(),
            seq: head,
            done: "accepted",
            lag: durable.map(|durable| head.saturating_sub(durable)),
            behind: "not yet durable",
            lost: &[("ticks without a sample", p.empty), ("samples dropped", p.full), ("bad inputs", p.bad)],
        };
        notifier.status(now, &status);
    }
}

impl Reloads for Converter {
    fn write(&self, to: &dyn Fn(&Page<Map>)) {
        to(self.publisher.page());
    }

    fn take(&mut self, config: &Config) -> Result<(), String> {
        self.late_max_ns = late_max_ns(config);
        Ok(())
    }
}

/// How late a tick may be taken, ns.
pub(super) fn late_max_ns(config: &Config) -> u64 {
    config.late_limit().as_nanos().min(u64::MAX as u128) as u64
}
