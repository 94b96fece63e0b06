//! A kernel as data: shader, constants, bindings, parameters and grid.
//!
//! An op says *how* one part of its output is computed; the planner decides *which* parts: it cuts
//! the output into bands of rows and runs of channels, and long sums into runs of terms, so that no
//! binding, buffer or dispatch outgrows the device. Parameters that depend on the cut are [`Word`]s, which the planner
//! replaces by numbers.

use super::grid::{Count, Grid};
use super::packing::winograd::Transform;
use crate::target::Target;
use crate::tensor::Shape;
use std::borrow::Cow;

/// The most loop steps that one invocation may take, all its loops together.
///
/// Mesa's lavapipe ends loops silently after 65,535 steps; real devices have watchdogs.
pub const MAX_LOOP_STEPS: u64 = 60_000;

/// The layout of a tensor in a device buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32, `[n, h, w, c]`, channels padded with zeros to a multiple of 4. One element is a `vec4<f32>`.
    Nhwc4,
    /// The same in f16: one element is a `vec4<f16>`.
    Nhwc4Half,
    /// `Nhwc4` of integers stored as f32 (indices of a pooling) or of statistics between stages, never lowered to f16.
    /// Only kernels name this format; in a plan the tensor is `Nhwc4`.
    Nhwc4Exact,
    /// `Nhwc4` between stages, if it is f16 in a plan of f16, where other such tensors stay f32. Only kernels name this
    /// format; in a plan the tensor is `Nhwc4` or `Nhwc4Half`.
    Nhwc4Between,
    /// A picture: one `u32` a pixel, red in the lowest byte.
    Rgba8,
    /// Class ids: one byte a pixel, four to a `u32`, lowest byte first.
    Labels8,
}

impl Format {
    /// Bytes of a tensor of `shape`, whole `u32`s.
    pub fn bytes(self, shape: Shape) -> u64 {
        let pixels = shape.pixels() as u64;
        match self {
            Self::Nhwc4 | Self::Nhwc4Exact | Self::Nhwc4Between => {
                pixels.saturating_mul(shape.c4() as u64 * 16)
            }
            Self::Nhwc4Half => pixels.saturating_mul(shape.c4() as u64 * 8),
            Self::Rgba8 => pixels.saturating_mul(4),
            Self::Labels8 => pixels.div_ceil(4) * 4,
        }
    }

    /// Pixels of one element.
    pub const fn pixels_per_element(self) -> usize {
        match self {
            Self::Labels8 => 4,
            _ => 1,
        }
    }

    /// Bytes of one element, the unit of [`Word::InputStart`] and [`Word::OutputStart`].
    pub const fn element_bytes(self) -> u64 {
        match self {
            Self::Nhwc4 | Self::Nhwc4Exact | Self::Nhwc4Between => 16,
            Self::Nhwc4Half => 8,
            Self::Rgba8 | Self::Labels8 => 4,
        }
    }
}

/// WGSL text and the name of its file in `shaders/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// File name without extension.
    pub name: &'static str,
    /// The text.
    pub source: Cow<'static, str>,
    /// The text as this crate wrote it, if it did.
    own: Option<Cow<'static, str>>,
}

impl Shader {
    /// A shader of somebody else's. It runs with bounds checks and loop guards, whatever the device was opened with.
    pub fn new(name: &'static str, source: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name,
            source: source.into(),
            own: None,
        }
    }

    /// This crate's own, which its tests run with checks.
    pub(crate) fn own(name: &'static str, source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        Self {
            name,
            own: Some(source.clone()),
            source,
        }
    }

    /// The same with `source` in place of its text, which this crate made of that.
    pub(crate) fn rewritten(&self, source: String) -> Self {
        match self.is_own() {
            true => Self::own(self.name, source),
            false => Self::new(self.name, source),
        }
    }

    /// Whether the text is this crate's own, to the letter: only then may it run without checks.
    pub fn is_own(&self) -> bool {
        self.own.as_ref() == Some(&self.source)
    }
}

/// `shader!("relu")` is the [`Shader`] in `shaders/relu.wgsl`.
macro_rules! shader {
    ($name:literal) => {
        $crate::ops::kernel::Shader::own(
            $name,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/shaders/",
                $name,
                ".wgsl"
            )),
        )
    };
}
pub(crate) use shader;

/// Which input rows an output row needs: for output row y of an image, the rows from
/// ⌊(y · `mul` + `first`) / `div`⌋ to ⌊(y · `mul` + `last`) / `div`⌋, both included, clipped to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Factor of the output row.
    pub mul: i64,
    /// Divisor.
    pub div: i64,
    /// Added for the first row.
    pub first: i64,
    /// Added for the last row.
    pub last: i64,
}

