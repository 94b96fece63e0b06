//! What the values in files of labels mean: the class of each id and of each colour.

use crate::presets::{Colour, Preset};
use crate::text_files::{colour, fault, text};
use fullconv::{Error, ErrorKind, Model, Palette, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A value in a file of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    Id(i32),
    Colour(Colour),
}

impl Label {
    /// An id, `#804080`, or `128,64,128`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let id = text.parse().ok().map(Self::Id);
        id.or_else(|| colour(text).map(Self::Colour))
            .ok_or_else(|| {
                format!("{text:?} is no label: an id, or a colour such as #804080 or 128,64,128")
            })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Colour([r, g, b]) => write!(f, "#{r:02x}{g:02x}{b:02x}"),
        }
    }
}

/// What a label means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Class(u8),
    /// Not counted, on purpose.
    Void,
}

/// The meaning of each label. A label that is not in it is no class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMap(pub BTreeMap<Label, Meaning>);

impl LabelMap {
    /// Ids are classes, 255 is void; colours are those of `palette`, if given, else of `model`.
    pub fn of(model: &Model, classes: usize, palette: Option<&[Colour]>) -> Result<Self> {
        let ids = (0..classes.min(usize::from(u8::MAX)))
            .map(|class| (Label::Id(class as i32), Meaning::Class(class as u8)));
        let mut map: BTreeMap<_, _> = ids.collect();
        map.insert(Label::Id(255), Meaning::Void);
        let colours = palette.unwrap_or(model.palette().colours());
        if colours.len() > classes {
            let text = format!(
                "--palette has {} colours, the model {classes} classes: --label-map gives colours a class",
                colours.len()
            );
            return Err(Error::new(ErrorKind::Request, text));
        }
        for (class, colour) in colours.iter().enumerate() {
            map.insert(Label::Colour(*colour), Meaning::Class(class as u8));
        }
        // A colour of several classes is none of them.
        for (class, colour) in colours.iter().enumerate() {
            let label = Label::Colour(*colour);
            let other = colours.iter().position(|other| other == colour);
            match other.filter(|other| *other != class) {
                Some(other) if palette.is_some() => {
                    let text =
                        format!("--palette: classes {other} and {class} have one colour, {label}");
                    return Err(Error::new(ErrorKind::Request, text));
                }
                Some(_) => drop(map.remove(&label)),
                None => {}
            }
        }
        // The void around objects in PASCAL VOC.
        let void = Palette::voc(0).colour(u8::MAX);
        if colours == Palette::voc(colours.len()).colours() {
            map.insert(Label::Colour(void), Meaning::Void);
        }
        Ok(Self(map))
    }

    /// The map that `--label-map` gives: of a data set, or of a file.
    pub fn given(given: &Path, model: &Model, classes: usize) -> Result<Self> {
        match given.to_str().and_then(Preset::of_name) {
            Some(preset) => Self::of_preset(preset, model, classes),
            None => Self::of_file(given, model, classes),
        }
    }

    fn of_preset(preset: Preset, model: &Model, classes: usize) -> Result<Self> {
        let targets = match preset.classes() {
            Some(names) => targets(preset, &names, model, classes)?,
            None => (0..classes).collect(),
        };
        let meaning = |class: Option<usize>| match class {
            Some(class) => Meaning::Class(targets[class] as u8),
            None => Meaning::Void,
        };
        let ids = preset.ids(classes).into_iter();
        let ids = ids.map(|(id, class)| (Label::Id(id), meaning(class)));
        let colours = preset.colours().into_iter();
        let colours = colours.map(|(colour, class)| (Label::Colour(colour), meaning(class)));
        Ok(Self(ids.chain(colours).collect()))
    }

    /// Lines `label = class`, or a JSON object or list.
    fn of_file(path: &Path, model: &Model, classes: usize) -> Result<Self> {
        let text = text(path)?;
        let entries = match text.trim_start().chars().next() {
            Some('{' | '[') => of_json(&text),
            _ => of_lines(&text),
        };
        let mut map = BTreeMap::new();
        for (label, class) in entries.map_err(|what| fault(path, what))? {
            let meaning = meaning(&class, model, classes).map_err(|what| fault(path, what))?;
            for label in labels(&label).map_err(|what| fault(path, what))? {
                if map
                    .insert(label, meaning)
                    .is_some_and(|other| other != meaning)
                {
                    return Err(fault(path, format!("gives label {label} two classes")));
                }
            }
        }
        match map.is_empty() {
            true => Err(fault(
                path,
                "gives no label a class: its lines are `label = class`",
            )),
            false => Ok(Self(map)),
        }
    }

