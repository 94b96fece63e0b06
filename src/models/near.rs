//! What a checkpoint of no known network is nearly: names of other libraries, and the known network that lacks least.

use super::Checkpoint;
use std::collections::BTreeSet;

/// The most names that are listed.
const LISTED: usize = 4;
/// A known network is near if the file has at least this share of its tensors.
const NEAR: f64 = 0.5;

/// What the names of `checkpoint` are nearly, and the command to type; `None` if nothing is known of them.
pub(super) fn hint(checkpoint: &Checkpoint) -> Option<String> {
    let names = Names(checkpoint);
    torchvision(&names)
        .or_else(|| segmentation_models(&names))
        .or_else(|| others(&names))
        .or_else(|| nearest(checkpoint))
}

/// The names of a checkpoint, whatever stands before them.
struct Names<'a>(&'a Checkpoint);

impl Names<'_> {
    /// The dimensions of the tensor called `name`, perhaps with a prefix.
    fn dimensions(&self, name: &str) -> Option<&[usize]> {
        let mut all = self.0.shapes.iter();
        let is = |full: &str| {
            let before = full.strip_suffix(name);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let found = all.find(|(full, _)| is(full))?;
        Some(found.1)
    }

    fn has(&self, name: &str) -> bool {
        self.dimensions(name).is_some()
    }

    /// Whether a name begins with `part`, perhaps after a prefix.
    fn has_part(&self, part: &str) -> bool {
        let inner = format!(".{part}");
        let mut all = self.0.names();
        all.any(|name| name.starts_with(part) || name.contains(&inner))
    }

    /// The number of output channels of the layer called `layer`.
    fn outputs(&self, layer: &str) -> String {
        let dimensions = self.dimensions(&format!("{layer}.weight"));
        let first = dimensions.and_then(|dimensions| dimensions.first());
        first.map_or("N".to_owned(), usize::to_string)
    }
}

/// A command that exports what `callable` makes of `arguments`.
fn export(callable: &str, arguments: &str) -> String {
    format!(
        "`python tools/export.py {callable} OUT.safetensors --args '{arguments}' --weights FILE`"
    )
}

/// torchvision's networks that are not built in.
fn torchvision(names: &Names) -> Option<String> {
    let (name, title, head) = if names.has("classifier.0.convs.0.0.weight") {
        let name = if !names.has_part("backbone.layer1.") {
            "deeplabv3_mobilenet_v3_large"
        } else if names.has_part("backbone.layer3.22.") {
            "deeplabv3_resnet101"
        } else {
            "deeplabv3_resnet50"
        };
        (name, "DeepLabV3", "classifier.4")
    } else if names.has("classifier.low_classifier.weight") {
        (
            "lraspp_mobilenet_v3_large",
            "LR-ASPP",
            "classifier.low_classifier",
        )
    } else {
        return None;
    };
    let aux = match names.has_part("aux_classifier.") {
        true => ", \"aux_loss\": true",
        false => "",
    };
    let classes = names.outputs(head);
    let arguments = format!(
        "{{\"weights\": null, \"weights_backbone\": null, \"num_classes\": {classes}{aux}}}"
    );
    let callable = format!("torchvision.models.segmentation:{name}");
    Some(format!(
        "these are torchvision's {title} names ({name}): {}",
        export(&callable, &arguments)
    ))
}

