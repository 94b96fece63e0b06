//! Conversion between the host's layout (NCHW) and the device's (NHWC, channels padded to a multiple of 4).

use crate::error::{Result, bail};
use crate::ops::kernel::Format;
use crate::ops::narrow;
use crate::tensor::{Shape, Tensor};

/// The bytes of a host tensor in the device's layout.
///
/// # Errors
/// `NotFinite` if the format is f16 and a value is beyond its range.
pub(super) fn encode(tensor: &Tensor, format: Format) -> Result<Vec<u8>> {
    let shape = tensor.shape();
    Ok(match format {
        Format::Nhwc4Half => {
            let data = tensor.data();
            if let Some(i) = data.iter().position(|x| !narrow::holds(*x)) {
                bail!(
                    NotFinite,
                    "the input is {} at {:?}: f16 holds numbers up to {}; use f32",
                    data[i],
                    tensor.position(i),
                    narrow::MAX
                );
            }
            let wide = encode(tensor, Format::Nhwc4)?;
            let wide: &[f32] = bytemuck::cast_slice(&wide);
            bytemuck::cast_slice(&narrow::from_f32(wide)).to_vec()
        }
        Format::Nhwc4 | Format::Nhwc4Exact | Format::Nhwc4Between => {
            let channels = 4 * shape.c4();
            let mut data = vec![0.0f32; shape.pixels() * channels];
            for n in 0..shape.n {
                for c in 0..shape.c {
                    let image = &mut data[n * shape.h * shape.w * channels..];
                    for (i, value) in tensor.plane(n, c).iter().enumerate() {
                        image[i * channels + c] = *value;
                    }
                }
            }
            bytemuck::cast_slice(&data).to_vec()
        }
        Format::Rgba8 => {
            let mut bytes = vec![255; shape.pixels() * 4];
            for n in 0..shape.n {
                for c in 0..shape.c.min(4) {
                    let image = &mut bytes[n * shape.h * shape.w * 4..];
                    for (i, value) in tensor.plane(n, c).iter().enumerate() {
                        image[i * 4 + c] = *value as u8;
                    }
                }
            }
            bytes
        }
        Format::Labels8 => tensor.data().iter().map(|label| *label as u8).collect(),
    })
}

/// The host tensor of bytes in the device's layout.
///
/// # Errors
/// `Limit` if the host has no memory for it.
pub(super) fn decode(bytes: &[u8], shape: Shape, format: Format) -> Result<Tensor> {
    match format {
        Format::Nhwc4Half => {
            let data = bytes.as_chunks::<2>().0;
            let channels = 4 * shape.c4();
            Tensor::from_planes(shape, |n, c, plane| {
                let image = &data[n * shape.h * shape.w * channels..];
                for (to, pixel) in plane.iter_mut().zip(image.chunks_exact(channels)) {
                    *to = narrow::to_f32(pixel[c]);
                }
            })
        }
        Format::Nhwc4 | Format::Nhwc4Exact | Format::Nhwc4Between => {
            let data: &[f32] = bytemuck::cast_slice(bytes);
            let channels = 4 * shape.c4();
            Tensor::from_planes(shape, |n, c, plane| {
                let image = &data[n * shape.h * shape.w * channels..];
                for (to, pixel) in plane.iter_mut().zip(image.chunks_exact(channels)) {
                    *to = pixel[c];
                }
            })
        }
        Format::Rgba8 => Tensor::from_planes(shape, |n, c, plane| {
            let image = &bytes[n * shape.h * shape.w * 4..];
            for (to, pixel) in plane.iter_mut().zip(image.chunks_exact(4)) {
                *to = f32::from(pixel[c]);
            }
        }),
        Format::Labels8 => {
            let labels = bytes[..shape.pixels()].iter().map(|b| f32::from(*b));
            Tensor::new(shape, labels.collect())
        }
    }
}

/// Single elements, at `[n, c, y, x]`, of bytes in the device's layout.
///
/// # Errors
/// As [`decode`].
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn decode_at(
    bytes: &[u8],
    shape: Shape,
    format: Format,
    at: &[[usize; 4]],
) -> Result<Vec<f32>> {
    if format != Format::Nhwc4 {
        let whole = decode(bytes, shape, format)?;
        return Ok(at
            .iter()
            .map(|[n, c, y, x]| whole.at(*n, *c, *y, *x))
            .collect());
    }
    let element = |[n, c, y, x]: &[usize; 4]| {
        let pixel = (n * shape.h + y) * shape.w + x;
        let from = 4 * (pixel * 4 * shape.c4() + c);
        bytemuck::pod_read_unaligned(&bytes[from..from + 4])
    };
    Ok(at.iter().map(element).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shape = Shape::new(2, 5, 3, 4);
        let t =
            Tensor::from_fn(shape, |n, c, y, x| (n * 1000 + c * 100 + y * 10 + x) as f32).unwrap();
        for format in [Format::Nhwc4, Format::Nhwc4Half] {
            let bytes = encode(&t, format).unwrap();
            assert_eq!(bytes.len() as u64, format.bytes(shape));
            assert_eq!(decode(&bytes, shape, format).unwrap(), t);
            let at = [[1, 4, 2, 3], [0, 1, 0, 2]];
            let found = decode_at(&bytes, shape, format, &at).unwrap();
            assert_eq!(found, [1423.0, 102.0]);
        }
    }

    #[test]
    fn what_f16_does_not_hold_is_named() {
        let input = |x| Tensor::new(Shape::new(1, 1, 1, 2), vec![-65504.0, x]).unwrap();
        assert!(encode(&input(65504.0), Format::Nhwc4Half).is_ok());
        for x in [65505.0, -70000.0, f32::INFINITY, f32::NAN] {
            let error = encode(&input(x), Format::Nhwc4Half).unwrap_err();
            assert!(error.to_string().contains("[0, 0, 0, 1]"), "{error}");
            assert!(encode(&input(x), Format::Nhwc4).is_ok());
        }
    }
}
