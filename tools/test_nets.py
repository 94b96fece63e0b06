"""Networks for tools/test_export.py, each with its test sizes; the first is the example's. One size is a fixed size."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.models import resnet18, shufflenet_v2_x0_5, vgg11
from torchvision.models.segmentation import (deeplabv3_resnet50, fcn_resnet50, fcn_resnet101,
                                             lraspp_mobilenet_v3_large)

import test_transformers


def random_statistics(module):
    """Gives every batch norm random mean, variance, weight and bias."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            with torch.no_grad():
                part.running_mean.normal_(0.0, 0.3)
                part.running_var.uniform_(0.5, 2.0)
                if part.affine:
                    part.weight.uniform_(0.6, 1.4)
                    part.bias.normal_(0.0, 0.2)
    return module


def double_conv(into, out):
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
                         nn.Conv2d(out, out, 3, padding=1), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """A U-Net; `mode` is how it handles odd sizes."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode
        self.down1, self.down2, self.down3 = double_conv(3, 6), double_conv(6, 10), double_conv(10, 12)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = nn.ConvTranspose2d(12, 10, 2, 2), nn.ConvTranspose2d(10, 6, 2, 2)
        self.left2, self.left1 = double_conv(20, 10), double_conv(12, 6)
        self.score = nn.Conv2d(6, 5, 1)

    def join(self, skip, x, up):
        if self.mode == "output_size":
            return torch.cat([skip, up(x, output_size=skip.size())], dim=1)
        x = up(x)
        if self.mode == "pad":  # as in milesial/Pytorch-UNet
            dy, dx = skip.size()[2] - x.size()[2], skip.size()[3] - x.size()[3]
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        if self.mode == "resize" and x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        if self.mode == "crop":
            skip = skip[:, :, :x.shape[2], :x.shape[3]]
        return torch.cat([skip, x], dim=1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(self.pool(one))
        three = self.down3(self.pool(two))
        x = self.left2(self.join(two, three, self.up2))
        return self.score(self.left1(self.join(one, x, self.up1)))


class SegNet(nn.Module):
    """Max pooling with indices, and unpooling."""

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size
        self.encoder1, self.encoder2 = double_conv(3, 8), double_conv(8, 12)
        self.decoder2, self.decoder1 = double_conv(12, 8), double_conv(8, 5)
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)

    def forward(self, x):
        one = self.encoder1(x)
        x, indices1 = self.pool(one)
        two = self.encoder2(x)
        x, indices2 = F.max_pool2d(two, kernel_size=2, stride=2, return_indices=True)
        sizes = [two.size(), one.size()] if self.output_size else [None, None]
        x = self.decoder2(self.unpool(x, indices2, output_size=sizes[0]))
        return self.decoder1(F.max_unpool2d(x, indices1, 2, 2, output_size=sizes[1]))


class Everything(nn.Module):
    """One of each operation: layers and functional calls, in place or not."""

    def __init__(self):
        super().__init__()
        self.same, self.even = nn.Conv2d(3, 8, 3, padding="same", dilation=2), nn.Conv2d(8, 8, 4, padding="same")
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, groups=2, dilation=(1, 2))
        self.prelu, self.relu6, self.dropout = nn.PReLU(8), nn.ReLU6(inplace=True), nn.Dropout2d()
        self.norm, self.plain_norm = nn.LocalResponseNorm(5, alpha=0.2, k=2.0), nn.BatchNorm2d(8, affine=False, eps=0.01)
        self.linear, self.pixel = nn.Linear(8, 8), nn.PixelShuffle(2)
        self.gamma = nn.Parameter(torch.randn(8))
        self.register_buffer("mean", torch.randn(1, 3, 1, 1))
        self.border = nn.ZeroPad2d((1, 2, 3, 4))

    def forward(self, x):
        size = x.shape[-2:]
        x = (x - self.mean) / 0.5
        x = F.relu_(self.same(x[:, [2, 1, 0]]))
        y = self.mirrored(self.even(x))
        y += x
        y *= 0.5
        y = 1 - (y + 1.5)
        y = self.dropout(self.relu6(self.prelu(y)))
        y = self.plain_norm(self.norm(y) * self.gamma[:, None, None]) - 0.25
        z = self.up(F.local_response_norm(y, 3))
        z = F.elu(F.leaky_relu(z, 0.2), inplace=True) + F.hardswish(z) - F.silu(z) * F.hardsigmoid(z)
        z = torch.cat([torch.sigmoid(z), z.tanh()], 1)
        z = torch.cat(self.pixel(z).split([3, 1], dim=1) * 2, 1)
        z = z * self.linear(z.mean((2, 3)))[:, :, None, None].sigmoid()
        z = z + self.linear(F.adaptive_avg_pool2d(z, 1).flatten(1)).view(-1, 8, 1, 1)
        z = z * self.linear(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        z = self.border(z)[:, :, 1:1 + size[0], 2:2 + size[1]]
        z = z + F.interpolate(y, size=size, mode="nearest") - y.square().mean(1, keepdim=True)
        z = torch.add(z, y, alpha=0.5).clamp(min=-3.0).clamp(max=3.0)
        z = F.avg_pool2d(z[:, :, 1:-1, 2:-3], 3, 2, 1, ceil_mode=True, count_include_pad=False)
        z = F.interpolate(F.pad(z, (1, 0, 2, 1), mode="replicate"), size=size, mode="bilinear", align_corners=False)
        return F.softmax(z[..., ::2, ::2], dim=1)


class Attention(nn.Module):
    """Channels shuffled, unshuffled, weighted by a pooled grid; maps of a fixed size."""

    def __init__(self):
        super().__init__()
        self.stem, self.shuffle = nn.Conv2d(12, 8, 3, 2, 1), nn.ChannelShuffle(4)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.grid = nn.Sequential(nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(48, 8), nn.Sigmoid())
        self.score = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.shuffle(self.stem(self.unshuffle(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)))))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x * self.grid(x).view(n, c, 1, 1).expand_as(x)
        x = x + F.adaptive_avg_pool2d(x, 1).expand(-1, -1, h, w)
        x = torch.cat([x, F.interpolate(F.interpolate(x, size=(7, 9)), size=(h, w))], 1)[:, 4:12]
        return self.score(F.interpolate(x, size=(h * 2, w * 2), mode="bilinear", align_corners=True)),


class Pyramid(nn.Module):
    """PSPNet's pooling, over a trunk that pads its input to a multiple of 8."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.SiLU(), nn.Conv2d(6, 8, 3, 4, 1), nn.Hardswish())
        self.levels = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(8, 2, 1), nn.Tanh()) for n in (1, 2, 3, 6))
        self.score = nn.ConvTranspose2d(16, 5, 16, 8, 4, bias=False)

    def forward(self, x):
        h, w = x.size(2), x.size(3)
        y = self.trunk(F.pad(x, (0, -w % 8, 0, -h % 8)))
        size = (y.size(2), y.size(3))
        y = torch.cat([y] + [F.interpolate(level(y), size, mode="bilinear", align_corners=True) for level in self.levels], 1)
        return {"aux": y, "out": self.score(y)[..., :h, :w]}


