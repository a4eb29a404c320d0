//! Ways out of a process on which nobody ever waits for a reader: what finds no room is counted, and that is said as soon
//! as there is room again.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;

/// What a pipe that has room takes at least (PIPE_BUF); and so much of one process stays together there.
const PIECE: usize = 4096;

/// Where messages go.
pub trait Sink {
    /// Takes a message at once, or not at all.
    ///
    /// # Errors
    /// WouldBlock: there is no room for it now. Any other one: nobody can read there at all.
    fn put(&self, message: &[u8]) -> io::Result<()>;
}

/// A sink, and how many messages found no room in it since that was last said.
pub struct Counted<O> {
    sink: O,
    lost: AtomicU64,
}

impl<O: Sink> Counted<O> {
    /// Nothing is lost yet.
    pub const fn new(sink: O) -> Counted<O> {
        Counted { sink, lost: AtomicU64::new(0) }
    }

    /// Sends it, and before it what `lost` makes of the number of those that found no room, if some did not. One that
    /// finds none itself is counted.
    ///
    /// # Errors
    /// It was not sent, and is not counted: nobody can read there at all.
    pub fn send(&self, message: &[u8], lost: impl FnOnce(u64) -> Vec<u8>) -> io::Result<()> {
        let missing = self.lost.swap(0, Ordering::Relaxed);
        let said = if missing > 0 { self.sink.put(&lost(missing)) } else { Ok(()) };
        let not_said = if said.is_err() { missing } else { 0 };
        let sent = said.and_then(|()| self.sink.put(message));
        let full = sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.lost.fetch_add(not_said + u64::from(full), Ordering::Relaxed);
        if full { Ok(()) } else { sent }
    }

    /// Counts one that was not sent, too.
    pub fn miss(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many found no room since that was last said.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A socket for datagrams to a well-known path. It is named anew for each datagram, so a reader that was restarted is found
/// again.
pub struct Mailbox {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Mailbox {
    /// To the socket at `path`.
    ///
    /// # Errors
    /// There is nothing at `path`, or the system gives no socket.
    pub fn at(path: &Path) -> io::Result<Mailbox> {
        std::fs::metadata(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Mailbox { socket, path: path.into() })
    }
}

impl Sink for Mailbox {
    fn put(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.path).map(|_| ())
    }
}

/// Standard output or error, of which bytes are taken at once or not at all.
///
/// Other processes have it too, so its flags are not ours to change: one of them is whether writing waits.
pub struct Stream<F> {
    shared: F,
    way: Way,
}

/// How a stream is written without waiting.
enum Way {
    /// A pipe or a terminal: it was opened once more, and this time for us alone.
    Own(OwnedFd),
    /// A socket: each send says that it does not wait.
    Socket,
    /// It is asked before, and then so much is sure not to wait. A file always takes all; a pipe that belongs to another
    /// user waits if somebody else fills it in just this instant.
    Asked(usize),
}

impl<F: AsFd> Stream<F> {
    /// Of what is open as `shared`.
    pub fn of(shared: F) -> Stream<F> {
        let stat = rustix::fs::fstat(&shared);
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_terminal = shared.as_fd().is_terminal();
        let way = match kind {
            Ok(FileType::Socket) => Way::Socket,
            Ok(FileType::Fifo) => own(&shared).map_or(Way::Asked(PIECE), Way::Own),
            // One that says it has room may have no more than for one byte.
            _ if is_terminal => own(&shared).map_or(Way::Asked(1), Way::Own),
            _ => Way::Asked(PIECE),
        };
        Stream { shared, way }
    }

    /// Writes the beginning of `bytes`, as much as is taken at once; says how much that is.
    ///
    /// # Errors
    /// WouldBlock: nothing is taken now. Else those of writing, such as a broken pipe.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = rustix::io::retry_on_intr(|| match &self.way {
            Way::Own(own) => rustix::io::write(own, bytes),
            Way::Socket => rustix::net::send(&self.shared, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::Asked(_) if !self.is_ready(Duration::ZERO) => Err(rustix::io::Errno::AGAIN),
            Way::Asked(sure) => rustix::io::write(&self.shared, bytes.get(..*sure).unwrap_or(bytes)),
        });
        Ok(written?)
    }

    /// Waits until something is taken, but not longer than `wait`, which is less than a second. False: nothing is.
    pub fn is_ready(&self, wait: Duration) -> bool {
        let mut fds = [PollFd::new(&self.shared, PollFlags::OUT)];
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        // An error is found by the write itself.
        rustix::event::poll(&mut fds, Some(&wait)).map_or(true, |n| n > 0)
    }
}

