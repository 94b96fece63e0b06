//! The legend: each class with its colour, its share of the picture and a box to hide it.

use crate::view::Look;
use eframe::egui::{self, Align, Color32, Layout, Sense, Ui};
use fullconv::Model;

pub struct Legend {
    /// Names and colours, by class id.
    classes: Vec<(String, [u8; 3])>,
    seen: Vec<bool>,
}

impl Legend {
    /// The classes of `model`, all tinted except those named in `hidden`.
    ///
    /// # Errors
    /// A name in `hidden` is not a class.
    pub fn of(model: &Model, hidden: &[String]) -> Result<Self, String> {
        let name = |id: usize| match model.classes().get(id) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("class {id}"),
        };
        // Class ids are bytes.
        let ids = 0..model.class_count().min(256);
        let classes: Vec<_> = ids
            .map(|id| (name(id), model.palette().colour(id as u8)))
            .collect();
        let mut seen = vec![true; classes.len()];
        for wanted in hidden {
            let same = |(name, _): &(String, _)| name.eq_ignore_ascii_case(wanted);
            let Some(id) = classes.iter().position(same) else {
                let names: Vec<_> = classes.iter().map(|(name, _)| name.as_str()).collect();
                let names = names.join(", ");
                return Err(format!("there is no class {wanted}; the model has {names}"));
            };
            seen[id] = false;
        }
        Ok(Self { classes, seen })
    }

    /// The look at this opacity. Hidden classes and pixels without a class are not tinted.
    pub fn look(&self, opacity: f32) -> Look {
        let mut palette = [([0; 3], false); 256];
        for (entry, ((_, colour), &seen)) in
            palette.iter_mut().zip(self.classes.iter().zip(&self.seen))
        {
            *entry = (*colour, seen);
        }
        Look { opacity, palette }
    }

    /// Shows a line a class; `shares` are the classes' shares of the picture, if known.
    pub fn show(&mut self, ui: &mut Ui, shares: Option<&[(u8, f64)]>) {
        ui.horizontal(|ui| {
            ui.strong("Classes");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                for (label, seen) in [("None", false), ("All", true)] {
                    if ui.small_button(label).clicked() {
                        self.seen.fill(seen);
                    }
                }
            });
        });
        ui.add_space(4.0);
        for (id, ((name, colour), seen)) in self.classes.iter().zip(&mut self.seen).enumerate() {
            ui.horizontal(|ui| {
                swatch(ui, *colour, *seen);
                ui.checkbox(seen, name);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let Some(shares) = shares else { return };
                    let share = shares.iter().find(|(found, _)| usize::from(*found) == id);
                    match share {
                        Some((_, share)) => ui.monospace(format!("{:.1} %", 100.0 * share)),
                        None => ui.weak("–"),
                    };
                });
            });
        }
    }
}

fn swatch(ui: &mut Ui, [r, g, b]: [u8; 3], seen: bool) {
    let (rect, _) = ui.allocate_exact_size(egui::vec2(14.0, 14.0), Sense::hover());
    let colour = Color32::from_rgb(r, g, b);
    if seen {
        ui.painter().rect_filled(rect, 3.0, colour);
    }
    let stroke = egui::Stroke::new(1.0, ui.visuals().weak_text_color());
    ui.painter()
        .rect_stroke(rect, 3.0, stroke, egui::StrokeKind::Inside);
}
