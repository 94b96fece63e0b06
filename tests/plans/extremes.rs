//! Extreme inputs: windows of thousands of taps, scores that are not finite, hundreds of classes, pictures tens of
//! thousands of pixels wide or high, sizes that no memory holds.

use crate::common::{OneOp, Random, all_gpus, gpu};
use fullconv::low_level::ops::argmax::NO_CLASS;
use fullconv::low_level::ops::{
    Argmax, Binarize, Conv2d, ConvTranspose2d, Interpolate, Op, from_name,
};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::plan::lowered::{FusedArgmax, Scores, TransposedConvolution};
use fullconv::low_level::target::Target;
use fullconv::{
    ErrorKind, GpuOptions, Model, Picture, Segmenter, Shape, Size, Tensor, TensorFile, compare,
};
use pollster::block_on;
use std::path::Path;
use std::sync::Arc;

/// The tensors of a golden model.
fn tensors(name: &str) -> Vec<(String, Tensor)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    let path = format!("{folder}{name}.safetensors");
    let file = TensorFile::open(Path::new(&path)).unwrap();
    let names = file.tensors().map(|(name, _)| name.to_owned());
    names
        .map(|name| (name.clone(), file.tensor(&name).unwrap()))
        .collect()
}

/// A golden model with its tensor `name` replaced.
fn with(model: &str, name: &str, change: impl Fn(&Tensor) -> Tensor) -> Model {
    let mut tensors = tensors(model);
    let tensor = tensors.iter_mut().find(|(n, _)| n == name).unwrap();
    tensor.1 = change(&tensor.1);
    Model::from_bytes(crate::common::serialize(&tensors, Some(SAME))).unwrap()
}

/// Metadata with the geometry of the golden models: names and shapes of their tensors do not tell it.
const SAME: &str = r#"{"version":1,"geometry":"same"}"#;

fn picture(height: usize, width: usize) -> Picture {
    let pixels = (0..3 * height * width).map(|i| (i * 37 % 251) as u8);
    Picture::from_rgb(Size::new(height, width), pixels.collect()).unwrap()
}

#[test]
fn windows_of_thousands_of_taps_agree_with_the_reference() {
    let mut random = Random::new(7);
    let window = |input: [usize; 4], weight: [usize; 4]| {
        [input, weight].map(|[n, c, h, w]| Shape::new(n, c, h, w))
    };
    let conv = window([1, 24, 101, 100], [13, 24, 100, 100]);
    let tall = window([1, 5, 9000, 1], [4, 5, 9000, 1]);
    let transposed = window([1, 24, 40, 40], [24, 4, 90, 90]);
    for (name, gpu) in all_gpus() {
        let convs = [conv, tall].map(|shapes| (Arc::new(Conv2d::default()) as _, shapes));
        let transposed = (Arc::new(ConvTranspose2d::strided(1, 60)) as _, transposed);
        for (op, shapes) in convs.into_iter().chain([transposed]) {
            OneOp::random(op, &shapes, &mut random).check(&gpu, name);
        }
    }
}

