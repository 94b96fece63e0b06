//! The matrices of Winograd's F(4×4, 3×3): those of Toom and Cook for the points 0, ±√½, ±√2, ∞, whose rounding errors
//! are half those of the usual 0, ±1, ±2, ∞.
//!
//! With d a tile of 6×6 input pixels and g a window of weights, 4×4 outputs are Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A.
//! Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"; Alam et al., "Winograd
//! Convolution for Deep Neural Networks: Efficient Point Selection".

use std::f64::consts::{FRAC_1_SQRT_2 as HALF, SQRT_2 as TWO};

/// Side of an output tile, in pixels.
pub(crate) const OUTPUTS: usize = 4;
/// Side of an input tile, in pixels, and of the grid of points.
pub(crate) const SIDE: usize = 6;

/// Aᵀ.
pub(crate) const A: [[f64; SIDE]; OUTPUTS] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, HALF, -HALF, TWO, -TWO, 0.0],
    [0.0, 0.5, 0.5, 2.0, 2.0, 0.0],
    [0.0, 0.5 * HALF, -0.5 * HALF, 2.0 * TWO, -2.0 * TWO, 1.0],
];
/// Bᵀ.
pub(crate) const B: [[f64; SIDE]; SIDE] = [
    [1.0, 0.0, -2.5, 0.0, 1.0, 0.0],
    [0.0, -TWO, -2.0, HALF, 1.0, 0.0],
    [0.0, TWO, -2.0, -HALF, 1.0, 0.0],
    [0.0, -HALF, -0.5, TWO, 1.0, 0.0],
    [0.0, HALF, -0.5, -TWO, 1.0, 0.0],
    [0.0, 1.0, 0.0, -2.5, 0.0, 1.0],
];
/// G.
const G: [[f64; 3]; SIDE] = [
    [1.0, 0.0, 0.0],
    [-2.0 / 3.0, -2.0 / 3.0 * HALF, -1.0 / 3.0],
    [-2.0 / 3.0, 2.0 / 3.0 * HALF, -1.0 / 3.0],
    [1.0 / 6.0, TWO / 6.0, 1.0 / 3.0],
    [1.0 / 6.0, -TWO / 6.0, 1.0 / 3.0],
    [0.0, 0.0, 1.0],
];

/// `matrix · values · matrixᵀ`, where `values` is a square, row by row.
pub(crate) fn on_both_sides<const N: usize, const M: usize>(
    matrix: &[[f64; N]; M],
    values: impl Fn(usize, usize) -> f64,
) -> [[f64; M]; M] {
    let half: [[f64; N]; M] = std::array::from_fn(|i| {
        std::array::from_fn(|j| (0..N).map(|k| matrix[i][k] * values(k, j)).sum())
    });
    std::array::from_fn(|i| {
        std::array::from_fn(|j| (0..N).map(|k| half[i][k] * matrix[j][k]).sum())
    })
}

/// G·g·Gᵀ of a window of 3×3 weights, point by point.
pub(crate) fn transform_weight(window: &[f32]) -> impl Iterator<Item = f32> {
    let transformed = on_both_sides(&G, |y, x| f64::from(window[3 * y + x]));
    transformed.into_iter().flatten().map(|value| value as f32)
}
