//! `ipc-pipeline verify [DIR]`: is everything true that the record and stat say?
//!
//! Every CRC, the order, the epochs, the ticks and the losses are checked by [`Audit`], the files around the entries
//! here; and what stat last said in the snapshot register is compared, integer by integer, with a recomputation.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::audit::Audit;
use ipc_pipeline::checkpoint::{self, Checkpoint};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::fold::{Fold, Losses};
use ipc_pipeline::header::{ChannelRow, Header, Segment};
use ipc_pipeline::names::{Names, shm_path};
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::segment::Shm;
use ipc_pipeline::settings::Settings;
use ipc_pipeline::snapshot::{self, REGISTER_LEN, Snapshot, SnapshotError};
use ipc_pipeline::text::counted;
use serde_json::{Value, json};

use crate::place::{EXIT_UNREADABLE, Place};
use crate::progress::Bar;
use crate::say;
use crate::walk::{Step, Walk};

/// Examples and exit codes.
pub const HELP: &str = "Examples:
  ipc-pipeline verify
  ipc-pipeline verify /backup/log --json

Exit codes: 0 everything is true, 1 a promise is broken (what and where is said), 2 the record cannot be read.";

/// The command line.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The directory of a record; without it that of the instance
    dir: Option<PathBuf>,
    /// For machines: one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit code: everything is true.
pub const EXIT_TRUE: u8 = 0;
/// Exit code: a promise is broken; the text says which and where.
pub const EXIT_BROKEN: u8 = 1;
/// Digits after the point of mean and standard deviation.
const DIGITS: u8 = 6;
/// A register that is being written is read so often again.
const TRIES: usize = 20;

/// Why nothing can be said about the record.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// The snapshot register is there, but cannot be read.
    #[error("cannot read the snapshot register {}: {source}; it must be a plain file of its owner that nobody else may write", path.display())]
    Register {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl VerifyError {
    /// 2: nothing can be said.
    pub fn exit_code(&self) -> u8 {
        EXIT_UNREADABLE
    }
}

/// What was found out about a record.
pub struct Report {
    /// Identity of the record.
    pub log_id: u64,
    /// Highest durable entry by `durable.mark`.
    pub mark: Option<u64>,
    /// Everything that the entries prove, and the totals.
    pub audit: Audit,
    /// Broken promises, a sentence each; those of single entries first.
    pub broken: Vec<String>,
    /// What became of the comparison with stat's last word.
    pub stat: StatWord,
    /// What is known of entries that were removed.
    pub summed_up: Option<SummedUp>,
    channels: Vec<ChannelRow>,
}

/// Entries that were removed on purpose and are only summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummedUp {
    /// The last of them.
    pub n: u64,
    /// So many broke a rule when they were removed.
    pub faults: u64,
}

/// What became of the comparison with stat's last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatWord {
    /// stat has said nothing, or its register is gone.
    None,
    /// The register is that of another record.
    OtherRecord,
    /// The record is damaged before entry n: nothing to compare with.
    NotComparable(u64),
    /// Entries 1..n are only summed up. It is about one of them, or asks for what is not in the summary: nothing to compare
    /// with, or only its totals.
    SummedUp(u64),
    /// All integers at entry n are those of the recomputation.
    Equal(u64),
    /// They are not, or the record ends before n.
    Different(u64),
}

/// The whole command.
pub fn command(args: Args) -> Result<u8, Failure> {
    let Place { record, names } = Place::find(&args.common, args.dir)?;
    let bar = Bar::new("verifying", true);
    let checkpoints = names.as_ref().map(Names::stat_dir);
    let report = verify(&record, names.as_ref(), checkpoints.as_deref(), &bar)
        .map_err(|e| Failure::new(e.exit_code(), e))?;
    drop(bar);
    say(&if args.json { format!("{:#}\n", report.json()) } else { report.text() })?;
    Ok(report.exit_code())
}

