//! The head of a network: what the channels of its output mean, and so how labels and probabilities are made of them.

use super::end::{End, Sum, Values};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::mask::Palette;
use crate::ops::{Activation, Argmax, Binarize, Op, Sigmoid, Softmax};
use crate::tensor::Tensor;
use std::fmt;
use std::sync::Arc;

/// The probability from which a pixel is class 1 of a binary network, unless the file or the user says otherwise.
const THRESHOLD: f32 = 0.5;

/// What the channels of a network's output mean.
///
/// A network of one channel is binary: it has two classes, 0 and 1, and the channel is about class 1. Several channels
/// are as many classes, which exclude each other (softmax) or do not (sigmoid, multi-label).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Head {
    /// The channels of the output.
    pub channels: usize,
    /// The function that makes probabilities of scores.
    pub activation: Activation,
    /// What the output holds.
    pub values: Values,
    /// The probability from which a pixel is class 1; `None` unless the network is binary.
    pub threshold: Option<f32>,
}

/// What the metadata of a file says about its network's output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Declared {
    pub activation: Option<Activation>,
    pub values: Option<Values>,
    pub threshold: Option<f32>,
}

impl Declared {
    /// Activation and values of a network whose end is known.
    ///
    /// # Errors
    /// `ModelFile` if the file says otherwise.
    fn fitting(&self, channels: usize, end: Sum) -> Result<(Activation, Values)> {
        if end.activation == Activation::Softmax && end.channels == 1 {
            bail!(
                ModelFile,
                "the network ends in a softmax of one channel, which is 1 everywhere: a binary network ends in a \
                 sigmoid or in its scores"
            );
        }
        match (self.activation, self.values) {
            (Some(activation), _) if activation != end.activation && channels > 1 => bail!(
                ModelFile,
                "fullconv metadata: the activation is {activation}, but the network ends in {}",
                end.activation
            ),
            (_, Some(values)) if values != end.values => bail!(
                ModelFile,
                "fullconv metadata: the values are {}, but the network ends in {}{}",
                values.name(),
                if end.values == Values::LogProbabilities {
                    "the logarithm of "
                } else {
                    ""
                },
                end.activation
            ),
            _ => Ok((end.activation, end.values)),
        }
    }

    /// The activation of a network whose end is not known: `usual` for several channels, if the file does not say it.
    ///
    /// # Errors
    /// `ModelFile` for a softmax of one channel.
    fn activation(&self, channels: usize, usual: Activation) -> Result<Activation> {
        match self.activation {
            Some(Activation::Softmax) if channels == 1 => bail!(
                ModelFile,
                "fullconv metadata: the activation is softmax, but the network has one output channel, whose \
                 softmax is 1 everywhere"
            ),
            Some(activation) => Ok(activation),
            None if channels == 1 => Ok(Activation::Sigmoid),
            None => Ok(usual),
        }
    }
}

impl Head {
    /// The head of a network of `channels` output channels, from its end and from what its file declares.
    pub(super) fn of(channels: usize, end: End, declared: Declared) -> Result<Self> {
        let (activation, values) = match end {
            End::Probabilities(end) => declared.fitting(channels, end)?,
            End::Scores => {
                let values = declared.values.unwrap_or(Values::Scores);
                (declared.activation(channels, Activation::Softmax)?, values)
            }
            End::Unclear { activation, how } => {
                let Some(values) = declared.values else {
                    bail!(
                        ModelFile,
                        "the network ends in {activation} probabilities that are {how}: the graph does not tell whether \
                         the output holds probabilities or scores; say it by the key \"values\" of the metadata \
                         (fullconv convert IN OUT --values probabilities|scores)"
                    );
                };
                (declared.activation(channels, activation)?, values)
            }
        };
        let head = Self {
            channels,
            activation,
            values,
            threshold: (channels == 1).then_some(THRESHOLD),
        };
        match declared.threshold {
            Some(threshold) => head.with_threshold(threshold).map_err(|e| {
                let text = format!("fullconv metadata: {e}");
                Error::new(ErrorKind::ModelFile, text)
            }),
            None => Ok(head),
        }
    }

