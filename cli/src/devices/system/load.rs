//! Whether a library can be loaded.
//!
//! A process of its own loads each: code of a library runs while it is loaded, and a broken driver may end the process or
//! hang there. The process is this program again, whose surroundings are those in which the loader of Vulkan will load it.

use crate::{Outcome, terminal};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The words before the library's path, and before the error's text.
const LOADED: &str = "loaded ";
const FAILED: &str = "failed ";
/// The time that loading may take. Drivers with a compiler in them take a second from a slow disk.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Loads `library`, a path or a name that the dynamic linker looks for, in a process of its own: its path, or the error.
pub fn load(library: &Path) -> Result<String, String> {
    let cannot = |reason: std::io::Error| format!("cannot start a process to load it: {reason}");
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command.args(["devices", "--load"]).arg(library);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().map_err(cannot)?;
    let ended = wait(&mut child);
    let mut output = Vec::new();
    if let (Ok(_), Some(mut stdout)) = (&ended, child.stdout.take()) {
        // Without its line, the process counts as ended too early.
        let _ = stdout.read_to_end(&mut output);
    }
    let output = String::from_utf8_lossy(&output);
    let mut lines = output.lines();
    if let Some(path) = lines.clone().find_map(|line| line.strip_prefix(LOADED)) {
        return Ok(path.to_owned());
    }
    match lines.find_map(|line| line.strip_prefix(FAILED)) {
        Some(error) => Err(error.to_owned()),
        None => Err(format!("a process that loads it {}", ended?)),
    }
}

/// Waits for the end of `child`, in words.
fn wait(child: &mut Child) -> Result<String, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(format!("ends with {status}")),
            Ok(None) if Instant::now() < end => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    Err(format!(
        "loading takes longer than {} s",
        PATIENCE.as_secs()
    ))
}

/// Loads `library` in this process, and prints what [`load`] reads.
pub fn load_here(library: &Path) -> Outcome {
    // As the loader of Vulkan loads drivers: missing functions are found when they are called, which drivers rely on, and
    // no other library sees the driver's.
    // SAFETY: the library's code may do anything, for which this process exists.
    let loaded = unsafe { Library::open(Some(library), RTLD_LAZY | RTLD_LOCAL) };
    match loaded {
        Ok(loaded) => {
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            let path = path_in(&maps, library);
            terminal::say(format!("{LOADED}{path}"))?;
            // Code at its end would be one more thing to fail.
            std::mem::forget(loaded);
        }
        Err(error) => terminal::say(format!("{FAILED}{error}").replace('\n', " "))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of `library` among the mapped files, where links are followed.
fn path_in(maps: &str, library: &Path) -> String {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    // A link's name and its file's agree up to the version.
    let stem = match name.split_once(".so") {
        Some((stem, _)) => format!("{stem}.so"),
        None => name.into_owned(),
    };
    let is_it = |path: &&str| {
        let name = path.rsplit('/').next();
        name.is_some_and(|name| name.starts_with(&stem))
    };
    let mut paths = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]));
    let path = paths.find(is_it).map(str::to_owned);
    path.unwrap_or_else(|| library.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_among_the_mapped_files() {
        let maps = "7f0-7f1 r-xp 00000000 08:01 12   /usr/lib/libc.so.6\n\
                    7f2-7f3 r-xp 00000000 08:01 13   /usr/lib/with space/libvulkan.so.1.3.239\n\
                    7f4-7f5 rw-p 00000000 00:00 0    [heap]\n";
        for (library, path) in [
            ("libvulkan.so.1", "/usr/lib/with space/libvulkan.so.1.3.239"),
            ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6"),
            ("libEGL.so.1", "libEGL.so.1"),
        ] {
            assert_eq!(path_in(maps, Path::new(library)), path);
        }
    }
}
