//! Winograd's transforms F(m×m, r×r), with the matrices of Toom and Cook for the points 0, pairs ±p, and ∞.
//!
//! With d a tile of n×n input pixels, n = m + r − 1, and g a window of weights, m×m outputs are
//! Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A. Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"; Alam et al.,
//! "Winograd Convolution for Deep Neural Networks: Efficient Point Selection".

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// A matrix, row by row.
pub type Matrix = Vec<Vec<f64>>;

/// Numbers of different output channels, transformed at once.
pub(super) type Lanes = [f64; 16];

/// The error of rounding to f16, in that of rounding to f32: 13 bits less.
const HALF: f64 = (1 << 13) as f64;

/// The transform F(m×m, r×r).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transform {
    outputs: usize,
    window: usize,
}

impl Transform {
    /// F(4×4, 3×3): a quarter of the multiplications.
    pub const F4X3: Self = Self::new(4, 3);
    /// F(2×2, 7×7): a third of the multiplications.
    pub const F2X7: Self = Self::new(2, 7);
    /// F(2×2, 3×3): four ninths of the multiplications, for points in f16.
    pub const F2X3: Self = Self::new(2, 3);
    /// All transforms.
    pub const ALL: [Self; 3] = [Self::F4X3, Self::F2X7, Self::F2X3];

    const fn new(outputs: usize, window: usize) -> Self {
        Self { outputs, window }
    }

    /// Side of an output tile, in pixels; even, so that squares of 2×2 pixels lie in one tile.
    pub const fn outputs(self) -> usize {
        self.outputs
    }

    /// Side of the window of weights.
    pub const fn window(self) -> usize {
        self.window
    }

    /// Side of an input tile, in pixels, and of the grid of points.
    pub const fn side(self) -> usize {
        self.outputs + self.window - 1
    }

    /// Points of a tile.
    pub const fn points(self) -> usize {
        self.side() * self.side()
    }

    /// The points above 0. By [`Transform::amplification`], the best five points err 6 % less, the best seven 1 %.
    const fn pairs(self) -> &'static [f64] {
        match self.side() {
            4 => &[1.0],
            6 => &[FRAC_1_SQRT_2, SQRT_2],
            _ => &[0.5, 1.0, 2.0],
        }
    }

    /// Factor of the points of inputs along each axis. Those of F(2×2, 3×3) are sums of two pixels: at half of it, none is
    /// larger than the largest pixel, so f16 holds it. The points of outputs are as much smaller.
    const fn scale(self) -> f64 {
        match self.side() {
            4 => 0.5,
            _ => 1.0,
        }
    }

    /// All points but ∞, which is the last.
    fn finite(self) -> impl Iterator<Item = f64> {
        let pairs = self.pairs().iter().flat_map(|p| [*p, -*p]);
        std::iter::once(0.0).chain(pairs)
    }

    /// Aᵀ, which makes outputs of points.
    pub fn of_outputs(self) -> Matrix {
        let power = |i: usize| move |point: f64| point.powi(i as i32);
        let row = |i: usize| {
            let infinite = f64::from(u8::from(i + 1 == self.outputs));
            let all = self.finite().map(power(i)).chain([infinite]);
            all.map(|factor| factor / self.scale()).collect()
        };
        (0..self.outputs).map(row).collect()
    }

    /// Bᵀ, which makes points of inputs: the coefficients of the product of x − q for all points q but the row's.
    pub fn of_inputs(self) -> Matrix {
        let row = |own: Option<f64>| {
            let others = self.finite().filter(|q| Some(*q) != own);
            let mut coefficients = others.fold(vec![1.0], |product, q| times(&product, q));
            coefficients.resize(self.side(), 0.0);
            coefficients.iter().map(|x| x * self.scale()).collect()
        };
        self.finite().map(Some).chain([None]).map(row).collect()
    }

    /// G, which makes points of weights.
    pub fn of_weights(self) -> Matrix {
        let row = |point: f64| {
            let others = self.finite().filter(|q| *q != point);
            let scale: f64 = others.map(|q| point - q).product();
            (0..self.window)
                .map(|i| point.powi(i as i32) / scale)
                .collect()
        };
        let mut infinite = vec![0.0; self.window];
        infinite[self.window - 1] = 1.0;
        self.finite().map(row).chain([infinite]).collect()
    }

    /// By how much a relative error of every point's product is larger in the outputs, for independent inputs and
    /// independent weights.
    ///
    /// In one dimension, the product of a point has the mean square |b|² · |g|² with its rows b of Bᵀ and g of G, and an
    /// output adds up products with the squares of its row of Aᵀ. The output itself is a sum of r products of mean
    /// square 1. Both ratios of squares are equal in two dimensions, so that their product's root is one of them.
    pub fn amplification(self) -> f64 {
        let square = |row: &Vec<f64>| row.iter().map(|x| x * x).sum::<f64>();
        let (inputs, weights) = (self.of_inputs(), self.of_weights());
        let both = inputs.iter().zip(&weights);
        let products: Vec<_> = both.map(|(b, g)| square(b) * square(g)).collect();
        let of_row = |row: &Vec<f64>| {
            row.iter()
                .zip(&products)
                .map(|(a, product)| a * a * product)
                .sum::<f64>()
        };
        let all: f64 = self.of_outputs().iter().map(of_row).sum();
        all / (self.outputs * self.window) as f64
    }

    /// Whether results over `channels` input channels err no more than the direct sum may, √K units for its K products,
    /// if products are added up in fours.
    ///
    /// Before the sum, a product of a point is rounded about four times: in both passes over the input, in the weight
    /// and as a product. The sum is one of c / 4 terms, fours of products; a rounding in its middle is half as large as
    /// at its end, and a rounding errs by less than half of its largest error: these count as c / 32 roundings.
    pub fn errs_as_sum(self, channels: usize) -> bool {
        self.errs_as_sum_of(channels, channels as f64 / 32.0)
    }

    /// Whether products have to be added up in fours for it: a sum of c terms counts as c / 8 roundings.
    pub fn sums_in_fours(self, channels: usize) -> bool {
        !self.errs_as_sum_of(channels, channels as f64 / 8.0)
    }

    fn errs_as_sum_of(self, channels: usize, roundings: f64) -> bool {
        let products = channels * self.window * self.window;
        self.amplification().powi(2) * (4.0 + roundings) <= products as f64
    }

    /// Whether results over `channels` input channels err no more than the direct sum may, if inputs, weights, results and
    /// all points are f16 and the sums of products f32.
    ///
    /// Of a whole tensor, the direct sum's weights and results may err by a unit of f16 each, four in squares. Here the
    /// points of inputs, weights and products are rounded, then the result; a rounding errs by less than half of its
    /// largest error.
    ///
    /// A single element may err by K units of f32 of its K products' magnitudes, which are together at least half of K
    /// typical ones. Its roundings add up to √K times a typical product's; four times as much has to fit.
    pub fn errs_as_half_sum(self, channels: usize) -> bool {
        let products = (channels * self.window * self.window) as f64;
        let amplified = self.amplification().powi(2) * 3.0 / 4.0;
        let roundings = HALF * (amplified * products).sqrt();
        amplified + 1.0 / 4.0 <= 4.0 && 4.0 * roundings <= products.powi(2) / 2.0
    }

    /// G·g·Gᵀ of a window of weights, point by point.
    pub(crate) fn weight(self, window: &[f32]) -> impl Iterator<Item = f32> {
        let at = |y, x| f64::from(window[y * self.window + x]);
        let transformed = on_both_sides(&self.of_weights(), self.window, at);
        transformed.into_iter().flatten().map(|value| value as f32)
    }
}

