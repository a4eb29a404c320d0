//! Bytes with a fixed layout: the entry, and what stands in files and in the register (docs/formats.md).

use super::assert_covered;
use super::disks::MemoryDisk;
use ipc_pipeline::audit::{Audit, STATE_LEN};
use ipc_pipeline::block;
use ipc_pipeline::checkpoint::Checkpoint;
use ipc_pipeline::entry::{Entry, LEN, Reason};
use ipc_pipeline::exact::Conversion;
use ipc_pipeline::fold::Fold;
use ipc_pipeline::header::{ChannelRow, Header, segments};
use ipc_pipeline::limits::{Limit, Limits, Slope};
use ipc_pipeline::mark::{Grant, Mark, Position, SourcePosition, read_newest};
use ipc_pipeline::settings::{Percentile, Settings, Unit, Weight, Window};
use ipc_pipeline::snapshot::{self, REGISTER_LEN, ROW_LEN, SLOT_LEN, Snapshot, VERSION_AT};
use ipc_pipeline::summary::Summary;
use ipc_pipeline::wall::WallClock;

/// Writes the CRC of all before it to the end of `bytes`.
pub fn seal_end(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_le_bytes();
    }
}

fn seal_at(bytes: &mut [u8], from: usize, at: usize) {
    if let Some(part) = bytes.get_mut(from..at + 4) {
        seal_end(part);
    }
}

// ---- entries

/// A short record: every kind of entry, two epochs.
pub fn history() -> Vec<Entry> {
    let mut all = vec![Entry::epoch(1, 1, 1_700_000_000_000_000_000), Entry::source(2, 1, 0, 77)];
    all.push(Entry::grid(3, 1, 5, 1_000_000_000));
    for seq in 4..60u64 {
        let value = (seq as i32 - 30).wrapping_mul(if seq % 7 == 0 { i32::MAX } else { 100 });
        all.push(Entry::sample(seq, 1, 5 + (seq - 4) / 2 * 1_000_000, (seq % 2) as u16, value));
    }
    all.push(Entry::loss(60, 1, 28_000_005, Reason::Missed, 1));
    all.push(Entry::loss_of_rows(61, 1, 30_000_005, Reason::Full, 2, 2));
    all.push(Entry::clock(62, 1, 30_000_005, -5));
    all.push(Entry::corrupt(63, 1));
    all.extend([Entry::epoch(64, 2, 9), Entry::source(65, 2, 9, 78), Entry::grid(66, 2, 0, 0)]);
    all.extend((67..90).map(|seq| Entry::sample(seq, 2, seq, 0, -(seq as i32))));
    all
}

