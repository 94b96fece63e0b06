//! Damaged, wrong and hostile input: each ends in one clear line, status 1, and leaves no file behind.

#[path = "cli/program.rs"]
mod program;

use program::*;
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with a good picture, a good model and a good tensor for it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("good.jpg"), jpeg(1)).unwrap();
        fs::copy(golden("fcn8s-same"), folder.path("good.safetensors")).unwrap();
        let tensor: (&str, &[usize], &[f32]) = ("input", &[1, 3, 4, 5], &[0.5; 60]);
        write_tensors(&folder.path("x.safetensors"), &[tensor]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `bytes` as `name` and returns the path.
    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Runs `line`: it must fail with one line that contains all of `parts`, and leave the folder unchanged.
    #[track_caller]
    fn refuses(&self, line: &str, paths: &[&Path], parts: &[&str]) {
        let before = names(self.0.path());
        let done = fullconv_with(line, paths).expect(1);
        let message = &done.stderr;
        assert!(message.starts_with("fullconv: "), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in parts {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
        assert_eq!(names(self.0.path()), before, "{message}");
    }

    /// Checks that commands refuse a model of `bytes` and name its file.
    #[track_caller]
    fn refuses_model(&self, bytes: &[u8], parts: &[&str]) {
        let model = self.with("bad.safetensors", bytes);
        let parts = [&["bad.safetensors"], parts].concat();
        let picture = self.path("good.jpg");
        self.refuses(
            "segment {} -m {} --backend cpu",
            &[&picture, &model],
            &parts,
        );
        self.refuses("inspect {} --default-limits", &[&model], &parts);
    }
}

/// The metadata and tensors of the good model, for a test to damage.
struct Parts {
    metadata: HashMap<String, String>,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    fn new() -> Self {
        let bytes = fs::read(golden("fcn8s-same")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, TensorView)| {
            (
                name,
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        };
        Self {
            metadata: header.metadata().clone().unwrap(),
            tensors: file.tensors().into_iter().map(tensor).collect(),
        }
    }

    fn with_metadata(text: &str) -> Vec<u8> {
        let mut parts = Self::new();
        parts.metadata.insert("fullconv".into(), text.into());
        parts.bytes()
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Dtype, Vec<usize>, Vec<u8>) {
        self.tensors.iter_mut().find(|t| t.0 == name).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
            )
        });
        serialize(views, Some(self.metadata.clone())).unwrap()
    }
}

