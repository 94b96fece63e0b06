//! Cases with inputs and the reference's output.

use super::emulation::emulated_plan;
use super::functions::numbers;
use super::ways::{Setup, Way};
use super::{OneOp, Random, difference, difference_of_labels};
use fullconv::Tensor;
use fullconv::low_level::ops::Case;
use fullconv::low_level::ops::numerics::ErrorBound;
use fullconv::low_level::plan::Plan;
use fullconv::low_level::plan::lowered::{FusedArgmax, Scores};
use std::any::Any;
use std::sync::Arc;

/// The numbers that a case's inputs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inputs {
    Random,
    /// Quarters, so that numbers are equal, whole, or zero.
    Quarters,
    /// Some numbers of the first input are NaN, infinite, large or small.
    Wild,
    /// The inputs hold [`numbers`] that are hard for functions.
    Hard,
}

/// The label of a pixel without a class.
const NO_CLASS: f32 = 255.0;

/// The error of a stage, far below what a mistake makes.
const STAGE_ERROR: f32 = 1e-5;

/// A case with inputs and the reference's output, for f32 or for f16.
pub struct Sample {
    pub one: Arc<OneOp>,
    expected: Tensor,
    /// The error bounds of elements; for labels, their scores and the scores' bounds.
    bounds: Bounds,
}

enum Bounds {
    Elements(Tensor),
    Labels { scores: Tensor, bounds: Tensor },
}

/// Whether the scores of labels are sums of products of the inputs: of quarters, these are exact.
fn sums_products(one: &OneOp) -> bool {
    let op: &dyn Any = one.op.as_ref();
    let fused: Option<&FusedArgmax> = op.downcast_ref();
    fused.is_some_and(|fused| matches!(fused.scores, Scores::Upsampled(_)))
}

impl Sample {
    pub fn new(case: Case, half: bool, inputs: Inputs, random: &mut Random) -> Self {
        let picture = case.op.name() == "preprocess";
        let mut one = OneOp::of_case(case, random);
        match inputs {
            Inputs::Quarters | Inputs::Wild | Inputs::Hard if picture => {}
            Inputs::Random => {}
            Inputs::Quarters => {
                let quarters = |t: &Tensor| t.map(|x| (4.0 * x).round() / 4.0);
                one = OneOp::new(one.op.clone(), one.inputs.iter().map(quarters).collect());
            }
            Inputs::Hard => {
                let mut numbers = numbers().into_iter().cycle();
                let mut inputs = one.inputs.clone();
                for number in inputs.iter_mut().flat_map(|t| t.data_mut()) {
                    *number = numbers.next().unwrap();
                }
                one = OneOp::new(one.op.clone(), inputs);
            }
            Inputs::Wild => {
                let mut inputs = one.inputs.clone();
                let spoil = |x: &mut f32| match random.below(24) {
                    0 | 1 => *x = f32::NAN,
                    2 => *x = x.signum() * f32::INFINITY,
                    _ => {}
                };
                inputs[0].data_mut().iter_mut().for_each(spoil);
                one = OneOp::new(one.op.clone(), inputs);
            }
        }
        let one = if half { one.in_half() } else { one };
        let bounds = match one.scores_of_labels() {
            Some((scores, bounds)) => Bounds::Labels {
                bounds: match inputs == Inputs::Quarters && sums_products(&one) {
                    true => bounds.map(|_| 0.0),
                    false => bounds,
                },
                scores,
            },
            None if half => Bounds::Elements(one.half_bounds()),
            None => Bounds::Elements(one.bounds()),
        };
        Self {
            expected: one.expected(),
            one: Arc::new(one),
            bounds,
        }
    }

    /// An op, in f32.
    pub fn of(one: OneOp) -> Self {
        Self {
            expected: one.expected(),
            bounds: Bounds::Elements(one.bounds()),
            one: Arc::new(one),
        }
    }

