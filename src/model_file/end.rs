//! The end of a network: whether its output holds probabilities of classes, as far as the graph tells.
//!
//! A mean of probabilities is probabilities: a weighted sum whose weights are positive and add up to 1. So the analysis
//! follows sums, with the sum of their weights, from the activations to the output.

use crate::graph::{Graph, Node, NodeId, NodeKind};
use crate::ops::{Activation, Probabilities};
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};

/// How far the weights of a mean may be from 1 together: they may be rounded to f16, or to three digits.
const ROUNDING: f64 = 1e-3;

/// What a network's output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Values {
    /// Class scores: the activation makes probabilities of them.
    Scores,
    /// Probabilities: the network ends in its activation.
    Probabilities,
    /// The natural logarithms of probabilities: the network ends in the logarithm of its activation.
    LogProbabilities,
}

impl Values {
    /// Its name in a file's metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Probabilities => "probabilities",
            Self::LogProbabilities => "log_probabilities",
        }
    }
}

/// What the output of a network holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// Nothing that the graph makes probabilities of.
    Scores,
    /// Probabilities, or their logarithms.
    Probabilities(Sum),
    /// Values that are made of probabilities alone, and it is not known whether they are probabilities.
    Unclear {
        activation: Activation,
        /// How they come about.
        how: String,
    },
}

/// A weighted sum of probabilities.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sum {
    pub activation: Activation,
    pub values: Values,
    /// The channels that the activation was applied to.
    pub channels: usize,
    /// The nodes that hold the probabilities, with their weights, which may be negative on the way.
    terms: Vec<(NodeId, f64)>,
}

impl Sum {
    fn weight(&self) -> f64 {
        self.terms.iter().map(|(_, weight)| weight).sum()
    }

    fn is_positive(&self) -> bool {
        self.terms.iter().all(|(_, weight)| *weight >= 0.0)
    }

    /// Whether it is a mean, and so probabilities again.
    fn is_mean(&self) -> bool {
        self.is_positive() && (self.weight() - 1.0).abs() <= ROUNDING
    }

    /// Whether both are sums of the same kind of probabilities, whatever their weights.
    fn is_like(&self, other: &Self) -> bool {
        let of = |sum: &Self| (sum.activation, sum.values);
        of(self) == of(other)
    }

    /// The sum times a number. The logarithms of probabilities stay so only times 1.
    fn times(mut self, factor: f64) -> Option<Self> {
        if factor == 1.0 {
            return Some(self);
        }
        for (_, weight) in &mut self.terms {
            *weight *= factor;
        }
        (self.values == Values::Probabilities && factor.is_finite()).then_some(self)
    }

    /// The sum of both.
    fn plus(mut self, other: &Self) -> Option<Self> {
        for (node, weight) in &other.terms {
            match self.terms.iter_mut().find(|(of, _)| of == node) {
                Some((_, of_both)) => *of_both += weight,
                None => self.terms.push((*node, *weight)),
            }
        }
        let same = self.is_like(other) && self.channels == other.channels;
        (same && self.values == Values::Probabilities).then_some(self)
    }
}

/// What is known of the values of a node.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// Features, scores: layers with weights of their own made them.
    Other,
    /// Numbers of the file or of an attribute; one number everywhere, if it is known.
    Number(Option<f64>),
    Sum(Sum),
    /// Another function of probabilities alone, made at this node.
    Changed(Activation, NodeId),
}

impl Known {
    fn activation(&self) -> Option<Activation> {
        match self {
            Self::Sum(sum) => Some(sum.activation),
            Self::Changed(activation, _) => Some(*activation),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => *number,
            _ => None,
        }
    }

    fn sum(&self) -> Option<&Sum> {
        match self {
            Self::Sum(sum) => Some(sum),
            _ => None,
        }
    }
}

