//! Error function: `out = 2 / √π · ∫ exp(−t²) dt` from 0 to the input.
//!
//! Source: `torch.erf`.

use super::numerics::{FLUSHED, absolute, exp_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erf {}

/// The error of erf(x) for |x| ≤ 1, in units. The polynomial's terms add up to twice its value. Each coefficient and each
/// of two operations a step add a unit, weighed by ever smaller shares: less than 5 units. The square errs by one, and
/// the product with x by another.
pub(super) const NEAR_UNITS: f64 = 8.0;

/// The error of 1 − erf(x) for x > 1, in units, with an exponential of −`square`, which errs by a unit of itself. The
/// product with t grows with less than the square of t, which errs by 8 units: two of the argument, one of the sum, five
/// of the division. The polynomial adds less than 10 units, as above, and the products one each.
pub(super) fn erfc_units(square: f64) -> f64 {
    exp_units(square) + square + 30.0
}

/// The complement of the error function, 1 − erf(x).
pub(super) fn complement(x: f64) -> f64 {
    libm::erfc(x)
}

impl Unary for Erf {
    const NAME: &'static str = "erf";
    const FUNCTION: u8 = 15;

    fn value(&self, x: f64) -> f64 {
        libm::erf(x)
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        match x.abs() <= 1.0 {
            true => absolute(NEAR_UNITS, y, FLUSHED),
            // The error of the small difference from 1 is relative to that.
            false => absolute(
                1.0 + erfc_units(x * x) * libm::erfc(x.abs()) / y.abs(),
                y,
                0.0,
            ),
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Erf {}, [[1, 5, 3, 7]]), case(Erf {}, [[3, 8, 2, 5]])]
}
