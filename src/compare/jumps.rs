//! Ops whose output jumps: comparisons, `floor`, `where`, indices of a pooling.
//!
//! Where an input lies nearer to the edge of a jump than it errs, device and CPU may be on different sides. An element may
//! then differ if it is what the op gives for the device's own inputs, and if the reference's inputs reach the same side
//! within their margin, their bound times the largest magnitude. All other elements are equal or wrong. The reference goes
//! on with the device's side of each jump, so that what follows is compared element by element, within bounds that know
//! nothing of the jump.

use crate::deviation::largest;
use crate::error::Result;
use crate::ops::Op;
use crate::ops::narrow;
use crate::ops::numerics::{FLUSHED, Jumps};
use crate::segmenter::Precision;
use crate::tensor::Tensor;
use std::borrow::Cow;

/// The most jumps that are named.
const NAMED: usize = 8;

/// An input of an op that jumps.
pub(super) struct Input<'a> {
    /// As in the reference.
    pub reference: &'a Tensor,
    /// As on the device.
    pub device: Cow<'a, Tensor>,
    /// The bound of its relative error.
    pub bound: f64,
}

impl Input<'_> {
    /// The device's values, each no further from the reference's than its margin.
    fn within_margin(&self) -> Tensor {
        let largest = largest(self.reference);
        let margin = self.bound * f64::from(largest);
        let mut near = self.device.clone().into_owned();
        for (value, reference) in near.data_mut().iter_mut().zip(self.reference.data()) {
            let reference = f64::from(*reference);
            let [least, most] = [reference - margin, reference + margin];
            if !(least..=most).contains(&f64::from(*value)) {
                *value = f64::from(*value).max(least).min(most) as f32;
            }
        }
        near
    }
}

/// The elements of an op that jumps.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Jumped {
    /// Elements on the other side of a jump, where the device's own input is.
    pub count: usize,
    /// The first of them, as `[n, c, y, x]`.
    pub at: Vec<[usize; 4]>,
    /// Elements that differ without such a reason.
    pub wrong: usize,
}

/// What an op gives for the device's inputs.
struct Own {
    value: Tensor,
    /// The step or the branch of each element.
    sides: Tensor,
    /// Those for inputs within their margins.
    near: Tensor,
}

