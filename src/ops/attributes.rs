//! How attributes are read from a model file, where PyTorch takes them in more forms than one.

use serde::{Deserialize, Deserializer};

/// Two sizes, `[vertical, horizontal]`, or one for both: `2` is `[2, 2]`. For
/// `#[serde(deserialize_with = "pair")]`.
pub(super) fn pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[usize; 2], D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "a size is a whole number, or two of them: [vertical, horizontal]"
    )]
    enum Sizes {
        Both(usize),
        Each([usize; 2]),
    }
    Ok(match Sizes::deserialize(deserializer)? {
        Sizes::Both(size) => [size; 2],
        Sizes::Each(sizes) => sizes,
    })
}

#[cfg(test)]
mod tests {
    use crate::ops::from_name;
    use serde_json::json;

    #[test]
    fn one_size_counts_for_both_axes() {
        let conv = |attributes| from_name("conv2d", attributes).map(|op| format!("{op:?}"));
        let both = conv(json!({"stride": 2, "padding": 3, "dilation": 1})).unwrap();
        let each = conv(json!({"stride": [2, 2], "padding": [3, 3], "dilation": [1, 1]}));
        assert_eq!(both, each.unwrap());
        assert_ne!(both, conv(json!({"stride": [2, 1], "padding": 3})).unwrap());
    }

    #[test]
    fn what_is_no_size_is_an_error_that_says_what_one_is() {
        for value in [
            json!(-1),
            json!(1.5),
            json!([1]),
            json!([1, 2, 3]),
            json!("2"),
        ] {
            let error = from_name("conv2d", json!({"stride": value})).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("conv2d"), "{message}");
            assert!(message.contains("[vertical, horizontal]"), "{message}");
        }
    }
}
