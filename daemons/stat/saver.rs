//! Writes checkpoints in a thread of its own: a disk that stalls holds up no statistics.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ipc_pipeline::checkpoint::Checkpoint;
use ipc_pipeline::daemon::{Failure, Said};
use ipc_pipeline::messages::Message;
use ipc_pipeline::sys;

/// Our end of the thread. It holds one checkpoint that waits: a newer one takes its place. The thread ends with the process.
pub struct Saver {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    /// There is something on the desk.
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    waiting: Option<Checkpoint>,
    /// Since when one is being written, CLOCK_MONOTONIC ns.
    busy_since: Option<u64>,
    saved: u64,
}

impl Saver {
    /// Saves to this directory.
    pub fn start(dir: PathBuf) -> Result<Saver, Failure> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let spawned = std::thread::Builder::new().name("checkpoints".into()).spawn(move || theirs.work(dir));
        spawned.map_err(|e| Failure::system(format!("cannot start the thread for checkpoints: {e}")))?;
        Ok(Saver { shared })
    }

    /// Has it written next. Never waits.
    pub fn save(&self, checkpoint: Checkpoint) {
        self.shared.desk().waiting = Some(checkpoint);
        self.shared.bell.notify_one();
    }

    /// Is nothing waiting and nothing being written?
    pub fn is_idle(&self) -> bool {
        let desk = self.shared.desk();
        desk.waiting.is_none() && desk.busy_since.is_none()
    }

    /// For how long one has been written by now, ns; 0: none is.
    pub fn busy_ns(&self, now_ns: u64) -> u64 {
        self.shared.desk().busy_since.map_or(0, |since| now_ns.saturating_sub(since))
    }

    /// How many were saved.
    pub fn saved(&self) -> u64 {
        self.shared.desk().saved
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, dir: PathBuf) {
        let mut said = Said::default();
        loop {
            let result = self.next().save(&dir);
            let mut desk = self.desk();
            desk.busy_since = None;
            desk.saved += u64::from(result.is_ok());
            drop(desk);
            match result {
                Ok(()) => said.clear(),
                Err(e) if said.is_new(&e.to_string()) => log::warn!(id = Message::CheckpointTrouble; "{e}"),
                Err(_) => {}
            }
        }
    }

    /// Waits for the next one.
    fn next(&self) -> Checkpoint {
        let mut desk = self.desk();
        loop {
            if let Some(checkpoint) = desk.waiting.take() {
                desk.busy_since = Some(sys::monotonic_ns());
                return checkpoint;
            }
            desk = self.bell.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
