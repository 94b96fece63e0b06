//! The width of vectors in Mesa's driver for CPUs (llvmpipe, lavapipe). It uses 256 bits unless the variable
//! `LP_NATIVE_VECTOR_WIDTH` says otherwise; with 512, a CPU that has them runs networks in less time.
//!
//! The driver reads the variable once, so the width is chosen before anything is known of the driver. The first run takes
//! 256 bits. When its work is done, it starts this program again, in the background, to check the driver with 512. Later
//! runs take 512 if the check found the driver right. A run that tunes waits for the check, since the fastest kernels are
//! those of one width. The cache folder keeps the finding; without it nothing is changed.

use fullconv::gpu::{Backend, Verdict, cache_folder, wgpu};
use fullconv::low_level::files;
use fullconv::{Error, ErrorKind, Gpu, GpuOptions, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The driver's variable.
const DRIVERS: &str = "LP_NATIVE_VECTOR_WIDTH";
/// This program's variable: `256` leaves the driver alone, [`CHECK`] checks it and does nothing else.
const OWN: &str = "FULLCONV_VECTORS";
const CHECK: &str = "check";
/// The driver's name in that of the adapter.
const NAME: &str = "llvmpipe";
/// The file in the cache folder.
const FILE: &str = "vectors.json";
/// The largest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// A check without a finding after this time was ended from outside, or the driver has crashed.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The file, if the width is this program's choice.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
/// Whether this program has set the driver's variable to 512.
static WIDENED: AtomicBool = AtomicBool::new(false);
/// The driver to check when the work is done.
static UNCHECKED: OnceLock<String> = OnceLock::new();

/// Asks the driver for vectors of 512 bits, if the CPU has them, the user has not chosen a width, and the last driver was
/// right with them.
///
/// # Safety
/// No other thread may run.
pub unsafe fn widen() {
    let is_open = std::env::var_os(DRIVERS).is_none() && std::env::var_os(OWN).is_none();
    let is_kept = std::env::args_os().all(|arg| arg != "--no-cache");
    let folder = cache_folder().filter(|_| is_open && is_kept && has_512_bits());
    let Some(file) = folder.map(|folder| folder.join(FILE)) else {
        return;
    };
    if Known::read(&file).is_some_and(|known| known.finding == Finding::Right) {
        WIDENED.store(true, Ordering::Relaxed);
        // SAFETY: no other thread reads the environment, as the caller promises.
        unsafe { std::env::set_var(DRIVERS, "512") };
    }
    CHOSEN.get_or_init(|| file);
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

/// How a driver computes with 512 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Finding {
    Right,
    Wrong,
    /// A check has begun, at this time in seconds since 1970.
    Begun(u64),
}

/// The finding about a driver, the last one that ran.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    driver: String,
    finding: Finding,
}

