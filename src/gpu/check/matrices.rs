//! Whether a device computes right with its cooperative matrices. Few devices have run the kernels, and wgpu's feature
//! is experimental, so plans take the kernels only after this check.

use super::{Subject, network};
use crate::device_profile::{CooperativeMatrix, DeviceProfile};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::executor::Network;
use crate::target::Target;

/// The kernels with cooperative matrices.
const KERNELS: [&str; 2] = ["conv2d_coop", "winograd_product_coop"];

/// The result of [`checked_matrices`].
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedMatrices {
    /// The matrices that plans may use, marked as checked: all that the kernels are written for, or none.
    pub usable: Vec<CooperativeMatrix>,
    /// What went wrong, and what to do.
    pub trouble: Option<String>,
}

impl Gpu {
    /// Checks that the device computes right with its cooperative matrices, if it has any; only the first call on a
    /// device does so. It takes a run of a small network and a comparison with the reference. From then on, plans for
    /// [`Gpu::half_target`] use the matrices, or, after a warning, do not. [`Segmenter`](crate::Segmenter)s in f16 call
    /// this when they load their network.
    ///
    /// # Errors
    /// `Unsupported` if the device has no f16, `DeviceLost` if it is lost. Any other error of the check is a reason not
    /// to use the matrices.
    pub async fn check_matrices(&self) -> Result<()> {
        let target = self.half_target()?;
        if self.has_checked_matrices() {
            return Ok(());
        }
        let CheckedMatrices { usable, trouble } = checked_matrices(self, &target).await?;
        if let Some(trouble) = trouble {
            tracing::warn!("{trouble}");
        }
        self.use_matrices(usable);
        Ok(())
    }
}

/// Checks the cooperative matrices of `target`, whose device is `gpu`.
///
/// # Errors
/// `DeviceLost` if the device is lost.
pub async fn checked_matrices(gpu: &Gpu, target: &Target) -> Result<CheckedMatrices> {
    let left_out = &target.options.without_kernels;
    let mut kernels = KERNELS.iter();
    let is_unused = target.device.is_cpu || kernels.all(|name| left_out.iter().any(|n| n == name));
    let matrices = match is_unused {
        true => &[][..],
        false => &target.device.cooperative,
    };
    let mut usable = Vec::with_capacity(matrices.len());
    for matrix in matrices {
        let matrix = CooperativeMatrix {
            checked: true,
            ..*matrix
        };
        let trouble = match fault(gpu, target, matrix).await {
            Ok(None) => {
                usable.push(matrix);
                continue;
            }
            Ok(Some(wrong)) => format!("computes wrongly with its matrices: {wrong}"),
            Err(error) => {
                gpu.check_lost()?;
                format!("cannot run kernels with its matrices: {error}")
            }
        };
        let [direct, transformed] = KERNELS;
        let trouble = format!(
            "{gpu} {trouble}; f16 runs without them, which is slower: update the driver, or leave both kernels out, so \
             that they are not checked (`--without-kernel {direct} --without-kernel {transformed}`, \
             `GpuOptions::without_kernels`)"
        );
        return Ok(CheckedMatrices {
            usable: Vec::new(),
            trouble: Some(trouble),
        });
    }
    Ok(CheckedMatrices {
        usable,
        trouble: None,
    })
}

/// The first wrong layer with `matrix`, in words.
async fn fault(gpu: &Gpu, target: &Target, matrix: CooperativeMatrix) -> Result<Option<String>> {
    let network::CheckNetwork {
        graph,
        parameters,
        input,
        outputs,
    } = network::of_matrices()?;
    let target = Target {
        device: DeviceProfile {
            cooperative: vec![matrix],
            // The tiles of large layers, whose kernels have the most registers.
            invocations_at_once: 1,
            // Winograd's algorithm wherever it saves products.
            matrix_flops_per_byte: 1,
            ..target.device.clone()
        },
        ..target.clone()
    };
    let subject = Subject {
        graph: &graph,
        parameters: &parameters,
        input: &input,
        outputs: &outputs,
        target: &target,
        most_flops: u64::MAX,
        least_error: 0.0,
    };
    let check = subject.check(&Network::new(gpu)).await?;
    let wrong = check.wrong().next().map(ToString::to_string);
    Ok(wrong)
}
