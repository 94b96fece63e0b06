#!/usr/bin/env python3
"""Loads checkpoints in all the forms that trainers write, for tools/exporter/checkpoints.py.

    python tools/test_checkpoints.py          # or: python -m pytest tools/test_checkpoints.py

Requirements: torch, safetensors, numpy.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from exporter.checkpoints import load_weights, without_parametrizations  # noqa: E402
from exporter.values import ExportError  # noqa: E402


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def weights(seed=1):
    torch.manual_seed(seed)
    return {name: tensor.clone() + torch.rand_like(tensor.float()) if tensor.is_floating_point() else tensor
            for name, tensor in network().state_dict().items()}


def prefixed(prefix, state):
    return {prefix + name: tensor.clone() for name, tensor in state.items()}


class Settings:
    """An object such as trainers save beside the weights."""


class Folder:
    """A folder for files, and the outcome of reading one of them."""

    def __init__(self, path):
        self.path = Path(path)

    def save(self, content, name="net.pth", **options):
        path = self.path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path, **options)
        return path

    def loaded(self, path, module=None, **options):
        """The state dict after loading, and what was said on stderr."""
        module = network() if module is None else module
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            load_weights(module, path, **options)
        assert said.getvalue().count("\n") <= 1, said.getvalue()
        return module.state_dict(), said.getvalue()

    def takes(self, content, expected, *words, name="net.pth", **options):
        """Asserts that the file's weights become `expected`, and that the line has these words."""
        found, said = self.loaded(self.save(content, name), **options)
        for tensor in expected:
            if not tensor.endswith("num_batches_tracked"):
                assert torch.equal(found[tensor], expected[tensor].float()), (tensor, said)
        assert all(word in said for word in words), (words, said)
        assert words or not said, said

    def refuses(self, content, *words, name="net.pth", **options):
        """Asserts that the file is refused in one plain line that has these words."""
        path = content if isinstance(content, Path) else self.save(content, name)
        try:
            _, said = self.loaded(path, **options)
        except ExportError as problem:
            text = str(problem)
            assert "\n" not in text and "\x1b" not in text and str(path.name) in text, text
            assert all(word in text for word in words), (words, text)
            return
        raise AssertionError(f"{path} was taken: {said}")


def in_folder(test):
    def run():
        with tempfile.TemporaryDirectory() as path:
            test(Folder(path))
    run.__name__ = test.__name__
    return run


@in_folder
def test_plain(folder):
    state = weights()
    folder.takes(state, state)
    folder.takes(state, state, name="net.safetensors")
    folder.takes({n: t for n, t in state.items() if "num_batches" not in n}, state)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        halves = {n: t.to(kind) for n, t in state.items() if t.is_floating_point()}
        folder.takes(halves, halves)
    path = folder.save(state, _use_new_zipfile_serialization=False)
    assert torch.equal(folder.loaded(path)[0]["0.weight"], state["0.weight"])
    # The content decides, not the name.
    torch.save(state, folder.path / "named.safetensors")
    assert torch.equal(folder.loaded(folder.path / "named.safetensors")[0]["0.weight"], state["0.weight"])
    folder.takes({**state, "mask_values": [0, 1]}, state)


