//! Norms, and softmax over pixels: large pictures, means far from 0, f16.

use crate::common::{OneOp, Random, all_gpus};
use fullconv::low_level::ops::reduce::Dims;
use fullconv::low_level::ops::{GroupNorm, InstanceNorm, LayerNorm, LogSoftmax, Op, Softmax};
use fullconv::{Shape, Tensor};
use std::sync::Arc;

/// Numbers around `mean`, which differ by less than `deviation`.
fn around(mean: f32, deviation: f32, shape: Shape) -> Tensor {
    let random = Random::new(31).tensor(shape);
    random.map(|x| mean + deviation * x)
}

/// The bound follows from the distances to the mean: a variance as the difference of a mean square and a squared mean
/// would have no digit left.
#[test]
fn variances_far_from_zero_keep_their_digits() {
    let shape = Shape::new(1, 6, 90, 120);
    let ops: [Arc<dyn Op>; 3] = [
        Arc::new(GroupNorm {
            num_groups: 2,
            eps: 1e-5,
        }),
        Arc::new(InstanceNorm::default()),
        Arc::new(LayerNorm::default()),
    ];
    for (name, gpu) in all_gpus() {
        for op in &ops {
            let one = OneOp::new(op.clone(), vec![around(3000.0, 1.0, shape)]);
            let largest = one.bounds().data().iter().fold(0.0f32, |a, b| a.max(*b));
            assert!(largest < 0.1, "{op:?}: {largest}");
            one.check(&gpu, name);
        }
    }
}

/// In f16 plans, statistics are f32: the sums of squares are more than f16 holds.
#[test]
fn statistics_stay_f32_in_f16() {
    let shape = Shape::new(2, 6, 40, 50);
    let op = GroupNorm {
        num_groups: 2,
        eps: 1e-5,
    };
    let one = OneOp::new(Arc::new(op), vec![around(500.0, 400.0, shape)]);
    for (name, gpu) in all_gpus() {
        let Ok(target) = gpu.half_target() else {
            eprintln!("SKIP: {name} has no f16");
            continue;
        };
        let plan = one.plan(&target).unwrap();
        let (last, statistics) = plan.layers.split_last().unwrap();
        assert!(last.half && statistics.len() > 4, "{name}: {plan}");
        assert!(statistics.iter().all(|layer| !layer.half), "{name}: {plan}");
        one.check_half(&gpu, &[target], name);
    }
}

/// Sums of a row of 130,001 pixels take several dispatches each.
#[test]
fn softmax_of_a_long_row_is_summed_in_several_dispatches() {
    let dim = Dims::PIXELS;
    for op in [
        Arc::new(Softmax { dim }) as Arc<dyn Op>,
        Arc::new(LogSoftmax { dim }),
    ] {
        let shape = Shape::new(1, 3, 1, 130_001);
        let one = OneOp::new(op, vec![around(-2.0, 5.0, shape)]);
        for (name, gpu) in all_gpus() {
            let plan = one.plan(gpu.target()).unwrap();
            assert!(plan.steps.len() >= 7, "{name}: {plan}");
            one.check(&gpu, name);
        }
    }
}
