//! The window's contents and its keys.

use crate::arguments::Arguments;
use crate::files::Files;
use crate::legend::Legend;
use crate::screenshot::Screenshot;
use crate::view::{Scene, View};
use crate::worker::{Event, Worker};
use eframe::egui::{self, Align, Key, Layout, Panel, Rect, RichText, ThemePreference, Ui, Vec2};
use eframe::emath::GuiRounding;
use std::path::PathBuf;
use std::time::Duration;

const OPACITY: std::ops::RangeInclusive<f32> = 0.0..=1.0;

pub struct App {
    view: View,
    worker: Worker,
    files: Files,
    /// The text in the path field.
    typed: String,
    shown: Option<Shown>,
    /// The classes, once the model is loaded.
    legend: Option<Legend>,
    device: String,
    hidden: Vec<String>,
    opacity: f32,
    tints: bool,
    actual_size: bool,
    error: Option<String>,
    /// An error that prevents all segmentation.
    broken: Option<String>,
    screenshot: Option<Screenshot>,
}

/// The picture in the window.
struct Shown {
    path: PathBuf,
    scene: Scene,
    opening: Duration,
    submitting: Option<Duration>,
    running: Option<Duration>,
    shares: Option<Vec<(u8, f64)>>,
}

impl Shown {
    /// Shows the picture's size and the time of each step.
    fn times(&self, ui: &mut Ui) {
        let line = |ui: &mut Ui, name: &str, value: Option<String>| {
            ui.horizontal(|ui| {
                ui.label(name);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    ui.monospace(value.unwrap_or("…".into()));
                });
            });
        };
        let ms = |time: Duration| format!("{:.0} ms", 1e3 * time.as_secs_f64());
        let frame = &self.scene.frame;
        let size = format!("{}×{}", frame.height(), frame.width());
        line(ui, "Picture, height × width", Some(size));
        line(ui, "Decoded and uploaded", Some(ms(self.opening)));
        line(ui, "Planned and submitted", self.submitting.map(ms));
        line(ui, "On the device", self.running.map(ms));
    }
}

impl App {
    pub fn new(
        context: &eframe::CreationContext<'_>,
        arguments: Arguments,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let state = (context.wgpu_render_state.as_ref()).ok_or("egui draws without wgpu")?;
        let (device, queue) = (state.device.clone(), state.queue.clone());
        context.egui_ctx.set_theme(arguments.theme);
        let (path, outcome) = (arguments.screenshot, arguments.outcome);
        let mut app = Self {
            view: View::new(state),
            worker: Worker::start(context.egui_ctx.clone(), device, queue, arguments.model)?,
            files: Files::default(),
            typed: String::new(),
            shown: None,
            legend: None,
            device: String::new(),
            hidden: arguments.hidden,
            opacity: arguments.opacity,
            tints: true,
            actual_size: arguments.actual_size,
            error: None,
            broken: None,
            screenshot: path.map(|path| Screenshot::new(path, outcome)),
        };
        if !arguments.paths.is_empty() {
            app.open(&arguments.paths);
        }
        Ok(app)
    }

    fn open(&mut self, paths: &[PathBuf]) {
        match Files::of(paths) {
            Ok(files) => {
                self.files = files;
                self.show_current();
            }
            Err(reason) => self.error = Some(reason),
        }
    }

    fn show_current(&mut self) {
        self.error = None;
        if let Some(path) = self.files.current() {
            self.typed = path.display().to_string();
            self.worker.open(path.to_owned());
        }
    }

    fn go(&mut self, steps: isize) {
        if self.files.go(steps) {
            self.show_current();
        }
    }

    fn error(&self) -> Option<&str> {
        self.broken.as_deref().or(self.error.as_deref())
    }

    /// Whether the current picture is not yet opened or labelled.
    fn is_busy(&self) -> bool {
        let is_done = |shown: &Shown| {
            Some(shown.path.as_path()) == self.files.current() && shown.shares.is_some()
        };
        let is_asked_for = self.files.current().is_some() && self.error().is_none();
        is_asked_for && !self.shown.as_ref().is_some_and(is_done)
    }

