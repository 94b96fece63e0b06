#!/usr/bin/env python3
"""Evaluates a model on a folder of labelled pictures, and draws its confusion matrix.

    python examples/python/evaluate.py net.safetensors pictures labels --out matrix.png
    python examples/python/evaluate.py torchvision.models.segmentation:lraspp_mobilenet_v3_large pictures labels \\
        --weights lraspp.pth --classes 21

The model is a model file, or MODULE:CALLABLE that makes a PyTorch module, whose checkpoint is --weights: it is exported
and compared with the module first. Labels are PNG files of class ids under the pictures' names. Needs fullconv, Pillow and
Matplotlib; for modules torch.
"""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import fullconv


def segmenter_for(options):
    """The segmenter for a file, or for a module with its checkpoint."""
    if ":" not in options.model:
        return fullconv.Segmenter(options.model, device=options.device)
    import torch

    name, _, attribute = options.model.rpartition(":")
    make = getattr(importlib.import_module(name), attribute)
    module = make(weights=None, weights_backbone=None, num_classes=options.classes)
    if options.weights:
        module.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    return fullconv.from_torch(module.eval(), options={"preprocess": "torchvision"}, device=options.device)


def pairs(pictures, labels):
    """Each picture with its labels."""
    for picture in sorted(Path(pictures).iterdir()):
        label = Path(labels, f"{picture.stem}.png")
        if label.exists():
            yield picture, label


def draw(matrix, names, path):
    """The shares of each true class's pixels by predicted class, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = matrix.counts.astype(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2 + 0.4 * len(names)
    figure, axes = pyplot.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (i, j), share in np.ndenumerate(shares):
        if share >= 0.005:
            axes.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize=7, color="white" if share > 0.5 else "black")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model file, or MODULE:CALLABLE")
    parser.add_argument("pictures")
    parser.add_argument("labels")
    parser.add_argument("--weights", help="the checkpoint of MODULE:CALLABLE: a state dict")
    parser.add_argument("--classes", type=int, default=21, help="the classes of MODULE:CALLABLE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", default="matrix.png")
    options = parser.parse_args()
    segmenter = segmenter_for(options)
    found = list(pairs(options.pictures, options.labels))
    if not found:
        sys.exit(f"no picture in {options.pictures} has labels of its name in {options.labels}")
    matrix = fullconv.ConfusionMatrix(len(segmenter.classes))
    masks = segmenter.stream(picture for picture, _ in found)
    for (_, label), mask in zip(found, masks, strict=True):
        matrix.add(np.asarray(Image.open(label)), mask)
    for i, name in enumerate(segmenter.classes):
        iou = matrix.iou(i)
        print(f"{name:20} {'-' if iou is None else format(iou, '.4f')}")
    print(f"{'mean IoU':20} {matrix.mean_iou:.4f}\n{'pixel accuracy':20} {matrix.pixel_accuracy:.4f}")
    draw(matrix, segmenter.classes, options.out)


if __name__ == "__main__":
    main()
