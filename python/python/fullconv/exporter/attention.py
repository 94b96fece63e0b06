"""Products of tensors and softmax: attention, and products between maps and small matrices.

A product of queries and keys is not computed: it is kept as `Scores` until it is known what becomes of it. Scores whose
softmax multiplies values are `attention`; any others are a map whose channels are the keys.
"""

import torch

from .batches import NEVER, Order, strided
from .registry import aten
from .trace import title
from .values import Constant, Series, Unsupported, product
from .views import Atom, Value, is_all, regroup, tidy, whole


class Scores(Value):
    """scale · query · key for all pixels of two maps, [n, heads · d, h, w] each. The view's atoms have the axes `heads`,
    `query` and `key`."""

    def __init__(self, walk, query, key, heads, view, scale=1.0, done=False, side=None, bias=None):
        super().__init__(query, view)
        self.walk, self.query, self.key, self.heads, self.scale, self.done = walk, query, key, heads, scale, done
        self.side, self.bias = side, bias  # the side of the queries; a table [heads, queries, keys] that is added

    def with_(self, **changes):
        values = {"walk": self.walk, "query": self.query, "key": self.key, "heads": self.heads, "view": self.view,
                  "scale": self.scale, "done": self.done, "side": self.side, "bias": self.bias, **changes}
        return Scores(**values)

    def scaled(self, factor):
        if self.done:
            raise Unsupported("of attention's weights")
        return self.with_(scale=self.scale * factor, bias=None if self.bias is None else self.bias * factor)

    def permuted(self, view):
        return self.with_(view=view)

    def reshaped(self, shape):
        return self.with_(view=regroup(self.view, shape))


