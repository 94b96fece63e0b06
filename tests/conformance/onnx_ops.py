"""Translates ONNX's operators to operations of fullconv: each function returns the cases of one ONNX case."""

from dataclasses import dataclass

import numpy as np

from exporter.onnx_windows import NotApplicable, padding, transposed_window, window

# A finite padding value below every number of a case: a max pool never selects it.
LOWEST = -3.0e38


@dataclass
class Case:
    """A translation: nodes as in a model file, the last one the output. `reason` explains a result that differs.
    `within` is the error of ONNX's own numbers, if it exceeds that of an f32 sum."""
    tensors: dict
    nodes: list
    output: np.ndarray
    note: str = ""
    reason: str = ""
    within: float = 0.0
    name: str = ""


def node(op, *inputs, name=None, **attributes):
    return {"name": name or op, "op": op, "inputs": list(inputs), "attributes": attributes}


def floats(*tensors):
    for tensor in tensors:
        if tensor is not None and tensor.dtype != np.float32:
            raise NotApplicable(f"{tensor.dtype}: fullconv computes in f32")


def moved(tensor):
    """Integers as f32, which holds them exactly, for operations that only move values."""
    assert np.all(tensor.astype(np.float32) == tensor)
    return tensor.astype(np.float32)


def as_picture(tensor):
    """Reshapes [n, c, w] to [n, c, 1, w]."""
    if tensor.ndim == 3:
        return tensor[:, :, None, :]
    if tensor.ndim != 4:
        raise NotApplicable(f"{tensor.ndim - 2} spatial dimensions")
    return tensor


def lead(tensor):
    """Adds leading axes of size 1, for elementwise operations."""
    if tensor.ndim > 4:
        raise NotApplicable(f"{tensor.ndim} dimensions")
    return tensor.reshape([1] * (4 - tensor.ndim) + list(tensor.shape))


def by_axis(tensor, axis):
    """Makes `axis` the channels; the axes before it become the batch, the axes after it pixels."""
    axis %= tensor.ndim
    before, after = tensor.shape[:axis], tensor.shape[axis + 1:]
    return tensor.reshape(int(np.prod(before)), tensor.shape[axis], int(np.prod(after)), 1)


def laid(tensor):
    """A remark on a tensor that is reshaped to [n, c, h, w]."""
    return "" if tensor.ndim == 4 else f"{tensor.ndim} dimensions, reshaped to four"


def conv(attributes, inputs, outputs):
    x, weight, *bias = inputs
    _, stride, dilation, before, after = window(attributes, x.shape, weight.shape[2:])
    tensors = {"input": as_picture(x), "weight": as_picture(weight), **({"bias": bias[0]} if bias else {})}
    same = {"stride": stride, "dilation": dilation, "groups": attributes.get("group", 1)}
    parameters = list(tensors)[1:]
    if before == after:
        nodes = [node("conv2d", "input", *parameters, padding=before, **same)]
    else:
        nodes = [node("pad", "input", padding=padding(before, after)), node("conv2d", "pad", *parameters, **same)]
    return [Case(tensors, nodes, as_picture(outputs[0]), laid(x))]


def conv_transpose(attributes, inputs, outputs):
    x, weight, *bias = inputs
    output = as_picture(outputs[0])
    demanded = list(output.shape[2:]) if "output_shape" in attributes else None
    stride, dilation, before, after, extra = transposed_window(attributes, x.shape, weight.shape[2:], demanded)
    weight, note = as_picture(weight), laid(x)
    if dilation != [1, 1]:
        sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation)]
        spread = np.zeros((*weight.shape[:2], *sizes), np.float32)
        spread[:, :, ::dilation[0], ::dilation[1]] = weight
        weight, note = spread, "dilation as zeros between the weights"
    tensors = {"input": as_picture(x), "weight": weight, **({"bias": bias[0]} if bias else {})}
    same = {"stride": stride, "groups": attributes.get("group", 1), "output_padding": extra}
    parameters = list(tensors)[1:]
    if before == after:
        nodes = [node("conv_transpose2d", "input", *parameters, padding=before, **same)]
    else:
        tensors["size"] = np.zeros((1, 1, *output.shape[2:]), np.float32)
        nodes = [node("conv_transpose2d", "input", *parameters, **same),
                 node("crop", "conv_transpose2d", "size", offset=before)]
    return [Case(tensors, nodes, output, note)]


