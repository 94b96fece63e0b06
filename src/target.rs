//! The target of a plan: a device, and the options of plans.

use crate::device_profile::{DeviceProfile, TEXEL_ROW_BYTES, TEXELS_PER_ROW};

/// The target of a plan: a device, and the options of plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The device's limits and features.
    pub device: DeviceProfile,
    /// The options.
    pub options: PlanOptions,
}

/// Options of plans, independent of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Keep activations and weights in f16. The device needs `SHADER_F16`.
    pub half: bool,
    /// The most bytes of device memory that a plan may take; `u64::MAX` for no limit.
    pub memory_bytes: u64,
    /// Compute the whole frame that a large padding leaves around a picture. By default its constant part is cut away.
    pub whole_padding: bool,
    /// Names of kernels that plans leave out, because the device computes them wrongly.
    pub without_kernels: Vec<String>,
}

impl PlanOptions {
    /// f32, no limit on memory, large paddings cut, all kernels.
    pub const DEFAULT: Self = Self {
        half: false,
        memory_bytes: u64::MAX,
        whole_padding: false,
        without_kernels: Vec::new(),
    };
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Target {
    /// The limits of every WebGPU device, no features, and default options. Every network must have a plan for this
    /// target.
    pub const WEBGPU_DEFAULTS: Self = Self {
        device: DeviceProfile::WEBGPU_DEFAULTS,
        options: PlanOptions::DEFAULT,
    };

    /// The same target with f16 if `half`, else f32.
    #[must_use]
    pub fn in_half(&self, half: bool) -> Self {
        let mut target = self.clone();
        target.options.half = half;
        target
    }

    /// The same target with a limit on device memory, in bytes.
    #[must_use]
    pub fn within(&self, memory_bytes: u64) -> Self {
        let mut target = self.clone();
        target.options.memory_bytes = memory_bytes;
        target
    }

    /// The same target without kernels that need transformed weights.
    #[must_use]
    pub fn without_transforms(&self) -> Self {
        let mut target = self.clone();
        let kernels = ["", "_tiled", "_coop"].map(|of| format!("winograd_product{of}"));
        target.options.without_kernels.extend(kernels);
        target
    }

    /// Bytes of the largest texture with rows of [`TEXELS_PER_ROW`] texels. 0 if the device's textures are narrower, or
    /// in f16: not every device can read textures of f16.
    pub fn max_texel_bytes(&self) -> u64 {
        match self.options.half || self.device.max_texture_side < TEXELS_PER_ROW {
            true => 0,
            false => u64::from(self.device.max_texture_side) * TEXEL_ROW_BYTES,
        }
    }
}

impl From<DeviceProfile> for Target {
    fn from(device: DeviceProfile) -> Self {
        Self {
            device,
            options: PlanOptions::DEFAULT,
        }
    }
}