impl Own {
    /// What `op` gives after `change` of each number.
    fn of(
        op: &dyn Op,
        jumps: &Jumps<'_>,
        inputs: &[Input<'_>],
        change: &dyn Fn(f32) -> f32,
    ) -> Result<Self> {
        let outcome = |inputs: Vec<Tensor>| -> Result<(Tensor, Tensor)> {
            let inputs: Vec<_> = inputs.iter().collect();
            let value = op.reference(&inputs)?;
            let sides = jumps.sides(&inputs, &value)?;
            let sides = sides.unwrap_or_else(|| value.clone());
            Ok((value, sides))
        };
        let device = inputs.iter().map(|input| input.device.map(change));
        let near = inputs.iter().map(|input| input.within_margin().map(change));
        let (value, sides) = outcome(device.collect())?;
        let (_, near) = outcome(near.collect())?;
        Ok(Self { value, sides, near })
    }
}

/// Compares what the device has `found` with what `op` gives for its inputs there. The elements of `expected` that jumped
/// become the device's.
///
/// # Errors
/// As [`Op::reference`].
pub(super) fn compare(
    op: &dyn Op,
    inputs: &[Input<'_>],
    expected: &mut Tensor,
    found: &Tensor,
    precision: Precision,
) -> Result<Jumped> {
    let of_reference: Vec<_> = inputs.iter().map(|input| input.reference).collect();
    let shapes: Vec<_> = of_reference.iter().map(|t| t.shape()).collect();
    let jumps = &op.numerics(&shapes).jumps;
    let Some(sides) = jumps.sides(&of_reference, expected)? else {
        return Ok(Jumped::default());
    };
    let smallest = match precision {
        Precision::F32 => FLUSHED,
        Precision::F16 => narrow::FLUSHED,
    };
    // A device may take the smallest numbers for zeros.
    let flushed = |x: f32| match f64::from(x.abs()) < smallest {
        true => 0.0,
        false => x,
    };
    let mut read = inputs.iter().flat_map(|input| input.device.data());
    let mut own = vec![Own::of(op, jumps, inputs, &|x| x)?];
    if read.any(|x| flushed(*x) != *x) {
        own.push(Own::of(op, jumps, inputs, &flushed)?);
    }
    let mut jumped = Jumped::default();
    for (i, found) in found.data().iter().enumerate() {
        if expected.data()[i] == *found {
            continue;
        }
        let is_own = |own: &&Own| {
            let (value, found) = (f64::from(own.value.data()[i]), f64::from(*found));
            (value - found).abs() <= rounding(jumps, precision, value)
                && own.sides.data()[i] == own.near.data()[i]
        };
        let Some(own) = own.iter().find(is_own) else {
            jumped.wrong += 1;
            continue;
        };
        if own.sides.data()[i] == sides.data()[i] {
            continue;
        }
        jumped.count += 1;
        if jumped.at.len() < NAMED {
            jumped.at.push(expected.position(i));
        }
        expected.data_mut()[i] = *found;
    }
    Ok(jumped)
}

/// The error of a `value`: of a step none, of a branch that of a number which is passed on or is an attribute.
fn rounding(jumps: &Jumps<'_>, precision: Precision, value: f64) -> f64 {
    match (jumps, precision) {
        (Jumps::Steps, _) => 0.0,
        (_, Precision::F32) => FLUSHED,
        (_, Precision::F16) => narrow::UNIT * value.abs() + narrow::LEAST_STEP / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::numerics::UNIT;
    use crate::ops::{Eq, Floor, Gt, MaxPool2d, MaxPool2dIndices, Threshold, Where};
    use crate::tensor::Shape;

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(Shape::new(1, 1, 1, values.len()), values.to_vec()).unwrap()
    }

    /// What jumped and what is wrong in `found` for inputs of the reference and of the device, whose relative errors are
    /// at most `bound`; and the values that the reference goes on with.
    fn held(
        op: &dyn Op,
        pairs: &[[&[f32]; 2]],
        bound: f64,
        found: &[f32],
        precision: Precision,
    ) -> (usize, usize, Vec<f32>) {
        let pairs: Vec<[Tensor; 2]> = pairs.iter().map(|pair| pair.map(row)).collect();
        let mut inputs = Vec::new();
        for [reference, device] in &pairs {
            inputs.push(Input {
                reference,
                device: Cow::Borrowed(device),
                bound,
            });
        }
        let reference: Vec<_> = pairs.iter().map(|[reference, _]| reference).collect();
        let mut expected = op.reference(&reference).unwrap();
        let jumped = compare(op, &inputs, &mut expected, &row(found), precision).unwrap();
        assert_eq!(jumped.at.len(), jumped.count);
        (jumped.count, jumped.wrong, expected.into_data())
    }

    #[test]
    fn a_comparison_may_jump_where_its_input_errs_over_the_edge() {
        let of = |device: &[f32], found: &[f32]| {
            let reference = [1.0, 0.500_000_1, -2.0];
            let half: [&[f32]; 2] = [&[0.5], &[0.5]];
            let pairs = [[&reference[..], device], half];
            held(&Gt {}, &pairs, 4.0 * UNIT, found, Precision::F32)
        };
        let near = [1.0, 0.5, -2.0];
        assert_eq!(of(&near, &[1.0, 0.0, 0.0]), (1, 0, vec![1.0, 0.0, 0.0]));
        // The device's own input is not above the edge, or is far from it.
        assert_eq!(of(&near, &[1.0, 1.0, 1.0]), (0, 1, vec![1.0, 1.0, 0.0]));
        assert_eq!(of(&near, &[0.0, 1.0, 0.0]).1, 1);
        assert_eq!(of(&near, &[f32::NAN, 1.0, 0.5]).1, 2);
        // The device's input is over the edge, and the reference's is not near it.
        let far = [0.499, 0.5, -2.0];
        assert_eq!(of(&far, &[0.0, 0.0, 0.0]).1, 1);
    }

    #[test]
    fn a_number_equals_itself_on_every_device() {
        let values: [&[f32]; 2] = [&[0.25, 0.3], &[0.25, 0.300_000_04]];
        let of = |found| held(&Eq {}, &[values, values], 4.0 * UNIT, found, Precision::F32);
        assert_eq!(of(&[1.0, 1.0]), (0, 0, vec![1.0, 1.0]));
        assert_eq!(of(&[1.0, 0.0]).1, 1);
        let exact: [&[f32]; 2] = [&[0.25, 0.3], &[0.25, 0.3]];
        let of = |found| held(&Eq {}, &[values, exact], 4.0 * UNIT, found, Precision::F32);
        assert_eq!(of(&[1.0, 0.0]), (1, 0, vec![1.0, 0.0]));
    }

    #[test]
    fn a_floor_jumps_by_whole_numbers() {
        let of = |found| {
            let values: [&[f32]; 2] = [&[2.0, 3.5], &[1.999_999_9, 3.5]];
            held(&Floor {}, &[values], 4.0 * UNIT, found, Precision::F32)
        };
        assert_eq!(of(&[1.0, 3.0]), (1, 0, vec![1.0, 3.0]));
        assert_eq!(of(&[0.0, 3.0]).1, 1);
        assert_eq!(of(&[1.0, 4.0]).1, 1);
    }

    #[test]
    fn a_branch_errs_as_its_input_and_jumps_at_the_edge() {
        let op = Threshold {
            threshold: 0.1,
            value: -7.0,
        };
        let values: [&[f32]; 2] = [&[0.100_000_01, 0.3, 0.0], &[0.1, 0.300_000_04, 0.0]];
        let of = |found, precision| held(&op, &[values], 4.0 * UNIT, found, precision);
        let right = of(&[-7.0, 0.300_000_04, -7.0], Precision::F32);
        // The error of the branch stays for its bound.
        assert_eq!(right, (1, 0, vec![-7.0, 0.3, -7.0]));
        assert_eq!(of(&[-7.0, 0.300_000_1, -7.0], Precision::F32).1, 1);
        assert_eq!(of(&[-7.0, 0.3, -7.001], Precision::F32).1, 1);
        assert_eq!(of(&[-7.0, 0.3, -7.001], Precision::F16).1, 0);
    }

    #[test]
    fn the_condition_decides_and_the_branches_do_not() {
        let condition: [&[f32]; 2] = [&[0.0, 1.0, 1.0], &[1e-9, 1.0, 0.0]];
        let of = |found| {
            let pairs: [[&[f32]; 2]; 3] = [condition, [&[5.0], &[5.0]], [&[6.0], &[6.0]]];
            held(&Where {}, &pairs, 4.0 * UNIT, found, Precision::F32)
        };
        // The third condition of the device is wrong, whatever follows from it.
        assert_eq!(of(&[5.0, 5.0, 6.0]), (1, 1, vec![5.0, 5.0, 5.0]));
        assert_eq!(of(&[5.0, 5.0, 5.0]), (1, 0, vec![5.0, 5.0, 5.0]));
    }

    #[test]
    fn a_device_may_take_the_smallest_numbers_for_zeros() {
        let values: [&[f32]; 2] = [&[1e-40, 1.0], &[1e-40, 1.0]];
        let zero: [&[f32]; 2] = [&[0.0], &[0.0]];
        let of = |found| held(&Gt {}, &[values, zero], UNIT, found, Precision::F32);
        assert_eq!(of(&[0.0, 1.0]).1, 0);
        assert_eq!(of(&[1.0, 1.0]).1, 0);
        assert_eq!(of(&[0.0, 0.0]).1, 1);
    }

    #[test]
    fn an_index_is_that_of_the_largest_value_on_the_device() {
        let pool = MaxPool2d {
            kernel_size: [1, 4],
            ..MaxPool2d::square(1, 4, false)
        };
        let of = |device: &[f32], found| {
            let reference = [1.0, 2.0, 2.000_000_2, 0.0];
            let op = MaxPool2dIndices { pool: pool.clone() };
            let pairs = [[&reference[..], device]];
            held(&op, &pairs, 4.0 * UNIT, &[found], Precision::F32)
        };
        let near = [1.0, 2.000_000_2, 2.0, 0.0];
        assert_eq!(of(&near, 1.0), (1, 0, vec![1.0]));
        assert_eq!(of(&near, 0.0).1, 1);
        assert_eq!(of(&near, 4.0).1, 1);
        assert_eq!(of(&[2.1, 2.0, 2.0, 0.0], 0.0).1, 1);
    }
}
