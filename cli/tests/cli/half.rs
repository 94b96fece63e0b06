//! `--precision`.

use super::program::*;
use fullconv::{Tensor, TensorFile};
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

/// Whether the default device has f16.
pub fn has_half() -> bool {
    if !has_adapter() {
        return false;
    }
    let done = fullconv(&["inspect", "--precision", "f16"]);
    if done.status != Some(0) {
        assert!(done.stderr.contains("SHADER_F16"), "{}", done.stderr);
        eprintln!("SKIP: {}", done.stderr);
    }
    done.status == Some(0)
}

/// Runs `model` on `x` and returns the scores and labels written to `y`.
fn run(model: &Path, x: &Path, y: &Path, options: &str) -> (Tensor, Vec<u8>) {
    let line = format!("run -m {{}} --input {{}} --output {{}}{options}");
    fullconv_with(&line, &[model, x, y]).expect(0);
    let bytes = fs::read(y).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let labels = file.tensor("labels").unwrap().data().to_vec();
    (
        TensorFile::open(y).unwrap().tensor("output").unwrap(),
        labels,
    )
}

#[test]
fn f16_is_what_is_asked_for_and_auto_is_f32() {
    if !has_half() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [x, y] = ["x", "y"].map(|name| folder.path().join(format!("{name}.safetensors")));
    let values: Vec<f32> = (0..3 * 20 * 31).map(|i| (i as f32).sin()).collect();
    write_tensors(&x, &[("input", &[1, 3, 20, 31], &values)]);
    let model = golden("fcn8s-same");
    let [auto, wide, half] =
        ["", " --precision f32", " --precision f16"].map(|options| run(&model, &x, &y, options));
    assert_eq!(auto, wide);
    assert_ne!(auto.0, half.0);
    // Scores stored in f16 are f16 values.
    let is_half = |x: &f32| half::f16::from_f32(*x).to_f32() == *x;
    assert!(half.0.data().iter().all(is_half) && !wide.0.data().iter().all(is_half));
    // The labels are the argmax of the written scores.
    let (n, c) = (half.1.len(), half.0.shape().c);
    for (i, label) in half.1.iter().enumerate() {
        let score = |class: usize| half.0.data()[class * n + i];
        let best = (0..c).fold(0, |best, class| match score(class) > score(best) {
            true => class,
            false => best,
        });
        assert_eq!(usize::from(*label), best, "pixel {i}");
    }
    let bytes = |options: &str| {
        let line = format!("profile -m {{}} --size 40x56 --runs 1 --json{options}");
        let json = fullconv_with(&line, &[&model]).expect(0).json();
        json["peak_device_bytes"].as_u64().unwrap()
    };
    assert!(bytes(" --precision f16") < bytes("") * 3 / 4);
    let line = "compare -m {} --input {} --precision f16";
    fullconv_with(line, &[&model, &x]).expect(0);
}

/// Writes a copy of a golden model with one tensor multiplied by `factor`.
fn scaled(to: &Path, model: &str, name: &str, factor: f32) {
    let bytes = fs::read(golden(model)).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    let tensor = tensors.iter_mut().find(|t| t.0 == name).unwrap();
    let values: &mut [f32] = bytemuck::cast_slice_mut(&mut tensor.2);
    values.iter_mut().for_each(|value| *value *= factor);
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    fs::write(to, serialize(views, header.metadata().clone()).unwrap()).unwrap();
}

#[test]
fn every_command_names_a_layer_that_f16_does_not_hold() {
    if !has_half() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [model, x, y] = ["m", "x", "y"].map(|n| folder.path().join(format!("{n}.safetensors")));
    scaled(&model, "fcn8s-same", "conv2_1.weight", 4e4);
    write_tensors(&x, &[("input", &[1, 3, 20, 31], &[50.0; 3 * 20 * 31])]);
    let [pictures, labels, masks] = ["pictures", "labels", "masks"].map(|n| folder.path().join(n));
    fs::create_dir(&pictures).unwrap();
    fs::create_dir(&labels).unwrap();
    for seed in [1, 2] {
        fs::write(pictures.join(format!("{seed}.jpg")), jpeg(seed)).unwrap();
        let zeros = image::GrayImage::new(64, 48);
        zeros.save(labels.join(format!("{seed}.png"))).unwrap();
    }
    let commands: [(&str, &[&Path]); 5] = [
        ("run -m {} --input {} --output {}", &[&model, &x, &y]),
        ("compare -m {} --input {}", &[&model, &x]),
        ("segment -m {} {} -o {}", &[&model, &pictures, &masks]),
        (
            "eval -m {} --images {} --labels {}",
            &[&model, &pictures, &labels],
        ),
        ("profile -m {} --size 48x64 --runs 1", &[&model]),
    ];
    for (line, paths) in commands {
        let done = fullconv_with(&format!("{line} --precision f16"), paths).expect(1);
        for part in ["conv2_1+relu2_1", "65504", "use f32"] {
            assert!(
                done.stderr.contains(part),
                "{line}: {part}: {}",
                done.stderr
            );
        }
        fullconv_with(&format!("{line} --precision f32"), paths).expect(0);
    }
    // A weight that f16 does not hold is named.
    scaled(&model, "fcn8s-same", "conv2_1.weight", 1e7);
    let line = "run -m {} --input {} --output {} --precision f16";
    let done = fullconv_with(line, &[&model, &x, &y]).expect(1);
    for part in ["m.safetensors", "conv2_1.weight", "65504"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}
