//! Output to the terminal: lines, tables, JSON, a progress bar.

use fullconv::{Error, ErrorKind, Result};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

/// Writes a line to stdout. A closed pipe (`| head`) is not an error: the command's files are still wanted.
pub fn say(text: impl Display) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            ErrorKind::Io,
            format!("cannot write to standard output: {reason}"),
        )),
        _ => Ok(()),
    }
}

/// Writes `bytes` to stdout as they are. A closed pipe is no error, as for [`say`].
pub fn bytes_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            ErrorKind::Io,
            format!("cannot write to standard output: {reason}"),
        )),
        _ => Ok(()),
    }
}

/// Writes `value` to stdout as JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(text),
        Err(reason) => Err(Error::new(
            ErrorKind::Io,
            format!("cannot write JSON: {reason}"),
        )),
    }
}

/// Writes `fullconv: MESSAGE` to stderr, on one line.
pub fn report(message: impl Display) {
    // A failure to write to stderr cannot be reported.
    let _ = writeln!(io::stderr(), "fullconv: {}", one_line(&message.to_string()));
}

/// Turns line breaks into spaces and escapes other control characters, which a file name may contain.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let mut shown = String::with_capacity(text.len());
    for c in lines.join(" ").chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A progress bar on stderr up to `length`; hidden if `length` < 2 or stderr is not a terminal.
pub fn progress(length: usize) -> ProgressBar {
    if length < 2 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left  {wide_msg}");
    ProgressBar::new(length as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        // The bar disappears on an error too: the error's line stands alone.
        .with_finish(ProgressFinish::AndClear)
}

/// A table with aligned columns below `heads`. Columns of numbers are right-aligned.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(heads[column].chars().count())
    };
    let figures = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .all(|cell| cell == "inf" || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    };
    let line = |row: &[String]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if figures(column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heads: Vec<_> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<_> = std::iter::once(&heads)
        .chain(rows)
        .map(|row| line(row))
        .collect();
    lines.join("\n")
}

/// `812 ms`, `12.3 s`.
pub fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// Milliseconds, for JSON.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// `29.6 KiB`, `128.0 MiB`.
pub fn bytes(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    if kib < 1024.0 {
        format!("{kib:.1} KiB")
    } else {
        format!("{:.1} MiB", kib / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("a\n  b\r\n\nc\u{1b}[2J"), "a b c\\u{1b}[2J");
    }

    #[test]
    fn figures_stand_at_the_right() {
        let rows = [["sky", "1.5"], ["a road", "10.5"]].map(|r| r.map(String::from).to_vec());
        let expected = "class    IoU\nsky      1.5\na road  10.5";
        assert_eq!(table(&["class", "IoU"], &rows), expected);
    }
}
