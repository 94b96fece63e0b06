#!/usr/bin/env python3
"""Reads ONNX files with tools/exporter/onnx_file.py and compares them with onnxruntime and with ONNX's own cases.

    python tools/test_onnx.py          # or: python -m pytest tools/test_onnx.py
    FULLCONV=target/release/fullconv python tools/test_onnx.py

With FULLCONV set to the program, `fullconv run` computes the exported networks too.

Requirements: torch, torchvision, safetensors, numpy, onnx==1.22.0 (later versions come without their cases),
onnxruntime, onnxscript.
"""

import collections
import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import test_export  # noqa: E402
import test_nets as nets  # noqa: E402
from exporter.onnx_file import is_onnx, open_onnx  # noqa: E402
from exporter.onnx_module import OnnxModule  # noqa: E402
from exporter.onnx_operators import OPERATORS  # noqa: E402
from exporter.values import ExportError  # noqa: E402

export = test_export.exporter.export
# ‖found − expected‖ / ‖expected‖; onnxruntime computes in f32.
CLOSE = 1e-5


def opened(path, size=(64, 96), **options):
    """The file as open_onnx gives it, and what was said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        return open_onnx(path, size, **options), said.getvalue()


def by_onnxruntime(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})


def check(path, module, sizes, channels=3):
    """Compares the module with onnxruntime at these sizes."""
    for size in sizes:
        x = torch.randn(1, channels, *size)
        with torch.no_grad():
            found = module(x)
        [expected] = by_onnxruntime(path, x)
        error = test_export.relative(found, torch.from_numpy(expected))
        assert error <= CLOSE, f"{path.name} at {size}: {error:.1e}"


# -- ONNX's own cases ----------------------------------------------------------------------------------------

# Cases whose numbers differ by intent, or whose inputs are none that a network has.
OTHERWISE = {
    "cast_FLOAT_to_FLOAT16": "floats of all sizes are one type", "cast_FLOAT_to_BFLOAT16": "",
    "castlike_FLOAT_to_FLOAT16": "", "castlike_FLOAT_to_BFLOAT16": "", "castlike_FLOAT_to_FLOAT16_expanded": "",
    "castlike_FLOAT_to_BFLOAT16_expanded": "",
    "reduce_max_empty_set": "an axis of size 0", "reduce_min_empty_set": "",
}
# The least number of cases that are computed; the rest is refused by name.
COMPUTED = 670


class AnyInput(OnnxModule):
    """Takes a tensor of any rank."""

    def find_input(self, path, proto):
        self.channels_last = False
        return proto.input[0].name


def case(folder):
    """A case's model, whose inputs but the first are constants, the first input, and the outputs."""
    model = onnx.load(folder / "model.onnx")
    graph, data = model.graph, folder / "test_data_set_0"

    def arrays(kind, declared):
        return [numpy_helper.to_array(onnx.load_tensor(str(data / f"{kind}_{i}.pb"))) for i in range(len(declared))]
    inputs, outputs = arrays("input", graph.input), arrays("output", graph.output)
    graph.initializer.extend(numpy_helper.from_array(a, v.name) for v, a in zip(graph.input[1:], inputs[1:]))
    del graph.input[1:]
    if graph.node[0].op_type == "LayerNormalization":  # mean and deviation are for training
        del graph.output[1:]
    return model, inputs[0], outputs


