//! Work on all cores; in a browser, on the only one. The home of rayon.

use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use beside::beside;

/// Calls `work(i, chunk)` for every `size` elements of `data`, on all cores; stops at the first error.
pub(crate) fn try_chunks<T: Send>(
    data: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) -> Result<()> + Sync + Send,
) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        data.par_chunks_mut(size)
            .enumerate()
            .try_for_each(|(i, chunk)| work(i, chunk))
    }
    #[cfg(target_arch = "wasm32")]
    data.chunks_mut(size)
        .enumerate()
        .try_for_each(|(i, chunk)| work(i, chunk))
}

/// Calls `work` for each item on all cores and returns the results in order; stops at the first error.
pub(crate) fn try_map<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        items.par_iter().map(work).collect()
    }
    #[cfg(target_arch = "wasm32")]
    items.iter().map(work).collect()
}

/// Calls `work` for each item on all cores and returns the results in order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        items.par_iter().map(work).collect()
    }
    #[cfg(target_arch = "wasm32")]
    items.iter().map(work).collect()
}

/// Calls `here` on this thread, and `meanwhile` on other threads at the same time.
pub(crate) fn meanwhile<T>(meanwhile: impl FnOnce() + Send, here: impl FnOnce() -> T) -> T {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::in_place_scope(|scope| {
        scope.spawn(|_| meanwhile());
        here()
    });
    #[cfg(target_arch = "wasm32")]
    {
        let done = here();
        meanwhile();
        done
    }
}

/// Calls `work` now: there is no other thread.
#[cfg(target_arch = "wasm32")]
pub(crate) fn beside<T>(work: impl FnOnce() -> T) -> std::future::Ready<T> {
    std::future::ready(work())
}

#[cfg(not(target_arch = "wasm32"))]
mod beside {
    use std::any::Any;
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::pin::Pin;
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};

    /// Starts `work` on other threads and returns a future of its result. Dropping the future waits for the end and
    /// drops the result here: on a worker thread, a result that holds the last device would end the driver while the
    /// program ends too.
    ///
    /// On a worker thread of the pool, `work` runs at once: there may be no other thread for it.
    pub(crate) fn beside<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Beside<T> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Running(None)),
            ended: Condvar::new(),
        });
        let for_work = shared.clone();
        let run = move || for_work.end(catch_unwind(AssertUnwindSafe(work)));
        match rayon::current_thread_index() {
            Some(_) => run(),
            None => rayon::spawn(run),
        }
        Beside(shared)
    }

    /// See [`beside`].
    pub(crate) struct Beside<T>(Arc<Shared<T>>);

    struct Shared<T> {
        state: Mutex<State<T>>,
        ended: Condvar,
    }

    enum State<T> {
        Running(Option<Waker>),
        /// The result, or the payload of its panic.
        Ended(Result<T, Box<dyn Any + Send>>),
        Taken,
    }

    impl<T> Shared<T> {
        fn end(&self, result: Result<T, Box<dyn Any + Send>>) {
            let before = std::mem::replace(&mut *self.lock(), State::Ended(result));
            self.ended.notify_all();
            if let State::Running(Some(waker)) = before {
                waker.wake();
            }
        }

        fn lock(&self) -> MutexGuard<'_, State<T>> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl<T> Future for Beside<T> {
        type Output = T;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
            let mut state = self.0.lock();
            match std::mem::replace(&mut *state, State::Taken) {
                State::Ended(Ok(value)) => Poll::Ready(value),
                State::Ended(Err(panic)) => resume_unwind(panic),
                State::Running(_) => {
                    *state = State::Running(Some(context.waker().clone()));
                    Poll::Pending
                }
                State::Taken => Poll::Pending,
            }
        }
    }

    impl<T> Drop for Beside<T> {
        fn drop(&mut self) {
            let is_running = |state: &mut State<T>| matches!(state, State::Running(_));
            let state = self.0.ended.wait_while(self.0.lock(), is_running);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let result = std::mem::replace(&mut *state, State::Taken);
            drop(state);
            drop(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn the_result_is_awaited_and_a_dropped_future_waits_too() {
        assert_eq!(pollster::block_on(beside(|| 6 * 7)), 42);
        let is_done = Arc::new(AtomicBool::new(false));
        let done = is_done.clone();
        drop(beside(move || {
            std::thread::sleep(Duration::from_millis(20));
            done.store(true, Ordering::Relaxed);
        }));
        assert!(is_done.load(Ordering::Relaxed));
    }

    #[test]
    fn the_result_of_a_dropped_future_is_dropped_before_it() {
        for _ in 0..200 {
            let result = Arc::new(());
            let returned = result.clone();
            drop(beside(move || returned));
            assert_eq!(Arc::strong_count(&result), 1);
        }
    }

    #[test]
    fn a_panic_reaches_the_waiting_thread() {
        let panicking = beside(|| -> u8 { panic!("as it should") });
        let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(panicking)));
        assert!(caught.is_err());
    }

    #[test]
    fn it_ends_even_on_the_only_thread_of_a_pool() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let inside = || pollster::block_on(beside(|| 1));
        assert_eq!(pool.unwrap().install(inside), 1);
    }
}
