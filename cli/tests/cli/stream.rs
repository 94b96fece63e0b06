//! Frames on standard input, overlays and masks on standard output.

use super::program::*;
use fullconv::read_labels;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The height and width of frames.
const H: usize = 48;
const W: usize = 64;

/// The program, started with these arguments and pipes.
fn start(arguments: &str) -> Child {
    command()
        .arg("stream")
        .args(arguments.split(' '))
        .arg("-m")
        .arg(golden("fcn8s-same"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The status, standard output and standard error of the program for this input.
fn streamed(arguments: &str, input: Vec<u8>) -> (Option<i32>, Vec<u8>, String) {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    // A program that stops early closes the pipe.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), output.stdout, stderr)
}

/// What `segment` makes of frames: class ids, and overlays' pixels.
fn segmented(frames: &[image::RgbImage], arguments: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    for (i, frame) in frames.iter().enumerate() {
        frame
            .save(folder.path().join(format!("{i:04}.png")))
            .unwrap();
    }
    let line = format!("segment {{}} -m {{}} {arguments}");
    let line = line.trim_end();
    fullconv_with(line, &[folder.path(), &golden("fcn8s-same")]).expect(0);
    let path = |i: usize, what: &str| folder.path().join(format!("{i:04}.{what}.png"));
    let of = |i: usize| {
        let (_, mask) = read_labels(path(i, "mask")).unwrap();
        let overlay = image::open(path(i, "overlay")).unwrap().to_rgb8();
        (mask, overlay.into_raw())
    };
    (0..frames.len()).map(of).unzip()
}

fn frames(count: u32) -> Vec<image::RgbImage> {
    (1..=count).map(pixels).collect()
}

fn raw(frames: &[image::RgbImage]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|frame| frame.as_raw().clone())
        .collect()
}

#[test]
fn masks_and_overlays_of_frames_are_those_of_pictures() {
    let frames = frames(7);
    for device in ["--backend cpu", ""] {
        if device.is_empty() && !has_adapter() {
            continue;
        }
        let (masks, overlays) = segmented(&frames, device.trim());
        let arguments = format!("--raw 48x64 --only mask {device}");
        let (status, stdout, stderr) = streamed(arguments.trim(), raw(&frames));
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stdout == masks.concat(), "{device}");
        assert!(stderr.contains("7 frames in"), "{stderr}");
        assert!(stderr.contains("; 0 dropped; latency"), "{stderr}");
        let (_, stdout, _) = streamed(format!("--raw 48x64 {device}").trim(), raw(&frames));
        assert!(stdout == overlays.concat(), "{device}");
    }
}

#[test]
fn a_y4m_stream_becomes_one() {
    // Grey frames of full range are the same in both colour systems.
    let grey: Vec<_> = frames(4)
        .iter()
        .map(|frame| image::DynamicImage::from(frame.clone()).to_luma8())
        .collect();
    let as_rgb: Vec<_> = grey
        .iter()
        .map(|g| image::DynamicImage::from(g.clone()).to_rgb8())
        .collect();
    let (masks, overlays) = segmented(&as_rgb, "--backend cpu");
    let chroma = vec![128; 2 * (H / 2) * (W / 2)];
    let mut input = b"YUV4MPEG2 W64 H48 F30000:1001 Ip A1:1 C420jpeg XCOLORRANGE=FULL\n".to_vec();
    for frame in &grey {
        input.extend([b"FRAME\n", frame.as_raw().as_slice(), &chroma].concat());
    }
    let (status, stdout, stderr) = streamed("--only mask --backend cpu", input.clone());
    assert_eq!(status, Some(0), "{stderr}");
    let mut expected = b"YUV4MPEG2 W64 H48 F30000:1001 Ip A1:1 Cmono XCOLORRANGE=FULL\n".to_vec();
    for mask in &masks {
        expected.extend([b"FRAME\n", mask.as_slice()].concat());
    }
    assert!(stdout == expected);
    let (_, stdout, _) = streamed("--to raw --backend cpu", input.clone());
    assert!(stdout == overlays.concat());
    // Overlays in Y4M have the colours of the overlays, but for the rounding of both conversions.
    let (_, stdout, _) = streamed("--backend cpu", input);
    let header = b"YUV4MPEG2 W64 H48 F30000:1001 Ip A1:1 C444 XCOLORRANGE=FULL\n";
    assert!(stdout.starts_with(header));
    assert_eq!(stdout.len(), header.len() + 4 * (6 + 3 * H * W));
    let first = &stdout[header.len() + 6..][..H * W];
    let luma = |pixel: &[u8]| {
        0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])
    };
    for (y, pixel) in first.iter().zip(overlays[0].chunks(3)) {
        assert!(
            (f64::from(*y) - luma(pixel)).abs() < 1.5,
            "{y} for {pixel:?}"
        );
    }
}

