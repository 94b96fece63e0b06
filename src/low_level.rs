//! The parts that the rest is made of: graphs, ops with their reference implementations and kernels, plans, the
//! executor. They may change in any release.
//!
//! ```
//! use fullconv::low_level::graph::Graph;
//! use fullconv::low_level::ops::{Conv2d, Relu};
//! use fullconv::low_level::plan::Plan;
//! use fullconv::low_level::target::Target;
//! use fullconv::Shape;
//!
//! let mut graph = Graph::new("input");
//! let weight = graph.parameter("conv.weight", Shape::new(8, 3, 3, 3))?;
//! let conv = graph.op("conv", Conv2d::padded(1), &[graph.input(), weight])?;
//! let relu = graph.op("relu", Relu {}, &[conv])?;
//! let plan = Plan::new(&graph, Shape::new(1, 3, 32, 32), &[relu], &Target::WEBGPU_DEFAULTS)?;
//! assert_eq!(plan.layers[0].name, "conv+relu");
//! # Ok::<(), fullconv::Error>(())
//! ```

/// A device's limits and features.
pub mod device_profile {
    pub use crate::device_profile::*;
}
/// Reads with limits, and files that appear whole or not at all.
pub mod files {
    pub use crate::files::*;
}
/// The executor of plans, and the tuner, which measures kernels.
pub mod gpu {
    pub use crate::gpu::low_level::*;
}
/// Networks as nodes of ops.
pub mod graph {
    pub use crate::graph::*;
}
/// The operations, each with its reference implementation and its kernels.
pub mod ops {
    pub use crate::ops::*;
}
/// A graph planned for a device, as plain data.
pub mod plan {
    pub use crate::plan::*;
}
/// A graph on the CPU, which every device is checked against.
pub mod reference {
    pub use crate::reference::*;
}
/// The graphs of requests.
pub mod segmenter {
    pub use crate::segmenter::labels_graph;
}
/// What plans are made for: a device, and what is wished.
pub mod target {
    pub use crate::target::*;
}
