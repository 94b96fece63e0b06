#!/usr/bin/env python3
"""Exports networks with tools/export.py and compares the files' graphs with PyTorch.

    python tools/test_export.py [NAME ...]          # or: python -m pytest tools/test_export.py
    FULLCONV=target/release/fullconv python tools/test_export.py

A small interpreter of the file's graph, written from docs/model-file.md and independent of the exporter,
computes every network in f64 at the example's size and at an odd size: the results must match the module's.
With FULLCONV set to the program, `fullconv run` computes the networks too, in f32.

Requirements: torch, torchvision, safetensors, numpy.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


exporter = load("export")
nets = load("test_nets")
OPS = importlib.import_module("exporter.torch_ops").OPS

# Both compute in f64 from f32 weights; only the order of sums differs.
EXACT = 1e-11
# … and where the file has tensors that the exporter computed from the module's, which are f32 too.
DERIVED = 1e-7
# `fullconv run` against PyTorch in f64: ‖found − expected‖ / ‖expected‖.
CLOSE = 2e-5


# -- the interpreter -----------------------------------------------------------------------------------------


class File:
    """A model file and an interpreter of its graph."""

    def __init__(self, path):
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()["fullconv"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}
        self.metadata, self.graph = metadata, metadata["graph"]
        for name, tensor in self.tensors.items():
            assert tensor.dim() in (1, 4), (name, tensor.shape)

    def run(self, x):
        values = {self.graph["input"]: x}
        waiting = list(self.graph["nodes"])
        used = set()
        while waiting:
            ready = [n for n in waiting if all(i in values or i in self.tensors for i in n["inputs"])]
            assert ready, f"a circle among {[n['name'] for n in waiting]}"
            for node in ready:
                used.update(i for i in node["inputs"] if i not in values)
                inputs = [values[i] if i in values else self.tensors[i].double() for i in node["inputs"]]
                assert node["name"] not in values and node["name"] not in self.tensors, node["name"]
                values[node["name"]] = OPS[node["op"]](*inputs, **node.get("attributes", {}))
            waiting = [n for n in waiting if n["name"] not in values]
        assert used == set(self.tensors), f"tensors that no node uses: {set(self.tensors) - used}"
        return values[self.graph["output"]]


# -- the tests -----------------------------------------------------------------------------------------------


def scores(module, x):
    """The module's scores, in f64, from its f32 weights."""
    with torch.no_grad():
        result = module.double()(x.double())
    module.float()
    result = result["out"] if isinstance(result, dict) else result
    result = result[0] if isinstance(result, (tuple, list)) else result
    return result.reshape(*result.shape, *[1] * (4 - result.dim()))


def relative(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return ((found - expected).norm() / expected.norm()).item()


def check(name, folder):
    make, sizes = nets.NETS[name]
    torch.manual_seed(sum(map(ord, name)))
    module = nets.random_statistics(make()).eval()
    path = Path(folder) / f"{name}.safetensors"
    channels = getattr(module, "channels", 3)
    exporter.export(module, torch.randn(1, channels, *sizes[0]), path, fixed_size=len(sizes) == 1)
    file = File(path)
    for size in sizes:
        x = torch.randn(1, channels, *size)
        expected = scores(module, x)
        with torch.no_grad():
            error = relative(file.run(x.double()), expected)
        assert error <= (DERIVED if getattr(module, "derived", False) else EXACT), f"{name} at {size}: the file computes something else, by {error:.2e}"
        report = f"{name} {size[0]}×{size[1]}: {len(file.graph['nodes'])} nodes, {error:.1e}"
        if os.environ.get("FULLCONV"):
            error = relative(run_program(path, x, folder), expected)
            assert error <= CLOSE, f"{name} at {size}: fullconv run is off by {error:.2e}"
            report += f", fullconv run {error:.1e}"
        print(report, flush=True)
    return file


def run_program(path, x, folder):
    """The scores of `fullconv run`."""
    given, made = Path(folder) / "x.safetensors", Path(folder) / "y.safetensors"
    save_file({"input": x.contiguous()}, given)
    command = [os.environ["FULLCONV"], "run", "-m", path, "--input", given, "--output", made]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return load_file(made)["output"].double()


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, str(HERE / "export.py"), *map(str, arguments)],
                          capture_output=True, text=True, cwd=cwd or HERE)


def test_networks():
    with tempfile.TemporaryDirectory() as folder:
        for name in nets.NETS:
            check(name, folder)


def test_names():
    """Nodes have the modules' names, tensors the state dict's; nodes that the scores do not need are left out."""
    with tempfile.TemporaryDirectory() as folder:
        file = check("fcn_resnet50", folder)
    nodes = {n["name"]: n for n in file.graph["nodes"]}
    assert nodes["backbone.layer1.0.conv1"]["inputs"] == ["backbone.maxpool", "backbone.layer1.0.conv1.weight"]
    assert nodes["backbone.layer1.0.relu_1"]["op"] == "relu"
    assert nodes["backbone.layer1.0.add"]["inputs"] == ["backbone.layer1.0.bn3", "backbone.layer1.0.downsample.1"]
    assert nodes["interpolate"]["inputs"] == ["classifier.4", "input"]
    assert nodes["backbone.layer3.1.conv2"]["attributes"] == {"padding": [2, 2], "dilation": [2, 2]}
    assert not [n for n in file.tensors if n.startswith("aux") or "num_batches" in n]


