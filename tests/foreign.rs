//! Programs that are not ours meet the pipeline by its names: C with the published header, Python with nothing.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Pipeline, Role, samples};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);
/// Enough to wrap the ring, few enough for a second.
const WANTED: usize = 600;

const READER: &str = r#"
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
    if (spool == MAP_FAILED || spool->crc != ipcp_crc32c(spool, 60)) return 3;
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
    let mut p = Pipeline::of_lines(
        100_000,
        "[conv]\nrate = \"1 kHz\"\n[spool]\ncapacity = 256\n[log]\nsync = \"10ms\"\n",
    );
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.folded() > 100);
    let out = program(&p).output().expect("the reader runs");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    let durable = p.durable();
    p.wait_for("the pipeline goes on", BOUND, |p| p.durable() > durable + 100);
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("all is durable", BOUND, |p| p.durable() == head);
    p.judge();
    let record = checker::check_record(&p.record());
    let known = samples(&record.record);
    let lines: Vec<Vec<i64>> =
        text.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
    assert_eq!(lines.len(), WANTED);
    assert!(lines.is_sorted_by(|a, b| a[0] < b[0]), "in order, none twice");
    for line in lines {
        let found = known.iter().find(|e| e.seq as i64 == line[0]).expect("it is in the record");
        let is = [found.seq as i64, found.t_ns as i64, found.channel as i64, found.value as i64];
        assert_eq!(line, is);
    }
}

#[test]
fn a_c_program_with_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("reader.c"), dir.path().join("reader"));
    fs::write(&source, READER).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/include");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-I"])
        .args([include.as_path(), &source])
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    follows_live(|p| {
        let mut c = Command::new(&program);
        c.arg(p.paths.spool()).arg(WANTED.to_string());
        c
    });
}

#[test]
fn a_python_program_with_nothing() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must not pass without python3");
        return eprintln!("not run, because there is no python3");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/follow.py");
    follows_live(|p| {
        let mut c = Command::new("python3");
        c.arg(&script).arg(&p.name).arg(WANTED.to_string());
        c
    });
}