#[test]
fn a_pixel_with_a_non_finite_score_has_no_class() {
    let resize = Interpolate::bilinear([3, 4], false);
    let all = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (bad, classes) in all.into_iter().flat_map(|bad| [(bad, 6), (bad, 1)]) {
        let binary = (classes == 1).then_some(Binarize { threshold: 0.0 });
        let labels = |scores| {
            let binary = binary.clone();
            Arc::new(FusedArgmax { scores, binary }) as Arc<dyn Op>
        };
        let mut scores = Random::new(8).tensor(Shape::new(1, classes, 3, 4));
        // Pixel 5, in the last class: of six, not the first class of a group of four.
        scores.data_mut()[(classes - 1) * 12 + 5] = bad;
        // The weight of a transposed convolution that changes nothing.
        let same = Shape::new(classes, classes, 1, 1);
        let same = Tensor::from_fn(same, |i, o, _, _| f32::from(i == o)).unwrap();
        let upsampled = |diagonal| {
            let op = TransposedConvolution::from(ConvTranspose2d::default());
            labels(Scores::Upsampled(TransposedConvolution { diagonal, ..op }))
        };
        for (made, parameters) in [
            (
                match &binary {
                    Some(binary) => Arc::new(binary.clone()) as Arc<dyn Op>,
                    None => Arc::new(Argmax {}),
                },
                vec![],
            ),
            (labels(Scores::Resized(resize.clone())), vec![]),
            (upsampled(false), vec![same.clone()]),
            (upsampled(true), vec![same]),
        ] {
            let inputs = [vec![scores.clone()], parameters].concat();
            let one = OneOp::new(made, inputs);
            let expected = one.expected();
            let none = expected
                .data()
                .iter()
                .filter(|l| **l == f32::from(NO_CLASS))
                .count();
            assert!(
                expected.data()[5] == f32::from(NO_CLASS) && none < 12,
                "{expected:?}"
            );
            for (name, gpu) in all_gpus() {
                assert_eq!(one.run(&gpu), expected, "{bad} {name}");
            }
        }
    }
}

/// The kernels of a model's transposed convolutions if only labels are requested.
fn upsampling_kernels(model: &Model) -> Vec<&'static str> {
    let mut graph = model.graph().clone();
    let scores = graph.output();
    graph.op("labels", Argmax {}, &[scores]).unwrap();
    let (shape, target) = (Shape::new(1, 3, 40, 30), Target::WEBGPU_DEFAULTS);
    let plan = Plan::new(&graph, shape, &[graph.output()], &target).unwrap();
    let layers = plan.layers.iter().filter(|l| l.name.contains("upscore"));
    layers.map(|layer| layer.kernel).collect()
}

/// One nonzero weight off the diagonal, however small, excludes the diagonal kernel.
#[test]
fn a_weight_is_diagonal_if_it_is_zero_everywhere_else() {
    let bilinear = |w: &Tensor| w.map(|x| x + 1.0);
    let diagonal = with("fcn32s-same", "upscore.weight", |w| {
        crate::common::diagonal(&bilinear(w))
    });
    assert_eq!(upsampling_kernels(&diagonal), ["argmax_upsampled_diagonal"]);
    for at in [1, 64 * 64 - 1] {
        let almost = with("fcn32s-same", "upscore.weight", |w| {
            let mut weight = crate::common::diagonal(&bilinear(w));
            // Row 0, output 1; and row 1, output 0.
            let first = if at == 1 { 1 } else { 2 };
            weight.data_mut()[first * 64 * 64 + at] = f32::MIN_POSITIVE / 2.0;
            weight
        });
        assert_eq!(upsampling_kernels(&almost), ["argmax_upsampled"], "{at}");
    }
    // An upsampling weight that the file leaves out is bilinear.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    let left_out = Model::read(format!("{folder}fcn32s-caffe.safetensors")).unwrap();
    assert_eq!(upsampling_kernels(&left_out), ["argmax_upsampled_diagonal"]);

    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = block_on(Segmenter::new(&gpu, &diagonal)).unwrap();
    let report = block_on(compare::compare_picture(&segmenter, &picture(30, 40))).unwrap();
    assert!(report.is_within_bounds(), "{report:?}");
}

#[test]
fn overflowing_scores_are_an_error() {
    let model = with("fcn32s-same", "score_fr.weight", |w| w.map(|w| w * 1e38));
    let mut segmenters = vec![Segmenter::on_cpu(&model)];
    if let Some(gpu) = gpu(GpuOptions::default()) {
        segmenters.push(block_on(Segmenter::new(&gpu, &model)).unwrap());
    }
    for segmenter in &segmenters {
        let picture = picture(30, 40);
        let error = segmenter.segment_blocking(&picture).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite, "{segmenter}: {error}");
        let input = Random::new(9)
            .tensor(Shape::new(1, 3, 30, 40))
            .map(|x| 100.0 * x);
        let error = block_on(segmenter.run(&input, &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite, "{segmenter}: {error}");
        let error = block_on(compare::compare_picture(segmenter, &picture)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite, "{segmenter}: {error}");
        assert!(error.to_string().starts_with("score_fr is "), "{error}");
    }
}

