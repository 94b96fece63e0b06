//! Emulates cooperative matrices with scalar arithmetic. Devices with f16 but without matrices can then test the rest
//! of a kernel.

use fullconv::low_level::plan::Plan;
use std::fmt::Write;

/// The kernels with cooperative matrices, each with the arrays of the workgroup that its left and right matrices are loaded
/// from.
pub const BY_MATRICES: [(&str, [&str; 2]); 2] = [
    ("conv2d_coop", ["halo", "taps"]),
    ("winograd_product_coop", ["values", "factors"]),
];

/// Whether the kernel called `name` has cooperative matrices.
pub fn is_by_matrices(name: &str) -> bool {
    BY_MATRICES.iter().any(|(known, _)| *known == name)
}

/// Adds the terms of one product. They are unrolled: in a long sum, a loop would take too many steps.
fn products(size: u32, vectors: bool, [left, right]: [&str; 2]) -> String {
    let mut text = String::new();
    for k in 0..size {
        let (left, right) = match vectors {
            true => (
                format!("{left}[a.at + row * a.stride + {}u][{}]", k / 4, k % 4),
                format!("{right}[b.at + column * b.stride + {}u][{}]", k / 4, k % 4),
            ),
            false => (
                format!("{left}[a.at + row * a.stride + {k}u]"),
                format!("{right}[b.at + column * b.stride + {k}u]"),
            ),
        };
        writeln!(text, "        sum.own[i] += f32({left}) * f32({right});").unwrap();
    }
    text
}

/// The kernel's matrix functions, `rows` of matrices whose rows lie one after the other, `columns` likewise. Left and
/// right matrices are read in place; each invocation of a subgroup holds some elements of a sum.
fn emulation(size: u32, vectors: bool, arrays: [&str; 2]) -> String {
    let products = products(size, vectors, arrays);
    format!(
        "struct Left {{ at: u32, stride: u32 }}
struct Right {{ at: u32, stride: u32 }}
struct Sum {{ own: array<f32, SIZE * SIZE / SUBGROUP> }}
var<private> lane: u32;
fn rows_Left(at: u32, stride: u32) -> Left {{ return Left(at, stride); }}
fn columns_Right(at: u32, stride: u32) -> Right {{ return Right(at, stride); }}
fn rows_Sum(at: u32, stride: u32) -> Sum {{
    var sum: Sum;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let e = i * SUBGROUP + lane;
        sum.own[i] = scratch[at + e / SIZE * stride + e % SIZE];
    }}
    return sum;
}}
fn store_Sum(sum: Sum, at: u32, stride: u32) {{
    var stored = sum;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let e = i * SUBGROUP + lane;
        scratch[at + e / SIZE * stride + e % SIZE] = stored.own[i];
    }}
}}
fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {{
    var sum = c;
    for (var i = 0u; i < SIZE * SIZE / SUBGROUP; i++) {{
        let row = (i * SUBGROUP + lane) / SIZE;
        let column = (i * SUBGROUP + lane) % SIZE;
{products}    }}
    return sum;
}}
"
    )
}

/// The source of a kernel with its matrices emulated.
pub fn emulated(source: &str) -> String {
    let vectors = source.contains("alias Cell = vec4<f16>;");
    let size = [8, 16]
        .into_iter()
        .find(|size| source.contains(&format!("const SIZE = {size}u;")));
    let size = size.unwrap();
    let has = |array: &str| source.contains(&format!("var<workgroup> {array}:"));
    let mut known = BY_MATRICES.iter().map(|(_, arrays)| *arrays);
    let arrays = known.find(|arrays| has(arrays[0])).unwrap();
    let mut text = String::new();
    for line in source.lines() {
        let mut line = line.to_owned();
        if line.starts_with("enable wgpu_") || line.contains("coop_mat") {
            continue;
        }
        for (load, lie) in [("coopLoadT<", "rows"), ("coopLoad<", "columns")] {
            if let Some((before, load)) = line.split_once(load) {
                // `let w0 = coopLoad<Right>(&taps[AT], STRIDE);`
                let (kind, rest) = load.split_once(">(&").unwrap();
                let (_, rest) = rest.split_once('[').unwrap();
                let (at, stride) = rest.rsplit_once("], ").unwrap();
                line = format!("{before}{lie}_{kind}({at}, {stride}");
            }
        }
        if line.contains("coopStoreT") {
            line = line.replace("coopStoreT", "store_Sum");
            line = line.replace("&scratch[own.scratch]", "own.scratch");
        }
        line = line.replace("coopMultiplyAdd", "multiply_add");
        text.push_str(&line);
        text.push('\n');
        if line.starts_with("alias Cell") {
            text.push_str(&emulation(size, vectors, arrays));
        }
    }
    let begin = "    let own = Own(\n";
    let left = ["coop_", "coopLoad", "coopStore", "coopMultiply"];
    assert!(text.contains(begin) && left.iter().all(|word| !text.contains(word)));
    text.replace(begin, &format!("    lane = local % SUBGROUP;\n{begin}"))
}

/// `plan` with the matrices of its kernels emulated.
pub fn emulated_plan(mut plan: Plan) -> Plan {
    for pipeline in &mut plan.pipelines {
        if is_by_matrices(pipeline.shader.name) {
            pipeline.shader.source = emulated(&pipeline.shader.source).into();
        }
    }
    plan
}
