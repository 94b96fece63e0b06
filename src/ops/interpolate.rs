//! Resize to another height and width: `nearest` copies an input pixel, `bilinear` mixes the four input pixels around
//! the source position.
//!
//! The output's size is `size`, or that of a second input, whose values are not read, or ⌊size · `scale_factor`⌋. From
//! one output pixel to the next, the source moves by s = in / out. As in PyTorch, s = 1 / `scale_factor` if that is
//! given and not to be recomputed; s = 1 if in = out.
//!
//! - `bilinear`: the source of output row y is max((y + 0.5) · s − 0.5, 0), and with `align_corners`
//!   y · (in − 1) / (out − 1). Positions are whole fractions, so that no size is too large for `f32`. A `scale_factor`
//!   becomes the nearest fraction within the limits of integers: the factor itself if it has few digits. It never
//!   moves the source of a pixel by 2⁻¹² of a pixel.
//! - `nearest`: the source is ⌊y · s⌋, s and the product each rounded to `f32` as in PyTorch. The rounding decides if
//!   the exact product is a whole number or close to one. If out = 2 · in, s = ½ whatever the factor.
//!
//! Source: `torch.nn.functional.interpolate`.

use super::attributes::optional_pair;
use super::numerics::{Numerics, UNIT};
use super::{Case, Op, Probabilities, case};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{
    Binding, Format, Kernel, Param, Rows, Word, floats, shader, sizes, words,
};
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use serde::{Deserialize, Deserializer};

/// The output's size, by one of `size`, `scale_factor` and a second input, and the mode; pairs are
/// `[vertical, horizontal]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpolate {
    /// Height and width of the output.
    #[serde(default, deserialize_with = "optional_pair")]
    pub size: Option<[usize; 2]>,
    /// Factors of height and width.
    #[serde(default, deserialize_with = "factors")]
    pub scale_factor: Option<[f64; 2]>,
    /// Nearest or bilinear.
    #[serde(default)]
    pub mode: InterpolateMode,
    /// For `bilinear`: align the centres of the corner pixels, instead of the corners of the picture.
    #[serde(default, deserialize_with = "flag")]
    pub align_corners: bool,
    /// Compute positions from the sizes even if a `scale_factor` is given.
    #[serde(default, deserialize_with = "flag")]
    pub recompute_scale_factor: bool,
}

/// The input pixels that an output pixel is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterpolateMode {
    /// One input pixel.
    #[default]
    Nearest,
    /// Four, mixed.
    Bilinear,
}

/// One factor for both axes, or one for each, or none.
fn factors<'de, D: Deserializer<'de>>(from: D) -> Result<Option<[f64; 2]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number, or two: [vertical, horizontal]")]
    enum Factors {
        One(f64),
        Two([f64; 2]),
    }
    let factors = Option::<Factors>::deserialize(from)?;
    Ok(factors.map(|factors| match factors {
        Factors::One(both) => [both; 2],
        Factors::Two(pair) => pair,
    }))
}

/// A flag; null is false.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(false))
}

/// Source positions along one axis: output i reads position max(i · `mul` + `add`, 0) / `div`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positions {
    mul: usize,
    add: i64,
    div: usize,
    inputs: usize,
}

impl Positions {
    /// The two inputs that output `i` mixes, and the share of the second.
    fn taps(&self, i: usize) -> (usize, usize, f64) {
        let position = (i as i64 * self.mul as i64 + self.add).max(0) as usize;
        let first = (position / self.div).min(self.inputs - 1);
        let share = (position % self.div) as f64 / self.div as f64;
        (first, (first + 1).min(self.inputs - 1), share)
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
}

/// The nearest inputs along one axis: output i reads ⌊i · `scale`⌋, the product rounded to `f32`.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    scale: f32,
    inputs: usize,
}

impl Nearest {
    fn tap(&self, i: usize) -> usize {
        ((i as f32 * self.scale).floor() as usize).min(self.inputs - 1)
    }

