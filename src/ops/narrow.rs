//! Kernels that keep activations and weights in f16: the same shaders with other aliases. Sums stay f32.
//!
//! A shader names what it reads `Stored` (single channels of it `StoredScalar`) and what it writes `Written`,
//! loads with `vec4<f32>(…)` and stores with `Written(…)`. Its f16 variant has those aliases in f16, and
//! stores through a function that tells of values which f16 does not hold.

use super::kernel::{Binding, Format, Kernel};

/// The largest finite value of f16.
pub const MAX: f32 = 65504.0;

/// The error of rounding to f16, relative to the number.
pub const UNIT: f64 = 1.0 / (1u32 << 11) as f64;
/// The least number above zero that f16 holds.
pub const LEAST_STEP: f64 = 1.0 / (1u32 << 24) as f64;

/// Whether f16 holds a number as large as `x`; no for what is no number.
pub fn holds(x: f32) -> bool {
    x.abs() <= MAX
}

/// Numbers as f16, each rounded to the nearest.
pub(crate) fn from_f32(numbers: &[f32]) -> Vec<u16> {
    let convert = |x: &f32| half::f16::from_f32(*x).to_bits();
    numbers.iter().map(convert).collect()
}

/// The f16 nearest to `x`.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn rounded(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// A number from the bytes of an f16 in memory.
pub(crate) fn to_f32(bytes: [u8; 2]) -> f32 {
    half::f16::from_ne_bytes(bytes).to_f32()
}

/// Where a variant that writes f16 tells of a value that does not fit: one word, not zero if there was one.
pub const SATURATED_GROUP: u32 = 1;

/// What a variant that writes f16 begins with. The bits of a float without its sign are in the order of its
/// magnitude, infinity and NaN above all numbers; those of [`MAX`] are the constant.
const STORE: &str = "\
@group(1) @binding(0) var<storage, read_write> saturated: atomic<u32>;

// `value` as f16; tells of it where that does not hold a number as large, or it is none.
fn written(value: vec4<f32>) -> vec4<f16> {
    let magnitude = bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu);
    if any(magnitude > vec4<u32>(0x477fe000u)) {
        atomicStore(&saturated, 1u);
    }
    return vec4<f16>(value);
}

";

impl Kernel {
    /// Whether [`Kernel::in_half`] can be had: of kernels that read textures it cannot, since no format of
    /// f16 can be read from a storage texture everywhere.
    pub fn can_be_half(&self) -> bool {
        let names = |alias: &str| self.shader.source.contains(alias);
        let reads = self.bindings.iter().any(|binding| {
            let of_parameter = binding.parameter().is_some_and(|(_, p)| !p.is_whole());
            let of_activation = binding
                .activation()
                .is_some_and(|(_, f, _)| f == Format::Nhwc4);
            of_parameter || of_activation
        });
        let writes = self.output == Format::Nhwc4;
        let texels = self.bindings.iter().any(Binding::is_texels);
        !texels && (!reads || names("alias Stored")) && (!writes || names("alias Written"))
    }

    /// The same kernel with f16 in place of f32 in what it reads, unless `reads_sums`, and in what it writes,
    /// unless `writes_sums`; biases stay f32, and so does what is [`Format::Nhwc4Exact`].
    #[must_use]
    pub fn in_half(mut self, reads_sums: bool, writes_sums: bool) -> Self {
        let writes = self.output == Format::Nhwc4 && !writes_sums;
        for binding in &mut self.bindings {
            *binding = match *binding {
                Binding::Activation {
                    input,
                    format: Format::Nhwc4,
                    rows,
                } if !reads_sums => Binding::Activation {
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
        self.shader.source = source(&self.shader.source, !reads_sums, writes).into();
        self
    }

    /// The same kernel, [`Format::Nhwc4`] in place of [`Format::Nhwc4Exact`]: what is left to say once it is decided
    /// what is kept in f16.
    #[must_use]
    pub fn decided(mut self) -> Self {
        let decide = |format: &mut Format| {
            if *format == Format::Nhwc4Exact {
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

/// The line that a shader with cooperative matrices has.
const MATRICES: &str = "enable wgpu_cooperative_matrix;";

/// [`STORE`] for a shader. Beside cooperative matrices naga writes atomics without a capability that they need
/// there; a plain store does as well, since all invocations store the same.
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
