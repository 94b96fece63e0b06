//! Times the ops of FCN-8s at their shapes for a picture of 500×500, and dilated and grouped convolutions and attention
//! of other networks: a line an op, by the device's timestamps if it has them.
//!
//! `cargo bench --bench ops -- [NAME…] [--runs N] [--peak-gflops X --peak-gbs Y]`

mod common;

use common::{Options, Weights};
use fullconv::low_level::gpu::{Executor, Network};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::{Argmax, Attention, Conv2d, ConvTranspose2d, Gram, MaxPool2d, Relu};
use fullconv::low_level::plan::Plan;
use fullconv::{Gpu, Parameters, Result, Shape, Tensor, TensorFile};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// An op and its attributes.
enum Kind {
    /// Output channels, kernel size, padding; with bias.
    Conv(usize, usize, usize),
    /// `Conv` with ReLU.
    ConvRelu(usize, usize, usize),
    /// `Conv` with ReLU and 2×2 pooling.
    ConvPool(usize, usize, usize),
    /// Output channels, kernel size, padding, dilation, groups; with bias.
    Groups(usize, usize, usize, usize, usize),
    /// Stride; the kernel is twice as large, the number of channels stays.
    Upsampling(usize),
    /// 2×2 with stride 2, rounding up.
    Pool,
    Argmax,
    /// Heads; query, key and value are the input.
    Attention(usize),
    /// The input with itself.
    Gram,
}

use Kind::{Conv, ConvPool, ConvRelu, Groups, Pool, Upsampling};

/// Name, channels and side of the square input, op.
const OPS: &[(&str, usize, usize, Kind)] = &[
    ("conv1_1", 3, 500, ConvRelu(64, 3, 100)),
    ("conv1_2", 64, 698, ConvRelu(64, 3, 1)),
    ("pool1", 64, 698, Pool),
    ("conv1_2+pool1", 64, 698, ConvPool(64, 3, 1)),
    ("conv2_1", 64, 349, ConvRelu(128, 3, 1)),
    ("conv2_2", 128, 349, ConvRelu(128, 3, 1)),
    ("pool2", 128, 349, Pool),
    ("conv2_2+pool2", 128, 349, ConvPool(128, 3, 1)),
    ("conv3_1", 128, 175, ConvRelu(256, 3, 1)),
    ("conv3_2", 256, 175, ConvRelu(256, 3, 1)),
    ("pool3", 256, 175, Pool),
    ("conv4_1", 256, 88, ConvRelu(512, 3, 1)),
    ("conv4_2", 512, 88, ConvRelu(512, 3, 1)),
    ("pool4", 512, 88, Pool),
    ("conv5_1", 512, 44, ConvRelu(512, 3, 1)),
    ("pool5", 512, 44, Pool),
    ("fc6", 512, 22, ConvRelu(4096, 7, 0)),
    ("fc7", 4096, 16, ConvRelu(4096, 1, 0)),
    ("score_fr", 4096, 16, Conv(21, 1, 0)),
    ("upscore2", 21, 16, Upsampling(2)),
    ("score_pool4", 512, 44, Conv(21, 1, 0)),
    ("upscore_pool4", 21, 34, Upsampling(2)),
    ("score_pool3", 256, 88, Conv(21, 1, 0)),
    ("upscore8", 21, 70, Upsampling(8)),
    ("argmax", 21, 500, Kind::Argmax),
    // ResNet-50 with dilations, at 520×520.
    ("layer3.conv1", 1024, 65, Conv(256, 1, 0)),
    ("layer3.conv2", 256, 65, Groups(256, 3, 2, 2, 1)),
    ("layer3.conv3", 256, 65, Conv(1024, 1, 0)),
    ("layer4.conv1", 2048, 65, Conv(512, 1, 0)),
    ("layer4.conv2", 512, 65, Groups(512, 3, 4, 4, 1)),
    ("classifier", 2048, 65, ConvRelu(512, 3, 1)),
    // Grouped: two wide groups (AlexNet), 32 narrow and 32 wider groups (ResNeXt), depthwise (MobileNet).
    ("alexnet.conv2", 96, 27, Groups(256, 5, 2, 1, 2)),
    ("resnext.layer1", 128, 56, Groups(128, 3, 1, 1, 32)),
    ("resnext.layer4", 1024, 14, Groups(1024, 3, 1, 1, 32)),
    ("mobilenet.1", 32, 112, Groups(32, 3, 1, 1, 32)),
    ("mobilenet.8", 384, 28, Groups(384, 3, 1, 1, 384)),
    // One head of 32 and of 64 channels, eight heads of 32, and a convolution of the same map.
    ("attention.32", 32, 64, Kind::Attention(1)),
    ("attention.64", 64, 64, Kind::Attention(1)),
    ("attention.8x32", 256, 32, Kind::Attention(8)),
    ("conv.64", 64, 64, Conv(64, 3, 1)),
    ("gram.512", 512, 64, Kind::Gram),
];