/// stat's last word.
enum Word {
    /// What it shows.
    Snapshot(Snapshot),
    /// What it has kept.
    Checkpoint(Box<Checkpoint>),
}

impl Word {
    fn log_id(&self) -> u64 {
        match self {
            Word::Snapshot(said) => said.log_id,
            Word::Checkpoint(said) => said.log_id,
        }
    }

    /// The last entry that was folded.
    fn n(&self) -> u64 {
        match self {
            Word::Snapshot(said) => said.n,
            Word::Checkpoint(said) => said.fold.n,
        }
    }

    /// What was asked for: it stands in every word itself.
    fn settings(&self) -> Settings {
        match self {
            Word::Snapshot(said) => said.settings(),
            Word::Checkpoint(said) => said.fold.settings().clone(),
        }
    }

    /// Is it, bit for bit, what this fold says?
    fn is_of(&self, fold: &Fold) -> bool {
        match self {
            // What is stale is said by the clock, not by the record.
            Word::Snapshot(said) => {
                let mut ours = Snapshot::of(fold, said.version, said.log_id);
                ours.silent = said.silent;
                ours.rows.iter_mut().zip(&said.rows).for_each(|(ours, said)| ours.stale = said.stale);
                ours == *said
            }
            Word::Checkpoint(said) => said.fold == *fold,
        }
    }

    /// Are all but the percentiles, the fading average, the windows and the alarms what this fold says?
    fn totals_are_of(&self, fold: &Fold) -> bool {
        let same = |n, epoch, losses: &Losses| (n, epoch, *losses) == (fold.n, fold.epoch, fold.losses);
        match self {
            Word::Snapshot(said) => {
                let rows = said.totals().map(|row| (row.channel, &row.stats));
                same(said.n, said.epoch, &said.losses) && rows.eq(fold.channels())
            }
            Word::Checkpoint(said) => {
                let said = &said.fold;
                same(said.n, said.epoch, &said.losses) && said.channels().eq(fold.channels())
            }
        }
    }

    /// Does it say percentiles that this fold does not know?
    fn knows_more_than(&self, fold: &Fold) -> bool {
        fold.channels().filter(|(channel, _)| fold.percentiles(*channel).is_none()).any(|(channel, _)| {
            match self {
                Word::Snapshot(said) => {
                    let mut rows = said.totals().filter(|row| row.channel == channel);
                    rows.any(|row| row.percentiles.iter().any(|(_, code)| code.is_some()))
                }
                Word::Checkpoint(said) => said.fold.percentiles(channel).is_some(),
            }
        })
    }
}

/// Verifies the record in `dir`, and what stat said of it last: in the register of the instance `names` or, after a clean
/// stop has removed that, in the newest of its checkpoints.
///
/// # Errors
/// Something cannot be read at all. What is read and is wrong stands in the report.
pub fn verify(
    dir: &Path,
    names: Option<&Names>,
    checkpoints: Option<&Path>,
    bar: &Bar,
) -> Result<Report, VerifyError> {
    // First stat's word: what it has folded is durable, so the mark that is read after it covers it.
    let live = names.map(last_word).transpose()?.unwrap_or(Ok(None));
    let live = live.map(|word| word.map(Word::Snapshot));
    let word = live.map(|word| word.or_else(|| newest_checkpoint(checkpoints?)));
    let mut walk = Walk::new(RecordReader::open(dir)?)?;
    let (audit, stat, summed_up) = audit(&mut walk, word.as_ref().ok().and_then(Option::as_ref), bar)?;
    let mut report = Report {
        log_id: walk.reader.log_id(),
        mark: walk.mark,
        audit,
        broken: Vec::new(),
        stat,
        summed_up,
        channels: walk.reader.channels().to_vec(),
    };
    report.collect(&walk, word.err())?;
    Ok(report)
}

