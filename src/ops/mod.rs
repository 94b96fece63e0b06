//! The operations that a model file may name: one file each, with the same parts in the same order (formula and source,
//! attributes, shape rule, reference implementation, kernels, cases), and the list of all ops.

mod attributes;
mod broadcast;
pub mod candidate;
mod gather;
pub mod grid;
pub mod kernel;
mod means;
pub mod narrow;
mod normalize;
pub mod numerics;
pub mod packing;
pub mod probabilities;
mod rearrange;
pub mod reduce;
mod scores;
mod statistics;
pub mod unary;
mod windows;

pub mod abs;
pub mod adaptive_avg_pool2d;
pub mod adaptive_max_pool2d;
pub mod add;
pub mod amax;
pub mod amin;
pub mod argmax;
pub mod attention;
pub mod avg_pool2d;
pub mod batch_norm2d;
pub mod binarize;
pub mod cat;
pub mod celu;
pub mod channel_shuffle;
pub mod clamp;
pub mod conv1d_channels;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod cos;
pub mod crop;
pub mod div;
pub mod elu;
pub mod eq;
pub mod erf;
pub mod exp;
pub mod flip;
pub mod floor;
pub mod full;
pub mod ge;
pub mod gelu;
pub mod gram;
pub mod group_norm;
pub mod gt;
pub mod hardshrink;
pub mod hardsigmoid;
pub mod hardswish;
pub mod instance_norm;
pub mod interpolate;
pub mod layer_norm;
pub mod le;
pub mod leaky_relu;
pub mod linear;
pub mod linspace;
pub mod local_response_norm;
pub mod log;
pub mod log_softmax;
pub mod logsigmoid;
pub mod lt;
pub mod max_pool2d;
pub mod max_pool2d_indices;
pub mod max_unpool2d;
pub mod maximum;
pub mod mean;
pub mod minimum;
pub mod mish;
pub mod mix_channels;
pub mod mul;
pub mod ne;
pub mod pad;
pub mod permute;
pub mod pixel_shuffle;
pub mod pixel_unshuffle;
pub mod pow;
pub mod prelu;
pub mod preprocess;
pub mod reciprocal;
pub mod relu;
pub mod repeat;
pub mod reshape;
pub mod rsqrt;
pub mod scale;
pub mod selu;
pub mod sigmoid;
pub mod sign;
pub mod silu;
pub mod sin;
pub mod slice;
pub mod softmax;
pub mod softplus;
pub mod softsign;
pub mod sqrt;
pub mod sub;
pub mod sum;
pub mod tanh;
pub mod threshold;
pub mod transpose_channels;
pub mod unfold;
pub mod var;
pub mod r#where;

