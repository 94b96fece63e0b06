//! More than the labels: scores, probabilities, and the labels of the coarser stages of a network.

use super::request::{Request, strides};
use super::{Segmenter, first};
use crate::error::{Result, bail};
use crate::mask::Mask;
use crate::picture::Picture;
use crate::preprocess::PictureInput;
use crate::tensor::Tensor;

/// A network's labels of a picture at one of its strides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageMask {
    /// Pixels from one prediction to the next: 32, 16 or 8 in an FCN.
    pub stride: usize,
    /// The labels.
    pub mask: Mask,
}

impl Segmenter {
    /// `picture` as the input of a graph.
    pub(crate) fn input(&self, picture: &Picture) -> Result<(PictureInput, Tensor)> {
        let preprocessing = self.model().preprocessing();
        let form = preprocessing.form_of(picture)?;
        let tensor = preprocessing.tensor(std::slice::from_ref(picture), form)?;
        Ok((preprocessing.input(1, picture.size(), form), tensor))
    }

    /// The network's output for a picture, at its own size: `[1, channels, h, w]`. These are class scores, or
    /// probabilities if the network makes them itself, see [`Model::head`](crate::Model::head). For most networks the
    /// size is that of their input, see [`Model::network_size`](crate::Model::network_size).
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn scores(&self, picture: &Picture) -> Result<Tensor> {
        let (pictures, input) = self.input(picture)?;
        first(self.values(&Request::scores(pictures), &input).await?)
    }

    /// The probability of each class at each pixel, `[1, classes, h, w]`: the softmax or sigmoid of the scores resized
    /// to the picture's size; of a network that ends in its softmax or sigmoid, the output resized. A binary network
    /// has two classes, whose probabilities add up to 1.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn probabilities(&self, picture: &Picture) -> Result<Tensor> {
        let (pictures, input) = self.input(picture)?;
        let request = Request::probabilities(pictures);
        let output = first(self.values(&request, &input).await?)?;
        let probabilities = self.model().head().of_classes(output)?;
        if let Some(i) = probabilities.data().iter().position(|p| !p.is_finite()) {
            let [_, _, y, x] = probabilities.position(i);
            bail!(NotFinite, "the scores of pixel ({x}, {y}) are not finite");
        }
        Ok(probabilities)
    }

    /// The labels at each of the network's strides, the coarsest first, the network's own last. An FCN-8s
    /// has those of the FCN-32s and the FCN-16s inside it (Long, Shelhamer, Darrell 2015, figure 4), and a graph those
    /// that its file names.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and `Request` for a network without coarser stages.
    pub async fn stages(&self, picture: &Picture) -> Result<Vec<StageMask>> {
        let strides = strides(self.model())?;
        let size = picture.size();
        let (pictures, input) = self.input(picture)?;
        let values = self.values(&Request::stages(pictures), &input).await?;
        let mask = |(stride, labels): (usize, Tensor)| {
            let labels = labels.data().iter().map(|label| *label as u8).collect();
            let mask = self.mask(size, labels)?;
            Ok(StageMask { stride, mask })
        };
        strides.into_iter().zip(values).map(mask).collect()
    }
}
