//! Detects a lost device, also if its device-lost callback belongs to the program.

use crate::error::{Result, bail};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// The reason of the device's loss, if this crate has its device-lost callback.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: OnceLock<String>,
    /// The tasks that wait for the loss.
    waiting: Mutex<Vec<Waker>>,
}

impl Lost {
    /// Sets the device-lost callback of `device`. Natively a device has one such callback; the one of an adopted device
    /// is the program's.
    pub(super) fn listen(&self, device: &wgpu::Device) {
        let lost = self.0.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Only the first reason counts: dropping a device also calls the callback.
            let _ = lost.reason.set(format!("{reason:?}: {message}"));
            let mut waiting = lost.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        });
    }

    /// Resolves with the reason when the device is lost.
    pub(super) fn until_lost(&self) -> impl Future<Output = String> + use<> {
        let lost = self.0.clone();
        std::future::poll_fn(move |context| {
            let mut waiting = lost.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match lost.reason.get() {
                Some(reason) => Poll::Ready(reason.clone()),
                None => {
                    waiting.retain(|waker| !waker.will_wake(context.waker()));
                    waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// An error if `device`, called `name`, is lost.
    pub(super) fn check(&self, device: &wgpu::Device, name: &dyn fmt::Display) -> Result<()> {
        if let Some(reason) = self.0.reason.get() {
            bail!(DeviceLost, "{name} is lost: {reason}");
        }
        if !is_alive(device) {
            bail!(DeviceLost, "{name} is lost");
        }
        Ok(())
    }
}

/// Whether `device` still reports validation errors: wgpu reports none for a lost device. The provoked error, a buffer
/// without usages, does not reach the driver.
#[cfg(not(target_arch = "wasm32"))]
fn is_alive(device: &wgpu::Device) -> bool {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    });
    let report = pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
    !matches!(report, Poll::Ready(None))
}

/// In a browser the loss of every device, also of an adopted one, is reported to this crate's callback.
#[cfg(target_arch = "wasm32")]
fn is_alive(_device: &wgpu::Device) -> bool {
    true
}
