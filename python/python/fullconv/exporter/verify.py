"""Computes a finished graph in f64 and compares it with the module."""

import torch
from .torch_ops import OPS

from .trace import compute, picture, title, trace, where
from .views import whole

# Both compute in f64 from the same weights; only the order of sums differs.
BOUND = 1e-9


def evaluate(graph, tensors, x):
    """The values of all nodes of a graph, by name."""
    values = {graph.get("input", "input"): x}
    for node in graph["nodes"]:
        inputs = [values[i] if i in values else tensors[i] for i in node["inputs"]]
        values[node["name"]] = OPS[node["op"]](*inputs, **node.get("attributes", {}))
    return values


def relative(found, expected):
    """‖found − expected‖ / ‖expected‖."""
    norm = expected.norm()
    return ((found - expected).norm() / (norm if norm > 0 else 1)).item()


class Difference(Exception):
    """The graph differs from the module for pictures of this size."""

    def __init__(self, size, text):
        super().__init__(text)
        self.size = size


def compare(translation, module, size, seed=1):
    """Compares the graph with the module at a size. Returns the error; raises `Difference`, or what the module raises."""
    x = picture(translation.channels_in, size, seed)
    recorded = None
    if translation.inside:
        recorded = trace(module, size, translation.channels_in, keep=True, seed=seed)
        expected = translation.find_inside(recorded)
    else:
        expected = next((t for p, t in compute(module, x) if p == translation.path), None)
    text = f"{size[0]}×{size[1]}"
    if expected is None:
        raise Difference(size, f"for pictures of {text} the module does not return {'.'.join(translation.path)}")
    try:
        with torch.no_grad():
            values = evaluate(translation.graph, translation.tensors, x)
    except (RuntimeError, AssertionError, ValueError) as problem:
        raise Difference(size, f"the graph fails for pictures of {text}, which the module takes: "
                               f"{str(problem).splitlines()[0] if str(problem) else type(problem).__name__}") from problem
    found = values[translation.graph["output"]]
    if found.numel() != expected.numel() or [s for s in found.shape if s != 1] != [s for s in expected.shape if s != 1]:
        raise Difference(size, f"for pictures of {text} the module gives {list(expected.shape)}, the graph {list(found.shape)}")
    error = relative(found.reshape(expected.shape), expected.double())
    if not error <= BOUND:
        place = first_difference(translation, module, size, seed, values)
        raise Difference(size, f"for pictures of {text} the graph differs from the module, by {error:.1e}{place}")
    return error


def first_difference(translation, module, size, seed, values):
    """The first node whose value differs from the module's, for a message."""
    try:
        recorded = trace(module, size, translation.channels_in, keep=True, seed=seed)
    except Exception:  # noqa: BLE001 - only the message is poorer
        return ""
    if len(recorded.calls) != len(translation.nodes):
        return ""
    for node, call in zip(translation.nodes, recorded.calls):
        for value, expected in zip(translation.values.get(node.index, ()), call.values):
            made = getattr(value, "made", None)
            if made is None or value.cut is not None or made.name not in values or value.view != whole(made.shape):
                continue
            found = values[made.name]
            if found.shape != expected.shape or not relative(found, expected.double()) <= BOUND:
                return f", first in {title(node)}{where(node)}"
    return ""
