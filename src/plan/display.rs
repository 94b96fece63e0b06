//! A plan as a table for people.

use super::Plan;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "{:<28} {:<22} {:<20} {:>10} {:>10}",
            "layer", "kernel", "output", "dispatches", "MFLOP"
        )?;
        for (i, layer) in self.layers.iter().enumerate() {
            let dispatches = self.steps.iter().filter(|s| s.layer == i).count();
            writeln!(
                f,
                "{:<28} {:<22} {:<20} {:>10} {:>10.1}",
                layer.name,
                layer.kernel,
                layer.shape.to_string(),
                dispatches,
                layer.flops as f64 / 1e6
            )?;
        }
        for group in &self.groups {
            let layers = &self.layers[group.layers.clone()];
            let name = |i: usize| self.layers[i].name.as_str();
            let flops: u64 = layers.iter().map(|l| l.flops).sum();
            writeln!(
                f,
                "{} to {} run in {} bands of rows; {:.2} of their {:.2} GFLOP are of rows that two bands need",
                name(group.layers.start),
                name(group.layers.end - 1),
                group.bands,
                group.recomputed_flops as f64 / 1e9,
                flops as f64 / 1e9,
            )?;
        }
        write!(
            f,
            "{:.2} GFLOP in {} dispatches, {} submissions; activations {:.1} MiB in {} buffers, \
             parameters {:.1} MiB in {} buffers",
            self.flops() as f64 / 1e9,
            self.steps.len(),
            self.steps.iter().filter(|s| s.ends_submit).count() + 1,
            mib(self.activation_bytes()),
            self.slots.len(),
            mib(self.parameter_bytes()),
            self.parameters.len()
        )
    }
}
