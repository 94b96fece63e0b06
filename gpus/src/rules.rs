//! What has to hold of every pipeline, and the known exceptions. An exception that no longer occurs is an error too.

use crate::chips::{Chip, Maker};
use crate::compile::{Compiled, Seen};
use std::fmt;

/// What a pipeline may break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// It compiles, and the driver says what it made.
    Compiles,
    /// No register is spilled to memory, and no memory of the invocation's own is taken.
    NoSpills,
    /// Registers are within the family's budget.
    Registers,
    /// A kernel of matrices has matrix instructions in its main loop, and no reads of 16 bits beside them.
    Matrices,
    /// Multiply-adds have their share of the arithmetic in the main loop of a tiled kernel.
    Share,
}

/// A pipeline that breaks a rule.
pub struct Breach<'a> {
    /// The chip.
    pub chip: &'static Chip,
    /// The pipeline.
    pub compiled: &'a Compiled,
    /// The rule.
    pub rule: Rule,
    /// How much: spills, registers, reads of 16 bits, the per cent that are missing.
    pub amount: f64,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Breach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            chip,
            compiled,
            rule,
            what,
            ..
        } = self;
        let precision = if compiled.half { "f16" } else { "f32" };
        let role = if compiled.is_default {
            ""
        } else {
            ", a candidate"
        };
        let kernel = &compiled.kernel;
        let layer = &compiled.layer;
        write!(
            f,
            "{} {kernel} {precision} of {layer}{role}: {rule:?}: {what}",
            chip.name
        )
    }
}

/// Pipelines known to break a rule.
#[derive(Debug)]
pub struct Known {
    /// The chips' names. Each of them has such a pipeline.
    pub chips: &'static [&'static str],
    /// The kernel's name.
    pub kernel: &'static str,
    /// The begin of the layer's name.
    pub layer: &'static str,
    /// The rule.
    pub rule: Rule,
    /// The largest [`Breach::amount`].
    pub most: f64,
    /// The evidence, and what would mend it.
    pub why: &'static str,
}

/// The known exceptions.
pub static KNOWN: &[Known] = &[
    Known {
        chips: &["polaris10", "vega20"],
        kernel: "conv2d_tiled",
        layer: "",
        rule: Rule::Registers,
        most: 216.0,
        why: READS,
    },
    Known {
        chips: &["navi21", "navi31", "gfx1201"],
        kernel: "conv2d_tiled",
        layer: "backbone.conv1",
        rule: Rule::Registers,
        most: 228.0,
        why: STEM,
    },
    Known {
        chips: &["navi21"],
        kernel: "conv2d_tiled",
        layer: "backbone.layer3",
        rule: Rule::Registers,
        most: 208.0,
        why: READS,
    },
    Known {
        chips: &["navi21"],
        kernel: "conv2d_tiled",
        layer: "backbone.layer4",
        rule: Rule::Registers,
        most: 216.0,
        why: READS,
    },
    Known {
        chips: &["navi21"],
        kernel: "conv2d_tiled",
        layer: "fc6",
        rule: Rule::Registers,
        most: 200.0,
        why: READS,
    },
    Known {
        chips: &["adreno740"],
        kernel: "conv2d_tiled",
        layer: "",
        rule: Rule::Share,
        most: 11.0,
        why: STEM,
    },
    Known {
        chips: &["navi31", "gfx1201"],
        kernel: "conv2d_coop",
        layer: "",
        rule: Rule::Registers,
        most: 256.0,
        why: UNROLLED,
    },
    Known {
        chips: &["nv164", "nv172", "nv180"],
        kernel: "conv2d_coop",
        layer: "",
        rule: Rule::Registers,
        most: 240.0,
        why: UNROLLED,
    },
    Known {
        chips: &["m1"],
        kernel: "conv2d_tiled",
        layer: "",
        rule: Rule::Share,
        most: 21.0,
        why: LOADS,
    },
    Known {
        chips: &["nv164", "nv172", "nv180"],
        kernel: "conv2d_tiled",
        layer: "",
        rule: Rule::Share,
        most: 19.0,
        why: LOADS,
    },
];

const LOADS: &str =
    "each load of four numbers is four, with a check of bounds each (robustBufferAccess2)";
const READS: &str =
    "a stage's reads, and those of a row of the window, are under way beside the sums";
const STEM: &str = "with strides and dilation, few reads share their address arithmetic";
const UNROLLED: &str =
    "windows in small matrices are unrolled, and a stage's reads are under way beside the sums";

