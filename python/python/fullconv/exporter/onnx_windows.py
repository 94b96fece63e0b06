"""Windows of ONNX's convolutions and poolings: kernel, stride, dilation and paddings, with `auto_pad` resolved."""


class NotApplicable(Exception):
    """The reason why an operator of ONNX has no translation."""


def pairs(values, rank, default):
    """An attribute of one or two spatial dimensions as [vertical, horizontal]."""
    values = list(values) if values is not None else [default] * (rank - 2)
    return values if len(values) == 2 else [default, *values]


def window(attributes, shape, kernel):
    """Kernel, stride, dilation and the paddings [top, left], [bottom, right] of a window over a tensor of `shape`,
    [n, c, w] or [n, c, h, w]."""
    rank = len(shape)
    if rank not in (3, 4):
        raise NotApplicable(f"{rank - 2} spatial dimensions")
    kernel = pairs(kernel, rank, 1)
    stride = pairs(attributes.get("strides"), rank, 1)
    dilation = pairs(attributes.get("dilations"), rank, 1)
    count = rank - 2
    pads = attributes.get("pads", [0] * 2 * count)
    before, after = pairs(pads[:count], rank, 0), pairs(pads[count:], rank, 0)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        sizes = [1, *shape[2:]][-2:]
        total = [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
                 for size, k, s, d in zip(sizes, kernel, stride, dilation)]
        before, after = halves(total, auto)
    return kernel, stride, dilation, before, after


def halves(total, auto_pad):
    """Paddings before and after; an odd one is larger after, or before with SAME_LOWER."""
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def transposed_window(attributes, shape, kernel, output):
    """Stride, dilation, paddings before and after, and output padding of a transposed convolution; `output` is the
    height and width that `output_shape` demands, if any."""
    kernel, stride, dilation, before, after = window({**attributes, "auto_pad": ""}, shape, kernel)
    extra = pairs(attributes.get("output_padding"), len(shape), 0)
    auto = attributes.get("auto_pad", "NOTSET")
    sizes = [1, *shape[2:]][-2:]
    if output is None and auto.startswith("SAME"):
        output = [size * s for size, s in zip(sizes, stride)]
    if output is not None:
        full = [(size - 1) * s + (k - 1) * d + 1 + e for size, s, k, d, e in zip(sizes, stride, kernel, dilation, extra)]
        total = [f - o for f, o in zip(full, output)]
        extra = [e + max(-t, 0) for e, t in zip(extra, total)]
        before, after = halves([max(t, 0) for t in total], auto)
    return stride, dilation, before, after, extra


def padding(before, after):
    """The paddings in the order of `pad`."""
    return [before[1], after[1], before[0], after[0]]
