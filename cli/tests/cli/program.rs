//! Shared by the program's tests: running it, and making its input.
#![allow(dead_code)] // Each test program uses a part of this module.

use image::{ImageFormat, Rgb, RgbImage};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The outcome of a run of the program.
pub struct Done {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The whole of stdout, as one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).expect(&self.stdout);
        assert!(value.is_object());
        value
    }
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fullconv"));
    command.env_remove("FULLCONV_LOG").env_remove("RUST_LOG");
    command.env_remove("FULLCONV_WITHOUT");
    // No cache: the user's is neither read nor written.
    command.env("FULLCONV_CACHE", "");
    // Without XDG_RUNTIME_DIR, Mesa's Vulkan layer complains on stderr.
    command.env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

pub fn fullconv<S: AsRef<OsStr>>(arguments: &[S]) -> Done {
    let output = command().args(arguments).output().unwrap();
    Done {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program with `arguments` split at spaces; each `{}` is the next path.
pub fn fullconv_with(arguments: &str, paths: &[&Path]) -> Done {
    let mut paths = paths.iter();
    let arguments: Vec<_> = arguments
        .split(' ')
        .map(|word| match word {
            "{}" => paths.next().unwrap().as_os_str(),
            word => OsStr::new(word),
        })
        .collect();
    fullconv(&arguments)
}

/// Whether there is an adapter; panics without one if `FULLCONV_REQUIRE_GPU` is 1.
pub fn has_adapter() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = fullconv(&["devices"]).status == Some(0);
        let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(found || !required, "a GPU is required");
        if !found {
            eprintln!("SKIP: no adapter");
        }
        found
    })
}

pub fn golden(name: &str) -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    cli.join(format!("../tests/goldens/{name}.safetensors"))
}

/// A picture of 48x64 pixels (height x width), different for each `seed`.
pub fn pixels(seed: u32) -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| {
        let wave = |k: u32| (f64::from(x * k + y * seed) / 9.0).sin() * 100.0 + 128.0;
        Rgb([wave(1) as u8, wave(2) as u8, if x > 32 { 220 } else { 20 }])
    })
}

pub fn jpeg(seed: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    pixels(seed)
        .write_to(&mut bytes, ImageFormat::Jpeg)
        .unwrap();
    bytes.into_inner()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn write_tensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let views = tensors.iter().map(|(name, shape, values)| {
        let bytes = bytemuck::cast_slice(values);
        (
            *name,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}
