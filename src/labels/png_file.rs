//! PNG files of labels, whose values are neither scaled nor turned into colours.

use super::{LabelImage, cannot_decode};
use crate::error::{Result, bail};
use crate::picture::MAX_BYTES;
use crate::size::Size;
use png::ColorType;
use std::io::Cursor;

/// The first bytes of a PNG.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Decodes a PNG.
pub(super) fn decode(bytes: &[u8]) -> Result<LabelImage> {
    let limit = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
    let limits = png::Limits { bytes: limit };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Other transformations would turn indices into colours.
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(cannot_decode)?;
    let (colour, depth) = reader.output_color_type();
    let (width, height) = reader.info().size();
    let size = Size::new(height as usize, width as usize);
    let packed = reader.output_buffer_size();
    // An id takes four bytes.
    let pixels = size.pixels().filter(|&pixels| pixels <= limit / 4);
    let (Some(packed), Some(_)) = (packed, pixels) else {
        bail!(
            Picture,
            "labels of {size} pixels (height x width) are too large"
        );
    };
    let mut rows = vec![0; packed];
    reader.next_frame(&mut rows).map_err(cannot_decode)?;
    let depth = depth as usize;
    let mut labels = match colour {
        ColorType::Indexed | ColorType::Grayscale if depth < 8 => {
            LabelImage::of_ids(size, unpacked(&rows, size, depth))
        }
        ColorType::Rgb | ColorType::Rgba if depth == 8 => {
            LabelImage::of_colours(size, colours(&rows, colour.samples()))
        }
        ColorType::Rgb | ColorType::Rgba => {
            let Some(ids) = equal_channels(&rows, colour.samples()) else {
                bail!(
                    Picture,
                    "labels have ids of up to 16 bits or colours of 8; this PNG has colours of 16"
                );
            };
            LabelImage::of_ids(size, ids.into_iter())
        }
        _ => {
            let step = colour.samples() * depth / 8;
            let id = |pixel: &[u8]| match depth {
                8 => i32::from(pixel[0]),
                _ => i32::from(u16::from_be_bytes([pixel[0], pixel[1]])),
            };
            LabelImage::of_ids(size, rows.chunks_exact(step).map(id))
        }
    };
    if let (ColorType::Indexed, Some(palette)) = (colour, &reader.info().palette) {
        labels.palette = palette.as_chunks::<3>().0.to_vec();
    }
    Ok(labels)
}

/// Unpacks rows of `bits` bits a value. The first value is in the highest bits; each row begins a new byte.
fn unpacked(rows: &[u8], size: Size, bits: usize) -> impl Iterator<Item = i32> {
    let width = size.width;
    let rows = rows.chunks_exact((width * bits).div_ceil(8));
    rows.flat_map(move |row| {
        (0..width).map(move |x| {
            let first = x * bits;
            let shift = 8 - bits - first % 8;
            i32::from((row[first / 8] >> shift) & ((1 << bits) - 1))
        })
    })
}

fn colours(rows: &[u8], samples: usize) -> Vec<[u8; 3]> {
    let pixels = rows.chunks_exact(samples);
    pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

/// The value of each pixel of 16 bits a channel; `None` if the channels of one differ.
fn equal_channels(rows: &[u8], samples: usize) -> Option<Vec<i32>> {
    let pixels = rows.chunks_exact(2 * samples);
    let value = |pixel: &[u8]| {
        let at = |i: usize| u16::from_be_bytes([pixel[2 * i], pixel[2 * i + 1]]);
        (at(0) == at(1) && at(1) == at(2)).then(|| i32::from(at(0)))
    };
    pixels.map(value).collect()
}
