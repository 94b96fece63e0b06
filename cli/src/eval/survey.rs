//! What the files of labels hold, before the network runs: how they are read, and what of them counts.

use super::map::{Label, LabelMap, Meaning};
use super::pairs::Pair;
use crate::terminal;
use fullconv::{Error, ErrorKind, LabelImage, LabelValues, Result, Size};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The id of a pixel that counts for no class.
pub const VOID: u8 = u8::MAX;
/// The most labels in a warning.
const MOST_LISTED: usize = 5;

/// How files of labels are read.
#[derive(Debug)]
pub struct Reading {
    pub map: LabelMap,
    /// RGB files hold colours; otherwise equal channels, which are ids.
    colours: bool,
    /// Indexed files are read by the colours of their indices.
    by_palette: bool,
}

/// The pixels of each label in all files.
#[derive(Debug)]
pub struct Survey {
    pub counts: BTreeMap<Label, u64>,
    /// The first indexed file whose colours mean other classes than its indices.
    contradiction: Option<PathBuf>,
}

impl Reading {
    /// Reads all files of `pairs` and finds how: the files of a data set are of one form, so one RGB file with a colour
    /// that is not grey makes colours of all. With `by_palette`, colours count even where there are ids.
    pub fn new(map: LabelMap, by_palette: bool, pairs: &[Pair]) -> Result<(Self, Survey)> {
        let mut reading = Self {
            map,
            colours: by_palette,
            by_palette,
        };
        let (mut ids, mut colours) = (BTreeMap::new(), BTreeMap::new());
        let mut contradiction = None;
        let bar = terminal::progress(pairs.len());
        bar.set_message("reading labels");
        for pair in pairs {
            let labels = LabelImage::read(&pair.labels)?;
            match reading.raw(&labels) {
                Raw::Ids(found) => tally(&mut ids, found.iter().copied()),
                Raw::Colours(found) => tally(&mut colours, found.iter().copied()),
            }
            if contradiction.is_none() && reading.contradicts(&labels) {
                contradiction = Some(pair.labels.clone());
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        reading.colours |= colours.keys().any(|[r, g, b]| r != g || g != b);
        let mut counts: BTreeMap<Label, u64> = BTreeMap::new();
        for (id, count) in ids {
            *counts.entry(Label::Id(id)).or_default() += count;
        }
        for (colour, count) in colours {
            *counts.entry(reading.label(colour)).or_default() += count;
        }
        let survey = Survey {
            counts,
            contradiction,
        };
        Ok((reading, survey))
    }

    /// The class of each pixel of `labels`, [`VOID`] where there is none.
    pub fn classes(&self, labels: &LabelImage) -> (Size, Vec<u8>) {
        let class = |label| match self.map.get(label) {
            Some(Meaning::Class(class)) => class,
            Some(Meaning::Void) | None => VOID,
        };
        let classes = match self.raw(labels) {
            Raw::Ids(ids) => each_run(&ids, |id| class(Label::Id(id))),
            Raw::Colours(colours) => each_run(&colours, |colour| class(self.label(colour))),
        };
        (labels.size(), classes)
    }

    fn raw<'a>(&self, labels: &'a LabelImage) -> Raw<'a> {
        let indexed = self.by_palette.then(|| labels.indexed_colours()).flatten();
        match (indexed, labels.values()) {
            (Some(colours), _) => Raw::Colours(colours.into()),
            (None, LabelValues::Colours(colours)) => Raw::Colours(colours.into()),
            (None, LabelValues::Ids(ids)) => Raw::Ids(ids.into()),
            // A later form of labels would be read here.
            (None, _) => Raw::Ids(Vec::new().into()),
        }
    }

    fn label(&self, colour: [u8; 3]) -> Label {
        match self.colours {
            true => Label::Colour(colour),
            false => Label::Id(colour[0].into()),
        }
    }

