//! The only unsafe code of the project: maps of shared segments, seen as atomic words, and the futex on half of one.
//!
//! Everything above this module sees shared memory as `&[AtomicU64]`: whatever another process does to it, the worst
//! that can be read is a wrong number, which the layers above check.
#![allow(unsafe_code)]

mod crc;
mod locked;
mod queued_signal;
mod sysv;

pub use crc::{all_whole, entry_crc, seal_all};
pub use locked::LockedMap;
pub use queued_signal::QueuedSignal;
pub use sysv::{MessageQueue, QueueState};

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use posixmq::PosixMq;
use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, futex, membarrier};
use rustix::time::{ClockId, Timespec};

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the shared formats are little-endian and their 64-bit words need 64-bit atomic stores");

/// Was something refused that may be granted the next time - no memory, descriptor or space left, a device that fails? Everything
/// else somebody must change first.
pub fn is_momentary(error: &io::Error) -> bool {
    let momentary = [
        Errno::AGAIN,
        Errno::DQUOT,
        Errno::INTR,
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::STALE,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| momentary.contains(&errno))
}

/// A whole file of shared memory, mapped for the life of the value.
pub struct Map {
    raw: MmapRaw,
    file: File,
}

impl Map {
    /// Maps `file` (opened for reading and writing) from its start to `len`, a multiple of 8.
    pub fn writable(file: File, len: usize) -> io::Result<Map> {
        Map::check(&file, len)?;
        let raw = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Map { raw, file })
    }

    /// Maps `file` for reading only. A store through [`Map::words`] would be a fault: only readers get such a map.
    pub fn readable(file: File, len: usize) -> io::Result<Map> {
        Map::check(&file, len)?;
        let raw = MmapOptions::new().len(len).map_raw_read_only(&file)?;
        Ok(Map { raw, file })
    }

    /// A map beyond the end of the file would be SIGBUS at the first access.
    fn check(file: &File, len: usize) -> io::Result<()> {
        if len == 0 || !len.is_multiple_of(8) || file.metadata()?.len() < len as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is shorter than its layout"));
        }
        Ok(())
    }

    /// The mapped words.
    pub fn words(&self) -> &[AtomicU64] {
        let (ptr, len) = (self.raw.as_ptr().cast::<AtomicU64>(), self.raw.len() / 8);
        // SAFETY: the map is page aligned, holds `len` whole words and lives as long as `self`; other processes may
        // store to it at any time, which is sound for atomics and for nothing else; read-only maps are only loaded from
        // (64-bit atomic loads from read-only memory are allowed on the targets that pass the check above).
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }

    /// The mapped file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Bytes in memory of our own that are read and written as words: a copy of a segment.
pub fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    let len = size_of_val(words);
    // SAFETY: u64 has no padding, every bit pattern is valid for both types, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}

fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the low half of a little-endian u64 is at the same address, is aligned for u32 and lives as long; it is
    // given to the futex system call only, which compares it atomically and never writes it.
    unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>() }
}

/// Sleeps until the low half of `word` is no longer that of `seen`, a wake-up, a signal, or `limit` has passed.
pub fn wait(word: &AtomicU64, seen: u64, limit: Duration) {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos() as i64 };
    // All outcomes mean the same to the caller: look again.
    let _ = futex::wait(low_half(word), futex::Flags::empty(), seen as u32, Some(&limit));
}

/// Wakes all who wait on `word`.
pub fn wake(word: &AtomicU64) {
    let _ = futex::wake(low_half(word), futex::Flags::empty(), i32::MAX as u32);
}

/// Lets [`barrier`] of other processes reach the threads of this one. False: the kernel cannot, and a waker needs a
/// fence of its own.
pub fn register_for_barriers() -> bool {
    membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// A full memory barrier on every processor that runs a registered process. Where that is not to be had the caller's own
/// fence is all there is, and a missed wake-up costs its time limit.
pub fn barrier() {
    let _ = membarrier(MembarrierCommand::GlobalExpedited);
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// CLOCK_BOOTTIME in nanoseconds: CLOCK_MONOTONIC and the time of all suspends.
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let t = rustix::time::clock_gettime(clock);
    (t.tv_sec.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec.max(0) as u64)
}

/// Sleeps until CLOCK_MONOTONIC reaches `deadline_ns`; a signal ends it early.
pub fn sleep_until(deadline_ns: u64) {
    let t = Timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as i64,
        tv_nsec: (deadline_ns % 1_000_000_000) as i64,
    };
    let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &t);
}

/// The wake-up slack of this thread: timers fire this much late at most (the kernel's default is 50 us).
pub fn set_timer_slack(ns: u64) {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(ns));
}

/// Runs this thread at the real-time priority `priority` (1 to 99, SCHED_FIFO) from now on.
///
/// # Errors
/// What the kernel said; EPERM without CAP_SYS_NICE or a limit on real-time priority.
pub fn set_realtime(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: a plain system call about the calling thread (0); the kernel only reads the parameters.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks the kernel to begin writing this part of the file to its device, without waiting for it. Only a hint: whatever it
/// fails on, the next fdatasync says.
pub fn start_write_back(file: &File, offset: u64, len: u64) {
    // SAFETY: a plain system call on an open descriptor; no memory is involved.
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset as i64, len as i64, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Puts this thread behind all others: it gets processor and disk when nobody else wants them. What the kernel refuses is
/// left as it is.
pub fn become_idle() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    let _ = rustix::process::setpriority_process(None, 19); // on Linux of the calling thread alone
    // SAFETY: a plain system call with numbers; 0 is the calling thread.
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
}

/// Makes the child of `command` lead a process group of its own and die with the process that starts it.
pub fn dies_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only two plain system calls are made: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the line above.
            if rustix::process::getppid() != Some(parent) {
                return Err(Errno::CHILD.into());
            }
            Ok(())
        });
    }
}

/// Number of names the file still has; 0 once it was deleted or replaced.
pub fn links(file: &impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_nlink as u64)
}

/// The message queue of a descriptor that came from another process; a descriptor of anything else fails at its first use.
pub fn queue_of(fd: OwnedFd) -> PosixMq {
    // SAFETY: the descriptor is open, and its owner gives it away.
    unsafe { PosixMq::from_raw_fd(fd.into_raw_fd()) }
}

/// The descriptor of something that lends it as a number only.
pub fn borrowed(of: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: it is open as long as its owner lives, which the borrow holds.
    unsafe { BorrowedFd::borrow_raw(of.as_raw_fd()) }
}
