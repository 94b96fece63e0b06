"""Products of tensors in batches: windows, patches and heads become runs of channels, and back.

A batch of windows, as in Swin, is a map whose channels are the windows times the heads times their channels, and whose
pixels are those of one window. The result of an attention goes back to the layout of its queries at once.
"""

from dataclasses import dataclass

import torch

from .values import Constant, Made, Series, Unsupported, product
from .views import AXES, Atom, Value, tidy, whole

# Far below every score; f16 holds it.
NEVER = -30000.0


@dataclass(eq=False)
class Side:
    """One side of a product: heads that are runs of channels, and where their factors were before."""
    value: Value
    heads: object
    batch: tuple = None  # the factors of the batch's dimensions in the former node, None if it is the same node
    rows: tuple = None


def strided(sizes, axis, last=1):
    """Atoms of these sizes, side by side in an axis, the last one with stride `last`."""
    atoms, stride = [], last
    for size in reversed(list(sizes)):
        atoms.insert(0, Atom(axis, size, stride))
        stride = product([stride, size])
    return atoms


class Batches:
    """The part of the translator that arranges batches of products."""

    def side(self, x, inner, rows):
        """The value as a `Side`: `inner` is the dimension of each head's channels, `rows` that of the pixels."""
        inner, rows = inner % len(x.view), rows % len(x.view)
        batch = [i for i in range(len(x.view)) if i not in (inner, rows)]
        try:
            y, heads = self.heads_of(x, x.view[inner], [x.view[i] for i in batch])
            self.pixels(y, y.view[rows], "query")
            return Side(y, heads)
        except Unsupported as problem:
            try:
                return self.gathered(x, inner, rows, batch)
            except Unsupported:
                if any(isinstance(a.size, Series) for i in batch for a in x.view[i]):
                    raise Unsupported("for windows whose number depends on the picture's size; --fixed-size HxW exports it for "
                                      "one") from None
                raise problem from None

    def gathered(self, x, inner, rows, batch):
        """The value in a node whose channels are the batch's dimensions and the inner one, and whose pixels are the rows."""
        down = tuple(a for a in x.view[rows] if a.axis != "w")
        across = tuple(a for a in x.view[rows] if a.axis == "w")
        if down + across != x.view[rows]:
            down, across = x.view[rows], ()
        channels = (*sum((x.view[i] for i in batch), ()), *x.view[inner])
        made = self.map(Value(self.tensor(x), ((), channels, down, across)))
        sizes = [product(a.size for a in x.view[i]) for i in (*batch, inner)]
        view = [None] * len(x.view)
        for place, atom in zip((*batch, inner), strided(sizes, "c")):
            view[place] = (atom,)
        view[rows] = tuple(Atom(axis, size) for axis, size in zip("hw", made.shape[2:]))
        return Side(Value(made, tidy(view)), product(sizes[:-1]), tuple(x.view[i] for i in batch), (down, across))

    def restored(self, made, side, depth, order):
        """The result of an attention, whose heads have `depth` channels, in the layout of its queries. `order` makes the view
        of the batch's dimensions, the rows and the depth."""
        if side.batch is None:
            batch, rows = [d for d in order.batch], tuple(Atom(axis, s) for axis, s in zip("hw", made.shape[2:]))
            return Value(made, tidy(order.view(batch, rows, (Atom("c", depth),))))
        before = [a for d in side.batch for a in d]
        now = dict(zip(before, strided([a.size for a in before], "c", depth)))
        for axis, atoms in zip("hw", side.rows):
            now.update(zip(atoms, strided([a.size for a in atoms], axis)))
        axes = {axis: sorted((a for a in now if a.axis == axis), key=lambda a: -first(a.stride)) for axis in AXES}
        node = self.map(Value(made, tidy([(), [now[a] for a in axes["c"]] + [Atom("c", depth)],
                                          [now[a] for a in axes["h"]], [now[a] for a in axes["w"]]])))
        for axis, last in (("c", depth), ("h", 1), ("w", 1)):
            now.update(zip(axes[axis], strided([a.size for a in axes[axis]], axis, last)))
        batch = [tuple(now[a] for a in d) for d in side.batch]
        return Value(node, tidy(order.view(batch, tuple(now[a] for d in side.rows for a in d), (Atom("c", depth),))))

    def batch_of(self, constant, inner):
        """A constant […, rows, channels] of a product, or […, channels, rows], as heads of pixels."""
        tensor = constant.tensor if inner == -1 else constant.tensor.transpose(-1, -2)
        *batch, rows, depth = tensor.shape
        turned = tensor.reshape(-1, rows, depth).transpose(1, 2)
        shape = [1, turned.shape[0] * depth, rows, 1]
        made = Made("tensor", [], {}, shape, self.node, self.weight(Constant([turned]), shape, self.parameter_name("tensor")))
        dims = [(atom,) for atom in strided(batch, "c", depth)]
        last = [(Atom("h", rows),), (Atom("c", depth),)]
        return Value(made, tidy([*dims, *(last if inner == -1 else last[::-1])]))

    def moved(self, x, channels, pixels):
        """A node of a value whose channels and pixels are these factors, and where each factor is in it."""
        down, across = [a for a in pixels if a.axis != "w"], [a for a in pixels if a.axis == "w"]
        if down + across != list(pixels):
            down, across = pixels, []
        made = self.map(Value(self.tensor(x), ((), tuple(channels), tuple(down), tuple(across))))
        now = {}
        for axis, atoms in (("c", channels), ("h", down), ("w", across)):
            now.update(zip(atoms, strided([a.size for a in atoms], axis)))
        return made, now

    def moved_back(self, made, now):
        """A node in which each factor is in its former axis, and where it is there."""
        axes = {axis: sorted((a for a in now if a.axis == axis), key=lambda a: -first(a.stride)) for axis in AXES}
        made = self.map(Value(made, tidy([(), *(tuple(now[a] for a in axes[axis]) for axis in "chw")])))
        back = {}
        for axis in "chw":
            back.update(zip(axes[axis], strided([a.size for a in axes[axis]], axis)))
        return made, back

    def channels_at(self, x, dim):
        """The value in a node whose channels are this dimension; as it is where no such node can be made."""
        before = [a for i, d in enumerate(x.view) for a in d if i != dim]
        down = sorted((a for a in before if a.axis != "w"), key=lambda a: (AXES.index(a.axis), -first(a.stride)))
        across = sorted((a for a in before if a.axis == "w"), key=lambda a: -first(a.stride))
        try:
            made = self.map(Value(self.tensor(x), ((), x.view[dim], tuple(down), tuple(across))))
        except Unsupported:
            return x
        now = {}
        for axis, atoms in (("h", down), ("w", across)):
            now.update(zip(atoms, strided([a.size for a in atoms], axis)))
        own = (Atom("c", made.shape[1]),) if made.shape[1] != 1 else ()
        return Value(made, tidy([own if i == dim else tuple(now[a] for a in d) for i, d in enumerate(x.view)]))

    def repeated(self, side, heads, batch):
        """One head for all heads."""
        if side.heads != 1 or side.batch is not None:
            raise Unsupported("with different heads")
        made = self.tensor(side.value)
        depth = made.shape[1]
        return Side(self.value(self.emit("repeat", [made], [1, depth * heads, *made.shape[2:]], repeats=[heads, 1, 1])), heads)

    def gram_of_heads(self, x, y):
        """Products over all pixels for each head: [heads · b, a, 1] of heads · a and heads · b channels."""
        batches = [product(a.size for a in d) for d in x.view[:-2]]
        heads, nodes = product(batches), []
        if heads > 64:
            raise Unsupported(f"over pixels, for {heads} heads or windows")
        for value, place in ((x, -2), (y, -1)):
            channels = (*sum(value.view[:-2], ()), *value.view[place])
            nodes.append(self.map(Value(self.tensor(value), ((), channels, *whole(value.made.shape)[2:]))))
        if any(n.shape[1] % heads for n in nodes):
            raise Unsupported("over pixels, with different heads")
        a, b = (n.shape[1] // heads for n in nodes)
        parts = []
        for head in range(heads):
            one, two = (self.select_channels(n, list(range(head * k, head * k + k))) for n, k in zip(nodes, (a, b)))
            parts.append(self.emit("gram", [one, two], [1, b, a, 1]))
        made = self.emit("cat", parts, [1, heads * b, a, 1])
        dims = [(atom,) for atom in strided(batches, "c", b)]
        return Value(made, tidy([*dims, (Atom("h", a),), (Atom("c", b),)]))

    def lowered_heads(self, scores):
        """Scores of several heads as a map, head by head: the side of constant size becomes channels."""
        query, key, heads = scores.query, scores.key, scores.heads
        sides = [(query, key, "key", "query"), (key, query, "query", "key")]
        best = [s for s in sides if not any(isinstance(v, Series) for v in s[1].shape)]
        if not best or heads > 64:
            raise Unsupported("the products of all pairs of pixels are used by something other than attention")
        x, matrix, own, other = next((s for s in best if s[1].shape[3] == 1 and any(isinstance(v, Series) for v in s[0].shape)), best[0])
        count, depth, parts = product(matrix.shape[2:]), x.shape[1] // heads, []
        if matrix.shape[3] != 1:
            matrix = self.emit("reshape", [matrix], [1, matrix.shape[1], count, 1], shape=[matrix.shape[1], count, 1])
        for head in range(heads):
            one, two = (self.select_channels(m, list(range(head * depth, head * depth + depth))) for m in (x, matrix))
            made = self.emit("mix_channels", [one, two], [1, count, *x.shape[2:]])
            made = made if scores.scale == 1 else self.emit("scale", [made], made.shape, factor=float(scores.scale))
            if scores.bias is not None:
                table = scores.bias[head] if own == "query" else scores.bias[head].T
                name = self.weight(Constant([table.reshape(made.shape)]), name=self.parameter_name("table"))
                made = self.emit("add", [made, name], made.shape)
            if scores.done:
                made = self.emit("softmax", [made], made.shape, **({} if own == "key" else {"dim": [2, 3]}))
            parts.append(made)
        made = self.emit("cat", parts, [1, heads * count, *x.shape[2:]])
        pixels = tuple(Atom(axis, s) for axis, s in zip("hw", made.shape[2:]) if s != 1)

        def now(atom):
            if atom.axis == other and atom.size == product(x.shape[2:]):
                return pixels
            if atom.axis == other:
                rows, columns = x.shape[2:]
                axis = "h" if columns == 1 else {(rows, columns): "h", (columns, 1): "w"}.get((atom.size, atom.stride))
                if axis is None:
                    raise Unsupported("the products of pairs of pixels are in an order that fullconv cannot make")
                return (Atom(axis, atom.size, atom.stride if columns == 1 else 1),)
            return (Atom("c", atom.size, atom.stride if atom.axis == own else product([atom.stride, count])),)
        return Value(made, tidy([sum((now(a) for a in d), ()) for d in scores.view]))

    # -- tables of attention -------------------------------------------------------------------------------------

    @staticmethod
    def is_map(scores):
        """Whether scores of pictures of every size have a side of constant size, which becomes channels."""
        sides = [any(isinstance(s, Series) for s in made.shape) for made in (scores.query, scores.key)]
        return sides in ([True, False], [False, True])

    @staticmethod
    def table(scores, constant):
        """A constant as [heads, queries, keys] of scores, to which it is broadcast."""
        shape, tensor = scores.shape, constant.tensor.double()
        if any(isinstance(s, Series) for s in shape):
            raise Unsupported("attention's scores with a table, for pictures of every size; --fixed-size HxW exports it for one")
        atoms = [a for d in scores.view for a in d]
        tensor = tensor.expand(shape).reshape([a.size for a in atoms])
        kinds = ("heads", "query", "key")
        order = sorted(range(len(atoms)), key=lambda i: (kinds.index(atoms[i].axis), -atoms[i].stride))
        sizes = [scores.heads, product(scores.query.shape[2:]), product(scores.key.shape[2:])]
        return tensor.permute(order).reshape(sizes)

    def biased(self, scores, constant):
        """Scores plus a table."""
        if scores.done:
            raise Unsupported("of attention's weights")
        table = self.table(scores, constant)
        return scores.with_(bias=table if scores.bias is None else scores.bias + table)

    def scaled_heads(self, scores, constant):
        """Scores times a number for each head, which goes to the queries."""
        table = self.table(scores, constant)
        if not bool((table == table[:, :1, :1]).all()) or scores.done:
            raise Unsupported("attention's scores with a table of factors")
        factor, query = table[:, 0, 0], scores.query
        each = factor.repeat_interleave(query.shape[1] // scores.heads).reshape(1, -1, 1, 1)
        name = self.weight(Constant([each]), name=self.parameter_name("factor"))
        bias = None if scores.bias is None else scores.bias * table
        return scores.with_(query=self.emit("mul", [query, name], query.shape), bias=bias)

    def with_table(self, scores, scale):
        """Queries and keys whose product has the table in it: each query has a channel of its own, in which the keys have the
        query's row of the table."""
        bias = scores.bias.clamp(min=NEVER) / scale
        heads, queries, keys = bias.shape
        query = self.widened(scores.query, heads, torch.eye(queries, dtype=torch.float64)[None])
        return query, self.widened(scores.key, heads, bias)

    def widened(self, made, heads, more):
        """A node with more channels in each head, [heads, channels, pixels]; the same for all heads, or for runs of them."""
        depth, pixels, count = made.shape[1] // heads, product(made.shape[2:]), more.shape[1]
        period = next(p for p in range(1, len(more) + 1) if len(more) % p == 0
                      and bool((more.reshape(-1, p, *more.shape[1:]) == more[:p]).all()))
        table = torch.cat([torch.zeros(period, depth, pixels, dtype=torch.float64), more[:period]], 1)
        size = [heads // period, period * (depth + count), pixels]
        wide = self.emit("reshape", [made], [1, heads, depth, pixels], shape=[heads, depth, pixels])
        wide = self.padded(wide, [0, 0, 0, count])
        wide = self.emit("reshape", [wide], [1, *size], shape=size)
        name = self.weight(Constant([table.reshape(1, 1, *size[1:])]), name=self.parameter_name("table"))
        wide = self.emit("add", [wide, name], [1, *size])
        shape = [heads * (depth + count), *made.shape[2:]]
        return self.emit("reshape", [wide], [1, *shape], shape=shape)


@dataclass(eq=False)
class Order:
    """How the dimensions of an attention's result stand: the batch's, and rows and depth in either order."""
    batch: tuple
    turned: bool

    def view(self, batch, rows, depth):
        return [*batch, depth, rows] if self.turned else [*batch, rows, depth]


def first(number):
    return number.values[0] if isinstance(number, Series) else number
