//! A picture on its way through the queue and a device.

use crate::catalog::Served;
use crate::queue::{Lane, Queued};
use crate::trouble::{Kind, Outcome, Trouble};
use fullconv::{Mask, Picture, Size, Tensor};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What is wanted of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The class of each pixel.
    pub mask: bool,
    /// The probability of each class at each pixel.
    pub probabilities: bool,
}

/// A picture and what is wanted of it.
#[derive(Debug)]
pub struct Job {
    /// The model.
    pub served: Arc<Served>,
    /// The picture.
    pub picture: Picture,
    /// What is wanted.
    pub wants: Wants,
    /// The lane.
    pub lane: Lane,
    /// When nobody wants the result any more.
    pub deadline: Instant,
    /// When it came into the queue.
    pub queued: Instant,
    /// Where the result goes.
    pub reply: oneshot::Sender<Outcome<Labelled>>,
}

/// A picture with its results.
#[derive(Debug)]
pub struct Labelled {
    /// The picture.
    pub picture: Picture,
    /// The mask, if wanted.
    pub mask: Option<Mask>,
    /// The probabilities, `[1, classes, h, w]`, if wanted.
    pub probabilities: Option<Tensor>,
    /// The time in the queue.
    pub queue: Duration,
    /// The time on the device.
    pub device: Duration,
    /// The number of the worker.
    pub worker: usize,
}

/// What the pictures of a run share: the id of the loaded model, the size, and what is wanted.
pub type Key = (u64, Size, Wants);

impl Queued for Job {
    type Key = Key;

    fn key(&self) -> Key {
        (self.served.id, self.picture.size(), self.wants)
    }

    fn lane(&self) -> Lane {
        self.lane
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed() && Instant::now() < self.deadline
    }
}

impl Job {
    /// Ends the job without a result.
    pub fn refuse(self, trouble: Trouble) {
        // Nobody may be waiting any more.
        let _ = self.reply.send(Err(trouble));
    }
}

/// The failure of requests while no device is ready.
pub fn no_device() -> Trouble {
    let trouble = Trouble::new(
        Kind::Unavailable,
        "the device is lost; the server opens it again",
    );
    trouble.retry_after(Duration::from_secs(2))
}
