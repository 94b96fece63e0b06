//! AMD's instructions, as RADV prints them.

use super::{Block, Class, Instruction, split};

/// The blocks of a kernel: a label `BB1:`, then a line for each instruction.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let lines = text
        .lines()
        .map(|line| line.split(';').next().unwrap_or_default().trim());
    split(lines.filter(|line| !line.is_empty()), label, instruction)
}

fn label(line: &str) -> Option<&str> {
    line.strip_suffix(':')
        .filter(|label| label.starts_with("BB"))
}

fn instruction(line: &str) -> Option<Instruction> {
    let name = line.split_whitespace().next()?;
    let mut instruction = Instruction::new(class(line, name)?);
    if name.starts_with("s_branch") || name.starts_with("s_cbranch") {
        instruction.to = line.split_whitespace().nth(1).map(str::to_owned);
    }
    instruction.leaves = name == "s_branch" || name == "s_endpgm";
    Some(instruction)
}

fn class(line: &str, name: &str) -> Option<Class> {
    let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
    Some(match name {
        _ if begins(&["v_wmma", "v_swmma"]) => Class::Matrix(16 * 16 * 16),
        _ if name.starts_with("v_dual_") => {
            let multiply = ["v_dual_fmac", "v_dual_fmaak", "v_dual_fmamk"];
            match multiply
                .iter()
                .map(|of| line.matches(of).count())
                .sum::<usize>()
            {
                0 => Class::Alu,
                products => Class::Fma(products as u32),
            }
        }
        _ if begins(&["v_pk_fma_f16", "v_dot2"]) => Class::Fma(2),
        _ if begins(&[
            "v_fma_f", "v_fmac_f", "v_mac_f", "v_mad_f", "v_fmaak", "v_fmamk",
        ]) =>
        {
            Class::Fma(1)
        }
        _ if begins(&["v_fma_mix", "v_mad_mix"]) => Class::Fma(1),
        _ if begins(&["ds_load", "ds_read"]) => Class::SharedLoad(bytes(name)),
        _ if begins(&["ds_store", "ds_write"]) => Class::SharedStore(bytes(name)),
        _ if begins(&[
            "buffer_load",
            "global_load",
            "flat_load",
            "image_load",
            "tbuffer_load",
        ]) =>
        {
            Class::Load(bytes(name))
        }
        _ if begins(&["buffer_store", "global_store", "flat_store", "image_store"]) => Class::Store,
        _ if begins(&["s_barrier_wait"]) => Class::Wait,
        _ if begins(&["s_barrier"]) => Class::Barrier,
        _ if begins(&["s_branch", "s_cbranch", "s_endpgm"]) => Class::Branch,
        _ if begins(&[
            "s_wait", "s_delay", "s_nop", "s_clause", "s_inst", "s_sleep",
        ]) =>
        {
            Class::Wait
        }
        _ if name.starts_with("s_") => Class::Scalar,
        _ if name.starts_with("v_") || name.starts_with("ds_") => Class::Alu,
        _ if begins(&["buffer_", "global_", "flat_"]) => Class::Store,
        _ => return None,
    })
}

/// Bytes of a memory instruction, from the end of its name.
fn bytes(name: &str) -> u32 {
    let pairs = ["2addr", "read2", "write2"];
    let two = if pairs.iter().any(|pair| name.contains(pair)) {
        2
    } else {
        1
    };
    let of = |ends: &[&str]| ends.iter().any(|end| name.contains(end));
    let one = match name {
        _ if of(&["b128", "dwordx4"]) => 16,
        _ if of(&["b96", "dwordx3"]) => 12,
        _ if of(&["b64", "dwordx2"]) => 8,
        _ if of(&["u16", "i16", "b16", "d16", "short"]) => 2,
        _ if of(&["u8", "i8", "b8", "byte"]) => 1,
        _ => 4,
    };
    two * one
}
