//! What an op does to the precision of numbers: the one place that tests, [`compare`](crate::compare) and the tuner
//! ask.
//!
//! Bounds follow from what WGSL says of its own functions: sums, products and differences are rounded correctly, a
//! division errs by 2.5 ULP, `exp(x)` by 3 + 2·|x|, `inverseSqrt` by 2. One ULP is at most two roundings, each of
//! half the distance from 1 to the next number: units, below.

use super::Op;
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// Half the distance from 1 to the next `f32`: the relative error of one rounding.
pub const UNIT: f64 = 1.0 / (1u32 << 24) as f64;
/// What is too small for a normal number may be flushed to zero.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// What an op does to the precision of numbers.
pub struct Numerics<'a> {
    /// The reduction length: how many products or values are added up for one element; 1 where nothing is.
    pub reduction_length: usize,
    /// How far an element may be off where a device computes in `f32`.
    pub error: ErrorBound<'a>,
    /// The input that kernels multiply by and keep in `f16` where they keep activations so.
    pub weight: Option<usize>,
}

/// How far an element may be off.
pub enum ErrorBound<'a> {
    /// Not at all: values of the inputs are passed on, in `f16` too.
    Exact,
    /// By one rounding of the result.
    Rounded,
    /// By K + 16 roundings of the sum of its terms' magnitudes, which the op makes of the inputs' magnitudes.
    Sum,
    /// By this function of the first input's element and the op's.
    Function(Box<dyn Fn(f64, f64) -> f64 + 'a>),
    /// By what this function says of each element, given the inputs and what the reference makes of them.
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
        }
    }

    /// Of an op that passes values on.
    pub const fn exact() -> Self {
        Self::of(1, ErrorBound::Exact)
    }

    /// Of an op whose result is rounded once.
    pub const fn rounded() -> Self {
        Self::of(1, ErrorBound::Rounded)
    }

    /// Of a sum of so many values.
    pub const fn sum(reduction_length: usize) -> Self {
        Self::of(reduction_length, ErrorBound::Sum)
    }

    /// Of a sum of so many products of the first input's values and the second's, a weight.
    pub const fn weighted_sum(reduction_length: usize) -> Self {
        Self {
            reduction_length,
            error: ErrorBound::Sum,
            weight: Some(1),
        }
    }

    /// Of a function of one number: how far its value y at x may be off.
    pub fn function(error: impl Fn(f64, f64) -> f64 + 'a) -> Self {
        Self::of(1, ErrorBound::Function(Box::new(error)))
    }

    /// Of an op that knows the bound of each element.
    pub fn elements(
        reduction_length: usize,
        bounds: impl Fn(&[&Tensor], &Tensor) -> Result<Tensor> + 'a,
    ) -> Self {
        Self::of(reduction_length, ErrorBound::Elements(Box::new(bounds)))
    }

    /// Whether values are passed on as they are.
    pub const fn is_exact(&self) -> bool {
        matches!(self.error, ErrorBound::Exact)
    }
}

/// The units by which a sum of so many terms errs, relative to the sum of their magnitudes.
pub const fn sum_units(reduction_length: usize) -> f64 {
    (reduction_length + 16) as f64
}

/// How far each element of what `op` makes of `inputs`, `expected`, may be off on a device that computes in `f32`.
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

/// What `units` of a value y come to, with the rounding of the reference and what may be flushed.
pub(super) fn absolute(units: f64, y: f64, flushed: f64) -> f64 {
    (units + 1.0) * UNIT * y.abs() + flushed
}

/// The units by which `exp(x)` errs.
pub(super) fn exp_units(x: f64) -> f64 {
    2.0 * (3.0 + 2.0 * x.abs())
}

/// The units by which exp(x) − 1 errs for x ≤ 0. Near 0 it is x · s, where s = 1 + x/2 · (1 + x/3 · (…)): within the
/// brackets constant, product and product have a unit each beside that of the next bracket, and weigh less than
/// |x| / 2 / s < 1/3; the sum has one: less than 3, and the product with x one more. Elsewhere the error of exp
/// counts against what is left of it, and the difference has a unit.
pub(super) fn expm1_units(x: f64) -> f64 {
    match x > -0.5 {
        true => 4.0,
        false => exp_units(x) * x.exp() / (1.0 - x.exp()) + 1.0,
    }
}

/// The units by which the sigmoid of x errs: e / (1 + e) or 1 / (1 + e) with e = exp(−|x|). An error of e counts
/// 1 − sigmoid(x) times in either; the sum has a unit, the division five.
pub(super) fn sigmoid_units(x: f64) -> f64 {
    let rest = 1.0 / (1.0 + x.exp());
    exp_units(x) * rest + 6.0
}
