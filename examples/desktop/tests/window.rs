//! Compares screenshots of the window with overlays that the library computes on another device. `test.sh` runs these
//! tests on a virtual display.

use fullconv::{Gpu, Mask, Model, Picture, Segmenter};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const STREET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/street.jpg");

/// A screenshot, and the picture's place in it.
struct Seen {
    screenshot: Picture,
    at: [usize; 2],
    size: [usize; 2],
}

impl Seen {
    /// A screenshot of the window with these options, after segmentation.
    fn of(name: &str, options: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let output = run(&path, &[options, &[STREET]].concat());
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{errors}");
        let place = said.lines().find_map(|line| line.strip_prefix("picture "));
        let numbers = place
            .expect("the program says where the picture is")
            .split(' ');
        let numbers: Vec<f32> = numbers.map(|n| n.parse().unwrap()).collect();
        let [x, y, w, h] = <[f32; 4]>::try_from(numbers).unwrap().map(|n| {
            assert_eq!(n.fract(), 0.0, "the picture lies on pixels");
            n as usize
        });
        Self {
            screenshot: Picture::open(path).unwrap(),
            at: [x, y],
            size: [w, h],
        }
    }

    fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        pixel(&self.screenshot, self.at[0] + x, self.at[1] + y)
    }

    /// The mean difference from the `expected` pixels, in 255ths.
    fn mean_difference(&self, expected: impl Fn(usize, usize) -> [f64; 3]) -> f64 {
        let [w, h] = self.size;
        let mut sum = 0.0;
        for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
            for (got, expected) in self.pixel(x, y).into_iter().zip(expected(x, y)) {
                sum += (f64::from(got) - expected).abs();
            }
        }
        sum / (3 * w * h) as f64
    }

    /// The share of pixels that differ from `expected` by more than rounding, at actual size.
    fn off(&self, expected: &Picture) -> f64 {
        self.off_within(expected, self.size)
    }

    /// [`Self::off`] over the first `w` columns and `h` rows.
    fn off_within(&self, expected: &Picture, [w, h]: [usize; 2]) -> f64 {
        assert_eq!(self.size, [expected.width(), expected.height()]);
        let differs = |x, y| {
            let pairs = self.pixel(x, y).into_iter().zip(pixel(expected, x, y));
            pairs
                .into_iter()
                .any(|(got, expected)| got.abs_diff(expected) > 1)
        };
        let all = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        all.filter(|&(x, y)| differs(x, y)).count() as f64 / (w * h) as f64
    }
}

/// The largest share of labels that may differ: two devices may order nearly equal scores differently.
const OTHER_LABELS: f64 = 1e-3;

fn run(screenshot: &Path, options: &[&str]) -> Output {
    if cfg!(target_os = "linux") && std::env::var_os("DISPLAY").is_none() {
        panic!("there is no display for the window: examples/desktop/test.sh starts one");
    }
    Command::new(env!("CARGO_BIN_EXE_fullconv-desktop"))
        .args(["--theme", "dark", "--screenshot"])
        .arg(screenshot)
        .args(options)
        .output()
        .unwrap()
}

fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
    let at = 3 * (y * picture.width() + x);
    picture.rgb()[at..at + 3].try_into().unwrap()
}

fn street() -> (Picture, Mask) {
    let picture = Picture::open(STREET).unwrap();
    let mask = pollster::block_on(async {
        let gpu = Gpu::new().await?;
        let segmenter = Segmenter::new(&gpu, &Model::from_bytes(fullconv_demo::MODEL)?).await?;
        segmenter.segment(&picture).await
    });
    (picture, mask.unwrap())
}

#[test]
fn the_picture_is_tinted_pixel_for_pixel() {
    let (picture, mask) = street();
    let seen = Seen::of("tinted.png", &["--actual-size"]);
    let off = seen.off(&mask.overlay(&picture, 0.5).unwrap());
    assert!(off <= OTHER_LABELS, "{off}");
    // The comparison detects a missing tint.
    assert!(seen.off(&picture) > 0.9);
}

