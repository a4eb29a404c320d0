//! What the system's own tools show of our objects: the owner and the modes that docs/formats.md promises.
#![forbid(unsafe_code)]

use super::{RECEIVERS, conclude, output_of, place, stranger, working};
use crate::harness::{Pipeline, Role};
use std::fs;
use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    output_of(command)
}

fn key(p: &Pipeline, role: Role) -> String {
    fs::read_to_string(place(p, "sysv", role)).unwrap().trim().to_owned()
}

#[test]
fn ipcs_and_lsipc_show_our_queues() {
    let (mut p, _) = working(["sysv", "sysv", "sysv"]);
    let user = run("id", &["-un"]);
    for role in RECEIVERS {
        let key = key(&p, role);
        let ipcs = run("ipcs", &["-q"]);
        let mut lines = ipcs.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.first() == Some(&key.as_str())).expect("ipcs -q shows it");
        assert_eq!(line[2..4], [user.trim(), "600"], "{ipcs}");
        let number = line[1];
        let columns = ["--queues", "--noheadings", "--raw", "--output=ID,PERMS,OWNER"];
        let lsipc = run("lsipc", &columns);
        let wanted = format!("{number} rw------- {}", user.trim());
        assert!(lsipc.lines().any(|line| line == wanted), "{wanted}: {lsipc}");
    }
    conclude(&mut p);
}

#[test]
fn posix_ipc_and_ls_show_our_queues() {
    let (mut p, _) = working(["mq", "mq", "shm"]);
    let user = run("id", &["-u"]);
    for role in [Role::Log, Role::Stat] {
        let queue = place(&p, "mq", role);
        assert_eq!(stranger(&p, &["look", "mq", &queue]), format!("10 8192 {} 600\n", user.trim()));
        // Where no file system shows them, posix_ipc has said the same.
        if p.queues().iter().any(|path| path.exists()) {
            let ls = run("ls", &["-ln", &format!("/dev/mqueue{queue}")]);
            let words: Vec<&str> = ls.split_whitespace().collect();
            assert_eq!((words[0], words[2]), ("-rw-------", user.trim()), "{ls}");
        }
    }
    conclude(&mut p);
}

#[test]
fn ls_shows_what_has_a_path() {
    let (mut p, _) = working(["fifo", "fifo", "unix"]);
    let mode = |path: &str| run("stat", &["--format=%F %a %u", path]);
    let user = run("id", &["-u"]);
    let user = user.trim();
    for role in [Role::Log, Role::Stat] {
        assert_eq!(mode(&place(&p, "fifo", role)), format!("fifo 600 {user}\n"));
    }
    let socket = place(&p, "unix", Role::Report);
    assert_eq!(mode(&socket), format!("socket 666 {user}\n"));
    assert_eq!(
        mode(socket.trim_end_matches("/socket")),
        format!("directory 700 {user}\n"),
        "who may come in"
    );
    for segment in [p.paths.spool(), p.paths.snapshot(), p.paths.page(Role::Log)] {
        assert_eq!(mode(segment.to_str().unwrap()), format!("regular file 600 {user}\n"));
    }
    conclude(&mut p);
}
