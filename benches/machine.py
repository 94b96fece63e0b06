"""Describes the machine and measures its peak arithmetic and bandwidth.

    python machine.py [--fullconv PATH] [--peak-gflops X --peak-gbs Y]

Prints one JSON object: `cpu`, `cores`, `adapter`, `driver`, `load_average`, and the `peaks` for
floors: `gflops` of a large f32 matrix product and `gbs` of a large copy, both by PyTorch on the
device that fullconv uses, GPU or CPU. Other load on the machine makes the peaks too small; the
options replace them.

Requires torch.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# Side of the matrices, bytes of the copy, and the number of tries.
SIDE, COPY, TRIES = 4096, 1 << 28, 20


# A load average above this share of the cores invalidates the figures.
BUSY = 0.25


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def adapter(binary: str) -> dict:
    """The default adapter of `fullconv devices`; empty if there is none."""
    try:
        done = subprocess.run([binary, "devices", "--json"], capture_output=True, text=True)
        devices = json.loads(done.stdout)
        return devices["adapters"][devices["default"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def name(binary: str) -> dict:
    """The machine's description for tables."""
    device = adapter(binary)
    return {
        "cpu": cpu(),
        "cores": cores(),
        "adapter": device.get("name", "none"),
        "driver": device.get("driver", "none"),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else (),
    }


def describe(machine: dict) -> str:
    """The machine and its load average in words."""
    load = machine["load_average"]
    words = (
        f"{machine['cores']} cores of {machine['cpu']}; {machine['adapter']}, "
        f"driver {machine['driver']}."
    )
    if load:
        words += f" Load average before: {', '.join(f'{x:.1f}' for x in load)}."
        if load[0] > BUSY * machine["cores"]:
            words += " **The machine did other work: neither times nor ratios hold.**"
    return words


def peaks(on_gpu: bool) -> dict:
    """GFLOP/s of a matrix product in f32 and GB/s of a copy, the best of `TRIES`."""
    import torch

    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.rand(SIDE, SIDE, device=device) for _ in range(2))
    source = torch.rand(COPY // 4, device=device)
    target = torch.empty_like(source)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return {
        "source": f"measured on the {'GPU' if device == 'cuda' else 'CPU'}",
        "gflops": 2 * SIDE**3 / best(lambda: torch.mm(a, b), wait) / 1e9,
        # Each byte is read once and written once.
        "gbs": 2 * COPY / best(lambda: target.copy_(source), wait) / 1e9,
    }


def best(run: Callable[[], object], wait: Callable[[], None]) -> float:
    times = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fullconv", default="fullconv", metavar="PATH")
    parser.add_argument("--peak-gflops", type=float, metavar="X")
    parser.add_argument("--peak-gbs", type=float, metavar="Y")
    options = parser.parse_args()
    if options.peak_gflops and options.peak_gbs:
        known = {"source": "given", "gflops": options.peak_gflops, "gbs": options.peak_gbs}
    else:
        known = peaks("GPU" in adapter(options.fullconv).get("type", ""))
    print(json.dumps({**name(options.fullconv), "peaks": known}, indent=2))


if __name__ == "__main__":
    main()
