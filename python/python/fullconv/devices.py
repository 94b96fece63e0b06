"""The devices of this machine."""

from dataclasses import dataclass

from . import _fullconv
from .engines import before_drivers


@dataclass(frozen=True)
class Device:
    """A device that a `Segmenter` can be given: by `index`, by a part of `name`, or by "pci:" and `pci_address`."""

    index: int
    name: str
    backend: str
    kind: str
    """"discrete GPU", "integrated GPU", "virtual GPU", "CPU" (behind a graphics driver) or "other"."""
    driver: str
    pci_address: str | None
    trouble: str | None
    """Why it cannot be used; None if it can."""


def devices() -> list[Device]:
    """All devices, in the order in which they are preferred. The CPU reference ("cpu") is always there beside them."""
    before_drivers()
    return [Device(**adapter) for adapter in _fullconv.adapters()]