pub use abs::Abs;
pub use adaptive_avg_pool2d::AdaptiveAvgPool2d;
pub use adaptive_max_pool2d::AdaptiveMaxPool2d;
pub use add::Add;
pub use amax::Amax;
pub use amin::Amin;
pub use argmax::Argmax;
pub use attention::Attention;
pub use avg_pool2d::AvgPool2d;
pub use batch_norm2d::BatchNorm2d;
pub use binarize::Binarize;
pub use cat::Cat;
pub use celu::Celu;
pub use channel_shuffle::ChannelShuffle;
pub use clamp::Clamp;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv1d_channels::Conv1dChannels;
pub use conv2d::Conv2d;
pub use cos::Cos;
pub use crop::Crop;
pub use div::Div;
pub use elu::Elu;
pub use eq::Eq;
pub use erf::Erf;
pub use exp::Exp;
pub use flip::Flip;
pub use floor::Floor;
pub use full::Full;
pub use ge::Ge;
pub use gelu::Gelu;
pub use gram::Gram;
pub use group_norm::GroupNorm;
pub use gt::Gt;
pub use hardshrink::Hardshrink;
pub use hardsigmoid::Hardsigmoid;
pub use hardswish::Hardswish;
pub use instance_norm::InstanceNorm;
pub use interpolate::Interpolate;
pub use layer_norm::LayerNorm;
pub use le::Le;
pub use leaky_relu::LeakyRelu;
pub use linear::Linear;
pub use linspace::Linspace;
pub use local_response_norm::LocalResponseNorm;
pub use log::Log;
pub use log_softmax::LogSoftmax;
pub use logsigmoid::Logsigmoid;
pub use lt::Lt;
pub use max_pool2d::MaxPool2d;
pub use max_pool2d_indices::MaxPool2dIndices;
pub use max_unpool2d::MaxUnpool2d;
pub use maximum::Maximum;
pub use mean::Mean;
pub use minimum::Minimum;
pub use mish::Mish;
pub use mix_channels::MixChannels;
pub use mul::Mul;
pub use ne::Ne;
pub use pad::Pad;
pub use permute::Permute;
pub use pixel_shuffle::PixelShuffle;
pub use pixel_unshuffle::PixelUnshuffle;
pub use pow::Pow;
pub use prelu::Prelu;
pub use preprocess::Preprocess;
pub use probabilities::{Activation, Probabilities};
pub use reciprocal::Reciprocal;
pub use relu::Relu;
pub use repeat::Repeat;
pub use reshape::Reshape;
pub use rsqrt::Rsqrt;
pub use scale::Scale;
pub use selu::Selu;
pub use sigmoid::Sigmoid;
pub use sign::Sign;
pub use silu::Silu;
pub use sin::Sin;
pub use slice::Slice;
pub use softmax::Softmax;
pub use softplus::Softplus;
pub use softsign::Softsign;
pub use sqrt::Sqrt;
pub use sub::Sub;
pub use sum::Sum;
pub use tanh::Tanh;
pub use threshold::Threshold;
pub use transpose_channels::TransposeChannels;
pub use unfold::Unfold;
pub use var::Var;
pub use r#where::Where;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use candidate::Candidate;
use numerics::Numerics;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// An operation with its attributes.
///
/// Inputs and output are tensors `[n, c, h, w]`. Weight and bias are inputs like any other, at the
/// positions where the PyTorch function of the same name has them.
pub trait Op: Any + Debug + Send + Sync {
    /// PyTorch's name of the operation.
    fn name(&self) -> &'static str;

    /// The shape of the output.
    ///
    /// # Errors
    /// `Shape` if the inputs do not fit the operation or each other.
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape>;

    /// The reference implementation: plain loops, sums in `f64`. Every kernel is tested against it.
    ///
    /// # Errors
    /// As [`Op::output_shape`], and `Limit` if the host has no memory for the output.
    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor>;

    /// The ways to compute the op for inputs of these shapes on this device, best first: kernels, and sequences of
    /// other ops (stages). Empty for an op that planning [lowers](crate::plan::lowered::lower).
    ///
    /// # Errors
    /// As [`Op::output_shape`], and `Unsupported` or `Limit` if there is no way.
    fn candidates(&self, _inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(Vec::new())
    }

    /// The op's numerics: reduction length, error bound of an element, and the weight that is kept in `f16`.
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_>;

    /// The reduction length: products or values added up for one element of the output; 1 if the op adds nothing up.
    fn reduction_length(&self, inputs: &[Shape]) -> usize {
        self.numerics(inputs).reduction_length
    }

    /// The root mean square of the output for noise as input: independent elements of the inputs' magnitude. Larger
    /// than the output's own where most of a sum cancels; 0 for ops without sums, which pass errors on with the
    /// elements.
    fn noise(&self, _inputs: &[&Tensor]) -> f64 {
        0.0
    }

    /// Whether the op reads the values of input number `input`; some ops use only the shape of an input.
    fn reads(&self, _input: usize) -> bool {
        true
    }

    /// Whether a size of 1 in one input broadcasts to any size in the other. PyTorch then aligns dimensions from the
    /// last.
    fn broadcasts(&self) -> bool {
        false
    }

    /// What the op makes of probabilities of classes.
    fn probabilities(&self) -> Probabilities {
        Probabilities::No
    }

