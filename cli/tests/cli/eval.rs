//! `fullconv eval`.

use super::program::*;
use fullconv::{BoundaryIou, ConfusionMatrix, Mask, Palette, Size, read_labels};
use image::{ImageFormat, Rgb};
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
    assert_eq!(json["mean_dice"].as_f64(), matrix.mean_dice());
    let mut boundary = BoundaryIou::new(5).unwrap();
    boundary.add(size, &changed, &predicted).unwrap();
    boundary.add(size, &other, &other).unwrap();
    assert_eq!(json["mean_boundary_iou"].as_f64(), boundary.mean_iou());
    assert!((number(&json["counted_share"]) - 6094.0 / 6144.0).abs() < 1e-12);
    let table = fullconv_with(line, &paths).expect(0).stdout;
    assert!(table.contains(&format!(
        "mean IoU                {:.4}",
        matrix.mean_iou().unwrap()
    )));
}

/// A folder with a picture in `images`, whose labels `labels` hold what the network predicts.
struct Labelled {
    folder: tempfile::TempDir,
    size: Size,
    predicted: Vec<u8>,
}

impl Labelled {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        fs::write(images.join("a.jpg"), jpeg(1)).unwrap();
        let out = folder.path().join("out");
        let model = golden("fcn8s-same");
        let line = "segment {} -m {} -o {} --backend cpu";
        fullconv_with(line, &[&images, &model, &out]).expect(0);
        let (size, predicted) = read_labels(out.join("a.mask.png")).unwrap();
        Self {
            folder,
            size,
            predicted,
        }
    }

    /// Evaluates with the only label file `name`, and `options`.
    fn eval_with(&self, name: &str, bytes: &[u8], options: &str, model: &Path) -> Done {
        let [images, labels] = ["images", "labels"].map(|name| self.folder.path().join(name));
        let _ = fs::remove_dir_all(&labels);
        fs::create_dir(&labels).unwrap();
        fs::write(labels.join(name), bytes).unwrap();
        let line =
            format!("eval --images {{}} --labels {{}} -m {{}} --backend cpu --json{options}");
        fullconv_with(&line, &[&images, &labels, model])
    }

    fn eval(&self, name: &str, bytes: &[u8], options: &str) -> Done {
        self.eval_with(name, bytes, options, &golden("fcn8s-same"))
    }

    /// Labels made of the predicted class of each pixel, in the format of `image`.
    fn image<P>(&self, format: ImageFormat, pixel: impl Fn(u8) -> P) -> Vec<u8>
    where
        P: image::Pixel + image::PixelWithColorType,
        [P::Subpixel]: image::EncodableLayout,
    {
        let (width, height) = (self.size.width as u32, self.size.height as u32);
        let image = image::ImageBuffer::from_fn(width, height, |x, y| {
            pixel(self.predicted[(y * width + x) as usize])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn grey(&self, value: impl Fn(u8) -> u8) -> Vec<u8> {
        self.image(ImageFormat::Png, |class| image::Luma([value(class)]))
    }

    fn share(&self, classes: impl Fn(u8) -> bool) -> f64 {
        let there = self.predicted.iter().filter(|class| classes(**class));
        there.count() as f64 / self.predicted.len() as f64
    }
}

/// Labels in every form, of what the network predicts: each counts every pixel and finds no fault.
#[test]
fn every_form_of_labels_is_read() {
    let case = Labelled::new();
    let voc = Palette::voc(5);
    let map = case.folder.path().join("map.txt");
    fs::write(
        &map,
        "\u{FEFF}# mine\n0 = void\n1=0\n2 = 1\n3 = 2\n4-4 = 3\n5: 4\n",
    )
    .unwrap();
    let palette = case.folder.path().join("palette.txt");
    fs::write(&palette, "0 0 1 a\n0 0 2\n#000003\n0 0 4\n0 0 5\n").unwrap();
    // With a map, a palette's positions are the labels that the map names.
    let shifted = case.folder.path().join("shifted.txt");
    fs::write(&shifted, "9 9 9\n0 0 1\n0 0 2\n0 0 3\n0 0 4\n0 0 5\n").unwrap();
    let [map, palette, shifted] = [&map, &palette, &shifted].map(|path| path.display());
    let npy = {
        let header = format!(
            "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, {}), }}\n",
            case.size.height, case.size.width
        );
        let length = (header.len() as u16).to_le_bytes();
        [
            b"\x93NUMPY\x01\0",
            &length[..],
            header.as_bytes(),
            &case.predicted,
        ]
        .concat()
    };
    let grey = case.grey(|class| class);
    let (png, tiff, bmp) = (ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp);
    for (name, bytes, options) in [
        ("a.png", grey.clone(), String::new()),
        ("a_L.png", grey.clone(), String::new()),
        ("a.mask.png", grey.clone(), String::new()),
        (
            "seg_a_x.png",
            grey.clone(),
            " --pattern seg_{stem}_x.png".into(),
        ),
        (
            "a.png",
            case.image(png, |c| image::Luma([u16::from(c)])),
            String::new(),
        ),
        (
            "a.png",
            case.image(png, |c| image::LumaA([c, 0])),
            String::new(),
        ),
        ("a.png", case.image(png, |c| Rgb([c; 3])), String::new()),
        (
            "a.png",
            case.image(png, |c| Rgb(voc.colour(c))),
            String::new(),
        ),
        (
            "a.png",
            case.image(png, |c| {
                let [r, g, b] = voc.colour(c);
                image::Rgba([r, g, b, 0])
            }),
            String::new(),
        ),
        (
            "a.png",
            case.image(png, |c| Rgb([0, 0, c + 1])),
            format!(" --palette {palette}"),
        ),
        (
            "a.tif",
            case.image(tiff, |c| image::Luma([c])),
            String::new(),
        ),
        (
            "a.bmp",
            case.image(bmp, |c| image::Luma([c])),
            String::new(),
        ),
        ("a.npy", npy, String::new()),
        ("a.png", case.grey(|c| c + 1), " --label-map ade20k".into()),
        ("a.png", case.grey(|c| c + 1), format!(" --label-map {map}")),
        (
            "a.png",
            case.image(png, |c| Rgb([0, 0, c + 1])),
            format!(" --label-map {map} --palette {shifted}"),
        ),
    ] {
        let done = case.eval(name, &bytes, &options).expect(0);
        let json = done.json();
        assert_eq!(json["mean_iou"], 1.0, "{name}{options}: {json}");
        assert_eq!(json["mean_boundary_iou"], 1.0, "{name}{options}");
        assert_eq!(json["mean_dice"], 1.0, "{name}{options}");
        assert_eq!(json["counted_share"], 1.0, "{name}{options}");
        let said = done
            .stderr
            .lines()
            .filter(|line| !line.contains("class 0 never occurs"));
        assert_eq!(said.count(), 0, "{name}{options}: {}", done.stderr);
    }
}

#[test]
fn what_does_not_count_is_said() {
    let case = Labelled::new();
    let most = {
        let share = |class: &u8| (case.share(|c| c == *class) * 1e6) as u64;
        (0..5u8).max_by_key(share).unwrap()
    };
    let share = case.share(|class| class == most);
    let changed = |to: u8| case.grey(move |class| if class == most { to } else { class });
    let shown = format!("{:.1} %", 100.0 * share);
    let close = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 1e-9, "{value} {expected}");
    };
    // An id that is no class: a warning, unless --ignore names it. 255 is void for everybody.
    let done = case.eval("a.png", &changed(77), "").expect(0);
    for part in ["77", &shown, "--ignore"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    close(&done.json()["counted_share"], 1.0 - share);
    assert_eq!(done.json()["left_out"][0]["label"], "77");
    assert_eq!(done.json()["left_out"][0]["void"], false);
    for (to, options) in [(77, " --ignore 3 --ignore 77"), (255, "")] {
        let done = case.eval("a.png", &changed(to), options).expect(0);
        assert!(!done.stderr.contains("no class"), "{}", done.stderr);
        assert_eq!(done.json()["left_out"][0]["void"], true);
    }
    // The class after the last, as where ids begin at 1.
    let done = case
        .eval("a.png", &case.grey(|class| class + 1), "")
        .expect(0);
    assert!(
        done.stderr.contains("--label-map ade20k"),
        "{}",
        done.stderr
    );
    // A mask of two classes.
    let binary = case.grey(|class| if class == most { 255 } else { 0 });
    let done = case.eval("a.png", &binary, "").expect(0);
    for part in ["0 and 255", &shown, "--label-map"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    // Nothing counts: an error, with the reason.
    let done = case.eval("a.png", &case.grey(|_| 200), "").expect(1);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    for part in ["no pixel", "5 classes", "200 (100.0 %)"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    let unknown = case.image(ImageFormat::Png, |_| Rgb([1u8, 2, 3]));
    let done = case.eval("a.png", &unknown, "").expect(1);
    for part in ["#010203", "--palette"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    // A data set of other classes.
    for preset in ["voc", "cityscapes", "camvid"] {
        let done = case.eval("a.png", &changed(255), &format!(" --label-map {preset}"));
        assert!(done.expect(1).stderr.contains("the model 5"));
    }
}

/// A binary network takes 255 for its class; where 1 occurs, 255 is void.
#[test]
fn masks_of_0_and_255_are_those_of_a_binary_network() {
    let case = Labelled::new();
    let model = case.folder.path().join("one.safetensors");
    one_class(&model);
    let count = |json: &Value| json["classes"][1]["pixels"].as_u64().unwrap();
    let share = case.share(|class| class == 1);
    let pixels = (share * case.predicted.len() as f64).round() as u64;
    assert!(pixels > 0);
    for value in [255, 1] {
        let bytes = case.grey(|class| if class == 1 { value } else { 0 });
        let done = case.eval_with("a.png", &bytes, "", &model).expect(0);
        assert_eq!(count(&done.json()), pixels);
        assert_eq!(done.json()["counted_share"], 1.0);
        assert_eq!(done.stderr, "");
    }
    let bytes = case.grey(|class| [0, 1, 255, 0, 0][usize::from(class)]);
    let json = case.eval_with("a.png", &bytes, "", &model).expect(0).json();
    assert_eq!(count(&json), pixels);
    let bytes = case.grey(|class| if class == 1 { 255 } else { 0 });
    let done = case
        .eval_with("a.png", &bytes, " --ignore 255", &model)
        .expect(0);
    assert_eq!(count(&done.json()), 0);
}

/// A network of one output channel, the mean of the input's.
fn one_class(path: &Path) {
    let metadata = r#"{"version": 1, "graph": {"output": "score", "nodes": [
        {"name": "score", "op": "conv2d", "inputs": ["input", "w"]}]}}"#;
    let values = [1.0f32; 3];
    let bytes = bytemuck::cast_slice(&values);
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 3, 1, 1], bytes);
    let entries = std::collections::HashMap::from([("fullconv".to_owned(), metadata.to_owned())]);
    let file = safetensors::serialize([("w", view.unwrap())], Some(entries)).unwrap();
    fs::write(path, file).unwrap();
}

