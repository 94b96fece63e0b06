//! Pictures on their way through the device, several at a time.

use super::executors::Lent;
use super::{Engine, Request, Segmenter};
use crate::error::Result;
use crate::gpu;
use crate::gpu::low_level::{IN_FLIGHT, Pending};
use crate::mask::Mask;
use crate::picture::Picture;
use crate::size::Size;
use futures_core::Stream;
#[cfg(not(target_arch = "wasm32"))]
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
#[cfg(not(target_arch = "wasm32"))]
use std::iter::Fuse;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Pictures on their way through a [`Segmenter`], with masks in the order of the pictures: while the device works on
/// one picture, the next is uploaded and the one before it read back.
///
/// It holds at most [`Frames::DEPTH`] pictures, which bounds the memory. A picture that fails does not stop later ones.
/// Pictures of one size follow each other without a gap; before a picture of another size the device runs empty.
///
/// ```no_run
/// # async fn example(segmenter: &fullconv::Segmenter, paths: &[&str]) -> fullconv::Result<()> {
/// use fullconv::Picture;
///
/// let mut frames = segmenter.frames();
/// for path in paths {
///     if let Some(mask) = frames.push(&Picture::open(path)?).await {
///         println!("{:?}", mask?.shares());
///     }
/// }
/// while let Some(mask) = frames.next().await {
///     println!("{:?}", mask?.shares());
/// }
/// # Ok(())
/// # }
/// ```
///
/// As a [`Stream`] it yields the masks of the pictures under way and then ends; it goes on when another picture is
/// pushed. The stream does not check a device that gives masks of one class. [`Frames::blocking`] makes it an iterator.
///
/// Its futures may be dropped at any time: no mask is lost, and dropping does not wait for the device.
#[derive(Debug)]
pub struct Frames {
    segmenter: Segmenter,
    lent: Option<Lent>,
    /// The oldest first.
    under_way: VecDeque<UnderWay>,
    /// When the last finished picture was done.
    last_done: Option<Instant>,
    /// The time of the picture whose mask was returned last.
    time: Option<Duration>,
}

/// A picture under way.
#[derive(Debug)]
struct UnderWay {
    size: Size,
    begin: Option<Instant>,
    state: State,
}

#[derive(Debug)]
enum State {
    InFlight(Pending),
    Done(Result<Mask>, Option<Duration>),
}

impl Frames {
    /// The most pictures that are under way at a time.
    pub const DEPTH: usize = IN_FLIGHT;

    pub(super) fn new(segmenter: Segmenter) -> Self {
        Self {
            segmenter,
            lent: None,
            under_way: VecDeque::with_capacity(Self::DEPTH + 1),
            last_done: None,
            time: None,
        }
    }

    /// The number of pictures under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no picture is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Starts `picture`. If [`Frames::DEPTH`] pictures are under way, first waits for the mask of the oldest and
    /// returns it. An error of `picture` itself comes in its turn, from here or from [`Frames::next`]: the errors of
    /// [`Segmenter::segment`].
    pub async fn push(&mut self, picture: &Picture) -> Option<Result<Mask>> {
        let is_full = self.under_way.len() >= Self::DEPTH;
        if is_full {
            self.land_oldest().await;
        }
        let begin = gpu::now();
        let state = match self.start(picture).await {
            Ok(state) => state,
            Err(error) => State::Done(Err(error), None),
        };
        self.under_way.push_back(UnderWay {
            size: picture.size(),
            begin,
            state,
        });
        if is_full { self.take_done() } else { None }
    }

    /// The mask of the oldest picture under way, when it is done; `None` if there is none.
    pub async fn next(&mut self) -> Option<Result<Mask>> {
        self.land_oldest().await;
        self.take_done()
    }

    /// Waits for the oldest picture under way, and makes its mask an error if the device is found to compute wrongly.
    async fn land_oldest(&mut self) {
        poll_fn(|context| self.poll_land(0, context)).await;
        if let Some(UnderWay { state, .. }) = self.under_way.front_mut()
            && let State::Done(Ok(mask), _) = state
            && let Err(error) = self.segmenter.check_if_doubtful(mask).await
        {
            *state = State::Done(Err(error), None);
        }
    }

    fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Mask>>> {
        ready!(self.poll_land(0, context));
        Poll::Ready(self.take_done())
    }

