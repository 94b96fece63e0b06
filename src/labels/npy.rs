//! NumPy's `.npy` files of labels: integers `[h, w]`, or bytes `[h, w, 3]`, which are colours.

use super::LabelImage;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::npy::Header;
use crate::picture::MAX_BYTES;
use crate::size::Size;

/// Decodes a file of format version 1 to 3.
pub(super) fn decode(bytes: &[u8]) -> Result<LabelImage> {
    let header = Header::read(bytes).map_err(|reason| damaged(&reason))?;
    let (descr, data) = (header.descr, header.data);
    let Some(shape) = header.axes() else {
        return Err(damaged("its shape is no list of numbers"));
    };
    let (height, width, channels) = match shape[..] {
        [h, w] | [1, h, w] | [h, w, 1] => (h, w, 1),
        [h, w, 3] => (h, w, 3),
        _ => bail!(
            Picture,
            "labels in a .npy file have the shape [h, w]; these have {shape:?}"
        ),
    };
    let size = Size::new(height, width);
    let elements = size
        .pixels()
        .and_then(|pixels| pixels.checked_mul(channels));
    let Some(elements) = elements.filter(|n| *n > 0 && *n as u64 <= MAX_BYTES / 4) else {
        bail!(
            Picture,
            "labels of {size} pixels (height x width) are too large, or have nothing in them"
        );
    };
    let mut values = integers(descr, data, elements)?;
    if header.is_fortran {
        values = row_by_row(&values, [height, width, channels]);
    }
    if channels == 1 {
        return Ok(LabelImage::of_ids(size, values.into_iter()));
    }
    let byte = |value: i32| u8::try_from(value).ok();
    match values.into_iter().map(byte).collect::<Option<Vec<_>>>() {
        Some(bytes) => Ok(LabelImage::of_colours(
            size,
            bytes.as_chunks::<3>().0.to_vec(),
        )),
        None => bail!(Picture, "colours in a .npy file are bytes, 0 to 255"),
    }
}

fn damaged(reason: &str) -> Error {
    Error::new(
        ErrorKind::Picture,
        format!("the labels cannot be decoded: the .npy file is damaged: {reason}"),
    )
}

/// `count` integers of NumPy's type `descr`.
fn integers(descr: &str, data: &[u8], count: usize) -> Result<Vec<i32>> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", descr));
    let is_big = match order {
        "<" | "|" | "=" => false,
        ">" => true,
        _ => return Err(damaged("its type is unknown")),
    };
    let (width, is_signed) = match kind {
        "b1" | "u1" => (1, false),
        "i1" => (1, true),
        "u2" => (2, false),
        "i2" => (2, true),
        "u4" => (4, false),
        "i4" => (4, true),
        "u8" => (8, false),
        "i8" => (8, true),
        _ => bail!(
            Picture,
            "labels in a .npy file are integers; these are {descr}"
        ),
    };
    let Some(data) = data
        .get(..count * width)
        .filter(|_| data.len() == count * width)
    else {
        return Err(damaged(&format!(
            "{count} elements of {width} bytes are not {} bytes",
            data.len()
        )));
    };
    let integer = |bytes: &[u8]| {
        let mut wide = [0; 8];
        for (i, byte) in bytes.iter().enumerate() {
            wide[if is_big { width - 1 - i } else { i }] = *byte;
        }
        let value = u64::from_le_bytes(wide);
        let unused = 64 - 8 * width as u32;
        let value = match is_signed {
            true => i128::from((value << unused).cast_signed() >> unused),
            false => i128::from(value),
        };
        i32::try_from(value).ok()
    };
    let all = data.chunks_exact(width).map(integer);
    match all.collect() {
        Some(values) => Ok(values),
        None => bail!(Picture, "an id in the .npy file is beyond 31 bits"),
    }
}

/// The elements of an array `[h, w, c]` that is stored with the first index fastest, in rows.
fn row_by_row(values: &[i32], [height, width, channels]: [usize; 3]) -> Vec<i32> {
    let mut rows = Vec::with_capacity(values.len());
    for y in 0..height {
        for x in 0..width {
            rows.extend((0..channels).map(|c| values[y + height * (x + width * c)]));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelValues;
    use crate::npy::SIGNATURE;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [SIGNATURE, &[1, 0], &length, header.as_bytes(), data].concat()
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
    }

    fn ids(bytes: &[u8]) -> Vec<i32> {
        match decode(bytes).unwrap().values {
            LabelValues::Ids(ids) => ids,
            LabelValues::Colours(_) => panic!("colours"),
        }
    }

    #[test]
    fn integers_of_every_width_and_order() {
        for (descr, data, expected) in [
            ("|u1", &[0, 255][..], [0, 255]),
            ("|i1", &[0, 255], [0, -1]),
            ("|b1", &[0, 1], [0, 1]),
            ("<u2", &[1, 0, 0, 1], [1, 256]),
            (">i2", &[0, 1, 255, 255], [1, -1]),
            ("<i4", &[7, 0, 0, 0, 255, 255, 255, 255], [7, -1]),
            (
                "<i8",
                &[3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                [3, 256],
            ),
        ] {
            let bytes = file(&header(descr, "False", "(1, 2)"), data);
            assert_eq!(ids(&bytes), expected, "{descr}");
        }
    }

    #[test]
    fn shapes_and_orders() {
        let data = [1, 2, 3, 4, 5, 6];
        let labels = decode(&file(&header("|u1", "False", "(2, 3)"), &data)).unwrap();
        assert_eq!(labels.size, Size::new(2, 3));
        assert_eq!(
            ids(&file(&header("|u1", "True", "(2, 3)"), &data)),
            [1, 3, 5, 2, 4, 6]
        );
        assert_eq!(
            ids(&file(&header("|u1", "False", "(1, 2, 3)"), &data)),
            data.map(i32::from)
        );
        let colours = decode(&file(&header("|u1", "False", "(1, 2, 3)"), &data)).unwrap();
        assert_eq!(colours.size, Size::new(2, 3));
        let colours = decode(&file(&header("|u1", "False", "(2, 1, 3)"), &data)).unwrap();
        assert_eq!(
            colours.values,
            LabelValues::Colours(vec![[1, 2, 3], [4, 5, 6]])
        );
    }

    #[test]
    fn what_is_not_labels_is_refused_and_never_panics() {
        for (bytes, part) in [
            (file(&header("<f4", "False", "(1, 1)"), &[0; 4]), "integers"),
            (file(&header("|u1", "False", "(4,)"), &[0; 4]), "[h, w]"),
            (file(&header("|u1", "False", "(2, 2)"), &[0; 3]), "3 bytes"),
            (file(&header("|u1", "False", "(0, 2)"), &[]), "nothing"),
            (
                file(&header("<u4", "False", "(1, 1)"), &[255; 4]),
                "31 bits",
            ),
            (file("{}", &[]), "no descr"),
        ] {
            let error = decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let whole = file(&header("|u1", "False", "(2, 3)"), &[1; 6]);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length.max(6)]).is_err());
        }
        for at in 6..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let _ = decode(&damaged);
        }
    }
}
