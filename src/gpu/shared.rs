//! What the networks on one device share, for as long as one of them has it.

use super::pipelines::Pipelines;
use super::weights::Weights;
use crate::parameters::Parameters;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Of one device. It keeps nothing alive itself.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pipelines: Mutex<Weak<Pipelines>>,
    /// By the identity of their parameters, and whether they are kept in f16.
    weights: Mutex<HashMap<(u64, bool), Weak<Weights>>>,
}

impl Shared {
    pub(super) fn pipelines(&self) -> Arc<Pipelines> {
        found_or_new(&mut lock(&self.pipelines))
    }

    pub(super) fn weights(&self, parameters: &Parameters, half: bool) -> Arc<Weights> {
        let mut all = lock(&self.weights);
        all.retain(|_, weights| weights.strong_count() > 0);
        found_or_new(all.entry((parameters.identity(), half)).or_default())
    }
}

/// What is there, if somebody still has it.
fn found_or_new<T: Default>(held: &mut Weak<T>) -> Arc<T> {
    if let Some(found) = held.upgrade() {
        return found;
    }
    let new = Arc::default();
    *held = Arc::downgrade(&new);
    new
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
