//! Pictures and preprocessed input tensors.

use crate::terminal;
use fullconv::{Error, ErrorKind, Model, Picture, Result, Tensor, TensorFile};
use std::path::Path;

/// The input tensor's name.
const NAME: &str = "input";

/// Reads the picture at `path`; what there is to know about its file goes to stderr.
///
/// # Errors
/// As [`Picture::open`].
pub fn read_picture(path: &Path) -> Result<Picture> {
    let picture = Picture::open(path)?;
    for note in picture.notes() {
        terminal::report(format!("{}: {note}", path.display()));
    }
    Ok(picture)
}

/// Reads the tensor `input` `[n, c, h, w]` of a safetensors file, and checks its shape against `model`.
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
    let channels = model.input_channels();
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
        Some((_, dimensions @ [_, c, _, _])) if *c == channels && !dimensions.contains(&0) => {
            return Ok(());
        }
        Some((_, dimensions)) => format!(
            "tensor {NAME:?} has shape {dimensions:?}; {} takes [n, {channels}, h, w]",
            model.architecture()
        ),
    };
    Err(Error::new(ErrorKind::Shape, message))
}