/// The same once more, with flags of its own. `None`: the system refuses it, as a terminal or pipe of another user.
fn own(shared: &impl AsFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", shared.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// A stream of lines.
pub struct Lines<F> {
    stream: Stream<F>,
    /// What has no room yet of a line that was begun.
    rest: Mutex<Vec<u8>>,
}

impl<F: AsFd> Lines<F> {
    /// On this stream.
    pub const fn on(stream: Stream<F>) -> Lines<F> {
        Lines { stream, rest: Mutex::new(Vec::new()) }
    }

    fn go_on(&self, rest: &mut Vec<u8>) -> io::Result<()> {
        while !rest.is_empty() {
            let taken = self.stream.write(rest)?;
            rest.drain(..taken);
        }
        Ok(())
    }
}

impl<F: AsFd> Sink for Lines<F> {
    /// A line that is begun is taken: its rest goes before the next one.
    fn put(&self, line: &[u8]) -> io::Result<()> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        self.go_on(&mut rest)?;
        // In one write if there is room, so that the lines of several daemons do not mix.
        let taken = self.stream.write(line)?;
        rest.extend(line.get(taken..).unwrap_or_default());
        match self.go_on(&mut rest) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// The other end of a stream.
    trait Other {
        fn all(&mut self) -> String;
    }

    impl<R: Read + AsFd> Other for R {
        fn all(&mut self) -> String {
            let mut all = Vec::new();
            let mut piece = [0; 65_536];
            loop {
                let mut fds = [PollFd::new(self, PollFlags::IN)];
                let none = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
                if rustix::event::poll(&mut fds, Some(&none)).unwrap() == 0 {
                    return String::from_utf8(all).unwrap().replace('\r', "");
                }
                let n = self.read(&mut piece).unwrap();
                all.extend(&piece[..n]);
            }
        }
    }

    fn pipe() -> (OwnedFd, Box<dyn Other>) {
        let (reader, writer) = io::pipe().unwrap();
        (writer.into(), Box::new(File::from(OwnedFd::from(reader))))
    }

    fn socket() -> (OwnedFd, Box<dyn Other>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours.into(), Box::new(theirs))
    }

    fn is_waiting(fd: &impl AsFd) -> bool {
        !rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    /// Sends lines until long after nobody has room for them, then reads, and sends once more.
    fn overfill(stream: Stream<OwnedFd>, other: &mut dyn Other) {
        let (back, came_back) = std::sync::mpsc::channel();
        let sent: u64 = 100_000;
        let lines = Counted::new(Lines::on(stream));
        let lost = |n| format!("lost {n}\n").into_bytes();
        std::thread::spawn(move || {
            (0..sent).for_each(|i| lines.send(format!("{i:99}\n").as_bytes(), lost).unwrap());
            back.send(lines).unwrap();
        });
        let lines = came_back.recv_timeout(Duration::from_secs(60)).expect("it waits for its reader");
        assert!(is_waiting(&lines.sink.stream.shared), "the flags are those of all who have it");
        let mut read = other.all();
        lines.send(b"new\n", lost).unwrap();
        read += &other.all();
        // Every line is there, whole and in order, or counted in its place.
        let (mut next, mut missing) = (0, 0);
        for line in read.lines() {
            match (line, line.strip_prefix("lost ")) {
                ("new", _) => assert_eq!(next, sent),
                (_, Some(n)) => {
                    let n: u64 = n.parse().unwrap();
                    (next, missing) = (next + n, missing + n);
                }
                (line, _) => {
                    assert_eq!(line, format!("{next:99}"));
                    next += 1;
                }
            }
        }
        assert!(missing > 0 && missing < sent && read.ends_with("\nnew\n"), "{missing}");
        lines.send(b"newer\n", lost).unwrap();
        assert_eq!(other.all(), "newer\n", "said once");
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_was_missed_is_said() {
        let (writer, mut reader) = pipe();
        let stream = Stream::of(writer);
        assert!(matches!(stream.way, Way::Own(_)));
        overfill(stream, &mut *reader);
        let (writer, mut reader) = socket();
        overfill(Stream::of(writer), &mut *reader);
        // As if it belonged to another user.
        let (writer, mut reader) = pipe();
        overfill(Stream { shared: writer, way: Way::Asked(PIECE) }, &mut *reader);
    }

    #[test]
    fn a_terminal_that_stands_still_holds_nobody_up() {
        for asked in [false, true] {
            let master =
                rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
                    .unwrap();
            rustix::pty::grantpt(&master).unwrap();
            rustix::pty::unlockpt(&master).unwrap();
            let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
            let stream = Stream::of(terminal);
            assert!(matches!(stream.way, Way::Own(_)));
            let stream = if asked { Stream { way: Way::Asked(1), ..stream } } else { stream };
            overfill(stream, &mut File::from(master));
        }
    }

    /// A file is shared by its place, too: opened once more each would write over the others.
    #[test]
    fn a_file_is_written_behind_what_others_have_written() {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"theirs\n").unwrap();
        let lines = Counted::new(Lines::on(Stream::of(file.as_file())));
        lines.send(&[b'x'; 3 * PIECE], |_| Vec::new()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "theirs\n".to_owned() + &"x".repeat(3 * PIECE));
    }

    #[test]
    fn a_stream_without_a_reader_is_an_error() {
        for (writer, reader) in [pipe(), socket()] {
            let lines = Counted::new(Lines::on(Stream::of(writer)));
            drop(reader);
            assert!(lines.send(b"x\n", |_| Vec::new()).is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe));
            assert_eq!(lines.lost(), 0);
        }
    }
}
