//! The life of a server: start, signals, drain, end.

use crate::catalog::Catalog;
use crate::config::{Address, Config};
use crate::listen::{self, Front};
use crate::metrics::Metrics;
use crate::queue::{Queue, Room};
use crate::routes;
use crate::service::Service;
use crate::trouble::Outcome;
use crate::workers::{Shared, Workers};
use fullconv::{Error, ErrorKind, Gpu, Result};
use sd_notify::NotifyState;
use std::future::pending;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The time for the devices' threads at the end: what they compute then, nobody waits for.
const LAST_RUN: Duration = Duration::from_secs(5);

/// A server at work. When dropped, it ends without waiting for requests under way; [`Server::stop`] waits.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    addresses: Vec<Address>,
    threads: Vec<JoinHandle<()>>,
    fronts: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
    /// `None` once it has ended.
    runtime: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Server {
    /// Listens, opens the devices and loads the models. Requests are answered when this returns.
    ///
    /// While models are loaded the server already says that it lives and that it is not ready.
    ///
    /// # Errors
    /// `Io` if an address cannot be listened on; as [`fullconv::Segmenter::new`] if a device cannot be opened or a
    /// model not loaded.
    pub fn start(config: Config) -> Result<Self> {
        if config.devices.is_empty() {
            return Err(Error::new(
                ErrorKind::Request,
                "there is no device to serve on",
            ));
        }
        let sockets = listen::bind(&config.listen)?;
        let addresses = sockets
            .iter()
            .map(|socket| socket.address().clone())
            .collect();
        let workers = Workers::open(&config)?;
        let limits = config.limits;
        let shared = Arc::new(Shared {
            queue: Queue::new(config.run),
            room: Room::new(limits.queue, limits.queue_bytes, workers.all().len()),
            catalog: Catalog::new(&config),
            workers,
            metrics: Metrics::default(),
            batch: config.batch.max(1),
        });
        for worker in shared.workers.all() {
            if let Some(gpu) = worker.gpu() {
                shared.metrics.name_device(worker.number, gpu.info());
            }
        }
        let cannot = |reason: std::io::Error| {
            let text = format!("cannot start the server's threads: {reason}");
            Error::new(ErrorKind::Io, text).with_source(reason)
        };
        let threads = Workers::start(&shared).map_err(cannot)?;
        let names: Vec<_> = config
            .models
            .iter()
            .map(|model| model.name.clone())
            .collect();
        let service = Arc::new(Service::new(shared, config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(cannot)?;
        let (stop, stopped) = watch::channel(false);
        let front = Front::new(routes::router(&service), limits);
        let mut fronts = JoinSet::new();
        for socket in sockets {
            fronts.spawn_on(
                front.clone().serve(socket, stopped.clone()),
                runtime.handle(),
            );
        }
        let server = Self {
            service,
            addresses,
            threads,
            fronts,
            stop,
            runtime: Some(runtime),
        };
        for name in names {
            server.load(&name)?;
        }
        Ok(server)
    }

    fn load(&self, name: &str) -> Result<()> {
        let shared = &self.service.shared;
        let loaded: Outcome<()> = shared.catalog.load(name, &shared.workers);
        loaded.map_err(|trouble| Error::new(ErrorKind::ModelFile, trouble.message))
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The names of the devices.
    pub fn devices(&self) -> String {
        self.service.shared.workers.describe()
    }

    /// The open devices, for tests that lose them.
    #[doc(hidden)]
    pub fn gpus(&self) -> Vec<Gpu> {
        let workers = self.service.shared.workers.all().iter();
        workers.filter_map(|worker| worker.gpu()).collect()
    }

    /// Serves until SIGTERM or SIGINT, then drains: for a while the server still listens and says that it is not ready,
    /// then requests under way are finished. A second signal ends it at once. SIGHUP loads all models anew. systemd is
    /// told of all this.
    ///
    /// # Errors
    /// `Io` if signals cannot be received.
    pub fn run_until_stopped(mut self) -> Result<()> {
        notify(&[NotifyState::Ready]);
        let service = self.service.clone();
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let again = runtime.block_on(async {
            let cannot = |reason: std::io::Error| {
                let text = format!("cannot receive signals: {reason}");
                Error::new(ErrorKind::Io, text).with_source(reason)
            };
            let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
            let mut hang_up = signal(SignalKind::hangup()).map_err(cannot)?;
            let mut watchdog = watchdog();
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => reload(service.clone()),
                    () = beat(&mut watchdog) => {
                        if service.shared.workers.dead().is_none() {
                            notify(&[NotifyState::Watchdog]);
                        }
                    }
                }
            }
            Ok::<_, Error>(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
        })?;
        tracing::info!("draining");
        notify(&[NotifyState::Stopping]);
        service.drain();
        // The second signal.
        runtime.spawn(async move {
            again.await;
            tracing::warn!("ending at once");
            std::process::exit(130);
        });
        let delay = service.config.drain_delay;
        runtime.block_on(async { tokio::time::sleep(delay).await });
        let timeout = service.config.drain_timeout;
        self.end(timeout);
        Ok(())
    }

    /// Drains and ends the server.
    pub fn stop(mut self) {
        self.service.drain();
        let timeout = self.service.config.drain_timeout;
        self.end(timeout);
    }

    /// Stops listening, waits up to `timeout` for requests under way, and ends the threads.
    fn end(&mut self, timeout: Duration) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        self.service.stop();
        // Without a receiver every front has ended.
        let _ = self.stop.send(true);
        let fronts = &mut self.fronts;
        let ended = runtime.block_on(async {
            let all = async { while fronts.join_next().await.is_some() {} };
            tokio::time::timeout(timeout, all).await
        });
        if ended.is_err() && !timeout.is_zero() {
            tracing::warn!(
                "requests were still under way after {} s",
                timeout.as_secs()
            );
        }
        self.service.shared.queue.close();
        for job in self.service.shared.queue.clear() {
            job.refuse(crate::job::no_device());
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        let end = Instant::now() + LAST_RUN;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            // A thread that waits for a stalled device is left behind.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// Loads all models anew, in the background.
fn reload(service: Arc<Service>) {
    tracing::info!("loading all models anew");
    tokio::task::spawn_blocking(move || {
        let shared = &service.shared;
        for served in shared.catalog.ready() {
            // The catalog logs a failure; the old model stays.
            let _ = shared.catalog.load(&served.name, &shared.workers);
        }
    });
}

/// The ticks of systemd's watchdog, if it watches.
fn watchdog() -> Option<tokio::time::Interval> {
    let time = sd_notify::watchdog_enabled()?;
    Some(tokio::time::interval(time / 2))
}

async fn beat(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => {
            watchdog.tick().await;
        }
        None => pending().await,
    }
}

fn notify(state: &[NotifyState]) {
    if let Err(reason) = sd_notify::notify(state) {
        tracing::warn!("cannot tell systemd: {reason}");
    }
}