@in_folder
def test_wrappers(folder):
    state, numbers = weights(), np.float64(0.5)
    for key in ("state_dict", "model", "model_state_dict", "model_state", "net", "weights", "ema", "params_ema", "generator"):
        folder.takes({key: state, "epoch": 3, "best": numbers, "args": argparse.Namespace(lr=0.1)}, state, f"'{key}'")
    for prefix in ("module.", "model.", "net.", "module.model.", "any.thing."):
        folder.takes(prefixed(prefix, state), state, f"'{prefix}'")
        folder.takes(prefixed(prefix, state), state, f"'{prefix}'", name="net.safetensors")
    folder.takes(prefixed("_orig_mod.", state), state, "_orig_mod.")
    folder.takes(prefixed("module._orig_mod.", state), state, "_orig_mod.", "module.")
    folder.takes({"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2.0"}, state, "'state_dict'", "'model.'")
    folder.takes({"state_dict": {**prefixed("model.", state), "loss.weight": torch.ones(2)}}, state, "loss.weight")
    folder.takes({"n_averaged": torch.tensor(5), **prefixed("module.", state)}, state, "n_averaged")
    folder.takes({"a": {"b": {"state": prefixed("x.", state)}}}, state, "'a.b.state'", "'x.'")
    optimizer = torch.optim.Adam(network().parameters())
    folder.takes({"model": state, "optimizer": optimizer.state_dict()}, state, "'model'")
    compiled = {name.replace("0.", "0._orig_mod."): tensor for name, tensor in state.items()}
    folder.takes(compiled, state, "_orig_mod.")


@in_folder
def test_several(folder):
    """The network itself goes before its averaged copy; --key chooses; equals without an order are refused."""
    state, other = weights(1), weights(2)
    for first, second in (("model", "ema"), ("state_dict", "state_dict_ema"), ("student", "teacher"), ("net", "model_ema")):
        folder.takes({second: other, first: state}, state, f"'{first}'", "--key", second)
        folder.takes({second: other, first: state}, other, f"'{second}'", key=second)
    both = {**prefixed("model.", state), **prefixed("model_ema.", other)}
    folder.takes(both, state, "'model.'", "--key")
    folder.takes(both, other, "'model_ema.'", key="model_ema")
    folder.takes({"state_dict": both}, other, "'model_ema.'", key="state_dict.model_ema")
    folder.takes({**prefixed("net.", state), **prefixed("ema.net.", other)}, state, "'net.'")
    folder.refuses({"first": state, "second": other}, "first, second", "--key")
    folder.takes({"first": state, "second": dict(state)}, state, "'first'")
    folder.refuses({"model": state}, "no weights called 'nothing'", "model", key="nothing")


@in_folder
def test_objects(folder):
    """Only --trust reads objects that could run code, a class that is not importable among them."""
    state = weights()
    module = network()
    module.load_state_dict(state)
    for content in (module, {"model": module}, {"state_dict": state, "settings": Settings()}):
        folder.refuses(content, "--trust")
        folder.takes(content, state, "takes", trust=True)
    module.add_module("later", Local())
    path = folder.save(module)
    keep = globals().pop("Local")
    try:
        folder.refuses(path, "Local", "--trust")
        assert torch.equal(folder.loaded(path, trust=True)[0]["0.weight"], state["0.weight"])
    finally:
        globals()["Local"] = keep
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = network().eval()
        module.load_state_dict(state)
        torch.jit.script(module).save(folder.path / "script.pt")
    found, said = folder.loaded(folder.path / "script.pt")
    assert torch.equal(found["3.weight"], state["3.weight"]) and "TorchScript" in said
    marker = folder.path / "ran"
    folder.refuses({"model": state, "x": Runs(marker)}, "--trust")
    assert not marker.exists()


class Local(nn.Module):
    """A class that is gone when the file is read."""