#[test]
fn a_network_of_hundreds_of_classes_has_scores_and_no_labels() {
    let classes = 300;
    let mut tensors = tensors("fcn8s-caffe");
    tensors.retain(|(name, _)| !name.starts_with("upscore"));
    for (name, tensor) in &mut tensors {
        let shape = tensor.shape().with_batch(classes);
        if name.starts_with("score") {
            *tensor = Random::new(10).tensor(shape);
        }
    }
    let model = Model::from_bytes(crate::common::serialize(&tensors, None)).unwrap();
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let input = Random::new(11).tensor(Shape::new(1, 3, 20, 24));
    let run = block_on(segmenter.run(&input, &[])).unwrap();
    let expected = block_on(Segmenter::on_cpu(&model).run(&input, &[])).unwrap();
    assert_eq!(run.output.shape(), Shape::new(1, classes, 20, 24));
    assert!(crate::common::relative_error(&expected.output, &run.output) < 1e-5);
    assert_eq!(run.labels, None);
    let error = segmenter.segment_blocking(&picture(20, 24)).unwrap_err();
    assert!(
        error.to_string().contains("255 classes, not 300"),
        "{error}"
    );
}

#[test]
fn long_thin_pictures_agree_with_the_reference() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let model = with("fcn32s-same", "fc6.bias", Tensor::clone);
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    for (height, width) in [(1, 30_000), (24_001, 1)] {
        let picture = picture(height, width);
        let report = block_on(compare::compare_picture(&segmenter, &picture)).unwrap();
        assert!(report.is_within_bounds(), "{:?}", report.first_outside());
        let mask = segmenter.segment_blocking(&picture).unwrap();
        assert_eq!(mask.size(), Size::new(height, width));
    }
}

#[test]
fn a_model_with_a_huge_long_side_loads() {
    let metadata = r#"{"version":1,"geometry":"same","preprocess":{"channels":"rgb","range":1.0,
        "mean":[0,0,0],"std":[1,1,1],"long_side":16384}}"#;
    let model = Model::from_bytes(crate::common::serialize(
        &tensors("fcn32s-same"),
        Some(metadata),
    ))
    .unwrap();
    // With more memory, a square of that side would run in bands for minutes; with so little, it is an error.
    let options = GpuOptions {
        default_limits: true,
        memory_bytes: Some(48 << 20),
        ..GpuOptions::default()
    };
    let Some(gpu) = gpu(options) else { return };
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let mask = segmenter.segment_blocking(&picture(8, 8192)).unwrap();
    assert_eq!(mask.labels().len(), 8192 * 8);
    let error = segmenter.segment_blocking(&picture(64, 64)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn sizes_and_attributes_too_large_for_memory_are_errors() {
    let model = Model::from_bytes(fullconv_demo::MODEL).unwrap();
    for side in [usize::MAX, usize::MAX / 2, 1 << 40] {
        assert!(model.graph().shapes(Shape::new(1, 3, side, 1)).is_err());
        assert!(
            model
                .graph()
                .shapes(Shape::new(side, 3, side, side))
                .is_err()
        );
    }
    let (input, weight) = (Shape::new(1, 3, 9, 9), Shape::new(4, 3, 3, 3));
    for attribute in ["stride", "padding", "dilation"] {
        for value in [u64::MAX, 1 << 62, 1 << 33] {
            let attributes = serde_json::json!({ attribute: [value, value] });
            let op = from_name("conv2d", attributes).unwrap();
            assert!(
                op.output_shape(&[input, weight]).is_err(),
                "{attribute} {value}"
            );
        }
    }
    let huge =
        serde_json::json!({"kernel_size": [2, 2], "stride": [1, 1], "padding": [u64::MAX, 1]});
    assert!(
        from_name("max_pool2d", huge)
            .unwrap()
            .output_shape(&[input])
            .is_err()
    );
}
