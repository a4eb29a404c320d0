//! `ipc-pipeline top`: a live screen, from copies of pages, register and the end of the record. Nobody is asked, so
//! nobody is disturbed; what is looked at is bounded, so looking costs the same at any rate.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipc_pipeline::args::{CommonArgs, EXIT_USAGE};
use ipc_pipeline::daemon::{self, Failure};
use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::reader::RecordReader;
use ratatui::Terminal;
use ratatui::backend::{CrosstermBackend, TestBackend};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};

use crate::alarms::Alarms;
use crate::keys::{Key, Keys};
use crate::lost::Lost;
use crate::place::instance;
use crate::said::{self, Said};
use crate::say;
use crate::screen::{draw, draw_with_keys};
use crate::standing::Standings;

/// Examples and keys.
pub const HELP: &str = "Examples:
  ipc-pipeline top
  ipc-pipeline top --name demo --every 2s
  ipc-pipeline top --once > screen.txt

Keys: q ends, p pauses, arrows or Tab choose the channel. Colours only on a terminal, and not with NO_COLOR.";

/// How many entries at the end of the record are looked at for recent values.
const RECENT: u64 = 32_768;
/// Of those at most so many samples of a channel are shown.
const SHOWN: usize = 600;
/// Keys and signals are seen within this time.
const PATIENCE: Duration = Duration::from_millis(100);
/// Digits after the point of values that are no integers.
const DIGITS: u8 = 4;
/// The screen of `--once` without a terminal.
const SIZE: (u16, u16) = (80, 24);

/// The command line.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Look so often
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = crate::duration)]
    every: Duration,
    /// Print one screen as plain text and end
    #[arg(long)]
    once: bool,
}

/// What one look has found.
pub struct Look {
    /// Name of the instance.
    pub instance: String,
    /// The daemons and the spool.
    pub standings: Standings,
    /// Entries a second of each role since the look before; `None`: not known.
    pub rates: [Option<u64>; 4],
    /// What was lost.
    pub lost: Lost,
    /// Which alarms are on.
    pub alarms: Alarms,
    /// stat's word about the channels.
    pub said: Option<Said>,
    /// The channels of the record.
    pub channels: Vec<Channel>,
}

/// A channel and its newest samples.
pub struct Channel {
    /// Name and unit.
    pub label: String,
    /// How codes become values.
    pub conversion: ipc_pipeline::exact::Conversion,
    /// Codes of the newest samples, the newest last.
    pub recent: Vec<i32>,
}

/// What the user has chosen.
#[derive(Clone, Copy, Default)]
pub struct Chosen {
    /// Number of the channel in the lower half.
    pub channel: usize,
    /// The screen stands still.
    pub paused: bool,
    /// Colours are wanted.
    pub colours: bool,
}

impl Look {
    fn take(names: &Names, before: Option<&Look>) -> Look {
        let standings = Standings::of(names);
        let rates = Role::ALL.map(|role| {
            let before = &before?.standings;
            let gone_ns = standings.at_ns.saturating_sub(before.at_ns).max(1);
            let new = standings.seq(role)?.checked_sub(before.seq(role)?)?;
            u64::try_from(u128::from(new) * 1_000_000_000 / u128::from(gone_ns)).ok()
        });
        let reader = RecordReader::open(&names.record_dir()).ok();
        let rows = reader.as_ref().map(|r| r.channels().to_vec()).unwrap_or_default();
        let durable = standings.durable().unwrap_or(0);
        let recent = reader.map(|reader| recent(reader, durable, rows.len())).unwrap_or_default();
        let channels = rows.iter().zip(recent).map(|(row, recent)| Channel {
            label: if row.unit.is_empty() {
                row.name.clone()
            } else {
                format!("{} [{}]", row.name, row.unit)
            },
            conversion: ipc_pipeline::exact::Conversion::of(row),
            recent,
        });
        let channels = channels.collect();
        let word = said::newest(names);
        let lost = Lost::of(&standings, word.as_ref());
        let alarms = Alarms::of(word.as_ref(), || rows.iter().map(|row| row.name.clone()).collect());
        let said = word.map(|word| Said::of(&word, &rows, DIGITS));
        Look { instance: names.instance().to_owned(), standings, rates, lost, alarms, said, channels }
    }
}

