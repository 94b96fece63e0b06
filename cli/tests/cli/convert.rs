//! `fullconv convert`.

use super::program::*;
use fullconv::{Model, TensorFile};
use std::fs;
use std::path::Path;

/// A file with the tensors of a golden under other names.
fn renamed(golden_name: &str, to: &Path, name: impl Fn(&str) -> String) {
    let file = TensorFile::open(&golden(golden_name)).unwrap();
    let tensors: Vec<_> = file
        .tensors()
        .map(|(old, shape)| (name(old), shape.to_vec(), file.tensor(old).unwrap()))
        .collect();
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, tensor)| (name.as_str(), shape.as_slice(), tensor.data()))
        .collect();
    write_tensors(to, &views);
}

#[test]
fn wrapped_names_lose_their_wrapping_and_what_is_not_used_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let [foreign, out] = ["in.safetensors", "out.safetensors"].map(|n| folder.path().join(n));
    renamed("fcn8s-caffe", &foreign, |name| format!("module.net.{name}"));
    let done = fullconv_with("convert {} {} --json", &[&foreign, &out])
        .expect(0)
        .json();
    assert_eq!(done["model"], "fcn8s (caffe)");
    let original = TensorFile::open(&golden("fcn8s-caffe")).unwrap();
    let converted = TensorFile::open(&out).unwrap();
    for (name, shape) in original.tensors() {
        assert_eq!(
            converted.tensor(name).unwrap(),
            original.tensor(name).unwrap()
        );
        assert!(converted.tensors().any(|(n, s)| n == name && s == shape));
    }
    assert_eq!(names(folder.path()), ["in.safetensors", "out.safetensors"]);
    let readers = |path: &Path| fs::metadata(path).unwrap().permissions();
    assert_eq!(readers(&out), readers(&foreign));

    // Small tensors of something else do not hinder it.
    let file = TensorFile::open(&foreign).unwrap();
    let tensors: Vec<_> = file
        .tensors()
        .map(|(n, s)| (n, s, file.tensor(n).unwrap()))
        .collect();
    let other = file.tensor("module.net.conv1_1.bias").unwrap();
    let mut views: Vec<_> = tensors.iter().map(|(n, s, t)| (*n, *s, t.data())).collect();
    views.push(("optimizer.step", &[4], other.data()));
    let both = folder.path().join("both.safetensors");
    write_tensors(&both, &views);
    let done = fullconv_with("convert {} {} --json", &[&both, &out]);
    assert_eq!(done.expect(0).json()["left_out"][0], "optimizer.step");
}

/// The tensors of a golden below each of `prefixes`, and a tensor of a loss.
fn wrapped(golden_name: &str, prefixes: &[&str], to: &Path) {
    let file = TensorFile::open(&golden(golden_name)).unwrap();
    let tensors: Vec<_> = file
        .tensors()
        .flat_map(|(name, shape)| {
            let tensor = file.tensor(name).unwrap();
            let below = prefixes.iter().map(move |prefix| format!("{prefix}{name}"));
            below.map(move |name| (name, shape.to_vec(), tensor.clone()))
        })
        .collect();
    let mut views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, tensor)| (name.as_str(), shape.as_slice(), tensor.data()))
        .collect();
    views.push(("loss_fn.weight", &[2], &[1.0, 2.0]));
    write_tensors(to, &views);
}

