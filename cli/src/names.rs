//! The names of results: distinct for distinct pictures, and never that of a picture.
//!
//! The results of `a.jpg` are `a.mask.png`, `a.overlay.png` … Pictures whose results would have the same names, or the
//! name of a given picture, keep their endings: `a.jpg.mask.png` and `a.png.mask.png`. If that is not enough, as for
//! pictures of the same name from several folders, the folders below the one that all pictures share come first:
//! `left_a.jpg.mask.png`. A name depends only on the pictures that are given.

use crate::jobs::ENDINGS;
use fullconv::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Which name a picture's results have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// `a`
    Stem,
    /// `a.jpg`
    Name,
    /// `left_a.jpg`
    Folders,
}

impl Level {
    fn next(self) -> Option<Self> {
        match self {
            Self::Stem => Some(Self::Name),
            Self::Name => Some(Self::Folders),
            Self::Folders => None,
        }
    }
}

/// For each of `pictures` the path of its results, without their endings: in the folder `output`, or beside it.
///
/// # Errors
/// `Request` if two pictures' results would still have the same name.
pub fn bases(pictures: &[PathBuf], output: Option<&Path>) -> Result<Vec<PathBuf>> {
    let common = common_folder(pictures);
    let mut levels = vec![Level::Stem; pictures.len()];
    loop {
        let bases: Vec<PathBuf> = pictures
            .iter()
            .zip(&levels)
            .map(|(picture, level)| {
                let folder = output.or_else(|| picture.parent());
                let name = name(picture, *level, &common);
                folder.unwrap_or(Path::new("")).join(name)
            })
            .collect();
        let clashing = clashing(pictures, &bases);
        let Some(&(first, ref other)) = clashing.first() else {
            return Ok(bases);
        };
        let mut is_raised = false;
        for (job, _) in &clashing {
            if let Some(next) = levels[*job].next() {
                levels[*job] = next;
                is_raised = true;
            }
        }
        if !is_raised {
            let (base, picture) = (bases[first].display(), pictures[first].display());
            let text = format!(
                "{picture} and {} would both be written to {base}.mask.png: give each its own -o DIR",
                other.display()
            );
            return Err(Error::new(ErrorKind::Request, text));
        }
    }
}

/// The pictures whose results have a name that is taken, each with the picture that takes it.
fn clashing(pictures: &[PathBuf], bases: &[PathBuf]) -> Vec<(usize, PathBuf)> {
    let keys: Vec<PathBuf> = bases.iter().map(|base| identity(base)).collect();
    let mut users: HashMap<&PathBuf, Vec<usize>> = HashMap::new();
    for (job, key) in keys.iter().enumerate() {
        users.entry(key).or_default().push(job);
    }
    // The bases whose results a given picture could be.
    let given: HashMap<PathBuf, &PathBuf> = pictures
        .iter()
        .filter_map(|picture| Some((result_of(&identity(picture))?, picture)))
        .collect();
    let clash = |job: usize| {
        let others = users.get(&keys[job]).into_iter().flatten();
        let mut others = others.filter(|other| **other != job);
        let other = others.next().map(|other| &pictures[*other]);
        let other = other.or_else(|| given.get(&keys[job]).copied())?;
        Some((job, other.clone()))
    };
    (0..bases.len()).filter_map(clash).collect()
}

/// The path without its ending, if it ends as a result does.
fn result_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    let lower = name.to_ascii_lowercase();
    let base = ENDINGS.iter().find_map(|ending| {
        let at = lower.rfind(ending)?;
        // What ends in a dot goes on with a class.
        let is_end = ending.ends_with('.') || at + ending.len() == lower.len();
        name.get(..at).filter(|_| is_end)
    });
    base.map(|base| path.with_file_name(base))
}

/// The name of `picture`'s results without their endings.
fn name(picture: &Path, level: Level, common: &Path) -> OsString {
    let part = match level {
        Level::Stem => picture.file_stem(),
        Level::Name | Level::Folders => picture.file_name(),
    };
    let part = part.unwrap_or(OsStr::new("picture"));
    let mut name = OsString::new();
    if level == Level::Folders {
        let full = identity(picture);
        let below = full
            .parent()
            .and_then(|folder| folder.strip_prefix(common).ok());
        for component in below.into_iter().flat_map(Path::components) {
            if let Component::Normal(folder) = component {
                name.push(folder);
                name.push("_");
            }
        }
    }
    name.push(part);
    name
}

