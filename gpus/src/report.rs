//! The tables: what the compilers made, and the predicted times.

use crate::chips::Chip;
use crate::compile::{Compiled, Layer, Planned, Seen};
use crate::rules::{self, Breach, KNOWN, Known};
use crate::{chips, model};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A chip and what was seen on it.
pub type OnChip = (&'static Chip, Seen);

/// The kernels whose instructions have a table, and whether in f16.
const SHOWN: [(&str, bool); 2] = [("conv2d_tiled", false), ("conv2d_coop", true)];

/// Prints everything, and returns the number of errors.
pub fn print(all: &[OnChip]) -> usize {
    println!("{}\n{}\n{}", summary(all), kernels(all), times(all));
    let breaches = all
        .iter()
        .flat_map(|(chip, seen)| rules::breaches(chip, seen));
    let breaches: Vec<_> = breaches.collect();
    let is_known = |of: &&Breach<'_>| rules::known(of).is_some();
    let (known, new): (Vec<_>, Vec<_>) = breaches.iter().partition(is_known);
    print_worst("known", &known);
    print_worst("ERROR", &new);
    let mut gone = 0;
    for (chip, known) in all.iter().flat_map(|(chip, _)| of_chip(chip)) {
        let occurs = |breach: &&&Breach<'_>| {
            breach.chip.name == chip.name
                && rules::known(breach).is_some_and(|of| std::ptr::eq(of, known))
        };
        if !breaches.iter().any(|breach| occurs(&&breach)) {
            gone += 1;
            let Known { kernel, rule, .. } = known;
            println!(
                "ERROR {} {kernel} keeps {rule:?} again: change gpus/src/rules.rs",
                chip.name
            );
        }
    }
    new.len() + gone
}

/// The exceptions that a chip has.
fn of_chip(chip: &'static Chip) -> impl Iterator<Item = (&'static Chip, &'static Known)> {
    let has = |known: &&Known| known.chips.contains(&chip.name);
    KNOWN.iter().filter(has).map(move |known| (chip, known))
}

/// A line for the worst breach of each rule by each kernel on each chip.
fn print_worst(word: &str, breaches: &[&Breach<'_>]) {
    let key = |of: &Breach<'_>| {
        (
            of.chip.name,
            of.compiled.kernel.clone(),
            format!("{:?}", of.rule),
        )
    };
    let mut groups: BTreeMap<_, Vec<&Breach<'_>>> = BTreeMap::new();
    for breach in breaches {
        groups.entry(key(breach)).or_default().push(breach);
    }
    for group in groups.values() {
        if let Some(worst) = group.iter().max_by(|a, b| a.amount.total_cmp(&b.amount)) {
            let why = rules::known(worst).map_or(String::new(), |known| format!(": {}", known.why));
            println!("{word} {worst} (the worst of {}){why}", group.len());
        }
    }
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
        let is_spilled =
            |of: &&Compiled| of.error.is_none() && !rules::spills(chip, of).1.is_empty();
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

/// A row for the largest tile of each kernel of products and each window, on each chip.
pub fn kernels(all: &[OnChip]) -> String {
    let mut text = String::from(
        "| GPU | kernel | registers | subgroups a scheduler | products | other arithmetic | shared loads | \
         global loads | products' share |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (chip, seen) in all {
        let mut largest: BTreeMap<_, &Compiled> = BTreeMap::new();
        for compiled in seen.pipelines.iter().filter(|of| of.error.is_none()) {
            let of = |name: &str| compiled.facts.constant(name).unwrap_or(0.0) as u32;
            let is_shown = SHOWN.contains(&(compiled.kernel.as_str(), compiled.half));
            if !is_shown || of("STRIDE_H") > 1 {
                continue;
            }
            let size = |of: &Compiled| -> f64 {
                let sides = ["ROWS", "COLUMNS", "QUADS"].iter();
                sides.filter_map(|name| of.facts.constant(name)).product()
            };
            let key = (compiled.kernel.clone(), of("KERNEL_H"), of("KERNEL_W"));
            let known = largest.entry(key).or_insert(compiled);
            if (size(compiled), compiled.is_default) > (size(known), known.is_default) {
                *known = compiled;
            }
        }
        largest
            .values()
            .for_each(|compiled| text += &kernel(chip, compiled));
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

/// The layers of all plans with their predicted times, for programs.
pub fn predictions(chip: &Chip, seen: &Seen) -> String {
    let layer = |layer: &Layer| {
        let time = model::layer(chip, &seen.pipelines, layer);
        json!({
            "name": layer.name,
            "kernel": kernel_of(seen, layer),
            "ms": time.as_ref().map(|time| time.ms),
            "bound": time.as_ref().map(|time| time.bound),
        })
    };
    let plan = |plan: &Planned| {
        let layers: Vec<_> = plan.layers.iter().map(layer).collect();
        json!({"network": plan.network, "half": plan.half, "layers": layers})
    };
    let plans: Vec<_> = seen.plans.iter().map(plan).collect();
    let [device, driver] = &seen.device;
    let all = json!({"chip": chip.product, "device": device, "driver": driver, "plans": plans});
    format!("{all:#}")
}

/// The kernel of a layer's first dispatch.
fn kernel_of<'a>(seen: &'a Seen, layer: &Layer) -> &'a str {
    let first = layer.dispatches.first();
    first.map_or("", |of| seen.pipelines[of.pipeline].kernel.as_str())
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
            let kernel = kernel_of(seen, layer);
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
