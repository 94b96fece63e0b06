//! Graphs of one op: the roles of its inputs, and how one graph input holds several activations.

use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::kernel::{Binding, Kernel};
use fullconv::low_level::ops::{Conv2d, Crop, Op};
use fullconv::low_level::target::Target;
use fullconv::{Shape, Tensor};

/// The role of an op's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Activation,
    /// A parameter that is packed in tiles. It is f16 if activations are.
    Weight,
    /// A parameter that is bound whole and stays f32.
    Whole,
    /// Only the input's shape is used.
    Unread,
}

/// The roles of `op`'s inputs, from the bindings of its first kernel. If the op has only stages, all its inputs are
/// activations.
pub fn roles(op: &dyn Op, inputs: &[Tensor]) -> Vec<Role> {
    let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
    let kernels = op.kernels(&shapes, &Target::WEBGPU_DEFAULTS);
    let kernels = kernels.unwrap_or_default();
    let Some(Kernel { bindings, .. }) = kernels.first() else {
        return vec![Role::Activation; inputs.len()];
    };
    let role = |i: usize| {
        let read = bindings.iter().filter_map(Binding::activation);
        let packed = bindings.iter().filter_map(Binding::parameter);
        let packing = packed.into_iter().find(|(input, _)| *input == i);
        match packing {
            Some((_, packing)) if packing.is_whole() => Role::Whole,
            Some(_) => Role::Weight,
            None if i == 0 || read.into_iter().any(|(input, ..)| input == i) => Role::Activation,
            None => Role::Unread,
        }
    };
    (0..inputs.len()).map(role).collect()
}

/// Activations of one batch size, concatenated along the channels. Smaller ones lie at the top left, padded with zeros.
pub fn side_by_side(parts: &[&Tensor]) -> Tensor {
    let shapes: Vec<_> = parts.iter().map(|t| t.shape()).collect();
    let most = |size: fn(&Shape) -> usize| shapes.iter().map(size).max().unwrap();
    let channels = shapes.iter().map(|s| s.c).sum();
    let shape = Shape::new(shapes[0].n, channels, most(|s| s.h), most(|s| s.w));
    let of = |part: usize| (0..shapes[part].c).map(move |c| (part, c));
    let channels: Vec<_> = (0..parts.len()).flat_map(of).collect();
    Tensor::from_fn(shape, |n, c, y, x| {
        let (part, c) = channels[c];
        let Shape { h, w, .. } = shapes[part];
        match y < h && x < w {
            true => parts[part].at(n, c, y, x),
            false => 0.0,
        }
    })
    .unwrap()
}

/// An unfinished graph and the tensors of its file.
pub struct Builder {
    pub graph: Graph,
    pub tensors: Vec<(String, Tensor)>,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            graph: Graph::new("input"),
            tensors: Vec::new(),
        }
    }

    pub fn parameter(&mut self, name: String, value: Tensor) -> NodeId {
        let id = self.graph.parameter(&name, value.shape()).unwrap();
        self.tensors.push((name, value));
        id
    }

    /// The part of the graph's input that has this `shape` and begins at channel `begin`: a convolution with ones
    /// selects the channels, and a crop the window.
    pub fn part(&mut self, i: usize, input: &Tensor, begin: usize, shape: Shape) -> NodeId {
        let of = Shape::new(shape.c, input.shape().c, 1, 1);
        let one = |o, i, _, _| f32::from(u8::from(i == begin + o));
        let weight = self.parameter(format!("ones{i}"), Tensor::from_fn(of, one).unwrap());
        let inputs = [self.graph.input(), weight];
        let name = format!("channels{i}");
        let part = self.graph.op(name, Conv2d::default(), &inputs).unwrap();
        if [shape.h, shape.w] == [input.shape().h, input.shape().w] {
            return part;
        }
        let like = Tensor::zeros(Shape::new(1, 1, shape.h, shape.w)).unwrap();
        let like = self.parameter(format!("like{i}"), like);
        let crop = Crop::at([0, 0]);
        self.graph
            .op(format!("part{i}"), crop, &[part, like])
            .unwrap()
    }
}
