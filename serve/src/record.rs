//! The record of a request: what its log line and the metrics say of it.

use crate::trouble::Kind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The times of a request's stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// Decoding.
    pub decode: Duration,
    /// Waiting for a device: of several pictures, the longest.
    pub queue: Duration,
    /// On the device: of several pictures, the sum.
    pub device: Duration,
    /// Encoding.
    pub encode: Duration,
}

/// What a finished request was.
#[derive(Clone, Debug)]
pub struct Report {
    /// The model, or empty if the request did not come so far.
    pub model: String,
    /// `oip_rest`, `oip_grpc` or `segment`.
    pub protocol: &'static str,
    /// `ok`, or why not.
    pub outcome: &'static str,
    /// Pixels of all pictures.
    pub pixels: u64,
    /// Height and width of the first picture.
    pub size: Option<(usize, usize)>,
    /// Pictures.
    pub pictures: usize,
    /// From the header to the answer.
    pub all: Duration,
    /// The stages.
    pub stages: Stages,
}

/// The record of a request under way, shared by all that work on it.
#[derive(Clone, Debug)]
pub struct Record(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    begin: Instant,
    trouble: Option<Kind>,
    report: Report,
}

impl Record {
    /// The record of a request that begins now.
    pub fn begin(protocol: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            begin: Instant::now(),
            trouble: None,
            report: Report {
                model: String::new(),
                protocol,
                outcome: "ok",
                pixels: 0,
                size: None,
                pictures: 0,
                all: Duration::ZERO,
                stages: Stages::default(),
            },
        })))
    }

    /// Changes what is recorded.
    pub fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.lock().report);
    }

    /// Notes why the request failed.
    pub fn fail(&self, kind: Kind) {
        self.lock().trouble = Some(kind);
    }

    /// Whether it is noted why the request failed.
    pub fn has_failed(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// What the request was, now that it has ended.
    pub fn report(&self) -> Report {
        let inner = self.lock();
        Report {
            outcome: inner.trouble.map_or("ok", Kind::outcome),
            all: inner.begin.elapsed(),
            ..inner.report.clone()
        }
    }

    /// The times of the stages so far.
    pub fn stages(&self) -> Stages {
        self.lock().report.stages
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
