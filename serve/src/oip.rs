//! The Open Inference Protocol, whatever carries it: a model's tensors, and an inference.

use crate::catalog::{Served, VERSION};
use crate::job::{Labelled, Wants};
use crate::queue::Lane;
use crate::record::Record;
use crate::service::{Call, Results, Service, Source};
use crate::trouble::{Outcome, Trouble};
use bytes::Bytes;
use fullconv::{Mask, Size};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The extensions that the server announces.
pub const EXTENSIONS: [&str; 4] = [
    "binary_tensor_data",
    "schedule_policy",
    "statistics",
    "model_repository",
];
/// The name of the input.
pub const INPUT: &str = "image";
/// The opacity of an overlay.
pub const OPACITY: f32 = 0.5;
/// The platform of every model.
const PLATFORM: &str = "fullconv_safetensors";

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// A byte.
    Uint8,
    /// `f32`.
    Fp32,
    /// Any number of bytes.
    Bytes,
}

impl Datatype {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint8 => "UINT8",
            Self::Fp32 => "FP32",
            Self::Bytes => "BYTES",
        }
    }

    /// The type that an input has under `name`.
    ///
    /// # Errors
    /// `Invalid` if inputs are never of it.
    pub fn of_input(name: &str) -> Outcome<Self> {
        match name {
            "UINT8" => Ok(Self::Uint8),
            "BYTES" => Ok(Self::Bytes),
            _ => Err(Trouble::invalid(format!(
                "input {INPUT:?} has datatype {name:?}: it takes UINT8 (pixels) or BYTES (picture files)"
            ))),
        }
    }
}

/// An input tensor.
#[derive(Clone, Debug)]
pub struct Input {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<i64>,
    /// The elements.
    pub elements: Elements,
}

/// The elements of a tensor, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Of `UINT8`.
    Uint8(Bytes),
    /// Of `FP32`.
    Fp32(Vec<f32>),
    /// Of `BYTES`.
    Strings(Vec<Bytes>),
}

impl Elements {
    /// Their type.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Uint8(_) => Datatype::Uint8,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Strings(_) => Datatype::Bytes,
        }
    }

    /// The elements of `datatype` in a request's binary part.
    ///
    /// # Errors
    /// `Invalid` if the lengths of strings do not fit `raw`.
    pub fn from_raw(datatype: Datatype, raw: Bytes) -> Outcome<Self> {
        match datatype {
            Datatype::Bytes => strings(raw).map(Self::Strings),
            _ => Ok(Self::Uint8(raw)),
        }
    }

    /// The elements as an answer's binary part: little-endian, a string after its length in four bytes.
    pub fn to_raw(&self) -> Vec<u8> {
        match self {
            Self::Uint8(bytes) => bytes.to_vec(),
            Self::Fp32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::Strings(strings) => {
                let mut raw = Vec::new();
                for string in strings {
                    raw.extend((string.len() as u32).to_le_bytes());
                    raw.extend(string);
                }
                raw
            }
        }
    }
}

/// The strings of a binary part.
fn strings(raw: Bytes) -> Outcome<Vec<Bytes>> {
    let (mut rest, mut all) = (raw, Vec::new());
    while !rest.is_empty() {
        let wrong = || {
            let at = all.len();
            Trouble::invalid(format!(
                "element {at} of {INPUT:?} is longer than the tensor's bytes"
            ))
        };
        let head: [u8; 4] = match rest.get(..4).and_then(|head| head.try_into().ok()) {
            Some(head) => head,
            None => return Err(wrong()),
        };
        let length = u32::from_le_bytes(head) as usize;
        if rest.len() - 4 < length {
            return Err(wrong());
        }
        let _ = rest.split_to(4);
        let string = rest.split_to(length);
        all.push(string);
    }
    Ok(all)
}

/// The outputs that a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputName {
    /// The class of each pixel, `UINT8 [n, h, w]`.
    Mask,
    /// The same as an indexed PNG a picture, `BYTES [n]`.
    MaskPng,
    /// The picture with the classes' colours over it, as a PNG, `BYTES [n]`.
    OverlayPng,
    /// The share of each class, `FP32 [n, classes]`.
    Shares,
    /// The probability of each class at each pixel, `FP32 [n, classes, h, w]`.
    Probabilities,
}