/// What the register says. It may be written at this moment, so it is read again while it is torn.
fn last_word(names: &Names) -> Result<Result<Option<Snapshot>, SnapshotError>, VerifyError> {
    let mut word = Ok(None);
    for _ in 0..TRIES {
        let bytes = match Shm::of(names).bytes(&names.snapshot(), REGISTER_LEN) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            read => {
                read.map_err(|source| VerifyError::Register { path: shm_path(&names.snapshot()), source })?
            }
        };
        word = snapshot::present(&bytes);
        if word.is_ok() {
            break;
        }
    }
    Ok(word)
}

/// What stat kept for its next life. Deleting checkpoints is always safe, so a damaged one is no broken promise.
fn newest_checkpoint(dir: &Path) -> Option<Word> {
    let kept = checkpoint::list(dir).ok()?;
    let newest = kept.iter().find_map(|(_, path)| Checkpoint::load(path).ok());
    newest.map(Box::new).map(Word::Checkpoint)
}

/// Audits all entries, and stops on the way to compare with stat's last word.
fn audit(
    walk: &mut Walk,
    word: Option<&Word>,
    bar: &Bar,
) -> Result<(Audit, StatWord, Option<SummedUp>), ReadError> {
    let log_id = walk.reader.log_id();
    let mut ours = word.filter(|word| word.log_id() == log_id);
    let mut stat = match (word, ours) {
        (Some(_), None) => StatWord::OtherRecord,
        (_, Some(word)) => StatWord::Different(word.n()),
        (None, None) => StatWord::None,
    };
    let mut summed_up = None;
    let mut audit = Audit::with(&ours.map(Word::settings).unwrap_or_default());
    loop {
        if let Some(word) = ours.filter(|word| word.n() == audit.next() - 1) {
            stat = compare(&audit, word, summed_up);
        }
        match walk.step(ours.map(Word::n))? {
            Step::Entries(bytes) => _ = audit.take_bytes(bytes),
            Step::Gap(seq) => audit.skip_to(seq),
            Step::Summary(summary) => {
                // What was made with other settings says nothing about the windows of these.
                let comparable = |word: &Word| {
                    word.n() >= summary.n() && word.settings() == *summary.audit.totals.settings()
                };
                if ours.is_some_and(|word| word.n() >= audit.next() && !comparable(word)) {
                    stat = StatWord::SummedUp(summary.n());
                    ours = None;
                }
                summed_up = Some(SummedUp { n: summary.n(), faults: summary.audit.faults });
                audit = summary.audit;
            }
            Step::End => break,
        }
        bar.at(audit.next() - 1, walk.mark.unwrap_or(0));
    }
    audit.finish();
    Ok((audit, stat, summed_up))
}

fn compare(audit: &Audit, said: &Word, summed_up: Option<SummedUp>) -> StatWord {
    let ours = &audit.totals;
    match (said.is_of(ours), summed_up) {
        (true, _) => StatWord::Equal(said.n()),
        (false, _) if audit.is_partial() => StatWord::NotComparable(said.n()),
        // The summary was made with other settings for a while: it no longer holds what stat's checkpoints do.
        (false, Some(SummedUp { n, .. })) if said.knows_more_than(ours) && said.totals_are_of(ours) => {
            StatWord::SummedUp(n)
        }
        (false, _) => StatWord::Different(said.n()),
    }
}

impl Report {
    /// 0: everything is true; 1: a promise is broken.
    pub fn exit_code(&self) -> u8 {
        if self.broken.is_empty() { EXIT_TRUE } else { EXIT_BROKEN }
    }

    /// Seq of the last entry.
    pub fn end(&self) -> u64 {
        self.audit.next() - 1
    }

