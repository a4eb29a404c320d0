//! Keeps the segments that retention removes from a record, by hard links made while they are there, so that the judge
//! can still read every entry. The record itself is not touched.
#![forbid(unsafe_code)]

use crate::harness::Pipeline;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// A segment is there for much longer before it is removed.
const LOOK: Duration = Duration::from_millis(5);

pub struct Hoard {
    record: PathBuf,
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Hoard {
    pub fn start(p: &Pipeline) -> Hoard {
        let (record, dir, stop) = (p.record(), p.dir().join("hoard"), Arc::new(AtomicBool::new(false)));
        fs::create_dir(&dir).unwrap();
        let (from, to, told) = (record.clone(), dir.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                look(&from, &to);
                sleep(LOOK);
            }
        });
        Hoard { record, dir, stop, thread }
    }

    /// The directory of a record that holds all entries: what was removed, and what is still there. Nobody may be writing.
    pub fn finish(self) -> PathBuf {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        look(&self.record, &self.dir);
        let there = segments(&self.record);
        let first = there.first().cloned().unwrap_or_default();
        for name in segments(&self.dir) {
            // Recovery may have taken one back; and of a plain and a compressed one that counts which came last.
            let taken_back = name > first && !there.contains(&name);
            if taken_back || self.dir.join(format!("{name}z")).exists() {
                fs::remove_file(self.dir.join(&name)).unwrap();
            }
        }
        fs::copy(self.record.join("durable.mark"), self.dir.join("durable.mark")).unwrap();
        self.dir
    }
}

/// Links every segment that is not yet in the hoard, or is another file now.
fn look(record: &Path, hoard: &Path) {
    for name in segments(record) {
        let (from, to, new) = (record.join(&name), hoard.join(&name), hoard.join("new"));
        let inode = |path: &Path| fs::metadata(path).map(|m| m.ino()).ok();
        // It may be gone by now.
        if inode(&from) != inode(&to) && fs::hard_link(&from, &new).is_ok() {
            fs::rename(&new, &to).unwrap();
        }
    }
}

/// Names of segments, in order.
fn segments(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".seg") || n.ends_with(".segz")).collect();
    names.sort();
    names
}