impl OutputName {
    /// All outputs.
    pub const ALL: [Self; 5] = [
        Self::Mask,
        Self::MaskPng,
        Self::OverlayPng,
        Self::Shares,
        Self::Probabilities,
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::MaskPng => "mask_png",
            Self::OverlayPng => "overlay_png",
            Self::Shares => "shares",
            Self::Probabilities => "probabilities",
        }
    }

    /// The output called `name`.
    ///
    /// # Errors
    /// `Invalid` if there is none.
    pub fn of(name: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|output| output.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Trouble::invalid(format!("there is no output {name:?}; there are: {names}"))
        })
    }
}

/// An inference, whatever the protocol.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The outputs wanted; none: the mask.
    pub outputs: Vec<String>,
    /// The parameter `priority`: 1 is the highest, 0 the default.
    pub priority: u64,
    /// The parameter `timeout`, or the protocol's.
    pub timeout: Option<Duration>,
}

/// An output tensor.
#[derive(Clone, Debug)]
pub struct Output {
    /// The name.
    pub name: OutputName,
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements.
    pub elements: Elements,
}

impl Service {
    /// The outputs of `served` for an inference.
    ///
    /// # Errors
    /// Those of [`Service::label`]; `Invalid` if a tensor is not as the metadata say.
    pub async fn infer(
        &self,
        served: Arc<Served>,
        inference: Inference,
        record: &Record,
    ) -> Outcome<Vec<Output>> {
        record.note(|report| report.model.clone_from(&served.name));
        let begin = Instant::now();
        let outcome = self.inferred(served.clone(), inference, record).await;
        let stages = record.stages();
        let stages = [stages.queue, stages.decode, stages.device, stages.encode];
        let statistics = &served.statistics;
        statistics.request(outcome.is_ok(), begin.elapsed(), stages);
        outcome
    }

    async fn inferred(
        &self,
        served: Arc<Served>,
        inference: Inference,
        record: &Record,
    ) -> Outcome<Vec<Output>> {
        let wanted = match inference.outputs.is_empty() {
            true => vec![OutputName::Mask],
            false => {
                let names = inference.outputs.iter();
                names
                    .map(|name| OutputName::of(name))
                    .collect::<Outcome<_>>()?
            }
        };
        let wants = wants(&served, &wanted)?;
        let sources = sources(&inference.inputs)?;
        let call = Call {
            served,
            sources,
            wants,
            lane: match inference.priority {
                0 | 1 => Lane::Normal,
                _ => Lane::Bulk,
            },
            deadline: self.deadline(inference.timeout),
        };
        let Results { pictures, place } = self.label(call, record).await?;
        let encode = move || {
            let outputs = wanted.into_iter().map(|name| output(name, &pictures));
            let outputs = outputs.collect();
            drop(place);
            outputs
        };
        self.encode(record, encode).await
    }
}

/// What has to be computed for these outputs.
fn wants(served: &Served, outputs: &[OutputName]) -> Outcome<Wants> {
    let is_probabilities = |output: &OutputName| *output == OutputName::Probabilities;
    let mask = outputs.iter().find(|output| !is_probabilities(output));
    if let (Some(output), false) = (mask, served.model.has_labels()) {
        return Err(Trouble::invalid(format!(
            "model {} has {} classes, more than a mask has ids: there is no {:?}, but {:?}",
            served.name,
            served.model.class_count(),
            output.name(),
            OutputName::Probabilities.name()
        )));
    }
    Ok(Wants {
        mask: mask.is_some(),
        probabilities: outputs.iter().any(is_probabilities),
    })
}

/// The pictures of the inputs.
fn sources(inputs: &[Input]) -> Outcome<Vec<Source>> {
    let [input] = inputs else {
        return Err(Trouble::invalid(format!(
            "the request has {} inputs; the model has one, {INPUT:?}",
            inputs.len()
        )));
    };
    if input.name != INPUT {
        let text = format!(
            "there is no input {:?}; the model has one, {INPUT:?}",
            input.name
        );
        return Err(Trouble::invalid(text));
    }
    match &input.elements {
        Elements::Strings(files) => files_of(&input.shape, files),
        Elements::Uint8(bytes) => pixels_of(&input.shape, bytes),
        Elements::Fp32(_) => Err(Trouble::invalid(format!("input {INPUT:?} takes no FP32"))),
    }
}

