//! Apple's instructions, as Honeykrisp prints them with `AGX_MESA_DEBUG=shaders`: it does not give them as others do.

use super::{Block, Class, Instruction};

/// The kernel's last listing in the driver's output: after those of earlier stages of the compiler, and before its bytes
/// in hexadecimal and the listings of the preamble.
pub fn listing(printed: &str) -> Option<&str> {
    let is_bytes = |line: &str| {
        let begin = line.trim_start().split_once(':');
        begin.is_some_and(|(at, rest)| {
            let digits =
                |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit());
            digits(at) && rest.split_whitespace().next().is_some_and(digits)
        })
    };
    let (mut begin, mut at) = (None, 0);
    for line in printed.split_inclusive('\n') {
        if line.starts_with("block0 {") {
            begin = Some(at);
        } else if is_bytes(line) && begin.is_some() {
            return printed.get(begin?..at);
        }
        at += line.len();
    }
    None
}

/// The blocks of a kernel: `block1 {`, a line for each instruction, `} -> block2 block3  from block0`.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(label) = line.strip_suffix(" {").filter(|of| of.starts_with("block")) {
            blocks.push(Block {
                label: label.to_owned(),
                instructions: Vec::new(),
            });
        } else if let Some(block) = blocks.last_mut() {
            match line.strip_prefix('}') {
                Some(after) => block.instructions.extend(followers(after)),
                None => block.instructions.extend(instruction(line)),
            }
        }
    }
    blocks
}

/// The blocks that follow, as jumps that are no instructions.
fn followers(after: &str) -> Vec<Instruction> {
    let after = after.split("from").next().unwrap_or_default();
    let labels = after
        .split_whitespace()
        .filter(|word| word.starts_with("block"));
    let jump = |label: Option<String>| Instruction {
        times: 0,
        to: label,
        leaves: true,
        ..Instruction::new(Class::Branch)
    };
    let mut all: Vec<_> = labels.map(|label| jump(Some(label.to_owned()))).collect();
    all.push(jump(None));
    all
}

fn instruction(line: &str) -> Option<Instruction> {
    let code = line.split_once(" = ").map_or(line, |(_, code)| code);
    let name = code.split_whitespace().next()?;
    let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
    Some(Instruction::new(match name {
        _ if begins(&["ffma", "hfma"]) => Class::Fma(1),
        "local_load" => Class::SharedLoad(bytes(line)),
        "local_store" => Class::SharedStore(bytes(line)),
        "device_load" | "texture_load" | "image_load" => Class::Load(bytes(line)),
        "device_store" | "image_write" => Class::Store,
        "stack_load" => Class::Load(bytes(line)),
        "stack_store" => Class::Store,
        "threadgroup_barrier" => Class::Barrier,
        "wait" => Class::Wait,
        _ if begins(&[
            "if_",
            "else_",
            "while_",
            "jmp_",
            "pop_exec",
            "push_exec",
            "break",
            "stop",
        ]) =>
        {
            Class::Branch
        }
        _ => Class::Alu,
    }))
}

/// Bytes of a memory instruction: words, or halves if its register is one, times the components in its mask.
fn bytes(line: &str) -> u32 {
    let masks = line.split([',', ' ']);
    let is_mask = |word: &&str| !word.is_empty() && "xyzw".contains(*word);
    let components = masks
        .clone()
        .find(is_mask)
        .map_or(1, |mask| mask.len() as u32);
    let mut registers = masks.filter(|word| word.trim_start_matches(['$', '^']).starts_with('r'));
    let register = registers.next().unwrap_or_default();
    let is_half = register.ends_with(['l', 'h']);
    components * if is_half { 2 } else { 4 }
}
