//! A directory in memory that somebody else writes to, and what the writer says of it.
//!
//! What a SIGKILL leaves depends on two things only: what the file system holds, and what the writer has already said to
//! others. So a boundary at which neither has changed need not be judged again. inotify tells of every change of the
//! first, a comparison of the second; and so that nobody has to believe inotify, every 4,096th boundary is judged anyway.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_pipeline::segment::{SHM, Segments, Shm};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tempfile::TempDir;

const JUDGED_ANYWAY: u64 = 4096;
const WORDS: usize = 8;

/// tmpfs: to a kill it is like any other file system, and fsync costs nothing.
pub fn in_memory() -> TempDir {
    tempfile::Builder::new().prefix("ipc-pipeline@t2-dir-").tempdir_in(SHM).unwrap()
}

/// What the writer has said to others: words shared with it, which it only raises.
pub struct Told {
    memory: <Shm as Segments>::Mem,
}

impl Told {
    pub fn new() -> Told {
        let name = format!("ipc-pipeline@t2-told-{}-{}", std::process::id(), fastrand::u64(..));
        let memory = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap())
            .create(&name, WORDS, &mut |_| ())
            .unwrap();
        std::fs::remove_file(Path::new(SHM).join(name)).unwrap(); // both have it mapped
        Told { memory }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        &self.memory.words()[word]
    }

    pub fn get(&self, word: usize) -> u64 {
        self.word(word).load(Relaxed)
    }

    pub fn say(&self, word: usize, value: u64) {
        self.word(word).store(value, Relaxed);
    }

    fn all(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| self.get(word))
    }
}

/// Tells at which boundaries there is something new to judge.
pub struct Watch {
    changes: OwnedFd,
    said: [u64; WORDS],
    boundaries: u64,
    pub changed: u64,
}

impl Watch {
    pub fn new(dir: &Path) -> Watch {
        let changes = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let all = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        add_watch(&changes, dir, all).unwrap();
        Watch { changes, said: [u64::MAX; WORDS], boundaries: 0, changed: 0 }
    }

    /// To be asked once at every boundary.
    pub fn is_new(&mut self, told: &Told) -> bool {
        let mut events = [MaybeUninit::<u8>::uninit(); 4096];
        let changed = rustix::io::read(&self.changes, &mut events).is_ok();
        self.changed += u64::from(changed);
        let said = told.all();
        let new = changed || said != self.said || self.boundaries.is_multiple_of(JUDGED_ANYWAY);
        self.said = said;
        self.boundaries += 1;
        new
    }
}

/// A fresh copy of all files in `from`, to be recovered without touching the original.
pub fn copy(from: &Path, to: &Path) -> PathBuf {
    let to = to.join("copy");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}
