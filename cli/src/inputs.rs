//! Preprocessed input tensors.

use fullconv::{Error, ErrorKind, Model, Result, Tensor, TensorFile};
use std::path::Path;

/// The input tensor's name.
const NAME: &str = "input";

/// Reads the tensor `input` `[n, 3, h, w]` of a safetensors file, and checks its shape against `model`.
///
/// # Errors
/// Every error names the file.
pub fn read_tensor(path: &Path, model: &Model) -> Result<Tensor> {
    let file = TensorFile::open(path)?;
    check(&file, model)
        .and_then(|()| file.tensor(NAME))
        .and_then(|tensor| {
            model.graph().shapes(tensor.shape())?;
            Ok(tensor)
        })
        .map_err(|error| error.at(path.display()))
}

fn check(file: &TensorFile, model: &Model) -> Result<()> {
    let found = file.tensors().find(|(name, _)| *name == NAME);
    let message = match found {
        None => {
            let names: Vec<_> = file.tensors().map(|(name, _)| name).take(4).collect();
            let there = match names.as_slice() {
                [] => "there are none".to_owned(),
                _ => format!("the first are {}", names.join(", ")),
            };
            format!("no tensor is called {NAME:?}; {there}")
        }
        Some((_, [_, 3, _, _])) if found.is_some_and(|(_, d)| !d.contains(&0)) => return Ok(()),
        Some((_, dimensions)) => format!(
            "tensor {NAME:?} has shape {dimensions:?}; {} takes [n, 3, h, w]",
            model.architecture()
        ),
    };
    Err(Error::new(ErrorKind::Shape, message))
}
