//! Shader files with generated parts, and the parts that several kernels have.

/// `file` with its parts replaced. A part is the lines between `// tile: NAME` and `// end`; these marks stay. `part`
/// gives the new lines by the name, and they get the indentation of the mark.
pub(super) fn fill(file: &str, part: impl Fn(&str) -> Vec<String>) -> String {
    let mut text = String::with_capacity(2 * file.len());
    let mut skipping = false;
    for line in file.lines() {
        if line.trim() == "// end" {
            skipping = false;
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
        if let Some(name) = line.trim().strip_prefix("// tile: ") {
            skipping = true;
            let indent = &line[..line.len() - line.trim_start().len()];
            for line in part(name) {
                text.push_str(indent);
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    text
}

/// The reads and stores of a stage: `reads` elements of the halo and of the taps for each of the invocations. `at_once`
/// reads are under way before their stores. The barrier before the first store waits for the products of the stage before.
pub(super) fn staging(reads: [usize; 2], invocations: usize, at_once: usize) -> Vec<String> {
    let halo = (0..reads[0]).map(|i| ("halo", "h", "image, from_y, from_x", i));
    let taps = (0..reads[1]).map(|i| ("tap", "t", "tap", i));
    let all: Vec<_> = halo.chain(taps).collect();
    let mut lines = Vec::new();
    for (chunk, some) in all.chunks(at_once).enumerate() {
        lines.extend(some.iter().map(|(what, name, from, i)| {
            let at = i * invocations;
            format!("let {name}{i} = {what}_value(local + {at}u, {from}, c, c_end);")
        }));
        lines.extend((chunk == 0).then(|| "workgroupBarrier();".into()));
        lines.extend(some.iter().map(|(what, name, _, i)| {
            let at = i * invocations;
            format!("store_{what}(local + {at}u, {name}{i});")
        }));
    }
    lines
}

/// Adds four input channels of the values `v0`, `v1` … to the sums of `quads` groups of output channels. `weight(i, q)` is
/// the line that loads `w{i}_{q}`, the weights of input channel i and group q.
pub(super) fn multiply_adds(
    values: usize,
    quads: usize,
    weight: impl Fn(usize, usize) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, channel) in "xyzw".chars().enumerate() {
        lines.extend((0..quads).map(|q| weight(i, q)));
        lines.extend((0..values).flat_map(|p| {
            (0..quads).map(move |q| {
                format!("sum{p}_{q} = fma(w{i}_{q}, vec4<f32>(v{p}.{channel}), sum{p}_{q});")
            })
        }));
    }
    lines
}
