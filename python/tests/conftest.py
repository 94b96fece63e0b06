"""What the tests share. They run on the first adapter, which may be a CPU behind a Vulkan driver."""

import contextlib
import os
from pathlib import Path

import pytest

import fullconv

with contextlib.suppress(ImportError):
    import torch  # noqa: F401 - before a driver, as fullconv.engines says

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests/goldens/fcn8s-same.safetensors"
STREET = ROOT / "assets/street.jpg"


@pytest.fixture(scope="session")
def small():
    """A small network with random weights."""
    return fullconv.Segmenter(SMALL, device=0, cache=False)


@pytest.fixture(scope="session")
def demo():
    return fullconv.Segmenter.demo(device=0, cache=False)


@pytest.fixture(scope="session")
def program():
    """The command line."""
    path = os.environ.get("FULLCONV")
    if path is None:
        pytest.fail("FULLCONV is the path of the program to compare with; tests/python.sh sets it")
    return path
