//! What Linux has for GPUs: the loader of Vulkan, its drivers, device nodes, and what stands in the way.
//!
//! All files are read under a root, and what else depends on the machine comes from a [`Host`]: tests make their own.

mod load;
mod nodes;
#[cfg(test)]
mod tests;
mod vulkan;

pub use load::{load, load_here};

use nodes::{Nvidia, RenderNode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use vulkan::{Driver, Library};

/// What the section depends on besides files.
pub struct Host<'a> {
    /// The folder that stands for `/`.
    pub root: &'a Path,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Loads a library: its path, or the error's text.
    pub load: &'a (dyn Fn(&Path) -> Result<String, String> + Sync),
    /// Opens a device node for reading and writing.
    pub open: &'a dyn Fn(&Path) -> io::Result<()>,
}

impl Host<'_> {
    /// The file that stands for the absolute path `path`.
    fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of the file that stands for `path`.
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.file(path)).ok()
    }

    /// A variable that is set and not empty.
    fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The names of the files in a folder, in order.
    fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let files = fs::read_dir(self.file(folder)).into_iter().flatten();
        let names = files
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// The section `system`.
#[derive(Debug, Serialize)]
pub struct System {
    /// The loader of Vulkan.
    loader: Library,
    /// The variables that change what the loader does, and NVIDIA's for containers, if they are set.
    variables: BTreeMap<&'static str, String>,
    /// The loader's driver files (ICDs), in its order.
    drivers: Vec<Driver>,
    /// What is there of NVIDIA's driver; `None` if nothing is.
    nvidia: Option<Nvidia>,
    /// The nodes `/dev/dri/renderD*`.
    render_nodes: Vec<RenderNode>,
    /// The numbers of the process's user and groups.
    user: Option<u32>,
    groups: Vec<u32>,
    /// What stands in the way of a GPU, each with what to do.
    problems: Vec<String>,
}

impl System {
    /// Looks at this machine.
    pub fn look() -> Self {
        let open = |path: &Path| {
            let options = fs::OpenOptions::new().read(true).write(true).open(path);
            options.map(drop)
        };
        Self::of(&Host {
            root: Path::new("/"),
            variable: &|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()),
            load: &load,
            open: &open,
        })
    }

    /// Looks at `host`.
    pub fn of(host: &Host) -> Self {
        let status = host.text("/proc/self/status").unwrap_or_default();
        let numbers = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let words = line.unwrap_or_default().split_whitespace();
            words
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<u32>>()
        };
        // Of the real, effective, saved and file system's number, the effective one counts.
        let effective = |key: &str| numbers(key).get(1).copied();
        let mut groups: Vec<u32> = effective("Gid:").into_iter().collect();
        groups.extend(numbers("Groups:"));
        groups.sort_unstable();
        groups.dedup();
        let set = |name: &'static str| Some((name, host.set(name)?));
        let variables = vulkan::VARIABLES.into_iter().chain([nodes::CAPABILITIES]);
        let (loader, drivers) = vulkan::look(host);
        let mut system = Self {
            loader,
            variables: variables.filter_map(set).collect(),
            drivers,
            nvidia: Nvidia::look(host),
            render_nodes: RenderNode::look(host, &groups),
            user: effective("Uid:"),
            groups,
            problems: Vec::new(),
        };
        system.problems = system.find_problems(host);
        system
    }

    fn find_problems(&self, host: &Host) -> Vec<String> {
        let has_nvidia = self.nvidia.is_some();
        let mut problems =
            vulkan::problems(&self.loader, &self.drivers, &self.variables, has_nvidia);
        if let Some(nvidia) = &self.nvidia {
            problems.extend(nvidia.problems(host, &self.drivers));
        }
        let nodes = self.render_nodes.iter();
        problems.extend(nodes.filter_map(|node| node.problem(self.user, &self.groups)));
        problems
    }

    /// The GPUs with a device node, in words.
    fn gpus(&self) -> Vec<String> {
        let nvidia = self.nvidia.iter().flat_map(Nvidia::gpus);
        let others = self.render_nodes.iter().filter(|node| node.is_gpu());
        nvidia.chain(others.map(|node| node.node.clone())).collect()
    }

    /// Notes that only CPUs can be used; the text, if there is a GPU with a device node.
    pub fn only_cpus(&mut self) -> Option<&str> {
        let gpus = self.gpus();
        if gpus.is_empty() {
            return None;
        }
        let why = match self.problems.is_empty() {
            true => "no driver file is for it: install its Vulkan driver",
            false => "see the problems of the system",
        };
        let text = format!(
            "only CPUs can be used, although there is a GPU ({}): {why}",
            gpus.join(", ")
        );
        self.problems.push(text);
        self.problems.last().map(String::as_str)
    }

    /// The memory of the GPU at a PCI address, in bytes, as far as its kernel driver tells.
    pub fn memory_at(&self, pci_address: &str) -> Option<u64> {
        let mut nodes = self.render_nodes.iter();
        let node = nodes.find(|node| node.pci_address.as_deref() == Some(pci_address));
        node?.memory_bytes
    }

    /// Lines for people: one for each kind of thing that is there, one for each problem.
    pub fn shown(&self) -> String {
        let mut lines = vec!["system".to_owned()];
        let mut say = |name: &str, what: &str| lines.push(format!("   {name:<10} {what}"));
        say("loader", self.loader.path.as_deref().unwrap_or("none"));
        for (name, value) in &self.variables {
            say("variable", &format!("{name}={value}"));
        }
        let drivers = self.drivers.iter().filter(|driver| driver.is_loaded());
        let drivers: Vec<_> = drivers.filter_map(|d| d.file.rsplit_once('/')).collect();
        if drivers.is_empty() {
            say("drivers", "none");
        }
        for of_one in drivers.chunk_by(|a, b| a.0 == b.0) {
            let names: Vec<_> = of_one.iter().map(|(_, name)| *name).collect();
            say("drivers", &format!("{}: {}", of_one[0].0, names.join(", ")));
        }
        if let Some(nvidia) = &self.nvidia {
            say("NVIDIA", &nvidia.to_string());
        }
        for node in &self.render_nodes {
            say("node", &node.to_string());
        }
        for problem in &self.problems {
            say("problem", problem);
        }
        lines.join("\n")
    }
}
