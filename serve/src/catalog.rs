//! The models that the server has, and their states.

use crate::config::{Config, ModelSource, is_name};
use crate::trouble::{Kind, Outcome, Trouble};
use crate::workers::Workers;
use fullconv::{Model, Picture, Precision, Samples, Segmenter, Size};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// The only version of every model.
pub const VERSION: &str = "1";
/// The side of the picture of a warm-up.
const WARM_UP_SIDE: usize = 64;
/// The bound on kept buffers of a model without `memory_bytes`: the library's.
const POOL_BYTES: u64 = 2 << 30;

/// A loaded model.
#[derive(Debug)]
pub struct Served {
    /// Differs for every load.
    pub id: u64,
    /// The name in requests.
    pub name: String,
    /// The model.
    pub model: Model,
    /// What became of its requests.
    pub statistics: Statistics,
    /// One for each worker.
    segmenters: Vec<Segmenter>,
}

impl Served {
    /// The model on the device of worker number `worker`.
    pub fn on(&self, worker: usize) -> &Segmenter {
        &self.segmenters[worker]
    }

    /// Segments a small picture on worker number `worker`, so that pipelines are compiled before the first request.
    pub fn warm_up(&self, worker: usize) -> fullconv::Result<()> {
        let segmenter = self.on(worker);
        let size = Size::square(WARM_UP_SIDE);
        let bands = self.model.input_channels();
        let samples = (0..size.height * size.width * bands).map(|i| (i * 37 % 251) as u8);
        let picture = Picture::from_bands(size, bands, Samples::U8(samples.collect()))?;
        match self.model.has_labels() {
            true => pollster::block_on(segmenter.segment(&picture)).map(drop),
            false => pollster::block_on(segmenter.probabilities(&picture)).map(drop),
        }
    }

    /// Bytes of the weights on the device that has most of them.
    fn weight_bytes(&self) -> u64 {
        let bytes = self.segmenters.iter();
        bytes
            .map(|s| s.pool_stats().weight_bytes)
            .max()
            .unwrap_or(0)
    }
}

/// Counts and times of a model's requests since it was loaded.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counts>);

/// A count, and the sum of times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// The sum.
    pub time: Duration,
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time += time;
    }
}

/// The figures of [`Statistics`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Pictures computed.
    pub pictures: u64,
    /// Executions on a device.
    pub executions: u64,
    /// When the last request came.
    pub last: Option<SystemTime>,
    /// Requests answered, from body to answer.
    pub success: Times,
    /// Requests failed.
    pub fail: Times,
    /// Waiting.
    pub queue: Times,
    /// Decoding pictures.
    pub decode: Times,
    /// On the device.
    pub device: Times,
    /// Encoding results.
    pub encode: Times,
}

impl Statistics {
    /// The figures now.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Counts an execution of `pictures`.
    pub fn execution(&self, pictures: usize) {
        let mut counts = self.lock();
        counts.executions += 1;
        counts.pictures += pictures as u64;
    }

