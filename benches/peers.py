"""Times fullconv and its alternatives: the same network, on one machine, in one session.

    pip install -r requirements.txt
    pip install --no-deps --target DIR -r requirements-webgpu.txt
    python peers.py --fullconv ../target/release/fullconv --work WORK [--webgpu DIR]
                    [--model full|demo|resnet50] [--sizes 500x500,96x96] [--batches 1] [--only PEER,…]
                    [--rounds 3] [--runs 5] [--markdown FILE] [--json FILE] [--date DATE]

Sizes are height × width. Each peer runs in its own process, one after the other, in several rounds:
the machine's noise affects all alike. Each process warms up first. The time is the median of all runs
of all rounds. Outputs are compared with PyTorch's in f64. The row of a peer that cannot run says why.
runners.py defines a run. WORK keeps model files and exports (some GB).

--markdown writes the tables into FILE, between `<!-- begin peers-MODEL -->` and
`<!-- end peers-MODEL -->`.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import machine
import markdown
from networks import MODELS, Case, size

HERE = Path(__file__).resolve().parent
# The timeout of a process.
PATIENCE_S = 1800
WIDE = {"LP_NATIVE_VECTOR_WIDTH": "512"}


@dataclass(frozen=True)
class Peer:
    """A row of the table."""

    name: str
    title: str
    runner: str
    # The files to make with networks.py.
    export: str = "files"
    # The bound on the relative error of the scores.
    bound: float = 1e-5
    environment: dict[str, str] = field(default_factory=dict)
    # Whether the peer runs only on Mesa's lavapipe.
    lavapipe: bool = False


REDUCED = 2e-3

PEERS = (
    Peer("fullconv", "**fullconv**", "fullconv"),
    Peer("fullconv-tuned", "fullconv, tuned", "fullconv-tuned"),
    Peer("fullconv-f16", "fullconv, f16", "fullconv-f16", bound=REDUCED),
    Peer("fullconv-512", "fullconv, 512-bit lavapipe", "fullconv", environment=WIDE, lavapipe=True),
    Peer("ncnn-vulkan", "ncnn, Vulkan", "ncnn-vulkan", "ncnn"),
    Peer(
        "ncnn-vulkan-512",
        "ncnn, Vulkan, 512-bit lavapipe",
        "ncnn-vulkan",
        "ncnn",
        environment=WIDE,
        lavapipe=True,
    ),
    Peer("ncnn-cpu", "ncnn, CPU", "ncnn-cpu", "ncnn"),
    Peer("onnxruntime-cpu", "ONNX Runtime, CPU", "onnxruntime-cpu", "onnx"),
    Peer("onnxruntime-webgpu", "ONNX Runtime, WebGPU", "onnxruntime-webgpu", "onnx"),
    Peer("torch-cpu", "PyTorch, CPU", "torch-cpu"),
    Peer("torch-cuda-f32", "PyTorch, CUDA, strict f32", "torch-cuda-f32"),
    Peer("torch-cuda-f32-compiled", "PyTorch, CUDA, f32 compiled", "torch-cuda-f32-compiled"),
    Peer("torch-cuda-tf32", "PyTorch, CUDA, TF32", "torch-cuda-tf32", bound=REDUCED),
    Peer("torch-cuda-f16", "PyTorch, CUDA, f16 channels_last", "torch-cuda-f16", bound=REDUCED),
    Peer(
        "torch-cuda-f16-compiled",
        "PyTorch, CUDA, f16 channels_last compiled",
        "torch-cuda-f16-compiled",
        bound=REDUCED,
    ),
)


@dataclass
class Row:
    """A peer's results over all rounds."""

    peer: Peer
    ms: list[float] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)
    load_ms: list[float] = field(default_factory=list)
    error: float | None = None
    version: str = ""
    trouble: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.ms) if self.ms and not self.trouble else None

    def add(self, result: dict) -> None:
        self.trouble = brief(result.get("trouble", ""))
        self.version = result.get("version", self.version)
        self.error = result.get("error", self.error)
        self.ms += result.get("ms", [])
        self.device_ms += result.get("device_ms", [])
        if "load_ms" in result:
            self.load_ms.append(result["load_ms"])

    def remark(self) -> str:
        if self.trouble:
            return self.trouble
        # `not <=`, as a NaN is wrong too.
        if self.error is not None and not self.error <= self.peer.bound:
            return f"**wrong**: the error is above {self.peer.bound:g}"
        return ""

    def summary(self) -> dict:
        values = {"ms": self.ms, "device_ms": self.device_ms, "load_ms": self.load_ms}
        return {
            "median_ms": self.median,
            **values,
            "error": self.error,
            "version": self.version,
            "remark": self.remark(),
        }


def brief(reason: str) -> str:
    """Shortens a long reason to its beginning (the failure) and end (the cause)."""
    reason = " ".join(reason.split())
    return reason if len(reason) <= 200 else f"{reason[:70]} … {reason[-120:]}"


