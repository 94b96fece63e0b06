//! From the pictures of a request to its results, whatever the protocol: room, decoding, queue, encoding.

use crate::catalog::Served;
use crate::config::{Config, Limits};
use crate::job::{Job, Labelled, Wants, no_device};
use crate::queue::{Lane, Place};
use crate::record::Record;
use crate::trouble::{Kind, Outcome, Trouble};
use crate::workers::Shared;
use bytes::Bytes;
use fullconv::{Picture, PictureFormat, PictureLimits, Size};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Bytes that decoded pixels may take, a pixel: four channels of 16 bits.
const PIXEL_BYTES: u64 = 8;
/// Bytes that a pixel is counted with in the room.
const ROOM_BYTES: u64 = 4;

/// The server, as its protocols see it.
#[derive(Debug)]
pub struct Service {
    /// Queue, models and workers.
    pub shared: Arc<Shared>,
    /// The settings.
    pub config: Config,
    is_draining: AtomicBool,
    has_stopped: AtomicBool,
    /// Bounds the threads that decode and encode.
    coders: Arc<Semaphore>,
    /// Bytes of the bodies in memory.
    bodies: AtomicUsize,
}

/// A picture of a request.
#[derive(Clone, Debug)]
pub enum Source {
    /// A picture file.
    File(Bytes),
    /// Pixels: red, green and blue of each.
    Rgb(Size, Bytes),
}

/// A request for results.
#[derive(Debug)]
pub struct Call {
    /// The model.
    pub served: Arc<Served>,
    /// The pictures.
    pub sources: Vec<Source>,
    /// What is wanted of each.
    pub wants: Wants,
    /// The lane.
    pub lane: Lane,
    /// When the client no longer wants the results.
    pub deadline: Instant,
}

/// The results of a call, and their place.
#[derive(Debug)]
pub struct Results {
    /// One for each picture.
    pub pictures: Vec<Labelled>,
    /// Held until the answer is made.
    pub place: Arc<Place>,
}

impl Service {
    /// A service of `shared`.
    pub fn new(shared: Arc<Shared>, config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            shared,
            config,
            is_draining: AtomicBool::new(false),
            has_stopped: AtomicBool::new(false),
            coders: Arc::new(Semaphore::new(cores)),
            bodies: AtomicUsize::new(0),
        }
    }

    /// The bounds on requests.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// From now on the server says that it is not ready.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// From now on streams without an end of their own end.
    pub fn stop(&self) {
        self.has_stopped.store(true, Ordering::SeqCst);
    }

    /// Whether streams have to end.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::SeqCst)
    }

    /// Why the server is not ready; `None` if it takes requests.
    pub fn not_ready(&self) -> Option<String> {
        use crate::catalog::State;
        if self.is_draining() {
            return Some("the server is going to end".into());
        }
        if !self.shared.workers.any_ready() {
            return Some("no device is ready".into());
        }
        let states = self.shared.catalog.states();
        let loading = states
            .iter()
            .find(|(_, state)| matches!(state, State::Loading));
        if let Some((name, _)) = loading {
            return Some(format!("model {name} is being loaded"));
        }
        None
    }

    /// The error of a request that finds no room. Asked before the body is read.
    ///
    /// # Errors
    /// `Full` if there is no room, or a picture would wait too long; `Unavailable` if no device is ready.
    pub fn admit(&self) -> Outcome<()> {
        if !self.shared.workers.any_ready() {
            return Err(no_device());
        }
        // A picture that would wait longer than its time is refused now, not when its time is over.
        let room = &self.shared.room;
        match room.is_full() || room.wait() > self.limits().time {
            true => Err(self.full()),
            false => Ok(()),
        }
    }

    fn full(&self) -> Trouble {
        let text = "the queue is full; try again later";
        let wait = self.shared.room.wait().max(Duration::from_secs(1));
        Trouble::new(Kind::Full, text).retry_after(wait)
    }

    /// Counts `bytes` of a body until the share is dropped; `None` if all bodies together would be too large.
    pub fn body_share(self: &Arc<Self>) -> BodyShare {
        BodyShare {
            service: self.clone(),
            bytes: 0,
        }
    }

    /// The deadline of a request that asks for `time`, which may only be less than the server's.
    pub fn deadline(&self, time: Option<Duration>) -> Instant {
        let most = self.limits().time;
        Instant::now() + time.map_or(most, |time| time.min(most))
    }

    /// The results of a call.
    ///
    /// # Errors
    /// `Invalid`, `MediaType` or `TooLarge` if a picture is at fault, `Full` if there is no room, `Deadline` if the time
    /// is over, `Unavailable` or `Internal` if the device fails.
    pub async fn label(&self, call: Call, record: &Record) -> Outcome<Results> {
        let Call {
            served,
            sources,
            wants,
            lane,
            deadline,
        } = call;
        let count = sources.len();
        let begin = Instant::now();
        let sizes = self.sizes(&sources)?;
        let pixels: u64 = sizes.iter().map(|s| s.height as u64 * s.width as u64).sum();
        record.note(|report| {
            report.model.clone_from(&served.name);
            report.pixels = pixels;
            report.size = sizes.first().map(|size| (size.height, size.width));
            report.pictures = count;
        });
        if count > self.shared.room.most() {
            let most = self.shared.room.most();
            let text = format!("{count} pictures are more than the queue has room for: {most}");
            return Err(Trouble::new(Kind::TooLarge, text));
        }
        let place = self.shared.room.place(count, ROOM_BYTES * pixels);
        let place = Arc::new(place.ok_or_else(|| self.full())?);
        let limits = PictureLimits::default();
        let limits = limits
            .pixels(self.limits().pixels)
            .bytes(PIXEL_BYTES * self.limits().pixels);
        let held = place.clone();
        let decode = move || {
            let pictures = decode(&sources, &limits);
            drop(held);
            pictures
        };
        let pictures = within(deadline, self.on_coder(decode)).await???;
        record.note(|report| report.stages.decode = begin.elapsed());
        let mut replies = Vec::with_capacity(count);
        for picture in pictures {
            let (reply, receiver) = oneshot::channel();
            replies.push(receiver);
            let job = Job {
                served: served.clone(),
                picture,
                wants,
                lane,
                deadline,
                queued: Instant::now(),
                reply,
            };
            if let Err(job) = self.shared.queue.push(job) {
                job.refuse(Trouble::new(
                    Kind::Unavailable,
                    "the server is going to end",
                ));
            }
        }
        let mut pictures = Vec::with_capacity(count);
        for reply in replies {
            let labelled = match within(deadline, reply).await? {
                Ok(labelled) => labelled?,
                // The worker met the job after its deadline, or has ended.
                Err(_) if Instant::now() >= deadline => return Err(too_late()),
                Err(_) => {
                    return Err(Trouble::new(
                        Kind::Internal,
                        "the device's thread has ended",
                    ));
                }
            };
            record.note(|report| {
                let stages = &mut report.stages;
                stages.queue = stages.queue.max(labelled.queue);
                stages.device += labelled.device;
            });
            pictures.push(labelled);
        }
        Ok(Results { pictures, place })
    }

    /// Does `work`, which encodes results, on a thread for it.
    ///
    /// # Errors
    /// Those of `work`; `Internal` if it panics.
    pub async fn encode<T: Send + 'static>(
        &self,
        record: &Record,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let begin = Instant::now();
        let done = self.on_coder(work).await?;
        record.note(|report| report.stages.encode += begin.elapsed());
        done
    }

    async fn on_coder<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Outcome<T> {
        let turn = self.coders.clone().acquire_owned().await;
        // The thread goes on if the client goes: it keeps its turn until then.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!("a fault of the server: {error}");
            Trouble::new(Kind::Internal, "a fault of the server; its log says more")
        })
    }

    /// The sizes of the pictures, from their headers.
    fn sizes(&self, sources: &[Source]) -> Outcome<Vec<Size>> {
        let most = self.limits().pixels;
        let many = sources.len() > 1;
        let of = |(i, source): (usize, &Source)| {
            let size = match source {
                Source::Rgb(size, _) => Ok(*size),
                Source::File(bytes) => Picture::size_of(bytes).map_err(|e| not_read(bytes, e)),
            };
            let size = size.and_then(|size| {
                if size.height as u64 * size.width as u64 > most {
                    let text = format!(
                        "the picture has {size} pixels (height x width), and {most} are allowed; make it smaller"
                    );
                    return Err(Trouble::new(Kind::TooLarge, text));
                }
                Ok(size)
            });
            size.map_err(|trouble| match many {
                true => trouble.at(format!("picture {i}")),
                false => trouble,
            })
        };
        sources.iter().enumerate().map(of).collect()
    }
}

