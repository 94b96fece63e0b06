//! Encoding of output tensors.

use fullconv::{Error, ErrorKind, Result};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde::Serialize;
use std::borrow::Cow;

/// A tensor of an output file.
#[derive(Serialize)]
pub struct Stored<'a> {
    pub name: &'a str,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    #[serde(skip)]
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Stored<'a> {
    /// Floats, as F32.
    pub fn floats(name: &'a str, values: &'a [f32], shape: Vec<usize>) -> Self {
        Self {
            name,
            dtype: "F32",
            shape,
            bytes: little_endian(values),
        }
    }

    /// Bytes, as U8.
    pub fn bytes(name: &'a str, values: Vec<u8>, shape: Vec<usize>) -> Self {
        Self {
            name,
            dtype: "U8",
            shape,
            bytes: values.into(),
        }
    }
}

/// The little-endian bytes of floats, as safetensors stores them.
fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

/// The safetensors file of `tensors`.
///
/// # Errors
/// `Limit` if safetensors cannot encode it.
pub fn encode(tensors: &[Stored]) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|tensor| {
        let dtype = if tensor.dtype == "U8" {
            Dtype::U8
        } else {
            Dtype::F32
        };
        TensorView::new(dtype, tensor.shape.clone(), &tensor.bytes).map(|view| (tensor.name, view))
    });
    views
        .collect::<Result<Vec<_>, _>>()
        .and_then(|views| serialize(views, None))
        .map_err(|reason| Error::new(ErrorKind::Limit, format!("cannot make the file: {reason}")))
}
