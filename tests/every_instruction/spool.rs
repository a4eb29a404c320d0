//! conv, killed at every instruction: publishing, drops, release, creating and remaking of page and spool.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipc_pipeline::entry::{Entry, Kind, Reason};
use ipc_pipeline::page::{Grant, OwnPage, PeerPage, State};
use ipc_pipeline::publisher::{LOOK_NS, Publisher, SegmentNames, Settings};
use ipc_pipeline::segment::{Access, Memory, SHM, Segments, Shm};
use ipc_pipeline::spool::{Drops, Feed, Header, SpoolReader, SpoolWriter};

use crate::life::{Life, boundaries, dice};

const CAPACITY: u64 = 256;
const LOG_ID: u64 = 77;

/// The names of one test; whatever is under them goes away with it.
struct Names(SegmentNames, String);

impl Names {
    fn new(test: &str) -> Names {
        let prefix = format!("ipc-pipeline@t2-{test}-{}", std::process::id());
        let pages = ["conv", "log", "stat", "report"].map(|role| format!("{prefix}.page.{role}"));
        Names(SegmentNames { spool: format!("{prefix}.spool"), pages }, prefix)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for file in std::fs::read_dir(SHM).unwrap().flatten() {
            if file.file_name().to_string_lossy().starts_with(&self.1) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

fn unlink(name: &str) {
    let _ = std::fs::remove_file(format!("{SHM}/{name}"));
}

// ---- the judge ------------------------------------------------------------------------------------------------------

/// A copy of a spool's words: what a next life would find.
struct Copy(Vec<AtomicU64>);

impl Memory for Copy {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// What the accepted entries say; the spool must say the same at every instant.
#[derive(Default)]
struct Judge {
    head: u64,
    tail: u64,
    epoch: u32,
    index: u64,
    samples: u64,
    full: u64,
    feed: Feed,
    drops: u64,
}

impl Judge {
    /// Judges what a kill would leave now. The value of a sample is its position in the source.
    fn look(&mut self, words: &[AtomicU64]) -> Result<(), String> {
        let copy = Copy(words.iter().map(|w| AtomicU64::new(w.load(Relaxed))).collect());
        let reader = SpoolReader::new(&copy).ok_or("half a spool under the name")?;
        let (head, tail, header) = (reader.head(), reader.tail(), *reader.header());
        if head < self.head || tail < self.tail || tail > head || head - tail > header.capacity {
            return Err(format!("head {head} tail {tail} after head {} tail {}", self.head, self.tail));
        }
        for seq in tail + 1..=head {
            let e = reader.ring().load(seq);
            if e.seq != seq || e.epoch != header.epoch || !e.is_whole() {
                return Err(format!("accepted entry {seq} is not whole: {e:?}"));
            }
            if seq > self.head {
                self.fold(&e)?;
            }
        }
        if self.head != head {
            return Err(format!("accepted entries {}..={tail} were never seen", self.head + 1));
        }
        (self.tail, self.epoch) = (tail, header.epoch);
        self.next_life(SpoolWriter::resume(&copy).ok_or("no next life could go on")?)
    }

    fn fold(&mut self, e: &Entry) -> Result<(), String> {
        if e.seq != self.head + 1 && self.head != 0 {
            return Err(format!("entry {} after {}", e.seq, self.head));
        }
        self.head = e.seq;
        self.drops = 0;
        match e.kind().ok_or("unknown kind")? {
            Kind::Epoch => (self.samples, self.full, self.feed.clock_ms) = (0, 0, 0),
            // 48 bits, two's complement
            Kind::Clock => self.feed.clock_ms += (e.wide_value() << 16) as i64 >> 16,
            Kind::Source => {
                self.index = e.t_ns;
                self.feed.source_id = e.wide_value();
            }
            Kind::Grid => (self.feed.origin_ns, self.feed.period_ps) = (e.t_ns, e.wide_value()),
            Kind::Sample if e.value as u64 != self.index => {
                return Err(format!("entry {} holds value {}, source is at {}", e.seq, e.value, self.index));
            }
            Kind::Sample => (self.index, self.samples) = (self.index + 1, self.samples + 1),
            Kind::Loss(Reason::Full) => {
                (self.index, self.full) = (self.index + e.count(), self.full + e.count())
            }
            other => return Err(format!("unexpected {other:?}")),
        }
        Ok(())
    }

    fn next_life(&mut self, w: SpoolWriter<&Copy>) -> Result<(), String> {
        let (p, drops) = (w.position(), w.drops());
        if (p.index, p.samples, p.full) != (self.index, self.samples, self.full) {
            return Err(format!("head {}: {p:?}, the entries say index {}", self.head, self.index));
        }
        if w.feed() != self.feed {
            return Err(format!("head {}: {:?}, the entries say {:?}", self.head, w.feed(), self.feed));
        }
        if drops.n < self.drops || drops.n > 0 && drops.index != self.index + drops.n {
            return Err(format!(
                "head {}: {drops:?} after {} at index {}",
                self.head, self.drops, self.index
            ));
        }
        self.drops = drops.n;
        Ok(())
    }
}

// ---- what is stepped through ----------------------------------------------------------------------------------------

/// One turn of a conv that uses all of the writer: batches, LOSS, changes of source, drops, release.
fn publish<M: Memory>(w: &mut SpoolWriter<M>, life: u64) {
    if w.room() < 24 {
        for _ in 0..3 {
            let n = w.drops().n + 1 + life % 2;
            w.note_drops(Drops { n, index: w.position().index + n });
        }
        w.release(w.head() - 5);
    }
    if w.head() % 4 == 1 {
        rise_together(w);
    }
    let (mut p, drops) = (w.position(), w.drops());
    if drops.n > 0 {
        w.push_losses(drops.n, Reason::Full, 1, 0);
        (p.index, p.full) = (drops.index, p.full + drops.n);
    }
    if (w.head() + life).is_multiple_of(7) {
        let feed =
            Feed { source_id: w.head(), origin_ns: life, period_ps: p.index, clock_ms: w.feed().clock_ms };
        w.push_feed(feed, p.index);
    } else if (w.head() + life).is_multiple_of(5) {
        w.push_clock(life as i64 - 3, life);
    }
    let values: Vec<i32> = (p.index as i32..).take(1 + w.head() as usize % 5).collect();
    w.push_samples(&values, |i| i);
    p.index += values.len() as u64;
    p.samples += values.len() as u64;
    w.commit(p);
}

/// Drops before and after a commit, such that seq and count change by the same bits: the exclusive or of the slot is then
/// right when only half of it is written.
fn rise_together<M: Memory>(w: &mut SpoolWriter<M>) {
    let (head, mut p) = (w.head(), w.position());
    w.note_drops(Drops { n: 7, index: p.index + 7 });
    w.push_samples(&[p.index as i32], |i| i);
    (p.index, p.samples) = (p.index + 1, p.samples + 1);
    w.commit(p);
    let n = 7 ^ head ^ w.head();
    w.note_drops(Drops { n, index: p.index + n });
}

/// A spool that is about to wrap, and what the judge knows of it.
fn new_spool(names: &Names) -> Judge {
    let header =
        Header { capacity: CAPACITY, log_id: LOG_ID, epoch: 1, base: 1, start_wall_ns: 0, start_mono_ns: 0 };
    Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap())
        .create(&names.0.spool, header.words(), &mut |words| {
            SpoolWriter::<Copy>::fill(words, &header, &Feed::default(), 0)
        })
        .unwrap();
    let (mut judge, mut w) = (Judge::default(), writer(names));
    while w.head() < CAPACITY - 40 {
        publish(&mut w, 0);
        judge.look(w.memory().words()).unwrap();
    }
    judge
}

fn writer(names: &Names) -> SpoolWriter<impl Memory> {
    SpoolWriter::resume(
        Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap())
            .open(&names.0.spool, Access::Write)
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn publishing_can_be_killed_anywhere() {
    let names = Names::new("publish");
    let mut judge = new_spool(&names);
    let spool = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap())
        .open(&names.0.spool, Access::Read)
        .unwrap();
    let mut w = writer(&names);
    let mut life = Life::start(|| {
        loop {
            publish(&mut w, 1);
        }
    });
    for n in 0..boundaries() {
        judge.look(spool.words()).unwrap_or_else(|e| panic!("boundary {n}: {e}"));
        assert!(life.step());
    }
    life.kill();
    assert!(judge.head > CAPACITY + 20, "the ring has not wrapped");
}

#[test]
fn the_next_life_goes_on_after_real_kills() {
    let names = Names::new("lives");
    let mut judge = new_spool(&names);
    let spool = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap())
        .open(&names.0.spool, Access::Read)
        .unwrap();
    let (mut n, mut lives, mut random) = (0, 0, dice(2));
    while n < boundaries() {
        lives += 1;
        let mut w = writer(&names);
        let mut life = Life::start(|| {
            loop {
                publish(&mut w, lives);
            }
        });
        for _ in 0..random.u64(100..6_000) {
            assert!(life.step());
            judge.look(spool.words()).unwrap_or_else(|e| panic!("life {lives}, boundary {n}: {e}"));
            n += 1;
        }
        life.kill();
    }
}

/// A whole conv: page, proposal, creation of the spool, remaking of spool and page when their names are gone.
#[test]
fn creating_and_remaking_can_be_killed_anywhere() {
    let names = Names::new("create");
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    let log = OwnPage::open(shm.clone(), &names.0.pages[1], 1).unwrap();
    log.set_durable(0);
    log.set_identity(LOG_ID, 0);
    let (mut judge, mut granted, mut n, mut lives) = (Judge::default(), 0, 0, 0);
    let mut random = dice(3);
    let mut current: Option<(u64, <Shm as Segments>::Mem)> = None;
    let mut conv = PeerPage::new(shm.clone(), &names.0.pages[0], 0);
    // A life that begins an epoch takes some 200,000 instructions: page and spool are looked at, made and made again.
    while n < 8 * boundaries() {
        lives += 1;
        let mut life = Life::start(|| whole_conv(&names, lives));
        for _ in 0..random.u64(10_000..500_000) {
            assert!(life.step());
            n += 1;
            // the name first: nothing is ever there that is not whole
            let inode = std::fs::metadata(format!("{SHM}/{}", names.0.spool)).map_or(0, |m| m.ino());
            if inode != 0 && current.as_ref().is_none_or(|(i, _)| *i != inode) {
                let memory = shm.open(&names.0.spool, Access::Read).expect("a spool that cannot be opened");
                log.set_mapped(SpoolReader::new(&memory).expect("half a spool").generation());
                current = Some((inode, memory));
            }
            if let Some((_, memory)) = &current {
                judge.look(memory.words()).unwrap_or_else(|e| panic!("life {lives}, boundary {n}: {e}"));
            }
            // log answers between any two instructions
            if n % 16 == 0 {
                conv.look();
            }
            let asked = conv.get().and_then(|p| p.proposal());
            if let Some(asked) = asked.filter(|p| p.epoch > granted) {
                assert!(asked.epoch < 1_000 && asked.nonce != 0, "half a proposal: {asked:?}");
                granted = asked.epoch;
                let base = judge.head + 1;
                log.set_grant(Grant { nonce: asked.nonce, epoch: granted, base, ..Grant::default() });
                log.set_identity(LOG_ID, granted);
                log.set_durable(judge.head);
            }
        }
        life.kill();
        if lives % 2 == 0 {
            unlink(&names.0.spool); // the next life finds none and begins an epoch at a base handed out
        }
    }
    assert!(granted > 1 && judge.epoch > 1, "no second epoch was begun");
}

fn whole_conv(names: &Names, life: u64) {
    let settings = Settings { capacity: CAPACITY, source_id: 5, period_ps: 0, align: false };
    let mut conv = Publisher::start(
        Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap()),
        names.0.clone(),
        settings,
        1000 + life,
    )
    .unwrap();
    for turn in 0.. {
        let state = conv.turn(turn * LOOK_NS);
        if state == State::Running
            && let Some(w) = conv.spool()
            && w.room() > 24
        {
            publish(w, life);
        }
        if turn % 3 == 2 {
            unlink(&names.0.spool); // remade at the next turn
            unlink(&names.0.pages[0]);
        }
    }
}