    /// Gives each colour of `palette` the meaning of the id at its position.
    pub fn add_palette(&mut self, palette: &[Colour]) -> Result<()> {
        let mut added = BTreeMap::new();
        for (id, colour) in palette.iter().enumerate() {
            let Some(meaning) = self.get(Label::Id(id as i32)) else {
                continue;
            };
            let label = Label::Colour(*colour);
            if added
                .insert(label, meaning)
                .is_some_and(|other| other != meaning)
            {
                let text = format!("--palette has the colour {label} for two classes");
                return Err(Error::new(ErrorKind::Request, text));
            }
        }
        self.0.extend(added);
        Ok(())
    }

    /// The meaning of `label`.
    pub fn get(&self, label: Label) -> Option<Meaning> {
        self.0.get(&label).copied()
    }
}

/// The class of `model` that each class of `preset` is: the one of its name, or of its id if the names do not tell.
fn targets(preset: Preset, names: &[&str], model: &Model, classes: usize) -> Result<Vec<usize>> {
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let theirs: Vec<_> = model.classes().iter().map(|name| plain(name)).collect();
    let of_name = |name: &&str| theirs.iter().position(|other| *other == plain(name));
    let found: Vec<_> = names.iter().map(of_name).collect();
    if let Some(all) = found.iter().copied().collect() {
        return Ok(all);
    }
    let moved = found
        .iter()
        .enumerate()
        .find(|(id, at)| at.is_some_and(|at| at != *id));
    let why = match moved {
        None if names.len() == classes => return Ok((0..classes).collect()),
        None => format!("it has {} classes, the model {classes}", names.len()),
        Some((id, at)) => format!(
            "its class {id} is {}, which is class {} of the model, and not all names are the model's",
            names[id],
            at.unwrap_or_default()
        ),
    };
    let text = format!(
        "--label-map {}: {why}; write a file of lines `label = class`",
        preset.name()
    );
    Err(Error::new(ErrorKind::Request, text))
}

/// The entries of a file of lines, `#` beginning a comment.
fn of_lines(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || (line.starts_with('#') && colour(line).is_none()) {
            continue;
        }
        let Some((label, class)) = line.split_once('=').or_else(|| line.split_once(':')) else {
            return Err(format!("has no `label = class` in line {}", at + 1));
        };
        entries.push((label.trim().to_owned(), class.trim().to_owned()));
    }
    Ok(entries)
}

/// The entries of a JSON object from labels to classes, or of a list, whose positions are the labels.
fn of_json(text: &str) -> Result<Vec<(String, String)>, String> {
    use serde_json::Value;
    let value: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))?;
    let class = |value: Value| match value {
        Value::Null => Ok("void".to_owned()),
        Value::String(name) => Ok(name),
        Value::Number(id) => Ok(id.to_string()),
        other => Err(format!(
            "has {other} where a class is wanted: an id, a name or null"
        )),
    };
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(label, value)| Ok((label, class(value)?)))
            .collect(),
        Value::Array(classes) => classes
            .into_iter()
            .enumerate()
            .map(|(label, value)| Ok((label.to_string(), class(value)?)))
            .collect(),
        _ => Err("is neither a JSON object nor a list".to_owned()),
    }
}

/// The labels that `text` names: one, or a range of ids such as `0-6`.
fn labels(text: &str) -> Result<Vec<Label>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let id = |text: &str| text.trim().parse::<u16>().ok();
        Some((id(first)?, id(last)?))
    });
    match range {
        Some((first, last)) => Ok((first..=last).map(|id| Label::Id(id.into())).collect()),
        None => Label::parse(text).map(|label| vec![label]),
    }
}

