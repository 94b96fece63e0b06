//! The kernel of an attention, and the stages for heads that begin within a group of four channels and for sums that
//! take several dispatches.

use super::heads::Heads;
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Rows, Shader, Word, counts, floats, shader, sizes,
    words,
};
use crate::ops::numerics::{FLUSHED, Numerics, UNIT, sum_units};
use crate::ops::{Op, Stage, StageInput, shapes, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// Keys of a tile; a constant of the shader too.
const TILE: usize = 8;
/// Rows and columns of a block; constants of the shader too.
const BLOCK: [usize; 2] = [4, 16];
/// The most groups of four value channels that an invocation sums.
const MOST_QUADS: usize = 16;

/// The value channels of each head in chunks of equal size. Every invocation computes all scores for its chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunks {
    /// Groups of four channels of a chunk.
    pub quads: usize,
    /// Chunks of a head.
    of_head: usize,
}

impl Chunks {
    /// The fewest chunks. With several heads, each chunk is full, since the next head follows it in memory.
    pub fn of(heads: &Heads) -> Self {
        let quads = heads.value_channels().div_ceil(4);
        let least = quads.div_ceil(MOST_QUADS).max(1);
        let fits = |count: &usize| heads.count == 1 || quads.is_multiple_of(*count);
        let of_head = (least..=quads).find(fits).unwrap_or(1);
        Self {
            quads: quads.div_ceil(of_head),
            of_head,
        }
    }
}

/// The text of the shader for chunks of `quads` groups of four channels.
fn source(quads: usize, carried: bool) -> Shader {
    let Shader { name, source, .. } = shader!("attention");
    let source = source.replace("const QUADS = 4u;", &format!("const QUADS = {quads}u;"));
    let carried = format!("const CARRIED = {}u;", u8::from(carried));
    Shader::own(name, source.replace("const CARRIED = 0u;", &carried))
}

/// The kernel for aligned heads; with `carried`, it leaves its state for the next run of tiles of keys.
fn kernel(heads: &Heads, carried: bool) -> Kernel {
    let chunks = Chunks::of(heads);
    let written = chunks.quads + usize::from(carried);
    let output = heads.output();
    let out_c4 = match carried {
        true => heads.count * chunks.of_head * written,
        false => output.c4(),
    };
    let image = |shape: Shape| if shape.n == 1 { 0 } else { shape.h * shape.w };
    let query_quads = heads.query_channels().div_ceil(4);
    let mut params = sizes([
        ("out_height", output.h),
        ("out_width", output.w),
        ("out_c4", out_c4),
        ("query_c4", heads.query.c4()),
        ("query_quads", query_quads),
        ("value_c4", heads.value.c4()),
        ("value_quads", heads.value_channels().div_ceil(4)),
        ("head_chunks", chunks.of_head),
        ("keys", heads.keys()),
        ("query_image", image(heads.query)),
        ("key_image", image(heads.key)),
        ("value_image", image(heads.value)),
    ])
    .to_vec();
    params.extend(floats([("factor", heads.scale as f32)]));
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::TermBegin,
        Word::TermEnd,
    ]));
    params.extend([
        ("query_start", Word::InputStart(0)),
        ("key_start", Word::InputStart(1)),
        ("value_start", Word::InputStart(2)),
    ]);
    params.extend(words([Word::OutputStart]));
    params.extend(counts(Count::OF_BLOCKS));
    let activation = |input, rows| Binding::Activation {
        input,
        format: Format::Nhwc4,
        rows,
    };
    let kernel = Kernel {
        shader: source(chunks.quads, carried),
        constants: Vec::new(),
        bindings: vec![
            activation(0, Rows::shifted(0)),
            activation(1, heads.key_rows()),
            activation(2, heads.key_rows()),
        ],
        output: Format::Nhwc4,
        params,
        grid: Grid::Blocks {
            rows: BLOCK[0],
            columns: BLOCK[1],
            channels: 4 * written,
            parts: 1,
        },
        terms: Some(heads.keys().div_ceil(TILE)),
        // The loops over the parts of a query, over the sums to scale and over the values.
        steps_per_term: (query_quads + 2 * chunks.quads + 1) as u64,
        fixed_steps: 2 * chunks.quads as u64,
    };
    match carried {
        true => kernel,
        false => kernel.of_all_terms(),
    }
}

