//! The thread that has a device: it takes jobs in turn, several pictures under way at a time.
//!
//! Threads of Python wait for results only; they can stop waiting, and the worker skips what nobody waits for.

use crate::devices::DeviceOptions;
use crate::errors::{error, exception, of_panic};
use crate::process;
use fullconv::{Error, ErrorKind, Frames, Gpu, Mask, Model, Picture, Precision, Result, Segmenter};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// How often a waiting thread of Python looks for signals.
const SLICE: Duration = Duration::from_millis(100);
/// How often the worker looks whether anybody still waits.
const LOOK: Duration = Duration::from_millis(50);
/// The longest wait for a device at the end of the program.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time limit of the tuning before the first picture, as that of the command line.
const TUNING_TIME: Duration = Duration::from_secs(5);

/// How the model is opened on the device.
pub struct Opening {
    pub model: Model,
    /// The model's file, for errors.
    pub file: Option<String>,
    pub device: DeviceOptions,
    pub precision: Precision,
    /// Whether the kernels are measured for the first picture.
    pub tune: bool,
}

/// Work on an open segmenter, which sends its own result. Or the reason why there is none.
type Work = Box<dyn FnOnce(Result<(&Segmenter, &Stop)>) + Send>;

enum Job {
    Labels(Arc<Picture>, Reply),
    Work(Work, Arc<AtomicBool>),
    End,
}

struct Reply {
    to: SyncSender<Result<Mask>>,
    is_given_up: Arc<AtomicBool>,
}

/// A result that comes.
pub struct Coming<T> {
    from: Mutex<Receiver<Result<T>>>,
    is_given_up: Arc<AtomicBool>,
    control: Arc<Control>,
}

impl<T: Send> Coming<T> {
    /// Waits while other threads of Python run, and looks for Ctrl-C.
    ///
    /// # Errors
    /// The work's, or the exception of a signal; nobody waits for the result then.
    pub fn wait(&self, py: Python<'_>) -> PyResult<T> {
        loop {
            let come = py.detach(|| lock(&self.from).recv_timeout(SLICE));
            match come {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => return Err(exception(py, &error, None)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(signal) = py.check_signals() {
                        self.give_up();
                        return Err(signal);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let error = self.control.why_no_result();
                    return Err(exception(py, &error, None));
                }
            }
        }
    }
}

impl<T> Coming<T> {
    /// Nobody waits for the result any longer.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}

/// What others know of a worker.
pub struct Control {
    jobs: Mutex<Sender<Job>>,
    /// Jobs sent and not yet taken.
    waiting: AtomicUsize,
    is_stopped: AtomicBool,
    /// Whether it has a device, which has to be dropped before the program ends.
    has_device: AtomicBool,
    thread: Mutex<Option<Thread>>,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

/// All workers of this process.
static WORKERS: Mutex<Vec<Weak<Control>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// Starts a worker, which opens the device when the first job comes.
    ///
    /// # Errors
    /// `Io` if the thread cannot be started.
    pub fn start(opening: Arc<Opening>) -> Result<Arc<Self>> {
        let (to, jobs) = channel();
        let control = Arc::new(Self {
            jobs: Mutex::new(to),
            waiting: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
            has_device: AtomicBool::new(false),
            thread: Mutex::new(None),
            has_ended: Mutex::new(false),
            ended: Condvar::new(),
        });
        let worker = Worker {
            tune: opening.tune,
            opening,
            control: control.clone(),
            jobs,
            segmenter: None,
            gpu: None,
            frames: None,
            under_way: VecDeque::new(),
            is_lost: false,
        };
        let builder = std::thread::Builder::new().name("fullconv".into());
        let started = builder.spawn(move || worker.run());
        let started = started.map_err(|e| {
            error(ErrorKind::Io, format!("cannot start a thread: {e}")).with_source(e)
        })?;
        *lock(&control.thread) = Some(started.thread().clone());
        let mut all = lock(&WORKERS);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&control));
        drop(all);
        Ok(control)
    }

    /// Asks for the labels of a picture.
    pub fn label(self: &Arc<Self>, picture: Arc<Picture>) -> Coming<Mask> {
        let (to, coming) = self.coming();
        let is_given_up = coming.is_given_up.clone();
        self.send(Job::Labels(picture, Reply { to, is_given_up }));
        coming
    }

