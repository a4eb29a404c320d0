//! The snapshot register: what stat shows of its [`Fold`], as bytes (docs/formats.md, "Snapshot register").
//!
//! A snapshot is one row of 512 bytes for each channel, and every row is checked by its own CRC. What comes out of
//! [`Snapshot::decode`] is the whole fold, so it can be compared with a recomputation of the record by `==`.
#![forbid(unsafe_code)]

use crate::fields::{get, get_u16, get_u32, get_u64, put};
use crate::fold::{Fold, Losses, Stats};
use thiserror::Error;

/// Size of the register in bytes.
pub const REGISTER_LEN: usize = 36_864;
/// Offset of the u64 `version`; its low half is the futex word.
pub const VERSION_AT: usize = 128;
/// Size of the header that [`header`] makes.
pub const HEADER_LEN: usize = 64;
/// Size of a row in bytes.
pub const ROW_LEN: usize = 512;
/// Size of a slot in bytes: 32 rows.
pub const SLOT_LEN: usize = 16_384;
/// Channel number of the one row that stands there while no channel has a sample.
pub const NO_CHANNEL: u16 = u16::MAX;

const MAGIC: &[u8; 8] = b"IPCPSNP1";
const LAYOUT: u32 = 1;
const SLOTS_AT: usize = 4096;
const ROWS_MAX: usize = SLOT_LEN / ROW_LEN;
const STATS_AT: usize = 24;
const LOSSES_AT: usize = 88;
const LOG_ID_AT: usize = 136;
const CRC_AT: usize = ROW_LEN - 4;

/// What stat says about a record after entry `fold.n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the snapshot: rises by 1 with each.
    pub version: u64,
    /// The record that was folded.
    pub log_id: u64,
    /// The statistics.
    pub fold: Fold,
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Not the header of a register of this layout.
    #[error(
        "this is not a snapshot register of layout 1; stop the pipeline and start it again with one version of it"
    )]
    Header,
    /// Too few bytes, or the number of rows is none of 1..=32.
    #[error(
        "the snapshot is cut short or names an impossible number of rows; the next one from ipc-stat replaces it"
    )]
    Rows,
    /// A CRC does not fit: torn by a newer snapshot, or damaged.
    #[error("row {row} of the snapshot is torn or damaged: its CRC does not fit; read it again")]
    Damaged {
        /// Number of the row, from 0.
        row: usize,
    },
    /// Rows of different snapshots, or numbers that cannot belong together.
    #[error("row {row} of the snapshot contradicts the others; read it again")]
    Contradiction {
        /// Number of the row, from 0.
        row: usize,
    },
    /// Each row is right by itself, but together they cannot come from entries 1..n.
    #[error("the numbers of the snapshot cannot come from a record; the next one from ipc-stat replaces it")]
    Impossible,
}

/// Offset of the slot in which snapshot number `version` stands.
pub const fn slot_at(version: u64) -> usize {
    SLOTS_AT + SLOT_LEN * (version & 1) as usize
}

/// The first bytes of a register.
pub fn header() -> [u8; HEADER_LEN] {
    let mut b = [0; HEADER_LEN];
    put(&mut b, 0, *MAGIC);
    put(&mut b, 8, LAYOUT.to_le_bytes());
    let crc = crc32c::crc32c(&b[..60]);
    put(&mut b, 60, crc.to_le_bytes());
    b
}

/// Are these the first bytes of a register that this version can read?
///
/// # Errors
/// [`SnapshotError::Header`] for everything else.
pub fn check_header(bytes: &[u8]) -> Result<(), SnapshotError> {
    if bytes.get(..HEADER_LEN) == Some(&header()) { Ok(()) } else { Err(SnapshotError::Header) }
}