/// Operations of the kernel: it computes the scores for every chunk of a head again.
fn work(heads: &Heads) -> u64 {
    let channels = heads.query_channels() * Chunks::of(heads).of_head + heads.value_channels();
    (heads.output().pixels() as u64)
        .saturating_mul(heads.keys() as u64)
        .saturating_mul(2 * (heads.count * channels) as u64)
}

/// The kernel that computes the attention in one dispatch a band, if that is short enough; else the stages.
pub(super) fn candidates(heads: &Heads, target: &Target) -> Vec<Candidate> {
    if heads.are_aligned() {
        let kernel = kernel(heads, false);
        let output = heads.output();
        let rows = (output.n * output.h).max(1) as u64;
        let of_block = work(heads) / rows * BLOCK[0] as u64;
        let steps = kernel.steps_per_term.saturating_add(kernel.fixed_steps);
        if steps <= MAX_LOOP_STEPS && of_block <= target.device.dispatch_flops {
            return vec![Candidate::kernel(kernel)];
        }
    }
    vec![Candidate::stages(stages(heads))]
}

/// The stages, of which the last two give the sums and divide them.
pub(super) fn stages(heads: &Heads) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut inputs = [0, 1, 2].map(StageInput::Op);
    if !heads.are_aligned() {
        for (i, input) in inputs.iter_mut().enumerate() {
            stages.push(Stage {
                op: Arc::new(SpreadHeads { heads: heads.count }),
                inputs: vec![*input],
            });
            *input = StageInput::Stage(i);
        }
    }
    let aligned = heads.aligned();
    let sums = AttentionSums {
        heads: heads.count,
        scale: heads.scale,
    };
    stages.push(Stage {
        op: Arc::new(sums),
        inputs: inputs.to_vec(),
    });
    let chunks = Chunks::of(&aligned);
    stages.push(Stage {
        op: Arc::new(AttentionCombine {
            channels: heads.value.c,
            head_channels: heads.value_channels(),
            head_chunks: chunks.of_head,
            quads: chunks.quads,
        }),
        inputs: vec![StageInput::Stage(stages.len() - 1)],
    });
    stages
}

/// Pads the channels of each head with zeros to a multiple of 4.
#[derive(Clone, Debug)]
struct SpreadHeads {
    heads: usize,
}

impl SpreadHeads {
    fn head_channels(&self, input: Shape) -> usize {
        input.c / self.heads
    }
}

impl Op for SpreadHeads {
    fn name(&self) -> &'static str {
        "spread_heads"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let channels = self.head_channels(input).next_multiple_of(4);
        Ok(input.with_channels(self.heads * channels))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let (from, to) = (self.head_channels(input.shape()), output.c / self.heads);
        Tensor::from_fn(output, |n, c, y, x| match c % to < from {
            true => input.at(n, c / to * from + c % to, y, x),
            false => 0.0,
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let extra = sizes([
            ("in_c4", inputs[0].c4()),
            ("c4", output.c4()),
            ("head_channels", self.head_channels(inputs[0])),
            ("head_quads", output.c4() / self.heads),
        ]);
        let kernel = Kernel::elementwise(shader!("spread_heads"), &["input_start"], &extra, output);
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

/// For each chunk of value channels of each head, the sums of values weighed by `exp(score − largest score)`; then the
/// largest score, the sum of the weights, 0 and 0. Heads are aligned.
#[derive(Clone, Debug)]
struct AttentionSums {
    heads: usize,
    scale: f64,
}

impl AttentionSums {
    fn heads(&self, inputs: &[Shape]) -> Result<Heads> {
        Heads::new(
            self.heads,
            Some(self.scale),
            take_inputs(self.name(), inputs)?,
        )
    }
}

impl Op for AttentionSums {
    fn name(&self) -> &'static str {
        "attention_sums"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let heads = self.heads(inputs)?;
        let Chunks { quads, of_head } = Chunks::of(&heads);
        let channels = heads.count * of_head * 4 * (quads + 1);
        Ok(heads.output().with_channels(channels))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let heads = self.heads(&shapes(inputs))?;
        let Chunks { quads, of_head } = Chunks::of(&heads);
        let channels = 4 * (quads + 1);
        heads.map(
            take_inputs(self.name(), inputs)?,
            of_head * channels,
            |query, numbers| {
                let weights = query.weights();
                for (i, chunk) in numbers.chunks_mut(channels).enumerate() {
                    let (sums, state) = chunk.split_at_mut(4 * quads);
                    let own = 4 * quads * i..query.values.len();
                    for (sum, c) in sums.iter_mut().zip(own) {
                        *sum = query.weighed(c, &weights);
                    }
                    state[..2].copy_from_slice(&[query.top, weights.iter().sum()]);
                }
            },
        )
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(kernel(&self.heads(inputs)?, true))])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let length = inputs[1].c.saturating_add(inputs[1].h * inputs[1].w);
        Numerics::elements(length, |inputs, _expected| self.bounds(inputs))
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        self.heads(inputs).map_or(0, |heads| work(&heads))
    }
}

