//! The pool of executors of one network on one device. An executor is lent for a request and kept for the next equal
//! one; beyond a bound on device memory, the least recently used idle executors are dropped.

use super::request::{Request, Task};
use crate::error::{ErrorKind, Result, bail};
use crate::gpu::Gpu;
use crate::gpu::low_level::{Executor, Network};
use crate::graph::Graph;
use crate::model_file::Model;
use crate::plan::Plan;
use crate::target::Target;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// The most idle executors that are kept, even if device memory allows more: their plans take host memory.
const MOST_KEPT: usize = 64;

/// The plans and executors of a [`Segmenter`](super::Segmenter), as counts and sizes. Counts restart when the
/// segmenter recovers on another device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Plans made. A plan serves all equal requests, and is kept as long as an executor of it.
    pub plans: u64,
    /// Requests for which no plan fits the device. Of a batch, fewer images are tried then.
    pub too_large: u64,
    /// Executors made.
    pub executors: u64,
    /// Executors dropped to stay within the bound on memory, or because more than 64 were idle.
    pub evicted: u64,
    /// Executors at work.
    pub in_use: usize,
    /// Executors that wait for the next request.
    pub idle: usize,
    /// Bytes of device memory of all executors: activations and read-back buffers. Weights are shared and not counted.
    pub bytes: u64,
    /// Bytes of the model's weights in device memory, as kernels read them.
    pub weight_bytes: u64,
}

/// What is known of a model on a device: `None` inside if it computes right, else what is wrong.
pub(super) type Known = OnceLock<Option<String>>;

/// Executors of one network, shared by all callers.
#[derive(Debug)]
pub(super) struct Executors {
    model: Model,
    network: Network,
    /// What plans are made for.
    target: Target,
    /// The most bytes of device memory for executors: beyond them, idle executors are dropped.
    most_bytes: AtomicU64,
    known: Known,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The plan of each request that has an executor.
    plans: HashMap<Request, Weak<PlannedRequest>>,
    /// The least batch that has no plan, of requests (for one image) of which larger batches were tried.
    too_many: HashMap<Request, usize>,
    /// The least recently used first.
    idle: VecDeque<Kept>,
    stats: PoolStats,
}

/// A request, and its plan once made.
#[derive(Debug)]
struct PlannedRequest {
    request: Request,
    /// Locked during planning, so that an equal request waits meanwhile instead of planning again.
    plan: Mutex<Option<(Arc<Plan>, Arc<Graph>)>>,
}

/// An executor that waits for the next request.
#[derive(Debug)]
struct Kept {
    planned: Arc<PlannedRequest>,
    executor: Executor,
    bytes: u64,
}

impl Executors {
    /// A pool without executors, which drops idle ones while all take more than `most_bytes`.
    pub(super) fn new(model: &Model, network: Network, target: Target, most_bytes: u64) -> Self {
        Self {
            model: model.clone(),
            network,
            target,
            most_bytes: most_bytes.into(),
            known: Known::default(),
            state: Mutex::default(),
        }
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// What is known of the model on the device.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn gpu(&self) -> &Gpu {
        self.network.gpu()
    }

    fn most_bytes(&self) -> u64 {
        self.most_bytes.load(Ordering::Relaxed)
    }

    /// Drops idle executors while all take more than `most_bytes`, now and from now on.
    pub(super) fn keep_within(&self, most_bytes: u64) {
        let most_bytes = most_bytes.min(self.target.options.memory_bytes);
        self.most_bytes.store(most_bytes, Ordering::Relaxed);
        let evicted = self.lock().evict(most_bytes);
        // Frees their buffers outside the lock.
        drop(evicted);
    }

    pub(super) fn stats(&self) -> PoolStats {
        let weight_bytes = self.network.weight_bytes();
        let state = self.lock();
        PoolStats {
            idle: state.idle.len(),
            weight_bytes,
            ..state.stats
        }
    }

