//! The final instructions of a pipeline: classes of instructions, loops, and the work of one stage of the main loop.

mod adreno;
mod amd;
pub mod apple;
mod nvidia;
#[cfg(test)]
mod tests;

use crate::chips::{Chip, Maker};
use crate::shader::Facts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// Multiply-adds of f32 or of one f16: so many each lane.
    Fma(u32),
    /// A product of matrices: so many multiply-adds in all of the subgroup.
    Matrix(u32),
    /// Other arithmetic of each lane.
    Alu,
    /// Arithmetic of the subgroup, once.
    Scalar,
    /// A read of workgroup memory: so many bytes each lane.
    SharedLoad(u32),
    /// A write of workgroup memory, likewise.
    SharedStore(u32),
    /// A read of buffers, likewise.
    Load(u32),
    /// A write of buffers.
    Store,
    /// A barrier of the workgroup.
    Barrier,
    /// A branch.
    Branch,
    /// A wait, or a hint to the scheduler.
    Wait,
}

/// An instruction.
#[derive(Clone, Debug)]
struct Instruction {
    class: Class,
    /// How often it repeats itself.
    times: u32,
    /// The block that it may jump to.
    to: Option<String>,
    /// Whether the next instruction never follows it.
    leaves: bool,
}

impl Instruction {
    fn new(class: Class) -> Self {
        Self {
            class,
            times: 1,
            to: None,
            leaves: false,
        }
    }
}

/// Instructions that run one after the other.
#[derive(Clone, Debug, Default)]
struct Block {
    label: String,
    instructions: Vec<Instruction>,
}

/// Blocks of the lines of a text: a label or a branch ends a block.
fn split<'a>(
    lines: impl Iterator<Item = &'a str>,
    label: impl Fn(&str) -> Option<&str>,
    instruction: impl Fn(&str) -> Option<Instruction>,
) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for line in lines {
        if let Some(label) = label(line) {
            blocks.push(Block {
                label: label.to_owned(),
                instructions: Vec::new(),
            });
        } else if let (Some(instruction), Some(block)) = (instruction(line), blocks.last_mut()) {
            let ends = instruction.to.is_some() || instruction.leaves;
            block.instructions.push(instruction);
            if ends {
                blocks.push(Block::default());
            }
        }
    }
    blocks.retain(|block| !block.instructions.is_empty() || !block.label.is_empty());
    blocks
}

/// Numbers of instructions of a subgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Multiply-add instructions.
    pub fma: f64,
    /// Multiply-adds of each lane.
    pub products: f64,
    /// Products of matrices.
    pub matrix: f64,
    /// Multiply-adds of all these, in the whole subgroup.
    pub matrix_products: f64,
    /// Other arithmetic of lanes.
    pub alu: f64,
    /// Arithmetic of the subgroup.
    pub scalar: f64,
    /// Reads of workgroup memory.
    pub shared_loads: f64,
    /// Those of 16 bits or less.
    pub narrow_loads: f64,
    /// Writes of workgroup memory.
    pub shared_stores: f64,
    /// Bytes of each lane in workgroup memory, read or written.
    pub shared_bytes: f64,
    /// Reads of buffers.
    pub loads: f64,
    /// Bytes of each lane in buffers, read.
    pub load_bytes: f64,
    /// Writes of buffers.
    pub stores: f64,
    /// Barriers.
    pub barriers: f64,
    /// Branches.
    pub branches: f64,
    /// Waits and hints.
    pub waits: f64,
}

