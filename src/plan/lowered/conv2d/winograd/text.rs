//! The text of the shaders of both transforms. The files in `shaders/` are those of F(4×4, 3×3); the parts between the
//! marks `// tile: NAME` and `// end` depend on the transform.

use crate::ops::kernel::Shader;
use crate::ops::packing::winograd::Transform;
use crate::plan::lowered::conv2d::template::fill;

const INPUT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_input.wgsl"
));
const OUTPUT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_output.wgsl"
));

const INPUT_TILED: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_input_tiled.wgsl"
));
const OUTPUT_TILED: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_output_tiled.wgsl"
));

/// The shader of the input transform, on a CPU device or a GPU.
pub(super) fn input(transform: Transform, is_cpu: bool) -> Shader {
    match is_cpu {
        true => Shader::own("winograd_input", text(INPUT, transform)),
        false => Shader::own("winograd_input_tiled", text(INPUT_TILED, transform)),
    }
}

/// The shader of the output transform, on a CPU device or a GPU.
pub(super) fn output(transform: Transform, is_cpu: bool) -> Shader {
    match is_cpu {
        true => Shader::own("winograd_output", text(OUTPUT, transform)),
        false => Shader::own("winograd_output_tiled", text(OUTPUT_TILED, transform)),
    }
}

fn text(file: &str, transform: Transform) -> String {
    fill(file, |name| part(name, transform))
}

/// The lines of the part called `name`.
fn part(name: &str, transform: Transform) -> Vec<String> {
    let (side, outputs) = (transform.side(), transform.outputs());
    let each = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect();
    match name {
        "size" => vec![
            format!("const OUTPUTS = {outputs}u;"),
            format!("const SIDE = {side}u;"),
            format!("alias Points = array<vec4<f32>, {side}>;"),
        ],
        "pixels" => vec![format!("alias Pixels = array<vec4<f32>, {outputs}>;")],
        "to_points" => to_points(transform),
        "to_pixels" => to_pixels(transform),
        "row_of_input" => each(side, &|i| {
            format!("load(top, y, x + {i} * i32(DILATION), c),")
        }),
        "tiled_row_of_input" => each(side, &|i| {
            format!("load(top, y, x + {i} * i32(DILATION), c, exists),")
        }),
        "row_of_products" => each(side, &|i| format!("vec4<f32>(input[at + {i}u * step]),")),
        "store_row_of_points" => each(side, &store_in_row),
        "store_row_of_pixels" => each(outputs, &store_in_row),
        "column_of_rows" => each(side, &|i| format!("rows[in_column + {i}u * SIDE * FOURS],")),
        "column_of_pixels" => each(side, &|i| {
            format!("rows[in_column + {i}u * OUTPUTS * FOURS],")
        }),
        "store_column_of_points" => each(side, &|i| {
            format!("output[at + {i}u * SIDE * point] = Written(column[{i}]);")
        }),
        "row_of_points" => each(side, &|i| format!("load(at + {i}u * step),")),
        "store_points" => each(side, &|i| format!("output[at + {i}u * step] = v[{i}];")),
        "rows_of_input" => each(side, &|i| {
            format!("let r{i} = row(top, y + {i} * i32(DILATION), x, c);")
        }),
        "rows_of_points" => each(side, &|i| {
            format!("let r{i} = row(at + {}u * point, point);", side * i)
        }),
        "columns_of_points" => each(side, &|i| {
            format!(
                "store(at + {i}u * point, step, transform({}));",
                column(i, side)
            )
        }),
        "store_column" => each(outputs, &|i| {
            format!("store(y + {i}u * DILATION, x, band, c, v[{i}] + bias_c);")
        }),
        "store_pooled" => (0..outputs / 2).flat_map(store_pooled).collect(),
        "pooled_columns" => (0..outputs / 2)
            .flat_map(|i| {
                [
                    "store_pooled(".into(),
                    format!("    y, x + {i}u, band, c, bias_c,"),
                    format!("    transform({}),", column(2 * i, side)),
                    format!("    transform({}),", column(2 * i + 1, side)),
                    ");".into(),
                ]
            })
            .collect(),
        "columns_of_pixels" => each(outputs, &|i| {
            format!(
                "store_column(y, x + {i}u * DILATION, band, c, bias_c, transform({}));",
                column(i, side)
            )
        }),
        _ => vec![format!("unknown part {name}")],
    }
}

