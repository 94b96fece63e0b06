//! Adreno's instructions, as Turnip's compiler ir3 prints them.

use super::{Block, Class, Instruction, split};

/// The blocks of a kernel: a label `l1:`, then a line for each instruction, `(ss)(rpt1)mad.f32 …`.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let lines = text.lines().map(str::trim);
    // Before the instructions, and after them, are declarations and remarks.
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with([';', '@', '#', ':']);
    split(lines.filter(is_code), label, instruction)
}

fn label(line: &str) -> Option<&str> {
    line.strip_suffix(':').filter(|label| {
        let digits = label.strip_prefix('l').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit())
    })
}

fn instruction(line: &str) -> Option<Instruction> {
    let (mut rest, mut times) = (line, 1);
    while let Some((flag, after)) = rest.strip_prefix('(').and_then(|of| of.split_once(')')) {
        if let Some(repeats) = flag.strip_prefix("rpt") {
            times = 1 + repeats.parse().unwrap_or(0);
        }
        rest = after;
    }
    let name = rest.split_whitespace().next()?;
    let mut instruction = Instruction::new(class(rest, name)?);
    instruction.times = times;
    if let Some((_, label)) = rest
        .split_once('#')
        .filter(|_| instruction.class == Class::Branch)
    {
        instruction.to = Some(label.trim().to_owned());
    }
    instruction.leaves = name == "jump" || name == "end";
    Some(instruction)
}

fn class(line: &str, name: &str) -> Option<Class> {
    let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".()".contains(c);
    if !name.chars().all(is_name) {
        return None;
    }
    Some(match name {
        _ if begins(&["mad.f"]) => Class::Fma(1),
        _ if begins(&["ldl"]) => Class::SharedLoad(bytes(line)),
        _ if begins(&["stl"]) => Class::SharedStore(bytes(line)),
        // A texel is four words.
        _ if begins(&["isam"]) => Class::Load(16),
        _ if begins(&["ldib", "ldg"]) => Class::Load(bytes(line)),
        _ if begins(&["stib", "stg"]) => Class::Store,
        _ if begins(&["bar"]) => Class::Barrier,
        _ if begins(&["br", "jump", "bany", "ball", "getone", "shps", "end"]) => Class::Branch,
        _ if begins(&["nop", "fence", "sleep"]) => Class::Wait,
        _ => Class::Alu,
    })
}

/// Bytes of a memory instruction: its type, times the components, which are its last operand or a part of its name.
fn bytes(line: &str) -> u32 {
    let in_name = line
        .split('.')
        .find_map(|part| part.parse().ok().filter(|n| (1..=4).contains(n)));
    let last = line
        .rsplit(',')
        .next()
        .and_then(|word| word.trim().parse().ok());
    let components: u32 = in_name.or(last).unwrap_or(1);
    let name = line.split_whitespace().next().unwrap_or_default();
    let size = if name.contains("16") { 2 } else { 4 };
    size * components
}
