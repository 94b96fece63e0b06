"""A server under test: started, asked, measured, ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STREET = ROOT / "assets" / "street.jpg"


class Server:
    """`fullconv serve` on a free port of the loopback interface, with the demo model."""

    def __init__(self, program, *flags, log=subprocess.DEVNULL):
        self.begun = time.monotonic()
        command = [program, "serve", "--allow-cpu", "--listen", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            sys.exit(f"the server did not start: {line!r}, status {self.process.wait()}")
        self.address = f"{found[1]}:{found[2]}"
        self.url = f"http://{self.address}"
        self.ready_s = time.monotonic() - self.begun

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self, patience=60):
        """Sends SIGTERM and returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def request(self, path, body=None, headers=None, timeout=120):
        """(status, headers, body) of a request."""
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def segment(self, picture=None, query=""):
        """The answer of /segment to a picture, which has to be right."""
        status, _, body = self.request("/segment" + query, picture or STREET.read_bytes())
        assert status == 200, (status, body[:300])
        return body

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = self.request("/metrics")[2].decode()
        lines = [line for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def resident_mib(self):
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def handles(self):
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        """Threads."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def expected_mask(program, work, picture=STREET):
    """The mask file that `fullconv segment` writes for a picture."""
    subprocess.run([program, "segment", picture, "-o", work], check=True, stdout=subprocess.DEVNULL)
    return (Path(work) / f"{Path(picture).stem}.mask.png").read_bytes()


def say(**figures):
    """Prints figures as one line of JSON."""
    print(json.dumps(figures), flush=True)
