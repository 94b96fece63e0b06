"""Masks: a class id for every pixel."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _fullconv
from .errors import RequestError
from .pictures import picture_of

if TYPE_CHECKING:
    from PIL import Image

# Shares below this are not worth a word of a short description.
LEAST_SHARE = 0.005


class Mask(_fullconv.Labels):
    """A class id for every pixel of a picture: uint8, (height, width), read-only.

    `np.asarray(mask)`, `memoryview(mask)` and `Image.fromarray(mask)` do without a copy. Classes are given by id or name.
    """

    _picture: _fullconv.Picture | None

    def __new__(
        cls,
        labels: Any,
        classes: Sequence[str] = (),
        palette: Sequence[tuple[int, int, int]] = (),
    ) -> "Mask":
        """The mask of an array of ids, with names and colours of classes 0, 1, 2 …"""
        if isinstance(labels, _fullconv.Labels):
            mask = super().__new__(cls, labels)
        else:
            array = np.asarray(labels)
            if array.ndim != 2 or array.dtype != np.uint8:
                raise TypeError(f"a mask is uint8 (height, width), not {array.dtype} {array.shape}")
            colours = [(int(r), int(g), int(b)) for r, g, b in palette]
            height, width = array.shape
            mask = super().__new__(cls, np.ascontiguousarray(array), height, width, list(classes), colours)
        mask._picture = None
        return mask

    @classmethod
    def _of(cls, labels: _fullconv.Labels, picture: _fullconv.Picture | None) -> "Mask":
        mask = cls(labels)
        mask._picture = picture
        return mask

    def __reduce__(self) -> tuple[Any, ...]:
        return Mask, (self.numpy().copy(), self.classes, self.palette)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def numpy(self) -> np.ndarray:
        """The ids as a read-only array (height, width), without a copy."""
        return np.asarray(memoryview(self))

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.numpy().__array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        # Only version 1 can say that the ids are read-only.
        is_versioned = max_version is not None and max_version[0] >= 1
        if copy or not is_versioned:
            if copy is False:
                raise BufferError("a mask is read-only, and only DLPack 1.0 can say so: copy it")
            return self.numpy().copy().__dlpack__(max_version=max_version)
        return self.numpy().__dlpack__(max_version=max_version)

    def _id(self, cls: int | str) -> int:
        if isinstance(cls, str):
            names = self.classes
            if cls not in names:
                raise RequestError(f"there is no class {cls!r}; there are {', '.join(names) or 'no names'}")
            return names.index(cls)
        if not 0 <= cls <= 255:
            raise RequestError(f"the id of a class is 0 to 255, not {cls}")
        return int(cls)

    def _key(self, i: int) -> str:
        # Two classes of one name stay apart.
        name = self.class_name(i)
        return name if self.classes.count(name) < 2 else f"{name} ({i})"

    def shares(self) -> dict[str, float]:
        """The classes found, each with its share of all pixels (together 1), the most frequent first."""
        return {self._key(i): share for i, share in self.found()}

    def counts(self) -> dict[str, int]:
        """The classes found, each with its number of pixels, the most frequent first."""
        pixels = np.bincount(self.numpy().ravel(), minlength=256)
        return {self._key(i): int(pixels[i]) for i, _ in self.found()}

    def binary(self, cls: int | str) -> np.ndarray:
        """Where the class is: bool, (height, width)."""
        return self.numpy() == self._id(cls)

    def rle(self, cls: int | str) -> dict[str, Any]:
        """The pixels of a class as `pycocotools.mask` has them: {"size": [height, width], "counts": bytes}."""
        return {"size": [self.height, self.width], "counts": self.coco(self._id(cls)).encode()}

    def polygons(self, cls: int | str) -> list[list[int]]:
        """The outlines of a class, [x0, y0, x1, y1, …], with the rings of holes; filled by the even-odd rule, they are its
        pixels exactly."""
        return self.rings(self._id(cls))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """An annotation of COCO for each class found, with a text for `counts`, as JSON needs it."""
        annotations = []
        for i, _ in self.found():
            where = self.numpy() == i
            ys, xs = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
            x, y = int(xs[0]), int(ys[0])
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": i,
                    "segmentation": {"size": [self.height, self.width], "counts": self.coco(i)},
                    "area": int(where.sum()),
                    "bbox": [x, y, int(xs[-1]) - x + 1, int(ys[-1]) - y + 1],
                    "iscrowd": 1,
                }
            )
        return annotations

    def to_pil(self) -> "Image.Image":
        """A PIL image of mode "P": its values are the ids, its palette the colours."""
        from PIL import Image

        image = Image.fromarray(self.numpy(), mode="L").convert("L")
        image = Image.frombytes("P", (self.width, self.height), image.tobytes())
        image.putpalette(bytes(self.colours()))
        return image

    def overlay(self, picture: Any = None, opacity: float = 0.5) -> np.ndarray:
        """A picture under the colours of the mask: uint8, (height, width, 3). By default the picture that was segmented."""
        over = self.over(self._picture_for(picture), opacity)
        return np.frombuffer(over.rgb(), np.uint8).reshape(self.height, self.width, 3)

    def save_overlay(self, path: str | os.PathLike[str], picture: Any = None, opacity: float = 0.5) -> None:
        """Writes `overlay` as PNG or JPEG. The file appears whole or not at all."""
        self.over(self._picture_for(picture), opacity).save(os.fspath(path))

    def _picture_for(self, picture: Any) -> _fullconv.Picture:
        if picture is None:
            if self._picture is None:
                raise RequestError("this mask does not know its picture: give one")
            return self._picture
        return picture_of(picture)

    def to_png(self) -> bytes:
        """An indexed PNG: its values are the ids, its palette the colours. The command line writes the same bytes."""
        return self.png()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_png` at `path`, which ends in .png. The file appears whole or not at all."""
        self.write(os.fspath(path))

    def with_palette(self, palette: Sequence[tuple[int, int, int]] | Mapping[str, tuple[int, int, int]]) -> "Mask":
        """The same mask in other colours: of classes 0, 1, 2 …, or of some classes by name."""
        if isinstance(palette, Mapping):
            colours = np.frombuffer(self.colours(), np.uint8).reshape(256, 3).copy()
            for name, colour in palette.items():
                colours[self._id(name)] = colour
            palette = [(int(r), int(g), int(b)) for r, g, b in colours]
        return Mask._of(self.in_colours([(int(r), int(g), int(b)) for r, g, b in palette]), self._picture)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.equals(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shares = [f"{name} {share:.0%}" for name, share in self.shares().items() if share >= LEAST_SHARE]
        more = ", …" if len(shares) > 5 else ""
        return f"Mask {self.height}×{self.width}: {', '.join(shares[:5])}{more}"

    def _repr_png_(self) -> bytes:
        return self.to_png() if self._picture is None else self.over(self._picture, 0.5).png()