pub fn bytes_of(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// Numbers them 1, 2, 3 ... and makes their CRCs.
pub fn seal_entries(bytes: &mut [u8]) {
    for (seq, b) in (1u64..).zip(bytes.as_chunks_mut::<LEN>().0) {
        let (number, _) = b.split_first_chunk_mut().expect("32 bytes");
        *number = seq.to_le_bytes();
        seal_end(b);
    }
}

pub fn entry_seeds() -> Vec<Vec<u8>> {
    history().iter().map(|entry| entry.to_bytes().to_vec()).collect()
}

pub fn entry(bytes: &[u8]) {
    for b in bytes.as_chunks::<LEN>().0 {
        let e = Entry::from_bytes(b);
        assert_eq!((e.to_bytes(), Entry::from_words(e.to_words())), (*b, e));
        assert!(e.seal().is_whole());
        let _ = (e.kind(), e.positions(), e.wide_value(), e.count());
        assert_covered(b, |b| {
            let b = b.first_chunk()?;
            Entry::from_bytes(b).is_whole().then(|| b.to_vec())
        });
    }
}

pub fn entries_seeds() -> Vec<Vec<u8>> {
    let all = bytes_of(&history());
    let (front, back) = all.split_at(LEN * 40);
    vec![all.clone(), front.to_vec(), back.to_vec()]
}

/// All that is asked of statistics at once.
fn settings() -> Settings {
    let limits =
        Limits { high: Limit::above(100, 50), low: Limit::below(-100, -50), rate: Slope::new(5, 2), hits: 2 };
    Settings {
        percentiles: [0, 50_000_000, 99_000_000].into_iter().filter_map(Percentile::new).collect(),
        ewma: Weight::new(1 << 30),
        windows: [(Unit::Samples, 12, 4), (Unit::Time, 6_000_000, 1_000_000)]
            .into_iter()
            .filter_map(|(unit, size, step)| Window::new(unit, size, step))
            .collect(),
        limits: vec![(0, limits)],
    }
}

/// Whatever entries come: statistics and audit go on, and come back from their bytes as they were.
pub fn entries(bytes: &[u8]) {
    let settings = if bytes.len().is_multiple_of(2) { settings() } else { Settings::default() };
    let (mut fold, mut audit, mut wall) =
        (Fold::with(&settings), Audit::with(&settings), WallClock::default());
    for b in bytes.as_chunks::<LEN>().0 {
        let e = Entry::from_bytes(b);
        if fold.fold(&e).is_err() {
            let _ = fold.fold(&Entry::corrupt(fold.n + 1, fold.epoch));
        }
        if let Some(kind) = e.kind() {
            wall.take(&e, kind);
            let _ = wall.at(e.t_ns);
        }
    }
    audit.take_bytes(bytes);
    assert_eq!(Fold::from_bytes(&fold.to_bytes()).as_ref(), Some(&fold), "a fold out of its bytes");
    let again = Audit::from_state(&audit.state(), audit.totals.clone()).expect("an audit out of its state");
    assert_eq!(again.state(), audit.state());
    audit.finish();
    let shown = Snapshot::of(&fold, 3, 7);
    assert_eq!(Snapshot::decode(&shown.encode()).as_ref(), Ok(&shown));
    show(&shown);
}

/// What report makes of a snapshot.
fn show(snapshot: &Snapshot) {
    let conversion = Conversion::of(&ChannelRow {
        scale: "-0.005".into(),
        offset: "-1024".into(),
        decimals: 2,
        ..ChannelRow::default()
    });
    for row in snapshot.totals_or_none() {
        let stats = &row.stats;
        let values = [conversion.mean(stats), conversion.variance(stats), conversion.deviation(stats)];
        values.into_iter().for_each(|value| drop(ipc_pipeline::exact::text(value, 6)));
        let _ = row.rate.map(|rate| conversion.rate(&rate).text(6));
        let _ =
            (row.ewma.map(|ewma| conversion.ewma(ewma).text(6)), conversion.sum(stats).text(6), row.alarms());
    }
    let _ = snapshot.settings();
}

// ---- files of the record

pub fn block_seeds() -> Vec<Vec<u8>> {
    let all: Vec<[u8; LEN]> = history().iter().map(Entry::to_bytes).collect();
    let mut holed = all.clone();
    holed[20][16] ^= 1;
    let long: Vec<[u8; LEN]> =
        (1..600).map(|seq| Entry::sample(seq, 1, seq * 10, 0, seq as i32).to_bytes()).collect();
    [&all[..], &holed, &all[3..9], &long].map(|entries| block::encode(1, entries)).to_vec()
}

pub fn seal_block(bytes: &mut [u8]) {
    if let Some(body) = bytes.get(block::HEAD_LEN..) {
        let crc = crc32c::crc32c(body).to_le_bytes();
        bytes[48..52].copy_from_slice(&crc);
    }
    let len = bytes.len() as u32;
    if let Some(place) = bytes.get_mut(16..20) {
        place.copy_from_slice(&len.to_le_bytes());
    }
    seal_at(bytes, 0, 60);
}

pub fn block(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut out = vec![1];
        let head = block::decode(bytes, &mut out);
        assert_eq!(
            out.len(),
            1 + head.map_or(0, |head| head.count * LEN),
            "nothing is left of a damaged block"
        );
        let mut content = head?.first_seq.to_le_bytes().to_vec();
        content.extend_from_slice(&out[1..]);
        Some(content)
    };
    assert_covered(bytes, read);
    if let Some(content) = read(bytes) {
        let (first_seq, entries) = content.split_first_chunk().expect("a number");
        let again = block::encode(u64::from_le_bytes(*first_seq), entries.as_chunks().0);
        assert!(read(&again).as_ref() == Some(&content), "encoded again it says the same");
    }
}

