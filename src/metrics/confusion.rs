//! Counts of pixels by true and predicted class, and the metrics made of them.

use super::{MAX_CLASSES, mean, share};
use crate::error::{Result, bail};

/// Counts of pixels by true and predicted class, over any number of pictures, and the metrics of
/// Long, Shelhamer, Darrell 2015 (section 5) made of them.
///
/// With n_ij pixels of class i that are predicted as j, t_i = Σ_j n_ij pixels of class i, and
/// u_i = t_i + Σ_j n_ji − n_ii the union of both, each metric is a share, 0 to 1. `None` means that
/// there was nothing to measure. A class that does not occur has no share (0 / 0) and is left out of
/// the means, as in NumPy's `nanmean`. A class without a pixel in the labels is left out of the mean
/// accuracy, but lowers the mean IoU if the network predicts it.
///
/// ```
/// use fullconv::ConfusionMatrix;
/// let mut matrix = ConfusionMatrix::new(2)?;
/// matrix.add(&[0, 0, 1, 255], &[0, 1, 1, 0])?;
/// assert_eq!(matrix.pixels(), 3);
/// assert_eq!(matrix.iou(0), Some(0.5));
/// assert_eq!(matrix.mean_iou(), Some(0.5));
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// n_ij at i · classes + j.
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// A matrix of zeros for classes 0 to `classes` − 1.
    ///
    /// # Errors
    /// `Request` unless there are 1 to 256 classes, as many as a label of 8 bits can name.
    pub fn new(classes: usize) -> Result<Self> {
        if !(1..=MAX_CLASSES).contains(&classes) {
            bail!(
                Request,
                "a confusion matrix has 1 to {MAX_CLASSES} classes, not {classes}"
            );
        }
        Ok(Self {
            classes,
            counts: vec![0; classes * classes],
        })
    }

    /// Counts the pixels of a picture: `truth[i]` is the label of pixel i, `predicted[i]` the class
    /// that the network gave it.
    ///
    /// A pixel whose label is not a class of the matrix (255 in VOC, 11 in CamVid) is void: it is ignored, whatever the
    /// prediction.
    ///
    /// # Errors
    /// `Shape` if the lengths differ, or if a pixel that is not void is predicted to be of a class
    /// beyond the matrix: labels and network then have different classes, and any figure would
    /// mislead. Nothing is counted in that case.
    pub fn add(&mut self, truth: &[u8], predicted: &[u8]) -> Result<()> {
        if truth.len() != predicted.len() {
            bail!(
                Shape,
                "{} labels cannot be compared with {} predicted pixels",
                truth.len(),
                predicted.len()
            );
        }
        let classes = self.classes;
        let counted = || {
            let pairs = truth.iter().zip(predicted);
            pairs
                .map(|(&t, &p)| (usize::from(t), usize::from(p)))
                .filter(|&(t, _)| t < classes)
        };
        if let Some((_, class)) = counted().find(|&(_, p)| p >= classes) {
            bail!(
                Shape,
                "class {class} is predicted, but the labels have only {classes} classes"
            );
        }
        for (t, p) in counted() {
            self.counts[t * classes + p] += 1;
        }
        Ok(())
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// `Shape` if it has another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.classes != other.classes {
            bail!(
                Shape,
                "counts of {} classes cannot be added to those of {}",
                other.classes,
                self.classes
            );
        }
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// n_ij: the pixels of class `truth` that are predicted as `predicted`; 0 for classes beyond the
    /// matrix.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        if truth < self.classes && predicted < self.classes {
            self.counts[truth * self.classes + predicted]
        } else {
            0
        }
    }

    /// Σ t_i: the pixels counted, without the void ones.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// n_ii / t_i: the share of the pixels of `class` that are predicted as `class`. `None` if the labels have
    /// none.
    pub fn accuracy(&self, class: usize) -> Option<f64> {
        share(self.count(class, class), self.labelled(class))
    }

    /// n_ii / u_i: intersection over union of the pixels labelled and the pixels predicted as `class`.
    /// `None` if there are neither.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let hits = self.count(class, class);
        share(hits, self.labelled(class) + self.called(class) - hits)
    }

    /// 2 n_ii / (t_i + Σ_j n_ji): the Dice coefficient, or F1 score, of the pixels labelled and the pixels predicted as
    /// `class`. `None` if there are neither.
    pub fn dice(&self, class: usize) -> Option<f64> {
        let hits = self.count(class, class);
        share(2 * hits, self.labelled(class) + self.called(class))
    }

    /// Σ n_ii / Σ t_i: the share of all pixels with the right prediction.
    pub fn pixel_accuracy(&self) -> Option<f64> {
        let hits = (0..self.classes)
            .map(|class| self.count(class, class))
            .sum();
        share(hits, self.pixels())
    }

    /// The mean of n_ii / t_i over the classes that occur in the labels.
    pub fn mean_accuracy(&self) -> Option<f64> {
        mean((0..self.classes).filter_map(|class| self.accuracy(class)))
    }

    /// The mean of n_ii / u_i over the classes that occur, in the labels or among the predictions.
    pub fn mean_iou(&self) -> Option<f64> {
        mean((0..self.classes).filter_map(|class| self.iou(class)))
    }

    /// The mean Dice coefficient of the classes that occur, in the labels or among the predictions.
    pub fn mean_dice(&self) -> Option<f64> {
        mean((0..self.classes).filter_map(|class| self.dice(class)))
    }

    /// Σ t_i · (n_ii / u_i) / Σ t_i: the mean IoU with each class weighted by its pixels.
    pub fn frequency_weighted_iou(&self) -> Option<f64> {
        let pixels = self.pixels();
        (pixels > 0).then(|| {
            let weighted = (0..self.classes)
                .filter_map(|class| Some(self.labelled(class) as f64 * self.iou(class)?));
            weighted.sum::<f64>() / pixels as f64
        })
    }

    /// t_i: the pixels of `class` in the labels.
    fn labelled(&self, class: usize) -> u64 {
        (0..self.classes).map(|p| self.count(class, p)).sum()
    }

    /// Σ_j n_ji: the pixels predicted as `class`.
    fn called(&self, class: usize) -> u64 {
        (0..self.classes).map(|t| self.count(t, class)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn close(measured: Option<f64>, expected: f64) {
        let measured = measured.unwrap();
        assert!(
            (measured - expected).abs() < 1e-12,
            "{measured} != {expected}"
        );
    }

    /// Labels in rows, predictions in columns: [[3, 1, 0], [2, 4, 0], [0, 0, 0]], with two void pixels.
    fn example() -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(3).unwrap();
        matrix
            .add(&[0, 0, 0, 0, 255, 3], &[0, 0, 0, 1, 0, 200])
            .unwrap();
        matrix
            .add(&[1, 1, 1, 1, 1, 1], &[0, 0, 1, 1, 1, 1])
            .unwrap();
        matrix
    }

    #[test]
    fn metrics_agree_with_those_made_by_hand() {
        let matrix = example();
        let counts = [[3, 1, 0], [2, 4, 0], [0, 0, 0]];
        for (t, row) in counts.into_iter().enumerate() {
            for (p, count) in row.into_iter().enumerate() {
                assert_eq!(matrix.count(t, p), count);
            }
        }
        assert_eq!(matrix.pixels(), 10);
        close(matrix.pixel_accuracy(), 7.0 / 10.0);
        close(matrix.accuracy(0), 3.0 / 4.0);
        close(matrix.accuracy(1), 4.0 / 6.0);
        close(matrix.mean_accuracy(), (3.0 / 4.0 + 4.0 / 6.0) / 2.0);
        close(matrix.iou(0), 3.0 / 6.0);
        close(matrix.iou(1), 4.0 / 7.0);
        close(matrix.mean_iou(), (3.0 / 6.0 + 4.0 / 7.0) / 2.0);
        close(matrix.dice(0), 6.0 / (4.0 + 5.0));
        close(matrix.dice(1), 8.0 / (6.0 + 5.0));
        close(matrix.mean_dice(), (6.0 / 9.0 + 8.0 / 11.0) / 2.0);
        let weighted = (4.0 * (3.0 / 6.0) + 6.0 * (4.0 / 7.0)) / 10.0;
        close(matrix.frequency_weighted_iou(), weighted);
    }

    #[test]
    fn a_class_that_never_occurs_is_left_out() {
        let matrix = example();
        assert_eq!((matrix.accuracy(2), matrix.iou(2)), (None, None));
        assert_eq!((matrix.accuracy(9), matrix.iou(9)), (None, None));
        assert_eq!((matrix.dice(2), matrix.dice(9)), (None, None));
    }

    #[test]
    fn a_class_that_is_only_predicted_counts_in_the_iou_alone() {
        let mut matrix = ConfusionMatrix::new(3).unwrap();
        matrix.add(&[0, 0, 0, 1], &[0, 0, 2, 1]).unwrap();
        assert_eq!(matrix.accuracy(2), None);
        assert_eq!(matrix.iou(2), Some(0.0));
        close(matrix.mean_accuracy(), (2.0 / 3.0 + 1.0) / 2.0);
        close(matrix.mean_iou(), (2.0 / 3.0 + 1.0 + 0.0) / 3.0);
        close(matrix.mean_dice(), (4.0 / 5.0 + 1.0 + 0.0) / 3.0);
        close(
            matrix.frequency_weighted_iou(),
            (3.0 * (2.0 / 3.0) + 1.0) / 4.0,
        );
    }

    #[test]
    fn nothing_counted_measures_nothing() {
        let mut matrix = ConfusionMatrix::new(2).unwrap();
        matrix.add(&[255, 2], &[0, 1]).unwrap();
        assert_eq!(matrix.pixels(), 0);
        for metric in [
            matrix.pixel_accuracy(),
            matrix.mean_accuracy(),
            matrix.mean_iou(),
            matrix.mean_dice(),
            matrix.frequency_weighted_iou(),
        ] {
            assert_eq!(metric, None);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_counts_nothing() {
        let mut matrix = example();
        for (truth, predicted) in [(&[0, 1][..], &[0][..]), (&[0, 1], &[0, 3])] {
            let error = matrix.add(truth, predicted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
        }
        let error = matrix.merge(&ConfusionMatrix::new(2).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(matrix, example());
        for classes in [0, 257, usize::MAX] {
            let error = ConfusionMatrix::new(classes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Request);
        }
    }

    #[test]
    fn merging_is_counting_both() {
        let mut sum = example();
        sum.merge(&example()).unwrap();
        assert_eq!(sum.pixels(), 20);
        assert_eq!(sum.count(1, 0), 4);
        assert_eq!(sum.mean_iou(), example().mean_iou());
    }

    #[test]
    fn all_256_classes_of_a_label_fit() {
        let all: Vec<u8> = (0..=255).collect();
        let mut matrix = ConfusionMatrix::new(256).unwrap();
        matrix.add(&all, &all).unwrap();
        assert_eq!(matrix.mean_iou(), Some(1.0));
    }
}
