//! More than the labels: scores, probabilities, and what the coarser stages of a network see.

use super::{Segmenter, at_size, first, network_graph};
use crate::error::{Result, bail};
use crate::graph::NodeId;
use crate::mask::Mask;
use crate::ops::{Argmax, Softmax};
use crate::picture::Picture;
use crate::tensor::Tensor;

/// What a network sees of a picture from one of its strides.
#[derive(Clone, Debug)]
pub struct StageMask {
    /// Pixels from one prediction to the next: 32, 16 or 8.
    pub stride: usize,
    /// The labels.
    pub mask: Mask,
}

impl Segmenter {
    /// The class scores of a picture, before softmax, at the size at which the network gives them: `[1, classes,
    /// h, w]`, for most networks that at which it sees the picture, see [`Model::network_size`](crate::Model::network_size).
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn scores(&self, picture: &Picture) -> Result<Tensor> {
        let size = [picture.height(), picture.width()];
        let graph = network_graph(&self.model, self.model.network_size(size)?)?;
        let outputs = [graph.output()];
        let values = self.values(&graph, &picture.to_tensor()?, &outputs).await?;
        first(values)
    }

    /// The probability of each class at each pixel, the softmax of the scores resized to the picture's size:
    /// `[1, classes, h, w]`.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn probabilities(&self, picture: &Picture) -> Result<Tensor> {
        let size = [picture.height(), picture.width()];
        let mut graph = network_graph(&self.model, self.model.network_size(size)?)?;
        let output = graph.output();
        let scores = at_size(&mut graph, "resized", output, size)?;
        let outputs = [graph.op("probabilities", Softmax {}, &[scores])?];
        let values = self.values(&graph, &picture.to_tensor()?, &outputs).await?;
        let probabilities = first(values)?;
        if let Some(i) = probabilities.data().iter().position(|p| !p.is_finite()) {
            let [_, _, y, x] = probabilities.position(i);
            bail!(NotFinite, "the scores of pixel ({x}, {y}) are not finite");
        }
        Ok(probabilities)
    }

    /// The labels at each of the network's strides, the coarsest first, the network's own last: those of the FCN-32s
    /// and FCN-16s that are inside an FCN-8s (Long, Shelhamer, Darrell 2015, figure 4).
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and `Request` for a network without such stages.
    pub async fn stages(&self, picture: &Picture) -> Result<Vec<StageMask>> {
        let (model, stages) = (&self.model, self.model.stages());
        if stages.is_empty() || !model.has_labels() {
            bail!(
                Request,
                "{model} has no coarser stages: FCN-8s and FCN-16s have"
            );
        }
        let size = [picture.height(), picture.width()];
        let mut graph = network_graph(model, model.network_size(size)?)?;
        let output = graph.output();
        let image = graph.find_op(&model.graph().node(model.graph().input()).name)?;
        let mut strides: Vec<usize> = Vec::with_capacity(stages.len() + 1);
        let mut outputs: Vec<NodeId> = Vec::with_capacity(stages.len() + 1);
        for stage in stages {
            let scores = graph.find_op(&model.graph().node(stage.node).name)?;
            let scores = stage.add_to(&mut graph, [scores, image], model.class_count())?;
            strides.push(stage.stride);
            outputs.push(scores);
        }
        strides.push(strides[strides.len() - 1] / 2);
        outputs.push(output);
        for (scores, stride) in outputs.iter_mut().zip(&strides) {
            let resized = at_size(&mut graph, &format!("resized{stride}"), *scores, size)?;
            *scores = graph.op(format!("labels{stride}"), Argmax::default(), &[resized])?;
        }
        let values = self.values(&graph, &picture.to_tensor()?, &outputs).await?;
        let mask = |(stride, labels): (usize, Tensor)| {
            let labels = labels.data().iter().map(|label| *label as u8).collect();
            let mask = self.mask(size, vec![labels])?;
            Ok(StageMask { stride, mask })
        };
        strides.into_iter().zip(values).map(mask).collect()
    }
}
