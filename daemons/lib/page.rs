//! The page: 4 KiB of shared memory in which one role says who it is, how far it has come, and what it has counted.
//!
//! Each word has one writer, the role that owns the page. Others map it read-only and believe nothing they cannot check.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::segment::{Access, Memory, SegmentError, Segments};
use crate::spool::{load_checked, store_checked};
use crate::sys;

/// Words of a page.
pub const WORDS: usize = 512;

const MAGIC: u64 = u64::from_le_bytes(*b"IPCPPAG1");
const LOG_ID: usize = 8;
const EPOCH: usize = 9;
const PID: usize = 10;
const START: usize = 11;
const MAPPED: usize = 12;
const TABLE: usize = 13;
const SESSION: usize = 128 / 8;
const RECEIVED: usize = 256 / 8;
const DURABLE: usize = 384 / 8;
const WAITING: usize = 512 / 8;
const STATE: usize = 640 / 8;
const BEAT: usize = 648 / 8;
const RECORD: usize = 768 / 8;
const COUNTERS: usize = 1024 / 8;
const ADDRESS: usize = 1536 / 8;
const ADDRESS_WORDS: usize = 32;
const RELOAD: usize = 1792 / 8;
const ANSWER: usize = 1824 / 8;
const ANSWER_WORDS: usize = 252;

/// What a role is doing, in one word. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Not ready yet.
    Starting = 0,
    /// All is well.
    Running = 1,
    /// conv, stat: ipc-log has not shown itself.
    WaitingForLog = 2,
    /// log: no spool yet.
    WaitingForConv = 3,
    /// conv: the spool is full of entries that are not durable.
    Full = 4,
    /// The spool belongs to another record, or to a later state of this one.
    ForeignLog = 5,
    /// log: the spool cannot be read.
    NoSpool = 6,
    /// log: no space left on the device.
    DiskFull = 7,
    /// log: the disk does not keep up.
    DiskSlow = 8,
    /// log: the disk reports errors.
    DiskError = 9,
    /// log: the file system is read-only.
    ReadOnly = 10,
    /// conv: a receiver listens at another address than the one configured here.
    WrongAddress = 11,
    /// Told to stop; finishing what was accepted.
    Draining = 12,
    /// The daemon has ended.
    Ended = 13,
    /// report: ipc-stat has not shown itself.
    WaitingForStat = 14,
}

impl State {
    /// All states with the word that users read.
    pub const ALL: [(State, &'static str); 15] = [
        (State::Starting, "starting"),
        (State::Running, "running"),
        (State::WaitingForLog, "waiting for ipc-log"),
        (State::WaitingForConv, "waiting for ipc-conv"),
        (State::Full, "spool full"),
        (State::ForeignLog, "foreign log"),
        (State::NoSpool, "spool unreadable"),
        (State::DiskFull, "disk full"),
        (State::DiskSlow, "disk slow"),
        (State::DiskError, "disk error"),
        (State::ReadOnly, "read-only file system"),
        (State::WrongAddress, "wrong address"),
        (State::Draining, "draining"),
        (State::Ended, "ended"),
        (State::WaitingForStat, "waiting for ipc-stat"),
    ];

    /// The state with this number.
    pub fn from_word(word: u64) -> Option<State> {
        State::ALL.iter().map(|(s, _)| *s).find(|s| *s as u64 == word)
    }

    /// The word that users read.
    pub fn name(self) -> &'static str {
        State::ALL.iter().find(|(s, _)| *s == self).map_or("unknown", |(_, name)| name)
    }
}

/// Names of the counters in the pages of conv, log, stat and report, in their order. Part of the format.
pub const COUNTER_NAMES: [&[&str]; 4] = [
    &[
        "planned",
        "taken",
        "empty",
        "full",
        "bad_input",
        "waited",
        "late_ns_max",
        "remade",
        "woken",
        "late_ns_p50",
        "late_ns_p99",
        "missed_down",
        "missed_late",
        "missed_blocked",
        "unread",
        "clock_steps",
        "missed_silent",
    ],
    &[
        "entries",
        "bytes",
        "commits",
        "commit_ns_max",
        "duplicate",
        "gap",
        "bad",
        "injected",
        "corrupt",
        "disk_full",
        "disk_errors",
        "remade",
        "woken",
        "buffered",
        "carried",
    ],
    &[
        "folded",
        "replayed",
        "snapshots",
        "checkpoints",
        "remade",
        "woken",
        "refolded",
        "carried",
        "duplicate",
        "gap",
        "bad",
        "injected",
    ],
    &["printed", "superseded", "remade", "woken", "alarms", "commands", "commands_failed", "refused"],
];

