//! Preprocessing: channel order, range, mean, standard deviation, and the scale at which a network works
//! well.

use crate::error::{Result, bail};
pub use crate::ops::preprocess::Channels;
use crate::size::Size;
use serde::{Deserialize, Serialize};

/// How a picture becomes a network's input, the same for every size of picture.
///
/// A channel value `v` of 255 becomes `(v / 255 · range − mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The order of the channels, which is also that of `mean` and `std`.
    pub channels: Channels,
    /// The value of a full channel, 1 or 255.
    pub range: f32,
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
    /// Resize every picture to this many pixels on its longer side; without it, pictures keep their size. A
    /// network works well only near the scale that it was trained at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_side: Option<usize>,
}

/// The longest `long_side` that a model file may ask for.
const MAX_LONG_SIDE: usize = 1 << 14;

impl Preprocessing {
    /// The preprocessing of networks trained with Caffe: BGR, 0 to 255, minus the mean of their training pictures
    /// (Long, Shelhamer, Darrell 2015).
    pub const CAFFE: Self = Self {
        channels: Channels::Bgr,
        range: 255.0,
        mean: [104.00699, 116.66877, 122.67892],
        std: [1.0; 3],
        long_side: None,
    };

    /// The preprocessing of torchvision's networks: RGB, 0 to 1, normalised by ImageNet's mean and standard deviation.
    pub const TORCHVISION: Self = Self {
        channels: Channels::Rgb,
        range: 1.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        long_side: None,
    };

    /// An error unless the numbers can be used.
    pub(crate) fn validate(&self) -> Result<()> {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        if !finite(&self.mean) || !finite(&[self.range]) || !self.std.iter().all(|s| s.is_normal())
        {
            bail!(
                ModelFile,
                "preprocess: range and mean must be finite, std finite and not 0"
            );
        }
        if self.long_side.is_some_and(|s| s == 0 || s > MAX_LONG_SIDE) {
            bail!(
                ModelFile,
                "preprocess: long_side must be 1 to {MAX_LONG_SIDE}"
            );
        }
        Ok(())
    }

    /// The size at which the network gets a picture of `size`.
    ///
    /// ```
    /// use fullconv::{Preprocessing, Size};
    /// let at_480 = Preprocessing { long_side: Some(480), ..Preprocessing::CAFFE };
    /// let size = Size::new(563, 751);
    /// assert_eq!(at_480.network_size(size), Size::new(360, 480));
    /// assert_eq!(Preprocessing::CAFFE.network_size(size), size);
    /// ```
    pub fn network_size(&self, size: Size) -> Size {
        let Some(long) = self.long_side else {
            return size;
        };
        let longer = size.height.max(size.width).max(1);
        let share = |side: usize| {
            let rounded = (side as u128 * long as u128 * 2 + longer as u128) / (2 * longer as u128);
            rounded.max(1) as usize
        };
        Size::new(share(size.height), share(size.width))
    }

    /// The op that makes a picture an input of `size`.
    pub(crate) fn op(&self, size: Size) -> crate::ops::Preprocess {
        crate::ops::Preprocess {
            size: size.axes(),
            channels: self.channels,
            range: self.range,
            mean: self.mean,
            std: self.std,
        }
    }
}
