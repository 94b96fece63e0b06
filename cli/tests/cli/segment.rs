//! `fullconv segment`.

use super::program::*;
use fullconv::{Palette, Size, read_labels};
use image::ImageFormat;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The same JPEG with an EXIF segment (APP1): orientation 6, a quarter turn clockwise.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, exif, &jpeg[2..]].concat()
}

#[test]
fn segment_writes_mask_and_overlay_beside_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.b.jpg");
    fs::write(&picture, turned(&jpeg(1))).unwrap();
    let model = golden("fcn8s-same");
    let done = fullconv_with("segment {} -m {}", &[&picture, &model]).expect(0);
    assert_eq!(
        names(folder.path()),
        ["a.b.jpg", "a.b.mask.png", "a.b.overlay.png"]
    );
    assert!(
        done.stdout.contains("fcn8s (same), 5 classes, on "),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains(": 64x48 (height x width), "),
        "{}",
        done.stdout
    );
    assert!(done.stderr.is_empty() || !has_adapter(), "{}", done.stderr);

    // The mask is indexed and has the upright picture's size.
    let mask = fs::File::open(folder.path().join("a.b.mask.png")).unwrap();
    let reader = png::Decoder::new(std::io::BufReader::new(mask))
        .read_info()
        .unwrap();
    let info = reader.info();
    assert_eq!((info.width, info.height), (48, 64));
    assert_eq!(info.color_type, png::ColorType::Indexed);
    assert_eq!(info.bit_depth, png::BitDepth::Eight);
    assert_eq!(
        info.palette.as_ref().unwrap()[3..6],
        Palette::voc(2).colour(1)
    );
    let overlay = image::open(folder.path().join("a.b.overlay.png")).unwrap();
    assert_eq!((overlay.width(), overlay.height()), (48, 64));
}

#[test]
fn segment_says_in_json_what_the_masks_hold() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/out");
    let picture = folder.path().join("x.PNG");
    pixels(1)
        .save_with_format(&picture, ImageFormat::Png)
        .unwrap();
    let model = golden("fcn8s-same");
    let line = "segment {} -m {} -o {} --json --opacity 1";
    let json = fullconv_with(line, &[&picture, &model, &out])
        .expect(0)
        .json();
    assert_eq!(json["model"]["architecture"], "fcn8s");
    assert_eq!(json["model"]["geometry"], "same");
    assert_eq!(json["model"]["classes"], 5);
    assert!(json["device"].is_string());
    assert_eq!(json["failed"].as_array().unwrap().len(), 0);
    let image = &json["images"][0];
    assert_eq!(
        (&image["height"], &image["width"]),
        (&48.into(), &64.into())
    );
    assert!(image["milliseconds"].as_f64().unwrap() > 0.0);
    let (size, labels) = read_labels(image["mask"].as_str().unwrap()).unwrap();
    assert_eq!(size, Size::new(48, 64));
    let classes = image["classes"].as_array().unwrap();
    assert!(classes.len() > 1, "{classes:?}");
    for class in classes {
        let id = class["id"].as_u64().unwrap();
        let count = labels.iter().filter(|l| u64::from(**l) == id).count();
        let share = count as f64 / labels.len() as f64;
        assert!((class["share"].as_f64().unwrap() - share).abs() < 1e-9);
        assert_eq!(class["name"], format!("class {id}"));
    }
    // At opacity 1 the overlay shows only the classes' colours.
    let overlay = image::open(image["overlay"].as_str().unwrap())
        .unwrap()
        .into_rgb8();
    for (pixel, label) in overlay.pixels().zip(&labels) {
        assert_eq!(pixel.0, Palette::voc(256).colour(*label));
    }
}

#[test]
fn segment_carries_on_past_a_broken_file_and_leaves_its_own_results_out() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.jpg", jpeg(1)),
        ("b.jpg", b"not a picture".to_vec()),
        ("c.jpeg", jpeg(2)),
        ("notes.txt", b"nor is this".to_vec()),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let model = golden("fcn8s-same");
    let line = "segment {} -m {} --json --backend cpu";
    for _ in 0..2 {
        let done = fullconv_with(line, &[folder.path(), &model]).expect(1);
        let json = done.json();
        assert_eq!(json["device"], "CPU reference");
        assert_eq!(json["images"].as_array().unwrap().len(), 2);
        assert_eq!(json["failed"].as_array().unwrap().len(), 1);
        let error = json["failed"][0]["error"].as_str().unwrap();
        assert!(error.contains("b.jpg"), "{error}");
        let lines: Vec<_> = done.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{}", done.stderr);
        assert_eq!(lines[0], format!("fullconv: {error}"));
        assert_eq!(lines[1], "fullconv: 1 of 3 pictures failed");
        let names = names(folder.path());
        assert_eq!(names.len(), 8, "{names:?}");
    }
}

#[test]
fn an_empty_folder_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let done = fullconv_with("segment {}", &[folder.path()]).expect(1);
    assert!(done.stderr.contains("no picture"), "{}", done.stderr);
    assert_eq!(names(folder.path()), [""; 0]);
}

/// Ctrl-C between pictures: started pictures have whole files, the others have none.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_whole_files() {
    use std::time::{Duration, Instant};
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let count = 30;
    let large = image::imageops::resize(&pixels(1), 320, 240, image::imageops::FilterType::Nearest);
    for i in 0..count {
        large.save(folder.path().join(format!("{i}.png"))).unwrap();
    }
    let mut child = command()
        .args(["segment", "--backend", "cpu", "-o"])
        .args([&out, folder.path(), Path::new("-m"), &golden("fcn8s-caffe")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !out.is_dir() || names(&out).len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let status = child.wait().unwrap();
    let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(130), "{stderr}");
    let names = names(&out);
    let (masks, overlays): (Vec<_>, Vec<_>) = names.iter().partition(|n| n.ends_with(".mask.png"));
    assert!(
        overlays.iter().all(|name| name.ends_with(".overlay.png")),
        "{names:?}"
    );
    assert!(
        masks.len() == overlays.len() && masks.len() < count,
        "{names:?}"
    );
    let said = format!("stopped; {} of {count} pictures are done", masks.len());
    assert!(stderr.contains(&said), "{stderr}");
    for name in masks {
        read_labels(out.join(name)).unwrap();
    }
}