def test_cases():
    """Every case of ONNX's operators that has floats as input: right, or refused."""
    from google.protobuf.message import DecodeError
    computed, refused = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "case.onnx"
        for source in sorted((Path(onnx.__file__).parent / "backend/test/data/node").glob("test_*")):
            name = source.name.removeprefix("test_")
            try:
                model, x, outputs = case(source)
            except (DecodeError, OSError, IndexError, TypeError, ValueError):
                continue  # sequences and maps, or no input at all
            if x.dtype != np.float32 or name in OTHERWISE:
                continue
            onnx.save(model, path)
            try:
                with torch.no_grad():
                    found = AnyInput(path)(torch.tensor(x))
            except ExportError as problem:
                assert str(problem) and not str(problem).startswith(" "), name
                refused[name] += 1
                continue
            found = list(found.values()) if isinstance(found, dict) else [found]
            for ours, theirs in zip(found, outputs):
                ours = np.asarray(ours)
                assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
                # ONNX's numbers are of f32; some are rounded to four decimals.
                assert np.allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=1e-4, atol=6e-5, equal_nan=True), name
            computed[model.graph.node[0].op_type] += 1
    total = sum(computed.values())
    print(f"ONNX's cases: {total} computed, {sum(refused.values())} refused")
    assert total >= COMPUTED, total
    tested = {op for op in OPERATORS if computed[op]}
    # Some are made of other operators: see onnx_graph.fuse. Upsample is of opset 9.
    untested = set(OPERATORS) - tested - {"Linear", "GroupOfInstances", "Stack", "Filled", "Upsample"}
    assert untested <= {"And", "Or", "Xor", "Not", "Equal", "Where", "MaxUnpool", "CumSum", "Einsum"}, untested  # see test_small


# -- files of PyTorch ----------------------------------------------------------------------------------------


class Segmenter(nn.Module):
    """A head of torchvision on a small trunk; scores have the picture's size."""

    def __init__(self, head):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.SiLU())
        self.head = head

    def forward(self, x):
        y = self.head(self.trunk(x))
        return nn.functional.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


class Groups(nn.Module):
    """A group norm, a layer norm over channels, and a linear layer, as exporters take them apart."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(4, 8)
        self.layer, self.linear, self.score = nn.LayerNorm(8), nn.Linear(8, 12), nn.Conv2d(12, 2, 1)
        with torch.no_grad():
            for norm in (self.norm, self.layer):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_()

    def forward(self, x):
        y = nn.functional.gelu(self.norm(self.conv(x))).permute(0, 2, 3, 1)
        y = self.linear(self.layer(y)).permute(0, 3, 1, 2)
        y = torch.stack([y, y * y, y.sigmoid()]).sum(0)
        return nn.functional.interpolate(self.score(y), scale_factor=2, mode="nearest")


def networks():
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead
    from torchvision.models.segmentation.fcn import FCNHead
    return {"fcn": lambda: Segmenter(FCNHead(16, 5)), "deeplab": lambda: Segmenter(DeepLabHead(16, 5, [2, 4, 6])),
            "unet": lambda: nets.UNet("resize"), "groups": Groups}


def write(module, path, dynamo, opset=None, is_open=True):
    """Exports with torch.onnx; the picture's height and width are open, or 64×96."""
    x = torch.randn(1, 3, 64, 96)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            if dynamo:
                shapes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},) if is_open else None
                torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, opset_version=opset)
            else:
                axes = {"input": {2: "h", 3: "w"}, "output": {2: "h", 3: "w"}} if is_open else None
                torch.onnx.export(module, (x,), path, dynamo=False, dynamic_axes=axes, input_names=["input"],
                                  output_names=["output"], opset_version=opset)
    finally:
        logging.disable(logging.NOTSET)


def made(name):
    torch.manual_seed(sum(map(ord, name)))
    return nets.random_statistics(networks()[name]()).eval()


def forms():
    """The ways to write a file: dynamo or legacy, and the opset."""
    return [(name, dynamo, opset) for name in networks() for dynamo, opset in ((False, 11), (False, 17), (True, 18))
            if (name, opset) != ("groups", 11)]


def test_pytorch():
    """Files of both exporters: equal to onnxruntime at several sizes, with names of the module."""
    with tempfile.TemporaryDirectory() as folder:
        for name, dynamo, opset in forms():
            path = Path(folder) / f"{name}_{opset}.onnx"
            write(made(name), path, dynamo, opset)
            file, said = opened(path)
            assert not file.fixed_size and file.classes is None and "equals onnxruntime at 64×96, " in said, said
            check(path, file.module, [(64, 96), (128, 160), (96, 64)])
            if name != "unet":
                check(path, file.module, [(75, 53), (61, 130)])
            assert all(p.count("onnx") == 0 for p in file.module.state_dict() if name == "fcn" and dynamo), list(file.module.state_dict())


