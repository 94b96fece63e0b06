#!/usr/bin/env python3
"""Times a folder through `fullconv segment`, `Segmenter.segment_folder` and examples/ray/segment.py with two actors.

    python tests/ray/throughput.py FULLCONV FOLDER [--device 0] [--pictures 48] [--rounds 3] [--markdown docs/bulk.md]

The three run by turns on one device, in each round; a ratio is the median over the rounds. The rate is counted after the
first tenth of the masks, so it leaves out the start. --markdown writes the table into a document.

Requirements: requirements.txt and fullconv's wheel.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))

import machine
import markdown

import processes

EXAMPLE = ROOT / "examples" / "ray" / "segment.py"
FOLDER = "import sys, fullconv; m, d, i, o = sys.argv[1:]; fullconv.Segmenter(m, device=d).segment_folder(i, o)"
PATIENCE = 600
NAMES = ["`fullconv segment FOLDER`", "`Segmenter.segment_folder`", "Ray, 1 actor", "Ray, 2 actors"]


def make(folder, count, width, height):
    """JPEGs of one size, parts of a photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    street = Image.open(ROOT / "assets" / "street.jpg").convert("RGB").resize((width + 64, height + 64))
    for i in range(count):
        x, y = i * 7 % 64, i * 11 % 64
        street.crop((x, y, x + width, y + height)).save(folder / f"{i:04}.jpg", quality=90)


def commands(args, given, output):
    example = [sys.executable, EXAMPLE, given, "-m", args.model, "-o", output, "--device", args.device, "--block", "8"]
    adapter = ["--backend", "cpu"] if args.device == "cpu" else ["--adapter", args.device]
    return [
        [args.fullconv, "segment", given, "-m", args.model, "-o", output, "--only", "mask", *adapter],
        [sys.executable, "-c", FOLDER, args.model, args.device, given, output],
        [*example, "--actors", "1"],
        [*example, "--actors", "2"],
    ]


def timed(command, output, count):
    """Seconds of the whole run, and masks a second after the first tenth."""
    shutil.rmtree(output, ignore_errors=True)
    begun = time.monotonic()
    log = output.with_suffix(".log")
    run = processes.Program(command, log)
    status = run.wait(PATIENCE)
    whole = time.monotonic() - begun
    written = sorted(path.stat().st_mtime for path in output.glob("*.mask.png"))
    assert status == 0 and len(written) == count, run.text()[-4000:]
    first = count // 10
    return whole, (count - 1 - first) / (written[-1] - written[first])


def table(results):
    """Ratios to the command line of each round, and the seconds that a start takes."""
    rows = []
    for name, runs in results.items():
        ratios = [rate / of for (_, rate), (_, of) in zip(runs, results[NAMES[0]], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rate = statistics.median(rate for _, rate in runs)
        whole = statistics.median(whole for whole, _ in runs)
        rows.append((name, f"{rate:.1f}", f"{statistics.median(ratios):.2f}", spread, f"{whole:.0f}"))
    return markdown.table(["", "pictures/s", "ratio", "its spread", "whole run, s"], rows, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fullconv", type=Path)
    parser.add_argument("folder", type=Path, help="a folder for everything that is written")
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo" / "demo.safetensors")
    parser.add_argument("--device", default="0")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--size", default="480x360", help="width x height")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    processes.adopt()
    # The program asks lavapipe for vectors of 512 bits where it can; here all have the same device.
    os.environ.setdefault("LP_NATIVE_VECTOR_WIDTH", "256")
    width, height = (int(side) for side in args.size.split("x"))
    given, output = (args.folder.resolve() / name for name in ("throughput", "results"))
    make(given, args.pictures, width, height)
    results = {name: [] for name in NAMES}
    loads = []
    try:
        timed(commands(args, given, output)[0], output, args.pictures)  # Fills the caches.
        for _ in range(args.rounds):
            for name, command in zip(NAMES, commands(args, given, output), strict=True):
                loads.append(os.getloadavg()[0])
                results[name].append(timed(command, output, args.pictures))
                print(name, results[name][-1], flush=True)
    finally:
        processes.end_all()
    about = machine.name(args.fullconv)
    text = f"{table(results)}\n\n"
    text += f"{args.pictures} JPEGs of {width}×{height} pixels, {args.model.name}, {args.rounds} rounds by turns. "
    text += f"{about['cpu']}, {about['cores']} cores, {about['adapter']}; "
    text += f"load average {min(loads):.1f} to {max(loads):.1f}."
    print(text)
    if args.markdown:
        markdown.replace(args.markdown, "ray", text)


if __name__ == "__main__":
    main()
