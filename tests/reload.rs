//! A running pipeline goes by another configuration: what can change does, what cannot is said, and a wrong one changes
//! nothing. The signals that ask for it never end or harm anybody.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Pipeline, Role, process, processes, wait_until};
use rustix::process::Signal;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

/// All of them run, and report has printed something.
fn running(config: &str) -> Pipeline {
    let mut p = Pipeline::new(config);
    p.start_all();
    p.wait_for("it prints", BOUND, |p| !p.output(Role::Report).is_empty());
    p
}

/// The whole configuration is taken.
#[track_caller]
fn reload(p: &Pipeline, config: &str) -> String {
    p.configure(config);
    p.expect(&["reload"], 0)
}

/// Ends all, conv first; the record is true.
#[track_caller]
fn end(mut p: Pipeline) {
    Role::ALL.into_iter().for_each(|role| p.stop(role, BOUND));
    p.judge();
    p.remove_objects();
    p.assert_nothing_left();
}

/// Freezes a daemon for so long.
fn freeze(p: &Pipeline, role: Role, time: Duration) {
    p.signal(role, Signal::STOP);
    std::thread::sleep(time);
    p.signal(role, Signal::CONT);
}

#[test]
fn how_late_a_tick_may_be() {
    let with = |late: &str| format!("[conv]\nrate = \"100 Hz\"\nmax_late = \"{late}\"\n");
    let mut p = running(&with("1h"));
    freeze(&p, Role::Conv, Duration::from_millis(400));
    let head = p.head().unwrap();
    p.wait_for("it has caught up", BOUND, |p| p.head().unwrap() > head + 60);
    assert_eq!(p.counter(Role::Conv, "empty"), 0);
    let said = reload(&p, &with("20ms"));
    assert!(said.contains("ipc-conv: changed conv.max_late\n"), "{said}");
    assert!(said.contains("ipc-log: nothing has changed\n"), "{said}");
    freeze(&p, Role::Conv, Duration::from_millis(400));
    p.wait_for("late ticks are missed", BOUND, |p| p.counter(Role::Conv, "empty") >= 20);
    end(p);
}

#[test]
fn how_long_entries_wait_to_become_durable() {
    let with = |sync: &str| format!("[conv]\nrate = \"200 Hz\"\n[log]\nsync = {sync}\n");
    let mut p = running(&with("\"10s\""));
    let commits = |p: &Pipeline| p.counter(Role::Log, "commits");
    for sync in ["\"5ms\"", "\"always\""] {
        let said = reload(&p, &with(sync));
        assert!(said.contains("ipc-log: changed log.sync\n"), "{said}");
        let (before, begun) = (commits(&p), Instant::now());
        p.wait_for("many commits", BOUND, |p| commits(p) >= before + 50);
        assert!(begun.elapsed() < Duration::from_secs(50), "that would be one every second");
    }
    reload(&p, &with("\"10s\""));
    let (before, begun) = (commits(&p), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    assert!(commits(&p) - before <= 1 + begun.elapsed().as_secs() / 10, "few commits again");
    end(p);
}

/// Files of the record whose names end so.
fn files(p: &Pipeline, end: &str) -> usize {
    let files = fs::read_dir(p.record()).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().ends_with(end)).count()
}

