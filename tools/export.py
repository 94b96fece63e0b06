#!/usr/bin/env python3
"""Write a PyTorch module as a model file of fullconv: one safetensors with weights and graph.

    python tools/export.py MODULE:CALLABLE OUT.safetensors [--weights STATE.pth] [--args JSON]
        [--size HxW] [--half] [--classes FILE] [--preprocess torchvision|caffe|JSON]

    python tools/export.py torchvision.models.segmentation:fcn_resnet50 fcn.safetensors \\
        --args '{"weights_backbone": null}' --weights fcn.pth --preprocess torchvision
    python tools/export.py my/net.py:UNet unet.safetensors --weights unet.pth --classes names.txt

or, from Python:

    from export import export
    export(module, torch.randn(1, 3, 480, 640), "net.safetensors", classes=[...], preprocess="torchvision")

The module is followed by torch.export with height and width left open, so that the file fits pictures of
any size that the module takes: a size that comes from the picture becomes "as large as that node", a size
that the module fixes stays a number. Nodes are called by their modules' paths, tensors as in the state
dict. What cannot be expressed is reported with operation, module and source line, all of it at once, and
no file is written.

Requirements: Python 3.10+, torch 2.6+, safetensors.
"""

import argparse
import copy
import importlib
import importlib.util
import json
import logging
import operator
import os
import re
import sys
import types
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import sympy
import torch
from safetensors.torch import save_file

