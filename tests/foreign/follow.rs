//! Programs that follow the samples as they are accepted.
#![forbid(unsafe_code)]

use super::{BOUND, check_lines, conclude, in_the_sources, output_of, working};
use crate::checker::{check_record, crc};
use crate::harness::{Foreground, Pipeline, Role, wait_until};
use crate::header::build;
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Enough to wrap the ring, few enough for a second.
const WANTED: usize = 600;

const READER: &str = r#"
#define _POSIX_C_SOURCE 200809L
#include "ipc_pipeline.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDONLY | O_NOFOLLOW), left = argc > 2 ? atoi(argv[2]) : 0;
    struct stat is;
    if (fd < 0 || fstat(fd, &is)) return 2;
    const struct ipcp_spool *spool = mmap(0, is.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (spool == MAP_FAILED || !ipcp_is_whole(spool, IPCP_SPOOL_MAGIC)) return 3;
    for (uint64_t seq = ipcp_head(spool); left > 0;) {
        if (ipcp_head(spool) <= seq) {
            nanosleep(&(struct timespec){0, 1000000}, 0);
            continue;
        }
        struct ipcp_entry entry;
        if (ipcp_tail(spool) > seq) seq = ipcp_tail(spool);
        if (ipcp_read(spool, ++seq, &entry) && entry.kind == IPCP_SAMPLE) {
            printf("%llu %llu %u %d\n", (unsigned long long)entry.seq, (unsigned long long)entry.t_ns, entry.channel, entry.value);
            left--;
        }
    }
    return 0;
}
"#;

/// Every line is a sample of the record, in order; and the pipeline did not notice that somebody looked on.
fn follows_live(program: impl Fn(&Pipeline) -> Command) {
    let (mut p, _) = working(["shm", "shm", "shm"]);
    let text = output_of(program(&p));
    let durable = p.durable();
    p.wait_for("the pipeline goes on", BOUND, |p| p.durable() > durable + 100);
    let record = conclude(&mut p);
    let seqs = check_lines(&text, &record);
    assert!(seqs.len() == WANTED && seqs.is_sorted_by(|a, b| a < b), "all of them in order, none twice");
}

#[test]
fn a_c_program_with_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let program = build(dir.path(), READER);
    follows_live(|p| {
        let mut c = Command::new(&program);
        c.arg(p.paths.spool()).arg(WANTED.to_string());
        c
    });
}

#[test]
fn a_python_program_with_nothing() {
    follows_live(|p| {
        let mut c = Command::new("python3");
        c.arg(in_the_sources("config/examples/follow.py")).arg(&p.name).arg(WANTED.to_string());
        c
    });
}

/// A reader that stays while the pipeline is stopped, and its objects removed, goes on with the next life of the spool.
#[test]
fn a_python_program_stays_through_a_stop() {
    let (mut p, _) = working(["shm", "shm", "shm"]);
    let mut reader = Command::new("timeout");
    reader.args(["60", "python3"]).arg(in_the_sources("config/examples/follow.py"));
    reader.arg(&p.name).arg(WANTED.to_string());
    let reader = reader.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    p.wait_for("it has read some", BOUND, |p| p.durable() > 300);
    [Role::Conv, Role::Log, Role::Stat, Role::Report].into_iter().for_each(|role| p.stop(role, BOUND));
    let stopped = p.record();
    let last = check_record(&stopped).last;
    p.remove_objects();
    p.start_all();
    let out = reader.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let record = conclude(&mut p);
    let seqs = check_lines(&String::from_utf8(out.stdout).unwrap(), &record);
    assert!(seqs.len() == WANTED && seqs.is_sorted_by(|a, b| a < b), "all of them in order, none twice");
    assert!(seqs[WANTED - 1] > last as i64, "it goes on behind the stop");
}

/// One that is stopped while the ring goes on without it says what it has missed, and goes on behind that.
#[test]
fn a_python_program_that_was_overtaken_says_so() {
    let (mut p, _) = working(["shm", "shm", "shm"]);
    let script = in_the_sources("config/examples/follow.py");
    let words = [script.to_str().unwrap(), p.name.as_str(), "1000"];
    let mut reader = p.spawn("python3", &words, Stdio::null());
    let (lines, name) = (|reader: &Foreground| reader.out().lines().count(), "it has read some");
    wait_until(name, BOUND, || lines(&reader) > 100);
    reader.signal(Signal::STOP);
    let durable = p.durable();
    p.wait_for("twice the ring", BOUND, |p| p.durable() > durable + 512);
    reader.signal(Signal::CONT);
    reader.ends_with(0, BOUND);
    let said = reader.err();
    assert!(said.contains("went by too fast: the record has them"), "{said}");
    let record = conclude(&mut p);
    let seqs = check_lines(&reader.out(), &record);
    assert!(seqs.len() == 1000 && seqs.is_sorted_by(|a, b| a < b), "in order, none twice");
}

/// Something under the name of a spool, as long as the test takes.
struct Pretender(PathBuf);

impl Pretender {
    fn of(name: &str, make: impl Fn(&Path)) -> Pretender {
        let path = PathBuf::from(format!("/dev/shm/ipc-pipeline@{name}.spool"));
        let _ = fs::remove_file(&path);
        make(&path);
        Pretender(path)
    }
}

impl Drop for Pretender {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file of this size that begins like a spool of this capacity.
fn pretend(path: &Path, size: u64, capacity: u64) {
    let mut head = [0; 64];
    head[..8].copy_from_slice(b"IPCPSPL1");
    head[24..32].copy_from_slice(&capacity.to_le_bytes());
    let sum = crc(&head[..60]);
    head[60..].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, head).unwrap();
    File::options().write(true).open(path).unwrap().set_len(size).unwrap();
}

/// Puts something there.
type Maker = fn(&Path);

/// Whatever is there: the Python program ends at once, with one sentence.
#[test]
fn a_python_program_is_not_fooled() {
    let name = format!("pretender-{}", std::process::id());
    let strange: [(&str, Maker); 8] = [
        ("nothing", |_| ()),
        ("a placeholder", |path| fs::write(path, "").unwrap()),
        ("a word", |path| fs::write(path, "IPCPSPL1").unwrap()),
        ("no header", |path| fs::write(path, [7; 8192]).unwrap()),
        ("no entries", |path| pretend(path, 4096, 0)),
        ("fewer than it says", |path| pretend(path, 12288, 1 << 26)),
        ("half a head", |path| pretend(path, 64, 256)),
        ("a link", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
    ];
    for (what, make) in strange {
        let _pretender = Pretender::of(&name, make);
        let mut reader = Command::new("timeout");
        reader.args(["20", "python3"]).arg(in_the_sources("config/examples/follow.py")).args([&name, "1"]);
        let out = reader.output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(1) && said.lines().count() == 1, "{what}: {} {said}", out.status);
        assert!(said.ends_with(": does the pipeline run?\n"), "{what}: {said}");
    }
}

/// It is an example, so it must be short.
#[test]
fn the_python_program_has_sixty_lines_at_most() {
    let text = fs::read_to_string(in_the_sources("config/examples/follow.py")).unwrap();
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(text.lines().count() <= 60 && longest <= 132, "{} lines", text.lines().count());
}