/// A wrapped network is the same one to every command, which says once what it passes over.
#[test]
fn wrapped_names_are_dealt_with_by_segment_as_by_convert() {
    let folder = tempfile::tempdir().unwrap();
    let [picture, model, out] = ["a.jpg", "in.safetensors", "out"].map(|n| folder.path().join(n));
    fs::write(&picture, jpeg(1)).unwrap();
    let line = "segment {} -m {} -o {} --backend cpu";
    fullconv_with(line, &[&picture, &golden("fcn8s-caffe"), &out]).expect(0);
    let expected = fs::read(out.join("a.mask.png")).unwrap();
    for (prefixes, said) in [
        (
            &["model."][..],
            "\"model.\" before tensor names is left out; loss_fn.weight is not used",
        ),
        (&["module._orig_mod."], "\"module._orig_mod.\""),
        (
            &["net.", "ema.net."],
            "\"net.\" before tensor names is left out; ema.net.conv1_1.bias and",
        ),
        (&[""], "loss_fn.weight is not used"),
    ] {
        wrapped("fcn8s-caffe", prefixes, &model);
        let done = fullconv_with(line, &[&picture, &model, &out]).expect(0);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
        assert_eq!(fs::read(out.join("a.mask.png")).unwrap(), expected);
        let converted = folder.path().join("converted.safetensors");
        let json = fullconv_with("convert {} {} --json", &[&model, &converted])
            .expect(0)
            .json();
        assert_eq!(json["model"], "fcn8s (caffe)");
        let done = fullconv_with(line, &[&picture, &converted, &out]).expect(0);
        assert_eq!(done.stderr, "");
        assert_eq!(fs::read(out.join("a.mask.png")).unwrap(), expected);
    }
    // Of two networks that are both the network, none is guessed.
    wrapped("fcn8s-caffe", &["student.", "teacher."], &model);
    for command in ["inspect {} --default-limits", "convert {} {}"] {
        let paths = [
            model.as_path(),
            &folder.path().join("converted.safetensors"),
        ];
        let done = fullconv_with(command, &paths).expect(1);
        assert!(
            done.stderr.contains("student., teacher."),
            "{}",
            done.stderr
        );
    }
    let line = "convert {} {} --rename teacher.=";
    fullconv_with(
        line,
        &[&model, &folder.path().join("converted.safetensors")],
    )
    .expect(0);
}

