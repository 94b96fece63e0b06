//! NVIDIA's instructions, as NVK's compiler NAK prints them.

use super::{Block, Class, Instruction, split};

/// The blocks of a kernel: `block.u 1 L2 [0] -> {`, then a line for each instruction, `@p0 r1 = ffma … // delay=2`.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim());
    split(
        lines.filter(|line| !line.is_empty() && !line.starts_with('}')),
        label,
        instruction,
    )
}

fn label(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.next().filter(|word| word.starts_with("block"))?;
    words.nth(1)
}

fn instruction(line: &str) -> Option<Instruction> {
    let is_conditional = line.starts_with('@');
    let mut words = line.split_whitespace().peekable();
    words.next_if(|word| word.starts_with('@'));
    let rest: Vec<_> = words.collect();
    let operation = rest
        .iter()
        .position(|word| *word == "=")
        .map_or(0, |at| at + 1);
    let name = *rest.get(operation)?;
    let operands = &rest[operation + 1..];
    let mut instruction = Instruction::new(class(name)?);
    if name == "bra" {
        instruction.to = operands.last().map(|label| (*label).to_owned());
        instruction.leaves = !is_conditional && operands.first() == Some(&"pT");
    }
    instruction.leaves |= name == "exit" && !is_conditional;
    Some(instruction)
}

fn class(name: &str) -> Option<Class> {
    let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
    Some(match name {
        _ if name.starts_with("ffma") => Class::Fma(1),
        _ if name.starts_with("hfma2") => Class::Fma(2),
        _ if name.starts_with("hmma") => Class::Matrix(matrix(name)?),
        // Four matrices of 8×8 halves: so many words of each lane.
        _ if name.starts_with("ldsm") => Class::SharedLoad(match name {
            _ if name.contains("x4") => 16,
            _ if name.contains("x2") => 8,
            _ => 4,
        }),
        _ if name.starts_with("ld.shared") => Class::SharedLoad(bytes(name)),
        _ if name.starts_with("st.shared") => Class::SharedStore(bytes(name)),
        _ if begins(&["ld.global", "ld.local", "tex", "tld", "suld"]) => Class::Load(bytes(name)),
        _ if begins(&["st.global", "st.local", "sust"]) => Class::Store,
        _ if begins(&["bar."]) => Class::Barrier,
        _ if begins(&[
            "bra", "bssy", "bsync", "bmov", "bclear", "bbreak", "exit", "warpsync",
        ]) =>
        {
            Class::Branch
        }
        _ if begins(&["nop", "depbar"]) => Class::Wait,
        _ => Class::Alu,
    })
}

/// Multiply-adds of `hmma`, of 16×8 sums of 4, 8 or 16 terms.
fn matrix(name: &str) -> Option<u32> {
    let terms = [
        ("16816", 16),
        ("m16n8k16", 16),
        ("1688", 8),
        ("m16n8k8", 8),
        ("884", 4),
    ];
    let found = terms.iter().find(|(size, _)| name.contains(size))?;
    Some(16 * 8 * found.1)
}

fn bytes(name: &str) -> u32 {
    match name.rsplit('.').next().unwrap_or_default() {
        "b128" => 16,
        "b64" => 8,
        "u16" | "i16" | "b16" => 2,
        "u8" | "i8" | "b8" => 1,
        _ => 4,
    }
}
