"""Writes PyTorch modules and ONNX files as model files of fullconv. It needs torch and safetensors; ONNX files need onnx.

The modules here translate a program of ATen operations into a graph of fullconv.
"""

from .values import ExportError
from .write import export

__all__ = ["ExportError", "export"]
