//! Which file of labels belongs to which picture.

use crate::folders::{Folder, LeftOut, OF_RESULTS, by_ending, files_in, pictures_in};
use crate::jobs::OVERLAY;
use fullconv::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The extensions of labels. JPEG is among them so that the error says why it is none.
const LABELS: [&str; 8] = ["png", "tif", "tiff", "bmp", "npy", "jpg", "jpeg", "webp"];
/// What the names of pictures end in, where those of their labels end in something else.
const PICTURE: &str = "_leftImg8bit";
/// The place of the picture's name in a pattern.
const STEM: &str = "{stem}";
/// What separates the picture's name from the rest of a label's name.
const SEPARATORS: [char; 3] = ['_', '-', '.'];

/// A picture and its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair {
    pub picture: PathBuf,
    pub labels: PathBuf,
}

/// The folder of a file below the one that is given, as `city/`, and the file's name, or its name without ending.
type Name = (String, String);

/// The text before and after the picture's name in a label's name without its ending.
type Affixes = (String, String);

/// The pictures of a folder with their labels.
#[derive(Debug)]
pub struct Pairs {
    /// Sorted by name.
    pub pairs: Vec<Pair>,
    /// Files without a counterpart.
    pub unmatched: Vec<String>,
    /// The other files of both folders.
    pub left_out: LeftOut,
}

/// The pictures in `images` with their labels in `labels`; if `recursive`, also those in folders, with labels in folders
/// of the same names.
///
/// The label of NAME.jpg has the name that `pattern` gives; without a pattern NAME.png, or else a name around NAME, such
/// as NAME_L.png, if only one fits. `_leftImg8bit` at the end of a picture's name is left out where that finds labels.
pub fn pairs(
    images: &Path,
    labels: &Path,
    pattern: Option<&str>,
    recursive: bool,
) -> Result<Pairs> {
    let Folder {
        pictures,
        mut left_out,
    } = pictures_in(images, recursive)?;
    let pictures = by_stem(pictures, images)?;
    let files = label_files(labels, recursive, &mut left_out)?;
    let names: Vec<&Name> = pictures.keys().collect();
    let found = match pattern {
        Some(pattern) => by_pattern(&names, &files, pattern)?,
        None => {
            let files = by_stem(files.values().cloned().collect(), labels)?;
            by_names(&names, &files, labels)?
        }
    };
    let mut left: BTreeSet<&PathBuf> = files.values().collect();
    let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
    for (name, picture) in &pictures {
        match found.get(name) {
            Some(labels) => {
                left.remove(labels);
                pairs.push(Pair {
                    picture: picture.clone(),
                    labels: labels.clone(),
                });
            }
            None => unmatched.push(picture.display().to_string()),
        }
    }
    if pairs.is_empty() {
        let named = pattern.unwrap_or("NAME.png").replace(STEM, "NAME");
        let [folder, of_folder] = match recursive {
            true => ["FOLDER/", ", in the folder of the same name"],
            false => [""; 2],
        };
        let message = format!(
            "no picture in {} has labels in {}: {folder}NAME.jpg needs {folder}{named}{of_folder}; --pattern gives \
             other names",
            images.display(),
            labels.display(),
        );
        return Err(Error::new(ErrorKind::Request, message));
    }
    // Where a picture has several files of labels, as in Cityscapes, the others are no counterparts.
    if pattern.is_none() {
        unmatched.extend(left.into_iter().map(|path| path.display().to_string()));
    }
    Ok(Pairs {
        pairs,
        unmatched,
        left_out,
    })
}

/// The files in `folder` with a label's extension, by name, without hidden files and overlays.
fn label_files(
    folder: &Path,
    recursive: bool,
    left_out: &mut LeftOut,
) -> Result<BTreeMap<Name, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut others = LeftOut::default();
    for path in files_in(folder, recursive, &mut others)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lower = name.to_lowercase();
        let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
        if lower.ends_with(OVERLAY) {
            others.count(OF_RESULTS);
        } else if LABELS.contains(&ending) {
            files.insert((below(&path, folder), name.into_owned()), path);
        } else {
            others.count(by_ending(ending));
        }
    }
    if files.is_empty() {
        let but = others
            .line()
            .map_or(String::new(), |line| format!("; {line}"));
        let text = format!(
            "no labels (*.{}) are in folder {}{but}",
            LABELS[..5].join(", *."),
            folder.display()
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    left_out.add(others);
    Ok(files)
}

/// The folder of the file at `path` below `root`, as `city/`.
fn below(path: &Path, root: &Path) -> String {
    let folder = path
        .parent()
        .and_then(|folder| folder.strip_prefix(root).ok());
    let folders = folder.into_iter().flat_map(Path::components);
    folders
        .map(|folder| format!("{}/", folder.as_os_str().to_string_lossy()))
        .collect()
}

/// Files below `root` by their names without ending.
fn by_stem(files: Vec<PathBuf>, root: &Path) -> Result<BTreeMap<Name, PathBuf>> {
    let mut names: BTreeMap<Name, PathBuf> = BTreeMap::new();
    for path in files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = (below(&path, root), stem.into_owned());
        if let Some(other) = names.insert(name, path.clone()) {
            let message = format!(
                "{} and {} have the same name: only one can match a file of the other folder",
                other.display(),
                path.display()
            );
            return Err(Error::new(ErrorKind::Request, message));
        }
    }
    Ok(names)
}

