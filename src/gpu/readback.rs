//! Waiting for the device, and reading what it wrote.

use super::Gpu;
use super::saturation::Layers;
use super::waiter::{Held, Signal};
use crate::error::{Error, ErrorKind, Result, bail};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long the device may take for work of `flops` before it is given up: two minutes, and what the work
/// takes at 0.5 GFLOP/s, slower than any device that can be used.
pub(super) fn patience(flops: u64) -> Duration {
    Duration::from_secs(120 + flops / 500_000_000)
}

/// A future of the end of `submission`, which was the last.
pub(super) fn done(gpu: &Gpu, submission: wgpu::SubmissionIndex, patience: Duration) -> Done {
    let signal = Signal::new(1);
    let reported = signal.clone();
    let report = move || reported.report(Ok::<_, String>(()));
    gpu.queue().on_submitted_work_done(report);
    gpu.watch(submission, patience, &signal);
    Done(signal)
}

/// See [`done`].
pub(super) struct Done(Signal);

impl Done {
    /// Waits for it.
    ///
    /// # Errors
    /// `Device` if the device is lost or does not finish.
    pub(super) async fn wait(self, gpu: &Gpu) -> Result<()> {
        check(gpu, self.0.await)
    }
}

/// Maps `buffer` and gives back what it holds.
///
/// # Errors
/// `Device` if it cannot be mapped.
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

/// Asks for `buffers` to be mapped when what was submitted is done; the signal tells of it.
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

/// What a mapped buffer holds.
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

/// The staging buffers of as many runs as may be in flight at a time. Those of a run are made when they
/// are first needed.
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

    /// A frame that is free, when there is one: that given back last.
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

    /// Unmaps `buffers`. Those of a device that is lost may be destroyed, which wgpu would tell the program.
    fn unmap(&self, buffers: &[wgpu::Buffer]) {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        buffers.iter().for_each(wgpu::Buffer::unmap);
        drop(scope.pop());
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The staging buffers of one run, an output each; none yet if they were never needed.
#[derive(Debug)]
pub(super) struct Frame {
    ring: Arc<Ring>,
    pub(super) buffers: Vec<wgpu::Buffer>,
}

impl Frame {
    /// Back to the ring: with the buffers if they `are_mapped`, as they are after a run that went well,
    /// else without.
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

/// A run that is on its way: a future of its outputs, as they lie in device memory.
///
/// It borrows nothing, so that more can be submitted meanwhile. When it is dropped the device still ends
/// the run, and then its buffers serve the next one.
#[derive(Debug)]
#[must_use = "a run whose outputs nobody waits for is for nothing"]
pub struct Pending {
    gpu: Gpu,
    signal: Signal,
    /// Until the outputs are read.
    frame: Option<Frame>,
    /// The output that each buffer holds a part of, in order.
    parts: Vec<usize>,
    /// Of a plan in f16: the last buffer holds their words.
    layers: Option<Layers>,
}

impl Pending {
    /// Waits for `submission`, the last of those that copy to the buffers of `frame`; `parts` says which output
    /// each holds a part of, in order.
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

    /// The same, an error if a word of `layers`, which the last buffer holds, tells of a value that f16 does not hold.
    pub(super) fn unless_saturated(mut self, layers: Option<Layers>) -> Self {
        self.layers = layers;
        self
    }

    /// When the device was done with it, if it is; `None` also where there is no clock, in a browser.
    pub fn completed(&self) -> Option<Instant> {
        self.signal.completed()
    }

    /// The outputs, of whose parts the mapped `buffers` hold one each.
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
            bail!(Request, "the outputs of a run can be had once");
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
