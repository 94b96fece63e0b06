//! Pictures of other formats, folders of all kinds of files, and networks of other than three input channels.

use super::program::*;
use fullconv::{Size, read_labels};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    cli.join("../tests/pictures").join(name)
}

/// A network of one convolution over `channels` input channels.
fn model(path: &Path, channels: usize) {
    let weight: Vec<f32> = (0..3 * channels)
        .map(|i| ((i * 7) % 5) as f32 - 2.0)
        .collect();
    let metadata = format!(
        r#"{{"version": 1, "graph": {{"channels": {channels}, "output": "score", "nodes": [
            {{"name": "score", "op": "conv2d", "inputs": ["input", "weight"]}}]}}}}"#
    );
    let view = TensorView::new(
        Dtype::F32,
        vec![3, channels, 1, 1],
        bytemuck::cast_slice(&weight),
    );
    let metadata = HashMap::from([("fullconv".to_owned(), metadata)]);
    fs::write(
        path,
        serialize([("weight", view.unwrap())], Some(metadata)).unwrap(),
    )
    .unwrap();
}

#[test]
fn twelve_channels_come_from_a_tiff_or_an_array_and_through_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [network, out] = ["m.safetensors", "out"].map(path);
    model(&network, 12);
    let [tiff, array] = ["bands.tif", "bands.npy"].map(fixture);
    fullconv_with("segment {} -m {} -o {}", &[&tiff, &network, &out]).expect(0);
    let of_tiff = read_labels(out.join("bands.mask.png")).unwrap();
    assert_eq!(of_tiff.0, Size::new(13, 14));
    assert!(of_tiff.1.iter().any(|label| *label != of_tiff.1[0]));
    fullconv_with("segment {} -m {} -o {}", &[&array, &network, &out]).expect(0);
    assert_eq!(read_labels(out.join("bands.mask.png")).unwrap(), of_tiff);
    let done = fullconv_with("segment {} -m {}", &[&fixture("rgb.bmp"), &network]).expect(1);
    assert!(
        done.stderr
            .contains("the picture has 3 bands; the network takes 12 (bands)"),
        "{}",
        done.stderr
    );

    let [x, y] = ["x.safetensors", "y.safetensors"].map(path);
    write_tensors(&x, &[("input", &[1, 12, 4, 5], &[0.25; 240])]);
    fullconv_with("run --input {} --output {} -m {}", &[&x, &y, &network]).expect(0);
    let shown = fullconv_with("inspect {} --default-limits", &[&network]).expect(0);
    for part in [
        "12 channels",
        "12 bands, 0 to 1, mean 0, std 1",
        "(assumed: the file",
    ] {
        assert!(shown.stdout.contains(part), "{}", shown.stdout);
    }
    if has_adapter() {
        fullconv_with("compare -m {}", &[&network]).expect(0);
        fullconv_with("compare -m {} --input {}", &[&network, &tiff]).expect(0);
        fullconv_with("profile -m {} --size 20x30 --runs 1", &[&network]).expect(0);
    }
    write_tensors(&x, &[("input", &[1, 3, 4, 5], &[0.25; 60])]);
    let done = fullconv_with("run --input {} --output {} -m {}", &[&x, &y, &network]).expect(1);
    assert!(
        done.stderr.contains("takes [n, 12, h, w]"),
        "{}",
        done.stderr
    );
}

