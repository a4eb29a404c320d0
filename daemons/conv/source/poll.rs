//! Numbers in files, read at each tick: /proc, /sys, or whatever another program keeps up to date.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipc_pipeline::decimal;
use rustix::fs::{Mode, OFlags};

use super::rows::Fields;
use super::{Source, SourceError, Supply};

/// So much of a file is looked at.
const LEN_MAX: u64 = 64 * 1024;

/// Reads its files anew for each row.
pub struct Poll {
    /// One for all channels or one for each.
    files: Vec<PathBuf>,
    /// Which word, from 1, by channel.
    columns: Vec<u16>,
    decimals: Vec<u8>,
}

impl Poll {
    /// `files` is one file or as many as `columns` and `decimals`. None of them needs to be there yet.
    pub fn new(files: &[PathBuf], columns: &[u16], decimals: &[u8]) -> Poll {
        Poll { files: files.to_vec(), columns: columns.to_vec(), decimals: decimals.to_vec() }
    }

    fn read(&self, row: &mut [i32]) -> Result<(), String> {
        let mut known: Option<(&Path, String)> = None;
        let files = self.files.iter().chain(self.files.last().into_iter().cycle());
        for (((file, slot), column), decimals) in files.zip(row).zip(&self.columns).zip(&self.decimals) {
            let text = match known {
                Some((path, text)) if path == file => text,
                _ => text_of(file).map_err(|why| format!("cannot read {}: {why}", file.display()))?,
            };
            let field = Fields::of(&text, None).nth(usize::from(*column).saturating_sub(1));
            let code = decimal::parse_rounded(field.unwrap_or(""), *decimals, 0);
            *slot =
                code.map_err(|why| format!("column {column} of {} is no sample: {why}", file.display()))?;
            known = Some((file, text));
        }
        Ok(())
    }
}

impl Source for Poll {
    fn seek(&mut self, _: u64) -> Result<(), SourceError> {
        Ok(()) // what is there now is the next row
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let row = out.get_mut(..self.decimals.len()).unwrap_or_default();
        Ok(self.read(row).map_or_else(Supply::Unread, |()| Supply::Rows(1)))
    }
}

/// The start of a file, without waiting for anybody: a FIFO or a terminal is refused.
fn text_of(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    text_in(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// The same for a name in an open directory.
pub fn text_at(dir: impl AsFd, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    text_in(rustix::fs::openat(dir, name, flags, Mode::empty())?.into())
}

fn text_in(file: File) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LEN_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(poll: &mut Poll) -> Result<Vec<i32>, String> {
        let n = poll.decimals.len();
        let mut out = vec![0; 3 * n];
        match poll.fill(&mut out).unwrap() {
            Supply::Rows(1) => Ok(out[..n].to_vec()),
            Supply::Unread(text) => Err(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_of_one_file_or_of_several() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&a, "0.52 0.585 0.59 1/234 4711\n").unwrap();
        fs::write(&b, "MemTotal:  16384 kB\nMemFree:\t-8 kB\n").unwrap();
        let mut one = Poll::new(std::slice::from_ref(&a), &[1, 2, 5], &[2, 2, 0]);
        assert_eq!(read(&mut one), Ok(vec![52, 59, 4711])); // 0.585 rounded away from zero
        let mut two = Poll::new(&[a.clone(), b], &[3, 5], &[3, 1]);
        assert_eq!(read(&mut two), Ok(vec![590, -80]));
        assert!(read(&mut Poll::new(&[a], &[4], &[0])).unwrap_err().contains("column 4 of "));
    }

    #[test]
    fn what_vanishes_comes_back_and_what_changes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut poll = Poll::new(std::slice::from_ref(&path), &[1], &[0]);
        let text = read(&mut poll).unwrap_err();
        assert!(text.starts_with("cannot read ") && text.contains("No such file"), "{text}");
        assert_eq!(read(&mut poll).unwrap_err(), text); // so that it is said once
        for n in [7, 8] {
            fs::write(&path, format!("{n}\n")).unwrap();
            assert_eq!(read(&mut poll), Ok(vec![n]));
        }
        for nonsense in ["", "nan", "99999999999"] {
            fs::write(&path, nonsense).unwrap();
            assert!(read(&mut poll).unwrap_err().contains("is no sample: "), "{nonsense}");
        }
    }

    #[test]
    fn nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [fifo.as_path(), dir.path()] {
            let mut poll = Poll::new(&[path.into()], &[1], &[0]);
            assert!(read(&mut poll).unwrap_err().contains("it is no regular file"));
        }
    }
}
