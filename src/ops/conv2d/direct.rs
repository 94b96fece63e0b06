//! The portable kernel: an invocation computes four pixels of four channels straight from memory.

use super::{Conv2d, Parts};
use crate::ops::kernel::{Grid, Kernel, Packing, Word, shader};
use crate::tensor::Shape;

/// Invocations a workgroup.
const WORKGROUP: usize = 64;
/// Pixels an invocation.
const PIXELS: usize = 4;

/// Neighbouring invocations take neighbouring channels, up to 64 of them, and share their pixels.
pub(super) fn kernel(op: &Conv2d, inputs: &[Shape], output: Shape) -> Kernel {
    let lanes = output.c4().next_power_of_two().min(16);
    op.kernel(
        inputs,
        output,
        Parts {
            shader: shader!("conv2d"),
            packing: Packing::Conv {
                tile: 4 * lanes,
                pad_input: true,
            },
            grid: Grid::Tiles {
                pixels: WORKGROUP / lanes * PIXELS,
                channels: 4 * lanes,
            },
            terms: Some(inputs[0].c4()),
            extra: Word::sizes([lanes]).to_vec(),
        },
    )
}
