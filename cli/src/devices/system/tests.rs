//! Systems made of files in a temporary folder.

use super::*;
use std::os::unix::fs::{MetadataExt, symlink};
use tempfile::TempDir;

/// A system; at first one on which all is well: the loader, and a driver for CPUs.
struct Fake {
    folder: TempDir,
    variables: BTreeMap<&'static str, &'static str>,
    /// The error of a node that is opened, as the system numbers it.
    refused: Option<i32>,
}

impl Fake {
    fn new() -> Self {
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
            variables: BTreeMap::new(),
            refused: None,
        };
        fake.file("/usr/lib/libvulkan.so.1", "");
        fake.driver("lvp", "/usr/lib/libvulkan_lvp.so");
        fake.file("/usr/lib/libvulkan_lvp.so", "");
        fake.file("/usr/lib/libEGL.so.1", "");
        fake
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.folder.path().join(&path[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.folder.path().join(&path[1..])).unwrap();
    }

    /// Writes a driver file for `library`.
    fn driver(&self, name: &str, library: &str) {
        let text = format!(
            r#"{{"file_format_version": "1.0.0", "ICD": {{"library_path": "{library}", "api_version": "1.3.0"}}}}"#
        );
        self.file(&format!("/usr/share/vulkan/icd.d/{name}_icd.json"), &text);
    }

    /// An AMD GPU.
    fn amd(&self) {
        self.file("/dev/dri/renderD128", "");
        let pci = "/sys/devices/pci0000:00/0000:03:00.0";
        self.file(&format!("{pci}/mem_info_vram_total"), "17163091968\n");
        self.file("/sys/bus/pci/drivers/amdgpu/bind", "");
        let at = |path: &str| self.folder.path().join(path);
        fs::create_dir_all(at("sys/class/drm/renderD128")).unwrap();
        symlink(at(&pci[1..]), at("sys/class/drm/renderD128/device")).unwrap();
        symlink(
            at("sys/bus/pci/drivers/amdgpu"),
            at(&format!("{pci}/driver")[1..]),
        )
        .unwrap();
        self.driver("radeon", "libvulkan_radeon.so");
        self.file("/usr/lib/libvulkan_radeon.so", "");
    }

    /// An NVIDIA GPU, without its Vulkan driver.
    fn nvidia(&self) {
        let version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version:\n";
        self.file("/proc/driver/nvidia/version", version);
        for node in ["nvidia0", "nvidiactl", "nvidia-uvm"] {
            self.file(&format!("/dev/{node}"), "");
        }
    }

    /// The group that owns the files, and the process's groups: this one, or another.
    fn group(&self, is_own: bool) -> u32 {
        let group = fs::metadata(self.folder.path()).unwrap().gid();
        let own = if is_own { group } else { group + 7 };
        let status =
            format!("Name:\tfullconv\nUid:\t1\t7\t7\t7\nGid:\t1\t{own}\t1\t1\nGroups:\t{own} \n");
        self.file("/proc/self/status", &status);
        self.file(
            "/etc/group",
            &format!("nobody:x:65534:\nrender:x:{group}:\n"),
        );
        group
    }

    fn look(&self) -> System {
        let root = self.folder.path();
        let load = |library: &Path| {
            let path = Path::new("/usr/lib").join(library);
            match root.join(path.strip_prefix("/").unwrap()).exists() {
                true => Ok(path.display().to_string()),
                false => Err(format!(
                    "{}: cannot open shared object file",
                    library.display()
                )),
            }
        };
        System::of(&Host {
            root,
            variable: &|name| self.variables.get(name).map(|value| (*value).to_owned()),
            load: &load,
            open: &|_| {
                self.refused
                    .map_or(Ok(()), |n| Err(io::Error::from_raw_os_error(n)))
            },
        })
    }

    /// The only problem, which has these parts.
    fn problem(&self, parts: &[&str]) -> System {
        let system = self.look();
        let [problem] = &system.problems[..] else {
            panic!("{:?}", system.problems);
        };
        for part in parts {
            assert!(problem.contains(part), "{part}: {problem}");
        }
        assert!(system.shown().contains(&format!("   problem    {problem}")));
        system
    }
}

