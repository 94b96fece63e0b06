//! The width of vectors in Mesa's driver for CPUs (llvmpipe, lavapipe). It uses 256 bits unless the variable
//! `LP_NATIVE_VECTOR_WIDTH` says otherwise; with 512, a CPU that has them runs networks in less time.
//!
//! The program sets the variable for itself, and checks a driver the first time: if it computes wrongly with 512 bits,
//! the program starts again with 256. The result is kept in the cache folder; without the folder nothing is changed.

use crate::terminal;
use fullconv::gpu::{Verdict, cache_folder, wgpu};
use fullconv::low_level::files;
use fullconv::{Error, ErrorKind, Gpu, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The driver's variable.
const DRIVERS: &str = "LP_NATIVE_VECTOR_WIDTH";
/// This program's variable: `256` leaves the driver alone.
const OWN: &str = "FULLCONV_VECTORS";
/// The file in the cache folder.
const FILE: &str = "vectors.json";
/// The largest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Whether this program has set the driver's variable to 512.
static WIDENED: AtomicBool = AtomicBool::new(false);

/// Asks the driver for vectors of 512 bits, if the CPU has them and the user has not chosen a width.
///
/// # Safety
/// No other thread may run.
pub unsafe fn widen() {
    let is_open = std::env::var_os(DRIVERS).is_none() && std::env::var_os(OWN).is_none();
    let is_kept = cache_folder().is_some() && std::env::args_os().all(|arg| arg != "--no-cache");
    if is_open && is_kept && has_512_bits() {
        WIDENED.store(true, Ordering::Relaxed);
        // SAFETY: no other thread reads the environment, as the caller promises.
        unsafe { std::env::set_var(DRIVERS, "512") };
    }
}

/// Whether the CPU has vectors of 512 bits. Mesa asks for AVX-512F; the other sets have the operations on bytes, on
/// words and on shorter vectors, without which LLVM has to split them.
fn has_512_bits() -> bool {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    false
}

/// Whether drivers compute right with 512 bits, by their names and versions.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known(BTreeMap<String, bool>);

impl Known {
    /// What the file says; nothing if it is missing or damaged.
    fn read(path: &Path) -> Self {
        let bytes = files::read(path, MOST_BYTES).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, path: &Path) -> Result<()> {
        let io = |reason: String| Error::new(ErrorKind::Io, reason);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .map_err(|e| io(format!("cannot create {}: {e}", folder.display())))?;
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| io(e.to_string()))?;
        files::write_atomically(path, &bytes)
    }
}

/// The key of a driver: the CPU's name is in that of the adapter.
fn key(info: &wgpu::AdapterInfo) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (name, backend) = (info.name.trim(), info.backend.to_str());
    let (driver, details) = (&info.driver, &info.driver_info);
    format!("{name}, {backend}, {driver} {details}, fullconv {version}")
}

/// `gpu`, unless it is a CPU whose driver computes wrongly with vectors of 512 bits: then the program starts again with
/// 256. `gpu` is checked if the cache folder does not know its driver.
///
/// # Errors
/// `Io` if the program cannot start again. A file that cannot be written is only reported.
pub fn verified(gpu: Gpu) -> Result<Gpu> {
    let is_driver = gpu.info().name.contains("llvmpipe");
    let folder = cache_folder().filter(|_| is_driver && WIDENED.load(Ordering::Relaxed));
    let Some(folder) = folder else {
        return Ok(gpu);
    };
    let path: PathBuf = folder.join(FILE);
    let (key, mut known) = (key(gpu.info()), Known::read(&path));
    let is_right = known.0.get(&key).copied().unwrap_or_else(|| {
        let check = pollster::block_on(gpu.check());
        let is_right = check.is_ok_and(|check| check.verdict() == Verdict::Right);
        known.0.insert(key, is_right);
        if let Err(error) = known.write(&path) {
            terminal::report(error);
        }
        is_right
    });
    match is_right {
        true => Ok(gpu),
        false => Err(start_again(&gpu)),
    }
}

/// Replaces this process by the same program with vectors of 256 bits; returns only if this fails.
fn start_again(gpu: &Gpu) -> Error {
    terminal::report(format!(
        "{gpu} computes wrongly with vectors of 512 bits: starting again with 256 ({OWN}=256 does so at once)"
    ));
    #[cfg(unix)]
    let reason = {
        use std::os::unix::process::CommandExt;
        match std::env::current_exe() {
            Ok(program) => std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .env(DRIVERS, "256")
                .exec(),
            Err(reason) => reason,
        }
    };
    #[cfg(not(unix))]
    let reason = std::io::Error::from(std::io::ErrorKind::Unsupported);
    Error::new(
        ErrorKind::Io,
        format!("the program cannot start again: {reason}; set {OWN}=256"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_kept_and_a_damaged_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made").join(FILE);
        assert!(Known::read(&path).0.is_empty());
        let known = Known(BTreeMap::from([
            ("a".to_owned(), true),
            ("b".to_owned(), false),
        ]));
        known.write(&path).unwrap();
        assert_eq!(Known::read(&path).0, known.0);
        std::fs::write(&path, b"{\"a\": 7}").unwrap();
        assert!(Known::read(&path).0.is_empty());
    }
}
