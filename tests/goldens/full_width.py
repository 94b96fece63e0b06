"""Makes a full-width network with random weights, an input and the f64 output, to check accuracy.

    python full_width.py --output DIR [--arch fcn8s] [--geometry caffe] [--size 500x500]
                         [--classes 21] [--seed 0] [--half]

    fullconv run -m DIR/model.safetensors --input DIR/input.safetensors --output got.safetensors
    python check_run.py DIR/expected.safetensors got.safetensors

Writes to DIR
- model.safetensors: He-normal weights in f32, or in f16 with --half, under their
  checkpoint names (at most 540 MB);
- input.safetensors: `input` f32 [1, 3, h, w], a preprocessed picture of noise;
- expected.safetensors: `output` f64 [1, classes, h, w], computed from the weights as written.

At 500x500 this takes half a minute on two cores, and 4.3 GB of memory.

Requires the same packages as make.py.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

import family
import fcn


FAMILY = ("fcn_resnet50", "fcn_resnet101", "fcn_resnet18", "fcn-alexnet", "vgg")


def size(text):
    h, w = text.split("x")
    return int(h), int(w)


def noise_picture(geometry, h, w, seed):
    """[1, 3, h, w]: noise of 0...255, with the preprocessing of the geometry's checkpoints."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (1, 3, h, w), generator=generator).float()
    if geometry in ("same", "torchvision"):
        mean, std, scale = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255.0
    else:
        mean, std, scale = (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0), 1.0
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    return (picture / scale - mean) / std


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--arch", choices=[*fcn.ARCHITECTURES, *FAMILY], default="fcn8s")
    parser.add_argument("--geometry", choices=fcn.GEOMETRIES, default="caffe")
    parser.add_argument("--size", type=size, default=(500, 500), metavar="HxW")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true", help="store the weights as f16")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    if arguments.arch in FAMILY:
        model, metadata = family.build(arguments.arch, classes=arguments.classes), None
        family.initialize(model, arguments.seed)
        geometry = "caffe" if arguments.arch == "fcn-alexnet" else "torchvision"
    else:
        model = fcn.build(arguments.arch, arguments.geometry, classes=arguments.classes)
        fcn.initialize(model, arguments.seed, perturbation=0.01)
        metadata = fcn.metadata(arguments.arch, arguments.geometry)
        geometry = arguments.geometry
    if arguments.half:
        model.half()
    save_file(model.state_dict(), arguments.output / "model.safetensors", metadata=metadata)

    image = noise_picture(geometry, *arguments.size, arguments.seed)
    save_file({"input": image}, arguments.output / "input.safetensors")

    scores = model.double()(image.double()).contiguous()
    save_file({"output": scores}, arguments.output / "expected.safetensors")


if __name__ == "__main__":
    main()
