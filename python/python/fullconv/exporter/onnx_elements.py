"""ONNX's functions of one number, of several tensors, and over axes."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .onnx_operators import OPERATORS, axes_of, integers, number, operand, operands, operator, tensor
from .onnx_windows import NotApplicable


# -- functions of one number ---------------------------------------------------------------------------------


def unary(name, function):
    OPERATORS[name] = lambda node, x: function(x)


for _name, _function in {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": F.hardswish, "Mish": F.mish,
    "Softplus": F.softplus, "Softsign": F.softsign, "Abs": torch.abs, "Exp": torch.exp, "Log": torch.log,
    "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal, "Neg": torch.neg, "Erf": torch.erf, "Floor": torch.floor,
    "Ceil": torch.ceil, "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan,
    "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh,
    "Not": torch.logical_not, "Identity": lambda x: x,
}.items():
    unary(_name, _function)


@operator("Dropout")
def dropout(node, x, ratio=None, training=None):
    if len(node.outputs) > 1 or training is not None and np.any(training):
        raise NotApplicable("in training, or with the mask as an output")
    return x


@operator("HardSigmoid")
def hard_sigmoid(node, x):
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-7) and beta == 0.5:
        return F.hardsigmoid(x)
    return (x * alpha + beta).clamp(0.0, 1.0)


@operator("LeakyRelu")
def leaky_relu(node, x):
    return F.leaky_relu(x, node.attributes.get("alpha", 0.01))


@operator("Elu")
def elu(node, x):
    return F.elu(x, node.attributes.get("alpha", 1.0))


@operator("Celu")
def celu(node, x):
    return F.celu(x, node.attributes.get("alpha", 1.0))


@operator("Selu")
def selu(node, x):
    alpha, gamma = node.attributes.get("alpha", 1.67326319217681884765625), node.attributes.get("gamma", 1.05070102214813232421875)
    if math.isclose(alpha, 1.67326319217681884765625, rel_tol=1e-6) and math.isclose(gamma, 1.05070102214813232421875, rel_tol=1e-6):
        return F.selu(x)
    return F.elu(x, alpha) * gamma


@operator("Gelu")
def gelu(node, x):
    return F.gelu(x, approximate=node.attributes.get("approximate", "none"))


@operator("ThresholdedRelu")
def thresholded_relu(node, x):
    return F.threshold(x, node.attributes.get("alpha", 1.0), 0.0)


@operator("Shrink")
def shrink(node, x):
    bias, lambd = node.attributes.get("bias", 0.0), node.attributes.get("lambd", 0.5)
    if bias not in (0.0, lambd):
        raise NotApplicable(f"bias {bias} and lambd {lambd}")
    return F.softshrink(x, lambd) if bias else F.hardshrink(x, lambd)


@operator("PRelu")
def prelu(node, x, slope):
    slope = tensor(slope, x)
    if slope.numel() == 1 or slope.numel() == x.shape[1] and slope.dim() == x.dim() - 1 and slope.shape[0] == x.shape[1]:
        return F.prelu(x, slope.flatten())
    return torch.where(x < 0, x * slope, x)


@operator("Clip")
def clip(node, x, low=None, high=None):
    low = node.attributes.get("min") if low is None else number(low, "min")
    high = node.attributes.get("max") if high is None else number(high, "max")
    # Bounds at the end of f32's range are none.
    low, high = (None if bound is None or abs(bound) > 3.4e38 else bound for bound in (low, high))
    return x if low is None and high is None else x.clamp(low, high)


def type_of(value):
    """The number of ONNX's type: 1 for floats, 9 for booleans, 7 for integers, 0 for others."""
    if isinstance(value, torch.Tensor):
        return 1 if value.is_floating_point() else 9 if value.dtype == torch.bool else 7
    return {"f": 1, "b": 9, "i": 7, "u": 7}.get(value.dtype.kind, 0) if value.dtype.isbuiltin == 1 else 0


@operator("Cast", "CastLike")
def cast(node, x, like=None):
    """Types of floats are one: the network computes in the picture's type."""
    kind = node.attributes["to"] if like is None else type_of(like)
    if isinstance(x, np.ndarray):
        return x.astype({1: np.float32, 9: np.bool_}.get(kind, np.int64))
    if kind in (1, 10, 11, 16):
        return x if x.is_floating_point() else x.to(node.state.dtype)
    if kind == 9:
        return x != 0
    if x.is_floating_point() or kind not in (2, 3, 4, 5, 6, 7, 12, 13):
        raise NotApplicable("from floats to integers, or to a small type")
    return x.long()