fn main() -> ExitCode {
    common::main(run)
}

fn run(options: &Options) -> Result<()> {
    let gpu = options.gpu()?;
    println!("{gpu}, median of {} runs", options.runs);
    for (name, channels, side, kind) in OPS.iter().filter(|op| options.wants(op.0)) {
        let input = Shape::new(1, *channels, *side, *side);
        let (ms, plan) = time(&gpu, input, kind, options.runs)?;
        let bytes = plan.layers.iter().map(|layer| layer.bytes).sum();
        let rates = common::rates(name, ms, plan.flops(), bytes);
        println!("{rates}  {}", options.floor(plan.flops(), bytes));
    }
    Ok(())
}

/// The median time of an op in milliseconds, and its plan.
fn time(gpu: &Gpu, input: Shape, kind: &Kind, runs: u16) -> Result<(f64, Plan)> {
    let (graph, weights) = graph(input.c, kind)?;
    let file = TensorFile::from_bytes(common::random_file(&weights)?)?;
    let parameters = Parameters::new(file, BTreeMap::new());
    let plan = Plan::new(&graph, input, &[graph.output()], gpu.target())?;
    let picture = Tensor::new(input, common::noise(input.elements(), 1.0))?;
    pollster::block_on(async {
        let network = Network::new(gpu);
        let mut executor = Executor::new(&network, plan.clone(), &graph, &parameters).await?;
        executor.run(&picture).await?;
        let mut times = Vec::new();
        for _ in 0..runs {
            let layers = executor.time_layers().await?;
            times.push(layers.milliseconds.iter().sum::<f64>());
        }
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], plan))
    })
}

/// The op as a graph, and the shapes of its weights.
fn graph(channels: usize, kind: &Kind) -> Result<(Graph, Weights)> {
    let mut graph = Graph::new("input");
    let mut inputs = vec![graph.input()];
    let weights: Weights = match *kind {
        Conv(out, k, _) | ConvRelu(out, k, _) | ConvPool(out, k, _) => vec![
            ("weight".into(), vec![out, channels, k, k]),
            ("bias".into(), vec![out]),
        ],
        Groups(out, k, _, _, groups) => vec![
            ("weight".into(), vec![out, channels / groups, k, k]),
            ("bias".into(), vec![out]),
        ],
        Upsampling(stride) => {
            let shape = vec![channels, channels, 2 * stride, 2 * stride];
            vec![("weight".into(), shape)]
        }
        Pool | Kind::Argmax | Kind::Attention(_) | Kind::Gram => vec![],
    };
    for (name, shape) in &weights {
        let size = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        let shape = Shape::new(size(0), size(1), size(2), size(3));
        inputs.push(graph.parameter(name.as_str(), shape)?);
    }
    let id = match *kind {
        Conv(_, _, padding) | ConvRelu(_, _, padding) | ConvPool(_, _, padding) => {
            graph.op("op", Conv2d::padded(padding), &inputs)?
        }
        Groups(_, _, padding, dilation, groups) => {
            let op = Conv2d {
                dilation: [dilation; 2],
                groups,
                ..Conv2d::padded(padding)
            };
            graph.op("op", op, &inputs)?
        }
        Upsampling(stride) => graph.op("op", ConvTranspose2d::strided(stride, 0), &inputs)?,
        Pool => graph.op("op", MaxPool2d::square(2, 2, true), &inputs)?,
        Kind::Argmax => graph.op("op", Argmax {}, &inputs)?,
        Kind::Attention(heads) => graph.op("op", Attention::of(heads), &[inputs[0]; 3])?,
        Kind::Gram => graph.op("op", Gram {}, &[inputs[0]; 2])?,
    };
    if let ConvRelu(..) | ConvPool(..) = kind {
        graph.op("relu", Relu {}, &[id])?;
    }
    if let ConvPool(..) = kind {
        graph.op("pool", MaxPool2d::square(2, 2, true), &[graph.output()])?;
    }
    Ok((graph, weights))
}
