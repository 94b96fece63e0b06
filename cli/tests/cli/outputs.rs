//! Where `fullconv segment` writes, and what.

use super::program::*;
use fullconv::{Palette, read_labels};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A folder with pictures of these names.
fn pictures(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (seed, name) in names.iter().enumerate() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with(".png") {
            pixels(seed as u32 + 1).save(path).unwrap();
        } else {
            fs::write(path, jpeg(seed as u32 + 1)).unwrap();
        }
    }
    (folder, golden("fcn8s-same"))
}

/// The bytes on standard output of the program with a picture on standard input.
fn piped(picture: &[u8], arguments: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let model = golden("fcn8s-same");
    let mut child = command()
        .args(["segment", "-", "--backend", "cpu", "-m"])
        .arg(model)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that stops early closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(picture);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), output.stdout, stderr)
}

#[test]
fn a_picture_on_standard_input_becomes_a_mask_on_standard_output() {
    let (folder, model) = pictures(&["a.jpg"]);
    let line = "segment {} -m {} --backend cpu";
    fullconv_with(line, &[&folder.path().join("a.jpg"), &model]).expect(0);
    let expected = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (status, stdout, stderr) = piped(&jpeg(1), &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout == expected("a.mask.png"));
    let (_, stdout, _) = piped(&jpeg(1), &["--only", "overlay"]);
    assert!(stdout == expected("a.overlay.png"));
    // To a folder, under a name of its own.
    let out = folder.path().join("out");
    let (status, ..) = piped(&jpeg(1), &["-o", out.to_str().unwrap()]);
    assert_eq!(status, Some(0));
    assert_eq!(names(&out), ["stdin.mask.png", "stdin.overlay.png"]);
    assert!(fs::read(out.join("stdin.mask.png")).unwrap() == expected("a.mask.png"));
    for (picture, part) in [(&b""[..], "empty"), (b"text", "JPEG")] {
        let (status, stdout, stderr) = piped(picture, &[]);
        assert_eq!((status, stdout.len()), (Some(1), 0));
        assert!(
            stderr.contains("standard input") && stderr.contains(part),
            "{stderr}"
        );
    }
    for arguments in [&["--json"][..], &["--heatmap", "0"], &["x.jpg"]] {
        let (status, stdout, _) = piped(&jpeg(1), arguments);
        assert_eq!((status, stdout.len()), (Some(2), 0), "{arguments:?}");
    }
}

#[test]
fn results_of_pictures_with_one_name_are_distinct() {
    let (folder, model) = pictures(&["a.jpg", "a.png", "b.jpg", "p/a.jpg", "q/a.jpg"]);
    let (path, out) = (
        |name: &str| folder.path().join(name),
        folder.path().join("out"),
    );
    let line = "segment {} -m {} --backend cpu --only mask";
    // A second run does not take the results for pictures, and gives the same names.
    for _ in 0..2 {
        fullconv_with(line, &[folder.path(), &model]).expect(0);
        let masks: Vec<_> = names(folder.path())
            .into_iter()
            .filter(|n| n.contains(".mask."))
            .collect();
        assert_eq!(masks, ["a.jpg.mask.png", "a.png.mask.png", "b.mask.png"]);
    }
    let line = "segment {} {} {} {} -m {} -o {} --backend cpu --only mask";
    let inputs = [path("b.jpg"), path("p"), path("q"), path("a.png")];
    let mut paths: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    paths.extend([model.as_path(), &out]);
    fullconv_with(line, &paths).expect(0);
    assert_eq!(
        names(&out),
        [
            "a.png.mask.png",
            "b.mask.png",
            "p_a.jpg.mask.png",
            "q_a.jpg.mask.png"
        ]
    );
    // Each mask is its picture's.
    let line = "segment {} -m {} -o {} --backend cpu";
    for (picture, mask) in [("q/a.jpg", "q_a.jpg.mask.png"), ("a.png", "a.png.mask.png")] {
        let alone = folder.path().join("alone.png");
        fullconv_with(line, &[&path(picture), &model, &alone]).expect(0);
        assert!(
            fs::read(alone).unwrap() == fs::read(out.join(mask)).unwrap(),
            "{mask}"
        );
    }
    // A result does not take the name of a picture that is given.
    pixels(9).save(path("b.mask.png")).unwrap();
    let before = fs::read(path("b.mask.png")).unwrap();
    let line = "segment {} {} -m {} --backend cpu --only mask";
    fullconv_with(line, &[&path("b.jpg"), &path("b.mask.png"), &model]).expect(0);
    assert!(fs::read(path("b.mask.png")).unwrap() == before);
    assert!(path("b.jpg.mask.png").exists() && path("b.mask.mask.png").exists());
}