    /// The same head with another threshold.
    ///
    /// # Errors
    /// `Request` unless the network is binary, and the threshold between 0 and 1.
    pub(super) fn with_threshold(self, threshold: f32) -> Result<Self> {
        if !self.is_binary() {
            bail!(
                Request,
                "a threshold is for binary networks, which have one output channel; this one has {}",
                self.channels
            );
        }
        if !(threshold > 0.0 && threshold < 1.0) {
            bail!(
                Request,
                "a threshold is a probability between 0 and 1, not {threshold}"
            );
        }
        Ok(Self {
            threshold: Some(threshold),
            ..self
        })
    }

    /// Whether the network is binary: one channel, two classes.
    pub fn is_binary(&self) -> bool {
        self.threshold.is_some()
    }

    /// Whether a pixel may belong to several classes: a mask then shows the most probable one.
    pub fn is_multi_label(&self) -> bool {
        self.channels > 1 && self.activation == Activation::Sigmoid
    }

    /// The number of classes: that of the channels, or 2 of a binary network.
    pub fn class_count(&self) -> usize {
        match self.is_binary() {
            true => 2,
            false => self.channels,
        }
    }

    /// The op that makes labels of the output.
    pub(crate) fn labels(&self) -> Arc<dyn Op> {
        let Some(probability) = self.threshold else {
            return Arc::new(Argmax {});
        };
        let p = f64::from(probability);
        let threshold = match self.values {
            Values::Scores => (p / (1.0 - p)).ln() as f32,
            Values::Probabilities => probability,
            Values::LogProbabilities => p.ln() as f32,
        };
        Arc::new(Binarize { threshold })
    }

    /// The op that makes probabilities of the output's scores, if it holds scores.
    pub(crate) fn to_probabilities(self) -> Option<Arc<dyn Op>> {
        (self.values == Values::Scores).then(|| match self.activation {
            Activation::Softmax => Arc::new(Softmax::default()) as Arc<dyn Op>,
            Activation::Sigmoid => Arc::new(Sigmoid {}),
        })
    }

    /// The probability of each class, of an output after [`Head::to_probabilities`].
    pub(crate) fn of_classes(&self, mut output: Tensor) -> Result<Tensor> {
        if self.values == Values::LogProbabilities {
            output = output.map(f32::exp);
        }
        if !self.is_binary() {
            return Ok(output);
        }
        Tensor::from_planes(output.shape().with_channels(2), |n, class, plane| {
            for (of_class, p) in plane.iter_mut().zip(output.plane(n, 0)) {
                *of_class = if class == 0 { 1.0 - p } else { *p };
            }
        })
    }

    /// The names of all classes, of the names in the file: none, one a class, or only that of a binary network's
    /// class 1.
    pub(super) fn class_names(&self, mut names: Vec<String>) -> Result<Vec<String>> {
        if self.is_binary() && names.len() == 1 {
            names.insert(0, "background".into());
        }
        self.check_count("names", "classes", names.len())?;
        Ok(names)
    }

    /// The colours of all classes, of the colours in the file, as [`Head::class_names`].
    pub(super) fn palette(&self, mut colours: Vec<[u8; 3]>) -> Result<Palette> {
        if self.is_binary() && colours.len() == 1 {
            colours.splice(0..0, Palette::voc(1).colours().iter().copied());
        }
        self.check_count("has", "colours", colours.len())?;
        Ok(match colours.is_empty() {
            true => Palette::voc(self.class_count()),
            false => Palette::new(colours),
        })
    }

