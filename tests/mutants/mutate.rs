//! The mutants of a shader's text: changes of one line each, as typing errors would make them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A change of one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mutant {
    /// The line as it is, without the space around it.
    pub line: String,
    /// The number of equal lines before it.
    pub nth: usize,
    /// The line in its place.
    pub changed: String,
    /// The kind of change.
    pub operator: &'static str,
}

/// A line without the space around it. Variants in f16 store through `written`.
fn plain(line: &str) -> String {
    let spaced = format!(" {}", line.trim());
    spaced.replace(" written(", " Written(")[1..].to_owned()
}

impl Mutant {
    /// `text` with the change; `None` if it does not have the line.
    pub fn apply(&self, text: &str) -> Option<String> {
        let mut equal = text.lines().filter(|line| plain(line) == self.line);
        let line = equal.nth(self.nth)?;
        let begin = line.as_ptr() as usize - text.as_ptr() as usize;
        let changed = match line.contains(" written(") {
            true => format!(" {}", self.changed).replace(" Written(", " written("),
            false => self.changed.clone(),
        };
        let (before, after) = (&text[..begin], &text[begin + line.len()..]);
        Some(format!("{before}{changed}{after}"))
    }
}

/// More turns than a `while` loop of a shader takes.
const TURNS: usize = 100;

/// `text` with an end of each `while` loop, which a mutant might never leave.
pub fn ending(text: &str) -> String {
    let mut ending = String::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("while ") {
            let turns = format!("turns{i}");
            let end = format!("{turns} += 1u; if {turns} > {TURNS}u {{ break; }}");
            writeln!(ending, "var {turns} = 0u;\n{line}\n{end}").unwrap();
        } else {
            writeln!(ending, "{line}").unwrap();
        }
    }
    ending
}

/// Pairs of operators, each replaced by the other one.
const SWAPPED: [(&str, &str, &str); 9] = [
    ("a bound", " < ", " <= "),
    ("a bound", " > ", " >= "),
    ("equality", " == ", " != "),
    ("a sum", " + ", " - "),
    ("a sum", " += ", " -= "),
    ("logic", " && ", " || "),
    ("logic", " & ", " | "),
    ("a shift", " << ", " >> "),
    ("a limit", "min(", "max("),
];

/// Operators, each replaced by another one.
const REPLACED: [(&str, &str, &str); 5] = [
    ("a product", " * ", " + "),
    ("a product", " *= ", " += "),
    ("a quotient", " / ", " * "),
    ("a quotient", " /= ", " *= "),
    ("a remainder", " % ", " / "),
];

/// Components, each replaced by the other one.
const COMPONENTS: [(&str, &str); 2] = [(".x", ".y"), (".z", ".w")];

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// `code` with one occurrence of `old` replaced, for each occurrence; words only as a whole.
fn replaced(code: &str, old: &str, new: &str) -> Vec<String> {
    let whole = |at: &usize| {
        let (before, after) = (&code[..*at], &code[at + old.len()..]);
        let begins = !old.starts_with(char::is_alphanumeric) || !is_word(before.chars().last());
        let ends = !old.ends_with(char::is_alphanumeric) || !is_word(after.chars().next());
        begins && ends
    };
    let at = code.match_indices(old).map(|(at, _)| at).filter(whole);
    at.map(|at| format!("{}{new}{}", &code[..at], &code[at + old.len()..]))
        .collect()
}

/// `code` with one of its numbers, like `4u`, raised by one, for each number.
fn raised(code: &str) -> Vec<String> {
    let digits = |c: char| c.is_ascii_digit();
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(begin) = code[at..].find(digits).map(|i| at + i) {
        let end = begin
            + code[begin..]
                .find(|c| !digits(c))
                .unwrap_or(code.len() - begin);
        let before = code[..begin].chars().last();
        let is_number = !is_word(before) && before != Some('.');
        let unsigned = code[end..].starts_with('u') && !is_word(code[end + 1..].chars().next());
        if let (true, true, Ok(number)) = (is_number, unsigned, code[begin..end].parse::<u64>()) {
            all.push(format!("{}{}{}", &code[..begin], number + 1, &code[end..]));
        }
        at = end;
    }
    all
}

/// The changes within a line of code: what is changed, and the changed line.
fn changes(code: &str) -> Vec<(&'static str, String)> {
    // A line may begin with an operator.
    let spaced = format!(" {code}");
    let mut all = Vec::new();
    let mut add = |operator, lines: Vec<String>| {
        let changed = lines.into_iter().map(|line| line.trim().to_owned());
        all.extend(changed.map(|line| (operator, line)));
    };
    for (operator, a, b) in SWAPPED {
        add(operator, replaced(&spaced, a, b));
        add(operator, replaced(&spaced, b, a));
    }
    for (operator, old, new) in REPLACED {
        add(operator, replaced(&spaced, old, new));
    }
    for (a, b) in COMPONENTS {
        add("a component", replaced(&spaced, a, b));
        add("a component", replaced(&spaced, b, a));
    }
    add("a number", raised(&spaced));
    all
}

