//! The workers: a thread for each device, which owns the device and takes pictures from the queue.

use crate::catalog::Catalog;
use crate::config::{Config, Device};
use crate::job::{Job, Key, Labelled, no_device};
use crate::metrics::Metrics;
use crate::queue::{Queue, Queued, Room, Run, Taken};
use crate::trouble::Trouble;
use fullconv::{Error, ErrorKind, Frames, Gpu, Mask, Model, Precision, Result, Segmenter};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often an idle worker looks whether its device is lost.
const IDLE: Duration = Duration::from_secs(1);
/// The times between attempts to open a lost device.
const BACK_OFF: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// The failed attempts from which the server no longer says that it lives.
const MOST_ATTEMPTS: u32 = 5;

/// What workers share with the rest of the server.
#[derive(Debug)]
pub struct Shared {
    /// The pictures that wait.
    pub queue: Queue<Job>,
    /// The room for pictures.
    pub room: Arc<Room>,
    /// The models.
    pub catalog: Catalog,
    /// The workers.
    pub workers: Workers,
    /// What is counted.
    pub metrics: Metrics,
    /// The most pictures of an execution.
    pub batch: usize,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    all: Vec<Arc<Worker>>,
    stall: Duration,
}

/// A device and the thread that uses it.
#[derive(Debug)]
pub struct Worker {
    /// The number of the worker.
    pub number: usize,
    device: Device,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The open device; `None` for the reference.
    gpu: Option<Gpu>,
    /// Failed attempts to open it again since it was lost; `None` if it is not lost.
    attempts: Option<u32>,
    /// Since when the thread waits for the device.
    busy_since: Option<Instant>,
    /// Whether the thread has ended.
    has_ended: bool,
}

impl Workers {
    /// Opens the devices of `config`.
    pub fn open(config: &Config) -> Result<Self> {
        let devices = config.devices.iter().enumerate();
        let all = devices.map(|(number, device)| Worker::open(number, device).map(Arc::new));
        Ok(Self {
            all: all.collect::<Result<_>>()?,
            stall: config.stall,
        })
    }

    /// Starts the threads.
    pub fn start(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
        let workers = shared.workers.all.iter();
        let start = |worker: &Arc<Worker>| {
            let (worker, shared) = (worker.clone(), shared.clone());
            let name = format!("device {}", worker.number);
            std::thread::Builder::new()
                .name(name)
                .spawn(move || worker.work(&shared))
        };
        workers.map(start).collect()
    }

    /// All workers, in the order of the devices.
    pub fn all(&self) -> &[Arc<Worker>] {
        &self.all
    }

    /// Whether a worker has its device.
    pub fn any_ready(&self) -> bool {
        self.all.iter().any(|worker| worker.is_ready())
    }

    /// Why the server does not live: every worker has ended, is stalled, or cannot open its device.
    pub fn dead(&self) -> Option<String> {
        let reasons: Vec<_> = self.all.iter().map(|w| w.dead(self.stall)).collect();
        let reasons = reasons.into_iter().collect::<Option<Vec<_>>>()?;
        Some(reasons.join("; "))
    }

    /// The names of the devices.
    pub fn describe(&self) -> String {
        let names: Vec<_> = self.all.iter().map(|worker| worker.name()).collect();
        names.join(", ")
    }
}

impl Worker {
    fn open(number: usize, device: &Device) -> Result<Self> {
        let gpu = match device {
            Device::Gpu(open) => Some(open()?),
            Device::Reference => None,
        };
        Ok(Self {
            number,
            device: device.clone(),
            state: Mutex::new(State {
                gpu,
                attempts: None,
                busy_since: None,
                has_ended: false,
            }),
        })
    }

    /// The name of the device.
    pub fn name(&self) -> String {
        let state = self.lock();
        let name = state.gpu.as_ref().map(ToString::to_string);
        name.unwrap_or_else(|| "CPU reference".into())
    }

    /// The open device; `None` for the reference.
    pub fn gpu(&self) -> Option<Gpu> {
        self.lock().gpu.clone()
    }

    /// `model` on this worker's device.
    pub fn segmenter(&self, model: &Model, precision: Precision) -> Result<Segmenter> {
        match self.gpu() {
            Some(gpu) => {
                let builder = Segmenter::builder(model).gpu(&gpu).precision(precision);
                pollster::block_on(builder.build())
            }
            None => Ok(Segmenter::on_cpu(model)),
        }
    }

