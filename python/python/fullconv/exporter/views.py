"""Views: how the axes of a traced tensor are factors of a node's n, c, h and w.

A view is a tuple of dimensions. A dimension is a tuple of atoms, the most significant first; an atom is a factor of an
axis: its letter, its size and its stride within the axis. `[n, (h w), c]` is ((), (h, w), (c,)), and heads that are runs
of channels are atoms of c. Atoms of size 1 are left out, and with them n: pictures are traced one at a time.
"""

from dataclasses import dataclass

from .values import Made, Series, Unsupported, calculate, each, product

AXES = "nchw"


@dataclass(frozen=True)
class Atom:
    """A factor of an axis of a node."""
    axis: str
    size: object
    stride: object = 1


@dataclass(eq=False)
class Value:
    """A traced tensor: a node of the written graph and a view of it. Where the node has size 1 and the view does not, the
    node is repeated."""
    made: Made
    view: tuple
    cut: list = None  # a pending window of `made`: its first row and column
    size: list = None  # the pending window's height and width
    source: object = None

    @property
    def shape(self):
        return [product(a.size for a in dimension) for dimension in self.view]


def times(a, b):
    return product([a, b])


def whole(shape):
    """The view of a tensor [n, c, h, w] as it is."""
    return tuple(() if size == 1 else (Atom(axis, size),) for axis, size in zip(AXES, shape))


def tidy(view):
    """Joins neighbouring atoms that are one factor."""
    result = []
    for dimension in view:
        atoms = []
        for atom in dimension:
            if atom.size == 1:
                continue
            last = atoms[-1] if atoms else None
            if last and last.axis == atom.axis and last.stride == times(atom.size, atom.stride):
                atoms[-1] = Atom(atom.axis, times(last.size, atom.size), atom.stride)
            else:
                atoms.append(atom)
        result.append(tuple(atoms))
    return tuple(result)


def divided(a, b):
    """a / b, or None if it is not whole."""
    count = next((len(x.values) for x in (a, b) if isinstance(x, Series)), 1)
    if any(y == 0 or x % y for x, y in zip(each(a, count), each(b, count))):
        return None
    return calculate(lambda x, y: x // y, a, b)


def regroup(view, shape):
    """The view after a reshape to this shape, which keeps the order of elements."""
    atoms = [a for dimension in view for a in dimension]
    result = []
    for size in shape:
        group, have = [], 1
        while have != size:
            if not atoms:
                raise Unsupported(f"from {[product(a.size for a in d) for d in view]} to {list(shape)}")
            atom = atoms.pop(0)
            need = divided(size, have)
            if need is None:
                raise Unsupported(f"from {[product(a.size for a in d) for d in view]} to {list(shape)}")
            if divided(need, atom.size) is None:
                rest = divided(atom.size, need)
                if rest is None:
                    raise Unsupported(f"from {[product(a.size for a in d) for d in view]} to {list(shape)}")
                atoms.insert(0, Atom(atom.axis, rest, atom.stride))
                atom = Atom(atom.axis, need, times(rest, atom.stride))
            group.append(atom)
            have = times(have, atom.size)
        result.append(tuple(group))
    return tidy(result)


def of_axis(view, axis):
    """The atoms of an axis, the most significant first."""
    atoms = [a for dimension in view for a in dimension if a.axis == axis]
    return sorted(atoms, key=lambda a: each(a.stride, 1)[0], reverse=True)


def axes(dimension):
    """The letters of a dimension's atoms."""
    return "".join(a.axis for a in dimension)


def is_all(dimension, made, axis):
    """Whether a dimension is this axis of the node, whole."""
    size = made.shape[AXES.index(axis)]
    return dimension == (() if size == 1 else (Atom(axis, size),))


def replaced(view, axis, size):
    """The view after the node's axis, which stands whole in one dimension, gets another size."""
    return tuple(tuple(Atom(axis, size) if a.axis == axis else a for a in d if not (a.axis == axis and size == 1)) for d in view)
