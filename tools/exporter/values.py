"""The data of a translation: sizes, nodes and values."""

import operator
from dataclasses import dataclass

import sympy
import torch

NCHW = "nchw"
# Default attributes, which are not written.
DEFAULTS = {
    "conv2d": {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
    "conv_transpose2d": {"stride": [1, 1], "padding": [0, 0], "output_padding": [0, 0], "groups": 1},
    "max_pool2d": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_pool2d_indices": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_unpool2d": {"padding": [0, 0]},
    "avg_pool2d": {"padding": [0, 0], "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "batch_norm2d": {"eps": 1e-5},
    "pad": {"mode": "constant", "value": 0.0},
    "interpolate": {"align_corners": False},
    "clamp": {"min": None, "max": None},
}


class ExportError(Exception):
    """The module cannot be written as a model file; one line for each reason."""


class Unsupported(Exception):
    """An operation that fullconv lacks, or lacks with these arguments."""


class Sizes:
    """Compares sizes that depend on the picture's size, by evaluating them for many pictures."""

    FUNCTIONS = {
        "FloorDiv": operator.floordiv, "CleanDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod,
        "IntTrueDiv": operator.truediv, "FloatTrueDiv": operator.truediv, "ToFloat": float, "TruncToInt": int,
        "TruncToFloat": lambda x: float(int(x)), "RoundToInt": round, "FloorToInt": lambda x: int(x // 1),
        "CeilToInt": lambda x: -int(-x // 1), "Max": max, "Min": min, "Identity": lambda x: x,
        "IntNaturalPow": operator.pow, "FloatPow": operator.pow, "Where": lambda c, a, b: a if c else b,
    }
    PERIOD = 512

    def __init__(self, height, width):
        self.symbols = [height, width]
        # Small and large pictures, with every remainder of a stride up to the period. Height and width always
        # differ.
        self.pictures = [(base + i, base + (i * 7 + 11) % self.PERIOD) for base in (96, 2048) for i in range(self.PERIOD)]
        self.known = {}

    def series(self, size):
        """The size's value for each picture."""
        size = sympy.sympify(size)
        if size not in self.known:
            if not size.free_symbols <= set(self.symbols):
                raise Unsupported(f"a size, {size}, that depends on more than the picture's size")
            value = sympy.lambdify(self.symbols, size, modules=[self.FUNCTIONS, "math"])
            self.known[size] = tuple(value(h, w) for h, w in self.pictures)
        return self.known[size]

    def same(self, a, b):
        return a == b or self.series(a) == self.series(b)

    def limits(self, size):
        """The least and the largest value of the size."""
        series = self.series(size)
        near, far = series[:self.PERIOD], series[self.PERIOD:]
        if (min(near), max(near)) != (min(far), max(far)):
            raise Unsupported(f"a number, {size}, that grows with the picture")
        return min(near), max(near)

    def fixed(self, size, what):
        """The size as a number; it has to be the same for every picture."""
        low, high = self.limits(size)
        if low != high:
            raise Unsupported(f"{what} that depends on the picture's size: {low} to {high}")
        return int(low)


@dataclass(eq=False)
class Made:
    """A node of the written graph."""
    op: str
    inputs: list
    attributes: dict
    shape: list
    source: object = None
    name: str = None


@dataclass(eq=False)
class Value:
    """The value of a node of the traced program: a written node, with its axes in some order."""
    made: Made
    layout: str = NCHW  # the axes' order, or "vector", "flat", "planes", "pixels": see Translator.reshape
    shape: list = None  # the shape in PyTorch
    cut: list = None  # a pending crop of `made`: its top and left
    size: list = None  # the pending crop's height and width


@dataclass(eq=False)
class Constant:
    """A tensor that does not depend on the picture, and its name in the state dict, if any."""
    tensor: torch.Tensor
    name: str = None


def pair(value):
    return [int(v) for v in value] * (1 if len(value) == 2 else 2) if isinstance(value, (list, tuple)) else [int(value)] * 2


def expression(size):
    """A size of the traced program as a sympy expression."""
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(int(size))


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
