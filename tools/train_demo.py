#!/usr/bin/env python3
"""Train fullconv's demo model: a quarter-width FCN-8s on the CamVid road scenes.

    python tools/train_demo.py                          # train, write assets/demo/demo.safetensors
    python tools/train_demo.py --resume                 # continue from the last checkpoint
    python tools/train_demo.py --evaluate               # only measure the exported file
    python tools/train_demo.py --evaluate --overlay assets/street.jpg street.overlay.png

Requirements: Python 3.10+, torch, numpy, pillow, safetensors. A CPU will do; one with bf16
instructions takes about half the time (two cores: about 20 s an epoch, 86 epochs).

Data: the CamVid split distributed with the SegNet tutorial, 480x360, as

    DATA/{train,val}/images/NAME.jpg
    DATA/{train,val}/labels/NAME.png      8-bit, the pixel value is the class id, 11 = void

The network is FCN-8s (Long, Shelhamer, Darrell 2015) on VGG16's five stages at a quarter of their
widths, in the "same" geometry: conv1_1 has padding 1, fc6 padding 3, the pools round up, and an
upsampled map that is larger than its skip or the image loses its right and bottom edge. In training
a batch norm follows each convolution of the stages, fc6 and fc7. The export folds it into weight
and bias, so the file holds the original's tensors only, as f16.

Only the train split is trained on. The val split is measured, always with the folded f16 weights, at
one scale, 480x360. It selects no epoch: the export is the moving average after the last one. (But the
second of PHASES was set up with the first one's val figures in view.)

On a busy machine, OMP_WAIT_POLICY=passive keeps the threads from spinning. The result is the same.
"""

import argparse
import copy
import json
import math
import os
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open

CLASSES = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
           "Pedestrian", "Bicyclist"]
