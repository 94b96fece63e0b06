//! Error bounds, and checks of a device's results against them.

use fullconv::Tensor;
use fullconv::low_level::ops::Op;
use fullconv::low_level::ops::numerics;

/// The relative error of rounding to f16.
pub const HALF_UNIT: f32 = 1.0 / (1u32 << 11) as f32;
/// The least step of f16 above zero.
pub const HALF_STEP: f32 = 1.0 / (1u32 << 24) as f32;

/// The error bound of each element of the output of `op` in f16: the op's own bound and one rounding. Exact ops have no
/// rounding.
pub fn half_bounds(op: &dyn Op, inputs: &[&Tensor], expected: &Tensor) -> Tensor {
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
    let mut bounds = numerics::bounds(op, inputs, expected).unwrap();
    if !op.numerics(&shapes).is_exact() {
        for (bound, expected) in bounds.data_mut().iter_mut().zip(expected.data()) {
            *bound += (expected.abs() + *bound) * HALF_UNIT + HALF_STEP;
        }
    }
    bounds
}

/// The first element of `found` that is not within its bound of `expected`, in words.
pub fn difference(expected: &Tensor, found: &Tensor, bounds: &Tensor) -> Option<String> {
    let elements = expected.data().iter().zip(found.data()).zip(bounds.data());
    let mut different = elements.enumerate().filter(|(_, ((e, f), b))| {
        let off = (f64::from(**e) - f64::from(**f)).abs();
        !off.is_finite() || off > f64::from(**b)
    });
    let (i, ((e, f), b)) = different.next()?;
    let at = expected.position(i);
    Some(format!("at {at:?} expected {e}, found {f}, bound {b:e}"))
}

/// Panics unless every element of `found` is within its bound of `expected`.
pub fn assert_within(expected: &Tensor, found: &Tensor, bounds: &Tensor, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    if let Some(difference) = difference(expected, found, bounds) {
        panic!("{what}: {difference}");
    }
}

/// The first label of `found` that is wrong for `scores`, in words. A label may differ from the expected one only if
/// the scores of the two classes are closer than the sum of their bounds. Of equal scores without errors, the lower
/// class is the label.
pub fn difference_of_labels(
    expected: &Tensor,
    found: &Tensor,
    scores: &Tensor,
    bounds: &Tensor,
) -> Option<String> {
    let classes = scores.shape().c;
    let mut labels = found.data().iter();
    if let Some(i) = labels.position(|label| *label as usize >= classes) {
        return Some(format!(
            "class {} at {:?}",
            found.data()[i],
            found.position(i)
        ));
    }
    let of_labels = |labels: &Tensor, values: &Tensor| {
        let value = |n, _, y, x| values.at(n, labels.at(n, 0, y, x) as usize, y, x);
        Tensor::from_fn(labels.shape(), value).unwrap()
    };
    let mut margin = of_labels(expected, bounds);
    for (m, b) in margin
        .data_mut()
        .iter_mut()
        .zip(of_labels(found, bounds).data())
    {
        *m += b;
    }
    let mut both = expected.data().iter().zip(found.data()).zip(margin.data());
    if let Some(i) = both.position(|((e, f), m)| *m == 0.0 && e != f) {
        let (e, f) = (expected.data()[i], found.data()[i]);
        return Some(format!("class {f}, not {e}, at {:?}", found.position(i)));
    }
    let (expected, found) = (of_labels(expected, scores), of_labels(found, scores));
    let different = difference(&expected, &found, &margin)?;
    Some(format!("scores of labels, {different}"))
}

/// Panics unless `found` are the labels of `scores`, as [`difference_of_labels`] says.
pub fn assert_labels(
    expected: &Tensor,
    found: &Tensor,
    scores: &Tensor,
    bounds: &Tensor,
    what: &str,
) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    if let Some(difference) = difference_of_labels(expected, found, scores, bounds) {
        panic!("{what}: {difference}");
    }
}

/// ‖found − expected‖ / ‖expected‖; infinite if an element is not finite.
pub fn relative_error(expected: &Tensor, found: &Tensor) -> f64 {
    assert_eq!(expected.shape(), found.shape());
    let (mut squares, mut norm) = (0.0, 0.0);
    for (e, f) in expected.data().iter().zip(found.data()) {
        let (e, f) = (f64::from(*e), f64::from(*f));
        squares += if f.is_finite() {
            (e - f) * (e - f)
        } else {
            f64::INFINITY
        };
        norm += e * e;
    }
    if squares == 0.0 {
        0.0
    } else {
        (squares / norm).sqrt()
    }
}