/// segmentation_models_pytorch, whose decoders have names of their own.
fn segmentation_models(names: &Names) -> Option<String> {
    if !names.has("segmentation_head.0.weight") || !names.has_part("encoder.") {
        return None;
    }
    let decoders = [
        ("decoder.blocks.x_0_0.", "UnetPlusPlus"),
        ("decoder.center.top_conv.", "MAnet"),
        ("decoder.blocks.0.block.", "Linknet"),
        ("decoder.p5.", "FPN"),
        ("decoder.fpa.", "PAN"),
        ("decoder.mlp_stage.", "Segformer"),
        ("decoder.fpn_", "UPerNet"),
        ("decoder.psp.", "PSPNet"),
        ("decoder.block1.", "DeepLabV3Plus"),
        ("decoder.0.convs.", "DeepLabV3"),
        ("decoder.aspp.", "DeepLabV3"),
        ("decoder.blocks.0.conv1.", "Unet"),
    ];
    let decoder = decoders.iter().find(|(part, _)| names.has_part(part));
    let decoder = decoder.map_or("DECODER", |(_, name)| *name);
    let arguments = format!(
        "{{\"encoder_name\": \"{}\", \"encoder_weights\": null, \"classes\": {}}}",
        encoder(names),
        names.outputs("segmentation_head.0")
    );
    let callable = format!("segmentation_models_pytorch:{decoder}");
    Some(format!(
        "these are segmentation_models_pytorch's {decoder} names: {}",
        export(&callable, &arguments)
    ))
}

/// The ResNet that an encoder is, by the number of its blocks; a placeholder for other encoders.
fn encoder(names: &Names) -> &'static str {
    let has = |block: &str| names.has(&format!("encoder.{block}.conv1.weight"));
    let is_bottleneck = names.has("encoder.layer1.0.conv3.weight");
    match (
        has("layer3.1"),
        has("layer3.5"),
        has("layer3.22"),
        has("layer3.35"),
    ) {
        (_, _, _, true) => "resnet152",
        (_, _, true, _) => "resnet101",
        (_, true, ..) if is_bottleneck => "resnet50",
        (_, true, ..) => "resnet34",
        (true, ..) if !is_bottleneck => "resnet18",
        _ => "ENCODER",
    }
}

/// Other libraries and repositories.
fn others(names: &Names) -> Option<String> {
    let text = if names.has_part("segformer.encoder.") {
        "these are Hugging Face's SegFormer names: `python tools/export.py \
         transformers:SegformerForSemanticSegmentation.from_pretrained OUT.safetensors --args \
         '{\"pretrained_model_name_or_path\": \"FOLDER\"}'`"
            .to_owned()
    } else if names.has("decode_head.conv_seg.weight") {
        "these are mmsegmentation's names: `python tools/export.py mmseg.apis:init_model OUT.safetensors --args \
         '{\"config\": \"CONFIG.py\", \"checkpoint\": \"FILE.pth\", \"device\": \"cpu\"}'`"
            .to_owned()
    } else if names.has("inc.double_conv.0.weight") && names.has("outc.conv.weight") {
        let classes = names.outputs("outc.conv");
        let arguments = format!("{{\"n_channels\": 3, \"n_classes\": {classes}}}");
        format!(
            "these are Pytorch-UNet's names: {} in the folder of its repository",
            export("unet:UNet", &arguments)
        )
    } else if names.has_part("stage1.rebnconvin.") {
        format!(
            "these are U2-Net's names: {} in the folder of its repository",
            export("model/u2net.py:U2NET", "{}")
        )
    } else if names.has_part("model.0.conv.unit0.") {
        let arguments = "{\"spatial_dims\": 2, \"in_channels\": 3, \"out_channels\": N, \"channels\": [...], \
                         \"strides\": [...]}";
        format!(
            "these are MONAI's UNet names: {}",
            export("monai.networks.nets:UNet", arguments)
        )
    } else if names.has("pre_logits.fc1.weight") && names.has("features.0.weight") {
        "these are timm's VGG names: `fullconv convert IN OUT --rename pre_logits.fc1.=classifier.0. --rename \
         pre_logits.fc2.=classifier.3. --rename head.fc.=classifier.6.`"
            .to_owned()
    } else if names.has("layer1.0.conv1.weight") && names.has("fc.weight") {
        "these are a ResNet classifier's names: it labels pictures, not pixels".to_owned()
    } else {
        return None;
    };
    Some(text)
}

