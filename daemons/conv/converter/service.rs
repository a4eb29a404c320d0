//! ipc-conv as a service: what it tells the service manager, and how it takes another configuration.
#![forbid(unsafe_code)]

use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::{self, Failure};
use ipc_pipeline::header::table_id;
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

impl Converter {
    /// A record keeps its channels: those that ipc-log shows must be ours. It may not show them yet, nor ever.
    pub(super) fn check_table(&self) -> Result<(), Failure> {
        let theirs = self.publisher.log().get().and_then(Page::table);
        if theirs.is_none_or(|theirs| theirs == self.table) {
            return Ok(());
        }
        Err(Failure::config(
            "the channels of the configuration are not those of the record that ipc-log writes, and one record cannot hold both; \
             restore the channels and start ipc-conv again, choose another --name, or stop all four daemons, move the record's \
             directory aside and start them: that begins a new record",
        ))
    }
}

/// The channels of this configuration, in one number.
pub(super) fn table(config: &Config) -> u64 {
    table_id(&daemon::record_settings(config).channels)
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
