//! What happens to the spool, in words for people.
#![forbid(unsafe_code)]

use ipc_pipeline::messages::Message;
use ipc_pipeline::publisher::Event;
use ipc_pipeline::text::counted;

/// Says it in the log.
pub fn tell(event: &Event) {
    match event {
        Event::Began { epoch, base } => {
            log::info!(id = Message::EpochBegins, epoch, seq = base; "epoch {epoch} begins at seq {base}")
        }
        Event::Resumed { epoch, head, at_risk } => {
            log::info!(
                id = Message::Resumed, epoch, seq = head + 1, at_risk;
                "going on in epoch {epoch} at seq {} ({} kept until ipc-log confirms them)",
                head + 1,
                counted(*at_risk, "entry", "entries")
            );
        }
        Event::OldCapacity { now, configured } => log::warn!(
            id = Message::OldCapacity;
            "the spool has {now} entries, not the {configured} of spool.capacity: that takes effect after the next clean stop"
        ),
        Event::Remade => {
            log::warn!(id = Message::ObjectRepaired; "the spool's name was removed: the spool was put back whole under it")
        }
        Event::Unusable => {
            log::warn!(id = Message::SpoolUnusable; "the old spool cannot be used: asking ipc-log for a new epoch")
        }
        Event::Foreign { spool, log, tail, durable } if spool != log => log::error!(
            id = Message::ForeignRecord, durable, tail;
            "the spool belongs to record {spool:016x}, ipc-log keeps record {log:016x} (durable up to {durable}): nothing is accepted. Put the old record back, or give up what is only in the spool (durable up to {tail}) with `ipc-pipeline objects remove --abandon`"
        ),
        Event::Foreign { tail, durable, .. } => log::error!(
            id = Message::ForeignRecord, durable, tail;
            "the record ends at {durable}, but {tail} entries were durable once: it was cut or restored. Nothing is accepted. Put the whole record back, or give up what is only in the spool with `ipc-pipeline objects remove --abandon`"
        ),
        Event::WrongAddress { there, here } => log::error!(
            id = Message::WrongAddress;
            "ipc-log receives at {there}, but edge.log here says {here}: nothing is accepted. Restart the one that was not started with the present configuration"
        ),
        Event::Failed(text) => log::error!(id = Message::ObjectTrouble; "{text}; trying again"),
    }
}