/// The known network that has most of its tensors in the file, what it lacks, and what is there in their place.
fn nearest(checkpoint: &Checkpoint) -> Option<String> {
    let there: BTreeSet<&str> = checkpoint.names().collect();
    let share = |names: &BTreeSet<String>| {
        let found = names.iter().filter(|name| there.contains(name.as_str()));
        found.count() as f64 / names.len() as f64
    };
    let mut known: Vec<_> = known()
        .into_iter()
        .map(|(network, names)| (share(&names), network, names))
        .filter(|(share, ..)| *share >= NEAR)
        .collect();
    known.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (_, network, names) = known.into_iter().next()?;
    let missing: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !there.contains(name))
        .collect();
    // A network may have these, and need not.
    let is_optional = |name: &str| {
        let begins = ["aux_classifier.", "upscore"];
        name.ends_with("num_batches_tracked") || begins.iter().any(|part| name.starts_with(part))
    };
    let extra: Vec<&str> = there
        .iter()
        .copied()
        .filter(|name| !names.contains(*name) && !is_optional(name))
        .collect();
    let mut text = format!("nearest is {network}, which also has {}", listed(&missing));
    if !extra.is_empty() {
        text += &format!(" and does not have {}", listed(&extra));
    }
    if let Some((old, new)) = renaming(&extra, &missing) {
        text += &format!("; `fullconv convert IN OUT --rename {old}.={new}.` if they are the same");
    }
    Some(text)
}

/// The only layer among `extra`, and the only one among `missing`, if they have the same tensors.
fn renaming<'a>(extra: &[&'a str], missing: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let layer = |names: &[&'a str]| -> Option<(&'a str, BTreeSet<&'a str>)> {
        let parts: Vec<_> = names
            .iter()
            .filter_map(|name| name.rsplit_once('.'))
            .collect();
        let layers: BTreeSet<_> = parts.iter().map(|(layer, _)| *layer).collect();
        let only = (layers.len() == 1).then(|| layers.first().copied())??;
        Some((only, parts.iter().map(|(_, part)| *part).collect()))
    };
    let (old, new) = (layer(extra)?, layer(missing)?);
    (old.1 == new.1).then_some((old.0, new.0))
}

fn listed(names: &[&str]) -> String {
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}

/// The tensors that the networks with files of their own cannot do without.
fn known() -> Vec<(&'static str, BTreeSet<String>)> {
    let stages = [2, 2, 3, 3, 3].into_iter().enumerate();
    let staged = stages.flat_map(|(stage, convs)| {
        (1..=convs).map(move |conv| format!("conv{}_{conv}", stage + 1))
    });
    let heads = ["score_fr", "score_pool4", "score_pool3"];
    let layers = |convs: Vec<String>, fully: &[&str], heads: &[&str]| {
        let others = fully.iter().chain(heads).map(|layer| (*layer).to_owned());
        let layers = convs.into_iter().chain(others);
        let tensors =
            layers.flat_map(|layer| ["weight", "bias"].map(|part| format!("{layer}.{part}")));
        tensors.collect::<BTreeSet<_>>()
    };
    let numbered = |last: usize| {
        (1..=last)
            .map(|conv| format!("conv{conv}"))
            .collect::<Vec<_>>()
    };
    let features = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
    let features = features.map(|conv| format!("features.{conv}")).to_vec();
    vec![
        (
            "FCN-8s on VGG16",
            layers(staged.collect(), &["fc6", "fc7"], &heads),
        ),
        (
            "FCN-8s on VGG16 with numbered layers",
            layers(numbered(15), &[], &heads),
        ),
        (
            "FCN on AlexNet",
            layers(numbered(5), &["fc6", "fc7"], &heads[..1]),
        ),
        (
            "torchvision's VGG16 classifier",
            layers(
                features,
                &["classifier.0", "classifier.3", "classifier.6"],
                &[],
            ),
        ),
        ("torchvision's fcn_resnet50", resnet([3, 4, 6, 3])),
        ("torchvision's fcn_resnet101", resnet([3, 4, 23, 3])),
    ]
}

