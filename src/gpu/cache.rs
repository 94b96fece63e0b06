//! What is kept on disk from one start of a program to the next: which kernels were measured to be the fastest
//! on a device, and the device's compiled pipelines.
//!
//! All of it can be lost at any time: what is damaged, or of another device, driver or version, is ignored with
//! a warning.

use crate::files;
use crate::plan::{Choices, hash};
use crate::target::Target;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most bytes of a file that is read.
const MOST_BYTES: u64 = 64 << 20;

/// The folder for [`GpuOptions::cache`](super::GpuOptions::cache) that a user expects: `FULLCONV_CACHE`, or
/// `fullconv` where the system keeps such things. `None` if the variable is empty, or there is no such place.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("FULLCONV_CACHE") {
        return (!folder.is_empty()).then(|| folder.into());
    }
    let place = |name: &str| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    let caches = match () {
        () if cfg!(windows) => place("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => place("HOME").map(|home| home.join("Library/Caches")),
        () => place("XDG_CACHE_HOME").or_else(|| place("HOME").map(|home| home.join(".cache"))),
    };
    caches.map(|folder| folder.join("fullconv"))
}

/// What times depend on beside the shaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceKey {
    adapter: String,
    vendor: u32,
    device: u32,
    backend: String,
    driver: String,
    driver_info: String,
    profile: String,
    version: String,
}

/// The file of a device's choices.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoicesFile {
    device: DeviceKey,
    choices: Choices,
}

/// Says what cannot be used; all goes on without.
fn warn(what: &str, path: &Path, reason: impl std::fmt::Display) {
    tracing::warn!("{what} {}: {reason}", path.display());
}

/// Writes a file, and makes its folder first where that is not there. What fails is only said.
fn write(path: &Path, bytes: &[u8]) {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Err(reason) = std::fs::create_dir_all(folder) {
        return warn("cannot make the folder of", path, reason);
    }
    if let Err(error) = files::write_atomically(path, bytes) {
        tracing::warn!("{error}");
    }
}

/// The choices that are kept for one device.
#[derive(Debug)]
pub(super) struct ChoicesCache {
    path: PathBuf,
    device: DeviceKey,
}

impl ChoicesCache {
    pub(super) fn new(folder: &Path, info: &wgpu::AdapterInfo, target: &Target) -> Self {
        let device = DeviceKey {
            adapter: info.name.clone(),
            vendor: info.vendor,
            device: info.device,
            backend: info.backend.to_str().to_owned(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            profile: format!("{:?} {:?}", target.device, target.options.without_kernels),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let name = format!(
            "choices-{:016x}.json",
            hash(format!("{device:?}").as_bytes())
        );
        let path = folder.join(name);
        Self { path, device }
    }

    /// What is kept; nothing if that cannot be used.
    pub(super) fn read(&self) -> Choices {
        if !self.path.exists() {
            return Choices::default();
        }
        let parsed = files::read(&self.path, MOST_BYTES)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                serde_json::from_slice::<ChoicesFile>(&bytes).map_err(|error| error.to_string())
            });
        match parsed {
            Ok(file) if file.device == self.device => return file.choices,
            Ok(_) => warn(
                "ignoring",
                &self.path,
                "it is of another device, driver or version",
            ),
            Err(reason) => warn("ignoring", &self.path, format!("it is damaged: {reason}")),
        }
        Choices::default()
    }

    /// Keeps `choices` and those that another program has written meanwhile.
    pub(super) fn write(&self, choices: &Choices) {
        let mut all = self.read();
        all.extend(choices.clone());
        let file = ChoicesFile {
            device: self.device.clone(),
            choices: all,
        };
        match serde_json::to_vec_pretty(&file) {
            Ok(bytes) => write(&self.path, &bytes),
            Err(reason) => warn("cannot write", &self.path, reason),
        }
    }
}

/// The compiled pipelines that are kept for one device.
#[derive(Debug)]
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The hash of the data that the file holds, or of what a cache without pipelines has.
    written: Mutex<Option<u64>>,
    /// A pipeline was made since that was looked at.
    is_behind: AtomicBool,
}

impl PipelineCache {
    /// `None` if the device has none.
    pub(super) fn new(
        folder: &Path,
        info: &wgpu::AdapterInfo,
        device: &wgpu::Device,
    ) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(info)?;
        // Another driver brings another file: each validates what it is given, but replaces it too.
        let driver = hash(format!("{} {}", info.driver, info.driver_info).as_bytes());
        let path = folder.join(format!("pipelines-{key}-{driver:016x}.bin"));
        let data = read_checked(&path);
        // SAFETY: the data is what a pipeline cache gave, written by this module for a device of the same name,
        // and whole, as its hash says; wgpu and the driver check in its header that it is their own, and
        // start anew if it is not.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("fullconv"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        // Some drivers give nothing but a header: that is not worth a file.
        let held = cache.get_data().map(|data| hash(&data));
        Some(Self {
            cache,
            path,
            written: Mutex::new(held),
            is_behind: AtomicBool::new(false),
        })
    }

    /// For the making of a pipeline that the file may not hold.
    pub(super) fn for_new(&self) -> &wgpu::PipelineCache {
        self.is_behind.store(true, Ordering::Relaxed);
        &self.cache
    }

    /// Writes the file, if there is something new.
    pub(super) fn write(&self) {
        if !self.is_behind.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(data) = self.cache.get_data() else {
            return;
        };
        let found = hash(&data);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.replace(found) != Some(found) {
            write_checked(&self.path, &data);
        }
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        self.write();
    }
}

/// Writes a file that begins with the hash of its data.
fn write_checked(path: &Path, data: &[u8]) {
    write(path, &[&hash(data).to_le_bytes(), data].concat());
}

/// The data of such a file, if that is whole.
fn read_checked(path: &Path) -> Option<Vec<u8>> {
    if !path.exists() {
        return None;
    }
    match files::read(path, MOST_BYTES) {
        Ok(bytes) => match bytes.split_first_chunk() {
            Some((expected, data)) if u64::from_le_bytes(*expected) == hash(data) => {
                return Some(data.to_vec());
            }
            _ => warn("ignoring", path, "it is damaged"),
        },
        Err(error) => tracing::warn!("{error}"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_not_whole_is_no_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/file.bin");
        assert_eq!(read_checked(&path), None);
        let data = b"what a driver has compiled";
        write_checked(&path, data);
        assert_eq!(read_checked(&path).as_deref(), Some(&data[..]));
        let whole = std::fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[i] ^= 1;
            for damaged in [&flipped, &whole[..i]] {
                std::fs::write(&path, damaged).unwrap();
                assert_eq!(read_checked(&path), None, "{i}");
            }
        }
    }
}
