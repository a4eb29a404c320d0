//! The named objects of one instance: the only code that makes and removes directories, locks and segment names from
//! outside their role.
//!
//! Killed anywhere, any of these can be run again. Nothing is removed while a daemon of the instance lives, and a spool
//! that holds entries which are not in the record is not removed at all, unless that is said explicitly.
#![forbid(unsafe_code)]

mod system;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system::Owners;

use crate::address::Address;
use crate::carrier::{self, CarrierError};
use crate::lock::{Lock, LockError};
use crate::names::{Names, Role, Scope, shm_path};
use crate::segment::{self, Access, SHM, Segments, Shm};
use crate::spool::SpoolReader;

/// Why objects could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// A directory or file could not be made, read or removed.
    #[error("cannot {what} {path}: {why}")]
    Io {
        /// make, read, remove ...
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// The reason given.
        why: io::Error,
    },
    /// A directory is not private.
    #[error(
        "{path} belongs to another user or is open to others (it must be a directory of this user with mode 0700); move it away"
    )]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// A daemon of the instance lives.
    #[error("{program} of instance {instance} is running: stop the pipeline first")]
    Alive {
        /// Which one.
        program: &'static str,
        /// Of which instance.
        instance: String,
    },
    /// Objects of the machine are the superuser's to make and remove.
    #[error("this needs the superuser: `systemctl start ipc-pipeline-objects.service` does it, or sudo")]
    NotRoot,
    /// A user or group that the package makes is missing.
    #[error("there is no {what} {name}: install the package, or run systemd-sysusers")]
    Unknown {
        /// user or group.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A directory of the machine is not as the superuser makes it.
    #[error(
        "{path} is missing, or others than the superuser may change it; `systemctl restart ipc-pipeline-objects.service` puts it right"
    )]
    NotRoots {
        /// The directory.
        path: PathBuf,
    },
    /// A lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What a role listens at cannot be made or removed.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// The spool holds entries that are not durable.
    #[error(
        "the spool {path} holds {at_risk} accepted entries that are not in the record: it stays. Start the pipeline again to make them durable, or give them up with `ipc-pipeline objects remove --abandon {arguments}`"
    )]
    AtRisk {
        /// The spool.
        path: PathBuf,
        /// How many entries.
        at_risk: u64,
        /// What chooses the instance on a command line.
        arguments: String,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ObjectsError {
    let path = path.into();
    move |why| ObjectsError::Io { what, path, why }
}

/// Makes the run and state directories and checks that nobody else can change what is in them: for a user 0700 and this
/// user's alone; for the machine the superuser's, and its group may look.
pub fn make_directories(names: &Names) -> Result<(), ObjectsError> {
    if names.scope() == Scope::System {
        return system::make_directories(names);
    }
    for dir in [names.run_dir(), names.state_dir()] {
        // The base below a shared directory such as /tmp must be ours alone too.
        if let Some(base) = dir.parent() {
            make_private(base)?;
        }
        make_private(dir)?;
    }
    Ok(())
}

fn make_private(dir: &Path) -> Result<(), ObjectsError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(io_error("make the directory", dir))?;
    let meta = std::fs::symlink_metadata(dir).map_err(io_error("read", dir))?;
    let mine = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if mine { Ok(()) } else { Err(ObjectsError::NotPrivate { path: dir.into() }) }
}

/// What may exist of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// spool, page, snapshot, lock, manifest; or queue, fifo, socket, sysv of a carrier.
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Size in bytes, if it is there.
    pub size: Option<u64>,
    /// The role that owns it.
    pub role: Option<Role>,
}

/// All objects of an instance, the spool first, as it is removed first: segments and locks whether they are there or not, of what
/// roles listen at what is there.
pub fn list(names: &Names) -> Vec<Object> {
    let object = |kind, path: PathBuf, role| {
        let size = std::fs::symlink_metadata(&path).ok().map(|m| m.len());
        Object { kind, path, size, role }
    };
    let mut all = vec![
        object("spool", shm_path(&names.spool()), Some(Role::Conv)),
        object("snapshot", shm_path(&names.snapshot()), Some(Role::Stat)),
    ];
    all.extend(Role::ALL.map(|role| object("page", shm_path(&names.page(role)), Some(role))));
    all.extend(Role::ALL.map(|role| object("lock", names.lock(role), Some(role))));
    for role in Role::ALL.into_iter().filter(|role| role.sender().is_some()) {
        let found = carrier::list(names, role).into_iter().filter(|found| found.size.is_some());
        all.extend(found.map(|f| Object { kind: f.kind, path: f.path, size: f.size, role: Some(role) }));
    }
    all.push(object("manifest", names.manifest(), None));
    all
}

impl Object {
    /// Is it a segment in /dev/shm?
    fn is_segment(&self) -> bool {
        self.path.parent() == Some(Path::new(SHM))
    }

