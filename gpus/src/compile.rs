//! Compiles every pipeline of the networks' plans on the device at hand, one after the other, and keeps what its
//! driver says.

use crate::chips::{Chip, Maker};
use crate::isa::{self, Mix};
use crate::networks;
use crate::record::Record;
use crate::shader::Facts;
use fullconv::gpu::Backend;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::plan::{Pipeline, Plan, tunable};
use fullconv::low_level::segmenter::labels_graph;
use fullconv::low_level::target::Target;
use fullconv::{Error, ErrorKind, Gpu, GpuOptions, Result};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// All that was seen on one chip.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The chip's name in [`crate::chips`].
    pub chip: String,
    /// The driver's name of the device, and the driver's version.
    pub device: [String; 2],
    /// Every pipeline once.
    pub pipelines: Vec<Compiled>,
    /// The plan of each network, in f32 and, if the device has it, in f16.
    pub plans: Vec<Planned>,
}

/// A pipeline and what the driver made of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Compiled {
    /// The shader's name.
    pub kernel: String,
    /// Whether a plan takes it without a choice of the tuner's.
    pub is_default: bool,
    /// Whether it is an f16 variant.
    pub half: bool,
    /// The first layer that takes it.
    pub layer: String,
    /// What its text says.
    pub facts: Facts,
    /// Why there is nothing else.
    pub error: Option<String>,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// The driver's statistics.
    pub statistics: HashMap<String, f64>,
    /// The instructions; `None` if the driver does not give them.
    pub mix: Option<Mix>,
}

/// The plan of a network.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The network's name.
    pub network: String,
    /// Whether it is in f16.
    pub half: bool,
    /// Its layers in order.
    pub layers: Vec<Layer>,
}

/// A layer of a plan.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The names of its nodes.
    pub name: String,
    /// The least bytes that it reads and writes.
    pub bytes: u64,
    /// Its dispatches.
    pub dispatches: Vec<Dispatch>,
}

/// A dispatch.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// Index into [`Seen::pipelines`].
    pub pipeline: usize,
    /// Workgroups.
    pub workgroups: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// The words of `Params`.
    pub params: Vec<u32>,
}

/// `target` with its matrices as found right: nothing computes here, so no check can find them so.
fn as_checked(mut target: Target) -> Target {
    for matrix in &mut target.device.cooperative {
        matrix.checked = true;
    }
    target
}

/// Compiles all of it on `chip`, which has to be the device at hand. `folder` has the folders `networks` and `isa`, with
/// one for the chip in each; `records` is where the layer writes.
///
/// # Errors
/// If there is no such device, or a network has no plan on it.
pub fn run(chip: &'static Chip, folder: &Path, records: &Path) -> Result<Seen> {
    let options = GpuOptions {
        backend: Some(Backend::Vulkan),
        ..GpuOptions::default()
    };
    let gpu = block_on(Gpu::with_options(&options))?;
    if gpu.profile().is_cpu {
        return Err(Error::new(
            ErrorKind::NoAdapter,
            format!("{gpu} is not {}", chip.name),
        ));
    }
    let info = gpu.info();
    let mut bench = Bench {
        chip,
        network: Network::new(&gpu),
        records: records.to_owned(),
        texts: folder.join("isa").join(chip.name),
        known: HashMap::new(),
        pipelines: Vec::new(),
    };
    // wgpu has pipelines of its own.
    bench.take_record();
    let mut targets = vec![gpu.target().clone()];
    targets.extend(gpu.half_target().ok().map(as_checked));
    let mut plans = Vec::new();
    for network in networks::all(&folder.join("networks").join(chip.name))? {
        for target in &targets {
            plans.push(bench.network(&network, target)?);
        }
    }
    Ok(Seen {
        chip: chip.name.into(),
        device: [info.name.clone(), info.driver_info.clone()],
        pipelines: bench.pipelines,
        plans,
    })
}

/// The device, and the pipelines compiled so far.
struct Bench {
    chip: &'static Chip,
    network: Network,
    records: PathBuf,
    texts: PathBuf,
    known: HashMap<String, usize>,
    pipelines: Vec<Compiled>,
}

