"""fullconv labels every pixel of an image on any GPU.

    import fullconv

    segmenter = fullconv.Segmenter("fcn8s.safetensors")
    mask = segmenter("street.jpg")
    mask.save("street.mask.png")

`export` and `from_torch` make model files of PyTorch modules; they need torch and safetensors.
"""

import atexit
from typing import Any

from ._fullconv import VERSION as __version__
from ._fullconv import close_all as _close_all
from .devices import Device, devices
from .errors import (
    DeviceError,
    DeviceLostError,
    Error,
    InternalError,
    LimitError,
    ModelError,
    NoAdapterError,
    NotFiniteError,
    PictureError,
    RequestError,
    ShapeError,
    UnsupportedError,
)
from .folders import FolderReport
from .masks import Mask
from .metrics import ConfusionMatrix
from .segmenter import Run, Segmenter

__all__ = [
    "ConfusionMatrix",
    "Device",
    "DeviceError",
    "DeviceLostError",
    "Error",
    "FolderReport",
    "InternalError",
    "LimitError",
    "Mask",
    "ModelError",
    "NoAdapterError",
    "NotFiniteError",
    "PictureError",
    "RequestError",
    "Run",
    "Segmenter",
    "ShapeError",
    "UnsupportedError",
    "__version__",
    "devices",
    "export",
    "from_torch",
]

atexit.register(_close_all)


def export(module: Any, path: Any, example: Any = (256, 320), **options: Any) -> None:
    """Writes a PyTorch module as a model file at `path`, after comparing the two.

    `example` is an input `[n, c, h, w]`, or the height and width of one with three channels. The options are those of
    `fullconv.exporter.export`: `classes`, `palette`, `preprocess` ("torchvision", "caffe" or a dict), `half`, `output`,
    `fixed_size`, `activation`, `threshold`, `values`.

    Raises `fullconv.exporter.ExportError`, and writes nothing, if an operation is unsupported or the file would compute
    something else than the module.
    """
    from .exporter import export as write

    write(module, _example(example), path, **options)


def from_torch(
    module: Any, *, example: Any = (256, 320), path: Any = None, options: dict[str, Any] | None = None, **settings: Any
) -> Segmenter:
    """A segmenter for a PyTorch module: exported, compared with the module, and opened.

    `example` and `options` are those of `export`, `settings` those of `Segmenter`. The model file is written to `path`;
    without one it stays in memory.
    """
    import tempfile
    from pathlib import Path

    if path is not None:
        export(module, path, example, **(options or {}))
        return Segmenter(path, **settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        export(module, file, example, **(options or {}))
        return Segmenter(file.read_bytes(), **settings)


def _example(example: Any) -> Any:
    """The example input that `export` is given."""
    if isinstance(example, tuple):
        import torch

        height, width = example
        return torch.zeros(1, 3, height, width)
    return example
