//! A server, from outside: its masks are the library's, also under load, and no request harms another.

mod common;

use common::{Tested, config, demo, device, expected, has_device, picture, text};
use fullconv::{Picture, Size};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use ureq::http::StatusCode;

/// Some sizes, small enough for a CPU device.
const SIZES: [[usize; 2]; 4] = [[64, 96], [96, 64], [50, 70], [33, 47]];

fn sizes() -> impl Iterator<Item = Size> {
    SIZES
        .into_iter()
        .map(|[height, width]| Size::new(height, width))
}

#[test]
fn a_connection_whose_body_was_not_read_is_said_to_end() {
    if !has_device() {
        return;
    }
    let tested = Tested::start(config());
    let address = tested.url.strip_prefix("http://").unwrap();
    let answer = |path: &str, length: usize, body: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            answer.push(byte[0].to_ascii_lowercase());
        }
        String::from_utf8(answer).unwrap()
    };
    let unread = answer("/v2/models/nothing/infer", 300_000, "{");
    assert!(unread.starts_with("http/1.1 404"), "{unread}");
    assert!(unread.contains("connection: close"), "{unread}");
    // A body that was read, though it is wrong, leaves the connection as it is.
    let read = answer("/segment", 2, "{}");
    assert!(
        read.starts_with("http/1.1 400") || read.starts_with("http/1.1 415"),
        "{read}"
    );
    assert!(!read.contains("connection: close"), "{read}");
}

#[test]
fn masks_are_the_librarys_under_load_and_beside_other_sizes() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.devices.push(device());
    let tested = Tested::start(config);
    let pictures: Vec<_> = (0..3)
        .flat_map(|seed| sizes().map(move |size| picture(size, seed)))
        .collect();
    let expected: Vec<_> = pictures
        .iter()
        .map(|p| expected(p).labels().to_vec())
        .collect();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (pictures, expected, tested) = (&pictures, &expected, &tested);
            scope.spawn(move || {
                for i in 0..pictures.len() {
                    let i = (i + 5 * client) % pictures.len();
                    assert_eq!(
                        tested.labels(&pictures[i]).unwrap(),
                        expected[i],
                        "picture {i}"
                    );
                }
            });
        }
    });
    let metrics = text(tested.get("/metrics"));
    let line = r#"fullconv_requests_total{model="demo",protocol="segment",outcome="ok"} 96"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("fullconv_in_flight 0"), "{metrics}");
    let page = std::fs::read_to_string("../docs/serving.md").unwrap();
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
        let words: Vec<_> = line.split(' ').collect();
        let name = match words[3] {
            "counter" => format!("{}_total", words[2]),
            "info" => format!("{}_info", words[2]),
            _ => words[2].to_owned(),
        };
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/serving.md lacks {name}"
        );
    }
}

#[test]
fn a_batch_of_an_execution_gives_the_same_masks() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.batch = 4;
    let tested = Tested::start(config);
    let pictures: Vec<_> = (0..8)
        .map(|seed| picture(Size::new(64, 96), seed))
        .collect();
    std::thread::scope(|scope| {
        for picture in &pictures {
            let tested = &tested;
            scope.spawn(move || {
                assert_eq!(tested.labels(picture).unwrap(), expected(picture).labels());
            });
        }
    });
}

