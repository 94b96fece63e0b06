//! Module structure: modules import only from lower layers, and each dependency is used only in its home.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules of the library, lowest layer first. A module imports only from earlier lines.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["files", "npy", "parallel"],
    &["size", "tensor"],
    &["device_profile"],
    &["target"],
    &["ops"],
    &["graph", "picture"],
    &[
        "heatmap",
        "labels",
        "mask",
        "metrics",
        "models",
        "parameters",
        "preprocess",
    ],
    &["model_file"],
    &["convert"],
    &["plan", "reference"],
    &["deviation"],
    &["gpu"],
    &["segmenter"],
    &["compare"],
    &["low_level"],
];

/// The homes of each dependency, where the library may name it: files, or folders that end in `/`.
const HOMES: &[(&str, &[&str])] = &[
    ("bytemuck", &["gpu/", "parameters/file.rs"]),
    ("colorous", &["heatmap.rs"]),
    ("crc32fast", &["picture/chunks.rs"]),
    ("futures_core", &["segmenter/frames.rs"]),
    ("half", &["ops/narrow.rs", "parameters/file.rs"]),
    (
        "image",
        &[
            "labels.rs",
            "picture.rs",
            "picture/decode.rs",
            "picture/pages.rs",
            "picture/upright.rs",
        ],
    ),
    ("libm", &["ops/erf.rs"]),
    ("png", &["heatmap.rs", "labels/png_file.rs", "mask.rs"]),
    // These files wrap async functions in blocking ones.
    ("pollster", &["segmenter.rs", "segmenter/frames.rs"]),
    ("rayon", &["parallel.rs"]),
    ("safetensors", &["convert.rs", "parameters/file.rs"]),
    (
        "serde",
        &[
            "gpu/cache.rs",
            "model_file.rs",
            "model_file/end.rs",
            "models/described.rs",
            "models/described/",
            "ops/",
            "plan/",
            "preprocess.rs",
        ],
    ),
    (
        "serde_json",
        &[
            "convert.rs",
            "gpu/cache.rs",
            "model_file.rs",
            "models/described.rs",
            "ops/mod.rs",
            "parameters/file.rs",
            "parameters/index.rs",
        ],
    ),
    ("tempfile", &["files.rs"]),
    ("tiff", &["picture/pages.rs"]),
    ("tracing", &["gpu/"]),
    // `texture.rs` takes the program's textures and encoders.
    ("wgpu", &["gpu/", "segmenter/texture.rs"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The code of every file in `src/`, by its path there, without comments. The tests at a file's end are left out: they
/// may import anything.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root().join("src")).unwrap();
                let name = name.to_str().unwrap().replace('\\', "/");
                sources.insert(name, code(&path));
            }
        }
    }
    assert!(sources.len() > 30, "only {} files", sources.len());
    sources
}

fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().map(|line| match line.find("//") {
        // The two slashes of a URL do not begin a comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The identifiers that follow `before` in `code`.
fn names_after<'a>(code: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(before).map(move |(at, _)| {
        let rest = &code[at + before.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The library's module that a file belongs to.
fn module_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn in_library(file: &str) -> bool {
    module_of(file) != "lib"
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no layer"))
}

#[test]
fn every_module_has_a_layer() {
    let sources = sources();
    let declared: BTreeSet<_> = names_after(&sources["lib.rs"], "mod ").collect();
    let layered: BTreeSet<_> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter().copied())
        .collect();
    assert_eq!(declared, layered);
    let files: BTreeSet<_> = sources
        .keys()
        .filter(|f| in_library(f))
        .map(|f| module_of(f))
        .collect();
    assert_eq!(files, layered);
}

#[test]
fn imports_point_downward() {
    let mut imports = 0;
    for (file, code) in sources().iter().filter(|(file, _)| in_library(file)) {
        let module = module_of(file);
        assert!(
            !code.contains("crate::{"),
            "{file}: import each module on a line of its own"
        );
        for other in names_after(code, "crate::").filter(|other| *other != module) {
            assert!(
                layer_of(other) < layer_of(module),
                "{file} imports {other}, which is not in a lower layer"
            );
            imports += 1;
        }
    }
    assert!(imports > 50, "only {imports} imports were found");
}

/// `super` must not lead out of a module: the check of layers sees only `crate::` paths.
#[test]
fn super_does_not_leave_the_module() {
    for (file, code) in sources() {
        // The module's own file is the root of its folder: a/mod.rs is as deep as a.rs.
        let depth = file.trim_end_matches("/mod.rs").matches('/').count();
        let out = "super::".repeat(depth + 1);
        assert!(!code.contains(&out), "{file} leaves its module by {out}");
    }
}

/// Whether `code` names the crate `name`, at the beginning of a path or alone after `use`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = &code[at + name.len()..];
        let begins = !before.is_alphanumeric() && before != '_' && before != ':';
        let used_alone = code[..at].ends_with("use ") && after.starts_with(';');
        begins && (after.starts_with("::") || used_alone)
    })
}