impl Known {
    /// What the file says; nothing if it is missing or damaged.
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(file, MOST_BYTES).ok()?).ok()
    }

    fn write(&self, file: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self);
        let bytes = bytes.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
        files::write_atomically(file, &bytes)
    }

    /// Whether `driver` is to be checked.
    fn is_open(known: Option<&Self>, driver: &str) -> bool {
        match known.filter(|known| known.driver == driver) {
            None => true,
            Some(Self {
                finding: Finding::Begun(begun),
                ..
            }) => now().abs_diff(*begun) > PATIENCE.as_secs(),
            Some(_) => false,
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// The name and version of the driver, whatever its width; `None` for other devices.
fn driver(info: &wgpu::AdapterInfo) -> Option<String> {
    let is_driver = info.name.contains(NAME) && info.backend == wgpu::Backend::Vulkan;
    let version = env!("CARGO_PKG_VERSION");
    let (name, details) = (&info.driver, &info.driver_info);
    is_driver.then(|| format!("{name} {details}, fullconv {version}"))
}

/// `gpu`, unless it is a CPU whose driver was not found right with 512 bits though it has them, because it is another one
/// than in the last run: then the program starts again with 256. A driver that was never checked is noted for
/// [`check_later`].
///
/// # Errors
/// `Io` if the program cannot start again.
pub fn verified(gpu: Gpu) -> Result<Gpu> {
    let (Some(driver), Some(file)) = (driver(gpu.info()), CHOSEN.get()) else {
        return Ok(gpu);
    };
    let known = Known::read(file);
    if WIDENED.load(Ordering::Relaxed) {
        let right = Known {
            driver,
            finding: Finding::Right,
        };
        return match known == Some(right) {
            true => Ok(gpu),
            false => {
                // The next run checks the driver. If the file stays, it starts again too.
                let _ = std::fs::remove_file(file);
                Err(start_again(Some("256")))
            }
        };
    }
    if !Known::is_open(known.as_ref(), &driver) {
        return Ok(gpu);
    }
    let tunes = cfg!(unix) && std::env::args_os().any(|arg| arg == "--tune");
    let check = tunes.then(|| start_check(&driver, file)).flatten();
    if let Some(mut check) = check {
        let _ = check.wait();
        return match Known::read(file).is_some_and(|known| known.finding == Finding::Right) {
            true => Err(start_again(None)),
            false => Ok(gpu),
        };
    }
    UNCHECKED.get_or_init(|| driver);
    Ok(gpu)
}

/// Replaces this process by the same program; returns only if this fails. Without `width`, the new process chooses it.
fn start_again(width: Option<&str>) -> Error {
    #[cfg(unix)]
    let reason = {
        use std::os::unix::process::CommandExt;
        match std::env::current_exe() {
            Ok(program) => Command::new(program)
                .args(std::env::args_os().skip(1))
                .env_remove(DRIVERS)
                .envs(width.map(|width| (OWN, width)))
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

/// Starts the check of a driver that was never checked, in a process that goes on when this one ends.
///
/// It is for later runs only: if it cannot start, nothing is lost and nothing said.
pub fn check_later() {
    if let (Some(driver), Some(file)) = (UNCHECKED.get(), CHOSEN.get()) {
        start_check(driver, file);
    }
}

/// Starts the process that checks `driver`, and notes that it has begun; `None` if it cannot start.
fn start_check(driver: &str, file: &Path) -> Option<Child> {
    let begun = Known {
        driver: driver.to_owned(),
        finding: Finding::Begun(now()),
    };
    std::fs::create_dir_all(file.parent()?).ok()?;
    begun.write(file).ok()?;
    let program = std::env::current_exe().ok()?;
    // The next run goes first.
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(&program);
    for mut command in [nice, Command::new(&program)] {
        command
            .env(DRIVERS, "512")
            .env(OWN, CHECK)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C is not for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if let Ok(child) = command.spawn() {
            return Some(child);
        }
    }
    None
}

/// In the process of [`start_check`]: checks the driver, notes the finding, and returns the exit status. `None` in any
/// other process.
pub fn check() -> Option<ExitCode> {
    if std::env::var_os(OWN)? != CHECK {
        return None;
    }
    let options = GpuOptions {
        backend: Some(Backend::Vulkan),
        adapter: Some(NAME.to_owned()),
        ..GpuOptions::default()
    };
    let known = pollster::block_on(async {
        let gpu = Gpu::with_options(&options).await.ok()?;
        let driver = driver(gpu.info())?;
        let is_right = gpu.check().await.ok()?.verdict() == Verdict::Right;
        let finding = match is_right {
            true => Finding::Right,
            false => Finding::Wrong,
        };
        Some(Known { driver, finding })
    });
    let file = cache_folder().map(|folder| folder.join(FILE));
    // Whoever has removed the folder meanwhile does not want it back.
    let is_noted = known.zip(file).map(|(known, file)| known.write(&file));
    Some(match is_noted {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(finding: Finding) -> Known {
        Known {
            driver: "a".to_owned(),
            finding,
        }
    }

    #[test]
    fn what_is_known_is_kept_and_a_damaged_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(Known::read(&file), None);
        for finding in [Finding::Right, Finding::Wrong, Finding::Begun(7)] {
            known(finding).write(&file).unwrap();
            assert_eq!(Known::read(&file), Some(known(finding)));
        }
        std::fs::write(&file, b"{\"a\": 7}").unwrap();
        assert_eq!(Known::read(&file), None);
    }

    #[test]
    fn a_driver_is_checked_once_unless_the_check_has_died() {
        let is_open = |finding| Known::is_open(Some(&known(finding)), "a");
        assert!(!is_open(Finding::Right) && !is_open(Finding::Wrong));
        assert!(!is_open(Finding::Begun(now())) && is_open(Finding::Begun(1)));
        assert!(Known::is_open(Some(&known(Finding::Right)), "b") && Known::is_open(None, "a"));
    }
}
