//! `--tune`, and the cache on disk.

use super::half::has_half;
use super::program::*;
use fullconv::low_level::plan::{Choice, Choices, tunable};
use fullconv::{Gpu, Model, Shape, Size};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Runs the program with its cache in `folder`.
fn with_cache(folder: &Path, arguments: &[&str]) -> Done {
    let mut command = command();
    command.env("FULLCONV_CACHE", folder).args(arguments);
    // Choices are of a device with one width of vectors.
    command.env("FULLCONV_VECTORS", "256");
    let output = command.output().unwrap();
    Done {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The file of choices in `folder`.
fn choices(folder: &Path) -> PathBuf {
    let found = names(folder);
    let mut found = found.iter().filter(|name| name.starts_with("choices-"));
    let name = found.next().expect("a file of choices");
    assert!(found.next().is_none(), "one device, one file");
    folder.join(name)
}

fn profile(folder: &Path, more: &[&str]) -> Value {
    let model = golden("fcn8s-same");
    let line = ["profile", "--size", "40x56", "--runs", "1", "--json", "-m"];
    let model = model.to_str().unwrap();
    let done = with_cache(folder, &[&line[..], &[model], more].concat()).expect(0);
    assert_eq!(done.stderr, "");
    done.json()
}

/// The kernel of each layer of a profile.
fn kernels(profile: &Value) -> Vec<&Value> {
    profile["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["kernel"])
        .collect()
}

#[test]
fn what_was_tuned_is_kept_and_used_by_the_next_run() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let tuned = profile(&cache, &["--tune"]);
    let layers = tuned["tuned"].as_array().unwrap();
    assert!(!layers.is_empty());
    for layer in layers {
        let candidates = layer["candidates"].as_array().unwrap();
        assert!(candidates.iter().all(|c| c["trouble"].is_null()), "{layer}");
        assert!(
            candidates.iter().any(|c| c["kernel"] == layer["kernel"]),
            "{layer}"
        );
    }
    let file: Value = serde_json::from_slice(&fs::read(choices(&cache)).unwrap()).unwrap();
    assert_eq!(file["choices"].as_object().unwrap().len(), layers.len());
    assert_eq!(file["device"]["version"], env!("CARGO_PKG_VERSION"));

    let again = profile(&cache, &[]);
    assert_eq!(kernels(&again), kernels(&tuned));
    assert!(again["tuned"].is_null());

    // The file decides: with every layer's last candidate written to it, the next run uses those.
    fs::write(choices(&cache), last_candidates(file).to_string()).unwrap();
    let usual = profile(&cache, &["--no-cache"]);
    assert!(
        kernels(&usual).iter().any(|kernel| *kernel != "conv2d"),
        "{usual}"
    );
    let others = profile(&cache, &[]);
    let steps = others["steps"].as_array().unwrap();
    let convs: Vec<_> = steps
        .iter()
        .filter(|s| s["name"].as_str().unwrap().contains("conv"))
        .collect();
    assert!(
        convs.len() > 5 && convs.iter().all(|step| step["kernel"] == "conv2d"),
        "{others}"
    );
}

/// The file with every layer's last candidate, a kernel that runs on any device.
fn last_candidates(mut file: Value) -> Value {
    let gpu = pollster::block_on(Gpu::new()).unwrap();
    let model = Model::read(golden("fcn8s-same")).unwrap();
    let size = model.network_size(Size::new(40, 56)).unwrap();
    let (graph, input) = (model.graph(), Shape::new(1, 3, size.height, size.width));
    let mut choices = Choices::default();
    for layer in tunable(graph, input, &[graph.output()], gpu.target()).unwrap() {
        let last = layer.candidates.last().unwrap();
        let choice = Choice {
            kernel: last.description(),
            fingerprint: last.fingerprint(),
            microseconds: 1,
        };
        choices.insert(layer.op.as_ref(), &layer.inputs, gpu.target(), choice);
    }
    assert_eq!(file["choices"].as_object().unwrap().len(), choices.len());
    file["choices"] = serde_json::to_value(choices).unwrap();
    file
}

/// f16 and f32 are both tuned; the device's one file holds separate choices for each.
#[test]
fn both_precisions_keep_their_choices() {
    if !has_adapter() || !has_half() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    // On a CPU device each layer may have only one f16 kernel: then there are no choices to keep.
    let count = || {
        if names(cache)
            .iter()
            .all(|name| !name.starts_with("choices-"))
        {
            return [0, 0];
        }
        let file: Value = serde_json::from_slice(&fs::read(choices(cache)).unwrap()).unwrap();
        let choices = file["choices"].as_object().unwrap();
        let half = choices.keys().filter(|key| key.starts_with("f16 "));
        [half.count(), choices.len()]
    };
    let half = profile(cache, &["--tune", "--precision", "f16"]);
    let layers = half["tuned"].as_array().unwrap();
    for layer in layers {
        let candidates = layer["candidates"].as_array().unwrap();
        assert!(candidates.iter().all(|c| c["trouble"].is_null()), "{layer}");
    }
    assert_eq!(count(), [layers.len(); 2]);
    let again = profile(cache, &["--precision", "f16"]);
    assert_eq!(kernels(&again), kernels(&half));
    let wide = profile(cache, &["--tune"]);
    let more = wide["tuned"].as_array().unwrap().len();
    assert_eq!(count(), [layers.len(), layers.len() + more]);
}

#[test]
fn a_cache_that_is_damaged_or_of_another_device_is_ignored_with_a_warning() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let usual = profile(cache, &["--tune"]);
    assert!(!usual["steps"].as_array().unwrap().is_empty());
    let path = choices(cache);
    let whole = fs::read_to_string(&path).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(whole.contains(&version));
    let damaged = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        "[]".to_owned(),
        whole.replace("\"fingerprint\"", "\"print\""),
    ];
    let foreign = [
        whole.replace(&version, "\"version\": \"0.0.1\""),
        whole.replace("\"driver\": \"", "\"driver\": \"another "),
    ];
    let all = damaged
        .iter()
        .map(|t| (t, "damaged"))
        .chain(foreign.iter().map(|t| (t, "another")));
    let picture = folder.path().join("picture.jpg");
    fs::write(&picture, jpeg(5)).unwrap();
    let (model, picture) = (golden("fcn8s-same"), picture.to_str().unwrap());
    let model = model.to_str().unwrap();
    for (text, why) in all {
        fs::write(&path, text).unwrap();
        let done = with_cache(cache, &["compare", "-m", model, "--input", picture]).expect(0);
        let warnings: Vec<_> = done.stderr.lines().collect();
        assert_eq!(warnings.len(), 1, "{}", done.stderr);
        assert!(
            warnings[0].contains("ignoring") && warnings[0].contains(why),
            "{}",
            done.stderr
        );
        assert_eq!(&fs::read_to_string(&path).unwrap(), text);
    }
    // Tuning replaces the bad file.
    let done = with_cache(
        cache,
        &["compare", "-m", model, "--input", picture, "--tune"],
    )
    .expect(0);
    assert!(done.stdout.contains("tuned "), "{}", done.stdout);
    let done = with_cache(cache, &["compare", "-m", model, "--input", picture]).expect(0);
    assert_eq!(done.stderr, "");
}