impl Counts {
    fn add(&mut self, instruction: &Instruction) {
        let n = f64::from(instruction.times);
        match instruction.class {
            Class::Fma(products) => {
                self.fma += n;
                self.products += n * f64::from(products);
            }
            Class::Matrix(products) => {
                self.matrix += n;
                self.matrix_products += n * f64::from(products);
            }
            Class::Alu => self.alu += n,
            Class::Scalar => self.scalar += n,
            Class::SharedLoad(bytes) => {
                self.shared_loads += n;
                self.narrow_loads += if bytes <= 2 { n } else { 0.0 };
                self.shared_bytes += n * f64::from(bytes);
            }
            Class::SharedStore(bytes) => {
                self.shared_stores += n;
                self.shared_bytes += n * f64::from(bytes);
            }
            Class::Load(bytes) => {
                self.loads += n;
                self.load_bytes += n * f64::from(bytes);
            }
            Class::Store => self.stores += n,
            Class::Barrier => self.barriers += n,
            Class::Branch => self.branches += n,
            Class::Wait => self.waits += n,
        }
    }

    /// These and `times` the `others`.
    pub fn plus(self, others: Self, times: f64) -> Self {
        let sum = |of: fn(&Self) -> f64| of(&self) + times * of(&others);
        Self {
            fma: sum(|c| c.fma),
            products: sum(|c| c.products),
            matrix: sum(|c| c.matrix),
            matrix_products: sum(|c| c.matrix_products),
            alu: sum(|c| c.alu),
            scalar: sum(|c| c.scalar),
            shared_loads: sum(|c| c.shared_loads),
            narrow_loads: sum(|c| c.narrow_loads),
            shared_stores: sum(|c| c.shared_stores),
            shared_bytes: sum(|c| c.shared_bytes),
            loads: sum(|c| c.loads),
            load_bytes: sum(|c| c.load_bytes),
            stores: sum(|c| c.stores),
            barriers: sum(|c| c.barriers),
            branches: sum(|c| c.branches),
            waits: sum(|c| c.waits),
        }
    }

    /// Whether there are products among them.
    pub fn multiplies(&self) -> bool {
        self.fma + self.matrix > 0.0
    }

    /// Whether workgroup memory is written among them. Compilers leave out the barriers of a single subgroup.
    pub fn stages(&self) -> bool {
        self.barriers + self.shared_stores > 0.0
    }

    /// Instructions that take a slot of the scheduler.
    pub fn issued(&self) -> f64 {
        let memory = self.shared_loads + self.shared_stores + self.loads + self.stores;
        self.fma + self.matrix + self.alu + memory + self.barriers + self.branches
    }

    /// The share of multiply-adds, or of products of matrices, in the arithmetic of lanes.
    pub fn share(&self) -> f64 {
        let products = self.fma + self.matrix;
        products / (products + self.alu).max(1.0)
    }
}

/// The work of a subgroup.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Mix {
    /// One turn of the main loop: from one stage of workgroup memory to the next, its inner loops with all their turns.
    /// Without a loop of products, the whole kernel.
    pub stage: Counts,
    /// All else, each instruction once.
    pub rest: Counts,
    /// Round trips to memory in a stage: loads whose values are stored before the next load.
    pub round_trips: f64,
    /// Whether the kernel has a loop of products.
    pub loops: bool,
    /// Whether the stage's products are known from the kernel's text, and so the turns of its inner loops.
    pub staged: bool,
}

/// Reads the final instructions among the driver's `texts`; `None` if there are none, or they cannot be read.
pub fn read(chip: &Chip, texts: &[(String, String)], facts: &Facts) -> Option<Mix> {
    let of = |name: &str| {
        texts
            .iter()
            .find(|(of, _)| of.contains(name))
            .map(|(_, text)| text)
    };
    let blocks = match chip.family.maker {
        Maker::Amd => amd::blocks(of("Assembly")?),
        Maker::Nvidia => nvidia::blocks(of("NAK")?),
        Maker::Qualcomm => adreno::blocks(of("IR3")?),
        Maker::Apple => apple::blocks(of("AGX")?),
    };
    (!blocks.is_empty()).then(|| mix(&blocks, facts))
}

/// The blocks of a loop.
type Loop = BTreeSet<usize>;

