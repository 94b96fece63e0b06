//! Labels, on random attributes and shapes.

use super::convolutions::transposed;
use super::*;

/// A resize, and the shape of the scores before it.
fn argmax_resized() -> impl Strategy<Value = (Interpolate, Shape)> {
    (pair(1..=40), any::<bool>(), tensors(23)).prop_map(|(size, align_corners, input)| {
        (Interpolate::bilinear(size, align_corners), input)
    })
}

/// The labels of `scores`: argmax, or of one channel in half of the cases those of a binary network.
fn labels(scores: Scores, channels: usize, binary: bool) -> FusedArgmax {
    let binary = (binary && channels == 1).then_some(Binarize { threshold: 0.125 });
    FusedArgmax { scores, binary }
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
    fn binary_labels_agree_with_the_reference(
        sample in samples((tensors(1), -1f32..1.0).prop_map(|(s, threshold)| (Binarize { threshold }, vec![s])))
    ) {
        sample.check();
    }

    #[test]
    fn labels_of_resized_scores_agree_with_the_reference(
        (resize, shape) in argmax_resized(),
        one_channel: bool,
        seed: u8,
    ) {
        let shape = if one_channel { shape.with_channels(1) } else { shape };
        let case = Case {
            op: Arc::new(labels(Scores::Resized(resize), shape.c, seed.is_multiple_of(2))),
            inputs: vec![shape],
            diagonal: false,
        };
        let one = OneOp::of_case(case, &mut Random::new(seed));
        let (scores, bounds) = one.scores_of_labels().unwrap();
        check_labels(&one, &scores, &bounds, 1 << 12);
    }

    #[test]
    fn labels_of_upsampled_scores_agree_with_the_reference(
        (op, shapes) in prop_oneof![transposed(false), transposed(true)],
        seed: u8,
        log2 in 8u32..14,
    ) {
        let of = |op: Arc<dyn Op>, diagonal| {
            let case = Case { op, inputs: shapes.clone(), diagonal };
            OneOp::of_case(case, &mut Random::new(seed))
        };
        let channels = op.output_shape(&shapes).unwrap().c;
        let labels = labels(Scores::Upsampled(op.clone()), channels, seed.is_multiple_of(2));
        let one = of(Arc::new(labels), op.diagonal);
        let (scores, bounds) = one.scores_of_labels().unwrap();
        check_labels(&one, &scores, &bounds, 1 << log2);
    }
}