pub fn header_seeds() -> Vec<Vec<u8>> {
    let row = |name: &str| ChannelRow {
        name: name.into(),
        unit: "mV".into(),
        scale: "0.005".into(),
        offset: "-1024".into(),
        decimals: 3,
    };
    let channels = vec![row("ecg"), row("\u{e4}\u{1f600}")];
    vec![Header { log_id: 42, first_seq: 1, epoch: 0, created_ns: 9, channels }.encode()]
}

pub fn seal_header(bytes: &mut [u8]) {
    seal_at(bytes, 0, 4092);
}

pub fn header(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let header = Header::decode(bytes)?;
        let again = header.encode();
        assert_eq!(Header::decode(&again), Some(header));
        Some(again)
    };
    assert_covered(bytes.get(..4096).unwrap_or(bytes), read);
    if let Some(header) = Header::decode(bytes) {
        header.channels.iter().for_each(|row| drop(Conversion::of(row).value(i32::MIN).text(6)));
    }
    let names: Vec<String> =
        String::from_utf8_lossy(bytes).split(['\0', '\n', ' ']).map(str::to_owned).collect();
    segments(&names).iter().for_each(|segment| assert!(names.contains(&segment.name())));
}

pub fn mark_seeds() -> Vec<Vec<u8>> {
    let mark = |counter| {
        let source = SourcePosition { seq: 2, id: 77, index: 5 };
        let durable = Position { seq: 40 + counter, epoch: 1, source: Some(source) };
        Mark { counter, log_id: 42, durable, grant: Some(Grant { nonce: 9, epoch: 1, base: 1 }) }.encode()
    };
    let mut both = mark(1).to_vec();
    both.resize(4096, 0);
    both.extend(mark(2));
    vec![mark(1).to_vec(), both]
}

pub fn seal_mark(bytes: &mut [u8]) {
    seal_at(bytes, 0, 124);
    seal_at(bytes, 4096, 4096 + 124);
}

pub fn mark(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mark = Mark::decode(bytes)?;
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        Some(mark.encode().to_vec())
    };
    assert_covered(bytes.get(..128).unwrap_or(bytes), read);
    let disk = MemoryDisk::default();
    let newest = read_newest(&disk, &disk.put("durable.mark", bytes.to_vec())).expect("memory is read");
    let second = bytes.get(4096..).unwrap_or_default();
    let larger = [bytes, second].into_iter().filter_map(Mark::decode).map(|mark| mark.counter).max();
    assert_eq!(newest.map(|(_, mark)| mark.counter), larger);
}

/// Statistics with all that settings ask for, after `n` entries.
fn fold_of(settings: &Settings, n: usize) -> (Entry, Fold) {
    let (mut fold, entries) = (Fold::with(settings), history());
    entries.iter().take(n).for_each(|entry| fold.fold(entry).expect("the history is right"));
    (entries[n - 1], fold)
}

pub fn checkpoint_seeds() -> Vec<Vec<u8>> {
    [(Settings::default(), 3), (settings(), 40), (settings(), 89), (Settings::default(), 89)]
        .map(|(settings, n)| {
            let (entry, fold) = fold_of(&settings, n);
            Checkpoint::new(42, &entry, fold).encode()
        })
        .to_vec()
}

pub fn checkpoint(bytes: &[u8]) {
    assert_covered(bytes, |bytes| {
        let checkpoint = Checkpoint::decode(bytes)?;
        assert!(checkpoint.encode() == bytes, "encoded again it is the same");
        Some(bytes.to_vec())
    });
    if let Some(Checkpoint { fold, .. }) = Checkpoint::decode(bytes) {
        go_on(fold);
    }
}