    /// Puts all broken promises into sentences.
    fn collect(&mut self, walk: &Walk, torn: Option<SnapshotError>) -> Result<(), ReadError> {
        let segments = walk.reader.segments();
        for finding in self.audit.findings() {
            self.broken.push(format!("{}: {finding}", file_of(segments, finding.seq)));
        }
        let removed = self.summed_up.map_or(0, |summed_up| summed_up.faults);
        if let Some(SummedUp { n, .. }) = self.summed_up.filter(|_| removed > 0) {
            self.broken
                .push(format!("of the entries up to {n}, which are only summed up, {removed} broke a rule"));
        }
        let more = self.audit.faults.saturating_sub(self.audit.findings().len() as u64 + removed);
        if more > 0 {
            self.broken.push(format!("and {more} more entries that break a rule"));
        }
        for (segment, header) in walk.reader.headers()? {
            self.check_header(segment, header);
        }
        if walk.reader.summary_is_damaged()? {
            self.broken.push(match walk.reader.first() {
                1 => "summary: it is damaged; nothing of what it sums up was removed, ipc-log makes a new one".into(),
                first => format!(
                    "summary: it is damaged, and what was removed before entry {first} is known only by it; restore it from a copy"
                ),
            });
        }
        match self.mark {
            None => self.broken.push(
                "durable.mark is missing or damaged: what was durable is not known; ipc-log makes a new one"
                    .into(),
            ),
            Some(mark) if mark > self.end() => {
                self.broken
                    .push(format!("the record ends at entry {}, but durable.mark says {mark}", self.end()));
            }
            Some(_) => {}
        }
        if let StatWord::Different(n) = self.stat {
            self.broken.push(format!("what ipc-stat said for entry {n} is not what the record gives"));
        }
        self.broken.extend(torn.map(|e| format!("the last word of ipc-stat: {e}")));
        Ok(())
    }

    fn check_header(&mut self, segment: Segment, header: Option<Header>) {
        let name = segment.name();
        match header {
            None => self.broken.push(format!("{name}: its header is damaged")),
            Some(header) if header.log_id != self.log_id => {
                self.broken.push(format!("{name}: belongs to another record, {:016x}", header.log_id));
            }
            Some(_) => {}
        }
    }

    /// The report for people: totals, losses, and either that all is true or each broken promise.
    pub fn text(&self) -> String {
        let (ticks, losses) = (self.audit.ticks, self.audit.totals.losses);
        let mark = self.mark.map_or("unknown".to_owned(), |mark| mark.to_string());
        let removed = match self.summed_up {
            Some(SummedUp { n, .. }) => format!(", of which 1 to {n} were removed and are summed up"),
            None => String::new(),
        };
        let mut lines = vec![
            format!(
                "record {:016x}: {}{removed}, durable {mark}, {}",
                self.log_id,
                counted(self.end(), "entry", "entries"),
                counted(self.audit.epochs, "epoch", "epochs")
            ),
            format!(
                "ticks: {} planned = {} taken + {} empty{}",
                ticks.planned,
                ticks.taken + ticks.full,
                ticks.empty,
                match ticks.hidden {
                    0 => String::new(),
                    n => format!(" + {n} hidden by damage"),
                }
            ),
            format!(
                "lost: {} missed, {} unread, {} full, {} bad input, {} abandoned, {} corrupt",
                losses.missed, losses.unread, losses.full, losses.bad, losses.abandoned, losses.corrupt
            ),
        ];
        if self.audit.totals.channels().next().is_some() {
            lines.push(self.table());
        }
        lines.push(self.stat_text());
        match self.broken.len() {
            0 => lines.push("everything is true".into()),
            n => lines.push(format!("broken promises: {n}")),
        }
        lines.extend(self.broken.iter().map(|sentence| format!("  {sentence}")));
        lines.join("\n") + "\n"
    }

