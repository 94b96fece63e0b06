//! The options that commands share: which model, which device.

use crate::{Failure, Outcome, terminal};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use fullconv::gpu::Backend;
use fullconv::gpu::{TunedLayer, cache_folder};
use fullconv::models::{self, ArchitectureOverride};
use fullconv::{Error, ErrorKind, Gpu, GpuOptions, Model, Picture, Precision, Result, Segmenter};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most that tuning may take: what is left then is measured the next time.
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
    /// How borders are treated, whatever the file says of it
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(models::geometries()))]
    geometry: Option<String>,
}

impl ModelOptions {
    /// Opens the model.
    pub fn open(&self) -> Outcome<Model> {
        self.open_file(self.model.as_deref())
    }

    /// `error` with the model file's name before it, if that file is to blame: weights are looked at
    /// when they are used, long after it was opened.
    pub fn blame(&self, error: Error) -> Error {
        match &self.model {
            Some(model) if error.kind() == ErrorKind::ModelFile => error.at(model.display()),
            _ => error,
        }
    }

    /// `error` with the name of the file that is to blame, the model file or `input`.
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
        match file {
            Some(file) => Ok(Model::read_as(file, &overrides)?),
            None if overrides == ArchitectureOverride::default() => {
                Ok(Model::from_bytes(fullconv_demo::MODEL)?)
            }
            None => Err(Failure::Usage(
                "--arch and --geometry say how to read a model file: name it too",
            )),
        }
    }
}

/// Height and width, such as `360x480`.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let side = |side: &str| side.parse().ok().filter(|side| *side > 0);
    let sides = text.split_once(['x', 'X']);
    match sides.map(|(h, w)| (side(h), side(w))) {
        Some((Some(h), Some(w))) => Ok([h, w]),
        _ => Err("a size is HEIGHTxWIDTH in pixels, such as 360x480".into()),
    }
}

/// What a device is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendChoice {
    /// The best device there is
    Auto,
    /// Vulkan
    Vulkan,
    /// Metal
    Metal,
    /// Direct3D 12
    Dx12,
    /// OpenGL or OpenGL ES
    Gl,
    /// No device: the CPU reference, slow but right
    Cpu,
}

/// How values are kept on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionChoice {
    /// f32
    Auto,
    /// f32
    F32,
    /// f16, where the device has it: half the memory; sums are f32
    F16,
}

/// Which device.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceOptions {
    /// What to reach the device through
    #[arg(long, value_enum, value_name = "NAME", default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// The adapter, by its index in `fullconv devices`, its PCI address (0000:01:00.0) or a part of its name
    #[arg(long, value_name = "NAME|INDEX|PCI")]
    adapter: Option<String>,
    /// Open the device with WebGPU's default limits and no features: what runs so runs everywhere
    #[arg(long)]
    default_limits: bool,
    /// Take at most so much of the device's memory: a large picture then runs in more bands
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Keep nothing on disk of what was measured and compiled for the device, and use nothing of it
    #[arg(long)]
    no_cache: bool,
    /// What activations and weights are kept in
    #[arg(long, value_enum, value_name = "NAME", default_value_t = PrecisionChoice::Auto)]
    precision: PrecisionChoice,
}

/// Whether to look for the fastest kernels.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct TuneOptions {
    /// Measure first which kernels are the fastest on the device, for some seconds at most, and remember it
    #[arg(long)]
    tune: bool,
}

impl TuneOptions {
    /// Whether that was asked for.
    pub fn is_wanted(&self) -> bool {
        self.tune
    }

    /// Tunes, if that was asked for, for `batch` inputs of `size` `[h, w]` at the network; says how it went,
    /// unless that would disturb `json`.
    pub fn tune(
        &self,
        segmenter: &Segmenter,
        batch: usize,
        size: [usize; 2],
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
                "tuned {} layers in {}: {others} by another kernel than usual",
                layers.len(),
                terminal::time(begin.elapsed())
            ))?;
        }
        Ok(layers)
    }

    /// [`TuneOptions::tune`] for pictures of the size of the one in `file`, if that can be read.
    pub fn tune_for(&self, segmenter: &Segmenter, file: Option<&Path>, json: bool) -> Outcome<()> {
        if self.tune
            && let Some(Ok(picture)) = file.map(Picture::open)
        {
            self.tune_for_picture(segmenter, &picture, json)?;
        }
        Ok(())
    }

    /// [`TuneOptions::tune`] for pictures of the size of this one.
    pub fn tune_for_picture(
        &self,
        segmenter: &Segmenter,
        picture: &Picture,
        json: bool,
    ) -> Outcome<()> {
        let size = [picture.height(), picture.width()];
        let size = segmenter.model().network_size(size)?;
        self.tune(segmenter, 1, size, json).map(drop)
    }
}

impl DeviceOptions {
    /// Whether the CPU reference is asked for.
    ///
    /// # Errors
    /// Usage, if a device is asked for too.
    pub fn is_cpu(&self) -> Outcome<bool> {
        let is_cpu = self.backend == BackendChoice::Cpu;
        let is_half = self.precision() == Precision::F16;
        let of_device = self.adapter.is_some() || self.default_limits || self.memory.is_some();
        if is_cpu && (of_device || self.no_cache || is_half) {
            return Err(Failure::Usage(
                "--backend cpu uses no device: --adapter, --default-limits, --memory, --no-cache and --precision \
                 f16 do not go with it",
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

    /// The bytes of device memory that may be taken, if that was said.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory.map(|mib| u64::from(mib) << 20)
    }

    /// Whether the CPU reference will not do in place of a device.
    pub fn names_a_device(&self) -> bool {
        let is_half = self.precision() == Precision::F16;
        self.backend != BackendChoice::Auto || self.adapter.is_some() || is_half
    }

    /// What activations and weights are kept in.
    pub fn precision(&self) -> Precision {
        match self.precision {
            PrecisionChoice::Auto | PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::F16 => Precision::F16,
        }
    }

    /// Opens the device.
    pub fn gpu(&self) -> Result<Gpu> {
        let options = GpuOptions {
            backend: match self.backend {
                BackendChoice::Auto | BackendChoice::Cpu => None,
                BackendChoice::Vulkan => Some(Backend::Vulkan),
                BackendChoice::Metal => Some(Backend::Metal),
                BackendChoice::Dx12 => Some(Backend::Dx12),
                BackendChoice::Gl => Some(Backend::Gl),
            },
            adapter: self.adapter.clone(),
            default_limits: self.default_limits,
            memory_bytes: self.memory_bytes(),
            cache: cache_folder().filter(|_| !self.no_cache),
            ..GpuOptions::default()
        };
        pollster::block_on(Gpu::with_options(&options))
    }

    /// `model`, opened by `options`, on the device asked for. Where none was named and there is none, on the CPU reference,
    /// and says so.
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

    /// `model`, opened by `options`, on `gpu`, which these opened.
    pub fn on(&self, gpu: &Gpu, model: &Model, options: &ModelOptions) -> Result<Segmenter> {
        let segmenter = Segmenter::builder(model)
            .gpu(gpu)
            .precision(self.precision());
        pollster::block_on(segmenter.build()).map_err(|e| options.blame(e))
    }
}

/// A model in a few words, for JSON.
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

/// A model on its device, for people.
pub fn describe(segmenter: &Segmenter) -> String {
    let model = segmenter.model();
    format!(
        "{model}, {} classes, on {}",
        model.class_count(),
        segmenter.device()
    )
}
