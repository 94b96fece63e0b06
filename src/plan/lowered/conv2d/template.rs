//! Shader files with generated parts.

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
