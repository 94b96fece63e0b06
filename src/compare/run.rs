//! The values of a run on the device, compared with the reference.

use super::jumps::{self, Input, Jumped};
use super::{LabelReport, NodeReport};
use crate::deviation::{bound, labels, rounding};
use crate::error::{Result, bail};
use crate::graph::{Graph, Node, NodeId, NodeKind};
use crate::ops::narrow;
use crate::ops::numerics::Jumps;
use crate::ops::{Argmax, Binarize};
use crate::parameters::Parameters;
use crate::plan::lowered;
use crate::reference;
use crate::segmenter::Precision;
use crate::tensor::Tensor;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The values of nodes on the device.
pub(super) type Values = HashMap<NodeId, Tensor>;
/// The reports of a run's nodes, and of its labels.
pub(super) type Compared = (Vec<(NodeId, NodeReport)>, Option<LabelReport>);

/// A graph and its input on the CPU.
pub(super) struct Reference<'a> {
    pub graph: &'a Graph,
    pub parameters: &'a Parameters,
    pub input: &'a Tensor,
    /// The relative error of the input on the device.
    pub of_input: f64,
    pub precision: Precision,
    /// The node that each fused node is fused into.
    pub taken_in: &'a HashMap<NodeId, NodeId>,
}

impl Reference<'_> {
    /// The nodes whose output jumps, apart from the labels at the end.
    pub(super) fn jumping(&self) -> Result<HashSet<NodeId>> {
        let shapes = self.graph.shapes(self.input.shape())?;
        let jumps = |(id, node): (NodeId, &Node)| {
            let op = node.op().filter(|_| !self.is_labels(id))?;
            let inputs: Vec<_> = node.inputs.iter().map(|i| shapes[i.index()]).collect();
            let jumps = !matches!(op.numerics(&inputs).jumps, Jumps::No);
            jumps.then_some(id)
        };
        Ok(self.graph.iter().filter_map(jumps).collect())
    }

    /// Whether the device has values in `f16`.
    fn half(&self) -> bool {
        self.precision == Precision::F16
    }

    /// Whether the node is the labels that a request adds.
    fn is_labels(&self, id: NodeId) -> bool {
        let op = self.graph.node(id).op();
        id == self.graph.output()
            && op.is_some_and(|op| {
                let any: &dyn Any = op.as_ref();
                any.is::<Argmax>() || any.is::<Binarize>()
            })
    }

    /// Compares the values of a `run`. Of the nodes that it lacks there is no report.
    ///
    /// # Errors
    /// `NotFinite` if a value is not finite on the CPU, else as [`reference::run_with`].
    pub(super) fn compare(&self, mut run: Values, jumping: &HashSet<NodeId>) -> Result<Compared> {
        let read = jumping.iter().flat_map(|id| &self.graph.node(*id).inputs);
        let read: HashSet<NodeId> = read.copied().collect();
        let mut bounds = vec![0.0; self.graph.nodes().len()];
        bounds[self.graph.input().index()] = self.of_input;
        let (mut nodes, mut of_labels) = (Vec::with_capacity(run.len()), None);
        let visit = |id: NodeId, inputs: &[&Tensor], expected: &mut Tensor| {
            let node = self.graph.node(id);
            let Some(op) = node.op() else { return Ok(()) };
            check_finite(node, expected)?;
            let found = match read.contains(&id) {
                true => run.get(&id).cloned(),
                false => run.remove(&id),
            };
            if self.is_labels(id) {
                let (scores, bound) = (inputs[0], bounds[node.inputs[0].index()]);
                let any: &dyn Any = op.as_ref();
                let binary = any.downcast_ref();
                let report = |found| labels(scores, expected, &found, bound, binary);
                of_labels = found.map(report);
                return Ok(());
            }
            let mut jumped = Jumped::default();
            if let Some(found) = found.as_ref().filter(|_| jumping.contains(&id)) {
                let inputs = self.inputs(node, inputs, &run, &bounds);
                jumped = jumps::compare(op.as_ref(), &inputs, expected, found, self.precision)?;
            }
            // The lowered op, as the kernels compute it: it knows of a diagonal weight.
            let lowered = lowered::lower_node(self.graph, node).unwrap_or_else(|| op.clone());
            let before = node.inputs.iter().map(|i| bounds[i.index()]);
            let before = before.fold(0.0, f64::max);
            bounds[id.index()] = bound(&*lowered, inputs, expected, before, self.half());
            let Some(found) = found else { return Ok(()) };
            let into = self.taken_in.get(&id);
            let report = NodeReport {
                name: node.name.clone(),
                op: op.name(),
                bound: bounds[id.index()],
                fused_into: into.map(|into| self.graph.node(*into).name.clone()),
                jumped: jumped.count,
                jumped_at: jumped.at,
                wrong: jumped.wrong,
                ..NodeReport::of(expected, &found)
            };
            nodes.push((id, report));
            Ok(())
        };
        reference::run_with(self.graph, self.parameters, self.input, visit)?;
        Ok((nodes, of_labels))
    }

    /// The inputs of a node that jumps, in the reference and on the device.
    fn inputs<'a>(
        &self,
        node: &Node,
        inputs: &[&'a Tensor],
        run: &'a Values,
        bounds: &[f64],
    ) -> Vec<Input<'a>> {
        let input = |(id, reference): (&NodeId, &&'a Tensor)| {
            let rounded = |x| match self.precision {
                Precision::F32 => x,
                Precision::F16 => narrow::rounded(x),
            };
            let device = match run.get(id) {
                Some(value) => Cow::Borrowed(value),
                // The graph's input, or a tensor of the file.
                None => Cow::Owned(reference.map(rounded)),
            };
            let bound = match self.graph.node(*id).kind {
                NodeKind::Parameter(_) => rounding(self.half(), reference),
                _ => bounds[id.index()],
            };
            Input {
                reference,
                device,
                bound,
            }
        };
        node.inputs.iter().zip(inputs).map(input).collect()
    }
}

