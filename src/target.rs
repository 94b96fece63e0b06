//! What plans are made for: a device, and what is wished of the plans on it.

use crate::device_profile::{DeviceProfile, TEXEL_ROW_BYTES, TEXELS_PER_ROW};

/// A device, and what is wished of the plans on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the device is.
    pub device: DeviceProfile,
    /// What is wished.
    pub options: PlanOptions,
}

/// What is wished of plans, whatever the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Keep activations and weights in f16, which shaders of the device may use (`SHADER_F16`).
    pub half: bool,
    /// The most bytes of device memory that a plan may take; `u64::MAX` for no limit.
    pub memory_bytes: u64,
    /// Compute all of the frame that a large padding leaves around a picture, though most of it is uniform.
    pub whole_padding: bool,
    /// Kernels that plans leave out, by the names of their shaders: those that the device computes wrongly.
    pub without_kernels: Vec<String>,
}

impl PlanOptions {
    /// f32, as much memory as the device's limits on buffers allow, large paddings cut.
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
    /// The limits that every WebGPU device has, no features, and nothing wished: what must always work.
    pub const WEBGPU_DEFAULTS: Self = Self {
        device: DeviceProfile::WEBGPU_DEFAULTS,
        options: PlanOptions::DEFAULT,
    };

    /// The same, wished with f16 or f32.
    #[must_use]
    pub fn in_half(&self, half: bool) -> Self {
        let mut target = self.clone();
        target.options.half = half;
        target
    }

    /// The same, with at most so many bytes of device memory.
    #[must_use]
    pub fn within(&self, memory_bytes: u64) -> Self {
        let mut target = self.clone();
        target.options.memory_bytes = memory_bytes;
        target
    }

    /// The most bytes that a texture of rows of [`TEXELS_PER_ROW`] holds; 0 if the device has no texture so wide, or
    /// where values are kept in f16, of which there are no textures that can be read everywhere.
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
