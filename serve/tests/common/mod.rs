//! A server with the demo model on a device, and what tests ask of it.

use fullconv::{Gpu, GpuOptions, Mask, Model, Picture, Segmenter, Size, decode_labels};
use fullconv_serve::{Address, Config, Device, ModelSource, Server};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// A server under test; it stops when dropped.
pub struct Tested {
    server: Option<Server>,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    agent: Agent,
}

/// A device; `None`, with a line, if there is none and none is required.
pub fn has_device() -> bool {
    let found = pollster::block_on(fullconv::gpu::adapters(None));
    let is_found = found.iter().any(|adapter| adapter.trouble().is_none());
    if !is_found {
        assert!(
            std::env::var_os("FULLCONV_REQUIRE_GPU").is_none(),
            "there is no adapter"
        );
        eprintln!("skipped: there is no adapter");
    }
    is_found
}

/// The settings of a server with the demo model.
pub fn config() -> Config {
    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.models = vec![demo("demo")];
    config.devices = vec![device()];
    config.drain_delay = Duration::ZERO;
    config
}

/// The demo model under `name`.
pub fn demo(name: &str) -> ModelSource {
    ModelSource {
        name: name.into(),
        open: Arc::new(|| Model::from_bytes(fullconv_demo::MODEL)),
    }
}

/// A device of its own.
pub fn device() -> Device {
    Device::Gpu(Arc::new(|| pollster::block_on(gpu())))
}

async fn gpu() -> fullconv::Result<Gpu> {
    let options = GpuOptions {
        cache: fullconv::gpu::cache_folder(),
        ..GpuOptions::default()
    };
    Gpu::with_options(&options).await
}

/// The mask that the library makes of `picture`.
pub fn expected(picture: &Picture) -> Mask {
    static SEGMENTER: OnceLock<Segmenter> = OnceLock::new();
    let segmenter = SEGMENTER.get_or_init(|| {
        pollster::block_on(async {
            let model = Model::from_bytes(fullconv_demo::MODEL)?;
            Segmenter::new(&gpu().await?, &model).await
        })
        .unwrap()
    });
    segmenter.segment_blocking(picture).unwrap()
}

/// A picture of `size` with many colours, different for every `seed`.
pub fn picture(size: Size, seed: usize) -> Picture {
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7).wrapping_add(seed * 31) as u8;
    let bytes = (0..3 * size.height * size.width).map(byte);
    Picture::from_rgb(size, bytes.collect()).unwrap()
}

impl Tested {
    /// Starts a server.
    pub fn start(config: Config) -> Self {
        let server = Server::start(config).unwrap();
        let Address::Tcp(address) = &server.addresses()[0] else {
            panic!("the first address is TCP");
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // The server ends a connection whose body it did not read.
            .max_idle_connections(0)
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        Self {
            url: format!("http://{address}"),
            server: Some(server),
            agent: agent.into(),
        }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Drains and ends the server.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// The answer to a GET.
    pub fn get(&self, path: &str) -> Response<Body> {
        self.agent
            .get(format!("{}{path}", self.url))
            .call()
            .unwrap()
    }

    /// The answer to a POST with some headers.
    pub fn post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Response<Body> {
        self.try_post(path, body, headers).unwrap()
    }

    /// The same, if the server answers at all.
    pub fn try_post(
        &self,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body)
    }

    /// The class ids that the server gives for `picture`.
    pub fn labels(&self, picture: &Picture) -> Result<Vec<u8>, StatusCode> {
        let mut answer = self.post("/segment", &picture.to_png().unwrap(), &[]);
        if answer.status() != StatusCode::OK {
            return Err(answer.status());
        }
        let png = answer.body_mut().read_to_vec().unwrap();
        Ok(decode_labels(&png).unwrap().1)
    }

    /// Waits until the server says that it is ready, or is not.
    pub fn wait_ready(&self, ready: bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while (self.get("/v2/health/ready").status() == StatusCode::OK) != ready {
            assert!(Instant::now() < end, "still not: ready {ready}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The text of an answer.
pub fn text(mut answer: Response<Body>) -> String {
    answer.body_mut().read_to_string().unwrap()
}
