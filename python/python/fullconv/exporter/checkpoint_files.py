"""Reads the files in which checkpoints come: PyTorch's archives, TorchScript, safetensors and their indices."""

import argparse
import json
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from pathlib import Path

import numpy
import torch

from .values import ExportError

# The first bytes of files that are often taken for checkpoints, what they are, and the way out.
OTHERS = [
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, such as Keras writes; a state dict of PyTorch is needed"),
    (b"GGUF", "is a GGUF file; a state dict of PyTorch is needed"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself: run `git lfs pull` where it came from"),
    (b"<", "is a web page or XML, not a checkpoint: the download went wrong"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it first"),
    (b"\x89PNG", "is a picture"), (b"\xff\xd8\xff", "is a picture"),
    (b"\x08", "is an ONNX file: give it as the first argument, in place of MODULE:CALLABLE"),
    (b"\x93NUMPY", "is one array of NumPy, not a state dict"),
]
# Classes beside the tensors of trainers' checkpoints; all are plain data, and reading them runs no code.
HARMLESS = [argparse.Namespace, types.SimpleNamespace, pathlib.PurePosixPath, pathlib.PosixPath, numpy.dtype, numpy.ndarray,
            *(type(numpy.dtype(kind)) for kind in "?bBhHiIlLqQefdSU")]
TRUST = "if you trust where the file comes from, add --trust; or save module.state_dict() alone"


def read(path, trust=False):
    """The content of a checkpoint: dictionaries of tensors, or a module if `trust`. Raises ExportError in one line."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ExportError(f"{path} is a folder: name the file of weights in it")
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as problem:
        raise ExportError(f"{path}: {problem.strerror or problem}") from problem
    if not head:
        raise ExportError(f"{path} is empty")
    if head[4:9] == bytes(4) + b"{":
        return safetensors(path)
    if head[:4] == b"PK\x03\x04":
        return archive(path, trust)
    if head[:1] == b"\x80":
        return pickled(path, trust)
    if head.lstrip()[:1] == b"{":
        return sharded(path, trust)
    other = next((text for start, text in OTHERS if head.startswith(start)), None)
    if other:
        raise ExportError(f"{path} {other}")
    if path.suffix == ".safetensors":
        return safetensors(path)
    raise ExportError(f"{path} is not a whole checkpoint: neither PyTorch's format nor safetensors")


def safetensors(path):
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except Exception as problem:  # noqa: BLE001 - the library raises many kinds
        raise ExportError(f"{path} is not a whole safetensors file: {one_line(problem)}") from problem


def sharded(path, trust):
    """The tensors of the files that an index names."""
    try:
        files = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ExportError(f"{path} is a text of JSON, but not the index of a sharded checkpoint: "
                          "it has no weight_map") from problem
    tensors = {}
    for name in files:
        if Path(name).name != name:
            raise ExportError(f"{path} names {name!r}, which is not a file beside it")
        part = read(path.parent / name, trust)
        if not isinstance(part, dict):
            raise ExportError(f"{path.parent / name} is not a part of a sharded checkpoint")
        tensors.update(part)
    return tensors


def archive(path, trust):
    """A zip file: PyTorch's, TorchScript's or another."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError) as problem:
        raise ExportError(f"{path} is not a whole archive of PyTorch: {one_line(problem)}") from problem
    if any(name.endswith("/constants.pkl") for name in names):
        return torchscript(path)
    if any(name.endswith(".npy") for name in names):
        raise ExportError(f"{path} is an archive of NumPy; a state dict of PyTorch is needed")
    if any("serialized_exported_program" in name or name.endswith("models/model.json") for name in names):
        raise ExportError(f"{path} is a program of torch.export; save module.state_dict() for the weights")
    if not any(name.endswith("data.pkl") for name in names):
        raise ExportError(f"{path} is a zip file, but not one of PyTorch: unpack it first")
    return pickled(path, trust)


class Script(dict):
    """The state dict of a TorchScript module."""


def torchscript(path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Script(torch.jit.load(str(path), map_location="cpu").state_dict())
    except Exception as problem:  # noqa: BLE001 - as many kinds as TorchScript has
        raise ExportError(f"{path} is TorchScript that this PyTorch does not read: {one_line(problem)}") from problem


def harmless():
    """The classes that may lie beside tensors; the functions that make numpy's numbers have a name in each version."""
    multiarray = (numpy._core if hasattr(numpy, "_core") else numpy.core).multiarray
    makers = [(getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
              for name in ("scalar", "_reconstruct") for core in ("core", "_core")]
    return [*HARMLESS, *makers]


def pickled(path, trust):
    """The content of a pickle, by PyTorch's reader of plain data; by Python's own only with `trust`."""
    try:
        # An open file, as torch.load would judge one by its name.
        with torch.serialization.safe_globals(harmless()), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        if not trust:
            classes = refused(path, str(problem))
            if classes:
                raise ExportError(f"{path} holds Python objects beside tensors ({classes}); reading them can run code: "
                                  f"{TRUST}") from problem
            raise ExportError(f"{path} is not a checkpoint that PyTorch reads as plain data: {TRUST}") from problem
    except Exception as problem:  # noqa: BLE001 - as many kinds as there are broken files
        raise ExportError(f"{path} is not a whole checkpoint of PyTorch: {one_line(problem)}") from problem
    try:
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=lenient)
    except Exception as problem:  # noqa: BLE001
        raise ExportError(f"{path}: {one_line(problem)}") from problem


def refused(path, message):
    """The names of the classes that PyTorch's reader refused."""
    try:
        with torch.serialization.safe_globals(harmless()), path.open("rb") as file:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # noqa: BLE001 - it does not read the format of old files
        names = []
    names = names or re.findall(r"(?:GLOBAL|global) ([\w.]+\.\w+)", message)
    names = sorted(set(names), key=lambda name: (name.startswith("torch."), name))
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def one_line(problem):
    """The first sentence of an error, without escape codes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).strip()
    return " ".join(text.splitlines()[0].split()) if text else type(problem).__name__


# -- pickles of any class ------------------------------------------------------------------------------------


class Placeholder:
    """Stands for an object whose class is not importable here, and keeps its attributes."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass

    def __call__(self, *_, **__):
        return self


class LenientUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (Placeholder,), {"__module__": module})


def load(file, **options):
    return LenientUnpickler(file, **options).load()


# The functions of `pickle` that torch.load uses, with classes that are not importable as placeholders.
lenient = types.SimpleNamespace(Unpickler=LenientUnpickler, load=load, UnpicklingError=pickle.UnpicklingError, __name__="pickle")
