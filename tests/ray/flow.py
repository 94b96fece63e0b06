#!/usr/bin/env python3
"""Runs examples/ray/segment.py with actors and drivers that are killed, and compares its masks with the command line's.

    python tests/ray/flow.py FULLCONV FOLDER [--device 0]

60 pictures of 7 sizes, one broken, are labelled by two actors. Expected of every run: 60 distinct rows, equal to those of
FULLCONV segment, and 59 masks, equal byte for byte. Every step is bounded in time: Ray fails by hanging. Only processes
that the test started are ended.

Requirements: requirements.txt and fullconv's wheel.
"""

import argparse
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset

import pictures
import processes
from processes import Program, wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "ray" / "segment.py"
MODEL, OTHER_MODEL = (ROOT / "tests" / "goldens" / f"fcn8s-{kind}.safetensors" for kind in ("same", "caffe"))
ACTOR = "ray::MapWorker(MapBatches(Label)"
# Seconds that a run may take on a busy machine.
PATIENCE = 240


class Flow:
    def __init__(self, fullconv, folder, device):
        self.fullconv, self.folder, self.device = fullconv, folder, device
        self.given = folder / "pictures"
        self.paths = [str(path) for path in pictures.make(self.given)]
        self.runs = 0

    def start(self, output, *more, model=MODEL):
        """A run of the example with two actors, in small steps."""
        self.runs += 1
        command = [sys.executable, EXAMPLE, self.given, "--recursive", "-m", model, "-o", output, "--device", self.device]
        command += ["--actors", "2", "--batch", "2", "--block", "4", *more]
        return Program(command, self.folder / f"run-{self.runs}.log")

    def command_line(self):
        """The masks of `fullconv segment`, by name. The lines of its manifest are kept, by picture."""
        output, manifest = self.folder / "command-line", self.folder / "command-line.jsonl"
        command = [self.fullconv, "segment", self.given, "--recursive", "-m", MODEL, "-o", output, "--only", "mask"]
        command += ["--manifest", manifest]
        command += ["--backend", "cpu"] if self.device == "cpu" else ["--adapter", self.device]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and "broken.png" in done.stderr, done
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        self.lines = {line["input"]: line for line in lines}
        return {path.name: path.read_bytes() for path in output.iterdir()}

    def check(self, output, masks):
        """A finished run: its rows and its masks."""
        rows = pyarrow.dataset.dataset(str(output / "manifest")).to_table().to_pylist()
        assert sorted(row["path"] for row in rows) == self.paths, sorted(row["path"] for row in rows)
        failed = [row for row in rows if row["error"]]
        assert [row["path"] for row in failed] == [str(self.given / pictures.BROKEN)], failed
        assert failed[0]["mask"] is None and failed[0]["width"] is None
        for row in rows:
            if row not in failed:
                mask = Path(row["mask"])
                assert mask.parent == output and mask.read_bytes() == masks[mask.name], row
                line = self.lines[row["path"]]
                assert all(row[key] == line[key] for key in ("width", "height", "classes")), (row, line)
        turned = next(row for row in rows if row["path"].endswith(pictures.TURNED))
        height, width = pictures.SIZES[(len(pictures.ODD) + len(pictures.CLASHING)) % len(pictures.SIZES)]
        assert (turned["width"], turned["height"]) == (height, width), turned
        found = {path.name: path.read_bytes() for path in masks_of(output)}
        assert found == masks, set(found) ^ set(masks)

    def actors(self, driver):
        return {pid for pid, title in processes.below(driver.pid).items() if title.startswith(ACTOR)}

    def an_actor_is_killed(self, masks):
        output = self.folder / "actor-killed"
        run = self.start(output)
        seen, killed = set(), None
        end = time.monotonic() + PATIENCE
        while not run.ended():
            assert time.monotonic() < end, run.text()[-4000:]
            seen |= self.actors(run)
            written = len(masks_of(output))
            if killed is None and written >= 8 and len(seen) >= 2:
                killed = min(self.actors(run))
                os.kill(killed, signal.SIGKILL)
                print(f"  actor {killed} was killed when {written} masks were there", flush=True)
            time.sleep(0.02)
        assert killed is not None, f"the run ended before an actor could be killed: {run.text()[-4000:]}"
        assert run.wait(1) == 1, run.text()[-4000:]
        assert len(seen) >= 3, f"no actor took the place of the killed one: {seen}"
        self.check(output, masks)

    def the_driver_is_killed(self, masks):
        output = self.folder / "driver-killed"
        run = self.start(output)
        # Some blocks are done then, some under way, some not begun.
        wait_until(lambda: run.ended() or (len(masks_of(output)) >= 25 and done_rows(output)), PATIENCE, "25 masks")
        assert not run.ended(), run.text()[-4000:]
        run.kill()
        # What the run left ends by itself, or is ended.
        for _ in range(500):
            processes.reap()
            if not processes.below(os.getpid()):
                break
            time.sleep(0.02)
        print(f"  {len(processes.end_all())} processes of the killed run were ended", flush=True)
        before = done_rows(output)
        print(f"  the driver was killed: {len(masks_of(output))} masks, {len(before)} rows", flush=True)
        assert 0 < len(before) < pictures.COUNT, before
        written = {path: (output / path).stat().st_mtime_ns for path in before.values() if path}
        run = self.start(output)
        assert run.wait(PATIENCE) == 1, run.text()[-4000:]
        self.check(output, masks)
        again = [path for path, at in written.items() if (output / path).stat().st_mtime_ns != at]
        assert not again, f"{again} had a row and were computed again"

    def two_runs_at_once_are_refused(self, _):
        output = self.folder / "driver-killed"
        with (output / "run.json").open("a") as held:
            # As a run does it.
            fcntl.flock(held, fcntl.LOCK_EX)
            run = self.start(output)
            assert run.wait(PATIENCE) == 2 and "another run writes to" in run.text(), run.text()

    def nothing_is_left_to_do(self, masks):
        output = self.folder / "driver-killed"
        files = sorted((output / "manifest").iterdir())
        run = self.start(output)
        assert run.wait(PATIENCE) == 1, run.text()[-4000:]
        assert sorted((output / "manifest").iterdir()) == files
        self.check(output, masks)

    def what_cannot_be_done_is_said_in_a_line(self):
        output, no_place = self.folder / "driver-killed", self.folder / "no-place"
        (no_place / "001.mask.png").mkdir(parents=True)
        refusals = [
            (self.start(output, model=OTHER_MODEL), "made with another model"),
            (self.start(self.folder / "no-device", "--device", "no such device"), "no such device"),
            (self.start(no_place), "001.mask.png"),
            (self.start(self.folder / "no-actors", "--actors", "0"), "--actors"),
            (self.start(self.folder / "no-model", model=self.folder / "nothing"), "nothing"),
        ]
        for run, said in refusals:
            assert run.wait(PATIENCE) == 2, run.text()[-4000:]
            last = run.text().splitlines()[-1]
            assert said in last, f"{last!r} does not say {said!r}"
        assert not (self.folder / "no-actors").exists() and not (self.folder / "no-model").exists()
        clashing = self.folder / "clashing"
        for name in ("a_b/c.png", "a/b/c.png"):
            (clashing / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.given / "000.png", clashing / name)
        command = [sys.executable, EXAMPLE, clashing, "--recursive", "-m", MODEL, "-o", self.folder / "clash"]
        run = Program([*command, "--device", self.device], self.folder / "clash.log")
        assert run.wait(PATIENCE) == 2 and "would have the same mask" in run.text(), run.text()

    def a_gpu_is_held_by_one_process(self):
        """The rule of the resource "vulkan", on made up devices: the machine may have no GPU."""
        locks = self.folder / "locks"
        locks.mkdir()
        context = multiprocessing.get_context("spawn")
        first, second, third = (context.Process(target=hold, args=(str(locks),)) for _ in range(3))
        try:
            held = [told(process, locks) for process in (first, second, third)]
            assert held[:2] == ["1", "3"] and "no GPU that no actor holds" in held[2], held
            # A killed process gives its GPU back.
            first.kill()
            first.join(20)
            assert told(context.Process(target=hold, args=(str(locks),)), locks) == "1"
        finally:
            processes.end_all()


