//! Plans without some kernels: results stay right, and an op without a kernel is an error.

use crate::common::{golden, gpu, with_labels};
use fullconv::compare::compare_tensor;
use fullconv::low_level::plan::Plan;
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Gpu, GpuOptions, Segmenter, Shape, Tensor};
use pollster::block_on;

const INPUT: Shape = Shape {
    n: 1,
    c: 3,
    h: 70,
    w: 61,
};

/// The kernels of the golden network's plan for `gpu`, each once.
fn kernels(gpu: &Gpu) -> Vec<&'static str> {
    let graph = with_labels(&golden("fcn8s-same"));
    let plan = Plan::new(&graph, INPUT, &[graph.output()], gpu.target()).unwrap();
    let mut names: Vec<_> = plan.layers.iter().map(|layer| layer.kernel).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether the network can run without the kernel `name`. Panics if the result is wrong, or if the error does not name
/// the kernel.
fn is_right_without(options: &GpuOptions, name: &str) -> bool {
    let options = GpuOptions {
        without_kernels: vec![name.to_owned()],
        ..options.clone()
    };
    let gpu = gpu(options).unwrap();
    assert_eq!(gpu.target().options.without_kernels, [name]);
    let model = golden("fcn8s-same");
    let graph = with_labels(&model);
    match Plan::new(&graph, INPUT, &[graph.output()], gpu.target()) {
        Ok(plan) => {
            assert!(
                plan.layers.iter().all(|layer| layer.kernel != name),
                "{plan}"
            );
            assert!(
                plan.pipelines
                    .iter()
                    .all(|pipeline| pipeline.shader.name != name)
            );
            let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
            let wave = |_, c, y, x| ((3 * c + 5 * y + 7 * x) % 11) as f32 - 5.0;
            let input = Tensor::from_fn(INPUT, wave).unwrap();
            let report = block_on(compare_tensor(&segmenter, &input)).unwrap();
            assert!(
                report.is_within_bounds(),
                "{name}: {:?}",
                report.first_outside()
            );
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let said = error.to_string();
            assert!(said.ends_with(&format!("left out are {name}")), "{said}");
            false
        }
    }
}

#[test]
fn results_are_right_without_any_of_the_kernels() {
    for plan_as_gpu in [false, true] {
        let options = GpuOptions {
            plan_as_gpu,
            ..GpuOptions::default()
        };
        let Some(gpu) = gpu(options.clone()) else {
            return;
        };
        let names = kernels(&gpu);
        let ran = names.iter().filter(|name| is_right_without(&options, name));
        let ran = ran.count();
        assert!(ran >= 2 && ran < names.len(), "{ran} of {names:?}");
    }
}

#[test]
fn an_op_without_a_kernel_is_named_with_what_was_left_out() {
    let model = golden("fcn8s-same");
    let graph = model.graph();
    let plan = |names: &[&str]| {
        let mut target = Target::WEBGPU_DEFAULTS;
        target.options.without_kernels = names.iter().map(|name| (*name).to_owned()).collect();
        Plan::new(graph, INPUT, &[graph.output()], &target)
    };
    plan(&["conv2d_tiled"]).unwrap();
    let error = plan(&["conv2d_tiled", "conv2d"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let said = error.to_string();
    for part in ["conv1_1", "(conv2d)", "left out are conv2d_tiled, conv2d"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn an_unknown_kernel_is_refused_before_a_device_is_opened() {
    let options = GpuOptions {
        without_kernels: vec!["conv3d".into()],
        ..GpuOptions::default()
    };
    let error = block_on(Gpu::with_options(&options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("conv2d_tiled"), "{error}");
}
