//! Device nodes, and what kernel drivers tell.

use super::Host;
use super::vulkan::Driver;
use crate::terminal;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The parts of NVIDIA's driver that a container gets.
pub const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
/// Kernel drivers with render nodes and without a Vulkan driver that computes on a GPU: no GPU is missed on them.
const WITHOUT_VULKAN: [&str; 5] = ["vgem", "vkms", "virtio_gpu", "virtio-pci", "vmwgfx"];

/// The system's number for an operation that is not permitted.
const EPERM: i32 = 1;
/// The system's number for a file whose mode does not let the process in.
const EACCES: i32 = 13;

/// Why a node cannot be opened.
#[derive(Debug, Serialize)]
struct Closed {
    node: String,
    error: String,
}

/// What is there of NVIDIA's driver.
#[derive(Debug, Serialize)]
pub struct Nvidia {
    /// The version of the kernel module; `None` if it is not loaded or does not tell.
    module: Option<String>,
    /// The nodes `/dev/nvidia*`.
    nodes: Vec<String>,
    closed: Vec<Closed>,
    /// The variable `NVIDIA_DRIVER_CAPABILITIES`.
    capabilities: Option<String>,
}

impl Nvidia {
    pub fn look(host: &Host) -> Option<Self> {
        let text = host.text("/proc/driver/nvidia/version");
        let nodes = host.names("/dev").into_iter();
        // Folders hold the nodes of parts of GPUs.
        let nodes = nodes
            .filter(|name| name.starts_with("nvidia") && !host.file("/dev").join(name).is_dir());
        let nodes: Vec<_> = nodes.map(|name| format!("/dev/{name}")).collect();
        if nodes.is_empty() && text.is_none() {
            return None;
        }
        // The only nodes that Vulkan needs.
        let needed = nodes
            .iter()
            .filter(|node| is_gpu(node) || *node == "/dev/nvidiactl");
        let closed = needed.filter_map(|node| {
            let error = (host.open)(&host.file(node)).err()?;
            Some(Closed {
                node: node.clone(),
                error: advised(&error),
            })
        });
        Some(Self {
            module: text.as_deref().and_then(version),
            closed: closed.collect(),
            nodes,
            capabilities: host.set(CAPABILITIES),
        })
    }

    /// The nodes of its GPUs.
    pub fn gpus(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().filter(|node| is_gpu(node)).cloned()
    }

    pub fn problems(&self, host: &Host, drivers: &[Driver]) -> Vec<String> {
        let mut problems = Vec::new();
        if self.gpus().next().is_none() {
            problems.push(
                "NVIDIA's kernel module is loaded, but there is no /dev/nvidia0: give the container a GPU (docker \
                 --gpus all), or run nvidia-modprobe"
                    .into(),
            );
            return problems;
        }
        let closed = self.closed.iter();
        problems.extend(closed.map(|c| format!("{} cannot be opened: {}", c.node, c.error)));
        let given = self.capabilities.as_deref();
        let has_graphics = given.is_none_or(|list| {
            let mut parts = list.split(',').map(str::trim);
            parts.any(|part| ["graphics", "display", "all"].contains(&part))
        });
        let mut own = drivers
            .iter()
            .filter(|driver| driver.is_nvidia())
            .peekable();
        if let (false, Some(given)) = (has_graphics, given) {
            problems.push(format!(
                "{CAPABILITIES}={given} lacks graphics, so the container has no Vulkan driver: start it with \
                 {CAPABILITIES}=compute,graphics,utility"
            ));
        } else if own.peek().is_none() {
            problems.push(format!(
                "there is an NVIDIA GPU, but no driver file for it: in a container set \
                 {CAPABILITIES}=compute,graphics,utility or add /etc/vulkan/icd.d/nvidia_icd.json, elsewhere install \
                 NVIDIA's Vulkan driver (on Debian nvidia-vulkan-icd)"
            ));
        }
        // The driver loads it late, and then fails without a word.
        if own.any(Driver::is_loaded)
            && let Err(error) = (host.load)(Path::new("libEGL.so.1"))
        {
            problems.push(format!(
                "NVIDIA's Vulkan driver needs libEGL.so.1, which cannot be loaded: {error}; install it (on Debian and \
                 Ubuntu libegl1)"
            ));
        }
        problems
    }
}

impl fmt::Display for Nvidia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = self.module.as_deref().unwrap_or("unknown");
        write!(f, "kernel module {module}")?;
        for node in &self.nodes {
            write!(f, ", {node}")?;
        }
        Ok(())
    }
}

