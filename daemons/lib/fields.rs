//! Fixed fields in byte layouts: little-endian numbers at known offsets (docs/formats.md).
//!
//! Offsets are constants of the formats; whoever reads outside bytes checks their length first. A field that does not
//! fit is read as zeros and not written, so that even a mistake here cannot stop a daemon.
#![forbid(unsafe_code)]

/// The `N` bytes at offset `at`, for `uN::from_le_bytes`.
pub fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// The u64 at offset `at`.
pub fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// The u32 at offset `at`.
pub fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

/// The u16 at offset `at`.
pub fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

/// Puts `field` at offset `at`.
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = field;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_at_their_offset() {
        let mut bytes = [0; 12];
        put(&mut bytes, 4, 0x0102_0304_u32.to_le_bytes());
        assert_eq!(bytes, [0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(get_u32(&bytes, 4), 0x0102_0304);
        assert_eq!(get_u16(&bytes, 4), 0x0304);
        assert_eq!(get_u64(&bytes, 4), 0x0102_0304);
    }

    #[test]
    fn a_field_outside_is_zero_and_not_written() {
        let mut bytes = [9; 4];
        put(&mut bytes, 1, [7; 4]);
        assert_eq!(bytes, [9; 4]);
        assert_eq!(get_u64(&bytes, 0), 0);
        assert_eq!(get_u16(&bytes, usize::MAX), 0);
    }
}
