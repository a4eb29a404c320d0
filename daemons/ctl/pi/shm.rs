//! `shm`: one sum in shared memory, to which each worker adds under a lock.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_pipeline::sys::LockedMap;
use rustix::fs::{FallocateFlags, fallocate};

use super::mechanism::{LIMIT, Mechanism};
use super::place::Place;
use super::sums::Sums;

/// One page.
const LEN: usize = 4096;

/// The segment.
pub struct Shared {
    path: PathBuf,
    map: LockedMap,
}

impl Shared {
    pub fn make(place: &Place) -> io::Result<Shared> {
        let path = place.segment();
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        // Its room is had now: a full file system would be a fatal signal at the first store.
        let made = fallocate(&file, FallocateFlags::empty(), 0, LEN as u64)
            .map_err(io::Error::from)
            .and_then(|()| LockedMap::make(file, LEN));
        match made {
            Ok(map) => Ok(Shared { path, map }),
            Err(e) => {
                let _ = std::fs::remove_file(&path);
                Err(e)
            }
        }
    }
}

/// The sum, and how many have added to it. Nobody sees them but under the lock.
struct Words<'a> {
    sum: &'a AtomicU64,
    added: &'a AtomicU64,
}

fn words(words: &[AtomicU64]) -> Option<Words<'_>> {
    let [sum, added, ..] = words else { return None };
    Some(Words { sum, added })
}

/// Whether the one who died with the lock had added is not to be known: no number any more, whatever is added to it.
fn spoil(all: &[AtomicU64]) {
    if let Some(words) = words(all) {
        words.sum.store(f64::NAN.to_bits(), Relaxed);
    }
}

impl Mechanism for Shared {
    fn at(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        let read = |all: &[AtomicU64]| {
            words(all).map(|words| (f64::from_bits(words.sum.load(Relaxed)), words.added.load(Relaxed)))
        };
        if let Some((sum, added)) = self.map.with(LIMIT.as_secs(), spoil, read)?
            && added == sums.workers()
            && sum.is_finite()
        {
            sums.put_whole(sum);
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A worker's part.
pub fn add(at: &str, sum: f64) -> io::Result<()> {
    let file: File = OpenOptions::new().read(true).write(true).open(at)?;
    LockedMap::open(file, LEN)?.with(LIMIT.as_secs(), spoil, |all| {
        if let Some(words) = words(all) {
            let whole = f64::from_bits(words.sum.load(Relaxed)) + sum;
            words.sum.store(whole.to_bits(), Relaxed);
            words.added.fetch_add(1, Relaxed);
        }
    })
}
