//! Model files and safetensors in memory.

use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::Argmax;
use fullconv::{Model, Shape, Tensor, TensorFile};

/// A model of `tests/goldens`.
pub fn golden(file: &str) -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    Model::read(format!("{folder}{file}.safetensors")).unwrap()
}

/// A model's own graph, with its labels.
pub fn with_labels(model: &Model) -> Graph {
    let mut graph = model.graph().clone();
    graph.op("labels", Argmax {}, &[graph.output()]).unwrap();
    graph
}

/// A safetensors file in memory.
pub fn tensor_file(tensors: &[(String, Tensor)]) -> TensorFile {
    TensorFile::from_bytes(serialize(tensors, None)).unwrap()
}

/// The bytes of a safetensors file of `f32` tensors; one of shape `[c, 1, 1, 1]` has one dimension.
pub fn serialize(tensors: &[(String, Tensor)], metadata: Option<&str>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        let Shape { n, c, h, w } = t.shape();
        let dimensions = match (c, h, w) {
            (1, 1, 1) => vec![n],
            _ => vec![n, c, h, w],
        };
        let bytes = bytemuck::cast_slice(t.data());
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dimensions, bytes);
        (name.clone(), view.unwrap())
    });
    let metadata = metadata.map(|text| [("fullconv".to_owned(), text.to_owned())].into());
    safetensors::serialize(views, metadata).unwrap()
}
