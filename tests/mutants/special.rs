//! Inputs that ops' cases do not have: indices outside their windows, and sums longer than an invocation's loops.

use crate::common::Random;
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::ops::{Case, MaxUnpool2d, MixChannels, Op};
use fullconv::low_level::target::Target;
use fullconv::{Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// A case with its inputs.
pub struct Special {
    pub case: Case,
    pub inputs: Arc<Vec<Tensor>>,
}

/// All of them.
pub fn specials(random: &mut Random) -> Vec<Special> {
    let mut all = vec![long_sum(random)];
    for (kernel, stride, padding, [n, c, h, w]) in [
        (2, 2, 0, [2, 5, 4, 3]),
        (3, 2, 1, [1, 8, 5, 4]),
        (4, 1, 2, [1, 3, 6, 5]),
    ] {
        let unpool = MaxUnpool2d {
            padding: [padding; 2],
            ..MaxUnpool2d::square(kernel, stride)
        };
        all.push(of_any_index(unpool, Shape::new(n, c, h, w), random));
    }
    all
}

fn special(op: Arc<dyn Op>, inputs: Vec<Tensor>) -> Special {
    let case = Case {
        op,
        inputs: inputs.iter().map(Tensor::shape).collect(),
        diagonal: false,
    };
    Special {
        case,
        inputs: Arc::new(inputs),
    }
}

/// Sums over more channels than the loops of one invocation, of several rows at a time.
fn long_sum(random: &mut Random) -> Special {
    let channels = 240_004;
    let inputs = [[5, 1], [2, 1]].map(|[h, w]| random.tensor(Shape::new(1, channels, h, w)));
    special(Arc::new(MixChannels {}), inputs.into())
}

/// A max unpooling that takes any index: where one is outside its window, the reference writes what the kernel has to.
#[derive(Debug)]
struct AnyIndex(MaxUnpool2d);

impl AnyIndex {
    /// The positions along `axis` that window `i` covers, out of `size`.
    fn window(&self, axis: usize, i: usize, size: usize) -> Range<usize> {
        let (begin, padding) = (i * self.0.stride[axis], self.0.padding[axis]);
        let end = (begin + self.0.kernel_size[axis]).saturating_sub(padding);
        begin.saturating_sub(padding)..end.min(size)
    }
}

impl Op for AnyIndex {
    fn name(&self) -> &'static str {
        "max_unpool2d_of_any_index"
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.0.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        let (values, indices) = (inputs[0], inputs[1]);
        let shape = self.output_shape(&[values.shape(), indices.shape()])?;
        let mut output = Tensor::zeros(shape)?;
        let mut spoiled = Vec::new();
        for (i, (value, index)) in values.data().iter().zip(indices.data()).enumerate() {
            let [n, c, y, x] = values.position(i);
            let [rows, columns] = [self.window(0, y, shape.h), self.window(1, x, shape.w)];
            let at = *index as usize;
            let plane = (n * shape.c + c) * shape.h * shape.w;
            if at as f32 == *index
                && rows.contains(&(at / shape.w))
                && columns.contains(&(at % shape.w))
            {
                output.data_mut()[plane + at] = *value;
            } else {
                let row = |y: usize| {
                    plane + y * shape.w + columns.start..plane + y * shape.w + columns.end
                };
                spoiled.extend(rows.flat_map(row));
            }
        }
        for at in spoiled {
            output.data_mut()[at] = f32::NAN;
        }
        Ok(output)
    }
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        self.0.candidates(inputs, device)
    }
    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

/// Of six indices, one is in a row or a column near its window, and of forty, one is between two pixels.
fn of_any_index(unpool: MaxUnpool2d, shape: Shape, random: &mut Random) -> Special {
    let output = unpool.output_shape(&[shape; 2]).unwrap();
    let op = AnyIndex(unpool);
    let values = random.tensor(shape);
    let indices = Tensor::from_fn(shape, |_, _, y, x| {
        let mut at = |axis, i, size| {
            let window = op.window(axis, i, size);
            match random.below(12) {
                0 => (window.end + random.below(2)).min(size - 1),
                1 => window.start.saturating_sub(1 + random.below(2)),
                _ => window.start + random.below(window.len()),
            }
        };
        let [row, column] = [at(0, y, output.h), at(1, x, output.w)];
        let off = if random.below(40) == 0 { 0.5 } else { 0.0 };
        (row * output.w + column) as f32 + off
    });
    special(Arc::new(op), vec![values, indices.unwrap()])
}