#[test]
fn the_name_of_a_png_is_the_file_to_write() {
    let (folder, model) = pictures(&["a.jpg", "b.jpg"]);
    let path = |name: &str| folder.path().join(name);
    let line = "segment {} -m {} -o {} --backend cpu";
    fullconv_with(line, &[&path("a.jpg"), &model, &path("new/x.PNG")]).expect(0);
    assert_eq!(names(&path("new")), ["x.PNG"]);
    let (size, _) = read_labels(path("new/x.PNG")).unwrap();
    assert_eq!(size, fullconv::Size::new(48, 64));
    let line = format!("{line} --only overlay --heatmap 1 --json");
    let done = fullconv_with(&line, &[&path("a.jpg"), &model, &path("y.png")]).expect(0);
    assert_eq!(done.json()["images"][0]["mask"], serde_json::Value::Null);
    assert_eq!(
        names(folder.path()),
        ["a.jpg", "b.jpg", "new", "y.heatmap.png", "y.png"]
    );
    for (input, output, part) in [
        (".", "z.png", "one picture"),
        ("a.jpg", "z.jpg", "PNG"),
        ("y.png", "y.png", "overwrite"),
    ] {
        let paths = [path(input), model.clone(), path(output)];
        let [input, model, output] = &paths;
        let line = "segment {} -m {} -o {} --backend cpu";
        let done = fullconv_with(line, &[input, model, output]).expect(1);
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
}

#[test]
fn resume_leaves_out_what_is_done() {
    let (folder, model) = pictures(&["a.jpg", "b.jpg", "c.jpg"]);
    let out = folder.path().join("out");
    let line = "segment {} -m {} -o {} --backend cpu --resume --json";
    let paths: [&Path; 3] = [folder.path(), &model, &out];
    let run = |line: &str, done: usize, skipped: usize| {
        let json = fullconv_with(line, &paths).expect(0).json();
        let count = |key: &str| json[key].as_array().unwrap().len();
        assert_eq!(
            (count("images"), count("skipped")),
            (done, skipped),
            "{json}"
        );
    };
    run(line, 3, 0);
    run(line, 0, 3);
    // A missing result, one that is cut short, and one that is older than its picture are made again.
    fs::remove_file(out.join("a.overlay.png")).unwrap();
    run(line, 1, 2);
    let whole = fs::read(out.join("b.mask.png")).unwrap();
    fs::write(out.join("b.mask.png"), &whole[..whole.len() - 1]).unwrap();
    run(line, 1, 2);
    assert!(fs::read(out.join("b.mask.png")).unwrap() == whole);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let picture = fs::File::options()
        .write(true)
        .open(folder.path().join("c.jpg"))
        .unwrap();
    picture.set_modified(later).unwrap();
    run(line, 1, 2);
    run(&format!("{line} --only mask --heatmap 1"), 3, 0);
}

#[test]
fn masks_and_overlays_have_the_colours_of_the_palette() {
    let (folder, model) = pictures(&["a.jpg"]);
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("p.txt"),
        "\u{FEFF}1 2 3 a\n#040506\n7,8,9\n10 11 12\n13 14 15\n",
    )
    .unwrap();
    let line = "segment {} -m {} --backend cpu --opacity 1 --palette {}";
    let colour = |id: u8| [0, 1, 2].map(|channel| 3 * id + channel + 1);
    fullconv_with(line, &[&path("a.jpg"), &model, &path("p.txt")]).expect(0);
    let (_, labels) = read_labels(path("a.mask.png")).unwrap();
    for name in ["a.mask.png", "a.overlay.png"] {
        let picture = image::open(path(name)).unwrap().into_rgb8();
        assert!(
            picture
                .pixels()
                .zip(&labels)
                .all(|(pixel, id)| pixel.0 == colour(*id)),
            "{name}"
        );
    }
    fullconv_with(line, &[&path("a.jpg"), &model, Path::new("cityscapes")]).expect(0);
    let picture = image::open(path("a.mask.png")).unwrap().into_rgb8();
    assert_ne!(picture.get_pixel(0, 0).0, Palette::voc(5).colour(labels[0]));
    fs::write(path("p.txt"), "1 2 3\n").unwrap();
    let done = fullconv_with(line, &[&path("a.jpg"), &model, &path("p.txt")]).expect(1);
    assert!(
        done.stderr.contains("1 colours, the model 5"),
        "{}",
        done.stderr
    );
}

/// Completions and pages come from the definitions of the arguments.
#[test]
fn completions_and_manual_pages_name_every_command() {
    let commands = [
        "segment", "run", "compare", "profile", "inspect", "eval", "convert", "devices",
    ];
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = fullconv(&["completions", shell]).expect(0).stdout;
        assert!(commands.iter().all(|name| script.contains(name)), "{shell}");
        assert!(
            script.contains("label-map") && script.contains("overlay"),
            "{shell}"
        );
    }
    let page = fullconv(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH fullconv 1"), "{page}");
    assert!(commands.iter().all(|name| page.contains(name)), "{page}");
    let page = fullconv(&["man", "segment"]).expect(0).stdout;
    for part in ["fullconv\\-segment", "\\-\\-resume", "\\-\\-palette"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let done = fullconv(&["man", "paint"]).expect(1);
    assert!(done.stderr.contains("paint"), "{}", done.stderr);
    fullconv(&["completions", "tcsh"]).expect(2);
}
