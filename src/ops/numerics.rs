//! What an op does to the precision of numbers, in one place for tests, [`compare`](crate::compare) and the tuner.
//!
//! Bounds follow from the accuracy that WGSL requires: sums, products and differences are rounded correctly, a
//! division errs by 2.5 ULP, `exp(x)` by 3 + 2·|x|, `inverseSqrt` by 2. A *unit* is the relative error of one rounding,
//! half the distance from 1 to the next number; one ULP is at most two units.

use super::Op;
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// Half the distance from 1 to the next `f32`: the relative error of one rounding.
pub const UNIT: f64 = 1.0 / (1u32 << 24) as f64;
/// The smallest normal `f32`: devices may flush smaller values to zero.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// What an op does to the precision of numbers.
pub struct Numerics<'a> {
    /// The reduction length: products or values added up for one element; 1 if the op adds nothing up.
    pub reduction_length: usize,
    /// The error bound of an element computed in `f32`.
    pub error: ErrorBound<'a>,
    /// Position of the weight among the inputs; kernels keep it in `f16` where they keep activations in `f16`.
    pub weight: Option<usize>,
    /// Whether the output jumps.
    pub jumps: Jumps<'a>,
}

/// Whether the output of an op jumps: at an edge, it changes by more than a multiple of its input's change.
pub enum Jumps<'a> {
    /// No.
    No,
    /// Yes, and between jumps it is constant: comparisons, rounding, indices.
    Steps,
    /// Yes, and between jumps it passes on an input or a number. This function of the inputs gives the number of each
    /// element's branch.
    Branches(Branches<'a>),
}

/// The branches of all elements, from the inputs.
type Branches<'a> = Box<dyn Fn(&[&Tensor]) -> Result<Tensor> + 'a>;

impl Jumps<'_> {
    /// The step or the branch that each element of `output` is on, for the inputs that it was computed from. `None` for
    /// an op that does not jump.
    ///
    /// # Errors
    /// As [`Op::reference`].
    pub fn sides(&self, inputs: &[&Tensor], output: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::No => Ok(None),
            Self::Steps => Ok(Some(output.clone())),
            Self::Branches(branches) => branches(inputs).map(Some),
        }
    }
}

