"""An ONNX file as a module of PyTorch, for tools/export.py.

The module evaluates the file's graph with PyTorch's functions. Sizes are concrete numbers: arithmetic of shapes runs in
NumPy, by ONNX's own reference implementation, and leaves no operation behind. Each node is a submodule under its name,
and each tensor of the file a parameter under its own, so the model file has the names of the ONNX file.
"""

import ast
import json
import re
import types

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import torch
from torch import nn

from . import onnx_elements, onnx_layers, onnx_resize, onnx_shapes  # noqa: F401 - they fill the list of operators
from .onnx_graph import FEW, as_f32, evaluate, modern, prepare, read_graph, unsupported
from .onnx_operators import OPERATORS
from .onnx_windows import NotApplicable
from .values import ExportError

# Operators whose inputs are parameters in PyTorch, even if they have a single element.
WEIGHTED = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization",
            "PRelu", "Linear")
CLASSES = ("names", "classes", "class_names", "labels", "categories")


class Operator(nn.Module):
    """A node of the graph."""

    def __init__(self, node):
        super().__init__()
        self.node = node

    def forward(self, *values):
        try:
            return OPERATORS[self.node.op](self.node, *values)
        except NotApplicable as problem:
            raise ExportError(f"{self.node.name}: {self.node.op}: {problem}") from problem
        except (RuntimeError, IndexError, ValueError, TypeError) as problem:
            # Not final: the picture's size may be one that the network does not take.
            raise RuntimeError(f"{self.node.name}: {self.node.op}: {first_line(problem)}") from problem


