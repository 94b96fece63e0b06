//! What the kernels of a convolution apply to its sums.

use crate::ops::numerics::{self, ErrorBound, Numerics};
use crate::ops::{Clamp, Op, Relu};
use std::any::Any;

/// What is applied to a sum before it is written. All of them keep the order of numbers, so pooling may come first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// ReLU.
    Relu,
    /// ReLU, and at most this, above 0; 6 makes ReLU6.
    Clamp(f32),
}

impl Activation {
    /// The activation that is the same as `op`, if one is.
    pub(super) fn of(op: &dyn Op) -> Option<Self> {
        let op: &dyn Any = op;
        if op.is::<Relu>() {
            return Some(Self::Relu);
        }
        match op.downcast_ref() {
            Some(&Clamp {
                min: Some(0.0),
                max: Some(most),
            }) if most > 0.0 && most.is_finite() => Some(Self::Clamp(most)),
            _ => None,
        }
    }

    /// The activation of `sum`; NaN propagates.
    pub(super) fn apply(self, sum: f32) -> f32 {
        match self {
            Self::None => sum,
            _ if sum < 0.0 => 0.0,
            Self::Clamp(most) if sum > most => most,
            _ => sum,
        }
    }

    /// The numerics of an op with this activation, from those without a bound above. `unbounded` is the op without it:
    /// the terms of a sum may be larger than the bound, and so may their magnitudes.
    pub(super) fn bounding<'a>(
        self,
        numerics: Numerics<'a>,
        unbounded: impl FnOnce() -> Box<dyn Op>,
    ) -> Numerics<'a> {
        if self.most() == 0.0 {
            return numerics;
        }
        let op = unbounded();
        let bounds = move |inputs: &[&_], expected: &_| numerics::bounds(&*op, inputs, expected);
        Numerics {
            error: ErrorBound::Elements(Box::new(bounds)),
            ..numerics
        }
    }

    /// Whether sums below 0 become 0.
    pub(super) fn has_relu(self) -> bool {
        self != Self::None
    }

    /// The upper bound; 0 if there is none.
    pub(super) fn most(self) -> f32 {
        match self {
            Self::Clamp(most) => most,
            _ => 0.0,
        }
    }

    /// The values of the shaders' overrides.
    pub(super) fn constants(self) -> [(&'static str, f64); 2] {
        [
            ("RELU", f64::from(u8::from(self.has_relu()))),
            ("MOST", f64::from(self.most())),
        ]
    }
}
