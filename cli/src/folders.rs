//! The pictures of a folder, known by their content, and what is left out of it.

use crate::jobs::{INSIGHT, MASK, OVERLAY, PROBABILITY};
use fullconv::{Error, ErrorKind, PictureFormat, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The endings of pictures. A file with one of them is a picture whatever its content: it may be damaged.
const ENDINGS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif", "pnm", "pbm", "pgm",
    "ppm", "pam", "npy",
];
/// The endings of pictures in formats that are not read, for files whose content does not tell.
const UNREAD: [(&str, &str); 6] = [
    ("heic", "HEIC"),
    ("heif", "HEIC"),
    ("avif", "AVIF"),
    ("jxl", "JPEG XL"),
    ("jp2", "JPEG 2000"),
    ("dcm", "DICOM"),
];

/// The kind of files that `segment` wrote.
pub const OF_RESULTS: &str = "results of an earlier run";

/// The pictures of a folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// In the order of their names.
    pub pictures: Vec<PathBuf>,
    /// The other files.
    pub left_out: LeftOut,
}

/// Files of a folder that are left out, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut(BTreeMap<String, usize>);

impl LeftOut {
    /// Counts a file of this kind.
    pub fn count(&mut self, kind: impl Into<String>) {
        *self.0.entry(kind.into()).or_default() += 1;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: Self) {
        for (kind, count) in other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// One line; `None` if nothing is left out.
    pub fn line(&self) -> Option<String> {
        let counts: Vec<_> = self
            .0
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .collect();
        (!counts.is_empty()).then(|| format!("left out: {}", counts.join(", ")))
    }
}

/// What a file of a folder is.
enum Kind {
    Picture,
    LeftOut(String),
}

/// The pictures in `folder`, and in its folders if `recursive`, without hidden files and earlier results.
///
/// # Errors
/// `Io` if a folder cannot be read, `Request` if there is no picture.
pub fn pictures_in(folder: &Path, recursive: bool) -> Result<Folder> {
    let mut found = Folder::default();
    for path in files_in(folder, recursive, &mut found.left_out)? {
        match kind(&path) {
            Kind::Picture => found.pictures.push(path),
            Kind::LeftOut(kind) => found.left_out.count(kind),
        }
    }
    if found.pictures.is_empty() {
        let but = found
            .left_out
            .line()
            .map_or(String::new(), |line| format!("; {line}"));
        return Err(Error::new(
            ErrorKind::Request,
            format!("no picture is in folder {}{but}", folder.display()),
        ));
    }
    found.pictures.sort();
    Ok(found)
}

/// The files in `folder`, and in its folders if `recursive`. Hidden ones, and folders otherwise, are counted as left out.
///
/// # Errors
/// `Io` if a folder cannot be read.
pub fn files_in(folder: &Path, recursive: bool, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let unreadable = |reason| {
            Error::new(
                ErrorKind::Io,
                format!("cannot read folder {}: {reason}", folder.display()),
            )
        };
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            // A link to a folder is not followed: it may lead into a circle.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match () {
                () if is_hidden => left_out.count("hidden"),
                () if is_folder && recursive => folders.push(path),
                () if path.is_dir() => left_out.count("folders (--recursive)"),
                () => files.push(path),
            }
        }
    }
    Ok(files)
}

/// What the file at `path` is, by its name if that is a result's, then by its content, else by its ending.
fn kind(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let mut of_results = [MASK, OVERLAY].into_iter().chain(INSIGHT);
    if of_results.any(|ending| name.ends_with(ending)) || name.contains(PROBABILITY) {
        return Kind::LeftOut(OF_RESULTS.into());
    }
    let unread = UNREAD.iter().find(|(unread, _)| *unread == ending);
    let unread = unread.map(|(_, name)| PictureFormat::Unread(name));
    match head(path)
        .and_then(|head| PictureFormat::of(&head))
        .or(unread)
    {
        Some(format) if format.is_read() => Kind::Picture,
        Some(format) => Kind::LeftOut(format!("{format} ({})", format.advice())),
        None if ENDINGS.contains(&ending) => Kind::Picture,
        None => Kind::LeftOut(by_ending(ending)),
    }
}

/// The kind of a file that is left out, of which only the ending is known.
pub fn by_ending(ending: &str) -> String {
    match ending {
        "" => "without an ending".into(),
        _ => format!(".{ending}"),
    }
}

/// The first bytes of the file at `path`; `None` if it cannot be read.
fn head(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe would wait.
    if !path.is_file() {
        return None;
    }
    let mut head = Vec::with_capacity(PictureFormat::HEAD);
    let file = File::open(path).ok()?;
    file.take(PictureFormat::HEAD as u64)
        .read_to_end(&mut head)
        .ok()?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Folder) -> Vec<String> {
        let names = folder.pictures.iter().map(|p| p.file_name().unwrap());
        names.map(|n| n.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_gives_its_pictures_in_order_and_says_what_else_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
        let files: [(&str, &[u8]); 14] = [
            ("b.JPG", b""),
            ("a.png", b""),
            ("c.jpeg", b""),
            ("jpeg", b"\xFF\xD8\xFF\xE0"),
            ("g.jfif", b"\xFF\xD8\xFF\xE0"),
            ("h.dat", b"RIFF\0\0\0\0WEBPVP8 "),
            ("a.mask.png", b""),
            ("a.overlay.png", b""),
            (".d.png", b""),
            ("e.txt", b"BMW"),
            ("f.txt", b"P600"),
            ("i.jpg.heic", heic),
            ("k.jpg", heic),
            ("Makefile", b"all:"),
        ];
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        fs::create_dir(folder.path().join("f.png")).unwrap();
        fs::write(folder.path().join("f.png/z.bmp"), "").unwrap();
        let found = pictures_in(folder.path(), false).unwrap();
        assert_eq!(
            names(&found),
            ["a.png", "b.JPG", "c.jpeg", "g.jfif", "h.dat", "jpeg"]
        );
        let line = found.left_out.line().unwrap();
        for part in [
            "2 .txt",
            "2 HEIC (convert it to JPEG",
            "1 hidden",
            "1 without an ending",
            "2 results of an earlier run",
            "1 folders (--recursive)",
        ] {
            assert!(line.contains(part), "{line}");
        }
        let all = pictures_in(folder.path(), true).unwrap();
        assert_eq!(all.pictures.len(), 7);
        assert!(!all.left_out.line().unwrap().contains("folders"));
    }

    #[test]
    fn a_folder_without_pictures_says_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let empty = pictures_in(folder.path(), false).unwrap_err().to_string();
        assert!(empty.starts_with("no picture is in folder "), "{empty}");
        fs::write(folder.path().join("a.avif"), "").unwrap();
        let error = pictures_in(folder.path(), false).unwrap_err().to_string();
        assert!(
            error.contains("; left out: 1 AVIF (convert it to PNG"),
            "{error}"
        );
    }
}
