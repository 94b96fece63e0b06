//! Waiting for the device, and reading what it wrote.

use super::Gpu;
use crate::error::{Result, bail};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long the device may take for work of `flops` before it is given up: two minutes, and what the work
/// takes at 0.5 GFLOP/s, slower than any device that can be used.
pub(super) fn patience(flops: u64) -> Duration {
    Duration::from_secs(120 + flops / 500_000_000)
}

/// Waits until the device has done `submission`, or all that was submitted. In a browser, where nothing
/// may wait, this does nothing: the page's event loop brings results.
///
/// # Errors
/// `Device` if the device is lost or does not finish.
pub(super) fn wait(
    gpu: &Gpu,
    submission: Option<wgpu::SubmissionIndex>,
    patience: Duration,
) -> Result<()> {
    let waited = gpu.device().poll(wgpu::PollType::Wait {
        submission_index: submission,
        timeout: Some(patience),
    });
    gpu.check_lost()?;
    match waited {
        Ok(_) => Ok(()),
        Err(e) => bail!(Device, "{gpu} did not finish: {e}"),
    }
}

/// Maps `buffer` and gives back its first `bytes`.
///
/// # Errors
/// `Device` if it cannot be mapped.
pub(super) async fn read(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    patience: Duration,
) -> Result<Vec<u8>> {
    let mapped = Signal::default();
    let done = mapped.clone();
    buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
        done.set(result.is_ok())
    });
    wait(gpu, Some(submission), patience)?;
    if !mapped.await {
        gpu.check_lost()?;
        bail!(Device, "a result could not be read back from {gpu}");
    }
    let data = match buffer.get_mapped_range(0..bytes) {
        Ok(view) => view.to_vec(),
        Err(e) => {
            buffer.unmap();
            bail!(Device, "a result could not be read back from {gpu}: {e}")
        }
    };
    buffer.unmap();
    Ok(data)
}

/// A future that another thread, or the browser's event loop, completes.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<(Option<bool>, Option<Waker>)>>);

impl Signal {
    fn set(&self, value: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(value);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0 {
            Some(value) => Poll::Ready(value),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
