//! T8: every object a pipeline leans on, deleted, replaced and garbled in every way, at every time. It goes on by itself, or it refuses in
//! one of the sentences below and goes on as soon as that is followed; whatever was done, the record and the statistics are
//! right.
//!
//! A sample of the matrix from a printed seed; `DAMAGE_CELLS=all` tries every cell, `DAMAGE_CELLS=200` so many,
//! `DAMAGE_CELLS='spool/emptied/running'` this one. `DAMAGE_SEED` repeats a sample.
#![forbid(unsafe_code)]

mod checker;
mod harness;
mod scale;

use harness::{Foreground, Pipeline, Role, process, signal_pid, wait_until};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Without progress for so long after a refusal was said, the remedy is used.
const STUCK: Duration = Duration::from_secs(1);
const BOUND: Duration = Duration::from_secs(30);
const LINES: u64 = 30_000;
/// Cells that `make test` tries.
const SAMPLES: [u64; 3] = [45, 10_000, 10_000];
/// Pipelines at a time.
const SIDE_BY_SIDE: usize = 2;
const CONFIG: &str = "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 1024\n[log]\nsync = \"5ms\"\n\
                      segment = \"64KiB\"\n[edge]\nlog = \"mq:\"\nstat = \"unix:\"\nreport = \"fifo:\"\n";

/// What a pipeline leans on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Spool,
    Page(u8),
    Register,
    Queue,
    Fifo,
    Socket,
    Lock,
    Checkpoint,
    Mark,
    Segment,
}

const OBJECTS: [Object; 13] = [
    Object::Spool,
    Object::Page(0),
    Object::Page(1),
    Object::Page(2),
    Object::Page(3),
    Object::Register,
    Object::Queue,
    Object::Fifo,
    Object::Socket,
    Object::Lock,
    Object::Checkpoint,
    Object::Mark,
    Object::Segment,
];

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Deleted,
    Emptied,
    Halved,
    Grown,
    HeadGarbled,
    Garbled,
    Directory,
    Symlink,
    OtherKind,
    Foreign,
    NoMode,
    OtherOwner,
}

const DAMAGES: [Damage; 12] = [
    Damage::Deleted,
    Damage::Emptied,
    Damage::Halved,
    Damage::Grown,
    Damage::HeadGarbled,
    Damage::Garbled,
    Damage::Directory,
    Damage::Symlink,
    Damage::OtherKind,
    Damage::Foreign,
    Damage::NoMode,
    Damage::OtherOwner,
];

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Running,
    /// Who made it has just been killed, and is not back.
    OwnerDown,
    AllDown,
}

const WHENS: [When; 3] = [When::Running, When::OwnerDown, When::AllDown];

type Cell = (Object, Damage, When);

