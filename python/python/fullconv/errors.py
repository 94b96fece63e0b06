"""The exceptions. Files that cannot be read or written are an `OSError`, as everywhere in Python."""

import os


class Error(Exception):
    """Any failure of fullconv. `kind` is its name for programs, such as "limit"."""

    kind: str = "internal"


class PictureError(Error):
    """A picture could not be decoded, or is not as requested."""

    kind = "picture"


class ModelError(Error):
    """A model file is damaged, incomplete, or of no known network."""

    kind = "model_file"


class ShapeError(Error, ValueError):
    """Sizes do not fit together."""

    kind = "shape"


class RequestError(Error, ValueError):
    """Something was asked for that does not exist: a node, an adapter, a class; or the segmenter is closed."""

    kind = "request"


class UnsupportedError(Error, ValueError):
    """The model or the device does not do this."""

    kind = "unsupported"


class LimitError(Error):
    """A limit of the device or of the memory."""

    kind = "limit"


class NotFiniteError(Error):
    """Scores are not finite: the weights or the picture are too large."""

    kind = "not_finite"


class DeviceError(Error):
    """The device failed, or computes wrongly."""

    kind = "device"


class DeviceLostError(DeviceError):
    """The device is lost. The next call opens it again."""

    kind = "device_lost"


class NoAdapterError(DeviceError):
    """No device can be used. The message says which there are."""

    kind = "no_adapter"


class InternalError(Error):
    """A fault of fullconv itself."""


_ALL: tuple[type[Error], ...] = (
    PictureError,
    ModelError,
    ShapeError,
    RequestError,
    UnsupportedError,
    LimitError,
    NotFiniteError,
    DeviceError,
    DeviceLostError,
    NoAdapterError,
    InternalError,
)


def of_kind(kind: str, message: str, number: int | None = None, file: str | None = None) -> Exception:
    """The exception for an error of this kind; `number` is the system's."""
    if kind == "io":
        return OSError(message) if number is None else OSError(number, os.strerror(number), file or message)
    return next((error for error in _ALL if error.kind == kind), InternalError)(message)
