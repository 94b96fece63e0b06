//! How well predicted classes agree with labels: pixel accuracy, mean IoU and their kin, Dice, boundary IoU.

mod boundary;
mod confusion;

pub use boundary::BoundaryIou;
pub use confusion::ConfusionMatrix;

/// The number of classes of a `u8` label.
const MAX_CLASSES: usize = 256;

/// `None` if `whole` is 0.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// `None` without values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}
