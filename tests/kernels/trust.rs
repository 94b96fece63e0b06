//! A program's shaders run with bounds checks.

use crate::common::{OneOp, gpu};
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::kernel::{Kernel, Shader};
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::ops::{Op, Relu};
use fullconv::low_level::target::Target;
use fullconv::{GpuOptions, Result, Shape, Tensor};
use std::sync::Arc;

/// The length of the shader's array `numbers`.
const NUMBERS: u32 = 64;

/// The array, and another one that may follow it in memory.
const ARRAYS: &str = "
var<workgroup> numbers: array<f32, 64>;
var<workgroup> others: array<f32, 64>;

@compute";

/// Fills both arrays.
const FILL: &str = "
    numbers[local] = f32(local + 1u);
    others[63u - local] = -1.0;
    workgroupBarrier();
    let group =";

/// Writes the number at an index. For an index out of bounds, a checked shader reads the last number.
const READ: &str = "
    output[at - params.output_start] = vec4<f32>(numbers[u32(value.x)], 0.0 * others[local], 0.0, 0.0);
}
";

/// An op of a program: x + 1, at most 64.
#[derive(Debug)]
struct Next;

impl Next {
    fn kernel(shape: Shape) -> Result<Kernel> {
        let op: &dyn Op = &Relu {};
        let mut kernels = op.kernels(&[shape], &Target::WEBGPU_DEFAULTS)?;
        let mut kernel = kernels.remove(0);
        assert!(kernel.shader.is_own());
        let (before, _) = kernel.shader.source.split_once("    output[").unwrap();
        let before = before.replace("\n@compute", ARRAYS);
        let before = before.replace("\n    let group =", FILL);
        kernel.shader = Shader::new("next", before + READ);
        Ok(kernel)
    }
}

impl Op for Next {
    fn name(&self) -> &'static str {
        "next"
    }
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(inputs[0])
    }
    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Ok(inputs[0].map(|x| (x + 1.0).min(NUMBERS as f32)))
    }
    fn candidates(&self, inputs: &[Shape], _: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(Self::kernel(inputs[0])?)])
    }
    fn numerics(&self, _: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

#[test]
fn shaders_of_programs_run_with_bounds_checks() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let shape = Shape::new(1, 1, 8, 25);
    let input = Tensor::from_fn(shape, |_, _, y, x| ((25 * y + x) * 37 % 90) as f32).unwrap();
    let one = OneOp::new(Arc::new(Next), vec![input]);
    assert_eq!(one.run(&gpu), one.expected());
}

#[test]
fn only_unaltered_shaders_of_this_crate_are_trusted() {
    let shape = Shape::new(1, 4, 1, 1);
    let op: &dyn Op = &Relu {};
    let kernels = op.kernels(&[shape], &Target::WEBGPU_DEFAULTS);
    let own = kernels.unwrap().remove(0);
    assert!(own.shader.is_own());
    assert!(own.clone().in_half(false, false).shader.is_own());
    // A copy of the text is not trusted, nor is an altered text.
    let copied = Shader::new("relu", own.shader.source.clone());
    assert!(!copied.is_own());
    let mut altered = own.clone();
    altered.shader.source.to_mut().push('\n');
    assert!(!altered.shader.is_own());
    assert!(!altered.in_half(false, false).shader.is_own());
    let mut renamed = own;
    renamed.shader = copied;
    assert!(!renamed.in_half(false, false).shader.is_own());
}