/// A picture's name, and that name without [`PICTURE`] if it ends so.
fn bases(stem: &str) -> impl Iterator<Item = &str> {
    [Some(stem), stem.strip_suffix(PICTURE)]
        .into_iter()
        .flatten()
}

/// The labels of each picture for which `named` gives their name, from a name of the picture.
fn with_names(
    pictures: &[&Name],
    files: &BTreeMap<Name, PathBuf>,
    named: impl Fn(&str) -> String,
) -> BTreeMap<Name, PathBuf> {
    let labels = |picture: &Name| {
        let (folder, stem) = picture;
        let file = bases(stem).find_map(|base| files.get(&(folder.clone(), named(base))));
        Some((picture.clone(), file?.clone()))
    };
    pictures.iter().filter_map(|name| labels(name)).collect()
}

/// The labels of each picture under the name that `pattern` gives.
fn by_pattern(
    pictures: &[&Name],
    files: &BTreeMap<Name, PathBuf>,
    pattern: &str,
) -> Result<BTreeMap<Name, PathBuf>> {
    if pattern.matches(STEM).count() != 1 {
        let text = format!(
            "--pattern {pattern:?} needs {STEM} once, for the picture's name without its ending: {STEM}_L.png"
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    Ok(with_names(pictures, files, |base| {
        pattern.replace(STEM, base)
    }))
}

/// The labels of each picture: those of its own name, or else of the one kind of name around it that most pictures have.
fn by_names(
    pictures: &[&Name],
    files: &BTreeMap<Name, PathBuf>,
    folder: &Path,
) -> Result<BTreeMap<Name, PathBuf>> {
    let with = |(before, after): &Affixes| {
        with_names(pictures, files, |base| format!("{before}{base}{after}"))
    };
    let own = with(&Affixes::default());
    if !own.is_empty() {
        return Ok(own);
    }
    let mut kinds: Vec<_> = affixes(pictures, files)
        .into_iter()
        .map(|affixes| (with(&affixes), affixes))
        .collect();
    kinds.sort_by_key(|(found, _)| std::cmp::Reverse(found.len()));
    let Some((best, _)) = kinds.first() else {
        return Ok(BTreeMap::new());
    };
    let equal: Vec<_> = kinds
        .iter()
        .take_while(|(found, _)| found.len() == best.len())
        .map(|(_, (before, after))| format!("{before}{STEM}{after}"))
        .collect();
    if equal.len() > 1 {
        let text = format!(
            "{} has labels under several names ({}): choose one with --pattern {}.png",
            folder.display(),
            equal.join(", "),
            equal[0]
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    Ok(kinds.swap_remove(0).0)
}

/// What stands before and after a picture's name in names of labels.
fn affixes(pictures: &[&Name], files: &BTreeMap<Name, PathBuf>) -> BTreeSet<Affixes> {
    let names = pictures.iter();
    let names = names.flat_map(|(folder, stem)| bases(stem).map(|base| (folder.as_str(), base)));
    let names: BTreeSet<(&str, &str)> = names.collect();
    let mut found = BTreeSet::new();
    for (folder, name) in files.keys() {
        // Where the label's name begins, and where it ends, with a picture's name.
        for (at, _) in name.match_indices(SEPARATORS) {
            if names.contains(&(folder.as_str(), &name[..at])) {
                found.insert((String::new(), name[at..].to_owned()));
            }
            if names.contains(&(folder.as_str(), &name[at + 1..])) {
                found.insert((name[..=at].to_owned(), String::new()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The names of pictures and their labels.
    type Named = Vec<(String, String)>;

    fn paired(pictures: &[&str], labels: &[&str], pattern: Option<&str>) -> Result<Named> {
        paired_in(pictures, labels, pattern, false).map(|(pairs, _)| pairs)
    }

    /// The names of pictures and their labels, and the line of what is left out.
    fn paired_in(
        pictures: &[&str],
        labels: &[&str],
        pattern: Option<&str>,
        recursive: bool,
    ) -> Result<(Named, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["images", "labels"].map(|name| folder.path().join(name));
        for (path, names) in paths.iter().zip([pictures, labels]) {
            for name in names {
                let path = path.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let is_text = name.ends_with(".json");
                let bytes: &[u8] = if is_text { b"{}" } else { b"\x89PNG\r\n\x1a\n" };
                fs::write(path, bytes).unwrap();
            }
        }
        let found = pairs(&paths[0], &paths[1], pattern, recursive)?;
        let name = |path: &Path| {
            let path = path.strip_prefix(folder.path()).unwrap();
            let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
            parts[1..].join("/")
        };
        let named = |pair: &Pair| (name(&pair.picture), name(&pair.labels));
        let pairs = found.pairs.iter().map(named).collect();
        Ok((pairs, found.left_out.line()))
    }

    #[test]
    fn labels_are_in_folders_of_the_same_names() {
        let pictures = ["a/1_leftImg8bit.png", "b/c/1_leftImg8bit.png", "2.png"];
        let labels = [
            "a/1_gt.png",
            "b/c/1_gt.png",
            "b/2_gt.png",
            "a/1_gt.json",
            "a/.x.png",
        ];
        let pairs = |pattern| paired_in(&pictures, &labels, pattern, true).unwrap();
        let expected = [
            ("a/1_leftImg8bit.png", "a/1_gt.png"),
            ("b/c/1_leftImg8bit.png", "b/c/1_gt.png"),
        ];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        for pattern in [None, Some("{stem}_gt.png")] {
            let (found, line) = pairs(pattern);
            assert_eq!(found, expected);
            assert_eq!(line.as_deref(), Some("left out: 1 .json, 1 hidden"));
        }
        let error = paired_in(&pictures[..2], &labels, None, false).unwrap_err();
        assert!(
            error.to_string().contains("folders (--recursive)"),
            "{error}"
        );
        let error = paired_in(&["a/1.png"], &["b/1.png"], None, true).unwrap_err();
        let expected = "FOLDER/NAME.jpg needs FOLDER/NAME.png, in the folder of the same name";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn names_around_the_pictures_are_found() {
        for (pictures, labels, expected) in [
            (["a.jpg", "b.jpg"], ["a.png", "b.png"], ["a.png", "b.png"]),
            (
                ["a.jpg", "b.jpg"],
                ["a_L.png", "b_L.png"],
                ["a_L.png", "b_L.png"],
            ),
            (
                ["1.png", "10.png"],
                ["1_L.png", "10_L.png"],
                ["1_L.png", "10_L.png"],
            ),
            (
                ["a.jpg", "b.jpg"],
                ["a.mask.png", "b.mask.png"],
                ["a.mask.png", "b.mask.png"],
            ),
            (
                ["a.jpg", "b.jpg"],
                ["mask_a.tif", "mask_b.tif"],
                ["mask_a.tif", "mask_b.tif"],
            ),
            (
                ["x_0_leftImg8bit.png", "x_1_leftImg8bit.png"],
                ["x_0_gtFine_labelIds.png", "x_1_gtFine_labelIds.png"],
                ["x_0_gtFine_labelIds.png", "x_1_gtFine_labelIds.png"],
            ),
        ] {
            let pairs = paired(&pictures, &labels, None).unwrap();
            let expected = pictures.iter().zip(expected);
            let expected: Vec<_> = expected
                .map(|(a, b)| (a.to_string(), b.to_owned()))
                .collect();
            assert_eq!(pairs, expected);
        }
    }

    #[test]
    fn of_several_kinds_of_names_a_pattern_chooses() {
        let labels = ["x_gtFine_color.png", "x_gtFine_labelIds.png"];
        let pictures = ["x_leftImg8bit.png"];
        let error = paired(&pictures, &labels, None).unwrap_err().to_string();
        for part in ["{stem}_gtFine_color", "{stem}_gtFine_labelIds", "--pattern"] {
            assert!(error.contains(part), "{error}");
        }
        let chosen = paired(&pictures, &labels, Some("{stem}_gtFine_labelIds.png")).unwrap();
        assert_eq!(chosen[0].1, "x_gtFine_labelIds.png");
        for pattern in ["x.png", "{stem}{stem}.png"] {
            let error = paired(&pictures, &labels, Some(pattern)).unwrap_err();
            assert!(error.to_string().contains("once"), "{error}");
        }
        let error = paired(&pictures, &labels, Some("{stem}_L.png")).unwrap_err();
        assert!(error.to_string().contains("NAME_L.png"), "{error}");
    }

    #[test]
    fn a_name_inside_another_is_no_match() {
        assert!(paired(&["1.png"], &["10.png", "21.png"], None).is_err());
        let error = paired(&["a.jpg"], &["a.png", "a.npy"], None).unwrap_err();
        assert!(error.to_string().contains("same name"), "{error}");
    }
}