#[test]
fn damaged_pipelines_are_ignored_with_a_warning() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    profile(folder.path(), &[]);
    let Some(name) = names(folder.path())
        .into_iter()
        .find(|n| n.starts_with("pipelines-"))
    else {
        eprintln!("SKIP: this driver gives no pipelines");
        return;
    };
    let path = folder.path().join(name);
    let whole = fs::read(&path).unwrap();
    // A second run leaves the file unchanged.
    profile(folder.path(), &[]);
    assert_eq!(fs::read(&path).unwrap(), whole);
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..3], &flipped, b""] {
        fs::write(&path, damaged).unwrap();
        let model = golden("fcn8s-same");
        let model = model.to_str().unwrap();
        let line = ["profile", "--size", "40x56", "--runs", "1", "-m", model];
        let done = with_cache(folder.path(), &line).expect(0);
        assert!(
            done.stderr.contains("ignoring") && done.stderr.lines().count() == 1,
            "{}",
            done.stderr
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_warning_and_no_cache_is_none() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let model = golden("fcn8s-same");
    let model = model.to_str().unwrap();
    let line = [
        "profile", "--size", "40x56", "--runs", "1", "--tune", "-m", model,
    ];
    let done = with_cache(&file.join("cache"), &line).expect(0);
    assert!(
        done.stderr.contains("cannot create the folder"),
        "{}",
        done.stderr
    );

    let none = folder.path().join("none");
    with_cache(&none, &[&line[..], &["--no-cache"]].concat()).expect(0);
    assert!(!none.exists());
    let done = with_cache(&none, &["inspect", "--tune"]).expect(2);
    assert!(done.stderr.contains("--tune"), "{}", done.stderr);
    assert!(!none.exists());
}

#[test]
fn every_command_that_runs_a_network_tunes() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (images, labels) = (at("images"), at("labels"));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&labels).unwrap();
    fs::write(images.join("a.jpg"), jpeg(5)).unwrap();
    image::GrayImage::new(64, 48)
        .save(labels.join("a.png"))
        .unwrap();
    write_tensors(
        &at("x.safetensors"),
        &[("input", &[1, 3, 32, 32], &[0.5; 3072])],
    );
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let (images, labels, out) = (shown(&images), shown(&labels), shown(&at("out")));
    let model = shown(&golden("fcn8s-same"));
    let model = model.as_str();
    let (x, y) = (shown(&at("x.safetensors")), shown(&at("y.safetensors")));
    for (i, line) in [
        vec!["segment", &images, "-o", &out],
        vec!["eval", "--images", &images, "--labels", &labels],
        vec!["run", "--input", &x, "--output", &y],
        vec!["compare", "--input", &x],
    ]
    .into_iter()
    .enumerate()
    {
        let cache = at(&format!("cache{i}"));
        let done = with_cache(&cache, &[&line[..], &["--tune", "-m", model]].concat()).expect(0);
        assert!(done.stdout.contains("tuned "), "{line:?}: {}", done.stdout);
        choices(&cache);
    }
}