/// Whatever was decoded can be gone on with and shown.
fn go_on(mut fold: Fold) {
    let next = fold.n.wrapping_add(1);
    for (seq, value) in (next..next.saturating_add(20)).zip([i32::MIN, 5, i32::MAX, 7].into_iter().cycle()) {
        let epoch = fold.epoch;
        let _ = fold.fold(&Entry::sample(seq, epoch, seq.wrapping_mul(1 << 40), (seq % 3) as u16, value));
    }
    let _ = fold.fold(&Entry::epoch(fold.n.wrapping_add(1), fold.epoch.wrapping_add(1), 3));
    show(&Snapshot::of(&fold, 1, 1));
    let _ = fold.go_on_with(&settings()).to_bytes();
}

pub fn summary_seeds() -> Vec<Vec<u8>> {
    [(Settings::default(), 30), (settings(), 89)]
        .map(|(settings, n)| {
            let mut summary = Summary::new(42, &settings);
            summary.take_bytes(&bytes_of(&history()[..n]));
            summary.encode()
        })
        .to_vec()
}

/// Its own CRC, and that of the checkpoint in it.
pub fn seal_summary(bytes: &mut [u8]) {
    let checkpoint = 128 + STATE_LEN;
    let Some(len) = bytes.len().checked_sub(checkpoint + 4) else { return };
    bytes[12..16].copy_from_slice(&(len as u32).to_le_bytes());
    seal_end(&mut bytes[checkpoint..checkpoint + len]);
    seal_end(bytes);
}

pub fn summary(bytes: &[u8]) {
    let read = |bytes: &[u8]| Summary::decode(bytes).map(|summary| summary.encode());
    assert_covered(bytes, read);
    let Some(mut summary) = Summary::decode(bytes) else { return };
    assert_eq!(read(&summary.encode()), Some(summary.encode()));
    summary.take_bytes(&bytes_of(&history()));
    summary.audit.finish();
    go_on(summary.go_on_with(&settings()).fold);
}

// ---- the register

pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    [(Settings::default(), 3), (settings(), 40), (settings(), 89)]
        .map(|(settings, n)| Snapshot::of(&fold_of(&settings, n).1, 5, 42).encode())
        .to_vec()
}

pub fn seal_rows(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<ROW_LEN>().0.iter_mut().for_each(|row| seal_end(row));
}

pub fn snapshot(bytes: &[u8]) {
    let rows = snapshot::rows_in(bytes).saturating_mul(ROW_LEN);
    assert_covered(bytes.get(..rows).unwrap_or(bytes), |bytes| {
        let snapshot = Snapshot::decode(bytes).ok()?;
        let again = snapshot.encode();
        assert_eq!(bytes.get(..again.len()), Some(&again[..]), "encoded again it is the same");
        Some(again)
    });
    let _ = snapshot::version_of(bytes);
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        show(&snapshot);
    }
}

pub fn register_seeds() -> Vec<Vec<u8>> {
    // The slots follow the header, without the zeros between: `register` puts them in.
    snapshot_seeds().into_iter().map(|rows| [5u64.to_le_bytes().to_vec(), rows].concat()).collect()
}

/// A whole register: the first eight bytes are its version, and what follows stands in both slots.
pub fn register(bytes: &[u8]) {
    let Some((version, rows)) = bytes.split_first_chunk::<8>() else { return };
    let mut register = vec![0; REGISTER_LEN];
    register[..64].copy_from_slice(&snapshot::header());
    register[VERSION_AT..VERSION_AT + 8].copy_from_slice(version);
    for slot in [snapshot::slot_at(0), snapshot::slot_at(1)] {
        let most = rows.len().min(SLOT_LEN);
        register[slot..slot + most].copy_from_slice(&rows[..most]);
    }
    if let Ok(Some(snapshot)) = snapshot::present(&register) {
        assert_eq!(snapshot.version, u64::from_le_bytes(*version));
    }
    let _ = snapshot::present(&register[..bytes.len() % REGISTER_LEN]);
    let _ = snapshot::present(bytes);
}
