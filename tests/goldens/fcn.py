"""FCN-32s, FCN-16s and FCN-8s on VGG16 in PyTorch, in every geometry fullconv reads.

    from fcn import build, initialize
    model = build("fcn8s", "caffe")             # full width, 21 classes
    initialize(model, seed=0)
    scores = model(image)                       # [n, 3, h, w] -> [n, classes, h, w]

`model.state_dict()` has the names of published checkpoints: those of pytorch-fcn and Caffe
(`conv1_1` ... `fc7`, `score_fr`, ...), or, for geometry `floor`, those of the numbered rewrites
(`conv1` ... `conv15`, ...).

Sources: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation" (2015);
Shelhamer, Long, Darrell (2017) for fcn8s-atonce.

The geometries differ in padding, in the rounding of the pools and in where maps are cropped:

- `caffe`: conv1_1 pads by 100 and the pools round up. The skips and the final map are cropped at
  fixed offsets. Works for every image from 1x1 on.
- `floor`: the same, but the pools round down. An image needs at least 26 pixels a side. In fcn16s
  a side of 22, 23, 24 or 25 pixels modulo 32 leaves the final map up to 4 pixels short of the
  image; `forward` then raises ValueError.
- `same`: every conv keeps the size and the pools round up. The upsampled map is never smaller than the
  skip or the image; its surplus is cropped on the right and at the bottom.
"""

import json
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

ARCHITECTURES = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")

# Convs in each stage of VGG16; a 2x2 max pool ends a stage.
STAGES = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)

# fcn8s-atonce multiplies the pools by these ahead of their score layers.
ATONCE_SCALES = {"pool4": 0.01, "pool3": 0.0001}


@dataclass(frozen=True)
class Geometry:
    """The differences between the geometries of one architecture."""

    first_padding: int
    fc6_padding: int
    ceil_mode: bool
    # Transposed convs pad by half their stride, and the crops below do not apply.
    padded_upsampling: bool
    # Offsets of the crops of pool3's and pool4's scores and of the final map, by its stride.
    pool4_offset: int
    pool3_offset: int
    final_offsets: dict[int, int]


GEOMETRIES = {
    "caffe": Geometry(100, 0, True, False, 5, 9, {32: 19, 16: 27, 8: 31}),
    "floor": Geometry(100, 0, False, False, 5, 9, {32: 6, 16: 27, 8: 31}),
    "same": Geometry(1, 3, True, True, 0, 0, {32: 0, 16: 0, 8: 0}),
}


def numbered_names():
    """Maps the original layer names to those of the numbered rewrites."""
    depths = enumerate(STAGES, 1)
    convs = [f"conv{stage}_{i}" for stage, depth in depths for i in range(1, depth + 1)]
    names = {name: f"conv{i}" for i, name in enumerate([*convs, "fc6", "fc7"], 1)}
    return {**names, "upscore": "upscore32", "upscore_pool4": "upscore2x2"}


def bilinear_weight(channels, kernel_size):
    """The f64 weight [channels, channels, k, k] of a transposed conv that upsamples bilinearly."""
    factor = (kernel_size + 1) // 2
    center = factor - 1 if kernel_size % 2 == 1 else factor - 0.5
    line = 1 - (torch.arange(kernel_size, dtype=torch.float64) - center).abs() / factor
    weight = torch.zeros(channels, channels, kernel_size, kernel_size, dtype=torch.float64)
    weight[range(channels), range(channels)] = line[:, None] * line[None, :]
    return weight


def crop(x, offset, like):
    """x[:, :, offset:offset + h, offset:offset + w], with h and w of `like`."""
    h, w = like.shape[2:]
    if x.shape[2] < offset + h or x.shape[3] < offset + w:
        raise ValueError(f"no {h}x{w} at offset {offset} in {x.shape[2]}x{x.shape[3]}")
    return x[:, :, offset : offset + h, offset : offset + w]


