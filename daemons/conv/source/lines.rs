//! Lines of text, one row of numbers each: a file, a FIFO, or standard input.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use ipc_pipeline::config::LineFormat;
use rustix::fs::{Mode, OFlags};

use super::rows::{Input, RowReader};
use super::{Source, SourceError, Supply};

/// One row a line.
pub struct Lines {
    rows: RowReader,
    /// The path as configured.
    path: String,
}

impl Lines {
    /// Opens `path` (`-` is standard input); of each channel the digits after the point are kept exactly.
    pub fn open(path: &Path, format: &LineFormat, decimals: &[u8]) -> Result<Lines, SourceError> {
        let name = path.display().to_string();
        let input = open(path).map_err(|why| SourceError::Unusable { path: name.clone(), why })?;
        Ok(Lines { rows: RowReader::new(name.clone(), input, format, decimals), path: name })
    }

    /// Is it a file, which has its next line at any time?
    pub fn is_file(&self) -> bool {
        matches!(self.rows.input(), Input::File(_))
    }
}

impl Source for Lines {
    fn seek(&mut self, row: u64) -> Result<(), SourceError> {
        if !self.is_file() {
            self.rows.resume(row); // what a pipe gives next is the next row
            return Ok(());
        }
        let found = self.rows.pass(row)?;
        if found < row {
            return Err(SourceError::Shrunk { path: self.path.clone(), found, wanted: row });
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        self.rows.fill(out)
    }
}

fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input::Stdin(io::stdin()));
    }
    let kind = std::fs::metadata(path)?.file_type();
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    if kind.is_fifo() {
        // Read and write: there is then always a writer, so that the end of one is not the end of all.
        let fd = rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty())?;
        return Ok(Input::Fifo(File::from(fd)));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is neither a file nor a FIFO"));
    }
    Ok(Input::File(File::from(rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty())?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rows::CHUNK;
    use std::io::Write;
    use std::path::PathBuf;

    fn plain(path: &Path, decimals: u8) -> Result<Lines, SourceError> {
        Lines::open(path, &LineFormat::default(), &[decimals])
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.txt");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    /// All that a source gives: values, and `None` for a bad line.
    fn all(source: &mut Lines, batch: usize) -> Vec<Option<i32>> {
        let mut given = Vec::new();
        let mut out = vec![0; batch];
        loop {
            match source.fill(&mut out).unwrap() {
                Supply::Rows(n) => given.extend(out[..n].iter().map(|v| Some(*v))),
                Supply::Bad(_) => given.push(None),
                Supply::Nothing | Supply::Unread(_) => panic!("a file always has its next line"),
                Supply::End => return given,
            }
        }
    }

    #[test]
    fn every_line_is_one_position() {
        let text = "1\n -2 \r\nx\n\n3\n9999999999\n4";
        let want = [Some(1), Some(-2), None, None, Some(3), None, Some(4)];
        let (_dir, path) = file(text);
        for batch in 1..9 {
            assert_eq!(all(&mut plain(&path, 0).unwrap(), batch), want, "batch {batch}");
            for index in 0..=want.len() {
                let mut source = plain(&path, 0).unwrap();
                source.seek(index as u64).unwrap();
                assert_eq!(all(&mut source, batch), want[index..], "from {index}");
            }
        }
        assert!(matches!(
            plain(&path, 0).unwrap().seek(8),
            Err(SourceError::Shrunk { found: 7, wanted: 8, .. })
        ));
    }

    #[test]
    fn a_large_file_with_bad_lines_anywhere() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut want: Vec<Option<i32>> = Vec::new();
        let mut text = String::new();
        for _ in 0..60_000 {
            match rng.u32(..50) {
                0 => text.push_str("bad line\n"),
                1 => text.push_str(&format!("{}\n", "7".repeat(rng.usize(5000..9000)))),
                _ => {
                    want.push(Some(rng.i32(..)));
                    text.push_str(&format!("{}\n", want.last().unwrap().unwrap()));
                    continue;
                }
            }
            want.push(None);
        }
        let (_dir, path) = file(&text);
        for batch in [1, 7, 1024] {
            assert!(all(&mut plain(&path, 0).unwrap(), batch) == want, "batch {batch}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let (_dir, path) = file("2.0018\n2.00185\n");
        let mut source = plain(&path, 4).unwrap();
        let mut out = [0; 8];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(1));
        assert_eq!(out[0], 20018);
        let Supply::Bad(text) = source.fill(&mut out).unwrap() else { panic!() };
        assert!(text.contains("in.txt:2: \"2.00185\" is no sample: "), "{text}");
    }

    #[test]
    fn a_fifo_outlives_its_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        let mut source = plain(&path, 0).unwrap();
        let mut out = [0; 8];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Nothing);
        for round in 0..3 {
            std::fs::File::options().write(true).open(&path).unwrap().write_all(b"5\n6\n").unwrap();
            assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(2), "round {round}");
            assert_eq!(source.fill(&mut out).unwrap(), Supply::Nothing);
        }
    }

    #[test]
    fn a_header_stands_only_at_the_start_of_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let format = LineFormat { header: true, ..LineFormat::default() };
        for (row, rows) in [(0, 1), (7, 2)] {
            let mut source = Lines::open(&path, &format, &[0]).unwrap();
            source.seek(row).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().write_all(b"5\n6\n").unwrap();
            assert_eq!(source.fill(&mut [0; 8]).unwrap(), Supply::Rows(rows), "from {row}");
        }
    }

    #[test]
    fn the_tail_of_a_line_that_is_too_long_is_no_sample() {
        let good = "1\n".repeat(30_000);
        let long = format!("{good}{}42", "x".repeat(CHUNK - good.len())); // "42" is in the next chunk
        for (text, after) in [(format!("{long}\n7\n"), vec![None, Some(7)]), (long, vec![None])] {
            let (_dir, path) = file(&text);
            for batch in [1, 7, 1024] {
                let given = all(&mut plain(&path, 0).unwrap(), batch);
                assert_eq!(given[30_000..], after, "batch {batch}");
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_called_so() {
        for len in [4097, 70_000, 3_000_000] {
            let (_dir, path) = file(&format!("1\n# {}\n2{}\n3", "#".repeat(len), "9".repeat(len)));
            let format = LineFormat { comment: Some("#".into()), ..LineFormat::default() };
            let mut source = Lines::open(&path, &format, &[0]).unwrap();
            let mut out = [0; 8];
            assert_eq!((source.fill(&mut out).unwrap(), out[0]), (Supply::Rows(1), 1));
            let Supply::Bad(text) = source.fill(&mut out).unwrap() else { panic!("{len}") };
            let parts = ["in.txt:3: \"2999", "the line is too long, it has more than 4096 bytes"];
            assert!(parts.iter().all(|part| text.contains(part)) && text.len() < 300, "{text}");
            assert_eq!((source.fill(&mut out).unwrap(), out[0]), (Supply::Rows(1), 3));
        }
    }

    #[test]
    fn what_cannot_be_a_source_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let text = |p: &Path| plain(p, 0).err().unwrap().to_string();
        assert!(text(dir.path()).contains("neither a file nor a FIFO"));
        assert!(text(&dir.path().join("none")).starts_with("cannot use source.path "));
    }

    #[test]
    fn comments_and_a_header_are_no_rows() {
        let (_dir, path) = file("1;2\n# 3;4\n\n5;6\n  #\nx\n7;8");
        let format = LineFormat { comment: Some("#".into()), header: true, ..LineFormat::default() };
        let open = || Lines::open(&path, &format, &[0, 1]).unwrap();
        let mut source = open();
        let mut out = [0; 16];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(1));
        assert_eq!(out[..2], [5, 60]);
        let Supply::Bad(text) = source.fill(&mut out).unwrap() else { panic!() };
        assert!(text.contains("in.txt:6: "), "{text}");
        for row in 0..=3 {
            let mut source = open();
            source.seek(row).unwrap();
            if row == 2 {
                assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(1));
                assert_eq!(out[..2], [7, 80]);
            }
        }
        assert!(matches!(open().seek(4), Err(SourceError::Shrunk { found: 3, wanted: 4, .. })));
    }
}
