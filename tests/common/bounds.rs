//! How far the elements of functions may be off on a device, from what WGSL says of its own: sums, products and
//! differences are rounded correctly, a division errs by 2.5 ULP, `exp(x)` by 3 + 2·|x|, `inverseSqrt` by 2. One ULP
//! is at most two roundings, each of half the distance from 1 to the next number: units, below.

use super::UNIT;
use fullconv::Tensor;

/// What is too small for a normal number may be flushed to zero.
const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// The units by which `exp(x)` errs.
fn exp_units(x: f64) -> f64 {
    2.0 * (3.0 + 2.0 * x.abs())
}

/// The units by which exp(x) − 1 errs for x ≤ 0. Near 0 it is x · s, where s = 1 + x/2 · (1 + x/3 · (…)): within the
/// brackets constant, product and product have a unit each beside that of the next bracket, and weigh less than
/// |x| / 2 / s < 1/3; the sum has one: less than 3, and the product with x one more. Elsewhere the error of exp
/// counts against what is left of it, and the difference has a unit.
fn expm1_units(x: f64) -> f64 {
    match x > -0.5 {
        true => 4.0,
        false => exp_units(x) * x.exp() / (1.0 - x.exp()) + 1.0,
    }
}

/// The units by which the sigmoid of x errs: e / (1 + e) or 1 / (1 + e) with e = exp(−|x|). An error of e counts
/// 1 − sigmoid(x) times in either; the sum has a unit, the division five.
fn sigmoid_units(x: f64) -> f64 {
    let rest = 1.0 / (1.0 + x.exp());
    exp_units(x) * rest + 6.0
}

/// The bound of the function called `name` where it makes `y` of `x`, if it is one of those.
fn function(name: &str, x: f64, y: f64) -> Option<f64> {
    // Of what was flushed, x times as much may be missing.
    let times_x = (x.abs() + 1.0) * FLUSHED;
    let (units, flushed) = match name {
        "sigmoid" => (sigmoid_units(x), FLUSHED),
        "silu" => (sigmoid_units(x) + 1.0, times_x),
        // −e / (2 + e) with e = exp(−2·|x|) − 1: an error of e counts 2 / (2 + e) times.
        "tanh" => {
            let x = -2.0 * x.abs();
            let of_e = expm1_units(x) * 2.0 / (2.0 + x.exp_m1());
            (of_e + 6.0, FLUSHED)
        }
        "elu" if x > 0.0 => (0.0, 0.0),
        "elu" => (expm1_units(x) + 1.0, FLUSHED),
        // The sum, a constant, the product.
        "hardsigmoid" => (3.0, FLUSHED),
        "hardswish" => (4.0, times_x),
        _ => return None,
    };
    // The twin's own rounding comes on top.
    Some((units + 1.0) * UNIT * y.abs() + flushed)
}

/// The bounds of a function of one number, if `name` is one that WGSL does not round correctly.
pub fn of_function(name: &str, input: &Tensor, expected: &Tensor) -> Option<Tensor> {
    let mut bounds = expected.clone();
    for (bound, x) in bounds.data_mut().iter_mut().zip(input.data()) {
        *bound = function(name, f64::from(*x), f64::from(*bound))? as f32;
    }
    Some(bounds)
}

/// The bounds of a batch normalization. The difference from the mean, the variance with eps (half of whose error
/// counts), its root, the factor and the product: 1 + ½ + 4 + 1 + 1 units of what bias is added to; that sum has
/// one, and the twin.
pub fn of_batch_norm2d(bias: &Tensor, expected: &Tensor) -> Tensor {
    let shape = expected.shape();
    Tensor::from_fn(shape, |n, c, y, x| {
        let value = f64::from(expected.at(n, c, y, x));
        let product = value - f64::from(bias.data()[c]);
        ((8.0 * product.abs() + 2.0 * value.abs()) * UNIT) as f32
    })
    .unwrap()
}
