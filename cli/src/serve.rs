//! `fullconv serve`: a server, see the crate `fullconv-serve`.

use crate::options::DeviceOptions;
use crate::{Failure, Outcome, terminal, text_files};
use clap::ValueEnum;
use fullconv::gpu::{adapters, wgpu};
use fullconv::{Error, ErrorKind, Gpu, Model, Result};
use fullconv_serve::{Address, Config, Device, Limits, ModelSource, Server, is_name};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The address without `--listen`.
const ADDRESS: &str = "127.0.0.1:8080";
/// The name of the built-in model.
const DEMO: &str = "demo";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals: SIGTERM and SIGINT drain the server and end it, a second one ends it at once; SIGHUP \
                        loads the models anew.\nThe page docs/serving.md says what operators need to know."
)]
pub struct Args {
    /// A model file, under the name that requests give; may be given more than once [default: the built-in demo model]
    #[arg(short, long, value_name = "[NAME=]FILE", help_heading = "Models")]
    model: Vec<String>,
    /// The folder of models that requests may load by name
    #[arg(
        long,
        value_name = "DIR",
        requires = "model_control",
        help_heading = "Models"
    )]
    model_dir: Option<PathBuf>,
    /// Let requests load and unload models
    #[arg(long, help_heading = "Models")]
    model_control: bool,
    /// Where to listen: IP:PORT or unix:PATH; may be given more than once [default: 127.0.0.1:8080, or the sockets of
    /// systemd]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    listen: Vec<Address>,
    /// A file of tokens, one a line; a request has to bear one of them
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    token_file: Option<PathBuf>,
    /// Let pages of this origin send requests, such as https://example.org, or *; may be given more than once
    #[arg(long, value_name = "ORIGIN", help_heading = "Network")]
    cors_origin: Vec<String>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    schedule: ScheduleOptions,
    #[command(flatten)]
    device: DeviceOptions,
    /// Several devices that share the queue: all GPUs, or these adapters, as --adapter takes them
    #[arg(
        long,
        value_name = "all|A,B",
        value_delimiter = ',',
        conflicts_with = "adapter",
        help_heading = "Device"
    )]
    adapters: Vec<String>,
    /// Serve on a CPU if there is no GPU
    #[arg(long, help_heading = "Device")]
    allow_cpu: bool,
    /// The form of the log on stderr
    #[arg(long, value_enum, value_name = "FORM", default_value_t = LogForm::Text)]
    pub log: LogForm,
    /// Open the models and the devices, say what would be served, and end
    #[arg(long)]
    check_config: bool,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The bounds on requests.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitOptions {
    /// Pictures that are decoded, wait, are computed or encoded; beyond them requests get status 429
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// The memory of these pictures' pixels
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    queue_memory: u32,
    /// The largest body, before and after decompression
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_body: u32,
    /// The memory of all bodies that are being received
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    bodies_memory: u32,
    /// The largest picture
    #[arg(long, value_name = "PIXELS", default_value_t = 25_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,
    /// Connections at a time; others wait
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The time for a request's header, and for an idle connection
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    header_timeout: u32,
    /// The time for a request's body
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    body_timeout: u32,
    /// The time in which a client has to take a part of an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    write_timeout: u32,
    /// The time from a request's body to its answer; a request may ask for less
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

impl LimitOptions {
    fn limits(&self) -> Limits {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let mut limits = Limits::default();
        limits.queue = self.queue as usize;
        limits.queue_bytes = u64::from(self.queue_memory) << 20;
        limits.body_bytes = (self.max_body as usize) << 20;
        limits.bodies_bytes = (self.bodies_memory as usize) << 20;
        limits.pixels = self.max_pixels;
        limits.connections = self.connections as usize;
        limits.header_time = seconds(self.header_timeout);
        limits.body_time = seconds(self.body_timeout);
        limits.write_time = seconds(self.write_timeout);
        limits.time = seconds(self.timeout);
        limits
    }
}

/// How pictures follow each other, and how the server ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Schedule")]
struct ScheduleOptions {
    /// Pictures of one size that follow each other while others wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    run: u32,
    /// Pictures of one execution; `fullconv profile --batch` shows whether that pays
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: u32,
    /// The time between SIGTERM and the end of listening, for load balancers to notice
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain_delay: u32,
    /// The time for requests under way after that
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u32,
    /// The time without progress of a device from which the server says that it does not live
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    stall: u32,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let config = config(args)?;
    if args.check_config {
        return check(&config);
    }
    let server = Server::start(config)?;
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    terminal::say(format!("{} on {}", addresses.join(", "), server.devices()))?;
    server.run_until_stopped()?;
    Ok(ExitCode::SUCCESS)
}

/// What the arguments say.
fn config(args: &Args) -> Outcome<Config> {
    let mut config = Config::default();
    config.listen.clone_from(&args.listen);
    if args.listen.is_empty() && std::env::var_os("LISTEN_FDS").is_none() {
        config.listen = ADDRESS.parse().into_iter().collect();
    }
    config.models = models(&args.model)?;
    config.model_folder.clone_from(&args.model_dir);
    if let Some(folder) = args.model_dir.as_ref().filter(|folder| !folder.is_dir()) {
        let text = format!("--model-dir: {} is no folder", folder.display());
        return Err(Error::new(ErrorKind::Request, text).into());
    }
    config.model_control = args.model_control;
    config.devices = devices(args)?;
    config.precision = args.device.precision();
    config.memory_bytes = args.device.memory_bytes();
    config.limits = args.limits.limits();
    let schedule = &args.schedule;
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    config.run = schedule.run as usize;
    config.batch = schedule.batch as usize;
    config.drain_delay = seconds(schedule.drain_delay);
    config.drain_timeout = seconds(schedule.drain_timeout);
    config.stall = seconds(schedule.stall);
    if let Some(file) = &args.token_file {
        config.tokens = text_files::tokens(file)?;
    }
    config.origins.clone_from(&args.cors_origin);
    Ok(config)
}

/// The models of `-m`, or the demo model.
fn models(given: &[String]) -> Outcome<Vec<ModelSource>> {
    if given.is_empty() {
        return Ok(vec![ModelSource {
            name: DEMO.into(),
            open: Arc::new(|| Model::from_bytes(fullconv_demo::MODEL)),
        }]);
    }
    let mut models: Vec<ModelSource> = Vec::new();
    for one in given {
        let (name, path) = match one.split_once('=') {
            Some((name, path)) if is_name(name) => (name.to_owned(), Path::new(path)),
            _ => (ModelSource::name_of(Path::new(one)), Path::new(one)),
        };
        let wrong = |what: &str| {
            let text = format!("--model {one}: {what}; give it another: --model NAME=FILE");
            Err(Error::new(ErrorKind::Request, text).into())
        };
        if !is_name(&name) {
            return wrong("the file's name is no name for a model (letters, digits, - _ .)");
        }
        if models.iter().any(|model| model.name == name) {
            return wrong("another model has the same name");
        }
        models.push(ModelSource::file(name, path));
    }
    Ok(models)
}

/// The devices, each to be opened by its worker.
fn devices(args: &Args) -> Outcome<Vec<Device>> {
    if args.device.is_cpu()? {
        if !args.allow_cpu {
            return Err(Failure::Usage(
                "--backend cpu serves on the CPU: that needs --allow-cpu",
            ));
        }
        return Ok(vec![Device::Reference]);
    }
    let named: Vec<Option<String>> = match &args.adapters[..] {
        [] => vec![None],
        [all] if all == "all" => {
            let found = pollster::block_on(adapters(args.device.backend()));
            let is_wanted = |info: &wgpu::AdapterInfo| {
                args.allow_cpu || info.device_type != wgpu::DeviceType::Cpu
            };
            let found = found.iter().enumerate();
            let usable = found.filter(|(_, a)| a.trouble().is_none() && is_wanted(a.info()));
            let of = |(index, adapter): (usize, &fullconv::gpu::Adapter)| {
                let pci = adapter.pci_address().map(str::to_owned);
                Some(pci.unwrap_or_else(|| index.to_string()))
            };
            usable.map(of).collect()
        }
        some => some.iter().cloned().map(Some).collect(),
    };
    if named.is_empty() {
        return Err(no_gpu("there is no GPU").into());
    }
    Ok(named
        .into_iter()
        .map(|adapter| device(args, adapter))
        .collect())
}

/// A device on `adapter`, or the best one. It is opened again on the adapter on which it was.
fn device(args: &Args, adapter: Option<String>) -> Device {
    let (options, allow_cpu) = (args.device.clone(), args.allow_cpu);
    let was_on = OnceLock::<String>::new();
    Device::Gpu(Arc::new(move || {
        let adapter = was_on.get().or(adapter.as_ref());
        let gpu = match adapter {
            Some(adapter) => options.on_adapter(adapter).gpu()?,
            None => options.gpu()?,
        };
        check_kind(&gpu, allow_cpu)?;
        let pci = &gpu.info().device_pci_bus_id;
        if !pci.is_empty() {
            was_on.get_or_init(|| pci.clone());
        }
        Ok(gpu)
    }))
}

/// An error if the device is a CPU and may not be one.
fn check_kind(gpu: &Gpu, allow_cpu: bool) -> Result<()> {
    match gpu.info().device_type == wgpu::DeviceType::Cpu && !allow_cpu {
        true => Err(no_gpu(&format!("{gpu} is a CPU"))),
        false => Ok(()),
    }
}

fn no_gpu(what: &str) -> Error {
    let text = format!(
        "{what}: `fullconv devices` says what is missing for a GPU; --allow-cpu serves on a CPU, much more slowly"
    );
    Error::new(ErrorKind::NoAdapter, text)
}

/// Opens models and devices, and says what they are.
fn check(config: &Config) -> Outcome {
    for address in &config.listen {
        terminal::say(format!("listen  {address}"))?;
    }
    for model in &config.models {
        let opened = (model.open)().map_err(|error| error.at(format!("model {}", model.name)))?;
        let classes = opened.class_count();
        terminal::say(format!(
            "model   {}: {opened}, {classes} classes",
            model.name
        ))?;
    }
    for device in &config.devices {
        let name = match device {
            Device::Gpu(open) => open()?.to_string(),
            Device::Reference => "CPU reference".into(),
        };
        terminal::say(format!("device  {name}"))?;
    }
    let tokens = config.tokens.len();
    terminal::say(format!("tokens  {tokens}"))?;
    Ok(ExitCode::SUCCESS)
}