    /// Whether `labels` is indexed, has only colours that are known, and they mean other classes than its indices.
    fn contradicts(&self, labels: &LabelImage) -> bool {
        let (LabelValues::Ids(ids), Some(colours)) = (labels.values(), labels.indexed_colours())
        else {
            return false;
        };
        let found: BTreeMap<i32, [u8; 3]> = ids.iter().copied().zip(colours).collect();
        let meanings = found.into_iter().map(|(id, colour)| {
            (
                self.map.get(Label::Id(id)),
                self.map.get(Label::Colour(colour)),
            )
        });
        let meanings: Vec<_> = meanings.collect();
        let all_known = meanings.iter().all(|(_, by_colour)| by_colour.is_some());
        !self.by_palette && all_known && meanings.iter().any(|(id, colour)| id != colour)
    }
}

/// The values of a file, as they are read.
enum Raw<'a> {
    Ids(std::borrow::Cow<'a, [i32]>),
    Colours(std::borrow::Cow<'a, [[u8; 3]]>),
}

fn tally<T: Ord + Copy>(counts: &mut BTreeMap<T, u64>, values: impl Iterator<Item = T>) {
    let mut run: Option<(T, u64)> = None;
    for value in values {
        match &mut run {
            Some((same, count)) if *same == value => *count += 1,
            _ => {
                if let Some((value, count)) = run.replace((value, 1)) {
                    *counts.entry(value).or_default() += count;
                }
            }
        }
    }
    if let Some((value, count)) = run {
        *counts.entry(value).or_default() += count;
    }
}

/// `f` of each value, computed once for equal neighbours.
fn each_run<T: PartialEq + Copy>(values: &[T], f: impl Fn(T) -> u8) -> Vec<u8> {
    let mut all = Vec::with_capacity(values.len());
    for run in values.chunk_by(|a, b| a == b) {
        all.resize(all.len() + run.len(), f(run[0]));
    }
    all
}

/// A label whose pixels do not count.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub label: Label,
    pub pixels: u64,
    /// The user, the map or the data set's convention says that it is no class.
    pub is_void: bool,
}