/// conv asks for a new epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The epoch it wants to begin.
    pub epoch: u32,
    /// Tells this proposal from all others.
    pub nonce: u64,
}

/// log's answer: where the new epoch begins, and what the record says of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Nonce of the proposal.
    pub nonce: u64,
    /// Epoch of the proposal.
    pub epoch: u32,
    /// seq of the epoch's first entry.
    pub base: u64,
    /// Identity of the last source in the record (0: none).
    pub source_id: u64,
    /// Position in that source of the next sample.
    pub index: u64,
    /// seq of its SOURCE entry.
    pub source_seq: u64,
}

/// What a role says of reading its configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// The process that does so when it gets SIGUSR1; 0: none does.
    pub pid: u64,
    /// 1 more when it begins, and 1 more when it has done so: odd in between.
    pub count: u64,
    /// Was the last configuration taken, as far as it can be without a restart? Else nothing has changed.
    pub taken: bool,
    /// If it was taken: on a line each the keys that go by it now, and those that need a restart, with blanks between. Else
    /// why it was not. Empty if it is nothing that anybody should print.
    pub text: String,
}

/// One page in memory.
pub struct Page<M> {
    memory: M,
    /// All that its owner has written there, so that it can see damage and write it again; empty for others.
    kept: Box<[AtomicU64]>,
}

impl<M: Memory> Page<M> {
    /// A whole page of role number `role` in this memory, or `None`.
    pub fn new(memory: M, role: usize) -> Option<Page<M>> {
        is_whole(memory.words(), role).then(|| Page { memory, kept: Box::default() })
    }

