//! The stages that a file's graph names: class scores inside the network, at coarser strides than its output.

use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId};
use crate::models::FcnStage;
use crate::ops::ConvTranspose2d;
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};

/// The largest stride of a stage: its upsampling has a kernel of about twice the stride for each class.
const MOST: usize = 64;
/// Added to the sides of a picture for a second one, whose sides are odd.
const ODD: [usize; 2] = [17, 23];

/// The stages as a file describes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stages {
    align: Align,
    /// The coarsest first, the network's own last.
    scores: Vec<Scores>,
}

/// Where the scores lie in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Align {
    /// Score i lies at pixel i · stride.
    Start,
    /// Score i lies in the middle of the pixels from i · stride to (i + 1) · stride.
    Center,
}

/// The scores of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scores {
    node: String,
    stride: usize,
}

impl Stages {
    /// The stages but the last, and the stride of the last, for a graph that takes an input of shape `nominal`.
    ///
    /// # Errors
    /// `ModelFile` if the stages do not fit the graph.
    pub(super) fn build(
        &self,
        graph: &Graph,
        nominal: Shape,
    ) -> Result<(Vec<FcnStage>, Option<usize>)> {
        let Some((last, coarse)) = self.scores.split_last().filter(|(_, c)| !c.is_empty()) else {
            bail!(
                ModelFile,
                "graph: stages: {} scores; there are at least two, those of a coarser stride and those of the \
                 network's own",
                self.scores.len()
            );
        };
        let strides = self.scores.iter().map(|scores| scores.stride);
        for (a, b) in strides.clone().zip(strides.skip(1)) {
            if a <= b {
                bail!(
                    ModelFile,
                    "graph: stages: stride {a} before {b}; the largest stride is the first"
                );
            }
        }
        let used = used(graph);
        let sizes = sizes(graph, nominal)?;
        let nodes = self.scores.iter().map(|scores| {
            let node = scores.node(graph, &used)?;
            for (input, shapes) in &sizes {
                scores.check(*input, shapes[node.index()], shapes[graph.output().index()])?;
            }
            Ok(node)
        });
        let nodes: Vec<NodeId> = nodes.collect::<Result<_>>()?;
        let stages = coarse.iter().zip(nodes);
        let stages = stages.map(|(scores, node)| self.align.stage(graph, node, scores.stride));
        Ok((stages.collect(), Some(last.stride)))
    }
}

impl Align {
    /// The stage of a node. Its upsampling is bilinear, and score i lands where it lies in the picture.
    fn stage(self, graph: &Graph, node: NodeId, stride: usize) -> FcnStage {
        let odd = stride % 2;
        let (kernel, padding, output_padding) = match self {
            Self::Start => (2 * stride - 1, stride - 1, stride - 1),
            // The middle of an odd number of pixels is a pixel, that of an even number lies between two.
            Self::Center => (2 * stride - odd, stride / 2, 0),
        };
        FcnStage {
            node,
            stride,
            upsampling: ConvTranspose2d {
                output_padding: [output_padding; 2],
                ..ConvTranspose2d::strided(stride, padding)
            },
            kernel,
            weight: graph.free_name(&format!("stage{stride}.weight")),
            offset: 0,
        }
    }
}

impl Scores {
    /// The node, which the output depends on.
    fn node(&self, graph: &Graph, used: &[bool]) -> Result<NodeId> {
        let found = graph.find_op(&self.node).ok();
        match found.filter(|node| used[node.index()]) {
            Some(node) => Ok(node),
            None if found.is_some() => bail!(
                ModelFile,
                "graph: stages: the output does not depend on {:?}",
                self.node
            ),
            None => bail!(ModelFile, "graph: stages: {:?} is no node", self.node),
        }
    }

    /// An error unless `shape` is that of class scores at the stride, in a network with an input of shape `input` and
    /// an output of shape `output`.
    fn check(&self, input: Shape, shape: Shape, output: Shape) -> Result<()> {
        let Self { node, stride } = self;
        if !(1..=MOST).contains(stride) {
            bail!(
                ModelFile,
                "graph: stages: a stride of {stride}; strides are from 1 to {MOST}"
            );
        }
        if output.c == 1 || shape.c != output.c {
            bail!(
                ModelFile,
                "graph: stages: {node:?} has {} channels and the output {}; both have one for each of several classes",
                shape.c,
                output.c
            );
        }
        let (h, w) = (input.h.div_ceil(*stride), input.w.div_ceil(*stride));
        if (shape.h, shape.w) != (h, w) {
            bail!(
                ModelFile,
                "graph: stages: {node:?} is {}x{} for a picture of {}x{} (height x width), where a stride of {stride} \
                 gives {h}x{w}",
                shape.h,
                shape.w,
                input.h,
                input.w
            );
        }
        Ok(())
    }
}

/// Whether the output depends on each node, or is it.
fn used(graph: &Graph) -> Vec<bool> {
    let mut used = vec![false; graph.nodes().len()];
    let mut rest = vec![graph.output()];
    while let Some(id) = rest.pop() {
        if !std::mem::replace(&mut used[id.index()], true) {
            rest.extend(&graph.node(id).inputs);
        }
    }
    used
}