#[test]
fn inferences_in_json_and_binary_give_all_outputs() {
    if !has_device() {
        return;
    }
    let tested = Tested::start(config());
    let size = Size::new(40, 56);
    let pictures = [picture(size, 1), picture(size, 2)];
    let masks = pictures.each_ref().map(expected);
    let pixels: Vec<u8> = pictures.iter().flat_map(|p| p.rgb().to_vec()).collect();
    let request = json!({
        "id": "a",
        "inputs": [{ "name": "image", "datatype": "UINT8", "shape": [2, 40, 56, 3], "data": pixels }],
        "outputs": [{ "name": "mask" }, { "name": "shares" }, { "name": "probabilities" }],
    });
    let answer = tested.post("/v2/models/demo/infer", request.to_string().as_bytes(), &[]);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let answer: Value = serde_json::from_str(&text(answer)).unwrap();
    assert_eq!(
        (&answer["id"], &answer["model_name"]),
        (&json!("a"), &json!("demo"))
    );
    let [mask, shares, probabilities] = [0, 1, 2].map(|i| &answer["outputs"][i]);
    let labels: Vec<u8> = masks
        .iter()
        .flat_map(|mask| mask.labels().to_vec())
        .collect();
    assert_eq!(
        (&mask["shape"], &mask["data"]),
        (&json!([2, 40, 56]), &json!(labels))
    );
    assert_eq!(shares["shape"], json!([2, 11]));
    assert_eq!(probabilities["shape"], json!([2, 11, 40, 56]));
    // The largest probability is the mask's class.
    let values = probabilities["data"].as_array().unwrap();
    for (at, label) in labels.iter().enumerate() {
        let (image, pixel) = (at / (40 * 56), at % (40 * 56));
        let of = |class: usize| {
            values[(image * 11 + class) * 40 * 56 + pixel]
                .as_f64()
                .unwrap()
        };
        let largest = (0..11).map(of).fold(0.0, f64::max);
        assert!(of((*label).into()) >= largest - 1e-5, "pixel {at}");
    }

    // The same as picture files, in binary, with picture files as the answer.
    let files: Vec<_> = pictures
        .iter()
        .map(|picture| picture.to_png().unwrap())
        .collect();
    let raw: Vec<u8> = files
        .iter()
        .flat_map(|file| [&(file.len() as u32).to_le_bytes()[..], file].concat())
        .collect();
    let request = json!({
        "inputs": [{
            "name": "image", "datatype": "BYTES", "shape": [2], "parameters": { "binary_data_size": raw.len() },
        }],
        "outputs": [{ "name": "mask_png", "parameters": { "binary_data": true } }],
    });
    let request = request.to_string();
    let body = [request.as_bytes(), &raw].concat();
    let length = request.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let mut answer = tested.post("/v2/models/demo/versions/1/infer", &body, &headers);
    assert_eq!(answer.status(), StatusCode::OK);
    let length = answer.headers()["inference-header-content-length"]
        .to_str()
        .unwrap();
    let length: usize = length.parse().unwrap();
    let mut rest = &answer.body_mut().read_to_vec().unwrap()[length..];
    for mask in &masks {
        let (head, after) = rest.split_at(4);
        let (file, after) = after.split_at(u32::from_le_bytes(head.try_into().unwrap()) as usize);
        assert_eq!(file, mask.to_png().unwrap());
        rest = after;
    }
    assert!(rest.is_empty());

    // Pictures of two sizes have no common mask, but picture files.
    let files = [picture(size, 1), picture(Size::new(30, 30), 1)].map(|p| p.to_png().unwrap());
    let raw = files
        .map(|file| [&(file.len() as u32).to_le_bytes()[..], &file].concat())
        .concat();
    let request =
        json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [2] }] }).to_string();
    let body = [request.as_bytes(), &raw].concat();
    let length = request.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let answer = tested.post("/v2/models/demo/infer", &body, &headers);
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(text(answer).contains("mask_png"));
}

