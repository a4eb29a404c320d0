//! Programs that follow the samples as they are accepted.
#![forbid(unsafe_code)]

use super::{BOUND, check_lines, conclude, in_the_sources, output_of, working};
use crate::checker::check_record;
use crate::harness::{Pipeline, Role};
use crate::header::build;
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
    let mut reader = Command::new("python3");
    reader.arg(in_the_sources("config/examples/follow.py")).arg(&p.name).arg(WANTED.to_string());
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
