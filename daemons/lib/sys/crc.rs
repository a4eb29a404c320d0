//! CRC-32C of many short entries at once, checked or made. A call for each costs more than the four instructions that 28
//! bytes need; here the processor works on several entries at a time.

/// CRC-32C of the first 28 bytes.
#[inline(always)]
pub fn entry_crc(entry: &[u8; 32]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, as was just found; nothing else is asked of the caller.
        return unsafe { crc_by_sse42(entry) };
    }
    crc32c::crc32c(&entry[..28])
}

/// Is, in each of these, the CRC-32C of the first 28 bytes what the last four say?
pub fn all_whole(entries: &[[u8; 32]]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, as was just found; nothing else is asked of the caller.
        return unsafe { all_whole_by_sse42(entries) };
    }
    entries.iter().all(|entry| crc32c::crc32c(&entry[..28]).to_le_bytes() == entry[28..])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn all_whole_by_sse42(entries: &[[u8; 32]]) -> bool {
    let mut whole = true;
    for entry in entries {
        whole &= crc_by_sse42(entry).to_le_bytes() == entry[28..];
    }
    whole
}

/// Makes, in each of these, the last four bytes the CRC-32C of the first 28.
pub fn seal_all(entries: &mut [[u8; 32]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, as was just found; nothing else is asked of the caller.
        return unsafe { seal_all_by_sse42(entries) };
    }
    for entry in entries {
        let crc = crc32c::crc32c(&entry[..28]);
        entry[28..].copy_from_slice(&crc.to_le_bytes());
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn seal_all_by_sse42(entries: &mut [[u8; 32]]) {
    for entry in entries {
        let crc = crc_by_sse42(entry);
        entry[28..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// CRC-32C of the first 28 bytes. No closures here: they have the target feature too, so that nothing of the standard library
/// that takes one could be inlined with them.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2")]
fn crc_by_sse42(entry: &[u8; 32]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u32, _mm_crc32_u64};
    let (words, _) = entry.as_chunks::<8>();
    let mut crc = u32::MAX.into();
    for word in &words[..3] {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    !_mm_crc32_u32(crc as u32, u64::from_le_bytes(words[3]) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_of_the_library() {
        let entry = |i: u32| {
            let mut bytes = [0; 32];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = (i.wrapping_mul(2_654_435_761).wrapping_add(at as u32 * 97) >> 11) as u8;
            }
            let crc = crc32c::crc32c(&bytes[..28]);
            bytes[28..].copy_from_slice(&crc.to_le_bytes());
            bytes
        };
        let good: Vec<[u8; 32]> = (0..1000).map(entry).collect();
        assert!(all_whole(&good) && all_whole(&[]));
        let mut made = good.clone();
        made.iter_mut().for_each(|entry| entry[28..].fill(9));
        seal_all(&mut made);
        assert_eq!(made, good);
        for bit in 0..256 {
            let mut bad = good[..5].to_vec();
            bad[bit % 5][bit / 8] ^= 1 << (bit % 8);
            assert!(!all_whole(&bad), "bit {bit}");
        }
    }
}