    /// An executor for `request`: an idle one, else a new one.
    ///
    /// # Errors
    /// As [`Request::task`]; `Limit` if the device cannot hold the executor, `Device` or `DeviceLost` if the device
    /// fails.
    pub(super) async fn lend(self: &Arc<Self>, request: &Request) -> Result<Lent> {
        if let Some(kept) = self.lock().take(request) {
            return Ok(Lent {
                pool: self.clone(),
                planned: kept.planned,
                executor: Some(kept.executor),
                bytes: kept.bytes,
            });
        }
        let planned = self.lock().planned(request);
        let (plan, graph) = self.plan(&planned)?;
        let bytes = Executor::bytes_of(&plan);
        // Frees idle executors before the new one allocates its buffers.
        let evicted = self.lock().begin(bytes, self.most_bytes());
        drop(evicted);
        let mut lent = Lent {
            pool: self.clone(),
            planned,
            executor: None,
            bytes,
        };
        let made = match self.make(&plan, &graph).await {
            // The device has less memory than the bound allows.
            Err(error) if error.kind() == ErrorKind::Limit && self.let_go_of_idle() => {
                self.make(&plan, &graph).await
            }
            made => made,
        };
        lent.executor = Some(made?);
        Ok(lent)
    }

    /// An executor for `request` outside the pool: it never returns to it, and its memory is not counted.
    pub(super) async fn executor(&self, request: &Request) -> Result<Executor> {
        let planned = self.lock().planned(request);
        let (plan, graph) = self.plan(&planned)?;
        self.make(&plan, &graph).await
    }

    /// Drops the plans, and executors as soon as they are idle: later requests are planned anew.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn forget(&self) {
        self.lock().plans.clear();
        self.let_go_of_idle();
    }

    /// The plan of a request and its graph, made now if missing.
    fn plan(&self, planned: &PlannedRequest) -> Result<(Arc<Plan>, Arc<Graph>)> {
        let mut plan = planned.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((plan, graph)) = &*plan {
            return Ok((plan.clone(), graph.clone()));
        }
        let request = &planned.request;
        let Task { graph, outputs } = request.task(&self.model)?;
        let choices = self.gpu().choices();
        let made = Plan::with_choices(&graph, request.input(), &outputs, &self.target, &choices);
        let made = made.inspect_err(|e| {
            if e.kind() == ErrorKind::Limit {
                self.lock().note_too_many(request);
            }
        })?;
        self.lock().stats.plans += 1;
        let (made, graph) = plan.insert((Arc::new(made), Arc::new(graph)));
        Ok((made.clone(), graph.clone()))
    }

    async fn make(&self, plan: &Arc<Plan>, graph: &Graph) -> Result<Executor> {
        let parameters = self.model.parameters();
        let executor = Executor::new(&self.network, plan.clone(), graph, parameters).await?;
        self.lock().stats.executors += 1;
        Ok(executor)
    }

    /// Drops all idle executors. False if there are none.
    fn let_go_of_idle(&self) -> bool {
        let mut state = self.lock();
        let idle = std::mem::take(&mut state.idle);
        state.stats.bytes -= idle.iter().map(|kept| kept.bytes).sum::<u64>();
        drop(state);
        !idle.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes that the batch of `request` has no plan.
    fn note_too_many(&mut self, request: &Request) {
        self.stats.too_large += 1;
        if self.too_many.len() >= MOST_KEPT {
            self.too_many.clear();
        }
        let least = self.too_many.entry(request.with_batch(1));
        let n = request.input().n;
        least
            .and_modify(|least| *least = n.min(*least))
            .or_insert(n);
    }

    /// The most images of `request` to try at a time.
    fn most_images(&self, request: &Request) -> usize {
        let least = self.too_many.get(&request.with_batch(1));
        least.map_or(usize::MAX, |least| least.div_ceil(2))
    }

    /// The most recently used idle executor for `request`.
    fn take(&mut self, request: &Request) -> Option<Kept> {
        let of_request = |kept: &Kept| kept.planned.request == *request;
        let kept = self.idle.remove(self.idle.iter().rposition(of_request)?)?;
        self.stats.in_use += 1;
        Some(kept)
    }

    /// The entry for `request`, with or without its plan.
    fn planned(&mut self, request: &Request) -> Arc<PlannedRequest> {
        if let Some(planned) = self.plans.get(request).and_then(Weak::upgrade) {
            return planned;
        }
        self.plans.retain(|_, planned| planned.strong_count() > 0);
        let planned = Arc::new(PlannedRequest {
            request: request.clone(),
            plan: Mutex::default(),
        });
        self.plans.insert(request.clone(), Arc::downgrade(&planned));
        planned
    }

    /// Counts an executor of `bytes` as in use, and returns the idle ones to drop for it.
    fn begin(&mut self, bytes: u64, most_bytes: u64) -> Vec<Kept> {
        self.stats.in_use += 1;
        self.stats.bytes += bytes;
        self.evict(most_bytes)
    }

    /// Counts an executor of `bytes` as no longer in use, and keeps it unless it is missing or its plan was replaced.
    /// Returns the executors to drop.
    fn end(&mut self, bytes: u64, kept: Option<Kept>, most_bytes: u64) -> Vec<Kept> {
        self.stats.in_use -= 1;
        self.stats.bytes -= bytes;
        let is_current = |kept: &Kept| {
            let current = self.plans.get(&kept.planned.request);
            current.is_some_and(|plan| std::ptr::eq(plan.as_ptr(), &*kept.planned))
        };
        match kept {
            Some(kept) if !is_current(&kept) => vec![kept],
            // Too large for the bound by itself.
            Some(kept) if kept.bytes > most_bytes => {
                self.stats.evicted += 1;
                vec![kept]
            }
            Some(kept) => {
                self.stats.bytes += kept.bytes;
                self.idle.push_back(kept);
                self.evict(most_bytes)
            }
            None => Vec::new(),
        }
    }

    /// Removes idle executors, the least recently used first, until all take no more than `most_bytes`; returns them.
    fn evict(&mut self, most_bytes: u64) -> Vec<Kept> {
        let mut evicted = Vec::new();
        while (self.stats.bytes > most_bytes || self.idle.len() > MOST_KEPT)
            && let Some(kept) = self.idle.pop_front()
        {
            self.stats.bytes -= kept.bytes;
            self.stats.evicted += 1;
            evicted.push(kept);
        }
        evicted
    }
}