/// The least share of multiply-adds in the arithmetic of a tiled kernel's main loop.
const LEAST_SHARE: f64 = 0.7;
/// Likewise for windows of one pixel, where little is done with each staged value.
const LEAST_SHARE_OF_PIXELS: f64 = 0.5;
/// Kernels that the share is held for: those with a register tile.
const TILED: [&str; 1] = ["conv2d_tiled"];

/// The statistics that have to be 0, and the one that counts registers, under the driver's names.
fn statistics(maker: Maker) -> (&'static [&'static str], &'static str) {
    match maker {
        Maker::Amd => (&["Spilled SGPRs", "Spilled VGPRs", "Scratch size"], "VGPRs"),
        // Spills to other registers cost a move.
        Maker::Nvidia => (
            &["Spills to memory", "Fills from memory", "SLM size"],
            "Number of GPRs",
        ),
        Maker::Qualcomm => (&["STP Count", "LDP Count"], "Registers used"),
        Maker::Apple => (&["Spills", "Fills", "Scratch"], "GPRs"),
    }
}

/// The registers of a lane, in the driver's count.
pub fn registers(chip: &Chip, compiled: &Compiled) -> Option<f64> {
    compiled
        .statistics
        .get(statistics(chip.family.maker).1)
        .copied()
}

/// The driver's counts of spills that are not 0, or that it no longer has, and their sum.
pub fn spills(chip: &Chip, compiled: &Compiled) -> (f64, Vec<String>) {
    let (zero, _) = statistics(chip.family.maker);
    let of = |name: &&str| match compiled.statistics.get(*name) {
        Some(0.0) => None,
        Some(value) => Some((*value, format!("{name} {value}"))),
        None => Some((f64::INFINITY, format!("{name} is not reported"))),
    };
    let (values, texts): (Vec<_>, Vec<_>) = zero.iter().filter_map(of).unzip();
    (values.iter().sum(), texts)
}

/// All breaches on a chip.
pub fn breaches<'a>(chip: &'static Chip, seen: &'a Seen) -> Vec<Breach<'a>> {
    let of = |compiled: &'a Compiled| {
        let broken = broken(chip, compiled).into_iter();
        broken.map(move |(rule, amount, what)| Breach {
            chip,
            compiled,
            rule,
            amount,
            what,
        })
    };
    seen.pipelines.iter().flat_map(of).collect()
}

/// The rules that a pipeline breaks, how much, and what was seen.
fn broken(chip: &Chip, compiled: &Compiled) -> Vec<(Rule, f64, String)> {
    if let Some(error) = &compiled.error {
        return vec![(Rule::Compiles, f64::INFINITY, error.clone())];
    }
    let mut all = Vec::new();
    let (sum, spills) = spills(chip, compiled);
    if !spills.is_empty() {
        all.push((Rule::NoSpills, sum, spills.join(", ")));
    }
    let budget = chip.family.budget;
    match registers(chip, compiled) {
        Some(number) if number <= budget => {}
        Some(number) => all.push((Rule::Registers, number, format!("{number} of {budget}"))),
        None => all.push((Rule::Registers, f64::INFINITY, "not reported".into())),
    }
    let Some(mix) = &compiled.mix else {
        let what = "its instructions cannot be read".into();
        all.push((Rule::Compiles, f64::INFINITY, what));
        return all;
    };
    let narrow = mix.stage.narrow_loads;
    if compiled.facts.matrices && mix.stage.matrix == 0.0 {
        let what = "no matrix instructions in the main loop".into();
        all.push((Rule::Matrices, f64::INFINITY, what));
    } else if compiled.facts.matrices && narrow > 0.0 {
        let what = format!(
            "{narrow} reads of 16 bits beside {} products",
            mix.stage.matrix
        );
        all.push((Rule::Matrices, narrow, what));
    }
    let share = mix.stage.share();
    let side = |name: &str| compiled.facts.constant(name) == Some(1.0);
    let least = match side("KERNEL_H") && side("KERNEL_W") {
        true => LEAST_SHARE_OF_PIXELS,
        false => LEAST_SHARE,
    };
    if TILED.contains(&compiled.kernel.as_str()) && share < least {
        let missing = 100.0 * (least - share);
        all.push((Rule::Share, missing, format!("{:.0} %", 100.0 * share)));
    }
    all
}

/// The exception for a breach, unless the breach is larger.
pub fn known(breach: &Breach<'_>) -> Option<&'static Known> {
    let is = |known: &&Known| {
        known.chips.contains(&breach.chip.name)
            && known.kernel == breach.compiled.kernel
            && breach.compiled.layer.starts_with(known.layer)
            && known.rule == breach.rule
            && breach.amount <= known.most
    };
    KNOWN.iter().find(is)
}