def test_refusals():
    """Every unsupported operation is reported with module and line, and no file is left."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        done = command(HERE / "test_nets.py:Refused", out)
        assert done.returncode == 1, done
        assert list(Path(folder).iterdir()) == [], list(Path(folder).iterdir())
    lines = done.stderr.splitlines()
    source = (HERE / "test_nets.py").read_text().splitlines()
    for marker, op in [("refused: cumsum", "cumsum"), ("refused: atan", "atan"), ("refused: grid_sampler", "grid_sampler"),
                       ("refused: mul", "mul")]:
        number = next(i for i, line in enumerate(source, 1) if marker in line)
        assert any(f": {op} " in line and f"test_nets.py:{number}" in line for line in lines), (marker, done.stderr)
    assert any("in inner" in line for line in lines), done.stderr


def refusal(module, *example, **more):
    """The message with which an export ends; nothing may be left."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            exporter.export(module.eval(), torch.zeros(1, *example), Path(folder) / "out.safetensors", **more)
        except exporter.ExportError as problem:
            assert list(Path(folder).iterdir()) == []
            return str(problem)
    raise AssertionError("it was exported")


def test_dependent():
    """Branches and numbers that depend on the size, or on pixels, are refused with their line, whatever was traced."""
    source = (HERE / "test_nets.py").read_text().splitlines()
    for name, something in nets.DEPENDENT.items():
        text = refusal(nets.Sized(something), 3, 64, 96)
        line = next(i for i, text in enumerate(source, 1) if f'"{name}": lambda' in text and i > source.index("DEPENDENT = {"))
        assert f"test_nets.py:{line}" in text, (name, text)
    assert "too small for larger pictures; --fixed-size" in refusal(nets.test_transformers.Cut(), 3, 64, 96)
    assert "number depends on the picture's size; --fixed-size" in refusal(nets.test_transformers.Windows(), 3, 64, 96)


def test_fixed_size():
    """A network of one size is refused without its size; with it, its file is for this size."""
    torch.manual_seed(0)
    module = nets.OneSize().eval()
    assert "--fixed-size 32x48" in refusal(module, 2, 32, 48)
    with tempfile.TemporaryDirectory() as folder:
        exporter.export(module, torch.zeros(1, 2, 32, 48), Path(folder) / "out.safetensors", fixed_size=True)
        file = File(Path(folder) / "out.safetensors")
    assert file.graph["size"] == [32, 48] and file.graph["channels"] == 2
    x = torch.randn(1, 2, 32, 48)
    with torch.no_grad():
        assert relative(file.run(x.double()), scores(module, x)) <= 1e-7  # 1 / 32 and the table are in f32
    assert "fails for a picture of 33×48" in refusal(module, 2, 33, 48, fixed_size=True)


def test_outputs():
    """One of several results by number, key or path; a final argmax is left out."""
    torch.manual_seed(0)
    module = nets.Several().eval()
    text = refusal(module, 3, 64, 96)
    assert "3 tensors" in text and "--output" in text and "1.deep.0" in text, text
    assert "nothing" in refusal(module, 3, 64, 96, output="nothing")
    assert "2 tensors" in refusal(module, 3, 64, 96, output="1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.safetensors"
        for output, weight in [(0, "one.weight"), ("1.aux", "two.weight"), ("1.deep", "three.weight"), ("three", "three.weight")]:
            exporter.export(module, torch.zeros(1, 3, 64, 96), path, output=output)
            file = File(path)
            assert list(file.tensors)[1] == weight and file.graph["output"] == weight.split(".")[0], file.graph
        exporter.export(nets.WithLabel().eval(), torch.zeros(1, 3, 64, 96), path)  # one map and a row of numbers
        assert File(path).graph["output"] == "conv"
        for wide in (False, True):
            labels = nets.Labels(wide).eval()
            exporter.export(labels, torch.zeros(1, 3, 64, 96), path)
            file, x = File(path), torch.randn(1, 3, 50, 41)
            with torch.no_grad():
                found, expected = file.run(x.double()), labels(x)
            assert found.shape[1] == 4 and (found.argmax(1) == expected.reshape(1, 50, 41)).float().mean() > 0.999


def test_stages():
    """Scores of coarser strides are named by a node or a module, and compared with the module's."""
    torch.manual_seed(0)
    module = nets.Skips().eval()
    right = {"coarse": 4, "fuse": 2}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.safetensors"
        exporter.export(module, torch.zeros(1, 3, 64, 96), path, stages=right, align="start")
        scores_of = [{"node": "coarse", "stride": 4}, {"node": "fuse.add", "stride": 2}]
        assert File(path).graph["stages"] == {"align": "start", "scores": scores_of}, File(path).graph
        exporter.export(module, torch.zeros(1, 3, 64, 96), path, stages={"coarse": 4, "fuse.add": 2}, align="center")
        assert File(path).graph["stages"] == {"align": "center", "scores": scores_of}, File(path).graph
        done = command(HERE / "test_nets.py:Skips", path, "--stages", "coarse:4,fuse:2", "--align", "center")
        assert done.returncode == 0 and File(path).graph["stages"] == {"align": "center", "scores": scores_of}, done
        for wrong in (["--stages", "coarse,fuse", "--align", "start"], ["--stages", "coarse:4,fuse:2"], ["--align", "start"]):
            done = command(HERE / "test_nets.py:Skips", path, *wrong)
            assert done.returncode == 2 and "--stages" in done.stderr, done
    for stages, words in [({"coarse": 8, "fuse": 2}, "stage coarse: [1, 4,"), ({"wide": 4, "fuse": 2}, "stage wide: [1, 5,"),
                          ({"nothing": 4, "fuse": 2}, "'nothing' is no node"), ({"fuse": 2, "coarse": 4}, "largest stride first"),
                          ({"coarse": 4}, "at least two"), ({"coarse": 65, "fuse": 2}, "from 1 to 64"),
                          ({"twice": 4, "fuse": 2}, "stage twice: the module's result is not that of a node")]:
        text = refusal(module, 3, 64, 96, stages=stages, align="start")
        assert words in text, (stages, text)
    assert "neither start nor center" in refusal(module, 3, 64, 96, stages=right)


def test_wrong_translation():
    """A translation that is wrong is not written: here, an operation is translated as another one."""
    handlers = sys.modules["exporter.registry"].HANDLERS
    right = handlers["aten.sigmoid.default"]
    handlers["aten.sigmoid.default"] = lambda walk, a: walk.same_shape("tanh", a.self)
    try:
        text = refusal(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Sigmoid()), 3, 64, 96)
    finally:
        handlers["aten.sigmoid.default"] = right
    assert "differs from the module" in text and "sigmoid in 1" in text, text


