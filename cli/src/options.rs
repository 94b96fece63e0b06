//! Options shared by commands: model and device.

use crate::{Failure, Outcome, terminal, vectors};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use fullconv::gpu::Backend;
use fullconv::gpu::{TunedLayer, cache_folder, kernels_left_out};
use fullconv::models::{self, ArchitectureOverride};
use fullconv::{
    Error, ErrorKind, Gpu, GpuOptions, Model, Picture, Precision, Result, Segmenter, Size,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time limit of one tuning run; the next run measures the remaining layers.
const TUNING_TIME: Duration = Duration::from_secs(5);

/// Which model.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// The model file (.safetensors) [default: the built-in demo model, for streets]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Read the file as this architecture instead of recognising it
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(models::architectures()))]
    arch: Option<String>,
    /// The geometry of an FCN on VGG16 (padding, pooling, cropping), overriding the file
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(models::geometries()))]
    geometry: Option<String>,
    /// The probability from which a pixel is class 1 of a binary network, overriding the file [default: 0.5]
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
}

impl ModelOptions {
    /// Opens the model.
    pub fn open(&self) -> Outcome<Model> {
        self.open_file(self.model.as_deref())
    }

    /// `error` with the model file's name before it, if the file is at fault: weights are checked only when they are
    /// used.
    pub fn blame(&self, error: Error) -> Error {
        match &self.model {
            Some(model) if error.kind() == ErrorKind::ModelFile => error.at(model.display()),
            _ => error,
        }
    }

    /// `error` with the name of the file at fault, the model file or `input`.
    pub fn blame_or(&self, input: &Path, error: Error) -> Error {
        match error.kind() {
            ErrorKind::ModelFile => self.blame(error),
            _ => error.at(input.display()),
        }
    }

    /// Opens the model in `file`, or the demo model.
    pub fn open_file(&self, file: Option<&Path>) -> Outcome<Model> {
        let overrides = ArchitectureOverride {
            architecture: self.arch.clone(),
            geometry: self.geometry.clone(),
        };
        let model = match file {
            Some(file) => {
                let model = Model::read_as(file, &overrides)?;
                if let Some(said) = passed_over(&model) {
                    terminal::report(format!("{}: {said}", file.display()));
                }
                model
            }
            None if overrides == ArchitectureOverride::default() => {
                Model::from_bytes(fullconv_demo::MODEL)?
            }
            None => {
                return Err(Failure::Usage(
                    "--arch and --geometry apply to a model file: give it with --model",
                ));
            }
        };
        match self.threshold {
            Some(threshold) => Ok(model
                .with_threshold(threshold)
                .map_err(|error| error.at("--threshold"))?),
            None => Ok(model),
        }
    }
}

/// What of a file is not the network's own: what stands before its names, and tensors of a loss, a metric or another
/// network. `None` for counters and auxiliary heads, which every checkpoint of their kind has.
fn passed_over(model: &Model) -> Option<String> {
    let is_usual =
        |name: &str| name.ends_with("num_batches_tracked") || name.starts_with("aux_classifier.");
    let unused = model.unused_tensors().into_iter();
    let unused: Vec<_> = unused.filter(|name| !is_usual(name)).collect();
    let prefix = match model.name_prefix() {
        "" => None,
        prefix => Some(format!("{prefix:?} before tensor names is left out")),
    };
    let unused = match unused[..] {
        [] => None,
        [name] => Some(format!("{name} is not used")),
        [first, ..] => Some(format!(
            "{first} and {} other tensors are not used",
            unused.len() - 1
        )),
    };
    let parts: Vec<_> = prefix.into_iter().chain(unused).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The graphics API of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendChoice {
    /// The best device found
    Auto,
    /// Vulkan
    Vulkan,
    /// Metal
    Metal,
    /// Direct3D 12
    Dx12,
    /// OpenGL or OpenGL ES
    Gl,
    /// No device: the CPU reference, slow but correct
    Cpu,
}

/// `options`, and the kernels in `FULLCONV_WITHOUT`.
pub fn with_kernels_left_out(options: &[String]) -> Vec<String> {
    [options, &kernels_left_out()].concat()
}

/// How the device stores activations and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionChoice {
    /// f32
    Auto,
    /// f32
    F32,
    /// f16, if the device has it: half the memory; sums are f32
    F16,
}

