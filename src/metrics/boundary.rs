//! Boundary IoU: the agreement of labels and predictions near the edges of classes.

use super::{MAX_CLASSES, mean, share};
use crate::error::{Result, bail};
use crate::size::Size;

/// The width of the boundary as a share of the picture's diagonal, as in the paper.
const WIDTH: f64 = 0.02;

/// Boundary IoU (Cheng, Girshick, Dollár, Berg, Kirillov 2021) of each class, over any number of pictures.
///
/// The boundary of a class is made of its pixels that are at most d pixels away from a pixel of something else or from
/// the outside of the picture, along rows, columns and diagonals alike; d is 2 % of the picture's diagonal, rounded, and
/// at least 1. The boundary IoU is the intersection over union of the boundary in the labels and the boundary in the
/// predictions, counted over all pictures. IoU hardly sees the edges of a large object; boundary IoU sees nothing else.
///
/// Void pixels, whose label is not a class, belong to no class, in the labels and in the predictions alike; nor do
/// pixels of a predicted class beyond the last.
///
/// ```
/// use fullconv::{BoundaryIou, Size};
/// let mut boundary = BoundaryIou::new(2)?;
/// boundary.add(Size::new(1, 4), &[0, 0, 1, 1], &[0, 0, 0, 1])?;
/// assert_eq!(boundary.iou(0), Some(2.0 / 3.0));
/// assert_eq!(boundary.mean_iou(), Some((2.0 / 3.0 + 1.0 / 2.0) / 2.0));
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundaryIou {
    /// Pixels of both boundaries, and of either one, by class.
    counts: Vec<Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    both: u64,
    either: u64,
}

impl BoundaryIou {
    /// No pictures yet, of classes 0 to `classes` − 1.
    ///
    /// # Errors
    /// `Request` unless there are 1 to 256 classes.
    pub fn new(classes: usize) -> Result<Self> {
        if !(1..=MAX_CLASSES).contains(&classes) {
            bail!(
                Request,
                "boundaries are of 1 to {MAX_CLASSES} classes, not {classes}"
            );
        }
        Ok(Self {
            counts: vec![Count::default(); classes],
        })
    }

    /// Counts the boundaries of a picture of `size`: `truth[i]` is the label of pixel i, row by row, `predicted[i]` the
    /// class that the network gave it.
    ///
    /// # Errors
    /// `Shape` if either has not as many elements as the picture has pixels.
    pub fn add(&mut self, size: Size, truth: &[u8], predicted: &[u8]) -> Result<()> {
        for labels in [truth, predicted] {
            if size.pixels() != Some(labels.len()) {
                bail!(
                    Shape,
                    "{} class ids are not those of {size} pixels (height x width)",
                    labels.len()
                );
            }
        }
        let known = |id: u8| usize::from(id) < self.counts.len();
        // Something other than any class, so that a void pixel is beyond the edge of all of them.
        let class = |id: u8| if known(id) { i16::from(id) } else { -1 };
        let of_truth: Vec<i16> = truth.iter().map(|t| class(*t)).collect();
        let pairs = truth.iter().zip(predicted);
        let of_predicted = pairs.map(|(t, p)| if known(*t) { class(*p) } else { -1 });
        let of_predicted: Vec<i16> = of_predicted.collect();
        let distance = distance(size);
        let edges = boundary(size, &of_truth, distance);
        let predicted_edges = boundary(size, &of_predicted, distance);
        let labels = of_truth.iter().zip(&of_predicted);
        for ((t, p), edge) in labels.zip(edges.iter().zip(&predicted_edges)) {
            let on = |class: &i16, edge: &bool| usize::try_from(*class).ok().filter(|_| *edge);
            let (t, p) = (on(t, edge.0), on(p, edge.1));
            if let Some(t) = t {
                self.counts[t].either += 1;
                self.counts[t].both += u64::from(p == Some(t));
            }
            if let Some(p) = p.filter(|_| p != t) {
                self.counts[p].either += 1;
            }
        }
        Ok(())
    }

    /// Intersection over union of the boundaries of `class` in the labels and in the predictions. `None` if there are
    /// neither.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let count = self.counts.get(class)?;
        share(count.both, count.either)
    }

    /// The mean over the classes that occur, in the labels or among the predictions.
    pub fn mean_iou(&self) -> Option<f64> {
        mean((0..self.counts.len()).filter_map(|class| self.iou(class)))
    }
}

/// d, the width of the boundary in pixels.
fn distance(size: Size) -> usize {
    let [height, width] = size.axes().map(|side| side as f64);
    let distance = (WIDTH * height.hypot(width)).round() as usize;
    distance.max(1)
}

/// Whether each pixel is at most `distance` pixels, along either axis, away from a pixel of another class or from the
/// outside: whether the square of 2 · `distance` + 1 pixels around it has more than its own class.
fn boundary(size: Size, classes: &[i16], distance: usize) -> Vec<bool> {
    let width = size.width;
    let mut boundary = vec![true; classes.len()];
    // The number of rows, down to the current one, whose pixels within `distance` of this column are all of one class.
    let mut run = vec![0_usize; width];
    for (y, row) in classes.chunks_exact(width.max(1)).enumerate() {
        let above = y.checked_sub(1).map(|y| &classes[y * width..][..width]);
        for (x, is_uniform) in uniform(row, distance).into_iter().enumerate() {
            let goes_on = above.is_some_and(|above| above[x] == row[x]);
            run[x] = match (is_uniform, goes_on) {
                (false, _) => 0,
                (true, true) => run[x] + 1,
                (true, false) => 1,
            };
            if run[x] > 2 * distance {
                boundary[(y - distance) * width + x] = false;
            }
        }
    }
    boundary
}