    /// The input row that an output row needs, and its neighbours if rounding the product might reach them.
    fn rows(&self) -> Rows {
        // The exact scale as mul / 2ᵏ; it is positive and at least 2⁻²⁴.
        let (mut mul, mut div) = (self.scale, 1i64);
        while mul.fract() != 0.0 {
            mul *= 2.0;
            div *= 2;
        }
        let rounding = ((self.inputs as i64 * div) >> 24) + 1;
        Rows {
            mul: mul as i64,
            div,
            first: -rounding,
            last: rounding,
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

impl Interpolate {
    /// Bilinearly to a height and width.
    pub fn bilinear(size: [usize; 2], align_corners: bool) -> Self {
        Self {
            size: Some(size),
            mode: InterpolateMode::Bilinear,
            align_corners,
            ..Self::default()
        }
    }

    /// The factor along `axis`, if positions follow it and not the sizes.
    fn factor(&self, axis: usize) -> Option<f64> {
        let factors = self.scale_factor.filter(|_| !self.recompute_scale_factor);
        factors.map(|factors| factors[axis])
    }

    /// The size of the output for these inputs.
    fn output_size(&self, inputs: &[Shape]) -> Result<[usize; 2]> {
        let (input, like) = match inputs {
            [input] => (input, None),
            [input, like] => (input, Some([like.h, like.w])),
            _ => bail!(
                Shape,
                "interpolate takes 1 or 2 inputs, not {}",
                inputs.len()
            ),
        };
        match (self.size, self.scale_factor, like) {
            (Some(size), None, None) | (None, None, Some(size)) => Ok(size),
            (None, Some(factors), None) => {
                let scaled = [(input.h, factors[0]), (input.w, factors[1])]
                    .map(|(size, factor)| (size as f64 * factor).floor());
                if !scaled
                    .iter()
                    .all(|size| (0.0..=MAX_SIZE as f64).contains(size))
                {
                    bail!(Shape, "{input} cannot be scaled by {factors:?}");
                }
                Ok(scaled.map(|size| size as usize))
            }
            _ => bail!(
                Shape,
                "interpolate takes its size from one of size, scale_factor and a second input"
            ),
        }
    }

    /// The source positions of bilinear rows and columns, or an error where they would overflow an `i32`.
    pub(crate) fn positions(&self, input: Shape, output: Shape) -> Result<[Positions; 2]> {
        let along = |axis: usize, inputs: usize, outputs: usize| {
            // Limits: products fit an i32, and f32 holds the divisor.
            let most = i32::MAX as usize / (outputs + 1) / 2;
            let step = match self.factor(axis).filter(|_| inputs != outputs) {
                None => Some(lowest_terms(inputs, outputs)),
                Some(factor) => fraction(factor, [1 << 23, most])
                    .map(|(div, mul)| (mul, div))
                    .filter(|(mul, div)| {
                        let off = *mul as f64 / *div as f64 - 1.0 / factor;
                        off.abs() * (outputs as f64) < f64::from(2.0f32.powi(-12))
                    }),
            };
            let (mul, div) = match (self.align_corners, step) {
                (true, _) => {
                    let mul = if outputs > 1 { inputs - 1 } else { 0 };
                    lowest_terms(mul, (outputs - 1).max(1))
                }
                (false, Some(step)) => step,
                (false, None) => bail!(
                    Unsupported,
                    "scale_factor {:?} is no fraction that this kernel can count with; give a size",
                    self.scale_factor
                ),
            };
            let positions = match self.align_corners {
                true => Positions {
                    mul,
                    add: 0,
                    div,
                    inputs,
                },
                false => Positions {
                    mul: 2 * mul,
                    add: mul as i64 - div as i64,
                    div: 2 * div,
                    inputs,
                },
            };
            if (outputs as u64 + 1).saturating_mul(positions.mul as u64 + 1) > i32::MAX as u64 {
                bail!(
                    Unsupported,
                    "resizing {inputs} pixels to {outputs} is more than this kernel can count"
                );
            }
            Ok(positions)
        };
        Ok([along(0, input.h, output.h)?, along(1, input.w, output.w)?])
    }

    /// The nearest rows and columns.
    fn nearest(&self, input: Shape, output: Shape) -> [Nearest; 2] {
        let along = |axis: usize, inputs: usize, outputs: usize| Nearest {
            inputs,
            scale: match self.factor(axis) {
                _ if inputs == outputs => 1.0,
                _ if 2 * inputs == outputs => 0.5,
                Some(factor) => (1.0 / factor) as f32,
                None => inputs as f32 / outputs as f32,
            },
        };
        [along(0, input.h, output.h), along(1, input.w, output.w)]
    }

    fn nearest_reference(&self, input: &Tensor, output: Shape) -> Result<Tensor> {
        let [rows, columns] = self.nearest(input.shape(), output);
        let width = input.shape().w;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (i, out) in plane.iter_mut().enumerate() {
                let (y, x) = (rows.tap(i / output.w), columns.tap(i % output.w));
                *out = from[y * width + x];
            }
        })
    }

    fn bilinear_reference(&self, input: &Tensor, output: Shape) -> Result<Tensor> {
        let [rows, columns] = self.positions(input.shape(), output)?;
        let width = input.shape().w;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let (y0, y1, down) = rows.taps(y);
                for (x, out) in line.iter_mut().enumerate() {
                    let (x0, x1, right) = columns.taps(x);
                    let at = |y: usize, x: usize| f64::from(from[y * width + x]);
                    let top = at(y0, x0) * (1.0 - right) + at(y0, x1) * right;
                    let bottom = at(y1, x0) * (1.0 - right) + at(y1, x1) * right;
                    *out = (top * (1.0 - down) + bottom * down) as f32;
                }
            }
        })
    }
}