    /// The sample of a stage of an op. The bound of a sum in one stage alone says little: of several stages, that of the
    /// op holds.
    #[must_use]
    pub fn of_stage(mut self) -> Self {
        let shapes: Vec<_> = self.one.inputs.iter().map(Tensor::shape).collect();
        if matches!(self.one.op.numerics(&shapes).error, ErrorBound::Elements(_)) {
            return self;
        }
        if let Bounds::Elements(bounds) = &mut self.bounds {
            for (bound, expected) in bounds.data_mut().iter_mut().zip(self.expected.data()) {
                *bound = bound.max(STAGE_ERROR * (1.0 + expected.abs()));
            }
        }
        self
    }

    /// The sample of an op that drops infinite numbers, as a maximum does: there its bounds are infinite, though the
    /// result errs as that of other numbers.
    #[must_use]
    pub fn of_dropped(mut self) -> Self {
        if let Bounds::Elements(bounds) = &mut self.bounds {
            for (bound, expected) in bounds.data_mut().iter_mut().zip(self.expected.data()) {
                if expected.is_finite() && !bound.is_finite() {
                    *bound = STAGE_ERROR * (1.0 + expected.abs());
                }
            }
        }
        self
    }

    /// Whether the reference's finite numbers have finite bounds.
    pub fn is_bounded(&self) -> bool {
        let (expected, bounds) = match &self.bounds {
            Bounds::Elements(bounds) => (&self.expected, bounds),
            Bounds::Labels { scores, bounds } => (scores, bounds),
        };
        let mut both = expected.data().iter().zip(bounds.data());
        both.all(|(e, b)| !e.is_finite() || b.is_finite())
    }

    /// The sample's op by `way`, and its plan; `None` if `way` cannot compute the sample.
    pub fn by(&self, setup: &Setup, way: &Way) -> Option<(Arc<OneOp>, Plan)> {
        let op = way.alone(&self.one.op, &setup.target);
        let one = match Arc::ptr_eq(&op, &self.one.op) {
            true => self.one.clone(),
            false => Arc::new(OneOp::new(op, self.one.inputs.clone())),
        };
        let plan = setup.plan(&one).filter(|plan| way.is_of(plan))?;
        Some((one, plan))
    }

    /// The first difference of `found` from the reference, in words. NaN in the reference has to be NaN in `found`,
    /// infinity the same infinity, and no class no class.
    pub fn difference(&self, found: &Tensor) -> Option<String> {
        if found.shape() != self.expected.shape() {
            return Some(format!("the shape is {}", found.shape()));
        }
        let same = |e: f32, f: f32| match self.bounds {
            Bounds::Elements(_) if e.is_finite() => false,
            Bounds::Elements(_) => e == f || e.is_nan() && f.is_nan(),
            Bounds::Labels { .. } => e == NO_CLASS && f == NO_CLASS,
        };
        let (mut expected, mut found) = (self.expected.clone(), found.clone());
        let mut none = vec![false; expected.data().len()];
        let both = expected.data_mut().iter_mut().zip(found.data_mut());
        for (none, (e, f)) in none.iter_mut().zip(both) {
            if same(*e, *f) {
                (*none, *e, *f) = (true, 0.0, 0.0);
            }
        }
        match &self.bounds {
            Bounds::Elements(bounds) => difference(&expected, &found, bounds),
            Bounds::Labels { scores, bounds } => {
                let (mut scores, shape) = (scores.clone(), expected.shape());
                for i in 0..scores.data().len() {
                    let [n, _, y, x] = scores.position(i);
                    if none[(n * shape.h + y) * shape.w + x] {
                        scores.data_mut()[i] = 0.0;
                    }
                }
                difference_of_labels(&expected, &found, &scores, bounds)
            }
        }
    }

    /// Whether `way` can compute this on a device; panics if its output differs from the reference.
    pub fn check(&self, setup: &Setup, way: &Way) -> bool {
        let Some((one, plan)) = self.by(setup, way) else {
            return false;
        };
        let found = one.run_plan(&setup.gpu, emulated_plan(plan));
        if let Some(difference) = self.difference(&found) {
            let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
            panic!(
                "{}, {:?}: {:?} on {shapes:?}: {difference}",
                setup.name, way.how, self.one.op
            );
        }
        true
    }
}
