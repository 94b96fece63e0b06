//! The list of mutants that change nothing.

use super::mutate::Mutant;
use std::fmt::Write;
use std::path::Path;

/// The survivors and the reasons. A block of `survivors.txt` is a line `shader: reason`, with spaces between several
/// shaders, then pairs of lines, `- ` with the line and `+ ` with what it may be changed to. `-2 ` is the second one of
/// equal lines.
pub struct Known(Vec<Listed>);

struct Listed {
    shaders: String,
    reason: String,
    line: String,
    nth: usize,
    changed: String,
}

impl Known {
    pub fn read() -> Self {
        let file = "tests/mutants/survivors.txt";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        Self::parse(&std::fs::read_to_string(path).unwrap())
    }

    fn parse(text: &str) -> Self {
        let (mut head, mut line, mut all) = (None, None, Vec::new());
        for (i, text) in text.lines().enumerate() {
            let at = format!("survivors.txt:{}", i + 1);
            match text.as_bytes() {
                [] | [b'#', ..] => {}
                [b'-', ..] => {
                    let (mark, rest) = text.split_once(' ').unwrap_or_else(|| panic!("{at}"));
                    let nth = match &mark[1..] {
                        "" => 0,
                        number => number.parse::<usize>().unwrap() - 1,
                    };
                    line = Some((rest.to_owned(), nth));
                }
                [b'+', ..] => {
                    let (shaders, reason) =
                        head.clone().unwrap_or_else(|| panic!("{at}: no shader"));
                    let (line, nth) = line.clone().unwrap_or_else(|| panic!("{at}: no line"));
                    all.push(Listed {
                        shaders,
                        reason,
                        line,
                        nth,
                        changed: text[1..].trim().to_owned(),
                    });
                }
                _ => {
                    let (shaders, reason) = text.split_once(": ").unwrap_or_else(|| panic!("{at}"));
                    (head, line) = (Some((shaders.to_owned(), reason.to_owned())), None);
                }
            }
        }
        Self(all)
    }

    fn find(&self, shader: &str, mutant: &Mutant) -> Option<&Listed> {
        self.0.iter().find(|listed| {
            listed.shaders.split(' ').any(|listed| listed == shader)
                && (&listed.line, listed.nth) == (&mutant.line, mutant.nth)
                && listed.changed == mutant.changed
        })
    }

    /// Why a mutant changes nothing, if it is listed.
    pub fn reason(&self, shader: &str, mutant: &Mutant) -> Option<&str> {
        self.find(shader, mutant)
            .map(|listed| listed.reason.as_str())
    }
}

/// A survivor as the list shows it.
pub fn shown(shader: &str, mutant: &Mutant, reason: Option<&str>) -> String {
    let mut text = format!("{shader}: {}\n", reason.unwrap_or("?"));
    let number = match mutant.nth {
        0 => String::new(),
        nth => (nth + 1).to_string(),
    };
    write!(text, "-{number} {}\n+ {}", mutant.line, mutant.changed).unwrap();
    text
}

#[test]
fn what_is_shown_is_what_the_list_holds() {
    let mutant = Mutant {
        line: "let a = b + 1u;".to_owned(),
        nth: 1,
        changed: String::new(),
        operator: "a sum",
    };
    let known = Known::parse(&shown("relu", &mutant, Some("b is 0.")));
    assert_eq!(known.reason("relu", &mutant), Some("b is 0."));
    assert_eq!(known.reason("cat", &mutant), None);
    let first = Mutant { nth: 0, ..mutant };
    assert_eq!(known.reason("relu", &first), None);
    let of_two = Known::parse(&shown("relu cat", &first, Some("b is 0.")));
    assert_eq!(of_two.reason("cat", &first), Some("b is 0."));
}
