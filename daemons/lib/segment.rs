//! Named segments in /dev/shm: they appear whole or not at all, and are looked at with suspicion.
//!
//! Whoever owns a name builds under a name of its own (random suffix) and renames: no reader ever sees half a segment,
//! and no two processes ever share the building of one. Logic that works on segments takes the [`Segments`] trait, so
//! that a simulation can run it on plain memory.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat};
use shared_memory::ShmemConf;

use crate::names::{Names, Scope};
use crate::sys::{self, Map};

/// Where the kernel keeps POSIX shared memory.
pub const SHM: &str = "/dev/shm";
/// Larger files are no segments of ours (2 GiB of entries and a header).
const LEN_MAX: u64 = (1 << 31) + 4096;

/// Memory that others may share, as atomic words.
pub trait Memory {
    /// All words.
    fn words(&self) -> &[AtomicU64];
}

impl Memory for Map {
    fn words(&self) -> &[AtomicU64] {
        Map::words(self)
    }
}

/// A copy of a segment's first words, for those who only look: no map, so nobody can take it away under their feet.
pub struct Copied(Vec<AtomicU64>);

impl Copied {
    /// Reads up to `words` words of the segment; `None` if there is none, or it is a placeholder.
    pub fn read(shm: &Shm, name: &str, words: usize) -> Option<Copied> {
        let bytes = shm.bytes(name, 8 * words).ok()?;
        let word = |b: &[u8; 8]| AtomicU64::new(u64::from_le_bytes(*b));
        let (chunks, _) = bytes.as_chunks::<8>();
        (!chunks.is_empty()).then(|| Copied(chunks.iter().map(word).collect()))
    }
}

impl Memory for Copied {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl<M: Memory> Memory for &M {
    fn words(&self) -> &[AtomicU64] {
        M::words(self)
    }
}

/// May the memory be stored to?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads and stores: the owner.
    Write,
}

/// A place where segments have names.
pub trait Segments {
    /// What a name leads to.
    type Mem: Memory;

    /// The segment of this name; `None` if there is none, it is a placeholder, or it is not a proper file.
    fn open(&self, name: &str, access: Access) -> Option<Self::Mem>;

    /// Is there a proper segment of this name, whether or not it can be opened now (no descriptors, no memory)?
    fn exists(&self, name: &str) -> bool;

    /// Makes a segment of `words` zeroed words, lets `fill` write it, and only then gives it its name, replacing
    /// whatever had it.
    fn create(
        &self,
        name: &str,
        words: usize,
        fill: &mut dyn FnMut(&[AtomicU64]),
    ) -> Result<Self::Mem, SegmentError>;

    /// Does the name still lead to this memory?
    fn is_current(&self, name: &str, memory: &Self::Mem) -> bool;
}

/// A segment that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file could not be created.
    #[error("cannot create /dev/shm/{name}: {why}; is /dev/shm mounted and writable?")]
    Create {
        /// Name in /dev/shm.
        name: String,
        /// The reason given.
        why: String,
    },
    /// Its memory could not be had.
    #[error(
        "cannot reserve {len} bytes for /dev/shm/{name}: {why}; free some of /dev/shm or lower spool.capacity"
    )]
    Reserve {
        /// Name in /dev/shm.
        name: String,
        /// Bytes asked for.
        len: u64,
        /// The reason given.
        why: io::Error,
    },
    /// It could not be given its name.
    #[error("cannot rename a new segment to /dev/shm/{name}: {why}; does somebody else own that name?")]
    Rename {
        /// Name in /dev/shm.
        name: String,
        /// The reason given.
        why: io::Error,
    },
}

/// /dev/shm itself, as one instance uses it.
#[derive(Clone, Debug)]
pub struct Shm {
    names: Names,
}

impl Shm {
    /// For the segments of this instance.
    pub fn of(names: &Names) -> Shm {
        Shm { names: names.clone() }
    }

    /// Up to `most` bytes of a segment, as they are now.
    ///
    /// # Errors
    /// NotFound: there is none, or only a placeholder. PermissionDenied: what has the name is no proper file of its owner.
    /// Else that of the system.
    pub fn bytes(&self, name: &str, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name, Access::Read)?.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Who must own a segment of this name.
    fn owner(&self, name: &str) -> Option<u32> {
        match self.names.scope() {
            Scope::User => Some(rustix::process::geteuid().as_raw()),
            Scope::System => self.names.owner(self.names.role_of(name)?),
        }
    }

    /// Only a plain file of its owner with one name that nobody else may write will do; an empty one is a placeholder.
    fn is_proper(&self, name: &str, stat: &Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & !self.names.mode() & 0o077 == 0
            && stat.st_nlink == 1
            && Some(stat.st_uid) == self.owner(name)
            && (1..=LEN_MAX).contains(&(stat.st_size as u64))
    }

    fn path(name: &str) -> PathBuf {
        Path::new(SHM).join(name)
    }

    /// Opens without following links.
    fn file(&self, name: &str, access: Access) -> io::Result<File> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(Shm::path(name), flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        if self.is_proper(name, &stat) {
            return Ok(file);
        }
        let is_placeholder =
            stat.st_size == 0 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let why = if is_placeholder { io::ErrorKind::NotFound } else { io::ErrorKind::PermissionDenied };
        Err(why.into())
    }