    /// The sliding window over the first input, if uniform. Positions outside the input count as zeros, or not at all.
    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        None
    }

    /// The sliding windows of an op that runs several ops in turn, each over the output of the one before. Empty if the
    /// windows are not uniform.
    fn windows(&self, inputs: &[Shape]) -> Vec<Window> {
        self.window(inputs).into_iter().collect()
    }

    /// The same op with zeros of this padding, `[vertical, horizontal]`; `None` for an op without padding.
    fn with_padding(&self, _padding: [usize; 2]) -> Option<Arc<dyn Op>> {
        None
    }

    /// The reference implementation for some elements of the output only, at `[n, c, y, x]`.
    ///
    /// # Errors
    /// As [`Op::reference`].
    fn elements(&self, inputs: &[&Tensor], at: &[[usize; 4]]) -> Result<Vec<Element>> {
        let magnitudes: Vec<_> = inputs.iter().map(|input| input.map(f32::abs)).collect();
        let magnitudes: Vec<_> = magnitudes.iter().collect();
        let (values, magnitudes) = (self.reference(inputs)?, self.reference(&magnitudes)?);
        let element = |[n, c, y, x]: [usize; 4]| Element {
            value: values.at(n, c, y, x),
            magnitude: f64::from(magnitudes.at(n, c, y, x)).abs(),
        };
        Ok(at.iter().copied().map(element).collect())
    }

    /// Floating-point operations for inputs of these shapes, a multiply-add counted as two.
    fn flops(&self, inputs: &[Shape]) -> u64 {
        let outputs = self.output_shape(inputs).map_or(0, |s| s.elements() as u64);
        let per_output = match self.reduction_length(inputs) {
            1 => 1,
            length => 2 * length as u64,
        };
        outputs.saturating_mul(per_output)
    }
}

/// The sliding window of an op; pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions from the first tap to the last, both included.
    pub size: [usize; 2],
    /// Step between neighbouring windows.
    pub stride: [usize; 2],
    /// Positions before and after the input.
    pub padding: [usize; 2],
    /// Whether a last window may reach past the input.
    pub ceil_mode: bool,
}

impl Window {
    /// How many windows there are along `axis` for an input of `size` with this `padding`.
    pub fn outputs(&self, axis: usize, size: usize, padding: usize) -> Option<usize> {
        let (padded, stride) = (size + 2 * padding, self.stride[axis]);
        let Some(room) = padded.checked_sub(self.size[axis]) else {
            let reaches_past = self.ceil_mode && padded + stride > self.size[axis];
            return reaches_past.then_some(1);
        };
        if !self.ceil_mode {
            return Some(room / stride + 1);
        }
        let outputs = room.div_ceil(stride) + 1;
        let last_is_outside = (outputs - 1) * stride >= size + padding;
        Some(outputs - usize::from(last_is_outside))
    }
}

/// One element of an op's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// Its value.
    pub value: f32,
    /// The op's output for the magnitudes of its inputs; for a sum of products, the sum of their magnitudes.
    pub magnitude: f64,
}

/// One of the ops that together compute another.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<StageInput>,
}

/// An input of a [`Stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageInput {
    /// An input of the whole op, by its position.
    Op(usize),
    /// The output of an earlier stage, by its position.
    Stage(usize),
}

/// A test case: an op and input shapes. Every test runner takes all cases.
#[derive(Clone, Debug)]
pub struct Case {
    /// The op.
    pub op: Arc<dyn Op>,
    /// The shapes of its inputs.
    pub inputs: Vec<Shape>,
    /// Whether the weight, input number 1, is diagonal: zero wherever the first two indices differ.
    pub diagonal: bool,
}

/// A case from an op and `[n, c, h, w]` of each input.
pub(crate) fn case<const N: usize>(op: impl Op + 'static, inputs: [[usize; 4]; N]) -> Case {
    Case {
        op: Arc::new(op),
        inputs: inputs.map(|[n, c, h, w]| Shape::new(n, c, h, w)).to_vec(),
        diagonal: false,
    }
}

/// A case with a weight that is zero off its diagonal.
pub(crate) fn diagonal_case<const N: usize>(
    op: impl Op + 'static,
    inputs: [[usize; 4]; N],
) -> Case {
    Case {
        diagonal: true,
        ..case(op, inputs)
    }
}

/// An op that a model file may name.
struct Entry {
    name: &'static str,
    parse: fn(serde_json::Value) -> serde_json::Result<Arc<dyn Op>>,
    cases: fn() -> Vec<Case>,
}