    fn take(&mut self, event: Event) {
        match (event, &mut self.shown) {
            (Event::Ready { model, device }, _) => {
                self.device = device;
                match Legend::of(&model, &self.hidden) {
                    Ok(legend) => self.legend = Some(legend),
                    Err(reason) => self.broken = Some(reason),
                }
            }
            (Event::Opened { path, frame, time }, _) => {
                self.shown = Some(Shown {
                    path,
                    scene: self.view.scene(frame, None),
                    opening: time,
                    submitting: None,
                    running: None,
                    shares: None,
                });
            }
            (Event::Submitted { labels, time }, Some(shown)) => {
                let frame = shown.scene.frame.clone();
                shown.scene = self.view.scene(frame, Some(&labels));
                shown.submitting = Some(time);
            }
            (Event::Done { shares, time }, Some(shown)) => {
                shown.running = Some(time);
                shown.shares = Some(shares);
            }
            (Event::Failed { path, reason }, _) => self.fail(path, reason),
            _ => {}
        }
    }

    fn fail(&mut self, path: Option<PathBuf>, reason: String) {
        if path.is_none() {
            self.broken = Some(reason);
        } else if path.as_deref() == self.files.current() {
            // A picture that was opened stays, without labels.
            let is_shown = |shown: &mut Shown| Some(&shown.path) == path.as_ref();
            self.shown = self.shown.take_if(is_shown);
            self.error = Some(reason);
        }
    }

    fn keys(&mut self, ui: &Ui) {
        let dropped = ui.input(|input| {
            let files = input.raw.dropped_files.iter();
            files.map(|file| file.path().to_owned()).collect::<Vec<_>>()
        });
        if !dropped.is_empty() {
            self.open(&dropped);
        }
        if ui.input_mut(|input| input.consume_key(egui::Modifiers::COMMAND, Key::O)) {
            ui.memory_mut(|memory| memory.request_focus(path_field()));
        }
        // What has the focus has the keys.
        if ui.memory(|memory| memory.focused().is_some()) {
            return;
        }
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        if pressed(Key::ArrowRight) || pressed(Key::PageDown) {
            self.go(1);
        }
        if pressed(Key::ArrowLeft) || pressed(Key::PageUp) {
            self.go(-1);
        }
        self.tints ^= pressed(Key::T);
        self.actual_size ^= pressed(Key::F);
    }

