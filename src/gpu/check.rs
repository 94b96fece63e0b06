//! Whether a device computes right: a network on it, layer by layer, against the reference implementation.
//!
//! Each layer is judged alone: the reference computes it from the values that the device gave for its inputs. So a
//! wrong layer does not make the layers after it look wrong, and the layers are judged on all cores.

pub(super) mod matrices;
mod network;

use super::Gpu;
use super::executor::{Executor, Network, POISON};
use super::random::Random;
use crate::deviation::{bound, difference, labels, rounding};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::kernel::Format;
use crate::ops::numerics::{self, ErrorBound};
use crate::ops::{Argmax, Binarize, Op};
use crate::parallel;
use crate::parameters::Parameters;
use crate::plan::{Plan, lowered};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// A layer is wrong beyond this multiple of its error bound, which is of a typical error and not of the largest.
const SLACK: f64 = 4.0;

/// The result of [`Gpu::check`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeviceCheck {
    /// The layers of the network, in the order they run.
    pub layers: Vec<CheckedLayer>,
    /// No value is right except zeros, and most are zero or were not written.
    is_blank: bool,
}

/// A layer of a network that was checked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CheckedLayer {
    /// The node whose value was compared, the last of the layer.
    pub node: String,
    /// The kernels that compute it, in their order.
    pub kernels: Vec<&'static str>,
    /// The result.
    pub finding: Finding,
    /// Of a wrong layer: the kernels without which there is another plan, see
    /// [`GpuOptions::without_kernels`](crate::GpuOptions::without_kernels).
    pub replaceable: Vec<&'static str>,
}

/// What the comparison of a layer found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// The values are within the error bound.
    Right,
    /// The values are not. This element differs the most.
    Wrong {
        /// `[n, c, y, x]`.
        at: [usize; 4],
        /// The device's value.
        found: f32,
        /// The reference's value.
        expected: f32,
    },
    /// Nothing can be said: the device's values of an earlier layer are not finite, or the reference refuses them.
    Unknown,
}

/// How a device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// All layers are right.
    Right,
    /// A layer is wrong.
    Wrong,
    /// The device writes nothing, or only zeros.
    NotComputing,
}

impl DeviceCheck {
    /// How the device computes.
    pub fn verdict(&self) -> Verdict {
        match self.wrong().next() {
            None => Verdict::Right,
            Some(_) if self.is_blank => Verdict::NotComputing,
            Some(_) => Verdict::Wrong,
        }
    }

    /// The wrong layers, in the order they run.
    pub fn wrong(&self) -> impl Iterator<Item = &CheckedLayer> {
        self.layers.iter().filter(|layer| layer.is_wrong())
    }
}

impl CheckedLayer {
    /// Whether the layer is wrong.
    pub fn is_wrong(&self) -> bool {
        matches!(self.finding, Finding::Wrong { .. })
    }
}

impl fmt::Display for CheckedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node, self.kernels.join(", "))?;
        match &self.finding {
            Finding::Right => write!(f, " is right"),
            Finding::Unknown => write!(f, " reads values that cannot be used"),
            Finding::Wrong {
                at,
                found,
                expected,
            } => write!(f, " is {found} at {at:?}, the reference {expected}"),
        }
    }
}

