"""The demo model of fullconv, for street scenes, in f16: CC BY-NC 4.0, research and personal use only."""

from pathlib import Path

PATH = str(Path(__file__).with_name("demo.safetensors"))
"""The path of the model file, 8 MB."""