/// Whether the pixels within `distance` of each pixel of a row are inside the picture and of its class.
fn uniform(row: &[i16], distance: usize) -> Vec<bool> {
    let mut uniform = Vec::with_capacity(row.len());
    for run in row.chunk_by(|a, b| a == b) {
        let inside = |x: usize| x >= distance && x + distance < run.len();
        uniform.extend((0..run.len()).map(inside));
    }
    uniform
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// The boundary by its definition, pixel by pixel.
    fn slow(size: Size, classes: &[i16], distance: usize) -> Vec<bool> {
        let [height, width] = size.axes().map(|side| side as i64);
        let d = distance as i64;
        let at = |y: i64, x: i64| {
            let inside = (0..height).contains(&y) && (0..width).contains(&x);
            inside.then(|| classes[(y * width + x) as usize])
        };
        let all = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let on = |(y, x): (i64, i64)| {
            let mut around = (y - d..=y + d).flat_map(|v| (x - d..=x + d).map(move |u| (v, u)));
            around.any(|(v, u)| at(v, u) != at(y, x))
        };
        all.map(on).collect()
    }

    /// Blobs of three classes and void.
    fn blobs(size: Size, seed: usize) -> Vec<i16> {
        let pixel = |i: usize| {
            let (y, x) = (i / size.width + seed, i % size.width);
            ((y / 5 + x / 7 + (y * x) / (40 + seed)) % 4) as i16 - 1
        };
        (0..size.pixels().unwrap()).map(pixel).collect()
    }

    #[test]
    fn the_boundary_is_the_one_of_its_definition() {
        for (height, width) in [(1, 1), (1, 9), (9, 1), (17, 23), (30, 31), (2, 40)] {
            let size = Size::new(height, width);
            for (seed, distance) in [(1, 1), (2, 2), (3, 4), (4, 50)] {
                let classes = blobs(size, seed);
                assert_eq!(
                    boundary(size, &classes, distance),
                    slow(size, &classes, distance),
                    "{size} {distance}"
                );
            }
        }
    }

    #[test]
    fn the_width_is_a_share_of_the_diagonal() {
        assert_eq!(distance(Size::new(360, 480)), 12);
        assert_eq!(distance(Size::new(1024, 2048)), 46);
        assert_eq!(distance(Size::new(1, 1)), 1);
    }

    #[test]
    fn equal_masks_have_a_boundary_iou_of_1() {
        let size = Size::new(40, 50);
        let labels: Vec<u8> = blobs(size, 1).iter().map(|c| *c as u8).collect();
        let mut boundary = BoundaryIou::new(3).unwrap();
        boundary.add(size, &labels, &labels).unwrap();
        assert_eq!(boundary.mean_iou(), Some(1.0));
        assert_eq!((boundary.iou(2), boundary.iou(3)), (Some(1.0), None));
    }

    /// A square of 20 pixels in 100, and the same one a pixel to the right; d is 3.
    #[test]
    fn a_shifted_square_by_hand() {
        let size = Size::square(100);
        let square = |left: usize| -> Vec<u8> {
            let pixel =
                |i: usize| (40..60).contains(&(i / 100)) && (left..left + 20).contains(&(i % 100));
            (0..10_000).map(|i| u8::from(pixel(i))).collect()
        };
        let mut boundary = BoundaryIou::new(2).unwrap();
        boundary.add(size, &square(40), &square(41)).unwrap();
        // Each boundary has 20² − 14² = 204 pixels. Both have the upper and the lower band of 3 rows over 19 columns,
        // and of the 14 rows between, 2 columns at the left and 2 at the right.
        let both = 2 * 3 * 19 + 14 * 4;
        let expected = both as f64 / (2 * 204 - both) as f64;
        assert_eq!(boundary.iou(1), Some(expected));
    }

    #[test]
    fn void_pixels_are_of_no_class_whatever_is_predicted() {
        let size = Size::new(1, 6);
        let truth = [0, 0, 255, 255, 1, 1];
        let mut boundary = BoundaryIou::new(2).unwrap();
        boundary.add(size, &truth, &[0, 0, 1, 0, 1, 1]).unwrap();
        assert_eq!(boundary.mean_iou(), Some(1.0));
        let mut nothing = BoundaryIou::new(2).unwrap();
        nothing.add(size, &[255; 6], &truth).unwrap();
        assert_eq!(nothing.mean_iou(), None);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut boundary = BoundaryIou::new(2).unwrap();
        for (truth, predicted) in [(&[0][..], &[0, 0][..]), (&[0, 0], &[0])] {
            let error = boundary.add(Size::new(1, 2), truth, predicted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
        }
        assert_eq!(BoundaryIou::new(0).unwrap_err().kind(), ErrorKind::Request);
        assert_eq!(
            BoundaryIou::new(257).unwrap_err().kind(),
            ErrorKind::Request
        );
    }
}
