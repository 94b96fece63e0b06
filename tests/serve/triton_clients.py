"""Triton's clients against the server: every way to send a picture gives the mask of `fullconv segment`.

    python triton_clients.py URL EXPECTED.png

Needs tritonclient[http,grpc], numpy and pillow.
"""

import asyncio
import io
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as aio
import tritonclient.http as http
from PIL import Image
from tritonclient.utils import InferenceServerException

from server import STREET

URL, EXPECTED = sys.argv[1].removeprefix("http://"), Path(sys.argv[2])
mask = np.array(Image.open(EXPECTED))
file = STREET.read_bytes()
# The pixels as the server decodes them: PNG is exact, JPEG depends on the decoder.
pixels = np.array(Image.open(STREET).convert("RGB"))
png = io.BytesIO()
Image.fromarray(pixels).save(png, "PNG")
png = png.getvalue()


def check(what, got, wanted):
    assert np.array_equal(got, wanted), f"{what}: the mask differs"
    print(f"{what}: equal")


def inputs(client, binary=None):
    """The picture as pixels, and as a file."""
    arguments = {} if binary is None else {"binary_data": binary}
    of_pixels = client.InferInput("image", [1, *pixels.shape], "UINT8")
    of_pixels.set_data_from_numpy(pixels[None], **arguments)
    of_file = client.InferInput("image", [1], "BYTES")
    of_file.set_data_from_numpy(np.array([file], dtype=object))
    return of_pixels, of_file


def over_http():
    client = http.InferenceServerClient(URL)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("demo")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("demo")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [model["state"] for model in client.get_model_repository_index()] == ["READY"]
    # The mask of the exact pixels, to compare the ways with each other.
    of_png = http.InferInput("image", [1], "BYTES")
    of_png.set_data_from_numpy(np.array([png], dtype=object))
    exact = client.infer("demo", [of_png]).as_numpy("mask")[0]
    for binary in (True, False):
        of_pixels, of_file = inputs(http, binary)
        result = client.infer("demo", [of_pixels], request_id="7")
        assert result.get_response()["id"] == "7"
        check(f"http, pixels, binary {binary}", result.as_numpy("mask")[0], exact)
    check("http, file", client.infer("demo", [of_file]).as_numpy("mask")[0], mask)
    of_pixels, _ = inputs(http)
    for compressed in ("gzip", "deflate"):
        for answer in (True, False):
            outputs = [http.InferRequestedOutput("mask", binary_data=answer)]
            result = client.infer(
                "demo",
                [of_pixels],
                outputs=outputs,
                request_compression_algorithm=compressed,
                response_compression_algorithm=compressed,
            )
            check(f"http, {compressed}, binary {answer}", result.as_numpy("mask")[0], exact)
    outputs = [http.InferRequestedOutput(name) for name in ("mask_png", "shares", "probabilities")]
    result = client.infer("demo", [of_file], outputs=outputs)
    assert result.as_numpy("mask_png")[0] == EXPECTED.read_bytes()
    assert abs(result.as_numpy("shares").sum() - 1) < 1e-5
    assert result.as_numpy("probabilities").shape == (1, 11, *mask.shape)
    refused(lambda: client.infer("nothing", [of_file]), "nothing")
    refused(lambda: client.load_model("demo"), "--model-control")
    assert client.get_inference_statistics("demo")["model_stats"][0]["inference_count"] > 0
    return exact


def refused(call, part):
    try:
        call()
    except InferenceServerException as error:
        assert part in str(error), error
    else:
        raise AssertionError("the request was not refused")


def over_grpc(exact):
    client = grpc.InferenceServerClient(URL)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("demo")
    assert client.get_model_metadata("demo").outputs[0].name == "mask"
    assert client.get_model_repository_index().models[0].state == "READY"
    of_pixels, of_file = inputs(grpc)
    for compressed in (None, "gzip", "deflate"):
        result = client.infer("demo", [of_pixels], compression_algorithm=compressed)
        check(f"grpc, {compressed}", result.as_numpy("mask")[0], exact)
    check("grpc, file", client.infer("demo", [of_file]).as_numpy("mask")[0], mask)
    outputs = [grpc.InferRequestedOutput("mask_png")]
    result = client.infer("demo", [of_file], outputs=outputs, priority=2, timeout=60_000_000)
    assert result.as_numpy("mask_png")[0] == EXPECTED.read_bytes()
    refused(lambda: client.infer("demo", [of_file], client_timeout=0.001), "DEADLINE_EXCEEDED")
    refused(lambda: client.infer("nothing", [of_file]), "nothing")
    refused(lambda: client.unload_model("demo"), "--model-control")
    assert client.get_inference_statistics("demo").model_stats[0].inference_count > 0


async def over_aio(exact):
    async with aio.InferenceServerClient(URL) as client:
        assert await client.is_server_ready()
        of_pixels, _ = inputs(grpc)
        runs = [client.infer("demo", [of_pixels]) for _ in range(8)]
        for result in await asyncio.gather(*runs):
            check("grpc.aio", result.as_numpy("mask")[0], exact)


exact = over_http()
over_grpc(exact)
asyncio.run(over_aio(exact))
