//! `fullconv devices` and `fullconv inspect`, and all commands without a device.

use super::program::*;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;

#[test]
fn inspect_shows_the_model_and_its_plan_with_and_without_a_device() {
    let text = fullconv(&["inspect", "--default-limits"]).expect(0).stdout;
    for part in [
        "graph, 11 classes",
        "Sky, Building",
        "long side 480",
        "56 F16",
        "GFLOP",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let model = golden("fcn32s-caffe.bf16");
    let json = fullconv_with("inspect {} --size 33x47 --json", &[&model])
        .expect(0)
        .json();
    assert_eq!(json["bilinear"], serde_json::json!(["upscore.weight"]));
    assert_eq!(json["plan"]["output"], serde_json::json!([1, 5, 33, 47]));
    assert_eq!(json["tensors"][0]["dtype"], "BF16");
    assert!(json["plan"]["peak_device_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn inspect_says_what_a_large_picture_takes_before_it_runs() {
    let large = "inspect --default-limits --size 2160x3840";
    let text = fullconv_with(large, &[]).expect(0).stdout;
    for part in [
        "blocks.2.project.conv run in 2 bands of rows",
        "peak device memory",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let plan = |options: &str| {
        let command = format!("{large} --json {options}");
        fullconv_with(command.trim(), &[]).expect(0).json()["plan"].clone()
    };
    let (plan, less) = (plan(""), plan("--memory 900"));
    assert_eq!(
        plan["bands"][0]["first_layer"],
        "blocks.1.expand.conv+blocks.1.expand.act"
    );
    assert!(plan["bands"][0]["recomputed_flops"].as_u64().unwrap() > 0);
    let peak = |plan: &Value| plan["peak_device_bytes"].as_u64().unwrap();
    assert!(peak(&plan) > 900 << 20 && peak(&less) <= 900 << 20);
    let error = fullconv_with("inspect --default-limits --size 9000x9000", &[]).expect(1);
    for part in ["[1, 3, 9000, 9000]", "1236 MiB", "256 MiB"] {
        assert!(error.stderr.contains(part), "{part}: {}", error.stderr);
    }
}

#[test]
fn devices_lists_the_adapters() {
    if !has_adapter() {
        return;
    }
    let json = fullconv(&["devices", "--json"]).expect(0).json();
    let default = json["default"].as_u64().unwrap() as usize;
    let adapter = &json["adapters"][default];
    assert_eq!(adapter["trouble"], Value::Null);
    assert!(adapter["limits"]["max_buffer_bytes"].as_u64().unwrap() > 0);
    let text = fullconv(&["devices"]).expect(0).stdout;
    assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
    for quirk in adapter["quirks"].as_array().unwrap() {
        let part = |name: &str| quirk[name].as_str().unwrap().to_owned();
        let [name, symptom, remedy] = ["name", "symptom", "remedy"].map(part);
        let line = format!("   quirk      {name}: {symptom}; {remedy}");
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let has_quirk = |name: &str| {
        let mut quirks = adapter["quirks"].as_array().unwrap().iter();
        quirks.any(|quirk| quirk["name"] == name)
    };
    let name = adapter["name"].as_str().unwrap();
    assert_eq!(has_quirk("loops-end"), name.contains("llvmpipe"), "{text}");
}

#[test]
fn devices_checks_the_adapters_and_ends_with_0_if_they_are_right() {
    if !has_adapter() {
        return;
    }
    let json = fullconv(&["devices", "--check", "--json"]).expect(0).json();
    let adapters = json["adapters"].as_array().unwrap();
    let usable = adapters.iter().filter(|a| a["trouble"].is_null());
    for adapter in usable {
        let check = &adapter["check"];
        assert_eq!(check["verdict"], "right", "{check}");
        assert!(check["layers"].as_u64().unwrap() > 20, "{check}");
        assert!(check["milliseconds"].as_f64().unwrap() > 0.0, "{check}");
        assert_eq!(check["wrong"], serde_json::json!([]));
    }
    let text = fullconv_with(
        "devices --check --adapter 0 --without-kernel conv2d_depthwise_texels",
        &[],
    )
    .expect(0)
    .stdout;
    assert_eq!(text.matches("   check      right: ").count(), 1, "{text}");
    let only = fullconv(&["devices", "--adapter", "0", "--json"]).expect(0);
    let only = only.json()["adapters"].as_array().unwrap().clone();
    assert_eq!(only.len(), 1);
    assert!(only[0].get("check").is_none());
    let unknown = fullconv(&["devices", "--check", "--adapter", "no such"]).expect(1);
    assert!(unknown.stderr.contains("\"no such\""), "{}", unknown.stderr);
    let kernel = fullconv_with("devices --check --without-kernel conv3d", &[]).expect(1);
    assert!(kernel.stderr.contains("\"conv3d\""), "{}", kernel.stderr);
    let no_other = fullconv_with("devices --check --without-kernel argmax", &[]).expect(1);
    assert!(no_other.stderr.contains("left out"), "{}", no_other.stderr);
    fullconv_with("devices --without-kernel argmax", &[]).expect(2);
}

/// The machine is not a test's to change: variables are.
#[cfg(target_os = "linux")]
#[test]
fn devices_says_what_the_system_has_for_gpus() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, library: &str| {
        let path = folder.path().join(name);
        let text = format!(r#"{{"ICD": {{"library_path": "{library}"}}}}"#);
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    fs::write(folder.path().join("text.so"), "no library").unwrap();
    let files = [
        file("a.json", "libc.so.6"),
        file("b.json", "libno-such-driver.so.7"),
        file("c.json", "./text.so"),
    ];
    let mut command = command();
    command.args(["devices", "--json", "--backend", "gl"]);
    command.env("VK_DRIVER_FILES", files.join(":"));
    let stdout = command.output().unwrap().stdout;
    let json: Value = serde_json::from_slice(&stdout).unwrap();
    let system = &json["system"];
    assert_eq!(system["variables"]["VK_DRIVER_FILES"], files.join(":"));
    let drivers = system["drivers"].as_array().unwrap();
    let part = |at: usize, name: &str| drivers[at][name].as_str().unwrap_or_default();
    assert!(part(0, "path").ends_with("libc.so.6"), "{system}");
    assert!(
        part(1, "error").contains("libno-such-driver.so.7: cannot open"),
        "{system}"
    );
    assert!(part(2, "error").contains("text.so"), "{system}");
    let problems = system["problems"].as_array().unwrap().iter();
    let problems: Vec<_> = problems.map(|p| p.as_str().unwrap()).collect();
    for file in &files[1..] {
        assert!(problems.iter().any(|p| p.starts_with(file)), "{problems:?}");
    }
    // The option is for the program itself.
    let loaded = fullconv(&["devices", "--load", "libc.so.6"])
        .expect(0)
        .stdout;
    assert!(
        loaded.starts_with("loaded /") && loaded.ends_with("libc.so.6\n"),
        "{loaded}"
    );
    let help = fullconv(&["devices", "--help"]).expect(0).stdout;
    assert!(!help.contains("--load") && help.contains("  4  "), "{help}");
}

/// The kernels of the demo model's plan with `options`.
fn kernels(options: &str, without: &str) -> Vec<String> {
    let arguments = ["inspect", "--size", "96x128", "--json"];
    let mut command = command();
    command.args(arguments).args(options.split_whitespace());
    command.env("FULLCONV_WITHOUT", without);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = json["plan"]["layers"].as_array().unwrap().clone();
    let name = |layer: &Value| layer["kernel"].as_str().unwrap().to_owned();
    layers.iter().map(name).collect()
}

#[test]
fn a_kernel_is_left_out_by_an_option_and_by_the_environment() {
    for device in ["--default-limits", ""] {
        let usual = kernels(device, "");
        let best = usual
            .iter()
            .find(|name| name.starts_with("conv2d"))
            .unwrap();
        let left_out = [
            kernels(
                &format!("{device} --without-kernel {best} --without-kernel relu"),
                "",
            ),
            kernels(device, &format!("relu, {best}")),
        ];
        assert_eq!(left_out[0], left_out[1]);
        for name in [best, "relu"] {
            assert!(
                !left_out[0].iter().any(|kernel| kernel == name),
                "{left_out:?}"
            );
        }
    }
    if has_adapter() {
        let compare = "compare --without-kernel conv2d_texels --without-kernel winograd_product";
        fullconv_with(compare, &[]).expect(0);
    }
    for command in ["inspect", "inspect --default-limits", "compare"] {
        let line = format!("{command} --without-kernel conv3d");
        let error = fullconv_with(&line, &[]).expect(1).stderr;
        assert!(
            error.contains("\"conv3d\"") && error.contains("conv2d_tiled"),
            "{error}"
        );
    }
    let all = "inspect --default-limits --without-kernel conv2d_tiled --without-kernel conv2d";
    let error = fullconv_with(all, &[]).expect(1).stderr;
    assert!(
        error.contains("(conv2d)") && error.contains("conv2d_tiled, conv2d"),
        "{error}"
    );
}

/// Hides all Vulkan and EGL drivers through environment variables.
#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_the_reference_steps_in_unless_a_device_was_named() {
    let nowhere = [
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "__EGL_VENDOR_LIBRARY_FILENAMES",
    ];
    let run = |arguments: &[&OsStr]| {
        let mut command = command();
        command
            .args(arguments)
            .envs(nowhere.map(|name| (name, "/nonexistent")));
        let output = command.output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        (output.status.code(), stdout, stderr)
    };
    let (status, stdout, _) = run(&["devices".as_ref(), "--json".as_ref()]);
    if !stdout.contains("\"adapters\": []") {
        eprintln!("SKIP: the adapters of this machine cannot be hidden");
        return;
    }
    assert_eq!(status, Some(1));
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("x.jpg");
    fs::write(&picture, jpeg(1)).unwrap();
    let model = golden("fcn8s-same");
    let segment = [
        "segment".as_ref(),
        picture.as_os_str(),
        "-m".as_ref(),
        model.as_os_str(),
    ];
    let (status, stdout, stderr) = run(&segment);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("on CPU reference"), "{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("going on with the CPU reference"),
        "{stderr}"
    );
    for named in [["--backend", "vulkan"], ["--adapter", "0"]] {
        let (status, _, stderr) = run(&[&segment[..], &named.map(OsStr::new)].concat());
        assert_eq!((status, stderr.lines().count()), (Some(1), 1), "{stderr}");
    }
    assert_eq!(run(&["compare".as_ref()]).0, Some(1));
    assert_eq!(run(&["inspect".as_ref()]).0, Some(0));
}
