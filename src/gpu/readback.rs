//! Completion of submissions, and readback of results through staging buffers.

use super::Gpu;
use super::saturation::Layers;
use super::waiter::{Held, Signal};
use crate::error::{Error, ErrorKind, Result, bail};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The timeout for work of `flops` floating-point operations: two minutes, plus its time at 0.5 GFLOP/s, below the
/// speed of any usable device.
pub(super) fn patience(flops: u64) -> Duration {
    Duration::from_secs(120 + flops / 500_000_000)
}

/// A future of the completion of `submission`, which must be the latest one.
pub(super) fn done(gpu: &Gpu, submission: wgpu::SubmissionIndex, patience: Duration) -> Done {
    let signal = Signal::new(1);
    let reported = signal.clone();
    let report = move || reported.report(Ok::<_, String>(()));
    gpu.queue().on_submitted_work_done(report);
    gpu.watch(submission, patience, &signal);
    Done(signal)
}

/// The completion of a submission; see [`done`].
pub(super) struct Done(Signal);

impl Done {
    /// Waits for the completion.
    ///
    /// # Errors
    /// `DeviceLost` if the device is lost, `Device` if it does not finish before the timeout.
    pub(super) async fn wait(self, gpu: &Gpu) -> Result<()> {
        check(gpu, self.0.await)
    }
}

/// Maps `buffer` after `submission` and returns its contents.
///
/// # Errors
/// `DeviceLost` if the device is lost, `Device` if the buffer cannot be mapped before the timeout.
pub(super) async fn read(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    patience: Duration,
) -> Result<Vec<u8>> {
    let signal = map(std::slice::from_ref(buffer));
    gpu.watch(submission, patience, &signal);
    let outcome = signal.await;
    check(gpu, outcome)?;
    copy(gpu, buffer)
}

/// Requests the mapping of `buffers` after all submissions so far. The signal resolves when all buffers are mapped.
fn map(buffers: &[wgpu::Buffer]) -> Signal {
    let signal = Signal::new(buffers.len());
    for buffer in buffers {
        let signal = signal.clone();
        buffer.map_async(wgpu::MapMode::Read, .., move |result| signal.report(result));
    }
    signal
}

fn check(gpu: &Gpu, outcome: Result<(), String>) -> Result<()> {
    gpu.check_lost()?;
    match outcome {
        Ok(()) => Ok(()),
        Err(failure) => bail!(Device, "{gpu} did not finish: {failure}"),
    }
}

/// The contents of a mapped buffer.
fn copy(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
    match buffer.get_mapped_range(..) {
        Ok(view) => Ok(view.to_vec()),
        Err(e) => {
            gpu.check_lost()?;
            let text = format!("a result could not be read back from {gpu}: {e}");
            Err(Error::new(ErrorKind::Device, text).with_source(e))
        }
    }
}

/// The staging buffers of all runs that may be in flight, a frame per run. A frame's buffers are created when first
/// needed.
#[derive(Debug)]
pub(super) struct Ring {
    device: wgpu::Device,
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    frames: Vec<Vec<wgpu::Buffer>>,
    waiting: Vec<Waker>,
}

impl Ring {
    pub(super) fn new(gpu: &Gpu, frames: usize) -> Arc<Self> {
        Arc::new(Self {
            device: gpu.device().clone(),
            free: Mutex::new(Free {
                frames: vec![Vec::new(); frames],
                waiting: Vec::new(),
            }),
        })
    }

