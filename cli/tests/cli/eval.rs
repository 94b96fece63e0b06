//! `fullconv eval`.

use super::program::*;
use fullconv::{ConfusionMatrix, Mask, Palette, read_labels};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn eval_measures_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let [images, labels] = ["images", "labels"].map(|name| folder.path().join(name));
    fs::create_dir(&images).unwrap();
    fs::write(images.join("a.jpg"), jpeg(1)).unwrap();
    fs::write(images.join("b.jpg"), jpeg(5)).unwrap();
    let model = golden("fcn8s-same");
    fullconv_with(
        "segment {} -m {} -o {} --backend cpu",
        &[&images, &model, &labels],
    )
    .expect(0);
    for name in ["a", "b"] {
        let from = labels.join(format!("{name}.mask.png"));
        fs::rename(from, labels.join(format!("{name}.png"))).unwrap();
    }
    let line = "eval --images {} --labels {} -m {} --backend cpu";
    let paths: [&Path; 3] = [&images, &labels, &model];
    let json = fullconv_with(&format!("{line} --json"), &paths)
        .expect(0)
        .json();
    for key in [
        "pixel_accuracy",
        "mean_accuracy",
        "mean_iou",
        "frequency_weighted_iou",
    ] {
        assert_eq!(json[key], 1.0, "{key}");
    }
    assert_eq!(
        (&json["images"], &json["pixels"]),
        (&2.into(), &(2 * 64 * 48).into())
    );

    // Of 6144 labels, 100 change to a class that is never predicted, 50 to void.
    let (size, mut changed) = read_labels(labels.join("a.png")).unwrap();
    let predicted = changed.clone();
    let (_, other) = read_labels(labels.join("b.png")).unwrap();
    let foreign = (0..5)
        .find(|c| !predicted.contains(c) && !other.contains(c))
        .unwrap();
    changed[..100].fill(foreign);
    changed[100..150].fill(255);
    let classes = Vec::new().into();
    let mask = Mask::new(size, changed.clone(), classes, Palette::voc(5)).unwrap();
    mask.save(labels.join("a.png")).unwrap();
    fs::write(images.join("c.jpg"), jpeg(6)).unwrap();
    let done = fullconv_with(&format!("{line} --json"), &paths).expect(0);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("c.jpg"), "{}", done.stderr);
    let json = done.json();
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(json["ignored_pixels"], 50);
    assert!((number(&json["pixel_accuracy"]) - 5994.0 / 6094.0).abs() < 1e-12);
    let class = &json["classes"][usize::from(foreign)];
    assert_eq!(
        (number(&class["iou"]), number(&class["accuracy"])),
        (0.0, 0.0)
    );
    assert_eq!(class["pixels"], 100);
    let mut matrix = ConfusionMatrix::new(5).unwrap();
    matrix.add(&changed, &predicted).unwrap();
    matrix.add(&other, &other).unwrap();
    assert_eq!(json["mean_iou"].as_f64(), matrix.mean_iou());
    let table = fullconv_with(line, &paths).expect(0).stdout;
    assert!(table.contains(&format!(
        "mean IoU                {:.4}",
        matrix.mean_iou().unwrap()
    )));
}
