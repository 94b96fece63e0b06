"""Pictures of every kind give the same mask, and wrong ones a message that says what to do."""

import io

import numpy as np
import pytest
from conftest import ROOT, STREET
from PIL import Image

import fullconv
from fullconv.pictures import picture_of


@pytest.fixture(scope="module")
def rgb():
    """A photograph of 60×80, height × width, RGB."""
    return np.asarray(Image.open(STREET).resize((80, 60)))


class OnlyDlpack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyInterface:
    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


def test_all_kinds_give_the_mask_of_the_array(small, rgb, tmp_path):
    expected = small(rgb)
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    with_alpha = np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])
    wide = np.zeros((60, 160, 3), np.uint8)
    wide[:, ::2] = rgb
    kinds = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memoryview": memoryview(path.read_bytes()),
        "PIL": Image.fromarray(rgb),
        "PIL with alpha": Image.fromarray(with_alpha),
        "alpha": with_alpha,
        "strides": wide[:, ::2],
        "mirrored twice": rgb[:, ::-1][:, ::-1],
        "Fortran": np.asfortranarray(rgb),
        "read-only": np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
        "buffer": memoryview(rgb),
        "DLPack": OnlyDlpack(rgb.copy()),
        "interface": OnlyInterface(rgb),
    }
    for kind, picture in kinds.items():
        assert small(picture) == expected, kind
    assert small(np.moveaxis(rgb, 2, 0), layout="chw") == expected
    assert small(rgb[:, :, ::-1], channels="bgr") == expected
    assert small(rgb[:, :, ::-1]) != expected


def test_grey_is_grey_in_every_form(small, rgb):
    grey = rgb[:, :, 1]
    expected = small(np.dstack([grey] * 3))
    assert small(grey) == expected
    assert small(grey[:, :, None][:, :, 0]) == expected
    assert small(Image.fromarray(grey)) == expected


def test_a_photograph_on_its_side_is_turned(small, rgb):
    image = Image.fromarray(rgb)
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    turned = np.rot90(rgb, -1)
    assert small(Image.open(file)) == small(turned)
    assert small(file.getvalue()) == small(turned)


def test_torch_tensors(small, rgb):
    torch = pytest.importorskip("torch")
    expected = small(rgb)
    tensor = torch.from_numpy(rgb.copy())
    assert small(tensor) == expected
    assert small(tensor.permute(2, 0, 1), layout="chw") == expected
    mask = torch.from_dlpack(expected)
    assert mask.dtype == torch.uint8 and np.array_equal(mask.numpy(), expected.numpy())
    run = small.run(torch.zeros(1, 3, 32, 32, requires_grad=True))
    assert run.output.shape == (1, 5, 32, 32)
    with pytest.raises(TypeError, match="multiply"):
        small(tensor.float() / 255)


@pytest.mark.parametrize(
    ("picture", "options", "said"),
    [
        (np.zeros((4, 4, 3)), {}, "float64.*multiply values from 0 to 1 by 255"),
        (np.zeros((4, 4, 3), np.int64), {}, "int64, and a picture is uint8"),
        (np.zeros((4, 4), bool), {}, "255 \\* a"),
        (np.zeros((3, 40, 50), np.uint8), {}, 'layout="chw"'),
        (np.zeros((4, 4, 5), np.uint8), {}, "height, width, 3 or 4"),
        (np.zeros((1, 4, 4, 3), np.uint8), {}, "stream"),
        (np.zeros((0, 4, 3), np.uint8), {}, "at least one pixel"),
        (np.zeros((4, 4), np.uint8), {"channels": "bgr"}, "arrays of colours"),
        (7, {}, "not int"),
        (None, {}, "not NoneType"),
        ([[1, 2], [3, 4]], {}, "not list"),
        (Image.new("I;16", (4, 4)), {}, "more than 8 bits"),
        (Image.new("F", (4, 4)), {}, "more than 8 bits"),
        (Image.new("RGB", (4, 4)), {"channels": "bgr"}, "for arrays"),
        ("a.jpg", {"layout": "chw"}, "for arrays"),
    ],
)
def test_wrong_pictures(picture, options, said):
    with pytest.raises(TypeError, match=said):
        picture_of(picture, **options)


def test_wrong_options():
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match='"hwc" or "chw"'):
        picture_of(picture, layout="whc")
    with pytest.raises(ValueError, match='"rgb" or "bgr"'):
        picture_of(picture, channels="grb")


def test_bad_files(small, tmp_path):
    missing = tmp_path / "missing.jpg"
    with pytest.raises(FileNotFoundError) as caught:
        small(missing)
    assert caught.value.filename == str(missing)
    with pytest.raises(OSError, match="folder"):
        small(tmp_path)
    with pytest.raises(fullconv.PictureError) as caught:
        small(STREET.read_bytes()[:2000])
    assert caught.value.kind == "picture"
    with pytest.raises(fullconv.PictureError):
        small(b"")


def test_bands_go_to_networks_of_bands_only(small, tmp_path):
    deep = np.zeros((8, 8, 3), np.uint16)
    with pytest.raises(TypeError, match="uint16"):
        small(deep)
    assert picture_of(np.zeros((8, 9, 5), np.uint16), bands=5).width == 9
    assert picture_of(np.zeros((5, 8, 9), np.float32), bands=5, layout="chw").height == 8


def test_pictures_of_the_test_set_are_read_as_pillow_reads_them(small):
    for name in ("rgb.jpg", "palette.png", "grey.jpg", "rgb.bmp"):
        path = ROOT / "tests/pictures" / name
        with Image.open(path) as image:
            assert small(image) == small(np.asarray(image.convert("RGB"))), name
