"""ONNX's operators as PyTorch's functions, at concrete sizes.

An operator takes its node and the values of its inputs. A value is a tensor (it depends on the picture, or is a
parameter) or an array of NumPy (a constant, or computed from sizes); a left-out input is None.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .onnx_windows import NotApplicable, padding, transposed_window, window

# A finite padding value below every activation: a max pool never selects it.
LOWEST = -3.0e38
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


# -- convolutions and poolings -------------------------------------------------------------------------------


def spatial(values, x):
    """Pairs [vertical, horizontal] for the axes that `x` has."""
    return tuple(values[-(x.dim() - 2):])


def padded(x, before, after, value=0.0):
    pads = padding(before, after)[:2 * (x.dim() - 2)]
    return F.pad(x, pads, value=value) if any(pads) else x


@operator("Conv")
def conv(node, x, weight, bias=None):
    weight, bias = tensor(weight, x), None if bias is None else tensor(bias, x)
    _, stride, dilation, before, after = window(node.attributes, x.shape, weight.shape[2:])
    same = {"stride": spatial(stride, x), "dilation": spatial(dilation, x), "groups": node.attributes.get("group", 1)}
    function = F.conv2d if x.dim() == 4 else F.conv1d
    # With strides, the paddings of auto_pad follow the picture's size: the operations must not.
    follow = node.attributes.get("auto_pad", "NOTSET").startswith("SAME") and any(s != 1 for s in stride)
    if follow:
        return function(F.pad(x, padding(before, after)[:2 * (x.dim() - 2)]), weight, bias, **same)
    if before == after:
        return function(x, weight, bias, padding=spatial(before, x), **same)
    return function(padded(x, before, after), weight, bias, **same)


@operator("ConvTranspose")
def conv_transpose(node, x, weight, bias=None):
    weight, bias = tensor(weight, x), None if bias is None else tensor(bias, x)
    demanded = node.attributes.get("output_shape")
    demanded = None if demanded is None else [1, *demanded][-2:]
    stride, dilation, before, after, extra = transposed_window(node.attributes, x.shape, weight.shape[2:], demanded)
    same = {"stride": spatial(stride, x), "dilation": spatial(dilation, x), "groups": node.attributes.get("group", 1)}
    function = F.conv_transpose2d if x.dim() == 4 else F.conv_transpose1d
    # A padding cuts both ends equally; more or less at the end is output padding, as far as that goes.
    more = [e + b - a for e, b, a in zip(extra, before, after)]
    if all(0 <= m < max(s, d) or m == 0 for m, s, d in zip(more, stride, dilation)):
        return function(x, weight, bias, padding=spatial(before, x), output_padding=spatial(more, x), **same)
    y = function(x, weight, bias, output_padding=spatial(extra, x), **same)
    for axis, b, a in zip(range(2, x.dim()), spatial(before, x), spatial(after, x)):
        y = y.narrow(axis, b, y.shape[axis] - b - a)
    return y


def pool_window(node, x):
    kernel, stride, dilation, before, after = window(node.attributes, x.shape, node.attributes["kernel_shape"])
    fits = before == after and all(2 * p <= k for p, k in zip(before, kernel))
    return kernel, stride, dilation, before, after, fits, bool(node.attributes.get("ceil_mode", 0))


@operator("MaxPool")
def max_pool(node, x):
    kernel, stride, dilation, before, after, fits, ceil_mode = pool_window(node, x)
    indices = len(node.outputs) > 1
    if indices and (node.attributes.get("storage_order", 0) or not fits or x.dim() != 4):
        raise NotApplicable("indices that are column-major, or of unequal paddings")
    padding = spatial(before, x) if fits else 0
    x = x if fits else padded(x, before, after, LOWEST)
    function = F.max_pool2d if x.dim() == 4 else F.max_pool1d
    result = function(x, spatial(kernel, x), spatial(stride, x), padding, spatial(dilation, x), ceil_mode, indices)
    if not indices or node.plane_indices:
        return result
    # ONNX counts through the whole tensor, PyTorch through a plane.
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1) * (x.shape[2] * x.shape[3])
    return result[0], result[1] + planes


@operator("MaxUnpool")
def max_unpool(node, x, indices, shape=None):
    kernel, stride, _, before, after = window(node.attributes, x.shape, node.attributes["kernel_shape"])
    usual = [(size - 1) * s - b - a + k for size, s, b, a, k in zip(x.shape[2:], stride, before, after, kernel)]
    size = usual if shape is None else integers(shape, "output_shape")[2:]
    if before != after or not node.plane_indices or size != usual:
        raise NotApplicable("an output_shape other than the default, or indices that are not those of a MaxPool")
    return F.max_unpool2d(x, indices, kernel, stride, before, size)


@operator("AveragePool")
def average_pool(node, x):
    kernel, stride, dilation, before, after, fits, ceil_mode = pool_window(node, x)
    if dilation != [1, 1]:
        raise NotApplicable("dilations, which PyTorch's avg_pool2d does not have")
    include = bool(node.attributes.get("count_include_pad", 0))
    function = F.avg_pool2d if x.dim() == 4 else F.avg_pool1d
    if fits:
        return function(x, spatial(kernel, x), spatial(stride, x), spatial(before, x), ceil_mode, include or not any(before))
    if include and not ceil_mode:
        return function(padded(x, before, after), spatial(kernel, x), spatial(stride, x))
    most = [max(b, a) for b, a in zip(before, after)]
    if ceil_mode or stride != [1, 1] or any(2 * p > k for p, k in zip(most, kernel)):
        raise NotApplicable(f"paddings {before} and {after} that do not count, with strides {stride}")
    # With stride 1, equal paddings give more means than wanted: the surplus is cut.
    y = function(x, spatial(kernel, x), 1, spatial(most, x), False, False)
    for axis, m, b, a in zip(range(2, x.dim()), spatial(most, x), spatial(before, x), spatial(after, x)):
        y = y.narrow(axis, m - b, y.shape[axis] - 2 * m + b + a)
    return y


@operator("GlobalAveragePool")
def global_average_pool(node, x):
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node, x):
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


# -- normalisations ------------------------------------------------------------------------------------------


@operator("BatchNormalization")
def batch_norm(node, x, weight, bias, mean, var):
    if node.attributes.get("training_mode", 0) or len(node.outputs) > 1:
        raise NotApplicable("training mode: the statistics come from the picture")
    return F.batch_norm(x, *(tensor(v, x) for v in (mean, var, weight, bias)), False, 0.0, node.attributes.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(node, x, weight, bias):
    return F.instance_norm(x, weight=tensor(weight, x), bias=tensor(bias, x), eps=node.attributes.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(node, x, weight, bias=None):
    if len(node.outputs) > 1:
        raise NotApplicable("the mean and the deviation as outputs")
    shape = x.shape[node.attributes.get("axis", -1) % x.dim():]
    parameters = [None if v is None else tensor(v, x) for v in (weight, bias)]
    parameters = [p if p is None or p.shape == shape else p.expand(shape) for p in parameters]
    return F.layer_norm(x, tuple(shape), *parameters, node.attributes.get("epsilon", 1e-5))


@operator("GroupNormalization")
def group_norm(node, x, weight, bias):
    groups, parameters = node.attributes["num_groups"], [tensor(v, x) for v in (weight, bias)]
    if node.opset < 21:  # one number for each group
        parameters = [p.repeat_interleave(x.shape[1] // groups) for p in parameters]
    return F.group_norm(x, groups, *parameters, node.attributes.get("epsilon", 1e-5))


@operator("GroupOfInstances")
def group_of_instances(node, x):
    """A group norm that is written as an instance norm of a reshaped tensor: see onnx_graph.fuse."""
    return F.group_norm(x, node.attributes["num_groups"], None, None, node.attributes.get("epsilon", 1e-5))


@operator("MeanVarianceNormalization")
def mean_variance_norm(node, x):
    axes = tuple(node.attributes.get("axes", [0, 2, 3]))
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + 1e-9).sqrt()


@operator("LpNormalization")
def lp_norm(node, x):
    axis = node.attributes.get("axis", -1)
    norm = x.abs().sum(axis, keepdim=True) if node.attributes.get("p", 2) == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return x / norm.clamp(min=1e-30)  # zeros stay zeros


@operator("LRN")
def lrn(node, x):
    size = node.attributes["size"]
    if size % 2 == 0:
        raise NotApplicable("an even size, whose window lies elsewhere than PyTorch's")
    values = (node.attributes.get(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return F.local_response_norm(x, size, *values)


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


# -- shapes --------------------------------------------------------------------------------------------------


@operator("Reshape")
def reshape(node, x, shape):
    shape = integers(shape, "a shape")
    if not node.attributes.get("allowzero", 0):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


@operator("Flatten")
def flatten(node, x):
    axis = node.attributes.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze")
def squeeze(node, x, axes=None):
    axes = axes_of(node, axes, x.dim())
    axes = [axis for axis, size in enumerate(x.shape) if size == 1] if axes is None else axes
    for axis in sorted(axes, reverse=True):
        if x.shape[axis] != 1:
            raise NotApplicable(f"of axis {axis}, whose size is {x.shape[axis]}")
        x = x.squeeze(axis)
    return x


@operator("Unsqueeze")
def unsqueeze(node, x, axes=None):
    axes = node.attributes["axes"] if axes is None else integers(axes, "axes")
    for axis in sorted(a % (x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def transpose(node, x):
    return x.permute(*node.attributes.get("perm", range(x.dim() - 1, -1, -1)))


@operator("Expand")
def expand(node, x, shape):
    shape = integers(shape, "a shape")
    return x.expand(np.broadcast_shapes(tuple(int(s) for s in x.shape), tuple(shape)))


@operator("Tile")
def tile(node, x, repeats):
    return x.repeat(integers(repeats, "repeats"))


@operator("Concat")
def concat(node, *values):
    like = next(v for v in values if isinstance(v, torch.Tensor))
    return torch.cat([tensor(v, like) for v in values], node.attributes["axis"])


@operator("Stack")
def stack(node, *values):
    """A Concat of tensors that an Unsqueeze gave the axis: see onnx_graph.fuse."""
    like = next(v for v in values if isinstance(v, torch.Tensor))
    return torch.stack([tensor(v, like) for v in values], node.attributes["axis"])


@operator("Split")
def split(node, x, sizes=None):
    axis = node.attributes.get("axis", 0) % x.dim()
    sizes = node.attributes.get("split") if sizes is None else integers(sizes, "split")
    if sizes is None:
        count = len(node.outputs)
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return torch.split(x, list(sizes), axis)


@operator("Slice")
def slice_(node, x, starts=None, ends=None, axes=None, steps=None):
    starts, ends = integers(starts, "starts"), integers(ends, "ends")
    axes = list(range(len(starts))) if axes is None else [a % x.dim() for a in integers(axes, "axes")]
    steps = [1] * len(starts) if steps is None else integers(steps, "steps")
    for start, end, axis, step in zip(starts, ends, axes, steps):
        size = x.shape[axis]
        if step < 0:
            # The same elements, first to last, then reversed.
            start, end = (max(v + size, -1) if v < 0 else min(v, size - 1) for v in (start, end))
            count = max(-(-(start - end) // -step), 0)
            x = x[(slice(None),) * axis + (slice(start + (count - 1) * step, start + 1, -step),)].flip(axis)
        else:
            x = x[(slice(None),) * axis + (slice(start, min(end, size), step),)]
    return x


@operator("Gather")
def gather(node, x, indices):
    axis = node.attributes.get("axis", 0)
    if isinstance(indices, torch.Tensor) or not isinstance(x, torch.Tensor):
        raise NotApplicable("indices that depend on the picture's values")
    axis %= x.dim()
    if indices.ndim == 0:
        return x.select(axis, int(indices))
    places = torch.from_numpy(np.where(indices < 0, indices + int(x.shape[axis]), indices).astype(np.int64).flatten())
    result = torch.index_select(x, axis, places)
    return result if indices.ndim == 1 else result.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1:])


@operator("Pad")
def pad(node, x, pads=None, value=None, axes=None):
    pads = node.attributes["pads"] if pads is None else integers(pads, "pads")
    value = node.attributes.get("value", 0.0) if value is None else number(value, "the value")
    axes = list(range(x.dim())) if axes is None else [a % x.dim() for a in integers(axes, "axes")]
    before, after = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    mode = {"edge": "replicate", "wrap": "circular"}.get(*[node.attributes.get("mode", "constant")] * 2)
    used = [axis for axis in range(x.dim()) if before[axis] or after[axis]]
    if not used and (len(node.fixed) < 2 or node.fixed[1]):
        return x
    # torch pads the last axes: the same ones for pictures of every size.
    first = min([*used, 2]) if x.dim() > 2 else 0
    if mode != "constant" and (first < 2 or x.dim() not in (3, 4) or min(before + after) < 0):
        raise NotApplicable(f"mode {mode} for other axes than height and width, or to crop")
    order = [p for axis in range(x.dim() - 1, first - 1, -1) for p in (before[axis], after[axis])]
    return F.pad(x, order, mode, float(value)) if mode == "constant" else F.pad(x, order, mode)


@operator("DepthToSpace")
def depth_to_space(node, x):
    block = node.attributes["blocksize"]
    if node.attributes.get("mode", "DCR") == "DCR":
        x = torch.index_select(x, 1, torch.arange(x.shape[1]).reshape(block * block, -1).T.flatten())
    return F.pixel_shuffle(x, block)


@operator("SpaceToDepth")
def space_to_depth(node, x):
    block = node.attributes["blocksize"]
    y = F.pixel_unshuffle(x, block)
    return torch.index_select(y, 1, torch.arange(y.shape[1]).reshape(-1, block * block).T.flatten())


@operator("Filled")
def filled(node, shape):
    """A ConstantOfShape of the picture's size."""
    value = node.attributes.get("value")
    return torch.full(integers(shape, "a shape"), 0.0 if value is None else float(value.flatten()[0]), dtype=node.state.dtype)