/// The meaning of a class given by its name or id; `void`, `ignore`, -1 and 255 are none.
fn meaning(text: &str, model: &Model, classes: usize) -> Result<Meaning, String> {
    let mut names = model.classes().iter();
    let by_name = names.position(|name| name.eq_ignore_ascii_case(text));
    let by_id = || text.parse().ok().filter(|id| *id < classes);
    if let Some(class) = by_name.or_else(by_id) {
        return Ok(Meaning::Class(class as u8));
    }
    if ["void", "ignore", "-1", "255"].contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(Meaning::Void);
    }
    let last = classes.saturating_sub(1);
    let names = match model.classes().len() {
        0 => String::new(),
        _ => format!(", names ({})", model.classes().join(", ")),
    };
    Err(format!(
        "names a class {text:?}; there are ids 0 to {last}{names}, and `void`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Model {
        Model::from_bytes(fullconv_demo::MODEL).unwrap()
    }

    fn of(text: &str) -> Result<LabelMap> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.txt");
        std::fs::write(&path, text).unwrap();
        LabelMap::of_file(&path, &demo(), 11)
    }

    #[test]
    fn files_of_every_form_give_the_same_map() {
        let expected = [
            (Label::Id(0), Meaning::Void),
            (Label::Id(1), Meaning::Void),
            (Label::Id(7), Meaning::Class(3)),
            (Label::Id(8), Meaning::Class(4)),
        ];
        let expected = LabelMap(BTreeMap::from(expected));
        for text in [
            "# mine\n0-1 = void\n7 = Road\n8 = 4\n",
            "\u{FEFF}0 = 255\r\n1 = ignore\r\n7: road\r\n8: 4\r\n",
            r#"{"0": null, "1": -1, "7": "road", "8": 4}"#,
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        let mut list = of(r#"["road", null, 4]"#).unwrap();
        list.add_palette(&[[1; 3], [2; 3], [3; 3], [4; 3]]).unwrap();
        let of_colour = |level: u8| list.get(Label::Colour([level; 3]));
        assert_eq!(of_colour(1), Some(Meaning::Class(3)));
        assert_eq!((of_colour(2), of_colour(4)), (Some(Meaning::Void), None));
        assert!(list.clone().add_palette(&[[1; 3], [1; 3]]).is_err());
        assert_eq!(list.get(Label::Id(0)), Some(Meaning::Class(3)));
        assert_eq!(list.get(Label::Id(2)), Some(Meaning::Class(4)));
        let colours = of("#804080 = Road\n0,0,1 = sky\n").unwrap();
        assert_eq!(
            colours.get(Label::Colour([128, 64, 128])),
            Some(Meaning::Class(3))
        );
    }

    #[test]
    fn what_a_file_gets_wrong_is_named() {
        for (text, part) in [
            ("7 road\n", "line 1"),
            ("7 = lorry\n", "\"lorry\""),
            ("7 = 11\n", "0 to 10"),
            ("x = 1\n", "no label"),
            ("7 = 1\n7 = 2\n", "two classes"),
            ("", "no label a class"),
            ("{", "no JSON"),
            (r#"{"7": [1]}"#, "a class is wanted"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("map.txt"), "{error}");
        }
    }

    #[test]
    fn colours_of_a_palette_are_of_one_class_each() {
        let map = LabelMap::of(&demo(), 11, Some(&[[1, 2, 3], [4, 5, 6]])).unwrap();
        let car = Label::Colour([4, 5, 6]);
        assert_eq!(map.get(car), Some(Meaning::Class(1)));
        let sky = Label::Colour([128, 128, 128]);
        assert_eq!(map.get(sky), None);
        let map = LabelMap::of(&demo(), 11, None).unwrap();
        assert_eq!(map.get(sky), Some(Meaning::Class(0)));
        for (palette, part) in [
            (vec![[7; 3], [8; 3], [7; 3]], "classes 0 and 2"),
            (vec![[0; 3]; 12], "12 colours"),
        ] {
            let error = LabelMap::of(&demo(), 11, Some(&palette)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_data_set_fits_by_names_or_by_the_number_of_classes() {
        let demo = demo();
        let camvid = LabelMap::of_preset(Preset::Camvid, &demo, 11).unwrap();
        assert_eq!(camvid.get(Label::Id(3)), Some(Meaning::Class(3)));
        assert_eq!(camvid.get(Label::Id(11)), Some(Meaning::Void));
        let lane = Label::Colour([128, 0, 192]);
        assert_eq!(camvid.get(lane), Some(Meaning::Class(3)));
        let other = LabelMap::of_preset(Preset::Ade20k, &demo, 11).unwrap();
        assert_eq!(other.get(Label::Id(11)), Some(Meaning::Class(10)));
        assert_eq!(other.get(Label::Id(0)), Some(Meaning::Void));
        let error = LabelMap::of_preset(Preset::Cityscapes, &demo, 11).unwrap_err();
        assert!(error.to_string().contains("its class 0 is road"), "{error}");
        let error = LabelMap::of_preset(Preset::Voc, &demo, 11).unwrap_err();
        assert!(error.to_string().contains("label = class"), "{error}");
    }
}