    /// The page as its owner has it.
    fn own(memory: M) -> Page<M> {
        let kept = memory.words().iter().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))).collect();
        Page { memory, kept }
    }

    /// Does it say what its owner has written? Others' damage is not looked for.
    fn is_as_kept(&self) -> bool {
        let mut words = self.memory.words().iter().zip(&self.kept).enumerate();
        // The flag is set and cleared behind our back, and a wrong one costs a wake-up only.
        words.all(|(at, (is, kept))| {
            at == WAITING || is.load(Ordering::Relaxed) == kept.load(Ordering::Relaxed)
        })
    }

    /// Does the same to the memory and to what is kept of it.
    fn write(&self, to: impl Fn(&[AtomicU64])) {
        if !self.kept.is_empty() {
            to(&self.kept);
        }
        to(self.memory.words());
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: usize, value: u64) {
        self.write(|words| words[at].store(value, Ordering::Release));
    }

    /// Identity of the record that the role works with; 0: not known yet.
    pub fn log_id(&self) -> u64 {
        self.load(LOG_ID)
    }

    /// Epoch that the role works in; 0: not known yet.
    pub fn epoch(&self) -> u32 {
        self.load(EPOCH) as u32
    }

    /// Says which record and epoch the role works with.
    pub fn set_identity(&self, log_id: u64, epoch: u32) {
        self.store(EPOCH, epoch as u64);
        self.store(LOG_ID, log_id);
    }

    /// Process id of the role's present life (diagnostics only).
    pub fn pid(&self) -> u64 {
        self.load(PID)
    }

    /// Wall clock at which the present life began, ns since 1970.
    pub fn started_wall_ns(&self) -> u64 {
        self.load(START)
    }

    /// Another number in each life of the role.
    pub fn session(&self) -> u64 {
        self.load(SESSION)
    }

    /// Begins a life: `received` first, then a new session.
    pub fn begin(&self, received: u64, session: u64, pid: u64, wall_ns: u64) {
        self.store(RECEIVED, received);
        self.store(WAITING, 0);
        self.store(MAPPED, 0);
        self.store(PID, pid);
        self.store(START, wall_ns);
        self.store(SESSION, session);
    }

    /// Generation of the spool that log has mapped; 0: none.
    pub fn mapped(&self) -> u64 {
        self.load(MAPPED)
    }

    /// log says which spool it has mapped: only then does conv accept entries in it.
    pub fn set_mapped(&self, generation: u64) {
        self.store(MAPPED, generation);
    }

    /// The channel table of log's record, as [`crate::header::table_id`] numbers it; `None`: log does not say.
    pub fn table(&self) -> Option<u64> {
        Some(self.load(TABLE)).filter(|id| *id as u32 == !(id >> 32) as u32)
    }

    /// log says which channels its record holds: no conv with others may go on with it.
    pub fn set_table(&self, id: u64) {
        self.store(TABLE, id);
    }

    /// Highest seq the role has received.
    pub fn received(&self) -> u64 {
        self.load(RECEIVED)
    }

    /// Publishes `received`.
    pub fn set_received(&self, seq: u64) {
        self.store(RECEIVED, seq);
    }

    /// Of log the highest durable seq, of stat the highest one in its statistics, if both of its words agree.
    pub fn durable(&self) -> Option<u64> {
        let (durable, complement) = (self.load(DURABLE), self.load(DURABLE + 1));
        (durable == !complement).then_some(durable)
    }

    /// Publishes `durable`. A reader that meets the two stores halfway sees no value, for a moment.
    pub fn set_durable(&self, seq: u64) {
        self.store(DURABLE + 1, !seq);
        self.store(DURABLE, seq);
    }

    /// The word to wait on for `durable`.
    pub fn durable_word(&self) -> &AtomicU64 {
        self.word(DURABLE)
    }

    /// The role's flag: it sleeps and wants to be woken.
    pub fn waiting(&self) -> &AtomicU64 {
        self.word(WAITING)
    }

    /// What the role is doing.
    pub fn state(&self) -> Option<State> {
        State::from_word(self.load(STATE))
    }

    /// Says what the role is doing.
    pub fn set_state(&self, state: State) {
        self.store(STATE, state as u64);
    }

    /// CLOCK_MONOTONIC of the last turn of the role's loop, ns.
    pub fn beat(&self) -> u64 {
        self.load(BEAT)
    }

    /// Says that the loop has turned.
    pub fn set_beat(&self, now_ns: u64) {
        self.write(|words| words[BEAT].store(now_ns, Ordering::Relaxed));
    }

    /// conv's proposal, if it is whole.
    pub fn proposal(&self) -> Option<Proposal> {
        let [epoch, nonce, ..] = load_checked::<7>(self.memory.words(), RECORD)?;
        std::sync::atomic::fence(Ordering::Acquire);
        Some(Proposal { epoch: epoch as u32, nonce })
    }

    /// conv proposes an epoch. All that it did before (retiring an old spool) is seen by whoever sees the proposal.
    pub fn set_proposal(&self, proposal: Proposal) {
        std::sync::atomic::fence(Ordering::Release);
        let content = [proposal.epoch as u64, proposal.nonce, 0, 0, 0, 0, 0];
        self.write(|words| store_checked(words, RECORD, content));
    }

    /// log's grant, if it is whole.
    pub fn grant(&self) -> Option<Grant> {
        let [nonce, epoch, base, source_id, index, source_seq, _] =
            load_checked::<7>(self.memory.words(), RECORD)?;
        (epoch > 0).then_some(Grant { nonce, epoch: epoch as u32, base, source_id, index, source_seq })
    }

    /// log grants an epoch, after the grant is on disk.
    pub fn set_grant(&self, g: Grant) {
        let content = [g.nonce, g.epoch as u64, g.base, g.source_id, g.index, g.source_seq, 0];
        self.write(|words| store_checked(words, RECORD, content));
    }

    /// The channels (a bit for each) whose last message from report says that an alarm is on, also one of its earlier lives.
    pub fn alarmed(&self) -> u64 {
        self.load(RECORD)
    }

    /// report says which these are, after it has told of them.
    pub fn set_alarmed(&self, channels: u64) {
        self.store(RECORD, channels);
    }

    /// Counter number `i` of the role.
    pub fn counter(&self, i: usize) -> u64 {
        if i < 64 { self.word(COUNTERS + i).load(Ordering::Relaxed) } else { 0 }
    }

    /// Sets the first counters, in the order of [`COUNTER_NAMES`].
    pub fn set_counters(&self, values: &[u64]) {
        for (i, value) in values.iter().take(64).enumerate() {
            self.write(|words| words[COUNTERS + i].store(*value, Ordering::Relaxed));
        }
    }

    /// The address at which the role receives; `None`: it says none, or something that nobody should print.
    pub fn address(&self) -> Option<String> {
        let text = self.text(ADDRESS, ADDRESS_WORDS)?;
        let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        Some(text).filter(|_| sound)
    }

    /// Says at which address the role receives (at most 256 bytes).
    pub fn set_address(&self, address: &str) {
        self.set_text(ADDRESS, ADDRESS_WORDS, address);
    }

    /// Reading the configuration again. While the count is odd, result and text are being written.
    pub fn reloads(&self) -> Reloads {
        let [pid, count, result] = [0, 1, 2].map(|i| self.load(RELOAD + i));
        let text = self.text(ANSWER, ANSWER_WORDS).unwrap_or_default();
        let sound = text.chars().all(|c| c == '\n' || !c.is_control());
        Reloads { pid, count, taken: result == 1, text: if sound { text } else { String::new() } }
    }

    /// From now on this process reads its configuration again when it gets SIGUSR1.
    pub fn listen_for_reloads(&self, pid: u64) {
        self.store(RELOAD + 1, 0);
        self.store(RELOAD, pid);
    }

    /// It does so now.
    pub fn begin_reload(&self) {
        self.store(RELOAD + 1, self.load(RELOAD + 1) | 1);
        // Whoever sees a word of what follows sees that count, too.
        std::sync::atomic::fence(Ordering::Release);
    }

    /// It has done so, with this result; see [`Reloads`]. A text beyond 2,016 bytes is cut.
    pub fn end_reload(&self, taken: bool, text: &str) {
        self.store(RELOAD + 2, if taken { 1 } else { 2 });
        let whole =
            text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 8 * ANSWER_WORDS);
        self.set_text(ANSWER, ANSWER_WORDS, text.get(..whole.last().unwrap_or(0)).unwrap_or_default());
        self.store(RELOAD + 1, (self.load(RELOAD + 1) | 1) + 1);
    }

    /// Zero padded text of so many words from `at` on; `None`: it is no UTF-8, or there is something behind its end.
    fn text(&self, at: usize, words: usize) -> Option<String> {
        let words = &self.memory.words()[at..at + words];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.load(Ordering::Acquire).to_le_bytes()).collect();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at_checked(end)?;
        String::from_utf8(text.to_vec()).ok().filter(|_| rest.iter().all(|b| *b == 0))
    }

    /// Writes text there, zero padded, as much of it as there is room for.
    fn set_text(&self, at: usize, words: usize, text: &str) {
        let mut bytes = vec![0; 8 * words];
        let n = text.len().min(bytes.len());
        bytes[..n].copy_from_slice(&text.as_bytes()[..n]);
        for (i, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = chunk.iter().rev().fold(0, |w, b| w << 8 | *b as u64);
            self.store(at + i, word);
        }
    }
}