impl Gpu {
    /// Runs a small network on this device and compares every layer with the reference implementation. The network
    /// reaches the kernels that segmentation takes on this device, with the kernels left out that
    /// [`GpuOptions::without_kernels`](crate::GpuOptions::without_kernels) names. It takes about a second, or a few if
    /// the driver has to compile all kernels first.
    ///
    /// ```no_run
    /// # async fn example() -> fullconv::Result<()> {
    /// use fullconv::{Gpu, gpu::Verdict};
    ///
    /// let gpu = Gpu::new().await?;
    /// let check = gpu.check().await?;
    /// for layer in check.wrong() {
    ///     println!("{layer}; another plan leaves out one of {:?}", layer.replaceable);
    /// }
    /// assert_eq!(check.verdict(), Verdict::Right);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Device` or `DeviceLost` if the device cannot run the network, `Limit` if it has no memory for it,
    /// `Unsupported` if too many kernels are left out.
    pub async fn check(&self) -> Result<DeviceCheck> {
        let network::CheckNetwork {
            graph,
            parameters,
            input,
            outputs,
        } = network::build()?;
        let subject = Subject {
            graph: &graph,
            parameters: &parameters,
            input: &input,
            outputs: &outputs,
            target: self.target(),
            most_flops: u64::MAX,
            least_error: 0.0,
        };
        subject.check(&Network::new(self)).await
    }
}

/// A picture in words, or values from 0 to 1, of many colours.
pub(crate) fn noise(shape: Shape, words: bool) -> Result<Tensor> {
    let mut random = Random(shape.elements() as u64);
    Tensor::from_fn(shape, |_, _, _, _| match words {
        true => random.below(256) as f32,
        false => random.float().abs(),
    })
}

/// A network to check on a device.
pub(crate) struct Subject<'a> {
    pub graph: &'a Graph,
    pub parameters: &'a Parameters,
    pub input: &'a Tensor,
    /// The outputs of the plan that is meant: nodes are fused as in a plan for them.
    pub outputs: &'a [NodeId],
    pub target: &'a Target,
    /// The most work of the reference, in floating-point operations; layers beyond it are left out.
    pub most_flops: u64,
    /// Layers are right up to this relative error, or share of labels, even if their bound is lower.
    pub least_error: f64,
}

/// A layer: the nodes that are fused in a plan, in order. The value of the last one is compared.
struct Group(Vec<NodeId>);

impl Group {
    fn last(&self) -> NodeId {
        self.0[self.0.len() - 1]
    }
}