/// The deepest folder that holds all pictures.
fn common_folder(pictures: &[PathBuf]) -> PathBuf {
    let folders = pictures.iter().map(|picture| {
        let full = identity(picture);
        full.parent().map(Path::to_path_buf).unwrap_or_default()
    });
    let shared = |a: PathBuf, b: PathBuf| {
        let both = a.components().zip(b.components());
        both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    };
    folders.reduce(shared).unwrap_or_default()
}

/// An error if `result` is one of the files of `pictures`, under whatever name.
pub fn check_apart<'a>(
    results: impl IntoIterator<Item = &'a Path>,
    pictures: &[PathBuf],
) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let given: HashSet<PathBuf> = pictures.iter().filter_map(|path| real(path)).collect();
    for result in results {
        if real(result).is_some_and(|result| given.contains(&result)) {
            let text = format!(
                "{} would overwrite a picture that was given: use another -o",
                result.display()
            );
            return Err(Error::new(ErrorKind::Request, text));
        }
    }
    Ok(())
}

/// A path that is equal for all paths to the same file, existing or not.
pub fn identity(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder)
        .or_else(|_| std::path::absolute(folder))
        .unwrap_or_else(|_| folder.to_path_buf());
    let name = path.file_name().unwrap_or_default();
    // File names on these systems are usually case-insensitive.
    if cfg!(any(windows, target_os = "macos")) {
        folder.join(name.to_string_lossy().to_lowercase())
    } else {
        folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pictures: &[&str], output: Option<&str>) -> Vec<String> {
        let pictures: Vec<_> = pictures.iter().map(PathBuf::from).collect();
        let bases = bases(&pictures, output.map(Path::new)).unwrap();
        bases
            .iter()
            .map(|base| base.display().to_string())
            .collect()
    }

    #[test]
    fn results_are_named_after_the_picture() {
        assert_eq!(names(&["a/x.tar.jpg", "y"], None), ["a/x.tar", "y"]);
        assert_eq!(names(&["a/x.jpg"], Some("out")), ["out/x"]);
        assert_eq!(names(&["a/x.jpg", "b/x.png"], None), ["a/x", "b/x"]);
    }

    #[test]
    fn pictures_that_would_collide_keep_their_endings() {
        assert_eq!(
            names(&["x.jpg", "x.png", "y.png"], None),
            ["x.jpg", "x.png", "y"]
        );
        assert_eq!(
            names(&["a/x.jpg", "b/x.png"], Some("out")),
            ["out/x.jpg", "out/x.png"]
        );
        // The order does not matter.
        assert_eq!(names(&["x.png", "x.jpg"], None), ["x.png", "x.jpg"]);
    }

    #[test]
    fn pictures_of_the_same_name_keep_their_folders() {
        assert_eq!(
            names(&["d/a/x.jpg", "d/b/c/x.jpg", "d/y.jpg"], Some("out")),
            ["out/a_x.jpg", "out/b_c_x.jpg", "out/y"]
        );
        // Only those of the same name do.
        assert_eq!(
            names(&["a/x.jpg", "b/x.jpg", "b/x.png"], Some("out")),
            ["out/a_x.jpg", "out/b_x.jpg", "out/x.png"]
        );
        let pictures = ["d/a_b/x.jpg", "d/a/b/x.jpg"].map(PathBuf::from);
        let error = bases(&pictures, Some(Path::new("out"))).unwrap_err();
        assert!(
            error.to_string().contains("out/a_b_x.jpg.mask.png"),
            "{error}"
        );
    }

    #[test]
    fn a_result_never_has_the_name_of_a_picture() {
        assert_eq!(names(&["x.jpg", "x.mask.png"], None), ["x.jpg", "x.mask"]);
        assert_eq!(
            names(&["x.jpg", "x.probability.3.png"], None),
            ["x.jpg", "x.probability.3"]
        );
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.png");
        fs::write(&picture, "").unwrap();
        let error = check_apart([picture.as_path()], std::slice::from_ref(&picture)).unwrap_err();
        assert!(error.to_string().contains("overwrite"), "{error}");
        check_apart([folder.path().join("b.png").as_path()], &[picture]).unwrap();
    }
}