def pool(op, attributes, inputs, output, **more):
    """One pooling. PyTorch has no unequal paddings: a max pool is padded first. A mean without its padding uses the
    larger padding on both sides and a crop, or a sum and a factor."""
    [x] = inputs
    kernel, stride, dilation, before, after = window(attributes, x.shape, attributes["kernel_shape"])
    values = {"kernel_size": kernel, "stride": stride, "ceil_mode": bool(attributes.get("ceil_mode", 0)), **more}
    if op != "avg_pool2d":
        values["dilation"] = dilation
    elif dilation != [1, 1]:
        raise NotApplicable("dilation, which avg_pool2d does not have")
    tensors, note, padded = {"input": as_picture(x)}, laid(x), node("pad", "input", padding=padding(before, after))
    most = [max(b, a) for b, a in zip(before, after)]
    fits = all(2 * p <= k for p, k in zip(most, kernel))
    if before == after and fits:
        nodes = [node(op, "input", padding=before, **values)]
    elif op != "avg_pool2d":
        padded["attributes"]["value"] = LOWEST
        nodes = [padded, node(op, "pad", **values)]
    elif values["ceil_mode"]:
        raise NotApplicable(f"paddings {before} and {after}, and a window past them")
    elif values["count_include_pad"]:
        nodes = [padded, node(op, "pad", **values)]
    elif stride == [1, 1] and fits:
        tensors["size"] = np.zeros((1, 1, *output.shape[2:]), np.float32)
        nodes = [node(op, "input", padding=most, **values),
                 node("crop", op, "size", offset=[m - b for m, b in zip(most, before)])]
    else:
        inside = [[sum(0 <= at * s - b + k < size for k in range(kernel_size)) for at in range(count)] for s, b, size, kernel_size, count
                  in zip(stride, before, as_picture(x).shape[2:], kernel, output.shape[2:])]
        tensors["share"] = (1.0 / np.outer(*inside)).astype(np.float32)[None, None]
        values["divisor_override"] = 1
        nodes = [padded, node(op, "pad", **values), node("mul", op, "share")]
        note = "sums, times a tensor of 1 / number of pixels"
    return Case(tensors, nodes, output, note)


def max_pool(attributes, inputs, outputs):
    floats(*inputs)
    [x] = inputs
    cases = [pool("max_pool2d", attributes, inputs, as_picture(outputs[0]))]
    if len(outputs) > 1 and not attributes.get("storage_order", 0):
        assert x.shape[:2] == (1, 1)  # ONNX counts through the whole tensor, PyTorch through a plane
        case = pool("max_pool2d_indices", attributes, inputs, moved(outputs[1]))
        cases.append(Case(case.tensors, case.nodes, case.output, name="indices"))
    elif len(outputs) > 1:
        cases[0].note = "column-major indices, unlike PyTorch's: only the values"
    return cases


def max_unpool(attributes, inputs, outputs):
    x, indices, *shape = inputs
    kernel, stride, _, before, after = window(attributes, x.shape, attributes["kernel_shape"])
    assert before == after
    tensors = {"input": x, "indices": moved(indices)}
    nodes = [node("max_unpool2d", "input", "indices", kernel_size=kernel, stride=stride, padding=before)]
    usual = [(size - 1) * s - 2 * p + k for size, s, p, k in zip(x.shape[2:], stride, before, kernel)]
    more = [to - size for to, size in zip(outputs[0].shape[2:], usual)]
    note = ""
    if any(more):
        nodes.append(node("pad", "max_unpool2d", padding=padding([0, 0], more)))
        note = "the indices refer to the default size: the rest is padding"
    return [Case(tensors, nodes, outputs[0], note)]


def average_pool(attributes, inputs, outputs):
    include = bool(attributes.get("count_include_pad", 0))
    return [pool("avg_pool2d", attributes, inputs, as_picture(outputs[0]), count_include_pad=include)]


def global_average_pool(attributes, inputs, outputs):
    return [Case({"input": inputs[0]}, [node("mean", "input")], outputs[0])]


