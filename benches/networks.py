"""Makes the networks for peers.py: model file, input, expected scores, and exports for other engines.

    python networks.py WHAT --model full|demo|resnet50 --size HxW [--batch N] --work DIR

WHAT is `files` (model, input and expected scores), `onnx` or `ncnn`. Existing files are kept.

- `full`: FCN-8s at full width, caffe geometry, with random weights.
- `resnet50`: torchvision's fcn_resnet50 with 21 classes, with random weights.
- `demo`: assets/demo/demo.safetensors. The longer side of a picture has to be 480: other sizes would
  be resized before the network.

Requires what requirements.txt lists.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "goldens"), str(ROOT / "tools")]

if TYPE_CHECKING:
    import torch

MODELS = ("full", "demo", "resnet50")
# The geometry of each model, as named in tests/goldens/full_width.py.
GEOMETRY = {"full": "caffe", "demo": "torchvision", "resnet50": "torchvision"}
DEMO_SIDE = 480


@dataclass(frozen=True)
class Case:
    """A network on a batch of pictures of one size; `work` holds the files."""

    model: str
    h: int
    w: int
    batch: int
    work: Path

    @property
    def folder(self) -> Path:
        batch = "" if self.batch == 1 else f"x{self.batch}"
        return self.work / self.model / f"{self.h}x{self.w}{batch}"

    @property
    def model_file(self) -> Path:
        if self.model == "demo":
            return ROOT / "assets" / "demo" / "demo.safetensors"
        return self.work / self.model / "model.safetensors"

    @property
    def input_file(self) -> Path:
        return self.folder / "input.safetensors"

    @property
    def expected_file(self) -> Path:
        return self.folder / "expected.safetensors"

    @property
    def onnx_file(self) -> Path:
        return self.folder / "onnx" / "model.onnx"

    @property
    def ncnn_files(self) -> tuple[Path, Path]:
        folder = self.folder / "ncnn"
        return folder / "model.ncnn.param", folder / "model.ncnn.bin"

    def arguments(self) -> list[str]:
        """The command-line arguments for `add_arguments`."""
        size = f"{self.h}x{self.w}"
        options = ["--model", self.model, "--size", size, "--batch", str(self.batch)]
        return [*options, "--work", str(self.work)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, default="full")
    parser.add_argument("--size", type=size, default=(500, 500), metavar="HxW")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")


def case_of(arguments: argparse.Namespace) -> Case:
    h, w = arguments.size
    return Case(arguments.model, h, w, arguments.batch, arguments.work.resolve())


def size(text: str) -> tuple[int, int]:
    h, w = text.split("x")
    return int(h), int(w)


def whole(path: Path, write: Callable[[Path], None]) -> None:
    """Has `write` make a file or folder unless it exists; never leaves a partial one."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    if partial.is_dir():
        rmtree(partial)
    write(partial)
    partial.rename(path)


def module(case: Case) -> "torch.nn.Module":
    """The PyTorch network in f32, built from the shapes in its file."""
    import family
    import fcn
    from safetensors.torch import load_file

    tensors = load_file(case.model_file)
    if case.model == "resnet50":
        network = family.build("fcn_resnet50")
        network.load_state_dict(tensors)
        return network
    if case.model == "demo":
        from demo_network import Demo

        network = Demo().eval()
        network.load_state_dict({name: t.float() for name, t in tensors.items()})
        return network
    channels = {name: t.shape[0] for name, t in tensors.items() if name.endswith(".weight")}
    widths = [channels[f"conv{stage}_1.weight"] for stage in range(1, 6)]
    fc, classes = channels["fc6.weight"], channels["score_fr.weight"]
    network = fcn.build("fcn8s", GEOMETRY[case.model], widths, fc, classes)
    network.load_state_dict({name: t.float() for name, t in tensors.items()})
    return network


def make_files(case: Case) -> None:
    """Writes the model file, the input, and the expected scores, computed in f64."""
    import torch
    from full_width import noise_picture
    from safetensors.torch import load_file, save_file

    if case.model == "demo" and max(case.h, case.w) != DEMO_SIDE:
        raise ValueError(f"the demo model is timed on pictures whose longer side is {DEMO_SIDE}")

    def write_input(path: Path) -> None:
        seeds, geometry = range(case.batch), GEOMETRY[case.model]
        pictures = [noise_picture(geometry, case.h, case.w, seed) for seed in seeds]
        save_file({"input": torch.cat(pictures)}, path)

    def write_expected(path: Path) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = module(case).double().to(device)
        pictures = load_file(case.input_file)["input"].split(1)
        scores = [network(picture.double().to(device)).cpu() for picture in pictures]
        save_file({"output": torch.cat(scores)}, path)

    whole(case.model_file, write_resnet50 if case.model == "resnet50" else write_model)
    whole(case.input_file, write_input)
    whole(case.expected_file, write_expected)


def write_model(path: Path) -> None:
    """Writes FCN-8s of full width with the random weights of full_width.py."""
    import fcn
    from safetensors.torch import save_file

    network = fcn.build("fcn8s", "caffe")
    fcn.initialize(network, seed=0, perturbation=0.01)
    save_file(network.state_dict(), path)


def write_resnet50(path: Path) -> None:
    import family
    from safetensors.torch import save_file

    network = family.build("fcn_resnet50")
    family.initialize(network, seed=0)
    save_file(network.state_dict(), path)


def export_onnx(case: Case) -> None:
    import torch
    from safetensors.torch import load_file

    def write(folder: Path) -> None:
        folder.mkdir()
        torch.onnx.export(
            module(case),
            (load_file(case.input_file)["input"],),
            folder / case.onnx_file.name,
            input_names=["input"],
            output_names=["output"],
            dynamo=True,
            external_data=True,
            verbose=False,
        )

    whole(case.onnx_file.parent, write)


def export_ncnn(case: Case) -> None:
    import pnnx
    import torch
    from safetensors.torch import load_file

    if case.batch > 1:
        raise ValueError("ncnn has no batches")

    def write(folder: Path) -> None:
        folder.mkdir()
        picture = load_file(case.input_file)["input"]
        torch.jit.trace(module(case), (picture,)).save(folder / "model.pt")
        shape = ",".join(str(size) for size in picture.shape)
        # fp16=0 keeps f32 weights: pnnx stores f16 by default.
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"pnnx ends with {done.returncode}: {done.stderr.strip()[-300:]}")
        kept = {path.name for path in case.ncnn_files}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()

    whole(case.ncnn_files[0].parent, write)


STEPS = {"files": make_files, "onnx": export_onnx, "ncnn": export_ncnn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=STEPS)
    add_arguments(parser)
    arguments = parser.parse_args()
    case = case_of(arguments)
    make_files(case)
    STEPS[arguments.what](case)


if __name__ == "__main__":
    main()
