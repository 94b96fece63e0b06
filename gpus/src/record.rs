//! What the driver says of a pipeline: the layer writes it, the program reads it.

use serde::{Deserialize, Serialize};

/// The variable that names the folder for records. The layer writes a file for each pipeline, numbered from 0.
pub const FOLDER: &str = "FULLCONV_GPUS_RECORDS";

/// One pipeline.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Vulkan's error; 0 if the pipeline was compiled.
    pub error: i32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// The driver's statistics, under its names.
    pub statistics: Vec<(String, f64)>,
    /// The final instructions, as the driver prints them.
    pub texts: Vec<(String, String)>,
}
