//! Where `segment` writes, what of a picture's results it writes, and which results are there already.

use crate::folders::LeftOut;
use crate::jobs::{Job, STDIN, job_to_file, jobs};
use crate::{Failure, Outcome};
use clap::ValueEnum;
use fullconv::{Error, ErrorKind, Result};
use std::fs;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The last chunk of every PNG: no data, its name, its checksum.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";
/// The extensions of pictures that results are not written as.
const NOT_WRITTEN: [&str; 7] = ["jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp"];

/// The one of mask and overlay that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// NAME.mask.png
    Mask,
    /// NAME.overlay.png
    Overlay,
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Beside each picture.
    Beside,
    Folder(&'a Path),
    /// The mask or the overlay of the only picture is this file.
    File(&'a Path),
    /// The mask or the overlay of the only picture goes to standard output.
    Stdout,
}

impl<'a> Place<'a> {
    /// The place that `-o` gives for `inputs`.
    pub fn of(output: Option<&'a Path>, inputs: &[PathBuf]) -> Outcome<Self> {
        let has_stdin = inputs.iter().any(|input| input == Path::new(STDIN));
        if has_stdin && inputs.len() > 1 {
            return Err(Failure::Usage(
                "`-`, the picture on standard input, cannot be given with other pictures",
            ));
        }
        let Some(output) = output else {
            if !has_stdin {
                return Ok(Self::Beside);
            }
            if std::io::stdout().is_terminal() {
                return Err(Failure::Usage(
                    "the result of `-` would go to the terminal: redirect it, or give -o FILE.png",
                ));
            }
            return Ok(Self::Stdout);
        };
        let extension = output.extension().unwrap_or_default().to_string_lossy();
        let extension = extension.to_ascii_lowercase();
        if output.is_dir() {
            return Ok(Self::Folder(output));
        }
        if NOT_WRITTEN.contains(&extension.as_str()) {
            let text = format!(
                "cannot write to folder {}: its name is a picture's; results are PNG files: -o FILE.png for one \
                 picture, or a folder",
                output.display()
            );
            return Err(Error::new(ErrorKind::Request, text).into());
        }
        Ok(match extension.as_str() {
            "png" => Self::File(output),
            _ => Self::Folder(output),
        })
    }

    /// The jobs for `inputs`, and what is left out of their folders; `recursive` goes into folders of folders too.
    pub fn jobs(self, inputs: &[PathBuf], recursive: bool) -> Result<(Vec<Job>, LeftOut)> {
        match self {
            Self::Beside => jobs(inputs, None, recursive),
            Self::Folder(folder) => jobs(inputs, Some(folder), recursive),
            Self::File(file) => Ok((vec![job_to_file(inputs, file)?], LeftOut::default())),
            Self::Stdout => jobs(inputs, Some(Path::new("")), recursive),
        }
    }

    /// The folder to make, if it is missing.
    pub fn folder(self) -> Option<&'a Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::File(file) => file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty()),
            Self::Beside | Self::Stdout => None,
        }
    }

    /// What is written of mask and overlay.
    pub fn parts(self, only: Option<Only>) -> Parts {
        let is_single = matches!(self, Self::File(_) | Self::Stdout);
        Parts {
            mask: only == Some(Only::Mask) || only.is_none(),
            overlay: only == Some(Only::Overlay) || (only.is_none() && !is_single),
        }
    }
}

/// What is written of mask and overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub mask: bool,
    pub overlay: bool,
}

/// Whether all results of `job` are there, whole, and not older than the picture and the model file.
pub fn is_done(job: &Job, parts: Parts, endings: &[String], model: Option<&Path>) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let Some(picture) = changed(&job.input) else {
        return false;
    };
    let newest = model
        .and_then(changed)
        .map_or(picture, |model| model.max(picture));
    let mut results: Vec<PathBuf> = endings.iter().map(|ending| job.result(ending)).collect();
    results.extend(parts.mask.then(|| job.mask.clone()));
    results.extend(parts.overlay.then(|| job.overlay.clone()));
    !results.is_empty() && results.iter().all(|result| is_whole(result, newest))
}

/// Whether the file is there, not older than `newest`, and not cut short. (fullconv's own are whole or not there.)
fn is_whole(path: &Path, newest: SystemTime) -> bool {
    let read = || -> std::io::Result<bool> {
        let mut file = fs::File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() == 0 || found.modified()? < newest {
            return Ok(false);
        }
        if path.extension().is_none_or(|extension| extension != "png") {
            return Ok(true);
        }
        let mut end = vec![0; PNG_END.len()];
        file.seek(SeekFrom::End(-(PNG_END.len() as i64)))?;
        file.read_exact(&mut end)?;
        Ok(end == PNG_END)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_png_is_a_file_and_any_other_a_folder() {
        let inputs = [PathBuf::from("a.jpg")];
        let place = |output: &'static str| Place::of(Some(Path::new(output)), &inputs);
        assert!(matches!(place("out/x.PNG"), Ok(Place::File(_))));
        assert!(matches!(place("out.d"), Ok(Place::Folder(_))));
        assert!(matches!(place("out.jpg"), Err(Failure::Failed(_))));
        let both = ["-", "a.jpg"].map(PathBuf::from);
        assert!(matches!(Place::of(None, &both), Err(Failure::Usage(_))));
    }

    #[test]
    fn one_file_is_the_mask_unless_the_overlay_is_chosen() {
        let parts = |place: Place, only| {
            let Parts { mask, overlay } = place.parts(only);
            (mask, overlay)
        };
        assert_eq!(parts(Place::Beside, None), (true, true));
        assert_eq!(parts(Place::Beside, Some(Only::Mask)), (true, false));
        assert_eq!(parts(Place::Stdout, None), (true, false));
        assert_eq!(parts(Place::Stdout, Some(Only::Overlay)), (false, true));
    }

    #[test]
    fn results_count_if_they_are_whole_and_newer() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.jpg");
        fs::write(&picture, "picture").unwrap();
        let (jobs, _) = Place::Beside
            .jobs(std::slice::from_ref(&picture), false)
            .unwrap();
        let only_mask = Place::Beside.parts(Some(Only::Mask));
        let done = |endings: &[String]| is_done(&jobs[0], only_mask, endings, None);
        assert!(!done(&[]));
        fs::write(&jobs[0].mask, "half a").unwrap();
        assert!(!done(&[]));
        fs::write(&jobs[0].mask, [b"PNG", PNG_END].concat()).unwrap();
        assert!(done(&[]));
        assert!(!done(&[".heatmap.png".to_owned()]));
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        fs::File::options()
            .write(true)
            .open(&picture)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert!(!done(&[]));
    }
}
