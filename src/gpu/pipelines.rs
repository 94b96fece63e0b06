//! Pipelines, compiled once, in parallel.

use super::Gpu;
use crate::error::Result;
use crate::plan::Pipeline;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A pipeline by what it is made from.
type Key = (String, Vec<(&'static str, u64)>);

/// The pipelines made so far on one device.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<Key, Arc<wgpu::ComputePipeline>>>);

fn key(pipeline: &Pipeline) -> Key {
    let constants = pipeline.constants.iter();
    (
        pipeline.shader.source.to_string(),
        constants
            .map(|(name, value)| (*name, value.to_bits()))
            .collect(),
    )
}

impl Pipelines {
    /// The pipelines of a plan, in its order; those that are new are compiled on all cores.
    pub(super) fn get(
        &self,
        gpu: &Gpu,
        wanted: &[Pipeline],
    ) -> Result<Vec<Arc<wgpu::ComputePipeline>>> {
        crate::parallel::try_map(wanted, |pipeline| {
            let key = key(pipeline);
            if let Some(found) = self.lock().get(&key) {
                return Ok(found.clone());
            }
            let made = Arc::new(pollster::block_on(compile(gpu, pipeline))?);
            Ok(self.lock().entry(key).or_insert(made).clone())
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<wgpu::ComputePipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn compile(gpu: &Gpu, pipeline: &Pipeline) -> Result<wgpu::ComputePipeline> {
    let name = pipeline.shader.name;
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(pipeline.shader.source.as_ref().into()),
    };
    gpu.guarded(&format!("compiling shader {name}"), || {
        let module = if gpu.checked_shaders() {
            gpu.device().create_shader_module(descriptor)
        } else {
            // SAFETY: shaders are this crate's own; its tests run every one of them with the checks on,
            // over sizes that reach every bound, and see the same results.
            unsafe {
                gpu.device().create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        gpu.device()
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: None,
                module: &module,
                entry_point: None,
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &pipeline.constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: gpu.pipeline_cache(),
            })
    })
    .await
}
