//! The passes over a draft, a file each, in the order in which they run.

mod cut_padding;
mod expand_stages;
mod fuse;
mod load_constants;
mod lower;
mod round_sums;
mod select_kernels;

use super::draft::Draft;
use crate::error::Result;
pub(super) use fuse::fuse_where;
pub(super) use lower::lower_nodes;

/// A change to a draft.
pub(super) type Pass = fn(&mut Draft) -> Result<()>;

/// The passes that decide which operations run.
pub(super) const OPERATIONS: [Pass; 3] = [lower::lower, fuse::fuse, cut_padding::cut_padding];

/// The passes that decide which kernels run them.
pub(super) const KERNELS: [Pass; 4] = [
    expand_stages::expand_stages,
    round_sums::round_sums,
    select_kernels::select_kernels,
    load_constants::load_constants,
];
