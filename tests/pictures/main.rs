//! Picture files of every kind against the pixels that Pillow reads from them. `make.py` wrote both.

use fullconv::{Picture, PictureFormat, PictureNote, Segmenter, Size};
use pollster::block_on;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../common/mod.rs"]
mod common;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures")
}

fn recorded() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(folder().join("pixels.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes(hex: &Value) -> Option<Vec<u8>> {
    let digits = hex.as_str()?.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    Some(digits.iter().map(byte).collect())
}

/// The most that a byte of a file called `name` may differ. Decoders of JPEG round the inverse transform differently, by
/// one; where colours have half the size, the enlarged Cb too, which counts 1.772-fold in blue. The JPEGs here are whole
/// blocks: beside an edge inside a block, some decoders use the colours beyond it.
fn most(name: &str) -> u8 {
    match name {
        "grey.jpg" | "cmyk.jpg" => 1,
        name if name.ends_with(".jpg") => 3,
        _ => 0,
    }
}

fn check(name: &str, what: &str, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "{name}: {what}");
    let differences = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let largest = differences.max().unwrap_or(0);
    assert!(largest <= most(name), "{name}: {what} differs by {largest}");
}

/// Grey networks see the picture's luma: this one passes it on.
fn passes_luma() -> Segmenter {
    let weight = fullconv::Tensor::new(fullconv::Shape::new(2, 1, 1, 1), vec![1.0, -1.0]).unwrap();
    let metadata = r#"{"version": 1,
        "graph": {"channels": 1, "output": "score", "nodes": [
            {"name": "score", "op": "conv2d", "inputs": ["input", "weight"]}]},
        "preprocess": {"channels": "grey", "range": 255, "mean": [0], "std": [1]}}"#;
    let file = common::serialize(&[("weight".to_owned(), weight)], Some(metadata));
    Segmenter::on_cpu(&fullconv::Model::from_bytes(file).unwrap())
}

#[test]
fn every_format_has_pillows_pixels() {
    let grey = passes_luma();
    let recorded = recorded();
    assert!(recorded.len() > 30);
    for (name, expected) in &recorded {
        let file = fs::read(folder().join(name)).unwrap();
        let picture = Picture::decode(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let [height, width] = [0, 1].map(|i| expected["size"][i].as_u64().unwrap() as usize);
        assert_eq!(picture.size(), Size::new(height, width), "{name}");
        assert_eq!(Picture::size_of(&file).unwrap(), picture.size(), "{name}");
        check(
            name,
            "rgb",
            picture.rgb(),
            &bytes(&expected["rgb"]).unwrap(),
        );
        assert_eq!(picture.has_alpha(), expected["alpha"] == true, "{name}");
        if let Some(over) = bytes(&expected["over"]) {
            check(
                name,
                "background",
                picture.over([250, 20, 130]).rgb(),
                &over,
            );
            let is_seen = over != bytes(&expected["rgb"]).unwrap();
            assert_eq!(picture.is_transparent(), is_seen, "{name}");
        }
        let luma = block_on(grey.scores(&picture)).unwrap();
        let luma: Vec<u8> = luma.plane(0, 0).iter().map(|l| *l as u8).collect();
        check(name, "luma", &luma, &bytes(&expected["luma"]).unwrap());
    }
}

#[test]
fn formats_are_known_and_notes_say_what_is_left() {
    for (name, note) in [
        ("plain.gif", None),
        ("animated.gif", Some(PictureNote::FirstFrame)),
        ("animated.webp", Some(PictureNote::FirstFrame)),
        ("lossless.webp", None),
        ("rgb.tif", None),
        ("pages.tif", Some(PictureNote::FirstPage(2))),
    ] {
        let file = fs::read(folder().join(name)).unwrap();
        let format = PictureFormat::of(&file).unwrap().to_string().to_lowercase();
        assert!(
            format.starts_with(name.rsplit('.').next().unwrap()),
            "{name}: {format}"
        );
        let notes: Vec<_> = note.into_iter().collect();
        assert_eq!(Picture::decode(&file).unwrap().notes(), notes, "{name}");
    }
}

#[test]
fn a_file_that_lacks_its_end_has_the_same_pixels() {
    for (name, end) in [
        ("rgb.jpg", 2),
        ("progressive.jpg", 2),
        ("alpha.png", 12),
        ("alpha.png", 16),
    ] {
        let file = fs::read(folder().join(name)).unwrap();
        let whole = Picture::decode(&file).unwrap();
        let cut = Picture::decode(&file[..file.len() - end]).unwrap();
        assert_eq!(cut, whole, "{name}");
        assert_eq!(cut.notes(), [PictureNote::EndMissing]);
    }
    // What is cut elsewhere lacks a scan or rows, or only the end of the compressed data.
    for name in [
        "rgb.jpg",
        "progressive.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "alpha.png",
        "palette.png",
    ] {
        let file = fs::read(folder().join(name)).unwrap();
        let whole = Picture::decode(&file).unwrap();
        for length in 0..file.len() {
            if let Ok(cut) = Picture::decode(&file[..length]) {
                let missing = file.len() - length;
                assert_eq!(cut, whole, "{name} without {missing} bytes");
                assert!(missing <= 12 + 4 + 4 + 2, "{name} without {missing} bytes");
                assert_eq!(cut.notes(), [PictureNote::EndMissing]);
            }
        }
    }
}

#[test]
fn bands_are_those_of_the_array() {
    let open = |name: &str| Picture::open(folder().join(name)).unwrap_or_else(|e| panic!("{e}"));
    let twelve = [
        "bands-first.npy",
        "bands.tif",
        "bands-planes.tif",
        "bands-tiles.tif",
    ];
    for (array, files, bands) in [
        ("bands.npy", &twelve[..], 12),
        ("four.npy", &["four.tif"], 4),
        ("floats.npy", &["floats.tif"], 5),
    ] {
        let expected = open(array);
        assert_eq!(
            (expected.size(), expected.bands()),
            (Size::new(13, 14), bands)
        );
        for name in files {
            let picture = open(name);
            assert_eq!(picture, expected, "{name}");
            assert!(!picture.has_alpha() && picture.notes().is_empty(), "{name}");
        }
    }
}

#[test]
fn damaged_files_never_panic_and_cut_ones_have_every_pixel_or_are_refused() {
    let mut wrong = Vec::new();
    let bands = ["bands.tif", "bands-tiles.tif", "four.tif", "floats.npy"].map(String::from);
    for name in recorded().keys().chain(&bands) {
        let file = fs::read(folder().join(name)).unwrap();
        let whole = Picture::decode(&file).unwrap();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0xFF;
            let _ = Picture::decode(&damaged);
            if let Ok(cut) = Picture::decode(&file[..at])
                && (cut != whole || cut.is_transparent() != whole.is_transparent())
            {
                wrong.push(format!("{at} of {} bytes of {name}", file.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
