//! Small text files on the command line: class names, palettes, label maps.

use crate::presets::{Colour, Preset};
use fullconv::low_level::files;
use fullconv::{Error, ErrorKind, Model, Palette, Result};
use std::path::Path;

/// The largest text file.
const MOST_BYTES: u64 = 1 << 20;
/// The fewest characters of a token: fewer can be guessed.
#[cfg(all(unix, feature = "serve"))]
const LEAST_TOKEN: usize = 16;

/// The text of the file at `path`, without the byte order mark that Windows' editors begin a file with.
pub fn text(path: &Path) -> Result<String> {
    let bytes = files::read(path, MOST_BYTES)?;
    let is_wide = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{FEFF}').unwrap_or(&text).to_owned()),
        Err(_) => {
            let is = match is_wide {
                true => "is UTF-16 text: save it as UTF-8",
                false => "is not UTF-8 text",
            };
            Err(fault(path, is))
        }
    }
}

/// The error for the file at `path`.
pub fn fault(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Request, format!("{} {what}", path.display()))
}

/// The tokens in the file at `path`, one a line.
///
/// # Errors
/// `Request` if there is none, or one is too short to be secret; `Io` if the file cannot be read.
#[cfg(all(unix, feature = "serve"))]
pub fn tokens(path: &Path) -> Result<Vec<String>> {
    let text = text(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<_> = lines.map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(fault(path, "has no token: it holds one a line"));
    }
    let is_token =
        |token: &String| token.len() >= LEAST_TOKEN && token.chars().all(|c| c.is_ascii_graphic());
    match tokens.iter().position(|token| !is_token(token)) {
        None => Ok(tokens),
        Some(at) => {
            let number = at + 1;
            let what = format!(
                "has a token, number {number}, that is no token: at least {LEAST_TOKEN} printable ASCII characters"
            );
            Err(fault(path, what))
        }
    }
}

/// The colours that `--palette` gives: of a data set, or of a file.
///
/// # Errors
/// `Request` if the data set has no colours, or the file no palette; `Io` if it cannot be read.
pub fn palette(given: &Path) -> Result<Vec<Colour>> {
    if let Some(preset) = given.to_str().and_then(Preset::of_name) {
        return preset.palette().ok_or_else(|| {
            let name = preset.name();
            let text = format!("--palette {name}: the data set has no palette of its own");
            Error::new(ErrorKind::Request, text)
        });
    }
    let text = text(given)?;
    let parsed = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(&text).map_err(|reason| {
            format!("is no palette: JSON is a list of [red, green, blue], 0 to 255: {reason}")
        }),
        false => lines(&text),
    };
    let colours: Vec<Colour> = parsed.map_err(|what| fault(given, what))?;
    if colours.is_empty() || colours.len() > 256 {
        let what = format!(
            "is no palette: it has {} colours, not 1 to 256",
            colours.len()
        );
        return Err(fault(given, what));
    }
    Ok(colours)
}

/// The palette of `model`'s masks: the colours of `--palette` if they are given, else the model's.
///
/// # Errors
/// `Request` if there are fewer colours than classes.
pub fn palette_for(model: &Model, colours: Option<Vec<Colour>>) -> Result<Palette> {
    match colours {
        None => Ok(model.palette().clone()),
        Some(colours) if colours.len() < model.class_count() => {
            let text = format!(
                "--palette has {} colours, the model {} classes",
                colours.len(),
                model.class_count()
            );
            Err(Error::new(ErrorKind::Request, text))
        }
        Some(colours) => Ok(Palette::new(colours)),
    }
}

/// A colour a line, in the order of the ids, with anything after it: `128 64 128 road`, `#804080 road`. The lines
/// before the colours of a GIMP palette are passed over.
fn lines(text: &str) -> Result<Vec<Colour>, String> {
    let is_gimp = text.starts_with("GIMP Palette");
    let mut colours = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        let is_head =
            is_gimp && (at == 0 || line.starts_with("Name:") || line.starts_with("Columns:"));
        let is_comment = line.starts_with('#') && hexadecimal(first_word(line)).is_none();
        if line.is_empty() || is_head || is_comment {
            continue;
        }
        let Some(colour) = colour(line) else {
            let number = at + 1;
            return Err(format!(
                "is no palette: line {number} begins with no colour, such as `128 64 128` or `#804080`"
            ));
        };
        colours.push(colour);
    }
    Ok(colours)
}

fn first_word(line: &str) -> &str {
    line.split([' ', '\t', '=']).next().unwrap_or_default()
}

/// The colour that `line` begins with: three numbers from 0 to 255, or `#` and six hexadecimal digits.
pub fn colour(line: &str) -> Option<Colour> {
    if line.starts_with('#') {
        return hexadecimal(first_word(line));
    }
    let words = line.split([' ', '\t', ',', ';']);
    let mut numbers = words.filter(|word| !word.is_empty()).map(str::parse);
    match [numbers.next()?, numbers.next()?, numbers.next()?] {
        [Ok(red), Ok(green), Ok(blue)] => Some([red, green, blue]),
        _ => None,
    }
}

fn hexadecimal(text: &str) -> Option<Colour> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Some([byte(0)?, byte(2)?, byte(4)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palettes_in_their_usual_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("palette.txt");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            palette(&path)
        };
        let expected = [[128, 64, 128], [0, 0, 7]];
        for text in [
            "128 64 128\tRoad\n\n0 0 7 car\n",
            "\u{FEFF}# colours\n#804080 road\n#000007\n",
            "128,64,128\r\n0, 0, 7\r\n",
            "GIMP Palette\nName: mine\nColumns: 2\n#\n128  64 128 road\n  0   0   7 car\n",
            "[[128, 64, 128], [0, 0, 7]]",
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text:?}");
        }
        for (text, part) in [
            ("road\n", "line 1"),
            ("1 2 3\n256 0 0\n", "line 2"),
            ("", "0 colours"),
            ("[[1, 2]]", "JSON"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("palette.txt"),
                "{error}"
            );
        }
        assert_eq!(palette(Path::new("voc")).unwrap()[1], [128, 0, 0]);
        let error = palette(Path::new("ade20k")).unwrap_err().to_string();
        assert!(error.contains("no palette"), "{error}");
    }

    #[test]
    fn text_of_windows_is_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "\u{FEFF}sky\r\n").unwrap();
        assert_eq!(text(&path).unwrap(), "sky\r\n");
        std::fs::write(&path, b"\xFF\xFEs\0").unwrap();
        assert!(text(&path).unwrap_err().to_string().contains("UTF-16"));
    }
}
