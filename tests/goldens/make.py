"""Makes the golden files of this folder with PyTorch. README.md describes them.

    python make.py [--output DIR]

Requires Python 3.11, torch 2.15, safetensors 0.8 and numpy 2.4 (other versions should do, but may
change last bits). Takes well under a minute on one core.

Every random tensor is seeded by its case's name, so adding a case leaves the others as they are.
Inputs and weights are f32, and all outputs are computed in f64 from exactly those values.
"""

import argparse
import builtins
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import family
import fcn


def generator(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


# --- ops: each computes f64 from f64 with PyTorch -------------------------------------------------


def single(number):
    """An attribute rounded to f32, as in an f32 network."""
    return float(numpy.float32(number))


def conv2d(input, weight, bias=None, *, stride, padding, dilation, groups):
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, *, stride, padding, output_padding, groups, dilation=1):
    return F.conv_transpose2d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def max_pool2d(input, *, kernel_size, **attributes):
    return F.max_pool2d(input, kernel_size, **attributes)


def max_pool2d_indices(input, *, kernel_size, **attributes):
    return F.max_pool2d(input, kernel_size, **attributes, return_indices=True)[1].double()


def max_unpool2d(input, indices, *, kernel_size, **attributes):
    return F.max_unpool2d(input, indices.long(), kernel_size, **attributes)


def avg_pool2d(input, *, kernel_size, **attributes):
    return F.avg_pool2d(input, kernel_size, **attributes)


def adaptive_avg_pool2d(input, *, output_size):
    return F.adaptive_avg_pool2d(input, output_size)


def adaptive_max_pool2d(input, *, output_size):
    return F.adaptive_max_pool2d(input, output_size)


def local_response_norm(input, **attributes):
    return F.local_response_norm(input, **attributes)


def linear(input, weight, bias=None):
    return F.linear(input.movedim(1, -1), weight, bias).movedim(-1, 1)


def batch_norm2d(input, weight, bias, running_mean, running_var, *, eps=1e-5):
    return F.batch_norm(input, running_mean, running_var, weight, bias, eps=single(eps))


def where(condition, input, other):
    return torch.where(condition != 0, input, other)


def of_two(name):
    """An operation of two tensors; comparisons give 1 or 0."""

    def op(input, other):
        return getattr(torch, name)(input, other).double()

    op.__name__ = name
    return op


def group_norm(input, weight=None, bias=None, *, num_groups, eps=1e-5):
    return F.group_norm(input, num_groups, weight, bias, single(eps))


def instance_norm(input, weight=None, bias=None, *, eps=1e-5):
    return F.instance_norm(input, weight=weight, bias=bias, eps=single(eps))


def layer_norm(input, weight=None, bias=None, *, eps=1e-5):
    input = input.movedim(1, -1)
    return F.layer_norm(input, input.shape[-1:], weight, bias, single(eps)).movedim(-1, 1)


def relu(input):
    return F.relu(input)


def leaky_relu(input, *, negative_slope=0.01):
    return F.leaky_relu(input, single(negative_slope))


def prelu(input, weight):
    return F.prelu(input, weight)


def elu(input, *, alpha=1.0):
    return F.elu(input, single(alpha))


def sigmoid(input):
    return F.sigmoid(input)


def tanh(input):
    return F.tanh(input)


def silu(input):
    return F.silu(input)


def hardsigmoid(input):
    return F.hardsigmoid(input)


def hardswish(input):
    return F.hardswish(input)


def of_torch(name, module=F):
    """An operation of `module` without attributes."""

    def op(input):
        return getattr(module, name)(input)

    op.__name__ = name
    return op


def gelu(input, *, approximate="none"):
    # PyTorch's own formula loses the digits of large negative inputs in f64 too.
    if approximate == "tanh":
        return input * torch.sigmoid((8 / numpy.pi) ** 0.5 * (input + 0.044715 * input**3))
    return input * 0.5 * torch.erfc(-input / 2**0.5)


def softplus(input, *, beta=1.0, threshold=20.0):
    return F.softplus(input, single(beta), single(threshold))


def logsigmoid(input):
    # As for GELU.
    return -torch.logaddexp(torch.zeros_like(input), -input)


def celu(input, *, alpha=1.0):
    return F.celu(input, single(alpha))


def hardshrink(input, *, lambd=0.5):
    return F.hardshrink(input, single(lambd))


def threshold(input, *, threshold, value):
    return F.threshold(input, single(threshold), single(value))


def pow(input, *, exponent):
    return input.pow(single(exponent))


def clamp(input, *, min=None, max=None):
    return torch.clamp(input, *(None if bound is None else single(bound) for bound in (min, max)))


def add(input, other):
    return input + other


def sub(input, other):
    return input - other


def mul(input, other):
    return input * other


def mean(input, *, dim=(2, 3)):
    return input.mean(dim, keepdim=True)


def sum(input, *, dim):
    return input.sum(dim, keepdim=True)


def var(input, *, dim, correction=1):
    return input.var(dim, correction=correction, keepdim=True)


def amax(input, *, dim):
    return input.amax(dim, keepdim=True)


def amin(input, *, dim):
    return input.amin(dim, keepdim=True)


def cat(**inputs):
    return torch.cat(list(inputs.values()), 1)


def pad(input, other=None, *, padding=None, multiple=None, align="start", mode="constant", value=0.0):
    if padding is None:
        size = input.shape[2:] if other is None else other.shape[2:]
        more = [new - old for new, old in zip(size, input.shape[2:], strict=True)]
        if other is None:
            more = [-old % m for old, m in zip(size, multiple, strict=True)]
        before = [{"start": 0, "center": d // 2, "end": d}[align] for d in more]
        padding = [before[1], more[1] - before[1], before[0], more[0] - before[0]]
    # PyTorch takes a value only in mode constant.
    value = single(value) if mode == "constant" else None
    return F.pad(input, padding, mode, value)


def pixel_shuffle(input, *, upscale_factor):
    return F.pixel_shuffle(input, upscale_factor)


def scale(input, *, factor):
    return input * factor


def crop(input, other, *, offset):
    h, w = other.shape[2:]
    if offset == "center_round":  # as torchvision's center_crop
        offset = [round((input.shape[2] - h) / 2), round((input.shape[3] - w) / 2)]
    if offset == "center":
        offset = [(input.shape[2] - h) // 2, (input.shape[3] - w) // 2]
    y, x = offset
    return input[:, :, y : y + h, x : x + w]


def slice(input, *, dim, start=None, end=None, step=1):
    at = [builtins.slice(None)] * 4
    at[dim] = builtins.slice(start, end, step)
    return input[tuple(at)]


def channel_shuffle(input, *, groups):
    return F.channel_shuffle(input, groups)


def repeat(input, *, repeats):
    return input.repeat(1, *repeats)


def flip(input, *, dims):
    return input.flip(dims)


def full(input, *, channels, fill_value=0.0):
    n, _, h, w = input.shape
    return torch.full([n, channels, h, w], single(fill_value), dtype=input.dtype)


def linspace(input, *, dim, start, end):
    n, _, h, w = input.shape
    line = torch.linspace(single(start), single(end), input.shape[dim], dtype=input.dtype)
    return line.view([1, 1, h, 1] if dim == 2 else [1, 1, 1, w]).expand(n, 1, h, w)


def conv1d_channels(input, weight, *, padding=0):
    lines = input.permute(0, 2, 3, 1)
    out = F.conv1d(lines.reshape(-1, 1, input.shape[1]), weight.view(1, 1, -1), padding=padding)
    return out.view(*lines.shape[:3], -1).permute(0, 3, 1, 2)


def pixel_unshuffle(input, *, downscale_factor):
    return F.pixel_unshuffle(input, downscale_factor)


def unfold(input, *, kernel_size, dilation=1, padding=0, stride=1):
    columns = F.unfold(input, kernel_size, dilation, padding, stride)
    # A convolution with the same windows has the same number of them along each side.
    window = kernel_size if isinstance(kernel_size, list) else pair(kernel_size)
    one = torch.zeros([1, 1, *window], dtype=input.dtype)
    size = F.conv2d(input[:, :1], one, None, stride, padding, dilation).shape[2:]
    return columns.view(*columns.shape[:2], *size)


def interpolate(input, other=None, **attributes):
    if other is not None:
        attributes["size"] = other.shape[2:]
    # PyTorch computes the positions of nearest pixels in the precision of the values: f32, as in networks.
    nearest = attributes.get("mode", "nearest").startswith("nearest")
    kind = torch.float32 if nearest else torch.float64
    return F.interpolate(input.to(kind), **attributes)


def softmax(input, *, dim=1):
    return of_scores(F.softmax, input, dim)


def log_softmax(input, *, dim=1):
    return of_scores(F.log_softmax, input, dim)


def of_scores(function, input, dim):
    """Over the channels, or over the pixels of each channel."""
    if dim == 1:
        return function(input, 1)
    return function(input.flatten(2), 2).view(input.shape)


def attention(query, key, value, *, num_heads=1, scale=None, dim=3):
    def tokens(x):
        return x.unflatten(1, (num_heads, -1)).flatten(3).transpose(2, 3)

    if dim == 3:
        output = F.scaled_dot_product_attention(tokens(query), tokens(key), tokens(value), scale=scale)
    else:
        scores = scale * (tokens(query) @ tokens(key).transpose(2, 3))
        output = scores.flatten(1).softmax(1).view_as(scores) @ tokens(value)
    return output.transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])


def gram(a, b):
    return (b.flatten(2) @ a.flatten(2).transpose(1, 2))[..., None]


def mix_channels(input, matrix):
    return (matrix[..., 0].transpose(1, 2) @ input.flatten(2)).unflatten(2, input.shape[2:])


def transpose_channels(input):
    return input.transpose(1, 2)


def permute(input, *, dims):
    return input.permute(dims)


def reshape(input, other=None, *, shape):
    return input.reshape(len(input), *(shape if other is None else [shape[0], *other.shape[2:]]))


def argmax(input):
    # numpy's argmax guarantees the first of equal maxima, torch's does not.
    return torch.from_numpy(input.numpy().argmax(axis=1)).to(torch.uint8)


def binarize(input, *, threshold):
    return (input[:, 0] >= threshold).to(torch.uint8)


def preprocess(input, *, size, channels, range, mean, std):
    """Picture [h, w, 3] of 0...255, RGB -> [1, 3, h, w]; mean and std in the network's order."""
    picture = input.permute(2, 0, 1)[None] / 255 * range
    picture = F.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
    if channels == "bgr":
        picture = picture.flip(1)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (mean, std))
    return (picture - mean) / std


COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")

TORCH_FUNCTIONS = (
    "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos", "floor", "sign",
)  # fmt: skip

OPS = {
    op.__name__: op
    for op in (
        conv2d,
        conv_transpose2d,
        max_pool2d,
        linear,
        batch_norm2d,
        group_norm,
        instance_norm,
        layer_norm,
        max_pool2d_indices,
        max_unpool2d,
        avg_pool2d,
        adaptive_avg_pool2d,
        adaptive_max_pool2d,
        local_response_norm,
        relu,
        leaky_relu,
        prelu,
        elu,
        sigmoid,
        tanh,
        silu,
        hardsigmoid,
        hardswish,
        clamp,
        *(of_torch(name, torch) for name in TORCH_FUNCTIONS),
        *(of_torch(name) for name in ("mish", "selu", "softsign")),
        gelu,
        softplus,
        logsigmoid,
        celu,
        hardshrink,
        threshold,
        pow,
        add,
        sub,
        mul,
        *(of_two(name) for name in ("div", "maximum", "minimum", *COMPARISONS)),
        where,
        scale,
        mean,
        sum,
        amax,
        amin,
        var,
        cat,
        pad,
        pixel_shuffle,
        crop,
        slice,
        channel_shuffle,
        repeat,
        flip,
        full,
        linspace,
        conv1d_channels,
        pixel_unshuffle,
        unfold,
        interpolate,
        softmax,
        attention,
        gram,
        mix_channels,
        transpose_channels,
        permute,
        reshape,
        log_softmax,
        argmax,
        binarize,
        preprocess,
    )
}


# --- cases of ops ---------------------------------------------------------------------------------


def pair(value):
    """An attribute as [h, w]."""
    return list(value) if isinstance(value, tuple) else [value, value]


class OpCases:
    """Collects the cases: their tensors, and the list that describes them."""

    def __init__(self):
        self.tensors = {}
        self.cases = []

    def add(self, op, name, attributes, **inputs):
        name = f"{op}_{name}"
        if any(case["name"] == name for case in self.cases):
            raise ValueError(f"two cases {name}")
        inputs = {key: value for key, value in inputs.items() if value is not None}
        output = OPS[op](**{key: value.double() for key, value in inputs.items()}, **attributes)
        for key, value in {**inputs, "output": output}.items():
            self.tensors[f"{name}/{key}"] = value.contiguous()
        self.cases.append(
            {"name": name, "op": op, "attributes": attributes, "inputs": list(inputs)}
        )

    def save(self, path):
        save_file(self.tensors, path, metadata={"cases": json.dumps(self.cases)})