#[test]
fn how_the_record_is_kept() {
    let with = |keep: &str| format!("[conv]\nrate = \"20 kHz\"\n[log]\nsegment = \"64KiB\"\n{keep}");
    let mut p = running(&with(""));
    p.wait_for("some segments", BOUND, |p| files(p, ".seg") > 5);
    assert_eq!(files(&p, ".segz"), 0);
    let said = reload(&p, &with("compress = true\n"));
    assert!(said.contains("ipc-log: changed log.compress\n"), "{said}");
    // Those that were whole by then, too.
    p.wait_for("they are compressed", BOUND, |p| files(p, ".segz") > 5);
    let said = reload(&p, &with("keep_size = \"1MiB\"\nkeep_time = \"1h\"\n"));
    assert!(said.contains("ipc-log: changed log.compress, log.keep_size, log.keep_time\n"), "{said}");
    p.wait_for("the oldest are removed", BOUND, |p| p.record().join("summary").exists());
    reload(&p, &with(""));
    Role::ALL.into_iter().for_each(|role| p.stop(role, BOUND));
    assert!(p.expect(&["verify"], 0).contains("removed"));
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn how_often_there_is_a_checkpoint() {
    let with = |time: &str| format!("[conv]\nrate = \"max\"\n[stat]\ncheckpoint = \"{time}\"\n");
    let mut p = running(&with("1h"));
    p.wait_for("much is folded", BOUND, |p| p.folded() > 500_000);
    assert_eq!(p.counter(Role::Stat, "checkpoints"), 0);
    let said = reload(&p, &with("10ms"));
    assert!(said.contains("ipc-stat: changed stat.checkpoint\n"), "{said}");
    p.wait_for("checkpoints", BOUND, |p| p.counter(Role::Stat, "checkpoints") > 1);
    end(p);
}

#[test]
fn what_report_prints() {
    let with = |report: &str| format!("[conv]\nrate = \"200 Hz\"\n[report]\n{report}");
    let mut p = running(&with("digits = 2\nmax_lines_per_second = 1\n"));
    // A line about what is at risk may stand before each.
    let out = |p: &Pipeline| -> String {
        let all = p.output(Role::Report);
        all.lines().filter(|line| !line.starts_with("at risk")).map(|line| format!("{line}\n")).collect()
    };
    // So many digits have the means, in order; what was missed by a busy machine may have a line of its own.
    let digits = |p: &Pipeline| -> Vec<usize> {
        let out = out(p);
        let means =
            out.lines().filter_map(|line| line.split("mean=").nth(1)?.split(' ').next()?.split_once('.'));
        means.map(|(_, digits)| digits.len()).collect()
    };
    p.wait_for("a mean", BOUND, |p| !digits(p).is_empty());
    assert_eq!(digits(&p)[0], 2);

    let said = reload(&p, &with("digits = 5\nmax_lines_per_second = 1000\n"));
    assert!(said.contains("ipc-report: changed report.digits, report.max_lines_per_second\n"), "{said}");
    let (before, begun) = (out(&p).lines().count(), Instant::now());
    p.wait_for("many lines", BOUND, |p| out(p).lines().count() > before + 60);
    assert!(begun.elapsed() < Duration::from_secs(40), "more than one a second");
    assert_eq!(digits(&p).last(), Some(&5));

    reload(&p, &with("format = \"csv\"\n"));
    p.wait_for("a header", BOUND, |p| out(p).lines().any(|line| line.starts_with("seq,")));
    reload(&p, &with("format = \"json\"\n"));
    p.wait_for("an object", BOUND, |p| out(p).lines().any(|line| line.starts_with("{\"")));
    reload(&p, &with("format = \"text\"\n"));
    p.wait_for("text", BOUND, |p| out(p).trim_end().lines().last().unwrap().contains("mean="));
    assert_eq!(out(&p).lines().filter(|line| line.starts_with("seq,")).count(), 1);
    end(p);
}

/// Values from the test go through a FIFO; each changes the alarm.
#[test]
fn the_command_for_alarms() {
    let with = |report: &str| {
        format!(
            "[source]\nkind = \"lines\"\npath = \"in.fifo\"\n[conv]\nrate = \"max\"\n[log]\nsync = \"5ms\"\n\
             [[channel]]\nhigh = 5\n[report]\nmax_lines_per_second = 1000\n{report}"
        )
    };
    let telling = |file: &str| format!("command = [\"sh\", \"-c\", \"cat >> {file}\"]\n");
    let mut p = Pipeline::new(&with(""));
    let fifo = p.dir().join("in.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    p.start_all();
    let mut sensor = harness::fifo_for_writing(&fifo, BOUND);
    let mut gives = |p: &mut Pipeline, value: &str| {
        let before = p.counter(Role::Report, "alarms");
        std::io::Write::write_all(&mut sensor, value.as_bytes()).unwrap();
        p.wait_for("it is told", BOUND, |p| {
            let alarms = p.counter(Role::Report, "alarms");
            alarms != u64::MAX && alarms > before
        });
    };
    let told = |p: &Pipeline, file: &str| fs::read_to_string(p.dir().join(file)).unwrap_or_default();
    p.wait_for("report runs", BOUND, |p| p.counter(Role::Report, "alarms") == 0);
    gives(&mut p, "9\n");
    let said = reload(&p, &with(&telling("a")));
    assert!(said.contains("ipc-report: changed report.command\n"), "{said}");
    gives(&mut p, "1\n");
    p.wait_for("the command", BOUND, |p| told(p, "a").contains("over"));
    reload(&p, &with(&telling("b")));
    gives(&mut p, "9\n");
    p.wait_for("the other command", BOUND, |p| told(p, "b").contains("alarm"));
    reload(&p, &with(""));
    gives(&mut p, "1\n");

    // One that cannot be found: nothing of it is taken.
    p.configure(&with("digits = 0\ncommand = [\"no-such-program\"]\n"));
    let said = p.expect(&["reload"], 78);
    assert!(said.contains("ipc-report: nothing has changed: report.command: there is no program"), "{said}");
    let said = reload(&p, &with("digits = 0\n"));
    assert!(said.contains("ipc-report: changed report.digits\n"), "{said}");

    // A limit that is shorter kills what takes longer.
    reload(&p, &with("command = [\"sleep\", \"1000\"]\ncommand_limit = \"100ms\"\n"));
    gives(&mut p, "9\n");
    p.wait_for("it is killed", BOUND, |p| p.counter(Role::Report, "commands_failed") == 1);
    assert_eq!(p.counter(Role::Report, "commands"), 3, "one for each of these events, none for the others");
    assert_eq!((told(&p, "a").lines().count(), told(&p, "b").lines().count()), (1, 1));
    drop(sensor);
    end(p);
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let good = "[conv]\nrate = \"200 Hz\"\n[report]\ndigits = 3\n";
    let mut p = running(good);
    let pids = pids(&p);
    for bad in ["[conv]\nrate = \"fast\"\n[report]\ndigits = 0\n", "[report]\ndigits = 99\n", "no TOML"] {
        p.configure(bad);
        // Whoever asks finds the fault, and so does a daemon that is asked by one who does not know its file.
        let said = p.expect(&["reload"], 78);
        assert!(said.contains("pipeline.toml:"), "{said}");
        assert!(!p.story().contains("not taken"), "nobody was asked");
        let out = p
            .command(env!("CARGO_BIN_EXE_ipc-pipeline"))
            .args(["reload", "--name", &p.name])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(78), "{text}");
        assert_eq!(text.matches("nothing has changed: ").count(), 4, "{text}");
        assert_eq!(p.story().matches("the configuration was not taken").count(), 4);
        p.note("read the story from here on");
        fs::write(p.dir().join("story.txt"), "").unwrap();
    }
    fs::remove_file(p.config()).unwrap();
    let out = p
        .command(env!("CARGO_BIN_EXE_ipc-pipeline"))
        .args(["reload", "stat", "--name", &p.name])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(78));
    p.configure(good);
    let durable = p.durable();
    p.wait_for("they go on", BOUND, |p| p.durable() > durable + 100);
    let said = p.expect(&["reload"], 0);
    assert_eq!(said.matches(": nothing has changed\n").count(), 4, "{said}");
    assert_eq!(self::pids(&p), pids);
    end(p);
}

