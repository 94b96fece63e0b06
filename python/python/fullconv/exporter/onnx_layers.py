"""ONNX's convolutions, poolings and normalisations."""

import torch
import torch.nn.functional as F

from .onnx_operators import integers, operator, tensor
from .onnx_windows import NotApplicable, padding, transposed_window, window

# A finite padding value below every activation: a max pool never selects it.
LOWEST = -3.0e38

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
