//! Files in memory: a disk for readers that take one, and short-lived directories for those that want real files.

use ipc_pipeline::disk::Disk;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;

type Bytes = Rc<RefCell<Vec<u8>>>;

/// No file becomes larger, in bytes: whoever wants more gets the error of a full disk.
const FILE_MAX: u64 = 1 << 22;

/// A directory in memory.
#[derive(Clone, Default)]
pub struct MemoryDisk(Rc<RefCell<BTreeMap<String, Bytes>>>);

impl MemoryDisk {
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Bytes {
        let file = Rc::new(RefCell::new(bytes));
        self.0.borrow_mut().insert(name.into(), file.clone());
        file
    }

    /// All files with their names.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.0.borrow().iter().map(|(name, bytes)| (name.clone(), bytes.borrow().clone())).collect()
    }
}

impl Disk for MemoryDisk {
    type File = Bytes;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Bytes> {
        self.0.borrow().get(name).cloned().ok_or(ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Bytes> {
        if self.open(name).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(self.put(name, Vec::new()))
    }

    fn len(&self, file: &Bytes) -> io::Result<u64> {
        Ok(file.borrow().len() as u64)
    }

    fn read_at(&self, file: &Bytes, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = file.borrow();
        let from = file.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, file: &Bytes, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > FILE_MAX {
            return Err(ErrorKind::StorageFull.into());
        }
        let (mut file, end) = (file.borrow_mut(), end as usize);
        let len = file.len().max(end);
        file.resize(len, 0);
        file[end - bytes.len()..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_len(&self, file: &Bytes, len: u64) -> io::Result<()> {
        if len > FILE_MAX {
            return Err(ErrorKind::StorageFull.into());
        }
        file.borrow_mut().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self, _: &Bytes) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.0.borrow_mut().remove(from).ok_or(ErrorKind::NotFound)?;
        self.0.borrow_mut().insert(to.into(), file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name).map(drop).ok_or(ErrorKind::NotFound.into())
    }
}

/// A directory with these files, in memory where there is /dev/shm; it is gone when this returns.
pub fn with_files<T>(files: &[(String, Vec<u8>)], then: impl FnOnce(&Path) -> T) -> T {
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("ipc-pipeline-fuzz-").tempdir_in(place).expect("a directory");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        path.parent().map(std::fs::create_dir_all).transpose().expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
    then(dir.path())
}
