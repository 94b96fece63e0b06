"""What can be given as a picture."""

import os
import sys
from typing import Any

import numpy as np

from ._fullconv import Picture

LAYOUTS = ("hwc", "chw")
CHANNELS = ("rgb", "bgr")
# Of more than 8 bits: Pillow cuts them off when it makes colours.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def picture_of(given: Any, *, layout: str = "hwc", channels: str = "rgb", bands: int = 0, alpha: bool = False) -> Picture:
    """The picture that is given: a path, the bytes of a file, a PIL image, or an array.

    `bands` is the number of bands of a network that takes bands, else 0; `alpha` says whether alpha counts.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout is "hwc" or "chw", not {layout!r}')
    if channels not in CHANNELS:
        raise ValueError(f'channels is "rgb" or "bgr", not {channels!r}')
    if isinstance(given, Picture):
        return given
    is_default = layout == "hwc" and channels == "rgb"
    if isinstance(given, (str, os.PathLike)):
        _only_arrays(is_default, "a file")
        return Picture.open(os.fspath(given))
    if isinstance(given, (bytes, bytearray)) or (isinstance(given, memoryview) and given.ndim == 1):
        _only_arrays(is_default, "a file")
        return Picture.decode(given)
    if _is_pil(given):
        _only_arrays(is_default, "a PIL image")
        return _of_pil(given, alpha)
    return _of_array(_array(given), layout, channels, bands)


def _only_arrays(is_default: bool, what: str) -> None:
    if not is_default:
        raise TypeError(f"layout and channels are for arrays; {what} has its own")


def _is_pil(given: Any) -> bool:
    # An image is there only if its module is.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(given, module.Image)


def _of_pil(image: Any, alpha: bool) -> Picture:
    from PIL import ImageOps

    if image.mode in DEEP_MODES:
        raise TypeError(
            f"a PIL image of mode {image.mode!r} has more than 8 bits a channel, which Pillow cuts off: give the file's path, "
            "or a uint8 array"
        )
    image = ImageOps.exif_transpose(image).convert("RGBA" if alpha else "RGB")
    return Picture.of_samples(image.tobytes(), image.height, image.width, 4 if alpha else 3)


def _array(given: Any) -> np.ndarray:
    view: Any = given
    device = getattr(given, "device", None)
    if getattr(device, "type", "cpu") not in ("cpu", "meta") or getattr(given, "is_cuda", False):
        raise TypeError(f"the tensor is on {device}: give tensor.cpu()")
    if hasattr(given, "detach") and getattr(given, "requires_grad", False):
        given = given.detach()
    is_array = isinstance(given, np.ndarray) or any(
        hasattr(given, name) for name in ("__array_interface__", "__array__", "__dlpack__")
    )
    if not is_array:
        try:
            given = memoryview(view)
        except TypeError:
            kind = type(given).__name__
            raise TypeError(
                f"a picture is a path, the bytes of a file, a PIL image or a uint8 array (height, width, 3), not {kind}"
            ) from None
    if hasattr(given, "__dlpack__") and not hasattr(given, "__array__"):
        return np.from_dlpack(given)
    return np.asarray(given)


def _of_array(array: np.ndarray, layout: str, channels: str, bands: int) -> Picture:
    deep = bands > 0 and array.dtype in (np.uint16, np.float32)
    if array.dtype != np.uint8 and not deep:
        hint = ""
        if np.issubdtype(array.dtype, np.floating):
            hint = ": multiply values from 0 to 1 by 255, round them and convert: (255 * a).round().astype(np.uint8)"
        elif array.dtype == bool:
            hint = ": 255 * a.astype(np.uint8)"
        raise TypeError(f"the array is {array.dtype}, and a picture is uint8{hint}")
    if array.ndim == 3 and layout == "chw":
        array = np.moveaxis(array, 0, 2)
    allowed = (bands,) if bands else (3, 4)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3 or array.shape[2] not in allowed:
        shape = array.shape
        hint = ""
        if array.ndim == 3 and layout == "hwc" and shape[0] in allowed:
            hint = f'; layout="chw" takes ({shape[0]}, height, width)'
        elif array.ndim == 4:
            hint = "; a batch is a list of pictures: stream() takes them"
        wanted = " or ".join(str(count) for count in allowed)
        raise TypeError(f"the array has shape {shape}, and a picture is (height, width) or (height, width, {wanted}){hint}")
    if 0 in array.shape:
        raise TypeError(f"the array has shape {array.shape}: a picture has at least one pixel")
    if channels == "bgr":
        if array.shape[2] < 3:
            raise TypeError(f'channels="bgr" is for arrays of colours; this one has shape {array.shape}')
        array = array[:, :, [2, 1, 0, *range(3, array.shape[2])]]
    height, width, count = array.shape
    return Picture.of_samples(np.ascontiguousarray(array), height, width, count)
