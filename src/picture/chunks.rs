//! The chunks of a PNG file, and a file that lacks its last ones.

/// Before the chunks.
const SIGNATURE: usize = 8;
/// A chunk's length and kind before its data, and the checksum behind.
const AROUND: usize = 12;

/// What the chunks say about a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    /// The last chunk is there.
    pub has_end: bool,
    pub is_animated: bool,
    /// Bytes before the first chunk that is not whole.
    whole: usize,
}

impl Chunks {
    /// Of a PNG file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut chunks = Self {
            whole: SIGNATURE.min(bytes.len()),
            ..Self::default()
        };
        while let Some((length, kind)) = head(bytes, chunks.whole) {
            let end = chunks.whole.saturating_add(length + AROUND);
            if end > bytes.len() {
                break;
            }
            chunks.whole = end;
            chunks.is_animated |= kind == b"acTL";
            if kind == b"IEND" {
                chunks.has_end = true;
                break;
            }
        }
        chunks
    }

    /// The file, cut to its whole chunks and what there is of the picture's data after them, with an end. It decodes if
    /// all rows are there.
    pub(super) fn completed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut completed = bytes[..self.whole].to_vec();
        if let Some((length, b"IDAT")) = head(bytes, self.whole) {
            let data = &bytes[self.whole + 8..];
            add(&mut completed, b"IDAT", &data[..length.min(data.len())]);
        }
        add(&mut completed, b"IEND", &[]);
        completed
    }
}

/// The length and the kind of the chunk at `at`.
fn head(bytes: &[u8], at: usize) -> Option<(usize, &[u8; 4])> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*length) as usize, rest.first_chunk()?))
}

fn add(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let begin = file.len() + 4;
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    let checksum = crc32fast::hash(&file[begin..]);
    file.extend(checksum.to_be_bytes());
}