/// The coefficients of a polynomial times x − `root`, the lowest power first.
fn times(polynomial: &[f64], root: f64) -> Vec<f64> {
    let of = |i: usize| polynomial.get(i).copied().unwrap_or(0.0);
    (0..=polynomial.len())
        .map(|i| i.checked_sub(1).map_or(0.0, of) - root * of(i))
        .collect()
}

/// `matrix · values · matrixᵀ`, where `values` is a square of `side` rows.
pub(crate) fn on_both_sides(
    matrix: &[Vec<f64>],
    side: usize,
    values: impl Fn(usize, usize) -> f64,
) -> Matrix {
    let sum = |row: &[f64], value: &dyn Fn(usize) -> f64| -> f64 {
        row.iter()
            .enumerate()
            .map(|(k, factor)| factor * value(k))
            .sum()
    };
    let half: Matrix = matrix
        .iter()
        .map(|row| (0..side).map(|j| sum(row, &|k| values(k, j))).collect())
        .collect();
    let of = |half: &Vec<f64>| matrix.iter().map(|row| sum(row, &|k| half[k])).collect();
    half.iter().map(of).collect()
}

/// G, for the windows of several output channels at once.
pub(super) struct Weights {
    transform: Transform,
    matrix: Matrix,
    /// G·g: a row of points for each column of the window.
    half: Vec<Lanes>,
}

impl Weights {
    pub(super) fn new(transform: Transform) -> Self {
        Self {
            transform,
            matrix: transform.of_weights(),
            half: vec![[0.0; 16]; transform.side() * transform.window],
        }
    }

    /// Writes G·g·Gᵀ of `windows`, whose taps are consecutive, to `points`.
    pub(super) fn transform(&mut self, windows: &[Lanes], points: &mut [Lanes]) {
        let (side, window) = (self.transform.side(), self.transform.window);
        let mut line = [[0.0; 16]; 16];
        for x in 0..window {
            self.line(|y| &windows[y * window + x], &mut line);
            for (point, value) in line[..side].iter().enumerate() {
                self.half[point * window + x] = *value;
            }
        }
        for (row, points) in self
            .half
            .chunks_exact(window)
            .zip(points.chunks_exact_mut(side))
        {
            self.line(|x| &row[x], points);
        }
    }

