//! System V message queues, which no crate wraps.

use std::io;

/// One message: its type, and the bytes.
#[repr(C)]
struct Message {
    kind: libc::c_long,
    bytes: [u8; MESSAGE_MAX],
}

/// Bytes of one message at most: what every Linux allows (kernel.msgmax).
const MESSAGE_MAX: usize = 8192;

/// How a queue stands.
#[derive(Clone, Copy, Debug)]
pub struct QueueState {
    /// The owner's user.
    pub user: u32,
    /// The user who made it, who keeps an owner's rights for ever.
    pub creator: u32,
    /// Its mode.
    pub mode: u32,
    /// Bytes that it holds at most.
    pub room: u64,
    /// Bytes that it holds now.
    pub bytes: u64,
}

/// A queue, by its number.
pub struct MessageQueue {
    id: i32,
    message: Box<Message>,
}

fn result(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

impl MessageQueue {
    /// A new queue of this user, for nobody else.
    ///
    /// # Errors
    /// ENOSPC: the machine has as many as it may have.
    pub fn new() -> io::Result<MessageQueue> {
        // SAFETY: a plain system call with numbers.
        let id = result(unsafe { libc::msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600) })?;
        Ok(MessageQueue::of(id))
    }

    /// A new queue of this user under a key that no queue has, for nobody else. `key` is not 0.
    ///
    /// # Errors
    /// AlreadyExists: there is one with this key. ENOSPC: the machine has as many as it may have.
    pub fn create(key: i32) -> io::Result<MessageQueue> {
        // SAFETY: a plain system call with numbers.
        let id = result(unsafe { libc::msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | 0o600) })?;
        Ok(MessageQueue::of(id))
    }

    /// The queue with this key, whoever has made it.
    ///
    /// # Errors
    /// NotFound: there is none.
    pub fn find(key: i32) -> io::Result<MessageQueue> {
        // SAFETY: a plain system call with numbers.
        result(unsafe { libc::msgget(key, 0) }).map(MessageQueue::of)
    }

    /// The queue of this number, whether there is one or not.
    pub fn of(id: i32) -> MessageQueue {
        MessageQueue { id, message: Box::new(Message { kind: 1, bytes: [0; MESSAGE_MAX] }) }
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Bytes of one message at most, as the kernel allows it now (kernel.msgmax).
    ///
    /// # Errors
    /// ENOSYS: this kernel has no such queues.
    pub fn message_max() -> io::Result<usize> {
        // SAFETY: plain numbers, for which zeros are valid.
        let mut info: libc::msginfo = unsafe { std::mem::zeroed() };
        // SAFETY: for this command the kernel writes one msginfo, which `info` is.
        result(unsafe { libc::msgctl(0, libc::MSG_INFO, std::ptr::from_mut(&mut info).cast()) })?;
        Ok(usize::try_from(info.msgmax).unwrap_or(0))
    }

    fn read_state(&self) -> io::Result<libc::msqid_ds> {
        // SAFETY: plain numbers and null pointers, for which zeros are valid.
        let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one msqid_ds, which `state` is.
        result(unsafe { libc::msgctl(self.id, libc::IPC_STAT, &mut state) })?;
        Ok(state)
    }

    /// How it stands.
    ///
    /// # Errors
    /// EINVAL or EIDRM: there is no such queue. EACCES: it may not be read.
    pub fn state(&self) -> io::Result<QueueState> {
        let is = self.read_state()?;
        Ok(QueueState {
            user: is.msg_perm.uid,
            creator: is.msg_perm.cuid,
            mode: is.msg_perm.mode.into(),
            room: is.msg_qbytes,
            bytes: is.__msg_cbytes,
        })
    }

    /// Gives it to somebody.
    ///
    /// # Errors
    /// What the kernel says; EPERM for who is neither its owner nor the superuser.
    pub fn give(&self, user: Option<u32>, group: Option<u32>, mode: u32) -> io::Result<()> {
        let mut state = self.read_state()?;
        state.msg_perm.uid = user.unwrap_or(state.msg_perm.uid);
        state.msg_perm.gid = group.unwrap_or(state.msg_perm.gid);
        state.msg_perm.mode = mode as _;
        // SAFETY: the kernel reads one msqid_ds, which `state` is.
        result(unsafe { libc::msgctl(self.id, libc::IPC_SET, &mut state) }).map(drop)
    }

    /// Removes it.
    ///
    /// # Errors
    /// As [`MessageQueue::give`].
    pub fn remove(&self) -> io::Result<()> {
        // SAFETY: this command takes no memory.
        result(unsafe { libc::msgctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
    }

    /// Puts a message into it, without waiting.
    ///
    /// # Errors
    /// EAGAIN: no room. EINVAL, EIDRM: it is gone. InvalidInput: the message is longer than 8192 bytes.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.send_with(message, libc::IPC_NOWAIT)
    }

    /// The same, but waits for room.
    ///
    /// # Errors
    /// As [`MessageQueue::send`], but EINTR instead of EAGAIN.
    pub fn send_waiting(&mut self, message: &[u8]) -> io::Result<()> {
        self.send_with(message, 0)
    }

    fn send_with(&mut self, message: &[u8], flags: libc::c_int) -> io::Result<()> {
        let Some(to) = self.message.bytes.get_mut(..message.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        to.copy_from_slice(message);
        self.message.kind = 1;
        let from = std::ptr::from_ref::<Message>(&self.message).cast();
        // SAFETY: the kernel reads a type and `message.len()` bytes behind it: no more than a Message has.
        result(unsafe { libc::msgsnd(self.id, from, message.len(), flags) }).map(drop)
    }

    /// Takes the next message, without waiting, and cuts it to what `out` can hold; its length.
    ///
    /// # Errors
    /// ENOMSG: there is none. EINVAL, EIDRM: it is gone.
    pub fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.receive_with(out, libc::IPC_NOWAIT)
    }

    /// The same, but waits for one.
    ///
    /// # Errors
    /// As [`MessageQueue::receive`], but EINTR instead of ENOMSG.
    pub fn receive_waiting(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.receive_with(out, 0)
    }

    fn receive_with(&mut self, out: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        let to = std::ptr::from_mut::<Message>(&mut self.message).cast();
        let flags = flags | libc::MSG_NOERROR;
        // SAFETY: the kernel writes a type and at most MESSAGE_MAX bytes behind it: no more than a Message has.
        let n = unsafe { libc::msgrcv(self.id, to, MESSAGE_MAX, 0, flags) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        let n = n.min(out.len());
        out[..n].copy_from_slice(&self.message.bytes[..n]);
        Ok(n)
    }
}
