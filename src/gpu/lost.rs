//! Whether a device is lost, though it may be another's to tell of that.

use crate::error::{Result, bail};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// What the device said when it was lost, where it speaks to us.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: OnceLock<String>,
    /// Those who wait for it.
    waiting: Mutex<Vec<Waker>>,
}

impl Lost {
    /// Has `device` tell. Natively there is one such callback a device, and that of an adopted one is the
    /// program's.
    pub(super) fn listen(&self, device: &wgpu::Device) {
        let lost = self.0.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Only the first reason counts; a device that is let go also says that it is lost.
            let _ = lost.reason.set(format!("{reason:?}: {message}"));
            let mut waiting = lost.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        });
    }

    /// Waits until the device is lost, and says why.
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

    /// An error if `device` is lost, which `name` says the name of.
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

/// wgpu drops all errors of a lost device, since its callback tells of that: so one that does not report an
/// obvious mistake is lost. The mistake, a buffer for no use, never reaches the driver.
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

/// In a browser any number may listen, and so adopted devices tell too.
#[cfg(target_arch = "wasm32")]
fn is_alive(_device: &wgpu::Device) -> bool {
    true
}
