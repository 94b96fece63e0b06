//! The kernel for GPUs: implicit matrix multiplication. A workgroup brings a halo of input pixels and
//! their weights into workgroup memory once and reads it for all taps at shifted offsets.
//!
//! With 8 pixels × 8 channels an invocation, 16 `vec4` reads of workgroup memory feed 512 operations:
//! 2 flop a byte of it, and for 3×3 windows 49 flop a byte of the caches behind it; 64 registers of sums,
//! 8 · 4 of pixels and 8 of weights stay under 128. Registers need the tile unrolled in the text, so
//! [`source`] writes it.

use super::{Conv2d, Parts};
use crate::device_profile::DeviceProfile;
use crate::ops::kernel::{Grid, Kernel, MAX_LOOP_STEPS, Packing, Shader};
use crate::tensor::Shape;

/// Workgroup memory that a kernel takes at most, however much there is: more workgroups then share a
/// multiprocessor, and one computes while another waits for memory.
const MOST_BYTES: usize = 16 << 10;
/// Groups of four input channels staged at once, at most.
const MOST_GROUPS: usize = 4;
/// What a workgroup computes and how its invocations share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Output rows.
    rows: usize,
    /// Output columns, a multiple of `pixels`.
    columns: usize,
    /// Groups of four output channels, a multiple of `own_quads`.
    quads: usize,
    /// Pixels an invocation.
    pixels: usize,
    /// Groups of four output channels an invocation.
    own_quads: usize,
}

/// The tiles there are: for large layers, for maps that the first covers badly, for few output channels,
/// and for layers too small for the others. All have 8 lanes over the channels.
const TILES: [Tile; 4] = [
    Tile::new([8, 16], 16, 8, 2),
    Tile::new([8, 8], 16, 8, 2),
    Tile::new([8, 16], 8, 8, 1),
    Tile::new([4, 8], 8, 4, 1),
];

impl Tile {
    const fn new(size: [usize; 2], quads: usize, pixels: usize, own_quads: usize) -> Self {
        Self {
            rows: size[0],
            columns: size[1],
            quads,
            pixels,
            own_quads,
        }
    }

    const fn invocations(self) -> usize {
        self.rows * self.columns * self.quads / (self.pixels * self.own_quads)
    }

    /// Workgroups for an output.
    fn workgroups(self, output: Shape) -> usize {
        let blocks = output.h.div_ceil(self.rows) * output.w.div_ceil(self.columns);
        output.n * blocks * output.c4().div_ceil(self.quads)
    }

    /// What an output costs with this tile: the elements computed, with those that are thrown away, over
    /// the multiply-adds for each read of workgroup memory, and the more, the less of a device is busy.
    fn cost(self, output: Shape, device: &DeviceProfile) -> f64 {
        let workgroups = self.workgroups(output) as f64;
        let computed = workgroups * (self.rows * self.columns * self.quads) as f64;
        let reads = (self.pixels + 4 * self.own_quads) as f64;
        let speed = (4 * self.pixels * self.own_quads) as f64 / reads;
        let busy = workgroups * self.invocations() as f64 / f64::from(device.invocations_at_once);
        computed / (speed * busy.min(1.0))
    }
}

/// What is in workgroup memory at once, for one tile of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    /// Rows of the window: all of them, or one.
    rows: usize,
    /// Groups of four input channels.
    groups: usize,
    /// Input rows between those of neighbouring rows of the halo: the stride where only one row of the
    /// window is staged, so that nothing is brought that no window covers. Columns likewise.
    source_step: [usize; 2],
    /// Rows and columns of the halo between neighbouring outputs.
    halo_step: [usize; 2],
    /// Rows and columns of the halo.
    halo: [usize; 2],
    /// From a row of the halo to the next.
    pitch: usize,
    /// Elements of the halo.
    halo_size: usize,
    /// Elements of the weights.
    taps_size: usize,
}

impl Stage {
    fn new(op: &Conv2d, kernel: [usize; 2], tile: Tile, rows: usize, groups: usize) -> Self {
        let taps = [rows, kernel[1]];
        let outputs = [tile.rows, tile.columns];
        let step = |i: usize| match taps[i] {
            1 => [op.stride[i], 1],
            _ => [1, op.stride[i]],
        };
        let [(source_h, halo_h), (source_w, halo_w)] = [0, 1].map(|i| step(i).into());
        let halo_step = [halo_h, halo_w];
        let halo = [0, 1].map(|i| (outputs[i] - 1) * halo_step[i] + (taps[i] - 1) * op.dilation[i] + 1);
        let pitch = pitch(halo[1], halo_step, tile.columns / tile.pixels);
        Self {
            rows,
            groups,
            source_step: [source_h, source_w],
            halo_step,
            halo,
            pitch,
            halo_size: groups * halo[0] * pitch,
            taps_size: rows * kernel[1] * groups * 4 * tile.quads,
        }
    }