fn mix(blocks: &[Block], facts: &Facts) -> Mix {
    let counts: Vec<_> = blocks
        .iter()
        .map(|block| {
            let mut counts = Counts::default();
            block.instructions.iter().for_each(|i| counts.add(i));
            counts
        })
        .collect();
    let sum = |of: &Loop| {
        of.iter().fold(Counts::default(), |sum, block| {
            sum.plus(counts[*block], 1.0)
        })
    };
    let whole = sum(&(0..blocks.len()).collect());
    let loops = loops(blocks);
    let smallest = |all: Vec<&Loop>| all.into_iter().min_by_key(|of| of.len()).cloned();
    let products: Vec<&Loop> = loops.iter().filter(|of| sum(of).multiplies()).collect();
    let stages: Vec<&Loop> = products
        .iter()
        .copied()
        .filter(|of| sum(of).stages())
        .collect();
    let is_staged = !stages.is_empty();
    let Some(stage) = smallest(if is_staged { stages } else { products.clone() }) else {
        let round_trips = round_trips(blocks, &(0..blocks.len()).collect());
        return Mix {
            stage: whole,
            rest: Counts::default(),
            round_trips,
            loops: false,
            staged: false,
        };
    };
    let once = sum(&stage);
    let rest = whole.plus(once, -1.0);
    let trips = round_trips(blocks, &stage);
    let expected = stage_products(facts, is_staged);
    let within: Vec<&Loop> = {
        let is_within = |of: &&Loop| of.len() < stage.len() && of.is_subset(&stage);
        loops.iter().filter(is_within).collect()
    };
    let multiplying = within.iter().copied().filter(|of| sum(of).multiplies());
    let inner = smallest(multiplying.collect()).map(|inner| sum(&inner));
    let staging = within.into_iter().map(sum);
    let staging = staging.filter(|of| !of.multiplies() && of.load_bytes > 0.0);
    let staging = staging.fold(Counts::default(), |all, of| all.plus(of, 1.0));
    let (stage, round_trips) = match &expected {
        Some(expected) => expected.stage(once, inner, staging, trips),
        None => (once, trips),
    };
    Mix {
        stage,
        rest,
        round_trips,
        loops: true,
        staged: expected.is_some(),
    }
}

/// What the text of a kernel that stages says of one stage.
struct Expected {
    /// Multiply-adds: of a lane, or of a subgroup's matrices.
    products: f64,
    /// Bytes that an invocation loads.
    load_bytes: f64,
}

impl Expected {
    /// One stage, and its round trips, from a loop whose instructions count once: `inner` and `staging` are its loops of
    /// products and of loads, whose turns follow from what is expected. A compiler may join several stages in a turn.
    fn stage(
        &self,
        once: Counts,
        inner: Option<Counts>,
        staging: Counts,
        trips: f64,
    ) -> (Counts, f64) {
        let of = |counts: &Counts| counts.products + counts.matrix_products;
        let (mut all, mut trips) = (once, trips);
        let joined = (of(&once) / self.products).round();
        if joined > 1.0 {
            return (Counts::default().plus(once, 1.0 / joined), trips / joined);
        }
        if let Some(inner) = inner {
            all = all.plus(inner, (self.products - of(&once)) / of(&inner));
        }
        if staging.load_bytes > 0.0 {
            let turns = (self.load_bytes - once.load_bytes) / staging.load_bytes;
            all = all.plus(staging, turns.max(0.0));
            trips *= (self.load_bytes / once.load_bytes).max(1.0);
        }
        (all, trips)
    }
}

