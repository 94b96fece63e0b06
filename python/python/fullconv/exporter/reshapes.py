"""Reshapes and permutations are views of a node. `arrange` makes a node of a view when an operation needs a map."""

import itertools

from .registry import aten
from .trace import title
from .values import Series, Unsupported, each, product
from .tokens import is_grid
from .views import AXES, Value, of_axis, regroup, whole


class Reshapes:
    """View operations."""

    @aten("view.default", "reshape.default", "flatten.using_ints", "squeeze.default", "squeeze.dim", "squeeze.dims",
          "unsqueeze.default", "unflatten.int", "_unsafe_view.default", "view_as.default", "_reshape_alias.default",
          "reshape_as.default")
    def reshape(self, a):
        x = self.activation(a.self)
        if hasattr(x, "reshaped"):
            return x.reshaped(self.shape_of_result())
        if x.made.op == "?":
            return self.stand_in(self.shape_of_result())
        view, made = x.view, self.tensor(x)
        if any(made.shape[AXES.index(atom.axis)] == 1 for d in view for atom in d):
            made = self.spread_view(made, view)
        shape = self.shape_of_result()
        try:
            return Value(made, regroup(view, shape))
        except Unsupported:
            return self.reread(made, view, shape)

    def reread(self, made, view, shape):
        """A reshape that cuts across axes: the elements in the view's order, as another map."""
        atoms = sum(view, ())
        if not any(isinstance(a.size, Series) for a in atoms):
            flat = len(shape) > 4 or shape[0] != 1
            size = [1, product(shape), 1, 1] if flat else [*shape, *[1] * (4 - len(shape))]
            made = self.rearrange(made, ((), atoms, (), ()), size)
            return Value(made, regroup(whole(size), shape) if flat else whole(size)[:len(shape)])
        # The map's height and width are another node's.
        if len(shape) != 4 or shape[0] != 1 or isinstance(shape[1], Series) or len(atoms) != 3 or {a.axis for a in atoms} != set("chw"):
            raise Unsupported(f"from {[product(a.size for a in d) for d in view]} to {list(shape)}, across the axes")
        made = self.emit("permute", [made], [1, *(a.size for a in atoms)], dims=[0, *(AXES.index(a.axis) for a in atoms)])
        return self.on("reshape", [made, self.need_like(shape[2:])], shape, shape=[shape[1], -1, -1])

    @aten("permute.default", "transpose.int", "t.default", "movedim.int", "movedim.intlist", "swapaxes.default",
          "moveaxis.int", "numpy_T.default", "mT.default", "swapdims.default")
    def permute(self, a):
        x = self.activation(a.self)
        count = len(x.view)
        order = list(range(count))
        if hasattr(a, "dims"):
            order = [d % count for d in a.dims]
        elif hasattr(a, "destination"):
            source, destination = ([v % count for v in (v if isinstance(v, list) else [v])] for v in (a.source, a.destination))
            order = [d for d in range(count) if d not in source]
            for to, from_ in sorted(zip(destination, source)):
                order.insert(to, from_)
        else:
            names = ("dim0", "dim1") if hasattr(a, "dim0") else ("axis0", "axis1")
            one, two = (getattr(a, n, d) % count for n, d in zip(names, (-2, -1)))
            if title(self.node) == "numpy_T":
                order.reverse()
            else:
                order[one], order[two] = order[two], order[one]
        view = tuple(x.view[d] for d in order)
        return x.permuted(view) if hasattr(x, "permuted") else Value(x.made, view, x.cut, x.size, x.source)

    def arrange(self, made, view):
        """A node [n, c, h, w] whose axes are the view's dimensions."""
        shape = [product(a.size for a in d) for d in view]
        channels, rows, columns = view[1:]
        if is_grid(made, rows, columns) and {a.axis for a in channels} <= {"c"}:
            made = self.select_channels(made, self.channel_order(made, channels))
            return self.grid(made, shape)
        try:
            return self.arrange_map(made, view, shape)
        except Unsupported:
            if any(isinstance(s, Series) for s in made.shape[1:]):
                raise
            return self.rearrange(made, view, shape)

    def arrange_map(self, made, view, shape):
        """The same where the map has operations for it, at every size."""
        channels, rows, _ = view[1:]
        letters = ["".join(a.axis for a in d) for d in view]
        if set(letters[1]) <= {"c"} and view[2:] == whole(made.shape)[2:]:
            return self.select_channels(made, self.channel_order(made, channels))
        if letters[2] in ("hc", "h") and letters[3] in ("wc", "w") and set(letters[1]) <= {"c"}:
            return self.depth_to_space(made, view, shape)
        if letters[2] == "h" and letters[3] == "w" and set(letters[1]) <= set("chw") and rows[0].stride != 1:
            return self.space_to_depth(made, view, shape)
        raise Unsupported("its input's axes are in an order that fullconv cannot make: "
                          f"{' '.join(l or '1' for l in letters)} for [n, c, h, w]")

    @staticmethod
    def channel_order(made, dimension):
        """The channels of the node in the dimension's order."""
        order = [0]
        for atom in dimension:
            order = [o + i * atom.stride for o in order for i in range(atom.size)]
        if len(order) != made.shape[1]:
            raise Unsupported("its input is a part of the channels")
        return order

    def depth_to_space(self, made, view, shape):
        """Factors of the channels become rows and columns: pixel_shuffle."""
        inner = [next((a for a in d if a.axis == "c"), None) for d in view[2:]]
        if None in inner or inner[0].size != inner[1].size or any(isinstance(a.size, Series) for a in inner):
            raise Unsupported("its input's channels become rows or columns, but not as in pixel_shuffle")
        made = self.select_channels(made, self.channel_order(made, (*view[1], *inner)))
        return self.emit("pixel_shuffle", [made], shape, upscale_factor=inner[0].size)

    def space_to_depth(self, made, view, shape):
        """Rows and columns become channels: pixel_unshuffle."""
        factor = each(view[2][0].stride, 1)[0]
        atoms = [a for a in view[1] if a.axis in "hw"]
        if len(view[2]) != 1 or len(view[3]) != 1 or view[3][0].stride != factor or [a.size for a in atoms] != [factor] * 2 \
                or [a.stride for a in atoms] != [1, 1] or sorted(a.axis for a in atoms) != ["h", "w"]:
            raise Unsupported("its input's rows and columns become channels, but not as in pixel_unshuffle")
        made = self.emit("pixel_unshuffle", [made], [1, made.shape[1] * factor * factor, *shape[2:]], downscale_factor=factor)
        strides = {"c": factor * factor, "h": factor, "w": 1}  # of the new channels
        order = [0]
        for atom in view[1]:
            stride = strides[atom.axis] * (atom.stride if atom.axis == "c" else 1)
            order = [o + i * stride for o in order for i in range(atom.size)]
        return self.select_channels(made, order)

    def rearrange(self, made, view, shape):
        """A tensor of constant size: the factors are brought into order by reshapes and permutations of three axes."""
        atoms = [a for d in view for a in d]
        source = [a for axis in AXES for a in of_axis([atoms], axis)]
        if product(a.size for a in source) != product(made.shape):
            raise Unsupported("its input is a part of a tensor")
        runs, order = join_runs(source, atoms)
        for blocks, turn in turns(order):
            joined = [product(product(a.size for a in runs[r]) for r in block) for block in blocks] + [1] * (3 - len(blocks))
            if joined != list(made.shape[1:]):
                made = self.emit("reshape", [made], [1, *joined], shape=joined)
            turn = [*turn, *range(len(turn), 3)]
            made = self.emit("permute", [made], [1, *(joined[t] for t in turn)], dims=[0, *(t + 1 for t in turn)])
        sizes = list(made.shape[1:])
        if sizes != list(shape[1:]):
            made = self.emit("reshape", [made], list(shape), shape=list(shape[1:]))
        return made


