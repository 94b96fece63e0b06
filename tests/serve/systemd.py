"""The server under systemd's protocols, without systemd: a socket that is passed, notifications, the watchdog.

    python systemd.py PROGRAM
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

program = Path(sys.argv[1]).resolve()
with tempfile.TemporaryDirectory() as folder, socket.socket() as passed:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(f"{folder}/notify")
    notified.settimeout(30)
    passed.bind(("127.0.0.1", 0))
    passed.listen()
    port, number = passed.getsockname()[1], passed.fileno()

    # Passed sockets begin at number 3. LISTEN_PID is the process's own: the shell has the same after exec.
    command = f'LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ exec "{program}" serve --allow-cpu --drain-delay 0 3<&{number}'
    environment = {**os.environ, "NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "1000000"}
    server = subprocess.Popen(["sh", "-c", command], env=environment, pass_fds=[number], stdout=subprocess.DEVNULL)
    try:
        assert notified.recv(4096).startswith(b"READY=1")
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready").status == 200
        begun = time.monotonic()
        beats = [notified.recv(4096) for _ in range(3)]
        assert all(beat.startswith(b"WATCHDOG=1") for beat in beats), beats
        assert time.monotonic() - begun < 3
        server.terminate()
        while not (said := notified.recv(4096)).startswith(b"STOPPING=1"):
            assert said.startswith(b"WATCHDOG=1"), said
        assert server.wait(30) == 0
    finally:
        server.kill()
print("systemd: socket, readiness, watchdog, end")
