#!/usr/bin/env python3
"""Write a PyTorch module as a model file of fullconv: one safetensors with weights and graph.

    python tools/export.py MODULE:CALLABLE OUT.safetensors [--weights STATE.pth] [--args JSON]
        [--size HxW] [--half] [--classes FILE] [--preprocess torchvision|caffe|JSON]

    python tools/export.py torchvision.models.segmentation:fcn_resnet50 fcn.safetensors \\
        --args '{"weights_backbone": null}' --weights fcn.pth --preprocess torchvision
    python tools/export.py my/net.py:UNet unet.safetensors --weights unet.pth --classes names.txt

or, from Python:

    from export import export
    export(module, torch.randn(1, 3, 480, 640), "net.safetensors", classes=[...], preprocess="torchvision")

torch.export traces the module with symbolic height and width: the file serves pictures of any size that the
module takes. A size derived from the picture becomes "as large as that node", a constant size stays a number.
Nodes are named by their modules' paths, tensors as in the state dict. All unsupported operations are reported
at once, with module and source line, and then no file is written.

Requirements: Python 3.10+, torch 2.6+, safetensors.
"""

import argparse
import copy
import importlib
import importlib.util
import json
import logging
import operator
import os
import re
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))

from exporter.ops import Translator  # noqa: E402
from exporter.values import ExportError  # noqa: E402

VERSION = 1
PREPROCESS = {
    "torchvision": {"channels": "rgb", "range": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "caffe": {"channels": "bgr", "range": 255.0, "mean": [104.00699, 116.66877, 122.67892], "std": [1.0, 1.0, 1.0]},
}


def trace(module, example):
    """The module as a program of ATen operations, with symbolic height and width."""
    from torch.export import Dim
    open_sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._dynamo", "torch.fx", "torch")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=open_sizes,
                                          prefer_deferred_runtime_asserts_over_guards=True)
            return program.run_decompositions({})
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def choose_output(program):
    """The node that holds the scores: the only output, or the one called `out`."""
    spec, names = program.call_spec.out_spec, program.graph_signature.user_outputs
    result = torch.utils._pytree.tree_unflatten(list(range(len(names))), spec)
    if isinstance(result, dict):
        if "out" not in result and len(result) > 1:
            raise ExportError(f"the module returns {', '.join(map(repr, result))}; one of them must be called 'out'")
        result = result["out"] if "out" in result else next(iter(result.values()))
    while isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    if not isinstance(result, int):
        raise ExportError(f"the module returns {len(names)} tensors; fullconv takes one, the scores")
    return next(n for n in program.graph.nodes if n.name == names[result])


def translate(module, example):
    """The module's graph, its tensors and the number of output channels."""
    try:
        program = trace(module, example)
    except Exception as problem:  # noqa: BLE001 - torch.export raises many kinds
        text = str(problem).strip() or type(problem).__name__
        frames = [f for f in re.findall(r'File "([^"]+)", line (\d+)', text) if f"{os.sep}torch{os.sep}" not in f[0]]
        place = f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
        raise ExportError(f"torch.export cannot follow the module{place}: {text.splitlines()[0]}") from problem
    translator = Translator(program, choose_output(program))
    output = translator.run()
    graph = translator.graph(module, output)
    return graph, translator.written, output.shape[1]


