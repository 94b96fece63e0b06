//! Turns the files and folders on the command line into pictures and the paths of their results.

use fullconv::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The extensions of pictures in a folder.
const PICTURES: [&str; 3] = ["jpg", "jpeg", "png"];
const MASK: &str = ".mask.png";
const OVERLAY: &str = ".overlay.png";
/// The endings of further results.
const INSIGHT: [&str; 2] = [".heatmap.png", ".stages.png"];
/// A part of the names of the per-class results.
const PROBABILITY: &str = ".probability.";

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

/// The pictures of a folder.
#[derive(Debug)]
pub struct Folder {
    /// In the order of their names.
    pub pictures: Vec<PathBuf>,
    /// The number of results of an earlier run, which are left out.
    pub results: usize,
}

/// The files in `folder` with a picture's extension, without hidden files and earlier results.
///
/// # Errors
/// `Io` if the folder cannot be read, `Request` if it holds no picture.
pub fn pictures_in(folder: &Path) -> Result<Folder> {
    let unreadable = |reason| {
        Error::new(
            ErrorKind::Io,
            format!("cannot read folder {}: {reason}", folder.display()),
        )
    };
    let mut found = Folder {
        pictures: Vec::new(),
        results: 0,
    };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if name.starts_with('.') || !PICTURES.contains(&ending) || path.is_dir() {
            continue;
        }
        let mut endings = [MASK, OVERLAY].into_iter().chain(INSIGHT);
        if endings.any(|ending| name.ends_with(ending)) || name.contains(PROBABILITY) {
            found.results += 1;
        } else {
            found.pictures.push(path);
        }
    }
    if found.pictures.is_empty() {
        let but = match found.results {
            0 => String::new(),
            n => format!(" but {n} results of an earlier run (*{MASK}, *{OVERLAY})"),
        };
        return Err(Error::new(
            ErrorKind::Request,
            format!(
                "no picture (*.{}) is in folder {}{but}",
                PICTURES.join(", *."),
                folder.display()
            ),
        ));
    }
    found.pictures.sort();
    Ok(found)
}

/// The jobs for files and folders, with their results in `output` or beside each picture, and the number of earlier
/// results left out.
///
/// # Errors
/// As [`pictures_in`]; `Request` if a result's path is that of a picture or of another result.
pub fn jobs(inputs: &[PathBuf], output: Option<&Path>) -> Result<(Vec<Job>, usize)> {
    let mut pictures = Vec::new();
    let mut results = 0;
    for input in inputs {
        if input.is_dir() {
            let folder = pictures_in(input)?;
            pictures.extend(folder.pictures);
            results += folder.results;
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
    Ok((jobs, results))
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
        let error = jobs(&inputs, output.map(Path::new)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        error.to_string()
    }

    #[test]
    fn results_lie_beside_the_picture_or_in_the_folder() {
        let (jobs, _) = jobs(&["a/x.tar.jpg".into(), "y".into()], None).unwrap();
        assert_eq!(jobs[0].mask, Path::new("a/x.tar.mask.png"));
        assert_eq!(jobs[1].overlay, Path::new("y.overlay.png"));
        let (jobs, _) = super::jobs(&["a/x.jpg".into()], Some(Path::new("out"))).unwrap();
        assert_eq!(jobs[0].mask, Path::new("out/x.mask.png"));
    }

    #[test]
    fn a_picture_given_twice_is_one() {
        let (jobs, _) = jobs(&["x.jpg".into(), "./x.jpg".into()], None).unwrap();
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
        jobs(&["a/x.jpg".into(), "b/x.png".into()], None).unwrap();
    }

    #[test]
    fn a_folder_gives_its_pictures_in_order_and_not_its_results() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "b.JPG",
            "a.png",
            "c.jpeg",
            "a.mask.png",
            "a.overlay.png",
            ".d.png",
            "e.txt",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("f.png")).unwrap();
        let found = pictures_in(folder.path()).unwrap();
        let names: Vec<_> = found
            .pictures
            .iter()
            .map(|p| p.file_name().unwrap())
            .collect();
        assert_eq!(names, ["a.png", "b.JPG", "c.jpeg"]);
        assert_eq!(found.results, 2);
    }
}