/// The palette of an indexed file contradicts its indices.
#[test]
fn indices_whose_colours_are_other_classes_are_warned_of() {
    let case = Labelled::new();
    let turned: Vec<_> = Palette::voc(5).colours().iter().rev().copied().collect();
    let mask = Mask::new(
        case.size,
        case.predicted.clone(),
        [].into(),
        Palette::new(turned),
    );
    let bytes = mask.unwrap().to_png().unwrap();
    let done = case.eval("a.png", &bytes, "").expect(0);
    assert!(done.stderr.contains("--palette"), "{}", done.stderr);
    assert_eq!(done.json()["mean_iou"], 1.0);
    let palette = case.folder.path().join("p.txt");
    fs::write(&palette, "0 0 128\n128 128 0\n0 128 0\n128 0 0\n0 0 0\n").unwrap();
    let options = format!(" --palette {}", palette.display());
    let done = case.eval("a.png", &bytes, &options).expect(0);
    assert_eq!(done.json()["mean_iou"], 1.0);
    assert_eq!(done.stderr, "");
}

/// In a quarter turn of the picture, labels have to be as the picture is shown.
#[test]
fn labels_that_lie_on_their_side_are_refused() {
    let case = Labelled::new();
    let sideways = image::GrayImage::new(case.size.height as u32, case.size.width as u32);
    let mut bytes = std::io::Cursor::new(Vec::new());
    sideways.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let done = case.eval("a.png", bytes.get_ref(), "").expect(1);
    for part in ["64x48", "48x64", "upright"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
}