PALETTE = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
           [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
VOID = 11
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
LONG_SIDE = 480

# VGG16's stages as (channels, convolutions), a quarter as wide.
STAGES = [(16, 2), (32, 2), (64, 3), (128, 3), (128, 3)]
FC = 512

DESCRIPTION = (
    "FCN-8s at a quarter of VGG16's widths, trained from scratch on the 367 training images of the "
    "CamVid road scenes (480x360, 11 classes) with random scale, crop, flip and colour. A small "
    "demonstration model: it knows streets seen from a car, and nothing else.")
LICENSE = (
    "CC BY-NC 4.0. Trained on the CamVid road scenes as distributed with the SegNet tutorial under "
    "CC BY-NC 4.0; these weights are for research and personal use only.")


@dataclass(frozen=True)
class Phase:
    """One cycle of the learning rate, and its settings."""
    epochs: int
    peak: float  # learning rate
    scales: tuple  # range of the random scale
    dropout: float  # after fc6 and fc7
    rarity: float  # class weights are 1 / ln(rarity + frequency): nearer 1 favours rare classes more
    jaccard: float  # share of the soft Jaccard loss


# The first phase learns features from hard pictures. The second, closer to the measurement, balances
# the classes.
PHASES = [
    Phase(epochs=60, peak=2e-3, scales=(0.6, 2.0), dropout=0.3, rarity=1.05, jaccard=0.0),
    Phase(epochs=26, peak=1e-3, scales=(0.7, 1.6), dropout=0.1, rarity=1.2, jaccard=0.5),
]


# ---- the network -------------------------------------------------------------------------------

def bilinear_weight(channels, kernel):
    """A transposed convolution's weight [c, c, k, k] that interpolates each channel bilinearly."""
    f = (kernel + 1) // 2
    centre = f - 1 if kernel % 2 else f - 0.5
    ramp = 1 - (torch.arange(kernel) - centre).abs() / f
    weight = torch.zeros(channels, channels, kernel, kernel)
    weight[range(channels), range(channels)] = ramp[:, None] * ramp[None, :]
    return weight


def upsample(channels, kernel, stride, padding):
    layer = nn.ConvTranspose2d(channels, channels, kernel, stride, padding, bias=False)
    layer.weight.data.copy_(bilinear_weight(channels, kernel))
    return layer


class FCN8s(nn.Module):
    """FCN-8s, geometry "same": with `norm` for training, without it for the export."""

    def __init__(self, norm, dropout=0.0):
        super().__init__()
        self.norm = norm
        self.dropout = dropout
        self.stages = []
        c_in = 3
        for i, (width, count) in enumerate(STAGES, 1):
            names = [f"conv{i}_{j}" for j in range(1, count + 1)]
            for name in names:
                self._add(name, c_in, width, kernel=3, padding=1)
                c_in = width
            self.stages.append(names)
        self._add("fc6", c_in, FC, kernel=7, padding=3)
        self._add("fc7", FC, FC, kernel=1, padding=0)
        n = len(CLASSES)
        self.score_fr = nn.Conv2d(FC, n, 1)
        self.score_pool4 = nn.Conv2d(STAGES[3][0], n, 1)
        self.score_pool3 = nn.Conv2d(STAGES[2][0], n, 1)
        self.upscore2 = upsample(n, 4, 2, 1)
        self.upscore_pool4 = upsample(n, 4, 2, 1)
        self.upscore8 = upsample(n, 16, 8, 4)

    def _add(self, name, c_in, c_out, kernel, padding):
        conv = nn.Conv2d(c_in, c_out, kernel, padding=padding, bias=not self.norm)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        setattr(self, name, conv)
        if self.norm:
            setattr(self, name + "_bn", nn.BatchNorm2d(c_out))

    def _conv_relu(self, name, x):
        x = getattr(self, name)(x)
        if self.norm:
            x = getattr(self, name + "_bn")(x)
        return F.relu(x, inplace=True)

    def forward(self, image):
        x = image
        pools = []
        for names in self.stages:
            for name in names:
                x = self._conv_relu(name, x)
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            pools.append(x)
        x = F.dropout2d(self._conv_relu("fc6", x), self.dropout, self.training)
        x = F.dropout2d(self._conv_relu("fc7", x), self.dropout, self.training)
        # The scores are few and cheap: they are summed in f32 even if the trunk runs in bf16.
        with torch.autocast("cpu", enabled=False):
            pool3, pool4 = pools[2].float(), pools[3].float()
            x = self.score_fr(x.float())
            x = add_cropped(self.upscore2(x), self.score_pool4(pool4))
            x = add_cropped(self.upscore_pool4(x), self.score_pool3(pool3))
            x = self.upscore8(x)
            return x[:, :, :image.shape[2], :image.shape[3]]


def add_cropped(up, skip):
    return up[:, :, :skip.shape[2], :skip.shape[3]] + skip


@torch.no_grad()
def fold(model):
    """The export's tensors: batch norms folded into the convolutions before them, all in f16."""
    tensors = {}
    for name, layer in model.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            continue
        weight, bias = layer.weight.double(), layer.bias
        bn = getattr(model, name + "_bn", None)
        if bn is not None:
            scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
            weight = weight * scale[:, None, None, None]
            bias = bn.bias.double() - bn.running_mean.double() * scale
        tensors[name + ".weight"] = weight
        if bias is not None:
            tensors[name + ".bias"] = bias
    for name, tensor in tensors.items():
        tensors[name] = tensor = tensor.to(torch.float16).contiguous()
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite in f16")
    return tensors


def plain_model(tensors):
    """The export as a network that computes in f32."""
    model = FCN8s(norm=False)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval().to(memory_format=torch.channels_last)


# ---- the model file ----------------------------------------------------------------------------

def metadata():
    return {
        "version": 1,
        "architecture": "fcn8s",
        "geometry": "same",
        "preprocess": {"channels": "rgb", "range": 1.0, "mean": MEAN, "std": STD,
                       "long_side": LONG_SIDE},
        "classes": CLASSES,
        "palette": PALETTE,
        "description": DESCRIPTION,
        "license": LICENSE,
    }


def write_safetensors(path, tensors):
    """Write f16 tensors and the metadata. The library does not fix the metadata's order; this function
    always writes the same bytes."""
    header = {"__metadata__": {"format": "pt",
                               "fullconv": json.dumps(metadata(), separators=(",", ":"))}}
    offset = 0
    for name in sorted(tensors):
        size = tensors[name].numel() * 2
        header[name] = {"dtype": "F16", "shape": list(tensors[name].shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in sorted(tensors):
            file.write(tensors[name].numpy().astype("<f2").tobytes())
    os.replace(partial, path)


def read_safetensors(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


# ---- data --------------------------------------------------------------------------------------

def load_split(data, split):
    """All (image, label) pairs of a split, decoded: PIL images in RGB and L."""
    pairs = []
    for path in sorted((Path(data) / split / "images").glob("*.jpg")):
        label = Path(data) / split / "labels" / (path.stem + ".png")
        with Image.open(path) as image, Image.open(label) as mask:
            # Masks may be paletted: keep the indices, not the colours.
            pairs.append((image.convert("RGB"), Image.fromarray(np.array(mask, np.uint8))))
    if not pairs:
        sys.exit(f"no images in {Path(data) / split / 'images'}")
    return pairs


def to_tensor(images):
    """PIL images or u8 arrays [h, w, 3] of one size as f32 [n, 3, h, w] in 0..1, channels last."""
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2).float() / 255


def normalise(x):
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def class_weights(pairs, rarity):
    """Weights that favour rare classes, 1 / ln(rarity + frequency), scaled to mean 1."""
    counts = sum(np.bincount(np.asarray(mask).ravel(), minlength=256) for _, mask in pairs)
    counts = counts[:len(CLASSES)]
    weights = 1 / np.log(rarity + counts / counts.sum())
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def random_crop(image, mask, rng, size, scales):
    """A random scale, stretch, flip and crop: arrays image [s, s, 3], label [s, s], inside [s, s]."""
    scale = math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))
    stretch = math.exp(rng.uniform(-0.12, 0.12))
    zoom = (scale * stretch, scale / stretch)
    source, target = [], []
    for extent, z in zip(image.size, zoom):
        scaled = max(1, round(extent * z))
        shown = min(scaled, size)
        start = rng.uniform(0, scaled - shown) / scaled * extent
        source.append((start, min(extent, start + shown / scaled * extent)))
        target.append((int(rng.integers(0, size - shown + 1)), shown))
    box = (source[0][0], source[1][0], source[0][1], source[1][1])
    (x, w), (y, h) = target
    pixels = np.zeros((size, size, 3), np.uint8)
    label = np.full((size, size), VOID, np.uint8)
    inside = np.zeros((size, size), np.float32)
    pixels[y:y + h, x:x + w] = image.resize((w, h), Image.Resampling.BILINEAR, box=box)
    label[y:y + h, x:x + w] = mask.resize((w, h), Image.Resampling.NEAREST, box=box)
    inside[y:y + h, x:x + w] = 1
    if rng.random() < 0.5:
        pixels, label, inside = pixels[:, ::-1], label[:, ::-1], inside[:, ::-1]
    return pixels, label, inside


def jitter_colours(x, rng):
    """Random gamma, exposure, contrast, saturation, hue and white balance on [n, 3, h, w] in 0..1."""
    n = len(x)
    draw = lambda low, high, *shape: np.exp(rng.uniform(math.log(low), math.log(high), shape))
    gamma = torch.tensor(draw(0.65, 1.5, n), dtype=torch.float32).view(n, 1, 1, 1)
    x = x.clamp_min(1e-4).pow(gamma)
    luma = np.array([0.299, 0.587, 0.114])
    # A turn of the hue is a rotation about grey in YIQ.
    yiq = np.array([luma, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    mean = x.mean((2, 3)).numpy()
    matrices, offsets = [], []
    for i in range(n):
        angle = rng.uniform(-0.25, 0.25)
        c, s = math.cos(angle), math.sin(angle)
        m = np.linalg.inv(yiq) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ yiq
        saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.6)
        m = (saturation * np.eye(3) + (1 - saturation) * np.tile(luma, (3, 1))) @ m
        m = np.diag(draw(0.88, 1.14, 3)) @ m * draw(0.65, 1.5)
        contrast = rng.uniform(0.6, 1.4)
        offsets.append((1 - contrast) * (luma @ m @ mean[i]) * np.ones(3))
        matrices.append(contrast * m)
    matrices = torch.tensor(np.stack(matrices), dtype=torch.float32)
    offsets = torch.tensor(np.stack(offsets), dtype=torch.float32)
    h, w = x.shape[2:]
    pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, 3)
    pixels = torch.baddbmm(offsets[:, None, :], pixels, matrices.transpose(1, 2))
    x = pixels.clamp_(0, 1).view(n, h, w, 3).permute(0, 3, 1, 2)
    return x


def batches(pairs, rng, args, scales):
    order = rng.permutation(len(pairs))
    for start in range(0, len(order) - args.batch + 1, args.batch):
        crops = [random_crop(*pairs[i], rng, args.crop, scales)
                 for i in order[start:start + args.batch]]
        pixels, labels, inside = zip(*crops)
        x = normalise(jitter_colours(to_tensor(pixels), rng))
        # Beyond the photograph's edge are zeros, as in the network's padding.
        x = x * torch.from_numpy(np.stack(inside))[:, None]
        yield x, torch.from_numpy(np.stack(labels)).long()


# ---- measuring ---------------------------------------------------------------------------------

@torch.inference_mode()
def confusion_matrix(model, pairs):
    """n[i, j]: pixels of class i predicted as j, over the whole split, without void."""
    n = len(CLASSES)
    matrix = np.zeros((n, n), np.int64)
    for image, mask in pairs:
        labels = model(normalise(to_tensor([image]))).argmax(1)[0].numpy()
        truth = np.asarray(mask)
        known = truth < n
        matrix += np.bincount(n * truth[known].astype(np.int64) + labels[known],
                              minlength=n * n).reshape(n, n)
    return matrix


def measures(matrix):
    """Pixel accuracy, and the IoU of each class, NaN if it is neither labelled nor predicted: the definitions of
    `fullconv eval`."""
    hits, truth, called = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    union = truth + called - hits
    with np.errstate(invalid="ignore"):
        iou = np.where(union > 0, hits / union, np.nan)
    return hits.sum() / truth.sum(), iou


def report(matrix):
    accuracy, iou = measures(matrix)
    for name, value in zip(CLASSES, iou):
        print(f"  {name:<11} {value:.4f}")
    print(f"  mean IoU    {np.nanmean(iou):.4f}   pixel accuracy {accuracy:.4f}", flush=True)


@torch.inference_mode()
def check_activations(model, pairs, limit=1000.0):
    """Fail if a layer's output is not finite or nears f16's range: f16 inference has to be safe."""
    largest = {}

    def watch(name):
        def hook(_, __, output):
            value = output.abs().max().item()
            if not value < limit:
                raise ValueError(f"{name} reaches {value}")
            largest[name] = max(largest.get(name, 0.0), value)
        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in model.named_children()]
    for image, _ in pairs[::10]:
        model(normalise(to_tensor([image])))
    for handle in handles:
        handle.remove()
    print("largest output of each layer: "
          + ", ".join(f"{name} {value:.1f}" for name, value in largest.items()))