fn resnet(blocks: [usize; 4]) -> BTreeSet<String> {
    let norm = |name: &str| {
        ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{name}.{part}"))
    };
    let mut names = BTreeSet::from(["backbone.conv1.weight".to_owned()]);
    names.extend(norm("backbone.bn1"));
    for (layer, count) in blocks.into_iter().enumerate() {
        for block in 0..count {
            let block = format!("backbone.layer{}.{block}", layer + 1);
            for i in 1..=3 {
                names.insert(format!("{block}.conv{i}.weight"));
                names.extend(norm(&format!("{block}.bn{i}")));
            }
        }
        let shortcut = format!("backbone.layer{}.0.downsample", layer + 1);
        names.insert(format!("{shortcut}.0.weight"));
        names.extend(norm(&format!("{shortcut}.1")));
    }
    names.insert("classifier.0.weight".to_owned());
    names.extend(norm("classifier.1"));
    names.extend(["classifier.4.weight", "classifier.4.bias"].map(str::to_owned));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> String {
        let tensors = names
            .iter()
            .map(|name| ((*name).to_owned(), vec![4, 3, 1, 1]));
        hint(&tensors.collect()).unwrap_or_default()
    }

    #[test]
    fn names_of_other_libraries_are_known() {
        for (names, part) in [
            (
                &[
                    "model.backbone.layer1.0.conv1.weight",
                    "model.classifier.0.convs.0.0.weight",
                    "model.classifier.4.weight",
                ][..],
                "torchvision.models.segmentation:deeplabv3_resnet50 OUT.safetensors --args '{\"weights\": null, \
                 \"weights_backbone\": null, \"num_classes\": 4}' --weights FILE",
            ),
            (
                &["backbone.0.0.weight", "classifier.0.convs.0.0.weight"],
                "deeplabv3_mobilenet_v3_large",
            ),
            (
                &["classifier.low_classifier.weight"],
                "lraspp_mobilenet_v3_large",
            ),
            (
                &[
                    "encoder.layer1.0.conv1.weight",
                    "decoder.blocks.0.conv1.0.weight",
                    "segmentation_head.0.weight",
                ],
                "segmentation_models_pytorch:Unet",
            ),
            (
                &[
                    "encoder.layer3.5.conv1.weight",
                    "decoder.p5.weight",
                    "segmentation_head.0.weight",
                ],
                "segmentation_models_pytorch:FPN OUT.safetensors --args '{\"encoder_name\": \"resnet34\"",
            ),
            (&["decode_head.conv_seg.weight"], "mmseg"),
            (
                &["segformer.encoder.patch_embeddings.0.proj.weight"],
                "SegformerForSemanticSegmentation",
            ),
            (
                &["inc.double_conv.0.weight", "outc.conv.weight"],
                "\"n_classes\": 4",
            ),
            (&["layer1.0.conv1.weight", "fc.weight"], "classifier"),
        ] {
            let said = of(names);
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(of(&["a.weight", "b.bias"]), "");
    }

    #[test]
    fn the_nearest_network_is_named_with_what_it_lacks() {
        let swapped: Vec<String> = resnet([3, 4, 6, 3])
            .into_iter()
            .map(|name| name.replace("classifier.4.", "classifier.4.1."))
            .chain(["aux_classifier.0.weight".to_owned()])
            .collect();
        let said = of(&swapped.iter().map(String::as_str).collect::<Vec<_>>());
        for part in [
            "nearest is torchvision's fcn_resnet50",
            "also has classifier.4.bias, classifier.4.weight",
            "not have classifier.4.1.bias, classifier.4.1.weight;",
            "--rename classifier.4.1.=classifier.4.",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let (_, fcn) = known().swap_remove(0);
        let headless: Vec<&str> = fcn
            .iter()
            .map(String::as_str)
            .filter(|n| !n.contains("score"))
            .collect();
        let said = of(&headless);
        assert!(
            said.contains("FCN-8s") && said.contains("score_fr.bias"),
            "{said}"
        );
        assert!(!said.contains("--rename"), "{said}");
    }
}