#[test]
fn wrong_requests_get_a_status_and_a_line() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.limits.body_bytes = 1 << 16;
    config.limits.pixels = 5000;
    let tested = Tested::start(config);
    let small = picture(Size::new(20, 20), 0).to_png().unwrap();
    let large = Picture::from_rgb(Size::new(80, 80), vec![0; 19200])
        .unwrap()
        .to_png()
        .unwrap();
    let long = vec![0; (1 << 16) + 1];
    let zipped = [b"\x1f\x8b\x08", &[0; 40][..]].concat();
    for (path, body, headers, status, part) in [
        ("/segment", &b""[..], &[][..], 415, "empty"),
        ("/segment", b"a text", &[], 415, "no picture"),
        ("/segment", &small[..60], &[], 400, ""),
        ("/segment", &large, &[], 413, "5000 are allowed"),
        ("/segment", &long, &[], 413, "longer than 65536"),
        ("/segment?as=video", &small, &[], 400, "mask"),
        ("/segment?colour=1", &small, &[], 400, "colour"),
        ("/segment?opacity=2", &small, &[], 400, "0 to 1"),
        ("/segment?timeout=-1", &small, &[], 400, "seconds"),
        ("/segment?timeout=1e-9", &small, &[], 504, "time is over"),
        ("/segment?model=other", &small, &[], 404, "demo"),
        (
            "/segment",
            &small,
            &[("accept", "text/html")],
            400,
            "image/png",
        ),
        (
            "/segment",
            &zipped,
            &[("content-encoding", "gzip")],
            400,
            "cannot be read",
        ),
        ("/segment", &small, &[("content-encoding", "br")], 415, ""),
        (
            "/segment",
            &small,
            &[("content-type", "multipart/form-data")],
            400,
            "form",
        ),
        (
            "/segment",
            &small,
            &[("origin", "http://evil.example")],
            403,
            "--cors-origin",
        ),
        (
            "/v2/models/demo/infer",
            b"{",
            &[],
            400,
            "not as the protocol says",
        ),
        (
            "/v2/models/demo/infer",
            b"{\"inputs\":[]}",
            &[],
            400,
            "0 inputs",
        ),
        (
            "/v2/models/demo/versions/2/infer",
            b"{}",
            &[],
            404,
            "version",
        ),
        ("/v2/models/other/infer", b"{}", &[], 404, "no model"),
        (
            "/v2/repository/models/demo/unload",
            b"",
            &[],
            403,
            "--model-control",
        ),
        ("/v2/repository/index", b"[", &[], 400, "not as"),
        ("/v2/repository/index", b"[]", &[], 400, "not as"),
        ("/nowhere", b"", &[], 404, "/openapi.json"),
        ("/v2", b"", &[], 405, "POST"),
    ] {
        // A body that is too long may be refused before it is sent.
        let Ok(answer) = tested.try_post(path, body, headers) else {
            assert_eq!(status, 413, "{path}");
            continue;
        };
        let (got, body) = (answer.status().as_u16(), text(answer));
        assert_eq!(got, status, "{path} {headers:?}: {body}");
        assert!(body.contains(part), "{path} {headers:?}: {body}");
    }
    let picture = picture(Size::new(20, 20), 0);
    assert_eq!(
        tested.labels(&picture).unwrap(),
        expected(&picture).labels()
    );
    for (path, status) in [
        ("/v2", 200),
        ("/v2/", 200),
        ("/v2/models", 200),
        ("/v2/models/demo", 200),
        ("/v2/models/demo/ready", 200),
        ("/v2/models/demo/stats", 200),
        ("/v2/models/stats", 200),
        ("/v2/models/demo/versions/1", 200),
        ("/v2/models/demo/versions/2", 404),
        ("/v2/models/%ff", 400),
        ("/v2/models/other/ready", 404),
    ] {
        let answer = tested.get(path);
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(
            answer.headers()["content-type"],
            "application/json",
            "{path}"
        );
    }
}

