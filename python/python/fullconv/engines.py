"""Models on devices, shared by segmenters of one process."""

import contextlib
import hashlib
import importlib
import os
import sys
import threading
from dataclasses import dataclass
from typing import Any

from ._fullconv import Engine
from .errors import ModelError, RequestError

# A larger model is not copied into pickles.
MOST_PICKLED = 64 << 20


@dataclass(frozen=True)
class Options:
    """What a segmenter is opened with, beside its model."""

    device: str
    precision: str
    memory: int | None
    cache: bool
    tune: bool
    threshold: float | None

    def check(self) -> None:
        """Raises if the options contradict each other."""
        if self.device == "cpu" and (self.precision != "f32" or self.memory is not None or self.tune):
            raise RequestError('device="cpu" is the reference: precision="f16", memory and tune are for devices')


class Source:
    """A model: a file, or the bytes of one."""

    def __init__(self, path: str | None, data: bytes | None, digest: str | None) -> None:
        self.path = path
        self.data = data
        # What the file has to hash to; None if it may be any.
        self.digest = digest

    def key(self) -> Any:
        """The same for the same file, as long as it is unchanged."""
        if self.path is None:
            return id(self)
        found = os.stat(self.path)
        return os.path.realpath(self.path), found.st_mtime_ns, found.st_size

    def hashed(self) -> str:
        """The SHA-256 of the file."""
        if self.path is None:
            return hashlib.sha256(self.data or b"").hexdigest()
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self) -> None:
        """Raises if the file is not the one that was pickled."""
        if self.digest is not None and self.hashed() != self.digest:
            raise ModelError(f"{self.path}: the file has changed since the segmenter was pickled: its SHA-256 differs")

    def pickled(self) -> "Source":
        """The source for a pickle: a path with its hash, or the bytes of a small model."""
        if self.path is not None:
            return Source(os.path.abspath(self.path), None, self.digest or self.hashed())
        if len(self.data or b"") > MOST_PICKLED:
            raise RequestError("the model was given as bytes, too many for a pickle: save it to a file, and open that")
        return self


class _Shared:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.users = 1


# Reentrant: the garbage collector may release an engine while this thread holds the lock.
_lock = threading.RLock()
_shared: dict[Any, _Shared] = {}


def before_drivers() -> None:
    """To be called before a graphics driver is loaded. Triton, which torch loads late, has an LLVM of its own; behind that
    of Mesa's CPU driver it ends the process, before it it does not."""
    if "torch" in sys.modules and "triton" not in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")


def acquire(source: Source, options: Options) -> tuple[Any, Engine]:
    """The engine for a model and options, made if there is none, and its key for `release`."""
    options.check()
    key = (source.key(), options)
    with _lock:
        found = _shared.get(key)
        if found is not None:
            found.users += 1
            return key, found.engine
    source.check()
    if options.device != "cpu":
        before_drivers()
    model = source.path if source.path is not None else source.data
    engine = Engine(
        model,
        device=options.device,
        precision=options.precision,
        memory=options.memory,
        cache=options.cache,
        tune=options.tune,
        threshold=options.threshold,
    )
    with _lock:
        # Another thread may have been faster.
        found = _shared.get(key)
        if found is None:
            _shared[key] = _Shared(engine)
            return key, engine
        found.users += 1
        return key, found.engine


def release(key: Any, wait: bool) -> None:
    """Says that a segmenter no longer uses the engine; the last one ends it."""
    with _lock:
        found = _shared.get(key)
        if found is None:
            return
        found.users -= 1
        if found.users > 0:
            return
        del _shared[key]
    if wait:
        found.engine.close()