def told(process, locks):
    """What a process that is started says of the GPU it holds."""
    process.start()
    answer = locks / str(process.pid)
    wait_until(answer.exists, 60, "a process that holds a GPU")
    return answer.read_text()


def hold(folder):
    """Holds a GPU of four devices, of which the first is a CPU and two are one GPU under two drivers."""
    sys.path.insert(0, str(EXAMPLE.parent))
    import segment
    from fullconv import Device

    def device(index, kind, address):
        return Device(index, f"made up {index}", "vulkan", kind, "", address, None)

    gpu, one, other = "discrete GPU", "0000:01:00.0", "0000:02:00.0"
    devices = [device(0, "CPU", None), device(1, gpu, one), device(2, gpu, one), device(3, gpu, other)]
    segment.node = lambda: "here"
    try:
        found, lock = segment.held_device(devices, folder)
    except segment.Refused as refusal:
        found = str(refusal)
    place = Path(folder, str(os.getpid()))
    place.with_suffix(".new").write_text(found)
    os.replace(place.with_suffix(".new"), place)
    time.sleep(120)


def masks_of(output):
    return [path for path in output.glob("*.mask.png") if not path.name.startswith(".")]


def done_rows(output):
    """The masks of committed rows by picture, None for one that failed."""
    unfinished = tuple(path.name.removesuffix(".pending.parquet") for path in output.glob("checkpoint/*.pending.parquet"))
    rows = {}
    for path in output.glob("manifest/*.parquet"):
        if not (unfinished and path.name.startswith(unfinished)):
            try:
                found = pyarrow.dataset.dataset(str(path)).to_table(columns=["path", "mask"]).to_pylist()
            except (OSError, pyarrow.ArrowInvalid):
                continue  # It is written just now.
            rows |= {row["path"]: row["mask"] and Path(row["mask"]).name for row in found}
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fullconv", type=Path)
    parser.add_argument("folder", type=Path, help="an empty or missing folder for everything that is written")
    parser.add_argument("--device", default="0", help='the device of both programs, or "cpu" [default: 0]')
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    processes.adopt()
    flow = Flow(args.fullconv.resolve(), args.folder.resolve(), args.device)
    try:
        print("the command line", flush=True)
        masks = flow.command_line()
        assert len(masks) == pictures.COUNT - 1, sorted(masks)
        steps = [flow.an_actor_is_killed, flow.the_driver_is_killed, flow.two_runs_at_once_are_refused]
        for step in (*steps, flow.nothing_is_left_to_do):
            begun = time.monotonic()
            print(step.__name__.replace("_", " "), flush=True)
            step(masks)
            print(f"  right, {time.monotonic() - begun:.0f} s", flush=True)
        for step in (flow.what_cannot_be_done_is_said_in_a_line, flow.a_gpu_is_held_by_one_process):
            print(step.__name__.replace("_", " "), flush=True)
            step()
    finally:
        processes.end_all()
    print("Ray: all passed")


if __name__ == "__main__":
    main()