    fn bar(&mut self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            let (at, count) = self.files.position();
            for (label, steps, key) in [("Previous", -1, "Left"), ("Next", 1, "Right")] {
                let button = ui.add_enabled(self.files.has(steps), egui::Button::new(label));
                if button.on_hover_text(format!("Key: {key}")).clicked() {
                    self.go(steps);
                }
            }
            if count > 1 {
                ui.label(format!("{at} / {count}"));
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                theme(ui);
                ui.toggle_value(&mut self.actual_size, "1:1")
                    .on_hover_text("One pixel of the window for each pixel of the picture. Key: F");
                let opens = ui.button("Open").on_hover_text("Key: Ctrl+O");
                let field = egui::TextEdit::singleline(&mut self.typed)
                    .id(path_field())
                    .hint_text("A picture or a folder")
                    .desired_width(f32::INFINITY);
                let field = ui.add(field);
                let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
                if (opens.clicked() || entered) && !self.typed.trim().is_empty() {
                    self.open(&[self.typed.trim().into()]);
                }
            });
        });
    }

    fn side(&mut self, ui: &mut Ui) {
        ui.add_space(4.0);
        ui.horizontal(|ui| {
            ui.strong("Overlay");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.checkbox(&mut self.tints, "Shown")
                    .on_hover_text("Key: T");
            });
        });
        ui.add_space(4.0);
        ui.spacing_mut().slider_width = ui.available_width() - 56.0;
        let percent = |value: f64, _| format!("{:.0} %", 100.0 * value);
        let parse =
            |text: &str| Some(text.trim_end_matches('%').trim().parse::<f64>().ok()? / 100.0);
        let slider = egui::Slider::new(&mut self.opacity, OPACITY)
            .custom_formatter(percent)
            .custom_parser(parse);
        ui.add_enabled(self.tints, slider).on_hover_text("Opacity");
        ui.separator();
        let (legend, shown) = (&mut self.legend, self.shown.as_ref());
        egui::ScrollArea::vertical().show(ui, |ui| {
            if let Some(legend) = legend {
                legend.show(ui, shown.and_then(|shown| shown.shares.as_deref()));
                ui.separator();
            }
            if let Some(shown) = shown {
                shown.times(ui);
            }
            ui.add_space(4.0);
            ui.label(RichText::new(&self.device).weak());
        });
    }

    /// Shows the picture, or a hint to drop one. Returns the picture's rectangle.
    fn centre(&self, ui: &mut Ui) -> Option<Rect> {
        let (Some(shown), opacity) = (&self.shown, if self.tints { self.opacity } else { 0.0 })
        else {
            let hint = if self.is_busy() {
                ""
            } else {
                "Drop a picture or a folder here"
            };
            ui.centered_and_justified(|ui| ui.label(RichText::new(hint).size(20.0).weak()));
            return None;
        };
        let frame = &shown.scene.frame;
        let scale = ui.pixels_per_point();
        let texels = Vec2::new(frame.width() as f32, frame.height() as f32);
        let room = ui.available_size();
        let size = match self.actual_size {
            true => texels / scale,
            false => texels * (room / texels).min_elem(),
        };
        let look = match &self.legend {
            Some(legend) => legend.look(opacity),
            None => return None,
        };
        let painted = egui::ScrollArea::both().show(ui, |ui| {
            let (all, _) = ui.allocate_exact_size(size.max(room), egui::Sense::hover());
            let size = size.round_to_pixels(scale);
            let whole =
                Rect::from_min_size((all.center() - 0.5 * size).round_to_pixels(scale), size);
            self.view.paint(ui.painter(), &shown.scene, whole, &look);
            whole
        });
        Some(painted.inner)
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        for event in self.worker.events().collect::<Vec<_>>() {
            self.take(event);
        }
        self.keys(ui);
        Panel::top("bar").show(ui, |ui| {
            ui.add_space(2.0);
            self.bar(ui);
            ui.add_space(2.0);
        });
        if let Some(error) = self.error() {
            Panel::top("error").show(ui, |ui| {
                ui.add_space(2.0);
                ui.colored_label(ui.visuals().error_fg_color, error);
                ui.add_space(2.0);
            });
        }
        Panel::right("side")
            .exact_size(240.0)
            .show(ui, |ui| self.side(ui));
        let centre = egui::CentralPanel::default().show(ui, |ui| {
            let whole = self.centre(ui);
            if ui.input(|input| !input.raw.hovered_files.is_empty()) {
                let stroke = ui.visuals().selection.stroke;
                let rect = ui.max_rect();
                ui.painter()
                    .rect_stroke(rect, 6.0, stroke, egui::StrokeKind::Outside);
            }
            if self.is_busy() {
                ui.put(
                    Rect::from_min_size(ui.max_rect().min, Vec2::splat(24.0)),
                    egui::Spinner::new(),
                );
            }
            whole
        });
        let error = self.error().map(str::to_owned);
        let is_busy = self.is_busy();
        if let Some(screenshot) = &mut self.screenshot {
            match (error, centre.inner) {
                (Some(error), _) => screenshot.end(ui.ctx(), Err(error)),
                (None, Some(picture)) if !is_busy => screenshot.frame(ui.ctx(), picture),
                _ => {}
            }
        }
    }
}

/// A box to choose the light theme, the dark one or the system's.
fn theme(ui: &mut Ui) {
    let mut chosen = ui.options(|options| options.theme_preference);
    egui::ComboBox::from_id_salt("theme")
        .selected_text(format!("{chosen:?}"))
        .width(64.0)
        .show_ui(ui, |ui| {
            for theme in [
                ThemePreference::System,
                ThemePreference::Light,
                ThemePreference::Dark,
            ] {
                ui.selectable_value(&mut chosen, theme, format!("{theme:?}"));
            }
        });
    ui.ctx().set_theme(chosen);
}

fn path_field() -> egui::Id {
    egui::Id::unique("path")
}
