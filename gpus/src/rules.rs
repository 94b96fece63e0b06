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
        } = self;
        let precision = if compiled.half { "f16" } else { "f32" };
        let role = if compiled.is_default {
            ""
        } else {
            ", a candidate"
        };
        let kernel = &compiled.kernel;
        write!(
            f,
            "{} {kernel} {precision} of {}{role}: {rule:?}: {what}",
            chip.name, compiled.layer
        )
    }
}

/// Pipelines known to break a rule.
pub struct Known {
    /// The chip's name.
    pub chip: &'static str,
    /// The kernel's name.
    pub kernel: &'static str,
    /// The rule.
    pub rule: Rule,
    /// The evidence, and what would mend it.
    pub why: &'static str,
}

/// The known exceptions.
pub const KNOWN: &[Known] = &[];

/// The least share of multiply-adds in the arithmetic of a tiled kernel's main loop.
const LEAST_SHARE: f64 = 0.7;
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

/// The driver's counts of spills that are not 0, and of those that it no longer has.
pub fn spills(chip: &Chip, compiled: &Compiled) -> Vec<String> {
    let (zero, _) = statistics(chip.family.maker);
    let of = |name: &&str| match compiled.statistics.get(*name) {
        Some(0.0) => None,
        Some(value) => Some(format!("{name} {value}")),
        None => Some(format!("{name} is not reported")),
    };
    zero.iter().filter_map(of).collect()
}

/// All breaches on a chip.
pub fn breaches<'a>(chip: &'static Chip, seen: &'a Seen) -> Vec<Breach<'a>> {
    let mut all = Vec::new();
    for compiled in &seen.pipelines {
        let mut breach = |rule, what| {
            all.push(Breach {
                chip,
                compiled,
                rule,
                what,
            })
        };
        if let Some(error) = &compiled.error {
            breach(Rule::Compiles, error.clone());
            continue;
        }
        let spills = spills(chip, compiled);
        if !spills.is_empty() {
            breach(Rule::NoSpills, spills.join(", "));
        }
        match registers(chip, compiled) {
            Some(number) if number <= chip.family.budget => {}
            Some(number) => breach(
                Rule::Registers,
                format!("{number} of {}", chip.family.budget),
            ),
            None => breach(Rule::Registers, "not reported".into()),
        }
        instructions(chip, compiled, &mut breach);
    }
    all
}

fn instructions(chip: &Chip, compiled: &Compiled, breach: &mut dyn FnMut(Rule, String)) {
    let Some(mix) = &compiled.mix else {
        if chip.family.maker != Maker::Apple {
            breach(Rule::Compiles, "its instructions cannot be read".into());
        }
        return;
    };
    if compiled.facts.matrices {
        if mix.stage.matrix == 0.0 {
            breach(
                Rule::Matrices,
                "no matrix instructions in the main loop".into(),
            );
        } else if mix.stage.narrow_loads > 0.0 {
            let what = format!(
                "{} reads of 16 bits beside {} products",
                mix.stage.narrow_loads, mix.stage.matrix
            );
            breach(Rule::Matrices, what);
        }
    }
    let share = mix.stage.share();
    if TILED.contains(&compiled.kernel.as_str()) && share < LEAST_SHARE {
        breach(Rule::Share, format!("{:.0} %", 100.0 * share));
    }
}

/// The exception for a breach.
pub fn known(breach: &Breach<'_>) -> Option<&'static Known> {
    let is = |known: &&Known| {
        known.chip == breach.chip.name
            && known.kernel == breach.compiled.kernel
            && known.rule == breach.rule
    };
    KNOWN.iter().find(is)
}