/// What the output of `graph`, whose nodes have these `shapes`, holds. `number` gives the number that a tensor of the file
/// holds everywhere, if it does.
pub(super) fn of(graph: &Graph, shapes: &[Shape], number: &dyn Fn(&Node) -> Option<f64>) -> End {
    let mut known: Vec<Known> = Vec::with_capacity(shapes.len());
    for (id, node) in graph.iter() {
        let of_node = match &node.kind {
            NodeKind::Input => Known::Other,
            NodeKind::Parameter(_) => Known::Number(None),
            NodeKind::Op(op) => {
                let kind = op.probabilities();
                let read = node.inputs.iter().enumerate();
                let read = read.filter(|(i, _)| op.reads(*i)).map(|(_, id)| *id);
                let computes = matches!(kind, Probabilities::Product | Probabilities::Quotient);
                let of_input = |id: NodeId| match &known[id.index()] {
                    Known::Number(None) if computes => Known::Number(number(graph.node(id))),
                    other => other.clone(),
                };
                let step = Step {
                    id,
                    inputs: read.clone().map(of_input).collect(),
                    shapes: read.map(|id| shapes[id.index()]).collect(),
                    channels: shapes[id.index()].c,
                };
                step.known(kind)
            }
        };
        known.push(of_node);
    }
    match known.swap_remove(graph.output().index()) {
        Known::Sum(sum) if sum.is_mean() => End::Probabilities(sum),
        Known::Sum(sum) => End::Unclear {
            activation: sum.activation,
            how: match sum.is_positive() {
                true => format!(
                    "summed with weights of {} together, not 1",
                    sum.weight() as f32
                ),
                false => "summed with a negative weight".into(),
            },
        },
        Known::Changed(activation, at) => {
            let node = graph.node(at);
            let op = node.op().map_or("input", |op| op.name());
            End::Unclear {
                activation,
                how: format!("changed by {} ({op})", node.name),
            }
        }
        Known::Other | Known::Number(_) => End::Scores,
    }
}

/// A node of the analysis.
struct Step {
    id: NodeId,
    /// What is known of the inputs that the op reads.
    inputs: Vec<Known>,
    shapes: Vec<Shape>,
    /// Channels of the output.
    channels: usize,
}

impl Step {
    /// What is known of the output of an op of this kind.
    fn known(&self, kind: Probabilities) -> Known {
        let first = self.inputs.first().and_then(|known| known.sum());
        let first = || first.cloned();
        let by = || self.inputs.get(1).and_then(|by| by.number());
        let mean_of = |values: Values, to: Values| {
            let sum = first().filter(|sum| sum.is_mean() && sum.values == values);
            sum.map(|sum| Sum { values: to, ..sum })
        };
        let sum = match kind {
            Probabilities::No => return Known::Other,
            Probabilities::Number(number) => return Known::Number(Some(f64::from(number))),
            Probabilities::Of(activation) => Some(self.made(activation, Values::Probabilities)),
            Probabilities::LogOf(activation) => {
                Some(self.made(activation, Values::LogProbabilities))
            }
            Probabilities::OfInputs => self.moved(&self.inputs),
            Probabilities::Clamped => first().filter(Sum::is_mean),
            Probabilities::Chosen => return self.chosen(),
            Probabilities::Scaled(factor) => first().and_then(|sum| sum.times(f64::from(factor))),
            Probabilities::Sum => self.added(1.0),
            Probabilities::Difference => self.added(-1.0),
            Probabilities::Product => match self.inputs.as_slice() {
                [Known::Sum(sum), by] | [by, Known::Sum(sum)] => {
                    by.number().and_then(|by| sum.clone().times(by))
                }
                _ => None,
            },
            Probabilities::Quotient => first().zip(by()).and_then(|(sum, by)| sum.times(1.0 / by)),
            Probabilities::Logarithm => mean_of(Values::Probabilities, Values::LogProbabilities),
            Probabilities::Exponential => mean_of(Values::LogProbabilities, Values::Probabilities),
            Probabilities::Changed => None,
        };
        sum.map_or_else(|| self.changed(&self.inputs), Known::Sum)
    }

    /// What this node makes of scores.
    fn made(&self, activation: Activation, values: Values) -> Sum {
        Sum {
            activation,
            values,
            channels: self.channels,
            terms: vec![(self.id, 1.0)],
        }
    }