def test_model_files():
    """The same files as model files: their graphs equal onnxruntime at a size that was not traced."""
    with tempfile.TemporaryDirectory() as folder:
        for name, dynamo, opset in forms():
            path, out = Path(folder) / f"{name}_{opset}.onnx", Path(folder) / "out.safetensors"
            write(made(name), path, dynamo, opset)
            assert test_export.exporter.main([str(path), str(out), "--size", "64x96"]) == 0, path.name
            file = test_export.File(out)
            x = torch.randn(1, 3, 128, 224)
            [expected] = by_onnxruntime(path, x)
            error = test_export.relative(file.run(x.double()), torch.from_numpy(expected).double())
            assert error <= CLOSE, f"{path.name}: {error:.1e}"
            report = f"{path.name}: {len(file.graph['nodes'])} nodes, {error:.1e}"
            if os.environ.get("FULLCONV"):
                error = test_export.relative(test_export.run_program(out, x, folder), torch.from_numpy(expected).double())
                assert error <= test_export.CLOSE, f"{path.name}: fullconv run is off by {error:.2e}"
                report += f", fullconv run {error:.1e}"
            print(report, flush=True)
            out.unlink()


def test_fixed_sizes():
    """A file of one size, declared or inside, is opened for that size, and this is said."""
    with tempfile.TemporaryDirectory() as folder:
        for dynamo in (False, True):
            path = Path(folder) / f"unet_{dynamo}.onnx"
            write(made("unet"), path, dynamo, is_open=False)
            file, said = opened(path, (200, 300))
            assert file.fixed_size and file.example.shape == (1, 3, 64, 96) and "64×96 alone" in said, said
            refuses(path, "64 × 96 alone", fixed_size=True)
            # Open dimensions in the header, and shapes of one size inside.
            model = onnx.load(path)
            for value in [*model.graph.input, *model.graph.output]:
                for axis, dim in zip("hw", value.type.tensor_type.shape.dim[2:]):
                    dim.dim_param = axis
            shape = numpy_helper.from_array(np.array([1, 5, 64 * 96], np.int64), "inner")
            result = model.graph.output[0].name
            model.graph.node.append(helper.make_node("Reshape", [result, "inner"], ["flat"]))
            model.graph.node.append(helper.make_node("Reshape", ["flat", "outer"], ["back"]))
            model.graph.initializer.extend([shape, numpy_helper.from_array(np.array([1, 5, 64, 96], np.int64), "outer")])
            model.graph.output[0].name = "back"
            onnx.save(model, path)
            file, said = opened(path)
            assert file.fixed_size and "64×96 alone" in said, said
            refuses(path, "64×97", "--size", size=(64, 97))


# -- files written by hand -----------------------------------------------------------------------------------