/// An error if a value of the reference is not finite.
fn check_finite(node: &Node, value: &Tensor) -> Result<()> {
    if let Some(i) = value.data().iter().position(|x| !x.is_finite()) {
        bail!(
            NotFinite,
            "{} is {} at {:?} on the CPU too: the weights or the input are too large for f32",
            node.name,
            value.data()[i],
            value.position(i)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Full, Gt, Mul, Scale};
    use crate::tensor::Shape;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(Shape::new(1, 1, 1, values.len()), values.to_vec()).unwrap()
    }

    /// The values times 3, a mask of those above a half, and the values under the mask.
    fn masked() -> Graph {
        let mut graph = Graph::new("x");
        let tripled = graph.op("tripled", Scale { factor: 3.0 }, &[graph.input()]);
        let tripled = tripled.unwrap();
        let half = Full {
            channels: 1,
            fill_value: 0.5,
        };
        let half = graph.op("half", half, &[tripled]).unwrap();
        let mask = graph.op("mask", Gt {}, &[tripled, half]).unwrap();
        graph.op("kept", Mul {}, &[tripled, mask]).unwrap();
        graph
    }

    /// The reports of [`masked`] for a device that is right but for a `change` of the elements of a node, from which it
    /// goes on.
    fn of_device(change: impl Fn(&str, &mut [f32])) -> Vec<NodeReport> {
        let graph = masked();
        let model = crate::Model::from_bytes(fullconv_demo::MODEL).unwrap();
        let parameters = model.parameters();
        // The product of the second with 3 is less than an ULP above a half.
        let input = row(&[1.0, 0.166_666_7, -2.0, 0.3]);
        let mut run = Values::new();
        reference::run_with(&graph, parameters, &input, |id, _, value| {
            change(&graph.node(id).name, value.data_mut());
            run.insert(id, value.clone());
            Ok(())
        })
        .unwrap();
        let reference = Reference {
            graph: &graph,
            parameters,
            input: &input,
            of_input: 0.0,
            precision: Precision::F32,
            taken_in: &HashMap::new(),
        };
        let jumping = reference.jumping().unwrap();
        assert_eq!(jumping, [graph.find("mask").unwrap()].into());
        let (nodes, labels) = reference.compare(run, &jumping).unwrap();
        assert_eq!(labels, None);
        nodes.into_iter().map(|(_, report)| report).collect()
    }

    #[test]
    fn what_follows_a_jump_is_compared_for_the_devices_side() {
        let reports = of_device(|name, values| {
            if name == "tripled" {
                values[1] = 0.5;
            }
        });
        assert!(
            reports.iter().all(NodeReport::is_within_bound),
            "{reports:?}"
        );
        let [_, _, mask, kept] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        assert_eq!((mask.jumped, &mask.jumped_at[..]), (1, &[[0, 0, 0, 1]][..]));
        assert_eq!((mask.bound, mask.max_abs_error), (0.0, 0.0));
        // The reference has 0.5 here if its mask stays.
        assert!(kept.max_abs_error < 1e-6 && kept.bound < 1e-6, "{kept:?}");
        let reports = of_device(|_, _| ());
        assert!(
            reports
                .iter()
                .all(|r| r.jumped == 0 && r.relative_error == 0.0)
        );
    }

    #[test]
    fn a_jump_that_the_device_has_no_reason_for_is_wrong() {
        for wrong in 0..4 {
            let reports = of_device(|name, values| {
                if name == "mask" {
                    values[wrong] = 1.0 - values[wrong];
                }
            });
            let outside: Vec<_> = reports.iter().filter(|r| !r.is_within_bound()).collect();
            assert_eq!((outside[0].name.as_str(), outside[0].wrong), ("mask", 1));
            assert_eq!(outside[0].worst, [0, 0, 0, wrong]);
        }
        // Nor for the mask of a wrong value, whatever its own node says.
        let reports = of_device(|name, values| {
            if name == "tripled" {
                values[3] = 0.4;
            }
        });
        assert_eq!(reports[2].wrong, 1, "{reports:?}");
    }
}
