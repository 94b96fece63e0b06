"""KServe's client over REST against the server: its mask is that of `fullconv segment`.

    python kserve_client.py URL EXPECTED.png

Needs kserve, numpy and pillow. Not in one process with tritonclient.grpc: both register the same messages.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from PIL import Image

from server import STREET

URL, EXPECTED = sys.argv[1], sys.argv[2]


async def main():
    mask = np.array(Image.open(EXPECTED))
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_live(URL) and await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "demo")
    # A file, which the server decodes as `fullconv segment` does.
    of_file = InferInput("image", [1], "BYTES")
    of_file.set_data_from_numpy(np.array([STREET.read_bytes()], dtype=object), binary_data=True)
    request = InferRequest(model_name="demo", infer_inputs=[of_file])
    answer = await client.infer(URL, request, model_name="demo")
    assert np.array_equal(answer.outputs[0].as_numpy()[0], mask), "the mask differs"
    print("kserve, file: equal")
    pixels = np.array(Image.open(STREET).convert("RGB"))[None, :64, :96]
    for binary in (True, False):
        of_pixels = InferInput("image", list(pixels.shape), "UINT8")
        of_pixels.set_data_from_numpy(pixels, binary_data=binary)
        request = InferRequest(model_name="demo", infer_inputs=[of_pixels])
        answer = await client.infer(URL, request, model_name="demo")
        assert answer.outputs[0].as_numpy().shape == (1, 64, 96)
        print(f"kserve, pixels, binary {binary}: answered")


asyncio.run(main())
