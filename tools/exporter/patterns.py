"""Patterns: several operations of PyTorch that are one operation of fullconv."""

import torch

from .values import number

VIEWS = ("view.default", "reshape.default", "_unsafe_view.default", "squeeze.dim", "unsqueeze.default")


def is_op(node, *ops):
    return isinstance(node, torch.fx.Node) and str(node.target) in [f"aten.{op}" for op in ops]


def through(node, *ops):
    """The node before a chain of these operations."""
    while is_op(node, *ops):
        node = node.args[0]
    return node


def find_patterns(graph):
    """Maps a pattern's last node to the method that translates the pattern, its inputs and its attributes."""
    found = {node: local_response_norm(node) or channel_shuffle(node) for node in graph.nodes}
    return {node: pattern for node, pattern in found.items() if pattern}


def local_response_norm(node):
    """x / (k + alpha · average of x² over neighbouring channels) ^ beta."""
    at, numbers = node, []
    for op, argument in (("div.Tensor", 1), ("pow.Tensor_Scalar", 0), ("add.Tensor", 0), ("mul.Tensor", 0)):
        if not is_op(at, op) or len(at.args) < 2:
            return None
        numbers.append(at.args[1])
        at = at.args[argument]
    pool = through(at, *VIEWS)
    if not is_op(pool, "avg_pool3d.default", "avg_pool2d.default") or not is_op(pool.args[0], "pad.default"):
        return None
    padded, kernel = pool.args[0], list(pool.args[1])
    x, size = node.args[0], kernel[0]
    square = through(padded.args[0], *VIEWS)
    if not is_op(square, "mul.Tensor") or square.args != (x, x) or not all(map(number, numbers[1:])):
        return None
    if kernel[1:] != [1] * (len(kernel) - 1) or list(padded.args[1])[-2:] != [size // 2, (size - 1) // 2]:
        return None
    beta, k, alpha = map(float, numbers[1:])
    return "local_response_norm", [x], {"size": size, "alpha": alpha, "beta": beta, "k": k}


def channel_shuffle(node):
    """A channel shuffle: view, transpose, view."""
    views = VIEWS[:3]
    if not is_op(node, *views):
        return None
    swap = through(node.args[0], "clone.default", "contiguous.default")
    if not is_op(swap, "transpose.int") or sorted(swap.args[1:]) != [1, 2] or not is_op(swap.args[0], *views):
        return None
    x, split = swap.args[0].args[0], swap.args[0].meta["val"].shape
    if len(split) != 5 or list(x.meta["val"].shape) != list(node.meta["val"].shape):
        return None
    return "shuffle", [x], {"groups": int(split[1])}
