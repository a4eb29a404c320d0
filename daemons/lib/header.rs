//! The names and headers of the record's segments (docs/formats.md, Record). Pure: bytes in, values out.
#![forbid(unsafe_code)]

use crate::entry::{LEN, MAX_CHANNELS};

/// Seqs are below this, which is out of reach, so that no sum and no offset overflows.
pub const SEQ_LIMIT: u64 = 1 << 57;

/// Size of a segment's header in bytes.
pub const HEADER_LEN: usize = 4096;

/// What is added to the name of a file that is being made.
const NEW: &str = ".new";
const MAGIC: &[u8; 8] = b"IPCPSEG1";
const LAYOUT: u32 = 1;
const TABLE: usize = 64;
const ROW: usize = 120;
const CRC: usize = 4092;
// Offset and size of the texts in a row.
const NAME: (usize, usize) = (0, 40);
const UNIT: (usize, usize) = (40, 16);
const SCALE: (usize, usize) = (56, 24);
const OFFSET: (usize, usize) = (80, 24);
const DECIMALS: usize = 104;

/// What the codes of a channel mean: `physical value = (code / 10^decimals + offset) * scale`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRow {
    /// At most 40 bytes.
    pub name: String,
    /// At most 16 bytes.
    pub unit: String,
    /// Decimal text, at most 24 bytes.
    pub scale: String,
    /// Decimal text, at most 24 bytes.
    pub offset: String,
    /// The raw code is the value times 10^decimals.
    pub decimals: u8,
}

/// A channel table that does not fit into a header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// More rows than a record can have.
    #[error("there are {0} channels; a record holds at most 32: use a second instance for the others")]
    TooMany(usize),
    /// A text that is too long.
    #[error("the {what} {text:?} of a channel is longer than {most} bytes or has a zero byte; shorten it")]
    Text {
        /// Which of the texts.
        what: &'static str,
        /// The text.
        text: String,
        /// How long it may be.
        most: usize,
    },
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the record, the same in all its segments.
    pub log_id: u64,
    /// Seq of its first entry, also in its name.
    pub first_seq: u64,
    /// Epoch of the entry before `first_seq`; 0: there is none.
    pub epoch: u32,
    /// Wall clock when it was made, ns since 1970.
    pub created_ns: u64,
    /// The channel table.
    pub channels: Vec<ChannelRow>,
}

impl Header {
    /// The header's 4,096 bytes. What does not fit ([`check_table`]) is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; HEADER_LEN];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, &LAYOUT.to_le_bytes());
        put(&mut b, 12, &(HEADER_LEN as u32).to_le_bytes());
        put(&mut b, 16, &(LEN as u32).to_le_bytes());
        put(&mut b, 20, &(self.channels.len().min(MAX_CHANNELS) as u32).to_le_bytes());
        put(&mut b, 24, &self.log_id.to_le_bytes());
        put(&mut b, 32, &self.first_seq.to_le_bytes());
        put(&mut b, 40, &self.epoch.to_le_bytes());
        put(&mut b, 48, &self.created_ns.to_le_bytes());
        for (row, b) in self.channels.iter().zip(b[TABLE..TABLE + ROW * MAX_CHANNELS].chunks_exact_mut(ROW)) {
            for (text, (offset, most)) in texts(row) {
                put(&mut b[..offset + most], offset, text.as_bytes());
            }
            put(b, DECIMALS, &[row.decimals]);
        }
        let crc = crc32c::crc32c(&b[..CRC]);
        put(&mut b, CRC, &crc.to_le_bytes());
        b
    }

    /// A header from bytes; `None` unless all of it is right.
    pub fn decode(b: &[u8]) -> Option<Header> {
        let b = b.get(..HEADER_LEN)?;
        let right = b.get(..8)? == MAGIC
            && u32_at(b, 8)? == LAYOUT
            && u32_at(b, 12)? == HEADER_LEN as u32
            && u32_at(b, 16)? == LEN as u32
            && u32_at(b, CRC)? == crc32c::crc32c(b.get(..CRC)?);
        let count = usize::try_from(u32_at(b, 20)?).ok().filter(|&n| n <= MAX_CHANNELS)?;
        if !right {
            return None;
        }
        let table = b.get(TABLE..TABLE + ROW * count)?;
        Some(Header {
            log_id: u64_at(b, 24)?,
            first_seq: u64_at(b, 32)?,
            epoch: u32_at(b, 40)?,
            created_ns: u64_at(b, 48)?,
            channels: table.chunks_exact(ROW).map(row_from).collect::<Option<_>>()?,
        })
    }
}

