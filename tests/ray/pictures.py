"""The pictures of the test: 60 of 7 sizes, one of them broken, under names that are hard to handle."""

import numpy as np
from PIL import Image

SIZES = [(96, 128), (128, 96), (160, 213), (201, 173), (240, 320), (97, 351), (300, 200)]
# Names that URLs would take apart.
ODD = ["a b.png", "a%20b.png", "c#1.png", "d?e=f.png", "ü-é.png", "g&h;i.png", "j'k.png"]
# Of one stem, of one name, and a stem with a dot: their masks have longer names.
CLASHING = ["same.png", "same.jpg", "below/name.png", "below/deep/name.png", "dotted.tar.png"]
TURNED, BROKEN = "turned.jpg", "below/broken.png"
COUNT = 60


def make(folder):
    """Writes the pictures and returns their paths."""
    random = np.random.default_rng(0)
    names = [*ODD, *CLASHING, TURNED, BROKEN]
    names += [f"{'below/' if i % 2 else ''}{i:03}.png" for i in range(COUNT - len(names))]
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == BROKEN:
            path.write_bytes(b"\x89PNG\r\n\x1a\nno picture")
            continue
        height, width = SIZES[i % len(SIZES)]
        # Large patches, so that a mask has several classes and PNG something to compress.
        patches = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
        image = Image.fromarray(patches.repeat(16, 0).repeat(16, 1)[:height, :width])
        exif = Image.Exif()
        if name == TURNED:
            exif[0x0112] = 6
        image.save(path, exif=exif)
    return sorted(folder / name for name in names)