#[test]
fn every_dependency_is_named_only_in_its_homes() {
    let sources = sources();
    for (name, homes) in HOMES {
        let is_home = |file: &str, home: &str| match home.strip_suffix('/') {
            Some(_) => file.starts_with(home),
            None => file == home,
        };
        let library = sources.iter().filter(|(file, _)| in_library(file));
        let named = library.filter(|(_, code)| names_crate(code, name));
        let files: Vec<_> = named.map(|(file, _)| file.as_str()).collect();
        for file in &files {
            assert!(
                homes.iter().any(|home| is_home(file, home)),
                "{file} uses {name}"
            );
        }
        for home in *homes {
            assert!(
                files.iter().any(|file| is_home(file, home)),
                "{name} is no longer used in {home}"
            );
        }
    }
}

/// The library has no unused dependency, so an embedder compiles none.
#[test]
fn every_dependency_is_named_in_the_library() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let homes = HOMES.iter().map(|(name, _)| name.to_string());
    assert_eq!(dependencies(&manifest), homes.collect());
}

/// The Rust version in Cargo.toml builds all dependencies.
#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let version = |text: &str| -> Vec<u32> {
        let parts = text.split('.').map(|part| part.parse().unwrap());
        parts.chain([0, 0]).take(3).collect()
    };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().unwrap();
    let asked = packages.iter().filter_map(|package| {
        let asked = package["rust_version"].as_str()?;
        Some((version(asked), package["name"].as_str()?))
    });
    let (most, name) = asked.max().unwrap();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    assert_eq!(most, ours, "{name} asks for more");
}

/// The most crates that an embedder compiles on the current system, fullconv and wgpu included.
const MOST_CRATES: usize = 130;

#[test]
fn an_embedder_compiles_few_crates() {
    let tree = |package: &str| -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--package", package, "--edges", "no-dev"])
            .args(["--prefix", "none", "--format", "{p}", "--locked"])
            .current_dir(root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines = String::from_utf8(output.stdout).unwrap();
        // Cargo marks a crate that it listed before.
        let name = |line: &str| line.trim_end_matches(" (*)").to_owned();
        lines.lines().map(name).collect()
    };
    let (library, program) = (tree("fullconv"), tree("fullconv-cli"));
    println!(
        "{} crates; with the command line {}",
        library.len(),
        program.len()
    );
    assert!(library.len() > 50 && program.is_superset(&library));
    assert!(
        library.len() <= MOST_CRATES,
        "the library alone compiles {} crates: {library:#?}",
        library.len()
    );
}

/// The names of the dependencies in Cargo.toml, without dev-dependencies, as code spells them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            in_table = line == "[dependencies]"
                || line.ends_with(".dependencies]") && line != "[workspace.dependencies]";
        } else if let (true, Some((name, _))) = (in_table, line.split_once([' ', '.'])) {
            names.insert(name.replace('-', "_"));
        }
    }
    names
}

/// No circles between files; a `mod.rs` does not use the files of its folder by listing them.
#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = sources();
    let uses = files::uses(&sources);
    let edges: usize = uses.values().map(BTreeSet::len).sum();
    assert!(edges > 300, "only {edges} uses were found");
    let circles = files::circles(&uses);
    assert!(circles.is_empty(), "{circles:#?}");
}

/// An op's name may be a string only in its own file, in the list of ops, and in `shader!`, which names a file.
/// `models/` is left out: its strings name nodes.
#[test]
fn no_op_is_named_outside_its_own_file() {
    let mut named = 0;
    let sources = sources();
    let names_nodes = |file: &str| file.starts_with("models/") && file != "models/described.rs";
    for (file, code) in sources.iter().filter(|(file, _)| !names_nodes(file)) {
        for name in fullconv::low_level::ops::names() {
            let literal = format!("\"{name}\"");
            let own = [format!("ops/{name}.rs"), "ops/mod.rs".to_owned()];
            for (at, _) in code.match_indices(&literal) {
                named += 1;
                let is_shader = code[..at].ends_with("shader!(");
                assert!(is_shader || own.contains(file), "{file} names {literal}");
            }
        }
    }
    assert!(named > 60, "only {named} names were found");
}

/// Everything else that is public is in `low_level`, which may change in any release.
#[test]
fn few_modules_are_promised() {
    let sources = sources();
    let lines = sources["lib.rs"].lines();
    let modules = lines.filter_map(|line| line.strip_prefix("pub mod "));
    let names: BTreeSet<_> = modules.map(|name| name.trim_end_matches(';')).collect();
    let promised = ["compare", "convert", "gpu", "low_level", "models"];
    assert_eq!(names, BTreeSet::from(promised));
}
