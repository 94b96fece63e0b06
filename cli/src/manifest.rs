//! The manifest of a run of `segment`: a line of JSON for each picture, written when its results are.

use fullconv::low_level::files;
use fullconv::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind as Io, Write};
use std::path::{Path, PathBuf};

/// The begin of every line.
const BEGIN: &str = "{\"input\":\"";

/// The lines of an earlier run's manifest.
#[derive(Debug, Default)]
pub struct Rows(HashMap<String, String>);

/// What is read of a line.
#[derive(Deserialize)]
struct Row {
    input: String,
    error: Option<String>,
}

impl Rows {
    /// The lines of the manifest at `path`, without those of pictures that failed; none if there is no file. A last
    /// line without its end, which a killed run leaves, is left out.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, `Request` if another line is not that of a manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(reason) if reason.kind() == Io::NotFound => return Ok(Self::default()),
            Err(reason) => return Err(failed("read", path, &reason)),
        };
        let (whole, cut) = text.rsplit_once('\n').unwrap_or(("", &text));
        let no_line = |i: usize, reason: &dyn Display| {
            let at = format!("{}, line {}", path.display(), i + 1);
            let text = format!("{at}, is not a line of a manifest: {reason}; name another file");
            Error::new(ErrorKind::Request, text)
        };
        let lines = whole.lines().count();
        if !cut.starts_with(BEGIN) && !BEGIN.starts_with(cut) {
            return Err(no_line(
                lines,
                &format_args!("it does not begin with {BEGIN}"),
            ));
        }
        let mut rows = HashMap::new();
        for (i, line) in whole.lines().enumerate() {
            let row: Row = serde_json::from_str(line).map_err(|reason| no_line(i, &reason))?;
            if row.error.is_none() {
                rows.insert(row.input, line.to_owned());
            }
        }
        Ok(Self(rows))
    }

    /// Whether there is a line with the results of the picture `input`.
    pub fn has(&self, input: &str) -> bool {
        self.0.contains_key(input)
    }

    /// The lines of these pictures, each with its end.
    pub fn of(&self, inputs: &[String]) -> String {
        let lines = inputs.iter().filter_map(|input| self.0.get(input));
        lines.flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

/// A manifest that lines are added to. No other run writes to the file meanwhile.
#[derive(Debug)]
pub struct Manifest {
    file: File,
    path: PathBuf,
}

impl Manifest {
    /// Writes the manifest at `path` anew, with `lines` at first. The file is complete at any time.
    ///
    /// # Errors
    /// `Io` if the file cannot be written, `Request` if another run writes to it.
    pub fn create(path: &Path, lines: &str) -> Result<Self> {
        // Another run's file is not replaced.
        if path.exists() {
            open(path)?;
        }
        files::write_atomically(path, lines.as_bytes())?;
        Ok(Self {
            file: open(path)?,
            path: path.to_owned(),
        })
    }

    /// Adds a line, at once and whole.
    ///
    /// # Errors
    /// `Io` if the file cannot be written.
    pub fn add(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|reason| {
            Error::new(ErrorKind::Io, format!("{}: {reason}", self.path.display()))
        })?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|reason| failed("write", &self.path, &reason))
    }
}

/// Opens the file to add to it, and locks it.
fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(|reason| failed("write", path, &reason))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = format!(
                "another run writes to {}: wait for its end, or give each run its own --manifest or --shard",
                path.display()
            );
            Err(Error::new(ErrorKind::Request, text))
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn failed(what: &str, path: &Path, reason: &std::io::Error) -> Error {
    let text = format!("cannot {what} {}: {reason}", path.display());
    Error::new(ErrorKind::Io, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_without_errors_are_kept_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        assert!(!Rows::read(&path).unwrap().has("a"));
        let lines =
            "{\"input\":\"a\",\"width\":1}\n{\"input\":\"b\",\"error\":\"x\"}\n{\"input\":\"c\"}";
        std::fs::write(&path, lines).unwrap();
        let rows = Rows::read(&path).unwrap();
        assert_eq!(
            ["a", "b", "c"].map(|input| rows.has(input)),
            [true, false, false]
        );
        let inputs = ["a", "c"].map(String::from);
        assert_eq!(rows.of(&inputs), "{\"input\":\"a\",\"width\":1}\n");
        std::fs::write(&path, "{\"input\":\"a\"}\nnot JSON\n").unwrap();
        let refused = Rows::read(&path).unwrap_err().to_string();
        assert!(refused.contains("line 2"), "{refused}");
        // Without a line's end, too, only the begin of a line is one that was cut short.
        std::fs::write(&path, "my notes").unwrap();
        let refused = Rows::read(&path).unwrap_err().to_string();
        assert!(refused.contains("line 1"), "{refused}");
        for cut in ["", "{\"inp", "{\"input\":\"a.j"] {
            std::fs::write(&path, cut).unwrap();
            Rows::read(&path).unwrap();
        }
    }

    #[test]
    fn a_manifest_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let mut manifest = Manifest::create(&path, "1\n").unwrap();
        let refused = Manifest::create(&path, "").unwrap_err();
        assert!(refused.to_string().contains("another run"), "{refused}");
        manifest.add(&2).unwrap();
        drop(manifest);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
        Manifest::create(&path, "").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
