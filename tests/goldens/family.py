"""The networks other than FCN on VGG16, in PyTorch, under their checkpoints' names and of any width.

    from family import build, initialize
    model = build("fcn_resnet50", width=64, classes=21)
    initialize(model, seed=0)
    scores = model(image)                       # [n, 3, h, w] -> [n, classes, h, w]

At `width` 64 they are the published networks:

- `fcn_resnet50`, `fcn_resnet101`: torchvision.models.segmentation, without the auxiliary head;
- `fcn_resnet18`: *Dive into Deep Learning*, "Fully Convolutional Networks";
- `fcn-alexnet`: voc-fcn-alexnet of the paper's repository (CaffeNet);
- `vgg`: torchvision's `vgg16` classifier as a convolution; scores are a heat map of stride 32.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def norm_conv(channels, width, kernel, stride=1, dilation=1):
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(channels, width, kernel, stride, padding, dilation, bias=False)


def downsample(channels, width, stride):
    return nn.Sequential(norm_conv(channels, width, 1, stride), nn.BatchNorm2d(width))


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride, dilation):
        super().__init__()
        self.conv1, self.bn1 = norm_conv(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2 = norm_conv(width, width, 3, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = norm_conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        if stride != 1 or channels != 4 * width:
            self.downsample = downsample(channels, 4 * width, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (self.downsample(x) if hasattr(self, "downsample") else x))


class BasicBlock(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = norm_conv(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = norm_conv(width, width, 3), nn.BatchNorm2d(width)
        if stride != 1 or channels != width:
            self.downsample = downsample(channels, width, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (self.downsample(x) if hasattr(self, "downsample") else x))


class FcnResNet(nn.Module):
    def __init__(self, depths, width, classes):
        super().__init__()
        backbone = nn.Module()
        backbone.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        backbone.bn1 = nn.BatchNorm2d(width)
        channels = width
        # The last two layers have dilation in place of stride; each layer's first block has the dilation before.
        for i, (stride, first, dilation) in enumerate([(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]):
            blocks = []
            for block in range(depths[i]):
                by = (stride, first) if block == 0 else (1, dilation)
                blocks.append(Bottleneck(channels, width << i, *by))
                channels = 4 * (width << i)
            backbone.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.backbone = backbone
        inner = channels // 4
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(inner, classes, 1),
        )

    def forward(self, image):
        b = self.backbone
        x = F.max_pool2d(F.relu(b.bn1(b.conv1(image))), 3, 2, 1)
        x = self.classifier(b.layer4(b.layer3(b.layer2(b.layer1(x)))))
        return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)


def fcn_resnet18(width, classes):
    layers, channels = [], width
    for i in range(4):
        stride, wide = (1 if i == 0 else 2), width << i
        layers.append(nn.Sequential(BasicBlock(channels, wide, stride), BasicBlock(wide, wide, 1)))
        channels = wide
    net = nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), *layers,
    )  # fmt: skip
    net.add_module("final_conv", nn.Conv2d(channels, classes, 1))
    net.add_module("transpose_conv", nn.ConvTranspose2d(classes, classes, 64, 32, 16))
    return net


class FcnAlexNet(nn.Module):
    def __init__(self, width, fc, classes):
        super().__init__()
        # 96, 256, 384, 384 and 256 at width 64.
        a, b, c = 3 * width // 2, 4 * width, 6 * width
        self.conv1 = nn.Conv2d(3, a, 11, 4, padding=100)
        self.conv2 = nn.Conv2d(a, b, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(b, c, 3, padding=1)
        self.conv4 = nn.Conv2d(c, c, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c, b, 3, padding=1, groups=2)
        self.fc6, self.fc7 = nn.Conv2d(b, fc, 6), nn.Conv2d(fc, fc, 1)
        self.score_fr = nn.Conv2d(fc, classes, 1)
        self.upscore = nn.ConvTranspose2d(classes, classes, 63, 32, bias=False)

    def forward(self, image):
        def pool(x):
            return F.max_pool2d(F.relu(x), 3, 2, ceil_mode=True)

        x = F.local_response_norm(pool(self.conv1(image)), 5, 1e-4, 0.75, 1.0)
        x = F.local_response_norm(pool(self.conv2(x)), 5, 1e-4, 0.75, 1.0)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.relu(self.fc6(pool(self.conv5(x))))
        x = self.upscore(self.score_fr(F.relu(self.fc7(x))))
        h, w = image.shape[2:]
        return x[:, :, 18 : 18 + h, 18 : 18 + w]


class Vgg(nn.Module):
    def __init__(self, width, fc, classes):
        super().__init__()
        layers, channels = [], 3
        for depth, by in zip((2, 2, 3, 3, 3), (1, 2, 4, 8, 8), strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, by * width, 3, padding=1), nn.ReLU()]
                channels = by * width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(49 * channels, fc), nn.ReLU(), nn.Dropout(),
            nn.Linear(fc, fc), nn.ReLU(), nn.Dropout(),
            nn.Linear(fc, classes),
        )  # fmt: skip

    def forward(self, image):
        x = self.features(image)
        for i, side in ((0, 7), (3, 1), (6, 1)):
            fc = self.classifier[i]
            weight = fc.weight.view(fc.out_features, -1, side, side)
            x = F.conv2d(x, weight, fc.bias)
            x = F.relu(x) if i < 6 else x
        return x


def build(architecture, width=64, classes=21, fc=4096):
    """A network in f32 whose layers have their checkpoint's names; `fc` is the width of fc6 and fc7."""
    networks = {
        "fcn_resnet50": lambda: FcnResNet((3, 4, 6, 3), width, classes),
        "fcn_resnet101": lambda: FcnResNet((3, 4, 23, 3), width, classes),
        "fcn_resnet18": lambda: fcn_resnet18(width, classes),
        "fcn-alexnet": lambda: FcnAlexNet(width, fc, classes),
        "vgg": lambda: Vgg(width, fc, classes),
    }
    return networks[architecture]().eval().requires_grad_(False)


def initialize(model, seed):
    """He-normal layers, normal biases; batch normalisations as if they had been trained."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter, mean, deviation):
        parameter.normal_(mean, deviation, generator=generator)

    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            normal(layer.weight, 1.0, 0.1)
            normal(layer.bias, 0.0, 0.2)
            normal(layer.running_mean, 0.0, 0.3)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(layer, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
            normal(layer.weight, 0.0, math.sqrt(2 / layer.weight[0].numel()))
            if layer.bias is not None:
                normal(layer.bias, 0.0, 0.1)
    # A block of a trained network adds little to the residual stream. Without this factor sums would exceed f16.
    for layer in model.modules():
        if isinstance(layer, (Bottleneck, BasicBlock)):
            last = layer.bn3 if isinstance(layer, Bottleneck) else layer.bn2
            last.weight.mul_(0.3)
