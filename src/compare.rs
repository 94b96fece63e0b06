//! Compares every node of a network on the device with the CPU reference.
//!
//! The bound on a node's relative error (L2 over the whole tensor) follows from the reduction lengths up to the node.
//! Adding up K products in `f32` errs by about √K · 2⁻²⁴ of the partial sums, since roundings go either way; the error
//! of the inputs comes on top. A layer that cancels most of its sums amplifies both. With r the error of the inputs, a
//! node's bound is g · (r + √K · 2⁻²⁴). Here g is the layer's output for noise as large as its input
//! ([`Op::noise`]) over the size of its output, or 1 if that is larger. Labels may differ only
//! where the two best scores are closer than twice the bound times the largest score; those of a binary network, where
//! the score is closer to the threshold than the bound times the largest score.
//!
//! Indices of a pooling are compared by the values that they name on the CPU: if two values of a window are closer than
//! both may err, either may be the larger one. Within that bound the reference goes on with the device's indices, so
//! that unpooled tensors are compared position by position.
//!
//! With activations and weights in `f16` (u = 2⁻¹¹), a node's bound is g · (r + √K · 2⁻²⁴ + u) + u. Each weight is
//! rounded, which acts like noise as large as u times the input. The result is rounded too, unless the node only
//! passes values on, and so is the network's input. Numbers below 2⁻¹⁴ err by up to 2⁻²⁵ however small they are; this
//! counts relative to the root mean square.

use crate::error::{Result, bail};
use crate::graph::{Node, NodeId};
use crate::ops::narrow;
use crate::ops::numerics::UNIT;
use crate::ops::{Argmax, Binarize, MaxPool2dIndices, Op};
use crate::picture::Picture;
use crate::plan::{Plan, lowered};
use crate::preprocess::Form;
use crate::reference;
use crate::segmenter::{Begin, Precision, Request, Segmenter, whole_graph};
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::collections::HashMap;

/// The difference of one node from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The node.
    pub name: String,
    /// Its op.
    pub op: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// Largest difference of an element; infinite if one is not finite on the device.
    pub max_abs_error: f64,
    /// ‖device − reference‖ / ‖reference‖.
    pub relative_error: f64,
    /// The bound of `relative_error`.
    pub bound: f64,
    /// `[n, c, y, x]` of the element with the largest difference.
    pub worst: [usize; 4],
    /// The node that this one is fused into when only labels are requested; this report is then from a run that
    /// computes the node by itself.
    pub fused_into: Option<String>,
}

impl NodeReport {
    /// Whether the error is within its bound.
    pub fn is_within_bound(&self) -> bool {
        self.relative_error <= self.bound
    }
}

/// The difference of the labels from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReport {
    /// All pixels.
    pub pixels: usize,
    /// Pixels with the reference's label.
    pub equal: usize,
    /// Pixels with another label, whose two best scores, or score and threshold, are closer than the margin.
    pub within_margin: usize,
    /// The margin, in units of the scores.
    pub margin: f64,
}

impl LabelReport {
    /// Labels that differ outside the margin.
    pub fn outside_margin(&self) -> usize {
        self.pixels - self.equal - self.within_margin
    }
}

/// A whole comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every op but the labels, in the order they run.
    pub nodes: Vec<NodeReport>,
    /// The labels.
    pub labels: Option<LabelReport>,
}

impl Report {
    /// The first node outside its bound.
    pub fn first_outside(&self) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| !node.is_within_bound())
    }

    /// Whether every node is within its bound and every label within the margin.
    pub fn is_within_bounds(&self) -> bool {
        self.first_outside().is_none()
            && self.labels.as_ref().is_none_or(|l| l.outside_margin() == 0)
    }
}

/// Compares all nodes for a picture, from preprocessing to labels.
///
/// # Errors
/// As [`Segmenter::segment`]; `NotFinite` if a value is not finite on the CPU.
pub async fn compare_picture(segmenter: &Segmenter, picture: &Picture) -> Result<Report> {
    let (pictures, input) = segmenter.input(picture)?;
    compare(segmenter, Begin::Picture(pictures.form), &input).await
}

