"""Networks for tools/test_export.py, each with its test sizes; the first is the example's."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.models import resnet18, shufflenet_v2_x0_5, vgg11
from torchvision.models.segmentation import (deeplabv3_resnet50, fcn_resnet50, fcn_resnet101,
                                             lraspp_mobilenet_v3_large)


def random_statistics(module):
    """Gives every batch norm random mean, variance, weight and bias."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
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
        return F.gelu(x)  # refused: gelu


class Refused(nn.Module):
    """Operations that fullconv does not have."""

    def __init__(self):
        super().__init__()
        self.conv, self.inner, self.norm = nn.Conv2d(3, 4, 3), Inner(), nn.GroupNorm(2, 4)

    def forward(self, x):
        x = self.inner(self.conv(x))
        x = self.norm(x)  # refused: group_norm
        x = F.interpolate(x, scale_factor=2, mode="bicubic")  # refused: bicubic
        return x.abs() ** 1.5  # refused: pow


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
}