def join_runs(source, wanted):
    """Factors that stay neighbours, joined: runs in the order of the source, and their order in the wanted one."""
    runs = []
    for atom in wanted:
        if runs and source.index(runs[-1][-1]) + 1 == source.index(atom):
            runs[-1].append(atom)
        else:
            runs.append([atom])
    inside = sorted(runs, key=lambda run: source.index(run[0]))
    return inside, [inside.index(run) for run in runs]


def turns(wanted):
    """The steps that bring runs 0, 1, 2 … into the wanted order. A step is up to three blocks of neighbouring runs and the
    order in which they stand afterwards. There are as few steps as possible, unless there are too many runs to try them all."""
    start, wanted = tuple(range(len(wanted))), tuple(wanted)
    if len(wanted) > 6:
        return one_by_one(start, wanted)
    paths, rest = {start: []}, [start]
    while wanted not in paths:
        now = rest.pop(0)
        for one in range(1, len(now)):
            for two in range(one + 1, len(now) + 1):
                blocks = [b for b in (now[:one], now[one:two], now[two:]) if b]
                for turn in itertools.permutations(range(len(blocks))):
                    after = sum((blocks[t] for t in turn), ())
                    if after not in paths:
                        paths[after] = [*paths[now], (blocks, turn)]
                        rest.append(after)
    return paths[wanted]


def one_by_one(now, wanted):
    """Steps that bring the first run to its place, then the second …"""
    steps = []
    for place, run in enumerate(wanted):
        at = now.index(run)
        if at != place:
            blocks = [b for b in (now[:place], now[place:at], now[at:]) if b]
            steps.append((blocks, (0, 2, 1) if place else (1, 0)))
            now = now[:place] + now[at:] + now[place:at]
    return steps
