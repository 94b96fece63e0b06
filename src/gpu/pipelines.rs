//! Pipelines, compiled once per device, in parallel.

use super::{Gpu, now};
use crate::error::{Result, bail};
use crate::parallel;
use crate::plan::Pipeline;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The key of a pipeline: its shader's text, whether the text is this crate's own, and the override values as bits.
type Key = (String, bool, Vec<(&'static str, u64)>);

/// The pipelines compiled so far on one device.
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
    /// Starts to compile the missing pipelines of `wanted`, on all cores, and returns a future of the end. Its error is
    /// that of the first pipeline that does not compile; the others are kept.
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

    /// The pipelines `wanted`, in their order; new ones are compiled.
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

/// Compiles `pipeline` and returns a future of the result. On native targets the work is done when this returns.
fn compile(
    gpu: &Gpu,
    pipeline: &Pipeline,
) -> impl Future<Output = Result<wgpu::ComputePipeline>> + use<> {
    let name = pipeline.shader.name;
    let begin = now();
    let guard = gpu.guard(&format!("compiling shader {name}"));
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(pipeline.shader.source.as_ref().into()),
    };
    let module = if gpu.checked_shaders() || !pipeline.shader.is_own() {
        gpu.device().create_shader_module(descriptor)
    } else {
        // SAFETY: the text is this crate's own, unaltered. Its tests run every shader with checks, at sizes that reach
        // every bound, with the same results.
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
    if let Some(begin) = begin {
        let constants = &pipeline.constants;
        tracing::debug!("compiled {name} {constants:?} in {:?}", begin.elapsed());
    }
    let reports = guard.end();
    async move {
        reports.await?;
        Ok(made)
    }
}
