//! C programs that link the library: compiled without warnings, run, and run under valgrind's memcheck, which may
//! report neither accesses out of bounds nor leaks.
#![cfg(unix)]

use fullconv::{Gpu, Model, Picture, Segmenter, Size};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of the library that Cargo built for these tests.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap().to_owned();
    let name = format!(
        "{}fullconv_c{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    assert!(folder.join(&name).is_file(), "{name} is not in {folder:?}");
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The stdout of a command, which must succeed.
fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}\n{stderr}");
    stdout
}

/// Compiles one C file to a program.
fn compile(source: &str, folder: &Path) -> PathBuf {
    let program = folder.join("program");
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let library = library();
    let said = run(Command::new(compiler)
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-g"])
        .arg("-I")
        .arg(repository().join("capi/include"))
        .arg(repository().join(source))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&library)
        .arg("-lfullconv_c")
        .arg("-lm")
        .arg(format!("-Wl,-rpath,{}", library.display())));
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{source}: {stderr}");
    program
}

fn golden(name: &str) -> PathBuf {
    let folder = repository().join("tests/goldens");
    folder.join(format!("{name}.safetensors"))
}

/// A picture as a binary PPM.
fn ppm(picture: &Picture) -> Vec<u8> {
    let mut bytes = format!("P6\n{} {}\n255\n", picture.width(), picture.height()).into_bytes();
    bytes.extend_from_slice(picture.rgb());
    bytes
}

/// A small picture of many colours.
fn small() -> Picture {
    let size = Size::new(13, 21);
    let bytes = (0..3 * size.height * size.width).map(|i| (i * i % 251) as u8);
    Picture::from_rgb(size, bytes.collect()).unwrap()
}

/// The library's default device. `None`: the CPU reference.
fn best() -> Option<Gpu> {
    let gpu = pollster::block_on(Gpu::new()).ok();
    let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(gpu.is_some() || !required, "a GPU is required");
    gpu
}

fn labels(gpu: Option<&Gpu>, model: &Model, picture: &Picture) -> Vec<u8> {
    let segmenter = match gpu {
        Some(gpu) => pollster::block_on(Segmenter::new(gpu, model)).unwrap(),
        None => Segmenter::on_cpu(model),
    };
    let mask = segmenter.segment_blocking(picture).unwrap();
    mask.labels().to_vec()
}

#[test]
fn the_example_labels_the_photograph_as_the_library_does() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("examples/c/segment.c", folder.path());
    let photograph = Picture::open(repository().join("assets/street.jpg")).unwrap();
    let (input, output) = (
        folder.path().join("street.ppm"),
        folder.path().join("street.pgm"),
    );
    std::fs::write(&input, ppm(&photograph)).unwrap();
    let said = succeed(Command::new(&program).args([&input, &output]));
    for class in ["Sky", "Building", "Road"] {
        assert!(said.contains(class), "{said}");
    }
    let gpu = best();
    let device = gpu.as_ref().map_or("CPU reference".into(), Gpu::to_string);
    assert!(said.contains(&device), "{device}: {said}");
    let mut expected =
        format!("P5 {} {} 255\n", photograph.width(), photograph.height()).into_bytes();
    expected.extend(labels(
        gpu.as_ref(),
        &Model::from_bytes(fullconv_demo::MODEL).unwrap(),
        &photograph,
    ));
    assert!(std::fs::read(&output).unwrap() == expected);
}

#[test]
fn the_example_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("examples/c/segment.c", folder.path());
    let input = folder.path().join("small.ppm");
    std::fs::write(&input, ppm(&small())).unwrap();
    let output = folder.path().join("small.pgm");
    for (arguments, expected) in [
        (vec!["missing.safetensors", "cpu"], "missing.safetensors"),
        (vec!["", "abacus"], "unknown backend \"abacus\""),
    ] {
        let said = run(Command::new(&program)
            .args([&input, &output])
            .args(arguments));
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert!(!output.exists());
}