    /// The stage with the most work between two barriers that fits into `bytes`.
    fn best(op: &Conv2d, inputs: &[Shape], tile: Tile, bytes: usize) -> Option<Self> {
        let (input, weight) = (inputs[0], inputs[1]);
        let groups = (0..).map(|i| 1 << i).take_while(|g| *g <= MOST_GROUPS.min(input.c4()));
        groups
            .flat_map(|groups| [(1, groups), (weight.h, groups)])
            .map(|(rows, groups)| Self::new(op, [weight.h, weight.w], tile, rows, groups))
            .filter(|stage| 16 * (stage.halo_size + stage.taps_size) <= bytes)
            .max_by_key(|stage| stage.rows * stage.groups)
    }

    /// Loop steps of an invocation for one stage's groups of channels, over all rows of the window.
    fn steps(&self, kernel: [usize; 2], tile: Tile) -> u64 {
        let bring = |size: usize| size.div_ceil(tile.invocations());
        let sums = self.rows * (1 + kernel[1] * (1 + self.groups));
        let halo = self.groups * self.halo[0] * self.halo[1];
        let once = 1 + bring(halo) + bring(self.taps_size) + sums;
        (1 + kernel[0].div_ceil(self.rows) * once) as u64
    }
}

/// The least pitch of at least `columns` at which the four pixels that 32 neighbouring invocations read
/// lie in different banks; `across` of them are in one row.
fn pitch(columns: usize, halo_step: [usize; 2], across: usize) -> usize {
    let apart = |pitch: &usize| {
        let bank = |i: usize| (i / across * halo_step[0] * pitch + i % across * halo_step[1]) % 8;
        (0..4).all(|i| (0..i).all(|j| bank(i) != bank(j)))
    };
    (columns..columns + 8).find(apart).unwrap_or(columns)
}

/// Nothing on a CPU device, whose workgroup memory is no faster than any other, and where not even the
/// smallest tile fits, or the window is too large for the loops of one dispatch.
pub(super) fn kernel(
    op: &Conv2d,
    inputs: &[Shape],
    output: Shape,
    device: &DeviceProfile,
) -> Option<Kernel> {
    if device.is_cpu {
        return None;
    }
    let bytes = MOST_BYTES.min(device.max_workgroup_bytes as usize);
    let runs = |tile: &Tile| tile.invocations() <= device.max_invocations_per_workgroup as usize;
    let (tile, stage) = TILES
        .into_iter()
        .filter(runs)
        .filter_map(|tile| Some((tile, Stage::best(op, inputs, tile, bytes)?)))
        .min_by(|(a, _), (b, _)| a.cost(output, device).total_cmp(&b.cost(output, device)))?;
    let mut kernel = op.kernel(
        inputs,
        output,
        Parts {
            shader: Shader {
                name: "conv2d_tiled",
                source: source(tile, stage).into(),
            },
            packing: Packing::Conv {
                tile: 4 * tile.quads,
                pad_input: true,
            },
            grid: Grid::Blocks {
                rows: tile.rows,
                columns: tile.columns,
                channels: 4 * tile.quads,
            },
            terms: inputs[0].c4(),
            extra: Vec::new(),
        },
    );
    let steps = stage.steps([inputs[1].h, inputs[1].w], tile);
    kernel.steps_per_term = steps.div_ceil(stage.groups as u64);
    // A run of terms may end within a stage.
    kernel.fixed_steps = steps;
    (kernel.steps_per_term + kernel.fixed_steps <= MAX_LOOP_STEPS).then_some(kernel)
}