impl Entry {
    const fn of<O: Op + DeserializeOwned>(name: &'static str, cases: fn() -> Vec<Case>) -> Self {
        Self {
            name,
            parse: |attributes| Ok(Arc::new(serde_json::from_value::<O>(attributes)?)),
            cases,
        }
    }
}

/// The ops that a model file may name, by PyTorch's names.
const OPS: &[Entry] = &[
    Entry::of::<Conv2d>("conv2d", conv2d::cases),
    Entry::of::<ConvTranspose2d>("conv_transpose2d", conv_transpose2d::cases),
    Entry::of::<MaxPool2d>("max_pool2d", max_pool2d::cases),
    Entry::of::<Linear>("linear", linear::cases),
    Entry::of::<BatchNorm2d>("batch_norm2d", batch_norm2d::cases),
    Entry::of::<GroupNorm>("group_norm", group_norm::cases),
    Entry::of::<InstanceNorm>("instance_norm", instance_norm::cases),
    Entry::of::<LayerNorm>("layer_norm", layer_norm::cases),
    Entry::of::<MaxPool2dIndices>("max_pool2d_indices", max_pool2d_indices::cases),
    Entry::of::<MaxUnpool2d>("max_unpool2d", max_unpool2d::cases),
    Entry::of::<AvgPool2d>("avg_pool2d", avg_pool2d::cases),
    Entry::of::<AdaptiveAvgPool2d>("adaptive_avg_pool2d", adaptive_avg_pool2d::cases),
    Entry::of::<AdaptiveMaxPool2d>("adaptive_max_pool2d", adaptive_max_pool2d::cases),
    Entry::of::<LocalResponseNorm>("local_response_norm", local_response_norm::cases),
    Entry::of::<Relu>("relu", relu::cases),
    Entry::of::<LeakyRelu>("leaky_relu", leaky_relu::cases),
    Entry::of::<Prelu>("prelu", prelu::cases),
    Entry::of::<Elu>("elu", elu::cases),
    Entry::of::<Sigmoid>("sigmoid", sigmoid::cases),
    Entry::of::<Tanh>("tanh", tanh::cases),
    Entry::of::<Silu>("silu", silu::cases),
    Entry::of::<Hardsigmoid>("hardsigmoid", hardsigmoid::cases),
    Entry::of::<Hardswish>("hardswish", hardswish::cases),
    Entry::of::<Clamp>("clamp", clamp::cases),
    Entry::of::<Sin>("sin", sin::cases),
    Entry::of::<Cos>("cos", cos::cases),
    Entry::of::<Abs>("abs", abs::cases),
    Entry::of::<Exp>("exp", exp::cases),
    Entry::of::<Log>("log", log::cases),
    Entry::of::<Sqrt>("sqrt", sqrt::cases),
    Entry::of::<Rsqrt>("rsqrt", rsqrt::cases),
    Entry::of::<Reciprocal>("reciprocal", reciprocal::cases),
    Entry::of::<Pow>("pow", pow::cases),
    Entry::of::<Erf>("erf", erf::cases),
    Entry::of::<Gelu>("gelu", gelu::cases),
    Entry::of::<Softplus>("softplus", softplus::cases),
    Entry::of::<Mish>("mish", mish::cases),
    Entry::of::<Selu>("selu", selu::cases),
    Entry::of::<Celu>("celu", celu::cases),
    Entry::of::<Softsign>("softsign", softsign::cases),
    Entry::of::<Logsigmoid>("logsigmoid", logsigmoid::cases),
    Entry::of::<Hardshrink>("hardshrink", hardshrink::cases),
    Entry::of::<Threshold>("threshold", threshold::cases),
    Entry::of::<Floor>("floor", floor::cases),
    Entry::of::<Sign>("sign", sign::cases),
    Entry::of::<Add>("add", add::cases),
    Entry::of::<Sub>("sub", sub::cases),
    Entry::of::<Mul>("mul", mul::cases),
    Entry::of::<Div>("div", div::cases),
    Entry::of::<Maximum>("maximum", maximum::cases),
    Entry::of::<Minimum>("minimum", minimum::cases),
    Entry::of::<Gt>("gt", gt::cases),
    Entry::of::<Ge>("ge", ge::cases),
    Entry::of::<Lt>("lt", lt::cases),
    Entry::of::<Le>("le", le::cases),
    Entry::of::<Eq>("eq", eq::cases),
    Entry::of::<Ne>("ne", ne::cases),
    Entry::of::<Where>("where", r#where::cases),
    Entry::of::<Scale>("scale", scale::cases),
    Entry::of::<Mean>("mean", mean::cases),
    Entry::of::<Sum>("sum", sum::cases),
    Entry::of::<Amax>("amax", amax::cases),
    Entry::of::<Amin>("amin", amin::cases),
    Entry::of::<Var>("var", var::cases),
    Entry::of::<Cat>("cat", cat::cases),
    Entry::of::<Pad>("pad", pad::cases),
    Entry::of::<PixelShuffle>("pixel_shuffle", pixel_shuffle::cases),
    Entry::of::<Crop>("crop", crop::cases),
    Entry::of::<Slice>("slice", slice::cases),
    Entry::of::<ChannelShuffle>("channel_shuffle", channel_shuffle::cases),
    Entry::of::<Repeat>("repeat", repeat::cases),
    Entry::of::<Flip>("flip", flip::cases),
    Entry::of::<Full>("full", full::cases),
    Entry::of::<Linspace>("linspace", linspace::cases),
    Entry::of::<Conv1dChannels>("conv1d_channels", conv1d_channels::cases),
    Entry::of::<PixelUnshuffle>("pixel_unshuffle", pixel_unshuffle::cases),
    Entry::of::<Unfold>("unfold", unfold::cases),
    Entry::of::<Interpolate>("interpolate", interpolate::cases),
    Entry::of::<Softmax>("softmax", softmax::cases),
    Entry::of::<Attention>("attention", attention::cases),
    Entry::of::<Gram>("gram", gram::cases),
    Entry::of::<MixChannels>("mix_channels", mix_channels::cases),
    Entry::of::<TransposeChannels>("transpose_channels", transpose_channels::cases),
    Entry::of::<Permute>("permute", permute::cases),
    Entry::of::<Reshape>("reshape", reshape::cases),
    Entry::of::<LogSoftmax>("log_softmax", log_softmax::cases),
    Entry::of::<Argmax>("argmax", argmax::cases),
    Entry::of::<Binarize>("binarize", binarize::cases),
    Entry::of::<Preprocess>("preprocess", preprocess::cases),
];

/// The names of the ops that a model file may name.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPS.iter().map(|entry| entry.name)
}

