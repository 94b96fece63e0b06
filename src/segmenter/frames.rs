//! Pictures on their way through the device, several at a time.

use super::on_gpu::Lent;
use super::{Engine, Segmenter};
use crate::error::Result;
use crate::gpu::{self, IN_FLIGHT, Pending};
use crate::mask::Mask;
use crate::picture::Picture;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pictures on their way through a [`Segmenter`], masks out in the order in which the pictures came in:
/// while the device works on one, the next is uploaded and the one before it read back.
///
/// It holds at most [`Frames::DEPTH`] pictures, so that memory is bounded however many there are. A
/// picture that fails does not stop those after it. Pictures of one size follow each other without a gap;
/// before one of another size the device runs empty.
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
/// Futures of it may be dropped at any time: no mask is lost by that, and what the device still does is
/// not waited for.
#[derive(Debug)]
pub struct Frames<'a> {
    segmenter: &'a Segmenter,
    lent: Option<Lent<'a>>,
    /// The oldest first.
    under_way: VecDeque<Frame>,
    /// When the last picture was done that is.
    last_done: Option<Instant>,
    /// How long the one took that was handed back last.
    time: Option<Duration>,
}

/// A picture under way.
#[derive(Debug)]
struct Frame {
    size: [usize; 2],
    begin: Option<Instant>,
    state: State,
}

#[derive(Debug)]
enum State {
    InFlight(Pending),
    Done(Result<Mask>, Option<Duration>),
}

impl<'a> Frames<'a> {
    /// The most pictures that are under way at a time.
    pub const DEPTH: usize = IN_FLIGHT;

    pub(super) fn new(segmenter: &'a Segmenter) -> Self {
        Self {
            segmenter,
            lent: None,
            under_way: VecDeque::with_capacity(Self::DEPTH + 1),
            last_done: None,
            time: None,
        }
    }

    /// How many pictures are under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no picture is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Sends `picture` on its way. Where [`Frames::DEPTH`] are under way already, this first waits for the
    /// mask of the oldest and gives that back. What is wrong with `picture` itself comes when it is its
    /// turn, from here or from [`Frames::next`]: the errors of [`Segmenter::segment`].
    pub async fn push(&mut self, picture: &Picture) -> Option<Result<Mask>> {
        let is_full = self.under_way.len() >= Self::DEPTH;
        if is_full {
            self.land(0).await;
        }
        let begin = gpu::now();
        let state = match self.start(picture).await {
            Ok(state) => state,
            Err(error) => State::Done(Err(error), None),
        };
        self.under_way.push_back(Frame {
            size: [picture.height(), picture.width()],
            begin,
            state,
        });
        if is_full { self.take_done() } else { None }
    }

    /// The mask of the oldest picture under way, when it is done; `None` if there is none.
    pub async fn next(&mut self) -> Option<Result<Mask>> {
        self.land(0).await;
        self.take_done()
    }

    /// How long the picture took whose mask was handed back last, from pixels in memory to class ids; if it
    /// waited for the one before it, from when that was done. `None` without a mask or a clock.
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

    /// Waits until picture `i` of those under way is done.
    async fn land(&mut self, i: usize) {
        let Some(frame) = self.under_way.get_mut(i) else {
            return;
        };
        let State::InFlight(labels) = &mut frame.state else {
            return;
        };
        let mask = match (&mut *labels).await {
            Ok(labels) => self.segmenter.mask(frame.size, labels),
            Err(error) => Err(error),
        };
        let done = labels.completed();
        // While another was before it, the device did not work on this one.
        let begin = frame.begin.max(self.last_done);
        let time = done
            .zip(begin)
            .map(|(done, begin)| done.duration_since(begin));
        frame.state = State::Done(mask, time);
        self.last_done = done;
    }

    async fn start(&mut self, picture: &Picture) -> Result<State> {
        let segmenter = self.segmenter;
        let on = match &segmenter.engine {
            Engine::Gpu(on) => on,
            Engine::Reference => {
                let begin = gpu::now();
                let mask = segmenter.segment(picture).await;
                return Ok(State::Done(mask, begin.map(|begin| begin.elapsed())));
            }
        };
        let task = segmenter.task(picture)?;
        if self.lent.as_ref().is_none_or(|lent| !lent.fits(&task)) {
            // What is in flight still uses the buffers that have to go before the new ones come.
            for i in 0..self.under_way.len() {
                self.land(i).await;
            }
            self.lent = None;
        }
        let lent = match &mut self.lent {
            Some(lent) => lent,
            none => none.insert(on.lend(&segmenter.model, task).await?),
        };
        let words = picture.to_rgba_words();
        let words = bytemuck::cast_slice(&words);
        Ok(State::InFlight(lent.executor()?.submit(words).await?))
    }
}
