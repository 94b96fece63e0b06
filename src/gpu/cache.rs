//! The cache on disk between runs of a program: the fastest measured kernels of a device, and its compiled pipelines.
//!
//! The files may be deleted at any time. A file that is damaged, or of another device, driver or version, is ignored
//! with a warning.

use crate::files;
use crate::plan::{Choices, hash};
use crate::target::Target;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The largest cache file that is read, in bytes.
const MOST_BYTES: u64 = 64 << 20;

/// The usual folder for [`GpuOptions::cache`](super::GpuOptions::cache): the variable `FULLCONV_CACHE`, or `fullconv`
/// in the system's folder for caches. `None` if the variable is empty, or the system has no such folder.
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

/// The identity of a device, driver and version: measured times depend on it.
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

/// The contents of a device's file of choices.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoicesFile {
    device: DeviceKey,
    choices: Choices,
}

/// Warns about a cache file; the program goes on without it.
fn warn(what: &str, path: &Path, reason: impl std::fmt::Display) {
    tracing::warn!("{what} {}: {reason}", path.display());
}

/// Writes a file, and creates its folder if necessary. A failure is only a warning.
fn write(path: &Path, bytes: &[u8]) {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Err(reason) = std::fs::create_dir_all(folder) {
        return warn("cannot create the folder of", path, reason);
    }
    if let Err(error) = files::write_atomically(path, bytes) {
        tracing::warn!("{error}");
    }
}

/// The cached choices of one device.
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

    /// The cached choices; none if the file is missing or unusable.
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

    /// Writes `choices`, together with choices that another program wrote meanwhile.
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

/// The cached pipelines of one device.
#[derive(Debug)]
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The hash of the data last written, or of the data the cache began with.
    written: Mutex<Option<u64>>,
    /// A pipeline was created since the data was last written.
    is_behind: AtomicBool,
}

impl PipelineCache {
    /// `None` if the device has no pipeline cache.
    pub(super) fn new(
        folder: &Path,
        info: &wgpu::AdapterInfo,
        device: &wgpu::Device,
    ) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(info)?;
        // Each driver has its own file, because a driver replaces the data of another driver.
        let driver = hash(format!("{} {}", info.driver, info.driver_info).as_bytes());
        let path = folder.join(format!("pipelines-{key}-{driver:016x}.bin"));
        let data = read_checked(&path);
        // SAFETY: this module wrote the data, the contents of a pipeline cache, for a device with the same key, and its
        // hash shows that it is complete. wgpu and the driver check its header, and start with an empty cache if it is
        // not theirs.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("fullconv"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        // Some drivers return only a header; it is not written to a file.
        let held = cache.get_data().map(|data| hash(&data));
        Some(Self {
            cache,
            path,
            written: Mutex::new(held),
            is_behind: AtomicBool::new(false),
        })
    }

    /// The cache, for a new pipeline that the file may lack.
    pub(super) fn for_new(&self) -> &wgpu::PipelineCache {
        self.is_behind.store(true, Ordering::Relaxed);
        &self.cache
    }

    /// Writes the file if the data has changed.
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

/// Writes a file: the hash of the data, then the data.
fn write_checked(path: &Path, data: &[u8]) {
    write(path, &[&hash(data).to_le_bytes(), data].concat());
}

/// The data of a file written by [`write_checked`]; `None` if it is missing or damaged.
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
    fn damaged_data_is_not_read() {
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
