//! The options of commands that take folders of pictures: which pictures, and what is behind transparent pixels.

use crate::terminal;
use fullconv::{Channels, Model, Picture};

/// Which pictures of a folder are taken, and how.
#[derive(Debug, clap::Args)]
pub struct PictureOptions {
    /// Take the pictures in the folders of a folder too
    #[arg(long)]
    pub recursive: bool,
    /// Put a colour behind transparent pixels: `white`, `black`, or red, green and blue as #RRGGBB [default: their own
    /// colour, as if opaque]
    #[arg(long, value_name = "COLOUR", value_parser = colour)]
    background: Option<[u8; 3]>,
}

impl PictureOptions {
    /// The picture over the background, if one is given.
    pub fn prepared(&self, picture: Picture) -> Picture {
        match self.background {
            Some(colour) => picture.over(colour),
            None => picture,
        }
    }
}

/// Says how many pictures have transparent pixels, unless none has or the network has a channel for alpha.
pub fn report_transparent(transparent: usize, all: usize, model: &Model) {
    if transparent > 0 && !takes_alpha(model) {
        terminal::report(format!(
            "{transparent} of {all} pictures have transparent pixels, whose colours count as if opaque: --background \
             COLOUR puts a colour behind them"
        ));
    }
}

/// Whether the network has a channel for alpha.
fn takes_alpha(model: &Model) -> bool {
    match model.preprocessing().channels {
        Channels::Rgb | Channels::Bgr => false,
        Channels::Grey => model.input_channels() == 2,
        _ => true,
    }
}

fn colour(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let channel = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    match (text, channel(0), channel(1), channel(2)) {
        ("white", ..) => Ok([255; 3]),
        ("black", ..) => Ok([0; 3]),
        (_, Some(red), Some(green), Some(blue)) if digits.len() == 6 => Ok([red, green, blue]),
        _ => Err("a colour is white, black, or #RRGGBB".into()),
    }
}
