//! Vectors of 512 bits on Mesa's driver for CPUs.

use super::program::*;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Segments a picture with these variables; returns what was printed on stdout, if it worked, and on stderr.
fn segment(folder: &Path, variables: &[(&str, &str)], more: &[&str]) -> (String, String) {
    let picture = folder.join("x.jpg");
    fs::write(&picture, jpeg(1)).unwrap();
    let mut command = command();
    command
        .arg("segment")
        .arg(&picture)
        .arg("-m")
        .arg(golden("fcn8s-same"));
    command.args(more).env("FULLCONV_CACHE", folder);
    for name in ["LP_NATIVE_VECTOR_WIDTH", "FULLCONV_VECTORS"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

/// The text of the file of findings when the check in the background has ended.
fn finding(file: &Path) -> String {
    for _ in 0..600 {
        let text = fs::read_to_string(file).unwrap();
        if !text.contains("begun") {
            return text;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the check has not ended");
}

#[test]
fn a_driver_is_checked_with_wide_vectors_after_the_first_run_and_left_alone_if_it_is_wrong() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("vectors.json");
    let is_at = |bits: &str, variables: &[(&str, &str)], more: &[&str]| {
        let (stdout, stderr) = segment(folder, variables, more);
        assert!(stdout.contains(bits), "{variables:?} {more:?}: {stdout}");
        assert_eq!(stderr, "", "{variables:?} {more:?}");
    };
    let (stdout, stderr) = segment(folder, &[], &[]);
    if !file.exists() {
        eprintln!("SKIP: no driver with vectors of 512 bits");
        return;
    }
    assert!(stdout.contains("256 bits"), "{stdout}");
    assert_eq!(stderr, "");
    let known = finding(&file);
    assert!(known.contains("right"), "{known}");
    is_at("512 bits", &[], &[]);
    is_at("256 bits", &[("FULLCONV_VECTORS", "256")], &[]);
    is_at("256 bits", &[("LP_NATIVE_VECTOR_WIDTH", "256")], &[]);
    is_at("256 bits", &[("FULLCONV_CACHE", "")], &[]);
    is_at("256 bits", &[], &["--no-cache"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), known);
    let wrong = known.replace("right", "wrong");
    fs::write(&file, &wrong).unwrap();
    is_at("256 bits", &[], &[]);
    assert_eq!(fs::read_to_string(&file).unwrap(), wrong);
    // Another driver than in the last run.
    fs::write(&file, known.replace("fullconv ", "another ")).unwrap();
    is_at("256 bits", &[], &[]);
    assert!(!file.exists());
    is_at("256 bits", &[], &[]);
    assert_eq!(finding(&file), known);
    // Tuning waits for the check.
    fs::remove_file(&file).unwrap();
    let (stdout, _) = segment(folder, &[], &["--tune"]);
    assert!(stdout.contains("512 bits"), "{stdout}");
}