class Runs:
    """An object that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@in_folder
def test_refusals(folder):
    state = weights()
    folder.refuses([state], "list")
    folder.refuses(torch.ones(3), "one tensor")
    folder.refuses({"epoch": 3}, "epoch")
    folder.refuses({n: t for n, t in state.items() if not n.startswith("3.")}, "lacks 2", "3.weight", "3.bias")
    folder.refuses({**state, "3.weight": torch.ones(4, 8, 1, 1)}, "3.weight is [4, 8, 1, 1] in the file, [2, 8, 1, 1] in the module")
    folder.refuses({"encoder.weight": torch.ones(2)}, "none of the module's tensors", "encoder.weight")
    for kind in (torch.int8, torch.float8_e4m3fn):
        folder.refuses({n: t.to(kind) for n, t in state.items()}, str(kind).removeprefix("torch."), name="net.safetensors")
    for content, *words in [(b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"), (b"GGUF\x03" + bytes(64), "GGUF"), (b"", "empty"),
                            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "web page"),
                            (b"\x08\x07\x12\x07pytorch", "ONNX", "first argument"), (b"PK\x03\x04 cut", "not a whole"),
                            (b'{"a": 1}', "weight_map"), (bytes(100), "not a whole"), (b"\x80\x02cos\nsystem\n.", "--trust")]:
        folder.refuses(content, *words, name="file.bin")
    path = folder.save(state)
    path.write_bytes(path.read_bytes()[:1000])
    folder.refuses(path, "not a whole")
    path = folder.save({n: t.contiguous() for n, t in state.items()}, "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    folder.refuses(path, "not a whole safetensors file")
    np.savez(folder.path / "a.npz", **{n: t.numpy() for n, t in state.items()})
    folder.refuses(folder.path / "a.npz", "NumPy")
    folder.refuses(folder.path / "none.pth", "No such file")
    folder.refuses(folder.path, "folder")


@in_folder
def test_sharded(folder):
    state = weights()
    names = list(state)
    shards = {name: f"net-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(shards.values()):
        save_file({name: state[name] for name in names if shards[name] == file}, folder.path / file)
    index = folder.path / "net.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    assert all(torch.equal(folder.loaded(index)[0][name], state[name]) for name in names)
    (folder.path / "net-00002-of-00002.safetensors").unlink()
    try:
        folder.loaded(index)
        raise AssertionError("a shard is missing")
    except ExportError as problem:
        assert "net-00002-of-00002.safetensors" in str(problem)
    index.write_text(json.dumps({"weight_map": {"0.weight": "../net.safetensors"}}))
    folder.refuses(index, "not a file beside it")


def test_norms():
    """The old and the new names of weight norm and spectral norm; a module without weight norm gets the weight."""
    from torch.nn.utils import parametrizations, spectral_norm, weight_norm
    with tempfile.TemporaryDirectory() as path, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Folder(path)
        x = torch.randn(1, 3, 5, 6)
        for kinds in ((weight_norm, parametrizations.weight_norm), (spectral_norm, parametrizations.spectral_norm)):
            for saved, made in ((a, b) for a in kinds for b in kinds):
                torch.manual_seed(7)
                source = nn.Sequential(saved(nn.Conv2d(3, 4, 3)))
                source(x)  # spectral norm has its vectors after a step of training
                with torch.no_grad():
                    source[0].bias.add_(1.0)
                expected = source.eval()(x)
                module = nn.Sequential(made(nn.Conv2d(3, 4, 3)))
                folder.loaded(folder.save(source.state_dict()), module)
                found = without_parametrizations(module.eval())
                assert set(found.state_dict()) == {"0.weight", "0.bias"}, set(found.state_dict())
                assert torch.allclose(found(x), expected, rtol=1e-5, atol=1e-6), (saved, made)
        for saved in (weight_norm, parametrizations.weight_norm):
            source = nn.Sequential(saved(nn.Conv2d(3, 4, 3), dim=0))
            module = nn.Sequential(nn.Conv2d(3, 4, 3))
            folder.loaded(folder.save(prefixed("net.", source.state_dict())), module)
            assert torch.allclose(module(x), source(x), rtol=1e-5, atol=1e-6)


@in_folder
def test_shared(folder):
    """A tensor that the module has under two names is needed once."""
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 3, 1)
            self.b = self.a
    module = Tied()
    state = {name: tensor.clone() for name, tensor in Tied().state_dict().items() if name.startswith("a.")}
    found, _ = folder.loaded(folder.save(state), module)
    assert torch.equal(found["b.weight"], state["a.weight"])


if __name__ == "__main__":
    tests = [test for name, test in list(globals().items()) if name.startswith("test_")]
    for test in tests:
        test()
    print(f"{len(tests)} passed, 0 failed")
