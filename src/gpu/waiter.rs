//! Waiting for the device without keeping a thread of the program: a thread of our own does that, and
//! wakes the futures. In a browser the page's event loop does.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What the clock says, where there is one: not in a browser.
pub(crate) fn now() -> Option<Instant> {
    (!cfg!(target_arch = "wasm32")).then(Instant::now)
}

/// What the device may still write to when nobody waits for its work any more.
pub(super) trait Held: Debug + Send {
    /// Lets go of it: the work `succeeded`, or has failed.
    fn release(self: Box<Self>, succeeded: bool);
}

/// A future that resolves after a number of callbacks of the device, or with the first failure.
#[derive(Clone, Debug)]
pub(super) struct Signal(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: usize,
    failure: Option<String>,
    waker: Option<Waker>,
    completed: Option<Instant>,
    /// What nobody waits for any more, let go of when the device is done with it.
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
    /// A signal that waits for `things` to be done.
    pub(super) fn new(things: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            left: things,
            failure: None,
            waker: None,
            completed: None,
            abandoned: None,
        })))
    }

    /// One thing is done, or has failed.
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

    /// When it was completed, if it is and there is a clock.
    pub(super) fn completed(&self) -> Option<Instant> {
        self.lock().completed
    }

    /// Keeps `held` until the device is done with it.
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

    /// The thread that waits for a device, started when there is something to wait for.
    #[derive(Debug, Default)]
    pub(in super::super) struct Waiter(Mutex<Option<Thread>>);

    #[derive(Debug)]
    struct Thread {
        requests: Sender<Request>,
        handle: JoinHandle<()>,
    }

    /// A submission to wait for. Its signal fails unless the device has done it.
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
                self.signal.report(Err("nothing waits for it any more"));
            }
        }
    }

    impl Waiter {
        /// Has the callbacks of `submission` called when the device has done it; `signal` fails if it
        /// does not within `patience`.
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
                // A request that cannot be sent is dropped, and fails.
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
            // The program may end next, and the device with it: not while the thread still uses that.
            // The last handle to it may be let go of by what the thread itself has woken.
            if handle.thread().id() != std::thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}