/// Codes of the newest durable samples, by channel. What cannot be read is left out: the next look is soon.
fn recent(mut reader: RecordReader, shown: u64, channels: usize) -> Vec<Vec<i32>> {
    let mut recent = vec![Vec::new(); channels];
    // Pages are gone after the end of a pipeline, the mark is not.
    let marked = reader.mark().ok().flatten().map_or(0, |mark| mark.durable.seq);
    let last = marked.max(shown);
    let mut next = last.saturating_sub(RECENT - 1).max(reader.first());
    let mut chunk = Vec::new();
    while next <= last {
        let most = usize::try_from(last - next).unwrap_or(0).saturating_add(1);
        let Ok(count @ 1..) = reader.read(next, most, &mut chunk) else { break };
        next += count as u64;
        let (entries, _) = chunk.as_chunks::<LEN>();
        for sample in entries.iter().map(Entry::from_bytes).filter(|e| e.is_sample() && e.is_whole()) {
            if let Some(codes) = recent.get_mut(sample.channel as usize) {
                codes.push(sample.value);
            }
        }
    }
    for codes in &mut recent {
        codes.drain(..codes.len().saturating_sub(SHOWN));
    }
    recent
}

/// The whole command.
pub fn top(args: Args) -> Result<u8, Failure> {
    let (_, names) = instance(&args.common)?;
    let first = Look::take(&names, None);
    if args.once {
        std::thread::sleep(args.every);
        return say(&plain(&Look::take(&names, Some(&first)))?).map(|()| 0);
    }
    if !io::stdout().is_terminal() {
        let text = "top needs a terminal as standard output; `top --once` prints one screen as plain text";
        return Err(Failure::new(EXIT_USAGE, text));
    }
    let stop = daemon::stop_flag()?;
    signal_hook::flag::register(signal_hook::consts::SIGHUP, stop.clone())
        .map_err(|e| Failure::system(format!("cannot install a signal handler: {e}")))?;
    let mut screen = Screen::begin()?;
    screen.show(&names, first, args.every, &stop)?;
    Ok(0)
}

/// One screen as plain text.
fn plain(look: &Look) -> Result<String, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::system(format!("cannot draw the screen: {e}"));
    let terminal = io::stdout().is_terminal().then(|| ratatui::crossterm::terminal::size().ok()).flatten();
    let (width, height) = terminal.unwrap_or(SIZE);
    let mut screen = Terminal::new(TestBackend::new(width, height)).map_err(|e| failed(&e))?;
    let chosen = Chosen::default();
    let drawn = screen.draw(|frame| draw(frame, frame.area(), look, chosen)).map_err(|e| failed(&e))?;
    let rows = drawn.buffer.content().chunks(width.max(1).into());
    Ok(rows
        .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n")
        .collect())
}

/// The terminal while `top` has it; given back when this value goes.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    fn begin() -> Result<Screen, Failure> {
        let failed =
            |e: io::Error| Failure::system(format!("cannot use the terminal: {e}; try `top --once`"));
        // A panic ends the process without any clean-up: the terminal is given back before it is said.
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            say(info);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).map_err(failed)?;
        let screen = Screen { terminal };
        enable_raw_mode().map_err(failed)?;
        execute!(io::stdout(), EnterAlternateScreen).map_err(failed)?;
        Ok(screen)
    }

    fn show(
        &mut self,
        names: &Names,
        first: Look,
        every: Duration,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        let failed =
            |e: io::Error| Failure::system(format!("cannot use the terminal: {e}; try `top --once`"));
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut chosen = Chosen { colours, ..Chosen::default() };
        let mut keys = Keys::open().map_err(failed)?;
        let (mut look, mut taken) = (first, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            if taken.elapsed() >= every && !chosen.paused {
                (look, taken) = (Look::take(names, Some(&look)), Instant::now());
            }
            self.terminal.draw(|frame| draw_with_keys(frame, &look, chosen)).map_err(failed)?;
            // Nobody looks any more when the terminal is gone.
            let Some(keys) = keys.wait(PATIENCE.min(every)) else { break };
            if !keys.into_iter().all(|key| press(&mut chosen, key, look.channels.len())) {
                break;
            }
        }
        Ok(())
    }
}

/// What a key does; false: it ends.
fn press(chosen: &mut Chosen, key: Key, channels: usize) -> bool {
    let channels = channels.max(1);
    match key {
        Key::Quit => return false,
        Key::Pause => chosen.paused = !chosen.paused,
        Key::Next => chosen.channel = (chosen.channel + 1) % channels,
        Key::Before => chosen.channel = (chosen.channel + channels - 1) % channels,
    }
    true
}

fn give_back() {
    // Nobody is left to tell when the terminal is gone.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let mut chosen = Chosen::default();
        let mut press = |key| {
            let goes_on = press(&mut chosen, key, 3);
            (goes_on, chosen.channel, chosen.paused)
        };
        assert_eq!(press(Key::Next), (true, 1, false));
        assert_eq!(press(Key::Before), (true, 0, false));
        assert_eq!(press(Key::Before), (true, 2, false));
        assert_eq!(press(Key::Next), (true, 0, false));
        assert_eq!(press(Key::Pause), (true, 0, true));
        assert!(!press(Key::Quit).0);
    }
}
