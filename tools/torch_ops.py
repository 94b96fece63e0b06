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
    if isinstance(offset, str):
        rest = [x.shape[2] - h, x.shape[3] - w]
        offset = [round(d / 2) if offset == "center_round" else d // 2 for d in rest]
    y, left = offset
    assert y + h <= x.shape[2] and left + w <= x.shape[3], "a window outside its tensor"
    return x[:, :, y:y + h, left:left + w]


def pad(x, like=None, padding=None, multiple=None, align="start", mode="constant", value=None):
    if padding is None:
        sizes = zip(x.shape[2:], multiple if like is None else like.shape[2:])
        more = [-size % wanted if like is None else wanted - size for size, wanted in sizes]
        (y, left) = [{"start": 0, "center": d // 2, "end": d}[align] for d in more]
        padding = [left, more[1] - left, y, more[0] - y]
    return F.pad(x, padding, mode, value)


def slice_of(x, dim, start=None, end=None, step=1):
    at = [slice(None)] * 4
    at[dim] = slice(start, end, step)
    return x[tuple(at)]


def linspace(x, dim, start, end):
    line = torch.linspace(start, end, x.shape[dim], dtype=x.dtype)
    return line.view([-1, 1] if dim == 2 else [-1]).expand(x.shape[0], 1, *x.shape[2:])


def conv1d_channels(x, weight, padding=0):
    lines = x.permute(0, 2, 3, 1)
    out = F.conv1d(lines.reshape(-1, 1, x.shape[1]), weight.view(1, 1, -1), padding=padding)
    return out.view(*lines.shape[:3], -1).permute(0, 3, 1, 2)


def unfold(x, **attributes):
    pixels = F.unfold(x, **attributes)
    window = attributes["kernel_size"]
    one = x.new_zeros([1, 1, *(window if isinstance(window, (list, tuple)) else [window] * 2)])
    others = {name: value for name, value in attributes.items() if name != "kernel_size"}
    size = F.conv2d(x[:, :1], one, **others).shape[2:]
    return pixels.view(*pixels.shape[:2], *size)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, eps).movedim(-1, 1)


def attention(query, key, value, num_heads=1, scale=None):
    def tokens(x):
        return x.unflatten(1, (num_heads, -1)).flatten(3).transpose(2, 3)

    out = F.scaled_dot_product_attention(tokens(query), tokens(key), tokens(value), scale=scale)
    return out.transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])


OPS = {
    "conv2d": F.conv2d,
    "conv_transpose2d": F.conv_transpose2d,
    "linear": lambda x, w, b=None: F.conv2d(x, w, b),
    "max_pool2d": F.max_pool2d,
    "max_pool2d_indices": lambda x, **a: F.max_pool2d(x, return_indices=True, **a)[1].to(x.dtype),
    "max_unpool2d": max_unpool2d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "local_response_norm": F.local_response_norm,
    "batch_norm2d": lambda x, w, b, m, v, eps=1e-5: F.batch_norm(x, m, v, w, b, False, 0.0, eps),
    "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "silu": F.silu, "leaky_relu": F.leaky_relu, "elu": F.elu, "prelu": F.prelu,
    "clamp": torch.clamp,
    "softmax": lambda x: F.softmax(x, 1),
    "attention": attention,
    "gram": lambda a, b: (b.flatten(2) @ a.flatten(2).transpose(1, 2))[..., None],
    "mix_channels": lambda x, m: (m[..., 0].transpose(1, 2) @ x.flatten(2)).unflatten(2, x.shape[2:]),
    "transpose_channels": lambda m: m.transpose(1, 2),
    "permute": lambda x, dims: x.permute(dims),
    "reshape": lambda x, shape: x.reshape(len(x), *shape),
    "add": torch.add, "sub": torch.sub, "mul": torch.mul,
    "scale": lambda x, factor: x * factor,
    "cat": lambda *xs: torch.cat(xs, 1),
    "pad": pad,
    "pixel_shuffle": F.pixel_shuffle,
    "mean": lambda x, dim=(2, 3): x.mean(dim, keepdim=True),
    "interpolate": interpolate,
    "crop": crop,
    "slice": slice_of,
    "channel_shuffle": F.channel_shuffle,
    "repeat": lambda x, repeats: x.repeat(1, *repeats),
    "flip": torch.flip,
    "full": lambda x, channels, fill_value=0.0: x.new_full([x.shape[0], channels, *x.shape[2:]], fill_value),
    "linspace": linspace,
    "conv1d_channels": conv1d_channels,
    "pixel_unshuffle": F.pixel_unshuffle,
    "unfold": unfold,
    "argmax": lambda x: x.argmax(1, keepdim=True).to(x.dtype),
    "group_norm": lambda x, weight=None, bias=None, num_groups=1, eps=1e-5: F.group_norm(x, num_groups, weight, bias, eps),
    "instance_norm": lambda x, weight=None, bias=None, eps=1e-5: F.instance_norm(x, weight=weight, bias=bias, eps=eps),
    "layer_norm": layer_norm,
    "sum": lambda x, dim: x.sum(dim, keepdim=True),
    "amax": lambda x, dim: x.amax(dim, keepdim=True),
    "amin": lambda x, dim: x.amin(dim, keepdim=True),
}
