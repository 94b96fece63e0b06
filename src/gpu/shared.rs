//! Values that the networks on one device share, such as weights and pipelines. A value lives as long as a network uses
//! it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The shared values of one device: weak references, one per key. Values may be of any type, so that this module
/// imports none.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>);

/// The type of a value. A value that belongs to parameters also has their identity, and whether they are in f16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(TypeId, Option<(u64, bool)>);

impl Shared {
    /// The device's only `T`, created if there is none.
    pub(super) fn only<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        self.found_or_new(Key(TypeId::of::<T>(), None))
    }

    /// The `T` of the parameters with this `identity`, in f16 if `half`, created if there is none.
    pub(super) fn of<T: Any + Default + Send + Sync>(&self, identity: u64, half: bool) -> Arc<T> {
        self.found_or_new(Key(TypeId::of::<T>(), Some((identity, half))))
    }

    /// The value under `key` if it is still in use, else a new one.
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