class FCN(nn.Module):
    """See `build`."""

    def __init__(self, architecture, geometry, widths, fc, classes, numbered):
        super().__init__()
        self.architecture = architecture
        self.geometry = GEOMETRIES[geometry]
        self.names = numbered_names() if numbered else {}

        channels, padding = 3, self.geometry.first_padding
        for stage, (depth, width) in enumerate(zip(STAGES, widths, strict=True), 1):
            for i in range(1, depth + 1):
                self.add(f"conv{stage}_{i}", nn.Conv2d(channels, width, 3, padding=padding))
                channels, padding = width, 1
        self.add("fc6", nn.Conv2d(channels, fc, 7, padding=self.geometry.fc6_padding))
        self.add("fc7", nn.Conv2d(fc, fc, 1))
        self.add("score_fr", nn.Conv2d(fc, classes, 1))

        if architecture == "fcn32s":
            self.add_upsampling("upscore", classes, 32)
        elif architecture == "fcn16s":
            self.add_upsampling("upscore2", classes, 2)
            self.add("score_pool4", nn.Conv2d(widths[3], classes, 1, bias=not numbered))
            self.add_upsampling("upscore16", classes, 16)
        else:
            self.add_upsampling("upscore2", classes, 2)
            self.add("score_pool4", nn.Conv2d(widths[3], classes, 1))
            self.add_upsampling("upscore_pool4", classes, 2)
            self.add("score_pool3", nn.Conv2d(widths[2], classes, 1))
            self.add_upsampling("upscore8", classes, 8)

    def add(self, name, layer):
        self.add_module(self.names.get(name, name), layer)

    def add_upsampling(self, name, classes, stride):
        padding = stride // 2 if self.geometry.padded_upsampling else 0
        layer = nn.ConvTranspose2d(classes, classes, 2 * stride, stride, padding, bias=False)
        self.add(name, layer)

    def forward(self, image, nodes=None):
        """Scores [n, classes, h, w] of images [n, 3, h, w].

        A dict `nodes` receives the output of every layer and pool under its name; a conv's output is
        the one before its ReLU.
        """

        def record(name, x):
            if nodes is not None:
                nodes[name] = x
            return x

        def layer(name, x):
            name = self.names.get(name, name)
            return record(name, getattr(self, name)(x))

        x = image
        pools = {}
        for stage, depth in enumerate(STAGES, 1):
            for i in range(1, depth + 1):
                x = F.relu(layer(f"conv{stage}_{i}", x))
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=self.geometry.ceil_mode)
            pools[f"pool{stage}"] = record(f"pool{stage}", x)
        x = F.relu(layer("fc6", x))
        x = F.relu(layer("fc7", x))
        x = layer("score_fr", x)

        def add_skip(x, pool, offset):
            skip = pools[pool]
            if self.architecture == "fcn8s-atonce":
                skip = skip * ATONCE_SCALES[pool]
            skip = layer(f"score_{pool}", skip)
            if self.geometry.padded_upsampling:
                return crop(x, 0, skip) + skip
            return x + crop(skip, offset, x)

        if self.architecture == "fcn32s":
            x, stride = layer("upscore", x), 32
        elif self.architecture == "fcn16s":
            x = add_skip(layer("upscore2", x), "pool4", self.geometry.pool4_offset)
            x, stride = layer("upscore16", x), 16
        else:
            x = add_skip(layer("upscore2", x), "pool4", self.geometry.pool4_offset)
            x = add_skip(layer("upscore_pool4", x), "pool3", self.geometry.pool3_offset)
            x, stride = layer("upscore8", x), 8
        return crop(x, self.geometry.final_offsets[stride], image)


def build(architecture, geometry, widths=WIDTHS, fc=4096, classes=21, numbered=None):
    """An FCN in f32 whose layers have their checkpoint's names.

    `architecture` is one of ARCHITECTURES, `geometry` one of GEOMETRIES. `widths` are the channels of
    the five stages, `fc` the channels of fc6 and fc7. `numbered` chooses the names of the numbered
    rewrites; by default only geometry `floor` has them.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture {architecture!r} is none of {ARCHITECTURES}")
    numbered = geometry == "floor" if numbered is None else numbered
    return FCN(architecture, geometry, widths, fc, classes, numbered).eval().requires_grad_(False)


def initialize(model, seed, perturbation=0.0):
    """He-normal convs, normal biases (deviation 0.1), bilinear transposed convs.

    `perturbation` is the deviation of normal noise added to the transposed convs.
    """
    generator = torch.Generator().manual_seed(seed)

    def fill(parameter, deviation):
        parameter.normal_(0.0, deviation, generator=generator)

    for name, layer in model.named_modules():
        if isinstance(layer, nn.ConvTranspose2d):
            fill(layer.weight, perturbation)
            layer.weight.add_(bilinear_weight(layer.in_channels, layer.kernel_size[0]))
        elif isinstance(layer, nn.Conv2d):
            deviation = math.sqrt(2 / layer.weight[0].numel())
            if model.architecture == "fcn8s-atonce":
                # Like trained weights, these compensate the scale: a missing skip has to show.
                deviation /= ATONCE_SCALES.get(name.removeprefix("score_"), 1.0)
            fill(layer.weight, deviation)
            if layer.bias is not None:
                fill(layer.bias, 0.1)


def metadata(architecture, geometry):
    """The safetensors `__metadata__` that fullconv needs; None if the tensor names suffice."""
    entry = {"version": 1, "architecture": architecture, "geometry": geometry}
    if geometry == "same":
        entry["preprocess"] = {
            "channels": "rgb",
            "range": 1.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        }
    elif architecture != "fcn8s-atonce":
        return None
    return {"fullconv": json.dumps(entry)}
