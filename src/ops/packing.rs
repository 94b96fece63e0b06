//! How weights are laid out for the kernels, once, at load.

use super::conv2d::winograd;
use super::kernel::Packing;
use crate::error::Result;
use crate::tensor::Shape;
use std::borrow::Cow;
use std::ops::Range;

/// Row i of a parameter: all its elements whose first index is i.
pub trait Rows: Sync {
    /// The elements of row `i`.
    ///
    /// # Errors
    /// `ModelFile` if an element is not finite.
    fn row(&self, i: usize) -> Result<Cow<'_, [f32]>>;
}

impl Packing {
    /// Output channels in a tile.
    pub fn tile_channels(self) -> usize {
        match self {
            Self::Conv { tile, .. } | Self::Winograd { tile } => tile,
            Self::ConvTranspose { .. } | Self::Diagonal | Self::Vector => 4,
        }
    }

    /// Tiles in a parameter of `shape`; a vector is one.
    pub fn tiles(self, shape: Shape) -> usize {
        match self {
            Self::Conv { tile, .. } | Self::Winograd { tile } => shape.n.div_ceil(tile),
            Self::ConvTranspose { groups } => (shape.c * groups).div_ceil(4),
            Self::Diagonal => shape.c.div_ceil(4),
            Self::Vector => 1,
        }
    }

    /// Bytes of one tile of a parameter of `shape`.
    pub fn tile_bytes(self, shape: Shape) -> u64 {
        4 * self.tile_elements(shape) as u64
    }

    fn tile_elements(self, shape: Shape) -> usize {
        match self {
            Self::Conv { tile, .. } => self.inputs(shape) * shape.h * shape.w * tile,
            Self::Winograd { tile } => self.inputs(shape) * 36 * tile,
            Self::ConvTranspose { .. } | Self::Diagonal => {
                self.inputs(shape) * shape.h * shape.w * 4
            }
            Self::Vector => 4 * shape.n.div_ceil(4),
        }
    }

    /// Input channels as packed.
    fn inputs(self, shape: Shape) -> usize {
        match self {
            Self::Conv {
                pad_input: true, ..
            }
            | Self::Winograd { .. } => 4 * shape.c4(),
            Self::Conv { .. } => shape.c,
            Self::ConvTranspose { groups: 1 } => 4 * shape.n.div_ceil(4),
            Self::ConvTranspose { groups } => shape.n / groups,
            Self::Diagonal | Self::Vector => 1,
        }
    }

    /// Packs `tiles` of a parameter of `shape`.
    ///
    /// # Errors
    /// What `rows` says of an element that cannot be used.
    pub fn pack(self, shape: Shape, rows: &dyn Rows, tiles: Range<usize>) -> Result<Vec<f32>> {
        let mut packed = vec![0.0; tiles.len() * self.tile_elements(shape)];
        match self {
            Self::Vector => {
                for (i, to) in packed.iter_mut().enumerate().take(shape.n) {
                    *to = rows.row(i)?[0];
                }
            }
            Self::Conv { tile, .. } | Self::Winograd { tile } => {
                self.pack_conv(shape, rows, tiles, tile, &mut packed)?;
            }
            Self::Diagonal => {
                let taps = shape.h * shape.w;
                for i in tiles.start * 4..shape.n.min(tiles.end * 4) {
                    let row = rows.row(i)?;
                    let diagonal = row.chunks_exact(taps).nth(i).unwrap_or_default();
                    let in_shard = i - tiles.start * 4;
                    let first = in_shard / 4 * self.tile_elements(shape) + in_shard % 4;
                    for (tap, value) in diagonal.iter().enumerate() {
                        packed[first + tap * 4] = *value;
                    }
                }
            }
            Self::ConvTranspose { groups } => {
                self.pack_transposed(shape, rows, tiles, groups, &mut packed)?;
            }
        }
        Ok(packed)
    }

    fn pack_conv(
        self,
        shape: Shape,
        rows: &dyn Rows,
        tiles: Range<usize>,
        tile: usize,
        packed: &mut [f32],
    ) -> Result<()> {
        let (inputs, taps) = (self.inputs(shape), shape.h * shape.w);
        crate::parallel::try_chunks(packed, self.tile_elements(shape), |i, packed| {
            let first = (tiles.start + i) * tile;
            for o in first..shape.n.min(first + tile) {
                let row = rows.row(o)?;
                for (i, channel) in row.chunks_exact(taps).enumerate() {
                    let mut put = |tap: usize, value: f32| {
                        packed[(tap * inputs + i) * tile + o - first] = value;
                    };
                    match self {
                        Self::Winograd { .. } => winograd::transform_weight(channel)
                            .enumerate()
                            .for_each(|(point, value)| put(point, value)),
                        _ => (0..).zip(channel).for_each(|(tap, value)| put(tap, *value)),
                    }
                }
            }
            Ok(())
        })
    }

