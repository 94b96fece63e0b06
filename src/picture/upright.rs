//! Pictures turned upright, as their files say (EXIF).

#[cfg(not(target_arch = "wasm32"))]
use super::samples::Samples;
use crate::size::Size;
use image::metadata::Orientation;

/// A picture of `size`, turned upright.
pub(super) fn upright(size: Size, orientation: Orientation) -> Size {
    match orientation {
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => size,
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Size::new(size.width, size.height),
    }
}

/// Turns a picture of `size` and `count` samples a pixel upright.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn turn(
    size: Size,
    count: usize,
    samples: Samples,
    orientation: Orientation,
) -> (Size, Samples) {
    if orientation == Orientation::NoTransforms {
        return (size, samples);
    }
    let turned = upright(size, orientation);
    let Size { height, width } = size;
    let from = |y: usize, x: usize| match orientation {
        Orientation::NoTransforms => (y, x),
        Orientation::FlipHorizontal => (y, width - 1 - x),
        Orientation::Rotate180 => (height - 1 - y, width - 1 - x),
        Orientation::FlipVertical => (height - 1 - y, x),
        Orientation::Rotate90FlipH => (x, y),
        Orientation::Rotate90 => (height - 1 - x, y),
        Orientation::Rotate270FlipH => (height - 1 - x, width - 1 - y),
        Orientation::Rotate270 => (x, width - 1 - y),
    };
    let pixels = (0..turned.height).flat_map(|y| (0..turned.width).map(move |x| (y, x)));
    let begins = pixels
        .map(|(y, x)| from(y, x))
        .map(|(y, x)| (y * width + x) * count);
    fn moved<T: Copy>(all: &[T], begins: impl Iterator<Item = usize>, count: usize) -> Vec<T> {
        begins
            .flat_map(|at| all[at..at + count].iter().copied())
            .collect()
    }
    let samples = match samples {
        Samples::U8(all) => Samples::U8(moved(&all, begins, count)),
        Samples::U16(all) => Samples::U16(moved(&all, begins, count)),
        Samples::F32(all) => Samples::F32(moved(&all, begins, count)),
    };
    (turned, samples)
}