    /// Asks for the result of `work`.
    pub fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Segmenter, &Stop) -> Option<Result<T>> + Send + 'static,
    ) -> Coming<T> {
        let (to, coming) = self.coming();
        let work = move |open: Result<(&Segmenter, &Stop)>| {
            let done = match open {
                Ok((segmenter, stop)) => work(segmenter, stop),
                Err(error) => Some(Err(error)),
            };
            // Without a result nobody waits for it; else the other end may have gone.
            if let Some(done) = done {
                let _ = to.send(done);
            }
        };
        self.send(Job::Work(Box::new(work), coming.is_given_up.clone()));
        coming
    }

    fn coming<T>(self: &Arc<Self>) -> (SyncSender<Result<T>>, Coming<T>) {
        let (to, from) = sync_channel(1);
        let coming = Coming {
            from: Mutex::new(from),
            is_given_up: Arc::default(),
            control: self.clone(),
        };
        (to, coming)
    }

    fn send(&self, job: Job) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // A worker that has ended drops the job, whose result then does not come.
        let _ = lock(&self.jobs).send(job);
        if let Some(thread) = &*lock(&self.thread) {
            thread.unpark();
        }
    }

    /// Has the worker end after what the device is at.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.send(Job::End);
    }

    /// Waits until the worker has ended, some seconds at most.
    pub fn wait_for_end(&self) {
        let ended = lock(&self.has_ended);
        drop(
            self.ended
                .wait_timeout_while(ended, PATIENCE, |ended| !*ended),
        );
    }

    fn why_no_result(&self) -> Error {
        match self.is_stopped.load(Ordering::SeqCst) {
            true => error(ErrorKind::Request, "the segmenter was closed meanwhile"),
            false => error(
                ErrorKind::Internal,
                "a fault of fullconv: a panic, told on stderr",
            ),
        }
    }
}

/// Ends all workers, for the end of the program: devices have to be dropped before their drivers.
#[pyfunction]
pub fn close_all(py: Python<'_>) {
    if process::is_forked() {
        return;
    }
    py.detach(|| {
        let all: Vec<_> = lock(&WORKERS).iter().filter_map(Weak::upgrade).collect();
        for control in &all {
            control.stop();
        }
        let with_device = all.iter().filter(|c| c.has_device.load(Ordering::SeqCst));
        with_device.for_each(|control| control.wait_for_end());
    });
}

/// Whether to go on.
pub struct Stop<'a> {
    control: &'a Control,
    is_given_up: &'a AtomicBool,
}

impl Stop<'_> {
    fn is_asked(&self) -> bool {
        self.control.is_stopped.load(Ordering::SeqCst) || self.is_given_up.load(Ordering::Relaxed)
    }

    /// The result of `future`; `None` if it is no longer wanted. The device finishes what it was given.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        block_on(future, || self.is_asked())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The result of `future`, or `None` as soon as `is_enough`.
fn block_on<T>(future: impl Future<Output = T>, is_enough: impl Fn() -> bool) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        if is_enough() {
            return None;
        }
        std::thread::park_timeout(LOOK);
    }
}

struct Worker {
    opening: Arc<Opening>,
    control: Arc<Control>,
    jobs: Receiver<Job>,
    segmenter: Option<Segmenter>,
    /// The segmenter's device; `None` for the reference.
    gpu: Option<Gpu>,
    frames: Option<Frames>,
    /// Who waits for the pictures under way, the oldest first.
    under_way: VecDeque<Reply>,
    /// Whether the kernels have to be measured.
    tune: bool,
    /// Whether the device was lost: it is opened again for the next job.
    is_lost: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The device first: who waits for the end waits for it.
        self.frames = None;
        (self.segmenter, self.gpu) = (None, None);
        *lock(&self.control.has_ended) = true;
        self.control.ended.notify_all();
    }
}