/// Two inputs and the shapes of all nodes for them; one input if the network does not take the second.
fn sizes(graph: &Graph, nominal: Shape) -> Result<Vec<(Shape, Vec<Shape>)>> {
    let [h, w] = ODD;
    let odd = Shape::new(1, nominal.c, nominal.h + h, nominal.w + w);
    let mut sizes = vec![(nominal, graph.shapes(nominal)?)];
    sizes.extend(graph.shapes(odd).ok().map(|shapes| (odd, shapes)));
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use crate::models::Checkpoint;
    use crate::models::described::build;
    use serde_json::{Value, json};

    /// Scores of two classes at strides 4 and 2, summed up, and a node beside them.
    fn built(
        stages: Value,
        classes: usize,
    ) -> crate::error::Result<crate::models::NetworkDefinition> {
        let half = json!({"stride": 2, "padding": 1});
        let conv = |name: &str, from: &str, attributes: &Value| {
            json!({"name": name, "op": "conv2d",
            "inputs": [from, format!("{name}.weight")], "attributes": attributes})
        };
        let description = json!({"output": "score", "stages": stages, "nodes": [
            conv("fine", "input", &half),
            conv("coarse", "fine", &half),
            {"name": "up", "op": "interpolate", "inputs": ["coarse", "fine"]},
            {"name": "sum", "op": "add", "inputs": ["fine", "up"]},
            {"name": "score", "op": "interpolate", "inputs": ["sum", "input"]},
            {"name": "side", "op": "relu", "inputs": ["coarse"]},
            {"name": "floor", "op": "max_pool2d", "inputs": ["fine"], "attributes": {"kernel_size": 2}},
            {"name": "wide", "op": "cat", "inputs": ["coarse", "floor"]},
            {"name": "all", "op": "interpolate", "inputs": ["wide", "fine"]},
        ]});
        let tensor = |name: &str, c: usize| (name.to_owned(), vec![classes, c, 3, 3]);
        let checkpoint: Checkpoint = [tensor("fine.weight", 3), tensor("coarse.weight", classes)]
            .into_iter()
            .collect();
        build(
            &checkpoint,
            &serde_json::from_value(description).unwrap(),
            64,
        )
    }

    fn scores(scores: &[(&str, usize)]) -> Value {
        let scores = scores
            .iter()
            .map(|(node, stride)| json!({"node": node, "stride": stride}));
        json!({"align": "start", "scores": scores.collect::<Vec<_>>()})
    }

    #[test]
    fn the_last_stage_is_the_networks_own() {
        let network = built(scores(&[("coarse", 4), ("sum", 2)]), 2).unwrap();
        let [stage] = network.stages.as_slice() else {
            panic!("{:?}", network.stages)
        };
        assert_eq!(network.graph.node(stage.node).name, "coarse");
        assert_eq!(
            (stage.stride, stage.kernel, network.stride),
            (4, 7, Some(2))
        );
    }

    #[test]
    fn stages_that_do_not_fit_the_graph_are_errors() {
        for (stages, text) in [
            (scores(&[]), "0 scores; there are at least two"),
            (scores(&[("sum", 2)]), "1 scores; there are at least two"),
            (scores(&[("sum", 2), ("coarse", 4)]), "stride 2 before 4"),
            (scores(&[("coarse", 4), ("sum", 4)]), "stride 4 before 4"),
            (scores(&[("none", 4), ("sum", 2)]), "\"none\" is no node"),
            (
                scores(&[("fine.weight", 4), ("sum", 2)]),
                "\"fine.weight\" is no node",
            ),
            (scores(&[("input", 4), ("sum", 2)]), "\"input\" is no node"),
            (
                scores(&[("side", 4), ("sum", 2)]),
                "the output does not depend on \"side\"",
            ),
            (
                scores(&[("coarse", 65), ("sum", 2)]),
                "a stride of 65; strides are from 1 to 64",
            ),
            (
                scores(&[("coarse", 4), ("sum", 0)]),
                "a stride of 0; strides are from 1 to 64",
            ),
            (
                scores(&[("coarse", 8), ("sum", 2)]),
                "\"coarse\" is 16x16 for a picture of 64x64 (height x width), where a stride of 8 gives 8x8",
            ),
        ] {
            let error = built(stages, 2).unwrap_err().to_string();
            assert!(
                error.starts_with("graph: stages: ") && error.contains(text),
                "{error}"
            );
        }
        let error = built(scores(&[("coarse", 4), ("sum", 2)]), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("has 1 channels and the output 1"), "{error}");
    }

    #[test]
    fn scores_that_do_not_cover_an_odd_picture_are_an_error() {
        // A pooling without `ceil_mode` leaves out the last row of an odd map.
        let nodes = json!([
            {"name": "fine", "op": "conv2d", "inputs": ["input", "fine.weight"], "attributes": {"padding": 1}},
            {"name": "coarse", "op": "max_pool2d", "inputs": ["fine"], "attributes": {"kernel_size": 4}},
            {"name": "score", "op": "interpolate", "inputs": ["coarse", "input"]},
        ]);
        let stages = scores(&[("coarse", 4), ("score", 1)]);
        let description = json!({"output": "score", "stages": stages, "nodes": nodes});
        let checkpoint: Checkpoint = [("fine.weight".to_owned(), vec![2, 3, 3, 3])]
            .into_iter()
            .collect();
        let error = build(
            &checkpoint,
            &serde_json::from_value(description).unwrap(),
            64,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "graph: stages: \"coarse\" is 20x21 for a picture of 81x87 (height x width), where a stride of 4 gives 21x22"
        );
    }
}