    /// A private segment under a name that nobody knows yet.
    fn build(&self, name: &str, temporary: &str, len: u64) -> Result<Map, SegmentError> {
        let create = |why: String| SegmentError::Create { name: name.into(), why };
        let mut segment = ShmemConf::new()
            .os_id(temporary)
            .size(len as usize)
            .create()
            .map_err(|e| create(e.to_string()))?;
        segment.set_owner(false); // an owner's drop would unlink by name, perhaps a successor's segment
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(Shm::path(temporary), flags, Mode::empty())
            .map_err(|e| create(e.to_string()))?;
        // create() reserves nothing: a full tmpfs would be SIGBUS at some store much later.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len)
            .map_err(|why| SegmentError::Reserve { name: name.into(), len, why: why.into() })?;
        // umask has cut the mode
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.names.mode()))
            .map_err(|e| create(e.to_string()))?;
        Map::writable(File::from(file), len as usize).map_err(|e| create(e.to_string()))
    }
}

impl Segments for Shm {
    type Mem = Map;

    fn open(&self, name: &str, access: Access) -> Option<Map> {
        let file = self.file(name, access).ok()?;
        let len = (file.metadata().ok()?.len() & !7) as usize;
        match access {
            Access::Read => Map::readable(file, len).ok(),
            Access::Write => Map::writable(file, len).ok(),
        }
    }

    fn exists(&self, name: &str) -> bool {
        let stat = rustix::fs::statat(rustix::fs::CWD, Shm::path(name), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|s| self.is_proper(name, &s))
    }

    fn create(
        &self,
        name: &str,
        words: usize,
        fill: &mut dyn FnMut(&[AtomicU64]),
    ) -> Result<Map, SegmentError> {
        let temporary = format!("{name}.{:016x}", fastrand::u64(..));
        let made = self.build(name, &temporary, 8 * words as u64).and_then(|map| {
            fill(map.words());
            take_name(&Shm::path(&temporary), &Shm::path(name))
                .map_err(|why| SegmentError::Rename { name: name.into(), why: why.into() })?;
            Ok(map)
        });
        if made.is_err() {
            let _ = rustix::fs::unlink(Shm::path(&temporary));
        }
        made
    }

    fn is_current(&self, name: &str, memory: &Map) -> bool {
        let at_name = rustix::fs::statat(rustix::fs::CWD, Shm::path(name), AtFlags::SYMLINK_NOFOLLOW);
        let Ok(mapped) = rustix::fs::fstat(memory.file()) else { return false };
        sys::links(memory.file()).is_ok_and(|n| n > 0)
            && at_name.is_ok_and(|s| s.st_ino == mapped.st_ino && s.st_dev == mapped.st_dev)
    }
}

/// A name for what wrongly stands under this one.
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".aside-{:08x}", fastrand::u32(..)));
    name.into()
}

/// Renames over whatever has the name; a directory, over which no file can be renamed, is set aside first.
fn take_name(from: &Path, to: &Path) -> rustix::io::Result<()> {
    let renamed = rustix::fs::rename(from, to);
    if renamed == Err(rustix::io::Errno::ISDIR) {
        rustix::fs::rename(to, aside(to))?;
        return rustix::fs::rename(from, to);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    fn shm() -> Shm {
        Shm::of(&Names::for_user(Some("test")).unwrap())
    }

    fn name(what: &str) -> String {
        format!("ipc-pipeline@test-{}-{:x}.{what}", std::process::id(), fastrand::u32(..))
    }

    struct Gone(String);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(Shm::path(&self.0));
        }
    }

    #[test]
    fn a_segment_appears_whole_and_is_shared() {
        let shm = shm();
        let n = Gone(name("a"));
        assert!(shm.open(&n.0, Access::Read).is_none());
        let a = shm
            .create(&n.0, 512, &mut |w| {
                assert!(shm.open(&n.0, Access::Read).is_none(), "visible before it is whole");
                w[7].store(9, Relaxed)
            })
            .unwrap();
        let b = shm.open(&n.0, Access::Read).unwrap();
        assert_eq!((b.words().len(), b.words()[7].load(Relaxed)), (512, 9));
        a.words()[7].store(10, Relaxed);
        assert_eq!(b.words()[7].load(Relaxed), 10);
        assert!(shm.is_current(&n.0, &b));
        let c = shm.create(&n.0, 512, &mut |_| ()).unwrap();
        assert!(!shm.is_current(&n.0, &a) && shm.is_current(&n.0, &c));
        let left = std::fs::read_dir(SHM)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(&format!("{}.", n.0)));
        assert_eq!(left.count(), 0, "no temporary name is left");
    }

    #[test]
    fn improper_files_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let shm = shm();
        let (n, link) = (Gone(name("b")), Gone(name("c")));
        std::fs::write(Shm::path(&n.0), [0; 64]).unwrap();
        assert!(shm.open(&n.0, Access::Read).is_none(), "others may read it");
        std::fs::set_permissions(Shm::path(&n.0), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(shm.open(&n.0, Access::Read).is_some());
        std::os::unix::fs::symlink(Shm::path(&n.0), Shm::path(&link.0)).unwrap();
        assert!(shm.open(&link.0, Access::Read).is_none(), "a link");
        std::fs::write(Shm::path(&n.0), []).unwrap();
        assert!(shm.open(&n.0, Access::Read).is_none(), "a placeholder");
    }
}
