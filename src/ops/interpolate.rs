//! Resize to another height and width: `nearest` and `nearest-exact` copy an input pixel, `bilinear` mixes the four
//! input pixels around the source position, `bicubic` the sixteen.
//!
//! The output's size is `size`, or that of a second input, whose values are not read, or ⌊size · `scale_factor`⌋. From
//! one output pixel to the next, the source moves by s = in / out. As in PyTorch, s = 1 / `scale_factor` if that is
//! given and not to be recomputed; s = 1 if in = out, except in modes `nearest-exact` and `bicubic` without
//! antialiasing.
//!
//! - `bilinear`: the source of output row y is max((y + 0.5) · s − 0.5, 0), and with `align_corners`
//!   y · (in − 1) / (out − 1). Positions are whole fractions, so that no size is too large for `f32`. A `scale_factor`
//!   becomes the nearest fraction within the limits of integers: the factor itself if it has few digits. It never
//!   moves the source of a pixel by 2⁻¹² of a pixel.
//! - `bicubic`: as `bilinear`, but the source may be negative; input pixels outside count as the nearest inside.
//! - with `antialias`, the filter is the wider the larger s is, see `antialias.rs`.
//! - `nearest`: the source is ⌊y · s⌋, s and the product each rounded to `f32` as in PyTorch. The rounding decides if
//!   the exact product is a whole number or close to one. If out = 2 · in, s = ½ whatever the factor.
//! - `nearest-exact`: the source is ⌊(y + 0.5) · s⌋, rounded likewise.
//!
//! Source: `torch.nn.functional.interpolate`.

mod antialias;
mod nearest;
mod positions;

pub(crate) use positions::{Positions, lowest_terms};

use super::attributes::optional_pair;
use super::numerics::{Numerics, UNIT};
use super::{Case, Op, Probabilities, case};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use antialias::{Antialiased, Filter};
use nearest::Nearest;
use positions::Axis;
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
    /// The input pixels that an output pixel is made of.
    #[serde(default)]
    pub mode: InterpolateMode,
    /// For `bilinear` and `bicubic`: align the centres of the corner pixels, instead of the corners of the picture.
    #[serde(default, deserialize_with = "flag")]
    pub align_corners: bool,
    /// Compute positions from the sizes even if a `scale_factor` is given.
    #[serde(default, deserialize_with = "flag")]
    pub recompute_scale_factor: bool,
    /// For `bilinear` and `bicubic`: where the output is smaller, mix all input pixels under a wider filter.
    #[serde(default, deserialize_with = "flag")]
    pub antialias: bool,
}