def model_of(nodes, tensors, dims=(1, 3, "h", "w"), opset=17, outputs=("y",), kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def by_hand():
    """A network with sizes computed in the graph, paddings by `auto_pad`, and constants of all kinds."""
    random = np.random.default_rng(1)

    def weight(*shape):
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    n = helper.make_node
    nodes = [
        n("Sub", ["x", "mean"], ["centred"]),
        n("Conv", ["centred", "a.weight", "a.bias"], ["a"], name="/stem/a/Conv", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        n("BatchNormalization", ["a", "gamma", "beta", "running_mean", "running_var"], ["b"], name="/stem/bn/BatchNormalization"),
        n("Clip", ["b", "zero", "six"], ["c"]),
        n("Pad", ["c", "pads"], ["padded"], mode="edge"),
        n("AveragePool", ["padded"], ["d"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        n("ConvTranspose", ["d", "up.weight"], ["e"], name="up", kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Shape", ["c"], ["shape"]),
        n("Slice", ["shape", "two", "four"], ["size"]),
        n("Shape", ["e"], ["shape_e"]),
        n("Slice", ["shape_e", "zero_i", "two"], ["nc"]),
        n("Concat", ["nc", "size"], ["sizes"], axis=0),
        n("Resize", ["e", "", "", "sizes"], ["f"], mode="linear", coordinate_transformation_mode="half_pixel"),
        n("Concat", ["c", "f"], ["g"], axis=1),
        n("Split", ["g", "parts"], ["g1", "g2"], axis=1),
        n("HardSigmoid", ["g1"], ["h"], alpha=0.25, beta=0.4),
        n("Mul", ["h", "g2"], ["i"]),
        n("GlobalAveragePool", ["i"], ["pooled"]),
        n("Flatten", ["pooled"], ["vector"]),
        n("Gemm", ["vector", "fc.weight", "fc.bias"], ["gate"], name="fc", transB=1),
        n("Sigmoid", ["gate"], ["gate1"]),
        n("Unsqueeze", ["gate1", "axes"], ["gate2"]),
        n("Mul", ["i", "gate2"], ["j"]),
        n("DepthToSpace", ["j"], ["k"], blocksize=2, mode="CRD"),
        n("Conv", ["k", "score.weight", "score.bias"], ["scores"], name="score"),
        n("Softmax", ["scores"], ["y"], axis=1),
    ]
    tensors = {
        "mean": np.full((1, 3, 1, 1), 0.45, np.float32), "a.weight": weight(8, 3, 3, 3), "a.bias": weight(8, 1).flatten(),
        "gamma": weight(8, 1).flatten() + 1.5, "beta": weight(8, 1).flatten(), "running_mean": weight(8, 1).flatten(),
        "running_var": np.abs(weight(8, 1).flatten()) + 0.5, "zero": np.float32(0), "six": np.float32(6),
        "pads": np.array([0, 0, 1, 2, 0, 0, 1, 0]), "up.weight": weight(8, 8, 4, 4), "two": np.array([2]), "four": np.array([4]),
        "zero_i": np.array([0]), "parts": np.array([8, 8]), "fc.weight": weight(8, 8), "fc.bias": weight(8, 1).flatten(),
        "axes": np.array([2, 3]), "score.weight": weight(3, 2, 1, 1), "score.bias": weight(3, 1).flatten(),
    }
    model = model_of(nodes, tensors)
    helper.set_model_props(model, {"names": "{0: 'sky', 1: 'road', 2: 'tree'}"})
    return model


def test_by_hand():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(by_hand(), path)
        file, said = opened(path)
        assert not file.fixed_size and file.classes == ["sky", "road", "tree"]
        check(path, file.module, [(64, 96), (75, 53), (62, 47)])
        names = set(file.module.state_dict())
        assert {"a.weight", "a.bias", "up.weight", "fc.weight", "score.bias", "running_var"} <= names, names
        modules = {name for name, _ in file.module.named_modules()}
        assert {"stem.a.Conv", "stem.bn.BatchNormalization", "up_1" if "up" in names else "up"} - modules <= {"up"}, modules
        # By content, whatever the name.
        other = path.rename(path.with_name("net.bin"))
        assert is_onnx(other) and not is_onnx("torchvision.models:vgg11") and not is_onnx(HERE / "test_nets.py")
        opened(other)


def test_wrong_results():
    """A module that computes something else is refused, by onnxruntime, and by ONNX's reference without it."""
    weight = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "weight"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Sigmoid", ["c"], ["y"])]
    hidden, right = sys.modules["onnxruntime"], OPERATORS["Sigmoid"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model_of(nodes, {"weight": weight}), path)
        try:
            for runtime, name in ((hidden, "onnxruntime"), (None, "ONNX's reference")):
                sys.modules["onnxruntime"] = runtime
                opened(path, (12, 17))
                OPERATORS["Sigmoid"] = lambda node, x: right(node, x) * 1.0001
                refuses(path, f"differs from {name}", size=(12, 17))
                OPERATORS["Sigmoid"] = right
        finally:
            OPERATORS["Sigmoid"], sys.modules["onnxruntime"] = right, hidden


def test_small():
    """Operators whose cases in onnx do not begin with floats."""
    n = helper.make_node
    graphs = [
        [n("MaxPool", ["x"], ["m", "i"], kernel_shape=[2, 2], strides=[2, 2]), n("Mul", ["m", "two"], ["m2"]),
         n("MaxUnpool", ["m2", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
        [n("Greater", ["x", "zero"], ["a"]), n("Less", ["x", "two"], ["b"]), n("Equal", ["x", "x"], ["c"]), n("And", ["a", "b"], ["d"]),
         n("Not", ["d"], ["e"]), n("Or", ["e", "a"], ["f"]), n("Xor", ["f", "b"], ["g"]), n("And", ["g", "c"], ["h"]),
         n("Where", ["h", "x", "two"], ["i"]), n("Cast", ["d"], ["j"], to=1), n("Add", ["i", "j"], ["y"])],
        [n("CumSum", ["x", "axis"], ["c"]), n("Einsum", ["c", "x"], ["y"], equation="nchw,nkhw->nckw")],
        [n("MaxPool", ["x"], ["m", "i"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), n("Cast", ["i"], ["y"], to=1)],
    ]
    tensors = {"two": np.float32(2), "zero": np.float32(0), "axis": np.array(2)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        for nodes in graphs:
            used = {name for node in nodes for name in node.input}
            onnx.save(model_of(nodes, {k: v for k, v in tensors.items() if k in used}), path)
            check(path, opened(path)[0].module, [(64, 96), (20, 34)])


def test_outputs():
    """One of several outputs, by name or number; the others' operators do not matter."""
    n = helper.make_node
    nodes = [n("Conv", ["x", "w"], ["a"], name="first"), n("Sigmoid", ["a"], ["b"]), n("Hardmax", ["b"], ["c"], name="/last")]
    weight = np.random.default_rng(1).standard_normal((4, 3, 1, 1)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model_of(nodes, {"w": weight}, outputs=("a", "b", "c")), path)
        x = torch.randn(1, 3, 9, 8)
        scores = nn.functional.conv2d(x, torch.from_numpy(weight))
        for output, expected in (("a", scores), ("0", scores), ("b", scores.sigmoid()), ("1", scores.sigmoid())):
            file, _ = opened(path, output=output)
            assert file.output is None and test_export.relative(file.module(x), expected) < CLOSE
        refuses(path, "/last: Hardmax")
        del nodes[-1]
        onnx.save(model_of(nodes, {"w": weight}, outputs=("a", "b")), path)
        out = Path(folder) / "out.safetensors"
        for output in ("a", "1", None):
            status = test_export.exporter.main([str(path), str(out), "--size", "64x96", *(["--output", output] if output else [])])
            assert status == (0 if output else 1) and out.exists() == bool(output), output
            out.unlink(missing_ok=True)


def test_channels_last():
    """A file of [n, h, w, c], as TensorFlow's are, is a module of [n, c, h, w]."""
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
             helper.make_node("Conv", ["t", "weight"], ["c"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
             helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1])]
    weight = np.random.default_rng(1).standard_normal((5, 3, 3, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model_of(nodes, {"weight": weight}, (1, "h", "w", 3)), path)
        file, said = opened(path)
        assert "[n, h, w, c]" in said
        x = torch.randn(1, 3, 20, 31)
        found = file.module(x)
        expected = nn.functional.conv2d(x, torch.from_numpy(weight), padding=1)
        assert found.shape == expected.shape and test_export.relative(found, expected) < CLOSE


def test_halves():
    """A file in f16 is computed in f32, which is said."""
    weight = np.random.default_rng(1).standard_normal((4, 3, 1, 1)).astype(np.float16)
    nodes = [helper.make_node("Conv", ["x", "weight"], ["y"])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model_of(nodes, {"weight": weight}, kind=TensorProto.FLOAT16), path)
        file, said = opened(path)
        assert "f16" in said and file.module.state_dict()["weight"].dtype == torch.float32


def refuses(path, *words, size=(65, 96), **options):
    """Asserts that the file is refused in plain lines with these words."""
    try:
        opened(path, size, **options)
    except ExportError as problem:
        text = str(problem)
        assert all(word in text for word in words) and "Traceback" not in text and "\x1b" not in text, (words, text)
        return
    raise AssertionError(f"{path} was taken")


def test_refusals():
    """Files that are no networks, and operators that PyTorch or fullconv lacks: by name, and nothing is written."""
    n = helper.make_node
    one = np.ones((3, 3, 1, 1), np.float32)
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    conv = n("Conv", ["x", "w"], ["c"])
    cases = [
        (model_of([conv, n("Hardmax", ["c"], ["h"], name="/a/Hardmax"), n("NonZero", ["h"], ["y"], name="/b")], {"w": one}),
         "/a/Hardmax: Hardmax", "/b: NonZero"),
        (model_of([n("Resize", ["x", "", "scales"], ["y"], name="/up", mode="linear", coordinate_transformation_mode="asymmetric")], scales),
         "/up", "Resize", "asymmetric"),
        (model_of([n("QuantizeLinear", ["x", "s"], ["q"], name="/q"), n("DequantizeLinear", ["q", "s"], ["y"])],
                  {"s": np.float32(0.1)}), "/q: QuantizeLinear", "quantised"),
        (model_of([conv, n("ReduceMax", ["c"], ["m"], keepdims=0), n("Cast", ["m"], ["i"], to=7), n("Expand", ["c", "i"], ["y"])],
                  {"w": one}), "Cast", "integers"),
        (model_of([n("Conv", ["x", "w"], ["y"])], {"w": one}, (8, 3, "h", "w")), "batch", "8"),
        (model_of([n("Conv", ["x", "w"], ["y"])], {"w": one}, (3, "h", "w")), "3 dimensions"),
        (model_of([n("Cast", ["x"], ["c"], to=1), n("Conv", ["c", "w"], ["y"])], {"w": one}, kind=TensorProto.UINT8), "uint8"),
        (model_of([n("Loop", ["n", "t", "x"], ["y"], name="/loop", body=helper.make_graph(
            [n("Identity", ["c"], ["c1"]), n("Identity", ["v"], ["v1"])], "body",
            [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, []), helper.make_tensor_value_info("v", 1, None)],
            [helper.make_tensor_value_info("c1", 9, []), helper.make_tensor_value_info("v1", 1, None)]))],
            {"n": np.int64(3), "t": np.bool_(True)}), "/loop: Loop"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        for model, *words in cases:
            onnx.save(model, path)
            refuses(path, *words)
        model = model_of([n("Add", ["x", "x2"], ["y"])], {})
        model.graph.input.append(helper.make_tensor_value_info("x2", 1, [1, 3, "h", "w"]))
        onnx.save(model, path)
        refuses(path, "2 inputs", "x, x2")
        onnx.save(by_hand(), path)
        path.write_bytes(path.read_bytes()[:2000])
        refuses(path, "not a whole ONNX file")
        path.write_text("version https://git-lfs.github.com/spec/v1")
        refuses(path, "not a whole ONNX file")
        refuses(Path(folder) / "none.onnx", "no such file")
        onnx.save(cases[0][0], path)
        done = test_export.command(path, Path(folder) / "out.safetensors")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr, done.stderr
        done = test_export.command(path, Path(folder) / "out.safetensors", "--weights", "w.pth")
        assert done.returncode == 1 and "--weights" in done.stderr, done.stderr
        assert [p.name for p in Path(folder).iterdir()] == ["net.onnx"]


def test_old():
    """Opset 9's Upsample is converted."""
    model = model_of([helper.make_node("Upsample", ["x", "scales"], ["y"], mode="nearest")],
                     {"scales": np.array([1, 1, 2, 2], np.float32)}, opset=9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        check(path, opened(path)[0].module, [(7, 9)])


if __name__ == "__main__":
    chosen = sys.argv[1:]
    tests = [test for name, test in list(globals().items()) if name.startswith("test_") and callable(test)]
    tests = [test for test in tests if not chosen or test.__name__ in chosen]
    for test in tests:
        test()
    print(f"{len(tests)} passed, 0 failed")
