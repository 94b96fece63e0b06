use super::Block;
pub(super) fn blocks(_text: &str) -> Vec<Block> {
    Vec::new()
}
