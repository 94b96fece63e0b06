//! Numbers from 0 to 1 as pictures: in colours to look at, in 16 bits to compute with.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::picture::Picture;
use crate::size::Size;

/// `values` from 0 to 1, one a pixel of `size`, row by row, in the colours of *inferno*: black is 0, pale yellow is 1.
///
/// # Errors
/// `Shape` if there are not height · width values.
///
/// ```
/// use fullconv::Size;
/// let heat = fullconv::heatmap(&[0.0, 1.0], Size::new(1, 2))?;
/// assert_eq!(heat.rgb(), [0, 0, 4, 252, 255, 164]);
/// # Ok::<(), fullconv::Error>(())
/// ```
pub fn heatmap(values: &[f32], size: Size) -> Result<Picture> {
    check(values, size)?;
    let colour = |value: &f32| {
        let colour = colorous::INFERNO.eval_continuous(f64::from(value.clamp(0.0, 1.0)));
        [colour.r, colour.g, colour.b]
    };
    Picture::from_rgb(size, values.iter().flat_map(colour).collect())
}

/// `values` from 0 to 1, one a pixel of `size`, row by row, as a greyscale PNG of 16 bits a pixel: 65535 is 1.
///
/// # Errors
/// `Shape` if there are not height · width values, `Limit` if the PNG cannot be made.
pub fn png16(values: &[f32], size: Size) -> Result<Vec<u8>> {
    let (Ok(w), Ok(h)) = (u32::try_from(size.width), u32::try_from(size.height)) else {
        bail!(
            Limit,
            "a PNG of {size} pixels (height x width) is too large"
        );
    };
    check(values, size)?;
    let level = |value: &f32| ((value.clamp(0.0, 1.0) * 65535.0).round() as u16).to_be_bytes();
    let levels: Vec<u8> = values.iter().flat_map(level).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w, h);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&levels)?;
        writer.finish()
    });
    let cannot = |e| {
        let error = Error::new(ErrorKind::Limit, format!("cannot encode a PNG: {e}"));
        error.with_source(e)
    };
    written.map_err(cannot)?;
    Ok(bytes)
}

fn check(values: &[f32], size: Size) -> Result<()> {
    if size.pixels() != Some(values.len()) {
        let count = values.len();
        bail!(
            Shape,
            "{count} values are no picture of {size} pixels (height x width)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_come_back() {
        let bytes = png16(&[0.0, 0.5, 1.0, 2.0, -1.0, 0.25], Size::new(2, 3)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut levels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut levels).unwrap();
        let (levels, _) = levels.as_chunks::<2>();
        let levels: Vec<_> = levels.iter().map(|b| u16::from_be_bytes(*b)).collect();
        assert_eq!(levels, [0, 32768, 65535, 65535, 0, 16384]);
    }

    #[test]
    fn a_wrong_number_of_values_is_an_error() {
        let size = Size::new(2, 3);
        let error = png16(&[0.0; 5], size).unwrap_err().to_string();
        assert_eq!(
            error,
            "5 values are no picture of 2x3 pixels (height x width)"
        );
        assert_eq!(png16(&[0.0; 5], size).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(
            heatmap(&[0.0; 5], size).unwrap_err().kind(),
            ErrorKind::Shape
        );
    }
}