    fn check_count(&self, verb: &str, what: &str, count: usize) -> Result<()> {
        let classes = self.class_count();
        if count == 0 || count == classes {
            return Ok(());
        }
        let only = match self.is_binary() {
            true => " (one output channel, a binary network)",
            false => "",
        };
        bail!(
            ModelFile,
            "the metadata {verb} {count} {what}, the network has {classes} classes{only}"
        )
    }
}

/// In words, such as `1 channel, sigmoid, class 1 from 0.5`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, activation) = (self.channels, self.activation);
        let s = if channels == 1 { "" } else { "s" };
        write!(f, "{channels} channel{s}, ")?;
        match self.values {
            Values::Scores => write!(f, "{activation}")?,
            Values::Probabilities => write!(f, "{activation} in the network")?,
            Values::LogProbabilities => write!(f, "logarithm of {activation} in the network")?,
        }
        match self.threshold {
            Some(threshold) => write!(f, ", class 1 from {threshold}"),
            None if self.is_multi_label() => f.write_str(", a mask shows the largest"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::model_file::end;
    use crate::ops::{LogSoftmax, Relu};
    use crate::tensor::Shape;

    fn row(channels: usize, values: &[f32]) -> Tensor {
        let shape = Shape::new(1, channels, 1, values.len() / channels);
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    fn head(channels: usize, values: Values, threshold: f32) -> Head {
        Head {
            channels,
            activation: Activation::Sigmoid,
            values,
            threshold: (channels == 1).then_some(threshold),
        }
    }

    #[test]
    fn the_threshold_is_compared_with_what_the_output_holds() {
        // The logit of 0.75 is ln 3.
        for (values, output) in [
            (Values::Scores, [1.098, 1.099]),
            (Values::Probabilities, [0.7499, 0.75]),
            (Values::LogProbabilities, [-0.2877, -0.2876]),
        ] {
            let labels = head(1, values, 0.75).labels();
            let found = labels.reference(&[&row(1, &output)]).unwrap();
            assert_eq!(found.data(), [0.0, 1.0], "{values:?}");
        }
        // Exactly one half is class 1.
        let labels = head(1, Values::Scores, THRESHOLD).labels();
        let output = row(1, &[0.0, -1e-30, f32::NAN, f32::INFINITY]);
        let found = labels.reference(&[&output]).unwrap();
        assert_eq!(found.data(), [1.0, 0.0, 255.0, 255.0]);
    }

    #[test]
    fn logarithms_become_probabilities() {
        let mut graph = Graph::new("input");
        let scores = graph.op("scores", Relu {}, &[graph.input()]).unwrap();
        graph
            .op("logarithms", LogSoftmax::default(), &[scores])
            .unwrap();
        let shapes = graph.shapes(Shape::new(1, 2, 1, 1)).unwrap();
        let end = end::of(&graph, &shapes, &|_| None);
        let head = Head::of(2, end, Declared::default()).unwrap();
        assert_eq!(
            (head.activation, head.values),
            (Activation::Softmax, Values::LogProbabilities)
        );
        assert_eq!(
            head.to_string(),
            "2 channels, logarithm of softmax in the network"
        );
        assert!(head.to_probabilities().is_none());
        let output = row(2, &[0.25f32.ln(), 0.75f32.ln()]);
        let found = head.of_classes(output).unwrap();
        let near = |(a, b): (&f32, f32)| (a - b).abs() < 1e-6;
        assert!(found.data().iter().zip([0.25, 0.75]).all(near), "{found:?}");
    }

    #[test]
    fn a_binary_output_is_the_probability_of_class_1() {
        let found = head(1, Values::Probabilities, THRESHOLD).of_classes(row(1, &[0.25, 1.0]));
        assert_eq!(found.unwrap().data(), [0.75, 0.0, 0.25, 1.0]);
        let several = row(3, &[0.1, 0.2, 0.9]);
        let found = head(3, Values::Probabilities, THRESHOLD).of_classes(several.clone());
        assert_eq!(found.unwrap(), several);
    }
}