# -- functions of several tensors ----------------------------------------------------------------------------


def binary(name, function):
    def compute(node, *values):
        result, *others = operands(*values)
        for other in others:
            result = function(result, other)
        return result
    OPERATORS[name] = compute


def extreme(tensors, numbers):
    """The maximum or minimum of two operands, of which one may be a number."""
    def compute(a, b):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return tensors(a, b)
        return numbers(*((a, b) if isinstance(a, torch.Tensor) else (b, a)))
    return compute


for _name, _function in {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b,
    "Sum": lambda a, b: a + b, "Greater": lambda a, b: a > b, "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b, "LessOrEqual": lambda a, b: a <= b, "Equal": lambda a, b: a == b,
    "Max": extreme(torch.maximum, lambda x, n: x.clamp(min=n)), "Min": extreme(torch.minimum, lambda x, n: x.clamp(max=n)),
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}.items():
    binary(_name, _function)


@operator("Div")
def divide(node, a, b):
    a, b = operands(a, b)
    integer = not any(v.is_floating_point() if isinstance(v, torch.Tensor) else isinstance(v, float) for v in (a, b))
    return torch.div(a, b, rounding_mode="trunc") if integer else a / b


@operator("Pow")
def power(node, a, b):
    a, b = operands(a, b)
    return a * a if not isinstance(b, torch.Tensor) and b == 2 else a ** b


@operator("Mod")
def modulo(node, a, b):
    a, b = operands(a, b)
    return torch.fmod(a, b) if node.attributes.get("fmod", 0) else torch.remainder(a, b)


@operator("Mean")
def mean(node, *values):
    values = operands(*values)
    return sum(values[1:], values[0]) / len(values)


@operator("Where")
def where(node, condition, a, b):
    like = next((v for v in (a, b) if isinstance(v, torch.Tensor)), torch.zeros((), dtype=node.state.dtype))
    condition, a, b = tensor(condition, like), operand(a, like), operand(b, like)
    both = not any(isinstance(v, torch.Tensor) for v in (a, b))
    return torch.where(condition, tensor(np.array(a), like) if both else a, b)


@operator("MatMul")
def matmul(node, a, b):
    a, b = (v if isinstance(v, torch.Tensor) else tensor(v, b if isinstance(b, torch.Tensor) else a) for v in (a, b))
    return torch.matmul(a, b)


@operator("Linear")
def linear(node, x, weight, bias=None):
    """A MatMul or Gemm with a constant matrix, which onnx_graph.fuse transposes to PyTorch's layout."""
    return F.linear(x, tensor(weight, x), None if bias is None else tensor(bias, x))


@operator("Gemm")
def gemm(node, a, b, c=None):
    like = a if isinstance(a, torch.Tensor) else b
    a, b = tensor(a, like), tensor(b, like)
    a = a.T if node.attributes.get("transA", 0) else a
    b = b.T if node.attributes.get("transB", 0) else b
    y, alpha, beta = a @ b, node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    if c is None:
        return y
    return y + (tensor(c, like) if beta == 1.0 else tensor(c, like) * beta)


@operator("Einsum")
def einsum(node, *values):
    like = next(v for v in values if isinstance(v, torch.Tensor))
    return torch.einsum(node.attributes["equation"], *(tensor(v, like) for v in values))


# -- over axes -----------------------------------------------------------------------------------------------


def flattened(function):
    """Before opset 13, all axes from `axis` on are one."""
    def compute(node, x):
        axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1) % x.dim()
        if node.opset >= 13 or math.prod(x.shape[axis + 1:]) == 1:
            return function(x, axis)
        return function(x.flatten(axis), axis).reshape(x.shape)
    return compute


OPERATORS["Softmax"] = flattened(lambda x, axis: F.softmax(x, axis))
OPERATORS["LogSoftmax"] = flattened(lambda x, axis: F.log_softmax(x, axis))

REDUCTIONS = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": torch.logsumexp,
}


@operator(*REDUCTIONS)
def reduce(node, x, axes=None):
    axes = axes_of(node, axes, x.dim())
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return x
    return REDUCTIONS[node.op](x, tuple(axes or range(x.dim())), bool(node.attributes.get("keepdims", 1)))


@operator("ArgMax", "ArgMin")
def argmax(node, x):
    if node.attributes.get("select_last_index", 0):
        raise NotApplicable("the last of equal values, where PyTorch takes the first")
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return function(x, node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1)))


@operator("CumSum")
def cumsum(node, x, axis):
    if node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        raise NotApplicable("exclusive or reverse")
    return x.cumsum(integers(axis, "axis")[0])