# -- resize --------------------------------------------------------------------------------------------------


@operator("Resize", "Upsample")
def resize(node, x, roi=None, scales=None, sizes=None):
    if node.op == "Upsample":
        scales, places = roi, "asymmetric"
    else:
        places = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode, size, factors = node.attributes.get("mode", "nearest"), None, None
    axes = [a % x.dim() for a in node.attributes.get("axes", range(x.dim()))]
    if scales is not None and np.size(scales):
        factors = dict(zip(axes, (float(s) for s in np.asarray(scales).flatten())))
        if any(factors.get(axis, 1.0) != 1.0 for axis in (0, 1)) or x.dim() != 4:
            raise NotApplicable("of other axes than height and width")
        factors = [factors.get(axis, 1.0) for axis in (2, 3)]
        size = [int(math.floor(n * f + 1e-9)) for n, f in zip(x.shape[2:], factors)]
    elif sizes is not None:
        wanted = dict(zip(axes, integers(sizes, "sizes")))
        if any(wanted.get(axis, x.shape[axis]) != x.shape[axis] for axis in (0, 1)) or x.dim() != 4:
            raise NotApplicable("of other axes than height and width")
        if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NotApplicable(f"keep_aspect_ratio_policy {node.attributes['keep_aspect_ratio_policy']}")
        size = [wanted.get(axis, x.shape[axis]) for axis in (2, 3)]
    else:
        raise NotApplicable("without scales and sizes")
    constant = factors is not None and len(node.fixed) > (1 if node.op == "Upsample" else 2) and node.fixed[1 if node.op == "Upsample" else 2]
    exact = factors is None or all(math.isclose(n * f, s, rel_tol=1e-6) for n, f, s in zip(x.shape[2:], factors, size))
    if mode == "nearest":
        return nearest(node, x, size, factors, places, constant)
    if mode not in ("linear", "cubic"):
        raise NotApplicable(f"mode {mode}")
    if places == "half_pixel_symmetric" and exact or places == "pytorch_half_pixel" and min(size) > 1:
        places = "half_pixel"
    if places not in ("half_pixel", "align_corners") or places == "align_corners" and not exact:
        raise NotApplicable(f"mode {mode} with coordinate_transformation_mode {places}, which PyTorch does not have"
                            if exact or places != "align_corners" else "align_corners with a size that is not whole")
    antialias, outside = bool(node.attributes.get("antialias", 0)), node.attributes.get("exclude_outside", 0)
    if antialias != bool(outside) and (antialias or mode == "cubic"):
        raise NotApplicable(f"antialias {int(antialias)} with exclude_outside {outside}: PyTorch treats the border otherwise")
    coefficient = node.attributes.get("cubic_coeff_a", -0.75)
    if mode == "cubic" and not math.isclose(coefficient, -0.5 if antialias else -0.75):
        raise NotApplicable(f"cubic_coeff_a {coefficient}, where PyTorch has {-0.5 if antialias else -0.75}")
    options = {"mode": {"linear": "bilinear", "cubic": "bicubic"}[mode], "align_corners": places == "align_corners", "antialias": antialias}
    if exact and not constant:
        return F.interpolate(x, size=size, **options)
    return F.interpolate(x, scale_factor=factors, recompute_scale_factor=False, **options)


