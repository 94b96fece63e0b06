//! What a kernel's text says of its work.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The numbers of a kernel that the model of time needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// `const NAME = 1u;`, and the pipeline's overrides.
    pub constants: HashMap<String, f64>,
    /// The members of `Params` in order.
    pub params: Vec<String>,
    /// Whether it names cooperative matrices.
    pub matrices: bool,
    /// Whether activations are f16.
    pub half: bool,
}

impl Facts {
    /// Reads a shader's text, with the values of its overrides.
    pub fn new(source: &str, overrides: &[(&'static str, f64)]) -> Self {
        let mut constants = HashMap::new();
        for line in source.lines() {
            let of = line
                .strip_prefix("const ")
                .or(line.strip_prefix("override "));
            if let Some((name, value)) = of.and_then(|of| of.split_once('=')) {
                let name = name.split(':').next().unwrap_or_default().trim();
                let value = value.trim().trim_end_matches(';').trim_end_matches('u');
                if let Ok(value) = value.parse() {
                    constants.insert(name.to_owned(), value);
                }
            }
        }
        let given = overrides.iter();
        constants.extend(given.map(|(name, value)| (name.to_string(), *value)));
        let between = |begin: &str, end: &str| {
            let from = source.find(begin)? + begin.len();
            let length = source[from..].find(end)?;
            Some(&source[from..from + length])
        };
        let size = between("@workgroup_size(", ")").unwrap_or_default();
        let size = size.split(',').next().unwrap_or_default().trim();
        let number = size.trim_end_matches('u').parse().ok();
        let invocations = number.or_else(|| constants.get(size).map(|value| *value as u32));
        let members = between("struct Params {", "}").unwrap_or_default();
        let members = members.lines().filter_map(|line| line.split_once(':'));
        Self {
            invocations: invocations.unwrap_or(1),
            params: members.map(|(name, _)| name.trim().to_owned()).collect(),
            half: source.contains("alias Stored = vec4<f16>"),
            matrices: source.contains("coopMultiplyAdd"),
            constants,
        }
    }

    /// The constant or override called `name`.
    pub fn constant(&self, name: &str) -> Option<f64> {
        self.constants.get(name).copied()
    }

    /// The word of `params` for the member called `name`.
    pub fn param(&self, params: &[u32], name: &str) -> Option<u32> {
        let at = self.params.iter().position(|param| param == name)?;
        params.get(at).copied()
    }
}
