"""Resizes, paddings, windows, channels: operations that move values. Methods are named after the ATen operations."""

import torch

from .registry import aten
from .trace import title
from .values import Constant, Series, Unsupported, calculate, product
from .views import AXES, Atom, Value, is_all, of_axis, tidy


class Geometry:
    """Operations that move values and do not change them."""

    # -- resizes -------------------------------------------------------------------------------------------------

    @aten("upsample_bilinear2d.vec", "upsample_nearest2d.vec", "upsample_bicubic2d.vec", "_upsample_nearest_exact2d.vec",
          "_upsample_bilinear2d_aa.vec", "_upsample_bicubic2d_aa.vec")
    def interpolate(self, a):
        made, shape, name = self.map(a.input), self.shape_of_result(), title(self.node)
        mode = next(m for k, m in (("bilinear", "bilinear"), ("bicubic", "bicubic"), ("exact", "nearest-exact"), ("nearest", "nearest"))
                    if k in name)
        attributes = {"mode": mode, "align_corners": bool(getattr(a, "align_corners", False)), "antialias": name.endswith("_aa")}
        if a.scale_factors is not None:
            if any(isinstance(s, Series) for s in a.scale_factors):
                a.scale_factors = None  # a factor computed from sizes: the size says the same
            elif all(s == 1 for s in a.scale_factors):
                return self.value(made)
        if a.scale_factors is not None:
            return self.on("interpolate", [made], shape, scale_factor=[float(s) for s in a.scale_factors], **attributes)
        if shape[2:] == made.shape[2:]:
            return self.value(made)
        return self.value(self.resize(made, shape[2:], attributes))

    @aten("pixel_shuffle.default")
    def pixel_shuffle(self, a):
        return self.on("pixel_shuffle", [self.map(a.self)], self.shape_of_result(), upscale_factor=a.upscale_factor)

    @aten("pixel_unshuffle.default")
    def pixel_unshuffle(self, a):
        return self.on("pixel_unshuffle", [self.map(a.self)], self.shape_of_result(), downscale_factor=a.downscale_factor)

    @aten("im2col.default")
    def unfold(self, a):
        """The windows of every pixel; the columns are pixels again, [n, c·k·k, oh, ow]."""
        made, shape = self.map(a.self), self.shape_of_result()
        kernel, dilation, padding, stride = map(list, (a.kernel_size, a.dilation, a.padding, a.stride))
        size = [calculate(lambda v, k=k, d=d, p=p, s=s: (v + 2 * p - d * (k - 1) - 1) // s + 1, v)
                for v, k, d, p, s in zip(made.shape[2:], kernel, dilation, padding, stride)]
        made = self.emit("unfold", [made], [1, shape[1], *size], kernel_size=kernel, dilation=dilation, padding=padding, stride=stride)
        value = self.value(made)
        return Value(made, (value.view[0], value.view[1], value.view[2] + value.view[3]))

    # -- paddings and windows ------------------------------------------------------------------------------------

    @aten("pad.default", "constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default")
    def pad(self, a):
        x = self.activation(a.self)
        padding = list(getattr(a, "pad", None) or a.padding)
        mode = {"constant_pad_nd": "constant", "reflection_pad2d": "reflect",
                "replication_pad2d": "replicate"}.get(title(self.node)) or a.mode
        value = getattr(a, "value", None) or 0.0
        if mode not in ("constant", "reflect", "replicate", "circular"):
            raise Unsupported(f"in mode {mode}")
        if len(x.view) == 4 and is_all(x.view[3], self.tensor(x), "c") and mode == "constant":  # channels last
            letters = [self.axis(x, d) for d in range(4)]
            by_axis = {letter: padding[2 * (3 - d):2 * (3 - d) + 2] or [0, 0] for d, letter in enumerate(letters)}
            made = self.padded(self.tensor(x), [*by_axis["w"], *by_axis["h"]], mode, value)
            if any(by_axis["c"]) or any(by_axis["n"]):
                raise Unsupported("of channels or pictures")
            sizes = dict(zip(AXES, made.shape))
            return Value(made, tuple(() if sizes[k] == 1 else (Atom(k, sizes[k]),) for k in letters))
        last = x.view[-1]
        if mode == "constant" and not any(p != 0 for p in padding[2:]) and len(last) == 1 and last[0].axis == "c":
            return self.pad_channels(x, padding[:2], value)
        made = self.map(x)
        left, right, top, bottom = [*padding[:4], *[0] * (4 - len(padding[:4]))]
        made = self.padded(made, [left, right, top, bottom], mode, value)
        front, back = (padding[4:6] + [0, 0])[:2]
        if any(p != 0 for p in padding[6:]) or (front or back) and mode != "constant":
            raise Unsupported("of channels or pictures")
        if front < 0 or back < 0:
            end = made.shape[1] + min(back, 0)
            made = self.select_channels(made, list(range(max(-front, 0), end)))
        extra = [self.emit("full", [made], [1, n, *made.shape[2:]], channels=n, fill_value=float(value)) if n > 0 else None
                 for n in (front, back)]
        if any(extra):
            parts = [p for p in (extra[0], made, extra[1]) if p]
            made = self.emit("cat", parts, [1, sum(p.shape[1] for p in parts), *made.shape[2:]])
        return self.value(made)

    def pad_channels(self, x, padding, value):
        """Padding of the last dimension where it is the innermost factor of the channels."""
        atom, made = x.view[-1][0], self.tensor(x)
        if atom.stride != 1 or any(isinstance(p, Series) or p < 0 for p in padding):
            raise Unsupported("of a part of the channels")
        count, runs = atom.size + sum(padding), made.shape[1] // atom.size
        more = sum(padding)
        wide = self.emit("full", [made], [1, more, *made.shape[2:]], channels=more, fill_value=float(value)) if more else made
        both = self.emit("cat", [made, wide], [1, made.shape[1] + more, *made.shape[2:]])
        extra = list(range(made.shape[1], made.shape[1] + more))
        order = [i for run in range(runs) for i in (*extra[:padding[0]], *range(run * atom.size, (run + 1) * atom.size), *extra[padding[0]:])]
        both = self.select_channels(both, order)

        def moved(a):
            return Atom("c", a.size, a.stride // atom.size * count) if a.axis == "c" else a
        return Value(both, (*(tuple(map(moved, d)) for d in x.view[:-1]), (Atom("c", count),)))

    @aten("slice.Tensor")
    def slice(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.view)
        before, after = x.shape[dim], self.shape_of_result()[dim]
        start = calculate(lambda s, n: min(max(s + n if s < 0 else s, 0), n), 0 if a.start is None else a.start, before)
        if before == after and a.step == 1:
            return x
        return self.narrow(x, dim, start, after, a.step, a.start if isinstance(a.start, int) else None)

    @aten("narrow.default")
    def narrow_call(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.view)
        start = calculate(lambda s, n: s + n if s < 0 else s, a.start, x.shape[dim])
        return self.narrow(x, dim, start, a.length) if a.length != x.shape[dim] else x

    def narrow(self, x, dim, start, size, step=1, given=None):
        """A part of one dimension: its first index, its size after the step; `given` is the first index as written."""
        if len(x.view[dim]) > 1:
            x = self.value(self.map(x)) if len(x.view) == 4 else self.sequence(x, dim)
        dimension = x.view[dim]
        if len(dimension) != 1:
            raise Unsupported(f"of dimension {dim} of {x.shape}")
        atom = dimension[0]
        made_size = x.made.shape[AXES.index(atom.axis)]
        if made_size == 1:  # expanded: any part is the same
            return Value(x.made, (*x.view[:dim], () if size == 1 else (Atom(atom.axis, size),), *x.view[dim + 1:]), x.cut, x.size, x.source)
        if atom.axis == "c":
            if any(isinstance(v, Series) for v in (start, size)):
                raise Unsupported("of channels, by a number that depends on the picture's size")
            return self.pick(x, dim, list(range(start, start + size * step, step)))
        if atom.stride != 1 or atom.size != (x.size or x.made.shape[2:])["hw".index(atom.axis)]:
            raise Unsupported(f"of a part of dimension {dim} of {x.shape}")
        view = (*x.view[:dim], () if size == 1 else (Atom(atom.axis, size),), *x.view[dim + 1:])
        place = "hw".index(atom.axis)
        if step != 1 or given is not None and given < 0:
            made = self.tensor(x)
            first = given if given is not None and given < 0 else start
            if isinstance(first, Series):
                raise Unsupported("with a first index that depends on the picture's size")
            stop = self.end_of_steps(atom.size, start, size, step)
            if stop is None:
                made = self.crop(made, [start, 0] if place == 0 else [0, start],
                                 [calculate(lambda s: s * step, size), made.shape[3]] if place == 0
                                 else [made.shape[2], calculate(lambda s: s * step, size)])
                first, stop = 0, (None,)
            return Value(self.slice_axis(made, 2 + place, first, size, step, stop), view)
        cut, whole = list(x.cut or [0, 0]), list(x.size or x.made.shape[2:])
        cut[place] = calculate(lambda a, b: a + b, cut[place], start)
        whole[place] = size
        return Value(x.made, view, cut, whole, self.node)

    def end_of_steps(self, whole, start, size, step):
        """The end of a slice with a step as an attribute in a tuple, None if there is no constant one."""
        if size == calculate(lambda w, s: -(-(w - s) // step), whole, start):
            return (None,)
        end = calculate(lambda s, n: s + n * step, start, size)
        if not isinstance(end, Series):
            return (end,)
        for less in range(1, 65):
            if calculate(lambda w, s, less=less: max(-(-(w - less - s) // step), 0), whole, start) == size:
                return (-less,)
        return None

    @aten("select.int")
    def select(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.view)
        if x.view[dim]:
            index = a.index
            if isinstance(index, Series):
                index = calculate(lambda i, n: i - n if i >= 0 else i, index, x.shape[dim])
                if isinstance(index, Series):
                    raise Unsupported("with an index that depends on the picture's size")
            if index < 0 and isinstance(x.shape[dim], Series):
                x = self.narrow(x, dim, calculate(lambda n: n + index, x.shape[dim]), 1, 1, index)
            else:
                x = self.narrow(x, dim, index % x.shape[dim] if index < 0 else index, 1)
        return Value(x.made, x.view[:dim] + x.view[dim + 1:], x.cut, x.size, x.source)

    @aten("unbind.int")
    def unbind(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.view)
        parts = [self.narrow(x, dim, i, 1) if x.view[dim] else x for i in range(len(self.node.shapes))]
        return [Value(p.made, p.view[:dim] + p.view[dim + 1:], p.cut, p.size, p.source) for p in parts]

    @aten("split.Tensor", "split_with_sizes.default", "chunk.default", "split.sizes", "tensor_split.sections")
    def split(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.view)
        parts, begin = [], 0
        for shape in self.node.shapes:
            size = shape[dim]
            parts.append(self.narrow(x, dim, begin, size) if size != x.shape[dim] else x)
            begin = calculate(lambda b, s: b + s, begin, size)
        return parts

    @aten("glu.default")
    def glu(self, a):
        x = self.activation(a.self)
        dim, half = a.dim % len(x.view), x.shape[a.dim % len(x.view)] // 2
        gate = self.same_shape("sigmoid", self.narrow(x, dim, half, half))
        return self.combine("mul", self.narrow(x, dim, 0, half), gate)

    @aten("flip.default")
    def flip(self, a):
        x = self.activation(a.self)
        letters = [self.axis(x, d) for d in a.dims if x.view[d]]
        dims = sorted(AXES.index(letter) for letter in letters if x.made.shape[AXES.index(letter)] != 1)
        return self.same_shape("flip", x, dims=dims) if dims else x

    @aten("roll.default")
    def roll(self, a):
        x = self.activation(a.self)
        made, letters = self.tensor(x), [self.axis(x, d) for d in a.dims]
        for shift, letter in zip(a.shifts, letters):
            place = AXES.index(letter)
            if isinstance(shift, Series) or letter == "n":
                raise Unsupported("by a number that depends on the picture's size, or of pictures")
            size = made.shape[place]
            if letter == "c":
                made = self.select_channels(made, [(i - shift) % size for i in range(size)])
            elif shift and size != 1:  # circular padding before, and as much cut off behind
                ahead = {2: [0, 0, max(shift, 0), max(-shift, 0)], 3: [max(shift, 0), max(-shift, 0), 0, 0]}[place]
                shape = list(made.shape)
                made = self.padded(made, ahead, "circular")
                begin, end = (0, -shift) if shift > 0 else (-shift, None)
                made = self.emit("slice", [made], shape, dim=place, start=begin, end=end)
        return Value(made, x.view)

    @aten("repeat.default", "tile.default", "repeat_interleave.self_int")
    def repeat(self, a):
        x = self.activation(a.self)
        if title(self.node) == "repeat_interleave":
            if self.axis(x, a.dim) != "c":
                raise Unsupported("not of channels")
            return self.pick(x, a.dim % len(x.view), [i for i in range(x.shape[a.dim]) for _ in range(a.repeats)])
        repeats = list(getattr(a, "repeats", None) or a.dims)
        view = ((),) * (len(repeats) - len(x.view)) + x.view
        repeats = [1] * (len(view) - len(repeats)) + repeats
        if all(r == 1 or not d for r, d in zip(repeats, view)):  # as expand
            return self.expanded(Value(x.made, view, x.cut, x.size, x.source), [r if not d else product(b.size for b in d)
                                                                               for r, d in zip(repeats, view)])
        made = self.map(Value(x.made, view, x.cut, x.size, x.source))
        if repeats[0] != 1 or any(isinstance(r, Series) for r in repeats):
            raise Unsupported(f"by {repeats}")
        shape = [calculate(lambda s, r: s * r, s, r) for s, r in zip(made.shape, repeats)]
        return self.on("repeat", [made], shape, repeats=repeats[1:])

    # -- channels ------------------------------------------------------------------------------------------------

    @aten("cat.default", "concat.default", "concatenate.default")
    def cat(self, a):
        values = [v for v in a.tensors if not (isinstance(v, Constant) and v.tensors[0].numel() == 0)]
        template = next((v.view for v in values if isinstance(v, Value)), None)
        values = [self.constant_as(v, template) if isinstance(v, Constant) else self.activation(v) for v in values]
        if len(values) == 1:
            return values[0]
        dim = a.dim % len(values[0].view)
        values = self.of_one_view(values, dim)
        try:
            letters = {self.axis(v, dim) if len(v.view) != 4 or v.view[dim] else AXES[dim] for v in values}
        except Unsupported:
            letters = set()
        others = {v.view[:dim] + v.view[dim + 1:] for v in values}
        if len(values[0].view) == 4 and (len(letters) != 1 or len(others) != 1):
            values = [self.value(self.map(v)) for v in values]
            letters = {AXES[dim]}
            others = {v.view[:dim] + v.view[dim + 1:] for v in values}
        if not letters:
            raise Unsupported(f"along dimension {dim}, of {values[0].shape}")
        letter = next(iter(letters))
        if len(others) != 1:
            raise Unsupported("of tensors whose axes are in different orders")
        mades = [self.spread_view(self.tensor(v), v.view) for v in values]
        if letter in "hw":
            return self.cat_space(values, mades, dim, letter)
        if letter != "c":
            raise Unsupported("along the batch: a graph is of one picture; call the network once for each part, and add the results")
        total = sum(m.shape[1] for m in mades)
        made = self.emit("cat", mades, [1, total, *mades[0].shape[2:]])
        view = values[0].view
        return Value(made, (*view[:dim], (Atom("c", total),), *view[dim + 1:]))

    def cat_space(self, values, mades, dim, letter):
        """Side by side: each is padded by the others' sizes, which have to be constant except for one, and added."""
        place = "hw".index(letter)
        sizes = [m.shape[2 + place] for m in mades]
        result = mades[0]
        for made, size in zip(mades[1:], sizes[1:]):
            before = result.shape[2 + place]
            if isinstance(before, Series) and isinstance(size, Series):
                raise Unsupported("side by side, of sizes that both depend on the picture's")
            if isinstance(size, Series):
                second = self.padded(made, [before, 0, 0, 0] if place else [0, 0, before, 0])
                first = self.padded(result, [0, size, 0, 0] if place else [0, 0, 0, size])
            else:
                first = self.padded(result, [0, size, 0, 0] if place else [0, 0, 0, size])
                second = self.padded(made, [before, 0, 0, 0] if place else [0, 0, before, 0])
            result = self.emit("add", [first, second], first.shape)
        view = values[0].view
        return Value(result, (*view[:dim], (Atom(letter, result.shape[2 + place]),), *view[dim + 1:]))

    @aten("stack.default")
    def stack(self, a):
        """A new dimension, which is the most significant factor of the channels."""
        values = [self.activation(v) for v in a.tensors]
        if len({v.view for v in values}) != 1:
            raise Unsupported("of tensors whose axes are in different orders")
        mades = [self.spread_view(self.tensor(v), v.view) for v in values]
        channels, rank = mades[0].shape[1], len(values[0].view)
        dim = a.dim % (rank + 1)
        made = self.emit("cat", mades, [1, channels * len(mades), *mades[0].shape[2:]])
        return Value(made, tidy((*values[0].view[:dim], (Atom("c", len(mades), channels),), *values[0].view[dim:])))

    @aten("index.Tensor", "index_select.default")
    def index(self, a):
        x = self.activation(a.self)
        if hasattr(a, "indices"):
            dims = [i for i, t in enumerate(a.indices) if t is not None]
            if len(dims) != 1:
                raise Unsupported("not of channels")
            dim, index = dims[0], a.indices[dims[0]]
        else:
            dim, index = a.dim, a.index
        index = self.parameter(index, "index").tensor
        if index.dim() != 1 or index.dtype == torch.bool:
            raise Unsupported("by a mask or a table")
        if len(x.view[dim]) != 1 or x.view[dim][0].axis != "c":
            raise Unsupported("not of channels")
        return self.pick(x, dim % len(x.view), [int(i) % x.shape[dim] for i in index.tolist()])

    @aten("channel_shuffle.default")
    def channel_shuffle(self, a):
        return self.same_shape("channel_shuffle", self.value(self.map(a.self)), groups=a.groups)

    @aten("slice_scatter.default", "select_scatter.default")
    def scatter(self, a):
        """Channels that are written in place: the channels before, the new ones, the channels behind."""
        base, src = self.activation(a.self), self.activation(a.src)
        dim, rank = a.dim % len(base.view), len(base.view)
        if title(self.node) == "select_scatter":
            src = Value(src.made, (*src.view[:dim], (), *src.view[dim:]), src.cut, src.size, src.source)
            start, size, step = a.index, 1, 1
        else:
            start, step = a.start or 0, a.step
            size = None
        if len(base.view[dim]) != 1 or step != 1:
            raise Unsupported("in place, with a step" if step != 1 else "in place, of a part of an axis")
        whole = base.shape[dim]
        start = calculate(lambda s, n: min(max(s + n if s < 0 else s, 0), n), start, whole)
        if size is None:
            end = whole if a.end is None else a.end
            size = calculate(lambda s, e, n: max(min(e + n if e < 0 else e, n) - s, 0), start, end, whole)
        behind = calculate(lambda n, s, z: n - s - z, whole, start, size)
        if size == 0:
            return base
        parts = [self.expanded(src, [size if d == dim else base.shape[d] for d in range(rank)])]
        if start != 0:
            parts.insert(0, self.narrow(base, dim, 0, start))
        if behind != 0:
            first = -behind if not isinstance(behind, Series) else None
            parts.append(self.narrow(base, dim, calculate(lambda s, z: s + z, start, size), behind, 1, first))
        from types import SimpleNamespace
        return self.cat(SimpleNamespace(tensors=parts, dim=dim))

    @aten("copy.default")
    def copy(self, a):
        """The new value of a tensor that is overwritten."""
        source = self.activation(a.src)
        return self.expanded(source, self.shape_of_result())

    @aten("fill.Scalar", "zero.default", "fill.Tensor")
    def fill(self, a):
        value = getattr(a, "value", 0.0)
        value = value.uniform() if isinstance(value, Constant) else value
        x = self.activation(a.self)
        made = self.tensor(x)
        return Value(self.emit("full", [made], made.shape, channels=made.shape[1], fill_value=float(value)), x.view)

    @aten("new_zeros.default", "zeros_like.default", "new_ones.default", "ones_like.default", "new_full.default", "full_like.default")
    def filled(self, a):
        """A tensor of a size, filled with one number."""
        value = getattr(a, "fill_value", 1.0 if "ones" in title(self.node) else 0.0)
        counts = self.shape_of_result()
        tensors = [torch.full([c.values[k] if isinstance(c, Series) else c for c in counts], float(value), dtype=torch.float64)
                   for k in range(len(self.sizes))]
        return Constant(tensors)

    def pick(self, x, dim, indices):
        """A part of a dimension that is one factor of the channels."""
        atom, made = x.view[dim][0], self.tensor(x)
        channels, count = made.shape[1], len(indices)
        if indices == list(range(atom.size)):
            return x
        outer, inner = channels // (atom.size * atom.stride), atom.stride
        order = [o * atom.size * inner + i * inner + s for o in range(outer) for i in indices for s in range(inner)]
        made = self.select_channels(made, order)

        def moved(a):
            if a.axis != "c" or a.stride <= atom.stride:
                return a if a is not atom else Atom("c", count, atom.stride)
            return Atom("c", a.size, a.stride // atom.size * count)
        view = tuple(tuple(moved(a) for a in d) for d in x.view)
        return Value(made, tidy(view))

    def select_channels(self, made, order):
        """The channels of a node in this order: a slice if they are a run, else by a convolution."""
        channels, count = made.shape[1], len(order)
        shape = [made.shape[0], count, *made.shape[2:]]
        if order == list(range(channels)):
            return made
        step = order[1] - order[0] if count > 1 else 1
        if step > 0 and order == list(range(order[0], order[0] + count * step, step)):
            return self.emit("slice", [made], shape, dim=1, start=order[0], end=order[0] + (count - 1) * step + 1, step=step)
        if order == list(range(channels))[::-1]:
            return self.emit("flip", [made], shape, dims=[1])
        if count % channels == 0 and order == list(range(channels)) * (count // channels):
            return self.emit("repeat", [made], shape, repeats=[count // channels, 1, 1])
        for groups in (g for g in range(2, channels) if channels % g == 0 and count == channels):
            if order == torch.arange(channels).reshape(groups, -1).T.flatten().tolist():
                return self.emit("channel_shuffle", [made], shape, groups=groups)
        weight = torch.zeros(count, channels, 1, 1)
        weight[range(count), order] = 1.0
        return self.emit("conv2d", [made, self.weight(Constant([weight]), name=self.parameter_name("selection"))], shape)

    # -- expansion -----------------------------------------------------------------------------------------------

    @aten("expand.default", "expand_as.default", "broadcast_to.default")
    def expand(self, a):
        return self.expanded(self.activation(a.self), self.shape_of_result())

    def expanded(self, x, shape):
        """The value with dimensions of size 1 repeated; the node stays as it is until its size matters."""
        view = ((),) * (len(shape) - len(x.view)) + x.view
        result, usual = [], len(shape) == 4 and all(a.axis == AXES[i] for i, d in enumerate(view) for a in d)
        for place, (size, dimension) in enumerate(zip(shape, view)):
            if size != 1 and not dimension:
                if not usual:  # the operation that follows broadcasts, or is refused
                    result.append(dimension)
                    continue
                axis = AXES[place]
                if axis == "n" or of_axis(view, axis) or x.made.shape[AXES.index(axis)] != 1:
                    result.append(dimension)
                    continue
                dimension = (Atom(axis, size),)
            result.append(dimension)
        return Value(x.made, tuple(result), x.cut, x.size, x.source)
