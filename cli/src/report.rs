//! What `fullconv segment` reports: on the terminal, with `--json`, and in a manifest.

use crate::folders::LeftOut;
use crate::jobs::Job;
use crate::options::ModelSummary;
use crate::{interrupt, terminal};
use fullconv::{Mask, Size};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// What is printed with `--json`.
#[derive(Serialize)]
pub struct Output {
    pub device: String,
    pub model: ModelSummary,
    /// Filled only for `--json`: there may be a million of them.
    pub images: Vec<Image>,
    /// The number of pictures with results.
    #[serde(skip)]
    pub done: usize,
    /// Pictures whose results were there: `--resume`.
    pub skipped: Vec<String>,
    pub failed: Vec<Failed>,
    /// Files of folders, counted by kind.
    pub left_out: LeftOut,
}

/// The results of a picture: an entry of `images`, and a line of a manifest.
#[derive(Serialize)]
pub struct Image {
    pub input: String,
    /// Absent, like the overlay, if it is not wanted, or the network has more classes than a mask has ids.
    pub mask: Option<String>,
    pub overlay: Option<String>,
    /// The files with probabilities, heat map and stages.
    pub further: Vec<String>,
    pub width: usize,
    pub height: usize,
    pub milliseconds: f64,
    pub classes: Vec<Class>,
}

/// A class that occurs in a picture.
#[derive(Serialize)]
pub struct Class {
    pub id: u8,
    pub name: String,
    /// Share of all pixels, 0 to 1.
    pub share: f64,
}

/// A picture without results: an entry of `failed`, and a line of a manifest.
#[derive(Serialize)]
pub struct Failed {
    pub input: String,
    pub error: String,
}

/// The report's entry, without the files that are written.
pub fn image(job: &Job, size: Size, mask: Option<&Mask>, time: Duration) -> Image {
    let shares = mask.map_or(Vec::new(), Mask::shares).into_iter();
    let class = |(id, share)| Class {
        id,
        name: mask.map_or(String::new(), |mask| mask.class_name(id).into_owned()),
        share,
    };
    Image {
        input: job.input.display().to_string(),
        mask: None,
        overlay: None,
        further: Vec::new(),
        width: size.width,
        height: size.height,
        milliseconds: terminal::milliseconds(time),
        classes: shares.map(class).collect(),
    }
}

/// The printed report on a picture: one line if there are many, a list if it is the only one.
pub fn shown(image: &Image, time: Duration, many: bool) -> String {
    let time = terminal::time(time);
    let input = &image.input;
    let classes = image.classes.iter();
    if many {
        let shares = classes.map(|class| format!("{} {}", class.name, percent(class.share)));
        let shares: Vec<_> = shares.collect();
        return format!("{input}: {} ({time})", shares.join(", "));
    }
    let shares = classes.map(|class| format!("{:>9}  {}\n", percent(class.share), class.name));
    let files = image
        .mask
        .iter()
        .chain(&image.overlay)
        .chain(&image.further);
    let files: Vec<_> = files.map(String::as_str).collect();
    format!(
        "{input}: {} (height x width), {time}\n{}{}",
        Size::new(image.height, image.width),
        shares.collect::<String>(),
        files.join("\n")
    )
}

/// `12.3 %`; a class that occurs never shows as `0.0 %`.
fn percent(share: f64) -> String {
    if share < 0.0005 {
        "<0.1 %".into()
    } else {
        format!("{:.1} %", 100.0 * share)
    }
}

/// Reports the failures on stderr and returns the exit status.
pub fn conclude(output: &Output, all: usize) -> ExitCode {
    for failed in &output.failed {
        terminal::report(&failed.error);
    }
    let (done, failed) = (output.done, output.failed.len());
    if all > 1 && failed > 0 {
        terminal::report(format!("{failed} of {all} pictures failed"));
    }
    if interrupt::is_asked() {
        terminal::report(format!("stopped; {done} of {all} pictures are done"));
        interrupt::status()
    } else if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