class Inner(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)  # refused: cumsum


class Refused(nn.Module):
    """Operations that fullconv does not have."""

    def __init__(self):
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 4, 3), Inner()

    def forward(self, x):
        x = self.inner(self.conv(x))
        x = torch.atan(x)  # refused: atan
        x = F.grid_sample(x, F.affine_grid(torch.eye(2, 3)[None], x.shape, align_corners=False))  # refused: grid_sampler
        return x * x.shape[2]  # refused: mul


class Sized(nn.Module):
    """A convolution, something that takes a size from the picture, a convolution."""

    def __init__(self, something):
        super().__init__()
        self.something = something
        self.first, self.last, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.AvgPool2d(4)
        self.down, self.up = nn.Conv2d(4, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x):
        return self.last(self.something(self, self.first(x)))


def to(x, size):
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def pad_if_odd(_, x):
    h, w = x.shape[2:]
    if h % 2 == 1 or w % 2 == 1:
        x = F.pad(x, (0, w % 2, 0, h % 2))
    return x


def pad_sides_if_odd(net, x):
    h, w = x.shape[2:]
    if h % 2:
        x = F.pad(x, (0, 0, 1, 0))
    if w % 2:
        x = F.pad(x, (1, 0, 0, 0))
    return to(net.up(net.down(x)), (h, w))


def crop_if_larger(net, x):
    y = net.up(net.down(x))
    if y.shape[2] > x.shape[2]:
        y = y[:, :, :-1]
    if y.shape[3] > x.shape[3]:
        y = y[:, :, :, :-1]
    return y + x


