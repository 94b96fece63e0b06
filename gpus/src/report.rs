//! The tables: what the compilers made, and the predicted times.

use crate::chips::Chip;
use crate::compile::{Compiled, Seen};
use crate::rules::{self, Breach, KNOWN, Known};
use crate::{chips, model};
use std::fmt::Write;

/// A chip and what was seen on it.
pub type OnChip = (&'static Chip, Seen);

/// The kernels whose instructions have a table.
const SHOWN: [&str; 2] = ["conv2d_tiled", "conv2d_coop"];

/// Prints everything, and returns the number of errors.
pub fn print(all: &[OnChip]) -> usize {
    println!("{}\n{}\n{}", summary(all), kernels(all), times(all));
    let breaches: Vec<_> = all
        .iter()
        .flat_map(|(chip, seen)| rules::breaches(chip, seen))
        .collect();
    let (known, new): (Vec<_>, Vec<_>) = breaches.iter().partition(|of| rules::known(of).is_some());
    for breach in &known {
        println!("known: {breach}");
    }
    for breach in &new {
        println!("ERROR {breach}");
    }
    let gone = gone(all, &known);
    for known in &gone {
        let Known {
            chip, kernel, rule, ..
        } = known;
        println!("ERROR {chip} {kernel} keeps {rule:?} again: take it out of gpus/src/rules.rs");
    }
    new.len() + gone.len()
}

/// The exceptions for these chips that did not occur.
fn gone(all: &[OnChip], known: &[&Breach<'_>]) -> Vec<&'static Known> {
    let seen: Vec<_> = known.iter().filter_map(|of| rules::known(of)).collect();
    let is_here = |known: &&Known| all.iter().any(|(chip, _)| chip.name == known.chip);
    let occurred = |known: &Known| seen.iter().any(|of| std::ptr::eq(*of, known));
    KNOWN
        .iter()
        .filter(is_here)
        .filter(|known| !occurred(known))
        .collect()
}

/// A row for each chip.
pub fn summary(all: &[OnChip]) -> String {
    let mut text = String::from(
        "| GPU | family | pipelines | failed | spilled | most registers, of | known exceptions |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    for (chip, seen) in all {
        let breaches = rules::breaches(chip, seen);
        let failed = seen
            .pipelines
            .iter()
            .filter(|of| of.error.is_some())
            .count();
        let is_spilled = |of: &&Compiled| of.error.is_none() && !rules::spills(chip, of).is_empty();
        let spilled = seen.pipelines.iter().filter(is_spilled).count();
        let registers = seen
            .pipelines
            .iter()
            .filter_map(|of| rules::registers(chip, of));
        let _ = writeln!(
            text,
            "| {} ({}) | {} | {} | {failed} | {spilled} | {}, {} | {} |",
            chip.product,
            chip.name,
            chip.family.name,
            seen.pipelines.len(),
            registers.fold(0.0, f64::max),
            chip.family.budget,
            breaches
                .iter()
                .filter(|of| rules::known(of).is_some())
                .count(),
        );
    }
    text
}

/// A row for each kind of kernel with a register tile, on each chip.
pub fn kernels(all: &[OnChip]) -> String {
    let mut text = String::from(
        "| GPU | kernel | registers | subgroups a scheduler | products | other arithmetic | shared loads | \
         global loads | products' share |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (chip, seen) in all {
        let mut rows: Vec<String> = Vec::new();
        let shown = seen
            .pipelines
            .iter()
            .filter(|of| of.is_default || of.facts.matrices);
        for compiled in shown.filter(|of| SHOWN.contains(&of.kernel.as_str())) {
            let row = kernel(chip, compiled);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows.iter().for_each(|row| text += row);
    }
    text
}

fn kernel(chip: &Chip, compiled: &Compiled) -> String {
    let of = |name: &str| compiled.facts.constant(name).unwrap_or(0.0);
    let registers = rules::registers(chip, compiled).map_or("–".into(), |n| n.to_string());
    let occupancy = model::occupancy(chip, compiled).map_or("–".into(), |n| format!("{n:.1}"));
    let mix = compiled
        .mix
        .as_ref()
        .map_or("– | – | – | – | –".into(), |mix| {
            let stage = &mix.stage;
            let products = stage.fma + stage.matrix;
            format!(
                "{products:.0} | {:.0} | {:.0} | {:.0} | {:.0} %",
                stage.alu,
                stage.shared_loads,
                stage.loads,
                100.0 * stage.share()
            )
        });
    format!(
        "| {} | {} {}×{}, {}×{}×{}, {} | {registers} | {occupancy} | {mix} |\n",
        chip.product,
        compiled.kernel,
        of("KERNEL_H"),
        of("KERNEL_W"),
        of("ROWS"),
        of("COLUMNS"),
        4.0 * of("QUADS"),
        if compiled.half { "f16" } else { "f32" },
    )
}

/// The predicted milliseconds of each network on each chip.
pub fn times(all: &[OnChip]) -> String {
    let Some((_, first)) = all.iter().max_by_key(|(_, seen)| seen.plans.len()) else {
        return String::new();
    };
    let name = |network: &str, half| format!("{network} {}", if half { "f16" } else { "f32" });
    let columns: Vec<_> = first
        .plans
        .iter()
        .map(|plan| (plan.network.clone(), plan.half))
        .collect();
    let heads = columns.iter().map(|(network, half)| name(network, *half));
    let mut text = format!(
        "| GPU, predicted ms | {} |\n|---|",
        heads.collect::<Vec<_>>().join(" | ")
    );
    text += &"--:|".repeat(columns.len());
    text.push('\n');
    for (chip, seen) in all {
        let cell = |(network, half): &(String, bool)| {
            let plan = seen
                .plans
                .iter()
                .find(|of| of.network == *network && of.half == *half);
            let ms = plan.and_then(|plan| model::plan(chip, &seen.pipelines, plan));
            ms.map_or("–".into(), |ms| format!("{ms:.1}"))
        };
        let cells: Vec<_> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", chip.product, cells.join(" | "));
    }
    text
}

/// The assumptions on each chip, for the document.
pub fn assumptions() -> String {
    let mut text = String::from(
        "| GPU | units | schedulers | GHz | GB/s | cycles of a multiply-add, of others | matrix products a cycle | \
         latency | registers, budget for |\n|---|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for chip in &chips::CHIPS {
        let family = chip.family;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {}, {} | {} | {} | {}, {} |",
            chip.product,
            chip.units,
            family.schedulers,
            chip.ghz,
            chip.gbs,
            family.fma_cycles,
            family.alu_cycles,
            family.matrix_rate,
            family.latency,
            family.budget,
            family.because,
        );
    }
    text
}

/// The layers of a plan with their predicted times, for people.
pub fn layers(chip: &Chip, seen: &Seen) -> String {
    let mut text = String::new();
    for plan in &seen.plans {
        let _ = writeln!(
            text,
            "{} {} {}",
            chip.product,
            plan.network,
            if plan.half { "f16" } else { "f32" }
        );
        for layer in &plan.layers {
            let kernel = layer
                .dispatches
                .first()
                .map_or("", |of| seen.pipelines[of.pipeline].kernel.as_str());
            let flops: u64 = layer.dispatches.iter().map(|of| of.flops).sum();
            let (ms, bound) = match model::layer(chip, &seen.pipelines, layer) {
                Some(time) => (format!("{:.3}", time.ms), time.bound),
                None => ("–".into(), ""),
            };
            let dispatches = layer.dispatches.len();
            let gflop = flops as f64 / 1e9;
            let _ = writeln!(
                text,
                "  {ms:>8} ms {gflop:8.2} GFLOP {dispatches:3} × {kernel:<24} {bound:<8} {}",
                layer.name
            );
        }
    }
    text
}