@torch.inference_mode()
def overlay(model, source, target):
    """Label a photograph as fullconv does: long side 480, scores back at its size, half blended."""
    with Image.open(source) as file:
        image = file.convert("RGB")
    scale = LONG_SIDE / max(image.size)
    small = image.resize([max(1, round(s * scale)) for s in image.size], Image.Resampling.BILINEAR)
    scores = model(normalise(to_tensor([small])))
    scores = F.interpolate(scores, size=image.size[::-1], mode="bilinear", align_corners=False)
    labels = scores.argmax(1)[0].numpy()
    colours = Image.fromarray(np.array(PALETTE, np.uint8)[labels])
    Image.blend(image, colours, 0.5).save(target)
    shares = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    print(f"{source}: " + ", ".join(f"{c} {s:.1%}" for c, s in zip(CLASSES, shares) if s > 0))


# ---- training ----------------------------------------------------------------------------------

def learning_rate(progress, peak, warm_up=0.15):
    """One cycle: a cosine from peak/25 up to the peak, then one down to peak/10000."""
    if progress < warm_up:
        low, t = peak / 25, 1 - progress / warm_up
    else:
        low, t = peak / 1e4, (progress - warm_up) / (1 - warm_up)
    return low + (peak - low) * (1 + math.cos(math.pi * t)) / 2