fn files_of(shape: &[i64], files: &[Bytes]) -> Outcome<Vec<Source>> {
    let count = match shape {
        // A batch of one element each.
        [n] | [n, 1] => *n,
        _ => -1,
    };
    if count < 1 || count != files.len() as i64 {
        return Err(Trouble::invalid(format!(
            "input {INPUT:?} of BYTES has shape {shape:?} and {} elements: its shape is [n], an element a picture file",
            files.len()
        )));
    }
    Ok(files.iter().cloned().map(Source::File).collect())
}

fn pixels_of(shape: &[i64], bytes: &Bytes) -> Outcome<Vec<Source>> {
    let wrong = || {
        Trouble::invalid(format!(
            "input {INPUT:?} of UINT8 has shape {shape:?} and {} bytes: its shape is [n, height, width, 3], red, green \
             and blue of each pixel",
            bytes.len()
        ))
    };
    let &[n, height, width, 3] = shape else {
        return Err(wrong());
    };
    let side = |side: i64| usize::try_from(side).ok().filter(|side| *side > 0);
    let (Some(n), Some(height), Some(width)) = (side(n), side(height), side(width)) else {
        return Err(wrong());
    };
    let size = Size::new(height, width);
    let picture = size.pixels().and_then(|pixels| pixels.checked_mul(3));
    let Some(picture) = picture.filter(|one| one.checked_mul(n) == Some(bytes.len())) else {
        return Err(wrong());
    };
    let source = |i: usize| Source::Rgb(size, bytes.slice(i * picture..(i + 1) * picture));
    Ok((0..n).map(source).collect())
}

/// An output of the pictures.
fn output(name: OutputName, pictures: &[Labelled]) -> Outcome<Output> {
    let masks = || {
        pictures
            .iter()
            .filter_map(|labelled| labelled.mask.as_ref())
    };
    let n = pictures.len();
    let files = |file: &dyn Fn(&Labelled, &Mask) -> fullconv::Result<Vec<u8>>| {
        let files = pictures.iter().zip(masks());
        let files = files.map(|(labelled, mask)| file(labelled, mask).map(Bytes::from));
        let files: Vec<_> = files.collect::<fullconv::Result<_>>()?;
        Ok::<_, Trouble>((vec![n], Elements::Strings(files)))
    };
    let (shape, elements) = match name {
        OutputName::Mask => {
            let size = one_size(masks().map(Mask::size), "mask", "mask_png")?;
            let labels: Vec<u8> = masks().flat_map(|mask| mask.labels()).copied().collect();
            let shape = vec![n, size.height, size.width];
            (shape, Elements::Uint8(labels.into()))
        }
        OutputName::MaskPng => files(&|_, mask| mask.to_png())?,
        OutputName::OverlayPng => {
            files(&|labelled, mask| mask.overlay(&labelled.picture, OPACITY)?.to_png())?
        }
        OutputName::Shares => {
            let classes = masks().map(|mask| mask.classes().len()).max().unwrap_or(0);
            let mut shares = vec![0.0; n * classes];
            for (i, mask) in masks().enumerate() {
                for (class, share) in mask.shares() {
                    shares[i * classes + usize::from(class)] = share as f32;
                }
            }
            (vec![n, classes], Elements::Fp32(shares))
        }
        OutputName::Probabilities => {
            let tensors = || pictures.iter().filter_map(|l| l.probabilities.as_ref());
            let sizes = tensors().map(|t| Size::new(t.shape().h, t.shape().w));
            let size = one_size(sizes, "probabilities", "one picture a request")?;
            let classes = tensors().map(|t| t.shape().c).next().unwrap_or(0);
            let values = tensors().flat_map(|tensor| tensor.data()).copied();
            let shape = vec![n, classes, size.height, size.width];
            (shape, Elements::Fp32(values.collect()))
        }
    };
    Ok(Output {
        name,
        shape,
        elements,
    })
}

/// The size that all pictures have.
fn one_size(sizes: impl Iterator<Item = Size>, name: &str, instead: &str) -> Outcome<Size> {
    let mut sizes = sizes;
    let Some(first) = sizes.next() else {
        return Err(Trouble::invalid("there is no picture"));
    };
    match sizes.find(|size| *size != first) {
        None => Ok(first),
        Some(other) => Err(Trouble::invalid(format!(
            "the pictures have {first} and {other} pixels (height x width), and output {name:?} is one tensor: ask for \
             {instead}"
        ))),
    }
}