/// The processes, by the pages.
fn pids(p: &Pipeline) -> Vec<String> {
    let status = p.status();
    Role::ALL.map(|role| status["daemons"][role.name()]["pid"].to_string()).to_vec()
}

#[test]
fn what_needs_a_restart_is_said() {
    let old = "[conv]\nrate = \"200 Hz\"\n";
    let mut p = running(old);
    p.configure(
        "[conv]\nrate = \"100 Hz\"\nmax_late = \"1s\"\n[spool]\ncapacity = 512\n[log]\nsync = \"5ms\"\ntext = \"a\"\n\
         [stat]\npercentiles = [50]\n[report]\ndigits = 1\n",
    );
    let said = p.expect(&["reload"], 1);
    for line in [
        "ipc-conv: changed conv.max_late; needs a restart: conv.period/rate, spool.capacity\n",
        "ipc-log: changed log.sync; needs a restart: log.text\n",
        "ipc-stat: nothing has changed; needs a restart: stat.percentiles\n",
        "ipc-report: changed report.digits; needs a restart: stat.percentiles\n",
        "  end `ipc-pipeline run` (Ctrl-C) and start it again",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // It is said as long as it is true.
    let said = p.expect(&["reload", "conv"], 1);
    assert!(
        said.starts_with(
            "ipc-conv: nothing has changed; needs a restart: conv.period/rate, spool.capacity\n"
        ),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&p.expect(&["reload", "stat", "--json"], 1)).unwrap();
    assert_eq!(json["daemons"]["stat"]["restart"], serde_json::json!(["stat.percentiles"]));
    assert_eq!(json["daemons"]["stat"]["result"], "needs a restart");
    p.stop(Role::Conv, BOUND);
    p.start(Role::Conv);
    p.wait_for("conv is back", BOUND, |p| p.state_of(Role::Conv) == "running");
    let said = p.expect(&["reload", "conv"], 0);
    assert_eq!(said, "ipc-conv: nothing has changed\n");
    p.configure(
        "[conv]\nrate = \"100 Hz\"\nmax_late = \"1s\"\n[spool]\ncapacity = 512\n[[channel]]\nunit = \"V\"\n",
    );
    let said = p.expect(&["reload"], 1);
    assert!(said.contains("ipc-log: changed log.sync; needs a restart: channel.unit\n"), "{said}");
    assert!(
        said.contains(&format!(
            "a record keeps its channels: end `ipc-pipeline run` (Ctrl-C), `ipc-pipeline archive --name {}`",
            p.name
        )),
        "{said}"
    );
    end(p);
}

#[test]
fn who_does_not_answer_is_named() {
    let with = |sync: &str| format!("[conv]\nrate = \"200 Hz\"\n[log]\nsync = \"{sync}\"\n");
    let mut p = Pipeline::new(&with("10s"));
    let said = p.expect(&["reload"], 3);
    assert_eq!(said.matches(": not running: it reads its configuration when it starts").count(), 4, "{said}");
    p.start_all();
    p.wait_for("it prints", BOUND, |p| !p.output(Role::Report).is_empty());
    p.stop(Role::Report, BOUND);
    p.configure(&with("9s"));
    assert!(p.expect(&["reload"], 0).contains("ipc-report: not running"));
    p.expect(&["reload", "report"], 3);
    p.signal(Role::Log, Signal::STOP);
    p.configure(&with("5ms"));
    let said = p.expect(&["reload"], 3);
    assert!(said.contains("ipc-log: no answer within 5 s"), "{said}");
    assert!(said.contains("ipc-conv: nothing has changed"), "{said}");
    p.signal(Role::Log, Signal::CONT);
    let commits = p.counter(Role::Log, "commits");
    p.wait_for("it does so later", BOUND, |p| p.counter(Role::Log, "commits") > commits + 50);
    p.start(Role::Report);
    end(p);
}

/// A file through a small ring, while all four get both signals all the time.
#[test]
fn a_storm_of_signals_harms_nobody() {
    const LINES: u64 = 60_000;
    let config = |late: u32| {
        format!(
            "[source]\nkind = \"lines\"\npath = \"in.txt\"\n[conv]\nrate = \"20 kHz\"\nmax_late = \"{late}min\"\n\
             [spool]\ncapacity = 256\n[log]\nsync = \"{late}ms\"\nsegment = \"64KiB\"\n"
        )
    };
    let mut p = Pipeline::new(&config(30));
    p.write_lines("in.txt", 0..LINES);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 100);
    let mut late = 30;
    while !p.source_ended {
        for role in Role::ALL {
            p.signal(role, Signal::HUP);
            p.signal(role, Signal::USR1);
        }
        if late < 50 && p.durable() > u64::from(late - 30) * 2_000 {
            late += 1;
            p.configure(&config(late));
        }
        p.reap();
        std::thread::sleep(Duration::from_micros(500));
    }
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|role| p.stop(role, BOUND));
    p.judge_lines(LINES);
    p.remove_objects();
    p.assert_nothing_left();
}

