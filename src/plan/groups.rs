//! Groups of operations that run together, band by band, if a tensor between them is larger than a buffer may be.
//!
//! A band computes a share of the rows of the group's last outputs. Walking backwards through the operations, `Rows`
//! gives the rows of every tensor that the share needs; a tensor that nothing outside the group reads is held as only
//! these rows. Rows that two shares need are computed twice, by the same arithmetic, so that no result depends on the
//! bands.

use super::program::Program;
use crate::error::{Result, bail};
use crate::graph::NodeId;
use std::collections::HashMap;
use std::ops::Range;

/// Consecutive operations that run together, band by band; most run alone, in one band.
pub(super) struct Group {
    pub operations: Range<usize>,
    /// The output of each operation.
    tensors: Vec<GroupTensor>,
    pub bands: Vec<Band>,
}

struct GroupTensor {
    id: NodeId,
    /// Whether it is read after the group, or requested.
    kept: bool,
    /// Whether its buffer holds the rows of one band at a time.
    windowed: bool,
}

/// What one band computes, for the output of each operation of the group. Rows count through the batch.
pub(super) struct Band {
    /// The rows that are computed; the buffer of a windowed tensor holds no others.
    pub rows: Vec<Range<usize>>,
    /// Of a kept tensor, the rows that belong to this band and no other.
    pub shares: Vec<Range<usize>>,
}

/// Rows of an operation's output that all bands together compute.
#[derive(Clone, Copy)]
pub(super) struct RowCount {
    pub computed: usize,
    /// Rows among them that an earlier band has already computed.
    pub again: usize,
}

/// The operations in the smallest groups that make every tensor fit a buffer.
///
/// # Errors
/// `Limit` if the input is too large, or the rows that a single output row of a group needs.
pub(super) fn groups(program: &Program) -> Result<Vec<Group>> {
    let input = program.graph.input();
    if program.bytes(input, program.rows(input)) > program.target.device.max_buffer_bytes {
        return too_large(program, input, "");
    }
    let last_reads = program.last_reads();
    let mut runs: Vec<Range<usize>> = Vec::new();
    // Operations before this position join the current run.
    let mut end = 0;
    for (i, operation) in program.operations.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if i < end => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
        if program.is_too_large(operation.id) {
            let last = last_reads.get(&operation.id).copied().unwrap_or(i);
            end = end.max(last + 1);
        }
    }
    let group = |run| Group::new(program, run, &last_reads);
    runs.into_iter().map(group).collect()
}

impl Group {
    fn new(
        program: &Program,
        operations: Range<usize>,
        last_reads: &HashMap<NodeId, usize>,
    ) -> Result<Self> {
        let of_run = &program.operations[operations.clone()];
        let cut = of_run.iter().any(|o| program.is_too_large(o.id));
        let tensor = |id: NodeId| {
            let read_later = last_reads.get(&id).is_some_and(|i| *i >= operations.end);
            let kept = read_later || program.outputs.contains(&id);
            GroupTensor {
                id,
                kept,
                windowed: cut && (!kept || program.is_too_large(id)),
            }
        };
        let mut group = Self {
            tensors: of_run.iter().map(|o| tensor(o.id)).collect(),
            operations,
            bands: Vec::new(),
        };
        group.bands = group.cut(program, 1);
        if cut {
            group.cut_to_fit(program)?;
        }
        Ok(group)
    }

    /// Adds bands until every tensor fits a buffer.
    fn cut_to_fit(&mut self, program: &Program) -> Result<()> {
        let kept = self.tensors.iter().filter(|tensor| tensor.kept);
        let most = kept.map(|tensor| program.rows(tensor.id)).max();
        let most = most.unwrap_or(1);
        let fits = |group: &Self, i: usize| {
            group.bytes(program, i) <= program.most_bytes(group.tensors[i].id)
        };
        while let Some(i) = (0..self.tensors.len()).find(|i| !fits(self, *i)) {
            let count = self.bands.len();
            if count >= most {
                let rows = self.bands.iter().map(|band| band.rows[i].len()).max();
                let even = format!(
                    ", and the {} rows of it that are needed at once {} MiB",
                    rows.unwrap_or(0),
                    self.bytes(program, i).div_ceil(1 << 20)
                );
                return too_large(program, self.tensors[i].id, &even);
            }
            self.bands = self.cut(program, (count + (count / 8).max(1)).min(most));
        }
        Ok(())
    }