/// A file whose header is `header`, with `data` bytes behind it.
fn with_header(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn damaged_model_files() {
    let folder = Folder::new();
    let good = fs::read(folder.path("good.safetensors")).unwrap();
    let whole = "not a whole safetensors file";
    for length in [1, 7, 8, 100, good.len() / 2, good.len() - 1] {
        folder.refuses_model(&good[..length], &[whole]);
    }
    folder.refuses_model(b"", &["is empty"]);
    folder.refuses_model(
        &[&u64::MAX.to_le_bytes()[..], &good[8..]].concat(),
        &[whole],
    );
    folder.refuses_model(&[&good[..], b"and more"].concat(), &[whole]);
    for offsets in [
        "[0,999999]",
        "[4,0]",
        "[-8,8]",
        "[0,18446744073709551615]",
        "[8,12]",
    ] {
        let header =
            format!(r#"{{"conv1_1.bias":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#);
        folder.refuses_model(&with_header(&header, 4), &[whole]);
    }
    let header =
        r#"{"conv1_1.bias":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}"#;
    folder.refuses_model(&with_header(header, 16), &[whole]);
    folder.refuses_model(&with_header("{}", 0), &["holds no tensors"]);
}

#[test]
fn files_of_other_kinds_say_what_to_do() {
    let folder = Folder::new();
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(26, 0);
    zip.extend(b"\x0c\0\0\0net/data.pkl");
    for (bytes, parts) in [
        (
            &zip[..],
            &["PyTorch", "python tools/export.py", "--weights"][..],
        ),
        (
            b"\x08\x07\x12\x07pytorch\x1a\x051.13",
            &["ONNX", "python tools/export.py"],
        ),
        (b"\x93NUMPY\x01\0v\0{}", &["NumPy", "save_file"]),
        (b"\x89HDF\r\n\x1a\n\0\0", &["Keras", "tf2onnx"]),
        (b"GGUF\x03\0\0\0", &["GGUF"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 538000000\n",
            &["Git LFS pointer", "538000000 bytes", "git lfs pull"],
        ),
        (
            b"<!DOCTYPE html><html>Sign in</html>",
            &["web page", "/resolve/"],
        ),
        (&jpeg(1), &["JPEG picture", "-m"]),
        (b"{\"architectures\": []}", &["JSON", "weight_map"]),
    ] {
        folder.refuses_model(bytes, &[parts, &["not a safetensors file but"]].concat());
    }
}

#[test]
fn shards_that_are_not_all_there() {
    let folder = Folder::new();
    let index = |text: &str| folder.with("model.safetensors.index.json", text.as_bytes());
    let line = "inspect {} --default-limits";
    for (text, part) in [
        (
            r#"{"weight_map": {"conv1_1.bias": "none.safetensors"}}"#,
            "shard none.safetensors is missing",
        ),
        (
            r#"{"weight_map": {"conv9.bias": "good.safetensors"}}"#,
            "conv9.bias is not in shard",
        ),
        (
            r#"{"weight_map": {"a": "../good.safetensors"}}"#,
            "beside it",
        ),
        ("{", "damaged"),
    ] {
        folder.refuses(line, &[&index(text)], &["index.json", part]);
    }
    let mut parts = Parts::new();
    parts.tensors.truncate(5);
    let shard = folder.with("net-00001-of-00002.safetensors", &parts.bytes());
    folder.refuses(
        line,
        &[&shard],
        &["shard 00001 of 00002", "net.safetensors.index.json"],
    );
}

/// Names of another library, and of a network that is nearly known.
#[test]
fn names_that_are_nearly_known() {
    let folder = Folder::new();
    let named = |names: &[&str]| {
        let shape: &[usize] = &[2, 1, 1, 1];
        let tensors: Vec<_> = names
            .iter()
            .map(|name| (*name, shape, &[0.5, 0.5][..]))
            .collect();
        write_tensors(&folder.path("bad.safetensors"), &tensors);
        fs::read(folder.path("bad.safetensors")).unwrap()
    };
    let deeplab = [
        "backbone.layer1.0.conv1.weight",
        "classifier.0.convs.0.0.weight",
        "classifier.4.weight",
    ];
    let parts = [
        "torchvision's DeepLabV3",
        "torchvision.models.segmentation:deeplabv3_resnet50",
        "\"num_classes\": 2",
    ];
    folder.refuses_model(&named(&deeplab), &parts);
    let mut parts = Parts::new();
    parts.metadata.clear();
    for (name, ..) in &mut parts.tensors {
        *name = name.replace("score_fr", "score.1");
    }
    let missing = [
        "nearest is FCN-8s",
        "score_fr.bias",
        "--rename score.1.=score_fr.",
    ];
    folder.refuses_model(&parts.bytes(), &missing);
    folder.refuses_model(
        &named(&["a.weight"]),
        &["no known network", "a.weight", "tools/export.py"],
    );
}

#[test]
fn models_that_are_not_what_they_should_be() {
    let folder = Folder::new();
    let mut parts = Parts::new();
    parts.tensors.retain(|t| t.0 != "conv3_2.bias");
    folder.refuses_model(&parts.bytes(), &["tensor conv3_2.bias is missing"]);
    let mut parts = Parts::new();
    parts.tensor("conv3_2.weight").2 = vec![7, 3, 3, 7];
    folder.refuses_model(&parts.bytes(), &["conv3_2"]);
    let mut parts = Parts::new();
    parts.tensor("conv3_2.weight").2 = vec![7 * 7 * 3 * 3];
    folder.refuses_model(&parts.bytes(), &["conv3_2"]);
    let mut parts = Parts::new();
    parts.tensor("conv3_2.bias").1 = Dtype::I32;
    folder.refuses_model(&parts.bytes(), &["conv3_2.bias", "I32"]);
}

#[test]
fn a_weight_that_is_no_number() {
    let folder = Folder::new();
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut parts = Parts::new();
        parts.tensor("fc6.weight").3[40..44].copy_from_slice(&value.to_le_bytes());
        let model = folder.with("bad.safetensors", &parts.bytes());
        let expected = ["bad.safetensors", "fc6.weight", shown, "[0, 0, 1, 3]"];
        let (picture, x) = (folder.path("good.jpg"), folder.path("x.safetensors"));
        for device in ["", " --backend cpu"] {
            if device.is_empty() && !has_adapter() {
                continue;
            }
            let line = format!("segment {{}} -m {{}}{device}");
            folder.refuses(&line, &[&picture, &model], &expected);
            let line = format!("run -m {{}} --input {{}} --output {{}}{device}");
            folder.refuses(&line, &[&model, &x, &folder.path("y")], &expected);
        }
    }
}

#[test]
fn metadata_that_is_wrong() {
    let folder = Folder::new();
    let five = r#""a","b","c","d","e""#;
    for (text, part) in [
        ("{", "metadata"),
        ("[]", "metadata"),
        (r#"{"version": 2}"#, "version 2"),
        (r#"{"version": 1, "architecture": "lenet"}"#, "lenet"),
        (r#"{"version": 1, "geometry": "flat"}"#, "flat"),
        (
            r#"{"version": 1, "geometry": "same", "classes": ["sky"]}"#,
            "names 1 classes",
        ),
        (r#"{"version": 1, "clases": []}"#, "clases"),
        (
            r#"{"version": 1, "preprocess": {"channels": "rgb", "range": 1, "mean": [0, 0, 0], "std": [1, 0, 1]}}"#,
            "std",
        ),
        (
            r#"{"version": 1, "graph": {"output": "b", "nodes": [
                {"name": "a", "op": "grid_sample", "inputs": ["input"]},
                {"name": "b", "op": "conv2d", "inputs": ["a", "fc8.weight"]}]}}"#,
            "graph: 2 faults: a (grid_sample): unknown op \"grid_sample\"",
        ),
        (
            r#"{"version": 1, "graph": {"output": "b", "nodes": [
                {"name": "a", "op": "relu", "inputs": ["b"]}, {"name": "b", "op": "relu", "inputs": ["a"]}]}}"#,
            "part of a cycle",
        ),
        (
            r#"{"version": 1, "architecture": "fcn8s", "graph": {"output": "input", "nodes": []}}"#,
            "not both",
        ),
    ] {
        folder.refuses_model(&Parts::with_metadata(text), &[part]);
    }
    // Correct metadata passes.
    let good = format!(r#"{{"version": 1, "geometry": "same", "classes": [{five}]}}"#);
    let model = folder.with("good.safetensors", &Parts::with_metadata(&good));
    fullconv_with("inspect {} --default-limits", &[&model]).expect(0);
}

#[test]
fn files_that_are_no_pictures() {
    let folder = Folder::new();
    let model = folder.path("good.safetensors");
    let cut = &jpeg(1)[..400];
    for (bytes, part) in [
        (&b"Dear photograph,\n"[..], "is no picture: JPEG"),
        (b"", "is empty"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "HEIC, which is not read: convert it to JPEG",
        ),
        (cut, "cut short"),
    ] {
        // Escape sequences in file names are escaped. Windows forbids them in names.
        let (name, shown) = match cfg!(unix) {
            true => ("bad\u{1b}[31m.jpg", r"bad\u{1b}[31m.jpg"),
            false => ("bad.jpg", "bad.jpg"),
        };
        let picture = folder.with(name, bytes);
        let line = "segment {} -m {} --backend cpu";
        folder.refuses(line, &[&picture, &model], &[shown, part]);
    }
    let missing = folder.path("missing.jpg");
    folder.refuses("segment {} --backend cpu", &[&missing], &["missing.jpg"]);
    if has_adapter() {
        let line = "compare -m {} --input {}";
        folder.refuses(line, &[&model, &missing], &["missing.jpg"]);
    }
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new();
    let (picture, model) = (folder.path("good.jpg"), folder.path("good.safetensors"));
    let line = "segment {} -m {} -o {} --backend cpu";
    let under_a_file = folder.path("good.jpg/out");
    let parts = ["cannot write to folder", "good.jpg"];
    folder.refuses(line, &[&picture, &model, &under_a_file], &parts);
    folder.refuses(line, &[&picture, &model, &picture], &parts);
    fs::create_dir(folder.path("good.mask.png")).unwrap();
    let line = "segment {} -m {} --backend cpu";
    folder.refuses(line, &[&picture, &model], &["good.mask.png", "folder"]);

    let line = "run -m {} --input {} --output {} --backend cpu";
    let x = folder.path("x.safetensors");
    for output in ["good.jpg/y", "good.mask.png", "no/such/y"] {
        let parts = ["cannot write", output.split('/').next().unwrap()];
        folder.refuses(line, &[&model, &x, &folder.path(output)], &parts);
    }
}

/// A read-only folder refuses its owner too, but not root.
#[cfg(unix)]
#[test]
fn a_read_only_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let locked = folder.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("x"), "").is_ok() {
        eprintln!("SKIP: this user may write everywhere");
        return;
    }
    let (picture, model) = (folder.path("good.jpg"), folder.path("good.safetensors"));
    let line = "segment {} -m {} -o {} --backend cpu";
    folder.refuses(
        line,
        &[&picture, &model, &locked],
        &["cannot write to folder", "locked"],
    );
    assert_eq!(names(&locked), [""; 0]);
}