#[test]
fn late_frames_are_dropped_and_the_others_keep_their_order() {
    // Frame i is of one colour, i; without opacity the overlay is the frame.
    let count = 200;
    let input: Vec<u8> = (0..count).flat_map(|i| vec![i; 3 * H * W]).collect();
    let line = "--raw 48x64 --opacity 0 --backend cpu";
    let (status, stdout, stderr) = streamed(&format!("{line} --latest"), input.clone());
    assert_eq!(status, Some(0), "{stderr}");
    let shown: Vec<u8> = stdout.chunks(3 * H * W).map(|frame| frame[0]).collect();
    assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
    assert_eq!(shown.last(), Some(&(count - 1)));
    let dropped = usize::from(count) - shown.len();
    assert!(
        dropped > 0 && stderr.contains(&format!("; {dropped} dropped")),
        "{stderr}"
    );
    let (_, stdout, _) = streamed(line, input.clone());
    assert!(stdout == input);
}

#[test]
fn a_stream_that_is_cut_short_gives_its_whole_frames_and_an_error() {
    let frames = frames(3);
    let mut input = raw(&frames);
    input.pop();
    let (status, stdout, stderr) = streamed("--raw 48x64 --opacity 0 --backend cpu", input);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("ends within frame 3"), "{stderr}");
    assert!(stdout == raw(&frames[..2]));
    for (input, part) in [
        ("", "no Y4M"),
        ("YUV4MPEG2 W0 H5\n", "no pixels"),
        ("YUV4MPEG2 W8 H8 C420p10\n", "8 bits"),
    ] {
        let (status, stdout, stderr) = streamed("--backend cpu", input.into());
        assert_eq!((status, stdout.len()), (Some(1), 0), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}

/// Feeds frames until the program no longer reads them.
fn feed_for_ever(child: &mut Child) -> std::thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().unwrap();
    let frame = pixels(1).into_raw();
    std::thread::spawn(move || while stdin.write_all(&frame).is_ok() {})
}

#[test]
fn a_player_that_is_closed_ends_the_stream() {
    let mut child = start("--raw 48x64 --backend cpu");
    let feeding = feed_for_ever(&mut child);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 3 * H * W * 5]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    feeding.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn memory_stays_the_same_over_3000_frames() {
    let resident = |child: &Child| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib
    };
    let device = if has_adapter() { "" } else { " --backend cpu" };
    let mut child = start(&format!("--raw 48x64 --only mask{device}"));
    let feeding = feed_for_ever(&mut child);
    let mut stdout = child.stdout.take().unwrap();
    let mut mask = vec![0; H * W];
    let mut read = |count: usize| (0..count).for_each(|_| stdout.read_exact(&mut mask).unwrap());
    read(500);
    let early = resident(&child);
    read(2500);
    let late = resident(&child);
    assert!(late < early + 8 * 1024, "{early} KiB, then {late} KiB");
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    feeding.join().unwrap();
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_stream_that_waits_for_a_frame() {
    let mut child = start("--raw 48x64 --only mask --backend cpu");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&raw(&frames(2))).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 2 * H * W]).unwrap();
    let asked = Instant::now();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(10));
    drop(stdin);
}
