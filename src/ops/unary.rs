//! Functions of one number, applied to every element. Their ops share this implementation and one shader.

use super::numerics::{Jumps, Numerics, UNIT};
use super::{Op, Probabilities, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, Shader, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::fmt::Debug;

/// A function of one number; a type that implements it is an [`Op`].
pub trait Unary: Debug + Send + Sync + 'static {
    /// PyTorch's name of the operation.
    const NAME: &'static str;
    /// Its number in the shader.
    const FUNCTION: u8;

    /// The shader, and the override that holds the function's number.
    fn shader(&self) -> (Shader, &'static str) {
        (shader!("unary"), "FUNCTION")
    }

    /// The shader's parameters `p` and `q`.
    fn attributes(&self) -> [f32; 2] {
        [0.0; 2]
    }

    /// The reference implementation: the value y at x.
    fn value(&self, x: f64) -> f64;

    /// The absolute error bound of the value y at x on a device: one rounding, for functions that WGSL rounds
    /// correctly.
    fn error(&self, _x: f64, y: f64) -> f64 {
        UNIT * y.abs()
    }

    /// Whether the value jumps.
    fn jumps(&self) -> Jumps<'_> {
        Jumps::No
    }

    /// What the function makes of probabilities, see [`Op::probabilities`].
    fn probabilities(&self) -> Probabilities {
        Probabilities::Changed
    }

    /// An error if the attributes are invalid.
    ///
    /// # Errors
    /// `Shape`, as for all inputs and attributes that an op cannot be computed with.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<U: Unary> Op for U {
    fn name(&self) -> &'static str {
        U::NAME
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(U::NAME, inputs)?;
        if self.attributes().iter().any(|a| a.is_nan()) {
            bail!(Shape, "an attribute of {} is NaN", U::NAME);
        }
        self.check()?;
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(U::NAME, inputs)?;
        Ok(input.map(|x| self.value(f64::from(x)) as f32))
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::function(|x, y| self.error(x, y)).with_jumps(self.jumps())
    }

    fn probabilities(&self) -> Probabilities {
        Unary::probabilities(self)
    }

    /// Errors of the input, equally large everywhere, times the slope at each element. Where a function jumps, of the
    /// slopes to both sides the smaller one: the other may lead over the jump.
    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let jumps = !matches!(Unary::jumps(self), Jumps::No);
        let slope = |x: f32| {
            let (x, step) = (f64::from(x), 1e-4 * f64::from(x.abs().max(1.0)));
            let [below, at, above] = [x - step, x, x + step].map(|x| self.value(x));
            let slope = match jumps {
                true => (at - below).abs().min((above - at).abs()) / step,
                false => (above - below) / (2.0 * step),
            };
            slope as f32
        };
        inputs[0].map(slope).root_mean_square() * inputs[0].root_mean_square()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let [p, q] = self.attributes();
        let mut extra = sizes([("channels", shape.c), ("c4", shape.c4())]).to_vec();
        extra.extend(floats([("p", p), ("q", q)]));
        // Padding channels stay zero, also where the function of zero is not.
        let (shader, function) = self.shader();
        let masked = !shape.c.is_multiple_of(4) && self.value(0.0) != 0.0;
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![
                (function, f64::from(U::FUNCTION)),
                ("MASKED", f64::from(u8::from(masked))),
            ],
            ..Kernel::elementwise(shader, &["input_start"], &extra, shape)
        })])
    }
}
