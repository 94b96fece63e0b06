//! The loader of Vulkan and its driver files.

use super::Host;
use fullconv::low_level::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The library that programs load.
const LOADER: &str = "libvulkan.so.1";
/// The variables that change which drivers the loader takes. The first two name all driver files; the first goes before.
pub const VARIABLES: [&str; 5] = [
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_ADD_DRIVER_FILES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
];
/// The largest driver file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// What the dynamic linker says of a library for another kind of CPU.
const FOREIGN: &str = "wrong ELF class";

/// A library.
#[derive(Debug, Serialize)]
pub struct Library {
    name: String,
    /// Where it was found; `None` if it cannot be loaded.
    pub path: Option<String>,
    error: Option<String>,
}

/// A driver file (ICD) and the library that it names.
#[derive(Debug, Serialize)]
pub struct Driver {
    pub file: String,
    /// The library, as the file names it.
    pub library: Option<String>,
    /// Where it was found; `None` if it cannot be loaded.
    path: Option<String>,
    error: Option<String>,
    /// Whether it is for another kind of CPU, as 32-bit drivers beside the others: the loader passes over it.
    pub is_foreign: bool,
}

/// A driver file's content, as far as it matters here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "ICD")]
    icd: Icd,
}

#[derive(Deserialize)]
struct Icd {
    library_path: String,
    library_arch: Option<String>,
}

impl Driver {
    /// Whether its library can be loaded.
    pub fn is_loaded(&self) -> bool {
        self.path.is_some()
    }

    /// Whether it is NVIDIA's own driver.
    pub fn is_nvidia(&self) -> bool {
        let library = self.library.as_deref().unwrap_or_default();
        library.contains("nvidia")
    }

    /// Reads the file, and says what to load for it.
    fn read(host: &Host, file: &str) -> (Self, Option<PathBuf>) {
        let content = files::read(&host.file(file), MOST_BYTES).map_err(|e| e.to_string());
        let content = content.and_then(|bytes| {
            let manifest: Result<Manifest, _> = serde_json::from_slice(&bytes);
            manifest.map_err(|reason| format!("{file} is no driver file: {reason}"))
        });
        let mut driver = Self {
            file: file.to_owned(),
            library: None,
            path: None,
            error: None,
            is_foreign: false,
        };
        let icd = match content {
            Ok(manifest) => manifest.icd,
            Err(error) => {
                driver.error = Some(error);
                return (driver, None);
            }
        };
        driver.library = Some(icd.library_path.clone());
        let library = PathBuf::from(icd.library_path);
        // A path is taken from the file's folder, a name is the dynamic linker's to find.
        let library = match library.components().count() {
            1 => library,
            _ => Path::new(file)
                .parent()
                .map_or(library.clone(), |folder| folder.join(&library)),
        };
        let own = usize::BITS.to_string();
        if icd.library_arch.is_some_and(|bits| bits != own) {
            driver.is_foreign = true;
            return (driver, None);
        }
        (driver, Some(library))
    }

    fn loaded(mut self, result: Result<String, String>) -> Self {
        match result {
            Ok(path) => self.path = Some(path),
            Err(error) => {
                self.is_foreign = error.contains(FOREIGN);
                self.error = Some(error);
            }
        }
        self
    }
}

/// The loader, and its drivers in its order.
pub fn look(host: &Host) -> (Library, Vec<Driver>) {
    let files = driver_files(host);
    let drivers: Vec<_> = files.iter().map(|file| Driver::read(host, file)).collect();
    let load = host.load;
    // Each is loaded by a process: all at the same time.
    std::thread::scope(|scope| {
        let start = |library: PathBuf| scope.spawn(move || load(&library));
        let loader = start(LOADER.into());
        let drivers = drivers
            .into_iter()
            .map(|(driver, library)| (driver, library.map(start)));
        let drivers: Vec<_> = drivers.collect();
        let end = |thread: std::thread::ScopedJoinHandle<'_, Result<String, String>>| {
            let failed = |_| Err("the thread that loads it has failed".to_owned());
            thread.join().unwrap_or_else(failed)
        };
        let (path, error) = match end(loader) {
            Ok(path) => (Some(path), None),
            Err(error) => (None, Some(error)),
        };
        let loader = Library {
            name: LOADER.into(),
            path,
            error,
        };
        let drivers = drivers.into_iter().map(|(driver, thread)| match thread {
            Some(thread) => driver.loaded(end(thread)),
            None => driver,
        });
        (loader, drivers.collect())
    })
}