def batch_norm(attributes, inputs, outputs):
    if attributes.get("training_mode", 0):
        raise NotApplicable("training mode: the statistics come from the input")
    tensors = dict(zip(["input", "weight", "bias", "running_mean", "running_var"], inputs))
    return [Case(tensors, [node("batch_norm2d", *tensors, eps=round(attributes.get("epsilon", 1e-5), 9))], outputs[0])]


def resize(attributes, inputs, outputs):
    x = inputs[0]
    mode, place = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "cubic":
        raise NotApplicable("mode cubic")
    if attributes.get("antialias", 0):
        raise NotApplicable("antialiased")
    if place == "tf_crop_and_resize":
        raise NotApplicable("coordinates tf_crop_and_resize")
    assert x.ndim == 4 and x.shape[:2] == outputs[0].shape[:2]
    scales = inputs[2] if len(inputs) > 2 and inputs[2] is not None and inputs[2].size else None
    values = {"mode": "nearest"}
    if mode == "linear":
        values = {"mode": "bilinear", "align_corners": place == "align_corners"}
        if place == "half_pixel_symmetric":
            raise NotApplicable("coordinates half_pixel_symmetric")
    rule = attributes.get("nearest_mode", "round_prefer_floor")
    reason = f"nearest_mode {rule}, coordinates {place}: other pixels than ⌊y · in / out⌋"
    if scales is not None and mode == "linear":
        axes = attributes.get("axes", [0, 1, 2, 3])
        factors = [float(np.float32(scales[list(axes).index(axis)])) for axis in (2, 3)]
        # Rounding restores the intended factor, which f32 does not hold exactly.
        case = Case({"input": x}, [node("interpolate", "input", scale_factor=[round(f, 6) for f in factors], **values)],
                    outputs[0])
    else:
        size = list(outputs[0].shape[2:])
        case = Case({"input": x}, [node("interpolate", "input", size=size, **values)], outputs[0])
    if mode == "nearest":
        case.note, case.reason = f"nearest_mode {rule}, coordinates {place}: the same pixels at this size", reason
    if place == "align_corners" and mode == "linear":
        case.reason = "coordinates align_corners with a fractional size, scale · in, which PyTorch rounds"
    if place == "pytorch_half_pixel":
        case.reason = "coordinates pytorch_half_pixel: 0 for size 1, which PyTorch no longer does"
    return [case]


def argmax(attributes, inputs, outputs):
    if attributes.get("select_last_index", 0):
        raise NotApplicable("takes the last of equal values, PyTorch the first")
    axis = attributes.get("axis", 0)
    x = by_axis(inputs[0], axis)
    output = moved(outputs[0]).reshape(x.shape[0], 1, *x.shape[2:])
    return [Case({"input": x}, [node("argmax", "input")], output, laid(inputs[0]))]


def softmax(attributes, inputs, outputs):
    axis = attributes.get("axis", -1)
    return [Case({"input": by_axis(inputs[0], axis)}, [node("softmax", "input")], by_axis(outputs[0], axis), laid(inputs[0]))]


def unary(op, *names):
    """An elementwise operation; `names` lists ONNX's name, fullconv's name and ONNX's default of each attribute."""
    def translate(attributes, inputs, outputs):
        values = {ours: round(attributes.get(name, default), 7) for name, ours, default in names}
        return [Case({"input": lead(inputs[0])}, [node(op, "input", **values)], lead(outputs[0]), laid(inputs[0]))]
    return translate


def elu(attributes, inputs, outputs):
    [case] = unary("elu", ("alpha", "alpha", 1.0))(attributes, inputs, outputs)
    # NumPy computes alpha · (exp(x) − 1) in f32, with |exp(x)| up to 1: two roundings each of exp, difference, product.
    case.within = 6.0 * 2.0 ** -24 * attributes.get("alpha", 1.0)
    return [case]


def hard_sigmoid(attributes, inputs, outputs):
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    tensors = {"input": lead(inputs[0]), "beta": np.full((1, 1, 1, 1), beta, np.float32)}
    nodes = [node("scale", "input", factor=round(alpha, 7)), node("add", "scale", "beta"), node("clamp", "add", min=0.0, max=1.0)]
    return [Case(tensors, nodes, lead(outputs[0]), "a slope other than PyTorch's 1/6")]