/// Which device.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceOptions {
    /// The graphics API to use
    #[arg(long, value_enum, value_name = "NAME", default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// The adapter: its index in `fullconv devices`, its PCI address (0000:01:00.0) or a part of its name
    #[arg(long, value_name = "NAME|INDEX|PCI")]
    adapter: Option<String>,
    /// Open the device with WebGPU's default limits and no features, which every device supports
    #[arg(long)]
    default_limits: bool,
    /// The most device memory to use: with less, a large picture runs in more bands
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Neither read nor write the cache of tuned kernels and compiled pipelines
    #[arg(long)]
    no_cache: bool,
    /// Plan without this kernel, by its name in `fullconv inspect`; may be given more than once
    #[arg(long, value_name = "NAME")]
    without_kernel: Vec<String>,
    /// The type of stored activations and weights
    #[arg(long, value_enum, value_name = "NAME", default_value_t = PrecisionChoice::Auto)]
    precision: PrecisionChoice,
}

/// Whether to tune.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct TuneOptions {
    /// First find the fastest kernels on the device (a few seconds at most) and cache the choice
    #[arg(long)]
    tune: bool,
}

impl TuneOptions {
    /// Whether `--tune` was given.
    pub fn is_wanted(&self) -> bool {
        self.tune
    }