/// `shaders/conv2d_tiled.wgsl` for a tile and what it stages.
///
/// The file is the kernel of the first tile for 3×3 windows of stride 1, complete and valid. Between its
/// marks `// tile: NAME` and `// end` stand the parts that are written anew for others.
fn source(tile: Tile, stage: Stage) -> String {
    let file = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/shaders/conv2d_tiled.wgsl"
    ));
    let mut text = String::with_capacity(file.len());
    let mut skipping = false;
    for line in file.lines() {
        if line.trim() == "// end" {
            skipping = false;
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
        if let Some(name) = line.trim().strip_prefix("// tile: ") {
            skipping = true;
            let indent = &line[..line.len() - line.trim_start().len()];
            for line in part(name, tile, stage) {
                text.push_str(indent);
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    text
}

/// The lines of the part called `name`.
fn part(name: &str, tile: Tile, stage: Stage) -> Vec<String> {
    let sums = || (0..tile.pixels).flat_map(|p| (0..tile.own_quads).map(move |q| (p, q)));
    match name {
        "size" => sizes(tile, stage)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "workgroup" => vec![format!("@compute @workgroup_size({})", tile.invocations())],
        "begin" => sums()
            .map(|(p, q)| format!("var sum{p}_{q} = begin_sum(own, {p}u, {q}u);"))
            .collect(),
        "sums" => products(tile, stage),
        "stores" => sums()
            .map(|(p, q)| format!("store(own, {p}u, {q}u, sum{p}_{q});"))
            .collect(),
        _ => vec![format!("unknown tile part {name}")],
    }
}

/// The constants of the shader.
fn sizes(tile: Tile, stage: Stage) -> [(&'static str, usize); 18] {
    [
        ("ROWS", tile.rows),
        ("COLUMNS", tile.columns),
        ("QUADS", tile.quads),
        ("PIXELS", tile.pixels),
        ("OWN_QUADS", tile.own_quads),
        ("PIXEL_STEP", tile.columns / tile.pixels),
        ("QUAD_STEP", tile.quads / tile.own_quads),
        ("INVOCATIONS", tile.invocations()),
        ("STAGE_ROWS", stage.rows),
        ("STAGE_GROUPS", stage.groups),
        ("SOURCE_STEP_H", stage.source_step[0]),
        ("SOURCE_STEP_W", stage.source_step[1]),
        ("HALO_STEP_H", stage.halo_step[0]),
        ("HALO_STEP_W", stage.halo_step[1]),
        ("HALO_ROWS", stage.halo[0]),
        ("HALO_COLUMNS", stage.halo[1]),
        ("HALO_PITCH", stage.pitch),
        ("TAPS_SIZE", stage.taps_size),
    ]
}

/// The multiply-adds of one tap and four input channels.
fn products(tile: Tile, stage: Stage) -> Vec<String> {
    let pixel_step = tile.columns / tile.pixels * stage.halo_step[1];
    let quad_step = tile.quads / tile.own_quads;
    let mut lines: Vec<_> = (0..tile.pixels)
        .map(|p| format!("let v{p} = halo[p + {}u];", p * pixel_step))
        .collect();
    for (i, channel) in "xyzw".chars().enumerate() {
        for q in 0..tile.own_quads {
            let at = i * tile.quads + q * quad_step;
            lines.push(format!("let w{i}_{q} = taps[w + {at}u];"));
        }
        for (p, q) in (0..tile.pixels).flat_map(|p| (0..tile.own_quads).map(move |q| (p, q))) {
            lines.push(format!(
                "sum{p}_{q} = fma(w{i}_{q}, vec4<f32>(v{p}.{channel}), sum{p}_{q});"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(op: &Conv2d, weight: [usize; 4], tile: Tile) -> Option<Stage> {
        let [out, c, h, w] = weight;
        let shapes = [Shape::new(1, c, 50, 50), Shape::new(out, c, h, w)];
        Stage::best(op, &shapes, tile, MOST_BYTES)
    }

    #[test]
    fn the_file_is_what_the_generator_writes_for_3x3_windows() {
        let file = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/shaders/conv2d_tiled.wgsl"
        ));
        let stage = stage(&Conv2d::padded(1), [64, 64, 3, 3], TILES[0]).unwrap();
        assert!(source(TILES[0], stage) == file);
    }

    #[test]
    fn every_window_of_the_published_networks_fits_every_tile() {
        for tile in TILES {
            assert_eq!(tile.quads / tile.own_quads, 8, "{tile:?}");
            for (kernel, stride, dilation) in
                [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 2, 1), (1, 1, 1), (1, 2, 1), (7, 1, 1), (7, 2, 1)]
            {
                let op = Conv2d {
                    stride: [stride; 2],
                    dilation: [dilation; 2],
                    ..Conv2d::default()
                };
                let stage = stage(&op, [64, 64, kernel, kernel], tile);
                assert!(stage.is_some(), "{tile:?} {op:?} {kernel}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_another_kernel() {
        assert_eq!(stage(&Conv2d::default(), [4, 4, 1, 100], TILES[3]), None);
    }

    #[test]
    fn pixels_read_together_lie_in_different_banks() {
        assert_eq!(pitch(18, [1, 1], 2), 18);
        assert_eq!(pitch(16, [1, 1], 2), 18);
        assert_eq!(pitch(10, [1, 1], 1), 10);
        assert_eq!(pitch(8, [1, 1], 1), 9);
    }
}
