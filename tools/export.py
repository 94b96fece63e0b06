#!/usr/bin/env python3
"""Write a PyTorch module or an ONNX file as a model file of fullconv: `fullconv-export` without an installed package.

    python tools/export.py MODULE:CALLABLE|FILE.onnx OUT.safetensors [OPTION ...]

or, from Python:

    from export import export
    export(module, torch.randn(1, 3, 480, 640), "net.safetensors", classes=[...], preprocess="torchvision")

`python tools/export.py --help` and python/python/fullconv/exporter/cli.py say more.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from exporter.cli import main  # noqa: E402
from exporter.values import ExportError  # noqa: E402
from exporter.write import export  # noqa: E402

__all__ = ["ExportError", "export", "main"]

if __name__ == "__main__":
    sys.exit(main())
