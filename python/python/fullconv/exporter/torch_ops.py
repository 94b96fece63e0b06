"""The operations of a model file's graph, computed with PyTorch: the names and attributes of docs/model-file.md."""

import torch
import torch.nn.functional as F


def interpolate(x, like=None, size=None, scale_factor=None, mode="nearest", align_corners=False, **others):
    size = size if like is None else like.shape[2:]
    corners = None if mode.startswith("nearest") else align_corners
    how = {"scale_factor": scale_factor} if size is None else {"size": tuple(size)}
    return F.interpolate(x, **how, mode=mode, align_corners=corners, **others)


def max_unpool2d(x, indices, like=None, output_size=None, **attributes):
    size = output_size if like is None else like.shape[2:]
    return F.max_unpool2d(x, indices.long(), output_size=size and list(size), **attributes)


def crop(x, like, offset):
    h, w = like.shape[2:]
    spare = x.shape[2] - h, x.shape[3] - w
    if offset == "center":
        offset = [d // 2 for d in spare]
    elif offset == "center_round":
        offset = [round(d / 2) for d in spare]
    y, left = offset
    assert y + h <= x.shape[2] and left + w <= x.shape[3], "a window outside its tensor"
    return x[:, :, y:y + h, left:left + w]


def pad(x, like=None, padding=None, multiple=None, align="start", mode="constant", value=0.0):
    if padding is None:
        size = like.shape[2:] if like is not None else [-(-s // m) * m for s, m in zip(x.shape[2:], multiple)]
        padding = []
        for now, wanted in reversed(list(zip(x.shape[2:], size))):
            more = wanted - now
            before = {"start": 0, "center": more // 2, "end": more}[align]
            padding += [before, more - before]
    return F.pad(x, padding, mode, value if mode == "constant" else None)


def cut(x, dim, start=0, end=None, step=1):
    return x[(slice(None),) * dim + (slice(start, end, step),)]


def adaptive(function):
    return lambda x, output_size: function(x, output_size if isinstance(output_size, int) else tuple(output_size))


def linspace(x, dim, start, end):
    line = torch.linspace(start, end, x.shape[dim], dtype=x.dtype)
    line = line.view(1, 1, -1, 1) if dim == 2 else line.view(1, 1, 1, -1)
    return line.expand(x.shape[0], 1, *x.shape[2:]).contiguous()


def conv1d_channels(x, weight, padding=0):
    lines = x.permute(0, 2, 3, 1)
    out = F.conv1d(lines.reshape(-1, 1, x.shape[1]), weight.view(1, 1, -1), padding=padding)
    return out.view(*lines.shape[:3], -1).permute(0, 3, 1, 2)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], weight, bias, eps).permute(0, 3, 1, 2)


def attention(q, k, v, num_heads=1, scale=None, dim=3):
    """Softmax over the pixels of k and v, or over all pairs of pixels; heads are runs of channels."""
    n, _, h, w = q.shape
    q, k, v = (t.reshape(n, num_heads, -1, t.shape[2] * t.shape[3]) for t in (q, k, v))
    scale = q.shape[2] ** -0.5 if scale is None else scale
    if dim == [2, 3]:
        scores = scale * (q.transpose(2, 3) @ k)
        return (v @ scores.flatten(2).softmax(2).view_as(scores).transpose(2, 3)).reshape(n, -1, h, w)
    parts = [v @ torch.softmax(scale * (part.transpose(2, 3) @ k), -1).transpose(2, 3) for part in q.split(1024, 3)]
    return torch.cat(parts, 3).reshape(n, -1, h, w)


def softmax(function):
    def over(x, dim=1):
        if dim == 1:
            return function(x, 1)
        return function(x.flatten(2), 2).reshape(x.shape)
    return over


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    pairs = [v if isinstance(v, (list, tuple)) else [v, v] for v in (kernel_size, dilation, padding, stride)]
    size = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, d, p, t in zip(x.shape[2:], *pairs)]
    return F.unfold(x, *pairs).reshape(x.shape[0], -1, *size)


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)


