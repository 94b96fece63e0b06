"""Aligns the traces of several pictures: one list of nodes, whose numbers say how they depend on the picture's size.

All traces have to have the same operations in the same order. An operation that is missing in some of them is taken as
one that changes nothing there, if there is such a form: a padding by 0, a window that is all of its tensor, a resize to
the same size.
"""

from dataclasses import dataclass

from .trace import Known, Ref, title, where
from .values import Constant, ExportError, Series, number, series

# Arguments that have to be equal in all traces: they choose among operations.
FIXED = {"dim", "dims", "dim0", "dim1", "start_dim", "end_dim", "groups", "keepdim", "align_corners", "ceil_mode",
         "count_include_pad", "source", "destination"}
ATTEMPTS = 400


@dataclass(eq=False)
class Node:
    """An operation of all traces. Arguments hold `Ref`s to nodes, `Constant`s and numbers that may be `Series`."""
    target: str
    arguments: dict
    shapes: list
    dtypes: list
    path: str
    count: int
    place: tuple
    index: int = 0

    @property
    def shape(self):
        return self.shapes[0]


class Differ(Exception):
    """The traces part here."""


def merge_refs(refs, lacking):
    """The reference that all traces mean. A trace that lacks an operation refers to its input in place of its result."""
    for ref in refs:
        if not isinstance(ref, Ref):
            break
        for one, inputs in zip(refs, lacking):
            at = ref
            while at != one and at in inputs:
                at = inputs[at]
            if at != one:
                break
        else:
            return ref
    raise Differ


def merge_value(values, lacking, key=None):
    """One value of the values of an argument in all traces."""
    first = values[0]
    if isinstance(first, Ref):
        return merge_refs(values, lacking)
    if isinstance(first, Known):
        if not all(isinstance(v, Known) and v.name == first.name and v.tensor.dim() == first.tensor.dim() for v in values):
            raise Differ
        return Constant([v.tensor for v in values], first.name, [v.call for v in values])
    if isinstance(first, (list, tuple)):
        if not all(isinstance(v, (list, tuple)) and len(v) == len(first) for v in values):
            raise Differ
        return [merge_value(list(v), lacking, key) for v in zip(*values)]
    if number(first) and all(map(number, values)):
        if key in FIXED and any(v != first for v in values):
            raise Differ
        return series(values)
    if any(type(v) is not type(first) or v != first for v in values):
        raise Differ
    return first


def map_refs(value, function):
    if isinstance(value, Ref):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [map_refs(v, function) for v in value]
    return value


def unchanging(call, shape):
    """The arguments with which the call changes nothing, for an input of this shape; None if there are none."""
    kind, result = title(call), dict(call.arguments)
    if kind == "slice":
        result.update(start=0, end=shape[call.arguments["dim"]], step=1)
    elif kind in ("pad", "constant_pad_nd") or kind.startswith(("reflection_pad", "replication_pad")):
        key = "pad" if "pad" in result else "padding"
        result[key] = [0] * len(result[key])
    elif kind.startswith("upsample_"):
        key = "output_size"
        result.update({key: list(shape[2:])})
        if "scale_factors" in result:
            result["scale_factors"] = None
    else:
        return None
    return result


class State:
    """How far the traces are aligned."""

    def __init__(self, traces):
        self.at = [0] * len(traces)
        self.maps = [{} for _ in traces]  # a trace's Ref → the Ref of the merged node
        self.lacking = [{} for _ in traces]  # the Ref of a merged node that a trace lacks → its input
        self.nodes = []

    def copy(self):
        other = State(())
        other.at, other.nodes = list(self.at), list(self.nodes)
        other.maps, other.lacking = [dict(m) for m in self.maps], [dict(m) for m in self.lacking]
        return other