    fn stat_text(&self) -> String {
        match self.stat {
            StatWord::None => "ipc-stat: no word to compare with".into(),
            StatWord::OtherRecord => "ipc-stat: its last word is about another record, not compared".into(),
            StatWord::SummedUp(n) => {
                format!(
                    "ipc-stat: entries up to {n} are only summed up, and not all of its last word can be made of that, not compared"
                )
            }
            StatWord::NotComparable(n) => format!("ipc-stat: entries up to {n} are damaged, not compared"),
            StatWord::Equal(n) => format!("ipc-stat: its last word, for entry {n}, equals a recomputation"),
            StatWord::Different(n) => {
                format!("ipc-stat: its last word, for entry {n}, DIFFERS from a recomputation")
            }
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["channel", "count", "sum", "mean", "deviation", "min", "max", "first", "last"]);
        for (channel, stats) in self.audit.totals.channels() {
            let (name, conversion) = self.channel(channel);
            let text = |value: Exact| conversion.text(&value, DIGITS);
            table.add_row([
                name,
                stats.count.to_string(),
                text(conversion.sum(stats)),
                exact::text(conversion.mean(stats), DIGITS),
                exact::text(conversion.deviation(stats), DIGITS),
                text(conversion.min(stats)),
                text(conversion.max(stats)),
                text(conversion.value(stats.first)),
                text(conversion.value(stats.last)),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }

    /// Name and conversion of a channel; one that is not in the table has its number as name.
    fn channel(&self, channel: u16) -> (String, Conversion) {
        let row = self.channels.get(channel as usize);
        let name = row.map(|row| row.name.clone()).filter(|name| !name.is_empty());
        (name.unwrap_or_else(|| channel.to_string()), row.map_or(Conversion::plain(0), Conversion::of))
    }

    /// The report for programs. Sums are raw codes; min, max, first and last too; what is made of them are texts, so that no reader rounds them.
    pub fn json(&self) -> Value {
        let (ticks, losses) = (self.audit.ticks, self.audit.totals.losses);
        let channels: Vec<Value> = self.audit.totals.channels().map(|(c, _)| self.channel_json(c)).collect();
        let (stat, stat_n) = match self.stat {
            StatWord::None => ("none", None),
            StatWord::OtherRecord => ("other record", None),
            StatWord::SummedUp(_) => ("summed up", None),
            StatWord::NotComparable(n) => ("not comparable", Some(n)),
            StatWord::Equal(n) => ("equal", Some(n)),
            StatWord::Different(n) => ("different", Some(n)),
        };
        json!({
            "record": format!("{:016x}", self.log_id),
            "entries": self.end(),
            "durable": self.mark,
            "summed_up": self.summed_up.map_or(0, |summed_up| summed_up.n),
            "epochs": self.audit.epochs,
            "ticks": {
                "planned": ticks.planned, "taken": ticks.taken + ticks.full, "empty": ticks.empty, "full": ticks.full,
                "hidden": ticks.hidden,
            },
            "lost": {
                "missed": losses.missed, "unread": losses.unread, "full": losses.full, "bad_input": losses.bad,
                "abandoned": losses.abandoned, "corrupt": losses.corrupt,
            },
            "channels": channels,
            "stat": { "result": stat, "n": stat_n },
            "true": self.broken.is_empty(),
            "broken": self.broken,
        })
    }

    fn channel_json(&self, channel: u16) -> Value {
        let (name, conversion) = self.channel(channel);
        let row = self.channels.get(channel as usize).cloned().unwrap_or_default();
        let stats = self.audit.totals.channel(channel).copied().unwrap_or_default();
        json!({
            "channel": channel, "name": name, "unit": row.unit, "decimals": row.decimals,
            "scale": row.scale, "offset": row.offset, "count": stats.count,
            "sum": stats.sum.to_string(), "sum_squares": stats.sum_squares.to_string(),
            "min": stats.min, "max": stats.max, "first": stats.first, "last": stats.last,
            "mean": exact::text(conversion.mean(&stats), DIGITS),
            "variance": exact::text(conversion.variance(&stats), DIGITS),
            "deviation": exact::text(conversion.deviation(&stats), DIGITS),
        })
    }
}

/// Name of the file in which this entry stands.
fn file_of(segments: &[Segment], seq: u64) -> String {
    let after = segments.partition_point(|segment| segment.first <= seq);
    let segment = after.checked_sub(1).and_then(|i| segments.get(i)).or(segments.first());
    segment.map(Segment::name).unwrap_or_default()
}

#[cfg(test)]
mod tests;
