//! A real-time signal as a message of eight bytes: the kernel queues them, and loses none.

use std::io;

use rustix::process::Pid;

/// The right to take them: the signal is blocked in this thread, and in those that it starts.
pub struct QueuedSignal(libc::sigset_t);

fn result(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

impl QueuedSignal {
    /// To be called before the first thread is started and before anybody sends: the signal's default is to end the process.
    ///
    /// # Errors
    /// The system's.
    pub fn block() -> io::Result<QueuedSignal> {
        // SAFETY: zeros are valid for what the next call fills in.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours; a null pointer asks for no copy of the old mask.
        unsafe {
            result(libc::sigemptyset(&mut set))?;
            result(libc::sigaddset(&mut set, libc::SIGRTMIN()))?;
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => Ok(QueuedSignal(set)),
                number => Err(io::Error::from_raw_os_error(number)),
            }
        }
    }

    /// Queues a word for a process.
    ///
    /// # Errors
    /// EAGAIN: no room. ESRCH: there is no such process. EPERM: it is somebody else's.
    pub fn send(&self, to: Pid, word: u64) -> io::Result<()> {
        let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(word as usize) };
        // SAFETY: the kernel carries the word and follows no pointer.
        result(unsafe { libc::sigqueue(to.as_raw_nonzero().get(), libc::SIGRTMIN(), value) }).map(drop)
    }

    /// Waits for the next word.
    ///
    /// # Errors
    /// EINTR.
    pub fn receive(&self) -> io::Result<u64> {
        // SAFETY: zeros are valid for what the next call fills in.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both are ours.
        result(unsafe { libc::sigwaitinfo(&self.0, &mut info) })?;
        // SAFETY: only sigqueue sends this signal, so that there is a value; of another sender it is any number.
        Ok(unsafe { info.si_value() }.sival_ptr.addr() as u64)
    }
}
