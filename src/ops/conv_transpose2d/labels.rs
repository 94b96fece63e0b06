//! The kernels that label each pixel of the scores which a transposed convolution makes, without writing
//! them: the last upsampling of FCN, its crop and the labels as one.

use super::{ConvTranspose2d, groups_at_once};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::Op;
use crate::ops::grid::{Count, Grid, Line, Run};
use crate::ops::interpolate::lowest_terms;
use crate::ops::kernel::{Binding, Format, Kernel, Word, counts, shader, sizes, words};
use crate::tensor::Shape;

/// The kernel for `op` on `inputs` and the labels of its result.
///
/// A label is a byte, four neighbours are a word, and pixels that share their taps are a stride apart. So an
/// invocation labels words that lie a common multiple of four and the stride apart. Where rows are
/// whole words, it keeps to one row; else to the band, and takes up the taps anew where its pixels go on in
/// another row.
///
/// # Errors
/// `Limit` where the weight does not fit one binding: all classes of a pixel are computed in one dispatch.
pub(in crate::ops) fn kernel(
    op: &ConvTranspose2d,
    inputs: &[Shape],
    device: &DeviceProfile,
) -> Result<Kernel> {
    let output = op.output_shape(inputs)?;
    let by_name = op.inputs(inputs)?;
    let bindings = op.bindings(by_name, output.c);
    check_weight(&bindings, by_name.weight, device)?;

    let pixels = if device.is_cpu { 8 } else { 4 };
    let (across, _) = lowest_terms(4, op.stride[1]);
    let step = op.stride[1] * across;
    let whole_rows = output.w.is_multiple_of(4);

    let params = op.sizes(
        by_name.input,
        by_name.weight,
        output,
        ("channels", output.c),
    );
    let mut params = params.to_vec();
    params.extend(sizes([("step", step)]));
    params.extend(counts([Count::LinePixels, Count::LineItems]));
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::InputStart(0),
        Word::OutputStart,
    ]));
    let wide = ("WIDE", f64::from(u8::from(device.is_cpu)));
    let groups = groups_at_once(output.c4());
    let [rows, columns] = op.taps(by_name.weight);
    let (shader, constants, of_pixel) = if op.diagonal {
        let steps = output.c4() * (1 + rows * (1 + columns));
        (shader!("argmax_upsampled_diagonal"), vec![wide], steps)
    } else {
        let of_groups = 1 + rows * (1 + columns * (1 + by_name.input.c4()));
        let steps = output.c4().div_ceil(groups) * of_groups;
        let constants = vec![("GROUPS", groups as f64), wide];
        (shader!("argmax_upsampled"), constants, steps)
    };
    // The most rows that an invocation's pixels of one of its four columns lie in.
    let lines = match whole_rows {
        true => 1,
        false => pixels.min(2 + (pixels - 1) * step / output.w),
    };
    Ok(Kernel {
        shader,
        constants,
        bindings,
        output: Format::Labels8,
        params,
        grid: Grid::Items {
            items: 64,
            run: Run {
                elements: pixels,
                apart: step / 4,
                quads: 1,
                line: if whole_rows { Line::Row } else { Line::Band },
            },
            channels: 4,
        },
        terms: None,
        steps_per_term: (4 * (1 + lines * (1 + of_pixel)) + pixels) as u64,
        fixed_steps: 0,
    })
}

/// An error if the weight is larger than a binding.
fn check_weight(bindings: &[Binding], weight: Shape, device: &DeviceProfile) -> Result<()> {
    let most = device.max_binding_bytes.min(device.max_buffer_bytes);
    for binding in bindings {
        let Binding::Parameter { input: 1, packing } = binding else {
            continue;
        };
        let bytes = packing
            .tile_bytes(weight)
            .saturating_mul(packing.tiles(weight) as u64);
        if bytes > most {
            bail!(
                Limit,
                "labels need all {} MiB of the weights at once; the device binds at most {} MiB",
                bytes >> 20,
                most >> 20
            );
        }
    }
    Ok(())
}