/// Whether `node` is that of a GPU, `/dev/nvidia0`.
fn is_gpu(node: &str) -> bool {
    let number = node.strip_prefix("/dev/nvidia").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// The version in the text of `/proc/driver/nvidia/version`: `535.54.03`.
fn version(text: &str) -> Option<String> {
    let mut words = text.lines().next()?.split_whitespace();
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    words.find(is_version).map(str::to_owned)
}

/// An error of a node, with what to do about one that is not about permissions of files.
fn advised(error: &io::Error) -> String {
    match error.raw_os_error() {
        // The node is there and its mode is right: the container's list of devices lacks it.
        Some(EPERM) => format!(
            "{error}: the container may not use the device; give it the device (docker --device, a device plugin in \
             Kubernetes) and not only the file"
        ),
        _ => error.to_string(),
    }
}

/// A node `/dev/dri/renderD*`.
#[derive(Debug, Serialize)]
pub struct RenderNode {
    pub node: String,
    /// The kernel's driver.
    driver: Option<String>,
    pub pci_address: Option<String>,
    /// The memory of the GPU; only `amdgpu` tells.
    pub memory_bytes: Option<u64>,
    /// The number and the name of the group that owns the node.
    group: u32,
    group_name: Option<String>,
    /// Whether the process has this group.
    has_group: bool,
    /// Why it cannot be opened.
    error: Option<String>,
    #[serde(skip)]
    is_refused: bool,
}

impl RenderNode {
    pub fn look(host: &Host, groups: &[u32]) -> Vec<Self> {
        let names = host.names("/dev/dri").into_iter();
        let names = names.filter(|name| name.starts_with("renderD"));
        names
            .filter_map(|name| Self::of(host, &name, groups))
            .collect()
    }

    fn of(host: &Host, name: &str, groups: &[u32]) -> Option<Self> {
        let node = format!("/dev/dri/{name}");
        let file = host.file(&node);
        let group = fs::metadata(&file).ok()?.gid();
        let device = format!("/sys/class/drm/{name}/device");
        let target = |link: &str| {
            let target = fs::read_link(host.file(link)).ok()?;
            Some(target.file_name()?.to_string_lossy().into_owned())
        };
        let memory = host.text(&format!("{device}/mem_info_vram_total"));
        let error = (host.open)(&file).err();
        Some(Self {
            driver: target(&format!("{device}/driver")),
            // Devices on other buses have other names.
            pci_address: target(&device).filter(|name| name.matches(':').count() == 2),
            memory_bytes: memory.and_then(|text| text.trim().parse().ok()),
            group,
            group_name: host
                .text("/etc/group")
                .and_then(|text| group_name(&text, group)),
            has_group: groups.contains(&group),
            is_refused: error
                .as_ref()
                .is_some_and(|e| e.raw_os_error() == Some(EACCES)),
            error: error.as_ref().map(advised),
            node,
        })
    }

    /// Whether a GPU that Vulkan could reach is behind it.
    pub fn is_gpu(&self) -> bool {
        let driver = self.driver.as_deref();
        !driver.is_some_and(|driver| WITHOUT_VULKAN.contains(&driver))
    }

    pub fn problem(&self, user: Option<u32>, groups: &[u32]) -> Option<String> {
        let error = self.error.as_ref()?;
        // NVIDIA's own driver goes through its own nodes.
        if !self.is_gpu() || self.driver.as_deref() == Some("nvidia") {
            return None;
        }
        let Self { node, group, .. } = self;
        let mut text = format!("{node} cannot be opened: {error}");
        if self.is_refused && !self.has_group {
            let name = self.group_name.as_ref();
            let name = name.map_or(String::new(), |name| format!(" ({name})"));
            let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
            let user = user.map_or("unknown".to_owned(), |user| user.to_string());
            text.push_str(&format!(
                "; its group is {group}{name}, this process has user {user} and groups {}: add the group (docker \
                 --group-add {group}, supplementalGroups: [{group}] in Kubernetes, usermod -aG elsewhere)",
                groups.join(", ")
            ));
        }
        Some(text)
    }
}

impl fmt::Display for RenderNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        for part in [&self.driver, &self.pci_address].into_iter().flatten() {
            write!(f, ", {part}")?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {}", terminal::bytes(bytes))?;
        }
        Ok(())
    }
}

/// The name of a group in the text of `/etc/group`.
fn group_name(text: &str, group: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(group)).then(|| name.to_owned())
    })
}