impl Object {
    fn name(self) -> String {
        match self {
            Object::Page(role) => format!("page.{}", Role::ALL[role as usize].name()),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// Who makes it.
    fn owner(self) -> Role {
        match self {
            Object::Spool | Object::Lock => Role::Conv,
            Object::Page(role) => Role::ALL[role as usize],
            Object::Register | Object::Socket | Object::Checkpoint => Role::Stat,
            Object::Queue | Object::Mark | Object::Segment => Role::Log,
            Object::Fifo => Role::Report,
        }
    }

    /// Has it bytes that stay, and that someone may change?
    fn has_bytes(self) -> bool {
        !matches!(self, Object::Queue | Object::Fifo | Object::Socket)
    }

    /// A part of the record: what is lost of it nobody can make anew.
    fn is_of_record(self) -> bool {
        matches!(self, Object::Mark | Object::Segment)
    }

    /// Where it is; `None`: not there.
    fn path(self, p: &Pipeline) -> Option<PathBuf> {
        Some(match self {
            Object::Spool => p.paths.spool(),
            Object::Page(role) => p.paths.page(Role::ALL[role as usize]),
            Object::Register => p.paths.snapshot(),
            Object::Queue => return None,
            Object::Fifo => p.run_dir().join("report.fifo"),
            Object::Socket => p.run_dir().join("stat/socket"),
            Object::Lock => p.run_dir().join("conv.lock"),
            Object::Checkpoint => newest(&p.record().with_file_name("stat"), ".ckpt")?,
            Object::Mark => p.record().join("durable.mark"),
            Object::Segment => p.record().join(format!("{:020}.seg", 1)),
        })
    }
}

/// The file of this ending that comes last.
fn newest(dir: &Path, ending: &str) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.flatten().map(|file| file.path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).max()
}

/// Can this be done to that? What cannot is no cell.
fn is_cell((object, damage, _): Cell) -> bool {
    let of_bytes = matches!(
        damage,
        Damage::Emptied | Damage::Halved | Damage::Grown | Damage::HeadGarbled | Damage::Garbled
    );
    let by_name = matches!(damage, Damage::Directory | Damage::Symlink);
    match object {
        // A queue has no file: it may go, be another one, be full of other bytes, or belong to others.
        Object::Queue => !of_bytes && !by_name,
        _ => !of_bytes || object.has_bytes(),
    }
}

fn show((object, damage, when): Cell) -> String {
    format!("{}/{damage:?}/{when:?}", object.name()).to_lowercase()
}

// ---- damage

fn harm(p: &Pipeline, (object, damage, _): Cell, dice: &mut fastrand::Rng) {
    match object.path(p) {
        Some(path) => harm_file(&path, object, damage, dice),
        None => harm_queue(p, damage),
    }
}

fn harm_file(path: &Path, object: Object, damage: Damage, dice: &mut fastrand::Rng) {
    let len = fs::symlink_metadata(path).map_or(0, |meta| meta.len());
    let open = || File::options().write(true).open(path).expect("it is there");
    let mut garble = |to: u64| {
        let bytes: Vec<u8> = (0..to).map(|_| dice.u8(..)).collect();
        open().write_all_at(&bytes, 0).unwrap();
    };
    match damage {
        Damage::Emptied => open().set_len(0).unwrap(),
        Damage::Halved => open().set_len(len / 2).unwrap(),
        Damage::Grown => open().set_len(len + 5000).unwrap(),
        Damage::HeadGarbled => garble(len.min(64)),
        Damage::Garbled => garble(len),
        Damage::NoMode => fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap(),
        Damage::OtherOwner => std::os::unix::fs::lchown(path, Some(65_534), Some(65_534)).unwrap(),
        // What is in it is somebody's, but it is where and what it was.
        Damage::Foreign if object == Object::Fifo => {
            let file = File::options().write(true).custom_flags(NONBLOCK).open(path);
            let _ = file.and_then(|mut file| file.write_all(&[0x5a; 4000]));
        }
        Damage::Deleted => fs::remove_file(path).unwrap(),
        Damage::Directory | Damage::Symlink | Damage::OtherKind | Damage::Foreign => {
            replace(path, |path| match damage {
                Damage::Directory => fs::create_dir(path),
                Damage::Symlink => std::os::unix::fs::symlink("/etc/passwd", path),
                Damage::OtherKind if object == Object::Fifo => {
                    std::os::unix::net::UnixListener::bind(path).map(drop)
                }
                Damage::OtherKind => Ok(rustix::fs::mknodat(
                    rustix::fs::CWD,
                    path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::from_raw_mode(0o600),
                    0,
                )?),
                _ => fs::write(path, vec![0x5a; 10_000])
                    .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o666))),
            });
        }
    }
}

/// Puts something else under a name, whoever tries to have the name meanwhile.
fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) {
    let other = path.with_file_name(format!("other-{:x}", fastrand::u64(..)));
    make(&other).unwrap();
    wait_until("the name is taken", BOUND, || {
        // Over a file no directory can be renamed.
        let _ = if other.is_dir() { fs::remove_file(path) } else { Ok(()) };
        fs::rename(&other, path).is_ok()
    });
}

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