#[test]
fn without_a_problem_there_is_a_line_for_each_thing() {
    let mut fake = Fake::new();
    let mut system = fake.look();
    let lines = "system\n   loader     /usr/lib/libvulkan.so.1\n   drivers    /usr/share/vulkan/icd.d: lvp_icd.json";
    assert_eq!(system.shown(), lines);
    assert_eq!(system.only_cpus(), None);
    fake.amd();
    fake.nvidia();
    fake.driver("nvidia", "libGLX_nvidia.so.0");
    fake.file("/usr/lib/libGLX_nvidia.so.0", "");
    fake.group(true);
    fake.variables
        .insert(nodes::CAPABILITIES, "compute,graphics,utility");
    let system = fake.look();
    assert_eq!(system.problems, [""; 0]);
    let text = system.shown();
    for line in [
        "   variable   NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility",
        "   NVIDIA     kernel module 550.54.15, /dev/nvidia-uvm, /dev/nvidia0, /dev/nvidiactl",
        "   node       /dev/dri/renderD128, amdgpu, 0000:03:00.0, 16368.0 MiB",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    assert_eq!(system.memory_at("0000:03:00.0"), Some(17_163_091_968));
    assert_eq!(system.memory_at("0000:04:00.0"), None);
    assert_eq!(system.user, Some(7));
}

#[test]
fn a_missing_loader_is_a_problem() {
    let fake = Fake::new();
    fake.remove("/usr/lib/libvulkan.so.1");
    let system = fake.problem(&["libvulkan.so.1: cannot open", "install it", "libvulkan1"]);
    assert!(system.shown().contains("   loader     none"));
}

#[test]
fn a_driver_file_without_its_library_is_a_problem() {
    let fake = Fake::new();
    fake.driver("intel", "libvulkan_intel.so");
    let system = fake.problem(&["icd.d/intel_icd.json", "libvulkan_intel.so: cannot open"]);
    assert!(system.shown().contains("icd.d: lvp_icd.json\n"));
    // A path is taken from the file's folder.
    fake.driver("intel", "../intel.so");
    fake.file("/usr/share/vulkan/icd.d/../intel.so", "");
    assert_eq!(fake.look().problems, [""; 0]);
}

#[test]
fn a_damaged_driver_file_is_a_problem() {
    for text in ["{", "[]", "{}", r#"{"ICD": {}}"#, "\u{0}"] {
        let fake = Fake::new();
        fake.file("/etc/vulkan/icd.d/x.json", text);
        fake.problem(&["/etc/vulkan/icd.d/x.json is no driver file", "remove it"]);
    }
}

#[test]
fn drivers_for_other_kinds_of_cpus_are_passed_over() {
    let fake = Fake::new();
    let text = r#"{"ICD": {"library_path": "/usr/lib32/x.so", "library_arch": "16"}}"#;
    fake.file("/etc/vulkan/icd.d/x.json", text);
    let system = fake.look();
    assert_eq!(system.problems, [""; 0]);
    assert!(system.drivers[0].is_foreign);
}

#[test]
fn variables_name_the_driver_files() {
    let mut fake = Fake::new();
    fake.file("/own/a.json", "");
    let files = |fake: &Fake| {
        let drivers = fake.look().drivers.into_iter();
        drivers.map(|driver| driver.file).collect::<Vec<_>>()
    };
    assert_eq!(files(&fake), ["/usr/share/vulkan/icd.d/lvp_icd.json"]);
    fake.variables.insert("VK_ICD_FILENAMES", "/x.json:/own:");
    assert_eq!(files(&fake), ["/x.json", "/own/a.json"]);
    fake.variables.insert("VK_DRIVER_FILES", "/y.json");
    assert_eq!(files(&fake), ["/y.json"]);
    fake.problem(&["cannot read", "y.json"]);
    fake.variables.insert("VK_DRIVER_FILES", "/nothing/");
    fs::create_dir(fake.folder.path().join("nothing")).unwrap();
    fake.problem(&["VK_DRIVER_FILES=/nothing/ names no driver file"]);
    fake.variables.clear();
    fake.variables.insert("VK_ADD_DRIVER_FILES", "/z.json");
    fake.variables.insert("HOME", "/home/me");
    fake.variables.insert("XDG_DATA_DIRS", "/data:/usr/share/");
    fake.file("/home/me/.config/vulkan/icd.d/1.json", "");
    fake.file("/home/me/.local/share/vulkan/icd.d/2.json", "");
    fake.file("/data/vulkan/icd.d/3.json", "");
    fake.file("/data/vulkan/icd.d/4.txt", "");
    let expected = [
        "/z.json",
        "/home/me/.config/vulkan/icd.d/1.json",
        "/home/me/.local/share/vulkan/icd.d/2.json",
        "/data/vulkan/icd.d/3.json",
        "/usr/share/vulkan/icd.d/lvp_icd.json",
    ];
    assert_eq!(files(&fake), expected);
}

#[test]
fn no_driver_file_is_a_problem() {
    let fake = Fake::new();
    fake.remove("/usr/share/vulkan/icd.d/lvp_icd.json");
    let system = fake.problem(&["no driver file", "mesa-vulkan-drivers"]);
    assert!(system.shown().contains("   drivers    none"));
}

#[test]
fn a_render_node_of_a_group_that_the_process_lacks_is_a_problem() {
    let mut fake = Fake::new();
    fake.amd();
    let group = fake.group(false);
    assert_eq!(fake.look().problems, [""; 0], "a node that opens");
    fake.refused = Some(13);
    let mut system = fake.problem(&[
        "/dev/dri/renderD128 cannot be opened: Permission denied",
        &format!("its group is {group} (render)"),
        &format!("user 7 and groups {}", group + 7),
        &format!("supplementalGroups: [{group}]"),
    ]);
    let text = system.only_cpus().unwrap().to_owned();
    assert!(
        text.contains("there is a GPU (/dev/dri/renderD128)"),
        "{text}"
    );
    assert_eq!(system.problems.last(), Some(&text));
    // With the group, its mode is at fault.
    fake.group(true);
    let system = fake.problem(&["Permission denied"]);
    assert!(!system.problems[0].contains("add the group"));
    // Containers without the device see its file.
    fake.refused = Some(1);
    fake.problem(&["Operation not permitted", "device plugin"]);
}

#[test]
fn nodes_of_virtual_displays_are_no_gpus() {
    let mut fake = Fake::new();
    fake.amd();
    fake.remove("/sys/devices/pci0000:00/0000:03:00.0/driver");
    let driver = fake
        .folder
        .path()
        .join("sys/devices/pci0000:00/0000:03:00.0/driver");
    symlink("/sys/bus/pci/drivers/virtio_gpu", driver).unwrap();
    fake.refused = Some(13);
    let mut system = fake.look();
    assert_eq!(system.problems, [""; 0]);
    assert_eq!(system.only_cpus(), None);
}

#[test]
fn capabilities_without_graphics_are_a_problem() {
    let mut fake = Fake::new();
    fake.nvidia();
    fake.variables
        .insert(nodes::CAPABILITIES, "compute,utility");
    let mut system = fake.problem(&["NVIDIA_DRIVER_CAPABILITIES=compute,utility lacks graphics"]);
    let text = system.only_cpus().unwrap();
    assert!(text.contains("(/dev/nvidia0): see the problems"), "{text}");
    for enough in ["all", "compute, graphics"] {
        fake.variables.insert(nodes::CAPABILITIES, enough);
        fake.problem(&["no driver file for it"]);
    }
}

#[test]
fn an_nvidia_module_without_a_driver_file_is_a_problem() {
    let mut fake = Fake::new();
    fake.nvidia();
    fake.problem(&[
        "NVIDIA GPU, but no driver file",
        "nvidia_icd.json",
        "nvidia-vulkan-icd",
    ]);
    fake.driver("nvidia", "libGLX_nvidia.so.0");
    fake.problem(&["nvidia_icd.json: its library libGLX_nvidia.so.0 cannot be loaded"]);
    fake.file("/usr/lib/libGLX_nvidia.so.0", "");
    assert_eq!(fake.look().problems, [""; 0]);
    fake.remove("/usr/lib/libEGL.so.1");
    fake.problem(&["needs libEGL.so.1", "libegl1"]);
    fake.file("/usr/lib/libEGL.so.1", "");
    fake.refused = Some(1);
    let problems = fake.look().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("/dev/nvidia0 cannot be opened"),
        "{problems:?}"
    );
    fake.refused = None;
    fake.remove("/dev/nvidia0");
    let mut system = fake.problem(&["there is no /dev/nvidia0"]);
    assert_eq!(system.only_cpus(), None);
}

#[test]
fn nvidias_driver_file_without_its_gpu_is_no_problem() {
    let fake = Fake::new();
    fake.driver("nvidia", "libGLX_nvidia.so.0");
    assert_eq!(fake.look().problems, [""; 0]);
}

#[test]
fn a_gpu_without_any_problem_lacks_its_driver() {
    let fake = Fake::new();
    fake.amd();
    let text = fake.look().only_cpus().unwrap().to_owned();
    assert!(text.ends_with("install its Vulkan driver"), "{text}");
}

/// What a process says that loads, `tests/cli/` tests.
#[test]
fn a_process_that_does_not_load_is_an_error() {
    // The test program knows no `devices --load`.
    let error = load(Path::new("libvulkan.so.1")).unwrap_err();
    assert!(
        error.contains("a process that loads it ends with"),
        "{error}"
    );
}
