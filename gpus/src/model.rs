//! The model of time: predicts a dispatch from the final instructions, the registers and the number of workgroups. It
//! is one model for all chips, kernels and dates, so that predictions before and after a change compare.
//!
//! A unit (compute unit, multiprocessor, core) holds as many workgroups as registers and workgroup memory allow. The
//! time of a stage of a workgroup, the turn of the kernel's main loop, is the largest of three:
//!
//! - issue: the schedulers' cycles for its instructions, or for its products of matrices, which run beside them;
//! - shared: the cycles of workgroup memory for its bytes, without conflicts of banks;
//! - latency: the time of a subgroup alone, with a full latency for each round trip to memory, divided by the
//!   workgroups that the unit holds.
//!
//! A dispatch takes whole rounds of the units, at least the time of its bytes at a share of the memory's bandwidth, and
//! the time between two dispatches. Left out: caches, bank conflicts, the clock under load, and NVIDIA's, Qualcomm's
//! and Apple's own compilers.

use crate::chips::{BANDWIDTH_SHARE, Chip, Family, LAUNCH_US, Maker};
use crate::compile::{Compiled, Dispatch, Layer, Planned};
use crate::isa::{Counts, Mix};

/// The predicted time of a layer.
pub struct Time {
    /// Milliseconds.
    pub ms: f64,
    /// What takes the most of it.
    pub bound: &'static str,
}

/// Subgroups that a scheduler holds at once, by registers and workgroup memory; `None` if the driver does not say.
pub fn occupancy(chip: &Chip, compiled: &Compiled) -> Option<f64> {
    let family = chip.family;
    let statistic = |name: &str| compiled.statistics.get(name).copied();
    let by_registers = match family.maker {
        Maker::Amd if family.counts_of_32 => {
            statistic("Subgroups per SIMD")? * 32.0 / f64::from(compiled.subgroup)
        }
        Maker::Amd => statistic("Subgroups per SIMD")?,
        Maker::Nvidia => statistic("Max warps/SM")? / family.schedulers,
        Maker::Qualcomm => statistic("Max Waves Per Core")? / family.schedulers,
        Maker::Apple => statistic("Threads")? / f64::from(compiled.subgroup) / family.schedulers,
    };
    let held = |groups: f64| groups * subgroups(compiled) / family.schedulers;
    let by_memory = match shared_bytes(compiled) {
        bytes if bytes > 0.0 => held((family.shared_bytes / bytes).floor()),
        _ => f64::INFINITY,
    };
    Some(by_registers.min(by_memory))
}

/// Subgroups of a workgroup.
fn subgroups(compiled: &Compiled) -> f64 {
    f64::from(
        compiled
            .facts
            .invocations
            .div_ceil(compiled.subgroup.max(1)),
    )
}

/// Bytes of workgroup memory, where the driver says so.
fn shared_bytes(compiled: &Compiled) -> f64 {
    let of = ["LDS size", "Shared size", "Shared memory"]
        .iter()
        .find_map(|name| compiled.statistics.get(*name));
    of.copied().unwrap_or(0.0)
}

/// The time of a whole plan in milliseconds; `None` if a pipeline's instructions are unknown.
pub fn plan(chip: &Chip, pipelines: &[Compiled], plan: &Planned) -> Option<f64> {
    plan.layers
        .iter()
        .map(|of| layer(chip, pipelines, of).map(|time| time.ms))
        .sum()
}

/// The time of a layer; `None` if a pipeline's instructions are unknown.
pub fn layer(chip: &Chip, pipelines: &[Compiled], layer: &Layer) -> Option<Time> {
    let flops: u64 = layer.dispatches.iter().map(|of| of.flops).sum();
    let mut total = 0.0;
    let mut longest = (0.0, "");
    for dispatch in &layer.dispatches {
        let share = match flops {
            0 => 1.0 / layer.dispatches.len() as f64,
            _ => dispatch.flops as f64 / flops as f64,
        };
        let memory = share * layer.bytes as f64 / (chip.gbs * BANDWIDTH_SHARE * 1e9);
        let (compute, bound) = dispatch_seconds(chip, &pipelines[dispatch.pipeline], dispatch)?;
        let (seconds, bound) = if memory > compute {
            (memory, "memory")
        } else {
            (compute, bound)
        };
        total += seconds + LAUNCH_US * 1e-6;
        if seconds > longest.0 {
            longest = (seconds, bound);
        }
    }
    Some(Time {
        ms: total * 1e3,
        bound: longest.1,
    })
}

