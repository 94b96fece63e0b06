"""Walks over the aligned traces and makes the graph's nodes."""

import types
from pathlib import Path

import torch

from .align import Node
from .trace import Ref, title, where
from .values import DEFAULTS, Constant, ExportError, Made, Series, Unsupported
from .views import AXES, Value, is_all, of_axis, tidy, whole


def failure(problem):
    """The kind and the place of an exception inside the exporter."""
    at = problem.__traceback__
    while at.tb_next is not None:
        at = at.tb_next
    return f"{type(problem).__name__} at {Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"


class Walk:
    """Turns aligned traces into a graph; the subclass translates operations."""

    handlers = {}

    def __init__(self, nodes, sizes, channels):
        self.nodes = nodes
        self.sizes = sizes
        self.made = []
        self.values = {}  # index of a node → the values of its results
        self.names = {}  # a tensor's key → its name in the file
        self.written = {}  # name → tensor, in f64
        self.problems = []
        self.patterns = {}
        shape = [1, channels, *(self.series(size[i] for size in sizes) for i in range(2))]
        self.node = Node("input", {}, [shape], [torch.float64], "", 0, None, -1)
        self.input = Made("input", [], {}, shape, self.node, "input")
        self.made.append(self.input)
        self.values[-1] = [Value(self.input, whole(shape))]

    @staticmethod
    def series(values):
        values = list(values)
        return values[0] if all(v == values[0] for v in values) else Series(values)

    # -- the walk ------------------------------------------------------------------------------------------------

    def run(self, output):
        """Translates everything that the output, a `Ref`, depends on; returns its node."""
        needed = self.needed(output)
        for node in self.nodes:
            if node.index not in needed:
                continue
            self.node = node
            try:
                result = self.call(node)
                self.values[node.index] = result if isinstance(result, list) else [result]
            except Exception as problem:  # noqa: BLE001 - a form of an operation that nobody has thought of is a refusal, too
                text = str(problem)
                if not isinstance(problem, Unsupported):
                    text = f"in a form that the exporter does not know ({failure(problem)})"
                if not self.has_stand_in(node) or node.target not in self.handlers or "with a number" in text:
                    self.problems.append(f"{title(node)}{where(node)}: {text}")
                self.values[node.index] = [self.stand_in(shape) for shape in node.shapes]
        if not self.problems:
            try:
                return self.result(self.values[output.call][output.result])
            except Unsupported as problem:
                self.problems.append(f"{title(self.node)}{where(self.node)}: {problem}")
        follows, said = ("picture's", "--fixed-size")
        if len(self.sizes) > 1 and any(follows in t for t in self.problems) and not any(said in t for t in self.problems):
            self.problems.append("--fixed-size HxW exports for pictures of one size, where sizes are numbers")
        raise ExportError("\n".join(dict.fromkeys(self.problems)))

    def result(self, value):
        if not isinstance(value, Value) or value.made is self.input:
            raise Unsupported("the output does not depend on the picture, or is the picture")
        if len(value.view) not in (2, 3, 4):
            raise Unsupported("the output is not [n, classes, h, w]")
        if len(value.view) == 3:  # [n, h, w] of one class, as after squeeze, or [classes, h, w]
            first = value.view[0]
            value = Value(value.made, ((), *value.view) if first else ((), (), *value.view[1:]), value.cut, value.size)
        return self.map(value)

    def needed(self, output):
        found, rest = set(), [output]
        while rest:
            ref = rest.pop()
            if ref.call >= 0 and ref.call not in found:
                found.add(ref.call)
                inputs = self.patterns[ref.call][1] if ref.call in self.patterns else self.nodes[ref.call].arguments
                rest.extend(r for r in torch.utils._pytree.tree_leaves(inputs) if isinstance(r, Ref))
        return found

    def call(self, node):
        if node.index in self.patterns:
            method, ref, attributes = self.patterns[node.index]
            return getattr(self, method)(self.values[ref.call][ref.result], **attributes)
        handler = self.handlers.get(node.target)
        if handler is None:
            raise Unsupported("it is changed in place through a view of another form" if node.target == "changed_in_place"
                              else "fullconv has no such operation")
        missing = []

        def resolve(value):
            if isinstance(value, Ref):
                values = self.values[value.call]
                result = values[value.result] if value.result < len(values) else None
                missing.append(result is None)
                return result
            if isinstance(value, list):
                return [resolve(v) for v in value]
            return value
        arguments = {key: resolve(value) for key, value in node.arguments.items()}
        if any(missing):  # an untranslated input
            return [self.stand_in(shape) for shape in node.shapes]
        return handler(self, types.SimpleNamespace(**arguments))

    def has_stand_in(self, node):
        """Whether an input was not translated: then the axes of this operation's inputs tell nothing."""
        refs = [r for r in torch.utils._pytree.tree_leaves(node.arguments) if isinstance(r, Ref)]
        values = [self.values[r.call][r.result] for r in refs if r.call in self.values and r.result < len(self.values[r.call])]
        return any(v is None or isinstance(v, Value) and v.made.op == "?" for v in values)

    def stand_in(self, shape):
        """A value for an untranslated result, to check the remaining nodes too."""
        if len(shape) != 4:
            return None
        return Value(Made("?", [], {}, list(shape), self.node), whole(shape))

    # -- messages and names --------------------------------------------------------------------------------------

    def give_names(self, module, live):
        """Names nodes: the last node of a childless module's call gets the module's path, others add the op's name."""
        taken = {*self.written, "input"}
        last = {}
        for made in live:
            last[made.source.path, made.source.count] = made
        for made in live:
            path, call = made.source.path, made.source.count
            parts = [path] if path else []
            if not path or last[path, call] is not made or not self.is_leaf(module, path):
                parts.append(made.op)
            base = ".".join(parts)
            name, count = base, 0
            while name in taken:
                count += 1
                name = f"{base}_{count}"
            taken.add(name)
            made.name = name

    @staticmethod
    def is_leaf(module, path):
        try:
            children = dict(module.get_submodule(path).named_children())
        except AttributeError:
            return False
        return not children.keys() - {"parametrizations"}

    # -- making nodes --------------------------------------------------------------------------------------------

    def emit(self, op, inputs, shape, /, **attributes):
        """Adds a node; `shape` is [n, c, h, w]."""
        defaults = DEFAULTS.get(op, {})
        attributes = {k: v for k, v in attributes.items() if k not in defaults or v != defaults[k]}
        for key, value in attributes.items():
            if any(isinstance(leaf, Series) for leaf in torch.utils._pytree.tree_leaves([value])):
                raise Unsupported(f"with {key} {value} that depends on the picture's size")
        inputs = [i for i in inputs if i is not None]
        if any(isinstance(i, Made) and i.op == "?" for i in inputs):
            return Made("?", [], {}, list(shape), self.node)
        made = Made(op, inputs, attributes, list(shape), self.node)
        self.made.append(made)
        return made

    def on(self, op, inputs, shape, /, **attributes):
        """Adds a node and gives it as a value [n, c, h, w]."""
        return self.value(self.emit(op, inputs, shape, **attributes))

    @staticmethod
    def value(made):
        return Value(made, whole(made.shape))

    def shape_of_result(self):
        return self.node.shape

    def tensor(self, value):
        """The node of a value, after its pending window."""
        if value.cut is not None:
            top_left, size = value.cut, value.size
            source, self.node = self.node, value.source
            try:
                value.made = self.crop(value.made, top_left, size)
            finally:
                self.node = source
            value.cut = None
        return value.made

    def activation(self, value):
        """A value that depends on the picture."""
        if isinstance(value, Constant):
            return self.constant_map(value)
        if not isinstance(value, Value):
            raise Unsupported("its input is neither a map nor tokens")
        return value

    def same_shape(self, op, value, /, *more, **attributes):
        """Adds an operation that keeps the shape and the order of axes."""
        value = self.activation(value)
        made = self.tensor(value)
        return Value(self.emit(op, [made, *more], made.shape, **attributes), value.view)

    def weight(self, constant, shape=None, name=None):
        """The name of a constant in the file; writes it if it is new."""
        tensor = constant.tensor.double()
        shape = list(shape or tensor.shape)
        key = (constant.name, tuple(shape)) if constant.name else (tuple(shape), tensor.numpy().tobytes())
        if key not in self.names:
            base = constant.name or name or self.parameter_name("weight")
            unique, count = base, 0
            while unique in self.written:
                count += 1
                unique = f"{base}_{count}"
            self.written[unique] = tensor.reshape(shape).contiguous().clone()
            self.names[key] = unique
        return self.names[key]

    def parameter_name(self, name):
        return f"{self.node.path}.{name}" if self.node.path else f"{title(self.node)}.{name}"

    @staticmethod
    def parameter(value, what):
        if value is not None and not isinstance(value, Constant):
            raise Unsupported(f"its {what} depends on the picture")
        return value

    # -- views ---------------------------------------------------------------------------------------------------

    def map(self, value):
        """The node of a value that has to be a map [n, c, h, w]."""
        value = self.activation(value)
        made = self.tensor(value)
        view = value.view
        if len(view) == 2:
            view = (*view, (), ())
        if len(view) == 3 and view[0] and not any(a.axis == "n" for a in view[0]):
            raise Unsupported("its input is not [n, c, h, w]")
        if len(view) != 4 or view[0]:
            raise Unsupported("its input is not [n, c, h, w]")
        if made.op == "?":
            return made
        made = self.spread(made, view)
        if view == whole(made.shape):
            return made
        return self.arrange(made, view)

    def spread(self, made, view):
        """Repeats a node along the axes in which the view is larger."""
        shape = list(made.shape)
        for place, axis in enumerate(AXES):
            atoms = of_axis(view, axis)
            if shape[place] == 1 and atoms:
                whole_axis = tidy([tuple(atoms)])[0]
                if len(whole_axis) != 1 or whole_axis[0].stride != 1:
                    raise Unsupported("of a tensor that is expanded within an axis")
                shape[place] = whole_axis[0].size
        if shape[2:] != made.shape[2:]:
            made = self.resize(made, shape[2:], {"mode": "nearest"})
        if shape[1] != made.shape[1]:
            made = self.emit("repeat", [made], [made.shape[0], shape[1], *made.shape[2:]], repeats=[shape[1], 1, 1])
        return made

    def axis(self, value, dim):
        """The letter of the axis that is a dimension of the value, whole."""
        dimension = value.view[dim % len(value.view)]
        if len(dimension) == 1:
            made_size = value.made.shape[AXES.index(dimension[0].axis)]
            if is_all(dimension, value.made, dimension[0].axis) or made_size == 1:
                return dimension[0].axis
        if not dimension:
            dim %= len(value.view)
            if len(value.view) == 4 and not of_axis(value.view, AXES[dim]):
                return AXES[dim]
            free = [a for a in AXES[1:] if not of_axis(value.view, a)]
            if dim and free:
                return free[0] if len(value.view) > 2 else "c" if "c" in free else free[0]
        raise Unsupported(f"along dimension {dim}, of {value.shape}")

    # -- the file ------------------------------------------------------------------------------------------------

    def graph(self, module, output):
        """The graph for JSON, with only the nodes that the output depends on."""
        needed, rest = set(), [output]
        while rest:
            made = rest.pop()
            if isinstance(made, Made) and made not in needed:
                needed.add(made)
                rest.extend(made.inputs)
        live = [m for m in self.made if m in needed and m.op not in ("input", "tensor")]
        used = {i for m in live for i in m.inputs if isinstance(i, str)} | {m.name for m in needed if m.op == "tensor"}
        self.written = {name: t for name, t in self.written.items() if name in used}
        self.live = live
        self.give_names(module, live)
        nodes = []
        for made in live:
            node = {"name": made.name, "op": made.op,
                    "inputs": [i if isinstance(i, str) else i.name for i in made.inputs]}
            if made.attributes:
                node["attributes"] = made.attributes
            nodes.append(node)
        return {"input": "input", "output": output.name, "nodes": nodes}