/// The input pixels that an output pixel is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterpolateMode {
    /// One input pixel.
    #[default]
    Nearest,
    /// One, from the middle of the output pixel.
    #[serde(rename = "nearest-exact")]
    NearestExact,
    /// Four, mixed.
    Bilinear,
    /// Sixteen, mixed by Keys' cubic with a = −¾.
    Bicubic,
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

    /// The rows and the columns of a resize. Sizes that stay are copied whatever the factor, except by the modes whose
    /// positions PyTorch computes even then.
    fn axes(&self, input: Shape, output: Shape) -> [Axis; 2] {
        let follows = [InterpolateMode::NearestExact, InterpolateMode::Bicubic];
        [(0, input.h, output.h), (1, input.w, output.w)].map(|(axis, inputs, outputs)| Axis {
            inputs,
            outputs,
            factor: self
                .factor(axis)
                .filter(|_| inputs != outputs || follows.contains(&self.mode)),
            align_corners: self.align_corners,
        })
    }

    /// The source positions of rows and columns, or an error where they would overflow an `i32`.
    pub(crate) fn positions(&self, input: Shape, output: Shape) -> Result<[Positions; 2]> {
        let [rows, columns] = self.axes(input, output);
        Ok([rows.positions()?, columns.positions()?])
    }

    /// The filters of an antialiased resize.
    fn antialiased(&self, input: Shape, output: Shape) -> Result<Antialiased> {
        let cubic = self.mode == InterpolateMode::Bicubic;
        let [rows, columns] = self.axes(input, output);
        Ok(Antialiased {
            filters: [Filter::new(rows, cubic)?, Filter::new(columns, cubic)?],
        })
    }

    /// The nearest rows and columns.
    fn nearest(&self, input: Shape, output: Shape) -> [Nearest; 2] {
        let exact = self.mode == InterpolateMode::NearestExact;
        self.axes(input, output).map(|axis| Nearest {
            inputs: axis.inputs,
            offset: if exact { 0.5 } else { 0.0 },
            scale: match axis.factor {
                _ if 2 * axis.inputs == axis.outputs && !exact => 0.5,
                Some(factor) => (1.0 / factor) as f32,
                None => axis.inputs as f32 / axis.outputs as f32,
            },
        })
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

    fn bicubic_reference(&self, input: &Tensor, output: Shape) -> Result<Tensor> {
        let [rows, columns] = self.positions(input.shape(), output)?;
        let Shape { h, w, .. } = input.shape();
        // The four inputs around a position and their weights. Those outside count as the nearest inside.
        let taps = |positions: &Positions, i: usize, size: usize| {
            let (before, t) = positions.before(i);
            let inputs = [-1, 0, 1, 2].map(|tap| (before + tap).clamp(0, size as i64 - 1) as usize);
            let near = |x: f64| (1.25 * x - 2.25) * x * x + 1.0;
            let far = |x: f64| -0.75 * (x - 1.0) * (x - 2.0) * (x - 2.0);
            (inputs, [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)])
        };
        Tensor::from_planes(output, |n, c, plane| {
            let source = input.plane(n, c);
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let (lines, down) = taps(&rows, y, h);
                for (x, out) in line.iter_mut().enumerate() {
                    let (places, right) = taps(&columns, x, w);
                    let across = |line: usize| -> f64 {
                        let values = places.map(|x| f64::from(source[line * w + x]));
                        values.iter().zip(right).map(|(v, share)| v * share).sum()
                    };
                    let terms = lines.iter().zip(down);
                    *out = terms.map(|(y, share)| across(*y) * share).sum::<f64>() as f32;
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
        let nearest = [InterpolateMode::Nearest, InterpolateMode::NearestExact];
        if (self.align_corners || self.antialias) && nearest.contains(&self.mode) {
            bail!(
                Shape,
                "align_corners and antialias are of modes bilinear and bicubic, not of {:?}",
                self.mode
            );
        }
        Ok(input.with_size(size[0], size[1]))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let input = inputs[0];
        if self.antialias {
            return self.antialiased(input.shape(), output)?.reference(&[input]);
        }
        match self.mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => {
                self.nearest_reference(input, output)
            }
            InterpolateMode::Bilinear => self.bilinear_reference(input, output),
            InterpolateMode::Bicubic => self.bicubic_reference(input, output),
        }
    }

    fn reads(&self, input: usize) -> bool {
        input == 0
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        if self.antialias {
            return self
                .antialiased(input, output)?
                .candidates(&[input], target);
        }
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
        ])
        .to_vec();
        let (shader, rows) = match self.mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => {
                let [rows, columns] = self.nearest(input, output);
                params.extend(floats([
                    ("row_scale", rows.scale),
                    ("column_scale", columns.scale),
                    ("offset", rows.offset),
                ]));
                (shader!("interpolate_nearest"), rows.rows())
            }
            InterpolateMode::Bilinear | InterpolateMode::Bicubic => {
                let [rows, columns] = self.positions(input, output)?;
                params.extend(rows.params(["row_mul", "row_add", "row_div"]));
                params.extend(columns.params(["column_mul", "column_add", "column_div"]));
                match self.mode {
                    InterpolateMode::Bicubic => (shader!("interpolate_bicubic"), rows.four_rows()),
                    _ => (shader!("interpolate_bilinear"), rows.rows()),
                }
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

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        if self.antialias {
            let filters = self.output_shape(inputs);
            let filters = filters.and_then(|output| self.antialiased(inputs[0], output));
            return match filters {
                Ok(filters) => filters.into_numerics(),
                // Nothing is computed for these inputs.
                Err(_) => Numerics::exact(),
            };
        }
        let of_taps = |taps: usize, units: f64| {
            Numerics::elements(taps, move |inputs, expected| {
                let values = inputs[0].data().iter();
                let largest = values.fold(0.0f32, |max, x| max.max(x.abs()));
                Ok(expected.map(|_| (units * UNIT) as f32 * largest))
            })
        };
        match self.mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => Numerics::exact(),
            InterpolateMode::Bilinear => of_taps(4, BILINEAR_UNITS),
            InterpolateMode::Bicubic => of_taps(16, BICUBIC_UNITS),
        }
    }
}

/// The error of an element of a bilinear resize, in units of the largest input. The share of a tap comes from a
/// division (2.5 ULP, 5 roundings) and a subtraction: it errs by 6 roundings of 1, however small it is. The shares of
/// rows and columns meet in 4 taps: 24, and 8 for the sum.
const BILINEAR_UNITS: f64 = 32.0;

/// The same for a bicubic resize. The position between two taps errs by 6 roundings of 1 as well. The weights of the
/// two near taps have slopes of at most 1.4 and 9 roundings of their own, those of the far taps slopes of at most ¾ and 4
/// roundings: all four together err by 53. The magnitudes of weights add up to at most 1.4: 150 for the weights of both
/// axes, and 8 · 1.4² for the sums.
const BICUBIC_UNITS: f64 = 166.0;

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resize = |h, w, align_corners| Interpolate::bilinear([h, w], align_corners);
    let nearest = |h, w| Interpolate {
        mode: InterpolateMode::Nearest,
        ..resize(h, w, false)
    };
    let exact = |h, w| Interpolate {
        mode: InterpolateMode::NearestExact,
        ..resize(h, w, false)
    };
    let bicubic = |h, w, align_corners| Interpolate {
        mode: InterpolateMode::Bicubic,
        ..resize(h, w, align_corners)
    };
    let smooth = |resize| Interpolate {
        antialias: true,
        ..resize
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
        case(exact(13, 7), [[2, 5, 6, 9]]),
        case(bicubic(13, 7, false), [[2, 5, 6, 9]]),
        case(bicubic(4, 21, true), [[1, 4, 9, 8]]),
        case(scaled(1.7, 0.6, InterpolateMode::Bicubic), [[3, 6, 4, 9]]),
        case(smooth(resize(3, 5, false)), [[2, 5, 11, 13]]),
        case(smooth(resize(9, 4, false)), [[1, 4, 4, 9]]),
        case(smooth(resize(4, 7, false)), [[1, 3, 17, 7]]),
        case(smooth(bicubic(3, 5, false)), [[1, 7, 16, 11]]),
        case(smooth(bicubic(6, 3, false)), [[2, 4, 6, 19]]),
        case(
            smooth(scaled(0.3, 0.37, InterpolateMode::Bilinear)),
            [[1, 5, 17, 14]],
        ),
    ]
}
