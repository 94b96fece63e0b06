"""Times a whole `fullconv segment`, compared with reading the model file and one inference.

    python start.py --fullconv PROGRAM --model FILE [--runs 3] [--machine FILE] [--markdown FILE --place NAME]

The file is in the page cache, as on a second run. Prints a paragraph, or writes it into FILE.
"""

import argparse
import json
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import machine
import markdown

PICTURE = Path(__file__).resolve().parent.parent / "assets" / "chelsea.png"
CHUNK = 1 << 22


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def read(path: Path) -> None:
    buffer = bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def size_of_png(path: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fullconv", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--machine", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--place")
    arguments = parser.parse_args()
    h, w = size_of_png(PICTURE)
    with tempfile.TemporaryDirectory() as folder:
        command = [arguments.fullconv, "segment", PICTURE, "-m", arguments.model, "-o", folder]

        def segment() -> None:
            subprocess.run([str(c) for c in command], check=True, capture_output=True)

        def median(work) -> float:
            work()
            return statistics.median(seconds(work) for _ in range(arguments.runs))

        reading = median(lambda: read(arguments.model))
        whole = median(segment)
    command = [arguments.fullconv, "profile", "-m", arguments.model, "--size", f"{h}x{w}", "--json"]
    command += ["--runs", arguments.runs]
    done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    inference = json.loads(done.stdout)["median_ms"] / 1e3
    goal = 1.5 * reading + inference
    described = machine.describe(json.loads(arguments.machine.read_text())) if arguments.machine else ""
    text = (
        f"{described} A file of {arguments.model.stat().st_size / 1e6:.0f} MB, a picture of {h}×{w}: "
        f"{whole:.2f} s from the program's start to its end, mask and overlay written. Reading the file takes "
        f"{reading:.2f} s, one inference {inference:.2f} s. The goal, 1.5 × reading + inference, is {goal:.2f} s; "
        f"the program takes {whole / goal:.2f} × as long. Medians of {arguments.runs} runs."
    ).strip()
    if arguments.markdown:
        markdown.replace(arguments.markdown, arguments.place, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