#[test]
fn tensors_that_a_network_cannot_take() {
    let folder = Folder::new();
    let (model, y) = (
        folder.path("good.safetensors"),
        folder.path("y.safetensors"),
    );
    let x = folder.path("bad.safetensors");
    let refuse = |parts: &[&str]| {
        let parts = [&["bad.safetensors"], parts].concat();
        let line = "run -m {} --input {} --output {} --backend cpu";
        folder.refuses(line, &[&model, &x, &y], &parts);
    };
    let values = [0.5; 120];
    for (name, shape, part) in [
        ("data", &[1, 3, 4, 5][..], "\"input\""),
        ("input", &[3, 4, 5], "[3, 4, 5]"),
        ("input", &[1, 1, 3, 4, 5], "[1, 1, 3, 4, 5]"),
        ("input", &[1, 4, 5, 6], "[1, 4, 5, 6]"),
        ("input", &[0, 3, 4, 5], "[0, 3, 4, 5]"),
        ("input", &[1, 3, 0, 5], "[1, 3, 0, 5]"),
    ] {
        let elements = shape.iter().product::<usize>();
        write_tensors(&x, &[(name, shape, &values[..elements])]);
        refuse(&[part]);
    }
    let mut spoilt = values;
    spoilt[7] = f32::NAN;
    write_tensors(&x, &[("input", &[1, 3, 4, 5], &spoilt[..60])]);
    refuse(&["NaN"]);
    let view = TensorView::new(Dtype::I64, vec![1, 3, 1, 1], &[0; 24]).unwrap();
    fs::write(&x, serialize([("input", view)], None).unwrap()).unwrap();
    refuse(&["I64"]);
    fs::write(&x, b"").unwrap();
    refuse(&["is empty"]);
}

