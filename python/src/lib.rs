//! fullconv for Python: the extension module `fullconv._fullconv`. It is thin; the package in `python/fullconv/`
//! converts inputs and results, and documents what users see.

// Code reachable from Python may not panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

mod confusion;
mod devices;
mod engine;
mod errors;
mod labels;
mod picture;
mod process;
mod reports;
mod worker;

use pyo3::prelude::*;

/// The module.
#[pymodule]
mod _fullconv {
    #[pymodule_export]
    use crate::confusion::Confusion;
    #[pymodule_export]
    use crate::devices::adapters;
    #[pymodule_export]
    use crate::engine::{Engine, Ticket};
    #[pymodule_export]
    use crate::labels::Labels;
    #[pymodule_export]
    use crate::picture::{Picture, picture_format};
    #[pymodule_export]
    use crate::worker::close_all;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("DEPTH", fullconv::Frames::DEPTH)
    }
}