/// Compares all nodes for a preprocessed input, `[n, c, h, w]`.
///
/// # Errors
/// As [`Segmenter::run`]; `NotFinite` if a value is not finite on the CPU.
pub async fn compare_tensor(segmenter: &Segmenter, input: &Tensor) -> Result<Report> {
    compare(segmenter, Begin::Tensor, input).await
}

async fn compare(segmenter: &Segmenter, begin: Begin, input: &Tensor) -> Result<Report> {
    let shape = input.shape();
    let graph = &whole_graph(segmenter.model(), begin, shape)?;
    let ops: Vec<NodeId> = graph
        .iter()
        .filter(|(_, n)| n.op().is_some())
        .map(|(id, _)| id)
        .collect();
    // As in a run for labels only: the nodes left after fusion, and the node that each of the others is fused into.
    let taken_in = Plan::fused(graph, &[graph.output()]);
    let survivors: Vec<_> = ops
        .iter()
        .copied()
        .filter(|id| !taken_in.contains_key(id))
        .collect();
    let request = |ids: &[NodeId]| {
        let names = ids.iter().map(|id| graph.node(*id).name.clone());
        Request::nodes(begin, shape, names.collect())
    };
    let fused = segmenter.values(&request(&survivors), input).await?;
    let mut device: HashMap<NodeId, Tensor> = survivors.into_iter().zip(fused).collect();
    // Each node by itself, for the fused ones.
    let apart = segmenter.values(&request(&ops), input).await?;
    for (id, value) in ops.iter().zip(apart) {
        device.entry(*id).or_insert(value);
    }

    let mut report = Report {
        nodes: Vec::with_capacity(ops.len()),
        labels: None,
    };
    let mut bounds = vec![0.0; graph.nodes().len()];
    let precision = segmenter.precision();
    // Words hold bytes, without rounding.
    if begin != Begin::Picture(Form::Words) {
        bounds[graph.input().index()] = rounding(precision, input);
    }
    let mut scores: Option<Tensor> = None;
    let parameters = segmenter.model().parameters();
    reference::run_with(graph, parameters, input, |id, inputs, expected| {
        let node = graph.node(id);
        let (Some(op), Some(found)) = (node.op(), device.remove(&id)) else {
            return Ok(());
        };
        if let Some(i) = expected.data().iter().position(|x| !x.is_finite()) {
            bail!(
                NotFinite,
                "{} is {} at {:?} on the CPU too: the weights or the input are too large for f32",
                node.name,
                expected.data()[i],
                expected.position(i)
            );
        }
        let any: &dyn Any = op.as_ref();
        let binary = any.downcast_ref::<Binarize>();
        if any.is::<Argmax>() || binary.is_some() {
            let bound = bounds[node.inputs[0].index()];
            let scores = scores.as_ref();
            report.labels = scores.map(|scores| labels(scores, expected, &found, bound, binary));
            return Ok(());
        }
        if let Some(indices) = any.downcast_ref() {
            let bound = indices_bound(indices, inputs[0], expected, bounds[node.inputs[0].index()]);
            let [expected_values, found_values] =
                [&*expected, &found].map(|indices| named(inputs[0], indices));
            let of_values = NodeReport {
                name: node.name.clone(),
                op: op.name(),
                bound,
                ..difference(&expected_values?, &found_values?)
            };
            if of_values.is_within_bound() {
                *expected = found;
            }
            report.nodes.push(of_values);
            return Ok(());
        }
        // The lowered op, as the kernels compute it: it knows of a diagonal weight.
        let lowered = lowered::lower_node(graph, node).unwrap_or_else(|| op.clone());
        bounds[id.index()] = bound(&*lowered, node, inputs, expected, &bounds, precision);
        report.nodes.push(NodeReport {
            name: node.name.clone(),
            op: op.name(),
            bound: bounds[id.index()],
            fused_into: taken_in.get(&id).map(|into| graph.node(*into).name.clone()),
            ..difference(expected, &found)
        });
        let feeds_labels = graph.node(graph.output()).inputs.first() == Some(&id);
        scores = feeds_labels.then(|| expected.clone());
        Ok(())
    })?;
    Ok(report)
}

