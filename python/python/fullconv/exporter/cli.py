"""The command line of the exporter: `fullconv-export`, or `python tools/export.py` in fullconv's repository.

    fullconv-export MODULE:CALLABLE|FILE.onnx OUT.safetensors [--weights FILE [--key KEY] [--trust]] [--args JSON]
        [--size HxW | --fixed-size HxW] [--channels N] [--output N|NAME|PATH] [--half] [--classes FILE]
        [--preprocess torchvision|caffe|JSON] [--activation softmax|sigmoid]
        [--values scores|probabilities|log_probabilities] [--threshold T] [--stages NODE:STRIDE,… --align start|center]

    fullconv-export torchvision.models.segmentation:fcn_resnet50 fcn.safetensors \\
        --args '{"weights_backbone": null}' --weights fcn.pth --preprocess torchvision
    fullconv-export my/net.py:UNet unet.safetensors --weights unet.pth --classes names.txt
    fullconv-export net.onnx net.safetensors

The module runs on pictures of several sizes, and its operations are recorded. The file serves pictures of any size that
the module takes: a size derived from the picture becomes "as large as that node", a constant size stays a number. Before
anything is written, the graph is computed at sizes that were not recorded and compared with the module, in f64. Nodes
are named by their modules' paths, tensors as in the state dict. All unsupported operations are reported at once, with
module and source line, and then no file is written.

An ONNX file, opset 11 or later, takes the place of MODULE:CALLABLE. Its graph runs as a module, which is compared with
onnxruntime, or with ONNX's reference where onnxruntime is not installed, before anything is written.

Requirements: Python 3.10+, torch 2.6+, safetensors, numpy; for ONNX files onnx, and better onnxruntime too.
"""

import argparse
import importlib
import importlib.util
import json
import operator
import os
import re
import sys
from pathlib import Path

import torch

from .checkpoints import load_weights, without_parametrizations
from .onnx_file import Opened, is_onnx, open_onnx
from .stages import ALIGN
from .values import ExportError
from .write import PREPROCESS, VALUES, export


def load_callable(text):
    """The object MODULE:CALLABLE; MODULE is a name to import or a file."""
    name, _, attribute = text.rpartition(":")
    if not name or not attribute:
        raise ExportError(f"{text!r} is not MODULE:CALLABLE")
    sys.path.insert(0, os.getcwd())
    try:
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(name).stem, name)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(name)
        return operator.attrgetter(attribute)(module)
    except (ImportError, AttributeError, OSError) as problem:
        raise ExportError(f"{text}: {problem}") from problem


