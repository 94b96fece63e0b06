//! Gaussian error linear unit: `out = input · Φ(input)` with the normal distribution's
//! Φ(x) = (1 + erf(x / √2)) / 2, or with `approximate` "tanh", (1 + tanh(√(2 / π) · (x + 0.044715 · x³))) / 2.
//!
//! Source: `torch.nn.functional.gelu`. Large negative inputs keep their digits, which PyTorch's difference of 1 and nearly
//! 1 loses.

use super::erf::{complement, erfc_units};
use super::numerics::{FLUSHED, absolute, sigmoid_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gelu {
    /// The approximation of Φ.
    pub approximate: Approximation,
}

/// An approximation of Φ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approximation {
    /// Φ itself.
    #[default]
    None,
    /// By the hyperbolic tangent.
    Tanh,
}

/// The argument whose sigmoid is (1 + tanh(√(2 / π) · (x + 0.044715 · x³))) / 2.
fn of_sigmoid(x: f64) -> f64 {
    (8.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

impl Unary for Gelu {
    const NAME: &'static str = "gelu";
    const FUNCTION: u8 = 16;

    fn attributes(&self) -> [f32; 2] {
        [
            f32::from(u8::from(self.approximate == Approximation::Tanh)),
            0.0,
        ]
    }

    fn value(&self, x: f64) -> f64 {
        let gate = match self.approximate {
            Approximation::None => complement(-x * std::f64::consts::FRAC_1_SQRT_2) / 2.0,
            Approximation::Tanh => 1.0 / (1.0 + (-of_sigmoid(x)).exp()),
        };
        x * gate
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        let flushed = FLUSHED * (1.0 + x.abs());
        let square = x * x / 2.0;
        let units = match self.approximate {
            // The argument errs by six units of itself, which count as much as 1 minus the sigmoid.
            Approximation::Tanh => {
                let argument = of_sigmoid(x);
                let rest = 1.0 / (1.0 + argument.exp());
                let of_argument = if rest > 0.0 {
                    6.0 * argument.abs() * rest
                } else {
                    0.0
                };
                sigmoid_units(argument) + of_argument + 1.0
            }
            // Near 0, half of erf errs by less than 5 units of 1; the sum and the product add one each.
            Approximation::None if square <= 0.5 => 2.0 + 5.0 * x / y,
            Approximation::None => {
                let tail = complement(square.sqrt()) / 2.0;
                match x < 0.0 {
                    true => erfc_units(square) + 1.0,
                    false => erfc_units(square) * tail / (1.0 - tail) + 2.0,
                }
            }
        };
        match y == 0.0 || !units.is_finite() {
            true => flushed,
            false => absolute(units, y, flushed),
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |approximate, shape| case(Gelu { approximate }, [shape]);
    vec![
        of(Approximation::None, [1, 5, 3, 7]),
        of(Approximation::Tanh, [3, 8, 2, 5]),
    ]
}
