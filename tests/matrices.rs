//! The kernel with cooperative matrices on devices that have none: its text with matrices that are computed number
//! by number, so that all of it but the matrices themselves is tested wherever there is f16.

mod common;

use common::{OneOp, Random, gpu, matrices, with_matrices};
use fullconv::device_profile::{CooperativeMatrix, DeviceProfile};
use fullconv::ops::kernel::Kernel;
use fullconv::ops::{self, Op};
use fullconv::{GpuOptions, Shape, Tensor};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// Adds the terms of one product, which no loop may do: a long sum would take too many steps.
fn products(size: u32, vectors: bool) -> String {
    let mut text = String::new();
    for k in 0..size {
        let (left, right) = match vectors {
            true => (
                format!("halo[a.at + row * a.stride + {}u][{}]", k / 4, k % 4),
                format!("taps[b.at + {k}u * b.stride + column / 4u][column % 4u]"),
            ),
            false => (
                format!("halo[a.at + row * a.stride + {k}u]"),
                format!("taps[b.at + {k}u * b.stride + column]"),
            ),
        };
        writeln!(text, "        sum.own[i] += f32({left}) * f32({right});").unwrap();
    }
    text
}

/// Matrices as the kernel uses them. Left and right ones are read where they lie; of sums, each invocation of a
/// subgroup has some elements.
fn emulation(size: u32, vectors: bool) -> String {
    let products = products(size, vectors);
    format!(
        "struct Left {{ at: u32, stride: u32 }}
struct Right {{ at: u32, stride: u32 }}
struct Sum {{ own: array<f32, SIZE * SIZE / SUBGROUP> }}
var<private> lane: u32;
fn load_Left(at: u32, stride: u32) -> Left {{ return Left(at, stride); }}
fn load_Right(at: u32, stride: u32) -> Right {{ return Right(at, stride); }}
fn load_Sum(at: u32, stride: u32) -> Sum {{
    var sum: Sum;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let e = i * SUBGROUP + lane;
        sum.own[i] = scratch[at + e / SIZE * stride + e % SIZE];
    }}
    return sum;
}}
fn store_Sum(sum: Sum, at: u32, stride: u32) {{
    var stored = sum;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let e = i * SUBGROUP + lane;
        scratch[at + e / SIZE * stride + e % SIZE] = stored.own[i];
    }}
}}
fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {{
    var sum = c;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let row = (i * SUBGROUP + lane) / SIZE;
        let column = (i * SUBGROUP + lane) % SIZE;
{products}    }}
    return sum;
}}
"
    )
}

/// The text of a kernel with its matrices emulated.
fn emulated(source: &str, matrix: CooperativeMatrix) -> String {
    let mut text = String::new();
    for line in source.lines() {
        let mut line = line.to_owned();
        if line.starts_with("enable wgpu_") || line.contains("coop_mat") {
            continue;
        }
        if let Some((before, load)) = line.split_once("coopLoadT<") {
            // `let w0 = coopLoadT<Right>(&taps[AT], STRIDE);`
            let (kind, rest) = load.split_once(">(&").unwrap();
            let (_, rest) = rest.split_once('[').unwrap();
            let (at, stride) = rest.rsplit_once("], ").unwrap();
            line = format!("{before}load_{kind}({at}, {stride}");
        }
        if line.contains("coopStoreT") {
            line = line.replace("coopStoreT", "store_Sum");
            line = line.replace("&scratch[own.scratch]", "own.scratch");
        }
        line = line.replace("coopMultiplyAdd", "multiply_add");
        text.push_str(&line);
        text.push('\n');
        if line.starts_with("alias Cell") {
            text.push_str(&emulation(matrix.size[0], matrix.vectors));
        }
    }
    let begin = "    let own = Own(\n";
    let left = ["coop_", "coopLoad", "coopStore", "coopMultiply"];
    assert!(text.contains(begin) && left.iter().all(|word| !text.contains(word)));
    text.replace(begin, &format!("    lane = local % SUBGROUP;\n{begin}"))
}

/// A convolution by one of its kernels with cooperative matrices, emulated.
#[derive(Debug)]
struct Emulated {
    conv: Arc<dyn Op>,
    matrix: CooperativeMatrix,
    /// Which of the tiles that there are.
    tile: usize,
}

impl Emulated {
    fn all(&self, inputs: &[Shape], device: &DeviceProfile) -> Vec<Kernel> {
        let device = with_matrices(device, vec![self.matrix]);
        let device = DeviceProfile {
            is_cpu: false,
            ..device
        };
        self.conv.other_kernels(inputs, &device).unwrap()
    }
}

impl Op for Emulated {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.conv.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.conv.reference(inputs)
    }
    fn kernels(&self, inputs: &[Shape], device: &DeviceProfile) -> fullconv::Result<Vec<Kernel>> {
        let mut kernel = self.all(inputs, device).remove(self.tile);
        kernel.shader.source = emulated(&kernel.shader.source, self.matrix).into();
        Ok(vec![kernel])
    }
    fn terms(&self, inputs: &[Shape]) -> usize {
        self.conv.terms(inputs)
    }
}

/// Every second convolution, by the tiles in turn, with the matrices that no CPU behind a graphics driver has;
/// `tests/half.rs` has all of them on devices with matrices.
#[test]
fn all_around_the_matrices_agrees_with_the_twin() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let Ok(profile) = gpu.half_profile() else {
        eprintln!("SKIP: {gpu} has no f16");
        return;
    };
    let matrix = matrices()
        .into_iter()
        .find(|m| (m.size, m.subgroup) == ([16; 3], 32));
    let matrix = matrix.unwrap();
    let mut random = Random::new(25);
    let mut checked = BTreeSet::new();
    let convolutions = ops::cases().into_iter().filter(|c| c.op.name() == "conv2d");
    for (i, case) in convolutions.step_by(2).enumerate() {
        let one = OneOp::of_case(case, &mut random);
        let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
        let mut op = Emulated {
            conv: one.op.clone(),
            matrix,
            tile: 0,
        };
        let tiles = op.all(&shapes, &profile).len();
        if tiles == 0 {
            continue;
        }
        op.tile = i % tiles;
        checked.insert(op.all(&shapes, &profile)[op.tile].grid.parts());
        let what = format!("{matrix:?}, tile {} of {tiles}", op.tile);
        let emulated = OneOp::new(Arc::new(op), one.inputs.clone());
        emulated.check_half(&gpu, std::slice::from_ref(&profile), &what);
    }
    assert_eq!(
        checked,
        BTreeSet::from([1, 3]),
        "whole sums, and sums in parts"
    );
}