def parameter_groups(model, weight_decay):
    """Weights decay, norms and biases do not. The upsampling, bilinear at first, has a lower rate."""
    decayed, free, upsampling = [], [], []
    for name, parameter in model.named_parameters():
        if name.startswith("upscore"):
            upsampling.append(parameter)
        elif parameter.ndim > 1:
            decayed.append(parameter)
        else:
            free.append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay, "rate": 1.0},
            {"params": free, "weight_decay": 0.0, "rate": 1.0},
            {"params": upsampling, "weight_decay": 0.0, "rate": 0.1}]


def jaccard_loss(scores, truth):
    """1 - the mean soft IoU of the classes present in the batch: a smooth form of mean IoU."""
    n = len(CLASSES)
    known = truth < n
    probabilities = scores.softmax(1) * known[:, None]
    right = probabilities.gather(1, truth.clamp_max(n - 1)[:, None])[:, 0]
    hits = torch.zeros(n + 1).index_add(0, truth.flatten(), right.flatten())[:n]
    present = torch.bincount(truth.flatten(), minlength=n + 1)[:n]
    iou = hits / (present + probabilities.sum((0, 2, 3)) - hits).clamp_min(1)
    return 1 - iou[present > 0].mean()


def phase_of(epoch):
    """The phase of `epoch` (from 0), and the phase's first epoch."""
    first = 0
    for phase in PHASES:
        if epoch < first + phase.epochs:
            return phase, first
        first += phase.epochs
    raise IndexError(epoch)