/// The relative error of rounding each element of `value` to `precision`; in `f32` it counts with the sums.
fn rounding(precision: Precision, value: &Tensor) -> f64 {
    match (precision, value.root_mean_square()) {
        (Precision::F32, _) => 0.0,
        (Precision::F16, size) if size > 0.0 => narrow::UNIT + narrow::LEAST_STEP / 2.0 / size,
        (Precision::F16, _) => narrow::UNIT,
    }
}

/// The bound of a node, from the bounds of the nodes before it.
fn bound(
    op: &dyn Op,
    node: &Node,
    inputs: &[&Tensor],
    value: &Tensor,
    before: &[f64],
    precision: Precision,
) -> f64 {
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
    let numerics = op.numerics(&shapes);
    let of_weight = |i: usize| rounding(precision, inputs[i]);
    let of_weights = numerics.weight.map_or(0.0, of_weight);
    let own = (numerics.reduction_length as f64).sqrt() * UNIT + of_weights;
    // Values that an op passes on were rounded before.
    let of_result = match numerics.is_exact() {
        true => 0.0,
        false => rounding(precision, value),
    };
    let of_inputs = node
        .inputs
        .iter()
        .map(|i| before[i.index()])
        .fold(0.0, f64::max);
    let amplified = op.noise(inputs) / value.root_mean_square();
    let amplified = if amplified.is_finite() {
        amplified.max(1.0)
    } else {
        1.0
    };
    amplified * (of_inputs + own) + of_result
}

/// The values of `planes` that `indices` name; NaN for an index outside its plane.
fn named(planes: &Tensor, indices: &Tensor) -> Result<Tensor> {
    Tensor::from_planes(indices.shape(), |n, c, plane| {
        let (values, indices) = (planes.plane(n, c), indices.plane(n, c));
        for (value, index) in plane.iter_mut().zip(indices) {
            let at = *index as usize;
            let named = values.get(at).filter(|_| at as f32 == *index);
            *value = named.copied().unwrap_or(f32::NAN);
        }
    })
}

/// The bound on the difference of the values that a device's indices name from the largest values, at the `expected`
/// indices, if `input` has an error of `before`. The largest and the named value both have this error, in as many
/// windows as they are in.
fn indices_bound(op: &MaxPool2dIndices, input: &Tensor, expected: &Tensor, before: f64) -> f64 {
    let windows = [0, 1].map(|i| op.pool.kernel_size[i].div_ceil(op.pool.stride[i]) as f64);
    let norm = |t: &Tensor| t.root_mean_square() * (t.data().len() as f64).sqrt();
    let of_values = named(input, expected).map_or(0.0, |values| norm(&values));
    let amplified = (windows[0] * windows[1]).sqrt() * norm(input) / of_values;
    2.0 * before
        * if amplified.is_finite() {
            amplified.max(1.0)
        } else {
            1.0
        }
}

/// The figures of a node; the rest of its report is left empty.
fn difference(expected: &Tensor, found: &Tensor) -> NodeReport {
    let (mut squares, mut norm, mut max, mut worst) = (0.0, 0.0, 0.0, 0);
    for (i, (e, f)) in expected.data().iter().zip(found.data()).enumerate() {
        let (e, f) = (f64::from(*e), f64::from(*f));
        let difference = (e - f).abs();
        let difference = if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        };
        if difference > max {
            (max, worst) = (difference, i);
        }
        squares += difference * difference;
        norm += e * e;
    }
    let relative_error = if squares == 0.0 {
        0.0
    } else {
        (squares / norm).sqrt()
    };
    NodeReport {
        name: String::new(),
        op: "",
        shape: expected.shape(),
        max_abs_error: max,
        relative_error,
        bound: 0.0,
        worst: expected.position(worst),
        fused_into: None,
    }
}

