//! Networks whose nodes, tensors or input are called as the nodes that requests add: results are those of any other
//! names.

use crate::common::{Random, gpu, serialize};
use fullconv::compare::compare_picture;
use fullconv::{GpuOptions, Model, Picture, Segmenter, Shape, Size};
use pollster::block_on;

/// The names of the nodes that requests add.
const ADDED: [&str; 4] = ["picture", "resized", "labels", "probabilities"];

/// A network of two layers, the second of which is the output, at half the picture's size, and a node after it that
/// nothing reads.
fn model([input, weight, first, output, unread]: [&str; 5]) -> Model {
    let metadata = format!(
        r#"{{"version": 1, "graph": {{"input": "{input}", "output": "{output}", "nodes": [
            {{"name": "{first}", "op": "conv2d", "inputs": ["{input}", "{weight}"],
              "attributes": {{"stride": 2, "padding": 1}}}},
            {{"name": "{output}", "op": "scale", "inputs": ["{first}"], "attributes": {{"factor": 0.5}}}},
            {{"name": "{unread}", "op": "relu", "inputs": ["{first}"]}}]}}}}"#
    );
    let weights = Random::new(31).tensor(Shape::new(3, 3, 3, 3));
    Model::from_bytes(serialize(&[(weight.to_owned(), weights)], Some(&metadata))).unwrap()
}

fn picture() -> Picture {
    let mut random = Random::new(32);
    let colours = (0..3 * 20 * 30).map(|_| random.below(256) as u8);
    Picture::from_rgb(Size::new(20, 30), colours.collect()).unwrap()
}

/// Panics unless `found` does what `expected` does, and gives the nodes called `names` under their names.
fn check(expected: &Segmenter, found: &Segmenter, names: [&str; 5]) {
    let [.., first, output, unread] = names;
    let both = [expected, found];
    let masks = both.map(|s| s.segment_blocking(&picture()).unwrap());
    assert!(masks[0].labels() == masks[1].labels(), "{names:?}");
    let [a, b] = both.map(|s| block_on(s.probabilities(&picture())).unwrap());
    assert!(a == b, "{names:?}");
    let [a, b] = both.map(|s| block_on(s.scores(&picture())).unwrap());
    assert!(a == b, "{names:?}");
    let input = Random::new(33).tensor(Shape::new(1, 3, 20, 30));
    let a = block_on(expected.run(&input, &["first", "output", "unread"])).unwrap();
    let b = block_on(found.run(&input, &[first, output, unread])).unwrap();
    assert!(a.output == b.output && a.labels == b.labels && b.labels.is_some());
    for ((_, a), ((name, b), asked)) in a
        .fetched
        .iter()
        .zip(b.fetched.iter().zip([first, output, unread]))
    {
        assert!(a == b && name == asked, "{names:?}: {name}");
    }
}

#[test]
fn a_network_may_use_the_names_of_the_nodes_that_requests_add() {
    let gpu = gpu(GpuOptions::default());
    let usual = ["input", "weight", "first", "output", "unread"];
    let open = |names| {
        let model = model(names);
        let on_device = gpu
            .as_ref()
            .map(|gpu| block_on(Segmenter::new(gpu, &model)).unwrap());
        [Some(Segmenter::on_cpu(&model)), on_device]
    };
    let expected = open(usual);
    for (place, added) in (0..usual.len()).flat_map(|i| ADDED.map(|added| (i, added))) {
        let mut names = usual;
        names[place] = added;
        let found = open(names);
        for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
            check(expected, found, names);
        }
        if let Some(segmenter) = &found[1] {
            let report = block_on(compare_picture(segmenter, &picture())).unwrap();
            assert!(report.is_within_bounds(), "{names:?}");
            // Also if nodes follow the output.
            assert_eq!(report.labels.unwrap().pixels, 20 * 30);
            let reported = |name: &str| report.nodes.iter().any(|node| node.name == name);
            assert!(names[2..].iter().all(|name| reported(name)), "{names:?}");
        }
    }
    // All at once, and one that is free only with a number.
    let names = ["picture", "labels_1", "resized", "labels", "probabilities"];
    for (expected, found) in expected.iter().flatten().zip(open(names).iter().flatten()) {
        check(expected, found, names);
    }
}
