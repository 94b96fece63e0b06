//! How long each layer of a plan takes.

use super::executor::Executor;
use super::{Gpu, now, readback};
use crate::error::{Result, bail};
use std::ops::Range;

/// The clock that measures layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The device's timestamps around each layer, in an otherwise ordinary run.
    Timestamps,
    /// The host's clock, for devices without timestamps. Each layer is a submission of its own, whose overhead is
    /// included.
    Host,
}

/// The times of one run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerTimes {
    /// The clock.
    pub timer: Timer,
    /// The time of each layer of the plan, in order, in milliseconds.
    pub milliseconds: Vec<f64>,
}

/// The steps of one layer in one submission.
struct Section {
    layer: usize,
    submission: usize,
    steps: Range<usize>,
}

impl Executor {
    /// Runs the plan once on the present contents of its input buffer and returns the time of each layer. Outputs are
    /// not read back.
    ///
    /// # Errors
    /// `Device` if the device fails, `DeviceLost` if it is lost.
    pub async fn time_layers(&mut self) -> Result<LayerTimes> {
        let sections = self.sections();
        let queries = 2 * sections.len() as u32;
        let features = self.gpu().device().features();
        if features.contains(wgpu::Features::TIMESTAMP_QUERY)
            && queries <= wgpu::QUERY_SET_MAX_QUERIES
        {
            self.by_timestamps(&sections).await
        } else {
            self.by_host_clock(&sections).await
        }
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        for (submission, steps) in self.submissions().enumerate() {
            for step in steps {
                let layer = self.plan().steps[step].layer;
                match sections.last_mut() {
                    Some(last) if last.layer == layer && last.submission == submission => {
                        last.steps.end = step + 1;
                    }
                    _ => sections.push(Section {
                        layer,
                        submission,
                        steps: step..step + 1,
                    }),
                }
            }
        }
        sections
    }

    async fn by_host_clock(&self, sections: &[Section]) -> Result<LayerTimes> {
        let mut milliseconds = vec![0.0; self.plan().layers.len()];
        for section in sections {
            let Some(begin) = now() else {
                bail!(
                    Unsupported,
                    "{} has no timestamps, and there is no clock here",
                    self.gpu()
                );
            };
            let submission = self.gpu().guarded("timing", || {
                let mut encoder = self.encoder();
                self.record(&mut encoder, section.steps.clone(), None);
                self.gpu().queue().submit([encoder.finish()])
            });
            let patience = readback::patience(self.plan().flops());
            let done = readback::done(self.gpu(), submission.await?, patience);
            done.wait(self.gpu()).await?;
            milliseconds[section.layer] += begin.elapsed().as_secs_f64() * 1e3;
        }
        Ok(LayerTimes {
            timer: Timer::Host,
            milliseconds,
        })
    }

    async fn by_timestamps(&self, sections: &[Section]) -> Result<LayerTimes> {
        let gpu = self.gpu();
        let bytes = 16 * sections.len() as u64;
        let (submission, staging) = gpu
            .guarded("timing", || self.submit_timed(sections, bytes))
            .await?;
        let patience = readback::patience(self.plan().flops());
        let ticks = readback::read(gpu, &staging, submission, patience).await?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&ticks);
        let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-6;
        let mut milliseconds = vec![0.0; self.plan().layers.len()];
        for (section, times) in sections.iter().zip(ticks.chunks_exact(2)) {
            let Some(elapsed) = elapsed(times) else {
                bail!(Device, "the timestamps of {gpu} run backwards");
            };
            milliseconds[section.layer] += elapsed as f64 * period;
        }
        Ok(LayerTimes {
            timer: Timer::Timestamps,
            milliseconds,
        })
    }

    /// Submits every section as a pass with a timestamp at each end. Returns the last submission and the staging buffer
    /// of the timestamps.
    fn submit_timed(
        &self,
        sections: &[Section],
        bytes: u64,
    ) -> (wgpu::SubmissionIndex, wgpu::Buffer) {
        let (device, queue) = (self.gpu().device(), self.gpu().queue());
        let count = 2 * sections.len() as u32;
        let query_set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("layer times"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = timestamps(
            self.gpu(),
            bytes,
            wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        );
        let staging = timestamps(
            self.gpu(),
            bytes,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        );
        let mut encoder = self.encoder();
        let mut submission = 0;
        for (query, section) in (0u32..).step_by(2).zip(sections) {
            if section.submission != submission {
                submission = section.submission;
                queue.submit([std::mem::replace(&mut encoder, self.encoder()).finish()]);
            }
            let writes = wgpu::ComputePassTimestampWrites {
                query_set: &query_set,
                beginning_of_pass_write_index: Some(query),
                end_of_pass_write_index: Some(query + 1),
            };
            self.record(&mut encoder, section.steps.clone(), Some(writes));
        }
        encoder.resolve_query_set(&query_set, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
        (queue.submit([encoder.finish()]), staging)
    }
}

fn timestamps(gpu: &Gpu, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("layer times"),
        size,
        usage,
        mapped_at_creation: false,
    })
}

/// The ticks between a pair of timestamps; `None` if they run backwards.
fn elapsed(times: &[u64]) -> Option<u64> {
    match times {
        [begin, end] => end.checked_sub(*begin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::elapsed;

    #[test]
    fn timestamps_that_run_backwards_give_no_time() {
        assert_eq!(elapsed(&[3, 5]), Some(2));
        assert_eq!(elapsed(&[5, 3]), None);
    }
}