    /// Whether it has its device.
    pub fn is_ready(&self) -> bool {
        let state = self.lock();
        state.attempts.is_none() && !state.has_ended
    }

    fn dead(&self, stall: Duration) -> Option<String> {
        let state = self.lock();
        let number = self.number;
        if state.has_ended {
            return Some(format!("the thread of device {number} has ended"));
        }
        if state
            .attempts
            .is_some_and(|attempts| attempts >= MOST_ATTEMPTS)
        {
            return Some(format!("device {number} is lost and does not open again"));
        }
        let busy = state.busy_since.map(|since| since.elapsed())?;
        let text = || {
            format!(
                "device {number} has made no progress for {} s",
                busy.as_secs()
            )
        };
        (busy > stall).then(text)
    }

    /// Does `work`, in which the thread waits for the device.
    fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lock().busy_since = Some(Instant::now());
        let done = work();
        self.lock().busy_since = None;
        done
    }

    /// Takes pictures from the queue until it is closed and empty.
    fn work(&self, shared: &Shared) {
        let _end = End(self);
        let mut run = Run::default();
        let mut flow = Flow::new(self, shared);
        loop {
            let job = if flow.is_empty() {
                match shared.queue.wait(&mut run, IDLE) {
                    Taken::Job(job) => Some(job),
                    Taken::Closed => return,
                    Taken::Nothing => {
                        flow.look_after();
                        None
                    }
                }
            } else {
                shared.queue.take(&mut run)
            };
            match job {
                Some(job) => flow.take(job, &mut run),
                None => flow.land(),
            }
            if flow.is_lost {
                flow.land_all();
                flow = Flow::new(self, shared);
                if !self.recover(shared) {
                    return;
                }
            }
        }
    }

    /// Opens the device again and moves all models there. False if the server ends meanwhile.
    fn recover(&self, shared: &Shared) -> bool {
        shared.metrics.device_lost(self.number);
        tracing::error!("{} is lost", self.name());
        for attempt in 0_u32.. {
            self.lock().attempts = Some(attempt);
            let at = BACK_OFF.len().min(attempt as usize + 1) - 1;
            if !self.sleep(Duration::from_secs(BACK_OFF[at]), shared) {
                return false;
            }
            match self.busy(|| self.reopen(&shared.catalog)) {
                Ok(()) => break,
                Err(error) => tracing::error!("device {}: {error}", self.number),
            }
        }
        self.lock().attempts = None;
        tracing::info!("{} is back", self.name());
        true
    }

    /// Waits for `time`. Meanwhile, waiting requests fail if there is no other device. False if the queue is closed.
    fn sleep(&self, time: Duration, shared: &Shared) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if !shared.workers.any_ready() {
                for job in shared.queue.clear() {
                    job.refuse(no_device());
                }
            }
            if shared.queue.is_closed() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn reopen(&self, catalog: &Catalog) -> Result<()> {
        let Device::Gpu(open) = &self.device else {
            return Ok(());
        };
        let gpu = open()?;
        self.lock().gpu = Some(gpu.clone());
        for served in catalog.ready() {
            pollster::block_on(served.on(self.number).recover(&gpu))?;
            served.warm_up(self.number)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the end of a worker's thread, however it ends.
struct End<'a>(&'a Worker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
    }
}

/// The pictures under way on a device, all of one key.
struct Flow<'a> {
    worker: &'a Worker,
    shared: &'a Shared,
    /// For the model with this id.
    frames: Option<(Key, Frames)>,
    /// The oldest first, with the time at which it left the queue.
    under_way: VecDeque<(Job, Instant)>,
    is_lost: bool,
}