    fn pack_transposed(
        self,
        shape: Shape,
        rows: &dyn Rows,
        tiles: Range<usize>,
        groups: usize,
        packed: &mut [f32],
    ) -> Result<()> {
        let (inputs, taps) = (self.inputs(shape), shape.h * shape.w);
        let outputs = tiles.start * 4..(tiles.end * 4).min(shape.c * groups);
        for i in 0..shape.n {
            let row = rows.row(i)?;
            let (group, in_group) = (i / (shape.n / groups), i % (shape.n / groups));
            for (o, channel) in row.chunks_exact(taps).enumerate() {
                let o = group * shape.c + o;
                if !outputs.contains(&o) {
                    continue;
                }
                let in_shard = o - outputs.start;
                let first = in_shard / 4 * self.tile_elements(shape) + in_shard % 4;
                for (tap, value) in channel.iter().enumerate() {
                    packed[first + (tap * inputs + in_group) * 4] = *value;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element i is i + 1, so that padding shows.
    struct Counting(Shape);

    impl Rows for Counting {
        fn row(&self, i: usize) -> Result<Cow<'_, [f32]>> {
            let size = self.0.elements() / self.0.n;
            Ok((0..size).map(|j| (i * size + j + 1) as f32).collect())
        }
    }

    #[test]
    fn every_weight_of_a_convolution_is_where_the_kernel_looks() {
        let shape = Shape::new(10, 3, 2, 3);
        let (tile, inputs) = (8, 4);
        let packing = Packing::Conv {
            tile,
            pad_input: true,
        };
        let rows = Counting(shape);
        let all = packing.pack(shape, &rows, 0..packing.tiles(shape)).unwrap();
        assert_eq!(all.len() as u64 * 4, 2 * packing.tile_bytes(shape));
        let mut seen = 0;
        for o in 0..10 {
            for (ky, kx, i) in
                (0..2).flat_map(|y| (0..3).flat_map(move |x| (0..3).map(move |i| (y, x, i))))
            {
                let at = (((o / tile * 2 + ky) * 3 + kx) * inputs + i) * tile + o % tile;
                assert_eq!(all[at], (((o * 3 + i) * 2 + ky) * 3 + kx + 1) as f32);
                seen += 1;
            }
        }
        assert_eq!(all.iter().filter(|v| **v != 0.0).count(), seen);
        let second = packing.pack(shape, &rows, 1..2).unwrap();
        assert_eq!(second, all[all.len() / 2..]);
    }

    #[test]
    fn every_weight_of_a_grouped_transposed_convolution_is_where_the_kernel_looks() {
        let (shape, groups) = (Shape::new(6, 3, 2, 2), 2);
        let packing = Packing::ConvTranspose { groups };
        let all = packing
            .pack(shape, &Counting(shape), 0..packing.tiles(shape))
            .unwrap();
        for i in 0..6 {
            for (o, tap) in (0..3).flat_map(|o| (0..4).map(move |t| (o, t))) {
                let out = i / 3 * 3 + o;
                let at = ((out / 4 * 4 + tap) * 3 + i % 3) * 4 + out % 4;
                assert_eq!(all[at], ((i * 3 + o) * 4 + tap + 1) as f32);
            }
        }
    }

    #[test]
    fn the_diagonal_of_a_transposed_convolution_is_where_the_kernel_looks() {
        let shape = Shape::new(6, 6, 2, 3);
        let packing = Packing::Diagonal;
        let all = packing.pack(shape, &Counting(shape), 0..2).unwrap();
        assert_eq!(all.len() as u64 * 4, 2 * packing.tile_bytes(shape));
        for (i, tap) in (0..6).flat_map(|i| (0..6).map(move |tap| (i, tap))) {
            let at = (i / 4 * 6 + tap) * 4 + i % 4;
            assert_eq!(all[at], ((i * 6 + i) * 6 + tap + 1) as f32);
        }
        assert_eq!(all.iter().filter(|v| **v != 0.0).count(), 36);
        let second = packing.pack(shape, &Counting(shape), 1..2).unwrap();
        assert_eq!(second, all[all.len() / 2..]);
    }
}
