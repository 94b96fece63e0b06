#!/usr/bin/env python3
"""Writes the small pictures of this folder, one for each kind of file, and what Pillow reads from them: pixels.json
has for each file its height and width, whether it has alpha, and its pixels in hexadecimal. bands.npy holds the bands
of the TIFFs whose names begin with `bands`, written by tifffile."""

import hashlib
import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps

HERE = Path(__file__).parent


def scene(height=11, width=14):
    y, x = np.mgrid[:height, :width].astype(float)
    planes = [128 + 120 * np.sin(x / 5 + y / 9), 128 + 110 * np.cos(y / 4 - x / 11), 9 * x + 2 * y]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def with_alpha(rgb):
    h, w, _ = rgb.shape
    alpha = np.linspace(0, 255, h * w).astype(np.uint8).reshape(h, w, 1)
    return Image.fromarray(np.concatenate([rgb, alpha], -1), "RGBA")


def files():
    rgb = Image.fromarray(scene())
    rgba, grey = with_alpha(scene()), rgb.convert("L")
    palette = rgb.quantize(32)
    yield "rgb.bmp", rgb, {}
    yield "palette.bmp", palette, {}
    yield "one-bit.bmp", rgb.convert("1"), {}
    yield "grey.bmp", grey, {}
    yield "plain.gif", palette, {}
    yield "transparent.gif", palette, {"transparency": 3}
    frames = [palette, ImageOps.flip(rgb).quantize(32)]
    yield "animated.gif", frames[0], {"save_all": True, "append_images": frames[1:]}
    yield "lossy.webp", rgb, {"quality": 80}
    yield "lossless.webp", rgb, {"lossless": True}
    yield "alpha.webp", rgba, {"lossless": True, "exact": True}
    yield "animated.webp", rgb, {"lossless": True, "save_all": True, "append_images": [ImageOps.flip(rgb)]}
    yield "rgb.ppm", rgb, {}
    yield "grey.pgm", grey, {}
    yield "one-bit.pbm", rgb.convert("1"), {}
    yield "rgb.tif", rgb, {}
    yield "lzw.tif", rgb, {"compression": "tiff_lzw"}
    yield "deflate.tif", rgb, {"compression": "tiff_adobe_deflate"}
    yield "packbits.tif", rgb, {"compression": "packbits"}
    yield "fax.tif", rgb.convert("1"), {"compression": "group4"}
    yield "rgba.tif", rgba, {}
    yield "grey.tif", grey, {}
    yield "grey-alpha.tif", rgba.convert("LA"), {}
    yield "palette.tif", palette, {}
    yield "cmyk.tif", rgb.convert("CMYK"), {}
    yield "turned.tif", rgb, {"tiffinfo": {274: 6}}
    yield "pages.tif", rgb, {"save_all": True, "append_images": [grey]}
    yield "alpha.png", rgba, {}
    yield "grey-alpha.png", rgba.convert("LA"), {}
    yield "palette.png", palette, {"transparency": 3}
    yield "one-bit.png", rgb.convert("1"), {}
    # Whole blocks of JPEG.
    rgb = Image.fromarray(scene(16, 32))
    grey = rgb.convert("L")
    yield "rgb.jpg", rgb, {"quality": 90}
    yield "progressive.jpg", rgb, {"quality": 90, "progressive": True}
    yield "grey.jpg", grey, {"quality": 90}
    yield "cmyk.jpg", rgb.convert("CMYK"), {"quality": 90}


def read(path):
    """The pixels as Pillow reads them: RGB, and beside it luma and the picture over a background."""
    image = ImageOps.exif_transpose(Image.open(path))
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    rgba = image.convert("RGBA")
    over = Image.new("RGB", image.size, (250, 20, 130))
    over.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    rgb = rgba.convert("RGB") if has_alpha else image.convert("RGB")
    return {
        "size": [image.height, image.width],
        "alpha": has_alpha,
        "rgb": np.asarray(rgb).tobytes().hex(),
        "luma": np.asarray(rgb.convert("L")).tobytes().hex(),
        "over": np.asarray(over).tobytes().hex() if has_alpha else None,
    }


def write_bands():
    """Twelve bands of 16 bits, as programs for satellite pictures write them."""
    height, width, count = 13, 14, 12
    array = np.arange(height * width * count, dtype=np.uint32) * 2_654_435_761
    array = (array >> 7).astype(np.uint16).reshape(height, width, count)
    np.save(HERE / "bands.npy", array)
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    np.save(HERE / "bands-first.npy", planes)
    grey = {"photometric": "minisblack"}
    tifffile.imwrite(HERE / "bands.tif", array, planarconfig="contig", **grey)
    tifffile.imwrite(HERE / "bands-planes.tif", planes, planarconfig="separate", rowsperstrip=4, **grey)
    tifffile.imwrite(HERE / "bands-tiles.tif", array, planarconfig="contig", tile=(16, 16), bigtiff=True, **grey)
    # Four bands without alpha, said to be RGB and one more.
    four = (array[..., :4] >> 8).astype(np.uint8)
    np.save(HERE / "four.npy", four)
    tifffile.imwrite(HERE / "four.tif", four, photometric="rgb", extrasamples=["unspecified"])
    floats = (array[..., :5] / 9000).astype(np.float32)
    np.save(HERE / "floats.npy", floats)
    tifffile.imwrite(HERE / "floats.tif", floats, planarconfig="contig", byteorder=">", **grey)


def main():
    write_bands()
    recorded = {}
    for name, image, options in files():
        image.save(HERE / name, **options)
        recorded[name] = read(HERE / name)
    text = json.dumps(recorded, indent=0, sort_keys=True)
    (HERE / "pixels.json").write_text(text + "\n")


main()
