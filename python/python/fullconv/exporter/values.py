"""The data of a translation: numbers that depend on the picture's size, nodes and constants."""

import operator
from dataclasses import dataclass

import torch

# Default attributes, which are not written.
DEFAULTS = {
    "conv2d": {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
    "conv_transpose2d": {"stride": [1, 1], "padding": [0, 0], "output_padding": [0, 0], "groups": 1, "dilation": [1, 1]},
    "max_pool2d": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_pool2d_indices": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_unpool2d": {"padding": [0, 0]},
    "avg_pool2d": {"padding": [0, 0], "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "batch_norm2d": {"eps": 1e-5}, "group_norm": {"eps": 1e-5}, "instance_norm": {"eps": 1e-5}, "layer_norm": {"eps": 1e-5},
    "pad": {"mode": "constant", "value": 0.0},
    "interpolate": {"align_corners": False, "antialias": False},
    "clamp": {"min": None, "max": None},
    "softmax": {"dim": 1}, "log_softmax": {"dim": 1},
    "mean": {"dim": [2, 3]},
    "softplus": {"beta": 1.0, "threshold": 20.0}, "celu": {"alpha": 1.0}, "hardshrink": {"lambd": 0.5},
    "gelu": {"approximate": "none"},
    "slice": {"start": 0, "end": None, "step": 1},
    "full": {"fill_value": 0.0},
    "attention": {"num_heads": 1, "scale": None, "dim": 3},
    "unfold": {"dilation": [1, 1], "padding": [0, 0], "stride": [1, 1]},
}


class ExportError(Exception):
    """The module cannot be written as a model file; one line for each reason."""


class Unsupported(Exception):
    """An operation that fullconv lacks, or lacks with these arguments."""


class Series:
    """A number that depends on the picture's size: its value for each traced picture."""

    def __init__(self, values):
        self.values = tuple(values)

    def __eq__(self, other):
        return isinstance(other, Series) and self.values == other.values

    def __hash__(self):
        return hash(self.values)

    def __repr__(self):
        return "|".join(map(str, self.values))


def each(value, count):
    """The values of a number for `count` pictures."""
    return value.values if isinstance(value, Series) else (value,) * count


def series(values):
    """The plain number if all values are equal."""
    values = list(values)
    return values[0] if all(v == values[0] and type(v) is type(values[0]) for v in values) else Series(values)


def calculate(function, *numbers):
    """The function of numbers that may depend on the picture's size."""
    count = next((len(n.values) for n in numbers if isinstance(n, Series)), 1)
    return series(function(*v) for v in zip(*(each(n, count) for n in numbers)))


def product(sizes):
    result = 1
    for size in sizes:
        result = calculate(operator.mul, result, size)
    return result


@dataclass(eq=False)
class Made:
    """A node of the written graph; its shape is [n, c, h, w]."""
    op: str
    inputs: list
    attributes: dict
    shape: list
    source: object = None
    name: str = None


@dataclass(eq=False)
class Constant:
    """A tensor that does not depend on the picture's pixels, for each traced picture, its name in the state dict, if any,
    and for each picture the call that made it of the module's tensors, or None."""
    tensors: list
    name: str = None
    calls: list = None

    @property
    def tensor(self):
        """The tensor, which has to be the same for every picture."""
        if self.follows_size():
            raise Unsupported("with a tensor that depends on the picture's size")
        return self.tensors[0]

    def follows_size(self):
        """Whether it depends on the picture's size."""
        first = self.tensors[0]
        return not all(t is first or (t.shape == first.shape and torch.equal(t, first)) for t in self.tensors[1:])

    def uniform(self):
        """The number that all elements are equal to, for every picture, or None."""
        if self.name is not None or not all(t.numel() for t in self.tensors):
            return None
        value = self.tensors[0].flatten()[0]
        return value.item() if all(bool((t == value).all()) for t in self.tensors) else None


def pair(value):
    return [int(v) for v in value] * (1 if len(value) == 2 else 2) if isinstance(value, (list, tuple)) else [int(value)] * 2


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
