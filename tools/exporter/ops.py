"""Translates ATen operations into fullconv's. Methods are named after the ATen operations."""

import sympy
import torch

from .graph import Walk
from .values import NCHW, Constant, Unsupported, Value, expression, number, pair

HANDLERS = {}


def aten(*targets):
    """Registers a method for ATen operations; the method takes their arguments by name."""
    def register(method):
        HANDLERS.update({f"aten.{target}": method for target in targets})
        return method
    return register


class Translator(Walk):
    """Translates each ATen operation."""

    handlers = HANDLERS

    # -- convolutions --------------------------------------------------------------------------------------

    @aten("conv2d.default", "conv2d.padding", "convolution.default")
    def conv2d(self, a):
        x, weight = self.activation(a.input, NCHW), self.parameter(a.weight, "weight")
        if getattr(a, "transposed", False):
            return self.conv_transpose2d(a)
        stride, dilation, padding = pair(a.stride), pair(a.dilation), a.padding
        shape = self.shape_of_result()
        if padding == "valid":
            padding = 0
        elif padding == "same":
            both = [d * (k - 1) for d, k in zip(dilation, weight.tensor.shape[2:])]
            padding = [b // 2 for b in both]
            if any(b % 2 for b in both):
                (top, left), (bottom, right) = padding, [b - b // 2 for b in both]
                larger = [*x.shape[:2], x.shape[2] + both[0], x.shape[3] + both[1]]
                x, padding = self.emit("pad", [x], larger, padding=[left, right, top, bottom]), 0
        return self.emit("conv2d", [x, *self.weight_and_bias(a)], shape, stride=stride, padding=pair(padding),
                         dilation=dilation, groups=a.groups)

    def weight_and_bias(self, a, shape=None):
        weight, bias = self.parameter(a.weight, "weight"), self.parameter(a.bias, "bias")
        names = [self.weight(weight, shape, self.parameter_name("weight"))]
        return names + ([self.weight(bias, name=self.parameter_name("bias"))] if bias else [])

    @aten("conv_transpose2d.input")
    def conv_transpose2d(self, a):
        x, shape = self.activation(a.input, NCHW), self.shape_of_result()
        if any(self.sizes.limits(p)[1] >= s for p, s in zip(a.output_padding, pair(a.stride))):
            raise Unsupported("with an output_padding that is not less than the stride")
        # The largest output padding computes more than enough; the surplus is cropped.
        extra = [self.sizes.limits(p) for p in a.output_padding]
        most = [int(high) for _, high in extra]
        made_shape = shape[:2] + [s + m - p for s, m, p in zip(shape[2:], most, a.output_padding)]
        dilation = pair(a.dilation)
        if dilation != [1, 1]:  # dilation as zeros between the weights
            weight = self.parameter(a.weight, "weight")
            sizes = [(k - 1) * d + 1 for k, d in zip(weight.tensor.shape[2:], dilation)]
            spread = weight.tensor.new_zeros(*weight.tensor.shape[:2], *sizes)
            spread[:, :, ::dilation[0], ::dilation[1]] = weight.tensor
            a.weight = Constant(spread, weight.name)
        made = self.emit("conv_transpose2d", [x, *self.weight_and_bias(a)], made_shape, stride=pair(a.stride),
                         padding=pair(a.padding), output_padding=most, groups=a.groups).made
        return Value(self.crop(made, [0, 0], shape[2:]), NCHW, shape)

    @aten("linear.default")
    def linear(self, a):
        x, weight = self.activation(a.input), self.parameter(a.weight, "weight")
        (out, into), made = weight.tensor.shape, self.tensor(x)
        seen = [*x.shape[:-1], sympy.Integer(out)]
        if x.layout == "flat":
            names = self.weight_and_bias(a, [out, *(int(s) for s in made.shape[1:])])
            return self.emit("conv2d", [made, *names], [made.shape[0], out, 1, 1], "vector", seen)
        if x.layout != "pixels" and self.axis(x, -1) != "c":
            raise Unsupported("along an axis other than the channels")
        names = self.weight_and_bias(a, [out, into, 1, 1])
        return self.emit("linear", [made, *names], [made.shape[0], out, *made.shape[2:]], x.layout, seen)

    @aten("batch_norm.default", "_native_batch_norm_legit_no_training.default")
    def batch_norm(self, a):
        x = self.activation(a.input, NCHW)
        if a.running_mean is None or getattr(a, "training", False):
            raise Unsupported("it takes mean and variance from the picture, not from training")
        channels = int(x.shape[1])
        names = [("weight", a.weight, torch.ones), ("bias", a.bias, torch.zeros),
                 ("running_mean", a.running_mean, None), ("running_var", a.running_var, None)]
        names = [self.weight(t or Constant(make(channels)), name=self.parameter_name(n)) for n, t, make in names]
        result = self.same_shape("batch_norm2d", x, *names, eps=a.eps)
        return [result] if "_native" in str(self.node.target) else result

    # -- pooling -------------------------------------------------------------------------------------------

    @aten("max_pool2d.default", "max_pool2d_with_indices.default")
    def max_pool2d(self, a):
        x = self.activation(a.self, NCHW)
        attributes = {"kernel_size": pair(a.kernel_size), "stride": pair(a.stride or a.kernel_size),
                      "padding": pair(a.padding), "dilation": pair(a.dilation), "ceil_mode": a.ceil_mode}
        value = self.node.meta["val"]
        both = isinstance(value, tuple)
        shape = [expression(s) for s in (value[0] if both else value).shape]
        if not both:
            return self.emit("max_pool2d", [x], shape, **attributes)
        indices = self.emit("max_pool2d_indices", [x], shape, **attributes)
        return [self.emit("max_pool2d", [x], shape, **attributes), indices]

    @aten("max_unpool2d.default")
    def max_unpool2d(self, a):
        x, indices, shape = self.activation(a.self, NCHW), self.activation(a.indices, NCHW), self.shape_of_result()
        pool = self.tensor(indices)
        if pool.op != "max_pool2d_indices" or "dilation" in pool.attributes:
            raise Unsupported("its indices are not those of a max pool without dilation")
        attributes = {k: pool.attributes.get(k, [0, 0]) for k in ("kernel_size", "stride", "padding")}
        usual = [(size - 1) * s - 2 * p + k
                 for size, k, s, p in zip(x.shape[2:], *attributes.values())]
        if all(map(self.sizes.same, shape[2:], usual)):
            return self.emit("max_unpool2d", [x, indices], shape, **attributes)
        if all(s.is_Integer for s in shape[2:]):
            return self.emit("max_unpool2d", [x, indices], shape, output_size=[int(s) for s in shape[2:]], **attributes)
        return self.emit("max_unpool2d", [x, indices, self.need_like(shape[2:])], shape, **attributes)

    @aten("avg_pool2d.default")
    def avg_pool2d(self, a):
        return self.emit("avg_pool2d", [self.activation(a.self, NCHW)], self.shape_of_result(),
                         kernel_size=pair(a.kernel_size), stride=pair(a.stride or a.kernel_size), padding=pair(a.padding),
                         ceil_mode=a.ceil_mode, count_include_pad=a.count_include_pad, divisor_override=a.divisor_override)

    @aten("adaptive_avg_pool2d.default")
    def adaptive_avg_pool2d(self, a):
        x, shape = self.activation(a.self, NCHW), self.shape_of_result()
        if all(map(self.sizes.same, shape[2:], x.shape[2:])):
            return x
        size = [self.sizes.fixed(s, "a size") for s in shape[2:]]
        return self.emit("adaptive_avg_pool2d", [x], shape, output_size=size)

    @aten("mean.dim", "sum.dim_IntList")
    def mean(self, a):
        x = self.activation(a.self)
        count = len(x.shape)
        total = "sum" in str(self.node.target)
        dims = {d % count for d in a.dim or range(count)}
        if x.layout == "planes":
            if total or dims != {2}:
                raise Unsupported(f"over dimensions {sorted(dims)}")
            made = self.tensor(x)
            return self.emit("mean", [made], [*made.shape[:2], 1, 1], "vector", self.shape_of_result())
        axes = {self.axis(x, d) for d in dims}
        if axes == {"c"} and a.keepdim:
            channels = int(self.tensor(x).shape[1])
            return self.mix(x, torch.full((1, channels, 1, 1), 1.0 if total else 1.0 / channels, dtype=torch.float64))
        if axes != {"h", "w"} or total:
            raise Unsupported(f"over dimensions {sorted(dims)}")
        made = self.tensor(x)
        layout = x.layout if a.keepdim else "vector"
        return self.emit("mean", [made], [*made.shape[:2], 1, 1], layout, self.shape_of_result())

    # -- element by element --------------------------------------------------------------------------------

    @aten("relu.default", "sigmoid.default", "tanh.default", "hardswish.default", "hardsigmoid.default", "silu.default")
    def plain(self, a):
        return self.same_shape(self.title(self.node), a.self)

    @aten("leaky_relu.default")
    def leaky_relu(self, a):
        return self.same_shape("leaky_relu", a.self, negative_slope=float(a.negative_slope))

    @aten("elu.default")
    def elu(self, a):
        if a.scale != 1 or a.input_scale != 1:
            raise Unsupported("with a scale")
        return self.same_shape("elu", a.self, alpha=float(a.alpha))

    @aten("prelu.default")
    def prelu(self, a):
        weight = self.parameter(a.weight, "weight")
        return self.same_shape("prelu", self.activation(a.self, NCHW), self.weight(weight))

    @aten("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default", "relu6.default")
    def clamp(self, a):
        low, high = getattr(a, "min", getattr(a, "min_val", None)), getattr(a, "max", getattr(a, "max_val", None))
        if self.title(self.node) == "relu6":
            low, high = 0, 6
        low, high = (None if v is None else float(v) for v in (low, high))
        return self.same_shape("clamp", a.self, min=low, max=high)

    @aten("softmax.int", "_softmax.default")
    def softmax(self, a):
        x = self.activation(a.self)
        if self.axis(x, a.dim) != "c":
            raise Unsupported("not over the channels")
        return self.same_shape("softmax", x)

    @aten("add.Tensor", "sub.Tensor", "rsub.Scalar", "rsub.Tensor", "mul.Tensor", "div.Tensor", "neg.default", "square.default",
          "pow.Tensor_Scalar", "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar")
    def arithmetic(self, a):
        op = self.title(self.node)
        x, y, alpha = a.self, getattr(a, "other", None), getattr(a, "alpha", 1)
        if op == "neg":
            return self.scale(x, -1.0)
        if op == "square" or (op == "pow" and a.exponent == 2):
            return self.combine("mul", x, x)
        if op == "pow":
            raise Unsupported(f"with the exponent {a.exponent}")
        if isinstance(y, sympy.Expr):
            raise Unsupported("with a number that depends on the picture's size")
        x, y = (Constant(torch.tensor(v, dtype=torch.float64)) if number(v) else v for v in (x, y))
        if op == "rsub":
            x, y, op = y, x, "sub"
        if op == "div":
            if isinstance(y, Value):
                raise Unsupported("by a tensor that depends on the picture")
            y, op = Constant(1.0 / y.tensor.double()), "mul"
        if alpha != 1:
            y = Constant(y.tensor * alpha) if isinstance(y, Constant) else self.scale(y, alpha)
        if op == "sub" and isinstance(x, Constant):
            x, y, op = self.scale(y, -1.0), x, "add"
        if op == "sub" and isinstance(y, Constant) and y.tensor.numel() == 1:
            y, op = Constant(-y.tensor), "add"
        return self.combine(op, x, y)

    def scale(self, value, factor):
        return self.same_shape("scale", value, factor=float(factor))

    def combine(self, op, x, y):
        if isinstance(x, Constant):  # never with sub
            x, y = y, x
        if isinstance(y, Value):
            if x.layout != y.layout:
                raise Unsupported("of tensors whose axes are in different orders")
            x_made, y_made = self.tensor(x), self.tensor(y)
            shape = [b if a == 1 else a for a, b in zip(x_made.shape, y_made.shape)]
            return self.emit(op, [x_made, y_made], shape, x.layout, self.shape_of_result())
        made = self.tensor(x)
        if y.tensor.numel() == 1 and op == "mul":
            return self.scale(x, y.tensor.item())
        name = self.weight(y, self.operand_shape(x, made, y.tensor), self.parameter_name(op))
        return self.emit(op, [made, name], made.shape, x.layout, self.shape_of_result())

    def operand_shape(self, x, made, tensor):
        """The shape [1, c, h, w] of a constant operand of x."""
        if tensor.numel() == 1:
            return [1, 1, 1, 1]
        shape = [1] * (len(x.shape) - tensor.dim()) + list(tensor.shape)
        if len(shape) > len(x.shape):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        if x.layout == NCHW:
            result = shape
        elif x.layout in ("vector", "flat"):
            result = [1, *made.shape[1:]]
        elif set(x.layout) == set(NCHW) and sum(s != 1 for s in shape) == 1:
            result = [shape[x.layout.index(axis)] for axis in NCHW]
        else:
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        fits = all(r == 1 or self.sizes.same(r, m) for r, m in zip(result, made.shape))
        if not fits or tensor.numel() != sympy.prod(result):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        return [int(s) for s in result]

    def local_response_norm(self, x, **attributes):
        return self.same_shape("local_response_norm", self.activation(x, NCHW), **attributes)

    # -- sizes ---------------------------------------------------------------------------------------------

    @aten("upsample_bilinear2d.vec", "upsample_nearest2d.vec")
    def interpolate(self, a):
        x, shape = self.activation(a.input, NCHW), self.shape_of_result()
        mode = "bilinear" if "bilinear" in str(self.node.target) else "nearest"
        attributes = {"mode": mode, "align_corners": getattr(a, "align_corners", False)}
        if all(map(self.sizes.same, shape[2:], x.shape[2:])):
            return x
        if a.scale_factors is not None:
            return self.emit("interpolate", [x], shape, scale_factor=[float(s) for s in a.scale_factors], **attributes)
        return self.resize(x, shape, attributes)

    def resize(self, x, shape, attributes):
        size = shape[2:]
        if all(s.is_Integer for s in size):
            return self.emit("interpolate", [x], shape, size=[int(s) for s in size], **attributes)
        like = self.like(size)
        if like:
            return self.emit("interpolate", [x, like], shape, **attributes)
        factors = [next((f for f in range(1, 65) if self.sizes.same(s, f * from_)), None)
                   for s, from_ in zip(size, x.shape[2:])]
        if None in factors:
            return self.emit("interpolate", [x, self.make_like(size)], shape, **attributes)
        return self.emit("interpolate", [x], shape, scale_factor=[float(f) for f in factors], **attributes)

    @aten("pixel_shuffle.default")
    def pixel_shuffle(self, a):
        x = self.activation(a.self, NCHW)
        return self.emit("pixel_shuffle", [x], self.shape_of_result(), upscale_factor=a.upscale_factor)

    @aten("pixel_unshuffle.default")
    def pixel_unshuffle(self, a):
        x, factor = self.activation(a.self, NCHW), a.downscale_factor
        channels = int(x.shape[1])
        weight = torch.eye(factor * factor).reshape(-1, 1, factor, factor).repeat(channels, 1, 1, 1)
        name = self.weight(Constant(weight), name=self.parameter_name("selection"))
        return self.emit("conv2d", [x, name], self.shape_of_result(), stride=[factor] * 2, groups=channels)

    @aten("pad.default", "constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default")
    def pad(self, a):
        x, shape = self.activation(a.self, NCHW), self.shape_of_result()
        padding = getattr(a, "pad", None) or a.padding
        mode = {"constant_pad_nd": "constant", "reflection_pad2d": "reflect",
                "replication_pad2d": "replicate"}.get(self.title(self.node)) or a.mode
        value = getattr(a, "value", None) or 0.0
        if mode not in ("constant", "reflect", "replicate"):
            raise Unsupported(f"in mode {mode}")
        if any(p != 0 for p in padding[4:]):
            raise Unsupported("of channels or pictures")
        left, right, top, bottom = [*padding[:4], *[0] * (4 - len(padding[:4]))]
        top, left = (self.sizes.fixed(p, "a padding before the picture") for p in (top, left))
        bottom, right = (int(self.sizes.limits(p)[1]) for p in (bottom, right))
        # The largest padding computes more than enough; the surplus is cropped.
        most = [max(p, 0) for p in (left, right, top, bottom)]
        made = self.tensor(x)
        if any(most):
            larger = [*made.shape[:2], made.shape[2] + most[2] + most[3], made.shape[3] + most[0] + most[1]]
            made = self.emit("pad", [made], larger, padding=most, mode=mode, value=float(value)).made
        return Value(self.crop(made, [max(-top, 0), max(-left, 0)], shape[2:]), NCHW, shape)

    @aten("slice.Tensor")
    def slice(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        dim = a.dim % len(x.shape)
        if shape[dim] == x.shape[dim] and a.step == 1:
            return x
        axis = self.axis(x, dim)
        if axis == "n":
            raise Unsupported("of the batch")
        if axis == "c":
            return self.select(x, dim, list(range(int(x.shape[dim])))[a.start:a.end:a.step])
        if a.step != 1:
            return self.every(x, axis, a)
        start = 0 if a.start is None else a.start
        if self.sizes.limits(start)[0] < 0:
            start = start + x.shape[dim]
        start = self.sizes.fixed(start, "a first row or column")
        place = "hw".index(axis)
        cut, size = list(x.cut or [0, 0]), list(x.size or x.made.shape[2:])
        cut[place] += start
        size[place] = shape[dim]
        result = Value(x.made, x.layout, shape, cut, size)
        result.source = self.node
        return result

    def every(self, x, axis, a):
        """Every `step`-th row or column, by a max pool with a kernel of one."""
        if a.start not in (None, 0) or not isinstance(a.step, int):
            raise Unsupported("with a step and a start")
        made = self.tensor(x)
        shape, place = list(made.shape), "nchw".index(axis)
        shape[place] = self.shape_of_result()[x.layout.index(axis)]
        stride = [a.step if axis == "h" else 1, a.step if axis == "w" else 1]
        return self.emit("max_pool2d", [made], shape, x.layout, kernel_size=[1, 1], stride=stride)

    # -- channels ------------------------------------------------------------------------------------------

    @aten("cat.default")
    def cat(self, a):
        values = [self.activation(v) for v in a.tensors]
        if any(v.layout != values[0].layout for v in values):
            raise Unsupported("of tensors whose axes are in different orders")
        if self.axis(values[0], a.dim) != "c":
            raise Unsupported("not along the channels")
        if len(values) == 1:
            return values[0]
        made = [self.tensor(v) for v in values]
        shape = [made[0].shape[0], sum(m.shape[1] for m in made), *made[0].shape[2:]]
        return self.emit("cat", made, shape, values[0].layout, self.shape_of_result())

    @aten("split.Tensor", "split_with_sizes.default", "chunk.default")
    def split(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.shape)
        if self.axis(x, dim) != "c":
            raise Unsupported("not along the channels")
        parts, begin = [], 0
        for part in self.node.meta["val"]:
            end = begin + int(part.shape[dim])
            parts.append(self.select(x, dim, list(range(begin, end))))
            begin = end
        return parts

    @aten("index.Tensor", "index_select.default", "flip.default")
    def index(self, a):
        x = self.activation(a.self)
        if hasattr(a, "dims"):
            dims, order = a.dims, range(int(x.made.shape[1]) - 1, -1, -1)
        elif hasattr(a, "indices"):
            dims, order = [i for i, t in enumerate(a.indices) if t is not None], None
            index = a.indices[dims[-1]]
        else:
            dims, index = [a.dim], a.index
        if len(dims) != 1 or self.axis(x, dims[0]) != "c":
            raise Unsupported("not of channels")
        if not hasattr(a, "dims"):
            order = self.parameter(index, "index").tensor.flatten().tolist()
        return self.select(x, dims[0], [int(i) % int(x.made.shape[1]) for i in order])

    @aten("channel_shuffle.default")
    def channel_shuffle(self, a):
        return self.shuffle(a.self, a.groups)

    def shuffle(self, x, groups):
        channels = int(self.activation(x, NCHW).shape[1])
        order = torch.arange(channels).reshape(groups, -1).T.flatten()
        return self.select(x, 1, order.tolist())

    # -- views ---------------------------------------------------------------------------------------------

    @aten("dropout.default", "feature_dropout.default", "alpha_dropout.default", "feature_alpha_dropout.default",
          "clone.default", "contiguous.default", "alias.default", "detach.default", "lift_fresh_copy.default")
    def identity(self, a):
        return getattr(a, "self", None) or a.input

    @aten("to.dtype", "_to_copy.default", "to.device", "to.dtype_layout", "type_as.default")
    def convert(self, a):
        if not self.node.meta["val"].dtype.is_floating_point:
            raise Unsupported(f"to {self.node.meta['val'].dtype}")
        return a.self

    @aten("view.default", "reshape.default", "flatten.using_ints", "squeeze.default", "squeeze.dim", "squeeze.dims",
          "unsqueeze.default", "unflatten.int", "_unsafe_view.default")
    def reshape(self, a):
        """A view as a layout: "vector" (the channels of a single pixel), "flat" (one axis, for a linear layer) or
        "planes" (each plane as one axis). `permute` turns "planes" into "pixels" (channels last)."""
        x, shape = self.activation(a.self), self.shape_of_result()
        made = self.tensor(x)
        _, channels, height, width = made.shape
        if shape == x.shape:
            return x
        if shape == made.shape and x.layout in (NCHW, "vector", "flat", "planes"):
            return Value(made, NCHW, shape)
        if height == width == 1:
            return Value(made, "vector", shape)
        if x.layout in (NCHW, "planes") and shape == [1, channels * height * width] and (height * width).is_Integer:
            return Value(made, "flat", shape)
        if x.layout == NCHW and len(shape) == 3 and shape[1] == channels and self.sizes.same(shape[2], height * width):
            return Value(made, "planes", shape)
        raise Unsupported(f"from {x.shape} to {shape}")

    @aten("permute.default", "transpose.int", "t.default", "movedim.int")
    def permute(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        order = list(range(len(x.shape)))
        if hasattr(a, "dims"):
            order = [d % len(order) for d in a.dims]
        elif hasattr(a, "dim0"):
            order[a.dim0], order[a.dim1] = order[a.dim1], order[a.dim0]
        else:
            raise Unsupported("fullconv has no such operation")
        if x.layout == "vector":
            return Value(self.tensor(x), "vector", shape)
        if x.layout in ("planes", "pixels") and order == [0, 2, 1]:
            return Value(self.tensor(x), {"planes": "pixels", "pixels": "planes"}[x.layout], shape)
        if set(x.layout) != set(NCHW):
            raise Unsupported(f"of {x.shape}")
        layout = "".join(x.layout[d] for d in order)
        return Value(self.tensor(x), layout, shape)

    @aten("expand.default")
    def expand(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        if shape == x.shape:
            return x
        x = self.activation(a.self, NCHW)
        if x.shape[:2] != shape[:2] or x.shape[2:] != [1, 1]:
            raise Unsupported(f"from {x.shape} to {shape}")
        return self.resize(x, shape, {"mode": "nearest"})
