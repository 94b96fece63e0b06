//! The markers of a JPEG file (ITU-T T.81, annex B), and a file that lacks only its last one.

/// The end of the image.
const END: [u8; 2] = [0xFF, 0xD9];

/// Whether an end-of-image marker follows the first scan of a JPEG. If a file is cut short, the decoder fills the
/// missing part with grey, without an error.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    // The thumbnail in an EXIF segment has an end marker of its own: the search begins after the segments. Scan data
    // has no marker: a byte 0xFF in it is followed by 0.
    let scan = segments(bytes).find(|(marker, _)| *marker == 0xDA);
    scan.is_some_and(|(_, data)| {
        let mut pairs = bytes[data..].windows(2).rev();
        pairs.any(|pair| pair == END)
    })
}

/// The file with an end marker, if that is all that it lacks: every scan is there, and no bit of the last one.
///
/// `pixels` decodes a file. What a decoder makes of a scan whose last bits are missing depends on the bytes that follow:
/// the scan is whole if different bytes give the same pixels.
pub(super) fn completed<P: PartialEq>(
    bytes: &[u8],
    pixels: impl Fn(&[u8]) -> Option<P>,
) -> Option<Vec<u8>> {
    // A marker may have lost its second byte.
    let bytes = bytes.strip_suffix(&[0xFF]).unwrap_or(bytes);
    if has_end(bytes) || !has_all_scans(bytes) {
        return None;
    }
    let whole = [bytes, &END].concat();
    let expected = pixels(&whole)?;
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0xFE;
    let fillings = [
        vec![0; 4096],
        vec![0xFE; 4096],
        (1..4096).map(noise).collect(),
    ];
    let agrees = |filling: &Vec<u8>| {
        let filled = [bytes, filling, &END].concat();
        pixels(&filled).is_some_and(|found| found == expected)
    };
    fillings.iter().all(agrees).then_some(whole)
}

/// Whether the scans bring every coefficient of every component to its full precision.
fn has_all_scans(bytes: &[u8]) -> bool {
    let mut components: Vec<(u8, [bool; 64])> = Vec::new();
    for (marker, data) in segments(bytes) {
        let Some(data) = bytes.get(data..) else {
            return false;
        };
        match marker {
            // A frame: precision, size, and for each component its id, its sampling and its table.
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                let count = data.get(5).map_or(0, |n| usize::from(*n));
                let ids = data.iter().skip(6).step_by(3).take(count);
                components = ids.map(|id| (*id, [false; 64])).collect();
            }
            // A scan: for each component its id and its tables; then the first and the last coefficient, and the bits
            // before and after the scan's precision.
            0xDA => {
                let count = data.first().map_or(0, |n| usize::from(*n));
                let Some([first, last, bits]) = data.get(1 + 2 * count..4 + 2 * count) else {
                    return false;
                };
                let ids: Vec<_> = data.iter().skip(1).step_by(2).take(count).collect();
                for (id, coefficients) in &mut components {
                    if ids.contains(&&*id) && bits & 15 == 0 {
                        let all = coefficients.iter_mut().enumerate();
                        let of_scan = usize::from(*first)..=usize::from(*last);
                        all.for_each(|(i, whole)| *whole |= of_scan.contains(&i));
                    }
                }
            }
            _ => {}
        }
    }
    let is_whole = |(_, coefficients): &(u8, [bool; 64])| coefficients.iter().all(|whole| *whole);
    !components.is_empty() && components.iter().all(is_whole)
}

/// The markers of segments, each with the position of the segment's content.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            match *bytes.get(at..at + 2)? {
                // Markers without a segment.
                [0xFF, 0x01 | 0xD0..=0xD9] => at += 2,
                [0xFF, marker] if marker != 0 && marker != 0xFF => {
                    let length = bytes.get(at + 2..at + 4)?;
                    let content = at + 4;
                    at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                    return Some((marker, content));
                }
                // Fill bytes between segments, and the data of a scan.
                _ => at += 1,
            }
        }
    })
}