    /// The group in `count` bands.
    fn cut(&self, program: &Program, count: usize) -> Vec<Band> {
        (0..count).map(|k| self.band(program, k, count)).collect()
    }

    /// Band `k` of `count`: of every tensor its share, if it is kept, and the rows that later operations of the
    /// band read.
    fn band(&self, program: &Program, k: usize, count: usize) -> Band {
        let mut needed: HashMap<NodeId, Range<usize>> = HashMap::new();
        let (mut all_rows, mut shares) = (Vec::new(), Vec::new());
        for (i, tensor) in self.operations.clone().zip(&self.tensors).rev() {
            let id = tensor.id;
            let share = match tensor.kept {
                true => share_begin(program, id, k, count)..share_begin(program, id, k + 1, count),
                false => 0..0,
            };
            let rows = hull(&share, needed.get(&id).unwrap_or(&(0..0)));
            if !rows.is_empty() {
                for (input, at) in program.reads(i) {
                    let more = at.needed(rows.clone(), program.shape(id), program.shape(input));
                    let known = needed.entry(input).or_insert(0..0);
                    *known = hull(known, &more);
                }
            }
            all_rows.push(rows);
            shares.push(share);
        }
        all_rows.reverse();
        shares.reverse();
        Band {
            rows: all_rows,
            shares,
        }
    }

    /// The rows of a tensor that its buffer holds during `band`: all, unless this group makes and windows it.
    pub(super) fn held(&self, program: &Program, band: &Band, id: NodeId) -> Range<usize> {
        match self.windowed(id) {
            Some(i) => band.rows[i].clone(),
            None => 0..program.rows(id),
        }
    }

    /// The position in the group of the operation that makes `id`, if the group windows it.
    pub(super) fn windowed(&self, id: NodeId) -> Option<usize> {
        self.tensors.iter().position(|t| t.id == id && t.windowed)
    }

    /// Bytes of the buffer that the output of the group's operation number `i` needs.
    pub(super) fn bytes(&self, program: &Program, i: usize) -> u64 {
        let GroupTensor { id, windowed, .. } = self.tensors[i];
        let rows = match windowed {
            true => self.bands.iter().map(|band| band.rows[i].len()).max(),
            false => Some(program.rows(id)),
        };
        program.bytes(id, rows.unwrap_or(0))
    }

    /// How much of its output the group's operation number `i` computes.
    pub(super) fn work(&self, i: usize) -> RowCount {
        let mut work = RowCount {
            computed: 0,
            again: 0,
        };
        let mut end = 0;
        for rows in self.bands.iter().map(|band| &band.rows[i]) {
            work.computed += rows.len();
            work.again += end.min(rows.end).saturating_sub(rows.start);
            end = end.max(rows.end);
        }
        work
    }
}

/// The row of a tensor at which the share of band `k` of `count` begins.
fn share_begin(program: &Program, id: NodeId, k: usize, count: usize) -> usize {
    let rows = program.rows(id);
    let unit = program.row_unit(id);
    match k == count {
        true => rows,
        false => (rows as u64 * k as u64 / count as u64) as usize / unit * unit,
    }
}

/// The smallest range that holds both.
fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

/// The error for a tensor that cannot be held, with the figures; `even` names the smallest part that is still too large.
fn too_large<T>(program: &Program, id: NodeId, even: &str) -> Result<T> {
    bail!(
        Limit,
        "{} of shape {} takes {} MiB{even}; the device's buffers hold at most {} MiB: use a smaller picture or \
         batch",
        program.name(id),
        program.shape(id),
        program.bytes(id, program.rows(id)).div_ceil(1 << 20),
        program.most_bytes(id) >> 20
    )
}