impl Bench {
    /// Compiles a network's plan and the tuner's candidates.
    fn network(&mut self, network: &networks::Network, target: &Target) -> Result<Planned> {
        let (graph, input) = labels_graph(&network.model, network.size)?;
        let outputs = [graph.output()];
        let plan = Plan::new(&graph, input, &outputs, target)?;
        let mut numbers = vec![0; plan.pipelines.len()];
        for step in &plan.steps {
            let pipeline = &plan.pipelines[step.pipeline];
            let layer = &plan.layers[step.layer];
            numbers[step.pipeline] = self.compile(pipeline, target, &layer.name, true);
        }
        for layer in tunable(&graph, input, &outputs, target)? {
            for candidate in &layer.candidates {
                let plan = layer.plan(candidate, layer.inputs[0], target)?;
                for pipeline in plan.iter().flat_map(|plan| &plan.pipelines) {
                    self.compile(pipeline, target, &layer.name, false);
                }
            }
        }
        let layers = plan.layers.iter().enumerate();
        let layers = layers.map(|(number, layer)| Layer {
            name: layer.name.clone(),
            bytes: layer.bytes,
            dispatches: plan
                .steps
                .iter()
                .filter(|step| step.layer == number)
                .map(|step| Dispatch {
                    pipeline: numbers[step.pipeline],
                    workgroups: step.workgroups.iter().map(|n| u64::from(*n)).product(),
                    flops: step.flops,
                    params: step.params.clone(),
                })
                .collect(),
        });
        Ok(Planned {
            network: network.name.into(),
            half: target.options.half,
            layers: layers.collect(),
        })
    }

    /// The number of a pipeline in [`Seen::pipelines`]; a new one is compiled.
    fn compile(
        &mut self,
        pipeline: &Pipeline,
        target: &Target,
        layer: &str,
        is_default: bool,
    ) -> usize {
        let key = format!("{:?} {}", pipeline.constants, pipeline.shader.source);
        if let Some(number) = self.known.get(&key) {
            self.pipelines[*number].is_default |= is_default;
            return *number;
        }
        let number = self.pipelines.len();
        let compiled = block_on(self.network.compile(std::slice::from_ref(pipeline)));
        let record = self.take_record();
        let mut made = Compiled {
            kernel: pipeline.shader.name.into(),
            is_default,
            half: target.options.half,
            layer: layer.into(),
            facts: Facts::new(&pipeline.shader.source, &pipeline.constants),
            error: None,
            subgroup: 0,
            statistics: HashMap::new(),
            mix: None,
        };
        match (compiled, record) {
            (Err(error), _) => made.error = Some(error.to_string()),
            (Ok(()), None) => made.error = Some("the layer wrote no record".into()),
            (Ok(()), Some(mut record)) => {
                if self.chip.family.maker == Maker::Apple {
                    let printed = printed();
                    let listing = isa::apple::listing(&printed).map(str::to_owned);
                    record
                        .texts
                        .extend(listing.map(|text| ("AGX assembly".into(), text)));
                }
                self.keep_text(number, &made.kernel, &record);
                made.subgroup = record.subgroup;
                made.mix = isa::read(self.chip, &record.texts, &made.facts);
                made.statistics = record.statistics.into_iter().collect();
            }
        }
        self.known.insert(key, number);
        self.pipelines.push(made);
        number
    }

    /// The only record that the layer wrote since the last call; `None` if there is none, or there are several.
    fn take_record(&self) -> Option<Record> {
        let entries = std::fs::read_dir(&self.records).ok()?;
        let paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        let texts: Vec<_> = paths.iter().flat_map(std::fs::read).collect();
        paths
            .iter()
            .for_each(|path| drop(std::fs::remove_file(path)));
        match texts.as_slice() {
            [text] => serde_json::from_slice(text).ok(),
            _ => None,
        }
    }

    /// Keeps the driver's statistics and instructions, for people and for `reread`.
    fn keep_text(&self, number: usize, kernel: &str, record: &Record) {
        let mut all = String::new();
        for (name, value) in &record.statistics {
            all += &format!("{name}: {value}\n");
        }
        for (name, text) in &record.texts {
            all += &format!("\n=== {name}\n{text}\n");
        }
        let _ = std::fs::write(text_path(&self.texts, number, kernel), all);
    }
}

/// What the driver has printed since the last call. Standard output has to be a file that is appended to; it is emptied.
fn printed() -> String {
    unsafe extern "C" {
        fn fflush(stream: *mut c_void) -> c_int;
    }
    const OUTPUT: &str = "/proc/self/fd/1";
    // SAFETY: this function of C's library writes out what all its streams hold.
    unsafe { fflush(std::ptr::null_mut()) };
    if !std::fs::metadata(OUTPUT).is_ok_and(|of| of.is_file()) {
        return String::new();
    }
    let text = std::fs::read(OUTPUT).unwrap_or_default();
    if let Ok(file) = OpenOptions::new().write(true).open(OUTPUT) {
        let _ = file.set_len(0);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The file in `folder` with what the driver said of a pipeline.
pub fn text_path(folder: &Path, number: usize, kernel: &str) -> PathBuf {
    folder.join(format!("{number:03}-{kernel}.txt"))
}