fn header_crc(role: usize) -> u64 {
    let mut bytes = [0; 60];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&(1 | (role as u64) << 32).to_le_bytes());
    (crc32c::crc32c(&bytes) as u64) << 32
}

fn is_whole(words: &[AtomicU64], role: usize) -> bool {
    words.len() == WORDS
        && words[0].load(Ordering::Acquire) == MAGIC
        && words[1].load(Ordering::Relaxed) == 1 | (role as u64) << 32
        && words[7].load(Ordering::Relaxed) == header_crc(role)
}

fn fill(words: &[AtomicU64], role: usize) {
    words[1].store(1 | (role as u64) << 32, Ordering::Relaxed);
    words[7].store(header_crc(role), Ordering::Relaxed);
    words[0].store(MAGIC, Ordering::Release);
}

/// The page of this process, under its name for as long as the process lives.
pub struct OwnPage<S: Segments> {
    segments: S,
    name: String,
    role: usize,
    page: Page<S::Mem>,
}

impl<S: Segments> OwnPage<S> {
    /// Takes over the page that an earlier life left, so that its readers need not look for a new one; else makes one.
    pub fn open(segments: S, name: &str, role: usize) -> Result<OwnPage<S>, SegmentError> {
        let old = segments.open(name, Access::Write).filter(|memory| is_whole(memory.words(), role));
        let memory = match old {
            Some(memory) => memory,
            None => segments.create(name, WORDS, &mut |words| fill(words, role))?,
        };
        Ok(OwnPage { segments, name: name.into(), role, page: Page::own(memory) })
    }

    /// Is the page still there under its name, and says what we have written? If not, it is made again with that. True if
    /// it was remade.
    pub fn look(&mut self) -> Result<bool, SegmentError> {
        if self.page.is_as_kept() && self.segments.is_current(&self.name, &self.page.memory) {
            return Ok(false);
        }
        let (role, kept) = (self.role, &self.page.kept);
        let memory = self.segments.create(&self.name, WORDS, &mut |words| {
            for (to, from) in words.iter().zip(kept).skip(8) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            fill(words, role);
        })?;
        self.page = Page::own(memory);
        Ok(true)
    }
}

