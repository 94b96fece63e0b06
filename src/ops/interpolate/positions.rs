//! Where the pixels of an output lie in the input, along one axis, as whole fractions.

use crate::error::{Result, bail};
use crate::ops::kernel::{Param, Rows, Word, sizes};

/// The largest divisor of a step: `f32` holds it, and twice as much.
const MOST_DIVISOR: usize = 1 << 23;

/// An axis of a resize.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Pixels of the input.
    pub inputs: usize,
    /// Pixels of the output.
    pub outputs: usize,
    /// The given factor, if positions follow it and not the sizes.
    pub factor: Option<f64>,
    /// Whether the centres of the corner pixels are aligned, instead of the corners of the picture.
    pub align_corners: bool,
}

impl Axis {
    /// How far the source moves from one output pixel to the next: `(mul, div)` for mul / div pixels, `div` up to
    /// `most_div` where it follows a factor.
    ///
    /// # Errors
    /// `Unsupported` if a factor is no fraction within the limits of integers.
    pub fn step(&self, most_div: usize) -> Result<(usize, usize)> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        if self.align_corners {
            let mul = if outputs > 1 { inputs - 1 } else { 0 };
            return Ok(lowest_terms(mul, (outputs - 1).max(1)));
        }
        let Some(factor) = self.factor else {
            return Ok(lowest_terms(inputs, outputs));
        };
        // Products fit an i32.
        let most = i32::MAX as usize / (outputs + 1) / 2;
        let step = fraction(factor, [MOST_DIVISOR.min(most_div), most]);
        let near = step.filter(|(div, mul)| {
            let off = *mul as f64 / *div as f64 - 1.0 / factor;
            off.abs() * (outputs as f64) < f64::from(2.0f32.powi(-12))
        });
        match near {
            Some((div, mul)) => Ok((mul, div)),
            None => bail!(
                Unsupported,
                "scale_factor {factor} is no fraction that this kernel can count with; give a size"
            ),
        }
    }

    /// The source positions, or an error where they would overflow an `i32`.
    ///
    /// # Errors
    /// `Unsupported`, as [`Axis::step`].
    pub fn positions(&self) -> Result<Positions> {
        let (mul, div) = self.step(MOST_DIVISOR)?;
        let positions = match self.align_corners {
            true => Positions {
                mul,
                add: 0,
                div,
                inputs: self.inputs,
            },
            false => Positions {
                mul: 2 * mul,
                add: mul as i64 - div as i64,
                div: 2 * div,
                inputs: self.inputs,
            },
        };
        let most = (self.outputs as u64 + 1).saturating_mul(positions.mul as u64 + 1);
        if most.saturating_add(positions.div as u64) > i32::MAX as u64 {
            return self.too_many();
        }
        Ok(positions)
    }

    /// The error for more pixels than an `i32` counts.
    pub fn too_many<T>(&self) -> Result<T> {
        bail!(
            Unsupported,
            "resizing {} pixels to {} is more than this kernel can count",
            self.inputs,
            self.outputs
        )
    }
}

/// Source positions along one axis: output i reads position (i · `mul` + `add`) / `div`; in bilinear resizes 0 if that
/// is negative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positions {
    mul: usize,
    add: i64,
    div: usize,
    inputs: usize,
}

impl Positions {
    /// The two inputs that output `i` of a bilinear resize mixes, and the share of the second.
    pub(super) fn taps(&self, i: usize) -> (usize, usize, f64) {
        let position = (i as i64 * self.mul as i64 + self.add).max(0) as usize;
        let first = (position / self.div).min(self.inputs - 1);
        let share = (position % self.div) as f64 / self.div as f64;
        (first, (first + 1).min(self.inputs - 1), share)
    }

    /// The input before the position of output `i` of a bicubic resize, −1 for one before the first, and how far the
    /// position lies behind it.
    pub(super) fn before(&self, i: usize) -> (i64, f64) {
        let position = i as i64 * self.mul as i64 + self.add;
        let div = self.div as i64;
        let share = position.rem_euclid(div) as f64 / div as f64;
        (position.div_euclid(div), share)
    }

    /// The parameters of a kernel that resizes along this axis.
    pub(crate) fn params(&self, [mul, add, div]: [&'static str; 3]) -> [Param; 3] {
        let [mul, div] = sizes([(mul, self.mul), (div, self.div)]);
        [mul, (add, Word::Value(self.add as i32 as u32)), div]
    }

    /// The input rows that an output row needs: the row of its position and the next. A position before the first
    /// row moves to the first row, and still reads the next one, with a share of 0.
    pub(crate) fn rows(&self) -> Rows {
        Rows {
            mul: self.mul as i64,
            div: self.div as i64,
            first: self.add,
            last: self.add.max(0) + self.div as i64,
        }
    }

    /// The input rows that an output row of a bicubic resize needs: two before its position and two behind it.
    pub(super) fn four_rows(&self) -> Rows {
        Rows {
            mul: self.mul as i64,
            div: self.div as i64,
            first: self.add - self.div as i64,
            last: self.add + 2 * self.div as i64,
        }
    }
}

/// `a / b` in lowest terms, to keep numbers small for related sizes.
pub(crate) fn lowest_terms(a: usize, b: usize) -> (usize, usize) {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1), b / divisor.max(1))
}

/// The last convergent `(a, b)` of `x`'s continued fraction, a / b ≈ x, with a and b up to the limits `most`, or the
/// first that equals `x` in the precision of `f64`.
fn fraction(x: f64, most: [usize; 2]) -> Option<(usize, usize)> {
    let ([mut a, mut b], [mut a0, mut b0]) = ([1.0, 0.0], [0.0, 1.0]);
    let mut rest = x;
    let mut best = None;
    for _ in 0..64 {
        let whole = rest.floor();
        let (a1, b1) = (whole * a + a0, whole * b + b0);
        if a1 > most[0] as f64 || b1 > most[1] as f64 {
            break;
        }
        ([a0, b0], [a, b]) = ([a, b], [a1, b1]);
        if a >= 1.0 {
            best = Some((a as usize, b as usize));
        }
        if (a / b - x).abs() <= x * f64::EPSILON {
            break;
        }
        rest = 1.0 / (rest - whole);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::fraction;

    #[test]
    fn simple_factors_become_exact_fractions() {
        let most = [1 << 23, 1 << 18];
        for (x, a, b) in [
            (2.0, 2, 1),
            (0.5, 1, 2),
            (1.7, 17, 10),
            (0.0625, 1, 16),
            (2.14159, 214_159, 100_000),
            (1.0 / 3.0, 1, 3),
            (0.1, 1, 10),
            (32.0, 32, 1),
        ] {
            assert_eq!(fraction(x, most), Some((a, b)), "{x}");
        }
    }

    #[test]
    fn other_factors_are_as_near_as_the_limits_allow() {
        let most = [1 << 23, 1 << 18];
        for x in [
            std::f64::consts::PI,
            0.736_482_914_77,
            2.0f64.sqrt(),
            19.037_194_1,
        ] {
            let (a, b) = fraction(x, most).unwrap();
            assert!(a <= most[0] && b <= most[1]);
            // One convergent more would be past a limit.
            let off = (a as f64 / b as f64 - x).abs();
            assert!(off * (b as f64) * (b as f64) < 1.0, "{x}: {a}/{b}");
            assert!(off < 1e-8, "{x}: {a}/{b}");
        }
        assert_eq!(fraction(1e-9, most), None);
        assert_eq!(fraction(1e9, most), None);
    }
}
