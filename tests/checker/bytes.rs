//! Numbers in bytes, and the CRC.

/// One entry as the record holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub t_ns: u64,
    pub value: i32,
    pub channel: u16,
    pub kind: u8,
    pub flags: u8,
    pub epoch: u32,
}

impl Entry {
    /// Read the fields; the CRC is asked for by [`Entry::is_whole`].
    pub fn read(b: &[u8; 32]) -> Entry {
        Entry {
            seq: u64_at(b, 0),
            t_ns: u64_at(b, 8),
            value: u32_at(b, 16) as i32,
            channel: u16::from_le_bytes([b[20], b[21]]),
            kind: b[22],
            flags: b[23],
            epoch: u32_at(b, 24),
        }
    }

    pub fn is_whole(&self, raw: &[u8; 32]) -> bool {
        crc(&raw[..28]) == u32_at(raw, 28)
    }

    pub fn count(&self) -> u64 {
        self.value as u32 as u64
    }

    pub fn wide(&self) -> u64 {
        self.value as u32 as u64 | (self.channel as u64) << 32
    }
}

pub fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().unwrap())
}

pub fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

pub fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

pub fn u128_at(b: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(b[at..at + 16].try_into().unwrap())
}

/// CRC-32C (Castagnoli, reflected), four bytes a step.
pub fn crc(bytes: &[u8]) -> u32 {
    let t = &TABLES;
    let (words, rest) = bytes.as_chunks::<4>();
    let crc = words.iter().fold(!0u32, |c, w| {
        let x = c ^ u32::from_le_bytes(*w);
        t[3][(x & 255) as usize]
            ^ t[2][(x >> 8 & 255) as usize]
            ^ t[1][(x >> 16 & 255) as usize]
            ^ t[0][(x >> 24) as usize]
    });
    !rest.iter().fold(crc, |c, b| c >> 8 ^ t[0][((c ^ *b as u32) & 255) as usize])
}

static TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut t = [[0u32; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let (mut c, mut bit) = (i as u32, 0);
        while bit < 8 {
            c = if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 };
            bit += 1;
        }
        t[0][i] = c;
        i += 1;
    }
    let mut n = 256;
    while n < 1024 {
        let before = t[n / 256 - 1][n % 256];
        t[n / 256][n % 256] = before >> 8 ^ t[0][(before & 255) as usize];
        n += 1;
    }
    t
}