/// A tensor in the metadata of a model; -1 is any size.
#[derive(Clone, Debug, Serialize)]
pub struct TensorMetadata {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub datatype: &'static str,
    /// The shape.
    pub shape: Vec<i64>,
}

/// The metadata of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelMetadata {
    /// The name.
    pub name: String,
    /// The versions.
    pub versions: [&'static str; 1],
    /// The kind of the model's file.
    pub platform: &'static str,
    /// The inputs.
    pub inputs: Vec<TensorMetadata>,
    /// The outputs.
    pub outputs: Vec<TensorMetadata>,
    /// Names and colours of the classes, as JSON texts, and what else there is to know.
    pub properties: BTreeMap<&'static str, String>,
}

impl ModelMetadata {
    /// The metadata of `served`.
    pub fn of(served: &Served) -> Self {
        let model = &served.model;
        let tensor = |name, datatype: Datatype, shape: &[i64]| TensorMetadata {
            name,
            datatype: datatype.name(),
            shape: shape.to_vec(),
        };
        let classes = model.class_count() as i64;
        let outputs = OutputName::ALL
            .into_iter()
            .filter(|output| model.has_labels() || *output == OutputName::Probabilities);
        let outputs = outputs.map(|output| match output {
            OutputName::Mask => tensor(output.name(), Datatype::Uint8, &[-1, -1, -1]),
            OutputName::MaskPng | OutputName::OverlayPng => {
                tensor(output.name(), Datatype::Bytes, &[-1])
            }
            OutputName::Shares => tensor(output.name(), Datatype::Fp32, &[-1, classes]),
            OutputName::Probabilities => {
                tensor(output.name(), Datatype::Fp32, &[-1, classes, -1, -1])
            }
        });
        let names = (0..model.class_count()).map(|id| model.classes().get(id));
        let names: Vec<_> = names.map(|name| name.map_or("", String::as_str)).collect();
        let ids = 0..=u8::MAX;
        let colours = ids
            .take(model.class_count())
            .map(|id| model.palette().colour(id));
        let json = |value: serde_json::Value| value.to_string();
        let properties = [
            ("architecture", model.architecture().to_owned()),
            ("classes", json(names.into())),
            (
                "palette",
                json(serde_json::json!(colours.collect::<Vec<_>>())),
            ),
            ("description", model.description().to_owned()),
            ("license", model.license().to_owned()),
            (
                "input",
                "image: UINT8 [n, height, width, 3], or BYTES [n], a picture file each".into(),
            ),
        ];
        Self {
            name: served.name.clone(),
            versions: [VERSION],
            platform: PLATFORM,
            inputs: vec![tensor(INPUT, Datatype::Uint8, &[-1, -1, -1, 3])],
            outputs: outputs.collect(),
            properties: properties.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_and_written() {
        let all = Elements::Strings(vec!["".into(), "ab".into()]);
        let raw = all.to_raw();
        assert_eq!(raw, b"\0\0\0\0\x02\0\0\0ab");
        assert_eq!(
            Elements::from_raw(Datatype::Bytes, raw.clone().into()).unwrap(),
            all
        );
        for length in [1, 3, 7, 9] {
            let cut = Bytes::from(raw[..length].to_vec());
            assert!(
                Elements::from_raw(Datatype::Bytes, cut).is_err(),
                "{length}"
            );
        }
        let huge = Bytes::from_static(b"\xff\xff\xff\xff");
        assert!(Elements::from_raw(Datatype::Bytes, huge).is_err());
    }

    #[test]
    fn pixels_have_to_fit_their_shape() {
        let bytes = Bytes::from(vec![0; 2 * 2 * 3 * 3]);
        assert_eq!(pixels_of(&[2, 2, 3, 3], &bytes).unwrap().len(), 2);
        for shape in [
            &[2, 2, 3, 4][..],
            &[2, 3, 3],
            &[0, 2, 3, 3],
            &[-2, -2, 3, 3],
            &[1, 2, 3, 3],
            &[i64::MAX, i64::MAX, i64::MAX, 3],
            &[1, i64::MAX / 2, 2, 3],
        ] {
            assert!(pixels_of(shape, &bytes).is_err(), "{shape:?}");
        }
    }
}
