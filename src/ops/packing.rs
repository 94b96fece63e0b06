//! How weights are laid out for the kernels, once, at load.

pub mod winograd;

use super::kernel::Packing;
use crate::error::Result;
use crate::tensor::Shape;
use std::borrow::Cow;
use std::ops::Range;
use winograd::{Lanes, Transform, Weights};

/// Elements that are packed at a time: 16 KiB, half of a usual first-level cache.
const CACHED_ELEMENTS: usize = 4096;

/// A source of a parameter's rows. Row i is all elements whose first index is i.
pub trait RowSource: Sync {
    /// The elements of row `i`.
    ///
    /// # Errors
    /// `ModelFile` if an element is not finite.
    fn row(&self, i: usize) -> Result<Cow<'_, [f32]>>;
}

impl Packing {
    /// Whether the parameter is bound as a whole and always in `f32`: it has no tiles of output channels.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Vector | Self::Pixels)
    }

    /// Output channels in a tile.
    pub const fn tile_channels(self) -> usize {
        match self {
            Self::Conv { tile, .. }
            | Self::ConvTerms { tile }
            | Self::Winograd { tile, .. }
            | Self::WinogradTerms { tile, .. } => tile,
            Self::ConvTranspose { .. } | Self::Diagonal | Self::Vector | Self::Pixels => 4,
        }
    }

    /// Tiles in a parameter of `shape`; a whole parameter counts as one.
    pub fn tiles(self, shape: Shape) -> usize {
        match self {
            Self::Conv { tile, .. }
            | Self::ConvTerms { tile }
            | Self::Winograd { tile, .. }
            | Self::WinogradTerms { tile, .. } => shape.n.div_ceil(tile),
            Self::ConvTranspose { groups } => (shape.c * groups).div_ceil(4),
            Self::Diagonal => shape.c.div_ceil(4),
            Self::Vector | Self::Pixels => 1,
        }
    }

    /// Bytes of one tile of a parameter of `shape`.
    pub fn tile_bytes(self, shape: Shape) -> u64 {
        4 * self.tile_elements(shape) as u64
    }

    fn tile_elements(self, shape: Shape) -> usize {
        match self {
            Self::Conv { tile, .. } | Self::ConvTerms { tile } => {
                self.inputs(shape) * shape.h * shape.w * tile
            }
            Self::Winograd { tile, transform } | Self::WinogradTerms { tile, transform } => {
                self.inputs(shape) * transform.points() * tile
            }
            Self::ConvTranspose { .. } | Self::Diagonal => {
                self.inputs(shape) * shape.h * shape.w * 4
            }
            Self::Vector => 4 * shape.n.div_ceil(4),
            Self::Pixels => 4 * shape.pixels() * shape.c4(),
        }
    }

    /// Input channels as packed.
    fn inputs(self, shape: Shape) -> usize {
        match self {
            Self::Conv {
                pad_input: true, ..
            }
            | Self::ConvTerms { .. }
            | Self::Winograd { .. }
            | Self::WinogradTerms { .. } => 4 * shape.c4(),
            Self::Conv { .. } => shape.c,
            Self::ConvTranspose { groups: 1 } => 4 * shape.n.div_ceil(4),
            Self::ConvTranspose { groups } => shape.n / groups,
            Self::Diagonal | Self::Vector | Self::Pixels => 1,
        }
    }

    /// The rows of a parameter of `shape` that are packed into `tiles`.
    pub fn rows(self, shape: Shape, tiles: &Range<usize>) -> Range<usize> {
        match self {
            Self::Conv { tile, .. }
            | Self::ConvTerms { tile }
            | Self::Winograd { tile, .. }
            | Self::WinogradTerms { tile, .. } => {
                (tiles.start * tile).min(shape.n)..(tiles.end * tile).min(shape.n)
            }
            Self::ConvTranspose { .. } | Self::Diagonal | Self::Vector | Self::Pixels => 0..shape.n,
        }
    }

    /// Packs `tiles` of a parameter of `shape` into `packed`, which has exactly their elements.
    ///
    /// # Errors
    /// As [`RowSource::row`].
    pub fn pack(
        self,
        shape: Shape,
        rows: &dyn RowSource,
        tiles: Range<usize>,
        packed: &mut [f32],
    ) -> Result<()> {
        match self {
            Self::Vector => {
                packed.fill(0.0);
                for (i, to) in packed.iter_mut().enumerate().take(shape.n) {
                    *to = rows.row(i)?[0];
                }
                Ok(())
            }
            Self::Pixels => {
                packed.fill(0.0);
                pack_pixels(shape, rows, packed)
            }
            Self::Conv { tile, .. } => {
                crate::parallel::try_chunks(packed, self.tile_elements(shape), |i, packed| {
                    self.pack_conv_tile(shape, rows, (tiles.start + i) * tile, packed)
                })
            }
            Self::ConvTerms { tile } => {
                crate::parallel::try_chunks(packed, self.tile_elements(shape), |i, packed| {
                    self.pack_terms_tile(shape, rows, (tiles.start + i) * tile, packed)
                })
            }
            Self::Winograd { tile, transform } | Self::WinogradTerms { tile, transform } => {
                crate::parallel::try_chunks(packed, self.tile_elements(shape), |i, packed| {
                    let channels =
                        (tiles.start + i) * tile..shape.n.min((tiles.start + i + 1) * tile);
                    self.pack_winograd_tile(shape, rows, channels, transform, packed)
                })
            }
            Self::Diagonal => {
                packed.fill(0.0);
                self.pack_diagonal(shape, rows, tiles, packed)
            }
            Self::ConvTranspose { groups } => {
                packed.fill(0.0);
                self.pack_transposed(shape, rows, tiles, groups, packed)
            }
        }
    }

    /// Packs the tile that begins with row `first`.
    fn pack_conv_tile(
        self,
        shape: Shape,
        rows: &dyn RowSource,
        first: usize,
        packed: &mut [f32],
    ) -> Result<()> {
        let (inputs, taps, tile) = (self.inputs(shape), shape.h * shape.w, self.tile_channels());
        let channels = first..shape.n.min(first + tile);
        if channels.len() < tile || shape.c < inputs {
            packed.fill(0.0);
        }
        let sources: Vec<_> = channels.map(|o| rows.row(o)).collect::<Result<_>>()?;
        // Loops follow the order of writes: reads of a large layer have strides at which cache lines evict each
        // other. Few enough input channels at a time keep the rows read in the cache.
        let at_once = (CACHED_ELEMENTS / (taps * tile)).max(1);
        for begin in (0..shape.c).step_by(at_once) {
            let end = shape.c.min(begin + at_once);
            for tap in 0..taps {
                let run = &mut packed[(tap * inputs + begin) * tile..(tap * inputs + end) * tile];
                for (i, to) in (begin..end).zip(run.chunks_exact_mut(tile)) {
                    for (to, source) in to.iter_mut().zip(&sources) {
                        *to = source[i * taps + tap];
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Packing::pack_conv_tile`], with the terms of a sum side by side, by fours.
    fn pack_terms_tile(
        self,
        shape: Shape,
        rows: &dyn RowSource,
        first: usize,
        packed: &mut [f32],
    ) -> Result<()> {
        let (inputs, taps, tile) = (self.inputs(shape), shape.h * shape.w, self.tile_channels());
        let channels = first..shape.n.min(first + tile);
        if channels.len() < tile || shape.c < inputs {
            packed.fill(0.0);
        }
        let sources: Vec<_> = channels.map(|o| rows.row(o)).collect::<Result<_>>()?;
        let at_once = (CACHED_ELEMENTS / (taps * tile)).next_multiple_of(4).max(4);
        for begin in (0..shape.c).step_by(at_once) {
            let end = inputs.min(begin + at_once);
            for tap in 0..taps {
                let run = &mut packed[(tap * inputs + begin) * tile..(tap * inputs + end) * tile];
                for (group, to) in (begin..).step_by(4).zip(run.chunks_exact_mut(4 * tile)) {
                    for (to, source) in to.chunks_exact_mut(4).zip(&sources) {
                        for (to, i) in to.iter_mut().zip(group..shape.c) {
                            *to = source[i * taps + tap];
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the factor of input channel `i` and output channel `o` of the tile lies, from the first of its point on.
    const fn in_point(self, i: usize, o: usize) -> usize {
        match self {
            Self::WinogradTerms { tile, .. } => (i / 4 * tile + o) * 4 + i % 4,
            _ => i * self.tile_channels() + o,
        }
    }

    /// Transforms and packs the tile of `channels`.
    fn pack_winograd_tile(
        self,
        shape: Shape,
        rows: &dyn RowSource,
        channels: Range<usize>,
        transform: Transform,
        packed: &mut [f32],
    ) -> Result<()> {
        let (inputs, tile, taps) = (self.inputs(shape), self.tile_channels(), shape.h * shape.w);
        packed.fill(0.0);
        let sources: Vec<_> = channels.map(|o| rows.row(o)).collect::<Result<_>>()?;
        let mut weights = Weights::new(transform);
        let mut windows: Vec<Lanes> = vec![[0.0; 16]; taps];
        let mut points: Vec<Lanes> = vec![[0.0; 16]; transform.points()];
        for i in 0..shape.c {
            for (group, sources) in sources.chunks(16).enumerate() {
                for (o, source) in sources.iter().enumerate() {
                    for (window, tap) in windows.iter_mut().zip(&source[i * taps..(i + 1) * taps]) {
                        window[o] = f64::from(*tap);
                    }
                }
                weights.transform(&windows, &mut points);
                for (values, packed) in points.iter().zip(packed.chunks_exact_mut(inputs * tile)) {
                    for (o, value) in values[..sources.len()].iter().enumerate() {
                        packed[self.in_point(i, 16 * group + o)] = *value as f32;
                    }
                }
            }
        }
        Ok(())
    }

    fn pack_diagonal(
        self,
        shape: Shape,
        rows: &dyn RowSource,
        tiles: Range<usize>,
        packed: &mut [f32],
    ) -> Result<()> {
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
        Ok(())
    }

    fn pack_transposed(
        self,
        shape: Shape,
        rows: &dyn RowSource,
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

/// Packs all of a parameter as an activation lies in memory.
fn pack_pixels(shape: Shape, rows: &dyn RowSource, packed: &mut [f32]) -> Result<()> {
    let (pixels, channels) = (shape.h * shape.w, 4 * shape.c4());
    for (n, image) in (0..shape.n).zip(packed.chunks_exact_mut((pixels * channels).max(1))) {
        for (i, value) in rows.row(n)?.iter().enumerate() {
            image[i % pixels * channels + i / pixels] = *value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(packing: Packing, rows: &Counting, tiles: Range<usize>) -> Vec<f32> {
        // NaN shows elements that are not written.
        let mut packed = vec![f32::NAN; tiles.len() * packing.tile_elements(rows.0)];
        packing.pack(rows.0, rows, tiles, &mut packed).unwrap();
        packed
    }

    /// Element i is i + 1, so that padding shows.
    struct Counting(Shape);

    impl RowSource for Counting {
        fn row(&self, i: usize) -> Result<Cow<'_, [f32]>> {
            let size = self.0.elements() / self.0.n;
            Ok((0..size).map(|j| (i * size + j + 1) as f32).collect())
        }
    }

    /// `at` gives the place of an output channel, a tap and an input channel.
    fn check_convolution(packing: Packing, at: impl Fn(usize, usize, usize) -> usize) {
        let shape = Shape::new(10, 3, 2, 3);
        let rows = Counting(shape);
        let all = packed(packing, &rows, 0..packing.tiles(shape));
        assert_eq!(all.len() as u64 * 4, 2 * packing.tile_bytes(shape));
        let mut seen = 0;
        for (o, tap) in (0..10).flat_map(|o| (0..6).map(move |tap| (o, tap))) {
            for i in 0..3 {
                assert_eq!(all[at(o, tap, i)], ((o * 3 + i) * 6 + tap + 1) as f32);
                seen += 1;
            }
        }
        assert_eq!(all.iter().filter(|v| **v != 0.0).count(), seen);
        let second = packed(packing, &rows, 1..2);
        assert_eq!(second, all[all.len() / 2..]);
    }

    #[test]
    fn every_weight_of_a_convolution_is_where_the_kernel_looks() {
        let tile = 8;
        let packing = Packing::Conv {
            tile,
            pad_input: true,
        };
        check_convolution(packing, |o, tap, i| {
            ((o / tile * 6 + tap) * 4 + i) * tile + o % tile
        });
        check_convolution(Packing::ConvTerms { tile }, |o, tap, i| {
            ((o / tile * 6 + tap) * tile + o % tile) * 4 + i
        });
    }

    /// In runs of a few groups of channels, as many as are packed at once.
    #[test]
    fn terms_of_many_channels_are_packed_in_groups_of_four() {
        let shape = Shape::new(5, 70, 3, 3);
        let (tile, inputs) = (32, 72);
        let packing = Packing::ConvTerms { tile };
        let all = packed(packing, &Counting(shape), 0..1);
        for (o, i) in (0..5).flat_map(|o| (0..70).map(move |i| (o, i))) {
            for tap in 0..9 {
                let at = ((tap * inputs + i / 4 * 4) * tile) + o * 4 + i % 4;
                assert_eq!(all[at], ((o * 70 + i) * 9 + tap + 1) as f32);
            }
        }
        assert_eq!(all.iter().filter(|v| **v != 0.0).count(), shape.elements());
    }

    /// The same factors, whether channels or terms lie side by side, for a second tile that is not full.
    #[test]
    fn terms_of_points_lie_in_groups_of_four() {
        let (shape, transform, tile) = (Shape::new(28, 6, 3, 3), Transform::F2X3, 20);
        let rows = Counting(shape);
        let plain = packed(Packing::Winograd { tile, transform }, &rows, 0..2);
        let terms = packed(Packing::WinogradTerms { tile, transform }, &rows, 0..2);
        assert_eq!(plain.len(), terms.len());
        for (at, value) in plain.iter().enumerate() {
            let (rest, o) = (at / tile, at % tile);
            let (block, i) = (rest / 8, rest % 8);
            assert_eq!(terms[((block * 2 + i / 4) * tile + o) * 4 + i % 4], *value);
        }
        let filled = |all: &[f32]| all.iter().filter(|value| **value != 0.0).count();
        assert!(filled(&plain) > 28 * 6 * 12 && filled(&terms) == filled(&plain));
    }

    #[test]
    fn pixels_lie_as_an_activation_does() {
        let shape = Shape::new(2, 5, 2, 3);
        let all = packed(Packing::Pixels, &Counting(shape), 0..1);
        assert_eq!(
            all.len() as u64 * 4,
            crate::ops::kernel::Format::Nhwc4.bytes(shape)
        );
        for (n, c, y, x) in (0..2).flat_map(|n| {
            (0..5).flat_map(move |c| (0..2).flat_map(move |y| (0..3).map(move |x| (n, c, y, x))))
        }) {
            let at = ((n * 2 + y) * 3 + x) * 8 + c;
            assert_eq!(all[at], (((n * 5 + c) * 2 + y) * 3 + x + 1) as f32);
        }
        assert_eq!(all.iter().filter(|v| **v != 0.0).count(), shape.elements());
    }

    #[test]
    fn every_weight_of_a_grouped_transposed_convolution_is_where_the_kernel_looks() {
        let (shape, groups) = (Shape::new(6, 3, 2, 2), 2);
        let packing = Packing::ConvTranspose { groups };
        let all = packed(packing, &Counting(shape), 0..packing.tiles(shape));
        for i in 0..6 {
            for (o, tap) in (0..3).flat_map(|o| (0..4).map(move |t| (o, t))) {
                let out = i / 3 * 3 + o;
                let at = ((out / 4 * 4 + tap) * 3 + i % 3) * 4 + out % 4;
                assert_eq!(all[at], ((i * 3 + o) * 4 + tap + 1) as f32);
            }
        }
    }
}