    /// Counts a request that was answered or failed after `all`, with the times of its stages.
    pub fn request(&self, is_answered: bool, all: Duration, stages: [Duration; 4]) {
        let mut counts = self.lock();
        counts.last = Some(SystemTime::now());
        if !is_answered {
            counts.fail.add(all);
            return;
        }
        let [queue, decode, device, encode] = stages;
        counts.success.add(all);
        counts.queue.add(queue);
        counts.decode.add(decode);
        counts.device.add(device);
        counts.encode.add(encode);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a model.
#[derive(Clone, Debug)]
pub enum State {
    /// It takes requests.
    Ready(Arc<Served>),
    /// It will take requests.
    Loading,
    /// It takes none, for this reason.
    Unavailable(String),
}

#[derive(Debug)]
struct Slot {
    source: ModelSource,
    state: State,
}

/// The models, by name.
#[derive(Debug)]
pub struct Catalog {
    slots: RwLock<BTreeMap<String, Slot>>,
    folder: Option<PathBuf>,
    precision: Precision,
    memory_bytes: Option<u64>,
    /// Held while a model is loaded or unloaded: one at a time.
    changing: Mutex<()>,
    ids: AtomicU64,
}

impl Catalog {
    /// The models of `config`, none of them loaded.
    pub fn new(config: &Config) -> Self {
        let slot = |source: &ModelSource| {
            let slot = Slot {
                source: source.clone(),
                state: State::Loading,
            };
            (source.name.clone(), slot)
        };
        Self {
            slots: RwLock::new(config.models.iter().map(slot).collect()),
            folder: config.model_folder.clone(),
            precision: config.precision,
            memory_bytes: config.memory_bytes,
            changing: Mutex::default(),
            ids: AtomicU64::default(),
        }
    }

    /// The names and states of all models.
    pub fn states(&self) -> Vec<(String, State)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let states = slots.iter();
        states
            .map(|(name, slot)| (name.clone(), slot.state.clone()))
            .collect()
    }

    /// The models that take requests.
    pub fn ready(&self) -> Vec<Arc<Served>> {
        let states = self.states().into_iter();
        let ready = states.filter_map(|(_, state)| match state {
            State::Ready(served) => Some(served),
            _ => None,
        });
        ready.collect()
    }

    /// The names of the models in the folder that are not loaded, if it can be read.
    pub fn others(&self) -> Vec<String> {
        let Some(Ok(files)) = self.folder.as_ref().map(std::fs::read_dir) else {
            return Vec::new();
        };
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let names = files.flatten().filter_map(|file| {
            let path = file.path();
            let is_model = path.extension().is_some_and(|e| e == "safetensors");
            let name = ModelSource::name_of(&path);
            (is_model && is_name(&name) && !slots.contains_key(&name)).then_some(name)
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The model called `name`, or the only one if the name is empty.
    ///
    /// # Errors
    /// `NotFound` if there is no such model or version, `Unavailable` if it takes no requests now.
    pub fn find(&self, name: &str, version: &str) -> Outcome<Arc<Served>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let found = match (name, slots.len()) {
            ("", 1) => slots.iter().next(),
            _ => slots.get_key_value(name),
        };
        let Some((name, slot)) = found else {
            let names: Vec<_> = slots.keys().map(String::as_str).collect();
            let text = format!(
                "there is no model {name:?}; there are: {}",
                names.join(", ")
            );
            return Err(Trouble::new(Kind::NotFound, text));
        };
        if !["", VERSION].contains(&version) {
            let text = format!("model {name} has no version {version:?}, only {VERSION:?}");
            return Err(Trouble::new(Kind::NotFound, text));
        }
        match &slot.state {
            State::Ready(served) => Ok(served.clone()),
            State::Loading => {
                let text = format!("model {name} is being loaded");
                let trouble = Trouble::new(Kind::Unavailable, text);
                Err(trouble.retry_after(Duration::from_secs(1)))
            }
            State::Unavailable(reason) => {
                let text = format!("model {name} is not available: {reason}");
                Err(Trouble::new(Kind::Unavailable, text))
            }
        }
    }

    /// Loads the model called `name`, or loads it anew: the old one serves until the new one is ready, and stays if that
    /// fails. It blocks.
    ///
    /// # Errors
    /// `NotFound` if there is no such model, `Unavailable` if it cannot be loaded.
    pub fn load(&self, name: &str, workers: &Workers) -> Outcome<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let source = self.source(name)?;
        let made = self.make(&source, workers);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(source.name.clone()).or_insert(Slot {
            source,
            state: State::Loading,
        });
        let outcome = match made {
            Ok(served) => {
                tracing::info!(
                    model = name,
                    "loaded {} on {}",
                    served.model,
                    workers.describe()
                );
                slot.state = State::Ready(Arc::new(served));
                Ok(())
            }
            Err(trouble) => {
                tracing::error!(model = name, "cannot load: {}", trouble.message);
                if !matches!(slot.state, State::Ready(_)) {
                    slot.state = State::Unavailable(trouble.message.clone());
                }
                Err(trouble)
            }
        };
        drop(slots);
        self.share_memory();
        outcome
    }

    /// Unloads the model called `name`; its requests under way end as usual.
    ///
    /// # Errors
    /// `NotFound` if there is no such model.
    pub fn unload(&self, name: &str) -> Outcome<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get_mut(name) else {
            return Err(no_model(name));
        };
        slot.state = State::Unavailable("unloaded".into());
        drop(slots);
        tracing::info!(model = name, "unloaded");
        self.share_memory();
        Ok(())
    }

    /// The source of the model called `name`.
    fn source(&self, name: &str) -> Outcome<ModelSource> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return Ok(slot.source.clone());
        }
        drop(slots);
        // A name that is a path never gets to the file system.
        let others = self.others();
        match (&self.folder, others.iter().any(|other| other == name)) {
            (Some(folder), true) => {
                let path = folder.join(format!("{name}.safetensors"));
                Ok(ModelSource::file(name, path))
            }
            _ => Err(no_model(name)),
        }
    }

    /// Opens a model and loads it onto all devices.
    fn make(&self, source: &ModelSource, workers: &Workers) -> Outcome<Served> {
        let cannot = |error: fullconv::Error| {
            let text = format!("model {}: {error}", source.name);
            Trouble::new(Kind::Unavailable, text)
        };
        let model = (source.open)().map_err(cannot)?;
        let mut segmenters = Vec::new();
        for worker in workers.all() {
            segmenters.push(worker.segmenter(&model, self.precision).map_err(cannot)?);
        }
        let served = Served {
            id: self.ids.fetch_add(1, Ordering::Relaxed),
            name: source.name.clone(),
            model,
            statistics: Statistics::default(),
            segmenters,
        };
        self.check_memory(&served)?;
        for worker in 0..served.segmenters.len() {
            served.warm_up(worker).map_err(cannot)?;
        }
        Ok(served)
    }

    /// An error if the weights of all models would leave no memory for buffers.
    fn check_memory(&self, new: &Served) -> Outcome<()> {
        let Some(most) = self.memory_bytes else {
            return Ok(());
        };
        let others = self
            .ready()
            .into_iter()
            .filter(|other| other.name != new.name);
        let others: u64 = others.map(|other| other.weight_bytes()).sum();
        let (weights, mib) = (new.weight_bytes(), |bytes: u64| bytes.div_ceil(1 << 20));
        if others + weights >= most {
            let text = format!(
                "model {}: its weights take {} MiB, those of the other models {} MiB, of {} MiB that the server may \
                 use: unload a model, or give it more with --memory",
                new.name,
                mib(weights),
                mib(others),
                mib(most)
            );
            return Err(Trouble::new(Kind::Unavailable, text));
        }
        Ok(())
    }

    /// Shares the memory that weights leave among the models, in equal parts.
    fn share_memory(&self) {
        let ready = self.ready();
        let (Some(most), false) = (self.memory_bytes, ready.is_empty()) else {
            return;
        };
        let weights: u64 = ready.iter().map(|served| served.weight_bytes()).sum();
        let each = most.saturating_sub(weights) / ready.len() as u64;
        for segmenter in ready.iter().flat_map(|served| &served.segmenters) {
            segmenter.keep_within(each.min(POOL_BYTES));
        }
    }
}

fn no_model(name: &str) -> Trouble {
    let text = format!("there is no model {name:?}");
    Trouble::new(Kind::NotFound, text)
}
