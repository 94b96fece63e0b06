//! Activation buffers by liveness: a tensor takes over the buffer of one that nobody reads any more.
//!
//! A dispatch may not read and write one buffer, so a tensor has a buffer to itself while it lives.

use super::Place;
use super::groups::Group;
use super::program::Program;
use crate::graph::NodeId;
use std::collections::HashMap;

/// Every activation's place, and the sizes of the buffers.
pub(super) struct Places {
    pub of: HashMap<NodeId, Place>,
    pub slots: Vec<u64>,
}

/// Gives every activation a buffer. What a group reads from outside, and what it keeps, lives through all its
/// bands; a tensor of which memory holds a band at a time lives within each band alone.
pub(super) fn places(program: &Program, groups: &[Group]) -> Places {
    let last_reads = program.last_reads();
    let mut places = Places {
        of: HashMap::new(),
        slots: Vec::new(),
    };
    let mut free = Vec::new();
    let input = program.graph.input();
    let bytes = program.bytes(input, program.rows(input));
    places.put(program, input, bytes, &mut free);
    for group in groups {
        let id = |i: usize| program.operations[group.operations.start + i].id;
        let is_output = |id: NodeId| program.outputs.contains(&id);
        let (windowed, whole): (Vec<_>, Vec<_>) =
            (0..group.operations.len()).partition(|i| group.windowed(id(*i)).is_some());
        for i in whole {
            places.put(program, id(i), group.bytes(program, i), &mut free);
        }
        let mut dead_after = Vec::new();
        for (i, operation) in group.operations.clone().enumerate() {
            if windowed.contains(&i) {
                places.put(program, id(i), group.bytes(program, i), &mut free);
            }
            let mut dead: Vec<_> = program
                .reads(operation)
                .filter(|(id, _)| last_reads[id] == operation && !is_output(*id))
                .map(|(id, _)| id)
                .collect();
            dead.sort_unstable();
            dead.dedup();
            let (now, later): (Vec<_>, Vec<_>) =
                dead.into_iter().partition(|id| group.windowed(*id).is_some());
            free.extend(now.iter().map(|id| places.of[id].slot));
            dead_after.extend(later.iter().map(|id| places.of[id].slot));
        }
        free.extend(dead_after);
        let streamed = windowed.iter().map(|i| id(*i)).filter(|id| is_output(*id));
        free.extend(streamed.map(|id| places.of[&id].slot));
    }
    places
}

impl Places {
    /// Gives `id` the free buffer that fits `bytes` best: the smallest that is large enough, else the largest,
    /// which then grows; a new one if none is free.
    fn put(&mut self, program: &Program, id: NodeId, bytes: u64, free: &mut Vec<usize>) {
        let size = |slot: usize| self.slots[slot];
        let best = (0..free.len())
            .filter(|&i| size(free[i]) >= bytes)
            .min_by_key(|&i| size(free[i]))
            .or_else(|| (0..free.len()).max_by_key(|&i| size(free[i])));
        let slot = match best {
            Some(i) => free.swap_remove(i),
            None => {
                self.slots.push(0);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = self.slots[slot].max(bytes);
        let (shape, format) = (program.shape(id), program.formats[&id]);
        let place = Place {
            slot,
            shape,
            format,
        };
        self.of.insert(id, place);
    }
}
