"""The list of ONNX's operators as PyTorch's functions, at concrete sizes, and what they have in common.

The operators are in onnx_layers.py, onnx_elements.py, onnx_shapes.py and onnx_resize.py. An operator takes its node and
the values of its inputs. A value is a tensor (it depends on the picture, or is a parameter) or an array of NumPy (a
constant, or computed from sizes); a left-out input is None.
"""

import numpy as np
import torch

from .onnx_windows import NotApplicable

OPERATORS = {}


def operator(*names):
    def register(function):
        OPERATORS.update(dict.fromkeys(names, function))
        return function
    return register


def tensor(value, like):
    """The value as a tensor, floats in the type of `like`."""
    if isinstance(value, torch.Tensor):
        return value
    result = torch.from_numpy(np.array(value))
    return result.to(like.dtype) if result.is_floating_point() and like.is_floating_point() else result


def operand(value, other):
    """An operand of an elementwise operation: a single number as such, other values as tensors."""
    if not isinstance(value, np.ndarray):
        return value
    if value.size == 1 and value.ndim <= other.dim():
        return value.item()
    return tensor(value, other)


def operands(*values):
    first = next(v for v in values if isinstance(v, torch.Tensor))
    return [operand(v, first) for v in values]


def integers(value, what):
    """A constant, or a value computed from sizes, as a list of integers."""
    if isinstance(value, torch.Tensor):
        raise NotApplicable(f"{what} depends on the picture's values")
    return [int(v) for v in np.asarray(value).flatten()]


def number(value, what):
    """A constant as a number; a parameter of a single element is one, too."""
    if isinstance(value, torch.nn.Parameter) and value.numel() == 1:
        return float(value.detach())
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise NotApplicable(f"{what} is not a single constant")
    return value.item()


def axes_of(node, value, rank, name="axes"):
    """The axes of an operator, by attribute or input, from 0; None when absent."""
    axes = node.attributes.get(name) if value is None else integers(value, name)
    return None if axes is None else [int(a) % rank for a in axes]
