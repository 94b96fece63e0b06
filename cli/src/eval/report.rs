//! The figures of `eval`, as JSON and as text.

use super::Counted;
use super::survey::LeftOut;
use crate::folders;
use crate::options::ModelSummary;
use crate::terminal;
use fullconv::{Model, Segmenter};
use serde::Serialize;
use std::time::Duration;

/// What is printed with `--json`: shares from 0 to 1, `null` if there are no pixels to measure.
#[derive(Serialize)]
pub struct Output {
    device: String,
    model: ModelSummary,
    #[serde(flatten)]
    files: Files,
    /// Pixels whose label is a class of the model.
    pixels: u64,
    ignored_pixels: u64,
    /// The share of all pixels that are counted.
    counted_share: f64,
    /// The labels of the pixels that are not counted.
    left_out: Vec<Left>,
    milliseconds: f64,
    pixel_accuracy: Option<f64>,
    mean_accuracy: Option<f64>,
    mean_iou: Option<f64>,
    frequency_weighted_iou: Option<f64>,
    mean_dice: Option<f64>,
    mean_boundary_iou: Option<f64>,
    classes: Vec<Class>,
}

/// The files of both folders.
#[derive(Serialize)]
pub struct Files {
    /// Pictures with labels.
    pub images: usize,
    /// Pictures without labels, and labels without a picture.
    pub unmatched: Vec<String>,
    /// The other files, counted by kind.
    pub files_left_out: folders::LeftOut,
}

#[derive(Serialize)]
struct Left {
    /// An id, or a colour such as `#804080`.
    label: String,
    pixels: u64,
    share: f64,
    /// Left out on purpose: by an option, a label map, or as the usual 255.
    void: bool,
}

#[derive(Serialize)]
struct Class {
    id: usize,
    name: String,
    iou: Option<f64>,
    boundary_iou: Option<f64>,
    dice: Option<f64>,
    accuracy: Option<f64>,
    /// Pixels of the class in the labels.
    pixels: u64,
}

impl Output {
    /// The figures for the pictures of these files, and the labels left out.
    pub fn new(
        segmenter: &Segmenter,
        counted: &Counted,
        files: Files,
        left_out: &[LeftOut],
    ) -> Self {
        let Counted {
            matrix,
            boundary,
            time,
        } = counted;
        let model = segmenter.model();
        let class = |id| Class {
            id,
            name: class_name(model, id),
            iou: matrix.iou(id),
            boundary_iou: boundary.iou(id),
            dice: matrix.dice(id),
            accuracy: matrix.accuracy(id),
            pixels: (0..matrix.classes()).map(|p| matrix.count(id, p)).sum(),
        };
        let pixels = matrix.pixels();
        let ignored_pixels: u64 = left_out.iter().map(|left| left.pixels).sum();
        let all = (pixels + ignored_pixels).max(1) as f64;
        let left = |left: &LeftOut| Left {
            label: left.label.to_string(),
            pixels: left.pixels,
            share: left.pixels as f64 / all,
            void: left.is_void,
        };
        Self {
            device: segmenter.device(),
            model: ModelSummary::from(model),
            files,
            pixels,
            ignored_pixels,
            counted_share: pixels as f64 / all,
            left_out: left_out.iter().map(left).collect(),
            milliseconds: terminal::milliseconds(*time),
            pixel_accuracy: matrix.pixel_accuracy(),
            mean_accuracy: matrix.mean_accuracy(),
            mean_iou: matrix.mean_iou(),
            frequency_weighted_iou: matrix.frequency_weighted_iou(),
            mean_dice: matrix.mean_dice(),
            mean_boundary_iou: boundary.mean_iou(),
            classes: (0..model.class_count()).map(class).collect(),
        }
    }

    /// A table, and the figures over all classes.
    pub fn shown(&self, time: Duration) -> String {
        let share = |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{s:.4}"));
        let row = |class: &Class| {
            vec![
                class.id.to_string(),
                class.name.clone(),
                share(class.iou),
                share(class.boundary_iou),
                share(class.dice),
                share(class.accuracy),
                class.pixels.to_string(),
            ]
        };
        let rows: Vec<_> = self.classes.iter().map(row).collect();
        let heads = [
            "id",
            "class",
            "IoU",
            "boundary IoU",
            "Dice",
            "accuracy",
            "pixels",
        ];
        let table = terminal::table(&heads, &rows);
        let time = terminal::time(time);
        format!(
            "{table}\n\npixel accuracy          {}\nmean accuracy           {}\nmean IoU                {}\n\
             frequency weighted IoU  {}\nmean boundary IoU       {}\nmean Dice               {}\n\
             {} pictures, {} pixels counted, {:.1} % of all, {} not; {time} on the device",
            share(self.pixel_accuracy),
            share(self.mean_accuracy),
            share(self.mean_iou),
            share(self.frequency_weighted_iou),
            share(self.mean_boundary_iou),
            share(self.mean_dice),
            self.files.images,
            self.pixels,
            100.0 * self.counted_share,
            self.ignored_pixels,
        )
    }
}

fn class_name(model: &Model, id: usize) -> String {
    let named = model.classes().get(id).filter(|name| !name.is_empty());
    named.cloned().unwrap_or_else(|| format!("class {id}"))
}
