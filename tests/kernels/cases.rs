//! Every op on the device against its reference implementation, element by element, on poisoned buffers.

use crate::common::{OneOp, Random, all_gpus, wanted_backend};
use fullconv::gpu::Backend;
use fullconv::low_level::plan::lowered;
use fullconv::{ErrorKind, Gpu, GpuOptions};

fn check_every_case(gpu: &Gpu, how: &str) {
    let mut random = Random::new(1);
    for case in lowered::cases() {
        OneOp::of_case(case, &mut random).check(gpu, how);
    }
}

#[test]
fn every_case_agrees_with_the_reference_on_every_kind_of_device() {
    for (how, gpu) in all_gpus() {
        check_every_case(&gpu, how);
    }
}

/// wgpu reaches older devices through OpenGL with compute shaders, without subgroups and f16.
#[test]
fn every_case_agrees_with_the_reference_on_opengl() {
    if let Some(wanted) = wanted_backend().filter(|wanted| *wanted != Backend::Gl) {
        eprintln!("SKIP: FULLCONV_TEST_BACKEND is {wanted}");
        return;
    }
    for plan_as_gpu in [false, true] {
        let options = GpuOptions {
            backend: Some(Backend::Gl),
            poison: true,
            checked_shaders: true,
            plan_as_gpu,
            ..GpuOptions::default()
        };
        match pollster::block_on(Gpu::with_options(&options)) {
            Ok(gpu) => {
                assert_eq!(gpu.info().backend.to_str(), "gl");
                check_every_case(&gpu, &format!("on {gpu}, planned as a GPU: {plan_as_gpu}"));
            }
            Err(e) if e.kind() == ErrorKind::NoAdapter => eprintln!("SKIP: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
}
