//! The journal: each message is raised by an event, has its priority, and `journalctl -x` explains it; and report's numbers there
//! are those of `verify`.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use ipc_pipeline::messages::Message;
use serde_json::Value;

use crate::machine::Machine;
use crate::{FAST, on_both, scenes, start, stop};

/// The priorities of each message, as syslog(3) numbers them (docs/journal.md): 3 error, 4 warning, 5 notice, 6 normal life.
const PRIORITIES: &[(Message, &[&str])] = &[
    (Message::Started, &["6"]),
    (Message::Ended, &["6"]),
    (Message::CutShort, &["4"]),
    (Message::Watchdog, &["4"]),
    (Message::Restarted, &["4"]),
    (Message::ConfigRefused, &["3"]),
    // Something may need a restart (4).
    (Message::ConfigReadAgain, &["4", "6"]),
    (Message::ConfigNotTaken, &["3"]),
    (Message::InputRefused, &["3"]),
    (Message::ObjectGone, &["3"]),
    (Message::Bug, &["3"]),
    (Message::SystemRefused, &["3"]),
    (Message::NobodyReads, &["3"]),
    // First it waits for the other one to end.
    (Message::SecondInstance, &["3", "4"]),
    (Message::EpochBegins, &["6"]),
    (Message::Resumed, &["6"]),
    (Message::RecordOpened, &["6"]),
    (Message::Recovered, &["4"]),
    (Message::Damaged, &["3"]),
    (Message::DamagedInSpool, &["3"]),
    (Message::Waiting, &["6"]),
    (Message::LogGone, &["4"]),
    (Message::LogBack, &["5"]),
    (Message::LeftInSpool, &["4"]),
    (Message::OldCapacity, &["4"]),
    (Message::ForeignRecord, &["3"]),
    (Message::WrongAddress, &["3"]),
    // log can do nothing about it (3), conv puts it right (4).
    (Message::SpoolUnusable, &["3", "4"]),
    (Message::ObjectRepaired, &["4"]),
    // An own page (4) is tried again while all goes on; without a spool (3) nothing does.
    (Message::ObjectTrouble, &["3", "4"]),
    (Message::SourceTrouble, &["4"]),
    (Message::SourceBack, &["5"]),
    (Message::BadInput, &["4"]),
    (Message::ProgramSaid, &["4"]),
    (Message::RealtimeRefused, &["4"]),
    (Message::ClockStep, &["4"]),
    (Message::TicksMissed, &["4"]),
    (Message::SamplesLost, &["4"]),
    (Message::DiskFull, &["3"]),
    (Message::DiskTrouble, &["3"]),
    (Message::DiskBack, &["5"]),
    (Message::DiskSlow, &["4"]),
    (Message::DiskInTime, &["5"]),
    (Message::TakenAgain, &["4"]),
    (Message::TextTrouble, &["3"]),
    (Message::KeeperTrouble, &["4"]),
    (Message::RecordShortened, &["6"]),
    (Message::RecordUnreadable, &["3"]),
    (Message::CheckpointTrouble, &["4"]),
    (Message::StatisticsAnew, &["4"]),
    (Message::AlarmBegins, &["4"]),
    (Message::AlarmOver, &["5"]),
    // It failed (3), or was too slow to be given one more (4).
    (Message::CommandFailed, &["3", "4"]),
    (Message::MessagesLost, &["4"]),
    (Message::Line, &["6"]),
];

/// Of each message that is in the journal: its priorities.
fn seen(m: &Machine) -> BTreeMap<String, BTreeSet<String>> {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in m.does("journalctl --sync; journalctl -o json --output-fields=MESSAGE_ID,PRIORITY").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let (Some(id), Some(priority)) = (line["MESSAGE_ID"].as_str(), line["PRIORITY"].as_str()) {
            seen.entry(id.to_owned()).or_default().insert(priority.to_owned());
        }
    }
    seen
}

