//! The nearest pixels of a resize.

use crate::ops::kernel::Rows;

/// The nearest inputs along one axis: output i reads ⌊(i + `offset`) · `scale`⌋, the product rounded to `f32`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nearest {
    pub scale: f32,
    /// 0, or ½ for the middle of the output pixel.
    pub offset: f32,
    pub inputs: usize,
}

impl Nearest {
    pub fn tap(&self, i: usize) -> usize {
        (((i as f32 + self.offset) * self.scale).floor() as usize).min(self.inputs - 1)
    }

    /// The input row that an output row needs, and its neighbours if rounding the product might reach them.
    pub fn rows(&self) -> Rows {
        // The exact scale as mul / 2ᵏ; it is positive and at least 2⁻²⁴.
        let (mut mul, mut div) = (self.scale, 1i64);
        while mul.fract() != 0.0 {
            mul *= 2.0;
            div *= 2;
        }
        let rounding = ((self.inputs as i64 * div) >> 24) + 1;
        let (mul, offset) = (mul as i64, (2.0 * self.offset) as i64);
        Rows {
            mul: 2 * mul,
            div: 2 * div,
            first: offset * mul - 2 * rounding,
            last: offset * mul + 2 * rounding,
        }
    }
}