    /// The masks of `pictures` in their order, several under way at a time, for programs that block. Pictures already
    /// under way come first.
    ///
    /// ```no_run
    /// # fn example(segmenter: &fullconv::Segmenter, video: Vec<fullconv::Picture>) -> fullconv::Result<()> {
    /// for mask in segmenter.frames().blocking(video) {
    ///     println!("{:?}", mask?.shares());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn blocking<P: IntoIterator<Item: Borrow<Picture>>>(
        self,
        pictures: P,
    ) -> BlockingFrames<P::IntoIter> {
        BlockingFrames {
            frames: self,
            pictures: pictures.into_iter().fuse(),
        }
    }

    /// The time of the picture whose mask was returned last, from pixels in memory to class ids, or from the end of the
    /// picture before it if that was later. `None` without a mask or a clock.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }

    fn take_done(&mut self) -> Option<Result<Mask>> {
        let frame = self.under_way.pop_front()?;
        match frame.state {
            State::Done(mask, time) => {
                self.time = time;
                Some(mask)
            }
            State::InFlight(_) => {
                self.under_way.push_front(frame);
                None
            }
        }
    }

    /// Ready when the picture under way number `i` is done, or if there is none.
    fn poll_land(&mut self, i: usize, context: &mut Context<'_>) -> Poll<()> {
        let Some(frame) = self.under_way.get_mut(i) else {
            return Poll::Ready(());
        };
        let State::InFlight(labels) = &mut frame.state else {
            return Poll::Ready(());
        };
        let mask = ready!(Pin::new(&mut *labels).poll(context)).and_then(|outputs| {
            let labels = outputs.into_iter().next().unwrap_or_default();
            self.segmenter.mask(frame.size, labels)
        });
        let done = labels.completed();
        // The device did not work on this picture before the previous one was done.
        let begin = frame.begin.max(self.last_done);
        let time = done
            .zip(begin)
            .map(|(done, begin)| done.duration_since(begin));
        frame.state = State::Done(mask, time);
        self.last_done = done;
        Poll::Ready(())
    }

    async fn start(&mut self, picture: &Picture) -> Result<State> {
        let Engine::Gpu(on) = &self.segmenter.0.engine else {
            let begin = gpu::now();
            let mask = self.segmenter.segment(picture).await;
            return Ok(State::Done(mask, begin.map(|begin| begin.elapsed())));
        };
        let pool = on.executors();
        let preprocessing = self.segmenter.model().preprocessing();
        let form = preprocessing.form_of(picture)?;
        let request = Request::labels(preprocessing.input(1, picture.size(), form));
        let fits = |lent: &Lent| lent.fits(&pool, &request);
        if !self.lent.as_ref().is_some_and(fits) {
            // Runs in flight use buffers that may have to be freed for the new ones.
            for i in 0..self.under_way.len() {
                poll_fn(|context| self.poll_land(i, context)).await;
            }
            self.lent = None;
        }
        let lent = match &mut self.lent {
            Some(lent) => lent,
            none => none.insert(pool.lend(&request).await?),
        };
        let pictures = std::slice::from_ref(picture);
        let run = self.segmenter.submit(lent.executor()?, pictures, form);
        Ok(State::InFlight(run.await?))
    }
}

impl Stream for Frames {
    type Item = Result<Mask>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Mask>>> {
        self.get_mut().poll_oldest(context)
    }
}

/// Masks of pictures in their order, several under way at a time, for programs that block. See [`Frames::blocking`].
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct BlockingFrames<P> {
    frames: Frames,
    pictures: Fuse<P>,
}

#[cfg(not(target_arch = "wasm32"))]
impl<P> BlockingFrames<P> {
    /// The time of the picture whose mask came last, see [`Frames::time`].
    pub fn time(&self) -> Option<Duration> {
        self.frames.time()
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl<P: Iterator<Item: Borrow<Picture>>> Iterator for BlockingFrames<P> {
    type Item = Result<Mask>;

    fn next(&mut self) -> Option<Result<Mask>> {
        for picture in self.pictures.by_ref() {
            let mask = pollster::block_on(self.frames.push(picture.borrow()));
            if mask.is_some() {
                return mask;
            }
        }
        pollster::block_on(self.frames.next())
    }
}
