"""A graph of ONNX, prepared for evaluation: constants folded, functions inlined, patterns of several nodes joined."""

import functools
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .onnx_operators import OPERATORS
from .values import ExportError

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
# The oldest set of operators that is read as it is.
OLDEST = 11
# Operators whose outputs follow from the sizes of their inputs alone.
SIZES = ("Shape", "Size")
# The most elements of a constant that is computed from sizes as NumPy; a larger one is a tensor.
FEW = 64


@dataclass(eq=False)
class Node:
    """A node, its inputs by name ("" for a left-out one), and the operator that computes it."""
    op: str
    name: str
    inputs: list
    outputs: list
    attributes: dict
    opset: int
    proto: object = None
    is_static: bool = False  # computed from sizes and constants alone, by ONNX's reference
    plane_indices: bool = False  # its indices count within a plane, as PyTorch's
    branches: list = field(default_factory=list)  # the graphs of an If
    state: object = None  # what OnnxModule shares with its nodes
    key: int = None  # its place in OnnxModule's list
    fixed: list = field(default_factory=list)  # which inputs are constants of the file


@dataclass(eq=False)
class Graph:
    """Nodes in order, constants by name, and the names of input and outputs."""
    nodes: list
    constants: dict
    outputs: list
    input: str = None


# -- the model -----------------------------------------------------------------------------------------------


def as_f32(model):
    """The model with all floats as f32, in which the network is computed, and whether it had others."""
    found = []

    def convert(tensor):
        if tensor.data_type in FLOATS[1:]:
            found.append(tensor.data_type)
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def convert_type(kind):
        if kind.HasField("tensor_type") and kind.tensor_type.elem_type in FLOATS[1:]:
            found.append(kind.tensor_type.elem_type)
            kind.tensor_type.elem_type = TensorProto.FLOAT

    def walk(graph):
        for tensor in graph.initializer:
            convert(tensor)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            convert_type(value.type)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    convert(attribute.t)
                if attribute.HasField("g"):
                    walk(attribute.g)
                if node.op_type in ("Cast", "EyeLike", "RandomNormal") and attribute.name in ("to", "dtype") and attribute.i in FLOATS[1:]:
                    found.append(attribute.i)
                    attribute.i = TensorProto.FLOAT
    walk(model.graph)
    return model, bool(found)


def modern(model, path):
    """The model in an opset that is read, and its opset."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        try:
            model = onnx.version_converter.convert_version(model, 13)
        except Exception as problem:  # noqa: BLE001 - the converter raises many kinds
            raise ExportError(f"{path} is of opset {opset}, older than {OLDEST}, and onnx's converter fails: "
                              f"{str(problem).strip().splitlines()[0]}") from problem
        opset = 13
    return model, opset


# -- constants -----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def evaluator(text, opset):
    """ONNX's own implementation of a node."""
    from onnx.reference import ReferenceEvaluator
    node = onnx.NodeProto()
    node.ParseFromString(text)
    graph = helper.make_graph([node], "node", [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name],
                              [onnx.ValueInfoProto(name=name) for name in node.output if name])
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def evaluate(node, values):
    """The outputs of a node whose inputs are arrays."""
    feed = {name: value for name, value in zip(node.proto.input, values) if name}
    run = evaluator(node.proto.SerializeToString(), node.opset)
    results = iter(run.run(None, feed))
    return [np.asarray(next(results)) if name else None for name in node.proto.output]


def read_graph(proto, opset, outer=(), parameters=None):
    """The graph with its constant nodes computed. `outer` are the constants of the graph around it."""
    constants = {**dict(outer), **(parameters or {})}
    constants.update({tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer})
    for tensor in proto.sparse_initializer:
        raise ExportError(f"the sparse tensor {tensor.values.name!r} is not supported")
    nodes, static, names = [], set(constants), {}
    for position, item in enumerate(proto.node):
        attributes = {a.name: attribute(a) for a in item.attribute}
        title = item.name or f"{item.op_type}_{position}"
        names[title] = names.get(title, 0) + 1
        title = title if names[title] == 1 else f"{title}_{names[title] - 1}"
        outputs = list(item.output)
        while len(outputs) > 1 and not outputs[-1]:
            outputs.pop()
        op = item.op_type if item.domain in ("", "ai.onnx") else f"{item.domain}.{item.op_type}"
        node = Node(op, title, list(item.input), outputs, attributes, opset, item)
        known = all(name in constants or not name for name in item.input)
        if op in SIZES or (all(name in static or not name for name in item.input) and "." not in op
                           and not op.startswith("Random") and op != "If"):
            node.is_static = True
            static.update(node.outputs)
        if node.is_static and known:
            try:
                results = evaluate(node, [constants.get(name) for name in item.input])
            except Exception as problem:  # noqa: BLE001 - the reference raises many kinds
                raise ExportError(f"{op} ({title}): {str(problem).strip().splitlines()[0]}") from problem
            constants.update(zip(item.output, results))
            continue
        if op == "If":
            node.branches = [read_graph(attributes[key], opset, constants) for key in ("then_branch", "else_branch")]
        nodes.append(node)
    return Graph(nodes, constants, [value.name for value in proto.output])


def attribute(proto):
    value = helper.get_attribute_value(proto)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return value.decode() if isinstance(value, bytes) else value


# -- patterns ------------------------------------------------------------------------------------------------


