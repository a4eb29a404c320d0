//! The keeper: a thread of ipc-log that looks after sealed segments. It compresses them, and removes the oldest when there
//! are too many. It gets processor and disk only when nobody else wants them, and nobody ever waits for it.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipc_pipeline::compress::compress_sealed;
use ipc_pipeline::config::{Config, LogConfig};
use ipc_pipeline::daemon::{Failure, Said};
use ipc_pipeline::disk::{DirDisk, DiskError};
use ipc_pipeline::messages::Message;
use ipc_pipeline::record::Record;
use ipc_pipeline::retention::{Keep, Retention};
use ipc_pipeline::settings::Settings;
use ipc_pipeline::sys;

/// So often it looks by itself: segments grow old, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(60);

/// Tells the keeper what it did not know. Never waits.
#[derive(Clone)]
pub struct Bell {
    sender: SyncSender<()>,
    wanted: Arc<Mutex<LogConfig>>,
}

impl Bell {
    /// A segment was sealed.
    pub fn ring(&self) {
        let _ = self.sender.try_send(()); // full: it is told already
    }

    /// The record is kept otherwise from now on.
    pub fn change(&self, config: &LogConfig) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = config.clone();
        self.ring();
    }
}

struct Keeper {
    disk: DirDisk,
    log_id: u64,
    wanted: Arc<Mutex<LogConfig>>,
    /// Of the statistics, for the summary of what is removed.
    settings: Settings,
    said: Said,
}

/// Starts the keeper. It ends with the process; what it had begun is swept by the next life.
pub fn start(record: &Record<DirDisk>, whole: &Config) -> Result<Bell, Failure> {
    let refused = |e| Failure::system(format!("cannot start the thread that keeps the record: {e}"));
    let disk = record.disk().try_clone().map_err(refused)?;
    let (log_id, settings) = (record.log_id(), whole.stat.settings.clone());
    let wanted = Arc::new(Mutex::new(whole.log.clone()));
    let keeper = Keeper { disk, log_id, wanted: wanted.clone(), settings, said: Said::default() };
    let (sender, rung) = sync_channel(1);
    let spawned = std::thread::Builder::new().name("keeper".into()).spawn(move || keeper.run(&rung));
    spawned.map_err(refused)?;
    Ok(Bell { sender, wanted })
}

impl Keeper {
    fn run(mut self, rung: &Receiver<()>) {
        sys::become_idle();
        loop {
            let config = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match self.look(&config) {
                Ok(()) => self.said.clear(),
                Err(e) if self.said.is_new(&e.to_string()) => {
                    log::warn!(id = Message::KeeperTrouble; "{e}. The record is whole as it is; it is tried again every minute");
                }
                Err(_) => {}
            }
            let has_work = config.compress || config.keep_size.is_some() || config.keep_time.is_some();
            let rung =
                if has_work { rung.recv_timeout(LOOK) } else { rung.recv().map_err(RecvTimeoutError::from) };
            if rung == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn look(&self, config: &LogConfig) -> Result<(), DiskError> {
        if config.compress {
            compress_sealed(&self.disk, &|_| true)?;
        }
        let keep = Keep { size: config.keep_size, time: config.keep_time };
        let (disk, settings) = (&self.disk, &self.settings);
        let retention = Retention { disk, log_id: self.log_id, keep, settings, now_ns: sys::wall_ns() };
        if let Some(summary) = retention.remove_oldest()? {
            let seq = summary.n();
            log::info!(id = Message::RecordShortened, seq; "removed the entries up to {seq} from the record; their summary is kept");
        }
        Ok(())
    }
}