/// Stores value `i` of a row in workgroup memory.
fn store_in_row(i: usize) -> String {
    format!("rows[in_row + {i}u * FOURS] = row[{i}];")
}

/// Column `i` of the rows `r0`, `r1` ….
fn column(i: usize, side: usize) -> String {
    let values: Vec<_> = (0..side).map(|row| format!("r{row}[{i}]")).collect();
    format!("Points({})", values.join(", "))
}

/// Pools row `i` of squares.
fn store_pooled(i: usize) -> [String; 2] {
    let (upper, lower) = (2 * i, 2 * i + 1);
    [
        format!(
            "let p{i} = largest(v[{upper}], w[{upper}], v[{lower}], w[{lower}], row + {lower}u < params.map_height, right);"
        ),
        format!("store(y + {i}u, x, band, c, p{i} + bias_c);"),
    ]
}

/// Bᵀ·v. The rows of points ±p have the same even terms, and opposite odd ones.
fn to_points(transform: Transform) -> Vec<String> {
    let (matrix, side) = (transform.of_inputs(), transform.side());
    let terms = |row: usize, first: usize| {
        let terms = matrix[row].iter().enumerate().skip(first).step_by(2);
        sum(terms.map(|(k, factor)| (*factor, format!("v[{k}]"))))
    };
    let mut lines = Vec::new();
    let mut points = vec![terms(0, 0)];
    for pair in (1..side - 1).step_by(2) {
        lines.push(format!("let even{pair} = {};", terms(pair, 0)));
        lines.push(format!("let odd{pair} = {};", terms(pair, 1)));
        points.push(format!("even{pair} + odd{pair}"));
        points.push(format!("even{pair} - odd{pair}"));
    }
    points.push(terms(side - 1, 1));
    returned("Points", lines, &points)
}

/// Aᵀ·v. The columns of points ±p are the same in even rows, and opposite in odd ones.
fn to_pixels(transform: Transform) -> Vec<String> {
    let (matrix, side) = (transform.of_outputs(), transform.side());
    let mut lines = Vec::new();
    for pair in (1..side - 1).step_by(2) {
        let next = pair + 1;
        lines.push(format!("let even{pair} = v[{pair}] + v[{next}];"));
        lines.push(format!("let odd{pair} = v[{pair}] - v[{next}];"));
    }
    let of_row = |(i, row): (usize, &Vec<f64>)| {
        let half = if i % 2 == 0 { "even" } else { "odd" };
        let pairs = (1..side - 1).step_by(2);
        let pairs = pairs.map(|pair| (row[pair], format!("{half}{pair}")));
        let ends = [0, side - 1].map(|k| (row[k], format!("v[{k}]")));
        sum(pairs.chain(ends))
    };
    let pixels: Vec<_> = matrix.iter().enumerate().map(of_row).collect();
    returned("Pixels", lines, &pixels)
}

/// `lines`, and the return of `values`.
fn returned(name: &str, mut lines: Vec<String>, values: &[String]) -> Vec<String> {
    lines.push(format!("return {name}("));
    lines.extend(values.iter().map(|value| format!("    {value},")));
    lines.push(");".into());
    lines
}

/// The sum of values times factors. Values with a factor of ±1 are added up first.
fn sum(terms: impl Iterator<Item = (f64, String)>) -> String {
    let (ones, others): (Vec<_>, Vec<_>) = terms
        .map(|(factor, value)| (factor as f32, value))
        .filter(|(factor, _)| *factor != 0.0)
        .partition(|(factor, _)| *factor == 1.0);
    let ones: Vec<_> = ones.into_iter().map(|(_, value)| value).collect();
    let begin = (!ones.is_empty()).then(|| ones.join(" + "));
    let add = |sum: Option<String>, (factor, value): (f32, String)| {
        Some(match sum {
            None => format!("{factor:?} * {value}"),
            Some(sum) => format!("fma(vec4<f32>({factor:?}), {value}, {sum})"),
        })
    };
    others.into_iter().fold(begin, add).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_the_generator_writes_for_tiles_of_four() {
        for file in [INPUT, OUTPUT, INPUT_TILED, OUTPUT_TILED] {
            assert_eq!(text(file, Transform::F4X3), file);
        }
    }
}