fn harm_queue(p: &Pipeline, damage: Damage) {
    let name = format!("/ipc-pipeline@{}.log", p.name);
    let queue = || posixmq::OpenOptions::readwrite().nonblocking().open(&name).expect("it is there");
    let with_fd = |then: &dyn Fn(BorrowedFd)| {
        let queue = queue();
        // A queue is a file to the kernel: mode and owner are changed as those of a file.
        let file = File::open(format!("/proc/self/fd/{}", queue.as_raw_fd())).expect("an open file");
        then(std::os::fd::AsFd::as_fd(&file));
    };
    match damage {
        Damage::Deleted => posixmq::remove_queue(&name).unwrap(),
        Damage::OtherKind => {
            posixmq::remove_queue(&name).unwrap();
            posixmq::OpenOptions::readwrite().capacity(3).max_msg_len(100).create_new().open(&name).unwrap();
        }
        Damage::Foreign => while queue().send(0, &[0x5a; 200]).is_ok() {},
        Damage::NoMode => with_fd(&|fd| rustix::fs::fchmod(fd, rustix::fs::Mode::empty()).unwrap()),
        Damage::OtherOwner => with_fd(&|fd| {
            let (user, group) = (rustix::fs::Uid::from_raw(65_534), rustix::fs::Gid::from_raw(65_534));
            rustix::fs::fchown(fd, Some(user), Some(group)).unwrap();
        }),
        _ => unreachable!("no cell"),
    }
}

// ---- one cell

/// How it went on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// By itself.
    WentOn,
    /// It refused, and went on when the remedy was used.
    Refused,
    /// It went on, and `verify` found what is missing until it was put back.
    Found,
}

fn try_cell(cell: Cell, seed: u64) -> Outcome {
    let (object, _, when) = cell;
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut p = Pipeline::of_lines(LINES, CONFIG);
    if object == Object::Checkpoint {
        to_the_end(&p, &["--count", "3000"]); // the last thing that stat does is a checkpoint
    }
    let mut run = begin(&p);
    wait_until("it is there", BOUND, || {
        object == Object::Queue || object.path(&p).is_some_and(|path| fs::symlink_metadata(path).is_ok())
    });
    assert!(run.is_running(), "the source has ended before anything was damaged");
    stop(&p, &mut run, when, object.owner());
    // stat replaces checkpoints all the time: this one is to stay where it is found.
    let stat = run.daemon(Role::Stat).filter(|_| object == Object::Checkpoint);
    let signal_stat = |signal| stat.into_iter().for_each(|pid| signal_pid(pid, signal));
    signal_stat(Signal::STOP);
    wait_until("stat stands still", BOUND, || stat.and_then(process).is_none_or(|stat| stat.state == "T"));
    let copy =
        object.path(&p).filter(|_| object.has_bytes()).and_then(|path| Some((fs::read(&path).ok()?, path)));
    harm(&p, cell, &mut dice);
    signal_stat(Signal::CONT);
    match when {
        When::Running => {}
        When::OwnerDown => run.signal(Signal::CONT),
        When::AllDown => run = p.run(&[]),
    }
    let outcome = end(&p, run, cell, copy.clone());
    if object == Object::Segment && outcome == Outcome::WentOn {
        put_back(&p, object, copy); // what stands behind its last entry nobody reads, but the checker wants none
    }
    let report = p.judge_lines(LINES);
    assert_eq!(report.samples + report.lost.iter().sum::<u64>(), LINES);
    if !matches!(object, Object::Spool) {
        assert_eq!(report.samples, LINES, "nothing but damage in the spool costs a sample{}", p.state());
    }
    leave_nothing(&mut p);
    outcome
}

/// Starts it and waits until it has a record of some segments.
fn begin(p: &Pipeline) -> Foreground {
    let begun = Instant::now();
    loop {
        let mut run = p.run(&[]);
        while run.is_running() && begun.elapsed() < BOUND {
            if p.durable() >= 5000 {
                return run;
            }
            sleep(Duration::from_millis(2));
        }
        let may_wait = has_no_room(&run) && begun.elapsed() < BOUND;
        assert!(may_wait, "it does not begin{}\n{}", p.state(), run.err());
        sleep(Duration::from_millis(200));
    }
}