    /// What is known of a function of `inputs` that makes no probabilities.
    fn changed(&self, inputs: &[Known]) -> Known {
        if inputs.contains(&Known::Other) {
            return Known::Other;
        }
        let mut before = inputs.iter();
        let before = before.find(|known| matches!(known, Known::Changed(..)));
        let activation = inputs.iter().find_map(|known| known.activation());
        match (before, activation) {
            (Some(before), _) => before.clone(),
            (None, Some(activation)) => Known::Changed(activation, self.id),
            (None, None) => Known::Number(None),
        }
    }

    /// The values of `inputs`, moved or averaged; a node whose weight is theirs.
    fn moved(&self, inputs: &[Known]) -> Option<Sum> {
        let first = inputs.first()?.sum()?;
        let weight = first.weight();
        let same = |known: &Known| {
            let sum = known
                .sum()
                .filter(|sum| sum.is_positive() && sum.is_like(first));
            sum.is_some_and(|sum| (sum.weight() - weight).abs() <= ROUNDING * weight)
        };
        inputs.iter().all(same).then(|| Sum {
            terms: vec![(self.id, weight)],
            ..first.clone()
        })
    }

    /// A choice between values. One for all channels keeps what excludes each other apart.
    fn chosen(&self) -> Known {
        let Some(inputs) = self.inputs.get(1..) else {
            return Known::Other;
        };
        let by_pixel = self.shapes[0].c == 1;
        let kept = self.moved(inputs);
        let kept = kept.filter(|sum| by_pixel || sum.activation == Activation::Sigmoid);
        kept.map_or_else(|| self.changed(inputs), Known::Sum)
    }

