//! The index of a network whose tensors are in several safetensors files, its shards, as Hugging Face writes it:
//! `model.safetensors.index.json`.

use crate::error::{Error, ErrorKind, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// The largest index.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// Which tensor is in which file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// The names of the files, in the folder of the index.
    pub shards: Vec<String>,
    /// The shard of each tensor.
    pub tensors: BTreeMap<String, usize>,
}

/// Reads an index.
///
/// # Errors
/// `ModelFile` if it is no index, or a file in it is not in the folder of the index.
pub(super) fn parse(text: &[u8]) -> Result<Index> {
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|e| {
        Error::new(
            ErrorKind::ModelFile,
            format!("not a safetensors file but JSON that is damaged: {e}"),
        )
        .with_source(e)
    })?;
    let Some(map) = value.get("weight_map").and_then(|map| map.as_object()) else {
        bail!(
            ModelFile,
            "not a safetensors file but a JSON file that is no index of shards (\"weight_map\"): the weights are in \
             another file"
        );
    };
    let mut files = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            bail!(ModelFile, "the index gives no file for {tensor}");
        };
        let is_name = !file.contains(['/', '\\', ':']) && !["", ".", ".."].contains(&file);
        if !is_name {
            bail!(
                ModelFile,
                "the index names {file:?}, which is not a file beside it"
            );
        }
        if !file.ends_with(".safetensors") {
            bail!(
                ModelFile,
                "the index is of other files than safetensors ({file}): take the repository's model.safetensors, or \
                 save the state dict as safetensors"
            );
        }
        files.insert(tensor.clone(), file.to_owned());
    }
    let shards: BTreeSet<&String> = files.values().collect();
    let shards: Vec<String> = shards.into_iter().cloned().collect();
    let position = |file: &String| shards.binary_search(file).unwrap_or_default();
    let tensors = files
        .iter()
        .map(|(name, file)| (name.clone(), position(file)));
    Ok(Index {
        tensors: tensors.collect(),
        shards,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_each_tensor_its_shard() {
        let text = br#"{"metadata": {"total_size": 1}, "weight_map": {"a": "2.safetensors", "b": "1.safetensors"}}"#;
        let index = parse(text).unwrap();
        assert_eq!(index.shards, ["1.safetensors", "2.safetensors"]);
        assert_eq!((index.tensors["a"], index.tensors["b"]), (1, 0));
    }

    #[test]
    fn an_index_that_leads_elsewhere_is_refused() {
        for (text, part) in [
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "beside it"),
            (r#"{"weight_map": {"a": "C:\\x.safetensors"}}"#, "beside it"),
            (
                r#"{"weight_map": {"a": "pytorch_model-1.bin"}}"#,
                "pytorch_model-1.bin",
            ),
            (r#"{"weight_map": {"a": 1}}"#, "no file for a"),
            (r#"{"a": 1}"#, "no index"),
            ("{", "damaged"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