/// Shards with an index are one model.
#[test]
fn sharded_safetensors_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.jpg"), jpeg(1)).unwrap();
    let file = TensorFile::open(&golden("fcn8s-caffe")).unwrap();
    let mut map = serde_json::Map::new();
    for half in 0..2 {
        let name = format!("model-0000{}-of-00002.safetensors", half + 1);
        let tensors: Vec<_> = file.tensors().skip(half).step_by(2).collect();
        let values: Vec<_> = tensors
            .iter()
            .map(|(n, _)| file.tensor(n).unwrap())
            .collect();
        let views = tensors
            .iter()
            .zip(&values)
            .map(|((n, s), t)| (*n, *s, t.data()));
        write_tensors(&path(&name), &views.collect::<Vec<_>>());
        map.extend(
            tensors
                .iter()
                .map(|(n, _)| ((*n).to_owned(), name.clone().into())),
        );
    }
    let index = path("model.safetensors.index.json");
    let text = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(&index, text.to_string()).unwrap();
    let masks = [&index, &golden("fcn8s-caffe")].map(|model| {
        let line = "segment {} -m {} -o {} --backend cpu";
        fullconv_with(line, &[&path("a.jpg"), model, &path("out")]).expect(0);
        fs::read(path("out/a.mask.png")).unwrap()
    });
    assert_eq!(masks[0], masks[1]);
    fullconv_with("convert {} {}", &[&index, &path("one.safetensors")]).expect(0);
    let one = TensorFile::open(&path("one.safetensors")).unwrap();
    for (name, _) in file.tensors() {
        assert_eq!(
            one.tensor(name).unwrap(),
            file.tensor(name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn half_is_half_the_bytes_and_what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("half.safetensors");
    fullconv_with("convert {} {} --half", &[&golden("fcn32s-caffe"), &out]).expect(0);
    let file = TensorFile::open(&out).unwrap();
    assert_eq!(file.dtype("fc6.weight").as_deref(), Some("F16"));
    // PyTorch's f16 conversion of the same weights; only its last bias differs, fitted to another picture.
    let expected = TensorFile::open(&golden("fcn32s-caffe.f16")).unwrap();
    for (name, _) in expected
        .tensors()
        .filter(|(name, _)| *name != "score_fr.bias")
    {
        assert_eq!(
            file.tensor(name).unwrap(),
            expected.tensor(name).unwrap(),
            "{name}"
        );
    }

    let large = folder.path().join("large.safetensors");
    let file = TensorFile::open(&golden("fcn32s-caffe")).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .map(|(n, s)| (n, s, file.tensor(n).unwrap()))
        .collect();
    let bias = tensors.iter_mut().find(|(n, ..)| *n == "fc7.bias").unwrap();
    bias.2.data_mut()[3] = 70_000.0;
    let views: Vec<_> = tensors.iter().map(|(n, s, t)| (*n, *s, t.data())).collect();
    write_tensors(&large, &views);
    let before = fs::read(&out).unwrap();
    let done = fullconv_with("convert {} {} --half", &[&large, &out]).expect(1);
    assert!(
        done.stderr.contains("fc7.bias has a weight of 70000"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read(&out).unwrap(), before);
    fullconv_with("convert {} {}", &[&large, &out]).expect(0);
}

/// A VGG16 classifier of tiny width.
fn classifier(path: &Path) {
    const CONVS: [usize; 13] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    let mut channels = 3;
    for (n, i) in CONVS.iter().enumerate() {
        let width = 2 + n / 2;
        tensors.push((format!("features.{i}.weight"), vec![width, channels, 3, 3]));
        tensors.push((format!("features.{i}.bias"), vec![width]));
        channels = width;
    }
    for (i, out, inputs) in [(0, 6, 49 * channels), (3, 6, 6), (6, 10, 6)] {
        tensors.push((format!("classifier.{i}.weight"), vec![out, inputs]));
        tensors.push((format!("classifier.{i}.bias"), vec![out]));
    }
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product())
                .map(|i: usize| (i as f32).sin())
                .collect()
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&values)
        .map(|((n, s), v)| (n.as_str(), s.as_slice(), v.as_slice()));
    write_tensors(path, &views.collect::<Vec<_>>());
}

#[test]
fn a_vgg16_classifier_becomes_what_training_begins_with() {
    let folder = tempfile::tempdir().unwrap();
    let [vgg, out] = ["vgg.safetensors", "fcn.safetensors"].map(|n| folder.path().join(n));
    classifier(&vgg);
    assert_eq!(Model::read(&vgg).unwrap().architecture(), "vgg");
    let layers = [
        ("fcn32s", &["score_fr"][..], &[("upscore", 64)][..]),
        (
            "fcn16s",
            &["score_fr", "score_pool4"],
            &[("upscore2", 4), ("upscore16", 32)],
        ),
        (
            "fcn8s",
            &["score_fr", "score_pool4", "score_pool3"],
            &[("upscore2", 4), ("upscore_pool4", 4), ("upscore8", 16)],
        ),
    ];
    for (architecture, scores, upsampling) in layers {
        let line = format!("convert {{}} {{}} --start {architecture} --class-count 5");
        fullconv_with(&line, &[&vgg, &out]).expect(0);
        let model = Model::read(&out).unwrap();
        assert_eq!(
            (model.architecture(), model.class_count()),
            (architecture, 5)
        );
        assert_eq!(model.preprocessing(), &fullconv::Preprocessing::TORCHVISION);
        let (new, old) = (
            TensorFile::open(&out).unwrap(),
            TensorFile::open(&vgg).unwrap(),
        );
        let same = |a: &str, b: &str| {
            assert_eq!(
                new.tensor(a).unwrap().data(),
                old.tensor(b).unwrap().data(),
                "{a}"
            );
        };
        same("conv1_1.weight", "features.0.weight");
        same("conv5_3.bias", "features.28.bias");
        same("fc6.weight", "classifier.0.weight");
        same("fc7.weight", "classifier.3.weight");
        for score in scores {
            let weight = new.tensor(&format!("{score}.weight")).unwrap();
            assert!(weight.data().iter().all(|w| *w == 0.0));
        }
        for (name, side) in upsampling {
            let weight = new.tensor(&format!("{name}.weight")).unwrap();
            assert_eq!(weight.shape(), fullconv::Shape::new(5, 5, *side, *side));
            // Each output is a weighted mean of inputs: the taps of a phase sum to 1.
            let stride = side / 2;
            let taps: f32 = [0, stride]
                .iter()
                .flat_map(|y| [0, stride].map(|x| weight.at(2, 2, *y, x)))
                .sum();
            assert!((taps - 1.0).abs() < 1e-6 && weight.at(2, 1, stride, stride) == 0.0);
        }
    }
    let done = fullconv_with("convert {} {} --start fcn8s --class-count 0", &[&vgg, &out]);
    assert!(done.expect(1).stderr.contains("at least one class"));
    let done = fullconv_with("convert {} {} --start fcn8s", &[&vgg, &out]);
    assert!(done.expect(2).stderr.contains("--class-count"));
}

#[test]
fn torchvisions_names_of_the_trunk_are_known_beside_score_layers() {
    let folder = tempfile::tempdir().unwrap();
    let [vgg, fcn, foreign, out] = ["vgg", "fcn", "foreign", "out"].map(|n| folder.path().join(n));
    classifier(&vgg);
    fullconv_with("convert {} {} --start fcn8s --class-count 4", &[&vgg, &fcn]).expect(0);
    let (old, start) = (
        TensorFile::open(&vgg).unwrap(),
        TensorFile::open(&fcn).unwrap(),
    );
    let is_head = |name: &str| name.contains("score");
    let trunk = old.tensors().filter(|(n, _)| !n.contains("classifier.6"));
    let tensors: Vec<_> = trunk
        .map(|(n, s)| (n, s, old.tensor(n).unwrap()))
        .chain(
            start
                .tensors()
                .filter(|(n, _)| is_head(n))
                .map(|(n, s)| (n, s, start.tensor(n).unwrap())),
        )
        .collect();
    let views: Vec<_> = tensors.iter().map(|(n, s, t)| (*n, *s, t.data())).collect();
    write_tensors(&foreign, &views);
    fullconv_with("convert {} {}", &[&foreign, &out]).expect(0);
    let converted = TensorFile::open(&out).unwrap();
    assert!(converted.tensors().eq(start.tensors()));
    for (name, _) in start.tensors() {
        assert_eq!(converted.tensor(name).unwrap(), start.tensor(name).unwrap());
    }
}

#[test]
fn wrong_calls_end_in_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let missing = folder.path().join("missing.safetensors");
    let text = folder.path().join("text.safetensors");
    fs::write(&text, "not a checkpoint").unwrap();
    for input in [&missing, &text] {
        let done = fullconv_with("convert {} {}", &[input, &out]).expect(1);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(done.stderr.contains("safetensors"), "{}", done.stderr);
    }
    fullconv_with("convert {} {} --rename no-equals-sign", &[&text, &out]).expect(2);
    let folder_as_file = folder.path();
    let done = fullconv_with("convert {} {}", &[&golden("fcn8s-same"), folder_as_file]).expect(1);
    assert!(done.stderr.contains("it is a folder"), "{}", done.stderr);
    assert_eq!(names(folder.path()), ["text.safetensors"]);
}