#[test]
fn a_full_queue_refuses_before_the_body_and_recovers() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.limits.queue = 4;
    let tested = Tested::start(config);
    let picture = picture(Size::new(120, 160), 0);
    let expected = expected(&picture).labels().to_vec();
    let (good, full) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                for _ in 0..4 {
                    match tested.labels(&picture) {
                        Ok(labels) => {
                            assert_eq!(labels, expected);
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(status) => {
                            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                            full.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (good, full) = (good.into_inner(), full.into_inner());
    assert!(good >= 4 && full > 0, "{good} answered, {full} refused");
    assert_eq!(tested.labels(&picture).unwrap(), expected);
}

#[test]
fn a_token_is_needed_where_it_is_set() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.tokens = vec!["0123456789abcdef".into(), "fedcba9876543210".into()];
    config.origins = vec!["https://example.org".into()];
    let tested = Tested::start(config);
    let file = picture(Size::new(20, 20), 0).to_png().unwrap();
    for (token, status) in [
        ("", 401),
        ("Bearer 0123456789abcde", 401),
        ("Bearer 0123456789abcdef0", 401),
        ("Basic 0123456789abcdef", 401),
        ("Bearer 0123456789abcdef", 200),
        ("Bearer fedcba9876543210", 200),
    ] {
        let answer = tested.post("/segment", &file, &[("authorization", token)]);
        assert_eq!(answer.status(), status, "{token}");
    }
    assert_eq!(tested.get("/metrics").status(), 401);
    for open in ["/", "/openapi.json", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(tested.get(open).status(), 200, "{open}");
    }
    let headers = [
        ("authorization", "Bearer 0123456789abcdef"),
        ("origin", "https://example.org"),
    ];
    let answer = tested.post("/segment", &file, &headers);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://example.org"
    );
}

#[test]
fn draining_loses_no_request() {
    if !has_device() {
        return;
    }
    let mut tested = Tested::start(config());
    let picture = picture(Size::new(120, 160), 0);
    let expected = expected(&picture).labels().to_vec();
    let file = picture.to_png().unwrap();
    let url = format!("{}/segment", tested.url);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut answer = ureq::post(&url).send(&file[..]).unwrap();
                let png = answer.body_mut().read_to_vec().unwrap();
                assert_eq!(fullconv::decode_labels(&png).unwrap().1, expected);
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        // Until the server has all six requests.
        loop {
            let metrics = text(tested.get("/metrics"));
            let mut lines = metrics.lines();
            let in_flight = lines.find_map(|line| line.strip_prefix("fullconv_in_flight "));
            let in_flight: usize = in_flight.unwrap().parse().unwrap();
            if in_flight + answered.load(Ordering::Relaxed) >= 6 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tested.stop();
    });
    assert_eq!(answered.into_inner(), 6);
}