@torch.no_grad()
def follow(average, model, decay):
    """Update the exponential moving average of the model, batch-norm statistics included."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values()):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def train(args):
    pairs, val = load_split(args.data, "train"), load_split(args.data, "val")
    print(f"{len(pairs)} training images, {len(val)} validation images")
    weights = {phase: class_weights(pairs, phase.rarity) for phase in PHASES}
    epochs = sum(phase.epochs for phase in PHASES)

    torch.manual_seed(args.seed)
    model = FCN8s(norm=True).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, args.weight_decay))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, "
          f"{'bf16' if args.bf16 else 'f32'}")

    epoch = 0
    if args.resume:
        state = torch.load(args.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
        print(f"resumed after epoch {epoch}")

    steps = len(pairs) // args.batch
    began = time.time()
    while epoch < epochs:
        # Each epoch has its own seed: a resumed run repeats an uninterrupted one.
        rng = np.random.default_rng([args.seed, epoch])
        torch.manual_seed(args.seed * 100_003 + epoch)
        phase, first = phase_of(epoch)
        model.dropout = phase.dropout
        model.train()
        total = 0.0
        for step, (x, y) in enumerate(batches(pairs, rng, args, phase.scales)):
            done = epoch * steps + step
            rate = learning_rate((done - first * steps) / (phase.epochs * steps), phase.peak)
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * rate
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                scores = model(x)
            loss = F.cross_entropy(scores, y, weights[phase], ignore_index=VOID)
            if phase.jaccard:
                loss = loss + phase.jaccard * jaccard_loss(scores, y)
            if not torch.isfinite(loss):
                sys.exit(f"epoch {epoch + 1}, step {step}: the loss is {loss.item()}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            # The average's window starts short: the first weights are forgotten quickly.
            follow(average, model, min(args.ema, (1 + done) / (10 + done)))
            total += loss.item()
        epoch += 1
        line = f"epoch {epoch}/{epochs}  loss {total / steps:.4f}  {time.time() - began:.0f} s"
        if epoch % args.val_every == 0 or epoch == epochs:
            tensors = fold(average)
            accuracy, iou = measures(confusion_matrix(plain_model(tensors), val))
            line += f"  val mean IoU {np.nanmean(iou):.4f}  pixel accuracy {accuracy:.4f}"
            write_safetensors(args.output, tensors)
        print(line, flush=True)
        if args.checkpoint:
            Path(args.checkpoint).parent.mkdir(parents=True, exist_ok=True)
            partial = f"{args.checkpoint}.partial"
            torch.save({"model": model.state_dict(), "average": average.state_dict(),
                        "optimizer": optimizer.state_dict(), "epoch": epoch}, partial)
            os.replace(partial, args.checkpoint)
    write_safetensors(args.output, fold(average))


def evaluate(args):
    model = plain_model(read_safetensors(args.output))
    val = load_split(args.data, "val")
    print(f"{args.output}: {os.path.getsize(args.output):,} bytes, {len(val)} validation images")
    check_activations(model, val)
    report(confusion_matrix(model, val))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="../shared/data/camvid", help="folder with train/ and val/")
    parser.add_argument("--output", default="assets/demo/demo.safetensors", help="the model file")
    parser.add_argument("--checkpoint", default="target/train_demo.pt",
                        help="training state, written after each epoch; '' writes none")
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    parser.add_argument("--evaluate", action="store_true", help="only measure --output")
    parser.add_argument("--overlay", nargs=2, metavar=("IMAGE", "PNG"),
                        help="also label IMAGE and write the blend to PNG")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=320, help="side of the square training crops")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the moving average")
    parser.add_argument("--val-every", type=int, default=5, help="epochs between measurements")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True,
                        help="run the trunk in bf16 while training")
    args = parser.parse_args()
    if not args.evaluate:
        train(args)
    evaluate(args)
    if args.overlay:
        overlay(plain_model(read_safetensors(args.output)), *args.overlay)


if __name__ == "__main__":
    main()
