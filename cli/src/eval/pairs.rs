//! Which file of labels belongs to which picture.

use crate::folders::pictures_in;
use fullconv::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
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

/// The text before and after the picture's name in a label's name without its ending.
type Affixes = (String, String);

/// The pictures in `images` with their labels in `labels`, sorted by name, and the files without a counterpart.
///
/// The label of NAME.jpg has the name that `pattern` gives; without a pattern NAME.png, or else a name around NAME, such
/// as NAME_L.png, if only one fits. `_leftImg8bit` at the end of a picture's name is left out where that finds labels.
pub fn pairs(
    images: &Path,
    labels: &Path,
    pattern: Option<&str>,
) -> Result<(Vec<Pair>, Vec<String>)> {
    let pictures = by_stem(pictures_in(images, false)?.pictures)?;
    let files = label_files(labels)?;
    let stems: Vec<&str> = pictures.keys().map(String::as_str).collect();
    let found = match pattern {
        Some(pattern) => by_pattern(&stems, &files, pattern)?,
        None => by_names(&stems, &by_stem(files.values().cloned().collect())?, labels)?,
    };
    let mut left: BTreeSet<&PathBuf> = files.values().collect();
    let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
    for (stem, picture) in &pictures {
        match found.get(stem.as_str()) {
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
        let named = pattern.unwrap_or("NAME.png");
        let message = format!(
            "no picture in {} has labels in {}: NAME.jpg needs {}; --pattern gives other names",
            images.display(),
            labels.display(),
            named.replace(STEM, "NAME")
        );
        return Err(Error::new(ErrorKind::Request, message));
    }
    // Where a picture has several files of labels, as in Cityscapes, the others are no counterparts.
    if pattern.is_none() {
        unmatched.extend(left.into_iter().map(|path| path.display().to_string()));
    }
    Ok((pairs, unmatched))
}

/// The files in `folder` with a label's extension, by name, without hidden files and overlays.
fn label_files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let unreadable = |reason| {
        let text = format!("cannot read folder {}: {reason}", folder.display());
        Error::new(ErrorKind::Io, text)
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lower = name.to_lowercase();
        let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
        let is_label = LABELS.contains(&ending) && !lower.ends_with(".overlay.png");
        if is_label && !name.starts_with('.') && !path.is_dir() {
            files.insert(name.into_owned(), path);
        }
    }
    if files.is_empty() {
        let text = format!(
            "no labels (*.{}) are in folder {}",
            LABELS[..5].join(", *."),
            folder.display()
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    Ok(files)
}

/// Files by their names without ending.
fn by_stem(files: Vec<PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    let mut stems: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some(other) = stems.insert(stem.into_owned(), path.clone()) {
            let message = format!(
                "{} and {} have the same name: only one can match a file of the other folder",
                other.display(),
                path.display()
            );
            return Err(Error::new(ErrorKind::Request, message));
        }
    }
    Ok(stems)
}

/// A picture's name, and that name without [`PICTURE`] if it ends so.
fn bases(stem: &str) -> impl Iterator<Item = &str> {
    [Some(stem), stem.strip_suffix(PICTURE)]
        .into_iter()
        .flatten()
}

/// The labels of each picture under the name that `pattern` gives.
fn by_pattern<'a>(
    stems: &[&'a str],
    files: &BTreeMap<String, PathBuf>,
    pattern: &str,
) -> Result<BTreeMap<&'a str, PathBuf>> {
    if pattern.matches(STEM).count() != 1 {
        let text = format!(
            "--pattern {pattern:?} needs {STEM} once, for the picture's name without its ending: {STEM}_L.png"
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    let labels = |stem: &'a str| {
        let file = bases(stem).find_map(|base| files.get(&pattern.replace(STEM, base)));
        Some((stem, file?.clone()))
    };
    Ok(stems.iter().filter_map(|stem| labels(stem)).collect())
}

/// The labels of each picture: those of its own name, or else of the one kind of name around it that most pictures have.
fn by_names<'a>(
    stems: &[&'a str],
    files: &BTreeMap<String, PathBuf>,
    folder: &Path,
) -> Result<BTreeMap<&'a str, PathBuf>> {
    let with = |(before, after): &Affixes| -> BTreeMap<&'a str, PathBuf> {
        let labels = |stem: &'a str| {
            let named = |base: &str| files.get(&format!("{before}{base}{after}"));
            Some((stem, bases(stem).find_map(named)?.clone()))
        };
        stems.iter().filter_map(|stem| labels(stem)).collect()
    };
    let own = with(&Affixes::default());
    if !own.is_empty() {
        return Ok(own);
    }
    let mut kinds: Vec<_> = affixes(stems, files)
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
fn affixes(stems: &[&str], files: &BTreeMap<String, PathBuf>) -> BTreeSet<Affixes> {
    let bases: BTreeSet<&str> = stems.iter().flat_map(|stem| bases(stem)).collect();
    let mut found = BTreeSet::new();
    for name in files.keys() {
        // Where the label's name begins, and where it ends, with a picture's name.
        for (at, _) in name.match_indices(SEPARATORS) {
            if bases.contains(&name[..at]) {
                found.insert((String::new(), name[at..].to_owned()));
            }
            if bases.contains(&name[at + 1..]) {
                found.insert((name[..=at].to_owned(), String::new()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(
        pictures: &[&str],
        labels: &[&str],
        pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>> {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["images", "labels"].map(|name| folder.path().join(name));
        for (path, names) in paths.iter().zip([pictures, labels]) {
            fs::create_dir(path).unwrap();
            for name in names {
                fs::write(path.join(name), b"\x89PNG\r\n\x1a\n").unwrap();
            }
        }
        let (pairs, _) = pairs(&paths[0], &paths[1], pattern)?;
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let named = |pair: &Pair| (name(&pair.picture), name(&pair.labels));
        Ok(pairs.iter().map(named).collect())
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
