"""Convolutions, linear layers, normalisation and pooling. Methods are named after the ATen operations."""

import torch

from .registry import aten
from .trace import title
from .values import Constant, Series, Unsupported, calculate, pair
from .views import Atom, Value, axes, is_all, replaced


class Layers:
    """Layers with weights, and pooling."""

    # -- convolutions --------------------------------------------------------------------------------------------

    @aten("conv2d.default", "conv2d.padding", "convolution.default")
    def conv2d(self, a):
        if getattr(a, "transposed", False):
            return self.conv_transpose2d(a)
        weight, stride, dilation, padding = self.parameter(a.weight, "weight"), pair(a.stride), pair(a.dilation), a.padding
        if self.is_pointwise(a, weight):
            x = self.activation(a.input)
            made = self.tensor(x)
            out = weight.tensor.shape[0]
            if len(x.view) == 4 and not x.view[0] and is_all(x.view[1], made, "c") and x.view != self.value(made).view:
                made = self.emit("conv2d", [made, *self.weight_and_bias(a)], [1, out, *made.shape[2:]], groups=a.groups)
                return Value(made, replaced_at(x.view, 1, out))
        made = self.map(a.input)
        if padding == "valid":
            padding = 0
        elif padding == "same":
            both = [d * (k - 1) for d, k in zip(dilation, weight.tensor.shape[2:])]
            padding = [b // 2 for b in both]
            if any(b % 2 for b in both):
                (top, left), (bottom, right) = padding, [b - b // 2 for b in both]
                made, padding = self.padded(made, [left, right, top, bottom]), 0
        return self.on("conv2d", [made, *self.weight_and_bias(a)], self.shape_of_result(), stride=stride,
                       padding=pair(padding), dilation=dilation, groups=a.groups)

    @staticmethod
    def is_pointwise(a, weight):
        """Whether a convolution computes each pixel from itself, so that the order of pixels does not matter."""
        return weight.tensor.dim() == 4 and list(weight.tensor.shape[2:]) == [1, 1] and pair(a.stride) == [1, 1] \
            and (isinstance(a.padding, str) or pair(a.padding) == [0, 0])

    def weight_and_bias(self, a, shape=None):
        weight, bias = self.parameter(a.weight, "weight"), self.parameter(a.bias, "bias")
        names = [self.weight(weight, shape, self.parameter_name("weight"))]
        return names + ([self.weight(bias, name=self.parameter_name("bias"))] if bias else [])

    @aten("conv1d.default")
    def conv1d(self, a):
        """Over the channels of one pixel, as in ECA, or over pixels with a kernel of one."""
        x, weight = self.activation(a.input), self.parameter(a.weight, "weight")
        out, into, kernel = weight.tensor.shape
        made = self.tensor(x)
        usual = list(a.stride) == [1] and list(a.dilation) == [1]
        if len(x.view) == 3 and kernel == 1 and usual and a.groups == 1 and is_all(x.view[1], made, "c"):
            names = self.weight_and_bias(a, [out, into, 1, 1])
            return Value(self.emit("linear", [made, *names], [made.shape[0], out, *made.shape[2:]]), replaced_at(x.view, 1, out))
        if (out, into) != (1, 1) or not usual or made.shape[2:] != [1, 1] or a.padding == "valid" \
                or len(x.view) != 3 or x.view[1] or not is_all(x.view[2], made, "c"):
            raise Unsupported("not over the channels of one pixel")
        padding = kernel // 2 if a.padding == "same" else a.padding[0]
        if 2 * padding != kernel - 1:
            raise Unsupported("with a padding that changes the number of channels")
        name = self.weight(weight, [1, 1, 1, kernel])
        result = Value(self.emit("conv1d_channels", [made, name], made.shape, padding=padding), x.view)
        return self.combine("add", result, a.bias) if a.bias else result

    @aten("conv_transpose2d.input")
    def conv_transpose2d(self, a):
        made, shape = self.map(a.input), self.shape_of_result()
        stride, dilation = pair(a.stride), pair(a.dilation)
        given = list(a.output_padding) if isinstance(a.output_padding, (list, tuple)) else [a.output_padding] * 2
        given = given * (1 if len(given) == 2 else 2)
        most = [max(p.values) if isinstance(p, Series) else p for p in given]
        # An output padding that depends on the picture's size: the largest possible one computes enough, and the
        # surplus is cropped.
        most = [max(s, d) - 1 if isinstance(p, Series) else m for p, m, s, d in zip(given, most, stride, dilation)]
        if any(p >= max(s, d) for p, s, d in zip(most, stride, dilation)):
            raise Unsupported("with an output_padding that is not less than the stride")
        larger = [calculate(lambda v, m, p: v + m - p, s, m, p) for s, m, p in zip(shape[2:], most, given)]
        made = self.emit("conv_transpose2d", [made, *self.weight_and_bias(a)], [*shape[:2], *larger], stride=stride,
                         padding=pair(a.padding), output_padding=most, groups=a.groups, dilation=dilation)
        return self.value(self.crop(made, [0, 0], shape[2:]))

    @aten("linear.default")
    def linear(self, a):
        return self.product_with(self.activation(a.input), self.parameter(a.weight, "weight"), self.parameter(a.bias, "bias"))

    @aten("addmm.default")
    def addmm(self, a):
        if a.beta != 1 or a.alpha != 1:
            raise Unsupported("with factors")
        weight = self.parameter(a.mat2, "weight")
        return self.product_with(self.activation(a.mat1), Constant([t.T for t in weight.tensors]), self.parameter(a.self, "bias"))

    def product_with(self, x, weight, bias=None):
        """The product of the last dimension with a weight [out, in]."""
        out, into = weight.tensor.shape
        made = self.tensor(x)
        last = x.view[-1]
        names = [self.weight(bias, name=self.parameter_name("bias"))] if bias else []
        if axes(last).lstrip("c") in ("h", "w", "hw") and not any(isinstance(s, Series) for s in made.shape[1:]) \
                and self.is_flat(last, made):
            name = self.weight(weight, [out, *made.shape[1:]], self.parameter_name("weight"))
            made = self.emit("conv2d", [made, name, *names], [1, out, 1, 1])
            return Value(made, (*x.view[:-1], () if out == 1 else (Atom("c", out),)))
        if not is_all(last, made, "c"):
            x = self.channels_at(x, len(x.view) - 1)
            made, last = x.made, x.view[-1]
        if not (is_all(last, made, "c") and (last or self.axis(x, -1) == "c")):
            raise Unsupported(f"along an axis other than the channels, of {x.shape}")
        name = self.weight(weight, [out, into, 1, 1], self.parameter_name("weight"))
        made = self.emit("linear", [made, name, *names], [made.shape[0], out, *made.shape[2:]])
        return Value(made, replaced_at(x.view, len(x.view) - 1, out))

    @staticmethod
    def is_flat(dimension, made):
        return [(a.axis, a.size, a.stride) for a in dimension] == [
            (axis, size, 1) for axis, size in zip("chw", made.shape[1:]) if size != 1]

    # -- normalisation -------------------------------------------------------------------------------------------

    @aten("batch_norm.default", "native_batch_norm.default", "_native_batch_norm_legit_no_training.default")
    def batch_norm(self, a):
        x = self.activation(a.input)
        made = self.tensor(x)
        if len(x.view) < 2 or not is_all(x.view[1], made, "c"):
            made = self.map(x)
            x = self.value(made)
        if a.running_mean is None or getattr(a, "training", False):
            return self.instance_norm_of(x, a)
        channels = int(made.shape[1])
        names = [("weight", a.weight, torch.ones), ("bias", a.bias, torch.zeros),
                 ("running_mean", a.running_mean, None), ("running_var", a.running_var, None)]
        names = [self.weight(self.parameter(t, n) or Constant([make(channels)]), name=self.parameter_name(n)) for n, t, make in names]
        return Value(self.emit("batch_norm2d", [made, *names], made.shape, eps=a.eps), x.view)

    def affine(self, a, shape=None):
        """The names of weight and bias, or none."""
        weight, bias = self.parameter(a.weight, "weight"), self.parameter(a.bias, "bias")
        if weight is None and bias is None:
            return []
        count = (weight or bias).tensor.numel()
        return [self.weight(weight or Constant([torch.ones(count)]), [count], self.parameter_name("weight")),
                self.weight(bias or Constant([torch.zeros(count)]), [count], self.parameter_name("bias"))]

    @aten("instance_norm.default")
    def instance_norm(self, a):
        if not a.use_input_stats:
            return self.batch_norm(a)
        return self.instance_norm_of(self.value(self.map(a.input)), a)

    def instance_norm_of(self, x, a):
        """A batch norm by the statistics of the pictures is, for one picture, an instance norm."""
        made = self.map(x)
        return self.on("instance_norm", [made, *self.affine(a)], made.shape, eps=a.eps)

    @aten("group_norm.default")
    def group_norm(self, a):
        x = self.activation(a.input)
        made = self.tensor(x)
        if len(x.view) < 2 or not is_all(x.view[1], made, "c"):
            made = self.map(x)
            x = self.value(made)
        return Value(self.emit("group_norm", [made, *self.affine(a)], made.shape, num_groups=a.num_groups, eps=a.eps), x.view)

    @aten("layer_norm.default")
    def layer_norm(self, a):
        x = self.activation(a.input)
        made, count = self.tensor(x), len(a.normalized_shape)
        if count == 1 and not is_all(x.view[-1], made, "c") and not self.is_flat(x.view[-1], made):
            x = self.channels_at(x, len(x.view) - 1)
            made = x.made
        if count == 1 and is_all(x.view[-1], made, "c"):
            return Value(self.emit("layer_norm", [made, *self.affine(a)], made.shape, eps=a.eps), x.view)
        atoms = [atom for dimension in x.view[-count:] for atom in dimension]
        if not self.is_flat(atoms, made):
            raise Unsupported(f"over {list(a.normalized_shape)} of {x.shape}")
        result = Value(self.emit("group_norm", [made], made.shape, num_groups=1, eps=a.eps), x.view)
        result = self.combine("mul", result, a.weight) if a.weight else result
        return self.combine("add", result, a.bias) if a.bias else result

    @aten("rms_norm.default")
    def rms_norm(self, a):
        x = self.activation(a.input)
        if len(a.normalized_shape) != 1 or not is_all(x.view[-1], self.tensor(x), "c"):
            raise Unsupported("not over the channels")
        mean = self.reduce("mean", self.combine("mul", x, x), [len(x.view) - 1], True)
        shifted = self.combine("add", mean, Constant([torch.tensor(torch.finfo(torch.float64).eps if a.eps is None else a.eps)]))
        result = self.combine("mul", x, self.same_shape("rsqrt", shifted))
        return self.combine("mul", result, a.weight) if a.weight else result

    def local_response_norm(self, x, **attributes):
        made = self.map(x)
        return self.on("local_response_norm", [made], made.shape, **attributes)

    # -- pooling -------------------------------------------------------------------------------------------------

    @aten("max_pool2d.default", "max_pool2d_with_indices.default")
    def max_pool2d(self, a):
        made, shapes = self.map(a.self), self.node.shapes
        if self.covers_all(made, a.kernel_size, a.padding) and len(shapes) == 1:
            return self.on("amax", [made], [*made.shape[:2], 1, 1], dim=[2, 3])
        self.static_window(a.kernel_size, a.stride)
        attributes = {"kernel_size": pair(a.kernel_size), "stride": pair(a.stride or a.kernel_size),
                      "padding": pair(a.padding), "dilation": pair(a.dilation), "ceil_mode": a.ceil_mode}
        pooled = self.on("max_pool2d", [made], shapes[0], **attributes)
        if len(shapes) == 1:
            return pooled
        return [pooled, self.on("max_pool2d_indices", [made], shapes[0], **attributes)]

    def covers_all(self, made, kernel, padding):
        """Whether a kernel that depends on the picture's size is as large as the map."""
        kernel = list(kernel) * (1 if len(kernel) == 2 else 2)
        return any(isinstance(k, Series) for k in kernel) and list(made.shape[2:]) == kernel and not any(pair(padding))

    @staticmethod
    def static_window(kernel, stride):
        if any(isinstance(v, Series) for v in [*kernel, *(stride or [])]):
            raise Unsupported(f"with a kernel of {kernel}, which depends on the picture's size and is not all of the map")

    @aten("max_unpool2d.default")
    def max_unpool2d(self, a):
        made, pool, shape = self.map(a.self), self.map(a.indices), self.shape_of_result()
        if pool.op != "max_pool2d_indices" or "dilation" in pool.attributes:
            raise Unsupported("its indices are not those of a max pool without dilation")
        attributes = {k: pool.attributes.get(k, [0, 0]) for k in ("kernel_size", "stride", "padding")}
        usual = [calculate(lambda v, k=k, s=s, p=p: (v - 1) * s - 2 * p + k, size)
                 for size, k, s, p in zip(made.shape[2:], *attributes.values())]
        if shape[2:] == usual:
            return self.on("max_unpool2d", [made, pool], shape, **attributes)
        if not any(isinstance(s, Series) for s in shape[2:]):
            return self.on("max_unpool2d", [made, pool], shape, output_size=list(shape[2:]), **attributes)
        return self.on("max_unpool2d", [made, pool, self.need_like(shape[2:])], shape, **attributes)

    @aten("avg_pool2d.default")
    def avg_pool2d(self, a):
        made, shape = self.map(a.self), self.shape_of_result()
        if self.covers_all(made, a.kernel_size, a.padding) and not a.divisor_override:
            return self.on("mean", [made], shape)
        self.static_window(a.kernel_size, a.stride)
        return self.on("avg_pool2d", [made], shape, kernel_size=pair(a.kernel_size), stride=pair(a.stride or a.kernel_size),
                       padding=pair(a.padding), ceil_mode=a.ceil_mode, count_include_pad=a.count_include_pad,
                       divisor_override=a.divisor_override)

    @aten("avg_pool1d.default", "max_pool1d.default")
    def pool1d(self, a):
        """Over tokens in a row."""
        x = self.sequence(self.activation(a.self), 2)
        made = self.tensor(x)
        if len(x.view) != 3 or x.view[2] != ((Atom("h", made.shape[2]),) if made.shape[2] != 1 else ()) or made.shape[3] != 1:
            raise Unsupported("not over pixels in their order")
        (size,), (stride,), (padding,) = (list(v) for v in (a.kernel_size, a.stride or a.kernel_size, a.padding))
        count = self.shape_of_result()[2]
        more = {"count_include_pad": a.count_include_pad} if hasattr(a, "count_include_pad") else {"dilation": [*a.dilation, 1]}
        made = self.emit(title(self.node).replace("1d", "2d"), [made], [*made.shape[:2], count, 1], kernel_size=[size, 1],
                         stride=[stride, 1], padding=[padding, 0], ceil_mode=a.ceil_mode, **more)
        return Value(made, (*x.view[:2], (Atom("h", count),) if count != 1 else ()))

    @aten("adaptive_avg_pool2d.default", "adaptive_max_pool2d.default", "_adaptive_avg_pool2d.default")
    def adaptive_pool2d(self, a):
        made, shape = self.map(a.self), self.shape_of_result()
        if shape[2:] == made.shape[2:]:
            return self.value(made)
        if len(self.node.shapes) > 1 and self.uses_result(1):
            raise Unsupported("with indices")
        size = [None if s == m and isinstance(s, Series) else s for s, m in zip(shape[2:], made.shape[2:])]
        if any(isinstance(s, Series) for s in size):
            raise Unsupported(f"to {size[0]} × {size[1]}, which depends on the picture's size")
        return [self.on(title(self.node).lstrip("_"), [made], shape, output_size=size)] + [None] * (len(self.node.shapes) - 1)

    def uses_result(self, index):
        """Whether an operation takes this result of the current one."""
        from .trace import Ref
        wanted = Ref(self.node.index, index)
        return any(r == wanted for n in self.nodes for r in torch.utils._pytree.tree_leaves(n.arguments) if isinstance(r, Ref))


def replaced_at(view, place, size):
    """The view in which one dimension is the channels, now this many."""
    return replaced((*view[:place], (Atom("c", size),) if size != 1 else (), *view[place + 1:]), "c", size)
