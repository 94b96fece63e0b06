//! What the server counts, in Prometheus's text format.

use crate::record::Report;
use crate::workers::Shared;
use fullconv::gpu::wgpu;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Mutex, PoisonError};

/// The upper ends of the buckets of times, in seconds.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// The upper ends of the buckets of batch sizes.
const BATCHES: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    protocol: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeviceLabels {
    device: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InfoLabels {
    device: u64,
    adapter: String,
    driver: String,
    backend: &'static str,
    pci: String,
}

type Times = Family<ModelLabels, Histogram, fn() -> Histogram>;

fn times() -> Times {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// The counters of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    request: Times,
    queue: Times,
    decode: Times,
    device: Times,
    encode: Times,
    batch: Family<ModelLabels, Histogram, fn() -> Histogram>,
    pixels: Family<ModelLabels, Counter>,
    executions: Family<ModelLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    lost: Family<DeviceLabels, Counter>,
    ready: Family<DeviceLabels, Gauge>,
    device_info: Family<InfoLabels, Gauge>,
    model_ready: Family<ModelLabels, Gauge>,
    depth: Gauge,
    pictures: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("fullconv");
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            request: times(),
            queue: times(),
            decode: times(),
            device: times(),
            encode: times(),
            batch: Family::new_with_constructor(|| Histogram::new(BATCHES)),
            pixels: Family::default(),
            executions: Family::default(),
            rejected: Family::default(),
            lost: Family::default(),
            ready: Family::default(),
            device_info: Family::default(),
            model_ready: Family::default(),
            depth: Gauge::default(),
            pictures: Gauge::default(),
        };
        metrics.register(&mut registry);
        Self {
            registry: Mutex::new(registry),
            ..metrics
        }
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        let requests = self.requests.clone();
        registry.register("requests", "Requests for results, by outcome", requests);
        for (name, help, times) in [
            (
                "request_duration",
                "From the header of a request to its answer",
                &self.request,
            ),
            ("queue_duration", "In the queue", &self.queue),
            (
                "decode_duration",
                "Decoding the pictures of a request",
                &self.decode,
            ),
            ("device_duration", "On the device", &self.device),
            (
                "encode_duration",
                "Encoding the results of a request",
                &self.encode,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, times.clone());
        }
        registry.register("batch_size", "Pictures of an execution", self.batch.clone());
        registry.register("pixels", "Pixels labelled", self.pixels.clone());
        registry.register(
            "executions",
            "Executions on devices",
            self.executions.clone(),
        );
        let rejected = self.rejected.clone();
        registry.register(
            "rejected",
            "Requests refused or failed, by reason",
            rejected,
        );
        registry.register(
            "device_lost",
            "How often a device was lost",
            self.lost.clone(),
        );
        registry.register(
            "device_ready",
            "1 if the device computes",
            self.ready.clone(),
        );
        let info = self.device_info.clone();
        registry.register("device_info", "1 for each device of the server", info);
        let model_ready = self.model_ready.clone();
        registry.register("model_ready", "1 if the model takes requests", model_ready);
        registry.register(
            "queue_depth",
            "Pictures that wait for a device",
            self.depth.clone(),
        );
        let help = "Pictures that are decoded, wait, are computed or encoded";
        registry.register("in_flight", help, self.pictures.clone());
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of the server", Info::new(version));
    }

    /// Names a device.
    pub fn name_device(&self, device: usize, info: &wgpu::AdapterInfo) {
        let labels = InfoLabels {
            device: device as u64,
            adapter: info.name.trim().to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_owned(),
            backend: info.backend.to_str(),
            pci: info.device_pci_bus_id.clone(),
        };
        self.device_info.get_or_create(&labels).set(1);
    }

    /// Counts an execution of `pictures`.
    pub fn execution(&self, model: &str, pictures: usize) {
        let labels = ModelLabels {
            model: model.to_owned(),
        };
        self.batch.get_or_create(&labels).observe(pictures as f64);
        self.executions.get_or_create(&labels).inc();
    }

    /// Counts a lost device.
    pub fn device_lost(&self, device: usize) {
        let device = device as u64;
        self.lost.get_or_create(&DeviceLabels { device }).inc();
    }

    /// Counts a request for results.
    pub fn request(&self, report: &Report) {
        let labels = RequestLabels {
            model: report.model.clone(),
            protocol: report.protocol,
            outcome: report.outcome,
        };
        self.requests.get_or_create(&labels).inc();
        if report.outcome != "ok" {
            let reason = report.outcome;
            self.rejected.get_or_create(&ReasonLabels { reason }).inc();
            return;
        }
        let labels = ModelLabels {
            model: report.model.clone(),
        };
        for (times, time) in [
            (&self.request, report.all),
            (&self.queue, report.stages.queue),
            (&self.decode, report.stages.decode),
            (&self.device, report.stages.device),
            (&self.encode, report.stages.encode),
        ] {
            times.get_or_create(&labels).observe(time.as_secs_f64());
        }
        self.pixels.get_or_create(&labels).inc_by(report.pixels);
    }

    /// All of it as text.
    pub fn text(&self, shared: &Shared) -> String {
        self.depth.set(shared.queue.len() as i64);
        self.pictures.set(shared.room.pictures() as i64);
        for worker in shared.workers.all() {
            let device = worker.number as u64;
            let ready = self.ready.get_or_create(&DeviceLabels { device });
            ready.set(i64::from(worker.is_ready()));
        }
        for (model, state) in shared.catalog.states() {
            let is_ready = matches!(state, crate::catalog::State::Ready(_));
            let ready = self.model_ready.get_or_create(&ModelLabels { model });
            ready.set(i64::from(is_ready));
        }
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}
