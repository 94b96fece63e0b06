//! What a server is told at its start, as plain data.

use fullconv::{Gpu, Model, Precision, Result};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A server's settings. [`Config::default`] has the documented defaults, no model and no device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen. Every address speaks HTTP/1.1, HTTP/2 without TLS, and gRPC. Sockets that systemd passes are
    /// listened on too; with them, none has to be given.
    pub listen: Vec<Address>,
    /// The models to load at the start.
    pub models: Vec<ModelSource>,
    /// The folder of models that requests may load by name, if [`Config::model_control`] is set.
    pub model_folder: Option<PathBuf>,
    /// Whether requests may load and unload models.
    pub model_control: bool,
    /// The devices; each has a worker. Never empty.
    pub devices: Vec<Device>,
    /// The type of stored activations and weights.
    pub precision: Precision,
    /// The most bytes of device memory for weights and buffers, of all models of a device.
    pub memory_bytes: Option<u64>,
    /// Bounds on requests.
    pub limits: Limits,
    /// The most pictures of one size that follow each other while others wait.
    pub run: usize,
    /// The most pictures that one execution takes.
    pub batch: usize,
    /// The time between SIGTERM and the end of listening, in which the server says that it is not ready.
    pub drain_delay: Duration,
    /// The time for requests under way after that.
    pub drain_timeout: Duration,
    /// The time without progress of a device at work from which the server says that it does not live.
    pub stall: Duration,
    /// Tokens, one of which a request has to bear. Empty: no token is needed.
    pub tokens: Vec<String>,
    /// Origins of pages of other sites that may send requests, such as `https://example.org`; `*` is all.
    pub origins: Vec<String>,
}

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Pictures that are decoded, wait, are computed or encoded.
    pub queue: usize,
    /// Bytes of these pictures' pixels, 4 a pixel.
    pub queue_bytes: u64,
    /// Bytes of a body, before and after decompression.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being received or decoded.
    pub bodies_bytes: usize,
    /// Pixels of a picture.
    pub pixels: u64,
    /// Connections at a time.
    pub connections: usize,
    /// The time for a request's header, which is also the time that a connection may be idle.
    pub header_time: Duration,
    /// The time for a request's body.
    pub body_time: Duration,
    /// The time in which a client has to take some part of an answer.
    pub write_time: Duration,
    /// The time for a request from its body to its answer. A request may ask for less.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 64,
            queue_bytes: 1 << 30,
            body_bytes: 64 << 20,
            bodies_bytes: 512 << 20,
            pixels: 25_000_000,
            connections: 1024,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            time: Duration::from_secs(30),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            models: Vec::new(),
            model_folder: None,
            model_control: false,
            devices: Vec::new(),
            precision: Precision::default(),
            memory_bytes: None,
            limits: Limits::default(),
            run: 8,
            batch: 1,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            tokens: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port: `127.0.0.1:8080`, `[::]:8080`. Port 0 is any free one.
    Tcp(SocketAddr),
    /// The path of a unix socket: `unix:/run/fullconv.sock`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("unix: needs a path".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            "an address is IP:PORT, such as 127.0.0.1:8080 or [::]:8080, or unix:PATH".to_owned()
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A model under the name that requests give.
#[derive(Clone)]
pub struct ModelSource {
    /// The name.
    pub name: String,
    /// Opens the model. Called again when the model is loaded anew.
    pub open: Arc<dyn Fn() -> Result<Model> + Send + Sync>,
}

impl ModelSource {
    /// The model file at `path`, under `name`.
    pub fn file(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            name: name.into(),
            open: Arc::new(move || Model::read(&path)),
        }
    }

    /// The name of the model in the file at `path`: the file's, without its extension.
    pub fn name_of(path: &std::path::Path) -> String {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        stem.map_or_else(String::new, |stem| stem.into_owned())
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelSource({})", self.name)
    }
}

/// Whether `name` can be a model's name: letters, digits, `-`, `_` and `.`, not first.
pub fn is_name(name: &str) -> bool {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(is_usual)
}

/// A device of the server.
#[derive(Clone)]
pub enum Device {
    /// Opens a GPU; called again when the device is lost.
    Gpu(Arc<dyn Fn() -> Result<Gpu> + Send + Sync>),
    /// The CPU reference.
    Reference,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu(_) => "Gpu",
            Self::Reference => "Reference",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        let tcp: Address = "[::1]:80".parse().unwrap();
        assert_eq!(tcp.to_string(), "http://[::1]:80");
        for wrong in ["", "unix:", "8080", "localhost", "localhost:8080"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_models_are_no_paths() {
        for name in ["demo", "fcn8s-pascal_v1.2"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "../a", "a/b", "a\\b", "a b", "é", ".hidden"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
