//! Turns the files and folders on the command line into pictures and the paths of their results.

use crate::folders::{LeftOut, pictures_in};
use crate::names::{bases, check_apart, identity};
use fullconv::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The ending of masks.
pub const MASK: &str = ".mask.png";
/// The ending of overlays.
pub const OVERLAY: &str = ".overlay.png";
/// The endings of further results.
pub const INSIGHT: [&str; 2] = [".heatmap.png", ".stages.png"];
/// A part of the names of the per-class results.
pub const PROBABILITY: &str = ".probability.";
/// What follows a picture's name in the names of its results.
pub const ENDINGS: [&str; 6] = [
    MASK,
    OVERLAY,
    INSIGHT[0],
    INSIGHT[1],
    PROBABILITY,
    ".probabilities.safetensors",
];
/// The picture on standard input, as an argument.
pub const STDIN: &str = "-";

/// A picture and where its results go.
#[derive(Debug)]
pub struct Job {
    /// The picture.
    pub input: PathBuf,
    /// Its class ids.
    pub mask: PathBuf,
    /// The picture under the colours of its classes.
    pub overlay: PathBuf,
    /// The path of its further results without their endings.
    base: PathBuf,
    /// The picture's path below the folder that was given, or its name: the same wherever the folder lies.
    pub below: PathBuf,
}

impl Job {
    fn new(input: PathBuf, base: PathBuf, below: PathBuf) -> Self {
        Self {
            below,
            mask: with_ending(&base, MASK),
            overlay: with_ending(&base, OVERLAY),
            input,
            base,
        }
    }

    /// The path of the further result whose name ends in `ending`.
    pub fn result(&self, ending: &str) -> PathBuf {
        with_ending(&self.base, ending)
    }

    /// Whether the picture comes from standard input.
    pub fn is_stdin(&self) -> bool {
        self.input == Path::new(STDIN)
    }
}

fn name_of(path: &Path) -> PathBuf {
    path.file_name()
        .map_or_else(|| path.to_owned(), PathBuf::from)
}

fn with_ending(base: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(base);
    path.push(ending);
    path.into()
}

/// The jobs for files and folders, with their results in the folder `output` or beside each picture, and what is left
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
            let below = |path: &Path| path.strip_prefix(input).unwrap_or(path).to_owned();
            let found = folder.pictures.into_iter();
            pictures.extend(found.map(|path| (below(&path), path)));
            left_out.add(folder.left_out);
        } else {
            pictures.push((name_of(input), input.clone()));
        }
    }
    // The same file given twice, or with its folder, is one picture.
    let mut seen = HashSet::new();
    pictures.retain(|(_, picture)| seen.insert(identity(picture)));
    let (belows, pictures): (Vec<_>, Vec<_>) = pictures.into_iter().unzip();
    let bases = match pictures.as_slice() {
        [only] if only == Path::new(STDIN) => vec![output.unwrap_or(Path::new("")).join("stdin")],
        _ => bases(&pictures, output)?,
    };
    let inputs = pictures.clone();
    let jobs = pictures.into_iter().zip(bases).zip(belows);
    let jobs = jobs.map(|((input, base), below)| Job::new(input, base, below));
    let jobs: Vec<Job> = jobs.collect();
    let results_of = jobs.iter().flat_map(|job| [&job.mask, &job.overlay]);
    check_apart(results_of.map(PathBuf::as_path), &inputs)?;
    Ok((jobs, left_out))
}

/// The job of the only picture in `inputs`, whose mask, or overlay, is the file `output`.
///
/// # Errors
/// `Request` if there are several pictures, or `output` is the picture.
pub fn job_to_file(inputs: &[PathBuf], output: &Path) -> Result<Job> {
    let input = match inputs {
        [input] if !input.is_dir() => input,
        _ => {
            let text = format!(
                "-o {} is the file for one picture: give a folder for several",
                output.display()
            );
            return Err(Error::new(ErrorKind::Request, text));
        }
    };
    check_apart([output], inputs)?;
    Ok(Job {
        input: input.clone(),
        mask: output.to_owned(),
        overlay: output.to_owned(),
        base: output.with_extension(""),
        below: name_of(input),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_lie_beside_the_picture_or_in_the_folder() {
        let (jobs, _) = jobs(&["a/x.tar.jpg".into(), "y".into()], None, false).unwrap();
        assert_eq!(jobs[0].mask, Path::new("a/x.tar.mask.png"));
        assert_eq!(jobs[1].overlay, Path::new("y.overlay.png"));
        assert_eq!(
            jobs[0].result(".stages.png"),
            Path::new("a/x.tar.stages.png")
        );
        let (jobs, _) = super::jobs(&["a/x.jpg".into()], Some(Path::new("out")), false).unwrap();
        assert_eq!(jobs[0].mask, Path::new("out/x.mask.png"));
    }

    #[test]
    fn a_picture_given_twice_is_one() {
        let (jobs, _) = jobs(&["x.jpg".into(), "./x.jpg".into()], None, false).unwrap();
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn a_file_takes_one_picture_that_is_another() {
        let job = job_to_file(&["x.jpg".into()], Path::new("out/y.png")).unwrap();
        assert_eq!(job.mask, Path::new("out/y.png"));
        assert_eq!(job.result(".heatmap.png"), Path::new("out/y.heatmap.png"));
        let two = ["x.jpg", "z.jpg"].map(PathBuf::from);
        let error = job_to_file(&two, Path::new("y.png")).unwrap_err();
        assert!(error.to_string().contains("one picture"), "{error}");
    }
}
