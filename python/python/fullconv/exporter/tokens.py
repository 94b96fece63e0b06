"""Tokens: pixels in a row, with more tokens before or behind them, and constants in their place.

A row of tokens is a map of one column, [1, c, count, 1]: attention, linear layers and norms treat it as any other map.
"""

import types

from .align import Differ, Node, merge_value
from .values import Constant, Made, Series, Unsupported, product
from .views import AXES, Atom, Value, axes, of_axis


def is_grid(made, rows, columns):
    """Whether rows and columns are the tokens of a map of one column, in order."""
    if made.shape[3] != 1 or axes(rows) != "h" or axes(columns) != "h":
        return False
    return columns[0].stride == 1 and rows[0].stride == columns[0].size \
        and product([rows[0].size, columns[0].size]) == made.shape[2]


class Tokens:
    """The part of the translator that joins and parts tokens."""

    def sequence(self, x, dim):
        """The value whose dimension, all pixels of the map, is a row of tokens."""
        made, dimension = self.tensor(x), x.view[dim]
        made = self.spread_view(made, x.view)
        pixels = tuple(Atom(axis, size) for axis, size in zip("hw", made.shape[2:]) if size != 1)
        if dimension != pixels or made.shape[3] == 1:
            return x
        count = product(made.shape[2:])
        made = self.emit("reshape", [made], [1, made.shape[1], count, 1], shape=[made.shape[1], -1, 1])
        return Value(made, (*x.view[:dim], (Atom("h", count),), *x.view[dim + 1:]))

    def tokens_of(self, x):
        """The value with its pixels as a row of tokens, if they are one dimension."""
        place = next((i for i, d in enumerate(x.view) if axes(d) == "hw"), None)
        return x if place is None else self.sequence(x, place)

    def grid(self, made, shape):
        """A row of tokens as a map of this shape."""
        if not any(isinstance(s, Series) for s in shape[2:]):
            return self.emit("reshape", [made], shape, shape=list(shape[1:]))
        return self.emit("reshape", [made, self.need_like(shape[2:])], shape, shape=[shape[1], -1, -1])

    def of_one_view(self, values, dim):
        """Values that are joined along a dimension: rows of tokens, and expanded to the others' sizes."""
        if len(values[0].view) != 4 and any(a.axis in "hw" for v in values for a in v.view[dim]):
            values = [self.sequence(v, dim) for v in values]
        return [self.expanded_to(values, value, dim) for value in values]

    def expanded_to(self, values, value, dim):
        """The value whose dimensions of size 1, other than `dim`, are as large as those of the others."""
        view, made = list(value.view), self.tensor(value)
        for place, dimension in enumerate(view):
            larger = next((v.view[place] for v in values if v.view[place]), ())
            if place == dim or dimension or not larger:
                continue
            if any(made.shape[AXES.index(a.axis)] != 1 or of_axis(value.view, a.axis) for a in larger):
                return value
            view[place] = larger
        return Value(made, tuple(view))

    # -- constants -----------------------------------------------------------------------------------------------

    def constant_map(self, constant):
        """A constant as a map."""
        try:
            return self.pattern_map(constant)
        except Unsupported:
            if not constant.follows_size():
                return self.tensor_map(constant)
            if not constant.calls:
                raise
            return self.made_by_call(constant)

    def constant_as(self, constant, view):
        """A constant beside values of this view."""
        if view is None or len(view) == 4 or constant.follows_size():
            return self.constant_map(constant)
        return self.tensor_map(constant, ["".join(dict.fromkeys(axes(d))).replace("hw", "h") for d in view])

    def tensor_map(self, constant, letters=None):
        """A tensor of the file as a map; `letters` are the axes of its dimensions."""
        tensor = constant.tensor
        if letters is None:
            letters = {4: "nchw", 3: "nhc" if tensor.shape[0] == 1 else "chw", 2: "hc", 1: "c"}.get(tensor.dim(), "")
        own = [(letter, size) for letter, size in zip(letters, tensor.shape) if size != 1]
        sizes = dict(own)
        if len(letters) != tensor.dim() or len(sizes) != len(own) or not sizes.keys() <= set("chw"):
            raise Unsupported(f"an input of shape {list(tensor.shape)} that does not depend on the picture")
        shape = [sizes.get(axis, 1) for axis in AXES]
        name = constant.name or self.parameter_name("tensor")
        order = sorted(range(len(own)), key=lambda i: AXES.index(own[i][0]))
        if order != sorted(order):
            constant = Constant([tensor.reshape([size for _, size in own]).permute(order)])
        view = tuple((Atom(letter, size),) if size != 1 else () for letter, size in zip(letters, tensor.shape))
        return Value(Made("tensor", [], {}, shape, self.node, self.weight(constant, shape, name)), view)

    def made_by_call(self, constant):
        """A constant that follows the picture's size, such as a table that is resized to it, by the operation that made it."""
        calls = constant.calls
        refusal = Unsupported("an input that follows the picture's size, and is neither one number nor coordinates nor made of the "
                              "module's tensors by the same operations for every size")
        if None in calls or len({(c.target, len(c.shapes[0])) for c in calls}) != 1 or calls[0].target not in self.handlers:
            raise refusal
        try:
            arguments = {key: merge_value([c.arguments[key] for c in calls], [{}] * len(calls), key) for key in calls[0].arguments}
        except Differ:
            raise refusal from None
        shape = [self.series(sizes) for sizes in zip(*(c.shapes[0] for c in calls))]
        before = self.node
        self.node = Node(calls[0].target, arguments, [shape], calls[0].dtypes, before.path, before.count, calls[0].place, before.index)
        try:
            return self.handlers[self.node.target](self, types.SimpleNamespace(**arguments))
        finally:
            self.node = before