class Products:
    """Matrix products and softmax."""

    @aten("matmul.default", "bmm.default", "mm.default")
    def matmul(self, a):
        x, y = a.self, getattr(a, "other", None) or getattr(a, "mat2", None)
        if len({isinstance(v, Constant) for v in (x, y)}) == 2:
            x, y = (self.batch_of(v, inner) if isinstance(v, Constant) and v.tensors[0].dim() > 2 and v.tensors[0].shape[0] > 1 else v
                    for v, inner in ((x, -1), (y, -2)))
        if isinstance(y, Constant):
            if y.tensor.dim() == 2 or y.tensor.dim() == 3 and y.tensor.shape[0] == 1:
                return self.product_with(self.activation(x), Constant([y.tensor.reshape(y.tensor.shape[-2:]).T]))
            raise Unsupported(f"with a tensor of shape {list(y.tensor.shape)}")
        if isinstance(x, Constant):
            y = self.activation(y)
            if x.tensor.dim() == 2 or x.tensor.dim() == 3 and x.tensor.shape[0] == 1:
                turned = Value(y.made, (*y.view[:-2], y.view[-1], y.view[-2]), y.cut, y.size, y.source)
                result = self.product_with(turned, Constant([x.tensor.reshape(x.tensor.shape[-2:])]))
                return Value(result.made, (*result.view[:-2], result.view[-1], result.view[-2]))
            raise Unsupported(f"with a tensor of shape {list(x.tensor.shape)}")
        if len(x.view) != len(y.view) or len(x.view) < 2:
            raise Unsupported(f"of {x.shape} and {y.shape}")
        return self.contract(x, y)

    @aten("baddbmm.default")
    def baddbmm(self, a):
        if a.beta != 0:
            raise Unsupported("with a tensor to add")
        return self.scale(self.contract(a.batch1, a.batch2), a.alpha)

    @aten("scaled_dot_product_attention.default")
    def scaled_dot_product_attention(self, a):
        if a.is_causal or a.attn_mask is not None and not isinstance(a.attn_mask, Constant):
            raise Unsupported("with a mask that depends on the picture")
        a.query, a.key, a.value = (self.batch_of(v, -1) if isinstance(v, Constant) else v for v in (a.query, a.key, a.value))
        key = Value(a.key.made, (*a.key.view[:-2], a.key.view[-1], a.key.view[-2]), a.key.cut, a.key.size, a.key.source)
        scores = self.contract(a.query, key)
        if not isinstance(scores, Scores):
            raise Unsupported("not over pixels")
        scale = a.scale if a.scale is not None else product(b.size for b in a.query.view[-1]) ** -0.5
        scores = scores.scaled(float(scale))
        if a.attn_mask is not None:
            mask = a.attn_mask.tensor
            mask = torch.zeros(mask.shape).masked_fill(~mask, NEVER) if mask.dtype == torch.bool else mask
            scores = self.biased(scores, Constant([mask]))
        return self.contract(scores.with_(done=True), a.value)

    @aten("einsum.default")
    def einsum(self, a):
        """One or two tensors, with one index that is summed over."""
        left, arrow, result = a.equation.replace(" ", "").partition("->")
        terms = left.split(",")
        if not arrow or "." in left or len(terms) != 2 or any(len(set(t)) != len(t) for t in terms):
            raise Unsupported(f"{a.equation}")
        (x, y), (one, two) = a.tensors, terms
        if isinstance(x, Constant):
            (x, y), (one, two) = (y, x), (two, one)
        summed = [k for k in one if k in two and k not in result]
        both = [k for k in one if k in two and k in result]
        if isinstance(y, Constant):
            if len(summed) != 1 or both or len(two) != 2:
                raise Unsupported(f"{a.equation}")
            x = self.activation(x)
            k, o = summed[0], next(c for c in two if c != summed[0])
            order = [c for c in one if c != k] + [k]
            turned = Value(x.made, tuple(x.view[one.index(c)] for c in order), x.cut, x.size, x.source)
            weight = y.tensor if two == o + k else y.tensor.T
            value = self.product_with(turned, Constant([weight], y.name if two == o + k else None))
            letters = order[:-1] + [o]
            return Value(value.made, tuple(value.view[letters.index(c)] for c in result))
        rows, columns = [c for c in one if c not in two], [c for c in two if c not in one]
        if not summed:
            raise Unsupported(f"{a.equation}")

        def joined(value, letters, groups):
            views = [value.view[letters.index(g)] if isinstance(g, str) else sum((value.view[letters.index(c)] for c in g), ())
                     for g in groups]
            return value.permuted(tuple(views)) if isinstance(value, Scores) else Value(
                self.tensor(value), tidy(views))
        value = self.contract(joined(x, one, [*both, rows, summed]), joined(y, two, [*both, summed, columns]))
        sizes = {c: s for v, t in ((x, one), (y, two)) for c, s in zip(t, v.shape)}
        letters = [*both, *rows, *columns]
        view = regroup(value.view, [sizes[c] for c in letters])
        view = tuple(view[letters.index(c)] for c in result)
        return value.with_(view=view) if isinstance(value, Scores) else Value(value.made, view)

    # -- products of two tensors ---------------------------------------------------------------------------------

    def contract(self, x, y):
        """[…, M, K] · […, K, N]."""
        for one, other, turned in ((x, y, False), (y, x, True)):
            if isinstance(one, Scores) and one.done:
                return self.attend(one, other, turned)
        x, y = self.as_tensor(x), self.as_tensor(y)
        if x.view[-1] != () and y.view[-2] != () and self.kind(x, x.view[-1]) == "pixels" == self.kind(y, y.view[-2]):
            if any(x.view[:-2]) or any(y.view[:-2]):
                return self.gram_of_heads(x, y)
            return self.gram(x, y)
        one, two = self.side(x, -1, -2), self.side(y, -2, -1)
        batch = tidy([(a,) for a in strided([product(b.size for b in d) for d in (x if one.heads != 1 else y).view[:-2]], "heads")])
        if one.heads != two.heads:
            one, two = ((self.repeated(one, two.heads, batch), two) if one.heads == 1 else (one, self.repeated(two, one.heads, batch)))
        query, key = self.tensor(one.value), self.tensor(two.value)
        rows, columns = (tuple([Atom(name, product(made.shape[2:]))]) for made, name in ((query, "query"), (key, "key")))
        return Scores(self, query, key, one.heads, tidy([*batch, rows, columns]), side=one)

    def as_tensor(self, x):
        """Scores that are not attention, as a tensor."""
        x = self.lowered(x) if isinstance(x, Scores) else self.activation(x)
        made = self.spread_view(self.tensor(x), x.view)
        return Value(made, x.view)

    def kind(self, x, dimension):
        """Whether a dimension is the pixels of a map, in order, or factors of the channels."""
        made = x.made
        full = tuple(Atom(axis, size) for axis, size in zip("hw", made.shape[2:]) if size != 1)
        if dimension == full:
            return "pixels"
        return "channels" if dimension and {a.axis for a in dimension} == {"c"} else None

    def pixels(self, x, dimension, name):
        """A dimension that is all pixels, as an atom of the scores."""
        if self.kind(x, dimension) != "pixels" and dimension:
            raise Unsupported(f"of {x.shape}: neither pixels nor channels, or pixels in another order")
        if not dimension and x.made.shape[2:] != [1, 1]:
            raise Unsupported("of a part of the pixels")
        size = product(a.size for a in dimension)
        return (Atom(name, size),) if size != 1 else ()

    def heads_of(self, x, dimension, batch):
        """The value with its channels summed over in `dimension`, and the number of heads in the batch's dimensions. A
        matrix whose rows are its channels' place is transposed."""
        if dimension == () and x.made.shape[1] == 1 or is_all(dimension, x.made, "c"):
            heads = 1
            if any(batch):
                raise Unsupported("for each of several rows or columns")
            return x, heads
        if self.kind(x, dimension) == "channels" and len(dimension) == 1 and dimension[0].stride == 1:
            size = dimension[0].size
            heads = x.made.shape[1] // size
            if [d for d in batch if d] == [(Atom("c", heads, size),)]:
                return x, heads
        made = self.tensor(x)
        if made.shape[3] == 1 and not any(isinstance(s, Series) for s in made.shape) and is_all(dimension, made, "h") and not any(batch):
            return self.transposed(x), 1
        raise Unsupported(f"over a dimension of {x.shape} that is not the channels")

    def transposed(self, x):
        """A matrix [n, c, k, 1] as [n, k, c, 1]."""
        made = self.tensor(x)
        shape = [1, made.shape[2], made.shape[1], 1]
        turned = (self.emit("gram", made.inputs[::-1], shape) if made.op == "gram"
                  else self.emit("transpose_channels", [made], shape))
        swap = {"c": "h", "h": "c"}
        return Value(turned, tuple(tuple(Atom(swap[a.axis], a.size, a.stride) for a in d) for d in x.view))

    def gram(self, x, y):
        """Products over all pixels: [n, A, h, w] and [n, B, h, w] to [n, B, A, 1]."""
        if x.view[-1] != y.view[-2] or any(x.view[:-2]) or any(y.view[:-2]):
            raise Unsupported("over pixels of different maps, or with heads")
        one, two = self.tensor(x), self.tensor(y)
        if not (is_all(x.view[-2], one, "c") and is_all(y.view[-1], two, "c")):
            raise Unsupported(f"of {x.shape} and {y.shape}")
        made = self.emit("gram", [one, two], [1, two.shape[1], one.shape[1], 1])
        view = whole(made.shape)
        return Value(made, (*x.view[:-2], view[2], view[1]))

    def attend(self, scores, value, turned):
        """The softmax of scores times values; `turned` if the values are the left side."""
        if isinstance(value, Scores):
            value = self.lowered(value)
        value = self.as_tensor(value)
        rows, columns = (scores.view[-1], scores.view[-2]) if turned else (scores.view[-2], scores.view[-1])
        keys, depth = (value.view[-1], value.view[-2]) if turned else (value.view[-2], value.view[-1])
        if [a.axis for a in columns] != ["key"] or [a.axis for a in rows] not in (["query"], []):
            return self.contract(*((value, self.lowered(scores)) if turned else (self.lowered(scores), value)))
        if scores.heads == 1 and (keys == () or self.kind(value, keys) != "pixels") and not any(value.view[:-2]):
            return self.contract(*((value, self.lowered(scores)) if turned else (self.lowered(scores), value)))
        side = self.side(value, *((-2, -1) if turned else (-1, -2)))
        heads, joined = scores.heads, tidy([sum(scores.view[:-2], ())])[0]
        if side.heads != heads:
            side = self.repeated(side, heads, scores.view[:-2])
        made = self.tensor(side.value)
        if made.shape[2:] != scores.key.shape[2:] or joined != (() if heads == 1 else (Atom("heads", heads),)):
            raise Unsupported("with keys and values of different maps, or heads in another order")
        query, key, size = scores.query, scores.key, made.shape[1] // heads
        width = query.shape[1] // heads
        scale = None if abs(scores.scale - width ** -0.5) < 1e-12 and scores.bias is None else scores.scale
        if scores.bias is not None:
            query, key = self.with_table(scores, scale)
        dim = [2, 3] if scores.done == "pairs" else 3
        made = self.emit("attention", [query, key, made], [1, made.shape[1], *query.shape[2:]], num_heads=heads, scale=scale, dim=dim)
        batch = strided([product(a.size for a in d) for d in scores.view[:-2]], "c", size)
        return self.restored(made, scores.side, size, Order([(a,) for a in batch], turned))

    def lowered(self, scores):
        """Scores as a map: the side of constant size and one column becomes the channels."""
        if scores.heads != 1 or scores.done == "pairs" or scores.bias is not None:
            raise Unsupported("attention's weights are used by something other than attention")
        query, key, swap = scores.query, scores.key, False
        for x, matrix, swap in ((query, key, False), (key, query, True)):
            if not any(isinstance(s, Series) for s in matrix.shape) and matrix.shape[3] == 1:
                break
        else:
            for x, matrix, swap in ((query, key, False), (key, query, True)):
                if not any(isinstance(s, Series) for s in matrix.shape):
                    pixels = product(matrix.shape[2:])
                    matrix = self.emit("reshape", [matrix], [1, matrix.shape[1], pixels, 1], shape=[matrix.shape[1], pixels, 1])
                    break
            else:
                raise Unsupported("the products of all pairs of pixels are used by something other than attention")
        made = self.emit("mix_channels", [x, matrix], [1, matrix.shape[2], *x.shape[2:]])
        if scores.scale != 1:
            made = self.emit("scale", [made], made.shape, factor=scores.scale)
        pixels = tuple(Atom(axis, s) for axis, s in zip("hw", made.shape[2:]) if s != 1)
        channels = tuple([Atom("c", made.shape[1])] if made.shape[1] != 1 else [])
        parts = {"key": pixels, "query": channels} if swap else {"query": pixels, "key": channels}
        joined = tidy([sum(scores.view, ())])[0]
        if len({a.axis for a in joined}) != len(joined):
            raise Unsupported("the products of pairs of pixels are in an order that fullconv cannot make")
        value = Value(made, tuple(parts[a.axis] for a in joined))
        if scores.done:
            value = self.softmax_of("softmax", value, [a.axis for a in joined].index("key"))
        return Value(value.made, regroup(value.view, scores.shape))

    # -- softmax -------------------------------------------------------------------------------------------------

    @aten("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default")
    def softmax(self, a):
        op = title(self.node).lstrip("_")
        x = a.self
        if isinstance(x, Scores):
            dim = a.dim % len(x.view)
            if op == "softmax" and not x.done and [b.axis for b in x.view[dim]] == ["key"]:
                return x.with_(done=True)
            if op == "softmax" and not x.done and [b.axis for b in x.view[dim]] == ["query"]:  # the other way round
                names = {"query": "key", "key": "query", "heads": "heads"}
                view = tuple(tuple(Atom(names[b.axis], b.size, b.stride) for b in d) for d in x.view)
                return x.with_(query=x.key, key=x.query, view=view, done=True)
            if op == "softmax" and not x.done and x.heads == 1 and {b.axis for b in x.view[dim]} == {"query", "key"}:
                return x.with_(done="pairs")
            x = self.lowered(x)
        return self.softmax_of(op, self.activation(x), a.dim)

    def softmax_of(self, op, x, dim):
        dimension, made = x.view[dim % len(x.view)], self.tensor(x)
        made = self.spread_view(made, x.view)
        if is_all(dimension, made, "c"):
            return Value(self.emit(op, [made], made.shape), x.view)
        pixels = tuple(Atom(axis, size) for axis, size in zip("hw", made.shape[2:]) if size != 1)
        if dimension == pixels:
            return Value(self.emit(op, [made], made.shape, dim=[2, 3]), x.view)
        if not any(isinstance(s, Series) for s in made.shape) and len(dimension) == 1 and dimension[0].axis == "c":
            return self.softmax_of_factor(op, x, made, dimension[0])
        if {a.axis for a in dimension} <= set("hw"):  # patches, for each place in a patch
            made, now = self.moved(Value(made, x.view), [a for d in x.view for a in d if a not in dimension], dimension)
            made, back = self.moved_back(self.emit(op, [made], made.shape, dim=[2, 3]), now)
            return Value(made, tuple(tuple(back[a] for a in d) for d in x.view))
        raise Unsupported(f"over a dimension of {x.shape} that is neither the channels nor all pixels")

    def softmax_of_factor(self, op, x, made, atom):
        """Over one factor of the channels of a tensor of constant size: for this, it becomes the channels."""
        before = made.shape[1] // (atom.size * atom.stride)
        after = atom.stride * made.shape[2] * made.shape[3]
        shape = [atom.size, before, after]
        value = self.emit("reshape", [made], [1, before, atom.size, after], shape=[before, atom.size, after]) if before > 1 else made
        value = (self.emit("permute", [value], [1, *shape], dims=[0, 2, 1, 3]) if before > 1
                 else self.emit("reshape", [value], [1, atom.size, after, 1], shape=[atom.size, after, 1]))
        value = self.emit(op, [value], value.shape)
        if before > 1:
            value = self.emit("permute", [value], [1, before, atom.size, after], dims=[0, 2, 1, 3])
        return Value(self.emit("reshape", [value], made.shape, shape=made.shape[1:]), x.view)
