//! The process that the engine runs in. Its threads and devices do not survive a fork.

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process that has started the engine; 0 if none has.
static STARTED_BY: AtomicU32 = AtomicU32::new(0);

/// Notes that the engine starts threads or opens devices in this process.
///
/// # Errors
/// `RuntimeError` if it has done so before this process was forked.
pub fn enter() -> PyResult<()> {
    let own = std::process::id();
    let before = STARTED_BY.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst);
    match before {
        Err(other) if other != own => Err(PyRuntimeError::new_err(format!(
            "fullconv was in use before the fork of this process ({other} to {own}), and devices do not survive a fork: \
             start processes with multiprocessing's \"spawn\" or \"forkserver\", or use fullconv first in the new process"
        ))),
        _ => Ok(()),
    }
}

/// Whether a process before a fork has started the engine.
pub fn is_forked() -> bool {
    let started_by = STARTED_BY.load(Ordering::SeqCst);
    started_by != 0 && started_by != std::process::id()
}
