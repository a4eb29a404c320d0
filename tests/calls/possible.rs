//! Which errors each system call may return: from the man pages and, where these are silent, from what file systems and
//! memory give. Only errors of a resource or of a moment; those of a wrong call (EBADF, EINVAL) would be bugs of the caller.

/// Calls in groups whose errors are alike.
const POSSIBLE: &[(&[&str], &[&str])] = &[
    // files and directories
    (&["open", "openat"], &["EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT"]),
    (&["read", "pread64", "readv", "preadv"], &["EINTR", "EIO", "ENOMEM"]),
    (&["write", "pwrite64", "writev", "pwritev"], &["EINTR", "EIO", "ENOSPC", "EDQUOT", "ENOMEM"]),
    (&["fsync", "fdatasync"], &["EINTR", "EIO", "ENOSPC", "EDQUOT"]),
    (&["sync_file_range"], &["EIO", "ENOMEM", "ENOSPC"]),
    (&["ftruncate", "fallocate"], &["EINTR", "EIO", "ENOSPC", "EDQUOT", "ENOMEM"]),
    (&["rename", "renameat", "renameat2", "link", "linkat"], &["EIO", "ENOMEM", "ENOSPC", "EDQUOT"]),
    (&["mkdir", "mkdirat", "mknod", "mknodat", "symlink"], &["EIO", "ENOMEM", "ENOSPC", "EDQUOT"]),
    (&["unlink", "unlinkat", "rmdir"], &["EIO", "ENOMEM", "ENOSPC"]),
    (
        &["fchmod", "chmod", "fchmodat", "fchown", "fchownat", "utimensat"],
        &["EIO", "ENOMEM", "ENOSPC", "EDQUOT"],
    ),
    (&["stat", "fstat", "newfstatat", "statx", "lstat", "fstatfs", "statfs", "access"], &["EIO", "ENOMEM"]),
    (&["getdents64", "readlink", "readlinkat", "getcwd"], &["EIO", "ENOMEM"]),
    (&["flock"], &["EINTR", "ENOMEM"]),
    (&["fcntl"], &["EINTR", "EMFILE", "ENOMEM"]),
    (&["dup", "dup2", "dup3", "pipe", "pipe2"], &["EMFILE", "ENFILE"]),
    (&["close"], &["EINTR"]), // EIO and ENOSPC only of what NFS writes at last; std panics on them when it closes a directory
    // memory and threads
    (&["mmap"], &["ENOMEM", "EAGAIN", "ENFILE"]),
    (&["munmap", "mprotect", "mremap"], &["ENOMEM"]),
    (&["madvise", "mlock"], &["EAGAIN", "ENOMEM"]),
    (&["clone", "clone3", "fork", "vfork"], &["EAGAIN", "ENOMEM"]),
    (&["membarrier"], &["ENOMEM", "EAGAIN"]),
    // waiting
    (&["futex"], &["EINTR", "EAGAIN"]),
    (&["poll", "ppoll", "select", "pselect6"], &["EINTR", "ENOMEM", "EAGAIN"]),
    (&["epoll_wait", "epoll_pwait", "clock_nanosleep", "nanosleep", "wait4", "waitid"], &["EINTR"]),
    (
        &["eventfd2", "epoll_create1", "timerfd_create", "inotify_init1", "memfd_create", "pidfd_open"],
        &["EMFILE", "ENFILE", "ENOMEM"],
    ),
    (&["getrandom"], &["EINTR", "EAGAIN"]),
    // queues and sockets
    (&["mq_open", "msgget"], &["EMFILE", "ENFILE", "ENOMEM", "ENOSPC"]),
    (&["mq_timedsend", "mq_timedreceive", "msgsnd", "msgrcv"], &["EINTR", "EAGAIN", "ENOMEM"]),
    (&["socket", "socketpair"], &["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"]),
    (
        &["bind", "listen", "connect", "getsockopt", "setsockopt", "getsockname"],
        &["EAGAIN", "ENOMEM", "ENOBUFS"],
    ),
    (&["accept", "accept4"], &["EINTR", "EAGAIN", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"]),
    (&["sendto", "sendmsg"], &["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS"]),
    (&["recvmsg"], &["EINTR", "EAGAIN", "ENOMEM"]),
    (&["recvfrom"], &["EINTR"]), // EAGAIN is its everyday answer, but not where std waits for a child
];

/// They cannot fail, or only if the caller is wrong. (The kernel answers a brk that it refuses with the old end, not an error.)
const SURE: &[&str] = &[
    "arch_prctl",
    "brk",
    "execve",
    "exit",
    "exit_group",
    "fadvise64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "ioctl",
    "kill",
    "lseek",
    "mq_getsetattr",
    "mq_unlink",
    "msgctl",
    "prctl",
    "prlimit64",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_setscheduler",
    "sched_setattr",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setpriority",
    "setsid",
    "setpgid",
    "shutdown",
    "sigaltstack",
    "tgkill",
    "umask",
    "uname",
    "ioprio_set",
    "getpeername",
];

/// What this call may return; `None`: nobody has thought about it yet.
pub fn errors_of(call: &str) -> Option<&'static [&'static str]> {
    if SURE.contains(&call) {
        return Some(&[]);
    }
    POSSIBLE.iter().find(|(calls, _)| calls.contains(&call)).map(|(_, errors)| *errors)
}
