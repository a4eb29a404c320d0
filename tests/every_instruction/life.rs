//! A process of our own, stopped between any two of its instructions.
#![allow(unsafe_code)] // fork, ptrace, _exit: said at each block

use crate::scale;

/// Instruction boundaries judged by each test; `T2_BOUNDARIES` sets another number.
pub fn boundaries() -> u64 {
    scale::size("T2_BOUNDARIES", [100_000, 2_500_000, 25_000_000])
}

/// Dice that start at `usual`, or where `T2_SEED` says.
pub fn dice(usual: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(scale::seed_or("T2_SEED", usual))
}

/// One life of a role. Dropping it is SIGKILL.
pub struct Life {
    pid: libc::pid_t,
    ended: bool,
    steps: u64,
}

impl Life {
    pub fn start(body: impl FnOnce()) -> Life {
        // SAFETY: the child runs only `body` on memory that it owns after the fork (glibc makes its allocator usable
        // there) and leaves by _exit, so nothing of the test harness runs twice.
        unsafe {
            let pid = libc::fork();
            assert!(pid >= 0, "fork failed");
            if pid == 0 {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                libc::_exit(if ended.is_ok() { 0 } else { 70 });
            }
            let life = Life { pid, ended: false, steps: 0 };
            life.wait();
            life
        }
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: waits for a child of this thread and writes to a local.
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
        status
    }

    /// One instruction further; false once the process has ended.
    pub fn step(&mut self) -> bool {
        // SAFETY: the child is ours and stopped.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0) };
        let status = self.wait();
        if libc::WIFSTOPPED(status) {
            assert_eq!(libc::WSTOPSIG(status), libc::SIGTRAP, "the child met a signal");
            self.steps += 1;
            return true;
        }
        self.ended = true;
        assert_eq!(status, 0, "the child failed");
        false
    }

    pub fn kill(self) {}
}

/// A failed test must not leave a child behind that runs for ever.
impl Drop for Life {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: the child is ours and not yet waited for, so its pid is not reused.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.wait();
        }
        scale::tally(self.steps, None);
    }
}
