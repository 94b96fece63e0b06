//! Reports as dictionaries, with the names of the command line's JSON.

use fullconv::compare::Report;
use fullconv::gpu::{Outcome, Timer, TunedLayer};
use fullconv::{Profile, Shape};
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn sizes(shape: Shape) -> [usize; 4] {
    let Shape { n, c, h, w, .. } = shape;
    [n, c, h, w]
}

/// A comparison with the reference.
pub fn comparison<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let mut nodes = Vec::with_capacity(report.nodes.len());
    for node in &report.nodes {
        let entry = PyDict::new(py);
        entry.set_item("name", &node.name)?;
        entry.set_item("op", node.op)?;
        entry.set_item("shape", sizes(node.shape))?;
        entry.set_item("max_abs_error", node.max_abs_error)?;
        entry.set_item("relative_error", node.relative_error)?;
        entry.set_item("bound", node.bound)?;
        entry.set_item("worst", node.worst)?;
        entry.set_item("within_bound", node.is_within_bound())?;
        entry.set_item("fused_into", node.fused_into.as_deref())?;
        entry.set_item("jumped", node.jumped)?;
        entry.set_item("wrong", node.wrong)?;
        nodes.push(entry);
    }
    let labels = match &report.labels {
        None => None,
        Some(found) => {
            let labels = PyDict::new(py);
            labels.set_item("pixels", found.pixels)?;
            labels.set_item("equal", found.equal)?;
            labels.set_item("within_margin", found.within_margin)?;
            labels.set_item("outside_margin", found.outside_margin())?;
            labels.set_item("margin", found.margin)?;
            Some(labels)
        }
    };
    let all = PyDict::new(py);
    all.set_item("within_bounds", report.is_within_bounds())?;
    let first = report.first_outside().map(|node| node.name.as_str());
    all.set_item("first_outside", first)?;
    all.set_item("nodes", nodes)?;
    all.set_item("labels", labels)?;
    Ok(all)
}

/// The times of a model.
pub fn profile<'py>(py: Python<'py>, profile: &Profile) -> PyResult<Bound<'py, PyDict>> {
    let layers = profile.plan.layers.iter();
    let mut steps = Vec::new();
    for (layer, ms) in layers.zip(&profile.layers.milliseconds) {
        let step = PyDict::new(py);
        step.set_item("name", &layer.name)?;
        step.set_item("kernel", layer.kernel)?;
        step.set_item("shape", sizes(layer.shape))?;
        step.set_item("ms", *ms)?;
        step.set_item("flops", layer.flops)?;
        step.set_item("bytes", layer.bytes)?;
        steps.push(step);
    }
    let all = PyDict::new(py);
    all.set_item("first_ms", profile.first_ms)?;
    all.set_item("median_ms", profile.median_ms())?;
    all.set_item("run_ms", &profile.run_ms)?;
    all.set_item("flops", profile.plan.flops())?;
    all.set_item("peak_device_bytes", profile.plan.peak_device_bytes())?;
    let timer = match profile.layers.timer {
        Timer::Timestamps => "timestamps",
        Timer::Host => "host",
    };
    all.set_item("timer", timer)?;
    all.set_item("steps", steps)?;
    Ok(all)
}

/// The kernels that were measured.
pub fn tuned<'py>(py: Python<'py>, layers: &[TunedLayer]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let mut all = Vec::with_capacity(layers.len());
    for layer in layers {
        let mut candidates = Vec::with_capacity(layer.candidates.len());
        for measured in &layer.candidates {
            let candidate = PyDict::new(py);
            candidate.set_item("kernel", &measured.kernel)?;
            candidate.set_item("ms", measured.outcome.milliseconds())?;
            let trouble = match &measured.outcome {
                Outcome::Dropped(reason) => Some(reason.as_str()),
                _ => None,
            };
            candidate.set_item("trouble", trouble)?;
            candidates.push(candidate);
        }
        let chosen = layer.chosen.and_then(|i| layer.candidates.get(i));
        let entry = PyDict::new(py);
        entry.set_item("name", &layer.name)?;
        entry.set_item("kernel", chosen.map(|measured| &measured.kernel))?;
        entry.set_item("candidates", candidates)?;
        all.push(entry);
    }
    Ok(all)
}