    /// Is it what a role listens at?
    fn is_carrier(&self) -> bool {
        self.role.is_some() && !self.is_segment() && self.kind != "lock"
    }
}

/// Where each role listens that is sent something.
pub type Listeners = [(Role, Address)];

/// Makes everything that is missing: directories, locks, an empty file for each segment name, so that the name is taken, and
/// what the roles listen at; then the manifest of what there is.
pub fn create(names: &Names, listeners: &Listeners) -> Result<(), ObjectsError> {
    let owners = Owners::of(names)?;
    make_directories(names)?;
    let _lock = Lock::take(&names.objects_lock(), Duration::from_secs(5))?;
    for role in Role::ALL {
        let path = names.lock(role);
        Lock::make(&path)?;
        owners.give(&path, role).map_err(io_error("give to its role", &path))?;
    }
    for object in list(names) {
        if let Some(role) = object.role.filter(|_| object.is_segment() && object.size.is_none()) {
            reserve(names, &object.path, role, &owners)?;
        }
    }
    for (role, address) in listeners {
        carrier::make(names, *role, *address, owners.of_inlet(*role)?)?;
    }
    write_manifest(names)
}

/// An empty file that says: this name is taken, but there is nothing yet.
fn reserve(names: &Names, path: &Path, role: Role, owners: &Owners) -> Result<(), ObjectsError> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(names.mode()).open(path);
    match made {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error("make", path)(e)),
        Ok(_) => owners.give(path, role).map_err(io_error("give to its role", path)),
    }
}

