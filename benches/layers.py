"""Turns a profile into a table of layers, each with its floor.

    fullconv profile --json … > profile.json
    python machine.py > machine.json
    python layers.py profile.json --machine machine.json [--markdown FILE --place NAME]

The floor of a layer is the larger of two times: its FLOPs at the machine's peak, and its bytes (each
input, weight and output once) at the machine's bandwidth. Prints the table, or writes it to FILE.
"""

import argparse
import json
from pathlib import Path

import machine
import markdown

HEADS = ["layer", "kernel", "output", "ms", "GFLOP", "MB"]
HEADS += ["GFLOP/s", "GB/s", "floor, ms", "× floor"]


def floor_ms(work: dict, peaks: dict) -> float:
    return max(work["flops"] / peaks["gflops"], work["bytes"] / peaks["gbs"]) / 1e6


def figures(work: dict, floor: float) -> list[str]:
    """The numeric columns."""
    ms, gflop, gigabytes = work["ms"], work["flops"] / 1e9, work["bytes"] / 1e9
    per_second = [f"{x / ms * 1e3:.1f}" if ms > 0 else "–" for x in (gflop, gigabytes)]
    times = f"{ms / floor:.1f}" if floor > 0 else "–"
    numbers = [f"{ms:.2f}", f"{gflop:.3f}", f"{gigabytes * 1e3:.2f}"]
    return [*numbers, *per_second, f"{floor:.3f}", times]


def layers_table(profile: dict, peaks: dict) -> str:
    rows, steps = [], profile["steps"]
    for step in steps:
        shape = "×".join(str(size) for size in step["shape"])
        floor = floor_ms(step, peaks)
        rows.append([step["name"], f"`{step['kernel']}`", shape, *figures(step, floor)])
    total = {key: sum(step[key] for step in steps) for key in ("ms", "flops", "bytes")}
    floor = sum(floor_ms(step, peaks) for step in steps)
    return markdown.table(HEADS, [*rows, ["**all**", "", "", *figures(total, floor)]], left=3)


def text(profile: dict, described: dict) -> str:
    peaks, (h, w) = described["peaks"], profile["size"]
    clock = "the device's timestamps" if profile["timer"] == "timestamps" else "the host's clock"
    return (
        f"{profile['device']}; {machine.describe(described)} {h}×{w} (height × width), batch "
        f"{profile['batch']}: median {profile['median_ms']:.1f} ms of {len(profile['run_ms'])} "
        f"runs, first {profile['first_ms']:.0f} ms, load {profile['load_ms']:.0f} ms, "
        f"{profile['peak_device_bytes'] / 1e6:.0f} MB of device memory. Layers by {clock}. "
        f"Floors at {peaks['gflops']:.0f} GFLOP/s and {peaks['gbs']:.1f} GB/s, "
        f"{peaks['source']}.\n\n{layers_table(profile, peaks)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path)
    parser.add_argument("--machine", type=Path, required=True, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--place", metavar="NAME")
    arguments = parser.parse_args()
    profile, described = (
        json.loads(path.read_text()) for path in (arguments.profile, arguments.machine)
    )
    written = text(profile, described)
    if arguments.markdown:
        markdown.replace(arguments.markdown, arguments.place or arguments.profile.stem, written)
    else:
        print(written)


if __name__ == "__main__":
    main()