    /// The first input plus `sign` times the second.
    fn added(&self, sign: f64) -> Option<Sum> {
        let [Known::Sum(a), Known::Sum(b)] = self.inputs.as_slice() else {
            return None;
        };
        if self.shapes.iter().any(|shape| shape.c != self.channels) {
            return None;
        }
        a.clone().plus(&b.clone().times(sign)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use serde_json::Value;

    /// The end of a graph of three channels with the softmaxes `p`, `q` and `r`, the sigmoids `s` and `t`, the tensors
    /// `half`, 0.5 everywhere, and `mixed`, and the nodes: name, op, inputs and attributes, in words.
    fn end(nodes: &str) -> End {
        let mut graph = Graph::new("input");
        for name in ["half", "mixed"] {
            graph.parameter(name, Shape::new(1, 1, 1, 1)).unwrap();
        }
        let made =
            "p softmax input\nq softmax input\nr softmax input\ns sigmoid input\nt sigmoid input";
        for line in [made, nodes].iter().flat_map(|lines| lines.lines()) {
            let (words, attributes) = line.split_once('{').unwrap_or((line, "}"));
            let attributes: Value = serde_json::from_str(&format!("{{{attributes}")).unwrap();
            let words: Vec<_> = words.split_whitespace().collect();
            let [name, op, inputs @ ..] = words.as_slice() else {
                panic!("{line}");
            };
            let op = ops::from_name(op, attributes).unwrap();
            let inputs: Vec<_> = inputs.iter().map(|i| graph.find(i).unwrap()).collect();
            graph.shared_op(*name, op, &inputs).unwrap();
        }
        let shapes = graph.shapes(Shape::new(1, 3, 8, 8)).unwrap();
        let number = |node: &Node| (node.name == "half").then_some(0.5);
        of(&graph, &shapes, &number)
    }

    #[track_caller]
    fn check(nodes: &str, activation: Activation, values: Values) {
        match end(nodes) {
            End::Probabilities(sum) => {
                assert_eq!(
                    (sum.activation, sum.values, sum.channels),
                    (activation, values, 3)
                );
            }
            other => panic!("{nodes}: {other:?}"),
        }
    }

    #[test]
    fn a_mean_of_probabilities_is_probabilities() {
        let third = r#"{"factor": 0.3333333}"#;
        for nodes in [
            // (p + q) / 2, as the exporter writes it; by a tensor; by a node; by a quotient.
            r#"a add p q
               m scale a {"factor": 0.5}"#,
            "a add p q\nm mul a half",
            "a add p q\nm mul half a",
            "a add p q\nf full p {\"channels\": 1, \"fill_value\": 0.5}\nm mul a f",
            "a add p q\nf full p {\"channels\": 1, \"fill_value\": 2}\nm div a f",
            "a scale p {\"factor\": 0.25}\nb scale q {\"factor\": 0.25}\nc add a b\nm div c half",
            // Three of them, the weights before or after the sum.
            &format!("a add p q\nb add a r\nm scale b {third}"),
            &format!(
                "a scale p {third}\nb scale q {third}\nc scale r {third}\nd add a b\nm add d c"
            ),
            "a scale p {\"factor\": 0.2}\nb scale q {\"factor\": 0.3}\nc scale r {\"factor\": 0.5}\nd add a b\nm add d c",
            // p + w (q - p).
            "d sub q p\nw scale d {\"factor\": 0.3}\nm add p w",
            // Of a picture and its mirror image.
            "f flip q {\"dims\": [3]}\na add p f\nm scale a {\"factor\": 0.5}",
            // Resized, joined, averaged and clamped on the way.
            "a add p q\nu interpolate a {\"scale_factor\": 2}\nm scale u {\"factor\": 0.5}",
            "a add p q\nh scale a {\"factor\": 0.5}\nm clamp h {\"min\": 0, \"max\": 1}",
            "a add p q\nh scale a {\"factor\": 0.5}\nm mean h {\"dim\": [2, 3]}",
            "c where half p q",
            "l log p\nm exp l",
        ] {
            check(nodes, Activation::Softmax, Values::Probabilities);
        }
        check(
            "a add s t\nm mul a half",
            Activation::Sigmoid,
            Values::Probabilities,
        );
        check(
            "a add s t\nm mul a half\nu relu m",
            Activation::Sigmoid,
            Values::Probabilities,
        );
        check(
            "a add p q\nh mul a half\nm log h",
            Activation::Softmax,
            Values::LogProbabilities,
        );
    }

    #[test]
    fn what_may_be_no_probabilities_is_unclear() {
        for (nodes, expected) in [
            ("a add p q", "summed with weights of 2 together, not 1"),
            (
                "m scale p {\"factor\": 100}",
                "summed with weights of 100 together, not 1",
            ),
            (
                "a add p q\nb add a r\nm scale b {\"factor\": 0.33}",
                "weights of 0.99 together",
            ),
            (
                "d sub q p\nw scale d {\"factor\": 1.5}\nm add p w",
                "summed with a negative weight",
            ),
            (
                "m scale p {\"factor\": -1}",
                "summed with a negative weight",
            ),
            ("a add p s\nm mul a half", "changed by a (add)"),
            ("a add p half", "changed by a (add)"),
            ("a mul p q\nm sqrt a", "changed by a (mul)"),
            ("m mul p mixed", "changed by m (mul)"),
            ("m maximum s t", "changed by m (maximum)"),
            // Masks of a class each, by the classes of the masks.
            (
                "k reshape q {\"shape\": [3, 64, 1]}\nm mix_channels s k",
                "changed by m (mix_channels)",
            ),
            ("m gt s half", "changed by m (gt)"),
            ("a sum p {\"dim\": [1]}\nm div p a", "changed by a (sum)"),
            ("m mean p {\"dim\": [1]}", "changed by m (mean)"),
            // The geometric mean has to be normalised.
            (
                "l log p\nk log q\na add l k\nm mul a half",
                "changed by a (add)",
            ),
            ("a add p q\nm clamp a {\"min\": 0}", "changed by m (clamp)"),
            ("c scale p {\"factor\": 2}\nm cat p c", "changed by m (cat)"),
            ("c where s p q", "changed by c (where)"),
            (
                "b slice p {\"dim\": 1, \"end\": 1}\nm add b p",
                "changed by m (add)",
            ),
        ] {
            match end(nodes) {
                End::Unclear { how, .. } => assert!(how.contains(expected), "{nodes}: {how}"),
                other => panic!("{nodes}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_gate_is_no_end() {
        for nodes in [
            "m mul s input",
            "a add p input",
            "a add p q\nm mul a input",
            "n instance_norm p",
            "i sigmoid p\nm mul i input",
            "m scale input {\"factor\": 0.5}",
        ] {
            assert_eq!(end(nodes), End::Scores, "{nodes}");
        }
    }
}