def prepare(graph, kept):
    """Keeps the nodes that the outputs need, and joins patterns."""
    graph.nodes = needed(graph, kept)
    fuse(graph)
    graph.nodes = needed(graph, kept)
    used = uses(graph)
    for node in graph.nodes:
        if node.op == "MaxPool" and len(node.outputs) > 1:
            consumers = used.get(node.outputs[1], [])
            node.plane_indices = bool(consumers) and all(n is not None and n.op == "MaxUnpool" for n in consumers)
            if not consumers:
                node.outputs = node.outputs[:1]
            for consumer in consumers if node.plane_indices else []:
                consumer.plane_indices = True
        if node.op in ("Dropout", "BatchNormalization", "LayerNormalization"):
            node.outputs = [name for i, name in enumerate(node.outputs) if i == 0 or used.get(name)]


def needed(graph, kept):
    wanted, nodes = set(kept), []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            nodes.append(node)
            wanted.update(node.inputs)
            for branch in node.branches:
                wanted.update(name for inner in branch.nodes for name in inner.inputs)
                wanted.update(branch.outputs)
    return nodes[::-1]


def uses(graph):
    """The nodes that read each value; None for the graph's output."""
    used = {name: [None] for name in graph.outputs}
    for node in graph.nodes:
        for name in node.inputs:
            used.setdefault(name, []).append(node)
        for branch in node.branches:
            for name in [*branch.outputs, *(name for inner in branch.nodes for name in inner.inputs)]:
                used.setdefault(name, []).append(node)
    return used


def fuse(graph):
    """Joins nodes that are one operation of PyTorch: linear layers, and group norms as PyTorch writes them."""
    used, made = uses(graph), {name: node for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        if node.op in ("MatMul", "Gemm"):
            linear(graph, node, used)
        if node.op == "InstanceNormalization":
            group_norm(graph, node, used, made)
        if node.op == "Concat" and not node.is_static:
            stack(graph, node, made)


def constant(graph, name, rank=None):
    value = graph.constants.get(name)
    return value if value is not None and value.dtype.kind == "f" and (rank is None or value.ndim == rank) else None


def linear(graph, node, used):
    """A product with a constant matrix, and a bias after it."""
    weight = constant(graph, node.inputs[1], 2)
    if weight is None or node.inputs[0] in graph.constants:
        return
    given = node.attributes if node.op == "Gemm" else {}
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    shift = constant(graph, bias) if bias else None
    if given.get("transA", 0) or alpha != 1.0 or beta != 1.0 or bias and (shift is None or shift.ndim == 0 or shift.size != shift.shape[-1]):
        return
    out = weight.shape[0] if given.get("transB", 0) else weight.shape[1]
    if shift is not None and shift.size != out:
        return
    name = node.inputs[1]
    if not given.get("transB", 0):
        name = f"{name}.T"
        graph.constants[name] = np.ascontiguousarray(weight.T)
    node.op, node.inputs, node.attributes = "Linear", [node.inputs[0], name], {}
    if bias:
        if shift.ndim != 1:
            bias = f"{bias}.flat"
            graph.constants[bias] = shift.reshape(-1)
        node.inputs.append(bias)
        return
    [after, *more] = used.get(node.outputs[0], [None])
    if more or after is None or after.op != "Add":
        return
    other = [name for name in after.inputs if name != node.outputs[0]]
    if len(other) == 1 and constant(graph, other[0], 1) is not None and graph.constants[other[0]].size == out:
        after.op, after.inputs, after.name = "Linear", [*node.inputs, other[0]], node.name


def stack(graph, node, made):
    """Tensors that get an axis and are joined along it."""
    parts = [made.get(name) for name in node.inputs]
    if not all(part is not None and part.op == "Unsqueeze" for part in parts):
        return
    axes = [part.attributes.get("axes") if len(part.inputs) < 2 else graph.constants.get(part.inputs[1]) for part in parts]
    if all(a is not None and list(np.asarray(a).flatten()) == [node.attributes["axis"]] for a in axes):
        node.op, node.inputs = "Stack", [part.inputs[0] for part in parts]


def group_norm(graph, node, used, made):
    """Reshape to [n, groups, …], an instance norm without weights, and back to the shape of before."""
    before = made.get(node.inputs[0])
    shape = graph.constants.get(before.inputs[1]) if before is not None and before.op == "Reshape" else None
    weight, bias = (constant(graph, name, 1) for name in node.inputs[1:3])
    [after, *more] = used.get(node.outputs[0], [None])
    if shape is None or weight is None or bias is None or more or after is None or after.op != "Reshape":
        return
    if shape.size != 3 or shape[0] not in (0, 1) or shape[2] != -1 or not (weight == 1).all() or (bias != 0).any():
        return
    source = before.inputs[0]
    back = made.get(after.inputs[1])
    if back is None or back.op != "Shape" or back.inputs != [source] or any(back.attributes.values()):
        return
    after.op, after.inputs, after.name = "GroupOfInstances", [source], node.name
    after.attributes = {"num_groups": int(shape[1]), "epsilon": node.attributes.get("epsilon", 1e-5)}


def unsupported(graph):
    """A line for every node whose operator is not supported."""
    lines = []
    for node in graph.nodes:
        if node.is_static:
            continue
        if node.op == "If":
            lines += [line for branch in node.branches for line in unsupported(branch)]
        elif node.op not in OPERATORS:
            lines.append(f"{node.name}: {node.op}{REASONS.get(node.op, '')}")
    return lines


REASONS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
                     "MatMulInteger"), ": a quantised network; export the one in f32"),
    **dict.fromkeys(("Loop", "Scan"), ": a loop"),
}
