//! Vectors of 512 bits on Mesa's driver for CPUs.

use super::program::*;
use std::fs;
use std::path::Path;

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

#[test]
fn a_driver_is_checked_with_wide_vectors_and_left_alone_if_it_is_wrong() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (stdout, _) = segment(folder, &[], &[]);
    if !stdout.contains("512 bits") {
        eprintln!("SKIP: no driver with vectors of 512 bits");
        return;
    }
    let file = folder.join("vectors.json");
    let known = fs::read_to_string(&file).unwrap();
    assert!(
        known.contains("llvmpipe") && known.contains("true"),
        "{known}"
    );
    for (variable, option) in [
        (("FULLCONV_VECTORS", "256"), None),
        (("LP_NATIVE_VECTOR_WIDTH", "256"), None),
        (("FULLCONV_CACHE", ""), None),
        (("FULLCONV_LOG", ""), Some("--no-cache")),
    ] {
        let (stdout, stderr) = segment(folder, &[variable], option.as_slice());
        assert!(stdout.contains("256 bits"), "{variable:?}: {stdout}");
        assert_eq!(stderr, "", "{variable:?}");
    }
    fs::write(&file, known.replace("true", "false")).unwrap();
    let (stdout, stderr) = segment(folder, &[], &[]);
    assert!(stdout.contains("256 bits"), "{stdout}");
    assert!(stderr.contains("starting again with 256"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
