//! Labels, on random attributes and shapes.

use super::convolutions::transposed;
use super::*;

/// A resize, and the shape of the scores before it.
fn argmax_resized() -> impl Strategy<Value = (Interpolate, Shape)> {
    (pair(1..=40), any::<bool>(), tensors(23)).prop_map(|(size, align_corners, input)| {
        (Interpolate::bilinear(size, align_corners), input)
    })
}

/// Panics unless the labels of an op that writes no scores agree with the reference, uncut and cut.
fn check_labels(one: &OneOp, scores: &Tensor, bounds: &Tensor, binding: u64) {
    one.check_rows();
    let expected = one.expected();
    for gpu in devices() {
        let small = Target {
            device: DeviceProfile {
                max_binding_bytes: binding,
                binding_alignment: gpu.target().device.binding_alignment.max(64),
                ..gpu.target().device.clone()
            },
            ..gpu.target().clone()
        };
        let mut plans = vec![one.plan(gpu.target()).unwrap()];
        match one.plan(&small) {
            Ok(plan) => plans.push(plan),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Limit, "{e}"),
        }
        for found in one.run_plans(gpu, plans) {
            assert_labels(&expected, &found, scores, bounds, &format!("{:?}", one.op));
        }
    }
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn argmax_agrees_with_the_reference(
        sample in samples(tensors(23).prop_map(|s| (Argmax {}, vec![s])))
    ) {
        sample.check();
    }

    #[test]
    fn argmax_of_resized_scores_agrees_with_the_reference((resize, shape) in argmax_resized(), seed: u8) {
        let case = Case {
            op: Arc::new(FusedArgmax { scores: Scores::Resized(resize) }),
            inputs: vec![shape],
            diagonal: false,
        };
        let one = OneOp::of_case(case, &mut Random::new(seed));
        let (scores, bounds) = one.scores_of_labels().unwrap();
        check_labels(&one, &scores, &bounds, 1 << 12);
    }

    #[test]
    fn argmax_of_upsampled_scores_agrees_with_the_reference(
        (op, shapes) in prop_oneof![transposed(false), transposed(true)],
        seed: u8,
        log2 in 8u32..14,
    ) {
        let of = |op: Arc<dyn Op>, diagonal| {
            let case = Case { op, inputs: shapes.clone(), diagonal };
            OneOp::of_case(case, &mut Random::new(seed))
        };
        let labels = FusedArgmax { scores: Scores::Upsampled(op.clone()) };
        let diagonal = op.diagonal;
        let (one, scores) = (of(Arc::new(labels), diagonal), of(Arc::new(op), diagonal));
        check_labels(&one, &scores.expected(), &scores.bounds(), 1 << log2);
    }
}