/// Compares labels by the margin rule. Argmax compares two scores, both of which err; `binary` labels compare one with
/// a threshold.
fn labels(
    scores: &Tensor,
    expected: &Tensor,
    found: &Tensor,
    bound: f64,
    binary: Option<&Binarize>,
) -> LabelReport {
    let shape = scores.shape();
    let largest = scores.data().iter().fold(0.0f32, |max, s| max.max(s.abs()));
    let errs = if binary.is_some() { 1.0 } else { 2.0 };
    let margin = errs * bound * f64::from(largest);
    let (mut equal, mut within_margin) = (0, 0);
    for (i, (e, f)) in expected.data().iter().zip(found.data()).enumerate() {
        if e == f {
            equal += 1;
            continue;
        }
        let [n, _, y, x] = expected.position(i);
        let score = |label: f32| match (label as usize, binary) {
            (0, Some(Binarize { threshold })) => f64::from(*threshold),
            (1, Some(_)) => f64::from(scores.at(n, 0, y, x)),
            (class, None) if class < shape.c => f64::from(scores.at(n, class, y, x)),
            _ => f64::NAN,
        };
        within_margin += usize::from(score(*e) - score(*f) <= margin);
    }
    LabelReport {
        pixels: expected.shape().elements(),
        equal,
        within_margin,
        margin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(Shape::new(1, 1, 1, values.len()), values.to_vec()).unwrap()
    }

    #[test]
    fn a_nan_on_the_device_is_an_infinite_error() {
        let report = difference(&row(&[1.0, 2.0]), &row(&[1.0, f32::NAN]));
        assert_eq!(report.worst, [0, 0, 0, 1]);
        assert!(report.max_abs_error.is_infinite() && !report.is_within_bound());
    }

    #[test]
    fn one_wrong_element_is_named() {
        let report = difference(&row(&[1.0, -2.0, 3.0]), &row(&[1.0, -2.5, 3.0]));
        assert_eq!((report.max_abs_error, report.worst), (0.5, [0, 0, 0, 1]));
        assert!((report.relative_error - 0.5 / 14f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn indices_are_held_to_what_they_name() {
        let plane = row(&[1.0, 2.0, 2.000_001, 0.0]);
        let values = named(&plane, &row(&[1.0, 2.0, 3.0, 4.0, -1.0, 0.5])).unwrap();
        assert_eq!(values.data()[..3], [2.0, 2.000_001, 0.0]);
        assert!(values.data()[3..].iter().all(|x| x.is_nan()));
        let pool = crate::ops::MaxPool2d {
            kernel_size: [1, 4],
            ..crate::ops::MaxPool2d::square(1, 4, false)
        };
        let bound = indices_bound(&MaxPool2dIndices { pool }, &plane, &row(&[2.0]), 1e-6);
        let of = |index: f32| {
            let found = named(&plane, &row(&[index])).unwrap();
            difference(&row(&[2.000_001]), &found).relative_error <= bound
        };
        assert!(of(2.0) && of(1.0) && !of(0.0) && !of(4.0));
    }

    #[test]
    fn a_label_may_differ_only_within_the_margin() {
        let scores = Tensor::new(Shape::new(1, 2, 1, 2), vec![1.0, 1.0, 0.999, 0.5]).unwrap();
        let report = labels(&scores, &row(&[0.0, 0.0]), &row(&[1.0, 1.0]), 0.001, None);
        assert_eq!(
            (report.equal, report.within_margin, report.outside_margin()),
            (0, 1, 1)
        );
    }

    #[test]
    fn a_binary_label_may_differ_only_near_the_threshold() {
        let threshold = Binarize { threshold: 0.5 };
        let scores = row(&[0.4995, 0.498, 0.502, 1.0, 0.0]);
        let expected = threshold.reference(&[&scores]).unwrap();
        assert_eq!(expected.data(), [0.0, 0.0, 1.0, 1.0, 0.0]);
        let found = row(&[1.0, 1.0, 0.0, 1.0, 255.0]);
        let report = labels(&scores, &expected, &found, 0.001, Some(&threshold));
        assert_eq!(
            (report.equal, report.within_margin, report.outside_margin()),
            (1, 1, 3)
        );
    }
}