impl Survey {
    /// All pixels.
    pub fn pixels(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The labels whose pixels do not count, the most frequent first.
    pub fn left_out(&self, map: &LabelMap) -> Vec<LeftOut> {
        let labels = self.counts.iter().filter_map(|(label, pixels)| {
            let is_void = match map.get(*label) {
                Some(Meaning::Class(_)) => return None,
                Some(Meaning::Void) => true,
                None => false,
            };
            Some(LeftOut {
                label: *label,
                pixels: *pixels,
                is_void,
            })
        });
        let mut labels: Vec<_> = labels.collect();
        labels.sort_by_key(|left| std::cmp::Reverse(left.pixels));
        labels
    }

    /// Whether the labels are the ids 0 and 255 alone, and 255 occurs.
    pub fn is_0_and_255(&self) -> bool {
        let all = self.counts.keys();
        let mut others = all.filter(|label| **label != Label::Id(0));
        others.next() == Some(&Label::Id(255)) && others.next().is_none()
    }

    /// The warning for masks of 0 and 255 whose 255 is void.
    pub fn two_values(&self) -> String {
        let void = self.counts.get(&Label::Id(255)).copied().unwrap_or(0);
        let share = 100.0 * void as f64 / self.pixels().max(1) as f64;
        format!(
            "the labels are 0 and 255 alone, as masks of two classes are, and the model is not a binary one: 255, \
             {share:.1} % of the pixels, is left out; a --label-map with `255 = CLASS` counts it"
        )
    }

    /// Whether there are several ids, and 0 is not among them.
    fn begins_at_1(&self) -> bool {
        let ids = self
            .counts
            .keys()
            .filter(|label| matches!(label, Label::Id(1..=254)));
        ids.count() > 1 && !self.counts.contains_key(&Label::Id(0))
    }

    /// An error if the labels are ids of Cityscapes' classes, read as its 34 ids: `labelTrainIds` for `labelIds`.
    pub fn check_cityscapes(&self) -> Result<()> {
        let has = |id| self.counts.contains_key(&Label::Id(id));
        if has(255) && !(19..=33).any(has) {
            let text = "--label-map cityscapes: the labels hold 255 and no id beyond 18, so they are class ids already \
                        (labelTrainIds); leave --label-map out";
            return Err(Error::new(ErrorKind::Request, text));
        }
        Ok(())
    }

    /// What the user should know before the figures: one line each. `classes` is the model's number of classes,
    /// `is_mapped` whether a label map was given.
    pub fn warnings(&self, map: &LabelMap, classes: usize, is_mapped: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(path) = &self.contradiction {
            warnings.push(format!(
                "{}: its indices are read as ids, but their colours are those of other classes; --palette FILE reads \
                 the colours",
                path.display()
            ));
        }
        let pixels = self.pixels().max(1) as f64;
        let percent = |pixels_of: u64| 100.0 * pixels_of as f64 / pixels;
        let left = self.left_out(map);
        if !is_mapped && self.begins_at_1() {
            warnings.push(
                "class 0 never occurs in the labels; if 0 is void there and ids begin at 1, --label-map ade20k reads \
                 class = id - 1"
                    .to_owned(),
            );
        }
        let unknown: Vec<_> = left.iter().filter(|left| !left.is_void).collect();
        if unknown.is_empty() {
            return warnings;
        }
        let shown = unknown.iter().take(MOST_LISTED);
        let shown = shown.map(|left| format!("{} ({:.1} %)", left.label, percent(left.pixels)));
        let shown: Vec<_> = shown.collect();
        let more = match unknown.len().saturating_sub(MOST_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let share = percent(unknown.iter().map(|left| left.pixels).sum());
        warnings.push(format!(
            "the labels hold values that are no class: {}{more}; {share:.1} % of the pixels are left out{}",
            shown.join(", "),
            self.hint(&unknown, classes, is_mapped)
        ));
        warnings
    }

    /// What to do about labels that are no class.
    fn hint(&self, unknown: &[&LeftOut], classes: usize, is_mapped: bool) -> String {
        let ids = |range: std::ops::RangeInclusive<i32>| {
            unknown.iter().all(|left| match left.label {
                Label::Id(id) => range.contains(&id),
                Label::Colour(_) => false,
            })
        };
        let first_beyond = i32::try_from(classes).unwrap_or(i32::MAX);
        let are_colours = matches!(unknown[0].label, Label::Colour(_));
        if is_mapped {
            "; the label map may name them `void`".to_owned()
        } else if are_colours {
            "; --palette or --label-map gives colours a class".to_owned()
        } else if classes == 19 && ids(19..=33) {
            "; --label-map cityscapes reads Cityscapes' 34 ids".to_owned()
        } else if ids(first_beyond..=first_beyond) {
            format!(
                "; --ignore {first_beyond} says that this is right, and --label-map ade20k that 0 is other and class = \
                 id - 1"
            )
        } else {
            "; --ignore ID says that this is right, and --label-map FILE gives them a class"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(ids: &[i32]) -> Survey {
        Survey {
            counts: ids.iter().map(|id| (Label::Id(*id), 10)).collect(),
            contradiction: None,
        }
    }

    #[test]
    fn class_ids_are_no_label_ids_of_cityscapes() {
        assert!(survey(&[0, 7, 18, 255]).check_cityscapes().is_err());
        survey(&[0, 7, 11, 26]).check_cityscapes().unwrap();
        survey(&[7, 26, 255]).check_cityscapes().unwrap();
    }

    #[test]
    fn a_warning_says_what_to_do() {
        let map: BTreeMap<_, _> = (0..19)
            .map(|id| (Label::Id(id), Meaning::Class(id as u8)))
            .collect();
        let map = LabelMap(map);
        let said = |ids: &[i32]| survey(ids).warnings(&map, 19, false).join("\n");
        assert!(said(&[0, 7, 26, 33]).contains("--label-map cityscapes"));
        assert!(said(&[0, 7, 19]).contains("--label-map"));
        assert!(said(&[0, 7, 77]).contains("--ignore"));
        assert!(said(&[1, 7]).contains("class 0 never occurs"));
        assert_eq!(said(&[0, 7]), "");
    }

    #[test]
    fn runs_are_counted_whole() {
        let mut counts = BTreeMap::new();
        tally(&mut counts, [1, 1, 2, 1, 3, 3, 3].into_iter());
        assert_eq!(counts, BTreeMap::from([(1, 3), (2, 1), (3, 3)]));
        assert_eq!(each_run(&[5, 5, 6], |v| v + 1), [6, 6, 7]);
    }
}