def read_classes(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip().startswith("[") else [line for line in text.splitlines() if line.strip()]


def open_module(options, keywords, size):
    """The module of the command line, with its weights, and what is known of it."""
    if is_onnx(options.module):
        if options.weights or keywords:
            raise ExportError(f"{options.module} is an ONNX file, which has its weights: --weights and --args are for modules")
        return open_onnx(options.module, size, options.channels, options.output, bool(options.fixed_size))
    module = load_callable(options.module)
    module = module if isinstance(module, torch.nn.Module) else module(**keywords)
    if options.weights:
        load_weights(module, options.weights, options.key, options.trust)
    example = torch.zeros(1, options.channels, *size)
    return Opened(without_parametrizations(module), example, bool(options.fixed_size), None, options.output)


def report(translation, preprocess, channels):
    """Says on stderr what was assumed, left out and verified."""
    def say(text):
        print(f"export: {text}", file=sys.stderr)
    if translation.removed:
        say("the argmax at the module's end is left out: the file's output is the scores before it")
    if preprocess is None:
        if channels == 3:
            say("warning: without --preprocess, pictures are taken as RGB with ImageNet's mean and deviation (torchvision)")
        else:
            say(f"warning: without --preprocess, nothing is known of the values of the {channels} input channels; give channels, "
                "range, mean and std")
    sizes = ", ".join(f"{h}×{w}" for h, w in translation.verified)
    say(f"the graph equals the module at {sizes}")


def parse_stages(parser, text, align):
    """--stages as {node: stride}."""
    if (text is None) != (align is None):
        parser.error("--stages and --align need each other")
    found = [re.fullmatch(r"(.+):(\d+)", part) for part in (text or "").split(",") if text]
    if not all(found):
        parser.error(f"--stages {text} is not NODE:STRIDE,NODE:STRIDE…")
    return {name: int(stride) for name, stride in (part.groups() for part in found)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Write a PyTorch module or an ONNX file as a model file of fullconv.")
    parser.add_argument("module", metavar="MODULE:CALLABLE", help="makes the module; MODULE is importable or FILE.py; or an ONNX file")
    parser.add_argument("out", metavar="OUT.safetensors")
    parser.add_argument("--weights", metavar="STATE.pth", help="a state dict or checkpoint, of PyTorch or safetensors")
    parser.add_argument("--key", help="which of the checkpoint's weights, if it has several: a key or a prefix of names")
    parser.add_argument("--trust", action="store_true", help="read any Python objects in the checkpoint, which can run code")
    parser.add_argument("--args", metavar="JSON", default="{}", help="keyword arguments of the callable")
    parser.add_argument("--size", metavar="HxW", default="256x320", help="an example of a picture's size")
    parser.add_argument("--fixed-size", metavar="HxW", help="export for pictures of this size only, to which others are resized")
    parser.add_argument("--channels", type=int, default=3, help="channels of the picture")
    parser.add_argument("--output", metavar="N|NAME|PATH", help="which of several results has the scores, or the path of a module "
                        "inside whose result they are")
    parser.add_argument("--activation", choices=["softmax", "sigmoid"], help="what makes probabilities of the scores, if the "
                        "network does not show it: softmax for classes that exclude each other, sigmoid for classes that do not")
    parser.add_argument("--values", choices=VALUES, help="what the network gives, if its end does not show it, such as a sum "
                        "of softmaxes")
    parser.add_argument("--threshold", type=float, metavar="T", help="of a network of one class: the probability from which a "
                        "pixel belongs to it, 0.5 when absent")
    parser.add_argument("--stages", metavar="NODE:STRIDE,…", help="class scores inside the network, for fullconv's --stages: "
                        "the coarsest first, the network's own last, such as score_fr:32,fuse_pool4:16,fuse_pool3:8")
    parser.add_argument("--align", choices=ALIGN, help="where score i of a stage lies: at pixel i · stride, or in the middle of "
                        "the pixels from there to the next score")
    parser.add_argument("--half", action="store_true", help="store weights as f16")
    parser.add_argument("--classes", metavar="FILE", help="names of the classes, a line each, or a JSON list")
    parser.add_argument("--preprocess", metavar="torchvision|caffe|JSON", help="the network's preprocessing")
    options = parser.parse_args(arguments)
    size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", options.fixed_size or options.size)
    if not size:
        parser.error(f"--{'fixed-size' if options.fixed_size else 'size'} is HxW, such as 256x320")
    if options.channels < 1:
        parser.error("--channels is a number from 1")
    try:
        keywords, preprocess = json.loads(options.args), options.preprocess
        if preprocess is not None and preprocess not in PREPROCESS:
            preprocess = json.loads(preprocess)
    except json.JSONDecodeError as problem:
        parser.error(f"--args or --preprocess: {problem}")
    stages = parse_stages(parser, options.stages, options.align)
    try:
        opened = open_module(options, keywords, tuple(map(int, size.groups())))
        classes = read_classes(options.classes) if options.classes else opened.classes
        done = export(opened.module, opened.example, options.out, classes, None, preprocess, options.half, opened.output,
                      opened.fixed_size, options.activation, options.threshold, options.values, stages, options.align)
        report(done, preprocess, opened.example.shape[1])
    except (ExportError, OSError, TypeError) as problem:
        for line in str(problem).splitlines():
            print(f"export: {line}", file=sys.stderr)
        return 1
    return 0
