"""Processes of a test: found by their parents, bounded in time, ended with all that they started. Linux only."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


def adopt():
    """Processes whose parent ends become this process's children, so that none is lost."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def below(pid):
    """The processes that `pid` started, and theirs: {pid: its title}."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of the program, in brackets, may have spaces.
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state not in "ZX":
                parents[int(entry.name)] = int(parent)
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue  # It ended meanwhile.
    found, last = set(), {pid}
    while last:
        last = {child for child, parent in parents.items() if parent in last} - found
        found |= last
    return {child: titles[child] for child in found}


def wait_until(condition, seconds, what):
    """Waits until `condition` gives something true, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def reap():
    """Takes note of ended children that were adopted."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_all(seconds=20):
    """Kills what this process started and is still there, until nothing is; the processes that it killed."""
    killed, looks, end = set(), 0, time.monotonic() + seconds
    # A process whose parent ends during a look is not seen below anybody: one look without processes proves nothing.
    while looks < 5:
        left = below(os.getpid())
        killed |= set(left)
        looks = 0 if left else looks + 1
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        if time.monotonic() > end:
            raise AssertionError(f"still there after {seconds} s: {left}")
        time.sleep(0.02)
    return killed


class Program:
    """A program with its output in a file."""

    def __init__(self, command, log):
        self.log = Path(log)
        with self.log.open("wb") as file:
            command = [str(part) for part in command]
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.pid = self.process.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def ended(self):
        return self.process.poll() is not None

    def wait(self, seconds):
        """The exit status; an error with the end of the output if it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.text()[-4000:]}") from None

    def kill(self):
        self.process.kill()
        self.process.wait()
