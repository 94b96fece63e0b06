//! The files of the library, and the files that each uses.

use std::collections::{BTreeMap, BTreeSet};

/// The path of a module, from the root of the library: `plan/mod.rs` and `plan.rs` are both `["plan"]`.
fn module(file: &str) -> Vec<&str> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "lib").collect()
}

/// The paths in `tree`, the text after `use`: `a::{b, c::d}` has two.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return match path.trim_end_matches("::self") {
            "" => Vec::new(),
            path => vec![path.to_owned()],
        };
    };
    let group = group.trim_end().strip_suffix('}').unwrap();
    let (mut depth, mut begin, mut all) = (0, 0, Vec::new());
    for (at, character) in group.char_indices().chain([(group.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let inner = paths(&group[begin..at]).into_iter();
                all.extend(inner.map(|path| format!("{before}{path}")));
                begin = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// The paths in a file's code, and whether the file re-exports them (`pub use`).
fn named_in(code: &str) -> BTreeSet<(String, bool)> {
    let mut all = BTreeSet::new();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].trim_end();
        let line = &code[code[..at].rfind('\n').map_or(0, |i| i + 1)..at];
        let is_statement = line.trim().is_empty() || line.trim().starts_with("pub");
        if let (true, Some(end)) = (is_statement, code[at..].find(';')) {
            let passed_on = before.ends_with("pub") || before.ends_with(')');
            let tree = code[at + 4..at + end].replace('\n', " ");
            all.extend(paths(&tree).into_iter().map(|path| (path, passed_on)));
        }
    }
    for begin in ["crate::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let rest = &code[at..];
            let path = &rest[..rest.find(|c| !is_path(c)).unwrap_or(rest.len())];
            if path.len() > begin.len() {
                all.insert((path.trim_end_matches(':').to_owned(), false));
            }
        }
    }
    all
}

/// For each file, the files that it uses.
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// For each file of `sources`, the files that it uses. Files in a file's own folder do not count, because a `mod.rs`
/// lists them.
pub fn uses(sources: &BTreeMap<String, String>) -> Uses {
    let files = sources.keys().map(|file| (module(file), file.as_str()));
    let named = sources.iter();
    let house = House {
        files: files.collect(),
        named: named
            .map(|(file, code)| (file.as_str(), named_in(code)))
            .collect(),
    };
    let mut all = Uses::new();
    for (file, paths) in &house.named {
        let used = paths
            .iter()
            .filter_map(|(path, _)| house.file_of(file, path));
        let others = used.filter(|used| used != file && !module(used).starts_with(&module(file)));
        all.insert((*file).to_owned(), others.collect());
    }
    all
}

struct House<'a> {
    files: BTreeMap<Vec<&'a str>, &'a str>,
    named: BTreeMap<&'a str, BTreeSet<(String, bool)>>,
}

impl House<'_> {
    /// `path` from the root of the library; `None` if it is another crate's.
    fn absolute<'p>(&self, file: &'p str, path: &'p str) -> Option<Vec<&'p str>> {
        let mut begin = module(file);
        let mut parts = path.split("::").peekable();
        match *parts.peek()? {
            "crate" => begin.clear(),
            "super" | "self" => {}
            first => {
                let child: Vec<_> = begin.iter().copied().chain([first]).collect();
                self.files.get(child.as_slice())?;
            }
        }
        while let Some(up) = parts.next_if(|part| ["crate", "super", "self"].contains(part)) {
            if up == "super" {
                begin.pop();
            }
        }
        Some(begin.into_iter().chain(parts).collect())
    }

    /// The file that defines the item of `path`; re-exports are followed.
    fn file_of(&self, file: &str, path: &str) -> Option<String> {
        let path = self.absolute(file, path)?;
        let of = |length: usize| Some((length, *self.files.get(&path[..length])?));
        let (length, found) = (0..=path.len()).rev().find_map(of)?;
        let passed_on = path.get(length).and_then(|item| {
            let mut passed = self.named[found].iter().filter(|(_, passed_on)| *passed_on);
            passed.find(|(path, _)| path.split("::").last() == Some(item))
        });
        let elsewhere = passed_on.and_then(|(path, _)| self.file_of(found, path));
        Some(elsewhere.unwrap_or_else(|| found.to_owned()))
    }
}

/// The circles in `uses`: sets of files that use each other, directly or through others.
pub fn circles(uses: &Uses) -> BTreeSet<BTreeSet<&str>> {
    let reached = |from: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = left.pop() {
            for next in &uses[&file] {
                if seen.insert(next.clone()) {
                    left.push(next.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&str, _> = uses
        .keys()
        .map(|file| (file.as_str(), reached(file)))
        .collect();
    let circle = |file: &&str| {
        let together = all.keys().copied();
        let together =
            together.filter(|other| all[file].contains(*other) && all[other].contains(*file));
        together.collect::<BTreeSet<_>>()
    };
    let circles = all.keys().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(file, code): &(&str, &str)| (file.to_string(), code.to_string());
        files.iter().map(own).collect()
    }

    #[test]
    fn a_circle_through_a_re_export_is_found() {
        let sources = of(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a/mod.rs",
                "mod deep;\nmod other;\npub use deep::{Deep as D, Deep};\n",
            ),
            ("a/deep.rs", "use super::other::Other;\n"),
            ("a/other.rs", "use crate::b::{self, B};\n"),
            ("b.rs", "use crate::{\n    a::Deep,\n};\n"),
        ]);
        let uses = uses(&sources);
        assert_eq!(uses["b.rs"], BTreeSet::from(["a/deep.rs".to_owned()]));
        assert_eq!(uses["a/mod.rs"], BTreeSet::new());
        let circle = BTreeSet::from(["a/deep.rs", "a/other.rs", "b.rs"]);
        assert_eq!(circles(&uses), BTreeSet::from([circle]));
    }

    #[test]
    fn files_without_mutual_use_form_no_circle() {
        let sources = of(&[
            ("a.rs", "fn f() { crate::b::g() }\n"),
            ("b.rs", "use std::fmt;\n"),
        ]);
        assert_eq!(uses(&sources)["a.rs"], BTreeSet::from(["b.rs".to_owned()]));
        assert!(circles(&uses(&sources)).is_empty());
    }
}
