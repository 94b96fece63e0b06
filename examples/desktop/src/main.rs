//! A window that shows pictures and their labels: drop a picture or a folder on it.
//!
//! The network runs on egui's device, and the window draws the texture of labels that the network writes. `worker.rs`
//! runs the network, `view.rs` draws.

mod app;
mod arguments;
mod files;
mod legend;
mod screenshot;
mod view;
mod worker;

use app::App;
use arguments::{Arguments, USAGE};
use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupCreateNew};
use eframe::{NativeOptions, Renderer, egui};
use fullconv::gpu::wgpu;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let options = NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_inner_size(arguments.size)
            .with_min_inner_size([480.0, 320.0]),
        renderer: Renderer::Wgpu,
        wgpu_options: WgpuConfiguration {
            wgpu_setup: WgpuSetup::CreateNew(setup()),
            ..Default::default()
        },
        ..Default::default()
    };
    let outcome = arguments.outcome.clone();
    let create = |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        Ok(Box::new(App::new(context, arguments)?))
    };
    eframe::run_native("fullconv", options, Box::new(create))
        .map_err(|error| format!("cannot open a window: {error}"))?;
    outcome.lock().map_or(Ok(()), |outcome| outcome.clone())
}

/// A device with the adapter's limits, which bound the size of pictures, and the features that make fullconv faster.
fn setup() -> WgpuSetupCreateNew {
    let mut setup = WgpuSetupCreateNew::without_display_handle();
    // The backends with compute shaders.
    setup.instance_descriptor.backends =
        wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    setup.device_descriptor = Arc::new(|adapter| wgpu::DeviceDescriptor {
        label: Some("window"),
        required_features: adapter.features()
            & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16),
        required_limits: adapter.limits(),
        ..Default::default()
    });
    setup
}