def conv2d_cases(cases):
    def case(name, input, out, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
        g = generator(f"conv2d {name}")
        shape = [out, input[1] // groups, *pair(kernel)]
        fan_in = shape[1] * shape[2] * shape[3]
        attributes = {
            "stride": pair(stride),
            "padding": pair(padding),
            "dilation": pair(dilation),
            "groups": groups,
        }
        cases.add(
            "conv2d",
            name,
            attributes,
            input=torch.randn(input, generator=g),
            weight=torch.randn(shape, generator=g) / fan_in**0.5,
            bias=torch.randn(out, generator=g) if bias else None,
        )

    # Kernel sizes, with channels that are not multiples of 4.
    case("1x1", [1, 3, 5, 7], 5, 1)
    case("1x1_of_1x1", [1, 13, 1, 1], 21, 1)
    case("1x1_one_channel", [1, 1, 5, 3], 1, 1)
    case("1x1_stride2", [1, 6, 7, 8], 5, 1, stride=2, bias=False)
    case("1x1_padding1", [1, 3, 4, 5], 7, 1, padding=1)
    case("3x3", [1, 3, 7, 9], 6, 3, padding=1)
    case("3x3_one_channel", [1, 1, 6, 5], 1, 3, padding=1)
    case("3x3_no_bias", [1, 5, 8, 7], 3, 3, padding=1, bias=False)
    case("3x3_no_padding", [1, 7, 6, 5], 13, 3)
    case("3x3_to_1x1", [1, 6, 3, 3], 7, 3)
    case("3x3_of_1x1", [1, 5, 1, 1], 6, 3, padding=1)
    case("3x3_one_row", [1, 3, 1, 19], 5, 3, padding=1)
    case("3x3_one_column", [1, 3, 19, 1], 5, 3, padding=1)
    case("3x3_wide", [1, 3, 5, 131], 2, 3, padding=1)
    case("3x3_batch3", [3, 5, 6, 11], 7, 3, padding=1)
    case("5x5_batch3_no_bias", [3, 3, 7, 5], 5, 5, padding=2, bias=False)
    case("7x7", [1, 5, 9, 8], 21, 7, padding=3)
    case("7x7_to_1x1", [1, 13, 7, 7], 10, 7)
    case("7x7_long_sum", [1, 37, 8, 7], 5, 7)
    case("7x7_stride2", [1, 3, 17, 23], 13, 7, stride=2, padding=3, bias=False)
    case("11x11_stride4", [1, 3, 27, 31], 5, 11, stride=4)
    case("11x11_stride4_padding11", [1, 3, 3, 2], 7, 11, stride=4, padding=11)
    case("3x5", [1, 6, 7, 8], 5, (3, 5), padding=(1, 2))
    case("1x7", [1, 5, 6, 9], 3, (1, 7), padding=(0, 3))
    case("5x1", [1, 3, 9, 6], 7, (5, 1), padding=(2, 0))
    case("2x3_even_kernel", [1, 5, 6, 7], 6, (2, 3), padding=(1, 1))
    case("4x4_stride2_padding1", [1, 6, 9, 7], 5, 4, stride=2, padding=1)

    # Channels that are multiples of 4 and of a tile, and more channels than one tile holds.
    case("1x1_aligned", [1, 16, 8, 8], 32, 1)
    case("3x3_aligned", [1, 8, 12, 16], 16, 3, padding=1)
    case("1x1_many_channels", [1, 130, 3, 5], 66, 1)
    case("3x3_many_channels", [1, 35, 6, 7], 33, 3, padding=1)

    # Strides and paddings.
    case("stride2", [1, 6, 9, 8], 5, 3, stride=2, padding=1)
    case("stride2_no_padding", [1, 6, 8, 9], 7, 3, stride=2)
    case("stride3", [1, 5, 10, 13], 6, 3, stride=3)
    case("stride3_batch3", [3, 3, 8, 10], 5, 5, stride=3, padding=2)
    case("stride_2_3", [1, 5, 9, 11], 7, 3, stride=(2, 3), padding=1)
    case("stride_3_1", [1, 3, 10, 6], 5, 3, stride=(3, 1), padding=1)
    case("padding_0_3", [1, 5, 6, 4], 3, 3, padding=(0, 3))
    case("padding_2_1", [1, 3, 5, 7], 6, 3, padding=(2, 1))
    case("padding5_of_1x1", [1, 3, 1, 1], 5, 3, padding=5)
    case("padding20_of_2x3", [1, 3, 2, 3], 2, 3, padding=20)
    case("padding7_batch3", [3, 1, 2, 1], 3, 3, padding=7, bias=False)

    # Dilation.
    case("dilation2", [1, 5, 9, 8], 6, 3, padding=2, dilation=2)
    case("dilation3", [1, 6, 10, 11], 5, 3, padding=3, dilation=3)
    case("dilation4_beyond_image", [1, 3, 3, 4], 7, 3, padding=4, dilation=4)
    case("dilation2_no_padding", [1, 3, 7, 9], 5, 3, dilation=2, bias=False)
    case("dilation_1_3", [1, 5, 6, 11], 3, 3, padding=(1, 3), dilation=(1, 3))
    case("dilation_2_1", [1, 3, 8, 5], 7, 3, padding=(2, 1), dilation=(2, 1))
    case("dilation2_stride2", [1, 6, 11, 9], 5, 3, stride=2, padding=2, dilation=2)
    case("all_asymmetric", [3, 3, 9, 8], 5, (3, 2), (2, 1), (1, 2), (1, 2))

    # Groups.
    case("groups2", [1, 6, 7, 9], 10, 5, padding=2, groups=2)
    case("groups2_no_bias", [1, 10, 5, 6], 6, 3, padding=1, groups=2, bias=False)
    case("groups3", [1, 21, 6, 5], 6, 3, padding=1, groups=3)
    case("groups3_stride2_batch3", [3, 9, 7, 8], 15, 3, stride=2, padding=1, groups=3)
    case("groups2_1x1", [1, 14, 4, 5], 26, 1, groups=2)
    case("groups2_aligned", [1, 16, 6, 7], 8, 3, padding=1, groups=2)
    case("depthwise", [1, 7, 8, 9], 7, 3, padding=1, groups=7)
    case("depthwise_multiplier2", [1, 5, 7, 6], 10, 3, padding=1, groups=5)
    case("depthwise_stride2_no_bias", [3, 13, 9, 7], 13, 3, 2, 1, groups=13, bias=False)
    case("depthwise_dilation2", [1, 6, 9, 8], 6, 3, padding=2, dilation=2, groups=6)


def conv_transpose2d_cases(cases):
    def case(name, input, out, kernel, stride=1, padding=0, output_padding=0, groups=1, bias=False,
             bilinear=False, **dilation):  # fmt: skip
        g = generator(f"conv_transpose2d {name}")
        if bilinear:
            weight = fcn.bilinear_weight(out, kernel).float()
        else:
            weight = torch.randn([input[1], out // groups, *pair(kernel)], generator=g)
            weight /= (input[1] // groups) ** 0.5
        attributes = {
            "stride": pair(stride),
            "padding": pair(padding),
            "output_padding": pair(output_padding),
            "groups": groups,
            **dilation,
        }
        cases.add(
            "conv_transpose2d",
            name,
            attributes,
            input=torch.randn(input, generator=g),
            weight=weight,
            bias=torch.randn(out, generator=g) if bias else None,
        )

    # The upsampling of the FCNs.
    case("k4s2", [1, 5, 3, 4], 5, 4, 2)
    case("k4s2_bilinear", [1, 7, 4, 3], 7, 4, 2, bilinear=True)
    case("k4s2p1", [1, 7, 3, 5], 7, 4, 2, 1)
    case("k4s2_bias", [1, 3, 4, 5], 5, 4, 2, bias=True)
    case("k4s2_batch3", [3, 5, 2, 3], 6, 4, 2, 1, bias=True)
    case("k4s2_of_1x1", [1, 6, 1, 1], 5, 4, 2)
    case("k4s2_21_channels", [1, 21, 2, 3], 21, 4, 2)
    case("k4s2_aligned", [1, 8, 4, 4], 16, 4, 2, 1)
    case("k16s8", [1, 3, 2, 2], 3, 16, 8)
    case("k16s8p4", [1, 5, 3, 2], 3, 16, 8, 4)
    case("k32s16p8", [1, 2, 2, 3], 2, 32, 16, 8)
    case("k63s32", [1, 1, 1, 2], 1, 63, 32)
    case("k64s32", [1, 2, 1, 1], 1, 64, 32)
    case("k32s16_bilinear", [1, 1, 2, 2], 1, 32, 16, bilinear=True)
    case("k64s32p16", [1, 1, 2, 1], 1, 64, 32, 16, bias=True)

    # The rest of the op.
    case("k1", [1, 5, 4, 3], 6, 1, bias=True)
    case("k3_stride1", [1, 3, 5, 6], 7, 3, 1, 1, bias=True)
    case("k3_padding2", [1, 5, 5, 4], 3, 3, 1, 2)
    case("k3_to_1x1", [1, 5, 1, 1], 3, 3, 1, 1)
    case("k2s2", [1, 6, 4, 5], 3, 2, 2)
    case("k3s2p1_output_padding1", [1, 5, 4, 3], 6, 3, 2, 1, 1, bias=True)
    case("k3s2p1", [1, 6, 3, 4], 5, 3, 2, 1)
    case("k3s3_output_padding_2_1", [1, 3, 3, 2], 5, 3, 3, 0, (2, 1), bias=True)
    case("k2s3_holes", [1, 5, 3, 4], 3, 2, 3)
    case("k2s3_holes_bias", [1, 3, 4, 3], 5, 2, 3, bias=True)
    case("k1s2_holes_output_padding1", [1, 3, 3, 2], 2, 1, 2, 0, 1, bias=True)
    case("k3x5", [1, 5, 4, 3], 6, (3, 5), (2, 3), (1, 0), bias=True)
    case("k4x2", [3, 3, 3, 5], 5, (4, 2), (1, 2), (0, 1), (0, 1))
    case("one_row", [1, 3, 1, 9], 5, 4, 2, 1)
    case("groups2", [1, 6, 4, 3], 10, 4, 2, 1, groups=2, bias=True)
    case("groups3_batch3", [3, 9, 3, 2], 3, 3, 2, 1, 1, groups=3)
    case("depthwise", [1, 7, 3, 4], 7, 4, 2, groups=7)
    case("many_channels", [1, 33, 2, 3], 19, 3, 2, 1, 1, bias=True)

    case("dilation2", [2, 5, 4, 3], 6, 3, 1, 1, bias=True, dilation=2)
    case("dilation2_stride2", [1, 6, 3, 4], 5, 3, 2, 1, bias=True, dilation=2)
    case("dilation3_stride2_output_padding2", [1, 3, 3, 4], 7, 3, 2, 2, 2, dilation=3)
    case("dilation_2_3_stride_3_2", [3, 7, 3, 2], 4, (3, 4), (3, 2), (1, 3), dilation=[2, 3])
    case("dilation2_groups3", [1, 9, 3, 4], 6, 4, 3, 2, 1, groups=3, bias=True, dilation=2)


def max_pool2d_cases(cases):
    def case(name, input, kernel, stride, padding=0, ceil=(False, True), negative=False):
        for ceil_mode in ceil:
            input_values = torch.randn(input, generator=generator(f"max_pool2d {name}"))
            attributes = {
                "kernel_size": pair(kernel),
                "stride": pair(stride),
                "padding": pair(padding),
                "ceil_mode": ceil_mode,
            }
            cases.add(
                "max_pool2d",
                f"{name}_{'ceil' if ceil_mode else 'floor'}",
                attributes,
                input=-1 - input_values.abs() if negative else input_values,
            )

    # Every remainder of the size.
    for h, w in [(6, 8), (7, 9), (6, 9), (7, 8)]:
        case(f"k2s2_{h}x{w}", [1, 3, h, w], 2, 2)
        case(f"k3s2_{h}x{w}", [1, 5, h, w], 3, 2)
    for h, w in [(6, 9), (7, 10), (8, 11), (7, 8)]:
        case(f"k3s3_{h}x{w}", [1, 3, h, w], 3, 3)
    for h, w in [(6, 8), (7, 9), (6, 9)]:
        case(f"k3s2p1_{h}x{w}", [1, 6, h, w], 3, 2, 1)

    # Padding and pixels beyond the image must not count as 0.
    case("k3s2p1_negative", [1, 5, 7, 6], 3, 2, 1, negative=True)
    case("k2s2_negative", [1, 3, 7, 5], 2, 2, negative=True)
    case("k2s2p1_negative", [1, 3, 5, 4], 2, 2, 1, negative=True)

    # A last window that would start beyond image and left padding is dropped, even with ceil_mode.
    case("k2s3_last_window", [1, 3, 6, 9], 2, 3)
    case("k2s2p1_last_window", [1, 3, 3, 5], 2, 2, 1)
    case("k1s2_last_window", [1, 3, 4, 5], 1, 2)

    case("k2s2_of_1x1", [1, 7, 1, 1], 2, 2, ceil=(True,))
    case("k2s2_of_2x1", [1, 3, 2, 1], 2, 2, ceil=(True,))
    case("k3s2_of_2x5", [1, 3, 2, 5], 3, 2, ceil=(True,))
    case("k2s2_batch3", [3, 13, 5, 6], 2, 2)
    case("k2s2_aligned", [1, 8, 8, 8], 2, 2)
    case("k3s1p1", [1, 5, 4, 6], 3, 1, 1)
    case("k5s1p2", [1, 3, 5, 4], 5, 1, 2)
    case("k2x3_s1x2", [1, 6, 6, 8], (2, 3), (1, 2), (0, 1))
    case("k3x2_s2x3", [1, 5, 8, 9], (3, 2), (2, 3), (1, 0))


def dilated_max_pool2d_cases(cases):
    def case(name, input, kernel, dilation, **attributes):
        attributes = {"kernel_size": kernel, "dilation": dilation, **attributes}
        input = torch.randn(input, generator=generator(f"max_pool2d {name}"))
        cases.add("max_pool2d", name, attributes, input=input)

    # Also with missing attributes, and with one number for a pair.
    case("dilation2", [1, 5, 7, 9], 2, 2)
    case("dilation2_s1p1_ceil", [3, 6, 8, 7], 3, 2, stride=1, padding=1, ceil_mode=True)
    case("dilation_1_3", [1, 3, 6, 11], [2, 3], [1, 3], stride=[2, 1], padding=[1, 0])
    case("dilation3_as_large_as_the_input", [1, 3, 3, 5], 2, 3, stride=2, padding=1)


def indices_cases(cases):
    """max_pool2d_indices, and max_unpool2d of other values at the same indices."""

    def case(name, input, **attributes):
        if not torch.is_tensor(input):
            input = torch.randn(input, generator=generator(f"max_pool2d_indices {name}"))
        cases.add("max_pool2d_indices", name, attributes, input=input)

    case("k2s2", [1, 5, 6, 8], kernel_size=2)
    case("k2s2_odd_ceil", [3, 3, 7, 9], kernel_size=2, stride=2, ceil_mode=True)
    case("k3s2p1", [1, 6, 7, 8], kernel_size=3, stride=2, padding=1)
    case("k3s1p1", [1, 3, 5, 4], kernel_size=3, stride=1, padding=1)
    case("k2x3_s1x2", [1, 6, 6, 8], kernel_size=[2, 3], stride=[1, 2], padding=[0, 1])
    case("dilation2", [1, 5, 7, 9], kernel_size=3, stride=2, padding=1, dilation=2)
    case("of_1x1", [1, 7, 1, 1], kernel_size=2, ceil_mode=True)
    # Ties, and windows in which no value exceeds the initial maximum.
    levels = torch.randint(0, 2, [1, 5, 8, 9], generator=generator("max_pool2d_indices ties"))
    case("ties", levels.float(), kernel_size=3, stride=2, padding=1)
    case("infinite", torch.full([1, 2, 4, 5], -torch.inf), kernel_size=2, padding=1)
    nan = torch.randn([2, 3, 6, 7], generator=generator("max_pool2d_indices nan"))
    nan[torch.rand(nan.shape, generator=generator("max_pool2d_indices nans")) < 0.3] = torch.nan
    case("nan", nan, kernel_size=3, stride=1, padding=1)

    def unpool(name, plane, output_size=None, **pooling):
        g = generator(f"max_unpool2d {name}")
        pooled, indices = F.max_pool2d(
            torch.randn(plane, generator=g), **pooling, return_indices=True
        )
        pooling.pop("ceil_mode", None)
        attributes = pooling | ({"output_size": output_size} if output_size else {})
        cases.add(
            "max_unpool2d",
            name,
            attributes,
            input=torch.randn(pooled.shape, generator=g),
            indices=indices.float(),
        )

    unpool("k2s2", [1, 5, 6, 8], kernel_size=2)
    unpool("k2s2_odd", [3, 3, 7, 9], [7, 9], kernel_size=2, stride=2)
    unpool("k2s2_odd_ceil", [1, 6, 7, 9], [7, 9], kernel_size=2, stride=2, ceil_mode=True)
    # Overlapping windows: the last of several values for a pixel stays.
    unpool("k3s2p1", [1, 6, 7, 9], [7, 9], kernel_size=3, stride=2, padding=1)
    unpool("k3s1p1", [2, 3, 5, 4], kernel_size=3, stride=1, padding=1)
    unpool("k4s1p2", [1, 5, 6, 5], kernel_size=4, stride=1, padding=2)
    # Pixels in no window.
    unpool("k1x2_s2x3", [1, 3, 8, 9], [8, 9], kernel_size=[1, 2], stride=[2, 3])
    unpool("of_1x1", [1, 7, 2, 2], kernel_size=2)


def avg_pool2d_cases(cases):
    def case(name, input, **attributes):
        input = torch.randn(input, generator=generator(f"avg_pool2d {name}"))
        cases.add("avg_pool2d", name, attributes, input=input)

    case("k2s2", [1, 5, 7, 9], kernel_size=2)
    for ceil in (False, True):
        for include in (False, True):
            name = f"k3s2p1_{'ceil' if ceil else 'floor'}_{'with' if include else 'without'}"
            case(name, [3, 6, 7, 8], kernel_size=3, stride=2, padding=1, ceil_mode=ceil,
                 count_include_pad=include)  # fmt: skip
    case("k2x3_s1x2", [1, 6, 6, 8], kernel_size=[2, 3], stride=[1, 2], padding=[0, 1])
    case("k5s3p2_ceil", [1, 3, 9, 11], kernel_size=5, stride=3, padding=2, ceil_mode=True)
    case("divisor3", [1, 5, 6, 7], kernel_size=3, stride=2, padding=1, divisor_override=3)
    case("divisor_negative", [1, 3, 5, 5], kernel_size=2, ceil_mode=True, divisor_override=-2)
    case("of_1x1", [1, 7, 1, 1], kernel_size=3, stride=1, padding=1)
    case("large_window", [1, 3, 12, 15], kernel_size=[9, 11], stride=2, padding=[4, 5])
    case("last_window", [1, 3, 3, 5], kernel_size=2, stride=2, padding=1, ceil_mode=True)


def adaptive_pool_cases(cases):
    def case(name, input, output_size):
        for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            values = torch.randn(input, generator=generator(f"{op} {name}"))
            cases.add(op, name, {"output_size": output_size}, input=values)

    case("global", [3, 6, 7, 9], 1)
    case("global_large", [1, 5, 31, 43], [1, 1])
    case("to_2x3", [1, 5, 7, 8], [2, 3])
    case("to_6", [1, 3, 17, 20], 6)
    case("up", [1, 7, 4, 3], [9, 7])
    case("rows_only", [1, 3, 9, 5], [4, None])
    case("columns_only", [1, 3, 5, 11], [None, 3])
    case("identity", [1, 5, 4, 6], [4, 6])
    case("of_1x1", [1, 3, 1, 1], [2, 3])
    case("up_and_down", [2, 5, 4, 9], [11, 2])
    values = [0.0, float("nan"), float("-inf"), -1.0, float("inf"), -2.0, -3.0, -0.0]
    values = torch.tensor(values).view(1, 1, 2, 4)
    cases.add("adaptive_max_pool2d", "edges", {"output_size": [1, 3]}, input=values)


def local_response_norm_cases(cases):
    def case(name, input, **attributes):
        input = 3 * torch.randn(input, generator=generator(f"local_response_norm {name}"))
        cases.add("local_response_norm", name, attributes, input=input)

    case("defaults", [1, 13, 3, 5], size=5)
    case("alexnet", [1, 21, 4, 3], size=5, alpha=1e-4, beta=0.75, k=2.0)
    case("strong", [3, 7, 4, 5], size=5, alpha=2.0)
    case("even", [1, 9, 3, 4], size=4, alpha=1.5, beta=0.5)
    case("one_channel", [1, 5, 3, 4], size=1, alpha=1.0, beta=1.0)
    case("more_than_there_are", [1, 3, 3, 4], size=9, alpha=1.0, k=0.5)


def elementwise_cases(cases):
    def normal(name, shape):
        return torch.randn(shape, generator=generator(name))

    shapes = {
        "one": [1, 1, 1, 1],
        "odd": [1, 3, 5, 7],
        "aligned": [1, 8, 4, 8],
        "batch3": [3, 5, 3, 7],
        "many": [1, 7, 11, 13],
    }
    for name, shape in shapes.items():
        cases.add("relu", name, {}, input=normal(f"relu {name}", shape))
        cases.add(
            "add",
            name,
            {},
            input=normal(f"add {name} input", shape),
            other=normal(f"add {name} other", shape),
        )
    values = [0.0, -0.0, 1e-37, -1e-37, 3e38, -3e38, 1e-6, -1e-6]
    cases.add("relu", "extremes", {}, input=torch.tensor(values).view(1, 2, 2, 2))

    for name, factor in [("0.01", 0.01), ("0.0001", 0.0001), ("negative", -2.5), ("zero", 0.0)]:
        input = normal(f"scale {name}", [1, 5, 7, 9])
        cases.add("scale", name, {"factor": factor}, input=input)
    cases.add("scale", "batch3", {"factor": 3.7}, input=normal("scale batch3", [3, 7, 3, 5]))


def function_cases(cases):
    """Elementwise functions, across their range and at its ends."""

    def normal(name, shape, deviation=2.5):
        return torch.randn(shape, generator=generator(name)) * deviation

    edges = [0.0, -0.0, 1e-37, -1e-37, 1e-6, -1e-6, 0.3, -0.3, 0.5, -0.5, 3.0, -3.0]
    edges += [20.0, -20.0, 80.0, -80.0, 100.0, -100.0, 3e38, -3e38]
    edges = torch.tensor([*edges, float("inf"), float("-inf"), float("nan"), 1.0])

    functions = [
        ("sigmoid", "", {}),
        ("tanh", "", {}),
        ("silu", "", {}),
        ("hardsigmoid", "", {}),
        ("hardswish", "", {}),
        ("leaky_relu", "", {}),
        ("leaky_relu", "_0.2", {"negative_slope": 0.2}),
        ("elu", "", {}),
        ("elu", "_0.3", {"alpha": 0.3}),
        ("clamp", "_relu6", {"min": 0.0, "max": 6.0}),
        ("clamp", "_min", {"min": -0.3}),
        ("clamp", "_max", {"max": 1.7}),
        ("clamp", "_crossed", {"min": 1.5, "max": -0.7}),
        *((name, "", {}) for name in TORCH_FUNCTIONS),
        *((name, "", {}) for name in ("mish", "selu", "softsign", "gelu", "softplus", "logsigmoid", "celu")),
        ("gelu", "_tanh", {"approximate": "tanh"}),
        ("softplus", "_0.5", {"beta": 0.5, "threshold": 2.0}),
        ("celu", "_0.3", {"alpha": 0.3}),
        ("hardshrink", "", {}),
        ("hardshrink", "_1.5", {"lambd": 1.5}),
        ("threshold", "_0.5", {"threshold": 0.5, "value": -2.0}),
        ("pow", "_2", {"exponent": 2.0}),
        ("pow", "_-3", {"exponent": -3.0}),
        ("pow", "_root", {"exponent": 0.5}),
        ("pow", "_0.7", {"exponent": 0.7}),
        ("pow", "_-1.3", {"exponent": -1.3}),
    ]
    shapes = {"one": [1, 1, 1, 1], "odd": [1, 3, 5, 7], "aligned": [2, 8, 3, 4], "batch3": [3, 5, 3, 7]}
    for op, suffix, attributes in functions:
        for name, shape in shapes.items():
            input = normal(f"{op} {name}", shape)
            cases.add(op, f"{name}{suffix}", attributes, input=input)
        cases.add(op, f"edges{suffix}", attributes, input=edges.view(1, 2, 3, 4).clone())

    for name, shape in shapes.items():
        for kind, count in [("shared", 1), ("channels", shape[1])]:
            weight = normal(f"prelu {name} {kind}", [count], 0.5)
            input = normal(f"prelu {name}", shape)
            cases.add("prelu", f"{name}_{kind}", {}, input=input, weight=weight)


def layer_cases(cases):
    """batch_norm2d and linear."""

    def batch_norm(name, shape, attributes={}, mean=1.0, variance=1.0):
        g = generator(f"batch_norm2d {name}")
        vector = lambda: torch.randn(shape[1], generator=g)
        running_mean = mean * vector()
        running_var = variance * (0.1 + torch.rand(shape[1], generator=g))
        input = running_mean.view(1, -1, 1, 1) + torch.randn(shape, generator=g)
        cases.add(
            "batch_norm2d",
            name,
            attributes,
            input=input,
            weight=1 + 0.3 * vector(),
            bias=vector(),
            running_mean=running_mean,
            running_var=running_var,
        )

    batch_norm("one", [1, 1, 1, 1])
    batch_norm("odd", [1, 3, 5, 7])
    batch_norm("aligned", [2, 8, 3, 4])
    batch_norm("batch3", [3, 5, 3, 7], {"eps": 0.001})
    batch_norm("far_mean", [1, 6, 4, 5], mean=100.0)
    batch_norm("small_variance", [1, 7, 4, 3], variance=0.01)

    def linear(name, input, out, bias=True):
        g = generator(f"linear {name}")
        input = torch.randn(input, generator=g)
        weight = torch.randn([out, input.shape[1]], generator=g) / input.shape[1] ** 0.5
        bias = torch.randn([out], generator=g) if bias else None
        cases.add("linear", name, {}, input=input, weight=weight, bias=bias)

    linear("one", [1, 1, 1, 1], 1)
    linear("vectors", [3, 13, 1, 1], 10)
    linear("pixels", [2, 6, 3, 5], 9)
    linear("no_bias", [1, 33, 4, 3], 5, bias=False)
    linear("wide", [1, 300, 1, 1], 21)


def norm_cases(cases):
    """group_norm, instance_norm and layer_norm."""

    def case(op, name, shape, attributes={}, vectors=2, mean=0.0, deviation=1.0):
        g = generator(f"{op} {name}")
        input = mean + deviation * torch.randn(shape, generator=g)
        weight, bias = (1 + 0.3 * torch.randn(shape[1], generator=g) for _ in range(2))
        cases.add(op, name, attributes, input=input, weight=weight if vectors > 0 else None,
                  bias=bias if vectors > 1 else None)  # fmt: skip

    for op, attributes in (
        ("group_norm", lambda groups: {"num_groups": groups}),
        ("instance_norm", lambda groups: {}),
        ("layer_norm", lambda groups: {}),
    ):
        case(op, "odd", [1, 6, 5, 7], attributes(3))
        case(op, "batch3", [3, 10, 3, 7], {**attributes(2), "eps": 0.001})
        case(op, "aligned", [2, 16, 4, 4], attributes(4))
        case(op, "large", [1, 14, 19, 23], attributes(2))
        case(op, "no_bias", [2, 9, 4, 3], attributes(3), vectors=1)
        case(op, "plain", [2, 7, 4, 5], attributes(1), vectors=0)
        case(op, "far_mean", [1, 6, 6, 5], attributes(2), mean=30.0)
        case(op, "small_variance", [1, 12, 3, 5], attributes(4), deviation=0.01)
    case("group_norm", "every_channel", [1, 5, 3, 3], {"num_groups": 5})
    case("group_norm", "vectors", [3, 26, 1, 1], {"num_groups": 2})
    case("layer_norm", "two_channels", [1, 2, 3, 3])
    case("layer_norm", "wide", [1, 301, 2, 1])


def reduction_cases(cases):
    """mean, sum, amax, amin and var over dimensions."""

    def normal(name, shape):
        return torch.randn(shape, generator=generator(name))

    for op in ("mean", "sum", "amax", "amin"):
        for name, shape, dim in [
            ("channels", [2, 7, 3, 5], [1]),
            ("one_channel", [3, 1, 4, 3], [1]),
            ("rows", [3, 6, 5, 7], [2]),
            ("columns", [2, 13, 3, 300], [3]),
            ("pixels", [3, 5, 17, 19], [2, 3]),
            ("all", [2, 9, 18, 15], [1, 2, 3]),
            ("channels_and_columns", [3, 6, 4, 5], [1, 3]),
        ]:
            cases.add(op, f"of_{name}", {"dim": dim}, input=normal(f"{op} of {name}", shape))
    for name, shape, dim, attributes in [
        ("channels", [2, 7, 3, 5], [1], {}),
        ("rows", [3, 6, 5, 7], [2], {"correction": 0}),
        ("columns", [2, 13, 3, 300], [3], {}),
        ("pixels", [3, 5, 17, 19], [2, 3], {"correction": 0}),
        ("all", [2, 9, 8, 15], [1, 2, 3], {"correction": 3}),
        ("channels_and_columns", [3, 6, 4, 5], [1, 3], {}),
        ("one_value", [2, 3, 1, 2], [2], {"correction": 0}),
    ]:
        input = 2 + normal(f"var of {name}", shape)
        cases.add("var", f"of_{name}", {"dim": dim, **attributes}, input=input)
    values = [0.0, float("inf"), float("nan"), -1.0, float("-inf"), -2.0, 3.0, -0.0]
    for op in ("amax", "amin"):
        for dim in (1, 2, 3):
            cases.add(op, f"edges{dim}", {"dim": [dim]}, input=torch.tensor(values).view(1, 2, 2, 2))


def arithmetic_cases(cases):
    """Operations of two tensors, with sizes of 1 too, and where."""

    def case(op, name, a, b):
        g = generator(f"{op} {name}")
        a, b = torch.randn(a, generator=g), torch.randn(b, generator=g)
        if op in COMPARISONS:
            # Some are equal.
            a, b = a.round(), b.round()
        cases.add(op, name, {}, input=a, other=b)

    for op in ("sub", "mul", "div", "maximum", "minimum", *COMPARISONS):
        case(op, "one", [1, 1, 1, 1], [1, 1, 1, 1])
        case(op, "odd", [1, 3, 5, 7], [1, 3, 5, 7])
        case(op, "batch3", [3, 8, 3, 4], [3, 8, 3, 4])
    for op in ("add", "sub", "mul", "div", "maximum", "minimum", *COMPARISONS):
        case(op, "a_value_a_channel", [2, 6, 5, 4], [2, 6, 1, 1])
        case(op, "a_value_a_channel_of_all", [1, 5, 1, 1], [3, 5, 4, 3])
        case(op, "a_value_a_pixel", [2, 1, 4, 5], [2, 7, 4, 5])
        case(op, "one_image_of_all", [3, 6, 4, 3], [1, 6, 4, 3])
        case(op, "one_value", [2, 5, 3, 3], [1, 1, 1, 1])
        case(op, "rows_and_columns", [1, 5, 4, 1], [2, 1, 1, 6])

    edges = torch.tensor([0.0, -0.0, 1.0, -2.0, float("inf"), float("-inf"), float("nan")])
    a, b = edges.view(1, 1, 7, 1).expand(1, 1, 7, 7), edges.view(1, 1, 1, 7).expand(1, 1, 7, 7)
    for op in ("div", "maximum", "minimum", *COMPARISONS):
        cases.add(op, "edges", {}, input=a.clone(), other=b.clone())

    for name, condition, a, b in [
        ("odd", [1, 3, 5, 7], [1, 3, 5, 7], [1, 3, 5, 7]),
        ("batch3", [3, 7, 3, 4], [3, 7, 3, 4], [3, 7, 3, 4]),
        ("one_value", [2, 6, 3, 5], [2, 6, 3, 5], [1, 1, 1, 1]),
        ("a_pixel", [2, 1, 4, 5], [2, 5, 4, 5], [1, 5, 1, 1]),
        ("columns", [1, 1, 1, 6], [3, 5, 2, 1], [3, 1, 2, 6]),
    ]:
        g = generator(f"where {name}")
        condition = torch.randn(condition, generator=g).clamp(min=0)
        a, b = torch.randn(a, generator=g), torch.randn(b, generator=g)
        cases.add("where", name, {}, condition=condition, input=a, other=b)
    condition = torch.tensor([0.0, 1.0, float("nan"), -0.0]).view(1, 4, 1, 1)
    number, nan = torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), float("nan"))
    cases.add("where", "nan", {}, condition=condition, input=number, other=nan)
    tensors = {"condition": condition.clone(), "input": nan.clone(), "other": number.clone()}
    cases.add("where", "nan_first", {}, **tensors)


def layout_cases(cases):
    """mean, cat, pad and pixel_shuffle."""

    def normal(name, shape):
        return torch.randn(shape, generator=generator(name))

    for name, shape in {
        "one": [1, 1, 1, 1],
        "7x7": [1, 13, 7, 7],
        "batch3": [3, 8, 5, 3],
        "one_row": [1, 5, 1, 300],
        "one_column": [2, 6, 300, 1],
        "long": [1, 3, 61, 67],
    }.items():
        cases.add("mean", name, {}, input=normal(f"mean {name}", shape))

    for name, channels, (n, h, w) in [
        ("one", [3], (1, 2, 3)),
        ("two", [5, 3], (1, 4, 5)),
        ("aligned", [8, 4, 6], (2, 3, 4)),
        ("five", [1, 2, 1, 3, 5], (3, 3, 2)),
        ("eight", [3, 1, 4, 1, 5, 9, 2, 6], (2, 3, 3)),
        ("thirty", [1 + i % 3 for i in range(30)], (1, 2, 3)),
    ]:
        inputs = {
            f"input{i}": normal(f"cat {name} {i}", [n, c, h, w]) for i, c in enumerate(channels)
        }
        cases.add("cat", name, {}, **inputs)

    for name, shape, padding, more in [
        ("nothing", [1, 3, 2, 3], [0, 0, 0, 0], {}),
        ("zeros", [1, 5, 3, 4], [1, 2, 3, 0], {}),
        ("value", [3, 6, 4, 3], [0, 3, 1, 2], {"value": -0.3}),
        ("reflect", [2, 5, 5, 4], [3, 1, 2, 4], {"mode": "reflect"}),
        ("reflect_left", [1, 4, 3, 6], [5, 0, 0, 0], {"mode": "reflect"}),
        ("replicate", [3, 7, 2, 3], [4, 1, 0, 5], {"mode": "replicate"}),
        ("circular", [2, 5, 4, 3], [3, 1, 2, 4], {"mode": "circular"}),
        ("circular_columns", [3, 6, 4, 5], [2, 5, 0, 0], {"mode": "circular"}),
        ("negative", [2, 5, 6, 7], [-1, -2, -3, 0], {}),
        ("negative_value", [1, 6, 5, 4], [-1, 2, 3, -2], {"value": 1.7}),
        ("negative_reflect", [1, 6, 4, 6], [-2, 3, 2, -1], {"mode": "reflect"}),
        ("negative_replicate", [2, 3, 4, 5], [-1, 2, 3, -3], {"mode": "replicate"}),
    ]:
        attributes = {"padding": padding, **more}
        cases.add("pad", name, attributes, input=normal(f"pad {name}", shape))

    for name, shape, attributes, like in [
        ("to_start", [2, 5, 4, 7], {}, [7, 9]),
        ("to_center", [3, 5, 4, 7], {"align": "center"}, [7, 9]),
        ("to_end", [1, 4, 4, 7], {"align": "end", "value": 0.3}, [7, 9]),
        ("to_smaller_center", [1, 6, 8, 9], {"align": "center"}, [5, 12]),
        ("to_smaller_end", [1, 6, 8, 9], {"align": "end"}, [5, 7]),
        ("multiple", [1, 3, 9, 16], {"multiple": [8, 8]}, None),
        ("multiple_center", [2, 3, 9, 14], {"multiple": [4, 5], "align": "center", "mode": "reflect"}, None),
    ]:  # fmt: skip
        input = normal(f"pad {name}", shape)
        other = None if like is None else torch.zeros([1, 2, *like])
        cases.add("pad", name, attributes, input=input, other=other)

    for name, shape, factor in [
        ("1", [1, 3, 4, 5], 1),
        ("2", [1, 20, 3, 5], 2),
        ("2_aligned", [2, 32, 4, 3], 2),
        ("3_batch3", [3, 9, 3, 2], 3),
        ("4", [1, 80, 2, 3], 4),
    ]:
        attributes = {"upscale_factor": factor}
        cases.add("pixel_shuffle", name, attributes, input=normal(f"pixel_shuffle {name}", shape))


def crop_cases(cases):
    def case(name, input, offset, like):
        g = generator(f"crop {name}")
        input, other = (torch.randn(shape, generator=g) for shape in (input, like))
        cases.add("crop", name, {"offset": offset}, input=input, other=other)

    case("identity", [1, 3, 5, 7], [0, 0], [1, 3, 5, 7])
    case("right_bottom", [1, 5, 6, 8], [0, 0], [1, 5, 5, 7])
    case("5", [1, 7, 13, 14], [5, 5], [1, 7, 4, 6])
    case("9", [1, 5, 21, 19], [9, 9], [1, 5, 5, 3])
    case("31", [1, 1, 47, 39], [31, 31], [1, 1, 11, 7])
    case("asymmetric", [1, 6, 9, 11], [1, 4], [1, 2, 5, 6])
    case("to_end", [1, 3, 8, 9], [3, 2], [1, 3, 5, 7])
    case("to_1x1", [1, 5, 4, 5], [2, 3], [1, 1, 1, 1])
    case("rows_only", [1, 3, 9, 5], [4, 0], [1, 3, 3, 5])
    case("batch3", [3, 5, 8, 7], [2, 1], [3, 1, 5, 4])
    # The differences are 0 to 7.
    for i in range(4):
        like = [1, 2, 9 - 2 * i, 9 - 2 * i]
        case(f"center{i}", [1, 3, 9, 10], "center", like)
        case(f"center_round{i}", [1, 3, 9, 10], "center_round", like)


def gather_cases(cases):
    """slice, channel_shuffle, repeat and flip."""

    def add(op, name, shape, **attributes):
        input = torch.randn(shape, generator=generator(f"{op} {name}"))
        cases.add(op, name, attributes, input=input)

    add("slice", "channels", [2, 13, 3, 5], dim=1, start=3, end=10)
    add("slice", "channels_aligned", [1, 14, 4, 3], dim=1, start=4, end=9)
    add("slice", "one_channel", [3, 6, 2, 3], dim=1, start=5)
    add("slice", "channels_step3", [1, 11, 3, 4], dim=1, start=1, step=3)
    add("slice", "last_channels", [1, 9, 3, 4], dim=1, start=-5, end=-1)
    add("slice", "rows", [2, 5, 9, 4], dim=2, start=2, end=7)
    add("slice", "rows_step2", [3, 6, 9, 4], dim=2, start=1, step=2)
    add("slice", "rows_step2_to_end", [1, 3, 8, 4], dim=2, end=100, step=2)
    add("slice", "columns", [1, 5, 4, 9], dim=3, start=-100, end=-2)
    add("slice", "columns_step3", [2, 7, 4, 10], dim=3, start=None, end=None, step=3)
    add("slice", "end_of_64_bits", [1, 3, 2, 5], dim=3, start=2, end=2**63 - 1)

    add("channel_shuffle", "1", [1, 5, 3, 4], groups=1)
    add("channel_shuffle", "2", [2, 10, 3, 5], groups=2)
    add("channel_shuffle", "2_aligned", [1, 24, 4, 3], groups=2)
    add("channel_shuffle", "3_batch3", [3, 9, 2, 3], groups=3)
    add("channel_shuffle", "4", [1, 16, 3, 2], groups=4)
    add("channel_shuffle", "all", [1, 7, 3, 2], groups=7)

    add("repeat", "nothing", [1, 5, 3, 4], repeats=[1, 1, 1])
    add("repeat", "channels", [2, 5, 3, 4], repeats=[3, 1, 1])
    add("repeat", "channels_aligned", [1, 8, 2, 3], repeats=[2, 1, 1])
    add("repeat", "rows", [3, 6, 3, 2], repeats=[1, 3, 1])
    add("repeat", "columns", [1, 3, 2, 5], repeats=[1, 1, 2])
    add("repeat", "one", [2, 1, 1, 1], repeats=[7, 5, 4])

    add("flip", "nothing", [1, 5, 3, 4], dims=[])
    add("flip", "channels", [1, 7, 3, 4], dims=[1])
    add("flip", "rows", [3, 5, 6, 4], dims=[2])
    add("flip", "columns", [2, 3, 4, 7], dims=[3])
    add("flip", "all", [2, 6, 5, 3], dims=[1, 2, 3])


def map_cases(cases):
    """full, linspace, conv1d_channels, pixel_unshuffle and unfold."""

    def add(op, name, shape, weight=None, **attributes):
        g = generator(f"{op} {name}")
        input = torch.randn(shape, generator=g)
        weight = None if weight is None else torch.randn([1, 1, 1, weight], generator=g)
        cases.add(op, name, attributes, input=input, weight=weight)

    add("full", "zeros", [1, 5, 3, 4], channels=3)
    add("full", "ones", [3, 6, 2, 3], channels=1, fill_value=1.0)
    add("full", "third", [2, 3, 5, 7], channels=9, fill_value=1 / 3)
    add("full", "aligned", [1, 1, 4, 3], channels=8, fill_value=-2.5)
    add("full", "one_pixel", [2, 7, 1, 1], channels=5, fill_value=1e-3)

    add("linspace", "rows", [1, 3, 7, 5], dim=2, start=-1.0, end=1.0)
    add("linspace", "columns", [3, 6, 4, 9], dim=3, start=-1.0, end=1.0)
    add("linspace", "one_row", [2, 5, 1, 6], dim=2, start=-0.3, end=1.0)
    add("linspace", "two_columns", [1, 4, 3, 2], dim=3, start=0.1, end=-7.7)
    add("linspace", "wide", [1, 1, 2, 1001], dim=3, start=0.0, end=1.0)

    add("conv1d_channels", "3", [3, 13, 1, 1], 3, padding=1)
    add("conv1d_channels", "5", [1, 8, 1, 1], 5, padding=2)
    add("conv1d_channels", "5_pixels", [2, 10, 3, 4], 5, padding=2)
    add("conv1d_channels", "4_no_padding", [1, 9, 2, 3], 4)
    add("conv1d_channels", "7_of_3", [2, 3, 2, 1], 7, padding=5)
    add("conv1d_channels", "1", [1, 6, 3, 2], 1)

    add("pixel_unshuffle", "1", [1, 3, 4, 5], downscale_factor=1)
    add("pixel_unshuffle", "2", [1, 5, 6, 10], downscale_factor=2)
    add("pixel_unshuffle", "2_aligned", [2, 8, 4, 6], downscale_factor=2)
    add("pixel_unshuffle", "3_batch3", [3, 1, 6, 9], downscale_factor=3)
    add("pixel_unshuffle", "4", [1, 7, 8, 4], downscale_factor=4)

    add("unfold", "3x3", [2, 5, 4, 6], kernel_size=3, padding=1)
    add("unfold", "2x3_dilated", [1, 4, 9, 7], kernel_size=[2, 3], dilation=[2, 1],
        padding=[0, 2], stride=[2, 3])  # fmt: skip
    add("unfold", "1x1_stride2", [3, 6, 3, 5], kernel_size=1, stride=2)
    add("unfold", "4x4_stride4", [1, 3, 8, 12], kernel_size=4, stride=4)
    add("unfold", "to_one", [2, 3, 3, 5], kernel_size=[3, 5])


def interpolate_cases(cases):
    def add(name, input, other=None, **attributes):
        # One seed for both values of align_corners.
        seed = name.removesuffix("_aligned").removesuffix("_half_pixel").removesuffix("_nearest")
        input = torch.randn(input, generator=generator(f"interpolate {seed}"))
        if other is not None:
            other = torch.zeros(other)
        cases.add("interpolate", name, attributes, input=input, other=other)

    def case(name, input, size):
        bilinear = {"size": list(size), "mode": "bilinear"}
        add(f"{name}_half_pixel", input, **bilinear, align_corners=False)
        add(f"{name}_aligned", input, **bilinear, align_corners=True)
        add(f"{name}_nearest", input, size=list(size))

    case("up2", [1, 3, 5, 7], (10, 14))
    case("up8", [1, 5, 3, 2], (24, 16))
    case("up_odd", [1, 3, 5, 6], (13, 17))
    case("down2", [1, 5, 8, 10], (4, 5))
    case("down_odd", [1, 3, 17, 19], (5, 7))
    case("down_far", [1, 1, 31, 41], (3, 2))
    case("up_and_down", [1, 3, 4, 15], (9, 4))
    case("to_1x1", [1, 5, 6, 7], (1, 1))
    case("from_1x1", [1, 3, 1, 1], (4, 5))
    case("1x1_to_1x1", [1, 7, 1, 1], (1, 1))
    case("to_one_row", [1, 3, 5, 6], (1, 11))
    case("from_one_column", [1, 3, 5, 1], (8, 3))
    case("identity", [1, 5, 6, 7], (6, 7))
    case("one_more", [1, 3, 6, 7], (7, 8))
    case("batch3", [3, 7, 4, 5], (7, 9))
    case("21_classes", [1, 21, 2, 3], (7, 8))

    # The rounding of s and of y · s decides which pixel is nearest.
    add("rounded_nearest", [1, 3, 2, 1], size=[82, 41])
    add("rounded_down_nearest", [1, 1, 61, 47], size=[31, 29])

    # Positions follow the scale factors, unless the size stays.
    for mode in ("nearest", "bilinear"):
        for factor in (2, 0.5, 1.7, 1.05, [0.37, 2.3], [3.14159, 1.25]):
            name = f"by_{factor}_{mode}".replace(", ", "_").strip("[]")
            add(name, [1, 5, 8, 11], scale_factor=factor, mode=mode)
        add(f"recomputed_{mode}", [1, 3, 7, 5], scale_factor=1.7, mode=mode,
            recompute_scale_factor=True)  # fmt: skip
        add(f"like_{mode}", [3, 5, 4, 7], [1, 2, 9, 6], mode=mode)
    for mode in ("nearest-exact", "bicubic"):
        for name, input, size in [
            ("up2", [1, 3, 5, 7], [10, 14]),
            ("up_odd", [2, 5, 5, 6], [13, 17]),
            ("down2", [1, 5, 8, 10], [4, 5]),
            ("down_odd", [3, 3, 17, 19], [5, 7]),
            ("to_1x1", [1, 5, 6, 7], [1, 1]),
            ("from_1x1", [1, 3, 1, 1], [4, 5]),
            ("identity", [1, 5, 6, 7], [6, 7]),
            ("wide", [1, 1, 2, 1000], [3, 999]),
        ]:
            add(f"{name}_{mode}", input, size=size, mode=mode)
        for factor in (2, 0.5, 1.7, 1.1, [0.37, 2.3]):
            name = f"by_{factor}_{mode}".replace(", ", "_").strip("[]")
            add(name, [1, 5, 8, 11], scale_factor=factor, mode=mode)
        add(f"like_{mode}", [3, 5, 4, 7], [1, 2, 9, 6], mode=mode)
    add("bicubic_aligned", [2, 5, 6, 7], size=[13, 4], mode="bicubic", align_corners=True)
    add("bicubic_aligned_to_1", [1, 3, 6, 7], size=[1, 9], mode="bicubic", align_corners=True)

    for mode in ("bilinear", "bicubic"):
        smooth = {"mode": mode, "antialias": True}
        add(f"antialiased_down_{mode}", [2, 5, 17, 19], size=[5, 7], **smooth)
        add(f"antialiased_far_{mode}", [1, 3, 61, 83], size=[3, 2], **smooth)
        add(f"antialiased_up_{mode}", [1, 4, 5, 6], size=[13, 17], **smooth)
        add(f"antialiased_both_{mode}", [1, 3, 4, 15], size=[9, 4], **smooth)
        add(f"antialiased_rows_{mode}", [3, 6, 9, 7], size=[4, 7], **smooth)
        add(f"antialiased_columns_{mode}", [1, 6, 9, 7], size=[9, 4], **smooth)
        add(f"antialiased_identity_{mode}", [1, 3, 4, 5], size=[4, 5], **smooth)
        add(f"antialiased_to_1x1_{mode}", [1, 5, 6, 7], size=[1, 1], **smooth)
        add(f"antialiased_aligned_{mode}", [1, 5, 11, 9], size=[4, 5], align_corners=True, **smooth)
        add(f"antialiased_by_0.3_{mode}", [1, 5, 18, 11], scale_factor=[0.3, 0.45], **smooth)
        add(f"antialiased_by_1.05_{mode}", [1, 3, 8, 9], scale_factor=[1.05, 0.5], **smooth)

    add("by_2.3_bilinear_aligned", [1, 3, 5, 7], scale_factor=2.3, mode="bilinear",
        align_corners=True)  # fmt: skip


def class_cases(cases):
    """softmax, log_softmax and argmax over the classes, dimension 1, both softmaxes over pixels, the labels of one channel."""

    def normal(name, shape, deviation=3.0):
        return torch.randn(shape, generator=generator(name)) * deviation

    shapes = {
        "1_class": [1, 1, 3, 5],
        "2_classes": [1, 2, 5, 7],
        "5_classes": [1, 5, 7, 3],
        "12_classes_batch3": [3, 12, 3, 5],
        "21_classes": [1, 21, 5, 9],
        "150_classes": [1, 150, 2, 3],
        "one_pixel": [1, 7, 1, 1],
    }
    for name, shape in shapes.items():
        cases.add("softmax", name, {}, input=normal(f"softmax {name}", shape))
        cases.add("log_softmax", name, {}, input=normal(f"log_softmax {name}", shape))
        cases.add("argmax", name, {}, input=normal(f"argmax {name}", shape))

    for op in ("softmax", "log_softmax"):
        # exp of these scores overflows or vanishes unless the maximum is subtracted first.
        for name, offset in [("large", 1000.0), ("very_negative", -1000.0)]:
            cases.add(op, name, {}, input=normal(f"{op} {name}", [1, 5, 3, 7]) + offset)
        cases.add(op, "far_apart", {}, input=normal(f"{op} far apart", [1, 6, 4, 5], 100.0))
        cases.add(op, "equal", {}, input=torch.full([1, 7, 2, 3], -4.25))
        for name, shape, deviation in [
            ("odd", [1, 5, 3, 7], 3.0),
            ("batch3", [3, 6, 4, 5], 3.0),
            ("large", [1, 3, 23, 29], 3.0),
            ("far_apart", [2, 7, 5, 4], 100.0),
            ("one_pixel", [2, 5, 1, 1], 3.0),
        ]:
            input = normal(f"{op} pixels {name}", shape, deviation)
            cases.add(op, f"pixels_{name}", {"dim": [2, 3]}, input=input)

    # Equal scores: the lower class wins.
    levels = torch.randint(-2, 2, [3, 5, 9, 7], generator=generator("argmax ties"))
    cases.add("argmax", "ties", {}, input=levels.float())
    levels = torch.randint(0, 3, [1, 21, 8, 11], generator=generator("argmax ties 21"))
    cases.add("argmax", "ties_21_classes", {}, input=levels.float() - 7)
    cases.add("argmax", "all_equal", {}, input=torch.full([1, 7, 3, 5], 0.5))
    cases.add("argmax", "all_zero", {}, input=torch.zeros([1, 5, 3, 3]))
    zeros = torch.tensor([-0.0, 0.0, 0.0, -0.0]).view(1, 2, 1, 2)
    cases.add("argmax", "signed_zeros", {}, input=zeros)
    cases.add("argmax", "negative", {}, input=-50 - normal("argmax negative", [1, 6, 5, 5]).abs())
    last = normal("argmax last of 255", [1, 255, 2, 3])
    last[:, 254, 0] = 100.0
    cases.add("argmax", "255_classes", {}, input=last)

    for name, shape, threshold in [
        ("logit", [1, 1, 5, 7], 0.0),
        ("probability_batch3", [3, 1, 3, 5], 0.75),
        ("negative", [2, 1, 4, 9], -1.25),
        ("one_pixel", [1, 1, 1, 1], -2.5),
    ]:
        scores = normal(f"binarize {name}", shape, 1.0)
        cases.add("binarize", name, {"threshold": threshold}, input=scores)
    levels = torch.randint(-2, 3, [1, 1, 9, 7], generator=generator("binarize ties"))
    cases.add("binarize", "ties", {"threshold": 1.0}, input=levels.float())


def attention_cases(cases):
    def case(name, size, keys, heads, d, dv, deviation=1.0, batch=1, **attributes):
        g = generator(f"attention {name}")
        cases.add(
            "attention",
            name,
            {"num_heads": heads, **attributes},
            query=deviation * torch.randn([batch, heads * d, *size], generator=g),
            key=torch.randn([batch, heads * d, *keys], generator=g),
            value=torch.randn([batch, heads * dv, *keys], generator=g),
        )

    case("one_head", [5, 7], [5, 7], 1, 4, 8)
    case("odd_channels", [3, 19], [6, 5], 1, 5, 7)
    case("heads", [6, 5], [6, 5], 2, 8, 12, batch=3)
    case("heads_of_3_channels", [5, 4], [3, 4], 3, 3, 5, batch=2)
    case("heads_of_1_channel", [2, 9], [7, 3], 5, 1, 1)
    case("reduced_keys", [9, 10], [3, 4], 2, 16, 16)
    case("object_regions", [8, 9], [19, 1], 1, 12, 24)
    case("one_key", [4, 3], [1, 1], 1, 6, 6)
    case("one_query", [1, 1], [11, 9], 1, 6, 6)
    case("scale_1", [6, 7], [6, 7], 1, 6, 10, scale=1.0)
    case("far_apart", [5, 6], [5, 6], 1, 8, 8, deviation=30.0)
    case("negative_scale", [4, 5], [4, 5], 2, 4, 4, scale=-0.5)
    case("many_value_channels", [4, 4], [4, 5], 1, 8, 140)
    case("64x64", [64, 64], [64, 64], 1, 4, 4)
    case("pairs", [5, 7], [5, 7], 1, 6, 9, batch=2, scale=1.0, dim=[2, 3])
    case("pairs_far_apart", [16, 18], [4, 6], 1, 8, 5, deviation=8.0, scale=1.0, dim=[2, 3])

    # All keys are equal: the mean of the values.
    g = generator("attention equal keys")
    cases.add(
        "attention",
        "equal_keys",
        {},
        query=torch.randn([1, 4, 3, 3], generator=g),
        key=torch.randn([1, 4, 1, 1], generator=g).expand(1, 4, 5, 3),
        value=torch.randn([1, 6, 5, 3], generator=g),
    )


def matrix_cases(cases):
    def normal(name, shape):
        return torch.randn(shape, generator=generator(name))

    for name, a, b, size in (
        ("square", [1, 6], [1, 6], [5, 7]),
        ("odd_channels", [2, 5], [2, 9], [4, 3]),
        ("one_pixel", [1, 13], [1, 3], [1, 1]),
        ("many_channels", [1, 70], [1, 37], [3, 4]),
        ("many_pixels", [1, 3], [1, 5], [61, 53]),
        ("one_image_for_all", [1, 4], [3, 6], [6, 5]),
    ):
        cases.add(
            "gram",
            name,
            {},
            a=normal(f"gram {name} a", [*a, *size]),
            b=normal(f"gram {name} b", [*b, *size]),
        )
    for name, input, matrix in (
        ("square", [1, 6, 5, 7], [1, 6, 6, 1]),
        ("odd_channels", [2, 5, 4, 3], [2, 5, 9, 1]),
        ("one_pixel", [1, 13, 1, 1], [1, 13, 3, 1]),
        ("to_one", [1, 7, 17, 18], [1, 7, 1, 1]),
        ("many_channels", [1, 130, 3, 4], [1, 130, 21, 1]),
        ("one_matrix_for_all", [3, 8, 3, 5], [1, 8, 6, 1]),
    ):
        cases.add(
            "mix_channels",
            name,
            {},
            input=normal(f"mix_channels {name}", input),
            matrix=normal(f"mix_channels {name} matrix", matrix),
        )
    for shape in ([1, 5, 7, 1], [2, 4, 8, 1], [1, 1, 9, 1], [1, 13, 1, 1], [3, 21, 6, 1]):
        name = "x".join(map(str, shape))
        cases.add("transpose_channels", name, {}, input=normal(f"transpose_channels {name}", shape))
    for dims in ([0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3], [0, -1, -2, -3]):
        name = "_".join(map(str, dims))
        cases.add("permute", name, {"dims": dims}, input=normal(f"permute {name}", [2, 5, 3, 6]))
    for input, shape in (
        ([1, 5, 3, 4], [12, 5, 1]),
        ([2, 6, 3, 5], [-1, 1, 1]),
        ([1, 6, 4, 5], [6, -1, 1]),
        ([3, 24, 1, 1], [2, 3, 4]),
        ([1, 7, 2, 6], [7, 6, 2]),
    ):
        name = "_".join(map(str, [*input, "to", *shape]))
        cases.add("reshape", name, {"shape": shape}, input=normal(f"reshape {name}", input))
    like = {"input": normal("reshape like", [2, 3, 4, 5]), "other": torch.zeros(2, 1, 2, 6)}
    cases.add("reshape", "like", {"shape": [5, -1, -1]}, **like)


def preprocess_cases(cases):
    torchvision = {
        "channels": "rgb",
        "range": 1.0,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    caffe = {
        "channels": "bgr",
        "range": 255.0,
        "mean": [104.00699, 116.66877, 122.67892],
        "std": [1.0, 1.0, 1.0],
    }

    def case(name, picture, size, network):
        g = generator(f"preprocess {name}")
        input = torch.randint(0, 256, [*picture, 3], dtype=torch.uint8, generator=g)
        cases.add("preprocess", name, {"size": list(size), **network}, input=input)

    case("same_size", (11, 13), (11, 13), torchvision)
    case("same_size_caffe", (13, 10), (13, 10), caffe)
    case("down_1.56", (50, 36), (32, 23), torchvision)
    case("down_1.56_caffe", (18, 25), (12, 16), caffe)
    case("down_4.3", (43, 86), (10, 20), torchvision)
    case("down_4.3_caffe", (43, 30), (10, 7), caffe)
    case("down_by_a_little", (14, 21), (13, 20), torchvision)
    case("down_2", (24, 32), (12, 16), caffe)
    case("up_2", (9, 7), (18, 14), torchvision)
    case("up_odd_caffe", (10, 7), (23, 19), caffe)
    case("to_1x1", (17, 12), (1, 1), torchvision)
    case("from_1x1", (1, 1), (5, 7), caffe)
    case("1x1", (1, 1), (1, 1), torchvision)
    case("down_and_up", (40, 9), (13, 21), torchvision)
    case("up_and_down_caffe", (9, 40), (21, 13), caffe)
    case("one_row", (1, 30), (3, 11), torchvision)
    case("rgb_0_255_with_std", (15, 14), (9, 10), {
        "channels": "rgb", "range": 255.0, "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
    })  # fmt: skip
    case("bgr_0_1_with_std", (9, 10), (15, 14), {
        "channels": "bgr", "range": 1.0, "mean": [0.406, 0.456, 0.485],
        "std": [0.225, 0.224, 0.229],
    })  # fmt: skip


def make_ops(output):
    cases = OpCases()
    conv2d_cases(cases)
    conv_transpose2d_cases(cases)
    max_pool2d_cases(cases)
    dilated_max_pool2d_cases(cases)
    indices_cases(cases)
    avg_pool2d_cases(cases)
    adaptive_pool_cases(cases)
    local_response_norm_cases(cases)
    elementwise_cases(cases)
    function_cases(cases)
    layer_cases(cases)
    norm_cases(cases)
    reduction_cases(cases)
    arithmetic_cases(cases)
    layout_cases(cases)
    crop_cases(cases)
    gather_cases(cases)
    map_cases(cases)
    interpolate_cases(cases)
    class_cases(cases)
    attention_cases(cases)
    matrix_cases(cases)
    preprocess_cases(cases)
    cases.save(output / "ops.safetensors")


# --- models ---------------------------------------------------------------------------------------

# Few multiples of 4, as in a pruned network.
WIDTHS = (4, 6, 7, 9, 10)
FC = 14

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}


@dataclass(frozen=True)
class ModelCase:
    architecture: str
    geometry: str
    classes: int
    # (batch, h, w); the inner nodes of the last input are saved too.
    inputs: list[tuple[int, int, int]]
    # Deviation of the noise on the bilinear transposed convs; None leaves these convs out of the file.
    perturbation: float | None
    dtype: str = "f32"

    @property
    def name(self):
        suffix = "" if self.dtype == "f32" else f".{self.dtype}"
        return f"{self.architecture}-{self.geometry}{suffix}"


MODELS = [
    ModelCase("fcn32s", "caffe", 5, [(1, 1, 1), (3, 9, 14), (1, 33, 47)], None),
    ModelCase("fcn32s", "caffe", 5, [(1, 9, 14)], None, "f16"),
    ModelCase("fcn32s", "caffe", 5, [(1, 9, 14)], None, "bf16"),
    ModelCase("fcn32s", "caffe", 5, [(1, 9, 14)], None, "f64"),
    ModelCase("fcn32s", "floor", 3, [(1, 26, 27), (1, 33, 47)], 0.05),
    ModelCase("fcn32s", "same", 2, [(1, 1, 1), (1, 33, 47)], 0.05),
    ModelCase("fcn16s", "caffe", 3, [(1, 1, 1), (1, 33, 47)], 0.05),
    ModelCase("fcn16s", "floor", 3, [(3, 26, 27), (1, 33, 47)], 0.05),
    ModelCase("fcn16s", "same", 3, [(3, 17, 20), (1, 33, 47)], 0.05),
    ModelCase("fcn8s", "caffe", 5, [(1, 1, 1), (3, 9, 14), (1, 97, 61)], 0.05),
    ModelCase("fcn8s", "floor", 5, [(1, 26, 27), (1, 33, 47)], 0.0),
    ModelCase("fcn8s", "same", 5, [(1, 1, 1), (3, 9, 14), (1, 64, 64)], 0.05),
    ModelCase("fcn8s-atonce", "caffe", 7, [(1, 9, 14), (1, 33, 47)], 0.05),
]


def make_model(case, output):
    """Writes the model's file; returns its expected tensors and its entry in the list of models."""
    model = fcn.build(case.architecture, case.geometry, WIDTHS, FC, case.classes).double()
    seed = zlib.crc32(f"{case.architecture}-{case.geometry}".encode())
    fcn.initialize(model, seed, case.perturbation or 0.0)
    images = [
        3 * torch.randn(n, 3, h, w, generator=generator(f"{case.architecture} {n}x{h}x{w}"))
        for n, h, w in case.inputs
    ]

    # A random network prefers one class everywhere; balanced scores make the labels vary.
    model.score_fr.bias.sub_(model(images[-1].double()).mean((0, 2, 3)))

    upsampling = {k: v for k, v in model.state_dict().items() if k.startswith("upscore")}
    left_out = {k: v.clone() for k, v in upsampling.items()} if case.perturbation is None else {}

    # The outputs use the weights as rounded for the file, and exact bilinear ones for those left out.
    model.to(DTYPES[case.dtype])
    weights = {name: value for name, value in model.state_dict().items() if name not in left_out}
    file = f"{case.name}.safetensors"
    save_file(weights, output / file, metadata=fcn.metadata(case.architecture, case.geometry))
    model.double().load_state_dict(left_out, strict=False)

    names = model.names
    nodes = ["pool3", "pool4", names.get("fc7", "fc7"), "score_fr"]
    tensors = {}
    for (_, h, w), image in zip(case.inputs, images, strict=True):
        key = f"{case.name}/{h}x{w}"
        recorded = {}
        scores = model(image.double(), recorded)
        tensors[f"{key}/input"] = image
        tensors[f"{key}/output"] = scores.float().contiguous()
    for node in nodes:
        tensors[f"{key}/node:{node}"] = recorded[node].float()

    entry = {
        "name": case.name,
        "file": file,
        "architecture": case.architecture,
        "geometry": case.geometry,
        "inputs": [f"{h}x{w}" for _, h, w in case.inputs],
        "nodes": {key.split("/")[1]: nodes},
    }
    return tensors, entry


@dataclass(frozen=True)
class FamilyCase:
    """A network of family.py, recognised by its tensor names alone."""

    architecture: str
    width: int
    classes: int
    inputs: list[tuple[int, int, int]]


FAMILY = [
    FamilyCase("fcn_resnet50", 3, 5, [(1, 1, 1), (2, 33, 47), (1, 64, 59)]),
    FamilyCase("fcn_resnet101", 2, 3, [(1, 33, 47)]),
    FamilyCase("fcn_resnet18", 3, 4, [(1, 32, 64), (2, 64, 32)]),
    FamilyCase("fcn-alexnet", 4, 5, [(1, 1, 1), (3, 9, 14), (1, 97, 61)]),
    FamilyCase("vgg", 2, 6, [(1, 256, 224)]),
]


def make_family(case, output):
    model = family.build(case.architecture, case.width, case.classes, FC).double()
    family.initialize(model, zlib.crc32(case.architecture.encode()))
    model.float()
    file = f"{case.architecture}.safetensors"
    save_file(model.state_dict(), output / file)
    model.double()
    tensors = {}
    for n, h, w in case.inputs:
        key = f"{case.architecture}/{h}x{w}"
        name = f"{case.architecture} {n}x{h}x{w}"
        image = torch.randn(n, 3, h, w, generator=generator(name))
        tensors[f"{key}/input"] = image
        tensors[f"{key}/output"] = model(image.double()).float().contiguous()
    entry = {
        "name": case.architecture,
        "file": file,
        "architecture": case.architecture,
        "geometry": None,
        "inputs": [f"{h}x{w}" for _, h, w in case.inputs],
        "nodes": {},
    }
    return tensors, entry


def make_models(output):
    tensors, entries = {}, []
    for case in FAMILY:
        more, entry = make_family(case, output)
        tensors.update(more)
        entries.append(entry)
    for case in MODELS:
        more, entry = make_model(case, output)
        tensors.update(more)
        entries.append(entry)
    save_file(tensors, output / "models.safetensors", metadata={"models": json.dumps(entries)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="folder (default: this one)")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)

    # One thread fixes the order of sums, and so the last bits, on every machine.
    torch.set_num_threads(1)
    make_ops(output)
    make_models(output)


if __name__ == "__main__":
    main()
