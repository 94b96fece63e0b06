"""Operations element by element, and reductions. Methods are named after the ATen operations."""

import math

import torch

from .registry import aten
from .trace import title
from .values import Constant, Series, Unsupported, number, product
from .views import AXES, Atom, Value, of_axis, tidy

SCALAR = torch.float64


def scalar(value):
    return Constant([torch.tensor(float(value), dtype=SCALAR)])


class Elements:
    """Functions of one number, of two tensors, and reductions."""

    # -- one tensor ----------------------------------------------------------------------------------------------

    @aten("relu.default", "sigmoid.default", "tanh.default", "hardswish.default", "hardsigmoid.default", "silu.default",
          "abs.default", "exp.default", "log.default", "sqrt.default", "rsqrt.default", "reciprocal.default", "erf.default",
          "mish.default", "selu.default", "sin.default", "cos.default", "floor.default", "sign.default")
    def plain(self, a):
        return self.same_shape(title(self.node), a.self)

    @aten("log_sigmoid.default")
    def log_sigmoid(self, a):
        return self.same_shape("logsigmoid", a.self)

    @aten("leaky_relu.default")
    def leaky_relu(self, a):
        return self.same_shape("leaky_relu", a.self, negative_slope=float(a.negative_slope))

    @aten("rrelu.default", "rrelu_with_noise.default")
    def rrelu(self, a):
        return self.same_shape("leaky_relu", a.self, negative_slope=(float(a.lower) + float(a.upper)) / 2)

    @aten("elu.default")
    def elu(self, a):
        if a.scale != 1 or a.input_scale != 1:
            raise Unsupported("with a scale")
        return self.same_shape("elu", a.self, alpha=float(a.alpha))

    @aten("celu.default")
    def celu(self, a):
        return self.same_shape("celu", a.self, alpha=float(a.alpha))

    @aten("gelu.default")
    def gelu(self, a):
        return self.same_shape("gelu", a.self, approximate=a.approximate)

    @aten("softplus.default")
    def softplus(self, a):
        return self.same_shape("softplus", a.self, beta=float(a.beta), threshold=float(a.threshold))

    @aten("hardshrink.default")
    def hardshrink(self, a):
        return self.same_shape("hardshrink", a.self, lambd=float(a.lambd))

    @aten("softshrink.default")
    def softshrink(self, a):
        return self.combine("sub", a.self, self.same_shape("clamp", a.self, min=-float(a.lambd), max=float(a.lambd)))

    @aten("threshold.default")
    def threshold(self, a):
        return self.same_shape("threshold", a.self, threshold=float(a.threshold), value=float(a.value))

    @aten("prelu.default", "_prelu_kernel.default")
    def prelu(self, a):
        weight = self.parameter(a.weight, "weight")
        if weight.tensor.numel() > 1 and (len(a.self.view) < 2 or self.axis(a.self, 1) != "c"):
            raise Unsupported("whose slopes are not those of the channels")
        return self.same_shape("prelu", a.self, self.weight(weight, [weight.tensor.numel()]))

    @aten("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default", "relu6.default", "clip.default")
    def clamp(self, a):
        low, high = getattr(a, "min", getattr(a, "min_val", None)), getattr(a, "max", getattr(a, "max_val", None))
        if title(self.node) == "relu6":
            low, high = 0, 6
        if isinstance(low, Series) or isinstance(high, Series):
            raise Unsupported("with a number that depends on the picture's size")
        low, high = (None if v is None else float(v) for v in (low, high))
        return self.same_shape("clamp", a.self, min=low, max=high)

    @aten("clamp.Tensor", "clamp_min.Tensor", "clamp_max.Tensor")
    def clamp_tensor(self, a):
        result = a.self
        for op, other in (("maximum", getattr(a, "min", None)), ("minimum", getattr(a, "max", None))):
            result = self.combine(op, result, other) if other is not None else result
        return result

    @aten("pow.Tensor_Scalar", "pow.Tensor_Tensor")
    def pow(self, a):
        exponent = a.exponent.uniform() if isinstance(a.exponent, Constant) else a.exponent
        if isinstance(exponent, Series) or not number(exponent):
            raise Unsupported("with an exponent that is not one number")
        usual = {1: None, 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
        if exponent == 2:
            return self.combine("mul", a.self, a.self)
        if exponent in usual:
            return self.same_shape(usual[exponent], a.self) if usual[exponent] else a.self
        return self.same_shape("pow", a.self, exponent=float(exponent))

    @aten("neg.default")
    def neg(self, a):
        return self.scale(a.self, -1.0)

    @aten("square.default")
    def square(self, a):
        return self.combine("mul", a.self, a.self)

    @aten("log2.default", "log10.default")
    def log_of_base(self, a):
        return self.scale(self.same_shape("log", a.self), 1 / math.log(2 if title(self.node) == "log2" else 10))

    @aten("logical_not.default", "bitwise_not.default")
    def logical_not(self, a):
        return self.combine("eq", a.self, scalar(0))

    def scale(self, value, factor):
        if hasattr(value, "scaled"):
            return value.scaled(factor)
        return value if factor == 1 else self.same_shape("scale", value, factor=float(factor))

    # -- two tensors ---------------------------------------------------------------------------------------------

    @aten("add.Tensor", "sub.Tensor", "rsub.Scalar", "rsub.Tensor", "mul.Tensor", "div.Tensor", "add.Scalar", "sub.Scalar",
          "mul.Scalar", "div.Scalar", "true_divide.Tensor", "multiply.Tensor", "subtract.Tensor")
    def arithmetic(self, a):
        op = {"true_divide": "div", "multiply": "mul", "subtract": "sub"}.get(title(self.node), title(self.node))
        x, y = (scalar(v) if number(v) else v for v in (a.self, a.other))
        alpha = getattr(a, "alpha", 1)
        if any(isinstance(v, Series) for v in (x, y, alpha)):
            raise Unsupported("with a number that depends on the picture's size")
        if op == "rsub":
            x, y, op = y, x, "sub"
        if alpha != 1:
            target = x if title(self.node) == "rsub" else y
            scaled = Constant([t * alpha for t in target.tensors]) if isinstance(target, Constant) else self.scale(target, alpha)
            x, y = (scaled, y) if target is x else (x, scaled)
        if op == "div" and isinstance(y, Constant):
            y, op = Constant([1.0 / t.double() for t in y.tensors]), "mul"
        if op == "div" and isinstance(x, Constant):
            y, op = self.same_shape("reciprocal", y), "mul"
        if op == "sub" and isinstance(x, Constant):
            x, y, op = self.scale(y, -1.0), x, "add"
        if op == "sub" and isinstance(y, Constant) and y.uniform() is not None:
            y, op = Constant([-t for t in y.tensors]), "add"
        return self.combine(op, x, y)

    @aten("addcmul.default", "addcdiv.default")
    def add_product(self, a):
        op = "mul" if title(self.node) == "addcmul" else "div"
        x, y = (self.constant_map(v) if isinstance(v, Constant) and op == "div" else v for v in (a.tensor1, a.tensor2))
        if isinstance(x, Constant) and isinstance(y, Constant):
            x = self.constant_map(x)
        return self.combine("add", self.scale(self.combine(op, x, y), a.value), a.self)

    @aten("lerp.Scalar", "lerp.Tensor")
    def lerp(self, a):
        less = self.combine("sub", self.activation(a.end), self.activation(a.self))
        part = self.scale(less, a.weight) if number(a.weight) else self.combine("mul", less, a.weight)
        return self.combine("add", part, a.self)

    @aten("maximum.default", "max.other", "minimum.default", "min.other", "gt.Tensor", "ge.Tensor", "lt.Tensor", "le.Tensor",
          "eq.Tensor", "ne.Tensor", "gt.Scalar", "ge.Scalar", "lt.Scalar", "le.Scalar", "eq.Scalar", "ne.Scalar",
          "logical_and.default", "bitwise_and.Tensor", "logical_or.default", "bitwise_or.Tensor")
    def two(self, a):
        op = title(self.node)
        op = {"max": "maximum", "min": "minimum", "logical_and": "mul", "bitwise_and": "mul", "logical_or": "maximum",
              "bitwise_or": "maximum"}.get(op, op)
        if op in ("mul", "maximum") and title(self.node) not in ("max", "maximum") and self.node.dtypes[0] != torch.bool:
            raise Unsupported("of integers")
        x, y = (scalar(v) if number(v) else v for v in (a.self, a.other))
        if isinstance(y, Series):
            raise Unsupported("with a number that depends on the picture's size")
        if isinstance(x, Constant):
            x, y, op = y, x, {"gt": "lt", "lt": "gt", "ge": "le", "le": "ge"}.get(op, op)
        return self.combine(op, x, y)

    @aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
    def where(self, a):
        return self.chosen(a.condition, a.self, a.other)

    @aten("masked_fill.Scalar", "masked_fill.Tensor")
    def masked_fill(self, a):
        return self.chosen(a.mask, a.value, a.self)

    def chosen(self, condition, x, y):
        """`x` where the condition holds, else `y`; numbers and constants become tensors of the file."""
        values = [scalar(v) if number(v) else v for v in (condition, x, y)]
        if any(isinstance(v, Series) for v in values):
            raise Unsupported("with a number that depends on the picture's size")
        maps = [v for v in values if isinstance(v, Value)]
        rank = max([len(v.view) for v in maps] + [v.tensors[0].dim() for v in values if isinstance(v, Constant)])
        view = self.common_view([self.ranked(v, rank) for v in maps])
        if any(isinstance(v, Constant) and v is condition for v in values):
            raise Unsupported("by a condition that does not depend on the picture's pixels")
        shape, inputs = [1, 1, 1, 1], []
        for value in values:
            if isinstance(value, Value):
                made = self.fitted(value, view)
                shape = self.broadcast(shape, made.shape)
                inputs.append(made)
            else:
                inputs.append(self.operand(view, value, "where"))
        return Value(self.emit("where", inputs, shape), view)

    def combine(self, op, x, y):
        """An operation of two tensors, that broadcasts; one may be a constant, the second one if the order matters."""
        if isinstance(x, Constant):
            x, y = y, x
        if hasattr(x, "scaled") and isinstance(y, Constant):
            if op == "mul" and y.uniform() is not None:
                return x.scaled(y.uniform())
            if op in ("add", "sub") and not x.done:
                return self.combine(op, self.lowered(x), y) if self.is_map(x) else self.biased(
                    x, y if op == "add" else Constant([-t for t in y.tensors]))
            if op == "mul" and x.heads > 1:
                return self.scaled_heads(x, y)
        if isinstance(y, Constant):
            x = self.activation(x)
            value = y.uniform()
            if y.name is None and value is not None and all(t.dim() <= len(x.view) for t in y.tensors) \
                    and all(t.numel() == 1 or fits(t, x) for t in y.tensors):
                if op == "mul":
                    return self.scale(x, value)
                if op in ("add", "sub") and value == 0:
                    return x
                y = scalar(value)
            elif len({t.shape for t in y.tensors}) > 1:
                y = self.constant_map(y)
        x = self.activation(x)
        if isinstance(y, Constant):
            made = self.tensor(x)
            view = self.ranked(x, max(len(x.view), y.tensors[0].dim()))
            grown = self.grown(view, made, y.tensor)
            name = self.operand(grown, y, op)
            return Value(self.emit(op, [made, name], self.broadcast(made.shape, list(self.written[name].shape))), grown)
        y = self.activation(y)
        rank = max(len(x.view), len(y.view))
        if any(v.made.op == "?" for v in (x, y)):
            return Value(self.emit("?", [], x.made.shape if len(x.view) == rank else y.made.shape), (x if len(x.view) == rank else y).view)
        x, y = self.of_factors(x, y, rank), self.of_factors(y, x, rank)
        try:
            view = self.common_view([self.ranked(v, rank) for v in (x, y)])
        except Unsupported:
            if rank == 3:
                x, y = (self.tokens_of(v) for v in (x, y))
            elif rank != 4:
                raise
            else:
                x, y = (self.value(self.map(v)) for v in (x, y))
            view = self.common_view([self.ranked(v, rank) for v in (x, y)])
        mades = [self.fitted(v, view) for v in (x, y)]
        return Value(self.emit(op, mades, self.broadcast(*(m.shape for m in mades))), view)

    def of_factors(self, x, other, rank):
        """The value whose channels are some of the factors of the other's channels, such as one number for each head, with the
        places of these factors."""
        views = [self.ranked(v, rank) for v in (x, other)]
        if len(of_axis(views[0], "c")) >= len(of_axis(views[1], "c")):
            return x
        pairs = {}
        for own, theirs in zip(*views):
            if [(a.axis, a.size) for a in own] == [(a.axis, a.size) for a in theirs]:
                pairs.update(zip(own, theirs))
        own = of_axis(views[0], "c")
        if any(a not in pairs for a in own) or [pairs[a] for a in own] != [a for a in of_axis(views[1], "c") if a in pairs.values()]:
            return x
        view = tuple(tuple(pairs[a] if a.axis == "c" else a for a in d) for d in views[0])
        return Value(self.tensor(x), view)

    @staticmethod
    def ranked(value, rank):
        return ((),) * (rank - len(value.view)) + value.view

    @staticmethod
    def broadcast(a, b):
        return [y if x == 1 else x for x, y in zip(a, b)]

    @staticmethod
    def common_view(views):
        """The view of the result of an operation that broadcasts."""
        result = []
        for dimensions in zip(*views):
            full = {d for d in dimensions if d}
            if len(full) > 1:
                raise Unsupported("of tensors whose axes are in different orders")
            result.append(next(iter(full), ()))
        atoms = [a for d in result for a in d]
        for axis in AXES:
            own = [a for a in atoms if a.axis == axis]
            if len({a.stride for a in own}) != len(own):
                raise Unsupported("of tensors whose axes are in different orders")
        return tuple(result)

    def fitted(self, value, view):
        """The node of a value, whose channels are repeated if the view has more factors of the channels than it."""
        made = self.tensor(value)
        made = self.tiled(value, made, view)
        own, common = of_axis(value.view, "c"), of_axis(view, "c")
        count = product(a.size for a in common)
        if not own or made.shape[1] in (1, count):
            return made
        if any(a not in common for a in own):
            raise Unsupported("of tensors whose axes are in different orders")
        order = torch.zeros(1, dtype=torch.long)
        stride = made.shape[1]
        for atom in common:
            if atom in own:
                stride //= atom.size
                step = torch.arange(atom.size) * stride
            else:
                step = torch.zeros(atom.size, dtype=torch.long)
            order = (order[:, None] + step).flatten()
        return self.select_channels(made, order.tolist())

    def tiled(self, value, made, view):
        """The node of a value that has only the places in a patch, repeated for every patch."""
        patches = []
        for place, axis in ((2, "h"), (3, "w")):
            own, common = of_axis(value.view, axis), of_axis(view, axis)
            if not own or own == common or made.shape[place] == 1:
                return made
            if len(common) != 2 or own != common[1:] or own[0].stride != 1:
                raise Unsupported("of tensors whose axes are in different orders")
            patches.append((own[0].size, common[0].size))
        factor = patches[0][0]
        if patches[1][0] != factor:
            raise Unsupported("of patches that are not square")
        channels = made.shape[1] * factor * factor
        made = self.emit("pixel_unshuffle", [made], [1, channels, 1, 1], downscale_factor=factor)
        made = self.resize(made, [count for _, count in patches], {"mode": "nearest"})
        size = [product([factor, count]) for _, count in patches]
        return self.emit("pixel_shuffle", [made], [1, channels // factor ** 2, *size], upscale_factor=factor)

    def grown(self, view, made, tensor):
        """The view after broadcasting to a constant that is larger where the view has size 1."""
        shape = [1] * (len(view) - tensor.dim()) + list(tensor.shape)
        if all(size == 1 or dimension for size, dimension in zip(shape, view)):
            return view
        if len(view) != 4:
            raise Unsupported(f"with a larger tensor, of shape {list(tensor.shape)}")
        result = []
        for axis, size, dimension in zip(AXES, shape, view):
            if size != 1 and not dimension:
                if axis == "n" or made.shape[AXES.index(axis)] != 1 or of_axis(view, axis):
                    raise Unsupported(f"with a larger tensor, of shape {list(tensor.shape)}")
                dimension = (Atom(axis, size),)
            result.append(dimension)
        return tuple(result)

    def operand(self, view, constant, what):
        """The name of a constant operand, as [1, c, h, w]; raises if elements would have to be repeated."""
        tensor, name = constant.tensor, self.parameter_name(what)
        if tensor.numel() == 1:
            return self.weight(constant, [1, 1, 1, 1], name)
        shape = [1] * (len(view) - tensor.dim()) + list(tensor.shape)
        seen = [atom for size, dimension in zip(shape, view) if size != 1 for atom in dimension]
        if len(shape) > len(view) or any(size not in (1, product(a.size for a in d)) for size, d in zip(shape, view)):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        full = [a for axis in AXES if any(a.axis == axis for a in seen) for a in of_axis(view, axis)]
        if any(isinstance(a.size, Series) for a in full):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}, for a part of a size that follows the picture's")
        result = [int(product(a.size for a in full if a.axis == axis)) for axis in AXES]
        if full != seen:
            name = constant.name or name
            places = [seen.index(a) for a in full if a in seen]
            tensor = tensor.reshape([a.size for a in seen]).permute(places).reshape([a.size if a in seen else 1 for a in full])
            constant = Constant([tensor.expand([a.size for a in full])])
        return self.weight(constant, result, name)

    # -- reductions ----------------------------------------------------------------------------------------------

    @aten("mean.dim", "sum.dim_IntList", "amax.default", "amin.default", "mean.default", "sum.default")
    def reduction(self, a):
        x = self.activation(a.self)
        return self.reduce(title(self.node), x, getattr(a, "dim", None), getattr(a, "keepdim", False))

    @aten("max.dim", "min.dim")
    def max_dim(self, a):
        if self.uses_result(1):
            raise Unsupported("with indices")
        return [self.reduce(f"a{title(self.node)}", self.activation(a.self), [a.dim], a.keepdim), None]

    @aten("var.correction", "std.correction", "var.dim", "std.dim", "var_mean.correction", "std_mean.correction")
    def var(self, a):
        x = self.activation(a.self)
        correction = getattr(a, "correction", None)
        correction = correction if correction is not None else int(getattr(a, "unbiased", True))
        result = self.reduce("var", x, a.dim, a.keepdim, correction=int(correction))
        result = self.same_shape("sqrt", result) if "std" in title(self.node) else result
        return [result, self.reduce("mean", x, a.dim, a.keepdim)] if "_mean" in title(self.node) else result

    @aten("linalg_vector_norm.default", "norm.ScalarOpt_dim")
    def norm(self, a):
        order = getattr(a, "ord", getattr(a, "p", 2))
        x = self.activation(a.self)
        if order == 1:
            return self.reduce("sum", self.same_shape("abs", x), a.dim, a.keepdim)
        if order != 2:
            raise Unsupported(f"of order {order}")
        return self.same_shape("sqrt", self.reduce("sum", self.combine("mul", x, x), a.dim, a.keepdim))

    def reduce(self, op, x, dims, keep, **attributes):
        """A reduction over dimensions that are whole axes, or over a factor of the channels."""
        rank = len(x.view)
        dims = {d % rank for d in (dims if isinstance(dims, (list, tuple)) and dims else range(rank) if dims in (None, []) else [dims])}
        atoms = [a for d in dims for a in x.view[d]]
        view = tuple(() if d in dims else x.view[d] for d in range(rank) if keep or d not in dims)
        made = self.tensor(x)
        if not atoms:
            if op == "var":
                raise Unsupported("of one element")
            return Value(made, view)
        made = self.spread_view(made, x.view)
        partial = [a for a in atoms if a.axis == "c" and len(of_axis(x.view, "c")) != sum(b.axis == "c" for b in atoms)]
        if partial:
            return self.reduce_factor(op, made, view, atoms)
        if any(len(of_axis(x.view, a.axis)) != sum(b.axis == a.axis for b in atoms) for a in atoms):
            return self.reduce_patches(op, Value(made, x.view), view, dims, attributes)
        over = sorted({AXES.index(a.axis) for a in atoms})
        shape = [1 if i in over else s for i, s in enumerate(made.shape)]
        return Value(self.emit(op, [made], shape, dim=over, **attributes), view)

    def reduce_patches(self, op, x, view, dims, attributes):
        """A reduction over the patches of a map, for each place in a patch: the places become channels."""
        rest = [a for i, d in enumerate(x.view) if i not in dims for a in d]
        made, now = self.moved(x, rest, [a for d in sorted(dims) for a in x.view[d]])
        made = self.emit(op, [made], [1, made.shape[1], 1, 1], dim=[2, 3], **attributes)
        kept = {a: now[a] for a in rest}
        made, back = self.moved_back(made, kept)
        return Value(made, tidy([tuple(back[a] for a in d) for d in view]))

    def spread_view(self, made, view):
        """The node, repeated where the view is larger."""
        shape = [product(a.size for a in of_axis(view, axis)) for axis in AXES]
        canonical = tuple((Atom(axis, s),) if s != 1 else () for axis, s in zip(AXES, shape))
        return self.spread(made, canonical)

    def reduce_factor(self, op, made, view, atoms):
        """A reduction over one factor of the channels, such as that of a stack: runs of channels, combined."""
        joined = tidy([tuple(atoms)])[0]
        if len(joined) != 1 or joined[0].axis != "c" or op not in ("sum", "mean", "amax", "amin"):
            raise Unsupported("over a part of the channels")
        atom, channels = joined[0], made.shape[1]
        outer = channels // (atom.size * atom.stride)
        shape = [made.shape[0], channels // atom.size, *made.shape[2:]]
        inner = tuple(tuple(Atom("c", a.size, a.stride // atom.size) if a.axis == "c" and a.stride > atom.stride else a for a in d)
                      for d in view)
        if op in ("sum", "mean") and atom.size > 4:
            return Value(self.sum_of_groups(op, made, atom, shape), tidy(inner))
        if atom.size > 16:
            raise Unsupported("over a part of the channels")
        if made.op == "cat" and outer == 1 and len(made.inputs) == atom.size and all(m.shape[1] == atom.stride for m in made.inputs):
            parts = list(made.inputs)
        else:
            parts = [self.select_channels(made, [o * atom.size * atom.stride + i * atom.stride + s for o in range(outer)
                                                 for s in range(atom.stride)]) for i in range(atom.size)]
        result = parts[0]
        for part in parts[1:]:
            result = self.emit({"amax": "maximum", "amin": "minimum"}.get(op, "add"), [result, part], shape)
        if op == "mean":
            result = self.emit("scale", [result], shape, factor=1.0 / atom.size)
        return Value(result, tidy(inner))

    def sum_of_groups(self, op, made, atom, shape):
        """Sums or means of runs of channels, by a convolution in groups."""
        groups, channels = shape[1], made.shape[1]
        order = torch.arange(channels).reshape(-1, atom.size, atom.stride).transpose(1, 2).flatten().tolist()
        made = self.select_channels(made, order)
        weight = torch.full([groups, atom.size, 1, 1], 1.0 if op == "sum" else 1.0 / atom.size, dtype=torch.float64)
        name = self.weight(Constant([weight]), name=self.parameter_name("sums"))
        return self.emit("conv2d", [made, name], shape, groups=groups)


def fits(tensor, x):
    """Whether a constant broadcasts to the value's shape without enlarging it."""
    shape = [1] * (len(x.view) - tensor.dim()) + list(tensor.shape)
    return all(s == 1 or d for s, d in zip(shape, x.view))
