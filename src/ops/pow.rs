//! Power: `out = input ^ exponent`; NaN for a negative number and an exponent that is not whole.
//!
//! Source: `torch.pow` with a number as exponent.

use super::numerics::{FLUSHED, LOG_UNITS, SQRT_UNITS, absolute, exp_units};
use super::unary::Unary;
use super::{Case, case};
use crate::error::{Result, bail};
use serde::Deserialize;

/// The exponent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pow {
    /// Any finite number.
    pub exponent: f32,
}

/// Whole exponents up to this magnitude are computed by multiplications.
const MOST_FACTORS: f32 = 64.0;

/// How a power is computed; the numbers are the values of `q` in the shader.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Logarithm = 0,
    Multiplications = 1,
    Root = 2,
    InverseRoot = 3,
    Even = 4,
    Odd = 5,
}

impl Pow {
    fn way(&self) -> Way {
        match self.exponent {
            0.5 => Way::Root,
            -0.5 => Way::InverseRoot,
            e if e.fract() != 0.0 => Way::Logarithm,
            e if e.abs() <= MOST_FACTORS => Way::Multiplications,
            e if e % 2.0 == 0.0 => Way::Even,
            _ => Way::Odd,
        }
    }
}

impl Unary for Pow {
    const NAME: &'static str = "pow";
    const FUNCTION: u8 = 14;

    fn attributes(&self) -> [f32; 2] {
        [self.exponent, f32::from(self.way() as u8)]
    }

    fn value(&self, x: f64) -> f64 {
        match self.way() {
            Way::Root => x.sqrt(),
            Way::InverseRoot => 1.0 / x.sqrt(),
            _ => x.powf(f64::from(self.exponent)),
        }
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        let exponent = f64::from(self.exponent);
        let units = match self.way() {
            Way::Root => SQRT_UNITS,
            Way::InverseRoot => 4.0,
            // A unit for each product, and five for each reciprocal.
            Way::Multiplications if exponent < 0.0 => 6.0 * exponent.abs(),
            Way::Multiplications => exponent,
            _ => {
                let of_exp = exponent * x.abs().ln();
                // The logarithm and its product with the exponent err relative to the argument of exp.
                (LOG_UNITS + 2.0) * of_exp.abs() + exp_units(of_exp)
            }
        };
        match (x == 0.0, units.is_finite()) {
            (false, true) => absolute(units, y, FLUSHED),
            _ => 0.0,
        }
    }

    fn check(&self) -> Result<()> {
        if !self.exponent.is_finite() {
            bail!(Shape, "the exponent is {}, not a number", self.exponent);
        }
        Ok(())
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |exponent, shape| case(Pow { exponent }, [shape]);
    vec![
        of(2.0, [1, 5, 3, 7]),
        of(3.0, [3, 8, 2, 5]),
        of(-2.0, [1, 5, 3, 7]),
        of(66.0, [2, 6, 3, 3]),
    ]
}