/// The seconds of a dispatch without its bytes, and what they are spent on.
fn dispatch_seconds(
    chip: &Chip,
    compiled: &Compiled,
    dispatch: &Dispatch,
) -> Option<(f64, &'static str)> {
    let mix = compiled.mix.as_ref()?;
    let family = chip.family;
    let rounds = (dispatch.workgroups as f64 / chip.units).ceil().max(1.0);
    let held = (occupancy(chip, compiled)? * family.schedulers / subgroups(compiled))
        .floor()
        .max(1.0);
    let held = held.min(rounds);
    let (stage, bound) = turn(family, compiled, &mix.stage, mix.round_trips, held);
    // Reading the parameters, and the first values.
    let (rest, _) = turn(family, compiled, &mix.rest, 2.0, held);
    let cycles = rounds * (turns(compiled, mix, dispatch) * stage + rest);
    Some((cycles / (chip.ghz * 1e9), bound))
}

/// The cycles that a workgroup's instructions take of a unit which holds `held` workgroups.
fn turn(
    family: &Family,
    compiled: &Compiled,
    counts: &Counts,
    round_trips: f64,
    held: f64,
) -> (f64, &'static str) {
    let subgroups = subgroups(compiled);
    let slots = slots(family, counts);
    let matrix = match counts.matrix_products {
        0.0 => 0.0,
        products => products / family.matrix_rate.max(1.0),
    };
    let issue = subgroups / family.schedulers * slots.max(matrix);
    let bytes = counts.shared_bytes * f64::from(compiled.subgroup);
    let shared = subgroups * bytes / family.shared_width;
    let alone = slots + matrix + counts.scalar + counts.branches + round_trips * family.latency;
    let latency = alone / held;
    let all = [(issue, "issue"), (shared, "shared"), (latency, "latency")];
    all.into_iter().fold(
        (0.0, "issue"),
        |most, of| if of.0 > most.0 { of } else { most },
    )
}

/// Cycles of a scheduler for the instructions of a subgroup.
pub fn slots(family: &Family, counts: &Counts) -> f64 {
    let products = counts.fma * family.fma_cycles;
    if family.issues_all {
        return products.max(counts.issued() * family.alu_cycles);
    }
    products + counts.alu * family.alu_cycles
}

/// Turns of the main loop of a workgroup.
fn turns(compiled: &Compiled, mix: &Mix, dispatch: &Dispatch) -> f64 {
    let facts = &compiled.facts;
    let word = |name: &str| facts.param(&dispatch.params, name).map(f64::from);
    let of_terms = || {
        let terms = word("term_end")? - word("term_begin")?;
        let rows = facts.constant("KERNEL_H")? / facts.constant("STAGE_ROWS")?;
        Some((terms / facts.constant("STAGE_GROUPS")?).ceil() * rows.ceil())
    };
    if !mix.loops {
        return 1.0;
    }
    if let Some(turns) = of_terms().filter(|_| mix.staged) {
        return turns;
    }
    // Winograd's products by matrices stage groups of input channels.
    let of_groups = || Some((word("in_c4")? / facts.constant("GROUPS")?).ceil());
    if let Some(turns) = of_groups().filter(|_| facts.matrices) {
        return turns;
    }
    let lanes = dispatch.workgroups as f64 * f64::from(facts.invocations);
    let products = dispatch.flops as f64 / 2.0 / lanes;
    (products / mix.stage.products.max(1.0)).max(1.0)
}
