//! The command `serve`: what it refuses, what it checks, how it ends.

use super::program::*;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

#[test]
fn settings_are_checked_and_named() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [tokens, short] = ["tokens", "short"].map(|name| folder.path().join(name));
    fs::write(&tokens, "0123456789abcdef\n\nfedcba9876543210\n").unwrap();
    fs::write(&short, "abc\n").unwrap();
    let model = golden("fcn8s-same");
    let named = format!("street={}", model.display());
    let arguments = ["serve", "--allow-cpu", "--check-config", "-m", &named];
    let done = fullconv(&arguments).expect(0);
    assert!(
        done.stdout.contains("model   street: fcn8s"),
        "{}",
        done.stdout
    );
    let tokens = tokens.display().to_string();
    let arguments = [
        "serve",
        "--allow-cpu",
        "--check-config",
        "--token-file",
        &tokens,
    ];
    let done = fullconv(&arguments).expect(0);
    assert!(done.stdout.contains("model   demo"), "{}", done.stdout);
    assert!(done.stdout.contains("tokens  2"), "{}", done.stdout);

    let missing = folder.path().join("no.safetensors").display().to_string();
    let short = short.display().to_string();
    let twice = model.display().to_string();
    for (arguments, status, part) in [
        (&["--listen", "8080"][..], 2, "127.0.0.1:8080"),
        (&["--listen", "unix:"], 2, "unix: needs a path"),
        (&["--queue", "0"], 2, "0"),
        (&["--model-dir", "."], 2, "--model-control"),
        (
            &["--adapter", "0", "--adapters", "all"],
            2,
            "cannot be used with",
        ),
        (&["--backend", "cpu", "--check-config"], 0, "CPU reference"),
        (&["-m", &missing, "--check-config"], 1, "no.safetensors"),
        (
            &["-m", &twice, "-m", &twice, "--check-config"],
            1,
            "another model has the same name",
        ),
        (&["-m", "..", "--check-config"], 1, "no name for a model"),
        (
            &["--token-file", &short, "--check-config"],
            1,
            "at least 16",
        ),
        (&["--adapter", "no such", "--check-config"], 1, "no adapter"),
        (
            &["--model-control", "--model-dir", &missing],
            1,
            "is no folder",
        ),
    ] {
        let all = [&["serve", "--allow-cpu"], arguments].concat();
        let done = fullconv(&all).expect(status);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let done = fullconv(&["serve", "--backend", "cpu"]).expect(2);
    assert!(done.stderr.contains("--allow-cpu"), "{}", done.stderr);
}

#[test]
fn the_page_for_operators_names_every_flag() {
    let help = fullconv(&["serve", "--help"]).expect(0).stdout;
    let page = fs::read_to_string("../docs/serving.md").unwrap();
    let words = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    // Those that other commands have too are described there.
    let others = fullconv(&["segment", "--help"]).expect(0).stdout;
    let mut own = words.filter(|flag| !others.contains(*flag)).peekable();
    assert!(own.peek().is_some());
    for flag in own {
        let flag = flag.trim_end_matches(['.', ',', ';', ':']);
        assert!(page.contains(flag), "docs/serving.md lacks {flag}");
    }
}

#[test]
fn a_signal_drains_it_and_the_socket_is_removed() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("fullconv.sock");
    let address = format!("unix:{}", socket.display());
    let start = || {
        let mut command = command();
        command.args([
            "serve",
            "--allow-cpu",
            "--drain-delay",
            "0",
            "--log",
            "json",
            "--listen",
            &address,
        ]);
        let mut server = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains(&address), "{line}");
        server
    };
    // A socket of a server that was killed is replaced.
    let mut killed = start();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(socket.exists());
    let mut server = start();
    let picture = jpeg(1);
    let mut stream = UnixStream::connect(&socket).unwrap();
    write!(
        stream,
        "POST /segment HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    )
    .unwrap();
    write!(stream, "content-length: {}\r\n\r\n", picture.len()).unwrap();
    stream.write_all(&picture).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // A second server does not take the address.
    let done = fullconv(&["serve", "--allow-cpu", "--listen", &address]).expect(1);
    assert!(done.stderr.contains("cannot listen on"), "{}", done.stderr);
    let kill = std::process::Command::new("kill")
        .arg(server.id().to_string())
        .status();
    assert!(kill.unwrap().success());
    assert!(server.wait().unwrap().success());
    assert!(!socket.exists());
    let mut log = String::new();
    server
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let requests: Vec<_> = lines.filter(|line| line["path"] == "/segment").collect();
    assert_eq!(requests.len(), 1, "{log}");
    assert_eq!(
        (&requests[0]["status"], &requests[0]["outcome"]),
        (&200.into(), &"ok".into())
    );
}