#[test]
fn labels_that_do_not_fit() {
    let folder = Folder::new();
    let (images, labels) = (folder.path("images"), folder.path("labels"));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&labels).unwrap();
    fs::write(images.join("a.jpg"), jpeg(1)).unwrap();
    let model = folder.path("good.safetensors");
    let refuse = |parts: &[&str]| {
        let line = "eval --images {} --labels {} -m {} --backend cpu";
        folder.refuses(line, &[&images, &labels, &model], parts);
    };
    refuse(&["no labels", "labels"]);
    fs::write(labels.join("b.png"), "").unwrap();
    refuse(&["images", "labels", "NAME.png"]);
    fs::remove_file(labels.join("b.png")).unwrap();
    let label = labels.join("a.png");
    fs::write(&label, jpeg(1)).unwrap();
    refuse(&["a.png", "JPEG", "PNG"]);
    fs::write(&label, "text").unwrap();
    refuse(&["a.png", "PNG, TIFF, BMP or .npy"]);
    pixels(1).save(&label).unwrap();
    refuse(&["no pixel", "labels", "--palette"]);
    image::GrayImage::new(64, 47).save(&label).unwrap();
    refuse(&["a.png", "47x64", "height x width", "a.jpg", "48x64"]);
    image::GrayImage::from_pixel(64, 48, image::Luma([5]))
        .save(&label)
        .unwrap();
    refuse(&["labels", "5 classes"]);
    fs::write(images.join("a.png"), "").unwrap();
    refuse(&["a.jpg", "a.png", "same name"]);
}