def reshape(x, like=None, shape=None):
    """With a second input, −1 is its height and width."""
    return x.reshape(x.shape[0], *(shape if like is None else [shape[0], *like.shape[2:]]))


def number(function):
    """A comparison whose result is 1 or 0."""
    return lambda a, b: function(a, b).to(a.dtype)


OPS = {
    "conv2d": F.conv2d,
    "conv_transpose2d": conv_transpose2d,
    "linear": lambda x, w, b=None: F.conv2d(x, w, b),
    "max_pool2d": F.max_pool2d,
    "max_pool2d_indices": lambda x, **a: F.max_pool2d(x, return_indices=True, **a)[1].to(x.dtype),
    "max_unpool2d": max_unpool2d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool2d": adaptive(F.adaptive_avg_pool2d), "adaptive_max_pool2d": adaptive(F.adaptive_max_pool2d),
    "local_response_norm": F.local_response_norm,
    "batch_norm2d": lambda x, w, b, m, v, eps=1e-5: F.batch_norm(x, m, v, w, b, False, 0.0, eps),
    "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "silu": F.silu, "leaky_relu": F.leaky_relu, "elu": F.elu, "prelu": F.prelu,
    "clamp": torch.clamp,
    "group_norm": lambda x, w=None, b=None, num_groups=1, eps=1e-5: F.group_norm(x, num_groups, w, b, eps),
    "instance_norm": lambda x, w=None, b=None, eps=1e-5: F.group_norm(x, x.shape[1], w, b, eps),
    "layer_norm": layer_norm,
    "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal, "pow": torch.pow, "erf": torch.erf, "gelu": F.gelu, "softplus": F.softplus,
    "mish": F.mish, "selu": F.selu, "celu": F.celu, "softsign": F.softsign, "logsigmoid": F.logsigmoid,
    "hardshrink": F.hardshrink, "threshold": F.threshold, "sin": torch.sin, "cos": torch.cos, "floor": torch.floor,
    "sign": torch.sign,
    "softmax": softmax(F.softmax), "log_softmax": softmax(F.log_softmax),
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum, "minimum": torch.minimum,
    "gt": number(torch.gt), "ge": number(torch.ge), "lt": number(torch.lt), "le": number(torch.le), "eq": number(torch.eq),
    "ne": number(torch.ne),
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "scale": lambda x, factor: x * factor,
    "cat": lambda *xs: torch.cat(xs, 1),
    "pad": pad,
    "slice": cut,
    "flip": lambda x, dims: x.flip(dims),
    "repeat": lambda x, repeats: x.repeat(1, *repeats),
    "full": lambda x, channels, fill_value=0.0: x.new_full((x.shape[0], channels, *x.shape[2:]), fill_value),
    "linspace": linspace,
    "pixel_shuffle": F.pixel_shuffle, "pixel_unshuffle": F.pixel_unshuffle, "channel_shuffle": F.channel_shuffle,
    "unfold": unfold,
    "conv1d_channels": conv1d_channels,
    "mean": lambda x, dim=(2, 3): x.mean(tuple(dim), keepdim=True),
    "sum": lambda x, dim: x.sum(tuple(dim), keepdim=True),
    "amax": lambda x, dim: x.amax(tuple(dim), keepdim=True),
    "amin": lambda x, dim: x.amin(tuple(dim), keepdim=True),
    "var": lambda x, dim, correction=1: x.var(tuple(dim), correction=correction, keepdim=True),
    "attention": attention,
    "gram": lambda a, b: (b.flatten(2) @ a.flatten(2).transpose(1, 2))[..., None],
    "mix_channels": lambda x, m: torch.einsum("nchw,nck->nkhw", x, m[..., 0]),
    "transpose_channels": lambda m: m.transpose(1, 2),
    "reshape": reshape,
    "permute": lambda x, dims: x.permute(dims),
    "interpolate": interpolate,
    "crop": crop,
    "argmax": lambda x: x.argmax(1, keepdim=True).to(x.dtype),
}