    /// With `--tune`, tunes for `batch` network inputs of `size`, and prints a line about it unless the
    /// output is `json`.
    pub fn tune(
        &self,
        segmenter: &Segmenter,
        batch: usize,
        size: Size,
        json: bool,
    ) -> Outcome<Vec<TunedLayer>> {
        if !self.tune {
            return Ok(Vec::new());
        }
        let begin = Instant::now();
        let layers = match pollster::block_on(segmenter.tune(batch, size, TUNING_TIME)) {
            Ok(layers) => layers,
            Err(error) if error.kind() == ErrorKind::Request => {
                terminal::report(format!("--tune: {error}"));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        if !json {
            let others = layers
                .iter()
                .filter(|l| l.chosen.is_some_and(|i| i > 0))
                .count();
            terminal::say(format!(
                "tuned {} layers in {}: {others} now run another kernel than the default",
                layers.len(),
                terminal::time(begin.elapsed())
            ))?;
        }
        Ok(layers)
    }

    /// [`TuneOptions::tune`] for the size of the picture in `file`, if it can be read.
    pub fn tune_for(&self, segmenter: &Segmenter, file: Option<&Path>, json: bool) -> Outcome<()> {
        if self.tune
            && let Some(Ok(picture)) = file.map(Picture::open)
        {
            self.tune_for_picture(segmenter, &picture, json)?;
        }
        Ok(())
    }

    /// [`TuneOptions::tune`] for the size of `picture`.
    pub fn tune_for_picture(
        &self,
        segmenter: &Segmenter,
        picture: &Picture,
        json: bool,
    ) -> Outcome<()> {
        let size = segmenter.model().network_size(picture.size())?;
        self.tune(segmenter, 1, size, json).map(drop)
    }
}

impl DeviceOptions {
    /// Whether `--backend cpu` was given.
    ///
    /// # Errors
    /// Usage, if the options contradict each other.
    pub fn is_cpu(&self) -> Outcome<bool> {
        let is_cpu = self.backend == BackendChoice::Cpu;
        let is_half = self.precision() == Precision::F16;
        let of_device = self.adapter.is_some() || self.default_limits || self.memory.is_some();
        let of_device = of_device || self.no_cache || !self.without_kernel.is_empty();
        if is_cpu && (of_device || is_half) {
            return Err(Failure::Usage(
                "--backend cpu uses no device: --adapter, --default-limits, --memory, --no-cache, \
                 --without-kernel and --precision f16 contradict it",
            ));
        }
        if self.default_limits && is_half {
            return Err(Failure::Usage(
                "--precision f16 needs a feature, and --default-limits opens the device without any",
            ));
        }
        Ok(is_cpu)
    }

    /// Whether only WebGPU's default limits may be used.
    pub fn default_limits(&self) -> bool {
        self.default_limits
    }

    /// The limit of device memory in bytes, if given.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory.map(|mib| u64::from(mib) << 20)
    }

    /// The kernels to leave out: those of the options, and those in `FULLCONV_WITHOUT`.
    pub fn without_kernels(&self) -> Vec<String> {
        with_kernels_left_out(&self.without_kernel)
    }

    /// Whether the options demand a device: the CPU reference may not replace it.
    pub fn names_a_device(&self) -> bool {
        let is_half = self.precision() == Precision::F16;
        self.backend != BackendChoice::Auto || self.adapter.is_some() || is_half
    }

    /// The type of stored activations and weights.
    pub fn precision(&self) -> Precision {
        match self.precision {
            PrecisionChoice::Auto | PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::F16 => Precision::F16,
        }
    }

    /// The backend, if one was named.
    pub fn backend(&self) -> Option<Backend> {
        match self.backend {
            BackendChoice::Auto | BackendChoice::Cpu => None,
            BackendChoice::Vulkan => Some(Backend::Vulkan),
            BackendChoice::Metal => Some(Backend::Metal),
            BackendChoice::Dx12 => Some(Backend::Dx12),
            BackendChoice::Gl => Some(Backend::Gl),
        }
    }

    /// These options for another adapter.
    #[cfg(all(unix, feature = "serve"))]
    pub fn on_adapter(&self, adapter: &str) -> Self {
        Self {
            adapter: Some(adapter.to_owned()),
            ..self.clone()
        }
    }

    /// Opens the device.
    pub fn gpu(&self) -> Result<Gpu> {
        let options = GpuOptions {
            backend: self.backend(),
            adapter: self.adapter.clone(),
            default_limits: self.default_limits,
            memory_bytes: self.memory_bytes(),
            without_kernels: self.without_kernels(),
            cache: cache_folder().filter(|_| !self.no_cache),
            ..GpuOptions::default()
        };
        vectors::verified(pollster::block_on(Gpu::with_options(&options))?)
    }

    /// A segmenter for `model`, opened by `options`, on the requested device. If no device was requested and none is
    /// found, it runs on the CPU reference, with a line on stderr.
    pub fn segmenter(&self, model: &Model, options: &ModelOptions) -> Outcome<Segmenter> {
        if self.is_cpu()? {
            return Ok(Segmenter::on_cpu(model));
        }
        match self.gpu() {
            Ok(gpu) => Ok(self.on(&gpu, model, options)?),
            Err(e) if e.kind() == ErrorKind::NoAdapter && !self.names_a_device() => {
                terminal::report(format!(
                    "{e}; going on with the CPU reference, which is slow"
                ));
                Ok(Segmenter::on_cpu(model))
            }
            Err(e) => Err(Failure::Failed(e)),
        }
    }

    /// A segmenter for `model`, opened by `options`, on `gpu`, opened by `self`.
    pub fn on(&self, gpu: &Gpu, model: &Model, options: &ModelOptions) -> Result<Segmenter> {
        let segmenter = Segmenter::builder(model)
            .gpu(gpu)
            .precision(self.precision());
        pollster::block_on(segmenter.build()).map_err(|e| options.blame(e))
    }
}

/// A summary of a model, for JSON.
#[derive(Debug, Serialize)]
pub struct ModelSummary {
    architecture: &'static str,
    geometry: Option<&'static str>,
    classes: usize,
}

impl From<&Model> for ModelSummary {
    fn from(model: &Model) -> Self {
        Self {
            architecture: model.architecture(),
            geometry: model.geometry(),
            classes: model.class_count(),
        }
    }
}

/// A line about a model and its device, for people.
pub fn describe(segmenter: &Segmenter) -> String {
    let model = segmenter.model();
    format!(
        "{model}, {} classes, on {}",
        model.class_count(),
        segmenter.device()
    )
}

/// Says on stderr, for a multi-label model, what its masks are.
pub fn report_multi_label(model: &Model) {
    if model.head().is_multi_label() {
        terminal::report(
            "the classes of this model do not exclude each other: a mask shows the most probable one, \
             segment --probabilities each by itself",
        );
    }
}