#[test]
fn a_hidden_class_is_not_tinted() {
    let (picture, mask) = street();
    let options = ["--actual-size", "--opacity", "0.8", "--hide", "road"];
    let seen = Seen::of("hidden.png", &options);
    let road = mask.classes().iter().position(|class| class == "Road");
    let road = road.unwrap() as u8;
    let share = mask
        .shares()
        .iter()
        .find(|(class, _)| *class == road)
        .unwrap()
        .1;
    assert!(share > 0.05, "there is a road to be hidden");
    let tinted = mask.overlay(&picture, 0.8).unwrap();
    let pixels = picture
        .rgb()
        .chunks(3)
        .zip(tinted.rgb().chunks(3))
        .zip(mask.labels());
    let expected =
        pixels.flat_map(|((plain, tinted), &label)| if label == road { plain } else { tinted });
    let expected = Picture::from_rgb(picture.size(), expected.copied().collect());
    let off = seen.off(&expected.unwrap());
    assert!(off <= OTHER_LABELS, "{off}");
}

#[test]
fn of_a_picture_larger_than_the_window_a_part_is_seen() {
    let (picture, mask) = street();
    let seen = Seen::of("part.png", &["--actual-size", "--size", "600x400"]);
    // The part without the toolbar, the side panel and the scroll bars.
    let off = seen.off_within(&mask.overlay(&picture, 0.5).unwrap(), [320, 320]);
    assert!(off <= OTHER_LABELS, "{off}");
}

/// The mean of the texels that pixel `x`, `y` covers when `picture` is scaled to `size` `[w, h]`.
fn mean(picture: &Picture, size: [usize; 2], x: usize, y: usize) -> [f64; 3] {
    let parts = |at: usize, count: usize, texels: usize| {
        let step = texels as f64 / count as f64;
        let (from, to) = (at as f64 * step, (at + 1) as f64 * step);
        (from as usize..(to.ceil() as usize).min(texels)).map(move |texel| {
            let part = to.min(texel as f64 + 1.0) - from.max(texel as f64);
            (texel, part / step)
        })
    };
    let mut sum = [0.0; 3];
    for (row, height) in parts(y, size[1], picture.height()) {
        for (column, width) in parts(x, size[0], picture.width()) {
            for (sum, byte) in sum.iter_mut().zip(pixel(picture, column, row)) {
                *sum += width * height * f64::from(byte);
            }
        }
    }
    sum
}

#[test]
fn a_picture_made_to_fit_is_where_it_belongs() {
    let (picture, mask) = street();
    let overlay = mask.overlay(&picture, 0.5).unwrap();
    let seen = Seen::of("fits.png", &["--size", "720x420"]);
    let [w, h] = seen.size;
    assert!(w < 600 && h < 450, "it is made smaller: {h}x{w}");
    let right = seen.mean_difference(|x, y| mean(&overlay, seen.size, x, y));
    // The sampling need not match exactly. The picture has to lie within half a pixel of its place, and its tint has
    // to be nearly right.
    let beside = seen.mean_difference(|x, y| mean(&overlay, seen.size, (x + 1).min(w - 1), y));
    let plain = seen.mean_difference(|x, y| mean(&picture, seen.size, x, y));
    assert!(right < 0.5 * beside, "{right} {beside}");
    assert!(right < 0.1 * plain, "{right} {plain}");
}

#[test]
fn what_cannot_be_opened_is_said() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("none.png");
    for (options, words) in [
        (&["nowhere.jpg"][..], "nowhere.jpg"),
        (
            &[concat!(env!("CARGO_MANIFEST_DIR"), "/src")],
            "there is no picture in",
        ),
        (
            &["--hide", "zebra", STREET],
            "there is no class zebra; the model has",
        ),
        (&["--model", "none.safetensors", STREET], "none.safetensors"),
    ] {
        let output = run(&path, options);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert!(!path.exists());
    }
}