/// Brings the pipeline into the state in which the damage is done.
fn stop(p: &Pipeline, run: &mut Foreground, when: When, owner: Role) {
    let gone = |pid: i32| {
        wait_until("it is gone", BOUND, || process(pid).is_none());
    };
    match when {
        When::Running => {}
        When::OwnerDown => {
            run.signal(Signal::STOP);
            let pid = run.daemon(owner).expect("it runs");
            signal_pid(pid, Signal::KILL);
            gone(pid);
        }
        When::AllDown => {
            let all: Vec<i32> = run.daemons().iter().map(|daemon| daemon.pid).collect();
            run.signal(Signal::KILL);
            all.into_iter().for_each(gone);
            wait_until("run is gone", BOUND, || !run.is_running());
            p.note("all are down");
        }
    }
}

/// Lets it go on to the end of the source, with the remedy if it refuses or `verify` finds something.
fn end(p: &Pipeline, mut run: Foreground, cell: Cell, mut copy: Option<(Vec<u8>, PathBuf)>) -> Outcome {
    let mut outcome = Outcome::WentOn;
    let (mut durable, mut moved) = (0, Instant::now());
    while run.is_running() {
        sleep(Duration::from_millis(5));
        if durable != p.durable() {
            (durable, moved) = (p.durable(), Instant::now());
        }
        // `run` tries again and again what a user may mend meanwhile.
        if outcome == Outcome::WentOn && moved.elapsed() > STUCK && refusal(&run.err(), cell).is_some() {
            outcome = Outcome::Refused;
            put_back(p, cell.0, copy.take());
            moved = Instant::now();
        }
        assert!(moved.elapsed() < BOUND, "it does not go on{}\n{}", p.state(), run.err());
    }
    let code = run.wait(BOUND);
    let is_right = |p: &Pipeline| p.ctl(&["verify"]).status.code() == Some(0);
    if code != 0 {
        let known = refusal(&run.err(), cell);
        assert_eq!(known, Some(code), "no refusal that is known: {}", run.err());
        outcome = Outcome::Refused;
    } else if outcome == Outcome::WentOn && cell.0.is_of_record() && !is_right(p) {
        outcome = Outcome::Found;
    } else {
        return outcome;
    }
    put_back(p, cell.0, copy);
    to_the_end(p, &[]);
    outcome
}

/// Runs it to its end, which must be a good one.
fn to_the_end(p: &Pipeline, args: &[&str]) {
    let begun = Instant::now();
    loop {
        let mut run = p.run(args);
        let code = run.wait(BOUND);
        if code == 0 {
            return;
        }
        let may_wait = has_no_room(&run) && begun.elapsed() < BOUND;
        assert!(may_wait, "it ends with {code}: {}", run.err());
        sleep(Duration::from_millis(200));
    }
}

/// Others who run tests have queues, too, and all queues of a user share one limit.
fn has_no_room(run: &Foreground) -> bool {
    run.err().contains("the limit on the memory of this user's queues is reached")
}

/// The exit code that belongs to what was said, if that is one of the refusals.
fn refusal(text: &str, (object, ..): Cell) -> Option<i32> {
    let name = object.name();
    let mut of_object = REFUSALS.iter().filter(|(objects, ..)| objects.contains(&&*name));
    of_object.find(|(.., sentence)| text.contains(sentence)).map(|(_, code, _)| *code)
}