#[test]
fn a_lost_device_is_opened_again_and_masks_are_right() {
    if !has_device() {
        return;
    }
    let tested = Tested::start(config());
    let picture = picture(Size::new(64, 96), 0);
    let expected = expected(&picture).labels().to_vec();
    let stop = AtomicBool::new(false);
    let unavailable = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match tested.labels(&picture) {
                        Ok(labels) => assert_eq!(labels, expected),
                        Err(status) => {
                            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                            unavailable.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(10));
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        for gpu in tested.server().gpus() {
            gpu.device().destroy();
        }
        tested.wait_ready(false);
        assert_eq!(tested.get("/v2/health/live").status(), StatusCode::OK);
        tested.wait_ready(true);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(unavailable.into_inner() > 0);
    assert_eq!(tested.labels(&picture).unwrap(), expected);
    let metrics = text(tested.get("/metrics"));
    assert!(
        metrics.contains(r#"fullconv_device_lost_total{device="0"} 1"#),
        "{metrics}"
    );
}

#[test]
fn models_are_loaded_unloaded_and_loaded_anew_without_a_refused_request() {
    if !has_device() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("street.safetensors"),
        fullconv_demo::MODEL,
    )
    .unwrap();
    std::fs::write(folder.path().join("broken.safetensors"), b"no model").unwrap();
    let mut config = config();
    config.models = vec![demo("demo")];
    config.model_folder = Some(folder.path().into());
    config.model_control = true;
    let tested = Tested::start(config);
    let picture = picture(Size::new(64, 96), 0);
    let expected = expected(&picture).labels().to_vec();
    let index = || -> Value {
        let index = text(tested.post("/v2/repository/index", b"", &[]));
        let index: Value = serde_json::from_str(&index).unwrap();
        let states = index.as_array().unwrap().iter();
        states
            .map(|model| {
                (
                    model["name"].as_str().unwrap().to_owned(),
                    model["state"].clone(),
                )
            })
            .collect()
    };
    let control = |model: &str, verb: &str| {
        let path = format!("/v2/repository/models/{model}/{verb}");
        tested.post(&path, b"{}", &[]).status().as_u16()
    };
    let states = json!({ "broken": "UNAVAILABLE", "demo": "READY", "street": "UNAVAILABLE" });
    assert_eq!(index(), states);
    assert_eq!(control("street", "load"), 200);
    assert_eq!(index()["street"], "READY");
    let file = picture.to_png().unwrap();
    assert_eq!(
        tested.post("/segment?model=street", &file, &[]).status(),
        200
    );
    assert_eq!(
        tested.post("/segment", &file, &[]).status(),
        404,
        "which model?"
    );
    assert_eq!(control("street", "unload"), 200);
    assert_eq!(
        tested.post("/segment?model=street", &file, &[]).status(),
        503
    );
    assert_eq!(control("broken", "load"), 503);
    for wrong in ["nothing", "..%2Fstreet", "%2Fetc%2Fpasswd"] {
        assert_eq!(control(wrong, "load"), 404, "{wrong}");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut answer = tested.post("/segment?model=demo", &file, &[]);
                    assert_eq!(answer.status(), 200);
                    let png = answer.body_mut().read_to_vec().unwrap();
                    assert_eq!(fullconv::decode_labels(&png).unwrap().1, expected);
                }
            });
        }
        for _ in 0..3 {
            assert_eq!(control("demo", "load"), 200);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn slow_and_silent_clients_do_not_hold_up_others() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.limits.header_time = Duration::from_secs(1);
    config.limits.body_time = Duration::from_secs(1);
    let tested = Tested::start(config);
    let address = tested.url.strip_prefix("http://").unwrap();
    let send = |text: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(text).unwrap();
        stream
    };
    let begin = b"POST /segment HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n";
    let mut headers: Vec<_> = (0..50).map(|_| send(begin)).collect();
    let bodies = [&begin[..], b"\r\nabc"].concat();
    let mut bodies: Vec<_> = (0..50).map(|_| send(&bodies)).collect();
    let picture = picture(Size::new(64, 96), 0);
    let begun = Instant::now();
    assert_eq!(
        tested.labels(&picture).unwrap(),
        expected(&picture).labels()
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    for stream in &mut headers {
        // The server ends the connection, with or without a word.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    for stream in &mut bodies {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    }
    assert_eq!(
        tested.labels(&picture).unwrap(),
        expected(&picture).labels()
    );
}

#[test]
fn a_client_that_goes_leaves_no_work_behind() {
    if !has_device() {
        return;
    }
    let tested = Tested::start(config());
    let file = picture(Size::new(160, 240), 0).to_png().unwrap();
    let address = tested.url.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /segment HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        file.len()
    );
    for _ in 0..30 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(&[head.as_bytes(), &file].concat())
            .unwrap();
    }
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let metrics = text(tested.get("/metrics"));
        let outcome = r#"outcome="cancelled""#;
        if metrics.contains("fullconv_in_flight 0") && metrics.contains(outcome) {
            break;
        }
        assert!(Instant::now() < end, "{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let picture = picture(Size::new(64, 96), 0);
    assert_eq!(
        tested.labels(&picture).unwrap(),
        expected(&picture).labels()
    );
}

#[test]
fn a_device_without_progress_is_not_alive() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.stall = Duration::ZERO;
    let tested = Tested::start(config);
    let is_live = || tested.get("/v2/health/live").status() == StatusCode::OK;
    assert!(is_live());
    let picture = picture(Size::new(300, 400), 0);
    let was_dead = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let work = scope.spawn(|| tested.labels(&picture).unwrap());
        while !work.is_finished() {
            was_dead.fetch_or(!is_live(), Ordering::Relaxed);
        }
    });
    assert!(was_dead.into_inner());
    assert!(is_live());
}

#[test]
fn weights_that_leave_no_memory_are_refused() {
    if !has_device() {
        return;
    }
    let mut config = config();
    config.memory_bytes = Some(1 << 20);
    let error = fullconv_serve::Server::start(config)
        .unwrap_err()
        .to_string();
    assert!(error.contains("model demo: its weights take"), "{error}");
}
