//! The markers of a JPEG file.

/// Whether an end-of-image marker follows the first scan of a JPEG. If a file is cut short, the decoder fills the
/// missing part with grey, without an error.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    // The thumbnail in an EXIF segment has an end marker of its own: the search begins after the segments. Scan data
    // has no marker: a byte 0xFF in it is followed by 0.
    first_scan(bytes).is_some_and(|scan| {
        let mut pairs = bytes[scan..].windows(2).rev();
        pairs.any(|pair| pair == [0xFF, 0xD9])
    })
}

/// Where the first start-of-scan segment of a JPEG begins (ITU-T T.81, annex B).
fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match *bytes.get(at..at + 2)? {
            [0xFF, 0xDA] => return Some(at),
            // Markers without a segment.
            [0xFF, 0x01 | 0xD0..=0xD8] => at += 2,
            [0xFF, marker] if marker != 0 && marker != 0xFF => {
                let length = bytes.get(at + 2..at + 4)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            // Fill bytes between segments.
            _ => at += 1,
        }
    }
}