VERSION = 1
PREPROCESS = {
    "torchvision": {"channels": "rgb", "range": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "caffe": {"channels": "bgr", "range": 255.0, "mean": [104.00699, 116.66877, 122.67892], "std": [1.0, 1.0, 1.0]},
}
NCHW = "nchw"
# Attributes that need not be written.
DEFAULTS = {
    "conv2d": {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
    "conv_transpose2d": {"stride": [1, 1], "padding": [0, 0], "output_padding": [0, 0], "dilation": [1, 1], "groups": 1},
    "max_pool2d": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_pool2d_indices": {"padding": [0, 0], "dilation": [1, 1], "ceil_mode": False},
    "max_unpool2d": {"padding": [0, 0]},
    "avg_pool2d": {"padding": [0, 0], "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "batch_norm2d": {"eps": 1e-5},
    "pad": {"mode": "constant", "value": 0.0},
    "interpolate": {"align_corners": False},
    "clamp": {"min": None, "max": None},
}


class ExportError(Exception):
    """The module cannot be written as a model file; one line for each reason."""


class Unsupported(Exception):
    """An operation that fullconv does not have, or not with these arguments."""


class Sizes:
    """Compares sizes that depend on the picture's, by what they are for many pictures."""

    FUNCTIONS = {
        "FloorDiv": operator.floordiv, "CleanDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod,
        "IntTrueDiv": operator.truediv, "FloatTrueDiv": operator.truediv, "ToFloat": float, "TruncToInt": int,
        "TruncToFloat": lambda x: float(int(x)), "RoundToInt": round, "FloorToInt": lambda x: int(x // 1),
        "CeilToInt": lambda x: -int(-x // 1), "Max": max, "Min": min, "Identity": lambda x: x,
        "IntNaturalPow": operator.pow, "FloatPow": operator.pow, "Where": lambda c, a, b: a if c else b,
    }
    PERIOD = 512

    def __init__(self, height, width):
        self.symbols = [height, width]
        # Every remainder that a stride up to the period can leave, of small pictures and of large ones; no
        # height comes with the same width.
        self.pictures = [(base + i, base + (i * 7 + 11) % self.PERIOD) for base in (96, 2048) for i in range(self.PERIOD)]
        self.known = {}

    def series(self, size):
        """The size for each picture."""
        size = sympy.sympify(size)
        if size not in self.known:
            if not size.free_symbols <= set(self.symbols):
                raise Unsupported(f"a size, {size}, that depends on more than the picture's")
            value = sympy.lambdify(self.symbols, size, modules=[self.FUNCTIONS, "math"])
            self.known[size] = tuple(value(h, w) for h, w in self.pictures)
        return self.known[size]

    def same(self, a, b):
        return a == b or self.series(a) == self.series(b)

    def limits(self, size):
        """The least and the largest it can be."""
        series = self.series(size)
        near, far = series[:self.PERIOD], series[self.PERIOD:]
        if (min(near), max(near)) != (min(far), max(far)):
            raise Unsupported(f"a number, {size}, that grows with the picture")
        return min(near), max(near)

    def fixed(self, size, what):
        """The number, if it is the same for every picture."""
        low, high = self.limits(size)
        if low != high:
            raise Unsupported(f"{what} that depends on the picture's size: {low} to {high}")
        return int(low)


@dataclass(eq=False)
class Made:
    """A node of the graph that is written."""
    op: str
    inputs: list
    attributes: dict
    shape: list
    source: object = None
    name: str = None


@dataclass(eq=False)
class Value:
    """What a node of the traced program computes: a node of ours, seen in some order of its axes."""
    made: Made
    layout: str = NCHW  # the axes' order, or "vector", "flat", "planes": see Translator.reshape
    shape: list = None  # as PyTorch sees it
    cut: list = None  # rows and columns cut from made's top and left, not yet done
    size: list = None  # and height and width that are left


@dataclass(eq=False)
class Constant:
    """A tensor that does not depend on the picture, and its name in the state dict, if it is in there."""
    tensor: torch.Tensor
    name: str = None


HANDLERS = {}


def aten(*targets):
    """Registers a method for operations of ATen; it is given their arguments by name."""
    def register(method):
        HANDLERS.update({f"aten.{target}": method for target in targets})
        return method
    return register


def pair(value):
    return [int(v) for v in value] * (1 if len(value) == 2 else 2) if isinstance(value, (list, tuple)) else [int(value)] * 2


def expression(size):
    """A size of the traced program as sympy has it."""
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(int(size))


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Translator:
    """ATen's operations → ours. Methods are named after what they take."""

    def __init__(self, program, output):
        self.program = program
        self.output_node = output
        self.targets = {s.arg.name: s.target for s in program.graph_signature.input_specs}
        self.made = []
        self.values = {}
        self.tensors = {}  # (id, shape) → name
        self.written = {}  # name → tensor
        self.kept = []  # constants whose id is a key
        self.problems = []
        self.node = None
        self.patterns = {}

    # -- the walk ------------------------------------------------------------------------------------------

    def run(self):
        """Translates all that the output needs."""
        self.find_patterns()
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
        if node in self.patterns:
            handler, inputs, arguments = self.patterns[node]
            return handler(self, *(self.values[i] for i in inputs), **arguments)
        arguments = self.arguments(node)
        flat = torch.utils._pytree.tree_leaves(arguments)
        if node.target is operator.getitem:
            return arguments["items"][arguments["index"]] if arguments["items"] is not None else None
        symbolic = any(isinstance(a, sympy.Expr) for a in flat)
        if not symbolic and all(not isinstance(a, Value) for a in flat):
            result = self.fold(node)
            if result is not None:
                return result
        handler = HANDLERS.get(str(node.target))
        if handler is None:
            raise Unsupported("fullconv has no such operation")
        if any(a is None for a in torch.utils._pytree.tree_leaves(arguments.pop("__tensors__"), is_leaf=lambda x: x is None)):
            return self.stand_in(node)
        return handler(self, types.SimpleNamespace(**arguments))

    def arguments(self, node):
        """The arguments by their names in ATen's schema, with defaults; tensors as values of ours."""
        def resolve(arg):
            if not isinstance(arg, torch.fx.Node):
                return arg
            return self.values.get(arg) if self.is_tensor(arg) else expression_or_number(arg.meta["val"])
        def expression_or_number(value):
            value = expression(value) if isinstance(value, (torch.SymInt, int)) else value
            return int(value) if getattr(value, "is_Integer", False) else value
        given = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n)
        args, kwargs = torch.fx.node.map_aggregate(given, resolve)
        if node.target is operator.getitem:
            return {"items": args[0], "index": args[1]}
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise Unsupported("fullconv has no such operation")
        names = [a.name for a in schema.arguments]
        result = {a.name: a.default_value for a in schema.arguments}
        result.update(zip(names, args), **kwargs)
        result["__tensors__"] = [self.values.get(n) for n in node.all_input_nodes if self.is_tensor(n)]
        return result

    def fold(self, node):
        """Computes what does not depend on the picture."""
        def real(arg):
            return self.values[arg].tensor if isinstance(arg, torch.fx.Node) and self.is_tensor(arg) else arg
        try:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), real)
            result = node.target(*args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is, the operation is reported as one that is not there
            return None
        wrap = lambda t: Constant(t) if isinstance(t, torch.Tensor) else t  # noqa: E731
        return [wrap(t) for t in result] if isinstance(result, (list, tuple)) else wrap(result)

    def stand_in(self, node):
        """In place of what could not be translated, so that the rest is looked at too."""
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
        """Path of the module that calls, and which of its calls it is."""
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
        """A module without children gives its path to the last node of a call; others get the op's name."""
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
        """Adds a node. `shape` is [n, c, h, w]; `seen` is what PyTorch makes of it, if that is another."""
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
        """The node that holds a value, cut now if that was left for later."""
        if value.cut is not None:
            top_left, size = value.cut, value.size
            value.cut = None
            source, self.node = self.node, value.source
            value.made = self.crop(value.made, top_left, size)
            self.node = source
        return value.made

    def weight(self, constant, shape=None, name=None):
        """The name of a tensor of the file."""
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
        """A window of a node. Where no node is as large, one is made for its size alone."""
        if top_left == [0, 0] and all(map(self.sizes.same, size, made.shape[2:])):
            return made
        like = self.like(size) or self.make_like(size)
        return self.emit("crop", [made, like], [*made.shape[:2], *size], offset=top_left).made

    def make_like(self, size):
        """A node for its size alone: of a fixed one, less than another node's by a fixed number of rows and
        columns, or another's rounded up to a multiple."""
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
            factor = next((f for f in (2, 4, 8, 16, 32, 64, 128) if all(
                self.sizes.same(to, f * -(-from_ // f)) for to, from_ in zip(size, made.shape[2:]))), None)
            if factor:
                kernel = [factor] * 2
                blocks = [*made.shape[:2], *(-(-s // factor) for s in made.shape[2:])]
                small = self.emit("max_pool2d", [made], blocks, kernel_size=kernel, stride=kernel, ceil_mode=True)
                return self.emit("interpolate", [small], shape, scale_factor=[float(factor)] * 2, mode="nearest").made
        return self.need_like(size)

    def select(self, value, axis, channels):
        """Some channels, in this order: a convolution that passes them on."""
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
        """An operation that keeps shape and order of axes."""
        value = self.activation(value)
        made = self.tensor(value)
        return self.emit(op, [made, *more], made.shape, value.layout, value.shape, **attributes)

    # -- convolutions --------------------------------------------------------------------------------------

    @aten("conv2d.default", "conv2d.padding", "convolution.default")
    def conv2d(self, a):
        x, weight = self.activation(a.input, NCHW), self.parameter(a.weight, "weight")
        if getattr(a, "transposed", False):
            return self.conv_transpose2d(a)
        stride, dilation, padding = pair(a.stride), pair(a.dilation), a.padding
        shape = self.shape_of_result()
        if padding == "valid":
            padding = 0
        elif padding == "same":
            both = [d * (k - 1) for d, k in zip(dilation, weight.tensor.shape[2:])]
            padding = [b // 2 for b in both]
            if any(b % 2 for b in both):
                (top, left), (bottom, right) = padding, [b - b // 2 for b in both]
                larger = [*x.shape[:2], x.shape[2] + both[0], x.shape[3] + both[1]]
                x, padding = self.emit("pad", [x], larger, padding=[left, right, top, bottom]), 0
        return self.emit("conv2d", [x, *self.weight_and_bias(a)], shape, stride=stride, padding=pair(padding),
                         dilation=dilation, groups=a.groups)

    def weight_and_bias(self, a, shape=None):
        weight, bias = self.parameter(a.weight, "weight"), self.parameter(a.bias, "bias")
        names = [self.weight(weight, shape, self.parameter_name("weight"))]
        return names + ([self.weight(bias, name=self.parameter_name("bias"))] if bias else [])

    @aten("conv_transpose2d.input")
    def conv_transpose2d(self, a):
        x, shape = self.activation(a.input, NCHW), self.shape_of_result()
        # A larger output padding makes the same and more: what is too much is cut.
        extra = [self.sizes.limits(p) for p in a.output_padding]
        most = [int(high) for _, high in extra]
        made_shape = shape[:2] + [s + m - p for s, m, p in zip(shape[2:], most, a.output_padding)]
        made = self.emit("conv_transpose2d", [x, *self.weight_and_bias(a)], made_shape, stride=pair(a.stride),
                         padding=pair(a.padding), output_padding=most, dilation=pair(a.dilation), groups=a.groups).made
        return Value(self.crop(made, [0, 0], shape[2:]), NCHW, shape)

    @aten("linear.default")
    def linear(self, a):
        x, weight = self.activation(a.input), self.parameter(a.weight, "weight")
        (out, into), made = weight.tensor.shape, self.tensor(x)
        seen = [*x.shape[:-1], sympy.Integer(out)]
        if x.layout == "flat":
            names = self.weight_and_bias(a, [out, *(int(s) for s in made.shape[1:])])
            return self.emit("conv2d", [made, *names], [made.shape[0], out, 1, 1], "vector", seen)
        if self.axis(x, -1) != "c":
            raise Unsupported("along an axis that is not that of the channels")
        names = self.weight_and_bias(a, [out, into, 1, 1])
        return self.emit("linear", [made, *names], [made.shape[0], out, *made.shape[2:]], x.layout, seen)

    @aten("batch_norm.default", "_native_batch_norm_legit_no_training.default")
    def batch_norm(self, a):
        x = self.activation(a.input, NCHW)
        if a.running_mean is None or getattr(a, "training", False):
            raise Unsupported("it takes mean and variance from the picture, not from training")
        channels = int(x.shape[1])
        names = [("weight", a.weight, torch.ones), ("bias", a.bias, torch.zeros),
                 ("running_mean", a.running_mean, None), ("running_var", a.running_var, None)]
        names = [self.weight(t or Constant(make(channels)), name=self.parameter_name(n)) for n, t, make in names]
        result = self.same_shape("batch_norm2d", x, *names, eps=a.eps)
        return [result] if "_native" in str(self.node.target) else result

    # -- pooling -------------------------------------------------------------------------------------------

    @aten("max_pool2d.default", "max_pool2d_with_indices.default")
    def max_pool2d(self, a):
        x = self.activation(a.self, NCHW)
        attributes = {"kernel_size": pair(a.kernel_size), "stride": pair(a.stride or a.kernel_size),
                      "padding": pair(a.padding), "dilation": pair(a.dilation), "ceil_mode": a.ceil_mode}
        value = self.node.meta["val"]
        both = isinstance(value, tuple)
        shape = [expression(s) for s in (value[0] if both else value).shape]
        if not both:
            return self.emit("max_pool2d", [x], shape, **attributes)
        indices = self.emit("max_pool2d_indices", [x], shape, **attributes)
        return [self.emit("max_pool2d", [x], shape, **attributes), indices]

    @aten("max_unpool2d.default")
    def max_unpool2d(self, a):
        x, indices, shape = self.activation(a.self, NCHW), self.activation(a.indices, NCHW), self.shape_of_result()
        pool = self.tensor(indices)
        if pool.op != "max_pool2d_indices":
            raise Unsupported("its indices are not those of a max pool")
        attributes = {k: pool.attributes.get(k, [0, 0]) for k in ("kernel_size", "stride", "padding")}
        usual = [(size - 1) * s - 2 * p + k
                 for size, k, s, p in zip(x.shape[2:], *attributes.values())]
        if all(map(self.sizes.same, shape[2:], usual)):
            return self.emit("max_unpool2d", [x, indices], shape, **attributes)
        if all(s.is_Integer for s in shape[2:]):
            return self.emit("max_unpool2d", [x, indices], shape, output_size=[int(s) for s in shape[2:]], **attributes)
        return self.emit("max_unpool2d", [x, indices, self.need_like(shape[2:])], shape, **attributes)

    def need_like(self, size):
        like = self.like(size)
        if like is None:
            raise Unsupported(f"its size, {size[0]} × {size[1]}, is that of no other node")
        return like

    @aten("avg_pool2d.default")
    def avg_pool2d(self, a):
        return self.emit("avg_pool2d", [self.activation(a.self, NCHW)], self.shape_of_result(),
                         kernel_size=pair(a.kernel_size), stride=pair(a.stride or a.kernel_size), padding=pair(a.padding),
                         ceil_mode=a.ceil_mode, count_include_pad=a.count_include_pad, divisor_override=a.divisor_override)

    @aten("adaptive_avg_pool2d.default")
    def adaptive_avg_pool2d(self, a):
        x, shape = self.activation(a.self, NCHW), self.shape_of_result()
        if all(map(self.sizes.same, shape[2:], x.shape[2:])):
            return x
        size = [self.sizes.fixed(s, "a size") for s in shape[2:]]
        return self.emit("adaptive_avg_pool2d", [x], shape, output_size=size)

    @aten("mean.dim", "sum.dim_IntList")
    def mean(self, a):
        x = self.activation(a.self)
        count = len(x.shape)
        total = "sum" in str(self.node.target)
        dims = {d % count for d in a.dim or range(count)}
        if x.layout == "planes":
            if total or dims != {2}:
                raise Unsupported(f"over dimensions {sorted(dims)}")
            made = self.tensor(x)
            return self.emit("mean", [made], [*made.shape[:2], 1, 1], "vector", self.shape_of_result())
        axes = {self.axis(x, d) for d in dims}
        if axes == {"c"} and a.keepdim:
            channels = int(self.tensor(x).shape[1])
            return self.mix(x, torch.full((1, channels, 1, 1), 1.0 if total else 1.0 / channels, dtype=torch.float64))
        if axes != {"h", "w"} or total:
            raise Unsupported(f"over dimensions {sorted(dims)}")
        made = self.tensor(x)
        layout = x.layout if a.keepdim else "vector"
        return self.emit("mean", [made], [*made.shape[:2], 1, 1], layout, self.shape_of_result())

    # -- element by element --------------------------------------------------------------------------------

    @aten("relu.default", "sigmoid.default", "tanh.default", "hardswish.default", "hardsigmoid.default", "silu.default")
    def plain(self, a):
        return self.same_shape(self.title(self.node), a.self)

    @aten("leaky_relu.default")
    def leaky_relu(self, a):
        return self.same_shape("leaky_relu", a.self, negative_slope=float(a.negative_slope))

    @aten("elu.default")
    def elu(self, a):
        if a.scale != 1 or a.input_scale != 1:
            raise Unsupported("with a scale")
        return self.same_shape("elu", a.self, alpha=float(a.alpha))

    @aten("prelu.default")
    def prelu(self, a):
        weight = self.parameter(a.weight, "weight")
        return self.same_shape("prelu", self.activation(a.self, NCHW), self.weight(weight))

    @aten("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default", "relu6.default")
    def clamp(self, a):
        low, high = getattr(a, "min", getattr(a, "min_val", None)), getattr(a, "max", getattr(a, "max_val", None))
        if self.title(self.node) == "relu6":
            low, high = 0, 6
        low, high = (None if v is None else float(v) for v in (low, high))
        return self.same_shape("clamp", a.self, min=low, max=high)

    @aten("softmax.int", "_softmax.default")
    def softmax(self, a):
        x = self.activation(a.self)
        if self.axis(x, a.dim) != "c":
            raise Unsupported("not over the channels")
        return self.same_shape("softmax", x)

    @aten("add.Tensor", "sub.Tensor", "rsub.Scalar", "rsub.Tensor", "mul.Tensor", "div.Tensor", "neg.default", "square.default",
          "pow.Tensor_Scalar", "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar")
    def arithmetic(self, a):
        op = self.title(self.node)
        x, y, alpha = a.self, getattr(a, "other", None), getattr(a, "alpha", 1)
        if op == "neg":
            return self.scale(x, -1.0)
        if op == "square" or (op == "pow" and a.exponent == 2):
            return self.combine("mul", x, x)
        if op == "pow":
            raise Unsupported(f"with the exponent {a.exponent}")
        if isinstance(y, sympy.Expr):
            raise Unsupported("with a number that depends on the picture's size")
        x, y = (Constant(torch.tensor(v, dtype=torch.float64)) if number(v) else v for v in (x, y))
        if op == "rsub":
            x, y, op = y, x, "sub"
        if op == "div":
            if isinstance(y, Value):
                raise Unsupported("by what depends on the picture")
            y, op = Constant(1.0 / y.tensor.double()), "mul"
        if alpha != 1:
            y = Constant(y.tensor * alpha) if isinstance(y, Constant) else self.scale(y, alpha)
        if op == "sub" and isinstance(x, Constant):
            x, y, op = self.scale(y, -1.0), x, "add"
        if op == "sub" and isinstance(y, Constant) and y.tensor.numel() == 1:
            y, op = Constant(-y.tensor), "add"
        return self.combine(op, x, y)

    def scale(self, value, factor):
        return self.same_shape("scale", value, factor=float(factor))

    def combine(self, op, x, y):
        if isinstance(x, Constant):  # never with sub
            x, y = y, x
        if isinstance(y, Value):
            if x.layout != y.layout:
                raise Unsupported("of tensors whose axes are in different orders")
            x_made, y_made = self.tensor(x), self.tensor(y)
            shape = [b if a == 1 else a for a, b in zip(x_made.shape, y_made.shape)]
            return self.emit(op, [x_made, y_made], shape, x.layout, self.shape_of_result())
        made = self.tensor(x)
        if y.tensor.numel() == 1 and op == "mul":
            return self.scale(x, y.tensor.item())
        name = self.weight(y, self.operand_shape(x, made, y.tensor), self.parameter_name(op))
        return self.emit(op, [made, name], made.shape, x.layout, self.shape_of_result())

    def operand_shape(self, x, made, tensor):
        """The shape [1, c, h, w] of a tensor that is added to or multiplied with x."""
        if tensor.numel() == 1:
            return [1, 1, 1, 1]
        shape = [1] * (len(x.shape) - tensor.dim()) + list(tensor.shape)
        if len(shape) > len(x.shape):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        if x.layout == NCHW:
            result = shape
        elif x.layout in ("vector", "flat"):
            result = [1, *made.shape[1:]]
        elif set(x.layout) == set(NCHW) and sum(s != 1 for s in shape) == 1:
            result = [shape[x.layout.index(axis)] for axis in NCHW]
        else:
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        fits = all(r == 1 or self.sizes.same(r, m) for r, m in zip(result, made.shape))
        if not fits or tensor.numel() != sympy.prod(result):
            raise Unsupported(f"with a tensor of shape {list(tensor.shape)}")
        return [int(s) for s in result]

    def local_response_norm(self, x, **attributes):
        return self.same_shape("local_response_norm", self.activation(x, NCHW), **attributes)

    # -- sizes ---------------------------------------------------------------------------------------------

    @aten("upsample_bilinear2d.vec", "upsample_nearest2d.vec")
    def interpolate(self, a):
        x, shape = self.activation(a.input, NCHW), self.shape_of_result()
        mode = "bilinear" if "bilinear" in str(self.node.target) else "nearest"
        attributes = {"mode": mode, "align_corners": getattr(a, "align_corners", False)}
        if all(map(self.sizes.same, shape[2:], x.shape[2:])):
            return x
        if a.scale_factors is not None:
            return self.emit("interpolate", [x], shape, scale_factor=[float(s) for s in a.scale_factors], **attributes)
        return self.resize(x, shape, attributes)

    def resize(self, x, shape, attributes):
        size = shape[2:]
        if all(s.is_Integer for s in size):
            return self.emit("interpolate", [x], shape, size=[int(s) for s in size], **attributes)
        like = self.like(size)
        if like:
            return self.emit("interpolate", [x, like], shape, **attributes)
        factors = [next((f for f in range(1, 65) if self.sizes.same(s, f * from_)), None)
                   for s, from_ in zip(size, x.shape[2:])]
        if None in factors:
            self.need_like(size)
        return self.emit("interpolate", [x], shape, scale_factor=[float(f) for f in factors], **attributes)

    @aten("pixel_shuffle.default")
    def pixel_shuffle(self, a):
        x = self.activation(a.self, NCHW)
        return self.emit("pixel_shuffle", [x], self.shape_of_result(), upscale_factor=a.upscale_factor)

    @aten("pixel_unshuffle.default")
    def pixel_unshuffle(self, a):
        x, factor = self.activation(a.self, NCHW), a.downscale_factor
        channels = int(x.shape[1])
        weight = torch.eye(factor * factor).reshape(-1, 1, factor, factor).repeat(channels, 1, 1, 1)
        name = self.weight(Constant(weight), name=self.parameter_name("selection"))
        return self.emit("conv2d", [x, name], self.shape_of_result(), stride=[factor] * 2, groups=channels)

    @aten("pad.default", "constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default")
    def pad(self, a):
        x, shape = self.activation(a.self, NCHW), self.shape_of_result()
        padding = getattr(a, "pad", None) or a.padding
        mode = {"constant_pad_nd": "constant", "reflection_pad2d": "reflect",
                "replication_pad2d": "replicate"}.get(self.title(self.node)) or a.mode
        value = getattr(a, "value", None) or 0.0
        if mode not in ("constant", "reflect", "replicate"):
            raise Unsupported(f"in mode {mode}")
        if any(p != 0 for p in padding[4:]):
            raise Unsupported("of channels or pictures")
        left, right, top, bottom = [*padding[:4], *[0] * (4 - len(padding[:4]))]
        top, left = (self.sizes.fixed(p, "a padding before the picture") for p in (top, left))
        bottom, right = (int(self.sizes.limits(p)[1]) for p in (bottom, right))
        # A larger padding makes the same and more: what is too much is cut.
        most = [max(p, 0) for p in (left, right, top, bottom)]
        made = self.tensor(x)
        if any(most):
            larger = [*made.shape[:2], made.shape[2] + most[2] + most[3], made.shape[3] + most[0] + most[1]]
            made = self.emit("pad", [made], larger, padding=most, mode=mode, value=float(value)).made
        return Value(self.crop(made, [max(-top, 0), max(-left, 0)], shape[2:]), NCHW, shape)

    @aten("slice.Tensor")
    def slice(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        dim = a.dim % len(x.shape)
        if shape[dim] == x.shape[dim] and a.step == 1:
            return x
        axis = self.axis(x, dim)
        if axis == "n":
            raise Unsupported("of the batch")
        if axis == "c":
            return self.select(x, dim, list(range(int(x.shape[dim])))[a.start:a.end:a.step])
        if a.step != 1:
            return self.every(x, axis, a)
        start = 0 if a.start is None else a.start
        if self.sizes.limits(start)[0] < 0:
            start = start + x.shape[dim]
        start = self.sizes.fixed(start, "a first row or column")
        place = "hw".index(axis)
        cut, size = list(x.cut or [0, 0]), list(x.size or x.made.shape[2:])
        cut[place] += start
        size[place] = shape[dim]
        result = Value(x.made, x.layout, shape, cut, size)
        result.source = self.node
        return result

    def every(self, x, axis, a):
        """Every so many rows or columns: a max pool with a kernel of one."""
        if a.start not in (None, 0) or not isinstance(a.step, int):
            raise Unsupported("with a step and a start")
        made = self.tensor(x)
        shape, place = list(made.shape), "nchw".index(axis)
        shape[place] = self.shape_of_result()[x.layout.index(axis)]
        stride = [a.step if axis == "h" else 1, a.step if axis == "w" else 1]
        return self.emit("max_pool2d", [made], shape, x.layout, kernel_size=[1, 1], stride=stride)

    # -- channels ------------------------------------------------------------------------------------------

    @aten("cat.default")
    def cat(self, a):
        values = [self.activation(v) for v in a.tensors]
        if any(v.layout != values[0].layout for v in values):
            raise Unsupported("of tensors whose axes are in different orders")
        if self.axis(values[0], a.dim) != "c":
            raise Unsupported("not along the channels")
        if len(values) == 1:
            return values[0]
        made = [self.tensor(v) for v in values]
        shape = [made[0].shape[0], sum(m.shape[1] for m in made), *made[0].shape[2:]]
        return self.emit("cat", made, shape, values[0].layout, self.shape_of_result())

    @aten("split.Tensor", "split_with_sizes.default", "chunk.default")
    def split(self, a):
        x = self.activation(a.self)
        dim = a.dim % len(x.shape)
        if self.axis(x, dim) != "c":
            raise Unsupported("not along the channels")
        parts, begin = [], 0
        for part in self.node.meta["val"]:
            end = begin + int(part.shape[dim])
            parts.append(self.select(x, dim, list(range(begin, end))))
            begin = end
        return parts

    @aten("index.Tensor", "index_select.default", "flip.default")
    def index(self, a):
        x = self.activation(a.self)
        if hasattr(a, "dims"):
            dims, order = a.dims, range(int(x.made.shape[1]) - 1, -1, -1)
        elif hasattr(a, "indices"):
            dims, order = [i for i, t in enumerate(a.indices) if t is not None], None
            index = a.indices[dims[-1]]
        else:
            dims, index = [a.dim], a.index
        if len(dims) != 1 or self.axis(x, dims[0]) != "c":
            raise Unsupported("not of channels")
        if not hasattr(a, "dims"):
            order = self.parameter(index, "index").tensor.flatten().tolist()
        return self.select(x, dims[0], [int(i) % int(x.made.shape[1]) for i in order])

    @aten("channel_shuffle.default")
    def channel_shuffle(self, a):
        return self.shuffle(a.self, a.groups)

    def shuffle(self, x, groups):
        channels = int(self.activation(x, NCHW).shape[1])
        order = torch.arange(channels).reshape(groups, -1).T.flatten()
        return self.select(x, 1, order.tolist())

    # -- views ---------------------------------------------------------------------------------------------

    @aten("dropout.default", "feature_dropout.default", "alpha_dropout.default", "feature_alpha_dropout.default",
          "clone.default", "contiguous.default", "alias.default", "detach.default", "lift_fresh_copy.default")
    def identity(self, a):
        return getattr(a, "self", None) or a.input

    @aten("to.dtype", "_to_copy.default", "to.device", "to.dtype_layout", "type_as.default")
    def convert(self, a):
        if not self.node.meta["val"].dtype.is_floating_point:
            raise Unsupported(f"to {self.node.meta['val'].dtype}")
        return a.self

    @aten("view.default", "reshape.default", "flatten.using_ints", "squeeze.default", "squeeze.dim", "squeeze.dims",
          "unsqueeze.default", "unflatten.int", "_unsafe_view.default")
    def reshape(self, a):
        """Seen as a vector of channels, or as what is seen flat by a linear layer, or as rows of pixels."""
        x, shape = self.activation(a.self), self.shape_of_result()
        made = self.tensor(x)
        _, channels, height, width = made.shape
        if shape == x.shape:
            return x
        if shape == made.shape and x.layout in (NCHW, "vector", "flat", "planes"):
            return Value(made, NCHW, shape)
        if height == width == 1:
            return Value(made, "vector", shape)
        if x.layout in (NCHW, "planes") and shape == [1, channels * height * width] and (height * width).is_Integer:
            return Value(made, "flat", shape)
        if x.layout == NCHW and len(shape) == 3 and shape[1] == channels and self.sizes.same(shape[2], height * width):
            return Value(made, "planes", shape)
        raise Unsupported(f"from {x.shape} to {shape}")

    @aten("permute.default", "transpose.int", "t.default", "movedim.int")
    def permute(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        order = list(range(len(x.shape)))
        if hasattr(a, "dims"):
            order = [d % len(order) for d in a.dims]
        elif hasattr(a, "dim0"):
            order[a.dim0], order[a.dim1] = order[a.dim1], order[a.dim0]
        else:
            raise Unsupported("fullconv has no such operation")
        if x.layout == "vector":
            return Value(self.tensor(x), "vector", shape)
        if set(x.layout) != set(NCHW):
            raise Unsupported(f"of {x.shape}")
        layout = "".join(x.layout[d] for d in order)
        return Value(self.tensor(x), layout, shape)

    @aten("expand.default")
    def expand(self, a):
        x, shape = self.activation(a.self), self.shape_of_result()
        if shape == x.shape:
            return x
        x = self.activation(a.self, NCHW)
        if x.shape[:2] != shape[:2] or x.shape[2:] != [1, 1]:
            raise Unsupported(f"from {x.shape} to {shape}")
        return self.resize(x, shape, {"mode": "nearest"})

    # -- what PyTorch writes as several operations -----------------------------------------------------------

    def find_patterns(self):
        for node in self.program.graph.nodes:
            found = self.is_lrn(node) or self.is_shuffle(node)
            if found:
                self.patterns[node] = found

    @staticmethod
    def is_lrn(node):
        """x / (k + alpha · average of x² over neighbouring channels) ^ beta."""
        is_ = lambda n, op: isinstance(n, torch.fx.Node) and str(n.target) == f"aten.{op}"  # noqa: E731

        def through_views(n):
            while any(is_(n, v) for v in ("view.default", "squeeze.dim", "unsqueeze.default", "reshape.default")):
                n = n.args[0]
            return n
        chain = ["div.Tensor", "pow.Tensor_Scalar", "add.Tensor", "mul.Tensor"]
        at, found = node, []
        for op in chain:
            if not is_(at, op) or len(at.args) < 2:
                return None
            found.append(at)
            at = at.args[1] if op == "div.Tensor" else at.args[0]
        pool = through_views(at)
        if not (is_(pool, "avg_pool3d.default") or is_(pool, "avg_pool2d.default")):
            return None
        padded = pool.args[0]
        square = through_views(padded.args[0]) if is_(padded, "pad.default") else None
        x, numbers = node.args[0], [n.args[1] for n in found[1:]]
        size = pool.args[1][0]
        if not is_(square, "mul.Tensor") or square.args != (x, x) or not all(map(number, numbers)):
            return None
        if list(pool.args[1])[1:] != [1] * (len(pool.args[1]) - 1) or list(padded.args[1])[-2:] != [size // 2, (size - 1) // 2]:
            return None
        beta, k, alpha = map(float, numbers)
        return Translator.local_response_norm, [x], {"size": size, "alpha": alpha, "beta": beta, "k": k}

    @staticmethod
    def is_shuffle(node):
        """Channels dealt out from groups: view, transpose, view."""
        views = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
        name = lambda n: str(n.target) if isinstance(n, torch.fx.Node) else ""  # noqa: E731
        if name(node) not in views:
            return None
        swap = node.args[0]
        if name(swap) in ("aten.clone.default", "aten.contiguous.default"):
            swap = swap.args[0]
        if name(swap) != "aten.transpose.int" or sorted(swap.args[1:]) != [1, 2] or name(swap.args[0]) not in views:
            return None
        x, split = swap.args[0].args[0], swap.args[0].meta["val"].shape
        if len(split) != 5 or list(x.meta["val"].shape) != list(node.meta["val"].shape):
            return None
        return Translator.shuffle, [x], {"groups": int(split[1])}

    # -- the file ------------------------------------------------------------------------------------------

    def graph(self, module, output):
        """The graph as JSON has it, with what the output needs alone."""
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


def trace(module, example):
    """The module as a program of ATen's operations, height and width open."""
    from torch.export import Dim
    open_sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._dynamo", "torch.fx", "torch")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=open_sizes,
                                          prefer_deferred_runtime_asserts_over_guards=True)
            return program.run_decompositions({})
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def choose_output(program):
    """The node that holds the scores: the only output, or the one called `out`."""
    spec, names = program.call_spec.out_spec, program.graph_signature.user_outputs
    result = torch.utils._pytree.tree_unflatten(list(range(len(names))), spec)
    if isinstance(result, dict):
        if "out" not in result and len(result) > 1:
            raise ExportError(f"the module returns {', '.join(map(repr, result))}; one of them must be called 'out'")
        result = result["out"] if "out" in result else next(iter(result.values()))
    while isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    if not isinstance(result, int):
        raise ExportError(f"the module returns {len(names)} tensors; fullconv takes one, the scores")
    return next(n for n in program.graph.nodes if n.name == names[result])


def translate(module, example):
    """Graph and tensors of a module."""
    try:
        program = trace(module, example)
    except Exception as problem:  # noqa: BLE001 - torch.export raises many kinds
        text = str(problem).strip() or type(problem).__name__
        frames = [f for f in re.findall(r'File "([^"]+)", line (\d+)', text) if f"{os.sep}torch{os.sep}" not in f[0]]
        place = f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
        raise ExportError(f"torch.export cannot follow the module{place}: {text.splitlines()[0]}") from problem
    translator = Translator(program, choose_output(program))
    output = translator.run()
    graph = translator.graph(module, output)
    return graph, translator.written, output.shape[1]


def odd_sizes(example):
    """The example at sizes that no pooling or stride divides, so that what a module does about that is seen."""
    height, width = (max(64, -(-s // 32) * 32) for s in example.shape[2:])
    return example.new_zeros(1, example.shape[1], height - 1, width + 33)


def export(module, example_input, path, classes=None, palette=None, preprocess=None, half=False):
    """Writes `module` as a model file at `path`.

    `example_input` is [n, c, h, w]; its height and width matter only where the module does not take odd
    sizes. `classes` are the names of the classes, `palette` their colours [red, green, blue]; `preprocess`
    is "torchvision", "caffe" or a dict as docs/model-file.md describes it. With `half`, weights of
    convolutions are stored as f16. Raises ExportError, and writes nothing, if the module cannot be expressed.
    """
    module = copy.deepcopy(module).eval().cpu().float()
    example = example_input.detach().cpu().float()[:1]
    if example.dim() != 4:
        raise ExportError(f"the example must be [n, c, h, w], not {list(example.shape)}")
    try:
        graph, tensors, channels = translate(module, odd_sizes(example))
    except ExportError as problem:
        try:
            graph, tensors, channels = translate(module, example)
        except ExportError as other:
            followed = not str(problem).startswith("torch.export")
            raise (problem if followed else other) from None
    metadata = {"version": VERSION, "graph": graph}
    if preprocess is not None:
        metadata["preprocess"] = PREPROCESS[preprocess] if isinstance(preprocess, str) else preprocess
    for key, value in (("classes", classes), ("palette", palette)):
        if value is not None and len(value) != channels:
            raise ExportError(f"{len(value)} entries in {key}, but the module has {channels} classes")
        if value is not None:
            metadata[key] = [list(v) if key == "palette" else str(v) for v in value]
    for name, tensor in tensors.items():
        if half and tensor.dim() == 4:
            tensors[name] = tensor.half()
        if not tensors[name].isfinite().all():
            raise ExportError(f"{name} has values that are not finite{' in f16' if half else ''}")
    partial = Path(f"{path}.partial")
    try:
        save_file(tensors, partial, {"fullconv": json.dumps(metadata)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# -- the command line ----------------------------------------------------------------------------------------


def load_callable(text):
    """MODULE:CALLABLE, where MODULE is a name to import or a file."""
    name, _, attribute = text.rpartition(":")
    if not name or not attribute:
        raise ExportError(f"{text!r} is not MODULE:CALLABLE")
    sys.path.insert(0, os.getcwd())
    try:
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(name).stem, name)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(name)
        return operator.attrgetter(attribute)(module)
    except (ImportError, AttributeError, OSError) as problem:
        raise ExportError(f"{text}: {problem}") from problem


def load_weights(module, path):
    """A state dict, as it is or inside a checkpoint."""
    try:
        if str(path).endswith(".safetensors"):
            from safetensors.torch import load_file
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # noqa: BLE001 - as many kinds as there are formats
        raise ExportError(f"{path}: {str(problem).splitlines()[0]}") from problem
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as problem:
        raise ExportError(f"{path}: {' '.join(str(problem).split())}") from problem
    if missing:
        raise ExportError(f"{path} lacks {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}")
    if unexpected:
        print(f"{path}: {len(unexpected)} tensors that the module does not have are left out, "
              f"such as {unexpected[0]}", file=sys.stderr)


def read_classes(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip().startswith("[") else [line for line in text.splitlines() if line.strip()]


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Write a PyTorch module as a model file of fullconv.")
    parser.add_argument("module", metavar="MODULE:CALLABLE", help="what makes the module: an importable name or FILE.py")
    parser.add_argument("out", metavar="OUT.safetensors")
    parser.add_argument("--weights", metavar="STATE.pth", help="a state dict, .pth or .safetensors")
    parser.add_argument("--args", metavar="JSON", default="{}", help="keyword arguments of the callable")
    parser.add_argument("--size", metavar="HxW", default="256x320", help="an example of a picture's size")
    parser.add_argument("--channels", type=int, default=3, help="channels of the picture")
    parser.add_argument("--half", action="store_true", help="store weights as f16")
    parser.add_argument("--classes", metavar="FILE", help="names of the classes, a line each, or a JSON list")
    parser.add_argument("--preprocess", metavar="torchvision|caffe|JSON", help="what the network wants of a picture")
    options = parser.parse_args(arguments)
    size = re.fullmatch(r"(\d+)x(\d+)", options.size)
    if not size:
        parser.error("--size is HxW, such as 256x320")
    try:
        keywords, preprocess = json.loads(options.args), options.preprocess
        if preprocess is not None and preprocess not in PREPROCESS:
            preprocess = json.loads(preprocess)
    except json.JSONDecodeError as problem:
        parser.error(f"--args or --preprocess: {problem}")
    try:
        module = load_callable(options.module)
        module = module if isinstance(module, torch.nn.Module) else module(**keywords)
        if options.weights:
            load_weights(module, options.weights)
        classes = read_classes(options.classes) if options.classes else None
        example = torch.zeros(1, options.channels, *map(int, size.groups()))
        export(module, example, options.out, classes, None, preprocess, options.half)
    except (ExportError, OSError, TypeError) as problem:
        for line in str(problem).splitlines():
            print(f"export: {line}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