/// The present snapshot in a whole register; `None` while there is none yet.
///
/// # Errors
/// As [`Snapshot::decode`]; also when the snapshot is older than the version says, or not of layout 1.
pub fn present(register: &[u8]) -> Result<Option<Snapshot>, SnapshotError> {
    check_header(register)?;
    if register.len() < REGISTER_LEN {
        return Err(SnapshotError::Header);
    }
    let version = get_u64(register, VERSION_AT);
    if version == 0 {
        return Ok(None);
    }
    let snapshot = Snapshot::decode(register.get(slot_at(version)..).unwrap_or_default())?;
    if snapshot.version == version {
        Ok(Some(snapshot))
    } else {
        Err(SnapshotError::Contradiction { row: 0 })
    }
}

impl Snapshot {
    /// The rows, 512 bytes each: what stands at the beginning of its slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut rows: Vec<(u16, Stats)> = self.fold.channels().map(|(c, stats)| (c, *stats)).collect();
        if rows.is_empty() {
            rows.push((NO_CHANNEL, Stats::default()));
        }
        let number = rows.len() as u16;
        rows.iter().flat_map(|(channel, stats)| self.row(number, *channel, stats)).collect()
    }

    fn row(&self, rows: u16, channel: u16, stats: &Stats) -> [u8; ROW_LEN] {
        let mut b = [0; ROW_LEN];
        put(&mut b, 0, self.fold.n.to_le_bytes());
        put(&mut b, 8, self.version.to_le_bytes());
        put(&mut b, 16, self.fold.epoch.to_le_bytes());
        put(&mut b, 20, channel.to_le_bytes());
        put(&mut b, 22, rows.to_le_bytes());
        put(&mut b, STATS_AT, stats.to_bytes());
        put(&mut b, LOSSES_AT, self.fold.losses.to_bytes());
        put(&mut b, LOG_ID_AT, self.log_id.to_le_bytes());
        let crc = crc32c::crc32c(&b[..CRC_AT]);
        put(&mut b, CRC_AT, crc.to_le_bytes());
        b
    }

    /// The snapshot at the beginning of `slot`; what stands behind its last row does not matter.
    ///
    /// # Errors
    /// Bytes that are not exactly what [`Snapshot::encode`] makes of some fold are refused, with the reason.
    pub fn decode(slot: &[u8]) -> Result<Snapshot, SnapshotError> {
        let (rows, _) = slot.as_chunks::<ROW_LEN>();
        let number = get_u16(slot, 22) as usize;
        let rows = rows.get(..number).filter(|rows| (1..=ROWS_MAX).contains(&rows.len()));
        let rows = rows.ok_or(SnapshotError::Rows)?;
        if let Some(row) = rows.iter().position(|b| crc32c::crc32c(&b[..CRC_AT]) != get_u32(b, CRC_AT)) {
            return Err(SnapshotError::Damaged { row });
        }
        let snapshot = Snapshot::from_rows(rows).ok_or(SnapshotError::Impossible)?;
        let encoded = snapshot.encode();
        match rows.iter().zip(encoded.chunks(ROW_LEN)).position(|(row, again)| row != again) {
            Some(row) => Err(SnapshotError::Contradiction { row }),
            None => Ok(snapshot),
        }
    }

    /// Head and losses from the first row, statistics from all of them.
    fn from_rows(rows: &[[u8; ROW_LEN]]) -> Option<Snapshot> {
        let head = rows.first()?;
        let losses = Losses::from_bytes(&get(head, LOSSES_AT));
        let stats: Vec<(u16, Stats)> = rows
            .iter()
            .map(|row| (get_u16(row, 20), Stats::from_bytes(&get(row, STATS_AT))))
            .filter(|(channel, _)| *channel != NO_CHANNEL)
            .collect();
        let fold = Fold::from_parts(get_u64(head, 0), get_u32(head, 16), losses, &stats)?;
        Some(Snapshot { version: get_u64(head, 8), log_id: get_u64(head, LOG_ID_AT), fold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Reason};

    fn snapshot(channels: u16) -> Snapshot {
        let mut fold = Fold::new();
        fold.fold(&Entry::epoch(1, 3, 5)).unwrap();
        fold.fold(&Entry::loss(2, 3, 7, Reason::Bad, 4)).unwrap();
        for channel in 0..channels {
            fold.fold(&Entry::sample(fold.n + 1, 3, 70, channel, i32::MIN + channel as i32)).unwrap();
        }
        Snapshot { version: 77, log_id: 0xfeed, fold }
    }

    fn sealed(mut row: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&row[..CRC_AT]);
        put(&mut row, CRC_AT, crc.to_le_bytes());
        row
    }

    #[test]
    fn what_goes_in_comes_out() {
        for channels in [0, 1, 2, 32] {
            let snapshot = snapshot(channels);
            let mut slot = snapshot.encode();
            assert_eq!(slot.len(), ROW_LEN * channels.max(1) as usize);
            slot.resize(SLOT_LEN, 0xaa);
            assert_eq!(Snapshot::decode(&slot), Ok(snapshot));
        }
    }

    #[test]
    fn offsets_are_as_documented() {
        let row = snapshot(1).encode();
        assert_eq!(get_u64(&row, 0), 3);
        assert_eq!(get_u64(&row, 8), 77);
        assert_eq!((get_u32(&row, 16), get_u16(&row, 20), get_u16(&row, 22)), (3, 0, 1));
        assert_eq!(get_u64(&row, 24), 1);
        assert_eq!(i128::from_le_bytes(get(&row, 32)), i32::MIN as i128);
        assert_eq!(u128::from_le_bytes(get(&row, 48)), 1 << 62);
        assert_eq!(row[64..80], [[0, 0, 0, 0x80]; 4].concat());
        assert_eq!(get_u64(&row, 80), 70);
        assert_eq!([88, 96, 104, 112, 120, 136].map(|at| get_u64(&row, at)), [0, 0, 4, 0, 0, 0xfeed]);
        assert_eq!(get_u16(&snapshot(0).encode(), 20), NO_CHANNEL);
        assert_eq!((slot_at(4), slot_at(5)), (4096, 20_480));
        assert_eq!(slot_at(1) + SLOT_LEN, REGISTER_LEN);
    }

    #[test]
    fn the_version_says_where_the_snapshot_stands() {
        let mut register = vec![0; REGISTER_LEN];
        put(&mut register, 0, header());
        assert_eq!(present(&register), Ok(None));
        put(&mut register, VERSION_AT, 77u64.to_le_bytes());
        assert_eq!(present(&register), Err(SnapshotError::Rows));
        let rows = snapshot(2).encode();
        register[slot_at(77)..][..rows.len()].copy_from_slice(&rows);
        assert_eq!(present(&register), Ok(Some(snapshot(2))));
        put(&mut register, VERSION_AT, 79u64.to_le_bytes());
        assert_eq!(present(&register), Err(SnapshotError::Contradiction { row: 0 }));
        assert_eq!(present(&register[..100]), Err(SnapshotError::Header));
        assert_eq!(present(&[]), Err(SnapshotError::Header));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = snapshot(2).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Snapshot::decode(&good[..len]).is_err(), "length {len}");
        }
        assert_eq!(check_header(&header()), Ok(()));
        assert_eq!(check_header(&header()[..63]), Err(SnapshotError::Header));
    }

    #[test]
    fn rows_of_two_snapshots_are_no_snapshot() {
        let mut older = snapshot(2);
        older.version = 75;
        let mixed = [&older.encode()[..ROW_LEN], &snapshot(2).encode()[ROW_LEN..]].concat();
        assert_eq!(Snapshot::decode(&mixed), Err(SnapshotError::Contradiction { row: 1 }));
    }

    #[test]
    fn right_crcs_do_not_make_nonsense_true() {
        let mut row = snapshot(1).encode();
        put(&mut row, 24, 0u64.to_le_bytes());
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Impossible));
        let mut row = snapshot(1).encode();
        row[400] = 1;
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Contradiction { row: 0 }));
        let mut row = snapshot(0).encode();
        put(&mut row, 24, 9u64.to_le_bytes());
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Contradiction { row: 0 }));
        let mut row = snapshot(1).encode();
        put(&mut row, 22, 33u16.to_le_bytes());
        assert_eq!(Snapshot::decode(&row.repeat(40)), Err(SnapshotError::Rows));
    }
}
