//! Handles: numbers in place of pointers; an invalid handle is an error, not undefined behaviour.

use crate::border::{Failure, invalid};
use std::collections::BTreeMap;
use std::ptr::without_provenance_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The objects of one kind that C holds handles of.
pub struct Handles<T> {
    /// The kind's name in errors.
    name: &'static str,
    /// The low bits of the kind's handles, which differ from those of other kinds and of addresses.
    kind: usize,
    live: Mutex<Live<T>>,
}

struct Live<T> {
    made: usize,
    by_number: BTreeMap<usize, Arc<T>>,
}

/// A handle is a multiple of `STEP` plus its kind. Kinds are odd: no handle equals an aligned address.
const STEP: usize = 16;

impl<T> Handles<T> {
    pub const fn new(name: &'static str, kind: usize) -> Self {
        assert!(kind < STEP && kind % 2 == 1);
        Self {
            name,
            kind,
            live: Mutex::new(Live {
                made: 0,
                by_number: BTreeMap::new(),
            }),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live<T>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle of `value`; its number is never reused.
    pub fn add<C>(&self, value: T) -> *mut C {
        let mut live = self.live();
        live.made += 1;
        let number = live.made * STEP + self.kind;
        live.by_number.insert(number, Arc::new(value));
        without_provenance_mut(number)
    }

    /// The object of `handle`. The `Arc` keeps it alive even if the handle is freed.
    pub fn get<C>(&self, handle: *const C) -> Result<Arc<T>, Failure> {
        let found = self.live().by_number.get(&handle.addr()).cloned();
        found.ok_or_else(|| self.unknown(handle))
    }

    /// Frees `handle`; null does nothing.
    pub fn remove<C>(&self, handle: *const C) -> Result<(), Failure> {
        // The object is dropped after the lock: dropping may take long.
        let removed = self.live().by_number.remove(&handle.addr());
        match removed {
            None if !handle.is_null() => Err(self.unknown(handle)),
            _ => Ok(()),
        }
    }

    fn unknown<C>(&self, handle: *const C) -> Failure {
        match handle.is_null() {
            true => invalid(format!("{} is null", self.name)),
            false => invalid(format!(
                "{handle:p} is not a {} handle, or was freed before",
                self.name
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_known_until_it_is_freed_and_by_its_own_kind_alone() {
        let (letters, numbers) = (Handles::new("letter", 1), Handles::new("number", 3));
        let a: *mut u8 = letters.add('a');
        let one: *mut u8 = numbers.add(1);
        assert_eq!(letters.get(a).ok().as_deref(), Some(&'a'));
        assert_eq!(
            letters.get(one).err().unwrap().message,
            format!("{one:p} is not a letter handle, or was freed before")
        );
        let held = letters.get(a).ok().unwrap();
        assert!(letters.remove(a).is_ok() && letters.remove(a).is_err());
        assert!(letters.get(a).is_err());
        assert_eq!(*held, 'a');
        let b: *mut u8 = letters.add('b');
        assert_ne!(a, b);
        let null: *const u8 = std::ptr::null();
        assert!(letters.remove(null).is_ok());
        assert_eq!(letters.get(null).err().unwrap().message, "letter is null");
    }
}