/// The changes in the head of a loop. It still ends: its step stays, and so does the direction of its end.
fn changes_of_head(code: &str) -> Vec<(&'static str, String)> {
    let Some((begin, rest)) = code.split_once("; ") else {
        return Vec::new();
    };
    let Some((end, step)) = rest.split_once("; ") else {
        return Vec::new();
    };
    let turns = [" > ", " >= ", " == ", " != "];
    let begins = changes(begin).into_iter();
    let begins = begins.map(|(operator, begin)| (operator, format!("{begin}; {end}; {step}")));
    let ends = changes(end).into_iter();
    let ends = ends.filter(|(_, end)| turns.iter().all(|turn| !end.contains(turn)));
    let ends = ends.map(|(operator, end)| (operator, format!("{begin}; {end}; {step}")));
    begins.chain(ends).collect()
}

/// A statement or a condition left out.
fn omissions(code: &str) -> Vec<(&'static str, String)> {
    if code == "workgroupBarrier();" {
        return vec![("a barrier", String::new())];
    }
    let guard = ["if ", "} else if "].iter().find_map(|before| {
        let condition = code.strip_prefix(before)?.strip_suffix(" {")?;
        let always = format!("{before}true || ({condition}) {{");
        Some(vec![
            ("a guard", format!("{before}false && ({condition}) {{")),
            ("a guard", always),
        ])
    });
    if let Some(guard) = guard {
        return guard;
    }
    let first = code.split(|c: char| !is_word(Some(c))).next();
    let declares = ["let", "var", "const", "return", "break", "continue", ""];
    let is_statement = code.ends_with(';') && first.is_some_and(|word| !declares.contains(&word));
    let balanced = code.matches('(').count() == code.matches(')').count();
    let does = code.contains(" = ") || code.contains("= ") || code.ends_with(");");
    match is_statement && balanced && does {
        true => vec![("a statement", String::new())],
        false => Vec::new(),
    }
}

/// The lines of `text` that compute: no comments, declarations or heads of functions.
fn code_lines(text: &str) -> Vec<String> {
    let declares = [
        "//",
        "@",
        "alias ",
        "enable ",
        "override ",
        "const ",
        "fn ",
        "struct ",
        "var<",
        "}",
    ];
    let mut lines = Vec::new();
    let mut outside = true;
    for line in text.lines() {
        // What begins at the left edge is a declaration; a function's code follows its head.
        if !line.is_empty() && !line.starts_with([' ', '}']) {
            // Variants in f16 have this function in common.
            outside =
                !line.starts_with("fn ") && !line.starts_with(')') || line.contains(" written(");
        }
        let code = line.split(" // ").next().unwrap();
        let code = plain(code);
        let is_else = code.starts_with("} else if ");
        let is_declaration = declares.iter().any(|word| code.starts_with(word)) && !is_else;
        lines.push(match outside || is_declaration {
            true => String::new(),
            false => code,
        });
    }
    lines
}

/// All mutants of `text`, in its order.
pub fn mutants(text: &str) -> Vec<Mutant> {
    let lines = code_lines(text);
    let whole: Vec<_> = text.lines().map(plain).collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for (i, code) in lines.iter().enumerate() {
        let nth = seen.entry(&whole[i]).or_default();
        *nth += 1;
        // A loop without its end would not end.
        let ends_loop = whole.get(i + 1).is_some_and(|next| next == "break;");
        if code.is_empty() || ends_loop {
            continue;
        }
        let changes = match code {
            head if head.starts_with("for ") => changes_of_head(head),
            head if head.starts_with("while ") => changes_of_head(&format!("; {head}; "))
                .into_iter()
                .map(|(operator, head)| (operator, head[2..head.len() - 2].to_owned()))
                .collect(),
            code => [omissions(code), changes(code)].concat(),
        };
        all.extend(changes.into_iter().map(|(operator, changed)| Mutant {
            line: whole[i].clone(),
            nth: *nth - 1,
            changed,
            operator,
        }));
    }
    all
}

/// At most `most` of the mutants, spread over the operators and over the text.
pub fn sample(mutants: Vec<Mutant>, most: usize) -> Vec<Mutant> {
    let mut by_operator: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, mutant) in mutants.iter().enumerate() {
        by_operator.entry(mutant.operator).or_default().push(i);
    }
    // Operators with few mutants leave their share to the others.
    let mut left = most;
    let mut groups: Vec<_> = by_operator.into_values().collect();
    groups.sort_by_key(Vec::len);
    let mut chosen = BTreeSet::new();
    for (i, group) in groups.iter().enumerate() {
        let share = group.len().min(left.div_ceil(groups.len() - i));
        chosen.extend((0..share).map(|k| group[(2 * k + 1) * group.len() / (2 * share)]));
        left -= share;
    }
    let all = mutants.into_iter().enumerate();
    all.filter(|(i, _)| chosen.contains(i))
        .map(|(_, mutant)| mutant)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