impl<'a> Flow<'a> {
    fn new(worker: &'a Worker, shared: &'a Shared) -> Self {
        Self {
            worker,
            shared,
            frames: None,
            under_way: VecDeque::new(),
            is_lost: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Notes an idle device that is lost.
    fn look_after(&mut self) {
        let gpu = self.worker.gpu();
        self.is_lost = gpu.is_some_and(|gpu| gpu.check_lost().is_err());
    }

    /// Gives the device a job, and with it others of `run` if executions take several pictures.
    fn take(&mut self, job: Job, run: &mut Run<Key>) {
        if job.wants.probabilities {
            self.land_all();
            return self.compute(job);
        }
        if self.shared.batch > 1 {
            let mut jobs = vec![job];
            while jobs.len() < self.shared.batch
                && let Some(job) = self.shared.queue.take_same(run)
            {
                jobs.push(job);
            }
            return self.batch(jobs);
        }
        let key = job.key();
        if self
            .frames
            .as_ref()
            .is_some_and(|(current, _)| *current != key)
        {
            self.land_all();
            self.frames = None;
        }
        let segmenter = job.served.on(self.worker.number);
        let (_, frames) = self.frames.get_or_insert_with(|| (key, segmenter.frames()));
        job.served.statistics.execution(1);
        self.shared.metrics.execution(&job.served.name, 1);
        let taken = Instant::now();
        let mask = self
            .worker
            .busy(|| pollster::block_on(frames.push(&job.picture)));
        self.under_way.push_back((job, taken));
        if let Some(mask) = mask {
            self.hand_on(mask);
        }
    }

    /// Waits for the oldest picture.
    fn land(&mut self) {
        if let Some((_, frames)) = &mut self.frames
            && let Some(mask) = self.worker.busy(|| pollster::block_on(frames.next()))
        {
            self.hand_on(mask);
        }
    }

    fn land_all(&mut self) {
        while !self.is_empty() {
            self.land();
        }
    }

    /// Answers the oldest job.
    fn hand_on(&mut self, mask: Result<Mask>) {
        let time = self.frames.as_ref().and_then(|(_, frames)| frames.time());
        if let Some((job, taken)) = self.under_way.pop_front() {
            let device = time.unwrap_or_else(|| taken.elapsed());
            self.answer(job, taken, device, mask.map(|mask| (Some(mask), None)));
        }
    }

    /// Computes what [`Frames`] does not.
    fn compute(&mut self, job: Job) {
        let segmenter = job.served.on(self.worker.number).clone();
        let taken = Instant::now();
        job.served.statistics.execution(1);
        self.shared.metrics.execution(&job.served.name, 1);
        let results = self.worker.busy(|| {
            pollster::block_on(async {
                let mask = match job.wants.mask {
                    true => Some(segmenter.segment(&job.picture).await?),
                    false => None,
                };
                let probabilities = segmenter.probabilities(&job.picture).await?;
                Ok((mask, Some(probabilities)))
            })
        });
        self.answer(job, taken, taken.elapsed(), results);
    }

    /// Computes `jobs` in one execution. If it fails, each has its own: one picture must not fail the others.
    fn batch(&mut self, jobs: Vec<Job>) {
        let Some(first) = jobs.first() else {
            return;
        };
        let segmenter = first.served.on(self.worker.number).clone();
        let taken = Instant::now();
        first.served.statistics.execution(jobs.len());
        self.shared
            .metrics
            .execution(&first.served.name, jobs.len());
        let pictures: Vec<_> = jobs.iter().map(|job| job.picture.clone()).collect();
        let run = || pollster::block_on(segmenter.segment_batch(&pictures));
        let masks = self.worker.busy(run);
        let device = taken.elapsed();
        match masks {
            Ok(masks) => {
                for (job, mask) in jobs.into_iter().zip(masks) {
                    self.answer(job, taken, device, Ok((Some(mask), None)));
                }
            }
            Err(_) => {
                for job in jobs {
                    let run = || pollster::block_on(segmenter.segment(&job.picture));
                    let mask = self.worker.busy(run);
                    let device = taken.elapsed();
                    self.answer(job, taken, device, mask.map(|mask| (Some(mask), None)));
                }
            }
        }
    }

    fn answer(
        &mut self,
        job: Job,
        taken: Instant,
        device: Duration,
        results: Result<(Option<Mask>, Option<fullconv::Tensor>), Error>,
    ) {
        let answer = match results {
            Ok((mask, probabilities)) => {
                self.shared.room.note(device);
                Ok(Labelled {
                    picture: job.picture,
                    mask,
                    probabilities,
                    queue: taken.saturating_duration_since(job.queued),
                    device,
                    worker: self.worker.number,
                })
            }
            Err(error) if error.kind() == ErrorKind::DeviceLost => {
                self.is_lost = true;
                Err(no_device())
            }
            Err(error) => Err(Trouble::from(error)),
        };
        // The client may have gone.
        let _ = job.reply.send(answer);
    }
}
