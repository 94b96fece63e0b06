//! Parsing of attributes that PyTorch takes in several forms.

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

/// The same or null, for attributes whose default in PyTorch is another size. For
/// `#[serde(default, deserialize_with = "optional_pair")]`.
pub(super) fn optional_pair<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<[usize; 2]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Sizes(#[serde(deserialize_with = "pair")] [usize; 2]);
    let sizes = Option::<Sizes>::deserialize(deserializer)?;
    Ok(sizes.map(|Sizes(sizes)| sizes))
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
    fn the_default_stride_of_a_pooling_is_its_window() {
        for name in [
            "max_pool2d",
            "max_pool2d_indices",
            "max_unpool2d",
            "avg_pool2d",
        ] {
            let op = |attributes| from_name(name, attributes).map(|op| format!("{op:?}"));
            let given = op(json!({"kernel_size": [3, 2], "stride": [3, 2]})).unwrap();
            for stride in [json!(null), json!([3, 2])] {
                let attributes = json!({"kernel_size": [3, 2], "stride": stride});
                assert_eq!(op(attributes).unwrap(), given);
            }
            assert_eq!(op(json!({"kernel_size": [3, 2]})).unwrap(), given);
            assert_ne!(
                op(json!({"kernel_size": [3, 2], "stride": 1})).unwrap(),
                given
            );
            assert!(op(json!({"kernel_size": 2, "strides": 1})).is_err());
            assert!(op(json!({"stride": 2})).is_err());
        }
    }

    #[test]
    fn optional_sizes_may_be_null() {
        let op = |name, attributes| from_name(name, attributes).map(|op| format!("{op:?}"));
        for (one, both) in [
            (json!(3), json!([3, 3])),
            (json!(null), json!([null, null])),
        ] {
            let of = |size| op("adaptive_avg_pool2d", json!({"output_size": size})).unwrap();
            assert_eq!(of(one), of(both));
        }
        let mixed = op("adaptive_avg_pool2d", json!({"output_size": [null, 2]}));
        assert!(mixed.unwrap().contains("[None, Some(2)]"));
        let interpolate = |attributes| op("interpolate", attributes).unwrap();
        let by_two =
            interpolate(json!({"scale_factor": 2, "mode": "bilinear", "align_corners": null}));
        let each = json!({"size": null, "scale_factor": [2.0, 2.0], "mode": "bilinear"});
        assert_eq!(by_two, interpolate(each));
        assert!(interpolate(json!({"size": [3, 4]})).contains("Nearest"));
        assert!(op("interpolate", json!({"size": 3, "mode": "area"})).is_err());
    }

    #[test]
    fn the_error_for_an_invalid_size_names_the_valid_forms() {
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
