"""Writes a PyTorch module as a model file: one safetensors with weights and graph."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from .stages import add_stages
from .translate import translate
from .values import ExportError, number

VERSION = 1
VALUES = ("scores", "probabilities", "log_probabilities")
RESIZES = ("long_side", "short_side", "size")
PREPROCESS = {
    "torchvision": {"channels": "rgb", "range": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "caffe": {"channels": "bgr", "range": 255.0, "mean": [104.00699, 116.66877, 122.67892], "std": [1.0, 1.0, 1.0]},
}


def export(module, example_input, path, classes=None, palette=None, preprocess=None, half=False, output=None,
           fixed_size=False, activation=None, threshold=None, values=None, stages=None, align=None, description=None,
           license=None):
    """Writes `module` as a model file at `path`.

    `example_input` is [n, c, h, w]; its height and width matter only if the module refuses small or odd sizes, or with
    `fixed_size`: then the file is for pictures of this size only. `classes` are the names of the classes, `palette` their
    colours [red, green, blue]; `preprocess` is "torchvision", "caffe" or a dict as in docs/model-file.md. With `half`,
    four-dimensional weights are stored as f16. `output` chooses one of several results: a number, a key, or a path with
    dots. `activation` ("softmax" or "sigmoid"), `values` ("scores", "probabilities" or "log_probabilities") and `threshold`
    are written as they are, and so are the texts `description` and `license`. `stages` are class scores inside the module,
    {name: stride}, the coarsest first and the module's own last, each named by a node of the file or by a module's path;
    `align` says where they lie in the picture: "start" or "center", as in docs/model-file.md. Raises ExportError, and
    writes nothing, if an operation is unsupported or the graph is not verified.
    """
    if example_input.dim() != 4:
        raise ExportError(f"the example must be [n, c, h, w], not {list(example_input.shape)}")
    example = example_input.detach().cpu()[:1]
    translation = translate(module, example, output, fixed_size)
    if stages:
        add_stages(translation, stages, align)
    metadata = describe(translation, example, classes, palette, preprocess, activation, threshold, values, fixed_size)
    metadata |= {key: text for key, text in (("description", description), ("license", license)) if text}
    tensors = {name: tensor.to(torch.float32) for name, tensor in translation.tensors.items()}
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
    return translation


def describe(translation, example, classes, palette, preprocess, activation, threshold, values, fixed_size):
    """The file's metadata."""
    into, out = example.shape[1], translation.channels
    graph = translation.graph
    if into != 3:
        graph["channels"] = into
    if fixed_size:
        graph["size"] = list(example.shape[2:])
    metadata = {"version": VERSION, "graph": graph}
    if preprocess is not None:
        metadata["preprocess"] = check_preprocess(preprocess, into)
    counts = {out, 2} if out == 1 else {out}
    for key, value in (("classes", classes), ("palette", palette)):
        if value is not None and len(value) not in counts:
            raise ExportError(f"{len(value)} entries in {key}, but the module has {out} classes")
        if value is not None:
            metadata[key] = [list(v) if key == "palette" else str(v) for v in value]
    if activation not in (None, "softmax", "sigmoid"):
        raise ExportError(f"activation {activation!r} is neither softmax nor sigmoid")
    if activation is not None:
        metadata["activation"] = activation
    if values not in (None, *VALUES):
        raise ExportError(f"values {values!r} is none of {', '.join(VALUES)}")
    if values is not None:
        metadata["values"] = values
    if threshold is not None:
        if out != 1:
            raise ExportError(f"a threshold is for a network of one output channel; this one has {out}")
        if not 0 < threshold < 1:
            raise ExportError(f"a threshold of {threshold} is not between 0 and 1")
        metadata["threshold"] = threshold
    return metadata


def check_preprocess(preprocess, channels):
    """The preprocessing as metadata; raises if it does not fit a network of so many input channels."""
    if isinstance(preprocess, str):
        if preprocess not in PREPROCESS:
            raise ExportError(f"preprocess {preprocess!r} is none of {', '.join(PREPROCESS)}, nor a JSON object")
        preprocess = PREPROCESS[preprocess]
    if not isinstance(preprocess, dict):
        raise ExportError("preprocess is not an object, such as {\"channels\": \"rgb\", \"range\": 1.0, \"mean\": […], \"std\": […]}")
    unknown = sorted(set(preprocess) - {"channels", "range", "mean", "std", *RESIZES})
    if unknown:
        raise ExportError(f"preprocess has no key {', '.join(unknown)}; its keys are channels, range, mean, std, {', '.join(RESIZES)}")
    missing = [key for key in ("channels", "range", "mean", "std") if key not in preprocess]
    if missing:
        raise ExportError(f"preprocess lacks {', '.join(missing)}")
    counts = {"rgb": 3, "bgr": 3, "grey": 1, "rgba": 4, "bands": channels}
    kind = preprocess["channels"]
    if kind not in counts:
        raise ExportError(f"channels {kind!r} in preprocess is none of {', '.join(counts)}")
    if counts[kind] != channels:
        raise ExportError(f"channels {kind!r} in preprocess means {counts[kind]}, but the network's input has {channels}")
    for key in ("mean", "std"):
        values = preprocess[key]
        if not isinstance(values, list) or len(values) != channels or not all(number(v) for v in values):
            raise ExportError(f"{key} in preprocess is not a list of {channels} numbers, one for each input channel")
        if key == "std" and not all(v > 0 for v in values):
            raise ExportError("std in preprocess has a number that is not above 0")
    if not number(preprocess["range"]) or preprocess["range"] <= 0:
        raise ExportError("range in preprocess is not a number above 0")
    sizes = [key for key in RESIZES if key in preprocess]
    if len(sizes) > 1:
        raise ExportError(f"preprocess has {' and '.join(sizes)}; at most one of them is possible")
    for key in sizes:
        values = preprocess[key] if key == "size" else [preprocess[key]]
        if not isinstance(values, list) or len(values) != (2 if key == "size" else 1) \
                or not all(isinstance(v, int) and v > 0 for v in values):
            raise ExportError(f"{key} in preprocess is not {'[height, width]' if key == 'size' else 'a number of pixels'}")
    return preprocess
