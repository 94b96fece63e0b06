//! Items handed from one thread to another, in order and few at a time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What becomes of an item for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its sender waits.
    Wait,
    /// It takes the place of the oldest item, which is dropped.
    Drop,
}

/// A queue between two threads.
#[derive(Debug)]
pub struct Handoff<T> {
    room: usize,
    full: Full,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    dropped: usize,
    /// No item follows, or none is wanted.
    is_closed: bool,
}

/// What [`Handoff::take`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    Item(T),
    /// There is none yet.
    Nothing,
    /// There is none, and none follows.
    End,
}

impl<T> Handoff<T> {
    pub fn new(room: usize, full: Full) -> Self {
        Self {
            room,
            full,
            state: Mutex::new(State {
                items: VecDeque::new(),
                dropped: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds an item; false if none is wanted any more.
    pub fn put(&self, item: T) -> bool {
        let mut state = self.lock();
        while self.full == Full::Wait && state.items.len() >= self.room && !state.is_closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return false;
        }
        if state.items.len() >= self.room {
            state.items.pop_front();
            state.dropped += 1;
        }
        state.items.push_back(item);
        self.changed.notify_all();
        true
    }

    /// Takes the oldest item; waits up to `patience` for one.
    pub fn take(&self, patience: Duration) -> Taken<T> {
        let no_item = |state: &mut State<T>| state.items.is_empty() && !state.is_closed;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, no_item);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.items.pop_front() {
            Some(item) => {
                self.changed.notify_all();
                Taken::Item(item)
            }
            None if state.is_closed => Taken::End,
            None => Taken::Nothing,
        }
    }

    /// From now on nothing is put in; what is there can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// The number of items that were dropped.
    pub fn dropped(&self) -> usize {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn items_come_in_order_and_the_sender_waits_for_room() {
        let handoff = Handoff::new(2, Full::Wait);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!((0..100).all(|i| handoff.put(i)));
                handoff.close();
            });
            for expected in 0..100 {
                assert_eq!(handoff.take(LONG), Taken::Item(expected));
                assert!(handoff.lock().items.len() <= 2);
            }
            assert_eq!(handoff.take(LONG), Taken::End);
        });
        assert_eq!(handoff.dropped(), 0);
    }

    #[test]
    fn late_items_give_way_to_new_ones() {
        let handoff = Handoff::new(1, Full::Drop);
        assert_eq!(handoff.take(NOW), Taken::Nothing);
        assert!((0..5).all(|i| handoff.put(i)));
        assert_eq!(handoff.take(NOW), Taken::Item(4));
        assert_eq!(handoff.dropped(), 4);
        handoff.close();
        assert!(!handoff.put(5));
        assert_eq!(handoff.take(NOW), Taken::<i32>::End);
    }

    #[test]
    fn a_waiting_sender_is_told_that_nothing_is_wanted() {
        let handoff = Handoff::new(1, Full::Wait);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| (0..3).all(|i| handoff.put(i)));
            assert_eq!(handoff.take(LONG), Taken::Item(0));
            handoff.close();
            assert!(!sender.join().unwrap());
        });
    }
}
