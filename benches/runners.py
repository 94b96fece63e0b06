"""Runs a network with one peer, in its own process, for peers.py.

    python runners.py PEER --model full --size 500x500 --work DIR --runs N [--check]
                      [--fullconv PATH] [--budget SECONDS]

Prints one JSON object: `ms` of each run, `load_ms`, `version`, `device_ms` of the network alone if the
device has timestamps, and with --check the relative L2 `error` of the scores. If the peer cannot run,
the object holds only the reason, `trouble`.

A run is, for
- fullconv: pixels in host memory, preprocessing, network, labels in host memory (`fullconv
  profile`); its scores come from `fullconv run`.
- PyTorch with CUDA: input in host memory, network, argmax, labels in host memory.
- the others: input in host memory, network, scores in host memory.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from networks import Case, add_arguments, case_of, module

# Runs before the timed ones: some peers settle only after the second.
WARM_UP = 2


class Trouble(Exception):
    """Why a peer cannot run here."""


@dataclass
class Session:
    """A network ready to run."""

    version: str
    # Input in host memory to scores in host memory, [n, classes, h, w].
    scores: Callable[[], Any]
    # The timed call, if it is not `scores`.
    timed: Callable[[], object] | None = None
    # Milliseconds of one run of the network alone, by the device's clock.
    device_ms: Callable[[], float] | None = None


def package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Trouble(f"not installed ({error})") from error


def read_input(case: Case) -> Any:
    from safetensors.numpy import load_file

    return load_file(case.input_file)["input"]


def ncnn_session(case: Case, vulkan: bool) -> Session:
    ncnn, np = package("ncnn"), package("numpy")
    if vulkan and ncnn.get_gpu_count() == 0:
        raise Trouble("finds no Vulkan device")
    net = ncnn.Net()
    net.opt.use_vulkan_compute = vulkan
    # f32 throughout, like the others.
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, option, False)
    for load, path in zip((net.load_param, net.load_model), case.ncnn_files, strict=True):
        if load(str(path)) != 0:
            raise Trouble(f"cannot load {path.name}")
    picture = read_input(case)[0]

    def scores() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(picture))
        status, output = extractor.extract("out0")
        if status != 0:
            raise Trouble(f"ends with status {status}")
        return np.array(output)[None]

    return Session(ncnn.__version__, scores)


def onnxruntime_session(case: Case, provider: str) -> Session:
    ort = package("onnxruntime")
    if provider not in ort.get_available_providers():
        raise Trouble(f"this package has no {provider}")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Without fallback: the time has to be this provider's.
    session = ort.InferenceSession(
        case.onnx_file, options, providers=[provider], enable_fallback=False
    )
    if session.get_providers()[0] != provider:
        raise Trouble(f"{provider} is not used: {session.get_providers()}")
    picture = {"input": read_input(case)}
    return Session(ort.__version__, lambda: session.run(None, picture)[0])


@dataclass(frozen=True)
class Torch:
    """A way to run PyTorch."""

    device: str = "cuda"
    half: bool = False
    tf32: bool = False
    compiled: bool = False

    def __call__(self, case: Case) -> Session:
        torch = package("torch")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise Trouble("no CUDA device")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        network = module(case).to(self.device)
        layout = torch.contiguous_format
        if self.half:
            layout = torch.channels_last
            network = network.half().to(memory_format=layout)
        if self.compiled:
            network = torch.compile(network, mode="reduce-overhead")
        picture = torch.from_numpy(read_input(case))
        dtype = torch.float16 if self.half else torch.float32

        def forward() -> Any:
            return network(picture.to(self.device, dtype, memory_format=layout))

        session = Session(torch.__version__, lambda: forward().float().cpu().numpy())
        if self.device == "cuda":
            session.timed = lambda: forward().argmax(1).to(torch.uint8).cpu()
            ready = picture.to("cuda", dtype, memory_format=layout)
            session.device_ms = lambda: cuda_milliseconds(torch, lambda: network(ready))
        return session


def cuda_milliseconds(torch: ModuleType, run: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


SESSIONS: dict[str, Callable[[Case], Session]] = {
    "ncnn-vulkan": lambda case: ncnn_session(case, vulkan=True),
    "ncnn-cpu": lambda case: ncnn_session(case, vulkan=False),
    "onnxruntime-cpu": lambda case: onnxruntime_session(case, "CPUExecutionProvider"),
    "onnxruntime-webgpu": lambda case: onnxruntime_session(case, "WebGpuExecutionProvider"),
    "torch-cpu": Torch(device="cpu"),
    "torch-cuda-f32": Torch(),
    "torch-cuda-f32-compiled": Torch(compiled=True),
    "torch-cuda-tf32": Torch(tf32=True),
    "torch-cuda-f16": Torch(half=True),
    "torch-cuda-f16-compiled": Torch(half=True, compiled=True),
}

# The options of the fullconv binary for each of its rows.
FULLCONV: dict[str, list[str]] = {
    "fullconv": [],
    "fullconv-tuned": ["--tune"],
    "fullconv-f16": ["--precision", "f16"],
}


def milliseconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return (time.perf_counter() - begin) * 1e3


def measure(load: Callable[[Case], Session], case: Case, options: argparse.Namespace) -> dict:
    """Runs a session: warm-up, then `runs` times or until the budget is spent."""
    begin = time.perf_counter()
    session = load(case)
    result: dict = {
        "version": session.version,
        "load_ms": (time.perf_counter() - begin) * 1e3,
    }
    deadline = time.perf_counter() + options.budget
    timed = session.timed or session.scores
    if options.check:
        result["error"] = relative_error(case, session.scores())
    for _ in range(WARM_UP - options.check):
        timed()
    result["ms"] = []
    while not result["ms"] or (len(result["ms"]) < options.runs and time.perf_counter() < deadline):
        result["ms"].append(milliseconds(timed))
    if session.device_ms:
        session.device_ms()
        result["device_ms"] = [session.device_ms() for _ in result["ms"]]
    return result


def measure_fullconv(case: Case, options: argparse.Namespace, extra: list[str]) -> dict:
    binary = options.fullconv
    if extra and extra[0] not in fullconv(binary, "profile", "--help"):
        raise Trouble(f"this fullconv has no {extra[0]}")
    model = ["-m", str(case.model_file), *extra]
    shape = ["--size", f"{case.h}x{case.w}", "--batch", str(case.batch)]
    # `--runs` excludes the first run.
    runs = ["--runs", str(options.runs + WARM_UP - 1)]
    profile = json.loads(fullconv(binary, "profile", "--json", *shape, *runs, *model))
    result = {
        "version": fullconv(binary, "--version").split()[-1],
        "load_ms": profile["load_ms"],
        "ms": profile["run_ms"][WARM_UP - 1 :],
    }
    if profile["timer"] == "timestamps":
        result["device_ms"] = [sum(step["ms"] for step in profile["steps"])]
    if options.check:
        result["error"] = relative_error(case, fullconv_scores(case, binary, model))
    return result


def fullconv_scores(case: Case, binary: str, model: list[str]) -> Any:
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        output = Path(folder) / "output.safetensors"
        files = ["--input", str(case.input_file), "--output", str(output)]
        fullconv(binary, "run", *files, *model)
        return load_file(output)["output"]


def fullconv(binary: str, *arguments: str) -> str:
    """The stdout of the binary."""
    try:
        done = subprocess.run([binary, *arguments], capture_output=True, text=True)
    except OSError as error:
        raise Trouble(f"{binary} does not run: {error.strerror}") from error
    if done.returncode != 0:
        raise Trouble((done.stderr.strip().splitlines() or ["fails"])[-1])
    return done.stdout


def relative_error(case: Case, scores: Any) -> float:
    """The relative L2 error of all scores; infinite if the shapes differ."""
    import numpy as np
    from safetensors.numpy import load_file

    expected = load_file(case.expected_file)["output"]
    if scores.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(scores - expected) / np.linalg.norm(expected))


def run(options: argparse.Namespace) -> dict:
    case = case_of(options)
    try:
        if options.peer in FULLCONV:
            return measure_fullconv(case, options, FULLCONV[options.peer])
        return measure(SESSIONS[options.peer], case, options)
    except Trouble as trouble:
        return {"trouble": str(trouble)}
    except Exception as error:
        # Any exception of a peer's library becomes a row of the table.
        lines = str(error).strip().splitlines() or [""]
        return {"trouble": f"{type(error).__name__}: {lines[0]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=[*FULLCONV, *SESSIONS])
    add_arguments(parser)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--fullconv", default="fullconv", metavar="PATH")
    options = parser.parse_args()
    # Libraries' output goes to stderr: stdout holds only the result.
    stdout = os.dup(1)
    os.dup2(2, 1)
    result = run(options)
    sys.stdout.flush()
    os.write(stdout, json.dumps(result).encode())


if __name__ == "__main__":
    main()