fn stage_products(facts: &Facts, is_staged: bool) -> Option<Expected> {
    let of = |name: &str| facts.constant(name);
    if !is_staged {
        return None;
    }
    let groups = of("STAGE_GROUPS")?;
    let taps = of("STAGE_ROWS")? * of("KERNEL_W")?;
    let products = match of("SIZE") {
        Some(size) if facts.matrices => {
            let tiles = of("PIXEL_TILES")? * of("CHANNEL_TILES")?;
            taps * (4.0 * groups / size) * tiles * size.powi(3)
        }
        _ => taps * groups * 16.0 * of("PIXELS")? * of("OWN_QUADS")?,
    };
    let weights = match of("TAPS_SIZE") {
        Some(size) => size,
        None => of("TAPS_ROWS")? * of("QUADS")?,
    };
    let turns = |size: f64| (size / f64::from(facts.invocations)).ceil();
    let halo = groups * of("HALO_ROWS")? * of("HALO_COLUMNS")?;
    let bytes = if facts.half { 8.0 } else { 16.0 };
    Some(Expected {
        products,
        load_bytes: bytes * (turns(halo) + turns(weights)),
    })
}

/// Loads from buffers whose values are stored in workgroup memory before another load follows, in the order of the
/// text: each is a round trip that nothing else of the subgroup hides.
fn round_trips(blocks: &[Block], of: &Loop) -> f64 {
    let (mut trips, mut loaded) = (0, false);
    for instruction in of.iter().flat_map(|block| &blocks[*block].instructions) {
        match instruction.class {
            Class::Load(_) => loaded = true,
            Class::SharedStore(_) if loaded => {
                trips += 1;
                loaded = false;
            }
            _ => {}
        }
    }
    f64::from(trips + i32::from(loaded))
}

/// The blocks that may follow each block.
fn followers(blocks: &[Block]) -> Vec<Vec<usize>> {
    let find = |label: &String| blocks.iter().position(|block| block.label == *label);
    let of = |(i, block): (usize, &Block)| {
        let mut next: Vec<_> = block
            .instructions
            .iter()
            .filter_map(|i| find(i.to.as_ref()?))
            .collect();
        let leaves = block.instructions.iter().any(|i| i.leaves);
        if !leaves && i + 1 < blocks.len() {
            next.push(i + 1);
        }
        next
    };
    blocks.iter().enumerate().map(of).collect()
}

/// The natural loops: a jump back to a block that every way to the jump passes, and all blocks between. Jumps back to
/// one block are one loop.
fn loops(blocks: &[Block]) -> Vec<Loop> {
    let next = followers(blocks);
    let mut before = vec![Vec::new(); blocks.len()];
    for (from, to) in next
        .iter()
        .enumerate()
        .flat_map(|(i, all)| all.iter().map(move |to| (i, *to)))
    {
        before[to].push(from);
    }
    let passed = dominators(&before);
    let mut found: Vec<(usize, Loop)> = Vec::new();
    for (from, to) in next
        .iter()
        .enumerate()
        .flat_map(|(i, all)| all.iter().map(move |to| (i, *to)))
    {
        if !passed[from].contains(&to) {
            continue;
        }
        let mut body = Loop::from([to]);
        let mut left = vec![from];
        while let Some(block) = left.pop() {
            if body.insert(block) {
                left.extend(&before[block]);
            }
        }
        match found.iter_mut().find(|(head, _)| *head == to) {
            Some((_, known)) => known.extend(body),
            None => found.push((to, body)),
        }
    }
    found.into_iter().map(|(_, body)| body).collect()
}

/// For each block, the blocks that every way from the first block to it passes.
fn dominators(before: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let all: BTreeSet<_> = (0..before.len()).collect();
    let mut passed = vec![all; before.len()];
    let mut changed = true;
    if let Some(first) = passed.first_mut() {
        *first = BTreeSet::from([0]);
    }
    while std::mem::take(&mut changed) {
        // A block that nothing leads to says nothing of those after it.
        for block in (1..before.len()).filter(|block| !before[*block].is_empty()) {
            let mut ways = before[block].iter().map(|from| &passed[*from]);
            let first = ways.next().cloned().unwrap_or_default();
            let mut common = ways.fold(first, |common, way| &common & way);
            common.insert(block);
            changed |= common != passed[block];
            passed[block] = common;
        }
    }
    passed
}
