"""Load, overload, slow clients, SIGTERM, restart and a soak, against a server of its own.

    python load.py PROGRAM WORK [--part throughput,latency,overload,slow,drain,restart,soak] [--seconds 20]
                   [--soak 2000] [--markdown FILE]

Needs `hey` and `slowhttptest`, pillow for the soak. Figures are ratios to `fullconv segment` in the same run; every part
ends by itself. --markdown writes them between `<!-- begin load -->` and `<!-- end load -->` of a document.
"""

import argparse
import datetime
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

from server import ROOT, STREET, Server, expected_mask, say

sys.path.append(str(ROOT / "benches"))
import machine  # noqa: E402
import markdown  # noqa: E402

# The rounds of a soak.
ROUNDS = 10

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("work")
parser.add_argument("--part", default="throughput,latency,overload,slow,drain,restart,soak")
parser.add_argument("--seconds", type=int, default=20)
parser.add_argument("--soak", type=int, default=2000)
parser.add_argument("--markdown", type=Path)
args = parser.parse_args()
work = Path(args.work)
work.mkdir(parents=True, exist_ok=True)
expected = expected_mask(args.program, work)
# What was seen, for the document: (what, figure), and the rounds of the soak.
figures, rounds = [], []


def hey(server, *flags):
    """Counts by status, and the latencies of the answers with status 200, of a run of hey."""
    command = ["hey", "-m", "POST", "-D", str(STREET), "-T", "image/jpeg", "-o", "csv", "-t", "0", *flags]
    output = subprocess.run([*command, server.url + "/segment"], capture_output=True, text=True, check=True).stdout
    counts, times = {}, []
    for line in output.splitlines()[1:]:
        fields = line.split(",")
        status = fields[6]
        counts[status] = counts.get(status, 0) + 1
        if status == "200":
            times.append(float(fields[0]))
    return counts, sorted(times)