/// An executor on loan. It returns to the pool when this is dropped: at the end of a run, or during a run that nobody
/// awaits.
#[derive(Debug)]
pub(super) struct Lent {
    pool: Arc<Executors>,
    planned: Arc<PlannedRequest>,
    /// `None` before it is made, and after its return.
    executor: Option<Executor>,
    /// The bytes that it is counted with.
    bytes: u64,
}

impl Lent {
    pub(super) fn executor(&mut self) -> Result<&mut Executor> {
        match &mut self.executor {
            Some(executor) => Ok(executor),
            None => bail!(Request, "there is nothing to run with"),
        }
    }

    /// Whether it is from `pool`, and made for an equal request.
    pub(super) fn fits(&self, pool: &Arc<Executors>, request: &Request) -> bool {
        Arc::ptr_eq(&self.pool, pool) && self.planned.request == *request
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let kept = self.executor.take().map(|executor| Kept {
            planned: self.planned.clone(),
            bytes: executor.device_bytes(),
            executor,
        });
        let most_bytes = self.pool.most_bytes();
        let evicted = self.pool.lock().end(self.bytes, kept, most_bytes);
        // Frees their buffers outside the lock, so that other requests do not wait.
        drop(evicted);
    }
}

/// A batch in parts, each as large as the device can run.
#[derive(Debug)]
pub(super) struct BatchParts {
    request: Request,
    done: usize,
    at_once: usize,
}

impl BatchParts {
    /// The parts of the batch of `request`: at first all of it.
    pub(super) fn of(request: Request) -> Self {
        let at_once = request.input().n;
        Self {
            request,
            done: 0,
            at_once,
        }
    }

    /// The next images, and an executor of `pool` for them; `None` after the last. If the device cannot hold as many at
    /// a time, half of them are tried; later batches begin with a number that had a plan.
    ///
    /// # Errors
    /// As [`Executors::lend`]; `Limit` if the device cannot hold even one image.
    pub(super) async fn next(
        &mut self,
        pool: &Arc<Executors>,
    ) -> Result<Option<(Range<usize>, Lent)>> {
        let all = self.request.input().n;
        while self.done < all {
            let most = pool.lock().most_images(&self.request);
            let n = self.at_once.min(all - self.done).min(most);
            match pool.lend(&self.request.with_batch(n)).await {
                Err(e) if e.kind() == ErrorKind::Limit && n > 1 => self.at_once = n.div_ceil(2),
                Err(e) => return Err(e),
                Ok(lent) => {
                    let images = self.done..self.done + n;
                    self.done += n;
                    return Ok(Some((images, lent)));
                }
            }
        }
        Ok(None)
    }
}