/// The paths of all driver files.
fn driver_files(host: &Host) -> Vec<String> {
    let named = VARIABLES[..2].iter().find_map(|name| host.set(name));
    let mut files: Vec<String> = host
        .set(VARIABLES[2])
        .iter()
        .flat_map(|list| in_list(host, list))
        .collect();
    match named {
        Some(list) => files.extend(in_list(host, &list)),
        None => files.extend(folders(host).iter().flat_map(|f| in_folder(host, f))),
    }
    files
}

/// The driver files of a variable, which names files and folders.
fn in_list(host: &Host, list: &str) -> Vec<String> {
    let paths = list.split(':').filter(|path| !path.is_empty());
    let files = paths.flat_map(|path| match host.file(path).is_dir() {
        true => in_folder(host, path),
        false => vec![path.to_owned()],
    });
    files.collect()
}

fn in_folder(host: &Host, folder: &str) -> Vec<String> {
    let names = host.names(folder).into_iter();
    let names = names.filter(|name| name.ends_with(".json"));
    names.map(|name| format!("{folder}/{name}")).collect()
}

/// The folders of driver files, in the loader's order.
fn folders(host: &Host) -> Vec<String> {
    let in_home = |name: &str, folder: &str| {
        let home = || Some(format!("{}/{folder}", host.set("HOME")?));
        host.set(name).or_else(home)
    };
    let list = |name: &str, usual: &str| {
        let list = host.set(name).unwrap_or_else(|| usual.to_owned());
        list.split(':').map(str::to_owned).collect::<Vec<_>>()
    };
    let mut bases: Vec<String> = Vec::new();
    bases.extend(in_home("XDG_CONFIG_HOME", ".config"));
    bases.extend(list("XDG_CONFIG_DIRS", "/etc/xdg"));
    bases.extend(["/usr/local/etc", "/etc"].map(str::to_owned));
    bases.extend(in_home("XDG_DATA_HOME", ".local/share"));
    bases.extend(list("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
    let mut folders: Vec<String> = Vec::new();
    for base in bases.iter().filter(|base| !base.is_empty()) {
        let folder = format!("{}/vulkan/icd.d", base.trim_end_matches('/'));
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// What is wrong with the loader and the drivers. Images carry NVIDIA's driver file for machines that may have no such GPU.
pub fn problems(
    loader: &Library,
    drivers: &[Driver],
    variables: &BTreeMap<&'static str, String>,
    has_nvidia: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(error) = &loader.error {
        problems.push(format!(
            "the loader of Vulkan cannot be loaded: {error}; install it (on Debian and Ubuntu libvulkan1, elsewhere \
             vulkan-loader)"
        ));
    }
    if drivers.iter().all(|driver| driver.is_foreign) {
        let named = VARIABLES[..2]
            .iter()
            .find_map(|name| variables.get_key_value(name));
        problems.push(match named {
            Some((name, value)) => format!("{name}={value} names no driver file: unset it"),
            None => "there is no driver file in /etc/vulkan/icd.d, in /usr/share/vulkan/icd.d or in another folder of \
                     the loader: install a driver (on Debian and Ubuntu mesa-vulkan-drivers)"
                .into(),
        });
    }
    let is_wanted = |driver: &&Driver| !driver.is_foreign && (has_nvidia || !driver.is_nvidia());
    for driver in drivers.iter().filter(is_wanted) {
        let Some(error) = &driver.error else { continue };
        problems.push(match &driver.library {
            Some(library) => format!(
                "{}: its library {library} cannot be loaded: {error}; install the driver and the libraries that it \
                 needs, or remove the file",
                driver.file
            ),
            None => format!("{error}; correct or remove it"),
        });
    }
    problems
}
