//! The networks whose plans are compiled. Plans depend on names and shapes, so a published network is a file with its
//! tensors' names and shapes before zeros that take no room on disk.

use fullconv::{Model, Result, Size};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Error, Write};
use std::path::Path;

/// A network and the picture that it is planned for.
pub struct Network {
    /// Its name in tables.
    pub name: &'static str,
    /// The picture's size, as in docs/performance.md.
    pub size: Size,
    /// The model.
    pub model: Model,
}

/// A tensor's name and shape.
type Named = (String, Vec<usize>);

/// The demo model, FCN-8s and fcn_resnet50; their files are written to `folder`.
///
/// # Errors
/// If a file cannot be written, or is not the network it should be.
pub fn all(folder: &Path) -> Result<Vec<Network>> {
    let read = |name: &'static str, size, tensors: Vec<Named>| {
        let path = folder.join(format!("{name}.safetensors"));
        write(&path, &tensors).map_err(|error| {
            let text = format!("cannot write {}: {error}", path.display());
            fullconv::Error::new(fullconv::ErrorKind::Io, text)
        })?;
        let model = Model::read(&path)?;
        Ok(Network { name, size, model })
    };
    Ok(vec![
        Network {
            name: "demo",
            size: Size::new(360, 480),
            model: Model::from_bytes(fullconv_demo::MODEL)?,
        },
        read("FCN-8s", Size::square(500), fcn8s())?,
        read("fcn_resnet50", Size::square(520), fcn_resnet50())?,
    ])
}

fn conv(name: &str, shape: [usize; 3], bias: bool) -> Vec<Named> {
    let [out, channels, side] = shape;
    let mut all = vec![(format!("{name}.weight"), vec![out, channels, side, side])];
    if bias {
        all.push((format!("{name}.bias"), vec![out]));
    }
    all
}

/// FCN-8s as published. Without weights for its upsampling layers they are bilinear, as published.
fn fcn8s() -> Vec<Named> {
    let mut all = Vec::new();
    let mut channels = 3;
    for (stage, (layers, out)) in (1..).zip([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]) {
        for layer in 1..=layers {
            let name = format!("conv{stage}_{layer}");
            all.extend(conv(&name, [out, channels, 3], true));
            channels = out;
        }
    }
    let rest = [
        ("fc6", [4096, 512, 7]),
        ("fc7", [4096, 4096, 1]),
        ("score_fr", [21, 4096, 1]),
        ("score_pool4", [21, 512, 1]),
        ("score_pool3", [21, 256, 1]),
    ];
    all.extend(
        rest.iter()
            .flat_map(|(name, shape)| conv(name, *shape, true)),
    );
    all
}

/// torchvision's fcn_resnet50 with 21 classes.
fn fcn_resnet50() -> Vec<Named> {
    let with_norm = |name: &str, norm: &str, shape: [usize; 3]| {
        let mut all = conv(name, shape, false);
        let parts = ["weight", "bias", "running_mean", "running_var"];
        all.extend(parts.map(|part| (format!("{norm}.{part}"), vec![shape[0]])));
        all
    };
    let mut all = with_norm("backbone.conv1", "backbone.bn1", [64, 3, 7]);
    let mut channels = 64;
    for (layer, (blocks, width)) in (1..).zip([(3, 64), (4, 128), (6, 256), (3, 512)]) {
        for block in 0..blocks {
            let name = |part: &str| format!("backbone.layer{layer}.{block}.{part}");
            let shapes = [
                [width, channels, 1],
                [width, width, 3],
                [4 * width, width, 1],
            ];
            for (i, shape) in (1..).zip(shapes) {
                all.extend(with_norm(
                    &name(&format!("conv{i}")),
                    &name(&format!("bn{i}")),
                    shape,
                ));
            }
            if block == 0 {
                let shape = [4 * width, channels, 1];
                all.extend(with_norm(
                    &name("downsample.0"),
                    &name("downsample.1"),
                    shape,
                ));
            }
            channels = 4 * width;
        }
    }
    all.extend(with_norm(
        "classifier.0",
        "classifier.1",
        [512, channels, 3],
    ));
    all.extend(conv("classifier.4", [21, 512, 1], true));
    all
}

/// Writes a safetensors file of `f32` zeros.
fn write(path: &Path, tensors: &[Named]) -> std::result::Result<(), Error> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        let of = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), of);
    }
    let mut text = Value::Object(header).to_string();
    // The numbers begin at a multiple of 8.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut file = File::create(path)?;
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())?;
    file.set_len((8 + text.len() + end) as u64)
}
