//! A device as plain data: the limits and features that planning uses.

/// Texels in a row of a texture that holds a plain array of `vec4<f32>`: every WebGPU device has textures
/// this wide.
pub const TEXELS_PER_ROW: u32 = 8192;
/// Bytes of such a row.
pub const TEXEL_ROW_BYTES: u64 = 16 * TEXELS_PER_ROW as u64;

/// The most bytes of a buffer that Direct3D 12 guarantees to a shader: 2²⁷ words (its
/// `REQ_BUFFER_RESOURCE_TEXEL_COUNT_2_TO_EXP`). wgpu offers four times as many; on devices without them, reads past
/// these bytes return other data, without an error.
pub const DX12_BINDING_BYTES: u64 = 4 << 27;

/// Invocations that fill a large GPU: 128 multiprocessors with four workgroups of 128 each.
pub const INVOCATIONS_AT_ONCE: u32 = 1 << 16;

/// Sums of four channels that an invocation keeps in registers: with what they are made of, under 168 registers, of
/// which most GPUs have three or more subgroups at work.
pub const SUMS_IN_REGISTERS: u32 = 16;

/// The longest dispatch on a device of unknown speed, in floating-point operations: under a second at 10 GFLOP/s, well
/// under the two seconds after which Windows resets a GPU.
pub const DISPATCH_FLOPS: u64 = 8_000_000_000;

/// Floating-point operations for each byte of memory traffic on GPUs.
pub const FLOPS_PER_BYTE: u32 = 24;

/// The same in cooperative matrices of f16.
pub const MATRIX_FLOPS_PER_BYTE: u32 = 80;

/// A product of small matrices, of f16 with sums in f32, that a subgroup computes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeMatrix {
    /// Rows of the left matrix, columns of the right one, and terms of each sum.
    pub size: [u32; 3],
    /// Invocations of the device's largest subgroup. If subgroups are smaller, several compute the same product.
    pub subgroup: u32,
    /// Matrices can be loaded from arrays of vectors (Vulkan), not only of scalars.
    pub vectors: bool,
    /// The device was found to compute right with them: plans use them unmeasured.
    pub checked: bool,
}

/// Limits and features of a device, as far as a [`Plan`](crate::plan::Plan) depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Largest part of a buffer that one storage binding may show, in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups_per_dimension: u32,
    /// Most invocations in a workgroup.
    pub max_invocations_per_workgroup: u32,
    /// Largest width and height of a texture, in texels.
    pub max_texture_side: u32,
    /// Most workgroup memory that a shader may take, in bytes.
    pub max_workgroup_bytes: u32,
    /// Invocations that keep the whole device busy. Not a limit: a dispatch with fewer prefers kernels with smaller
    /// tiles. An estimate, as devices do not report it.
    pub invocations_at_once: u32,
    /// The most sums, of four channels each, that an invocation should keep in registers. Not a limit: with more, a
    /// device spills registers, or has few subgroups at work. An estimate, as devices do not report it.
    pub sums_in_registers: u32,
    /// The longest dispatch, in floating-point operations: well under the two seconds after which Windows resets a GPU.
    pub dispatch_flops: u64,
    /// Floating-point operations that the device computes while it moves a byte to or from its memory. An estimate, as
    /// devices do not report it.
    pub flops_per_byte: u32,
    /// The same in cooperative matrices.
    pub matrix_flops_per_byte: u32,
    /// Most storage buffers that a shader may bind.
    pub max_storage_buffers: u32,
    /// A binding's offset into its buffer is a multiple of this, in bytes.
    pub binding_alignment: u64,
    /// The size of every subgroup, if shaders may use subgroups and their size is fixed.
    pub subgroup_size: Option<u32>,
    /// The cooperative matrices of f16 with sums in f32 that shaders may use.
    pub cooperative: Vec<CooperativeMatrix>,
    /// The "device" is the CPU behind a graphics driver (lavapipe, SwiftShader).
    pub is_cpu: bool,
}

impl DeviceProfile {
    /// The size of a dispatch in x and y for `workgroups` workgroups; `None` if they do not fit one dispatch. Shaders
    /// compute their number as y · width + x and ignore numbers past the end.
    pub fn fold(&self, workgroups: usize) -> Option<[u32; 2]> {
        let most = self.max_workgroups_per_dimension as usize;
        let rows = workgroups.div_ceil(most.max(1)).max(1);
        let fits = rows <= most;
        fits.then(|| [workgroups.div_ceil(rows) as u32, rows as u32])
    }

    /// The limits of every WebGPU device, and no features.
    pub const WEBGPU_DEFAULTS: Self = Self {
        max_binding_bytes: 128 << 20,
        max_buffer_bytes: 256 << 20,
        max_workgroups_per_dimension: 65_535,
        max_invocations_per_workgroup: 256,
        max_texture_side: 8192,
        max_workgroup_bytes: 16 << 10,
        invocations_at_once: INVOCATIONS_AT_ONCE,
        sums_in_registers: SUMS_IN_REGISTERS,
        dispatch_flops: DISPATCH_FLOPS,
        flops_per_byte: FLOPS_PER_BYTE,
        matrix_flops_per_byte: MATRIX_FLOPS_PER_BYTE,
        max_storage_buffers: 8,
        binding_alignment: 256,
        subgroup_size: None,
        cooperative: Vec::new(),
        is_cpu: false,
    };
}
