"""The package `fullconv.exporter`, for the tools here: without the rest of fullconv, which would have to be built."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[1] / "python/python/fullconv/exporter")]
