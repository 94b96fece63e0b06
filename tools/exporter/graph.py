"""Walks over a traced program and makes the graph's nodes."""

import operator
import os
import re
import types
from pathlib import Path

import sympy
import torch

from .patterns import find_patterns
from .values import DEFAULTS, NCHW, Constant, ExportError, Made, Sizes, Unsupported, Value, expression


class Walk:
    """Turns a traced program into a graph; the subclass translates its operations."""

    handlers = {}

    def __init__(self, program, output):
        self.program = program
        self.output_node = output
        self.targets = {s.arg.name: s.target for s in program.graph_signature.input_specs}
        self.made = []
        self.values = {}
        self.tensors = {}  # (id, shape) → name
        self.written = {}  # name → tensor
        self.kept = []  # keeps tensors alive, whose ids are keys above
        self.problems = []
        self.node = None
        self.patterns = find_patterns(program.graph)

    # -- the walk ------------------------------------------------------------------------------------------

    def run(self):
        """Translates everything that the output depends on."""
        needed = self.needed()
        for node in self.program.graph.nodes:
            if node not in needed or not (node.op == "placeholder" or self.is_tensor(node)):
                continue
            self.node = node
            try:
                self.values[node] = self.placeholder(node) if node.op == "placeholder" else self.call(node)
            except Unsupported as problem:
                self.problems.append(f"{self.title(node)}{self.where(node)}: {problem}")
                self.values[node] = self.stand_in(node)
        self.node = self.output_node
        value = self.values[self.output_node]
        if not self.problems:
            try:
                return self.result(value)
            except Unsupported as problem:
                self.problems.append(f"{self.title(self.node)}{self.where(self.node)}: {problem}")
        raise ExportError("\n".join(dict.fromkeys(self.problems)))

    def result(self, value):
        if not isinstance(value, Value) or value.made.op == "input":
            raise Unsupported("the output does not depend on the picture, or is the picture")
        if value.layout not in (NCHW, "vector"):
            raise Unsupported("the output is not [n, classes, h, w]")
        return self.tensor(value)

    @staticmethod
    def is_tensor(node):
        value = node.meta.get("val")
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        return isinstance(first, torch.Tensor)

    def needed(self):
        needed, rest = set(), [self.output_node, *(n for n in self.program.graph.nodes if self.is_input(n))]
        while rest:
            node = rest.pop()
            if node not in needed:
                needed.add(node)
                rest.extend(self.patterns[node][1] if node in self.patterns else node.all_input_nodes)
        return needed

    def is_input(self, node):
        return node.op == "placeholder" and node.name in self.program.graph_signature.user_inputs

    def placeholder(self, node):
        if self.is_input(node):
            shape = [expression(s) for s in node.meta["val"].shape]
            self.sizes = Sizes(*shape[2:])
            self.made.append(Made("input", [], {}, shape, name="input"))
            return Value(self.made[0], NCHW, shape)
        name = self.targets[node.name]
        tensor = self.program.state_dict.get(name, self.program.constants.get(name)).detach()
        return Constant(tensor.double() if tensor.is_floating_point() else tensor, name)

    def call(self, node):
        inputs = self.patterns[node][1] if node in self.patterns else filter(self.is_tensor, node.all_input_nodes)
        inputs = [self.values.get(i) for i in inputs]
        if node.target is operator.getitem:
            return inputs[0][node.args[1]] if inputs[0] is not None else None
        if node in self.patterns:
            method, _, attributes = self.patterns[node]
            return getattr(self, method)(*inputs, **attributes) if None not in inputs else self.stand_in(node)
        arguments = self.arguments(node)
        leaves = torch.utils._pytree.tree_leaves(arguments)
        if not any(isinstance(leaf, (Value, sympy.Expr)) for leaf in leaves):
            result = self.fold(node)
            if result is not None:
                return result
        handler = self.handlers.get(str(node.target))
        if handler is None:
            raise Unsupported("fullconv has no such operation")
        if None in inputs:  # an untranslated input
            return self.stand_in(node)
        return handler(self, types.SimpleNamespace(**arguments))

    def arguments(self, node):
        """The arguments by their names in ATen's schema, with defaults; tensors as `Value` or `Constant`."""
        def resolve(arg):
            if not isinstance(arg, torch.fx.Node):
                return arg
            if self.is_tensor(arg):
                return self.values.get(arg)
            value = arg.meta["val"]
            value = expression(value) if isinstance(value, (torch.SymInt, int)) else value
            return int(value) if getattr(value, "is_Integer", False) else value
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise Unsupported("fullconv has no such operation")
        args, kwargs = torch.fx.node.map_aggregate((node.args, node.kwargs), resolve)
        result = {a.name: a.default_value for a in schema.arguments}
        result.update(zip(result, args), **kwargs)
        return result

    def fold(self, node):
        """Constant-folds a node; None if that fails."""
        def real(arg):
            return self.values[arg].tensor if isinstance(arg, torch.fx.Node) and self.is_tensor(arg) else arg
        try:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), real)
            result = node.target(*args, **kwargs)
        except Exception:  # noqa: BLE001 - the operation is then reported as unsupported
            return None
        wrap = lambda t: Constant(t) if isinstance(t, torch.Tensor) else t  # noqa: E731
        return [wrap(t) for t in result] if isinstance(result, (list, tuple)) else wrap(result)

    def stand_in(self, node):
        """A placeholder for an untranslated node, to check the remaining nodes too."""
        value = node.meta.get("val")
        if isinstance(value, (list, tuple)):
            return None
        if isinstance(value, torch.Tensor) and value.dim() == 4:
            shape = [expression(s) for s in value.shape]
            return Value(Made("?", [], {}, shape, node), NCHW, shape)
        return None

    # -- messages and names --------------------------------------------------------------------------------

    @staticmethod
    def title(node):
        return str(node.target).removeprefix("aten.").split(".")[0] if node.op == "call_function" else node.name

    @staticmethod
    def path(node):
        """The path of the calling module, and the number of its call."""
        stack = node.meta.get("nn_module_stack") or {"": ("", "")}
        key, (path, _) = list(stack.items())[-1]
        path = path.split("@")[0]
        return path, int(key.rpartition("@")[2]) if re.search(r"@\d+$", key) else 0

    def where(self, node):
        path = self.path(node)[0]
        frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
        own = [f for f in frames if f"{os.sep}torch{os.sep}" not in f[0]] or frames
        place = [f"in {path}"] if path else []
        if own:
            file = Path(own[-1][0])
            place.append(f"at {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{own[-1][1]}")
        return f" {' '.join(place)}" if place else ""

    def give_names(self, module, live):
        """Names nodes: the last node of a childless module's call gets the module's path, others add the op's name."""
        taken = {*self.written, "input"}
        last = {}
        for made in live:
            last[self.path(made.source)] = made
        for made in live:
            path, call = self.path(made.source)
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

    # -- making nodes --------------------------------------------------------------------------------------

    def emit(self, op, inputs, shape, layout=NCHW, seen=None, **attributes):
        """Adds a node. `shape` is [n, c, h, w]; `seen` is the shape in PyTorch, if it differs."""
        defaults = DEFAULTS.get(op, {})
        attributes = {k: v for k, v in attributes.items() if k not in defaults or v != defaults[k]}
        inputs = [self.tensor(i) if isinstance(i, Value) else i for i in inputs if i is not None]
        made = Made(op, inputs, attributes, [sympy.sympify(s) for s in shape], self.node)
        self.made.append(made)
        return Value(made, layout, seen or self.seen(made.shape, layout))

    @staticmethod
    def seen(shape, layout):
        return [shape[NCHW.index(axis)] for axis in layout] if set(layout) == set(NCHW) else None

    def shape_of_result(self):
        return [expression(s) for s in self.node.meta["val"].shape]

    def tensor(self, value):
        """The node of a value, after its pending crop."""
        if value.cut is not None:
            top_left, size = value.cut, value.size
            value.cut = None
            source, self.node = self.node, value.source
            value.made = self.crop(value.made, top_left, size)
            self.node = source
        return value.made

    def weight(self, constant, shape=None, name=None):
        """The name of a constant in the file; writes it if it is new."""
        tensor = constant.tensor
        shape = list(shape or tensor.shape)
        key = (id(tensor), tuple(shape))
        if key not in self.tensors:
            base = constant.name or name or self.parameter_name("weight")
            unique, count = base, 0
            while unique in self.written:
                count += 1
                unique = f"{base}_{count}"
            self.written[unique] = tensor.reshape(shape).to(torch.float32).contiguous().clone()
            self.tensors[key] = unique
            self.kept.append(tensor)
        return self.tensors[key]

    def parameter_name(self, name):
        path = self.path(self.node)[0]
        return f"{path}.{name}" if path else f"{self.title(self.node)}.{name}"

    def activation(self, value, layout=None):
        if isinstance(value, Constant):
            raise Unsupported("an input that does not depend on the picture")
        if layout and value.layout != layout:
            raise Unsupported("its input is not [n, c, h, w]")
        return value

    def parameter(self, value, what):
        if value is not None and not isinstance(value, Constant):
            raise Unsupported(f"its {what} depends on the picture")
        return value

    def like(self, size):
        """The first node with this height and width."""
        key = tuple(self.sizes.series(s) for s in size)
        for made in self.made:
            if made.op != "?" and tuple(self.sizes.series(s) for s in made.shape[2:]) == key:
                return made
        return None

    def crop(self, made, top_left, size):
        """A window of a node. If no node has the window's size, one is made for its size."""
        if top_left == [0, 0] and all(map(self.sizes.same, size, made.shape[2:])):
            return made
        return self.emit("crop", [made, self.need_like(size)], [*made.shape[:2], *size], offset=top_left).made

    def need_like(self, size):
        return self.like(size) or self.make_like(size)

    def make_like(self, size):
        """Makes a node for its size: a fixed size, or another node's size less a fixed number of rows and columns,
        divided by an integer, or rounded up to a multiple."""
        size = [sympy.sympify(s) for s in size]
        if all(s.is_Integer for s in size):
            shape = [*self.made[0].shape[:2], *size]
            return self.emit("adaptive_avg_pool2d", [self.made[0]], shape, output_size=[int(s) for s in size]).made
        seen = set()
        for made in self.made:
            if made.op == "?" or tuple(made.shape[2:]) in seen:
                continue
            seen.add(tuple(made.shape[2:]))
            shape = [*made.shape[:2], *size]
            less = [set(map(operator.sub, *map(self.sizes.series, pair))) for pair in zip(made.shape[2:], size)]
            if all(len(differences) == 1 and min(differences) >= 0 for differences in less):
                kernel = [int(min(differences)) + 1 for differences in less]
                return self.emit("max_pool2d", [made], shape, kernel_size=kernel, stride=[1, 1]).made
            for factor in (2, 4, 8, 16, 32, 64, 128):
                kernel, both = [factor] * 2, list(zip(size, made.shape[2:]))
                if all(self.sizes.same(to, from_ // factor) for to, from_ in both):
                    return self.emit("max_pool2d", [made], shape, kernel_size=kernel, stride=kernel).made
                if all(self.sizes.same(to, factor * -(-from_ // factor)) for to, from_ in both):
                    blocks = [*made.shape[:2], *(-(-s // factor) for s in made.shape[2:])]
                    small = self.emit("max_pool2d", [made], blocks, kernel_size=kernel, stride=kernel, ceil_mode=True)
                    return self.emit("interpolate", [small], shape, scale_factor=[float(factor)] * 2, mode="nearest").made
        raise Unsupported(f"no other node has its size, {size[0]} × {size[1]}")

    def select(self, value, axis, channels):
        """Selects channels in this order, by a convolution."""
        if value.layout == "vector":
            whole = value.shape[axis]
        else:
            whole = value.made.shape[1]
        if channels == list(range(int(whole))):
            return value
        weight = torch.zeros(len(channels), int(whole), 1, 1)
        weight[range(len(channels)), channels] = 1.0
        return self.mix(value, weight)

    def mix(self, value, weight):
        shape = [value.made.shape[0], weight.shape[0], *(value.size or value.made.shape[2:])]
        layout = value.layout
        seen = None
        if layout == "vector":
            seen = [s if s != value.made.shape[1] else weight.shape[0] for s in value.shape]
        name = self.parameter_name("selection")
        return self.emit("conv2d", [value, self.weight(Constant(weight), name=name)], shape, layout, seen)

    def axis(self, value, dim):
        """The letter of an axis."""
        dim = dim % len(value.shape)
        if set(value.layout) == set(NCHW):
            return value.layout[dim]
        if value.layout == "vector" and value.shape[dim] == value.made.shape[1]:
            return "c"
        raise Unsupported(f"along dimension {dim} of {len(value.shape)}")

    def same_shape(self, op, value, *more, **attributes):
        """Adds an operation that keeps the shape and the order of axes."""
        value = self.activation(value)
        made = self.tensor(value)
        return self.emit(op, [made, *more], made.shape, value.layout, value.shape, **attributes)

    # -- the file ------------------------------------------------------------------------------------------

    def graph(self, module, output):
        """The graph for JSON, with only the nodes that the output depends on."""
        needed, rest = set(), [output]
        while rest:
            made = rest.pop()
            if isinstance(made, Made) and made not in needed:
                needed.add(made)
                rest.extend(made.inputs)
        live = [m for m in self.made if m in needed and m.op != "input"]
        used = {i for m in live for i in m.inputs if isinstance(i, str)}
        self.written = {name: t for name, t in self.written.items() if name in used}
        self.give_names(module, live)
        nodes = []
        for made in live:
            node = {"name": made.name, "op": made.op,
                    "inputs": [i if isinstance(i, str) else i.name for i in made.inputs]}
            if made.attributes:
                node["attributes"] = made.attributes
            nodes.append(node)
        return {"input": "input", "output": output.name, "nodes": nodes}