/// The error bound of an element.
pub enum ErrorBound<'a> {
    /// No error: the op passes values of its inputs on, in `f16` too.
    Exact,
    /// One rounding of the result.
    Rounded,
    /// K + 16 roundings of the sum of its K terms' magnitudes: the op's output for the inputs' magnitudes.
    Sum,
    /// This function of an element of the first input and the same element of the output.
    Function(Box<dyn Fn(f64, f64) -> f64 + 'a>),
    /// This function's bound for each element, from the inputs and the output of the reference implementation.
    Elements(ElementBounds<'a>),
}

/// Bounds of all elements, from the inputs and the expected output.
type ElementBounds<'a> = Box<dyn Fn(&[&Tensor], &Tensor) -> Result<Tensor> + 'a>;

impl<'a> Numerics<'a> {
    const fn of(reduction_length: usize, error: ErrorBound<'a>) -> Self {
        Self {
            reduction_length,
            error,
            weight: None,
            jumps: Jumps::No,
        }
    }

    /// Numerics of an op that passes values on.
    pub const fn exact() -> Self {
        Self::of(1, ErrorBound::Exact)
    }

    /// Numerics of an op whose result is rounded once.
    pub const fn rounded() -> Self {
        Self::of(1, ErrorBound::Rounded)
    }

    /// Numerics of a sum of `reduction_length` values.
    pub const fn sum(reduction_length: usize) -> Self {
        Self::of(reduction_length, ErrorBound::Sum)
    }

    /// Numerics of a sum of `reduction_length` products of the first input's values with the second's, a weight.
    pub const fn weighted_sum(reduction_length: usize) -> Self {
        Self {
            reduction_length,
            error: ErrorBound::Sum,
            weight: Some(1),
            jumps: Jumps::No,
        }
    }

    /// Numerics of an op without errors that is constant between jumps.
    pub const fn steps() -> Self {
        Self {
            reduction_length: 1,
            error: ErrorBound::Exact,
            weight: None,
            jumps: Jumps::Steps,
        }
    }

    /// The same, of an op that jumps.
    #[must_use]
    pub fn with_jumps(self, jumps: Jumps<'a>) -> Self {
        Self { jumps, ..self }
    }

    /// Numerics of a function of one number; `error(x, y)` bounds the error of its value y at x.
    pub fn function(error: impl Fn(f64, f64) -> f64 + 'a) -> Self {
        Self::of(1, ErrorBound::Function(Box::new(error)))
    }

    /// Numerics of an op with a bound for each element.
    pub fn elements(
        reduction_length: usize,
        bounds: impl Fn(&[&Tensor], &Tensor) -> Result<Tensor> + 'a,
    ) -> Self {
        Self::of(reduction_length, ErrorBound::Elements(Box::new(bounds)))
    }

    /// Whether the op passes values on unchanged.
    pub const fn is_exact(&self) -> bool {
        matches!(self.error, ErrorBound::Exact)
    }
}

/// The error of a sum of `reduction_length` terms, in units of the sum of their magnitudes.
pub const fn sum_units(reduction_length: usize) -> f64 {
    (reduction_length + 16) as f64
}

/// The error bound of each element of `expected`, the output of `op` for `inputs`, on a device that computes in `f32`.
///
/// # Errors
/// As [`Op::reference`].
pub fn bounds(op: &dyn Op, inputs: &[&Tensor], expected: &Tensor) -> Result<Tensor> {
    let shapes: Vec<Shape> = inputs.iter().map(|t| t.shape()).collect();
    let Numerics {
        reduction_length,
        error,
        ..
    } = op.numerics(&shapes);
    match error {
        ErrorBound::Exact => Tensor::zeros(expected.shape()),
        ErrorBound::Rounded => Ok(expected.map(|y| y.abs() * UNIT as f32)),
        ErrorBound::Sum => {
            let magnitudes: Vec<_> = inputs.iter().map(|t| t.map(f32::abs)).collect();
            let sums = op.reference(&magnitudes.iter().collect::<Vec<_>>())?;
            let factor = (sum_units(reduction_length) * UNIT) as f32;
            Ok(sums.map(|sum| sum.abs() * factor))
        }
        ErrorBound::Function(error) => {
            let mut bounds = expected.clone();
            let input = inputs.first().map_or(&[][..], |input| input.data());
            for (bound, x) in bounds.data_mut().iter_mut().zip(input) {
                *bound = error(f64::from(*x), f64::from(*bound)) as f32;
            }
            Ok(bounds)
        }
        ErrorBound::Elements(bounds) => bounds(inputs, expected),
    }
}

/// The absolute error of `units` of a value y, plus the rounding of the reference and `flushed`.
pub(super) fn absolute(units: f64, y: f64, flushed: f64) -> f64 {
    (units + 1.0) * UNIT * y.abs() + flushed
}

/// The error of `exp(x)`, in units.
pub(super) fn exp_units(x: f64) -> f64 {
    2.0 * (3.0 + 2.0 * x.abs())
}

/// The error of exp(x) − 1 for x ≤ 0, in units. Near 0 it is x · s with s = 1 + x/2 · (1 + x/3 · (…)). Each bracket
/// adds one unit for its constant and one for each of two products, weighed by less than |x| / 2 / s < 1/3, and one
/// for the sum: s errs by less than 3 units, the product with x by one more. Elsewhere the error of exp counts
/// relative to the difference, which adds a unit.
pub(super) fn expm1_units(x: f64) -> f64 {
    match x > -0.5 {
        true => 4.0,
        false => exp_units(x) * x.exp() / (1.0 - x.exp()) + 1.0,
    }
}

/// The error of the sigmoid of x, in units: e / (1 + e) or 1 / (1 + e) with e = exp(−|x|). An error of e counts
/// 1 − sigmoid(x) times in either; the sum adds a unit, the division five.
pub(super) fn sigmoid_units(x: f64) -> f64 {
    let rest = 1.0 / (1.0 + x.exp());
    exp_units(x) * rest + 6.0
}

/// The error of the logarithm of unary.wgsl, in units. The division for s errs by six, and so does the sum over s; its
/// polynomial and the products add two. The multiple of log(2) is exact but for its small second part; where it is not
/// zero, the result is at least as large as the sum over s. Two sums add a unit each.
pub(super) const LOG_UNITS: f64 = 12.0;

/// The error of a square root, in units: WGSL allows the error of `1 / inverseSqrt(x)`.
pub(super) const SQRT_UNITS: f64 = 9.0;

/// log(1 + exp(x)).
pub(super) fn softplus(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The error of log(1 + exp(x)), in units: max(x, 0) + log(1 + e) with e = exp(−|x|). The logarithm errs by ten units and
/// by those of e, and counts with its share of the sum.
pub(super) fn softplus_units(x: f64) -> f64 {
    let log = (-x.abs()).exp().ln_1p();
    let share = log / (x.max(0.0) + log);
    let of_log = if log > 0.0 {
        (10.0 + exp_units(x)) * share
    } else {
        0.0
    };
    of_log + 1.0
}

/// The error of sine and cosine of sine.wgsl, in units. Cutting the fraction to 24 bits errs by two, π / 2 and the product
/// with it by one each; an error of the angle counts less than once. The sums add less than four.
pub(super) const SINE_UNITS: f64 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn number(x: f32) -> Tensor {
        Tensor::new(Shape::new(1, 1, 1, 1), vec![x]).unwrap()
    }

    /// Whether the value at some x jumps: it differs by more than a tenth at neighbouring numbers, and is not large.
    fn is_seen_to_jump(value: &dyn Fn(f32) -> f32) -> bool {
        let differ = |a: f32, b: f32| (value(a) - value(b)).abs() > 0.1;
        let jumps = |mut low: f32, mut high: f32| {
            while differ(low, high) {
                let middle = low + (high - low) / 2.0;
                if middle <= low || middle >= high {
                    return value(low).abs().max(value(high).abs()) < 100.0;
                }
                if differ(low, middle) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            false
        };
        let points: Vec<f32> = (-160..=160).map(|i| i as f32 / 40.0).collect();
        points.windows(2).any(|pair| jumps(pair[0], pair[1]))
    }

    #[test]
    fn an_op_says_whether_it_jumps() {
        let (mut said, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for case in super::super::cases() {
            let op = &case.op;
            if !matches!(op.numerics(&case.inputs).jumps, Jumps::No) {
                said.insert(op.name());
            }
            // Ops that take single numbers: one varies, the others are these.
            let count = case.inputs.len();
            let numbers: Vec<Tensor> = [0.5, 2.0, -1.0].map(number).to_vec();
            if count > numbers.len() || op.output_shape(&vec![numbers[0].shape(); count]).is_err() {
                continue;
            }
            for varied in 0..count {
                let value = |x: f32| {
                    let mut inputs = numbers[..count].to_vec();
                    inputs[varied] = number(x);
                    let inputs: Vec<_> = inputs.iter().collect();
                    let value = op.reference(&inputs);
                    value.map_or(f32::NAN, |value| value.data()[0])
                };
                if is_seen_to_jump(&value) {
                    seen.insert(op.name());
                }
            }
        }
        // Their jumps need several numbers.
        seen.extend(["argmax", "max_pool2d_indices"]);
        assert_eq!(said, seen);
    }
}
