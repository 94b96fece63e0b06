//! Whole files in, whole files out: errors name the path, and nothing half-written is left behind.

use crate::error::{Error, ErrorKind, Result, bail};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads the file at `path`, of at most `limit` bytes.
///
/// # Errors
/// `Io` if it cannot be read, is a folder, or holds more than `limit` bytes (an endless device does).
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let shown = path.display();
    // Opening a folder succeeds on some systems and is called "access denied" on others.
    if path.is_dir() {
        bail!(Io, "cannot read {shown}: it is a folder, not a file");
    }
    let mut bytes = Vec::new();
    let outcome = File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    match outcome {
        Err(reason) => {
            let text = format!("cannot read {shown}: {reason}");
            Err(Error::new(ErrorKind::Io, text).with_source(reason))
        }
        Ok(length) if length as u64 > limit => {
            bail!(Io, "cannot read {shown}: it is larger than {limit} bytes")
        }
        Ok(_) => Ok(bytes),
    }
}

/// Fills `buffer` with the bytes of `file` from `offset` on, independently of other readers. A file that ends before is
/// an error of the kind `UnexpectedEof`.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with the bytes of `file` from `offset` on, independently of other readers. A file that ends before is
/// an error of the kind `UnexpectedEof`.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                buffer = &mut buffer[length..];
                offset += length as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes `bytes` to `path` in one piece: readers find the old file or the whole new one.
///
/// The bytes go to a temporary file in the same folder, which then takes the name. A new file gets the usual
/// permissions, a replaced file keeps its own, and a link keeps its target. A pipe or a device, which cannot be
/// replaced, is written to directly.
///
/// # Errors
/// `Io`, naming the path and the reason: the folder is missing, not writable or full, or `path` is a
/// folder or a read-only file. The temporary file is then removed, and an old file unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |at| {
        fs::write(at, bytes).map_err(|reason| cannot_write(path, reason))
    })
}

/// As [`write_atomically`], with what `fill` writes to the file at its path, which already exists and is empty.
///
/// # Errors
/// As [`write_atomically`], and any error of `fill`.
pub fn write_atomically_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Some((target, permissions)) = target(path).map_err(|e| cannot_write(path, e))? else {
        return fill(path);
    };
    let file = temporary_beside(&target).map_err(|e| cannot_write(path, e))?;
    let usual = file.as_file().metadata().map(|found| found.permissions());
    fill(file.path())?;
    let keep = || {
        // `fill` may have replaced the file by another.
        let wanted = permissions.map_or(usual, Ok)?;
        if fs::metadata(file.path())?.permissions() != wanted {
            fs::set_permissions(file.path(), wanted)?;
        }
        let kept = file.into_temp_path().persist(&target);
        kept.map_err(|refusal| refusal.error)
    };
    keep().map_err(|e| cannot_write(path, e))
}

fn cannot_write(path: &Path, reason: io::Error) -> Error {
    let text = format!("cannot write {}: {}", path.display(), without_path(&reason));
    Error::new(ErrorKind::Io, text).with_source(reason)
}

/// What `reason` says, without the name of a temporary file, which the crate `tempfile` adds.
pub fn without_path(reason: &io::Error) -> String {
    let said = reason.to_string();
    let own = said.split(" at path \"").next();
    own.unwrap_or_default().to_owned()
}

/// The file that is replaced or made, and the permissions it had; `None` if `path` cannot be replaced.
fn target(path: &Path) -> io::Result<Option<(PathBuf, Option<Permissions>)>> {
    Ok(Some(match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(refused("it is a folder, not a file")),
        Ok(found) if !found.is_file() => return Ok(None),
        // Replacing it would succeed all the same: only the folder has to be writable.
        Ok(found) if found.permissions().readonly() => return Err(refused("it is read-only")),
        Ok(found) => (behind_links(path)?, Some(found.permissions())),
        Err(_) => (path.to_path_buf(), None),
    }))
}

fn temporary_beside(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(refused("it names no file")),
    };
    if !folder.is_dir() {
        let fault = if folder.exists() {
            "is not a folder"
        } else {
            "does not exist"
        };
        return Err(refused(format!("{} {fault}", folder.display())));
    }
    // `make_in` with our own open, because tempfile's gives the owner alone access.
    tempfile::Builder::new()
        .prefix(".fullconv-")
        .make_in(folder, |name| {
            OpenOptions::new().write(true).create_new(true).open(name)
        })
}

/// The file that `path` leads to, so that a link is written through and not replaced.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    if path.is_symlink() {
        fs::canonicalize(path)
    } else {
        Ok(path.to_path_buf())
    }
}

fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_then_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_atomically(&path, b"first, and longer").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(read(&path, 6).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn a_failed_write_says_where_and_why_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"old").unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        for (path, reason) in [
            (folder.path().join("missing").join("x"), "does not exist"),
            (file.join("x"), "is not a folder"),
            (taken, "is a folder"),
            (PathBuf::from(""), "names no file"),
        ] {
            let error = write_atomically(&path, b"new").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let message = error.to_string();
            assert!(message.contains(&path.display().to_string()), "{message}");
            assert!(message.contains(reason), "{message}");
        }
        assert_eq!(names(folder.path()), ["file", "taken"]);
        assert_eq!(fs::read(&file).unwrap(), b"old");
    }

    #[test]
    fn the_name_of_a_temporary_file_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let missing = tempfile::tempfile_in(folder.path().join("none"));
        let reason = missing.map(drop).unwrap_err();
        let shown = without_path(&reason);
        assert!(!shown.contains("none") && !shown.is_empty(), "{shown}");
    }

    #[test]
    fn a_read_only_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"old").unwrap();
        let before = fs::metadata(&path).unwrap().permissions();
        let mut locked = before.clone();
        locked.set_readonly(true);
        fs::set_permissions(&path, locked).unwrap();
        let error = write_atomically(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::set_permissions(&path, before).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_are_those_of_an_ordinary_write() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (ordinary, ours) = (folder.path().join("ordinary"), folder.path().join("ours"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        fs::write(&ordinary, b"").unwrap();
        write_atomically(&ours, b"").unwrap();
        assert_eq!(mode(&ours), mode(&ordinary));

        fs::set_permissions(&ours, Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link");
        symlink("ours", &link).unwrap();
        write_atomically(&link, b"through").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&ours).unwrap(), b"through");
        assert_eq!(mode(&ours) & 0o777, 0o640);

        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn reading_names_the_path_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let missing = read(&path, 10).unwrap_err().to_string();
        assert!(missing.contains(&path.display().to_string()), "{missing}");
        let itself = read(folder.path(), 10).unwrap_err();
        assert_eq!(itself.kind(), ErrorKind::Io);
        assert!(itself.to_string().contains("is a folder"), "{itself}");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().len(), 5);
        let large = read(&path, 4).unwrap_err().to_string();
        assert!(large.contains("larger than 4 bytes"), "{large}");
    }
}
