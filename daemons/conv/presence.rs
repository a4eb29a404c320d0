//! Whether ipc-log is there, in words for people.
#![forbid(unsafe_code)]

use ipc_pipeline::messages::Message;

/// What is known of it.
#[derive(Default)]
pub struct Presence {
    answered: bool,
    /// It has gone, and that was said.
    gone: bool,
}

impl Presence {
    /// Says once that ipc-log, which was there, has gone, and once that it is back. conv goes on meanwhile.
    pub fn tell(&mut self, answers: bool) {
        if self.answered && !answers {
            log::warn!(
                id = Message::LogGone;
                "ipc-log has ended or no longer answers: what is accepted from now on is only in the spool until it is back"
            );
            self.gone = true;
        } else if self.gone && answers {
            log::warn!(id = Message::LogBack; "ipc-log is back");
            self.gone = false;
        }
        self.answered = answers;
    }
}