    /// Waits for a free frame; the one returned last comes first.
    pub(super) async fn take(self: &Arc<Self>) -> Frame {
        std::future::poll_fn(|context| {
            let mut free = self.lock();
            match free.frames.pop() {
                Some(buffers) => Poll::Ready(Frame {
                    ring: self.clone(),
                    buffers,
                }),
                None => {
                    free.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Unmaps `buffers`. The error scope hides errors about destroyed buffers of a lost device from the program.
    fn unmap(&self, buffers: &[wgpu::Buffer]) {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        buffers.iter().for_each(wgpu::Buffer::unmap);
        drop(scope.pop());
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The staging buffers of one run, one per part that is read back; empty before the first use.
#[derive(Debug)]
pub(super) struct Frame {
    ring: Arc<Ring>,
    pub(super) buffers: Vec<wgpu::Buffer>,
}

impl Frame {
    /// Returns the frame to the ring: with its buffers, unmapped, if they `are_mapped` after a successful run, else
    /// without buffers.
    fn give_back(mut self, are_mapped: bool) {
        if are_mapped {
            self.ring.unmap(&self.buffers);
        } else {
            self.buffers.clear();
        }
    }
}

impl Held for Frame {
    fn release(self: Box<Self>, succeeded: bool) {
        self.give_back(succeeded);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut free = self.ring.lock();
        free.frames.push(std::mem::take(&mut self.buffers));
        let waiting = std::mem::take(&mut free.waiting);
        drop(free);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A submitted run: a future of its outputs, as bytes in the layout of device memory.
///
/// It borrows nothing, so further runs can be submitted before it resolves. If it is dropped, the device still
/// completes the run; then the staging buffers are free for the next one.
#[derive(Debug)]
#[must_use = "the outputs of the run are lost unless this future is awaited"]
pub struct Pending {
    gpu: Gpu,
    signal: Signal,
    /// `None` after the outputs were read.
    frame: Option<Frame>,
    /// The output of which each buffer holds a part, in the order of the buffers.
    parts: Vec<usize>,
    /// Only for plans in f16: the last buffer holds the words of these layers.
    layers: Option<Layers>,
}

impl Pending {
    /// Maps the buffers of `frame` after `submission`, the last one that copies to them. `parts` is the output of which
    /// each buffer holds a part.
    pub(super) fn new(
        gpu: &Gpu,
        frame: Frame,
        submission: wgpu::SubmissionIndex,
        patience: Duration,
        parts: Vec<usize>,
    ) -> Self {
        let signal = map(&frame.buffers);
        gpu.watch(submission, patience, &signal);
        Self {
            gpu: gpu.clone(),
            signal,
            frame: Some(frame),
            parts,
            layers: None,
        }
    }

    /// The same run, which fails if a value of `layers` was beyond f16. The last buffer holds the words of `layers`.
    pub(super) fn unless_saturated(mut self, layers: Option<Layers>) -> Self {
        self.layers = layers;
        self
    }

    /// The time at which the device completed the run; `None` before completion, and in a browser.
    pub fn completed(&self) -> Option<Instant> {
        self.signal.completed()
    }

    /// The outputs, joined from the mapped `buffers`, which hold one part each.
    fn outputs(&self, buffers: &[wgpu::Buffer]) -> Result<Vec<Vec<u8>>> {
        if let (Some(layers), Some(words)) = (&self.layers, buffers.last()) {
            layers.check(&copy(&self.gpu, words)?)?;
        }
        let mut outputs: Vec<Vec<u8>> = Vec::new();
        for (buffer, output) in buffers.iter().zip(&self.parts) {
            let part = copy(&self.gpu, buffer)?;
            outputs.resize_with(outputs.len().max(output + 1), Vec::new);
            match outputs[*output].is_empty() {
                true => outputs[*output] = part,
                false => outputs[*output].extend(part),
            }
        }
        Ok(outputs)
    }

    fn read(&mut self, outcome: Result<(), String>) -> Result<Vec<Vec<u8>>> {
        let Some(frame) = self.frame.take() else {
            bail!(Request, "the outputs of this run were already read");
        };
        let is_done = outcome.is_ok();
        let outputs = check(&self.gpu, outcome).and_then(|()| self.outputs(&frame.buffers));
        frame.give_back(is_done);
        outputs
    }
}

impl Future for Pending {
    type Output = Result<Vec<Vec<u8>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.signal).poll(context) {
            Poll::Ready(outcome) => Poll::Ready(self.read(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.signal.abandon(Box::new(frame));
        }
    }
}
