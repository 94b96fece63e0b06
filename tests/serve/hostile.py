"""Hostile requests: none gives a status of 500, and after each hundred the server still answers a good one.

    python hostile.py PROGRAM WORK [--requests 10000] [--seed N]

Fuzzed JSON, lengths, binary headers, pictures, HTTP and gRPC frames, from a seed that is printed. Memory is measured
before and after. Standard library only.
"""

import argparse
import json
import random
import socket
import struct
import time
from pathlib import Path

from server import STREET, Server, expected_mask, say

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("work")
parser.add_argument("--requests", type=int, default=10_000)
parser.add_argument("--seed", type=int, default=None)
args = parser.parse_args()
seed = args.seed if args.seed is not None else random.randrange(1 << 32)
rng = random.Random(seed)
picture = STREET.read_bytes()
Path(args.work).mkdir(parents=True, exist_ok=True)


def small_png():
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = (rng.randrange(1, 40), rng.randrange(1, 40))
    if rng.random() < 0.2:
        # A bomb: a huge size and few bytes.
        size = rng.choice([(60000, 60000), (1 << 31, 1), (0, 5), (5000, 5001)])
    header = struct.pack(">IIBBBBB", size[0], size[1], rng.choice([8, 8, 16, 3]), rng.choice([0, 2, 3, 6, 9]), 0, 0, 0)
    rows = b"".join(b"\0" + rng.randbytes(min(size[0], 100) * 3) for _ in range(min(size[1], 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def damaged(data):
    data = bytearray(data[: rng.randrange(1, len(data) + 1)])
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def value(depth=0):
    """Some JSON value."""
    kinds = [None, True, -1, 0, 1 << 70, 1.5e300, "", "a" * rng.randrange(99), "\u0000\ud83d"]
    if depth > 3 or rng.random() < 0.6:
        return rng.choice(kinds)
    if rng.random() < 0.5:
        return [value(depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["name", "shape", "data", "x"]): value(depth + 1) for _ in range(rng.randrange(4))}


def infer_json():
    shape = rng.choice([[1, 2, 2, 3], [1], [], [-1, 2, 2, 3], [1 << 40] * 4, [0, 0, 0, 3], value()])
    request = {
        "inputs": [
            {
                "name": rng.choice(["image", "image", "x"]),
                "datatype": rng.choice(["UINT8", "BYTES", "FP32", ""]),
                "shape": shape,
                "data": rng.choice([[0] * 12, [[[[1, 2, 3]] * 2] * 2], ["aGk="], value()]),
            }
        ]
        * rng.choice([1, 1, 1, 0, 3]),
        "outputs": [{"name": rng.choice(["mask", "overlay_png", "probabilities", "x"])}],
        "parameters": rng.choice([{}, {"timeout": value()}, {"priority": value()}]),
    }
    for _ in range(rng.randrange(3)):
        request[rng.choice(list(request))] = value()
    text = json.dumps(request)
    if rng.random() < 0.2:
        text = text[: rng.randrange(len(text) + 1)]
    if rng.random() < 0.1:
        text = rng.choice(["[" * 100_000, '{"inputs":' * 5000, "1" * 10_000])
    return text.encode()


def http_request():
    """The bytes of a request."""
    kind = rng.randrange(8)
    headers, path, body = [], "/segment", b""
    if kind == 0:
        body = damaged(picture[: rng.randrange(500, len(picture))])
    elif kind == 1:
        body = small_png()
        path += rng.choice(["", "?as=json&rle=1", "?as=overlay&opacity=1", "?timeout=0.0001", "?as=" + "%ff"])
    elif kind == 2:
        body, path = infer_json(), "/v2/models/demo/infer"
    elif kind == 3:
        body, path = infer_json() + rng.randbytes(rng.randrange(64)), "/v2/models/demo/infer"
        length = rng.choice([len(body), 0, 1, rng.randrange(len(body) + 9), -1, 1 << 65, "x"])
        headers.append(f"Inference-Header-Content-Length: {length}")
    elif kind == 4:
        body = rng.randbytes(rng.randrange(2000))
        headers.append("Content-Encoding: " + rng.choice(["gzip", "deflate", "br", "gzip, gzip", "x"]))
    elif kind == 5:
        path = rng.choice(["/", "/..", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/v2/models/..%2f..%2fetc/infer"])
        path += "a" * rng.choice([0, 10, 10_000, 100_000])
        headers += [f"X-{i}: {'a' * rng.choice([1, 500])}" for i in range(rng.choice([1, 90, 200]))]
    elif kind == 6:
        boundary = "b"
        headers.append(f"Content-Type: multipart/form-data; boundary={boundary}")
        field = rng.choice(["file", "image", "x"])
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'.encode()
        body += small_png() + rng.choice([b"", b"\r\n--b--\r\n"])
    else:
        return rng.randbytes(rng.randrange(1, 3000))
    length = rng.choice([len(body)] * 6 + [len(body) + 5, 1 << 62, "-1", "x"])
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def frame(kind, flags, stream, data):
    return struct.pack(">I", len(data))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + data


def grpc_request():
    """HTTP/2 frames, more or less of an inference."""
    message = rng.randbytes(rng.randrange(400))
    if rng.random() < 0.5:
        message = b"\x0a\x04demo" + message
    length = rng.choice([len(message), len(message) + 9, 0, 1 << 31])
    body = bytes([rng.choice([0, 0, 1, 255])]) + struct.pack(">I", length) + message
    path = b"/inference.GRPCInferenceService/" + rng.choice([b"ModelInfer", b"ModelInfer", b"ModelReady", b"X"])
    literal = lambda name, text: b"\0" + bytes([len(name)]) + name + bytes([len(text)]) + text
    headers = b"\x83\x86" + literal(b":path", path) + literal(b":authority", b"x")
    headers += literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
    if rng.random() < 0.3:
        headers += literal(b"grpc-timeout", rng.choice([b"1n", b"99999999H", b"x", b"-1S"]))
    data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    data += frame(1, 4, 1, headers) + frame(0, rng.choice([1, 1, 0]), 1, body)
    for _ in range(rng.randrange(3)):
        data += frame(rng.randrange(12), rng.randrange(256), rng.randrange(6), rng.randbytes(rng.randrange(40)))
    return damaged(data) if rng.random() < 0.3 else data


def send(address, data):
    """The first bytes of the answer; b"" if the server says nothing."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as stream:
        try:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            stream.settimeout(5)
            return stream.recv(4096)
        except OSError:
            return b""


with open(Path(args.work) / "hostile.log", "w") as log, Server(args.program, "--max-pixels", "1000000", log=log) as server:
    expected = expected_mask(args.program, args.work)
    assert server.segment() == expected
    statuses, before, begun = {}, server.resident_mib(), time.monotonic()
    say(seed=seed, resident_mib=round(before))
    for number in range(1, args.requests + 1):
        data = http_request() if rng.random() < 0.8 else grpc_request()
        answer = send(server.address, data)
        status = answer[9:12].decode() if answer.startswith(b"HTTP/1.") else "other"
        statuses[status] = statuses.get(status, 0) + 1
        if status == "500":
            (Path(args.work) / "hostile.bin").write_bytes(data)
            raise SystemExit(f"request {number} of seed {seed} gave 500 (hostile.bin): {answer[:500]!r}")
        assert server.process.poll() is None, f"the server ended at request {number} of seed {seed}"
        if number % 100 == 0:
            assert server.segment() == expected, f"the mask is wrong after request {number} of seed {seed}"
    after = server.resident_mib()
    errors = server.metric("fullconv_requests_total")
    text = server.request("/metrics")[2].decode()
    assert 'outcome="internal"' not in text, text
    say(requests=args.requests, statuses=statuses, resident_mib=round(after), seconds=round(time.monotonic() - begun))
    # Memory may grow to the pool's bound, and by what allocators keep.
    assert after < before + 400, f"memory grew from {before:.0f} to {after:.0f} MiB"
log = (Path(args.work) / "hostile.log").read_text()
assert "panicked" not in log, "the server panicked: hostile.log"