/// What the messages say: remove what is there, or restore it from a copy.
fn put_back(p: &Pipeline, object: Object, copy: Option<(Vec<u8>, PathBuf)>) {
    let known = copy.as_ref().map(|(_, path)| path.clone());
    let Some(path) = known.or(object.path(p)) else {
        return posixmq::remove_queue(&format!("/ipc-pipeline@{}.log", p.name)).unwrap();
    };
    let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
    let _ = if is_dir { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    if let Some((bytes, path)) = copy.filter(|_| object.is_of_record()) {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.write_all(&bytes).unwrap();
        // If stat has read the damage, its checkpoints count it.
        let _ = fs::remove_dir_all(p.record().with_file_name("stat"));
    }
}

/// Refusals by objects: the exit code, and a part of the sentence. All of them say what to do.
const REFUSALS: &[(&[&str], i32, &str)] = &[
    (&["lock"], 71, "it is not a plain file of this user with mode 0600; remove it"),
    (&["lock"], 71, "cannot use the lock file"),
    (&["fifo", "socket"], 71, "; remove what is there"),
    (&["fifo"], 71, "it is no FIFO; remove it"),
    (&["fifo", "queue"], 71, "remove it, it is made anew with the next start"),
    (&["mark", "segment"], 71, "check the owner and the mode of that directory and what is in it"),
    (&["segment"], 78, "a file was removed or cut, or the drive does not keep what it flushed; restore"),
    (&["segment"], 78, "is damaged and no other segment can stand in for it; move the directory aside"),
];

/// As every test leaves it; what was set aside is a directory that the test itself has made.
fn leave_nothing(p: &mut Pipeline) {
    p.objects().iter().filter(|path| path.is_dir()).for_each(|dir| drop(fs::remove_dir(dir)));
    p.assert_nothing_left();
}

// ---- the matrix

fn cells() -> Vec<Cell> {
    let all = OBJECTS.into_iter().flat_map(|object| {
        DAMAGES.into_iter().flat_map(move |damage| WHENS.into_iter().map(move |when| (object, damage, when)))
    });
    let may_change_owner = rustix::process::geteuid().is_root();
    all.filter(|cell| is_cell(*cell) && (may_change_owner || cell.1 != Damage::OtherOwner)).collect()
}

/// The cells to be tried, in the order of chance.
fn chosen(dice: &mut fastrand::Rng) -> Vec<Cell> {
    let mut cells = cells();
    dice.shuffle(&mut cells);
    match std::env::var("DAMAGE_CELLS").as_deref() {
        Err(_) => cells.truncate(scale::usual(SAMPLES) as usize),
        Ok("all") => {}
        Ok(text) => match text.parse() {
            Ok(number) => cells.truncate(number),
            Err(_) => cells.retain(|cell| text.split(' ').any(|wanted| show(*cell).contains(wanted))),
        },
    }
    cells
}

#[test]
fn every_object_in_every_way_at_every_time() {
    let seed = scale::seed_or("DAMAGE_SEED", 1);
    let cells = chosen(&mut fastrand::Rng::with_seed(seed));
    eprintln!("{} cells", cells.len());
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = std::panic::catch_unwind(|| try_cell(*cell, seed));
            if outcome.is_err() {
                eprintln!("^^^ DAMAGE_SEED={seed} DAMAGE_CELLS='{}'\n", show(*cell));
            }
            results.lock().unwrap().insert(*cell, outcome.ok());
        }
    };
    std::thread::scope(|scope| {
        (0..SIDE_BY_SIDE).for_each(|_| drop(scope.spawn(work)));
    });
    let results = results.into_inner().unwrap();
    print_table(&results);
    scale::tally(results.len() as u64, None);
    let bad: Vec<String> = results.iter().filter(|(_, o)| o.is_none()).map(|(cell, _)| show(*cell)).collect();
    assert!(bad.is_empty(), "{} of {} cells: {}", bad.len(), results.len(), bad.join(" "));
}

/// A line for each object and time, a column for each damage.
fn print_table(results: &BTreeMap<Cell, Option<Outcome>>) {
    eprintln!("o goes on, r refuses until the remedy, v found by verify, X wrong, . not tried, - cannot be");
    let names = DAMAGES.map(|damage| format!("{damage:?}").to_lowercase());
    eprintln!("{:22} {}", "", names.join(" "));
    for object in OBJECTS {
        for when in WHENS {
            let sign = |damage| match results.get(&(object, damage, when)) {
                _ if !is_cell((object, damage, when)) => "-",
                None => ".",
                Some(None) => "X",
                Some(Some(Outcome::WentOn)) => "o",
                Some(Some(Outcome::Refused)) => "r",
                Some(Some(Outcome::Found)) => "v",
            };
            let row: Vec<String> = DAMAGES
                .into_iter()
                .zip(&names)
                .map(|(d, name)| format!("{:1$}", sign(d), name.len()))
                .collect();
            eprintln!("{:22} {}", format!("{} {when:?}", object.name()).to_lowercase(), row.join(" "));
        }
    }
}
