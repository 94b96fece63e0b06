//! Wrong usage, and a closed stdout.

use super::program::*;
use std::process::Stdio;

#[test]
fn wrong_usage_is_status_2() {
    for line in [
        "",
        "segment",
        "segment x.jpg --backend opengl",
        "segment x.jpg --opacity 2",
        "segment x.jpg --arch fcn8s",
        "segment x.jpg -m m --arch lenet",
        "segment x.jpg -m m --geometry flat",
        "segment x.jpg --backend cpu --adapter 0",
        "segment x.jpg --backend cpu --default-limits",
        "segment x.jpg --backend cpu --without-kernel relu",
        "segment x.jpg --backend cpu --precision f16",
        "segment x.jpg --default-limits --precision f16",
        "segment x.jpg --precision f8",
        "run -m m",
        "compare --backend cpu",
        "inspect --size 12",
        "inspect --size 0x5",
        "eval --images x",
        "devices --backend cpu",
        "paint x.jpg",
    ] {
        let words: Vec<_> = line.split(' ').filter(|w| !w.is_empty()).collect();
        let done = fullconv(&words).expect(2);
        assert!(
            done.stdout.is_empty() && done.stderr.contains("--help"),
            "{line}"
        );
    }
    let done = fullconv(&["segment", "x.jpg", "-m", "no/such.safetensors"]).expect(1);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(
        done.stderr.contains("no/such.safetensors"),
        "{}",
        done.stderr
    );
    assert!(
        fullconv(&["--version"])
            .expect(0)
            .stdout
            .starts_with("fullconv ")
    );
}

/// `fullconv … | head` closes the pipe early.
#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command()
        .args(["inspect", "--default-limits"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&output.stderr)
    );
}