/// Daemons are killed and started while everybody asks: a signal that comes too early would end a daemon, and the harness
/// would see that.
#[test]
fn lives_that_have_just_begun_are_not_ended() {
    let config =
        |digits: u32| format!("[conv]\nrate = \"1 kHz\"\nmax_late = \"1h\"\n[report]\ndigits = {digits}\n");
    let mut p = running(&config(3));
    for turn in 0..24 {
        p.configure(&config(turn));
        let mut asking: Vec<_> = (0..3).map(|_| p.begin("reload", &[], Stdio::null())).collect();
        let role = Role::ALL[turn as usize % 4];
        p.kill(role);
        p.start(role);
        for asks in &mut asking {
            let code = asks.wait(BOUND);
            assert!([0, 3].contains(&code), "{code}: {}{}", asks.out(), asks.err());
        }
        p.wait_for("it is back", BOUND, |p| p.state_of(role) == "running");
        p.reap();
    }
    // Whoever asks while another is answered is answered, too.
    p.configure(&config(30));
    let mut asking: Vec<_> = (0..8).map(|_| p.begin("reload", &[], Stdio::null())).collect();
    asking.iter_mut().for_each(|asks| asks.ends_with(0, BOUND));
    p.wait_for("all of it is in force", BOUND, |p| {
        p.output(Role::Report).lines().last().is_some_and(|line| {
            line.split("mean=").nth(1).is_some_and(|mean| mean.split(' ').next().unwrap().len() > 30)
        })
    });
    end(p);
}