impl AttentionSums {
    /// The error bound of each element. Exponents err as `Query::exponent_errors` says, and by the error of the
    /// largest score, which is at most the largest of those; a sum has a rounding for every key.
    fn bounds(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let heads = self.heads(&shapes(inputs))?;
        let Chunks { quads, of_head } = Chunks::of(&heads);
        let channels = 4 * (quads + 1);
        heads.map(
            take_inputs(self.name(), inputs)?,
            of_head * channels,
            |query, numbers| {
                let errors = query.exponent_errors(self.scale);
                let of_top = errors.iter().fold(0.0, |most: f64, error| most.max(*error));
                let of_sum = sum_units(heads.keys()) * UNIT;
                let weights = query.weights().into_iter().zip(errors);
                let weights: Vec<_> = weights
                    .map(|(weight, error)| {
                        let error = error + of_top;
                        weight * (error.exp_m1() + error.exp() * of_sum) + FLUSHED
                    })
                    .collect();
                for (i, chunk) in numbers.chunks_mut(channels).enumerate() {
                    let (sums, state) = chunk.split_at_mut(4 * quads);
                    let own = 4 * quads * i..query.values.len();
                    for (sum, c) in sums.iter_mut().zip(own) {
                        let terms = weights.iter().zip(query.values[c]);
                        *sum = terms.map(|(w, v)| w * f64::from(v.abs())).sum();
                    }
                    state[..2].copy_from_slice(&[of_top, weights.iter().sum()]);
                }
            },
        )
    }
}

/// Divides the sums of weighed values by the sums of the weights.
#[derive(Clone, Debug)]
struct AttentionCombine {
    channels: usize,
    head_channels: usize,
    head_chunks: usize,
    quads: usize,
}

impl Op for AttentionCombine {
    fn name(&self) -> &'static str {
        "attention_combine"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input.with_channels(self.channels))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let (head, c) = (c / self.head_channels, c % self.head_channels);
            let chunk = head * self.head_chunks + c / (4 * self.quads);
            let first = chunk * 4 * (self.quads + 1);
            let at = |c: usize| f64::from(input.at(n, first + c, y, x));
            (at(c % (4 * self.quads)) / at(4 * self.quads + 1)) as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let extra = sizes([
            ("in_c4", inputs[0].c4()),
            ("c4", output.c4()),
            ("channels", self.channels),
            ("head_channels", self.head_channels),
            ("head_chunks", self.head_chunks),
            ("quads", self.quads),
        ]);
        let kernel = Kernel::elementwise(
            shader!("attention_combine"),
            &["input_start"],
            &extra,
            output,
        );
        Ok(vec![Candidate::kernel(kernel)])
    }

    /// A division of one term.
    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(1)
    }
}
