//! Activation buffers by liveness: tensors that do not live at the same time share one.
//!
//! A dispatch may not read and write one buffer, so a tensor has a buffer to itself while it lives.

use super::Place;
use super::groups::Group;
use super::program::Program;
use crate::graph::NodeId;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Every activation's place, and the sizes of the buffers.
pub(super) struct Places {
    pub of: HashMap<NodeId, Place>,
    pub slots: Vec<u64>,
}

/// The first and the last operation that need a tensor's buffer, and the buffer's size.
struct Life {
    id: NodeId,
    first: usize,
    last: usize,
    bytes: u64,
}

impl Life {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Gives every activation a buffer, the largest activation first: the smallest buffer that is free all its life, or a
/// new one.
pub(super) fn places(program: &Program, groups: &[Group]) -> Places {
    let mut lives = lives(program, groups);
    lives.sort_by_key(|life| Reverse(life.bytes));
    let mut slots: Vec<Vec<Life>> = Vec::new();
    for life in lives {
        let is_free = |slot: &&mut Vec<Life>| slot.iter().all(|other| !life.meets(other));
        match slots.iter_mut().rev().find(is_free) {
            Some(slot) => slot.push(life),
            None => slots.push(vec![life]),
        }
    }
    let mut places = Places {
        of: HashMap::new(),
        slots: slots.iter().map(|slot| slot[0].bytes).collect(),
    };
    for (slot, lives) in slots.iter().enumerate() {
        for id in lives.iter().map(|life| life.id) {
            let (shape, format) = (program.shape(id), program.formats[&id]);
            let place = Place {
                slot,
                shape,
                format,
            };
            places.of.insert(id, place);
        }
    }
    places
}

/// A tensor that a group reads from outside, or keeps as a whole, lives through all bands; a tensor that is held one
/// band at a time lives only within each band.
fn lives(program: &Program, groups: &[Group]) -> Vec<Life> {
    let last_reads = program.last_reads();
    let last_read = |id: NodeId| last_reads.get(&id).copied();
    let group_end = |i: usize| {
        let group = groups.iter().find(|g| g.operations.contains(&i));
        group.map_or(i, |g| g.operations.end - 1)
    };
    let last_of_whole = |id: NodeId| match program.outputs.contains(&id) {
        true => usize::MAX,
        false => last_read(id).map_or(0, group_end),
    };
    let input = program.graph.input();
    let mut lives = vec![Life {
        id: input,
        first: 0,
        last: last_of_whole(input),
        bytes: program.bytes(input, program.rows(input)),
    }];
    for group in groups {
        for (position, i) in group.operations.clone().enumerate() {
            let id = program.operations[i].id;
            let is_output = program.outputs.contains(&id);
            let (first, last) = match group.windowed(id) {
                // Until the end of the band, when it is read back.
                Some(_) if is_output => (i, group.operations.end - 1),
                Some(_) => (i, last_read(id).unwrap_or(i)),
                None => (group.operations.start, last_of_whole(id)),
            };
            let bytes = group.bytes(program, position);
            lives.push(Life {
                id,
                first,
                last,
                bytes,
            });
        }
    }
    lives
}