impl Rows {
    /// Row y needs only row y + `offset`.
    pub const fn shifted(offset: usize) -> Self {
        Self {
            mul: 1,
            div: 1,
            first: offset as i64,
            last: offset as i64,
        }
    }

    /// The most input rows that `rows` consecutive output rows of an image need.
    pub const fn span(&self, rows: usize) -> usize {
        let reach = (rows as i64 - 1) * self.mul + self.last - self.first;
        // Where positions are fractions, the first row may begin anywhere between two.
        (reach.div_euclid(self.div) + 1 + (self.div > 1) as i64) as usize
    }

    /// Every row needs all of the `height` rows of its image.
    pub const fn all(height: usize) -> Self {
        Self {
            mul: 0,
            div: 1,
            first: 0,
            last: height as i64 - 1,
        }
    }

    /// The input rows `[begin, end)` for the output rows `[begin, end)`, never empty.
    ///
    /// Rows count through the batch: image 0's rows first, then image 1's. An input of one image serves every
    /// image of the output.
    pub fn needed(
        &self,
        rows: std::ops::Range<usize>,
        output: Shape,
        input: Shape,
    ) -> std::ops::Range<usize> {
        let row = |y: usize, add: i64| {
            (y as i64 * self.mul + add)
                .div_euclid(self.div)
                .clamp(0, input.h as i64 - 1) as usize
        };
        let (first, last) = (rows.start, rows.end - 1);
        let (mut images, mut at) = (
            [first / output.h, last / output.h],
            [first % output.h, last % output.h],
        );
        if input.n == 1 {
            // Output rows of several images may need any row of the one input image.
            if images[0] != images[1] {
                at = [0, output.h - 1];
            }
            images = [0, 0];
        }
        let begin = images[0] * input.h + row(at[0], self.first);
        let end = images[1] * input.h + row(at[1], self.last) + 1;
        begin..end.max(begin + 1)
    }
}

/// How a weight is packed at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Packing {
    /// A convolution's `[out, in / groups, kh, kw]` as `[out tile][ky][kx][in][out in tile]`: tiles of
    /// `tile` output channels, input channels padded to a multiple of 4 when `pad_input`, zeros in
    /// all padding. A weight larger than a binding is cut between tiles.
    Conv {
        /// Output channels a tile, a multiple of 4.
        tile: usize,
        /// Pad the input channels to a multiple of 4.
        pad_input: bool,
    },
    /// An ungrouped convolution's `[out, in, kh, kw]` as `[out tile][ky][kx][in / 4][out in tile][4]`: as `Conv`, but four
    /// input channels of an output channel lie side by side.
    ConvTerms {
        /// Output channels a tile, a multiple of 4.
        tile: usize,
    },
    /// A transposed convolution's `[in, out / groups, kh, kw]` with `groups` groups as
    /// `[out / 4][ky][kx][in / groups][4]`, input channels padded to a multiple of 4 when ungrouped.
    ConvTranspose {
        /// Groups of the convolution.
        groups: usize,
    },
    /// The weight `[out, in, r, r]` of a convolution after one of Winograd's transforms as
    /// `[out tile][point][in][out in tile]`, input channels padded to a multiple of 4.
    Winograd {
        /// Output channels a tile, a multiple of 4.
        tile: usize,
        /// The transform.
        transform: Transform,
    },
    /// The same as `[out tile][point][in / 4][out in tile][4]`: four input channels of an output channel lie side by side.
    WinogradTerms {
        /// Output channels a tile, a multiple of 4.
        tile: usize,
        /// The transform.
        transform: Transform,
    },
    /// The diagonal of a transposed convolution's `[c, c, kh, kw]` as `[c / 4][ky][kx][4]`, zeros in the
    /// padding.
    Diagonal,
    /// A bias, padded with zeros to a multiple of 4.
    Vector,
    /// `[n, c, h, w]` as an activation lies in memory, [`Format::Nhwc4`].
    Pixels,
}

/// What a kernel reads at one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The op's input number `input`, an activation in `format`.
    Activation {
        /// Position among the op's inputs.
        input: usize,
        /// Its layout in memory.
        format: Format,
        /// The rows that an output row needs.
        rows: Rows,
    },
    /// An activation in [`Format::Nhwc4`], mirrored in a texture of
    /// [`TEXEL_ROW_BYTES`](crate::device_profile::TEXEL_ROW_BYTES) a row, below one row of zeros.
    ActivationTexels {
        /// Position among the op's inputs.
        input: usize,
        /// The rows that an output row needs.
        rows: Rows,
    },
    /// The op's input number `input`, a parameter packed at load.
    Parameter {
        /// Position among the op's inputs.
        input: usize,
        /// How it is packed.
        packing: Packing,
    },
    /// A parameter packed in f16.
    ParameterHalf {
        /// Position among the op's inputs.
        input: usize,
        /// How it is packed.
        packing: Packing,
    },
    /// A parameter packed in f32, in a texture of [`TEXEL_ROW_BYTES`](crate::device_profile::TEXEL_ROW_BYTES) a row.
    ParameterTexels {
        /// Position among the op's inputs.
        input: usize,
        /// How it is packed.
        packing: Packing,
    },
    /// Zeros for `channels` channels, in place of a missing bias.
    Zeros {
        /// Number of channels.
        channels: usize,
    },
}

