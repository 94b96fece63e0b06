//! What the networks on one device share, for as long as one of them has it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Of one device: a value of any type for each key. It keeps nothing alive itself, and knows none of the types, which
/// stand above it.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>);

/// A type, the identity of what a value of it belongs to, and whether that is kept in f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(TypeId, Option<(u64, bool)>);

impl Shared {
    /// The one `T` of the device.
    pub(super) fn only<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        self.found_or_new(Key(TypeId::of::<T>(), None))
    }

    /// The `T` that belongs to `identity`, in f16 or not.
    pub(super) fn of<T: Any + Default + Send + Sync>(&self, identity: u64, half: bool) -> Arc<T> {
        self.found_or_new(Key(TypeId::of::<T>(), Some((identity, half))))
    }

    /// What is there, if somebody still has it.
    fn found_or_new<T: Any + Default + Send + Sync>(&self, key: Key) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(&key).and_then(Weak::upgrade);
        if let Some(Ok(found)) = found.map(Arc::downcast) {
            return found;
        }
        all.retain(|_, value| value.strong_count() > 0);
        let new: Arc<T> = Arc::default();
        let weak = Arc::downgrade(&new);
        all.insert(key, weak);
        new
    }
}