#[test]
fn every_file_of_a_folder_is_done_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [network, pictures, out] = ["m.safetensors", "in", "out"].map(path);
    model(&network, 3);
    fs::create_dir_all(pictures.join("more")).unwrap();
    for (from, to) in [
        ("rgb.jpg", "a.jfif"),
        ("progressive.jpg", "b"),
        ("lossless.webp", "c.webp"),
        ("rgb.tif", "d.tif"),
        ("rgb.bmp", "e.bmp"),
        ("plain.gif", "f.gif"),
        ("rgb.ppm", "g.ppm"),
        ("alpha.png", "h.png"),
        ("rgb.jpg", "more/i.jpe"),
    ] {
        fs::copy(fixture(from), pictures.join(to)).unwrap();
    }
    fs::write(
        pictures.join("x.heic"),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    )
    .unwrap();
    fs::write(pictures.join("notes.txt"), "BMW").unwrap();
    let jpeg = fs::read(fixture("rgb.jpg")).unwrap();
    fs::write(pictures.join("k.jpg"), &jpeg[..jpeg.len() - 2]).unwrap();
    fs::write(pictures.join("l.jpg"), &jpeg[..jpeg.len() - 200]).unwrap();
    let done = fullconv_with("segment {} -m {} -o {}", &[&pictures, &network, &out]).expect(1);
    let masks = names(&out);
    assert_eq!(
        masks
            .iter()
            .filter(|name| name.ends_with(".mask.png"))
            .count(),
        9
    );
    for part in [
        "left out: ",
        "1 .txt",
        "1 HEIC (convert it to JPEG",
        "1 folders (--recursive)",
    ] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    for part in [
        "k.jpg: the file lacks its end; every pixel is there",
        "l.jpg is cut short",
        "1 of 10 pictures have transparent pixels",
        "1 of 10 pictures failed",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let line = "segment {} -m {} -o {} --recursive --background #80ff00";
    let done = fullconv_with(line, &[&pictures, &network, &path("all")]).expect(1);
    assert!(!done.stderr.contains("transparent"), "{}", done.stderr);
    assert!(path("all").join("i.mask.png").is_file());
    let done = fullconv_with("segment {} -m {} --background pink", &[&pictures, &network]);
    assert!(
        done.expect(2)
            .stderr
            .contains("a colour is white, black, or #RRGGBB")
    );
}

#[test]
fn eval_goes_into_folders_and_says_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [network, images, labels, out] = ["m.safetensors", "images", "labels", "out"].map(path);
    model(&network, 3);
    for of in [&images, &labels] {
        fs::create_dir_all(of.join("town")).unwrap();
    }
    fs::copy(fixture("rgb.jpg"), images.join("a.jpg")).unwrap();
    fs::copy(fixture("alpha.png"), images.join("town/b.png")).unwrap();
    fs::write(images.join("town/notes.txt"), "BMW").unwrap();
    fs::write(labels.join("town/b.json"), "{}").unwrap();
    let background = "--recursive --background #80ff00";
    let line = format!("segment {{}} -m {{}} -o {{}} --only mask {background}");
    fullconv_with(&line, &[&images, &network, &out]).expect(0);
    fs::rename(out.join("a.mask.png"), labels.join("a.png")).unwrap();
    fs::rename(out.join("b.mask.png"), labels.join("town/b.png")).unwrap();

    let eval = |options: &str| {
        let line = format!("eval --images {{}} --labels {{}} -m {{}}{options}");
        fullconv_with(&line, &[&images, &labels, &network]).expect(0)
    };
    let done = eval(&format!(" {background} --json"));
    assert_eq!(done.stderr, "");
    let json = done.json();
    assert_eq!(
        (&json["images"], &json["pixel_accuracy"]),
        (&2.into(), &1.0.into())
    );
    assert_eq!(
        json["files_left_out"],
        serde_json::json!({".json": 1, ".txt": 1})
    );
    let done = eval(" --recursive");
    let line = "left out: 1 .json, 1 .txt\n";
    assert!(done.stdout.contains(line), "{}", done.stdout);
    let line = "1 of 2 pictures have transparent pixels, whose colours count as if opaque";
    assert!(done.stderr.contains(line), "{}", done.stderr);
    let done = eval("");
    let line = "left out: 2 folders (--recursive)\n";
    assert!(done.stdout.contains(line), "{}", done.stdout);
    assert_eq!(done.stderr, "");
}