impl<S: Segments> std::ops::Deref for OwnPage<S> {
    type Target = Page<S::Mem>;
    fn deref(&self) -> &Page<S::Mem> {
        &self.page
    }
}

/// The page of another role, as far as it is there.
pub struct PeerPage<S: Segments> {
    segments: S,
    name: String,
    role: usize,
    page: Option<Page<S::Mem>>,
}

impl<S: Segments> PeerPage<S> {
    /// A peer that may not be there yet.
    pub fn new(segments: S, name: &str, role: usize) -> PeerPage<S> {
        let mut peer = PeerPage { segments, name: name.into(), role, page: None };
        peer.look();
        peer
    }

    /// Looks whether the name still leads to the page that is mapped; if not, to another one.
    pub fn look(&mut self) {
        let current = self.page.as_ref().is_some_and(|p| self.segments.is_current(&self.name, &p.memory));
        if !current {
            let found = self.segments.open(&self.name, Access::Read).and_then(|m| Page::new(m, self.role));
            // A page without a name is still better than none: what it says stays true.
            self.page = found.or(self.page.take());
        }
    }

    /// The page, if there is one.
    pub fn get(&self) -> Option<&Page<S::Mem>> {
        self.page.as_ref()
    }

    /// Its flag, if it is there.
    pub fn waiting(&self) -> Option<&AtomicU64> {
        self.page.as_ref().map(Page::waiting)
    }
}

/// A session number that differs from that of every other life.
pub fn new_session() -> u64 {
    sys::wall_ns() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words(Vec<AtomicU64>);

    impl Memory for Words {
        fn words(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    fn page() -> Page<Words> {
        let words = Words((0..WORDS).map(|_| AtomicU64::new(0)).collect());
        fill(words.words(), 1);
        Page::own(words)
    }

    #[test]
    fn an_address_is_checked_before_anybody_prints_it() {
        let page = page();
        assert_eq!(page.address(), None);
        for text in ["shm:", "tcp:127.0.0.1:51337", &"a".repeat(256)] {
            page.set_address(text);
            assert_eq!(page.address().as_deref(), Some(text));
        }
        for bytes in [*b"shm:\x1b[2J", *b"shm:\0\0x\0", *b"a b\0\0\0\0\0", [0xc3, 0xa4, 0, 0, 0, 0, 0, 0]] {
            page.set_address("");
            page.memory.words()[ADDRESS].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            assert_eq!(page.address(), None, "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_being_written() {
        let page = page();
        assert_eq!(page.reloads(), Reloads::default());
        page.listen_for_reloads(7);
        page.begin_reload();
        assert_eq!(page.reloads().count, 1);
        page.end_reload(true, "report.digits\nreport.format log.sync");
        let text = "report.digits\nreport.format log.sync".to_owned();
        assert_eq!(page.reloads(), Reloads { pid: 7, count: 2, taken: true, text });
        page.begin_reload();
        // A file name may be long, and of any letters.
        let long = "\u{e4}".repeat(1500);
        page.end_reload(false, &long);
        let Reloads { count, taken, text, .. } = page.reloads();
        assert_eq!((count, taken, text.len()), (4, false, 2016));
        assert!(long.starts_with(&text) && page.is_as_kept());
        page.end_reload(false, "\x1b[2J");
        assert_eq!(page.reloads().text, "", "that would be no text for a terminal");
        // The next life of the role.
        page.listen_for_reloads(8);
        assert_eq!((page.reloads().pid, page.reloads().count), (8, 0));
    }

    #[test]
    fn damage_anywhere_is_seen() {
        let page = page();
        page.begin(5, 6, 7, 8);
        page.set_identity(1, 2);
        page.set_grant(Grant { nonce: 1, epoch: 2, ..Grant::default() });
        page.set_counters(&[1, 2, 3]);
        page.set_durable(9);
        page.end_reload(true, "log.sync");
        assert!(page.is_as_kept());
        for at in (0..WORDS).filter(|at| *at != WAITING) {
            let word = &page.memory.words()[at];
            word.fetch_xor(1 << 40, Ordering::Relaxed);
            assert!(!page.is_as_kept(), "word {at}");
            word.fetch_xor(1 << 40, Ordering::Relaxed);
        }
        assert!(page.is_as_kept());
    }
}
