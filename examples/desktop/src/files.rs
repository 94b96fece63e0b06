//! The list of pictures to show, and the current one.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub struct Files {
    paths: Vec<PathBuf>,
    at: usize,
}

impl Files {
    /// The pictures in `paths`; folders give their pictures, sorted by name.
    ///
    /// # Errors
    /// A folder cannot be read or has no picture.
    pub fn of(paths: &[PathBuf]) -> Result<Self, String> {
        let mut found = Vec::new();
        for path in paths {
            if !path.is_dir() {
                found.push(path.clone());
                continue;
            }
            let inside = pictures_in(path)
                .map_err(|error| format!("cannot read the folder {}: {error}", path.display()))?;
            if inside.is_empty() {
                return Err(format!(
                    "there is no picture in {}: none that ends in .jpg, .jpeg or .png",
                    path.display()
                ));
            }
            found.extend(inside);
        }
        Ok(Self {
            paths: found,
            at: 0,
        })
    }

    pub fn current(&self) -> Option<&Path> {
        self.paths.get(self.at).map(PathBuf::as_path)
    }

    /// The number of the current picture, from 1, and the number of pictures.
    pub fn position(&self) -> (usize, usize) {
        (self.at + 1, self.paths.len())
    }

    pub fn has(&self, steps: isize) -> bool {
        (self.at.checked_add_signed(steps)).is_some_and(|at| at < self.paths.len())
    }

    /// Moves by `steps` pictures, if there are that many; returns whether it moved.
    pub fn go(&mut self, steps: isize) -> bool {
        let moves = self.has(steps);
        if moves {
            self.at = self.at.saturating_add_signed(steps);
        }
        moves
    }
}

fn pictures_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if path.is_file() && ["jpg", "jpeg", "png"].iter().any(|e| extension == *e) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_its_pictures_by_name() {
        let folder = std::env::temp_dir().join(format!("fullconv-files-{}", std::process::id()));
        fs::create_dir_all(folder.join("c.png")).unwrap();
        let none = Files::of(std::slice::from_ref(&folder)).unwrap_err();
        assert!(none.contains("there is no picture"), "{none}");
        for name in ["b.PNG", "a.jpeg", "notes.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let other = PathBuf::from("other.jpg");
        let mut files = Files::of(&[folder.clone(), other.clone()]).unwrap();
        let mut seen = vec![files.current().unwrap().to_owned()];
        assert!(!files.go(-1));
        while files.go(1) {
            seen.push(files.current().unwrap().to_owned());
        }
        assert_eq!(seen, [folder.join("a.jpeg"), folder.join("b.PNG"), other]);
        assert_eq!(files.position(), (3, 3));
        assert!(files.go(-1) && files.has(1));
        fs::remove_dir_all(folder).unwrap();
    }
}
