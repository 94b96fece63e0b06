//! Pipelines, compiled once, in parallel.

use super::Gpu;
use crate::error::{Result, bail};
use crate::parallel;
use crate::plan::Pipeline;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A pipeline by what it is made from, and whether its text is this crate's own.
type Key = (String, bool, Vec<(&'static str, u64)>);

/// The pipelines made so far on one device.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<Key, Arc<wgpu::ComputePipeline>>>);

fn key(pipeline: &Pipeline) -> Key {
    let constants = pipeline.constants.iter();
    (
        pipeline.shader.source.to_string(),
        pipeline.shader.is_own(),
        constants
            .map(|(name, value)| (*name, value.to_bits()))
            .collect(),
    )
}

impl Pipelines {
    /// Makes those of `wanted` that are not there yet, on all cores and at once, and gives back a future of
    /// their end: the error of the first that does not compile. The others are kept.
    pub(super) fn make(
        self: &Arc<Self>,
        gpu: &Gpu,
        wanted: &[Pipeline],
    ) -> impl Future<Output = Result<()>> + use<> {
        let new: Vec<_> = {
            let made = self.lock();
            let is_new = |pipeline: &&Pipeline| !made.contains_key(&key(pipeline));
            wanted.iter().filter(is_new).cloned().collect()
        };
        let gpu = gpu.clone();
        let compile = move |pipeline: &Pipeline| (key(pipeline), compile(&gpu, pipeline));
        let compiling = parallel::beside(move || parallel::map(&new, compile));
        let all = self.clone();
        async move {
            let mut outcome = Ok(());
            for (key, compiled) in compiling.await {
                match compiled.await {
                    Ok(pipeline) => drop(all.lock().entry(key).or_insert(Arc::new(pipeline))),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            outcome
        }
    }

    /// The pipelines of a plan, in its order; those that are new are made.
    pub(super) async fn get(
        self: &Arc<Self>,
        gpu: &Gpu,
        wanted: &[Pipeline],
    ) -> Result<Vec<Arc<wgpu::ComputePipeline>>> {
        self.make(gpu, wanted).await?;
        let made = self.lock();
        let pipeline = |pipeline: &Pipeline| match made.get(&key(pipeline)) {
            Some(made) => Ok(made.clone()),
            None => bail!(Device, "shader {} was not compiled", pipeline.shader.name),
        };
        wanted.iter().map(pipeline).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<wgpu::ComputePipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the compilation of `pipeline`, which on native targets is then done, and gives back a future of it.
fn compile(
    gpu: &Gpu,
    pipeline: &Pipeline,
) -> impl Future<Output = Result<wgpu::ComputePipeline>> + use<> {
    let name = pipeline.shader.name;
    let guard = gpu.guard(&format!("compiling shader {name}"));
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(pipeline.shader.source.as_ref().into()),
    };
    let module = if gpu.checked_shaders() || !pipeline.shader.is_own() {
        gpu.device().create_shader_module(descriptor)
    } else {
        // SAFETY: the text is this crate's own, to the letter; its tests run every shader with the checks on,
        // over sizes that reach every bound, and see the same results.
        unsafe {
            gpu.device()
                .create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        }
    };
    let made = gpu
        .device()
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
        });
    let reports = guard.end();
    async move {
        reports.await?;
        Ok(made)
    }
}
