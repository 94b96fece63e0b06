//! Textures that hold a plain array of `vec4<f32>`, for kernels that read texels.

use super::Gpu;
use crate::device_profile::{TEXEL_ROW_BYTES, TEXELS_PER_ROW};
use std::ops::Range;

/// An array in a texture, row by row.
#[derive(Clone, Debug)]
pub(super) struct Texels {
    texture: wgpu::Texture,
    view: wgpu::TextureView,
}

/// A part of an array that is a rectangle in the texture: its origin, its size in texels, and its bytes.
struct Piece {
    origin: wgpu::Origin3d,
    size: wgpu::Extent3d,
    bytes: Range<u64>,
}

impl Texels {
    /// A texture of zeros for an array of `bytes` bytes.
    pub(super) fn new(gpu: &Gpu, label: &str, bytes: u64) -> Self {
        let rows = bytes.div_ceil(TEXEL_ROW_BYTES) as u32;
        let most = gpu.device().limits().max_texture_dimension_2d;
        let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d {
                width: TEXELS_PER_ROW,
                height: height(rows, most),
                depth_or_array_layers: 1,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Float,
            usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        Self { texture, view }
    }

    /// The binding of the whole texture.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::TextureView(&self.view)
    }

    /// Writes `data` to the array from byte `offset` on.
    pub(super) fn write(&self, gpu: &Gpu, offset: u64, data: &[u8]) {
        for piece in pieces(offset, data.len() as u64) {
            let bytes = piece.bytes.start as usize..piece.bytes.end as usize;
            gpu.queue().write_texture(
                self.at(piece.origin),
                &data[bytes],
                wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(TEXEL_ROW_BYTES as u32),
                    rows_per_image: None,
                },
                piece.size,
            );
        }
    }

    /// Copies `bytes` of `buffer` to byte `offset` of the array.
    pub(super) fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        offset: u64,
        buffer: &wgpu::Buffer,
        bytes: &Range<u64>,
    ) {
        for piece in pieces(offset, bytes.end - bytes.start) {
            let from = wgpu::TexelCopyBufferInfo {
                buffer,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: bytes.start + piece.bytes.start,
                    bytes_per_row: Some(TEXEL_ROW_BYTES as u32),
                    rows_per_image: None,
                },
            };
            encoder.copy_buffer_to_texture(from, self.at(piece.origin), piece.size);
        }
    }

    fn at(&self, origin: wgpu::Origin3d) -> wgpu::TexelCopyTextureInfo<'_> {
        wgpu::TexelCopyTextureInfo {
            texture: &self.texture,
            mip_level: 0,
            origin,
            aspect: wgpu::TextureAspect::All,
        }
    }
}

/// The height of a texture of `rows` rows on a device whose textures are at most `most` high: no power of two.
///
/// Mesa's lavapipe compiles a pipeline once more for textures with a side that is a power of two. That takes a quarter of
/// a second, to save a row or two.
fn height(rows: u32, most: u32) -> u32 {
    let other = rows.max(3);
    let other = other + u32::from(other.is_power_of_two());
    if other <= most { other } else { rows }
}

/// The rectangles of `length` bytes from `offset` on: the rest of a row, whole rows, the beginning of a row.
fn pieces(offset: u64, length: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < length {
        let at = offset + done;
        let column = at % TEXEL_ROW_BYTES;
        let left = length - done;
        let (bytes, rows) = match left / TEXEL_ROW_BYTES {
            rows if column == 0 && rows > 0 => (rows * TEXEL_ROW_BYTES, rows),
            _ => (left.min(TEXEL_ROW_BYTES - column), 1),
        };
        pieces.push(Piece {
            origin: wgpu::Origin3d {
                x: (column / 16) as u32,
                y: (at / TEXEL_ROW_BYTES) as u32,
                z: 0,
            },
            size: wgpu::Extent3d {
                width: (bytes / rows / 16) as u32,
                height: rows as u32,
                depth_or_array_layers: 1,
            },
            bytes: done..done + bytes,
        });
        done += bytes;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_height_is_no_power_of_two_unless_the_device_has_no_other() {
        let heights = [1, 2, 3, 4, 5, 63, 64, 65].map(|rows| height(rows, 64));
        assert_eq!(heights, [3, 3, 3, 5, 5, 63, 64, 65]);
    }

    #[test]
    fn pieces_are_rectangles_that_hold_every_texel_once_and_in_order() {
        let row = TEXEL_ROW_BYTES;
        for (offset, length) in [
            (0, 16),
            (0, row),
            (16, 3 * row),
            (row - 16, 32),
            (5 * row, 2 * row + 48),
            (7 * row + 160, 4 * row - 160),
        ] {
            let mut next = offset;
            for piece in pieces(offset, length) {
                let (origin, size) = (piece.origin, piece.size);
                assert_eq!(piece.bytes.start, next - offset);
                assert_eq!(u64::from(origin.y) * row + u64::from(origin.x) * 16, next);
                assert!(origin.x + size.width <= TEXELS_PER_ROW);
                assert!(size.height == 1 || size.width == TEXELS_PER_ROW);
                next += u64::from(size.width) * 16 * u64::from(size.height);
                assert_eq!(piece.bytes.end, next - offset);
            }
            assert_eq!(next, offset + length);
        }
    }
}
