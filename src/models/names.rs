//! Tensor names as training programs wrap them: `module.`, `model.`, `_orig_mod.` before every name, with tensors of a
//! loss, a metric or a running average beside.

use super::{Checkpoint, recognise};
use crate::error::{Result, bail};
use std::collections::BTreeSet;

/// The most modules that wrap a network.
const MOST_WRAPPERS: usize = 5;
/// A network has at least this share of a file's elements; the rest is a loss, a metric, a counter.
const LEAST_SHARE: f64 = 0.95;
/// Names of copies of a network that are averages over training.
const AVERAGES: [&str; 5] = ["ema", "swa", "avg", "averaged", "shadow"];

/// The text before every name of the network in a checkpoint, such as `module.`; empty if it has none, or holds no
/// network that is known.
///
/// # Errors
/// `ModelFile` if the checkpoint holds several networks.
pub(crate) fn prefix(checkpoint: &Checkpoint) -> Result<String> {
    if recognise(checkpoint).is_some() {
        return Ok(String::new());
    }
    let found: Vec<String> = wrappers(checkpoint)
        .into_iter()
        .filter(|prefix| recognise(&checkpoint.below(prefix)).is_some())
        .collect();
    let is_average = |prefix: &String| {
        let mut words = prefix.split(['.', '_']);
        words.any(|word| AVERAGES.contains(&word))
    };
    let own: Vec<_> = found.iter().filter(|prefix| !is_average(prefix)).collect();
    let chosen = match (own[..].len(), found.len()) {
        (1, _) => own[0],
        (0, 1) => &found[0],
        (0, 0) => return Ok(String::new()),
        _ => bail!(
            ModelFile,
            "the file holds several networks, under {}; `fullconv convert IN OUT --rename {}=` takes one",
            found.join(", "),
            found[0]
        ),
    };
    if checkpoint.share_below(&found, chosen) < LEAST_SHARE {
        bail!(
            ModelFile,
            "a known network under {chosen} is only a part of the file; `fullconv convert IN OUT --rename {chosen}=` \
             takes it"
        );
    }
    Ok(chosen.clone())
}

/// [`prefix`], or else what all names have in common before a dot: of a network that takes other names, for instance.
///
/// # Errors
/// As [`prefix`].
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn prefix_or_shared(checkpoint: &Checkpoint) -> Result<String> {
    let found = prefix(checkpoint)?;
    if !found.is_empty() || recognise(checkpoint).is_some() {
        return Ok(found);
    }
    let shared = |wrapper: &String| checkpoint.names().all(|name| name.starts_with(wrapper));
    let mut shared = wrappers(checkpoint).into_iter().filter(shared);
    Ok(shared.next_back().unwrap_or_default())
}

/// All texts up to a dot that a name begins with, the shortest first.
fn wrappers(checkpoint: &Checkpoint) -> Vec<String> {
    let mut all = BTreeSet::new();
    for name in checkpoint.names() {
        let dots = name.match_indices('.').take(MOST_WRAPPERS);
        all.extend(dots.map(|(at, _)| name[..=at].to_owned()));
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(String::len);
    all
}

impl Checkpoint {
    /// The tensors whose names begin with `prefix`, without it.
    fn below(&self, prefix: &str) -> Self {
        let from = self.shapes.range(prefix.to_owned()..);
        from.map_while(|(name, shape)| Some((name.strip_prefix(prefix)?.to_owned(), shape.clone())))
            .collect()
    }

    /// The share of elements that the tensors below `chosen` have, of all that are not below another of `networks`.
    fn share_below(&self, networks: &[String], chosen: &str) -> f64 {
        let of = |prefix: &str| -> f64 {
            let tensors = self
                .shapes
                .iter()
                .filter(|(name, _)| name.starts_with(prefix));
            tensors
                .map(|(_, shape)| shape.iter().map(|side| *side as f64).product::<f64>())
                .sum()
        };
        let others = networks.iter().filter(|prefix| *prefix != chosen);
        let others: f64 = others.map(|prefix| of(prefix)).sum();
        of(chosen) / (of("") - others).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of an FCN on AlexNet, below each of `prefixes`, and `others`.
    fn checkpoint(prefixes: &[&str], others: &[(&str, usize)]) -> Checkpoint {
        let layers = ["conv1", "conv5", "fc6", "fc7", "score_fr"];
        let below = prefixes
            .iter()
            .flat_map(|p| layers.map(|layer| (format!("{p}{layer}.weight"), vec![10, 10])));
        let others = others
            .iter()
            .map(|(name, elements)| ((*name).to_owned(), vec![*elements]));
        below.chain(others).collect()
    }

    #[test]
    fn wrappers_are_found_beside_other_tensors() {
        for (prefixes, others, expected) in [
            (&[""][..], &[("loss_fn.weight", 5)][..], ""),
            (&["module."], &[], "module."),
            (&["module._orig_mod."], &[], "module._orig_mod."),
            (
                &["model."],
                &[("loss_fn.weight", 5), ("n_averaged", 1)],
                "model.",
            ),
            (&["net.", "ema.net."], &[("step", 1)], "net."),
            (&["model.", "model_ema."], &[], "model."),
            (&["ema_model."], &[("step", 1)], "ema_model."),
        ] {
            let found = prefix(&checkpoint(prefixes, others)).unwrap();
            assert_eq!(found, expected, "{prefixes:?}");
        }
        let unknown = ["module.net.conv.weight", "module.net.score.weight"];
        let unknown: Checkpoint = unknown
            .map(|name| (name.to_owned(), vec![1]))
            .into_iter()
            .collect();
        assert_eq!(prefix(&unknown).unwrap(), "");
        assert_eq!(prefix_or_shared(&unknown).unwrap(), "module.net.");
    }

    #[test]
    fn of_several_networks_none_is_guessed() {
        let both = checkpoint(&["student.", "teacher."], &[]);
        let error = prefix(&both).unwrap_err().to_string();
        assert!(
            error.contains("student., teacher.") && error.contains("--rename"),
            "{error}"
        );
        // A known network that another one trains with.
        let part = checkpoint(&["loss.vgg."], &[("net.weight", 1000)]);
        let error = prefix(&part).unwrap_err().to_string();
        assert!(error.contains("only a part"), "{error}");
    }
}
