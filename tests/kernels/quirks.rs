//! Known failures: the list is consistent, and they still fail.

use crate::common::known::{Expected, check, expected, known_failures};
use fullconv::gpu::{quirks, wgpu};
use fullconv::{Gpu, GpuOptions};
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use wgpu::util::DeviceExt as _;

/// More steps than one driver takes in all loops of an invocation (the quirk `loops-end`).
const STEPS: u32 = 70_000;

/// A number that depends on every step.
fn after(steps: u32) -> u32 {
    (0..steps).fold(1, |x: u32, i| x.wrapping_mul(1_664_525).wrapping_add(i))
}

const LOOP: &str = "
@group(0) @binding(0) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(1)
fn main() {
    var x = 1u;
    for (var i = 0u; i < words[0]; i++) {
        x = x * 1664525u + i;
    }
    words[1] = x;
}
";

/// The result of [`LOOP`] with this number of steps.
fn on_device(gpu: &Gpu, steps: u32) -> u32 {
    let device = gpu.device();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(LOOP.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let words = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(&[steps, 0]),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
    });
    let read = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: words.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: words.as_entire_binding(),
        }],
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bind_group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    encoder.copy_buffer_to_buffer(&words, 0, &read, 0, None);
    gpu.queue().submit([encoder.finish()]);
    read.map_async(wgpu::MapMode::Read, .., Result::unwrap);
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let view = read.get_mapped_range(..).unwrap();
    bytemuck::pod_collect_to_vec::<u8, u32>(&view)[1]
}

#[test]
fn a_loop_takes_as_many_steps_as_its_shader_says() {
    let Some(gpu) = crate::common::gpu(GpuOptions::default()) else {
        return;
    };
    let few = 60_000;
    assert_eq!(on_device(&gpu, few), after(few), "{gpu}");
    let what = "a_loop_takes_as_many_steps_as_its_shader_says";
    check(what, gpu.info(), || {
        assert_eq!(on_device(&gpu, STEPS), after(STEPS), "{gpu}");
    });
}

#[test]
fn every_known_failure_names_a_quirk() {
    let mut known = BTreeSet::new();
    for failure in known_failures() {
        let mut quirks = quirks::QUIRKS.iter();
        assert!(
            quirks.any(|quirk| quirk.name == failure.quirk),
            "{failure:?}"
        );
        assert!(
            known.insert((failure.what, failure.quirk)),
            "{failure:?} is there twice"
        );
    }
}

#[test]
fn a_known_failure_must_fail_and_nothing_else_may() {
    let with = |name: &str| wgpu::AdapterInfo {
        name: name.into(),
        ..wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan)
    };
    let (faulty, sound) = (with("llvmpipe"), with("a GPU"));
    let known = known_failures()[0].what;
    assert_eq!(expected(known, &faulty), Some(Expected::Failure));
    assert_eq!(expected(known, &sound), None);
    assert_eq!(expected("another test", &faulty), None);
    let passes = |what, info, is_right: bool| {
        catch_unwind(|| check(what, info, || assert!(is_right))).is_ok()
    };
    assert!(passes(known, &faulty, false) && !passes(known, &faulty, true));
    assert!(passes(known, &sound, true) && !passes(known, &sound, false));
    assert!(!passes("another test", &faulty, false));
}
