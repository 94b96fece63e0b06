"""Opens an ONNX file for tools/export.py: as a module that was compared with ONNX's own result."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .values import ExportError

# ‖found − expected‖ / ‖expected‖: onnxruntime computes in f32.
BOUND = 1e-5
# The share of class ids that may differ: pixels whose two best scores are equal within f32.
DIFFERENT = 1e-3
# A second size is the first and one of these; the last ones suit networks that only take multiples of 32.
OTHER_SIZES = ((37, 53), (1, 3), (32, 64), (64, 32))


@dataclass
class Opened:
    """A module, an example of its input, whether it takes this size only, the names of its classes, if any, and which
    of its results has the scores."""
    module: torch.nn.Module
    example: torch.Tensor
    fixed_size: bool
    classes: list = None
    output: str = None


def is_onnx(path):
    """Whether a file is an ONNX file, by its name or its first bytes."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return True
    if ":" in path.name or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(3)
    # Field 1, the version of the format as a small number, then the tag of another field of a model.
    return len(head) == 3 and head[0] == 0x08 and 3 <= head[1] < 32 and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def open_onnx(path, size, channels=3, output=None, fixed_size=False):
    """The module of an ONNX file, compared with ONNX at two sizes, or one if the file takes no other.

    `size` is an example of a picture's height and width, and `channels` its channels, where the file leaves them open.
    `output` names or counts the output that has the scores, or names a node inside. Notes for the user go to stderr. Raises ExportError.
    """
    try:
        from .onnx_module import OnnxModule
    except ImportError as problem:
        if (problem.name or "").split(".")[0] != "onnx":
            raise
        raise ExportError(f"{path} is an ONNX file: reading it needs the package onnx (pip install onnx)") from problem
    module = OnnxModule(path, output)
    notes = list(module.notes)
    declared = module.size
    if fixed_size and any(own not in (None, given) for own, given in zip(declared, size)):
        raise ExportError(f"{path} is for pictures of {' × '.join(str(own or 'any') for own in declared)} alone")
    size = tuple(own or given for own, given in zip(declared, size))
    run = torch_runner(module, channels if module.channels is None else module.channels)
    try:
        run(size)
    except RuntimeError as problem:
        raise ExportError(f"{path} fails for pictures of {size[0]}×{size[1]}: {problem}; --size HxW gives a size that it takes") from problem
    others = []
    if fixed_size or all(declared):
        if not fixed_size:
            notes.append(f"the file is for pictures of {size[0]}×{size[1]} alone, and so is the model file")
        fixed_size = True
    else:
        others, problem = another_size(run, size, declared)
        if not others:
            fixed_size = True
            notes.append(f"the file has sizes inside that fit pictures of {size[0]}×{size[1]} alone ({problem}), and so has the model file")
    compute, reference = runner(module, path)
    for at in [size, *others]:
        compare(path, run(at), compute, at, reference)
    notes.append(f"the module equals {reference} at {', '.join(f'{h}×{w}' for h, w in [size, *others])}")
    for note in notes:
        print(f"export: {path}: {note}", file=sys.stderr)
    example = torch.zeros(1, module.channels or channels, *size)
    return Opened(module.eval(), example, fixed_size, module.classes, None if module.is_chosen else output)


def torch_runner(module, channels):
    """A function from a size to the input for this size and the module's results, in f64."""
    def run(size):
        x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            result = module.double()(x.double())
        module.float()
        return x, list(result.values()) if isinstance(result, dict) else [result]
    return run


def another_size(run, size, declared):
    """A size other than `size` that the module takes, in a list, or none and the reason."""
    reason = None
    for more in OTHER_SIZES:
        other = tuple(s if own else s + m for s, own, m in zip(size, declared, more))
        try:
            run(other)
            return [other], None
        except (ExportError, RuntimeError) as problem:
            reason = reason or str(problem).splitlines()[0]
    return [], reason


def runner(module, path):
    """A function that computes the file's outputs, by onnxruntime or by ONNX's reference, and its name."""
    model, name, outputs = module.model, module.graph.input, module.graph.outputs
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator
        evaluator = ReferenceEvaluator(model)
        return lambda x: evaluator.run(outputs, {name: layout(module, x)}), "ONNX's reference"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # noqa: BLE001 - onnxruntime raises kinds of its own
        raise ExportError(f"{path}: onnxruntime refuses the file: {str(problem).strip().splitlines()[0]}") from problem
    return lambda x: session.run(outputs, {name: layout(module, x)}), "onnxruntime"


def layout(module, x):
    return np.ascontiguousarray((x.permute(0, 2, 3, 1) if module.channels_last else x).numpy())


def compare(path, computed, compute, size, reference):
    """Raises ExportError unless the module's results are ONNX's."""
    x, found = computed
    place = f"for pictures of {size[0]}×{size[1]}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = compute(x)
    except Exception as problem:  # noqa: BLE001
        raise ExportError(f"{path}: {reference} fails {place}: {str(problem).strip().splitlines()[0]}") from problem
    for ours, theirs in zip(found, expected):
        theirs = torch.from_numpy(np.asarray(theirs))
        if theirs.dim() == 4 and ours.shape != theirs.shape and ours.permute(0, 2, 3, 1).shape == theirs.shape:
            theirs = theirs.permute(0, 3, 1, 2)
        if ours.shape != theirs.shape:
            raise ExportError(f"{path}: {place} the module gives {list(ours.shape)}, {reference} {list(theirs.shape)}")
        if theirs.is_floating_point():
            error, bound = ((ours - theirs).norm() / theirs.double().norm().clamp(min=1e-30)).item(), BOUND
        else:
            error, bound = (ours != theirs).double().mean().item(), DIFFERENT
        if not error <= bound:
            other = "" if reference == "onnxruntime" else "; its convolutions with auto_pad are wrong: install onnxruntime"
            raise ExportError(f"{path}: {place} the module differs from {reference} by {error:.1e}{other}")
