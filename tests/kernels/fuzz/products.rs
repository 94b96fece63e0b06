//! Attention, products between pixel maps, and matrices in another order, on random sizes.

use super::*;
use fullconv::low_level::ops::{Attention, Gram, MixChannels, Permute, Reshape, TransposeChannels};

/// Batch sizes of several inputs: one, or all the same.
fn batches() -> impl Strategy<Value = [usize; 3]> {
    (1usize..=3, any::<[bool; 3]>()).prop_map(|(n, one)| one.map(|one| if one { 1 } else { n }))
}

fn attention() -> impl Strategy<Value = (Attention, Vec<Shape>)> {
    let sizes = (pair(1..=18), pair(1..=7));
    let channels = (1usize..=3, 1usize..=9, 1usize..=70, any::<bool>());
    let scale = prop_oneof![Just(None), (-2.0..2.0f64).prop_map(Some)];
    let pairs = prop::bool::weighted(0.25);
    (batches(), sizes, channels, scale, pairs).prop_map(
        |(n, ([h, w], [kh, kw]), (num_heads, d, dv, aligned), scale, pairs)| {
            let unit = if aligned { 4 } else { 1 };
            let (d, dv) = (d * unit, dv.div_ceil(unit) * unit);
            let (num_heads, dim) = match pairs {
                true => (1, Dims::PIXELS),
                false => (num_heads, Attention::KEYS),
            };
            let attention = Attention {
                num_heads,
                scale,
                dim,
            };
            let shapes = vec![
                Shape::new(n[0], num_heads * d, h, w),
                Shape::new(n[1], num_heads * d, kh, kw),
                Shape::new(n[2], num_heads * dv, kh, kw),
            ];
            (attention, shapes)
        },
    )
}

fn products() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let channels = [1usize..=70, 1..=70];
    (any::<bool>(), batches(), channels, pair(1..=40)).prop_map(|(gram, n, [i, j], [h, w])| {
        match gram {
            true => {
                let shapes = vec![Shape::new(n[0], i, h, w), Shape::new(n[1], j, h, w)];
                (Arc::new(Gram {}) as Arc<dyn Op>, shapes)
            }
            false => {
                let shapes = vec![Shape::new(n[0], i, h, w), Shape::new(n[1], i, j, 1)];
                (Arc::new(MixChannels {}) as Arc<dyn Op>, shapes)
            }
        }
    })
}

fn orders() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let dims = Just([1i64, 2, 3]).prop_shuffle();
    (0..3, tensors(40), dims, 0usize..3).prop_map(|(which, shape, [a, b, c], open)| {
        let op: Arc<dyn Op> = match which {
            0 => Arc::new(TransposeChannels {}),
            1 => Arc::new(Permute { dims: [0, a, b, c] }),
            _ => {
                let sizes = [shape.c, shape.h, shape.w].map(|size| size as i64);
                let mut sizes = [a, b, c].map(|dim| sizes[dim as usize - 1]);
                sizes[open] = -1;
                Arc::new(Reshape { shape: sizes })
            }
        };
        let shape = if which == 0 {
            shape.with_size(shape.h, 1)
        } else {
            shape
        };
        (op, vec![shape])
    })
}

proptest! {
    // Each number of value channels is a kernel of its own.
    #![proptest_config(config(ON_DEVICE / 2))]

    #[test]
    fn attention_agrees(sample in samples(attention())) {
        sample.check();
    }
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn products_agree(sample in shared_samples(products())) {
        sample.check();
    }

    #[test]
    fn orders_agree(sample in shared_samples(orders())) {
        sample.check();
    }
}
