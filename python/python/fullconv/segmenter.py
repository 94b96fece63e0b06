"""Segmenters: a model on a device."""

import functools
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _fullconv
from .engines import Options, Source, acquire, release
from .errors import Error, RequestError
from .folders import FolderReport, segment_folder
from .masks import Mask
from .pictures import picture_of

# From a name of an errors= argument to what becomes of an error.
ERRORS = ("raise", "skip", "yield")


class Run(NamedTuple):
    """The result of `Segmenter.run`."""

    output: np.ndarray
    """The network's output, float32 [n, channels, h, w]."""
    labels: np.ndarray | None
    """The class of each pixel, uint8 [n, h, w]; None for a network of more than 255 classes."""
    fetched: dict[str, np.ndarray]
    """The fetched nodes by name, float32 [n, channels, h, w]."""


class Segmenter:
    """A model on a device, for pictures of any size.

        segmenter = fullconv.Segmenter("fcn8s.safetensors")
        mask = segmenter("street.jpg")

    `model` is the path of a model file (safetensors) or its bytes. `device` is "auto" (a GPU; without one, an error),
    "cpu" (the reference: slow, but right), or a device of `fullconv.devices()`: its index, a part of its name, or "pci:"
    and its PCI address. The device is opened at first use.

    `precision` is "f32" or "f16"; `memory` the most device memory in bytes; `cache` keeps measured kernels and compiled
    pipelines on disk; `tune` first measures the fastest kernels, some seconds; `threshold` is the probability from which a
    pixel is class 1 of a binary network.

    Any number of threads may use a segmenter: their calls queue for the device while other Python code runs. Segmenters of
    one file and the same options share the device. A segmenter does not survive a fork once a device was used; it can be
    pickled, as the path and the hash of its model.

    Pictures are paths, bytes of files, PIL images, and arrays: uint8 (height, width, 3), RGB, or grey without the last
    axis, of NumPy, torch or anything with `__array__` or `__dlpack__`. `layout="chw"` takes (3, height, width),
    `channels="bgr"` the arrays of OpenCV.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        device: str | int = "auto",
        precision: str = "f32",
        memory: int | None = None,
        cache: bool = True,
        tune: bool = False,
        threshold: float | None = None,
    ) -> None:
        if isinstance(model, (bytes, bytearray, memoryview)):
            source = Source(None, bytes(model), None)
        else:
            source = Source(os.fspath(model), None, None)
        if isinstance(device, bool) or not isinstance(device, (str, int)):
            raise TypeError(f"device is a name or an index, not {device!r}")
        self._open_with(source, Options(str(device), precision, memory, cache, tune, threshold))
        # Errors of the model file are told here, not at the first picture.
        self._engine()

    @classmethod
    def demo(cls, **settings: Any) -> "Segmenter":
        """A segmenter for the demo model, for street scenes, of the package fullconv-demo. Its licence is CC BY-NC 4.0:
        research and personal use."""
        try:
            import fullconv_demo
        except ImportError:
            raise ImportError(
                "the demo model is a package of its own, for research and personal use (CC BY-NC 4.0): "
                "pip install fullconv-demo, or python/demo of fullconv's repository"
            ) from None
        return cls(fullconv_demo.PATH, **settings)

    def _open_with(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._acquired: _fullconv.Engine | None = None
        self._about: dict[str, Any] | None = None
        self._closed = False
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def _engine(self) -> _fullconv.Engine:
        if self._closed:
            raise RequestError("the segmenter is closed")
        if self._acquired is None:
            key, self._acquired = acquire(self._source, self._options)
            self._finalizer = weakref.finalize(self, release, key, False)
            self._finalizer.atexit = False
        return self._acquired

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._source.pickled(), self._options)

    # -- the model ---------------------------------------------------------------------------------------------

    def _model(self) -> dict[str, Any]:
        if self._about is None:
            self._about = self._engine().model()
        return self._about

    @property
    def model(self) -> str:
        """The architecture, such as "fcn8s (caffe)"."""
        return str(self._model()["architecture"])

    @property
    def classes(self) -> list[str]:
        """The names of classes 0, 1, 2 …"""
        return list(self._model()["classes"])

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """The colours of classes 0, 1, 2 …"""
        return list(self._model()["palette"])

    @property
    def license(self) -> str:
        """The licence of the weights, as the file has it."""
        return str(self._model()["license"])

    @property
    def precision(self) -> str:
        """ "f32" or "f16"."""
        return self._options.precision

    @property
    def device(self) -> str:
        """The name of the device, which is opened if it was not."""
        return self._engine().device()

    # -- pictures ----------------------------------------------------------------------------------------------

    def _picture(self, picture: Any, layout: str = "hwc", channels: str = "rgb") -> _fullconv.Picture:
        about = self._model()
        bands = about["channels"] if about["pictures"] == "bands" else 0
        alpha = about["pictures"] == "rgba" or (about["pictures"] == "grey" and about["channels"] == 2)
        return picture_of(picture, layout=layout, channels=channels, bands=bands, alpha=alpha)

    def segment(self, picture: Any, *, layout: str = "hwc", channels: str = "rgb") -> Mask:
        """The class of each pixel of a picture, at the picture's size."""
        decoded = self._picture(picture, layout, channels)
        return Mask._of(self._engine().submit(decoded).wait(), decoded)

    def __call__(self, picture: Any, *, layout: str = "hwc", channels: str = "rgb") -> Mask:
        """As `segment`."""
        return self.segment(picture, layout=layout, channels=channels)

    async def segment_async(self, picture: Any, *, layout: str = "hwc", channels: str = "rgb") -> Mask:
        """As `segment`, on a thread of the loop's executor. Cancelling it stops the wait, not the device."""
        import asyncio

        work = functools.partial(self.segment, picture, layout=layout, channels=channels)
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def stream(
        self, pictures: Iterable[Any], *, layout: str = "hwc", channels: str = "rgb", errors: str = "raise"
    ) -> Iterator[Any]:
        """The masks of pictures, in order, one by one; the next pictures are under way meanwhile, three at most.

        With `errors="skip"` a picture that fails has no mask, with "yield" its exception comes instead.
        """
        if errors not in ERRORS:
            raise ValueError(f"errors is one of {', '.join(ERRORS)}, not {errors!r}")
        return self._stream(pictures, layout, channels, errors)

    def _stream(self, pictures: Iterable[Any], layout: str, channels: str, errors: str) -> Iterator[Any]:
        engine = self._engine()
        under_way: deque[tuple[Any, Any]] = deque()

        def landed() -> Iterator[Any]:
            ticket, picture = under_way.popleft()
            try:
                result = ticket if isinstance(ticket, Exception) else Mask._of(ticket.wait(), picture)
            except (Error, OSError) as error:
                result = error
            if not isinstance(result, Exception) or errors == "yield":
                yield result
            elif errors == "raise":
                raise result

        try:
            for picture in pictures:
                try:
                    decoded = self._picture(picture, layout, channels)
                    under_way.append((engine.submit(decoded), decoded))
                except (Error, OSError, TypeError) as error:
                    under_way.append((error, None))
                if len(under_way) >= _fullconv.DEPTH:
                    yield from landed()
            while under_way:
                yield from landed()
        finally:
            for ticket, _ in under_way:
                if not isinstance(ticket, Exception):
                    ticket.give_up()

    def segment_folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        overlay: bool = False,
        resume: bool = False,
        progress: bool | Callable[[int, int], None] = False,
        errors: str = "skip",
    ) -> FolderReport:
        """Writes the masks of a folder's pictures as NAME.mask.png to `output`, as `fullconv segment` does, and with
        `overlay` NAME.overlay.png too.

        `resume` leaves out what is there, whole and newer than the picture and the model. `progress` is a bar of tqdm, or a
        function that is called with the pictures done and all of them. A picture that fails is in the report, and does not
        stop the others; `errors="raise"` has it stop them.
        """
        if errors not in ERRORS[:2]:
            raise ValueError(f"errors is raise or skip, not {errors!r}")
        return segment_folder(self, folder, output, overlay, resume, progress, errors == "raise")

    def probabilities(self, picture: Any, *, layout: str = "hwc", channels: str = "rgb") -> np.ndarray:
        """The probability of each class at each pixel: float32 (classes, height, width)."""
        sizes, data = self._engine().probabilities(self._picture(picture, layout, channels))
        return np.frombuffer(data, np.float32).reshape(sizes[1:])

    def run(self, tensor: Any, fetch: Sequence[str] = ()) -> Run:
        """Runs the network on a preprocessed input, float32 [n, c, h, w], and fetches the values of nodes by name."""
        results = self._engine().run(*_tensor(tensor), list(fetch))
        arrays = [(name, np.frombuffer(data, np.float32).reshape(sizes)) for name, sizes, data in results]
        fetched = dict(arrays[1 : 1 + len(fetch)])
        labels = [array[:, 0].astype(np.uint8) for _, array in arrays[1 + len(fetch) :]]
        return Run(arrays[0][1], labels[0] if labels else None, fetched)

    # -- insight -----------------------------------------------------------------------------------------------

    def compare(self, given: Any, *, layout: str = "hwc", channels: str = "rgb") -> dict[str, Any]:
        """Compares every node with the CPU reference, for a picture or a preprocessed float32 input [n, c, h, w]. The
        entries are those of `fullconv compare --json`; "within_bounds" is the verdict."""
        if getattr(given, "ndim", 0) == 4:
            return self._engine().compare_tensor(*_tensor(given))
        return self._engine().compare_picture(self._picture(given, layout, channels))

    def profile(self, size: tuple[int, int], *, batch: int = 1, runs: int = 10) -> dict[str, Any]:
        """Times runs for pictures of `size` (height, width) and each layer, with the entries of `fullconv profile
        --json`."""
        height, width = size
        return self._engine().profile(height, width, batch, runs)

    def tune(self, size: tuple[int, int], *, batch: int = 1, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Measures the fastest kernels for pictures of `size` (height, width), as long as `seconds`, and uses them from
        then on. Each is compared with the reference first."""
        height, width = size
        return self._engine().tune(height, width, batch, seconds)

    def warm_up(self, size: tuple[int, int]) -> None:
        """Opens the device and makes everything for pictures of `size` (height, width): the next one finds it there."""
        height, width = size
        self._engine().warm_up(height, width)

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Frees the device, if no other segmenter shares it. Later calls are errors."""
        self._closed = True
        self._acquired = None
        if self._finalizer is not None:
            found = self._finalizer.detach()
            if found is not None:
                _, _, (key, _), _ = found
                release(key, True)

    def __enter__(self) -> "Segmenter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self._source.path or "a model in memory"
        return f"Segmenter({name!r}, device={self._options.device!r}, precision={self._options.precision!r})"


def _unpickled(source: Source, options: Options) -> Segmenter:
    segmenter = Segmenter.__new__(Segmenter)
    segmenter._open_with(source, options)
    return segmenter


def _tensor(given: Any) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    if getattr(given, "requires_grad", False):
        given = given.detach()
    array = np.asarray(given)
    if array.dtype != np.float32 or array.ndim != 4:
        raise TypeError(f"an input is float32 [n, c, h, w], not {array.dtype} {list(array.shape)}")
    n, c, h, w = array.shape
    return np.ascontiguousarray(array), (n, c, h, w)
