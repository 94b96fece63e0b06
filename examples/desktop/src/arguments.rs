//! The command line.

use eframe::egui::ThemePreference;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub const USAGE: &str = "\
Usage: fullconv-desktop [OPTIONS] [PICTURE|FOLDER]...

  -m, --model FILE    a model file; without it, the demo model
  --opacity NUMBER    opacity of the overlay, 0 to 1 [0.5]
  --hide CLASS        do not tint this class, given by name; may be given several times
  --actual-size       show one window pixel for each pixel of the picture
  --theme THEME       light or dark; without it, the system's theme
  --size WxH          size of the window [1180x720]
  --screenshot FILE   save a screenshot of the window when the picture is segmented, and exit
  -h, --help          this text
";

pub struct Arguments {
    pub paths: Vec<PathBuf>,
    pub model: Option<PathBuf>,
    pub opacity: f32,
    pub hidden: Vec<String>,
    pub actual_size: bool,
    pub theme: ThemePreference,
    pub size: [f32; 2],
    pub screenshot: Option<PathBuf>,
    /// The program's result.
    pub outcome: Outcome,
}

/// The result of a program that takes a screenshot.
pub type Outcome = Arc<Mutex<Result<(), String>>>;

impl Arguments {
    /// Parses `words`; `None` if they ask for help.
    ///
    /// # Errors
    /// The error names the wrong argument.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut words = words;
        let mut read = Self {
            paths: Vec::new(),
            model: None,
            opacity: 0.5,
            hidden: Vec::new(),
            actual_size: false,
            theme: ThemePreference::System,
            size: [1180.0, 720.0],
            screenshot: None,
            outcome: Arc::new(Mutex::new(Ok(()))),
        };
        while let Some(word) = words.next() {
            let name = word.to_string_lossy().into_owned();
            let mut value = || words.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "-h" | "--help" => return Ok(None),
                "-m" | "--model" => read.model = Some(value()?.into()),
                "--opacity" => read.opacity = opacity(&text(value()?))?,
                "--hide" => read.hidden.push(text(value()?)),
                "--actual-size" => read.actual_size = true,
                "--theme" => read.theme = theme(&text(value()?))?,
                "--size" => read.size = size(&text(value()?))?,
                "--screenshot" => read.screenshot = Some(value()?.into()),
                _ if name.starts_with('-') => return Err(format!("there is no option {name}")),
                _ => read.paths.push(word.into()),
            }
        }
        if read.screenshot.is_some() && read.paths.is_empty() {
            return Err("--screenshot needs a picture to show".into());
        }
        Ok(Some(read))
    }
}

fn text(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}

fn opacity(word: &str) -> Result<f32, String> {
    let number = word.parse().ok().filter(|n| (0.0..=1.0).contains(n));
    number.ok_or(format!("--opacity is a number from 0 to 1, not {word}"))
}

fn theme(word: &str) -> Result<ThemePreference, String> {
    match word {
        "light" => Ok(ThemePreference::Light),
        "dark" => Ok(ThemePreference::Dark),
        _ => Err(format!("--theme is light or dark, not {word}")),
    }
}

fn size(word: &str) -> Result<[f32; 2], String> {
    let sides = word.split_once('x').and_then(|(width, height)| {
        let side = |side: &str| side.parse::<u16>().ok().filter(|&side| side > 0);
        Some([side(width)?, side(height)?])
    });
    let sides = sides.ok_or(format!("--size is WIDTHxHEIGHT, not {word}"))?;
    Ok(sides.map(f32::from))
}