/// The op called `name` with `attributes`: PyTorch's names, as a JSON object.
///
/// # Errors
/// `Unsupported` for an unknown name, `ModelFile` for attributes that do not fit.
pub fn from_name(name: &str, attributes: serde_json::Value) -> Result<Arc<dyn Op>> {
    let Some(entry) = OPS.iter().find(|entry| entry.name == name) else {
        let known: Vec<_> = names().collect();
        bail!(
            Unsupported,
            "unknown op {name:?}; known are {}",
            known.join(", ")
        );
    };
    (entry.parse)(attributes)
        .map_err(|e| Error::new(ErrorKind::ModelFile, format!("attributes of {name}: {e}")))
}

/// The test cases of all ops.
pub fn cases() -> Vec<Case> {
    OPS.iter().flat_map(|entry| (entry.cases)()).collect()
}

/// The inputs as an array, or an error with the number that the op takes.
pub(crate) fn take_inputs<T: Copy, const N: usize>(op: &str, inputs: &[T]) -> Result<[T; N]> {
    inputs.try_into().map_err(|_| {
        Error::new(
            ErrorKind::Shape,
            format!("{op} takes {N} inputs, not {}", inputs.len()),
        )
    })
}

/// An error if an attribute is larger than [`MAX_SIZE`].
pub(crate) fn check_attributes(attributes: &[[usize; 2]]) -> Result<()> {
    if let Some(large) = attributes.iter().flatten().find(|a| **a > MAX_SIZE) {
        bail!(Shape, "an attribute of {large} is larger than {MAX_SIZE}");
    }
    Ok(())
}

/// Shapes of the inputs of a reference implementation.
pub(crate) fn shapes(inputs: &[&Tensor]) -> Vec<Shape> {
    inputs.iter().map(|t| t.shape()).collect()
}
