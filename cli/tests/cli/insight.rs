//! `fullconv segment --probabilities`, `--heatmap` and `--stages`.

use super::program::*;
use fullconv::{Size, TensorFile, read_labels};
use std::fs;
use std::path::Path;

fn picture(folder: &Path) -> std::path::PathBuf {
    let picture = folder.join("x.jpg");
    fs::write(&picture, jpeg(1)).unwrap();
    picture
}

#[test]
fn probabilities_are_those_that_the_mask_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture(folder.path());
    let line = "segment {} -m {} --probabilities safetensors --heatmap 1";
    fullconv_with(line, &[&picture, &golden("fcn8s-same")]).expect(0);
    let file = TensorFile::open(&folder.path().join("x.probabilities.safetensors")).unwrap();
    let (name, shape) = file.tensors().next().unwrap();
    assert_eq!((name, shape), ("probabilities", &[5, 48, 64][..]));
    let values = file.tensor("probabilities").unwrap();
    let (size, labels) = read_labels(folder.path().join("x.mask.png")).unwrap();
    assert_eq!(size, Size::new(48, 64));
    let count = size.height * size.width;
    let at = |class: usize, i: usize| values.data()[class * count + i];
    for (i, label) in labels.iter().enumerate() {
        let all: Vec<_> = (0..5).map(|class| at(class, i)).collect();
        assert!((all.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(all.iter().all(|p| *p <= all[usize::from(*label)]));
    }
    // The lightest pixel of the heat map is the most probable one.
    let heat = image::open(folder.path().join("x.heatmap.png"))
        .unwrap()
        .to_rgb8();
    let best = (0..count)
        .max_by(|a, b| at(1, *a).total_cmp(&at(1, *b)))
        .unwrap();
    let light = |i: usize| {
        heat.as_raw()[3 * i..][..3]
            .iter()
            .map(|v| u32::from(*v))
            .sum::<u32>()
    };
    assert!((0..count).all(|i| light(i) <= light(best) + 8));

    fullconv_with(
        "segment {} -m {} --probabilities png",
        &[&picture, &golden("fcn8s-same")],
    )
    .expect(0);
    for class in 0..5 {
        let png = image::open(folder.path().join(format!("x.probability.{class}.png"))).unwrap();
        let levels = png.as_luma16().unwrap();
        for (i, level) in levels.as_raw().iter().enumerate() {
            assert!((f32::from(*level) / 65535.0 - at(class, i)).abs() < 1e-4);
        }
    }

    // The next run does not read these results as pictures.
    let again = fullconv_with(
        "segment {} -m {} --json",
        &[folder.path(), &golden("fcn8s-same")],
    );
    assert_eq!(
        again.expect(0).json()["images"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn the_last_of_the_stages_is_the_mask() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture(folder.path());
    let demo = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../assets/demo/demo.safetensors"
    );
    for (model, count) in [
        (golden("fcn8s-caffe"), 3),
        (golden("fcn8s-same"), 3),
        (golden("fcn16s-floor"), 2),
        (demo.into(), 3),
    ] {
        let line = "segment {} -m {} --stages --opacity 1 --json";
        let done = fullconv_with(line, &[&picture, &model]).expect(0).json();
        assert!(
            done["images"][0]["further"][0]
                .as_str()
                .unwrap()
                .ends_with("x.stages.png")
        );
        let stages = image::open(folder.path().join("x.stages.png"))
            .unwrap()
            .to_rgb8();
        assert_eq!(
            stages.dimensions(),
            ((64 + 8) * (count + 1) - 8, 48),
            "{}",
            model.display()
        );
        let overlay = image::open(folder.path().join("x.overlay.png"))
            .unwrap()
            .to_rgb8();
        for (x, y, colour) in overlay.enumerate_pixels() {
            assert_eq!(
                stages.get_pixel((64 + 8) * count + x, y),
                colour,
                "{} at {x}, {y}",
                model.display()
            );
        }
        let first = image::open(&picture).unwrap().to_rgb8();
        assert_eq!(stages.get_pixel(10, 10), first.get_pixel(10, 10));
    }
    let done = fullconv_with(
        "segment {} -m {} --stages",
        &[&picture, &golden("fcn32s-same")],
    );
    assert!(done.expect(1).stderr.contains("no coarser stages"));
}

#[test]
fn a_class_is_called_by_name_or_id() {
    let folder = tempfile::tempdir().unwrap();
    let picture = picture(folder.path());
    fullconv_with("segment {} --heatmap sky", &[&picture]).expect(0);
    let by_name = fs::read(folder.path().join("x.heatmap.png")).unwrap();
    fullconv_with("segment {} --heatmap 0", &[&picture]).expect(0);
    assert_eq!(
        fs::read(folder.path().join("x.heatmap.png")).unwrap(),
        by_name
    );
    let done = fullconv_with("segment {} --heatmap moon", &[&picture]).expect(1);
    assert!(
        done.stderr
            .contains("no class is \"moon\"; there are ids 0 to 10, and names: Sky"),
        "{}",
        done.stderr
    );
}
