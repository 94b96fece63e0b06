"""ONNX's operators that move values: reshapes, joins, cuts, paddings."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .onnx_operators import axes_of, integers, number, operator, tensor
from .onnx_windows import NotApplicable


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
