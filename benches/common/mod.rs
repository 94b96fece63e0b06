//! Shared by the benchmarks: options, random weights, and floors.

use clap::Parser as _;
use fullconv::{Gpu, GpuOptions, Result};
use std::process::ExitCode;

/// The options of a benchmark: `cargo bench --bench NAME -- OPTIONS`.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo bench --")]
pub struct Options {
    /// Run only benchmarks whose name contains one of these
    filters: Vec<String>,
    /// Runs to take the median of
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// The device's peak arithmetic in GFLOP/s, for floors in milliseconds
    #[arg(long, value_name = "X", requires = "peak_gbs")]
    peak_gflops: Option<f64>,
    /// The device's peak bandwidth in GB/s
    #[arg(long, value_name = "X", requires = "peak_gflops")]
    peak_gbs: Option<f64>,
    /// The adapter: its index in `fullconv devices`, its PCI address (0000:01:00.0) or a part of its name
    #[arg(long, value_name = "NAME|INDEX|PCI")]
    adapter: Option<String>,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Whether the filters select `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| name.contains(f))
    }

    /// Opens the selected device.
    pub fn gpu(&self) -> Result<Gpu> {
        pollster::block_on(Gpu::with_options(&GpuOptions {
            adapter: self.adapter.clone(),
            ..GpuOptions::default()
        }))
    }

    /// The end of a line: the work, and its floor if the peaks are known.
    pub fn floor(&self, flops: u64, bytes: u64) -> String {
        let (gflop, megabytes) = (flops as f64 / 1e9, bytes as f64 / 1e6);
        let work = format!("{gflop:9.3} GFLOP {megabytes:9.2} MB");
        match (self.peak_gflops, self.peak_gbs) {
            (Some(gflops), Some(gbs)) => {
                let (arithmetic, transfer) = (gflop / gflops * 1e3, megabytes / gbs);
                format!("{work}  floor {:9.3} ms", arithmetic.max(transfer))
            }
            _ => work,
        }
    }
}

/// A line with `name`, a time, and the rates of `flops` and `bytes` in that time.
pub fn rates(name: &str, ms: f64, flops: u64, bytes: u64) -> String {
    let per_second = |amount: u64| amount as f64 / (ms * 1e6);
    let (gflops, gbs) = (per_second(flops), per_second(bytes));
    format!("{name:<20} {ms:10.3} ms {gflops:9.1} GFLOP/s {gbs:8.2} GB/s")
}

/// Runs a benchmark; an error becomes a line on stderr.
pub fn main(run: fn(&Options) -> Result<()>) -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `count` numbers between `-bound` and `bound`, the same in every run.
pub fn noise(count: usize, bound: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() * bound).collect()
}

/// Names and dimensions of weights.
pub type Weights = Vec<(String, Vec<usize>)>;

/// A safetensors file in memory, of random weights that preserve the magnitude of activations (He).
pub fn random_file(shapes: &Weights) -> Result<Vec<u8>> {
    let values: Vec<Vec<f32>> = shapes.iter().map(|(_, shape)| weight(shape)).collect();
    let views = shapes.iter().zip(&values).map(|((name, shape), values)| {
        let bytes = bytemuck::cast_slice(values);
        let dtype = safetensors::Dtype::F32;
        safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).map(|view| (name, view))
    });
    let file = views
        .collect::<std::result::Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, None));
    file.map_err(|error| fullconv::Error::new(fullconv::ErrorKind::Request, error.to_string()))
}

fn weight(shape: &[usize]) -> Vec<f32> {
    let terms: usize = shape.iter().skip(1).product();
    noise(shape.iter().product(), (6.0 / terms as f32).sqrt())
}
