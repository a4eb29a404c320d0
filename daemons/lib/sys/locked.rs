//! Words of shared memory under a lock that survives whoever holds it.
//!
//! The pipeline has no lock in shared memory; this is for what tries the mechanisms of the machine. Of raw_sync only what is
//! safe against kills is used: `Mutex::from_existing` on a mutex that is made here, process-shared and robust, and `try_lock`
//! with whole seconds (a part of a second fails at once whenever the sum passes a full one).

use std::error::Error;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::locks::{LockImpl, LockInit, Mutex};

use super::Map;

/// Words of the mutex itself, at the front of the map.
const MUTEX: usize = size_of::<libc::pthread_mutex_t>().div_ceil(8);

/// A map whose words are only touched under its lock.
pub struct LockedMap {
    lock: Box<dyn LockImpl>,
    map: Map,
}

fn checked(number: libc::c_int) -> io::Result<()> {
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(number)) }
}

/// raw_sync gives the number of an error as the last word of a text.
fn number_of(error: &dyn Error) -> Option<i32> {
    error.to_string().rsplit(' ').next()?.parse().ok()
}

impl LockedMap {
    /// Makes the lock at the front of a file of zeros that nobody else has mapped yet, and maps `len` bytes of it.
    ///
    /// # Errors
    /// The file is shorter, or `len` is no multiple of 8 or has no word besides the lock; or what the system said.
    pub fn make(file: File, len: usize) -> io::Result<LockedMap> {
        let map = LockedMap::map(file, len)?;
        let mutex = map.raw.as_mut_ptr().cast::<libc::pthread_mutex_t>();
        // SAFETY: zeros are valid for what the next call fills in.
        let mut how: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
        // SAFETY: `how` is ours; the map is page aligned, has room for a mutex and nobody else uses it yet.
        unsafe {
            checked(libc::pthread_mutexattr_init(&mut how))?;
            checked(libc::pthread_mutexattr_setpshared(&mut how, libc::PTHREAD_PROCESS_SHARED))?;
            checked(libc::pthread_mutexattr_setrobust(&mut how, libc::PTHREAD_MUTEX_ROBUST))?;
            checked(libc::pthread_mutex_init(mutex, &how))?;
            checked(libc::pthread_mutexattr_destroy(&mut how))?;
        }
        LockedMap::with_lock(map)
    }

    /// Maps `len` bytes of a file whose lock was made by [`LockedMap::make`].
    ///
    /// # Errors
    /// As [`LockedMap::make`].
    pub fn open(file: File, len: usize) -> io::Result<LockedMap> {
        LockedMap::with_lock(LockedMap::map(file, len)?)
    }

    fn map(file: File, len: usize) -> io::Result<Map> {
        if len / 8 <= MUTEX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Map::writable(file, len)
    }

    fn with_lock(map: Map) -> io::Result<LockedMap> {
        let front = map.raw.as_mut_ptr();
        // SAFETY: a mutex was made at the front of the map, which lives as long as the lock: both are in one value.
        let made = unsafe { Mutex::from_existing(front, front) };
        let (lock, _) = made.map_err(|e| io::Error::other(e.to_string()))?;
        Ok(LockedMap { lock, map })
    }

    /// Does `work` on the words while nobody else can. If the last holder died with the lock, what it was at may be half done:
    /// `repair` is called first.
    ///
    /// # Errors
    /// ETIMEDOUT: others held it for `seconds`. Anything else: the lock is of no use any more.
    pub fn with<R>(
        &self,
        seconds: u64,
        repair: impl Fn(&[AtomicU64]),
        work: impl FnOnce(&[AtomicU64]) -> R,
    ) -> io::Result<R> {
        let words = self.map.words().get(MUTEX..).unwrap_or_default();
        loop {
            let error = match self.lock.try_lock(Timeout::Val(Duration::from_secs(seconds))) {
                Ok(_held) => return Ok(work(words)),
                Err(e) => e,
            };
            match number_of(error.as_ref()) {
                // We hold it now, though it says that it failed.
                Some(libc::EOWNERDEAD) => {
                    repair(words);
                    // SAFETY: the mutex of this map, which we hold.
                    checked(unsafe { libc::pthread_mutex_consistent(self.lock.as_raw().cast()) })?;
                    self.lock.release().map_err(|e| io::Error::other(e.to_string()))?;
                }
                Some(number) => return Err(io::Error::from_raw_os_error(number)),
                None => return Err(io::Error::other(error.to_string())),
            }
        }
    }
}
