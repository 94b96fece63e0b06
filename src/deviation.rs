//! How far a tensor from a device may be from the reference, and how far it is. [`compare`](crate::compare) gives the
//! reasons.

use crate::ops::numerics::{Jumps, UNIT};
use crate::ops::{Binarize, Op, narrow};
use crate::tensor::Tensor;

/// The difference of a tensor from the reference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Largest difference of an element; infinite if one is not finite on the device.
    pub max_abs_error: f64,
    /// ‖device − reference‖ / ‖reference‖.
    pub relative_error: f64,
    /// `[n, c, y, x]` of the element with the largest difference.
    pub worst: [usize; 4],
}

/// The difference of the labels from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReport {
    /// All pixels.
    pub pixels: usize,
    /// Pixels with the reference's label.
    pub equal: usize,
    /// Pixels with another label, whose two best scores, or score and threshold, are closer than the margin.
    pub within_margin: usize,
    /// The margin, in units of the scores.
    pub margin: f64,
}

impl LabelReport {
    /// Labels that differ outside the margin.
    pub fn outside_margin(&self) -> usize {
        self.pixels - self.equal - self.within_margin
    }
}

/// The relative error of rounding each element of `value` to f16; in `f32`, where it counts with the sums, 0.
pub(crate) fn rounding(half: bool, value: &Tensor) -> f64 {
    match (half, value.root_mean_square()) {
        (false, _) => 0.0,
        (true, size) if size > 0.0 => narrow::UNIT + narrow::LEAST_STEP / 2.0 / size,
        (true, _) => narrow::UNIT,
    }
}

/// The bound of a node's relative error, from the largest bound of the nodes before it, `of_inputs`.
pub(crate) fn bound(
    op: &dyn Op,
    inputs: &[&Tensor],
    value: &Tensor,
    of_inputs: f64,
    half: bool,
) -> f64 {
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
    let numerics = op.numerics(&shapes);
    // There is none at a jump: `compare` goes on with the device's side, and other callers have the device's inputs.
    if matches!(numerics.jumps, Jumps::Steps) {
        return 0.0;
    }
    let of_weight = |i: usize| rounding(half, inputs[i]);
    let of_weights = numerics.weight.map_or(0.0, of_weight);
    let own = (numerics.reduction_length as f64).sqrt() * UNIT + of_weights;
    // Values that an op passes on were rounded before.
    let of_result = match numerics.is_exact() {
        true => 0.0,
        false => rounding(half, value),
    };
    let amplified = op.noise(inputs) / value.root_mean_square();
    let amplified = if amplified.is_finite() {
        amplified.max(1.0)
    } else {
        1.0
    };
    amplified * (of_inputs + own) + of_result
}

/// How far `found` is from `expected`.
pub(crate) fn difference(expected: &Tensor, found: &Tensor) -> Difference {
    let (mut squares, mut norm, mut max, mut worst) = (0.0, 0.0, 0.0, 0);
    for (i, (e, f)) in expected.data().iter().zip(found.data()).enumerate() {
        let (e, f) = (f64::from(*e), f64::from(*f));
        let difference = (e - f).abs();
        let difference = if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        };
        if difference > max {
            (max, worst) = (difference, i);
        }
        squares += difference * difference;
        norm += e * e;
    }
    let relative_error = if squares == 0.0 {
        0.0
    } else {
        (squares / norm).sqrt()
    };
    Difference {
        max_abs_error: max,
        relative_error,
        worst: expected.position(worst),
    }
}

/// The largest magnitude of `tensor`.
pub(crate) fn largest(tensor: &Tensor) -> f32 {
    tensor.data().iter().fold(0.0, |max, x| x.abs().max(max))
}

/// Compares labels by the margin rule. Argmax compares two scores, both of which err; `binary` labels compare one with
/// a threshold.
pub(crate) fn labels(
    scores: &Tensor,
    expected: &Tensor,
    found: &Tensor,
    bound: f64,
    binary: Option<&Binarize>,
) -> LabelReport {
    let shape = scores.shape();
    let errs = if binary.is_some() { 1.0 } else { 2.0 };
    let margin = errs * bound * f64::from(largest(scores));
    let (mut equal, mut within_margin) = (0, 0);
    for (i, (e, f)) in expected.data().iter().zip(found.data()).enumerate() {
        if e == f {
            equal += 1;
            continue;
        }
        let [n, _, y, x] = expected.position(i);
        let score = |label: f32| match (label as usize, binary) {
            (0, Some(Binarize { threshold })) => f64::from(*threshold),
            (1, Some(_)) => f64::from(scores.at(n, 0, y, x)),
            (class, None) if class < shape.c => f64::from(scores.at(n, class, y, x)),
            _ => f64::NAN,
        };
        within_margin += usize::from(score(*e) - score(*f) <= margin);
    }
    LabelReport {
        pixels: expected.shape().elements(),
        equal,
        within_margin,
        margin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(Shape::new(1, 1, 1, values.len()), values.to_vec()).unwrap()
    }

    #[test]
    fn a_nan_on_the_device_is_an_infinite_error() {
        let report = difference(&row(&[1.0, 2.0]), &row(&[1.0, f32::NAN]));
        assert_eq!(report.worst, [0, 0, 0, 1]);
        assert!(report.max_abs_error.is_infinite() && report.relative_error.is_infinite());
    }

    #[test]
    fn one_wrong_element_is_named() {
        let report = difference(&row(&[1.0, -2.0, 3.0]), &row(&[1.0, -2.5, 3.0]));
        assert_eq!((report.max_abs_error, report.worst), (0.5, [0, 0, 0, 1]));
        assert!((report.relative_error - 0.5 / 14f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_label_may_differ_only_within_the_margin() {
        let scores = Tensor::new(Shape::new(1, 2, 1, 2), vec![1.0, 1.0, 0.999, 0.5]).unwrap();
        let report = labels(&scores, &row(&[0.0, 0.0]), &row(&[1.0, 1.0]), 0.001, None);
        assert_eq!(
            (report.equal, report.within_margin, report.outside_margin()),
            (0, 1, 1)
        );
    }

    #[test]
    fn a_binary_label_may_differ_only_near_the_threshold() {
        let threshold = Binarize { threshold: 0.5 };
        let scores = row(&[0.4995, 0.498, 0.502, 1.0, 0.0]);
        let expected = threshold.reference(&[&scores]).unwrap();
        assert_eq!(expected.data(), [0.0, 0.0, 1.0, 1.0, 0.0]);
        let found = row(&[1.0, 1.0, 0.0, 1.0, 255.0]);
        let report = labels(&scores, &expected, &found, 0.001, Some(&threshold));
        assert_eq!(
            (report.equal, report.within_margin, report.outside_margin()),
            (1, 1, 3)
        );
    }
}