/// A number that stands for a channel table, as pages show it: another one for another table. Its upper half is the complement
/// of the lower one, so that neither 0 nor damage is one.
pub fn table_id(channels: &[ChannelRow]) -> u64 {
    let header = Header { log_id: 0, first_seq: 0, epoch: 0, created_ns: 0, channels: channels.to_vec() };
    let bytes = header.encode();
    let crc = crc32c::crc32c(bytes.get(..CRC).unwrap_or_default());
    crc as u64 | (!crc as u64) << 32
}

/// Does the table fit into a header?
pub fn check_table(channels: &[ChannelRow]) -> Result<(), TableError> {
    if channels.len() > MAX_CHANNELS {
        return Err(TableError::TooMany(channels.len()));
    }
    for row in channels {
        for ((text, (_, most)), what) in texts(row).into_iter().zip(["name", "unit", "scale", "offset"]) {
            if text.len() > most || text.contains('\0') {
                return Err(TableError::Text { what, text: text.to_owned(), most });
            }
        }
    }
    Ok(())
}

fn texts(row: &ChannelRow) -> [(&str, (usize, usize)); 4] {
    [(&row.name, NAME), (&row.unit, UNIT), (&row.scale, SCALE), (&row.offset, OFFSET)]
}

fn row_from(b: &[u8]) -> Option<ChannelRow> {
    let text = |(offset, len): (usize, usize)| {
        let field = b.get(offset..offset + len)?;
        let end = field.iter().position(|&c| c == 0).unwrap_or(len);
        String::from_utf8(field.get(..end)?.to_vec()).ok()
    };
    Some(ChannelRow {
        name: text(NAME)?,
        unit: text(UNIT)?,
        scale: text(SCALE)?,
        offset: text(OFFSET)?,
        decimals: *b.get(DECIMALS)?,
    })
}

/// Where entry `seq` stands in a segment that begins with `first`. Sizes from outside saturate.
pub fn offset_of(first: u64, seq: u64) -> u64 {
    seq.saturating_sub(first).saturating_mul(LEN as u64).saturating_add(HEADER_LEN as u64)
}

/// One file of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Seq of its first entry.
    pub first: u64,
    /// How its entries stand in it.
    pub form: Form,
}

/// How the entries of a segment stand in its file. Of two files that begin alike the one counts that is named first here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// One after the other, each at its own offset.
    Plain,
    /// In compressed blocks (block.rs); never written again.
    Compressed,
    /// As plain, but a disk error was seen in it; what stands behind the last entry that counts is worthless.
    Bad,
}

impl Form {
    const ALL: [Form; 3] = [Form::Plain, Form::Compressed, Form::Bad];

    const fn ending(self) -> &'static str {
        match self {
            Form::Plain => ".seg",
            Form::Compressed => ".segz",
            Form::Bad => ".seg.bad",
        }
    }
}

impl Segment {
    /// Its file name.
    pub fn name(&self) -> String {
        format!("{:020}{}", self.first, self.form.ending())
    }

    /// The segment with this file name.
    pub fn from_name(name: &str) -> Option<Segment> {
        let (digits, ending) = name.split_at_checked(20)?;
        let form = Form::ALL.into_iter().find(|form| form.ending() == ending)?;
        let first = digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok())??;
        (1..SEQ_LIMIT).contains(&first).then_some(Segment { first, form })
    }

    /// The plain segment that begins with entry `first`.
    pub const fn plain(first: u64) -> Segment {
        Segment { first, form: Form::Plain }
    }

    /// Did a disk error make it unfit for writing?
    pub fn is_bad(&self) -> bool {
        self.form == Form::Bad
    }

    /// The name under which it is made.
    pub fn new_name(&self) -> String {
        self.name() + NEW
    }
}

/// Is it the name of a segment that is being made?
pub fn is_new(name: &str) -> bool {
    name.strip_suffix(NEW).and_then(Segment::from_name).is_some_and(|segment| !segment.is_bad())
}

/// The segments that count among these names, in order. Each ends where the next one begins; of several that begin
/// alike only one counts ([`Form`]).
pub fn segments(names: &[String]) -> Vec<Segment> {
    let mut found: Vec<_> = names.iter().filter_map(|name| Segment::from_name(name)).collect();
    found.sort_unstable();
    found.dedup_by_key(|segment| segment.first);
    found
}

