//! Kernels that keep activations and weights in f16: the same shaders with other aliases. Sums stay f32.
//!
//! A shader's element types are aliases: `Stored` for reads (`StoredScalar` for single channels), `Written` for writes.
//! It loads with `vec4<f32>(…)` and stores with `Written(…)`. The f16 variant changes the aliases to f16 and stores
//! through a function that reports values beyond the range of f16.

use super::kernel::{Binding, Format, Kernel};

/// The largest finite value of f16.
pub const MAX: f32 = 65504.0;

/// The error of rounding to f16, relative to the number.
pub const UNIT: f64 = 1.0 / (1u32 << 11) as f64;
/// The smallest positive f16.
pub const LEAST_STEP: f64 = 1.0 / (1u32 << 24) as f64;
/// The smallest normal f16: devices may flush smaller values to zero.
pub const FLUSHED: f64 = 1.0 / (1u32 << 14) as f64;

/// Whether `x` is within the finite range of f16; false for NaN.
pub fn holds(x: f32) -> bool {
    x.abs() <= MAX
}

/// Numbers as f16, each rounded to the nearest.
pub(crate) fn from_f32(numbers: &[f32]) -> Vec<u16> {
    let convert = |x: &f32| half::f16::from_f32(*x).to_bits();
    numbers.iter().map(convert).collect()
}

/// The f16 nearest to `x`.
pub(crate) fn rounded(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// A number from the bytes of an f16 in memory.
pub(crate) fn to_f32(bytes: [u8; 2]) -> f32 {
    half::f16::from_ne_bytes(bytes).to_f32()
}

/// The bind group where a variant that writes f16 reports saturation: one word, nonzero if a value did not fit.
pub const SATURATED_GROUP: u32 = 1;

/// The text at the top of a variant that writes f16. Without the sign, the bits of floats are ordered by magnitude,
/// infinity and NaN last; the constant is the bits of [`MAX`].
const STORE: &str = "\
@group(1) @binding(0) var<storage, read_write> saturated: atomic<u32>;

// `value` as f16; reports magnitudes beyond the range of f16, and NaN.
fn written(value: vec4<f32>) -> vec4<f16> {
    let magnitude = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
    if any(magnitude > vec4<u32>(0x477fe000u)) {
        atomicStore(&saturated, 1u);
    }
    return vec4<f16>(value);
}

";

impl Kernel {
    /// Whether the kernel has an f16 variant, [`Kernel::in_half`]. Kernels that read textures have none: no f16 format
    /// of a storage texture is readable everywhere.
    pub fn can_be_half(&self) -> bool {
        let names = |alias: &str| self.shader.source.contains(alias);
        let reads = self.bindings.iter().any(|binding| {
            let of_parameter = binding.parameter().is_some_and(|(_, p)| !p.is_whole());
            let of_activation = binding.activation().is_some_and(|(_, f, _)| is_lowered(f));
            of_parameter || of_activation
        });
        let writes = is_lowered(self.output);
        let texels = self.bindings.iter().any(Binding::is_texels);
        !texels && (!reads || names("alias Stored")) && (!writes || names("alias Written"))
    }

    /// The f16 variant of the kernel. With `reads_sums` its input activations stay f32, with `writes_sums` its output;
    /// biases and [`Format::Nhwc4Exact`] always do, [`Format::Nhwc4Between`] never.
    #[must_use]
    pub fn in_half(mut self, reads_sums: bool, writes_sums: bool) -> Self {
        let writes = match self.output {
            Format::Nhwc4 => !writes_sums,
            other => is_lowered(other),
        };
        for binding in &mut self.bindings {
            *binding = match *binding {
                Binding::Activation {
                    input,
                    format,
                    rows,
                } if is_lowered(format) && !reads_sums => Binding::Activation {
                    input,
                    format: Format::Nhwc4Half,
                    rows,
                },
                Binding::Parameter { input, packing } if !packing.is_whole() => {
                    Binding::ParameterHalf { input, packing }
                }
                other => other,
            };
        }
        if writes {
            self.output = Format::Nhwc4Half;
        }
        self.shader = self
            .shader
            .rewritten(source(&self.shader.source, !reads_sums, writes));
        self
    }

    /// The same kernel with [`Format::Nhwc4`] in place of [`Format::Nhwc4Exact`] and [`Format::Nhwc4Between`], which are
    /// not needed once the f16 tensors are chosen.
    #[must_use]
    pub fn decided(mut self) -> Self {
        let decide = |format: &mut Format| {
            if matches!(format, Format::Nhwc4Exact | Format::Nhwc4Between) {
                *format = Format::Nhwc4;
            }
        };
        decide(&mut self.output);
        for binding in &mut self.bindings {
            if let Binding::Activation { format, .. } = binding {
                decide(format);
            }
        }
        self
    }
}

/// Whether a tensor that kernels name so is f16 in a plan of f16, unless it is a sum.
fn is_lowered(format: Format) -> bool {
    matches!(format, Format::Nhwc4 | Format::Nhwc4Between)
}

/// The line that enables cooperative matrices in a shader.
const MATRICES: &str = "enable wgpu_cooperative_matrix;";

/// [`STORE`] for a shader. With cooperative matrices, naga's atomics lack a capability that they need; a plain store
/// suffices there, since all invocations store the same value.
fn store(source: &str) -> String {
    match source.contains(MATRICES) {
        false => STORE.to_owned(),
        true => STORE
            .replace("atomic<u32>", "u32")
            .replace("atomicStore(&saturated, 1u)", "saturated = 1u"),
    }
}

fn source(source: &str, reads: bool, writes: bool) -> String {
    let enables = |line: &&str| line.starts_with("enable ") && *line != "enable f16;";
    let mut text = "enable f16;\n".to_owned();
    for line in source.lines().filter(enables) {
        text.push_str(line);
        text.push('\n');
    }
    if writes {
        text.push_str(&store(source));
    }
    for line in source.lines().filter(|line| !line.starts_with("enable ")) {
        let line = match line {
            "alias Stored = vec4<f32>;" if reads => "alias Stored = vec4<f16>;".to_owned(),
            "alias StoredScalar = f32;" if reads => "alias StoredScalar = f16;".to_owned(),
            "alias Written = vec4<f32>;" if writes => "alias Written = vec4<f16>;".to_owned(),
            line if writes => line.replace(" Written(", " written("),
            line => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
