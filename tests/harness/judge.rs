//! The verdict over the record of a pipeline at rest: by the independent checker and by `ipc-pipeline verify`.

use super::{Pipeline, snapshot_rows, value};
use crate::checker::{
    self, Entry, Faults, Record, Report, SAMPLE, check_record, check_source, check_statistics,
};
use std::path::Path;

impl Pipeline {
    /// Everything in the record must be true, and also what stat said last, if its register is still there.
    #[track_caller]
    pub fn judge(&self) -> Report {
        let report = check_record(&self.record());
        let mut faults = report.faults.clone();
        let words = snapshot_rows(&self.paths.snapshot());
        let ours = words.iter().filter(|w| w.log_id == report.record.log_id).map(|w| w.row);
        faults.join(check_statistics(&report.record, &ours.collect::<Vec<_>>()));
        assert!(faults.is_empty(), "{faults}{}", self.state());
        self.expect(&["verify"], 0);
        report
    }

    /// As [`Pipeline::judge`]; and the samples must be the lines of the source in order, all `lines` of them (lines
    /// counted as lost included).
    #[track_caller]
    pub fn judge_lines(&self, lines: u64) -> Report {
        let report = self.judge();
        let (_, index, faults) = check_source(&report.record, value);
        assert!(faults.is_empty(), "{faults}{}", self.state());
        assert_eq!(index, lines, "the record ends at another line{}", self.state());
        report
    }
}

/// The samples of a record.
pub fn samples(record: &Record) -> Vec<Entry> {
    let mut all = Vec::new();
    record.walk(&mut |raw, _| {
        let e = Entry::read(raw);
        if e.kind == SAMPLE {
            all.push(e);
        }
        true
    });
    all
}

/// All entries of a record, good or bad.
pub fn entries(dir: &Path) -> Vec<Entry> {
    let mut all = Vec::new();
    let record = Record::open(dir, &mut Faults::default());
    record.walk(&mut |raw, _| {
        all.push(Entry::read(raw));
        true
    });
    all
}
