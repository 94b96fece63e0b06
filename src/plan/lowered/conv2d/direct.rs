//! The portable kernel: an invocation computes four pixels of four channels straight from memory.

use super::{Convolution, KernelParts};
use crate::error::Result;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Kernel, Packing, counts, shader, sizes};
use crate::tensor::Shape;

/// Invocations a workgroup.
const WORKGROUP: usize = 64;
/// Pixels an invocation.
const PIXELS: usize = 4;

/// Neighbouring invocations take neighbouring channels, up to 64 of them, and share their pixels.
/// If the map is pooled, the four pixels are a square of it.
pub(super) fn kernel(op: &Convolution, inputs: &[Shape], map: Shape) -> Result<Kernel> {
    let lanes = map.c4().next_power_of_two().min(16);
    let side = op.pool_side();
    let mut extra = counts([Count::PixelGroups]).to_vec();
    extra.extend(sizes([("lanes", lanes)]));
    extra.extend(op.sizes_of_groups(map, inputs[1]));
    let mut kernel = op.kernel(
        inputs,
        map,
        KernelParts {
            shader: shader!("conv2d"),
            packing: Packing::Conv {
                tile: 4 * lanes,
                pad_input: true,
            },
            grid: Grid::Tiles {
                pixels: WORKGROUP / lanes * PIXELS / (side * side),
                channels: 4 * lanes,
            },
            terms: Some(inputs[1].c4()),
            extra,
        },
    )?;
    kernel.constants.push(("POOL", side as f64));
    Ok(kernel)
}
