//! What a device allows and prefers, as plain data: all that planning needs to know of it.

/// Limits and features of a device, as far as a [`Plan`](crate::plan::Plan) depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Largest part of a buffer that one storage binding may show, in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// All that a plan may take of the device's memory, in bytes; `u64::MAX` where nothing says so.
    pub memory_bytes: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups_per_dimension: u32,
    /// Most invocations in a workgroup.
    pub max_invocations_per_workgroup: u32,
    /// Most storage buffers that a shader may bind.
    pub max_storage_buffers: u32,
    /// A binding's offset into its buffer is a multiple of this, in bytes.
    pub binding_alignment: u64,
    /// The size of every subgroup, if shaders may use subgroups and their size is fixed.
    pub subgroup_size: Option<u32>,
    /// The "device" is the CPU behind a graphics driver (lavapipe, SwiftShader).
    pub is_cpu: bool,
}

impl DeviceProfile {
    /// The limits that every WebGPU device has, and no features: what must always work.
    pub const WEBGPU_DEFAULTS: Self = Self {
        max_binding_bytes: 128 << 20,
        max_buffer_bytes: 256 << 20,
        memory_bytes: u64::MAX,
        max_workgroups_per_dimension: 65_535,
        max_invocations_per_workgroup: 256,
        max_storage_buffers: 8,
        binding_alignment: 256,
        subgroup_size: None,
        is_cpu: false,
    };
}