impl Subject<'_> {
    /// Runs the network and judges its layers.
    ///
    /// # Errors
    /// As [`Executor::new`] and [`Executor::run`]; `ModelFile` if a weight cannot be used.
    pub(crate) async fn check(&self, network: &Network) -> Result<DeviceCheck> {
        let groups = self.groups()?;
        let wanted = self.wanted(&groups);
        let plan = self.plan(&wanted, self.target, network.gpu())?;
        let kernels: Vec<_> = groups.iter().map(|g| self.kernels(g, &plan)).collect();
        let is_word = plan.input.format == Format::Rgba8;
        let mut executor = Executor::new(network, plan, self.graph, self.parameters).await?;
        executor.poison();
        let mut found: HashMap<_, _> = executor.run(self.input).await?.into_iter().collect();
        found.insert(self.graph.input(), self.input.clone());
        let half = self.target.options.half;
        let of_input = if is_word {
            0.0
        } else {
            rounding(half, self.input)
        };
        let findings = parallel::map(&groups, |group| self.judge(group, &found, of_input));
        let blank = groups
            .iter()
            .map(|group| found.get(&group.last()).is_some_and(is_blank));
        let blank: Vec<_> = blank.collect();
        let mut layers = Vec::with_capacity(groups.len());
        for ((group, kernels), finding) in groups.iter().zip(kernels).zip(findings) {
            let finding = finding?;
            let is_wrong = matches!(finding, Finding::Wrong { .. });
            let replaceable = kernels.iter().copied();
            let replaceable =
                replaceable.filter(|name| is_wrong && self.is_replaceable(name, &wanted, network));
            layers.push(CheckedLayer {
                node: self.graph.node(group.last()).name.clone(),
                replaceable: replaceable.collect(),
                kernels,
                finding,
            });
        }
        // A layer that fails on zeros, or shares the buffer of the input, is not blank.
        let is_right =
            |(layer, blank): (&CheckedLayer, &bool)| layer.finding == Finding::Right && !*blank;
        let blanks = blank.iter().filter(|blank| **blank).count();
        let is_blank = 2 * blanks >= layers.len() && !layers.iter().zip(&blank).any(is_right);
        Ok(DeviceCheck { layers, is_blank })
    }

    /// The layers that the reference computes with [`Subject::most_flops`], in order.
    fn groups(&self) -> Result<Vec<Group>> {
        let shapes = self.graph.shapes(self.input.shape())?;
        let fused = Plan::fused(self.graph, self.outputs);
        let mut members: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let mut groups = Vec::new();
        let mut left = self.most_flops;
        for (id, _) in self.graph.iter().filter(|(_, node)| node.op().is_some()) {
            let last = fused.get(&id).copied().unwrap_or(id);
            let group = members.entry(last).or_default();
            group.push(id);
            if last != id {
                continue;
            }
            let work = group.iter().map(|id| self.work(*id, &shapes));
            let work = work.fold(0, u64::saturating_add);
            if let Some(rest) = left.checked_sub(work) {
                left = rest;
                groups.push(Group(std::mem::take(group)));
            }
        }
        Ok(groups)
    }

    /// The work of the reference for a node; reading a number of a weight counts as one operation.
    fn work(&self, id: NodeId, shapes: &[Shape]) -> u64 {
        let node = self.graph.node(id);
        let inputs: Vec<_> = node.inputs.iter().map(|i| shapes[i.index()]).collect();
        let read = inputs.iter().map(|shape| shape.elements() as u64);
        let flops = node.op().map_or(0, |op| op.flops(&inputs));
        read.fold(flops, u64::saturating_add)
    }

    /// The nodes whose values are compared or read by the reference.
    fn wanted(&self, groups: &[Group]) -> Vec<NodeId> {
        let mut wanted = BTreeSet::new();
        for group in groups {
            wanted.insert(group.last());
            let inputs = group.0.iter().flat_map(|id| &self.graph.node(*id).inputs);
            let outside = inputs.filter(|input| !group.0.contains(input));
            wanted.extend(outside.filter(|input| self.graph.node(**input).op().is_some()));
        }
        wanted.into_iter().collect()
    }

    fn plan(&self, wanted: &[NodeId], target: &Target, gpu: &Gpu) -> Result<Plan> {
        let shape = self.input.shape();
        Plan::with_choices(self.graph, shape, wanted, target, &gpu.choices())
    }

    /// The kernels of the plan's layers for the nodes of `group`.
    fn kernels(&self, group: &Group, plan: &Plan) -> Vec<&'static str> {
        let names: Vec<_> = group
            .0
            .iter()
            .map(|id| &self.graph.node(*id).name)
            .collect();
        let is_of_group = |name: &str| {
            name.split('+')
                .any(|part| names.iter().any(|name| *name == part))
        };
        let mut kernels = Vec::new();
        for layer in plan.layers.iter().filter(|layer| is_of_group(&layer.name)) {
            if !kernels.contains(&layer.kernel) {
                kernels.push(layer.kernel);
            }
        }
        kernels
    }

    /// Whether there is a plan without the kernel.
    fn is_replaceable(&self, kernel: &str, wanted: &[NodeId], network: &Network) -> bool {
        let mut target = self.target.clone();
        target.options.without_kernels.push(kernel.to_owned());
        self.plan(wanted, &target, network.gpu()).is_ok()
    }

    /// Compares a layer's value in `found` with the reference's value for the inputs in `found`. `of_input` is the
    /// relative error of the network's input.
    fn judge(
        &self,
        group: &Group,
        found: &HashMap<NodeId, Tensor>,
        of_input: f64,
    ) -> Result<Finding> {
        let half = self.target.options.half;
        let mut own: HashMap<NodeId, Tensor> = HashMap::new();
        let mut bounds = HashMap::from([(self.graph.input(), of_input)]);
        for id in &group.0 {
            let node = self.graph.node(*id);
            let Some(op) = node.op() else { continue };
            for input in &node.inputs {
                let parameter = self.graph.node(*input);
                if let NodeKind::Parameter(shape) = parameter.kind {
                    let value = self.parameters.get(&parameter.name, shape)?.tensor()?;
                    own.insert(*input, value);
                }
            }
            let inputs = node
                .inputs
                .iter()
                .map(|id| own.get(id).or_else(|| found.get(id)));
            let inputs = inputs.collect::<Option<Vec<_>>>();
            let inputs = inputs.ok_or_else(|| {
                let text = format!("the plan of the check lacks an input of {}", node.name);
                Error::new(ErrorKind::Internal, text)
            })?;
            let is_finite = |tensor: &&Tensor| tensor.data().iter().all(|x| x.is_finite());
            if !inputs.iter().all(is_finite) {
                return Ok(Finding::Unknown);
            }
            // Some inputs are refused, such as indices outside their windows.
            let Ok(expected) = op.reference(&inputs) else {
                break;
            };
            let before = node.inputs.iter().filter_map(|id| bounds.get(id));
            let before = before.copied().fold(0.0, f64::max);
            let lowered = lowered::lower_node(self.graph, node).unwrap_or_else(|| op.clone());
            if *id == group.last() {
                let Some(found) = found.get(id) else { break };
                return self.judged(&*lowered, &inputs, [&expected, found], before);
            }
            bounds.insert(*id, tolerance(&*lowered, &inputs, &expected, before, half)?);
            own.insert(*id, expected);
        }
        Ok(Finding::Unknown)
    }

    /// Compares the `expected` value of `op` with the one `found`. `before` is the relative error of its inputs.
    fn judged(
        &self,
        op: &dyn Op,
        inputs: &[&Tensor],
        [expected, found]: [&Tensor; 2],
        before: f64,
    ) -> Result<Finding> {
        let half = self.target.options.half;
        let any: &dyn Any = op;
        let binary = any.downcast_ref::<Binarize>();
        let difference = difference(expected, found);
        let is_right = match (any.is::<Argmax>() || binary.is_some(), inputs.first()) {
            (true, Some(scores)) => {
                let report = labels(scores, expected, found, SLACK * before, binary);
                let share = report.outside_margin() as f64 / report.pixels.max(1) as f64;
                share <= self.least_error
            }
            _ => {
                let most = SLACK * tolerance(op, inputs, expected, before, half)?;
                difference.relative_error <= most.max(self.least_error)
            }
        };
        let [n, c, y, x] = difference.worst;
        Ok(match is_right {
            true => Finding::Right,
            false => Finding::Wrong {
                at: difference.worst,
                found: found.at(n, c, y, x),
                expected: expected.at(n, c, y, x),
            },
        })
    }
}

/// Whether every element is zero or poison, as a number or as the bytes of labels.
fn is_blank(tensor: &Tensor) -> bool {
    let bytes = POISON.to_ne_bytes().map(f32::from);
    let is_blank = |x: &f32| *x == 0.0 || x.to_bits() == POISON || bytes.contains(x);
    tensor.data().iter().all(is_blank)
}

/// The bound on the relative error of a value: [`bound`], and that of a function's values if the op is one.
fn tolerance(
    op: &dyn Op,
    inputs: &[&Tensor],
    expected: &Tensor,
    before: f64,
    half: bool,
) -> Result<f64> {
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
    let of_function = match op.numerics(&shapes).error {
        ErrorBound::Exact | ErrorBound::Sum => 0.0,
        _ => {
            let bounds = numerics::bounds(op, inputs, expected)?;
            bounds.root_mean_square() / expected.root_mean_square()
        }
    };
    let of_function = if of_function.is_finite() {
        of_function
    } else {
        0.0
    };
    Ok(bound(op, inputs, expected, before, half) + of_function)
}
