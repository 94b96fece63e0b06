//! Masks of one class in COCO's run-length code.

use super::Mask;
use crate::size::Size;

/// The pixels of one class in COCO's compressed run-length code, as pycocotools read it.
///
/// The mask is read column by column. Runs of other pixels and of the class's alternate, the first of others; each
/// length from the fourth on is written as its difference to the length two before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CocoRle {
    size: Size,
    counts: String,
}

impl CocoRle {
    /// The size of the mask.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The lengths of the runs, as text.
    pub fn counts(&self) -> &str {
        &self.counts
    }
}

impl Mask {
    /// The pixels of class `id` in COCO's run-length code.
    ///
    /// ```
    /// use fullconv::{Mask, Palette, Size};
    /// let mask = Mask::new(Size::new(2, 3), vec![0, 1, 1, 0, 0, 1], [].into(), Palette::voc(2))?;
    /// assert_eq!(mask.rle(1).counts(), "2111");
    /// # Ok::<(), fullconv::Error>(())
    /// ```
    pub fn rle(&self, id: u8) -> CocoRle {
        let Size { height, width } = self.size;
        let columns = (0..width).flat_map(|x| (0..height).map(move |y| y * width + x));
        let (mut lengths, mut is_class, mut length) = (Vec::new(), false, 0_i64);
        for at in columns {
            if (self.labels[at] == id) != is_class {
                lengths.push(length);
                (is_class, length) = (!is_class, 0);
            }
            length += 1;
        }
        lengths.push(length);
        let mut counts = String::new();
        for (i, length) in lengths.iter().enumerate() {
            let before = if i > 2 { lengths[i - 2] } else { 0 };
            write(length - before, &mut counts);
        }
        CocoRle {
            size: self.size,
            counts,
        }
    }
}

/// Writes a number, the lowest five bits first, each group as a printable character; bit 5 says that more follow.
fn write(mut number: i64, text: &mut String) {
    loop {
        let low = (number & 31) as u8;
        number >>= 5;
        // The sign is bit 4 of the last group.
        let is_last = number == if low & 16 == 0 { 0 } else { -1 };
        text.push(char::from(48 + low + if is_last { 0 } else { 32 }));
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Palette;

    fn mask(height: usize, width: usize, label: impl Fn(usize) -> u8) -> Mask {
        let labels = (0..height * width).map(label).collect();
        Mask::new(Size::new(height, width), labels, [].into(), Palette::voc(3)).unwrap()
    }

    /// The lengths that `counts` holds.
    fn read(counts: &str) -> Vec<i64> {
        let (mut lengths, mut number, mut shift): (Vec<i64>, i64, u32) = (Vec::new(), 0, 0);
        for byte in counts.bytes().map(|byte| i64::from(byte) - 48) {
            number |= (byte & 31) << shift;
            shift += 5;
            if byte & 32 == 0 {
                if byte & 16 != 0 {
                    number |= -1 << shift;
                }
                let before = if lengths.len() > 2 {
                    lengths[lengths.len() - 2]
                } else {
                    0
                };
                lengths.push(number + before);
                (number, shift) = (0, 0);
            }
        }
        lengths
    }

    #[test]
    fn runs_are_those_of_the_columns() {
        for label in [
            (|i| (i * i % 7 % 3) as u8) as fn(usize) -> u8,
            |i| u8::from(i % 5 == 0),
            |i| u8::from(i > 900),
            |_| 1,
            |_| 0,
        ] {
            let mask = mask(37, 53, label);
            for id in 0..3 {
                let lengths = read(mask.rle(id).counts());
                let runs = lengths.iter().enumerate();
                let pixels = runs.flat_map(|(i, n)| (0..*n).map(move |_| i % 2 == 1));
                let columns = (0..53).flat_map(|x| (0..37).map(move |y| y * 53 + x));
                assert!(pixels.eq(columns.map(|at| mask.labels()[at] == id)));
            }
        }
    }

    #[test]
    fn texts_are_those_of_pycocotools() {
        // pycocotools 2.0.11: mask.encode(np.asfortranarray(mask)).
        let few = mask(4, 4, |i| u8::from(i % 3 == 0));
        assert_eq!(few.rle(1).counts(), "012000000000");
        let left = mask(100, 100, |i| u8::from(i / 100 > 10 && i % 100 < 50));
        let zeros = "0".repeat(97);
        assert_eq!(left.rle(1).counts(), format!(";i2;{zeros}mk4"));
    }
}
