//! A network on a device, and the executors that are made for it: for a graph and the shape of its input, and
//! kept for the next run of the same.

use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::gpu::{Executor, Gpu, Network};
use crate::graph::{Graph, NodeId};
use crate::model_file::Model;
use crate::plan::Plan;
use crate::tensor::Shape;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A model's network on a device.
#[derive(Debug)]
pub(super) struct OnGpu {
    pub network: Network,
    /// What plans are made for.
    pub profile: DeviceProfile,
    /// The executor of the last run, for the next picture of the same size.
    latest: Mutex<Option<(Key, Executor)>>,
}

/// What an executor is made for: the name of its graph's input, that input's shape and the last node's,
/// and what it gives back.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    name: String,
    input: Shape,
    last: Shape,
    outputs: Vec<NodeId>,
}

/// A graph to run on inputs of one shape.
pub(super) struct Task {
    pub graph: Graph,
    key: Key,
}

impl Task {
    pub(super) fn new(graph: Graph, input: Shape, outputs: &[NodeId]) -> Result<Self> {
        let key = Key {
            name: graph.node(graph.input()).name.clone(),
            input,
            last: graph.shapes(input)?[graph.output().index()],
            outputs: outputs.to_vec(),
        };
        Ok(Self { graph, key })
    }

    /// The nodes whose values it gives back.
    pub(super) fn outputs(&self) -> &[NodeId] {
        &self.key.outputs
    }
}

impl OnGpu {
    pub(super) fn new(network: Network, profile: DeviceProfile) -> Self {
        Self {
            network,
            profile,
            latest: Mutex::new(None),
        }
    }

    pub(super) fn gpu(&self) -> &Gpu {
        self.network.gpu()
    }

    /// The last run's executor if it fits, else a new one in its place.
    pub(super) async fn lend(&self, model: &Model, task: Task) -> Result<Lent<'_>> {
        let kept = self.latest().take();
        let kept = match kept {
            Some((key, executor)) if key == task.key => (key, executor),
            // Another size: its buffers go before the new ones come.
            other => {
                drop(other);
                let executor = self.executor(model, &task).await?;
                (task.key, executor)
            }
        };
        Ok(Lent {
            from: self,
            kept: Some(kept),
        })
    }

    /// A new executor for `task`.
    pub(super) async fn executor(&self, model: &Model, task: &Task) -> Result<Executor> {
        let (graph, Key { input, outputs, .. }) = (&task.graph, &task.key);
        let choices = self.gpu().choices();
        let plan = Plan::with_choices(graph, *input, outputs, &self.profile, &choices)?;
        Executor::new(&self.network, plan, graph, model.parameters()).await
    }

    /// Lets go of the executor that is kept.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn forget(&self) {
        let kept = self.latest().take();
        drop(kept);
    }

    fn latest(&self) -> MutexGuard<'_, Option<(Key, Executor)>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An executor on loan: it goes back when this is dropped, at the end of a run or in the middle of one that
/// nobody waits for any more.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    from: &'a OnGpu,
    /// Until it goes back.
    kept: Option<(Key, Executor)>,
}

impl Lent<'_> {
    pub(super) fn executor(&mut self) -> Result<&mut Executor> {
        match &mut self.kept {
            Some((_, executor)) => Ok(executor),
            None => bail!(Request, "there is nothing to run with"),
        }
    }

    /// Whether it was made for such a task.
    pub(super) fn fits(&self, task: &Task) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|(key, _)| *key == task.key)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.from.latest(), self.kept.take());
        drop(before);
    }
}