/// A part of the memory for bodies, given back when dropped.
#[derive(Debug)]
pub struct BodyShare {
    service: Arc<Service>,
    bytes: usize,
}

impl BodyShare {
    /// Adds `bytes`.
    ///
    /// # Errors
    /// `Full` if all bodies together are too large.
    pub fn add(&mut self, bytes: usize) -> Outcome<()> {
        let all = self.service.bodies.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        match all > self.service.limits().bodies_bytes {
            true => Err(self.service.full()),
            false => Ok(()),
        }
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.service.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn decode(sources: &[Source], limits: &PictureLimits) -> Outcome<Vec<Picture>> {
    let many = sources.len() > 1;
    let picture = |(i, source): (usize, &Source)| {
        let picture = match source {
            Source::Rgb(size, pixels) => {
                Picture::from_rgb(*size, pixels.to_vec()).map_err(Trouble::from)
            }
            Source::File(bytes) => {
                Picture::decode_within(bytes, limits).map_err(|e| not_read(bytes, e))
            }
        };
        picture.map_err(|trouble| match many {
            true => trouble.at(format!("picture {i}")),
            false => trouble,
        })
    };
    sources.iter().enumerate().map(picture).collect()
}

/// The failure of a picture file that is not read.
fn not_read(bytes: &[u8], error: fullconv::Error) -> Trouble {
    let head = &bytes[..bytes.len().min(PictureFormat::HEAD)];
    let is_read = PictureFormat::of(head).is_some_and(PictureFormat::is_read);
    let trouble = Trouble::from(error);
    match trouble.kind {
        Kind::Invalid if !is_read => Trouble {
            kind: Kind::MediaType,
            ..trouble
        },
        _ => trouble,
    }
}

fn too_late() -> Trouble {
    Trouble::new(Kind::Deadline, "the request's time is over")
}

/// What `future` gives, unless the deadline comes first.
async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Outcome<T> {
    let waited = tokio::time::timeout_at(deadline.into(), future).await;
    waited.map_err(|_| too_late())
}