def child(script: str, arguments: list[str], environment: dict[str, str]) -> str:
    """The stdout of another script of this folder; RuntimeError with its last line if it fails."""
    command = [sys.executable, str(HERE / script), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"takes longer than {PATIENCE_S} s") from error
    if done.returncode < 0:
        raise RuntimeError(f"is killed by signal {-done.returncode}")
    if done.returncode > 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["fails"])[-1])
    return done.stdout


def run_peer(peer: Peer, case: Case, options: argparse.Namespace, first: bool) -> dict:
    """One round of one peer; a failure is returned as `trouble`."""
    environment = dict(peer.environment)
    if peer.name == "onnxruntime-webgpu":
        if not options.webgpu:
            return {"trouble": "no folder with onnxruntime-webgpu given (--webgpu)"}
        environment["PYTHONPATH"] = str(options.webgpu.resolve())
    arguments = [peer.runner, *case.arguments(), "--runs", str(options.runs)]
    arguments += ["--budget", str(options.budget), "--fullconv", options.fullconv]
    try:
        if first:
            child("networks.py", [peer.export, *case.arguments()], {})
            arguments.append("--check")
        return json.loads(child("runners.py", arguments, environment))
    except (RuntimeError, ValueError) as error:
        return {"trouble": str(error)}


def run_case(case: Case, peers: list[Peer], options: argparse.Namespace) -> list[Row]:
    rows = [Row(peer) for peer in peers]
    for number in range(1, options.rounds + 1):
        for row in rows:
            if row.trouble:
                continue
            row.add(run_peer(row.peer, case, options, number == 1))
            seen = row.trouble or f"{row.median:.1f} ms, error {row.error:.1e}"
            where = f"{case.model} {case.h}x{case.w} batch {case.batch}, round {number}"
            print(f"{where}: {row.peer.name}: {seen}", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    own = next((row.median for row in rows if row.peer.name == "fullconv"), None)
    lines = []
    for row in rows:
        figures = ["–"] * 5
        if row.median is not None:
            ratio = f"{row.median / own:.2f}" if own else "–"
            device = f"{statistics.median(row.device_ms):.1f}" if row.device_ms else "–"
            figures = [f"{row.median:.1f}", ratio, f"{min(row.ms):.1f}", device]
            figures.append("–" if row.error is None else f"{row.error:.1e}")
        title = f"{row.peer.title} {row.version}".strip()
        lines.append([title, row.remark().replace("|", "\\|"), *figures])
    heads = ["", "remark", "ms", "÷ fullconv", "best ms", "device ms", "error"]
    return markdown.table(heads, lines, left=2)


def text(cases: list[tuple[Case, list[Row]]], described: dict, options: argparse.Namespace) -> str:
    rounds = f"Rounds: {options.rounds}, with up to {options.runs} runs each."
    parts = [f"{options.date}; {machine.describe(described)} {rounds}"]
    for case, rows in cases:
        parts.append(f"**{case.h}×{case.w}, batch {case.batch}**")
        parts.append(table(rows))
    return "\n\n".join(parts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fullconv", default="fullconv", metavar="PATH")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--webgpu", type=Path, metavar="DIR")
    parser.add_argument("--model", choices=MODELS, default="full")
    parser.add_argument("--sizes", metavar="HxW,…")
    parser.add_argument("--batches", default="1", metavar="N,…")
    parser.add_argument("--only", metavar="PEER,…", help=", ".join(peer.name for peer in PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="runs in a round, at most")
    parser.add_argument(
        "--budget",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time limit of a peer's runs in a round, warm-up included",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    options = parser.parse_args()
    only = options.only.split(",") if options.only else []
    unknown = set(only) - {peer.name for peer in PEERS}
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    options.only = only
    sizes = options.sizes or ("500x500,96x96" if options.model == "full" else "360x480")
    options.sizes = [size(text) for text in sizes.split(",")]
    options.batches = [int(text) for text in options.batches.split(",")]
    return options


def chosen(options: argparse.Namespace, adapter: str) -> list[Peer]:
    if options.only:
        return [peer for peer in PEERS if peer.name in options.only]
    return [peer for peer in PEERS if "llvmpipe" in adapter or not peer.lavapipe]


def main() -> None:
    options = parse()
    described = machine.name(options.fullconv)
    peers = chosen(options, described["adapter"])
    cases = [
        Case(options.model, h, w, batch, options.work.resolve())
        for h, w in options.sizes
        for batch in options.batches
    ]
    seen = [(case, run_case(case, peers, options)) for case in cases]
    written = text(seen, described, options)
    print(written)
    if options.json:
        found = [
            {
                "model": case.model,
                "size": [case.h, case.w],
                "batch": case.batch,
                "peers": {row.peer.name: row.summary() for row in rows},
            }
            for case, rows in seen
        ]
        options.json.write_text(
            json.dumps({"date": options.date, **described, "cases": found}, indent=2) + "\n"
        )
    if options.markdown:
        markdown.replace(options.markdown, f"peers-{options.model}", written)


if __name__ == "__main__":
    main()