def throughput():
    """Pictures a second at 16 clients, beside `fullconv segment FOLDER` on as many copies."""
    folder, count = work / "copies", 96
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in range(count):
        shutil.copy(STREET, folder / f"{i}.jpg")
    with Server(args.program) as server:
        hey(server, "-n", "32", "-c", "16")
        ratios = []
        for _ in range(2):
            begun = time.monotonic()
            command = [args.program, "segment", folder, "-o", work / "masks", "--only", "mask"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            alone = count / (time.monotonic() - begun)
            begun = time.monotonic()
            counts, _ = hey(server, "-n", str(count), "-c", "16")
            served = count / (time.monotonic() - begun)
            assert counts == {"200": count}, counts
            ratios.append(served / alone)
            say(part="throughput", segment_per_s=round(alone, 2), served_per_s=round(served, 2))
    shutil.rmtree(folder)
    ratio = statistics.median(ratios)
    say(part="throughput", ratio=round(ratio, 3))
    figures.append(("pictures a second at 16 clients, of those of `segment FOLDER`", f"{ratio:.2f} ×"))


def latency():
    """The server's own time at one client: all but the device's."""
    own = []
    with Server(args.program) as server:
        server.segment()
        for _ in range(20):
            begun = time.monotonic()
            status, headers, body = server.request("/segment", STREET.read_bytes())
            whole = (time.monotonic() - begun) * 1e3
            assert status == 200 and body == expected
            device = float(re.search(r"device;dur=([\d.]+)", headers["server-timing"])[1])
            own.append(whole - device)
    say(part="latency", own_ms_median=round(statistics.median(own), 2), own_ms_max=round(max(own), 2))
    figures.append(("one client: all but the device's time, median of 20", f"{statistics.median(own):.1f} ms"))


def overload():
    """Ten times more clients than the queue has room for."""
    with Server(args.program, "--queue", "16", "--timeout", "60") as server:
        server.segment()
        before = server.resident_mib()
        counts, times = hey(server, "-z", f"{args.seconds}s", "-c", "160")
        ended = time.monotonic()
        assert set(counts) <= {"200", "429"}, counts
        assert counts.get("429", 0) > 0 and counts.get("200", 0) > 0, counts
        assert server.segment() == expected
        back = time.monotonic() - ended
        p99 = times[int(0.99 * (len(times) - 1))]
        # A queue of 16, each the time of a picture: the longest wait, and some room.
        mean = server.metric("fullconv_device_duration_seconds_sum") / counts["200"]
        say(
            part="overload",
            statuses=counts,
            p99_s=round(p99, 2),
            picture_s=round(mean, 3),
            back_s=round(back, 2),
            resident_mib=[round(before), round(server.resident_mib())],
        )
        figures.append((
            f"160 clients for {args.seconds} s, a queue of 16: answers by status",
            ", ".join(f"{status}: {count}" for status, count in sorted(counts.items())),
        ))
        figures.append(("the 99th percentile of the 200s, in times of a picture", f"{p99 / mean:.1f}"))
        figures.append(("back to normal after", f"{back:.2f} s"))
        assert p99 < 60.5, "the 99th percentile is beyond the deadline"
        assert server.resident_mib() < before + 300


def slow():
    """Slow headers, bodies and readers; others are served meanwhile."""
    kinds = {
        "headers": ["-H"],
        "bodies": ["-B", "-s", "100000"],
        "reads": ["-X", "-w", "1", "-y", "10", "-z", "1", "-k", "3"],
    }
    with Server(args.program, "--header-timeout", "5", "--body-timeout", "5", "--write-timeout", "5") as server:
        server.segment()
        for name, flags in kinds.items():
            path = "/openapi.json" if name == "reads" else "/segment"
            command = ["slowhttptest", *flags, "-c", "300", "-r", "100", "-i", "2", "-l", str(min(args.seconds, 30)), "-p", "3"]
            attack = subprocess.Popen([*command, "-u", server.url + path], stdout=subprocess.DEVNULL)
            times = []
            while attack.poll() is None:
                begun = time.monotonic()
                assert server.segment() == expected
                times.append(time.monotonic() - begun)
            say(part="slow", kind=name, served=len(times), longest_s=round(max(times), 2))
            figures.append((f"300 clients with slow {name}: others served meanwhile", str(len(times))))
            assert times


def drain():
    """SIGTERM under load: every request that was accepted is answered."""
    with Server(args.program, "--drain-delay", "2") as server:
        server.segment()
        outcomes, stop = [], threading.Event()

        # When the server ends to listen: a connection after that may be refused, or reset.
        deaf = [float("inf")]

        def client():
            while not stop.is_set():
                begun = time.monotonic()
                try:
                    outcomes.append(server.request("/segment", STREET.read_bytes())[0::2])
                except (OSError, HTTPException) as error:
                    if begun > deaf[0]:
                        return
                    outcomes.append((repr(error), b""))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        begun = time.monotonic()
        # A little before --drain-delay is over.
        deaf[0] = begun + 1.9
        status = server.terminate()
        took = time.monotonic() - begun
        stop.set()
        for thread in threads:
            thread.join()
        counts = {}
        for outcome, body in outcomes:
            counts[str(outcome)] = counts.get(str(outcome), 0) + 1
            assert outcome != 200 or body == expected
        say(part="drain", exit_status=status, seconds=round(took, 1), outcomes=counts)
        assert status == 0
        # 503 is said before anything is begun; a reset would be a lost request.
        assert set(counts) <= {"200", "429", "503"}, counts
        figures.append(("SIGTERM with 8 clients: requests lost", "0"))


def restart():
    """kill -9, and the time until the next server is ready."""
    times = []
    for _ in range(3):
        with Server(args.program) as server:
            times.append(server.ready_s)
            assert server.segment() == expected
            server.process.kill()
            server.process.wait()
    say(part="restart", ready_s=[round(t, 2) for t in times], median_s=round(statistics.median(times), 2))
    figures.append(("after `kill -9`, ready again in", f"{statistics.median(times):.2f} s"))


def soak():
    """Requests of 20 sizes: memory and handles stay."""
    from PIL import Image

    picture = Image.open(STREET)
    files = []
    for i in range(20):
        path = work / f"soak{i}.jpg"
        picture.resize((16 + 4 * i, 20 + 3 * i)).save(path)
        files.append(path)
    # A small network: the server is what is tried, not the device.
    with Server(args.program, "--model", ROOT / "tests/goldens/fcn8s-same.safetensors") as server:
        each = max(1, args.soak // (ROUNDS * len(files)))
        for number in range(ROUNDS):
            for path in files:
                command = ["hey", "-m", "POST", "-D", str(path), "-o", "csv", "-n", str(each), "-c", str(min(4, each))]
                output = subprocess.run([*command, server.url + "/segment"], capture_output=True, text=True).stdout
                statuses = {line.split(",")[6] for line in output.splitlines()[1:]}
                assert statuses == {"200"}, (path, statuses)
            done = (number + 1) * each * len(files)
            rounds.append((done, server.resident_mib(), server.handles(), server.threads()))
            say(part="soak", requests=done, resident_mib=round(rounds[-1][1]), handles=rounds[-1][2], threads=rounds[-1][3])
        # The first rounds fill the pool of executors.
        settled = rounds[2:]
        assert max(r[1] for r in settled) < min(r[1] for r in settled) * 1.15 + 20, "memory grows"
        assert max(r[2] for r in settled) <= min(r[2] for r in settled) + 8, "handles grow"


def document():
    """The figures as tables, with the machine."""
    device = subprocess.run([args.program, "serve", "--allow-cpu", "--check-config"], capture_output=True, text=True)
    device = next(line for line in device.stdout.splitlines() if line.startswith("device"))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    head = f"{datetime.date.today()}; {machine.cores()} cores of {machine.cpu()}; {device.removeprefix('device').strip()}."
    parts = [f"{head} The demo model, assets/street.jpg. Load average after: {load}."]
    parts.append(markdown.table(["seen", ""], figures, 1))
    if rounds:
        parts.append("A soak of 20 sizes, from 16×20 to 92×77 pixels, on a small network (tests/goldens/fcn8s-same):")
        rows = [[f"{done:,}", f"{mib:.0f}", str(handles), str(threads)] for done, mib, handles, threads in rounds]
        parts.append(markdown.table(["requests", "resident MiB", "handles", "threads"], rows, 0))
    return "\n\n".join(parts)


parts = {part.__name__: part for part in (throughput, latency, overload, slow, drain, restart, soak)}
for name in args.part.split(","):
    parts[name]()
if args.markdown:
    markdown.replace(args.markdown, "load", document())