impl Binding {
    /// The bound activation: its position among the op's inputs, its format and the rows. `None` for other bindings.
    pub fn activation(&self) -> Option<(usize, Format, Rows)> {
        match *self {
            Self::Activation {
                input,
                format,
                rows,
            } => Some((input, format, rows)),
            Self::ActivationTexels { input, rows } => Some((input, Format::Nhwc4, rows)),
            _ => None,
        }
    }

    /// The bound parameter: its position among the op's inputs, and its packing. `None` for other bindings.
    pub fn parameter(&self) -> Option<(usize, Packing)> {
        match *self {
            Self::Parameter { input, packing }
            | Self::ParameterHalf { input, packing }
            | Self::ParameterTexels { input, packing } => Some((input, packing)),
            _ => None,
        }
    }

    /// Bytes of an element of the bound parameter.
    pub const fn parameter_element_bytes(&self) -> u64 {
        match self {
            Self::ParameterHalf { .. } => 2,
            _ => 4,
        }
    }

    /// Whether the binding is a texture.
    pub const fn is_texels(&self) -> bool {
        matches!(
            self,
            Self::ActivationTexels { .. } | Self::ParameterTexels { .. }
        )
    }
}

/// One 32-bit word of a kernel's `Params`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// A number that does not depend on the cut.
    Value(u32),
    /// A float that does not depend on the cut.
    Float(f32),
    /// First row of the band; rows count through the batch.
    RowBegin,
    /// End of the band's rows.
    RowEnd,
    /// First group of four output channels in this dispatch.
    ChannelBegin,
    /// End of the groups of four output channels.
    ChannelEnd,
    /// First term of the sum, in steps of the loop over terms ([`Kernel::terms`]).
    TermBegin,
    /// End of the terms.
    TermEnd,
    /// First element that binding number `.0` shows.
    InputStart(usize),
    /// First element that the output binding shows.
    OutputStart,
    /// A number of the grid, for this dispatch.
    Count(Count),
}

impl Word {
    /// The member's name in a shader. Values have names of their own, as have the starts of all inputs but the first.
    const fn name(self) -> &'static str {
        match self {
            Self::Value(_) | Self::Float(_) => "value",
            Self::RowBegin => "row_begin",
            Self::RowEnd => "row_end",
            Self::ChannelBegin => "channel_begin",
            Self::ChannelEnd => "channel_end",
            Self::TermBegin => "term_begin",
            Self::TermEnd => "term_end",
            Self::InputStart(_) => "input_start",
            Self::OutputStart => "output_start",
            Self::Count(count) => count.name(),
        }
    }
}