impl Worker {
    fn run(mut self) {
        while !self.is_stopped() {
            let job = if self.under_way.is_empty() {
                self.jobs.recv().ok()
            } else {
                match self.jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => {
                        self.guarded(Self::land);
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => None,
                }
            };
            self.control.waiting.fetch_sub(1, Ordering::SeqCst);
            match job {
                None | Some(Job::End) => return,
                Some(Job::Labels(picture, reply)) => {
                    self.guarded(|worker| worker.label(&picture, reply));
                }
                Some(Job::Work(work, is_given_up)) => {
                    self.guarded(|worker| worker.work(work, &is_given_up));
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.control.is_stopped.load(Ordering::SeqCst)
    }

    /// Does a part of a job. After a panic, nothing is under way: all who wait are told.
    fn guarded(&mut self, part: impl FnOnce(&mut Self)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| part(self))) {
            self.frames = None;
            for reply in self.under_way.drain(..) {
                let _ = reply.to.send(Err(of_panic(&*payload)));
            }
        }
        if self.is_lost && self.under_way.is_empty() {
            (self.frames, self.segmenter, self.gpu) = (None, None, None);
            self.is_lost = false;
        }
    }

    /// Opens the device. `None` if it is no longer wanted.
    fn open(&mut self, is_given_up: &AtomicBool) -> Option<Result<Segmenter>> {
        if let Some(segmenter) = &self.segmenter {
            return Some(Ok(segmenter.clone()));
        }
        let control = self.control.clone();
        let stop = Stop {
            control: &control,
            is_given_up,
        };
        let opening = self.opening.clone();
        let opened = stop.block_on(async {
            let Some(gpu) = opening.device.open().await? else {
                return Ok((Segmenter::on_cpu(&opening.model), None));
            };
            control.has_device.store(true, Ordering::SeqCst);
            let builder = Segmenter::builder(&opening.model).gpu(&gpu);
            let built = builder.precision(opening.precision).build().await;
            let segmenter = built.map_err(|error| match (&opening.file, error.kind()) {
                (Some(file), ErrorKind::ModelFile) => error.at(file),
                _ => error,
            })?;
            Ok((segmenter, Some(gpu)))
        })?;
        Some(opened.map(|(segmenter, gpu)| {
            (self.segmenter, self.gpu) = (Some(segmenter.clone()), gpu);
            segmenter
        }))
    }

    fn label(&mut self, picture: &Picture, reply: Reply) {
        if reply.is_given_up.load(Ordering::Relaxed) {
            return;
        }
        let segmenter = match self.open(&reply.is_given_up) {
            None => return,
            Some(Ok(segmenter)) => segmenter,
            Some(Err(error)) => return drop(reply.to.send(Err(error))),
        };
        if !segmenter.model().has_labels() {
            let text = format!(
                "{} has {} classes, more than a mask has ids: probabilities() gives them",
                segmenter.model(),
                segmenter.model().class_count()
            );
            return drop(reply.to.send(Err(error(ErrorKind::Unsupported, text))));
        }
        if self.tune {
            self.tune = false;
            if let Err(error) = self.tune_for(&segmenter, picture, &reply) {
                return drop(reply.to.send(Err(error)));
            }
        }
        self.under_way.push_back(reply);
        let frames = self.frames.get_or_insert_with(|| segmenter.frames());
        let control = self.control.clone();
        let stopped = || control.is_stopped.load(Ordering::SeqCst);
        if let Some(Some(mask)) = block_on(frames.push(picture), stopped) {
            self.hand_over(mask);
        }
    }

    fn tune_for(&self, segmenter: &Segmenter, picture: &Picture, reply: &Reply) -> Result<()> {
        let size = segmenter.model().network_size(picture.size())?;
        let stop = Stop {
            control: &self.control,
            is_given_up: &reply.is_given_up,
        };
        match stop.block_on(segmenter.tune(1, size, TUNING_TIME)) {
            Some(tuned) => tuned.map(drop),
            None => Ok(()),
        }
    }

    /// Waits for the oldest picture, or until another job comes that there is room for.
    fn land(&mut self) {
        let Some(frames) = &mut self.frames else {
            return self.under_way.clear();
        };
        let has_room = frames.len() < Frames::DEPTH;
        let control = self.control.clone();
        let is_enough = || {
            control.is_stopped.load(Ordering::SeqCst)
                || (has_room && control.waiting.load(Ordering::SeqCst) > 0)
        };
        match block_on(frames.next(), is_enough) {
            Some(Some(mask)) => self.hand_over(mask),
            Some(None) => self.under_way.clear(),
            None => {}
        }
    }

    fn hand_over(&mut self, mask: Result<Mask>) {
        self.note(mask.as_ref().err());
        if let Some(reply) = self.under_way.pop_front() {
            let _ = reply.to.send(mask);
        }
    }

    fn note(&mut self, error: Option<&Error>) {
        self.is_lost |= error.is_some_and(|error| error.kind() == ErrorKind::DeviceLost);
    }

    /// Does other work, when the device is at nothing else.
    fn work(&mut self, work: Work, is_given_up: &AtomicBool) {
        while !self.under_way.is_empty() && !self.is_stopped() {
            self.land();
        }
        if is_given_up.load(Ordering::Relaxed) {
            return;
        }
        match self.open(is_given_up) {
            None => {}
            Some(Err(error)) => work(Err(error)),
            Some(Ok(segmenter)) => {
                let stop = Stop {
                    control: &self.control,
                    is_given_up,
                };
                work(Ok((&segmenter, &stop)));
                // The work's result is not seen here.
                self.is_lost = self
                    .gpu
                    .as_ref()
                    .is_some_and(|gpu| gpu.check_lost().is_err());
            }
        }
    }
}
