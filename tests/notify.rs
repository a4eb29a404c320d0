//! What a service manager is told: STATUS= says true numbers in plain words, and a reload is announced and ended.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Page, Pipeline, Role, wait_until};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

/// A daemon with a manager that listens.
struct Service {
    socket: UnixDatagram,
    child: Child,
    begun: Instant,
    /// All that was said so far.
    said: Vec<String>,
}

impl Service {
    fn start(p: &Pipeline, role: Role) -> Service {
        let path = p.dir().join(format!("{}.notify", role.name()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let program = [
            env!("CARGO_BIN_EXE_ipc-conv"),
            env!("CARGO_BIN_EXE_ipc-log"),
            env!("CARGO_BIN_EXE_ipc-stat"),
            env!("CARGO_BIN_EXE_ipc-report"),
        ][role as usize];
        let mut command = p.command(program);
        command.arg("--config").arg(p.config()).env("NOTIFY_SOCKET", path);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        Service { socket, child, begun: Instant::now(), said: Vec::new() }
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
            self.said.extend(text.lines().map(str::to_owned));
        }
    }

    /// Its last STATUS=.
    fn status(&mut self) -> String {
        self.listen();
        let last = self.said.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        last.unwrap_or_default().to_owned()
    }

    /// The number before these words in the last STATUS=.
    fn number(&mut self, words: &str) -> Option<f64> {
        let status = self.status();
        let before = status.split_once(words)?.0;
        before.rsplit([' ', ',']).next()?.parse().ok()
    }

    fn seq(&mut self) -> u64 {
        let status = self.status();
        let after = status.split_once("; entry ").map_or("0", |(_, after)| after);
        after.split(' ').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        harness::signal_pid(self.child.id() as i32, signal);
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(p: &Pipeline) -> [Service; 4] {
    let [report, stat, log, conv] =
        [Role::Report, Role::Stat, Role::Log, Role::Conv].map(|role| Service::start(p, role));
    [conv, log, stat, report]
}

fn end(mut p: Pipeline, services: [Service; 4]) {
    services.into_iter().for_each(Service::end);
    p.judge();
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn rate_and_seq_are_true() {
    let p = Pipeline::new(
        "[conv]\nrate = \"200 Hz\"\n[log]\nsync = \"5ms\"\n[report]\nmax_lines_per_second = 100\n",
    );
    let mut services = start(&p);
    for (role, done) in
        [(Role::Conv, "accepted"), (Role::Log, "durable"), (Role::Stat, "counted"), (Role::Report, "printed")]
    {
        let service = &mut services[role as usize];
        // The rate of a second, of the ticks' clock; a machine that is busy may cut a second short or make it long.
        wait_until("its rate", BOUND, || {
            let rate = service.number(" entries/s").unwrap_or(0.0);
            (150.0..=250.0).contains(&rate)
        });
        let status = service.status();
        assert!(status.starts_with("running at ") && status.contains(done), "{status}");
        assert!(status.ends_with("; nothing lost"), "{status}");
        // What it says is of the last second.
        let come = || Page::open(&p.paths.page(role)).and_then(|page| page.received());
        let come = || if role == Role::Conv { p.head() } else { come() };
        let seq = service.seq();
        wait_until("news", BOUND, || service.seq() != seq);
        let (seq, now) = (service.seq(), come().unwrap());
        assert!(seq <= now && seq + 1000 > now, "{seq} of {now}");
    }
    // No more than one a second, whatever happens.
    for service in &mut services {
        service.listen();
        let lines = service.said.iter().filter(|line| line.starts_with("STATUS=")).count();
        let life = service.begun.elapsed().as_secs() as usize;
        assert!((2..=life + 2).contains(&lines), "{lines} in {life} s");
    }
    end(p, services);
}

/// What waits where, exactly, while those behind do not move.
#[test]
fn lag_and_losses_are_true() {
    let p = Pipeline::new(
        "[conv]\nrate = \"500 Hz\"\npolicy = \"drop-newest\"\nmax_late = \"50ms\"\n[spool]\ncapacity = 256\n[log]\nsync = \"5ms\"\n",
    );
    let mut services = start(&p);
    wait_until("it runs", BOUND, || p.folded() > 100);
    // Ticks pass.
    services[0].signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(500));
    services[0].signal(Signal::CONT);
    wait_until("they are counted", BOUND, || p.counter(Role::Conv, "empty") > 100);
    // The spool runs full of what is not durable.
    services[1].signal(Signal::STOP);
    wait_until("it is full", BOUND, || p.state_of(Role::Conv) == "spool full");
    let lag = p.head().unwrap() - p.durable();
    let conv = &mut services[0];
    wait_until("its lag", BOUND, || conv.number(" not yet durable") == Some(lag as f64));
    assert!(conv.status().starts_with("spool full at "), "{}", conv.status());
    wait_until("nothing moves", BOUND, || conv.number(" entries/s") == Some(0.0));
    services[1].signal(Signal::CONT);
    wait_until("it goes on", BOUND, || p.state_of(Role::Conv) == "running");
    let [missed, dropped] = ["empty", "full"].map(|name| p.counter(Role::Conv, name));
    assert!(missed > 100 && dropped > 0);
    for (role, missing) in [
        (Role::Conv, " ticks without a sample"),
        (Role::Stat, " ticks missed"),
        (Role::Report, " ticks missed"),
    ] {
        let service = &mut services[role as usize];
        wait_until("its losses", BOUND, || {
            let [missed, dropped] = ["empty", "full"].map(|name| Some(p.counter(Role::Conv, name) as f64));
            service.number(missing) == missed && service.number(" samples dropped") == dropped
        });
    }
    // conv is at rest, log goes on: what report has not printed, stat has counted.
    services[3].signal(Signal::STOP);
    services[2].signal(Signal::STOP);
    services[0].signal(Signal::STOP);
    wait_until("all is durable", BOUND, || p.head() == Some(p.durable()));
    services[2].signal(Signal::CONT);
    wait_until("all is counted", BOUND, || Some(p.folded()) == p.head());
    let stat = &mut services[2];
    wait_until("no lag", BOUND, || stat.number(" durable and not yet counted") == Some(0.0));
    assert_eq!(Some(stat.seq()), p.head());
    services[0].signal(Signal::CONT);
    services[3].signal(Signal::CONT);
    end(p, services);
}

#[test]
fn a_reload_is_announced_and_ended() {
    let p = Pipeline::new("[conv]\nrate = \"200 Hz\"\n");
    let mut services = start(&p);
    wait_until("it runs", BOUND, || p.folded() > 10);
    for role in Role::ALL {
        let service = &mut services[role as usize];
        service.listen();
        service.said.clear();
        p.expect(&["reload", role.name()], 0);
        // Whoever asked is answered after the manager was told: it would take the service for one that reloads for ever.
        service.listen();
        let said: Vec<&String> = service.said.iter().filter(|line| !line.starts_with("STATUS=")).collect();
        assert_eq!([said[0], said[2]], ["RELOADING=1", "READY=1"], "{said:?}");
        assert!(said[1].starts_with("MONOTONIC_USEC=") && said.len() == 3, "{said:?}");
    }
    end(p, services);
}
