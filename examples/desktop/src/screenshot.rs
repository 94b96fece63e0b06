//! `--screenshot`: saves a screenshot of the window, and ends the program.

use crate::arguments::Outcome;
use eframe::egui::{self, ColorImage, Rect};
use fullconv::{Picture, Size};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Frames that egui needs to measure all sizes.
const SETTLED: u32 = 3;

pub struct Screenshot {
    path: PathBuf,
    outcome: Outcome,
    frames: u32,
    taken: Option<Receiver<Arc<ColorImage>>>,
}

impl Screenshot {
    pub fn new(path: PathBuf, outcome: Outcome) -> Self {
        Self {
            path,
            outcome,
            frames: 0,
            taken: None,
        }
    }

    /// Call this in every complete frame; `picture` is the picture's rectangle.
    pub fn frame(&mut self, context: &egui::Context, picture: Rect) {
        self.frames += 1;
        context.request_repaint();
        let Some(taken) = &self.taken else {
            if self.frames >= SETTLED {
                let (sender, receiver) = channel();
                self.taken = Some(receiver);
                context.request_screenshot(move |image| {
                    // The program may have ended.
                    let _ = sender.send(image);
                });
            }
            return;
        };
        let Ok(image) = taken.try_recv() else { return };
        let saved = save(&image, &self.path);
        if saved.is_ok() {
            let [min, size] = [picture.min.to_vec2(), picture.size()];
            let [min, size] = [min, size].map(|at| at * context.pixels_per_point());
            println!("picture {} {} {} {}", min.x, min.y, size.x, size.y);
        }
        self.end(context, saved);
    }

    /// Ends the program.
    pub fn end(&self, context: &egui::Context, outcome: Result<(), String>) {
        if let Ok(mut kept) = self.outcome.lock() {
            *kept = outcome;
        }
        context.send_viewport_cmd(egui::ViewportCommand::Close);
    }
}

fn save(image: &ColorImage, path: &Path) -> Result<(), String> {
    let [width, height] = image.size;
    let rgb = image.pixels.iter().flat_map(|p| [p.r(), p.g(), p.b()]);
    Picture::from_rgb(Size::new(height, width), rgb.collect())
        .and_then(|picture| picture.save(path))
        .map_err(|error| error.to_string())
}
