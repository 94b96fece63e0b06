//! Concatenation along the channels: `out = [input 0, input 1, …]` over dimension 1.
//!
//! Source: `torch.cat` with `dim=1`.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, Stage, StageInput, case};
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::sync::Arc;

/// Inputs of one kernel; every device binds this many beside the output and the buffer for f16's saturation. More
/// inputs are joined in stages.
const AT_ONCE: usize = 5;

/// Concatenation is over dimension 1, and has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cat {}

impl Op for Cat {
    fn name(&self) -> &'static str {
        "cat"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let Some(first) = inputs.first() else {
            bail!(Shape, "cat takes at least one input");
        };
        if let Some(other) = inputs.iter().find(|s| s.with_channels(first.c) != *first) {
            bail!(
                Shape,
                "cannot put {first} and {other} side by side: all but their channels must be equal"
            );
        }
        let channels = inputs.iter().map(|s| s.c);
        Ok(first.with_channels(channels.fold(0, usize::saturating_add)))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let of = |input: usize| (0..inputs[input].shape().c).map(move |c| (input, c));
        let channels: Vec<_> = (0..inputs.len()).flat_map(of).collect();
        Tensor::from_planes(output, |n, c, plane| {
            let (input, c) = channels[c];
            plane.copy_from_slice(inputs[input].plane(n, c));
        })
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        Ok(vec![match inputs.len() > AT_ONCE {
            true => Candidate::stages(Self::stages(inputs)),
            false => Candidate::kernel(Self::kernel(inputs, output)),
        }])
    }
}

impl Cat {
    /// The kernel for up to [`AT_ONCE`] inputs.
    fn kernel(inputs: &[Shape], output: Shape) -> Kernel {
        // The last input is bound in place of missing ones, which have no channels.
        let bound = |i: usize| i.min(inputs.len() - 1);
        let end = |i: usize| inputs.iter().take(i + 1).map(|s| s.c).sum::<usize>();
        let mut extra = sizes([("c4", output.c4())]).to_vec();
        let ends = ["a_end", "b_end", "c_end", "d_end", "e_end"];
        extra.extend(sizes::<AT_ONCE>(std::array::from_fn(|i| (ends[i], end(i)))));
        let aligned = inputs
            .split_last()
            .is_none_or(|(_, others)| others.iter().all(|s| s.c.is_multiple_of(4)));
        let binding = |i: usize| Binding::Activation {
            input: bound(i),
            format: Format::Nhwc4,
            rows: Rows::shifted(0),
        };
        Kernel {
            constants: vec![("ALIGNED", f64::from(u8::from(aligned)))],
            bindings: (0..AT_ONCE).map(binding).collect(),
            ..Kernel::elementwise(
                shader!("cat"),
                &["a_start", "b_start", "c_start", "d_start", "e_start"],
                &extra,
                output,
            )
        }
    }

    /// Joins runs of inputs of about equal length, then joins the results in turn. A stage reads inputs of the op or
    /// other stages, not both.
    fn stages(inputs: &[Shape]) -> Vec<Stage> {
        let mut stages = Vec::new();
        let mut level: Vec<_> = (0..inputs.len()).map(StageInput::Op).collect();
        while level.len() > AT_ONCE {
            let runs = level.len().div_ceil(AT_ONCE);
            let begin = |run: usize| run * level.len() / runs;
            let first = stages.len();
            stages.extend((0..runs).map(|run| Stage {
                op: Arc::new(Self {}),
                inputs: level[begin(run)..begin(run + 1)].to_vec(),
            }));
            level = (first..stages.len()).map(StageInput::Stage).collect();
        }
        if !stages.is_empty() {
            stages.push(Stage {
                op: Arc::new(Self {}),
                inputs: level,
            });
        }
        stages
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |channels: &[usize], [n, h, w]: [usize; 3]| Case {
        inputs: channels.iter().map(|c| Shape::new(n, *c, h, w)).collect(),
        ..case(Cat {}, [])
    };
    vec![
        of(&[5, 3], [1, 3, 7]),
        of(&[8, 4, 6], [3, 2, 5]),
        of(&[1, 2, 1, 3, 1], [2, 4, 3]),
        of(&[7], [1, 3, 3]),
        of(&[3, 1, 4, 1, 5, 9, 2], [2, 3, 2]),
        // Many rows of few pixels: small bindings show a part of each input.
        of(&[3, 1, 2, 5, 9], [1, 16, 1]),
    ]
}
