//! Waits for the device without blocking the program's threads: a thread of this crate polls the device and wakes the
//! futures. In a browser, the page's event loop does so.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The current time; `None` in a browser, which has no such clock.
pub(crate) fn now() -> Option<Instant> {
    (!cfg!(target_arch = "wasm32")).then(Instant::now)
}

/// A resource that the device may still use after its future was dropped.
pub(super) trait Held: Debug + Send {
    /// Releases the resource when the work has ended; `succeeded` is false if it failed.
    fn release(self: Box<Self>, succeeded: bool);
}

/// A future that resolves after a given number of device callbacks, or with the first failure.
#[derive(Clone, Debug)]
pub(super) struct Signal(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: usize,
    failure: Option<String>,
    waker: Option<Waker>,
    completed: Option<Instant>,
    /// The resource of a dropped future, released when the device is done with it.
    abandoned: Option<Box<dyn Held>>,
}

impl State {
    fn outcome(&self) -> Option<Result<(), String>> {
        match &self.failure {
            Some(failure) => Some(Err(failure.clone())),
            None => (self.left == 0).then_some(Ok(())),
        }
    }
}

impl Signal {
    /// A signal that resolves after `callbacks` successful reports.
    pub(super) fn new(callbacks: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            left: callbacks,
            failure: None,
            waker: None,
            completed: None,
            abandoned: None,
        })))
    }

    /// Reports the result of one callback.
    pub(super) fn report(&self, result: Result<(), impl ToString>) {
        let mut state = self.lock();
        if state.outcome().is_some() {
            return;
        }
        match result {
            Ok(()) => state.left -= 1,
            Err(failure) => state.failure = Some(failure.to_string()),
        }
        let Some(outcome) = state.outcome() else {
            return;
        };
        state.completed = now();
        let (waker, abandoned) = (state.waker.take(), state.abandoned.take());
        drop(state);
        if let Some(held) = abandoned {
            held.release(outcome.is_ok());
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The time of completion; `None` before it, and in a browser.
    pub(super) fn completed(&self) -> Option<Instant> {
        self.lock().completed
    }

    /// Keeps `held` until the device is done with it, then releases it.
    pub(super) fn abandon(&self, held: Box<dyn Held>) {
        let mut state = self.lock();
        match state.outcome() {
            None => state.abandoned = Some(held),
            Some(outcome) => {
                drop(state);
                held.release(outcome.is_ok());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Signal {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.lock();
        match state.outcome() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) use native::Waiter;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use super::Signal;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};
    use std::thread::JoinHandle;
    use std::time::Duration;

    /// The thread that polls a device, started for the first submission.
    #[derive(Debug, Default)]
    pub(in super::super) struct Waiter(Mutex<Option<Thread>>);

    #[derive(Debug)]
    struct Thread {
        requests: Sender<Request>,
        handle: JoinHandle<()>,
    }

    /// A submission to wait for. If the request is dropped unpolled, its signal fails.
    #[derive(Debug)]
    struct Request {
        submission: wgpu::SubmissionIndex,
        patience: Duration,
        signal: Signal,
        is_done: bool,
    }

    impl Drop for Request {
        fn drop(&mut self) {
            if !self.is_done {
                self.signal
                    .report(Err("the thread that polls the device has ended"));
            }
        }
    }

    impl Waiter {
        /// Polls the device until `submission` is complete, so that its callbacks run. `signal` fails after the timeout
        /// `patience`.
        pub(in super::super) fn watch(
            &self,
            device: &wgpu::Device,
            submission: wgpu::SubmissionIndex,
            patience: Duration,
            signal: &Signal,
        ) {
            let request = Request {
                submission,
                patience,
                signal: signal.clone(),
                is_done: false,
            };
            let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if thread.is_none() {
                match start(device) {
                    Ok(started) => *thread = Some(started),
                    Err(e) => return signal.report(Err(e)),
                }
            }
            if let Some(thread) = thread.as_ref() {
                // A request that cannot be sent is dropped, and its signal fails.
                let _ = thread.requests.send(request);
            }
        }
    }

    fn start(device: &wgpu::Device) -> std::io::Result<Thread> {
        let (requests, received) = channel();
        let device = device.clone();
        let handle = std::thread::Builder::new()
            .name("fullconv waiter".into())
            .spawn(move || wait_for_each(&device, received))?;
        Ok(Thread { requests, handle })
    }

    fn wait_for_each(device: &wgpu::Device, requests: Receiver<Request>) {
        for mut request in requests {
            let waited = device.poll(wgpu::PollType::Wait {
                submission_index: Some(request.submission.clone()),
                timeout: Some(request.patience),
            });
            request.is_done = true;
            if let Err(e) = waited {
                request.signal.report(Err(e));
            }
        }
    }

    impl Drop for Waiter {
        fn drop(&mut self) {
            let thread = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
            let Some(Thread { requests, handle }) = thread.take() else {
                return;
            };
            drop(requests);
            // Joins the thread, so that the device is not in use if the program ends now. A future woken by the thread
            // may drop the last `Gpu` on the thread itself, which must not join itself.
            if handle.thread().id() != std::thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}
