"""Masks as arrays, pictures and annotations."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

import fullconv

LABELS = np.array([[0, 1, 1], [2, 1, 7]], np.uint8)


@pytest.fixture
def mask():
    return fullconv.Mask(LABELS, ["sky", "road", "car"], [(1, 2, 3), (4, 5, 6), (7, 8, 9)])


def test_the_ids_are_an_array_without_a_copy(mask):
    array = mask.numpy()
    assert np.array_equal(array, LABELS) and array.dtype == np.uint8
    assert not array.flags.writeable
    again = np.asarray(mask)
    assert np.shares_memory(array, again)
    assert np.array_equal(np.array(mask, copy=True), LABELS)
    assert np.asarray(mask, np.int64).dtype == np.int64
    view = memoryview(mask)
    assert view.shape == (2, 3) and view.readonly and bytes(view) == LABELS.tobytes()
    assert mask.shape == (2, 3)


def test_the_array_outlives_the_mask():
    array = fullconv.Mask(np.full((200, 300), 5, np.uint8)).numpy()
    others = [fullconv.Mask(np.full((200, 300), i, np.uint8)) for i in range(20)]
    assert (array == 5).all() and len(others) == 20


def test_dlpack(mask):
    assert np.array_equal(np.from_dlpack(mask), LABELS)
    with pytest.raises(BufferError, match="read-only"):
        mask.__dlpack__(copy=False)


def test_classes_by_name_and_by_id(mask):
    assert mask.shares() == {"road": 0.5, "sky": 1 / 6, "car": 1 / 6, "class 7": 1 / 6}
    assert mask.counts() == {"road": 3, "sky": 1, "car": 1, "class 7": 1}
    assert np.array_equal(mask.binary("road"), LABELS == 1)
    assert np.array_equal(mask.binary(7), LABELS == 7)
    assert repr(mask) == "Mask 2×3: road 50%, sky 17%, car 17%, class 7 17%"
    with pytest.raises(fullconv.RequestError, match="no class 'tree'; there are sky, road, car"):
        mask.binary("tree")
    with pytest.raises(ValueError, match="0 to 255"):
        mask.binary(256)
    twice = fullconv.Mask(LABELS, ["a", "a"])
    assert twice.counts() == {"a (1)": 3, "a (0)": 1, "class 2": 1, "class 7": 1}


def test_pil_keeps_ids_and_colours(mask):
    image = mask.to_pil()
    assert image.mode == "P" and np.array_equal(np.asarray(image), LABELS)
    assert image.convert("RGB").getpixel((1, 0)) == (4, 5, 6)
    assert np.array_equal(np.asarray(Image.fromarray(mask)), LABELS)


def test_png(mask, tmp_path):
    path = tmp_path / "a.png"
    mask.save(path)
    assert path.read_bytes() == mask.to_png() == mask._repr_png_()
    assert np.array_equal(np.asarray(Image.open(path)), LABELS)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        mask.save(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="does not exist"):
        mask.save(tmp_path / "no/a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_coco(mask):
    tool = pytest.importorskip("pycocotools.mask")
    for cls in (0, 1, 2, 7, 9):
        assert mask.rle(cls) == tool.encode(np.asfortranarray(LABELS == cls)), cls
    for annotation in mask.to_coco(3):
        coded = annotation["segmentation"] | {"counts": annotation["segmentation"]["counts"].encode()}
        assert annotation["area"] == tool.area(coded)
        assert annotation["bbox"] == tool.toBbox(coded).tolist()
        assert annotation["image_id"] == 3


def test_polygons(mask):
    assert mask.polygons("sky") == [[0, 0, 1, 0, 1, 1, 0, 1]]
    assert mask.polygons(9) == []


def test_overlay(mask):
    picture = np.full((2, 3, 3), 100, np.uint8)
    mixed = mask.overlay(picture, 0.5)
    assert mixed.shape == (2, 3, 3) and mixed[0, 0].tolist() == [51, 51, 52]
    assert np.array_equal(mask.overlay(picture, 0.0), picture)
    with pytest.raises(fullconv.ShapeError):
        mask.overlay(np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(fullconv.RequestError, match="does not know its picture"):
        mask.overlay()


def test_a_mask_of_a_picture_shows_it(small):
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    mask = small(picture)
    shown = np.asarray(Image.open(io.BytesIO(mask._repr_png_())).convert("RGB"))
    assert np.array_equal(shown, mask.overlay(picture, 0.5))


def test_palettes(mask):
    other = mask.with_palette([(9, 9, 9)])
    assert other.to_pil().convert("RGB").getpixel((0, 0)) == (9, 9, 9)
    named = mask.with_palette({"road": (0, 0, 255)})
    assert named.to_pil().convert("RGB").getpixel((1, 0)) == (0, 0, 255)
    assert named.to_pil().convert("RGB").getpixel((0, 0)) == (1, 2, 3)


def test_equality_and_pickles(mask):
    again = pickle.loads(pickle.dumps(mask))
    assert again == mask and again.classes == mask.classes and again.palette == mask.palette
    assert mask != fullconv.Mask(LABELS.T.copy()) and mask != LABELS.tolist()
    with pytest.raises(TypeError):
        hash(mask)


def test_wrong_labels():
    for labels in (np.zeros((2, 2)), np.zeros(4, np.uint8), np.zeros((2, 2, 1), np.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            fullconv.Mask(labels)
    with pytest.raises(fullconv.ShapeError):
        fullconv.Mask(np.zeros((0, 3), np.uint8))


def test_confusion_matrix_counts_as_numpy_does():
    random = np.random.default_rng(1)
    truth, found = random.integers(-1, 6, (50, 60)), random.integers(0, 5, (50, 60))
    matrix = fullconv.ConfusionMatrix(5)
    matrix.add(truth, found)
    is_class = (truth >= 0) & (truth < 5)
    expected = np.bincount(5 * truth[is_class] + found[is_class], minlength=25).reshape(5, 5)
    assert np.array_equal(matrix.counts, expected)
    hits, union = np.diag(expected), expected.sum(0) + expected.sum(1) - np.diag(expected)
    assert matrix.mean_iou == pytest.approx((hits / union).mean())
    assert matrix.iou(2) == pytest.approx(hits[2] / union[2])
    assert matrix.pixel_accuracy == pytest.approx(hits.sum() / expected.sum())
    other = fullconv.ConfusionMatrix(5)
    other.merge(matrix)
    other.merge(other)
    assert np.array_equal(other.counts, 2 * matrix.counts)
    assert fullconv.ConfusionMatrix(2).mean_iou is None


def test_confusion_matrix_refuses_what_does_not_fit():
    matrix = fullconv.ConfusionMatrix(3)
    with pytest.raises(fullconv.ShapeError, match="class 3 is predicted"):
        matrix.add([0, 1], [0, 3])
    with pytest.raises(fullconv.ShapeError):
        matrix.add([0, 1], [0])
    with pytest.raises(TypeError, match="integers"):
        matrix.add([0.0, 1.0], [0, 1])
    with pytest.raises(ValueError):
        fullconv.ConfusionMatrix(300)
    assert matrix.pixels == 0