class Aligner:
    """Aligns traces; `run` gives the last `State`."""

    def __init__(self, traces):
        self.traces = traces
        self.attempts = 0
        self.farthest = (-1, None)

    def run(self):
        state = self.advance(State(self.traces))
        if state is None:
            raise ExportError(self.report())
        return state

    def head(self, state, k):
        calls = self.traces[k].calls
        return calls[state.at[k]] if state.at[k] < len(calls) else None

    def advance(self, state):
        """Aligns the rest of the traces; None if that is impossible."""
        count = len(self.traces)
        while True:
            heads = [self.head(state, k) for k in range(count)]
            if all(h is None for h in heads):
                return state
            if all(heads):
                try:
                    self.take(state, heads, [True] * count)
                    continue
                except Differ:
                    pass
            return self.part(state, heads)

    def part(self, state, heads):
        """Tries each operation that some traces may lack, the most common one first."""
        if len(state.nodes) > self.farthest[0]:
            self.farthest = (len(state.nodes), heads)
        self.attempts += 1
        if self.attempts > ATTEMPTS:
            return None
        groups = {}
        for k, head in enumerate(heads):
            if head is not None and unchanging(head, [0] * 8) is not None:
                fixed = tuple(str(head.arguments[key]) for key in sorted(FIXED & head.arguments.keys()))
                groups.setdefault((head.target, head.place, fixed), []).append(k)
        for members in sorted(groups.values(), key=len, reverse=True):
            if len(members) == len(heads):
                continue
            trial = state.copy()
            try:
                self.take(trial, [heads[members[0]] if k not in members else heads[k] for k in range(len(heads))],
                          [k in members for k in range(len(heads))])
            except Differ:
                continue
            result = self.advance(trial)
            if result is not None:
                return result
        return None

    def take(self, state, calls, present):
        """Adds a node of these calls; a trace in which it is not present gets the unchanging form."""
        model = calls[present.index(True)]
        if any(c.target != model.target or c.path != model.path for c in calls):
            raise Differ
        arguments, shapes = {}, {}
        for k, call in enumerate(calls):
            if present[k]:
                arguments[k] = {key: map_refs(v, lambda r, k=k: state.maps[k].get(r, r)) for key, v in call.arguments.items()}
                shapes[k] = call.shapes
        own = sorted(arguments)
        refs = {key: merge_value([arguments[k][key] for k in own], [state.lacking[k] for k in own], key)
                for key in model.arguments if self.holds_ref(arguments[own[0]][key])}
        source = next((r for v in refs.values() for r in (v if isinstance(v, list) else [v]) if isinstance(r, Ref)), None)
        for k in range(len(calls)):
            if not present[k]:
                shape = self.shape_in(state, source, k)
                arguments[k] = {**unchanging(model, shape), **refs}
                shapes[k] = [shape]
        arguments, shapes = ([d[k] for k in range(len(calls))] for d in (arguments, shapes))
        merged = {key: merge_value([a.get(key) for a in arguments], state.lacking, key) for key in arguments[0]}
        if any(len(s) != len(shapes[0]) or [len(x) for x in s] != [len(x) for x in shapes[0]] for s in shapes):
            raise Differ
        forms = [[series(s[i][d] for s in shapes) for d in range(len(shapes[0][i]))] for i in range(len(shapes[0]))]
        node = Node(model.target, merged, forms, model.dtypes, model.path, model.count, model.place, len(state.nodes))
        state.nodes.append(node)
        for k in range(len(calls)):
            if not present[k]:
                state.lacking[k][Ref(node.index)] = source
            else:
                for i in range(len(node.shapes)):
                    state.maps[k][Ref(state.at[k], i)] = Ref(node.index, i)
                state.at[k] += 1

    @staticmethod
    def holds_ref(value):
        return isinstance(value, Ref) or isinstance(value, list) and any(map(Aligner.holds_ref, value))

    def shape_in(self, state, ref, k):
        """The shape of a merged node's result in trace k."""
        if ref.call < 0:
            size = self.traces[k].size
            return [1, 0, *size]
        return [s.values[k] if isinstance(s, Series) else s for s in state.nodes[ref.call].shapes[ref.result]]

    def report(self):
        heads = self.farthest[1]
        first = heads[0]
        other = next((k for k, h in enumerate(heads) if (h and h.target) != (first and first.target)
                      or (h and h.place) != (first and first.place)), None)
        if other is None:
            other = 1
        one, two = self.traces[0].size, self.traces[other].size
        def name(head):
            return f"{title(head)}{where(head)}" if head else "nothing more"
        return (f"the network's operations depend on the picture's size: {name(first)} for a picture of "
                f"{one[0]}×{one[1]}, {name(heads[other])} for {two[0]}×{two[1]}; --fixed-size HxW exports it for one size")


def align(traces, outputs):
    """The nodes of all traces, and the reference to one of them that the traces' outputs, a `Ref` each, mean."""
    state = Aligner(traces).run()
    try:
        return state.nodes, merge_refs([m.get(r, r) for m, r in zip(state.maps, outputs)], state.lacking)
    except Differ:
        raise ExportError("the module's output comes from different operations for different sizes of pictures; "
                          "--fixed-size HxW exports it for one size") from None