def check(model):
    """ONNX's own check, which also refuses outputs without a shape; those are no obstacle."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as problem:
        if "'shape'" not in first_line(problem):
            raise


def first_line(problem):
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


class OnnxModule(nn.Module):
    """The module of an ONNX file; its input is [n, c, h, w].

    The result is a tensor, or a dictionary of tensors if several outputs remain. `is_chosen`: one of them was chosen.
    `size` is the height and width of the file's input, None for an axis that is open; `channels` its channels;
    `classes` the names of the classes that the file has, or None; `notes` what a user has to know of the conversion.
    """

    def __init__(self, path, output=None):
        """Reads the file. `output` is the name or the number of one of its outputs; any other name chooses none of them.
        Raises ExportError."""
        super().__init__()
        self.notes = []
        self.model, opset = self.read(path)
        proto = self.model.graph
        self.graph = read_graph(proto, opset)
        self.graph.input = self.find_input(path, proto)
        names = self.graph.outputs
        if output is not None and output.isdecimal() and output not in names and int(output) < len(names):
            output = names[int(output)]
        self.is_chosen = output in names
        self.graph.outputs = [output] if self.is_chosen else names
        prepare(self.graph, self.graph.outputs)
        lines = unsupported(self.graph)
        if lines:
            raise ExportError("\n".join(lines))
        self.classes = classes(self.model)
        self.state = types.SimpleNamespace(dtype=torch.float32)
        self.paths, self.operators = {}, []
        self.add_nodes(self.graph)

    def read(self, path):
        """The model, its functions inlined and its floats f32, and its opset."""
        try:
            model = onnx.load(path)
            check(model)
        except FileNotFoundError as problem:
            raise ExportError(f"{problem.filename or path}: no such file") from problem
        except Exception as problem:  # noqa: BLE001 - protobuf and the checker raise many kinds
            raise ExportError(f"{path} is not a whole ONNX file: {first_line(problem)}") from problem
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        model, opset = modern(model, path)
        model, other = as_f32(model)
        if other:
            self.notes.append("weights of f16 or f64 are computed in f32")
        return model, opset

    def find_input(self, path, proto):
        """The name of the picture's input; its layout, channels and size become attributes."""
        inputs = [value for value in proto.input if value.name not in {t.name for t in proto.initializer}]
        if len(inputs) != 1:
            raise ExportError(f"{path} has {len(inputs)} inputs, {', '.join(v.name for v in inputs) or 'none'}; one is needed, the picture")
        kind = inputs[0].type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
        name = inputs[0].name
        if kind.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4:
            kind = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            raise ExportError(f"{path}: the input {name!r} is {kind} of {len(dims)} dimensions; floats [n, c, h, w] are needed")
        if dims[0] not in (None, 1):
            raise ExportError(f"{path}: the batch of the input {name!r} is fixed at {dims[0]}; 1 or an open one is needed")
        self.channels_last = dims[3] in (1, 3, 4) and dims[1] not in (1, 3, 4)
        if self.channels_last:
            dims = [dims[0], dims[3], dims[1], dims[2]]
            self.notes.append(f"the input {name!r} is [n, h, w, c]; the model file takes [n, c, h, w]")
        self.channels, self.size = dims[1], tuple(dims[2:])
        return name

    # -- names -----------------------------------------------------------------------------------------------

    def add_nodes(self, graph):
        """Adds a submodule for each node, and a parameter for each constant that a node reads as a tensor."""
        for node in graph.nodes:
            node.state = self.state
            for branch in node.branches:
                self.add_nodes(branch)
            if node.is_static or node.op == "If":
                continue
            if node.op == "ConstantOfShape":
                node.op = "Filled"
            node.key = len(self.operators)
            node.fixed = [name in graph.constants for name in node.inputs]
            self.operators.append(self.add_module_at(parts_of(node.name), Operator(node)))
            for name in node.inputs:
                value = graph.constants.get(name)
                if value is None or value.dtype.kind != "f" or name in self.paths:
                    continue
                if value.size > 1 or node.op in WEIGHTED:
                    self.paths[name] = self.add_parameter_at(parts_of(name), value)

    def place(self, parts):
        """The module at a path, made where it is missing, and the last part, changed where it is taken."""
        module = self
        for part in parts[:-1]:
            child = module._modules.get(part)
            if child is None:
                part = free(module, part)
                module.add_module(part, nn.Module())
                child = module._modules[part]
            module = child
        return module, free(module, parts[-1])

    def add_module_at(self, parts, made):
        module, name = self.place(parts)
        module.add_module(name, made)
        return made

    def add_parameter_at(self, parts, value):
        module, name = self.place(parts)
        module.register_parameter(name, nn.Parameter(torch.from_numpy(np.array(value, np.float32)), requires_grad=False))
        return module, name

    # -- evaluation ------------------------------------------------------------------------------------------

    def forward(self, x):
        self.state.dtype = x.dtype
        x = x.permute(0, 2, 3, 1) if self.channels_last else x
        values = {self.graph.input: x}
        results = self.run(self.graph, values)
        if self.channels_last:
            results = [r.permute(0, 3, 1, 2) if isinstance(r, torch.Tensor) and r.dim() == 4 else r for r in results]
        return results[0] if len(results) == 1 else dict(zip(self.graph.outputs, results))

    def run(self, graph, values):
        """The values of the graph's outputs; `values` gains those of all its nodes."""
        for node in graph.nodes:
            inputs = [self.value(name, graph, values) for name in node.inputs]
            for name, result in zip(node.outputs, self.compute(node, inputs, values)):
                values[name] = result
        return [self.value(name, graph, values) for name in graph.outputs]

    def value(self, name, graph, values):
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self.paths:
            module, parameter = self.paths[name]
            return getattr(module, parameter)
        return graph.constants.get(name)

    def compute(self, node, inputs, values):
        """The outputs of a node: in NumPy if they depend on sizes alone, else by its operator."""
        if node.op in ("Shape", "Size") and isinstance(inputs[0], torch.Tensor):
            shape = np.array([int(s) for s in inputs[0].shape], np.int64)
            if node.op == "Size":
                return [shape.prod()]
            return [shape[node.attributes.get("start", 0):node.attributes.get("end", len(shape))]]
        if node.op == "If":
            if isinstance(inputs[0], torch.Tensor):
                raise ExportError(f"{node.name}: If: a condition that depends on the picture's values")
            return self.run(node.branches[0 if inputs[0].item() else 1], values)
        if node.is_static and not any(isinstance(value, torch.Tensor) for value in inputs):
            if node.op == "ConstantOfShape" and np.prod(inputs[0]) > FEW:
                return [torch.full([int(s) for s in inputs[0]], fill(node), dtype=self.state.dtype)]
            return self.evaluate(node, inputs)
        if node.is_static or not any(isinstance(value, torch.Tensor) for value in inputs):
            # An operator of sizes that reads a large constant made of sizes, or one that has only constants.
            return self.tensors(node, inputs)
        result = self.operators[node.key](*inputs)
        return result if isinstance(result, (tuple, list)) else [result]

    def tensors(self, node, inputs):
        """The outputs of a node whose inputs are constants or filled tensors."""
        if any(isinstance(value, torch.Tensor) for value in inputs) and node.op in OPERATORS:
            result = Operator(node)(*inputs)
            return result if isinstance(result, (tuple, list)) else [result]
        arrays = [value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value for value in inputs]
        return self.evaluate(node, arrays)

    @staticmethod
    def evaluate(node, arrays):
        try:
            return evaluate(node, arrays)
        except Exception as problem:  # noqa: BLE001 - the reference raises many kinds
            raise RuntimeError(f"{node.name}: {node.op}: {first_line(problem)}") from problem


def fill(node):
    value = node.attributes.get("value")
    return 0.0 if value is None else float(np.asarray(value).flatten()[0])


def parts_of(name):
    """A name of ONNX as a path of modules: `/layer1/layer1.0/conv/Conv` is layer1.0.conv.Conv."""
    parts = []
    if "/" in name:
        before = ""
        for part in filter(None, name.split("/")):
            inner = part.removeprefix(f"{before}.") if before else part
            parts += inner.split(".") if inner != part else part.split(".")
            before = part
    else:
        parts = name.replace("::", ".").split(".")
    return [re.sub(r"\W", "_", part) or "_" for part in parts if part] or ["node"]


def free(module, name):
    """The name, or one like it that the module does not have yet."""
    taken = {*module._modules, *module._parameters, *dir(type(module)), *module.__dict__}
    if name not in taken:
        return name
    return next(f"{name}_{i}" for i in range(1, 100000) if f"{name}_{i}" not in taken)


def classes(model):
    """The names of the classes in the file's metadata, in order, or None."""
    properties = {entry.key.lower(): entry.value for entry in model.metadata_props}
    for key in CLASSES:
        found = None
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(properties[key])
                break
            except (KeyError, ValueError, SyntaxError):
                continue
        if isinstance(found, dict) and sorted(map(str, found)) == sorted(map(str, range(len(found)))):
            found = [value for _, value in sorted(found.items(), key=lambda item: int(item[0]))]
        if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
            return found
    return None
