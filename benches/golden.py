"""Extracts one case of the goldens, for `fullconv run` and check_run.py.

    python golden.py --output DIR [--name fcn8s-caffe] [--input 97x61]

Writes DIR/input.safetensors and DIR/expected.safetensors; the model is
tests/goldens/NAME.safetensors.

Requires safetensors and numpy.
"""

import argparse
from pathlib import Path

from safetensors.numpy import load_file, save_file

GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "goldens"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", default="fcn8s-caffe")
    parser.add_argument("--input", default="97x61", metavar="HxW")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    tensors = load_file(GOLDENS / "models.safetensors")
    case = f"{arguments.name}/{arguments.input}"
    for file, name in [("input", "input"), ("expected", "output")]:
        path = arguments.output / f"{file}.safetensors"
        save_file({name: tensors[f"{case}/{name}"]}, path)


if __name__ == "__main__":
    main()
