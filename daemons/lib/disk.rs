//! A directory of files, as the record sees it: one small trait, so that the power-cut model and fault injection
//! can stand in for the real one, and [`DirDisk`], the real one.
#![forbid(unsafe_code)]

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// A flat directory of regular files. Names hold no slash.
pub trait Disk {
    /// An open file.
    type File;

    /// The names of everything in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Makes a new empty file; fails if the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Length of the file in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, file: &Self::File, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `bytes`, and says how many.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or lengthens the file.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Returns when the contents and the length of the file are on stable storage (fdatasync).
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// A hint: these bytes could go to the device now, so that the next `sync_data` finds little left to do.
    fn write_back(&self, _file: &Self::File, _offset: u64, _len: u64) {}
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Returns when the names are on stable storage (fsync of the directory).
    fn sync_dir(&self) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The name as a user finds it: with its directory.
    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// What kind of trouble a disk has: what the log's state shows and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No space left, or the quota is used up (ENOSPC, EDQUOT). Goes away when space is freed.
    Full,
    /// The device failed (EIO).
    Damaged,
    /// The file system is mounted read-only (EROFS).
    ReadOnly,
    /// Anything else, such as a missing permission.
    Other,
}

impl Trouble {
    /// The kind of this error.
    pub fn of(error: &io::Error) -> Trouble {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Trouble::Full,
            Some(Errno::IO) => Trouble::Damaged,
            Some(Errno::ROFS) => Trouble::ReadOnly,
            _ => Trouble::Other,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Trouble::Full => "free some space on that file system",
            Trouble::Damaged => "the device fails: see the kernel's log (dmesg)",
            Trouble::ReadOnly => "mount that file system writable again",
            Trouble::Other => "check the owner and the mode of that directory and what is in it",
        }
    }
}

/// A disk call that failed: what was tried, where, why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {place}: {source}; {}", self.trouble().advice())]
pub struct DiskError {
    doing: &'static str,
    place: String,
    source: io::Error,
}

impl DiskError {
    /// `doing` is the verb of the sentence, as in "cannot write /var/lib/.../durable.mark".
    pub fn new<D: Disk>(disk: &D, doing: &'static str, name: &str, source: io::Error) -> DiskError {
        DiskError { doing, place: disk.place(name), source }
    }

    /// The kind of trouble.
    pub fn trouble(&self) -> Trouble {
        Trouble::of(&self.source)
    }
}

/// Reads until `buf` is full or the file ends; returns the number of bytes read.
pub fn read_full<D: Disk>(disk: &D, file: &D::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match disk.read_at(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all bytes. With an error comes the number of bytes that were written before it.
pub fn write_all<D: Disk>(
    disk: &D,
    file: &D::File,
    bytes: &[u8],
    offset: u64,
) -> Result<(), (usize, io::Error)> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match disk.write_at(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => return Err((done, io::ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((done, e)),
        }
    }
    Ok(())
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// It cannot be made or opened.
    #[error("cannot {doing} the directory {}: {source}; check its owner and mode and those above it", path.display())]
    Open {
        /// The verb.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has locked it.
    #[error("{} is in use by another process; stop that one first, or choose another instance with --name", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}: {source}; do this as who writes that record, in a pipeline of the machine as root, or check the owner and mode of the file", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DirError {
    /// The kind of trouble.
    pub fn trouble(&self) -> Trouble {
        match self {
            DirError::Open { source, .. } | DirError::Lock { source, .. } => Trouble::of(source),
            DirError::Busy { .. } => Trouble::Other,
        }
    }
}

/// The lock of a record. The kernel frees it when this value, or the process, goes.
#[derive(Debug)]
pub struct DirLock {
    _file: OwnedFd,
}

/// A real directory, held by descriptor: a rename of the directory or a link put in its place changes nothing.
#[derive(Debug)]
pub struct DirDisk {
    dir: OwnedFd,
    path: PathBuf,
    access: OFlags,
}

const LOCK: &str = ".lock";

impl DirDisk {
    /// Opens the directory for writing. It is made, with those above it, with mode 0700 if it is missing.
    /// Its group may read the files that are made in it, whatever the umask, if it may read the directory. Others never may. What
    /// the superuser makes belongs to whom the directory belongs, who must be able to go on with it.
    pub fn open(path: &Path) -> Result<DirDisk, DirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| DirError::Open {
            doing: "make",
            path: path.to_owned(),
            source,
        })?;
        DirDisk::at(path, OFlags::RDWR)
    }

    /// Opens an existing directory for reading only; every call that writes fails.
    pub fn read_only(path: &Path) -> Result<DirDisk, DirError> {
        DirDisk::at(path, OFlags::RDONLY)
    }

    fn at(path: &Path, access: OFlags) -> Result<DirDisk, DirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = fs::open(path, flags, Mode::empty()).map_err(|e| DirError::Open {
            doing: "open",
            path: path.to_owned(),
            source: e.into(),
        })?;
        Ok(DirDisk { dir, path: path.to_owned(), access })
    }

    /// Takes the lock of the record (`.lock`), at once or not at all.
    pub fn lock(&self) -> Result<DirLock, DirError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fail = |e: Errno| DirError::Lock { path: path.clone(), source: e.into() };
        let file = fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        self.hand_over(&file).map_err(fail)?;
        match retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(DirError::Busy { path }),
            Err(e) => Err(fail(e)),
        }
    }

    /// What the superuser has made here is given to the directory's owner.
    fn hand_over(&self, file: &impl AsFd) -> Result<(), Errno> {
        let dir = fs::fstat(&self.dir)?;
        if rustix::process::geteuid().is_root() && dir.st_uid != 0 {
            fs::fchown(file, Some(Uid::from_raw(dir.st_uid)), Some(Gid::from_raw(dir.st_gid)))?;
        }
        Ok(())
    }

    /// The same directory once more, for another thread.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<DirDisk> {
        Ok(DirDisk { dir: self.dir.try_clone()?, path: self.path.clone(), access: self.access })
    }

    /// The directory as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does `name` still name this open file?
    ///
    /// # Errors
    /// The system does not tell now, which is no sign that somebody has removed it.
    pub fn is_still(&self, name: &str, file: &File) -> io::Result<bool> {
        let named = fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        match (named, fs::fstat(file)) {
            (Ok(a), Ok(b)) => Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)),
            (Err(e), _) | (_, Err(e)) if crate::sys::is_momentary(&e.into()) => Err(e.into()),
            _ => Ok(false),
        }
    }

    // NONBLOCK: a FIFO that stands here by mistake must not hang us before we can see what it is.
    fn open_file(&self, name: &str, flags: OFlags, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(fs::openat(&self.dir, name, flags, mode)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
        }
    }
}

impl Disk for DirDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.dir)? {
            // Names that are no UTF-8 are not ours.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.open_file(name, self.access, Mode::empty())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let own = Mode::RUSR | Mode::WUSR;
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, own)?;
        let group = Mode::from_raw_mode(fs::fstat(&self.dir)?.st_mode) & Mode::RGRP;
        fs::fchmod(&file, own | group)?; // not when it is opened: the umask may take the group's right
        self.hand_over(&file)?;
        Ok(file)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn write_back(&self, file: &File, offset: u64, len: u64) {
        crate::sys::start_write_back(file, offset, len);
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(&self.dir))?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_kind_it_is() {
        for (errno, trouble) in [
            (5, Trouble::Damaged),
            (28, Trouble::Full),
            (122, Trouble::Full),
            (30, Trouble::ReadOnly),
            (13, Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&io::Error::from_raw_os_error(errno)), trouble);
        }
    }
}