impl Op for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        super::check_attributes(self.size.as_slice())?;
        let size = self.output_size(inputs)?;
        let input = inputs[0];
        if input.elements() == 0 || size.contains(&0) {
            bail!(Shape, "cannot resize {input} to {size:?}");
        }
        if self.align_corners && self.mode == InterpolateMode::Nearest {
            bail!(Shape, "align_corners is of mode bilinear, not of nearest");
        }
        Ok(input.with_size(size[0], size[1]))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        match self.mode {
            InterpolateMode::Nearest => self.nearest_reference(inputs[0], output),
            InterpolateMode::Bilinear => self.bilinear_reference(inputs[0], output),
        }
    }

    fn reads(&self, input: usize) -> bool {
        input == 0
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
        ])
        .to_vec();
        let (shader, rows) = match self.mode {
            InterpolateMode::Nearest => {
                let [rows, columns] = self.nearest(input, output);
                params.extend(floats([
                    ("row_scale", rows.scale),
                    ("column_scale", columns.scale),
                ]));
                (shader!("interpolate_nearest"), rows.rows())
            }
            InterpolateMode::Bilinear => {
                let [rows, columns] = self.positions(input, output)?;
                params.extend(rows.params(["row_mul", "row_add", "row_div"]));
                params.extend(columns.params(["column_mul", "column_add", "column_div"]));
                (shader!("interpolate_bilinear"), rows.rows())
            }
        };
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader,
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows,
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        match self.mode {
            InterpolateMode::Nearest => Numerics::exact(),
            InterpolateMode::Bilinear => Numerics::elements(4, |inputs, expected| {
                let bound = resize_bound(inputs[0]);
                Ok(expected.map(|_| bound))
            }),
        }
    }
}

/// The error bound of an element of a resized `input`. The share of a tap comes from a division (2.5 ULP, 5
/// roundings) and a subtraction: it errs by 6 roundings of 1, however small it is. The shares of rows and columns
/// meet in 4 taps: 24, and 8 for the sum.
fn resize_bound(input: &Tensor) -> f32 {
    let largest = input.data().iter().fold(0.0f32, |max, x| max.max(x.abs()));
    32.0 * UNIT as f32 * largest
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resize = |h, w, align_corners| Interpolate::bilinear([h, w], align_corners);
    let nearest = |h, w| Interpolate {
        mode: InterpolateMode::Nearest,
        ..resize(h, w, false)
    };
    let scaled = |vertical, horizontal, mode| Interpolate {
        scale_factor: Some([vertical, horizontal]),
        mode,
        ..Interpolate::default()
    };
    let like = |mode| Interpolate {
        mode,
        ..Interpolate::default()
    };
    vec![
        case(resize(13, 7, false), [[1, 5, 6, 9]]),
        case(resize(4, 21, true), [[3, 4, 9, 8]]),
        case(resize(1, 1, false), [[1, 3, 5, 4]]),
        case(resize(3, 5, true), [[1, 8, 1, 1]]),
        case(nearest(13, 7), [[2, 5, 6, 9]]),
        case(nearest(82, 3), [[1, 4, 2, 8]]),
        case(scaled(1.7, 0.6, InterpolateMode::Bilinear), [[1, 5, 6, 9]]),
        case(scaled(2.0, 0.37, InterpolateMode::Nearest), [[3, 5, 6, 9]]),
        case(
            like(InterpolateMode::Bilinear),
            [[2, 3, 5, 4], [1, 2, 9, 7]],
        ),
        case(like(InterpolateMode::Nearest), [[2, 3, 5, 4], [1, 2, 9, 7]]),
    ]
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
