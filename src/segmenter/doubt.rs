//! Doubt about a mask of a single class: a device that computes nothing gives such masks too.

use super::executors::Executors;
use super::request::nominal_graphs;
use super::{Engine, Segmenter};
use crate::error::{Result, bail};
use crate::gpu::check::{Subject, noise};
use crate::mask::Mask;
use crate::preprocess::Form;

/// The most work of the reference, in floating-point operations: a tenth of a second.
const MOST_FLOPS: u64 = 40_000_000;
/// The relative error, or share of labels, from which a layer is wrong: a mask is not refused for a rounding.
const LEAST_ERROR: f64 = 0.1;

impl Segmenter {
    /// `mask`, unless it has a single class and the device computes the model wrongly. The first such mask of a device
    /// and model costs a run on a small picture and a comparison of the layers that are cheap on the CPU reference.
    ///
    /// # Errors
    /// `Device` if a layer is wrong; as [`Segmenter::segment`] if the run fails.
    pub(super) async fn without_doubt(&self, mask: Mask) -> Result<Mask> {
        self.check_if_doubtful(&mask).await?;
        Ok(mask)
    }

    /// As [`Segmenter::without_doubt`].
    pub(super) async fn check_if_doubtful(&self, mask: &Mask) -> Result<()> {
        match &self.0.engine {
            Engine::Gpu(on) if is_doubtful(mask) => on.executors().check().await,
            _ => Ok(()),
        }
    }
}

/// Whether all pixels have one class.
fn is_doubtful(mask: &Mask) -> bool {
    let labels = mask.labels();
    labels.windows(2).all(|pair| pair[0] == pair[1])
}

impl Executors {
    /// An error if the device computes the model wrongly, grossly, on a small picture of noise.
    pub(super) async fn check(&self) -> Result<()> {
        let wrong = match self.known().get() {
            Some(known) => known.clone(),
            None => {
                let found = self.find_fault().await?;
                self.known().get_or_init(|| found).clone()
            }
        };
        if let Some(wrong) = wrong {
            let gpu = self.gpu();
            bail!(
                Device,
                "{gpu} computes this model wrongly: {wrong}; `fullconv devices --check` checks the device"
            );
        }
        Ok(())
    }

    /// The first wrong layer, in words.
    async fn find_fault(&self) -> Result<Option<String>> {
        let model = self.model();
        let Some((graph, shape)) = nominal_graphs(model)?.into_iter().next() else {
            return Ok(None);
        };
        let is_words = model.preprocessing().usual_form() == Form::Words;
        let subject = Subject {
            graph: &graph,
            parameters: model.parameters(),
            input: &noise(shape, is_words)?,
            outputs: &[graph.output()],
            target: self.target(),
            most_flops: MOST_FLOPS,
            least_error: LEAST_ERROR,
        };
        let check = subject.check(self.network()).await?;
        let wrong = check.wrong().next().map(ToString::to_string);
        Ok(wrong)
    }
}