def test_preprocess():
    module = torch.nn.Conv2d(3, 2, 1)
    right = {"channels": "rgb", "range": 1.0, "mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0]}
    for change, words in [({"mean": [0.5]}, "3 numbers"), ({"channels": "grey"}, "means 1"), ({"channels": "hsv"}, "hsv"), ({"means": 1}, "means"),
                          ({"std": [1.0, 0.0, 1.0]}, "above 0"), ({"range": 0}, "range"), ({"long_side": 4, "short_side": 3}, "at most one"),
                          ({"size": 5}, "[height, width]")]:
        assert words in refusal(module, 3, 64, 96, preprocess={**right, **change}), change
    assert "lacks std" in refusal(module, 3, 64, 96, preprocess={k: v for k, v in right.items() if k != "std"})
    assert "threshold" in refusal(module, 3, 64, 96, threshold=0.4)
    assert "log_probabilities" in refusal(module, 3, 64, 96, values="logits")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.safetensors"
        exporter.export(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 64, 96), path, classes=["road"], threshold=0.4, activation="sigmoid",
                        preprocess={**right, "short_side": 96}, values="scores")
        metadata = File(path).metadata
        assert (metadata["threshold"], metadata["activation"], metadata["preprocess"]["short_side"]) == (0.4, "sigmoid", 96)
        assert metadata["values"] == "scores"


def test_command():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        module = nets.random_statistics(nets.UNet("pad"))
        torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, folder / "net.pth")
        (folder / "classes.txt").write_text("\n".join("abcde"))
        done = command(HERE / "test_nets.py:UNet", folder / "out.safetensors", "--args", '{"mode": "pad"}', "--weights",
                       folder / "net.pth", "--size", "96x64", "--half", "--classes", folder / "classes.txt",
                       "--preprocess", "torchvision")
        assert done.returncode == 0, done.stderr
        assert "equals the module" in done.stderr and "without --preprocess" not in done.stderr, done.stderr
        file = File(folder / "out.safetensors")
        assert file.metadata["classes"] == list("abcde") and file.metadata["preprocess"]["channels"] == "rgb"
        assert file.tensors["down1.0.weight"].dtype == torch.float16 and file.tensors["down1.3.bias"].dtype == torch.float32
        assert torch.equal(file.tensors["down1.0.weight"], module.state_dict()["down1.0.weight"].half())
        for wrong, words in [(["nowhere:Net"], "nowhere"), (["test_nets.py:Nothing"], "Nothing"),
                             (["test_nets.py:UNet", "--args", '{"mode": "pad"}', "--weights", folder / "none.pth"], "none.pth")]:
            done = command(wrong[0], folder / "bad.safetensors", *wrong[1:])
            assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done
            assert not (folder / "bad.safetensors").exists()


if __name__ == "__main__":
    if sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            for network in sys.argv[1:]:
                check(network, temporary)
    else:
        tests = [test_networks, test_names, test_refusals, test_dependent, test_fixed_size, test_outputs, test_stages, test_wrong_translation,
                 test_preprocess, test_command]
        for test in tests:
            test()
        print(f"{len(tests)} passed, 0 failed")