/// The checkpoint may be the only copy in f32.
#[test]
fn a_checkpoint_is_never_overwritten_by_its_model_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::copy(golden("fcn8s-same"), &path).unwrap();
    let before = fs::read(&path).unwrap();
    let other = folder.path().join(".").join("x.safetensors");
    for line in ["convert {} {} --half", "convert {} {}"] {
        let done = fullconv_with(line, &[&path, &other]).expect(1);
        assert!(
            done.stderr.contains("the file that is read"),
            "{}",
            done.stderr
        );
    }
    assert!(fs::read(&path).unwrap() == before);
    // The new file is checked under a temporary name, which is not shown.
    let [out, names_file] = ["out.safetensors", "n.txt"].map(|name| folder.path().join(name));
    fs::write(&names_file, "sky\nroad\n").unwrap();
    let done = fullconv_with("convert {} {} --classes {}", &[&path, &out, &names_file]).expect(1);
    assert!(done.stderr.contains("names 2 classes"), "{}", done.stderr);
    assert!(done.stderr.contains("out.safetensors"), "{}", done.stderr);
    assert!(!done.stderr.contains(".fullconv-"), "{}", done.stderr);
    assert_eq!(names(folder.path()), ["n.txt", "x.safetensors"]);
}

#[test]
fn class_names_of_windows_are_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let [names, out] = ["names.txt", "out.safetensors"].map(|name| folder.path().join(name));
    fs::write(&names, "\u{FEFF}sky\r\nroad\r\ncar\r\ntree\r\npole\r\n").unwrap();
    fullconv_with(
        "convert {} {} --classes {}",
        &[&golden("fcn8s-same"), &out, &names],
    )
    .expect(0);
    let model = Model::read(&out).unwrap();
    assert_eq!(model.classes()[..2], ["sky", "road"]);
}