/// Is it explained, with its fields?
fn is_explained(m: &Machine, message: Message) -> bool {
    let shown = m.does(&format!("journalctl --no-pager -x -n 1 MESSAGE_ID={}", message.id()));
    let Some((head, text)) = shown.split_once("Documentation: man:ipc-pipeline(7)") else { return false };
    let is_headed = head.contains("Subject: ") && head.contains("Defined-By: ipc-pipeline");
    is_headed && text.chars().filter(|c| c.is_alphabetic()).count() > 30 && !shown.contains("@IPC_PIPELINE")
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn every_message_is_raised_with_its_priority_and_explained() {
    on_both(|release| {
        let mut m = Machine::with_package(release);
        scenes::play_all(&mut m);
        let seen = seen(&m);
        let mut wrong = Vec::new();
        for message in Message::ALL {
            let documented =
                PRIORITIES.iter().find(|(of, _)| of == message).map(|(_, priorities)| *priorities);
            let is_raised = seen.get(message.id());
            match (documented, is_raised) {
                (None, _) => wrong.push(format!("{message:?} is not in the list")),
                (Some(_), None) => wrong.push(format!("{message:?} was not raised")),
                (Some(wanted), Some(found)) => {
                    if !found.iter().all(|priority| wanted.contains(&priority.as_str())) {
                        wrong
                            .push(format!("{message:?} has priorities {found:?}, documented are {wanted:?}"));
                    }
                    if !is_explained(&m, *message) {
                        wrong.push(format!("{message:?} is not explained"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{release}: {wrong:#?}");
        println!("{release}: {} messages raised", PRIORITIES.len());
    });
}

/// A service that ends at once has its last words under its name: journald looks who said something when it reads that.
#[test]
#[ignore = "needs root and systemd-nspawn"]
fn last_words_are_those_of_their_service() {
    const LIVES: usize = 200;
    on_both(|release| {
        let m = Machine::with_package(release);
        m.write("/etc/ipc-pipeline/pipeline.toml", "[conv]\nrate = \"fast\"\n");
        for _ in 0..LIVES {
            m.refuses("systemctl start ipc-report.service");
        }
        let count = |what: &str| {
            let id = Message::ConfigRefused.id();
            let lines = m.does(&format!("journalctl --sync; journalctl -q -o json {what} MESSAGE_ID={id}"));
            lines.lines().count()
        };
        let (said, of_the_unit) = (count("-t ipc-report"), count("-u ipc-report.service"));
        println!("{release}: {of_the_unit} of {said} are under the unit");
        // A journal that reads the words before it has met their sender still happens; without what `logging::start` does for
        // that it were one life of twenty.
        assert!(said >= LIVES && 50 * of_the_unit >= 49 * said, "{release}: {of_the_unit} of {said}");
    });
}

/// The last line of report for each channel.
fn last_lines(m: &Machine) -> BTreeMap<String, Value> {
    let id = Message::Line.id();
    let text = m.does(&format!("journalctl --sync; journalctl -u ipc-report -o json MESSAGE_ID={id}"));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["IPC_PIPELINE_CHANNEL"].as_str().unwrap().to_owned(), line)).collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn"]
fn the_numbers_in_the_journal_are_those_of_verify() {
    const TWO: &str = "[source]\nkind = \"random\"\nmin = -1000\nmax = 1000\n[report]\ndigits = 12\n\
                       [[channel]]\nname = \"first\"\n[[channel]]\nname = \"second\"\n";
    on_both(|release| {
        let mut m = Machine::with_package(release);
        start(&mut m, &format!("{FAST}{TWO}"));
        m.wait_for("some samples", |m| m.status("--system")["durable"].as_u64() > Some(2_000));
        stop(&mut m);
        assert_eq!(last_lines_are_those_of_verify(&m), 2);
    });
}

/// Returns how many channels there are.
pub fn last_lines_are_those_of_verify(m: &Machine) -> usize {
    let verified: Value = serde_json::from_str(&m.does("ipc-pipeline verify --system --json")).unwrap();
    let (lines, channels) = (last_lines(m), verified["channels"].as_array().unwrap());
    assert_eq!(channels.len(), lines.len());
    for channel in channels {
        let line = &lines[channel["name"].as_str().unwrap()];
        assert_eq!(
            line["IPC_PIPELINE_SEQ"],
            verified["entries"].to_string().as_str(),
            "the last line is of the end"
        );
        for (field, key) in [
            ("COUNT", "count"),
            ("SUM", "sum"),
            ("MIN", "min"),
            ("MAX", "max"),
            ("FIRST", "first"),
            ("LAST", "last"),
            ("MEAN", "mean"),
            ("STDDEV", "deviation"),
        ] {
            let (journal, verify) = (&line[format!("IPC_PIPELINE_{field}")], &channel[key]);
            let verify = verify.as_str().map_or_else(|| verify.to_string(), str::to_owned);
            let journal = journal.as_str().unwrap();
            // verify shows a number of digits of its own.
            assert!(
                journal == verify || field.len() > 3 && same_number(journal, &verify),
                "{field}: {journal}, {verify}"
            );
        }
    }
    channels.len()
}

/// Both are the same number, each rounded to its own number of digits: they differ by no more than what rounding takes.
/// (Rounding the longer one again would be wrong where its last digits are a half: 50.7515625 is ...62 or ...63.)
fn same_number(a: &str, b: &str) -> bool {
    let half =
        |text: &str| 0.5 * 0.1_f64.powi(text.split_once('.').map_or(0, |(_, digits)| digits.len() as i32));
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= (half(a) + half(b)) * (1.0 + 1e-6),
        _ => false,
    }
}
