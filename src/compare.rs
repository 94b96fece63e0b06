//! Compares every node of a network on the device with the CPU reference.
//!
//! The bound on a node's relative error (L2 over the whole tensor) follows from the reduction lengths up to the node.
//! Adding up K products in `f32` errs by about √K · 2⁻²⁴ of the partial sums, since roundings go either way; the error
//! of the inputs comes on top. A layer that cancels most of its sums amplifies both. With r the error of the inputs, a
//! node's bound is g · (r + √K · 2⁻²⁴). Here g is the layer's output for noise as large as its input
//! ([`Op::noise`](crate::ops::Op::noise)) over the size of its output, or 1 if that is larger. Labels may differ only
//! where the two best scores are closer than twice the bound times the largest score; those of a binary network, where
//! the score is closer to the threshold than the bound times the largest score.
//!
//! An op whose output jumps (comparisons, `floor`, `sign`, `threshold`, `hardshrink`, the condition of `where`, indices of
//! a pooling) has no such bound at an edge. An element may be on another side of a jump than the reference's if the
//! device's own input is, and if the reference's input lies that near to the edge: its bound times the largest magnitude.
//! Any other difference is wrong. Reports count and name the elements that jumped. The reference goes on with the device's
//! side, so that what follows is compared element by element: a report claims that the device is right given these sides,
//! not that another device takes the same. Between jumps a step has no error, and a branch that of its input.
//!
//! With activations and weights in `f16` (u = 2⁻¹¹), a node's bound is g · (r + √K · 2⁻²⁴ + u) + u. Each weight is
//! rounded, which acts like noise as large as u times the input. The result is rounded too, unless the node only
//! passes values on, and so is the network's input. Numbers below 2⁻¹⁴ err by up to 2⁻²⁵ however small they are; this
//! counts relative to the root mean square.

mod jumps;
mod run;

pub use crate::deviation::LabelReport;
use crate::deviation::{difference, rounding};
use crate::error::Result;
use crate::graph::NodeId;
use crate::picture::Picture;
use crate::plan::Plan;
use crate::preprocess::Form;
use crate::segmenter::{Begin, Precision, Request, Segmenter, whole_graph};
use crate::tensor::{Shape, Tensor};
use run::{Reference, Values};

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
    /// Elements on the other side of a jump than the reference's, within the bound of their inputs. They do not count in
    /// the errors, and the nodes that follow are compared for the device's side.
    pub jumped: usize,
    /// `[n, c, y, x]` of the first of them.
    pub jumped_at: Vec<[usize; 4]>,
    /// Elements of an op that jumps that differ though neither the device's input nor its bound explains it.
    pub wrong: usize,
}

impl NodeReport {
    /// The figures of a node; the rest is left empty.
    fn of(expected: &Tensor, found: &Tensor) -> Self {
        let difference = difference(expected, found);
        Self {
            name: String::new(),
            op: "",
            shape: expected.shape(),
            max_abs_error: difference.max_abs_error,
            relative_error: difference.relative_error,
            bound: 0.0,
            worst: difference.worst,
            fused_into: None,
            jumped: 0,
            jumped_at: Vec::new(),
            wrong: 0,
        }
    }

    /// Whether the error is within its bound, and every jump within that of its inputs.
    pub fn is_within_bound(&self) -> bool {
        self.relative_error <= self.bound && self.wrong == 0
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
    let mut fused: Values = survivors.into_iter().zip(fused).collect();
    // Each node by itself, for the fused ones.
    let apart = segmenter.values(&request(&ops), input).await?;
    let apart: Values = ops.into_iter().zip(apart).collect();

    let precision = segmenter.precision();
    let reference = Reference {
        graph,
        parameters: segmenter.model().parameters(),
        input,
        // Words hold bytes, without rounding.
        of_input: match begin {
            Begin::Picture(Form::Words) => 0.0,
            _ => rounding(precision == Precision::F16, input),
        },
        precision,
        taken_in: &taken_in,
    };
    let jumping = reference.jumping()?;
    // The two runs round differently, and may be on different sides of a jump: each is then compared with a reference of
    // its own.
    let same_sides = jumping.iter().all(|id| fused.get(id) == apart.get(id));
    let (nodes, labels) = if same_sides {
        for (id, value) in apart {
            fused.entry(id).or_insert(value);
        }
        reference.compare(fused, &jumping)?
    } else {
        let (mut nodes, labels) = reference.compare(fused, &jumping)?;
        let (apart, _) = reference.compare(apart, &jumping)?;
        let is_fused = |(id, _): &(NodeId, _)| taken_in.contains_key(id);
        nodes.extend(apart.into_iter().filter(is_fused));
        nodes.sort_by_key(|(id, _)| *id);
        (nodes, labels)
    };
    let nodes = nodes.into_iter().map(|(_, report)| report).collect();
    Ok(Report { nodes, labels })
}
