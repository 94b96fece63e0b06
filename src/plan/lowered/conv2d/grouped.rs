//! Groups of any size: an invocation computes one pixel of four channels, each of which finds its own group.
//! Groups of whole fours of channels, and depthwise convolutions with small windows, have faster kernels.

use super::{Convolution, KernelParts};
use crate::error::Result;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Kernel, Packing, counts, shader, sizes};
use crate::tensor::Shape;

pub(super) fn kernel(op: &Convolution, inputs: &[Shape], output: Shape) -> Result<Kernel> {
    let weight = inputs[1];
    op.kernel(
        inputs,
        output,
        KernelParts {
            shader: shader!("conv2d_grouped"),
            packing: Packing::Conv {
                tile: 4,
                pad_input: false,
            },
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4,
            },
            terms: Some(weight.c),
            extra: [
                &counts([Count::PixelGroups])[..],
                &sizes([
                    ("out_channels", output.c),
                    ("group_outputs", output.c / op.conv.groups),
                ]),
            ]
            .concat(),
        },
    )
}