def clip(attributes, inputs, outputs):
    floats(inputs[0])
    low, high = (*inputs[1:], None, None)[:2]
    bounds = {name: float(bound) for name, bound in (("min", low), ("max", high)) if bound is not None}
    if not bounds:
        raise NotApplicable("no bounds, which torch.clamp does not allow")
    return [Case({"input": lead(inputs[0])}, [node("clamp", "input", **bounds)], lead(outputs[0]), laid(inputs[0]))]


def binary(op):
    def translate(attributes, inputs, outputs):
        floats(*inputs)
        tensors = {"input": lead(inputs[0]), "other": lead(inputs[1])}
        return [Case(tensors, [node(op, "input", "other")], lead(outputs[0]), laid(inputs[0]))]
    return translate


def concat(attributes, inputs, outputs):
    axis = attributes["axis"]
    names = ["input", *(f"input{i}" for i in range(1, len(inputs)))]
    tensors = {name: by_axis(moved(x), axis) for name, x in zip(names, inputs)}
    return [Case(tensors, [node("cat", *names)], by_axis(outputs[0], axis), laid(inputs[0]))]


def pad(attributes, inputs, outputs):
    x, pads, *rest = inputs
    mode = attributes.get("mode", "constant")
    if mode == "wrap":
        raise NotApplicable("mode wrap")
    axes = [int(a) % x.ndim for a in rest[1]] if len(rest) > 1 and rest[1] is not None else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(axes)])
    if any(before[:-2] + after[:-2]):
        raise NotApplicable("pads channels")
    values = {"mode": {"edge": "replicate"}.get(mode, mode)}
    if rest and rest[0] is not None and mode == "constant":
        values["value"] = round(float(rest[0]), 6)
    nodes = [node("pad", "input", padding=padding(before[-2:], after[-2:]), **values)]
    return [Case({"input": moved(x)}, nodes, moved(outputs[0]), "" if x.dtype == np.float32 else f"{x.dtype}, as f32")]


def lrn(attributes, inputs, outputs):
    values = {"size": attributes["size"], "alpha": round(attributes.get("alpha", 1e-4), 9),
              "beta": round(attributes.get("beta", 0.75), 7), "k": attributes.get("bias", 1.0)}
    return [Case({"input": inputs[0]}, [node("local_response_norm", "input", **values)], outputs[0])]


def depth_to_space(attributes, inputs, outputs):
    block, x = attributes["blocksize"], inputs[0]
    shuffle = {"upscale_factor": block}
    if attributes.get("mode", "DCR") == "CRD":
        return [Case({"input": x}, [node("pixel_shuffle", "input", **shuffle)], outputs[0])]
    channels = x.shape[1]
    order = np.arange(channels).reshape(block * block, -1).T.flatten()
    weight = np.zeros((channels, channels, 1, 1), np.float32)
    weight[np.arange(channels), order] = 1.0
    nodes = [node("conv2d", "input", "weight"), node("pixel_shuffle", "conv2d", **shuffle)]
    return [Case({"input": x, "weight": weight}, nodes, outputs[0], "another order of channels: a convolution reorders them")]


def prelu(attributes, inputs, outputs):
    x, slope = inputs
    if slope.ndim != 1:
        raise NotApplicable("a slope for every element; PyTorch has one a channel")
    return [Case({"input": by_axis(x, -1), "weight": slope}, [node("prelu", "input", "weight")], by_axis(outputs[0], -1), laid(x))]


OPERATORS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "BatchNormalization": batch_norm,
    "Resize": resize,
    "ArgMax": argmax,
    "Softmax": softmax,
    "Relu": unary("relu"),
    "LeakyRelu": unary("leaky_relu", ("alpha", "negative_slope", 0.01)),
    "Elu": elu,
    "Sigmoid": unary("sigmoid"),
    "Tanh": unary("tanh"),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary("hardswish"),
    "Clip": clip,
    "Add": binary("add"),
    "Sub": binary("sub"),
    "Mul": binary("mul"),
    "Concat": concat,
    "Pad": pad,
    "LRN": lrn,
    "DepthToSpace": depth_to_space,
    "PRelu": prelu,
}
