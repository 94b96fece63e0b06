//! Many pictures: shares of them, the manifest, and runs that are killed.

use super::program::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// `count` pictures of five kinds, in a folder and one below it.
fn many(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("below")).unwrap();
    let kinds: Vec<_> = (1..=5).map(jpeg).collect();
    for i in 0..count {
        let place = ["", "below/"][i % 2];
        let path = folder.path().join(format!("{place}{i:03}.jpg"));
        fs::write(path, &kinds[i % kinds.len()]).unwrap();
    }
    folder
}

/// The lines of a manifest by their picture's name; panics if a picture has two.
fn lines(path: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(path).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let input = Path::new(row["input"].as_str().unwrap());
        let name = input.file_name().unwrap().to_str().unwrap().to_owned();
        let earlier = found.insert(name, row.clone());
        assert!(earlier.is_none(), "{input:?} has two lines");
    }
    found
}

/// The files of a folder with their contents, without the temporary ones of killed runs.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = names(folder).into_iter();
    let names = names.filter(|name| !name.starts_with('.'));
    names
        .map(|name| (name.clone(), fs::read(folder.join(name)).unwrap()))
        .collect()
}

#[test]
fn shares_are_disjoint_and_together_the_whole() {
    let folder = many(30);
    fs::write(folder.path().join("broken.jpg"), "no picture").unwrap();
    let model = golden("fcn8s-same");
    let [whole, shared] = ["whole", "shared"].map(|name| folder.path().join(name));
    let line = "segment {} -m {} -o {} --backend cpu --recursive --manifest {}";
    let paths: [&Path; 4] = [folder.path(), &model, &whole, &whole.join("m.jsonl")];
    fullconv_with(line, &paths).expect(1);
    let of_whole = lines(&whole.join("m.jsonl"));
    assert_eq!(of_whole.len(), 31);
    let error = of_whole["broken.jpg"]["error"].as_str().unwrap();
    assert!(error.contains("broken.jpg"), "{error}");
    let row = &of_whole["000.jpg"];
    assert_eq!((&row["width"], &row["height"]), (&64.into(), &48.into()));
    assert!(row["mask"].as_str().unwrap().ends_with("000.mask.png"));
    assert!(row["classes"][0]["share"].as_f64().unwrap() > 0.0);
    // The results of the first run are in the folder, but not among the pictures.
    let mut names = BTreeSet::new();
    for shard in 0..3 {
        let manifest = shared.join("m.jsonl");
        let line = format!("{line} --shard {shard}/3");
        let done = fullconv_with(&line, &[folder.path(), &model, &shared, &manifest]);
        assert!(matches!(done.status, Some(0 | 1)), "{}", done.stderr);
        for name in lines(&shared.join(format!("m.{shard}-of-3.jsonl"))).into_keys() {
            assert!(names.insert(name.clone()), "{name} is in two shares");
        }
    }
    assert!(names.iter().eq(of_whole.keys()));
    let masks = |folder: &Path| {
        let mut files = contents(folder);
        files.retain(|name, _| name.ends_with(".png"));
        files
    };
    assert!(masks(&whole) == masks(&shared));
}

#[test]
fn killed_runs_lose_double_and_halve_nothing() {
    let folder = many(500);
    let model = golden("fcn8s-same");
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let line =
        "segment {} -m {} -o {} --backend cpu --recursive --only mask --resume --manifest {}";
    let paths: [&Path; 4] = [folder.path(), &model, &whole, &whole.join("m.jsonl")];
    fullconv_with(line, &paths).expect(0);
    let manifest = killed.join("m.jsonl");
    let mut done_before = 0;
    let mut kills_under_way = 0;
    for kill in 0..10_u64 {
        let mut child = command()
            .args([
                "segment",
                "--backend",
                "cpu",
                "--recursive",
                "--only",
                "mask",
            ])
            .args(["--resume", "--manifest"])
            .arg(&manifest)
            .arg("-m")
            .arg(&model)
            .arg("-o")
            .arg(&killed)
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A moment that differs for each run, from before the first picture on.
        std::thread::sleep(Duration::from_millis(30 + (kill * 7919) % 13 * 12));
        child.kill().unwrap();
        child.wait().unwrap();
        let masks = fs::read_dir(&killed).map_or(0, Iterator::count);
        kills_under_way += usize::from(masks > done_before);
        done_before = masks;
    }
    assert!(
        kills_under_way > 2,
        "the runs were killed before any picture"
    );
    let paths: [&Path; 4] = [folder.path(), &model, &killed, &manifest];
    fullconv_with(line, &paths).expect(0);
    assert!(
        lines(&manifest)
            .keys()
            .eq(lines(&whole.join("m.jsonl")).keys())
    );
    assert_eq!(lines(&manifest).len(), 500);
    let without_manifest = |folder: &Path| {
        let mut files = contents(folder);
        files.remove("m.jsonl");
        files
    };
    assert!(without_manifest(&whole) == without_manifest(&killed));
}

#[test]
fn a_resumed_manifest_has_a_line_for_each_picture_that_is_given() {
    let folder = many(4);
    let model = golden("fcn8s-same");
    let [out, manifest] = ["out", "out/m.jsonl"].map(|name| folder.path().join(name));
    let line = "segment {} -m {} -o {} --backend cpu --recursive --resume --json --manifest {}";
    let paths: [&Path; 4] = [folder.path(), &model, &out, &manifest];
    let run = |skipped: usize| {
        let json = fullconv_with(line, &paths).expect(0).json();
        assert_eq!(json["skipped"].as_array().unwrap().len(), skipped, "{json}");
    };
    run(0);
    run(4);
    assert_eq!(lines(&manifest).len(), 4);
    // A picture without a line is done again, and the line of one that is gone is left out.
    let text = fs::read_to_string(&manifest).unwrap();
    let (_, others) = text.split_once('\n').unwrap();
    fs::write(&manifest, others).unwrap();
    fs::remove_file(folder.path().join("below/003.jpg")).unwrap();
    run(2);
    let names: Vec<_> = lines(&manifest).into_keys().collect();
    assert_eq!(names, ["000.jpg", "001.jpg", "002.jpg"]);
}

#[test]
fn wrong_shares_and_manifests_are_refused() {
    let folder = many(2);
    let model = golden("fcn8s-same");
    let picture = folder.path().join("000.jpg");
    let line = "segment {} -m {} --backend cpu --shard 2/2";
    let done = fullconv_with(line, &[&picture, &model]).expect(2);
    assert!(done.stderr.contains("0/2 to 1/2"), "{}", done.stderr);
    let line = "segment {} -m {} --backend cpu --manifest {}";
    let done = fullconv_with(line, &[&picture, &model, &picture]).expect(1);
    assert!(done.stderr.contains("overwrite"), "{}", done.stderr);
    let line = "segment {} -m {} --backend cpu --manifest {}";
    let result = folder.path().join("000.mask.png");
    let done = fullconv_with(line, &[&picture, &model, &result]).expect(1);
    assert!(done.stderr.contains("FILE.jsonl"), "{}", done.stderr);
    let text = folder.path().join("notes.txt");
    fs::write(&text, "my notes\n").unwrap();
    // A file that is no manifest is not overwritten, even by a run that starts anew.
    for line in [
        "segment {} -m {} --backend cpu --manifest {}",
        "segment {} -m {} --backend cpu --resume --manifest {}",
    ] {
        let done = fullconv_with(line, &[&picture, &model, &text]).expect(1);
        assert!(done.stderr.contains("line 1"), "{}", done.stderr);
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "my notes\n");
}