// a < b
alias Written = vec4<f32>;
const TILE = 8u;

struct Params {
    end: u32,
}

@group(0) @binding(0) var<storage, read_write> output: array<Written>;

@compute @workgroup_size(64)
fn main(
    @builtin(local_invocation_index) local: u32,
) {
    let at = local * 4u; // at + 1u
    if at >= params.end {
        return;
    }
    for (var i = 1u; i < min(params.end, 3u); i += 2u) {
        if i > 5u {
            break;
        }
        sum += 1.0;
    }

    workgroupBarrier();
    sum += 1.0;
    output[at] = Written(sum.x);
}
";

    fn changed(line: &str) -> Vec<String> {
        let all = mutants(TEXT).into_iter();
        all.filter(|mutant| mutant.line == line && mutant.nth == 0)
            .map(|mutant| mutant.changed)
            .collect()
    }

    #[test]
    fn each_operator_makes_its_mutants() {
        assert_eq!(
            changed("let at = local * 4u; // at + 1u"),
            ["let at = local + 4u;", "let at = local * 5u;"]
        );
        assert_eq!(
            changed("if at >= params.end {"),
            [
                "if false && (at >= params.end) {",
                "if true || (at >= params.end) {",
                "if at > params.end {",
            ]
        );
        assert_eq!(changed("workgroupBarrier();"), [""]);
        assert_eq!(changed("sum += 1.0;"), ["", "sum -= 1.0;"]);
        assert_eq!(
            changed("output[at] = Written(sum.x);"),
            ["", "output[at] = Written(sum.y);"]
        );
        assert_eq!(
            raised(" a = 0x7fu + b4u + 9u + 1.0;"),
            [" a = 0x7fu + b4u + 10u + 1.0;"]
        );
        assert_eq!(
            changes("+ a.xy - a.x.z"),
            [
                ("a sum", "- a.xy - a.x.z"),
                ("a sum", "+ a.xy + a.x.z"),
                ("a component", "+ a.xy - a.y.z"),
                ("a component", "+ a.xy - a.x.w"),
            ]
            .map(|(operator, line)| (operator, line.to_owned()))
        );
    }

    #[test]
    fn loops_still_end() {
        let head = "for (var i = 1u; i < min(params.end, 3u); i += 2u) {";
        let changed = changed(head);
        assert_eq!(changed.len(), 4, "{changed:#?}");
        assert!(changed.iter().all(|head| head.ends_with("; i += 2u) {")));
        assert!(
            mutants(TEXT)
                .iter()
                .all(|mutant| mutant.line != "if i > 5u {")
        );
    }

    #[test]
    fn while_loops_get_an_end() {
        assert_eq!(ending(TEXT), TEXT);
        assert_eq!(
            ending("a\n    while b {\n    }\n"),
            "a\nvar turns1 = 0u;\n    while b {\nturns1 += 1u; if turns1 > 100u { break; }\n    }\n"
        );
    }

    #[test]
    fn only_code_is_changed() {
        let lines: BTreeSet<_> = mutants(TEXT).into_iter().map(|m| m.line).collect();
        let first = TEXT.lines().position(|line| line == ") {").unwrap();
        for line in TEXT.lines().take(first + 1) {
            assert!(!lines.contains(line.trim()), "{line}");
        }
    }

    #[test]
    fn a_mutant_changes_its_occurrence_of_a_line_in_every_variant() {
        let all = mutants(TEXT);
        let second = |m: &&Mutant| m.line == "sum += 1.0;" && m.nth == 1 && !m.changed.is_empty();
        let second = all.iter().find(second).unwrap();
        let text = second.apply(TEXT).unwrap();
        assert_eq!(text.matches("sum += 1.0;").count(), 1);
        assert!(text.find("sum += 1.0;").unwrap() < text.find("sum -= 1.0;").unwrap());
        let half = TEXT.replace(" Written(", " written(");
        let store = |m: &&Mutant| m.changed == "output[at] = Written(sum.y);";
        let store = all.iter().find(store).unwrap();
        let text = store.apply(&half).unwrap();
        assert!(text.contains("\n output[at] = written(sum.y);\n"), "{text}");
        assert_eq!(store.apply("fn main() {}"), None);
    }

    #[test]
    fn a_sample_has_every_operator() {
        let all = mutants(TEXT);
        let operators =
            |mutants: &[Mutant]| -> BTreeSet<_> { mutants.iter().map(|m| m.operator).collect() };
        let (every, count) = (operators(&all), all.len());
        let some = sample(all.clone(), every.len());
        assert_eq!((operators(&some), some.len()), (every.clone(), every.len()));
        assert_eq!(sample(all.clone(), count - 1).len(), count - 1);
        assert_eq!(sample(all.clone(), 2 * count), all);
    }
}
