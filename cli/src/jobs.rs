//! Turns the files and folders on the command line into pictures and the paths of their results.

use crate::folders::{LeftOut, pictures_in};
use fullconv::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The ending of masks.
pub const MASK: &str = ".mask.png";
/// The ending of overlays.
pub const OVERLAY: &str = ".overlay.png";
/// The endings of further results.
pub const INSIGHT: [&str; 2] = [".heatmap.png", ".stages.png"];
/// A part of the names of the per-class results.
pub const PROBABILITY: &str = ".probability.";

/// A picture and where its results go.
#[derive(Debug)]
pub struct Job {
    /// The picture.
    pub input: PathBuf,
    /// Its class ids.
    pub mask: PathBuf,
    /// The picture under the colours of its classes.
    pub overlay: PathBuf,
}

impl Job {
    /// The path of the further result whose name ends in `ending`.
    pub fn result(&self, ending: &str) -> PathBuf {
        self.mask.with_file_name(result(&self.input, ending))
    }
}

/// The jobs for files and folders, with their results in `output` or beside each picture, and what is left
/// out of the folders; `recursive` goes into their folders too.
///
/// # Errors
/// As [`pictures_in`]; `Request` if a result's path is that of a picture or of another result.
pub fn jobs(
    inputs: &[PathBuf],
    output: Option<&Path>,
    recursive: bool,
) -> Result<(Vec<Job>, LeftOut)> {
    let mut pictures = Vec::new();
    let mut left_out = LeftOut::default();
    for input in inputs {
        if input.is_dir() {
            let folder = pictures_in(input, recursive)?;
            pictures.extend(folder.pictures);
            left_out.add(folder.left_out);
        } else {
            pictures.push(input.clone());
        }
    }
    let mut jobs: Vec<Job> = Vec::with_capacity(pictures.len());
    let mut names: HashMap<PathBuf, PathBuf> = HashMap::new();
    for input in pictures {
        // The same file given twice, or with its folder, is one picture.
        if names.insert(identity(&input), input.clone()).is_none() {
            jobs.push(job(input, output));
        }
    }
    for job in &jobs {
        for result in [&job.mask, &job.overlay] {
            if let Some(other) = names.insert(identity(result), job.input.clone()) {
                return Err(collision(result, &job.input, &other));
            }
        }
    }
    Ok((jobs, left_out))
}

fn job(input: PathBuf, output: Option<&Path>) -> Job {
    let folder = output.or_else(|| input.parent()).unwrap_or(Path::new(""));
    Job {
        mask: folder.join(result(&input, MASK)),
        overlay: folder.join(result(&input, OVERLAY)),
        input,
    }
}

/// The name of `input`'s result that ends in `ending`.
fn result(input: &Path, ending: &str) -> OsString {
    let mut name = OsString::from(input.file_stem().unwrap_or(OsStr::new("picture")));
    name.push(ending);
    name
}

/// The error for `input`'s path `result` that is also `other`'s, or `other` itself.
fn collision(result: &Path, input: &Path, other: &Path) -> Error {
    let overwrites = identity(result) == identity(other);
    let (result, input, other) = (result.display(), input.display(), other.display());
    let message = if overwrites {
        format!("{result}, made of {input}, would overwrite a picture that was given: use -o DIR")
    } else {
        format!("{input} and {other} would both be written to {result}: give each its own -o DIR")
    };
    Error::new(ErrorKind::Request, message)
}

/// A path that is equal for all paths to the same file, existing or not.
fn identity(path: &Path) -> PathBuf {
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

    fn refusal(inputs: &[&str], output: Option<&str>) -> String {
        let inputs: Vec<_> = inputs.iter().map(PathBuf::from).collect();
        let error = jobs(&inputs, output.map(Path::new), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        error.to_string()
    }

    #[test]
    fn results_lie_beside_the_picture_or_in_the_folder() {
        let (jobs, _) = jobs(&["a/x.tar.jpg".into(), "y".into()], None, false).unwrap();
        assert_eq!(jobs[0].mask, Path::new("a/x.tar.mask.png"));
        assert_eq!(jobs[1].overlay, Path::new("y.overlay.png"));
        let (jobs, _) = super::jobs(&["a/x.jpg".into()], Some(Path::new("out")), false).unwrap();
        assert_eq!(jobs[0].mask, Path::new("out/x.mask.png"));
    }

    #[test]
    fn a_picture_given_twice_is_one() {
        let (jobs, _) = jobs(&["x.jpg".into(), "./x.jpg".into()], None, false).unwrap();
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn collisions_name_both() {
        let message = refusal(&["a/x.jpg", "b/x.png"], Some("out"));
        for part in ["a/x.jpg", "b/x.png", "out/x.mask.png"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(refusal(&["x.jpg", "x.png"], None).contains("both"));
        assert!(refusal(&["x.jpg", "x.mask.png"], None).contains("overwrite"));
        // In their own folders the results do not collide.
        jobs(&["a/x.jpg".into(), "b/x.png".into()], None, false).unwrap();
    }
}