/// A terminal that is closed ends what was started in it, as it does with every program; not with nohup(1), nor what was put
/// into the background there and forgotten. That one still reads its configuration when it is asked.
#[test]
fn a_closed_terminal_is_the_end() {
    let ways = [("exec", false), ("exec nohup", true), ("background", true)];
    for (way, survives) in ways {
        let mut p = Pipeline::new("");
        let config = p.config().to_string_lossy().into_owned();
        let daemon = format!("{} --config {config}", env!("CARGO_BIN_EXE_ipc-stat"));
        let line = if way == "background" {
            format!("set -m; {daemon} & sleep 1000")
        } else {
            format!("{way} {daemon}")
        };
        let mut terminal = p.spawn("script", &["-qec", &line, "/dev/null"], Stdio::null());
        let is_ours = |pid: i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&config))
        };
        wait_until("it runs", BOUND, || p.state_of(Role::Stat) == "waiting for ipc-log");
        let pid = processes().into_iter().find(|p| p.name == "ipc-stat" && is_ours(p.pid)).unwrap().pid;
        p.expect(&["reload", "stat"], 0);
        terminal.signal(Signal::KILL);
        terminal.wait(BOUND);
        if survives {
            for _ in 0..3 {
                assert_eq!(p.expect(&["reload", "stat"], 0), "ipc-stat: nothing has changed\n", "{way}");
            }
            assert_eq!(p.state_of(Role::Stat), "waiting for ipc-log", "{way}");
            harness::signal_pid(pid, Signal::TERM);
        }
        wait_until("it has ended", BOUND, || process(pid).is_none_or(|p| p.state.starts_with('Z')));
        assert_eq!(p.state_of(Role::Stat), "ended", "{way}");
        p.remove_objects();
        p.assert_nothing_left();
    }
}