def nearest(node, x, size, factors, places, constant):
    """The mode of PyTorch that takes the same pixels at this size."""
    rule = node.attributes.get("nearest_mode", "round_prefer_floor") if node.op == "Resize" else "floor"
    for mode in ("nearest", "nearest-exact"):
        for exact in ((False, True) if constant else (True, False)) if factors else (True,):
            same = True
            for axis in (0, 1):
                count, out = int(x.shape[2 + axis]), size[axis]
                scale = factors[axis] if factors else out / count
                theirs = places_of(np.arange(out, dtype=np.float64), count, out, scale, places, rule)
                step = 1.0 / scale if factors and not exact else count / out
                ours = np.floor((np.arange(out) + (0.5 if mode == "nearest-exact" else 0.0)) * step)
                same = same and np.array_equal(theirs, ours.clip(0, count - 1))
            if same:
                options = {"size": size} if exact else {"scale_factor": factors, "recompute_scale_factor": False}
                return F.interpolate(x, mode=mode, **options)
    raise NotApplicable(f"nearest_mode {rule} with coordinate_transformation_mode {places}: other pixels than PyTorch's")


def places_of(y, count, out, scale, places, rule):
    """The pixels that ONNX's rules take for the pixels `y` of the output."""
    if places == "align_corners":
        at = y * (count - 1) / (out - 1) if out > 1 else y * 0.0
    elif places == "asymmetric":
        at = y / scale
    elif places == "half_pixel" or places == "pytorch_half_pixel" and out > 1:
        at = (y + 0.5) / scale - 0.5
    elif places == "half_pixel_symmetric" and math.isclose(out, count * scale):
        at = (y + 0.5) / scale - 0.5
    elif places == "tf_half_pixel_for_nn":
        at = (y + 0.5) / scale
    else:
        raise NotApplicable(f"coordinate_transformation_mode {places}")
    round_ = {"floor": np.floor, "ceil": np.ceil, "round_prefer_ceil": lambda v: np.floor(v + 0.5),
              "round_prefer_floor": lambda v: np.ceil(v - 0.5)}[rule]
    return round_(np.round(at, 9)).clip(0, count - 1)