    /// G times a line of the window. The rows of points ±p have the same even terms, and opposite odd ones.
    fn line<'a>(&self, tap: impl Fn(usize) -> &'a Lanes, points: &mut [Lanes]) {
        let sum = |row: &[f64], first: usize| {
            let mut sum = [0.0; 16];
            for (k, factor) in row.iter().enumerate().skip(first).step_by(2) {
                for (sum, value) in sum.iter_mut().zip(tap(k)) {
                    *sum += factor * value;
                }
            }
            sum
        };
        points[0] = *tap(0);
        let first = self.matrix[0][0];
        points[0].iter_mut().for_each(|value| *value *= first);
        points[self.transform.side() - 1] = *tap(self.transform.window - 1);
        for pair in (1..self.transform.side() - 1).step_by(2) {
            let (even, odd) = (sum(&self.matrix[pair], 0), sum(&self.matrix[pair], 1));
            points[pair] = std::array::from_fn(|i| even[i] + odd[i]);
            points[pair + 1] = std::array::from_fn(|i| even[i] - odd[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random.
    fn number(i: usize) -> f32 {
        ((i.wrapping_mul(2_654_435_761) >> 8) % 1000) as f32 / 500.0 - 1.0
    }

    #[test]
    fn the_matrices_compute_the_convolution() {
        for transform in Transform::ALL {
            let (side, window) = (transform.side(), transform.window());
            let weights: Vec<_> = (0..window * window).map(|i| number(i + 99)).collect();
            let input = |y: usize, x: usize| f64::from(number(y * side + x));
            let factors: Vec<_> = transform.weight(&weights).collect();
            let inputs = on_both_sides(&transform.of_inputs(), side, input);
            let product = |y: usize, x: usize| inputs[y][x] * f64::from(factors[y * side + x]);
            let outputs = on_both_sides(&transform.of_outputs(), side, product);
            for (y, x) in
                (0..transform.outputs()).flat_map(|y| (0..transform.outputs()).map(move |x| (y, x)))
            {
                let taps = (0..window * window).map(|i| (i / window, i % window));
                let sum: f64 = taps
                    .zip(&weights)
                    .map(|((i, j), w)| input(y + i, x + j) * f64::from(*w))
                    .sum();
                assert!(
                    (outputs[y][x] - sum).abs() < 1e-4,
                    "{transform:?} {sum} {}",
                    outputs[y][x]
                );
            }
        }
    }

    #[test]
    fn windows_are_transformed_side_by_side_as_each_alone() {
        for transform in Transform::ALL {
            let taps = transform.window() * transform.window();
            let windows: Vec<Lanes> = (0..taps)
                .map(|k| std::array::from_fn(|o| f64::from(number(o * taps + k))))
                .collect();
            let mut points = vec![[0.0; 16]; transform.points()];
            Weights::new(transform).transform(&windows, &mut points);
            for o in 0..16 {
                let window: Vec<_> = (0..taps).map(|k| number(o * taps + k)).collect();
                for (alone, points) in transform.weight(&window).zip(&points) {
                    assert!((points[o] - f64::from(alone)).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn errors_grow_by_known_factors() {
        for (transform, known) in [
            (Transform::F4X3, 5.02),
            (Transform::F2X7, 24.76),
            (Transform::F2X3, 1.67),
        ] {
            assert!((transform.amplification() - known).abs() < 0.01);
        }
        assert!(
            [32, 64, 4096]
                .iter()
                .all(|c| Transform::F4X3.errs_as_sum(*c))
        );
        assert!(!Transform::F2X7.errs_as_sum(64));
        assert!(
            [96, 512, 4096]
                .iter()
                .all(|c| Transform::F2X7.errs_as_sum(*c))
        );
        // A fifth of the multiplications, but errors that grow too much.
        let of_six = Transform::new(6, 3);
        assert!([64, 512, 4096].iter().all(|c| !of_six.errs_as_sum(*c)));
    }

    #[test]
    fn in_f16_only_small_tiles_of_many_channels_err_as_a_sum() {
        assert!(
            [256, 512, 4096]
                .iter()
                .all(|c| Transform::F2X3.errs_as_half_sum(*c))
        );
        assert!(!Transform::F2X3.errs_as_half_sum(192));
        for transform in [Transform::F4X3, Transform::F2X7] {
            assert!(!transform.errs_as_half_sum(4096), "{transform:?}");
        }
    }

    #[test]
    fn points_of_inputs_are_no_larger_than_the_largest_pixel() {
        for row in Transform::F2X3.of_inputs() {
            assert!(row.iter().map(|x| x.abs()).sum::<f64>() <= 1.0, "{row:?}");
        }
    }
}
