//! Frames as pictures, and pictures as frames.

use super::format::{Form, Planes};
use clap::ValueEnum;
use fullconv::{Error, ErrorKind, Picture, Result, Size};
use yuv::{
    YuvConversionMode, YuvError, YuvGrayImage, YuvPlanarImage, YuvPlanarImageMut, YuvRange,
    YuvStandardMatrix,
};

/// How colours become brightness and chroma. Y4M streams do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Matrix {
    /// Standard definition; what FFmpeg takes if a file says nothing
    Bt601,
    /// High definition
    Bt709,
}

impl Matrix {
    fn standard(self) -> YuvStandardMatrix {
        match self {
            Self::Bt601 => YuvStandardMatrix::Bt601,
            Self::Bt709 => YuvStandardMatrix::Bt709,
        }
    }
}

fn range(form: &Form) -> YuvRange {
    match form.full_range {
        true => YuvRange::Full,
        false => YuvRange::Limited,
    }
}

/// The picture of a `frame` of this form. Chroma of fewer samples is repeated.
pub fn picture(form: &Form, frame: &[u8], matrix: Matrix) -> Result<Picture> {
    if form.planes == Planes::Rgb {
        return Picture::from_rgb(form.size, frame.to_vec());
    }
    let (width, height) = sides(form.size)?;
    let mut rgb = vec![0; 3 * form.size.height * form.size.width];
    let (range, matrix, stride) = (range(form), matrix.standard(), 3 * width);
    let (y_plane, chroma) = frame.split_at(form.size.height * form.size.width);
    if form.planes == Planes::Grey {
        let grey = YuvGrayImage {
            y_plane,
            y_stride: width,
            width,
            height,
        };
        yuv::yuv400_to_rgb(&grey, &mut rgb, stride, range, matrix).map_err(failed)?;
        return Picture::from_rgb(form.size, rgb);
    }
    let (u_plane, v_plane) = chroma.split_at(chroma.len() / 2);
    let chroma_stride = sides(form.planes.chroma(form.size))?.0;
    let planes = YuvPlanarImage {
        y_plane,
        y_stride: width,
        u_plane,
        u_stride: chroma_stride,
        v_plane,
        v_stride: chroma_stride,
        width,
        height,
    };
    let convert = match form.planes {
        Planes::Yuv420 => yuv::yuv420_to_rgb,
        Planes::Yuv422 => yuv::yuv422_to_rgb,
        _ => yuv::yuv444_to_rgb,
    };
    convert(&planes, &mut rgb, stride, range, matrix).map_err(failed)?;
    Picture::from_rgb(form.size, rgb)
}

/// The pixels of `picture` as a frame of this form: three bytes each, or planes of 4:4:4.
pub fn frame(form: &Form, picture: &Picture, matrix: Matrix) -> Result<Vec<u8>> {
    if form.planes == Planes::Rgb {
        return Ok(picture.rgb().to_vec());
    }
    let (width, height) = sides(picture.size())?;
    let pixels = picture.rgb().len() / 3;
    let mut frame = vec![0; 3 * pixels];
    let (y, chroma) = frame.split_at_mut(pixels);
    let (u, v) = chroma.split_at_mut(pixels);
    let mut planes = YuvPlanarImageMut {
        y_plane: yuv::BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: yuv::BufferStoreMut::Borrowed(u),
        u_stride: width,
        v_plane: yuv::BufferStoreMut::Borrowed(v),
        v_stride: width,
        width,
        height,
    };
    yuv::rgb_to_yuv444(
        &mut planes,
        picture.rgb(),
        3 * width,
        range(form),
        matrix.standard(),
        YuvConversionMode::Balanced,
    )
    .map_err(failed)?;
    Ok(frame)
}

/// Width and height.
fn sides(size: Size) -> Result<(u32, u32)> {
    match (u32::try_from(size.width), u32::try_from(size.height)) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(Error::new(
            ErrorKind::Limit,
            format!("frames of {size} are too large"),
        )),
    }
}

fn failed(reason: YuvError) -> Error {
    Error::new(
        ErrorKind::Request,
        format!("the colours of a frame cannot be converted: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(planes: Planes, full_range: bool, size: Size) -> Form {
        Form {
            size,
            planes,
            full_range,
            timing: Vec::new(),
        }
    }

    #[test]
    fn colours_follow_the_standards() {
        // Y, Cb, Cr of primaries at limited range, from the matrices of ITU-R BT.601 and BT.709.
        for (matrix, yuv, rgb) in [
            (Matrix::Bt601, [81, 90, 240], [255, 0, 0]),
            (Matrix::Bt601, [145, 54, 34], [0, 255, 0]),
            (Matrix::Bt601, [41, 240, 110], [0, 0, 255]),
            (Matrix::Bt709, [63, 102, 240], [255, 0, 0]),
            (Matrix::Bt709, [173, 42, 26], [0, 255, 0]),
            (Matrix::Bt709, [32, 240, 118], [0, 0, 255]),
            (Matrix::Bt601, [16, 128, 128], [0, 0, 0]),
            (Matrix::Bt601, [235, 128, 128], [255, 255, 255]),
        ] {
            let form = form(Planes::Yuv444, false, Size::new(1, 1));
            let found = picture(&form, &yuv, matrix).unwrap();
            for (found, expected) in found.rgb().iter().zip(rgb) {
                assert!(
                    found.abs_diff(expected) <= 2,
                    "{yuv:?}: {found} for {rgb:?}"
                );
            }
            let back = frame(&form, &found, matrix).unwrap();
            for (found, expected) in back.iter().zip(yuv) {
                assert!(found.abs_diff(expected) <= 1, "{back:?} for {yuv:?}");
            }
        }
    }

    #[test]
    fn chroma_belongs_to_its_pixels_also_at_odd_sizes() {
        let size = Size::new(3, 5);
        for (planes, across, down) in [
            (Planes::Yuv420, 2, 2),
            (Planes::Yuv422, 2, 1),
            (Planes::Yuv444, 1, 1),
        ] {
            let chroma = planes.chroma(size);
            // One sample of red chroma, the last.
            let mut data = vec![128; 15 + 2 * chroma.height * chroma.width];
            *data.last_mut().unwrap() = 255;
            let found = picture(&form(planes, true, size), &data, Matrix::Bt601).unwrap();
            for y in 0..3 {
                for x in 0..5 {
                    let pixel = &found.rgb()[3 * (5 * y + x)..][..3];
                    let is_red = x / across == chroma.width - 1 && y / down == chroma.height - 1;
                    assert_eq!(pixel[0] > 200, is_red, "{planes:?} at {y}, {x}: {pixel:?}");
                }
            }
        }
    }

    #[test]
    fn grey_is_kept() {
        let size = Size::new(1, 256);
        let ramp: Vec<u8> = (0..=255).collect();
        let found = picture(&form(Planes::Grey, true, size), &ramp, Matrix::Bt601).unwrap();
        assert!(
            found
                .rgb()
                .chunks(3)
                .zip(&ramp)
                .all(|(pixel, v)| pixel == [*v; 3])
        );
    }
}