/// Copies `bytes` to `b[at..]`; what does not fit is left out.
pub(crate) fn put(b: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in b.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

pub(crate) fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let row = |i: u8| ChannelRow {
            name: format!("channel {i}"),
            unit: "mV".into(),
            scale: "0.005".into(),
            offset: "-1024".into(),
            decimals: i,
        };
        let channels = (0..32).map(row).collect();
        Header { log_id: 0x0102_0304_0506_0708, first_seq: 77, epoch: 3, created_ns: 9, channels }
    }

    #[test]
    fn bytes_are_as_documented() {
        let b = header().encode();
        assert_eq!(b.len(), HEADER_LEN);
        assert_eq!(&b[..24], b"IPCPSEG1\x01\0\0\0\x00\x10\0\0\x20\0\0\0\x20\0\0\0");
        assert_eq!(b[24..32], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((b[32], b[40], b[48]), (77, 3, 9));
        let row = &b[64 + 120 * 31..][..120];
        assert_eq!(&row[..11], b"channel 31\0");
        assert_eq!(
            (&row[40..43], &row[56..62], &row[80..86], row[104]),
            (&b"mV\0"[..], &b"0.005\0"[..], &b"-1024\0"[..], 31)
        );
        assert_eq!(b[4092..], crc32c::crc32c(&b[..4092]).to_le_bytes());
        assert_eq!(Header::decode(&b), Some(header()));
    }

    #[test]
    fn damage_is_seen() {
        let b = header().encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = b.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&b[..HEADER_LEN - 1]), None);
        assert_eq!(Header::decode(&[]), None);
    }

    #[test]
    fn another_table_has_another_number() {
        let table = header().channels;
        let id = table_id(&table);
        assert_eq!(id as u32, !(id >> 32) as u32);
        let (mut unit, mut decimals) = (table.clone(), table.clone());
        unit[31].unit.push('x');
        decimals[0].decimals += 1;
        let others = [unit, decimals, table[..31].to_vec(), vec![ChannelRow::default()], Vec::new()];
        assert!(others.iter().all(|other| table_id(other) != id));
        assert_ne!(
            table_id(&others[3]),
            table_id(&others[4]),
            "a channel without a name is one all the same"
        );
    }

    #[test]
    fn a_lying_count_is_refused() {
        let mut b = header().encode();
        b[20] = 33;
        let crc = crc32c::crc32c(&b[..CRC]);
        put(&mut b, CRC, &crc.to_le_bytes());
        assert_eq!(Header::decode(&b), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_or_left_out() {
        let mut channels = header().channels;
        assert_eq!(check_table(&channels), Ok(()));
        channels[0].unit = "seventeen letters".into();
        assert!(matches!(check_table(&channels), Err(TableError::Text { what: "unit", most: 16, .. })));
        let clipped = Header::decode(&Header { channels: channels.clone(), ..header() }.encode()).unwrap();
        assert_eq!((&*clipped.channels[0].unit, &*clipped.channels[0].scale), ("seventeen letter", "0.005"));
        channels.push(ChannelRow::default());
        assert_eq!(check_table(&channels), Err(TableError::TooMany(33)));
        assert_eq!(Header::decode(&Header { channels, ..header() }.encode()).unwrap().channels.len(), 32);
    }

    #[test]
    fn names_say_what_counts() {
        let names = [
            "00000000000000000100.seg.bad",
            "00000000000000000121.seg",
            "00000000000000000001.seg",
            "00000000000000000001.seg.bad",
            "00000000000000000121.segz",
            "00000000000000000200.segz",
            "00000000000000000200.seg.bad",
            "00000000000000000200.seg.new",
            "00000000000000000200.segz.new",
            "00000000000000000200.seg.bad.new",
            "00000000000000000000.seg",
            "99999999999999999999.seg",
            "+0000000000000000001.seg",
            "1.seg",
            "durable.mark",
            "\u{e9}0000000000000000001.seg",
        ];
        let found = segments(&names.map(str::to_owned));
        let segment = |first, form| Segment { first, form };
        let wanted = [
            segment(1, Form::Plain),
            segment(100, Form::Bad),
            segment(121, Form::Plain),
            segment(200, Form::Compressed),
        ];
        assert_eq!(found, wanted);
        assert_eq!(names.map(is_new).iter().filter(|new| **new).count(), 2);
        assert!(found.iter().all(|s| Segment::from_name(&s.name()) == Some(*s)));
        assert_eq!(offset_of(u64::MAX, 1), 4096);
        assert_eq!(offset_of(1, u64::MAX), u64::MAX);
    }
}