#[test]
fn the_environment_leaves_kernels_out() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("examples/c/segment.c", folder.path());
    let input = folder.path().join("small.ppm");
    std::fs::write(&input, ppm(&small())).unwrap();
    let output = folder.path().join("small.pgm");
    let run_without = |names: &str| {
        let mut command = Command::new(&program);
        command.args([&input, &output]);
        run(command.env("FULLCONV_WITHOUT", names))
    };
    let unknown = run_without("conv3d");
    let stderr = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no kernel \"conv3d\""), "{stderr}");
    if best().is_some() {
        let all_others = run_without("conv2d_texels,conv2d_tiled,winograd_product");
        let stderr = String::from_utf8_lossy(&all_others.stderr);
        assert!(all_others.status.success(), "{stderr}");
    }
}

#[test]
fn whatever_a_caller_does_wrong_is_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("capi/tests/garbage.c", folder.path());
    let model = golden("fcn8s-same");
    let said = succeed(Command::new(program).arg(model).arg("2"));
    assert_eq!(said, "all as expected\n");
}

/// A model of one output channel: 10 · (red + green + blue) − 15.
fn binary_model() -> Vec<u8> {
    let metadata = serde_json::json!({
        "version": 1,
        "preprocess": {"channels": "rgb", "range": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "graph": {"output": "score", "nodes": [
            {"name": "score", "op": "conv2d", "inputs": ["input", "weight", "bias"]}
        ]},
        "classes": ["bright"],
    });
    let header = serde_json::json!({
        "__metadata__": {"fullconv": metadata.to_string()},
        "weight": {"dtype": "F32", "shape": [1, 3, 1, 1], "data_offsets": [0, 12]},
        "bias": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
    });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(
        [10f32, 10.0, 10.0, -15.0]
            .map(f32::to_le_bytes)
            .as_flattened(),
    );
    bytes
}

#[test]
fn a_binary_model_has_two_classes_a_threshold_and_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("capi/tests/binary.c", folder.path());
    let model = folder.path().join("binary.safetensors");
    std::fs::write(&model, binary_model()).unwrap();
    assert_eq!(succeed(Command::new(program).arg(model)), "right\n");
}

#[test]
fn the_header_is_cplusplus_too() {
    let compiler = std::env::var("CXX").unwrap_or("c++".into());
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("program.cpp");
    let text = "#include \"fullconv.h\"\nint main() { return fullconv_model_free(nullptr); }\n";
    std::fs::write(&source, text).unwrap();
    let program = folder.path().join("program");
    let library = library();
    let output = Command::new(compiler)
        .args([
            "-std=c++11",
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-I",
        ])
        .arg(repository().join("capi/include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&library)
        .arg("-lfullconv_c")
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .output();
    match output {
        Err(e) => eprintln!("SKIP: no C++ compiler: {e}"),
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            succeed(&mut Command::new(program));
        }
    }
}

/// Runs a program under memcheck and returns the bytes still reachable at its end; memcheck may report nothing worse.
/// `None` without valgrind.
fn memcheck<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Option<u64> {
    let suppressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/valgrind.supp");
    let mut command = Command::new("valgrind");
    command
        .args([
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect,possible",
        ])
        .args([
            "--errors-for-leak-kinds=definite,indirect,possible",
            "--error-exitcode=99",
        ])
        .arg(format!("--suppressions={}", suppressions.display()))
        .arg(program)
        .args(arguments);
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => {
            eprintln!("SKIP: memcheck did not run: valgrind: {e}");
            return None;
        }
    };
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {report}");
    assert!(report.contains("ERROR SUMMARY: 0 errors"), "{report}");
    let line = report
        .lines()
        .find(|line| line.contains("still reachable:"));
    let bytes = line.map_or("0", |line| line.split(':').nth(1).unwrap().trim());
    let bytes = bytes.split(' ').next().unwrap().replace(',', "");
    Some(bytes.parse().unwrap_or_else(|e| panic!("{bytes}: {e}")))
}

/// The least that one leaked handle leaves behind; rayon's queues vary by less.
const LEAST_LEAK: u64 = 4 << 10;

/// Three repetitions leave no more reachable bytes than one: the library's own allocations are made once.
#[test]
fn nothing_leaks_and_nothing_is_read_or_written_out_of_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile("capi/tests/garbage.c", folder.path());
    let model = golden("fcn8s-same").into_os_string();
    let once = memcheck(&program, [&*model, OsStr::new("1")]);
    let thrice = memcheck(&program, [&*model, OsStr::new("3")]);
    if let (Some(once), Some(thrice)) = (once, thrice) {
        assert!(thrice < once + LEAST_LEAK, "{once} bytes, then {thrice}");
    }
}
