//! Pictures on their way through the device, several at a time.

use super::{Engine, Key, Segmenter};
use crate::error::{Result, bail};
use crate::gpu::{Executor, IN_FLIGHT, Pending};
use crate::mask::Mask;
use crate::picture::Picture;
use std::collections::VecDeque;

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
    executor: Option<(Key, Executor)>,
    /// The oldest first.
    under_way: VecDeque<Frame>,
}

#[derive(Debug)]
enum Frame {
    InFlight { size: [usize; 2], labels: Pending },
    Done(Result<Mask>),
}

impl<'a> Frames<'a> {
    /// The most pictures that are under way at a time.
    pub const DEPTH: usize = IN_FLIGHT;

    pub(super) fn new(segmenter: &'a Segmenter) -> Self {
        Self {
            segmenter,
            executor: None,
            under_way: VecDeque::with_capacity(Self::DEPTH + 1),
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
        let frame = match self.start(picture).await {
            Ok(frame) => frame,
            Err(error) => Frame::Done(Err(error)),
        };
        self.under_way.push_back(frame);
        if is_full { self.take_done() } else { None }
    }

    /// The mask of the oldest picture under way, when it is done; `None` if there is none.
    pub async fn next(&mut self) -> Option<Result<Mask>> {
        self.land(0).await;
        self.take_done()
    }

    fn take_done(&mut self) -> Option<Result<Mask>> {
        match self.under_way.pop_front()? {
            Frame::Done(mask) => Some(mask),
            in_flight => {
                self.under_way.push_front(in_flight);
                None
            }
        }
    }

    /// Waits until picture `i` of those under way is done.
    async fn land(&mut self, i: usize) {
        if let Some(frame) = self.under_way.get_mut(i)
            && let Frame::InFlight { size, labels } = frame
        {
            let mask = match labels.await {
                Ok(labels) => self.segmenter.mask(*size, labels),
                Err(error) => Err(error),
            };
            *frame = Frame::Done(mask);
        }
    }

    async fn start(&mut self, picture: &Picture) -> Result<Frame> {
        if let Engine::Reference = self.segmenter.engine {
            return Ok(Frame::Done(self.segmenter.segment(picture).await));
        }
        let task = self.segmenter.task(picture)?;
        if self
            .executor
            .as_ref()
            .is_none_or(|(key, _)| *key != task.key)
        {
            // What is in flight still uses the buffers that have to go before the new ones come.
            for i in 0..self.under_way.len() {
                self.land(i).await;
            }
            self.hand_back();
            self.executor = Some(self.segmenter.executor(task).await?);
        }
        let Some((_, executor)) = &mut self.executor else {
            bail!(Device, "there is nothing to run the picture with");
        };
        let words = picture.to_rgba_words();
        Ok(Frame::InFlight {
            size: [picture.height(), picture.width()],
            labels: executor.submit(bytemuck::cast_slice(&words)).await?,
        })
    }

    /// Leaves the executor to the next who has a picture of its size.
    fn hand_back(&mut self) {
        if let Some(executor) = self.executor.take() {
            self.segmenter.keep(executor);
        }
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        self.hand_back();
    }
}