/// A member of a shader's `Params`: its name and its value.
pub type Param = (&'static str, Word);

/// Members named after their words.
pub fn words<const N: usize>(words: [Word; N]) -> [Param; N] {
    words.map(|word| (word.name(), word))
}

/// Members that hold sizes. They fit a `u32`: shapes and attributes are limited to 2²⁴ before, and a plan refuses
/// tensors of more elements than a `u32` counts.
pub fn sizes<const N: usize>(sizes: [(&'static str, usize); N]) -> [Param; N] {
    sizes.map(|(name, size)| {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        (name, Word::Value(size))
    })
}

/// Members that hold counts of the grid.
pub fn counts<const N: usize>(counts: [Count; N]) -> [Param; N] {
    words(counts.map(Word::Count))
}

/// Members that hold floats.
pub fn floats<const N: usize>(floats: [(&'static str, f32); N]) -> [Param; N] {
    floats.map(|(name, value)| (name, Word::Float(value)))
}

/// Everything the planner needs to cut a kernel into dispatches and the executor to run them.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The shader.
    pub shader: Shader,
    /// Values of the shader's `override`s, fixed by the model.
    pub constants: Vec<(&'static str, f64)>,
    /// The buffers it reads, from binding 0 on; the output and then `Params` follow.
    pub bindings: Vec<Binding>,
    /// The output's layout in memory.
    pub output: Format,
    /// The members of `Params`, in the order of the shader's struct.
    pub params: Vec<Param>,
    /// What one workgroup writes.
    pub grid: Grid,
    /// Steps of the outer loop over the terms of a sum (input channels, positions of a window), if several dispatches
    /// can add up runs of terms.
    pub terms: Option<usize>,
    /// Loop steps of one invocation per term, or in all if `terms` is `None`.
    pub steps_per_term: u64,
    /// Further loop steps of one invocation per dispatch: the loops around the loop over terms.
    pub fixed_steps: u64,
}

impl Kernel {
    /// Whether the device can bind its buffers.
    pub fn fits(&self, target: &Target) -> bool {
        let buffers = self.bindings.iter().filter(|b| !b.is_texels());
        // In f16, one more tells of values that do not fit.
        let buffers = buffers.count() + usize::from(target.options.half);
        let in_half = !target.options.half || self.can_be_half();
        buffers < target.device.max_storage_buffers as usize && in_half
    }

    /// The same kernel with a shader that reads activations and weights as texels.
    pub fn reading_texels(mut self) -> Self {
        for binding in &mut self.bindings {
            *binding = match *binding {
                Binding::Activation { input, rows, .. } => {
                    Binding::ActivationTexels { input, rows }
                }
                Binding::Parameter { input, packing } if !packing.is_whole() => {
                    Binding::ParameterTexels { input, packing }
                }
                other => other,
            };
        }
        self
    }

    /// The same kernel with all terms of a sum in one dispatch.
    pub fn of_all_terms(mut self) -> Self {
        let Some(terms) = self.terms.take() else {
            return self;
        };
        let [(_, none), (_, all)] = sizes([("begin", 0), ("end", terms)]);
        for (_, word) in &mut self.params {
            *word = match *word {
                Word::TermBegin => none,
                Word::TermEnd => all,
                other => other,
            };
        }
        self.steps_per_term = self.steps_per_term.saturating_mul(terms as u64);
        self
    }

    /// A kernel that maps activations to an output of the same size, element by element. `inputs` names the member with
    /// the start of each input; the other parameters are the rows, a row's elements, the output's start and `extra`.
    pub fn elementwise(
        shader: Shader,
        inputs: &[&'static str],
        extra: &[Param],
        shape: Shape,
    ) -> Self {
        let mut params = words([Word::RowBegin, Word::RowEnd]).to_vec();
        params.extend(sizes([("row_elements", shape.w * shape.c4())]));
        params.extend(words([Word::OutputStart]));
        let starts = inputs.iter().enumerate();
        params.extend(starts.map(|(i, name)| (*name, Word::InputStart(i))));
        params.extend(extra);
        Self {
            shader,
            constants: Vec::new(),
            bindings: (0..inputs.len())
                .map(|input| Binding::Activation {
                    input,
                    format: Format::Nhwc4,
                    rows: Rows::shifted(0),
                })
                .collect(),
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_strided_padded_kernel() {
        // 3 rows, stride 2, padding 1: row 0 needs -1..=1, row 3 needs 5..=7.
        let rows = Rows {
            mul: 2,
            div: 1,
            first: -1,
            last: 1,
        };
        let of_height = |h| Shape::new(2, 1, h, 1);
        let needed = |range| rows.needed(range, of_height(4), of_height(7));
        assert_eq!(needed(0..1), 0..2);
        assert_eq!(needed(3..4), 5..7);
        assert_eq!(needed(1..3), 1..6);
        // Across the end of the first image: its last row to the second image's first.
        assert_eq!(needed(3..5), 5..9);
    }

    #[test]
    fn one_image_serves_every_image_of_the_output() {
        let (output, input) = (Shape::new(3, 1, 4, 1), Shape::new(1, 1, 4, 1));
        let needed = |range| Rows::shifted(0).needed(range, output, input);
        assert_eq!(needed(5..7), 1..3);
        assert_eq!(needed(3..4), 3..4);
        assert_eq!(needed(3..5), 0..4);
        assert_eq!(needed(0..12), 0..4);
        assert_eq!(
            Rows::all(1).needed(6..11, output, input.with_size(1, 1)),
            0..1
        );
    }

    #[test]
    fn rows_all_in_the_padding_still_name_one_row() {
        let rows = Rows {
            mul: 1,
            div: 1,
            first: -100,
            last: -98,
        };
        let of_height = |h| Shape::new(1, 1, h, 1);
        assert_eq!(rows.needed(0..1, of_height(199), of_height(1)), 0..1);
    }

    #[test]
    fn labels_are_whole_words() {
        assert_eq!(Format::Labels8.bytes(Shape::new(1, 1, 3, 3)), 12);
        assert_eq!(Format::Nhwc4.bytes(Shape::new(2, 5, 3, 3)), 2 * 9 * 32);
    }
}
