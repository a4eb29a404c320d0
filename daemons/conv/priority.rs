//! The priority of ipc-conv.
#![forbid(unsafe_code)]

use ipc_pipeline::messages::Message;
use ipc_pipeline::sys;

/// Real-time priority, if it is asked for: a wish that the system may refuse.
pub fn set(priority: u8) {
    if priority > 0
        && let Err(e) = sys::set_realtime(priority)
    {
        log::warn!(
            id = Message::RealtimeRefused;
            "cannot take the real-time priority {priority} of conv.realtime: {e}; going on without. Allow it with LimitRTPRIO={priority} in the unit, or with CAP_SYS_NICE"
        );
    }
}