fn write_manifest(names: &Names) -> Result<(), ObjectsError> {
    let text: String = list(names).iter().map(|o| format!("{}\n", o.path.display())).collect();
    let (path, temporary) = (names.manifest(), unfinished_manifest(names));
    std::fs::write(&temporary, text).map_err(io_error("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(io_error("rename to", &path))
}

fn unfinished_manifest(names: &Names) -> PathBuf {
    names.run_dir().join("manifest.new")
}

/// Puts right what is missing or of the wrong type, for these roles as far as they do not live: what is no plain file of its
/// owner is renamed aside, leftovers of killed daemons are removed, then everything missing is made.
pub fn repair(names: &Names, listeners: &Listeners, roles: &[Role]) -> Result<Vec<String>, ObjectsError> {
    let owners = Owners::of(names)?;
    make_directories(names)?;
    let mut done = Vec::new();
    for role in roles.iter().copied() {
        let Ok(_held) = Lock::take(&names.lock(role), Duration::ZERO) else {
            done.push(format!("{} is running: its objects were left alone", role.program()));
            continue;
        };
        done.extend(
            sweep(names, role).into_iter().map(|path| format!("removed the leftover {}", path.display())),
        );
        for object in list(names).into_iter().filter(|o| o.role == Some(role)) {
            let found = std::fs::symlink_metadata(&object.path);
            if object.is_segment() && found.is_ok_and(|found| !found.is_file() || !owners.owns(role, &found))
            {
                let aside = segment::aside(&object.path);
                std::fs::rename(&object.path, &aside).map_err(io_error("rename aside", &object.path))?;
                done.push(format!("renamed {} to {}", object.path.display(), aside.display()));
            }
        }
        done.extend(remove_strange_inlet(names, role, listeners)?);
    }
    create(names, listeners)?;
    Ok(done)
}

/// What a role listens at and cannot be opened is removed: nothing of worth is in it, for all of it is in the spool.
fn remove_strange_inlet(
    names: &Names,
    role: Role,
    listeners: &Listeners,
) -> Result<Vec<String>, ObjectsError> {
    let mut done = Vec::new();
    for (_, address) in listeners.iter().filter(|(receiver, _)| *receiver == role) {
        if carrier::is_strange(names, role, *address) {
            for object in list(names).into_iter().filter(|o| o.role == Some(role) && o.is_carrier()) {
                if carrier::remove(names, role, object.kind)? {
                    done.push(format!("removed the strange {}", object.path.display()));
                }
            }
        }
    }
    Ok(done)
}

/// Removes what killed lives of a role left half built. The caller holds the role's lock. Returns what was removed.
pub fn sweep(names: &Names, role: Role) -> Vec<PathBuf> {
    let own: &[String] = match role {
        Role::Conv => &[names.spool(), names.page(role)],
        Role::Stat => &[names.snapshot(), names.page(role)],
        _ => &[names.page(role)],
    };
    leftovers(own).into_iter().filter(|path| std::fs::remove_file(path).is_ok()).collect()
}

/// Files `<name>.<16 hex digits>` in /dev/shm for these names.
fn leftovers(segment_names: &[String]) -> Vec<PathBuf> {
    let Ok(dir) = std::fs::read_dir(SHM) else { return Vec::new() };
    let is_ours = |name: &str| {
        segment_names.iter().any(|own| {
            let suffix = name.strip_prefix(own.as_str()).and_then(|s| s.strip_prefix('.'));
            suffix.is_some_and(|s| s.len() == 16 && s.bytes().all(|b| b.is_ascii_hexdigit()))
        })
    };
    let files = dir.filter_map(Result::ok);
    files.filter(|e| e.file_name().to_str().is_some_and(is_ours)).map(|e| e.path()).collect()
}

/// All locks of an instance: while they are held no daemon of it lives or can begin to.
pub struct Quiet {
    _locks: Vec<Lock>,
}

/// Daemons whose `run` was killed die with it, but not in the same instant: so long they are waited for.
const DYING: Duration = Duration::from_secs(1);

/// Holds all locks, or says which daemon lives.
pub fn quiet(names: &Names) -> Result<Quiet, ObjectsError> {
    make_directories(names)?;
    // All at once: a young lock file is waited for, and so only the first one is.
    for path in Role::ALL.map(|role| names.lock(role)).iter().chain([&names.objects_lock()]) {
        Lock::make(path)?;
    }
    let mut locks = vec![Lock::take(&names.objects_lock(), Duration::from_secs(5))?];
    let until = Instant::now() + DYING;
    for role in Role::ALL {
        let patience = until.saturating_duration_since(Instant::now());
        locks.push(Lock::take(&names.lock(role), patience).map_err(|e| match e {
            LockError::Held { .. } => {
                ObjectsError::Alive { program: role.program(), instance: names.instance().into() }
            }
            other => other.into(),
        })?);
    }
    Ok(Quiet { _locks: locks })
}

/// What a spool holds beyond the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtRisk {
    /// Record that the spool feeds.
    pub log_id: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Highest accepted seq.
    pub head: u64,
    /// How many accepted entries are not in the record.
    pub entries: u64,
}

/// Looks into the spool of an instance that is [`Quiet`]. `durable` is what the record holds: its identity and highest
/// seq; `None` if there is no record. `None` if there is no spool or nothing is at risk.
pub fn at_risk(names: &Names, durable: Option<(u64, u64)>) -> Option<AtRisk> {
    let spool = SpoolReader::new(Shm::of(names).open(&names.spool(), Access::Read)?)?;
    let (log_id, head, tail) = (spool.header().log_id, spool.head(), spool.tail());
    let safe = durable.filter(|(id, _)| *id == log_id).map_or(tail, |(_, seq)| seq);
    let entries = head.saturating_sub(safe);
    (entries > 0).then_some(AtRisk { log_id, epoch: spool.header().epoch, head, entries })
}

/// Removes everything, the spool first. Refuses a spool with entries that are not in the record, unless `abandon`; the
/// caller has then written their number into the record.
pub fn remove(
    names: &Names,
    _quiet: Quiet,
    durable: Option<(u64, u64)>,
    abandon: bool,
) -> Result<Vec<PathBuf>, ObjectsError> {
    if let Some(AtRisk { entries, .. }) = at_risk(names, durable).filter(|_| !abandon) {
        return Err(ObjectsError::AtRisk {
            path: shm_path(&names.spool()),
            at_risk: entries,
            arguments: names.arguments(),
        });
    }
    let mut removed = Vec::new();
    let segments: Vec<String> =
        [names.spool(), names.snapshot()].into_iter().chain(Role::ALL.map(|r| names.page(r))).collect();
    for object in list(names).into_iter().filter(Object::is_carrier) {
        if let Some(role) = object.role
            && carrier::remove(names, role, object.kind)?
        {
            removed.push(object.path);
        }
    }
    // A receiver that never began has put no socket into its directory.
    for role in Role::ALL {
        let _ = std::fs::remove_dir(names.socket_dir(role));
    }
    let files = list(names).into_iter().filter(|o| !o.is_carrier());
    let paths = files.map(|o| o.path).chain(leftovers(&segments)).chain(manifest(names));
    for path in paths.chain([unfinished_manifest(names), names.objects_lock()]) {
        match std::fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error("remove", &path)(e)),
        }
    }
    // Only if nothing foreign is in them.
    let _ = std::fs::remove_dir(names.run_dir());
    let _ = names.run_dir().parent().map(std::fs::remove_dir);
    Ok(removed)
}

/// What the manifest names, as far as it can be ours: in /dev/shm under our prefix, or in the run directory.
fn manifest(names: &Names) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(names.manifest()).unwrap_or_default();
    let prefix = format!("{}.", names.prefix());
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let dir = path.parent();
        dir == Some(Path::new(SHM)) && name.starts_with(&prefix) || dir == Some(names.run_dir())
    };
    text.lines().map(PathBuf::from).filter(ours).collect()
}
