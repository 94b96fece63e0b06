//! A thread that opens and labels pictures: the window never waits for either.
//!
//! The thread shares the window's device. A picture is uploaded once, and the window binds the texture of labels that
//! the network writes. The labels are read back only for the shares of the classes.

use crate::view::texture;
use eframe::egui;
use fullconv::gpu::wgpu;
use fullconv::{Colours, Gpu, Model, Picture, Segmenter};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread's messages to the window.
pub enum Event {
    /// The segmenter is ready.
    Ready { model: Model, device: String },
    /// A picture is on the device.
    Opened {
        path: PathBuf,
        frame: wgpu::Texture,
        time: Duration,
    },
    /// The run is submitted: later submissions see its labels.
    Submitted {
        labels: wgpu::Texture,
        time: Duration,
    },
    /// The device has finished the run.
    Done {
        shares: Vec<(u8, f64)>,
        time: Duration,
    },
    /// The picture at `path` failed; without a path, the thread could not start.
    Failed {
        path: Option<PathBuf>,
        reason: String,
    },
}

pub struct Worker {
    requests: Option<Sender<PathBuf>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread with the model in the file `model`, or with the demo model.
    pub fn start(
        context: egui::Context,
        device: wgpu::Device,
        queue: wgpu::Queue,
        model: Option<PathBuf>,
    ) -> std::io::Result<Self> {
        let (requests, received) = channel();
        let (sender, events) = channel();
        let tell = move |event| {
            // A closed channel means that the window is closing.
            let _ = sender.send(event);
            context.request_repaint();
        };
        let thread = std::thread::Builder::new()
            .name("segmenter".into())
            .spawn(move || pollster::block_on(serve(device, queue, model, &received, &tell)))?;
        Ok(Self {
            requests: Some(requests),
            events,
            thread: Some(thread),
        })
    }

    /// Requests the picture at `path`. Earlier requests that have not started are dropped.
    pub fn open(&self, path: PathBuf) {
        if let Some(requests) = &self.requests {
            // A thread that ended has reported its failure.
            let _ = requests.send(path);
        }
    }

    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter()
    }
}

impl Drop for Worker {
    /// Joins the thread: the device has to outlive its runs.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    device: wgpu::Device,
    queue: wgpu::Queue,
    model: Option<PathBuf>,
    requests: &Receiver<PathBuf>,
    tell: &impl Fn(Event),
) {
    let fail = |path, error: Box<dyn Error>| {
        let reason = error.to_string();
        tell(Event::Failed { path, reason });
    };
    let (gpu, segmenter) = match segmenter(device, queue, model).await {
        Ok(made) => made,
        Err(error) => return fail(None, error.into()),
    };
    tell(Event::Ready {
        model: segmenter.model().clone(),
        device: segmenter.device(),
    });
    for path in requests {
        let path = requests.try_iter().last().unwrap_or(path);
        if let Err(error) = show(&gpu, &segmenter, &path, tell).await {
            fail(Some(path), error);
        }
    }
}

async fn segmenter(
    device: wgpu::Device,
    queue: wgpu::Queue,
    model: Option<PathBuf>,
) -> fullconv::Result<(Gpu, Segmenter)> {
    let gpu = Gpu::from_wgpu(device, queue)?;
    let model = match model {
        Some(file) => Model::read(file)?,
        None => Model::from_bytes(fullconv_demo::MODEL)?,
    };
    let segmenter = Segmenter::new(&gpu, &model).await?;
    Ok((gpu, segmenter))
}

async fn show(
    gpu: &Gpu,
    segmenter: &Segmenter,
    path: &Path,
    tell: &impl Fn(Event),
) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let frame = upload(gpu, &Picture::open(path)?)?;
    tell(Event::Opened {
        path: path.to_owned(),
        frame: frame.clone(),
        time: begin.elapsed(),
    });
    let begin = Instant::now();
    let mask = segmenter.segment_texture(&frame, Colours::None).await?;
    tell(Event::Submitted {
        labels: mask.labels().clone(),
        time: begin.elapsed(),
    });
    let begin = Instant::now();
    let shares = mask.read().await?.shares();
    tell(Event::Done {
        shares,
        time: begin.elapsed(),
    });
    Ok(())
}

fn upload(gpu: &Gpu, picture: &Picture) -> Result<wgpu::Texture, Box<dyn Error>> {
    let size = picture.size();
    let longest = gpu.device().limits().max_texture_dimension_2d;
    if size.height.max(size.width) > longest as usize {
        return Err(format!(
            "this device cannot show a picture of {size} pixels (height x width): its textures have up to \
             {longest} pixels a side; `fullconv segment` has no such limit"
        )
        .into());
    }
    let frame = texture(gpu.device(), size, wgpu::TextureFormat::Rgba8Unorm);
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(4 * size.width as u32),
        rows_per_image: None,
    };
    let words = picture.to_rgba_words();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    gpu.queue()
        .write_texture(frame.as_image_copy(), &bytes, layout, frame.size());
    Ok(frame)
}