def odd_sizes(example):
    """The example at sizes that no pooling or stride divides, to trace how the module handles them."""
    height, width = (max(64, -(-s // 32) * 32) for s in example.shape[2:])
    return example.new_zeros(1, example.shape[1], height - 1, width + 33)


def export(module, example_input, path, classes=None, palette=None, preprocess=None, half=False):
    """Writes `module` as a model file at `path`.

    `example_input` is [n, c, h, w]; its height and width matter only if the module refuses odd sizes.
    `classes` are the names of the classes, `palette` their colours [red, green, blue]; `preprocess` is
    "torchvision", "caffe" or a dict as in docs/model-file.md. With `half`, four-dimensional weights are
    stored as f16. Raises ExportError, and writes nothing, if an operation is unsupported.
    """
    module = copy.deepcopy(module).eval().cpu().float()
    example = example_input.detach().cpu().float()[:1]
    if example.dim() != 4:
        raise ExportError(f"the example must be [n, c, h, w], not {list(example.shape)}")
    try:
        graph, tensors, channels = translate(module, odd_sizes(example))
    except ExportError as problem:
        try:
            graph, tensors, channels = translate(module, example)
        except ExportError as other:
            followed = not str(problem).startswith("torch.export")
            raise (problem if followed else other) from None
    metadata = {"version": VERSION, "graph": graph}
    if preprocess is not None:
        metadata["preprocess"] = PREPROCESS[preprocess] if isinstance(preprocess, str) else preprocess
    for key, value in (("classes", classes), ("palette", palette)):
        if value is not None and len(value) != channels:
            raise ExportError(f"{len(value)} entries in {key}, but the module has {channels} classes")
        if value is not None:
            metadata[key] = [list(v) if key == "palette" else str(v) for v in value]
    for name, tensor in tensors.items():
        if half and tensor.dim() == 4:
            tensors[name] = tensor.half()
        if not tensors[name].isfinite().all():
            raise ExportError(f"{name} has values that are not finite{' in f16' if half else ''}")
    partial = Path(f"{path}.partial")
    try:
        save_file(tensors, partial, {"fullconv": json.dumps(metadata)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# -- the command line ----------------------------------------------------------------------------------------


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


def load_weights(module, path):
    """Loads a state dict, bare or inside a checkpoint."""
    try:
        if str(path).endswith(".safetensors"):
            from safetensors.torch import load_file
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # noqa: BLE001 - as many kinds as there are formats
        raise ExportError(f"{path}: {str(problem).splitlines()[0]}") from problem
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as problem:
        raise ExportError(f"{path}: {' '.join(str(problem).split())}") from problem
    if missing:
        raise ExportError(f"{path} lacks {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}")
    if unexpected:
        print(f"{path}: {len(unexpected)} tensors are left out, as the module does not have them, "
              f"such as {unexpected[0]}", file=sys.stderr)


def read_classes(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip().startswith("[") else [line for line in text.splitlines() if line.strip()]


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Write a PyTorch module as a model file of fullconv.")
    parser.add_argument("module", metavar="MODULE:CALLABLE", help="makes the module; MODULE is importable or FILE.py")
    parser.add_argument("out", metavar="OUT.safetensors")
    parser.add_argument("--weights", metavar="STATE.pth", help="a state dict, .pth or .safetensors")
    parser.add_argument("--args", metavar="JSON", default="{}", help="keyword arguments of the callable")
    parser.add_argument("--size", metavar="HxW", default="256x320", help="an example of a picture's size")
    parser.add_argument("--channels", type=int, default=3, help="channels of the picture")
    parser.add_argument("--half", action="store_true", help="store weights as f16")
    parser.add_argument("--classes", metavar="FILE", help="names of the classes, a line each, or a JSON list")
    parser.add_argument("--preprocess", metavar="torchvision|caffe|JSON", help="the network's preprocessing")
    options = parser.parse_args(arguments)
    size = re.fullmatch(r"(\d+)x(\d+)", options.size)
    if not size:
        parser.error("--size is HxW, such as 256x320")
    try:
        keywords, preprocess = json.loads(options.args), options.preprocess
        if preprocess is not None and preprocess not in PREPROCESS:
            preprocess = json.loads(preprocess)
    except json.JSONDecodeError as problem:
        parser.error(f"--args or --preprocess: {problem}")
    try:
        module = load_callable(options.module)
        module = module if isinstance(module, torch.nn.Module) else module(**keywords)
        if options.weights:
            load_weights(module, options.weights)
        classes = read_classes(options.classes) if options.classes else None
        example = torch.zeros(1, options.channels, *map(int, size.groups()))
        export(module, example, options.out, classes, None, preprocess, options.half)
    except (ExportError, OSError, TypeError) as problem:
        for line in str(problem).splitlines():
            print(f"export: {line}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