def pad_to_multiple(net, x):
    h, w = x.shape[2:]
    high, wide = -h % 32, -w % 32
    y = net.up(net.down(F.pad(x, [wide // 2, wide - wide // 2, high // 2, high - high // 2], mode="reflect")))
    return y[:, :, high // 2:high // 2 + h, wide // 2:wide // 2 + w]


# Sizes taken from the picture: every one follows it.
SIZED = {
    "int": lambda net, x: to(net.pool(x), map(int, x.shape[2:])),
    "half": lambda net, x: to(to(x, (int(x.shape[2] * 0.5), int(x.shape[3] / 2))), x.shape[2:]),
    "ceil": lambda net, x: to(to(x, (math.ceil(x.shape[2] / 8), math.ceil(x.shape[3] / 8))), x.shape[2:]),
    "round": lambda net, x: to(to(x, (round(x.shape[2] * 0.5), round(x.shape[3] * 0.25))), x.shape[2:]),
    "half_up": lambda net, x: to(to(x, (int(x.shape[2] * 0.75 + 0.5), int(x.shape[3] / 8 + 0.5))), x.shape[2:]),
    "tensor": lambda net, x: to(net.pool(x), torch.tensor(x.shape[2:]).tolist()),
    "whole_kernel": lambda net, x: x * F.avg_pool2d(x, x.size()[2:]) + F.max_pool2d(x, x.size()[2:], stride=x.size()[2:]),
    "pad_if_odd": pad_if_odd, "pad_sides_if_odd": pad_sides_if_odd, "crop_if_larger": crop_if_larger,
    "resize_if_different": lambda net, x: (lambda y: y if y.shape == x.shape else to(y, x.shape[2:]))(net.up(net.down(x))) + x,
    "pad_to_multiple": pad_to_multiple,
}

# Operations that depend on the picture's size in a way that no graph has.
DEPENDENT = {
    "number": lambda net, x: x * (x.shape[2] * 0.01),
    "tall": lambda net, x: x * 2 if x.shape[2] > 50 else x * 3,
    "large": lambda net, x: to(F.avg_pool2d(x, 8, 4), x.shape[2:]) if min(x.shape[2:]) >= 32 else x,
    "portrait": lambda net, x: net.down(x) if x.shape[3] > x.shape[2] else net.down(x) * 2,
    "quarter": lambda net, x: to(F.avg_pool2d(x, (x.size(2) // 4, x.size(3) // 4)), x.shape[2:]),
    "value": lambda net, x: x if x.mean() > 0 else -x,
}


class Twice(nn.Module):
    """Gives its input and its double."""

    def forward(self, x):
        return x, 2 * x


class FuseTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)

    def forward(self, coarse, fine):
        return self.up(coarse).narrow(2, 0, fine.shape[2]).narrow(3, 0, fine.shape[3]) + fine


class Skips(nn.Module):
    """Scores of four classes at strides 4 and 2, fused."""

    def __init__(self):
        super().__init__()
        self.fine, self.down = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1)
        self.wide, self.coarse = nn.Conv2d(5, 5, 1), nn.Conv2d(5, 4, 1)
        self.twice, self.fuse = Twice(), FuseTwo()

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(self.wide(self.down(fine)))
        once, double = self.twice(coarse)
        return F.interpolate(self.fuse(once + double, fine), x.shape[2:])


class OneSize(nn.Module):
    """A table of positions for pictures of 32 × 48 only, and a number that depends on the size."""

    def __init__(self):
        super().__init__()
        self.conv, self.position = nn.Conv2d(2, 4, 3, padding=1), nn.Parameter(torch.randn(1, 4, 32, 48))

    def forward(self, x):
        return (self.conv(x) + self.position) / x.shape[2]


class Several(nn.Module):
    """Several results: scores, a dictionary, and labels."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 5, 1), nn.Conv2d(3, 6, 1)

    def forward(self, x):
        return self.one(x), {"aux": self.two(x), "deep": [self.three(x)]}


class WithLabel(nn.Module):
    """The classes of the whole picture beside the scores."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x.mean((2, 3))), self.conv(x)


class Labels(nn.Module):
    """The classes of the pixels in place of their scores."""

    def __init__(self, wide=False):
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 4, 3, padding=1), wide

    def forward(self, x):
        x = self.conv(x).softmax(1).argmax(1)
        return x.unsqueeze(1).float() if self.wide else x


class Norms(nn.Module):
    """Normalisation of every kind, the layer norm also written by hand and over tokens."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)
        self.group, self.instance, self.layer = nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm(8)
        self.untracked = nn.BatchNorm2d(8, track_running_stats=False)
        self.weight, self.bias = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))

    def forward(self, x):
        x = self.untracked(self.instance(self.group(self.stem(x))))
        x = self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        n, c, h, w = x.shape
        x = self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, c, h, w)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)
        x = self.weight[:, None, None] * x + self.bias[:, None, None]
        return self.head(F.normalize(x, dim=1) + x / (x.std((2, 3), keepdim=True) + 1e-5))


class Functions(nn.Module):
    """Functions of one number and of two tensors, and reductions."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.gate = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        x = self.stem(x)
        x = F.gelu(x) + F.gelu(x, approximate="tanh") + F.mish(x) + F.selu(x) - F.celu(x, 0.5) + F.softplus(x) + F.softsign(x)
        x = x + F.logsigmoid(x) + F.hardshrink(x) + F.softshrink(x) + F.threshold(x, 0.1, 0.2) + F.hardtanh(x)
        x = torch.where(x > 0.2, x, x * 0.1) + torch.maximum(x, -x) * (x <= 0.5) + x.masked_fill(x < 0, 0.25)
        x = x + torch.exp(-x.abs()) + torch.log(x.square() + 1) + torch.sqrt(x.abs() + 1) + (x.abs() + 1) ** -1.5 + 1 / (x * x + 1)
        x = x * torch.sigmoid(self.gate(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)))
        x = x / (x.sum((2, 3), keepdim=True).abs() + 1) + x.amax((2, 3), keepdim=True) - x.mean(2, keepdim=True) + x.var(3, keepdim=True)
        one, two = F.glu(torch.cat([x, x * 0.5], 1), 1).chunk(2, 1)
        x = torch.stack([torch.stack([torch.cat([one, two], 1)]).mean(0), x, x * 2]).sum(0)
        zeros = torch.zeros(x.shape[0], 3, *x.shape[2:])
        return F.log_softmax(self.head(torch.cat([x, zeros], 1)[:, 3:]), 1)


class Moves(nn.Module):
    """Values that are moved: slices, flips, repeats, shuffles, paddings, resizes, coordinates."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(10, 3, 1)
        self.eca, self.merge = nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Conv2d(32, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        size = x.shape[2:]
        y = x.mean((2, 3), keepdim=True)
        x = x * torch.sigmoid(self.eca(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1))
        even = F.pad(x, (0, -size[1] % 2, 0, -size[0] % 2))
        x = self.merge(torch.cat([even[..., ::2, ::2], even[..., 1::2, ::2], even[..., ::2, 1::2], even[..., 1::2, 1::2]], 1))
        x = x.flip(3).flip(1) + x.roll(1, 1) + x.repeat(1, 2, 1, 1)[:, 4:12]
        x = F.pad(x, (1, 1, 1, 1), mode="circular")[:, :, 1:-1, 1:-1]
        x = F.interpolate(x, scale_factor=2, mode="nearest-exact") + F.interpolate(x, scale_factor=2, mode="bicubic")
        x = F.adaptive_max_pool2d(x, (5, 7)) + F.adaptive_avg_pool2d(x, (5, None))[..., :1]
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
        n, c, h, w = x.shape
        x = x.view(n, 2, 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x.view(n, 2, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, 2, h * 2, w * 2)
        x = x.view(n, 2, h, 2, w, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 8, h, w)
        rows = torch.linspace(-1, 1, h, dtype=x.dtype).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(0, 1, w, dtype=x.dtype).view(1, 1, 1, w).expand(n, 1, h, w)
        return self.head(torch.cat([x, rows, columns], 1))


class Tokens(nn.Module):
    """Attention of every kind: with heads over fewer keys (as mit_b0), non-local, over channels (DANet), over regions (OCR),
    and a multi-layer perceptron over tokens."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)
        self.q, self.kv, self.reduce = nn.Linear(8, 8), nn.Linear(8, 16), nn.Conv2d(8, 8, 2, 2)
        self.narrow, self.regions = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 5, 1)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        few = self.reduce(tokens.permute(0, 2, 1).reshape(n, c, h, w)).reshape(n, c, -1).permute(0, 2, 1)
        q = self.q(tokens).reshape(n, -1, 2, 4).permute(0, 2, 1, 3)
        k, v = self.kv(few).reshape(n, -1, 2, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        tokens = tokens + ((q @ k.transpose(-2, -1)) * 0.5).softmax(-1).matmul(v).transpose(1, 2).reshape(n, h * w, c)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, c)
        x = (tokens + self.mlp(tokens)).transpose(1, 2).view(n, c, h, w)
        few = self.narrow(x).view(n, -1, h * w)
        x = x + torch.bmm(x.flatten(2), torch.bmm(few.permute(0, 2, 1), few).softmax(-1).permute(0, 2, 1)).view(n, c, h, w)
        flat = x.view(n, c, -1)
        energy = torch.bmm(flat, flat.permute(0, 2, 1)) * 0.01
        energy = (energy.max(-1, keepdim=True)[0].expand_as(energy) - energy).softmax(-1)
        x = x + torch.bmm(energy, flat).view(n, c, h, w)
        regions = self.regions(x).flatten(2).softmax(2) @ x.flatten(2).transpose(1, 2)
        share = (x.flatten(2).transpose(1, 2) @ regions.transpose(1, 2)).softmax(-1)
        return self.head(x + (share @ regions).transpose(1, 2).reshape(n, c, h, w))


class InPlace(nn.Module):
    """Values that are changed in place, also through views."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        x.view(x.shape[0], -1).relu_()
        x[:, 2:5] = x[:, 3:6] * 2
        x[:, :3].add_(1)
        swapped = torch.zeros_like(x)
        swapped[:, :4], swapped[:, 4:] = x[:, 4:], x[:, :4]
        fresh = torch.zeros(x.shape, dtype=x.dtype)
        fresh[:, 1] = x[:, 0]
        fresh[:, :, 3:-2], fresh[:, :, :, -1:] = x[:, :, 4:-1], x[:, :, :, :1]
        fresh[:, 2:4, 1:6, 2:] = 1
        copied = x.clone()
        copied -= swapped
        copied[copied < 0] = 0.5
        return self.head(x + copied + fresh)


class Pairs(nn.Module):
    """MAnet's attention: a softmax over all pairs of pixels, and tokens read as a map without being transposed."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, 4, 1), nn.Conv2d(6, 3, 1)
        self.top, self.center, self.bottom = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        pairs = torch.matmul(self.center(x).flatten(2).transpose(1, 2), self.top(x).flatten(2))
        pairs = pairs.view(n, -1).softmax(1).view(n, h * w, h * w)
        return self.head(x + 100 * torch.matmul(pairs, self.bottom(x).flatten(2).transpose(1, 2)).reshape(n, c, h, w))


SEGMENTATION = {"weights": None, "weights_backbone": None}

NETS = {
    "fcn_resnet50": (lambda: fcn_resnet50(aux_loss=True, **SEGMENTATION), [(64, 96), (75, 53)]),
    "fcn_resnet101": (lambda: fcn_resnet101(**SEGMENTATION), [(64, 96), (41, 71)]),
    "deeplabv3_resnet50": (lambda: deeplabv3_resnet50(**SEGMENTATION), [(64, 96), (75, 53)]),
    "lraspp_mobilenet_v3_large": (lambda: lraspp_mobilenet_v3_large(**SEGMENTATION), [(64, 96), (75, 53)]),
    "unet_pad": (lambda: UNet("pad"), [(64, 96), (75, 53)]),
    "unet_resize": (lambda: UNet("resize"), [(64, 96), (75, 53)]),
    "unet_crop": (lambda: UNet("crop"), [(64, 96), (75, 53)]),
    "unet_output_size": (lambda: UNet("output_size"), [(64, 96), (75, 53)]),
    "unet_even": (lambda: UNet("none"), [(64, 96), (28, 52)]),
    "segnet": (lambda: SegNet(False), [(64, 96), (28, 52)]),
    "segnet_output_size": (lambda: SegNet(True), [(64, 96), (75, 53)]),
    "everything": (Everything, [(64, 96), (47, 61)]),
    "attention": (Attention, [(64, 96), (47, 61)]),
    "pyramid": (Pyramid, [(64, 96), (47, 61)]),
    "resnet18": (lambda: resnet18(weights=None), [(64, 96), (75, 53)]),
    "vgg11": (lambda: vgg11(weights=None, num_classes=10), [(224, 224), (75, 53)]),
    "shufflenet_v2": (lambda: shufflenet_v2_x0_5(weights=None), [(64, 96), (75, 53)]),
    "norms": (Norms, [(64, 96), (47, 61)]),
    "functions": (Functions, [(64, 96), (47, 61)]),
    "moves": (Moves, [(64, 96), (47, 61)]),
    "in_place": (InPlace, [(64, 96), (47, 61)]),
    "pairs": (Pairs, [(64, 96), (46, 62)]),
    "tokens": (Tokens, [(64, 96), (46, 62)]),
    **test_transformers.NETS,
    **{name: (lambda something=something: Sized(something), [(64, 96), (40, 56), (75, 53), (63, 129)])
       for name, something in SIZED.items()},
}
