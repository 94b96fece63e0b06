"""Segmenters: results equal to the command line's, and errors."""

import asyncio
import hashlib
import json
import pickle
import subprocess

import numpy as np
import pytest
from conftest import ROOT, SMALL, STREET
from PIL import Image

import fullconv


def turned_photograph(path):
    """The street on its side, with the note that says so."""
    with Image.open(STREET) as image:
        exif = image.getexif()
        exif[0x0112] = 8
        image.save(path, "JPEG", quality=90, exif=exif)


def test_masks_are_those_of_the_command_line_bit_for_bit(demo, program, tmp_path):
    turned_photograph(tmp_path / "turned.jpg")
    for name in ("rgb.jpg", "grey.jpg", "palette.png", "lossy.webp", "cmyk.jpg"):
        (tmp_path / name).write_bytes((ROOT / "tests/pictures" / name).read_bytes())
    (tmp_path / "street.jpg").write_bytes(STREET.read_bytes())
    pictures = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    subprocess.run([program, "segment", *pictures, "-o", out, "--no-cache"], check=True, capture_output=True)
    for picture in pictures:
        base = picture.name if picture.stem == "rgb" and False else picture.stem
        mask = demo(picture)
        assert mask.to_png() == (out / f"{base}.mask.png").read_bytes(), picture.name
        mask.save_overlay(tmp_path / "overlay.png")
        assert (tmp_path / "overlay.png").read_bytes() == (out / f"{base}.overlay.png").read_bytes(), picture.name
        (tmp_path / "overlay.png").unlink()
    height, width = demo(tmp_path / "turned.jpg").shape
    assert height > width
    report = demo.segment_folder(tmp_path, tmp_path / "folder", overlay=True)
    assert len(report.done) == len(pictures) and not report.failed
    for result in out.iterdir():
        assert (tmp_path / "folder" / result.name).read_bytes() == result.read_bytes(), result.name


def test_stream_keeps_the_order_and_errors_their_place(small):
    sizes = [(32, 40), (32, 40), (48, 33), (20, 21), (32, 40), (32, 40)]
    pictures = [np.full((*size, 3), 40 * i, np.uint8) for i, size in enumerate(sizes)]
    expected = [small(picture) for picture in pictures]
    assert list(small.stream(pictures)) == expected
    broken = [*pictures[:2], b"no picture", *pictures[2:]]
    assert list(small.stream(broken, errors="skip")) == expected
    found = list(small.stream(broken, errors="yield"))
    assert isinstance(found[2], fullconv.PictureError) and found[:2] + found[3:] == expected
    got = []
    with pytest.raises(fullconv.PictureError):
        for mask in small.stream(broken):
            got.append(mask)
    assert got == expected[:2]
    taken = []

    def lazy():
        for picture in pictures:
            taken.append(len(taken))
            yield picture

    stream = small.stream(lazy())
    assert not taken
    next(stream)
    assert len(taken) == 3
    stream.close()
    assert small(pictures[0]) == expected[0]
    with pytest.raises(ValueError, match="errors is one of"):
        small.stream(pictures, errors="ignore")


def test_folders(small, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    random = np.random.default_rng(2)
    for i in range(9):
        Image.fromarray(random.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(source / f"{i}.png")
    (source / "3.jpg").write_bytes((source / "3.png").read_bytes())
    (source / "broken.png").write_bytes((source / "4.png").read_bytes()[:60])
    (source / "notes.txt").write_text("none")
    (source / "0.mask.png").write_bytes(b"")
    steps = []
    report = small.segment_folder(source, out, progress=lambda done, total: steps.append((done, total)))
    assert len(report.done) == 10 and [p.name for p in report.failed] == ["broken.png"]
    assert sorted(p.name for p in report.left_out) == ["0.mask.png", "notes.txt"]
    assert steps == [(i, 11) for i in range(1, 12)]
    names = {f"{i}.mask.png" for i in range(9) if i != 3} | {"3.png.mask.png", "3.jpg.mask.png"}
    assert {p.name for p in out.iterdir()} == names
    for picture in report.done:
        base = picture.name if picture.stem == "3" else picture.stem
        assert (out / f"{base}.mask.png").read_bytes() == small(picture).to_png()
    (out / "5.mask.png").write_bytes((out / "5.mask.png").read_bytes()[:-4])
    (out / "6.mask.png").unlink()
    (source / "broken.png").unlink()
    again = small.segment_folder(source, out, resume=True)
    assert sorted(p.name for p in again.done) == ["5.png", "6.png"] and len(again.skipped) == 8
    (source / "broken.png").write_bytes(b"x")
    with pytest.raises(fullconv.PictureError):
        small.segment_folder(source, out, errors="raise")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(fullconv.RequestError, match="no picture is in folder"):
        small.segment_folder(empty, out)


def test_progress_shows_a_bar(small, tmp_path, capsys):
    pytest.importorskip("tqdm")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    small.segment_folder(tmp_path, tmp_path / "out", progress=True)
    assert "1/1" in capsys.readouterr().err


def test_probabilities_agree_with_the_mask(small):
    picture = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    found = small.probabilities(picture)
    assert found.shape == (5, 40, 50) and found.dtype == np.float32 and found.flags.writeable
    assert np.allclose(found.sum(0), 1, atol=1e-5)
    assert np.array_equal(found.argmax(0), small(picture).numpy())


def test_run_fetches_nodes(small):
    inputs = np.random.default_rng(4).normal(size=(2, 3, 33, 40)).astype(np.float32)
    run = small.run(inputs, fetch=["pool3", "score_fr"])
    assert run.output.shape[0] == 2 and list(run.fetched) == ["pool3", "score_fr"]
    assert run.fetched["pool3"].shape[0] == 2
    assert np.array_equal(run.output.argmax(1), run.labels)
    reference = fullconv.Segmenter(SMALL, device="cpu").run(inputs, fetch=["pool3"])
    assert np.allclose(reference.output, run.output, atol=1e-4)
    assert np.allclose(reference.fetched["pool3"], run.fetched["pool3"], atol=1e-4)
    with pytest.raises(fullconv.RequestError, match="no_such_node"):
        small.run(inputs, fetch=["no_such_node"])
    with pytest.raises(TypeError, match="float32"):
        small.run(inputs.astype(np.float64))
    with pytest.raises(fullconv.Error):
        small.run(np.zeros((1, 5, 32, 32), np.float32))


def test_insight(small, program):
    report = small.compare(STREET.parent / "chelsea.png") if False else small.compare(np.full((32, 33, 3), 90, np.uint8))
    assert report["within_bounds"] and len(report["nodes"]) > 20 and report["labels"]["outside_margin"] == 0
    assert small.compare(np.ones((1, 3, 32, 32), np.float32))["within_bounds"]
    profile = small.profile((32, 40), runs=3)
    assert len(profile["run_ms"]) == 3 and profile["median_ms"] > 0 and profile["steps"][0]["ms"] >= 0
    done = subprocess.run([program, "compare", "-m", SMALL, "--json"], check=True, capture_output=True)
    assert set(report) <= set(json.loads(done.stdout))
    tuned = small.tune((32, 40), seconds=0.5)
    assert tuned and all(layer["candidates"] for layer in tuned)
    small.warm_up((48, 64))
    with pytest.raises(fullconv.RequestError):
        small.profile((32, 40), runs=0)


def test_the_reference_needs_no_device():
    picture = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    with fullconv.Segmenter(SMALL, device="cpu") as segmenter:
        assert segmenter.device == "CPU reference"
        assert segmenter(picture).shape == (32, 32)
    for options in ({"precision": "f16"}, {"memory": 1 << 20}, {"tune": True}):
        with pytest.raises(fullconv.RequestError, match="for devices"):
            fullconv.Segmenter(SMALL, device="cpu", **options)


def test_devices(small):
    found = fullconv.devices()
    assert found and found[0].index == 0 and found[0].name in small.device
    by_name = fullconv.Segmenter(SMALL, device=found[0].name[:8].lower(), cache=False)
    assert by_name.device == small.device
    with pytest.raises(fullconv.RequestError, match="no adapter is \"9\""):
        fullconv.Segmenter(SMALL, device=9).device
    with pytest.raises(fullconv.Error, match="pci|0000:ff:1f.7"):
        fullconv.Segmenter(SMALL, device="pci:0000:ff:1f.7").device
    if all(device.kind == "CPU" for device in found):
        with pytest.raises(fullconv.NoAdapterError, match=r'device="cpu".*device=0 is '):
            fullconv.Segmenter(SMALL).device
    with pytest.raises(TypeError):
        fullconv.Segmenter(SMALL, device=True)


def test_models(small, tmp_path):
    assert small.model.startswith("fcn8s") and len(small.classes) == len(small.palette) == 5
    with pytest.raises(FileNotFoundError):
        fullconv.Segmenter(tmp_path / "no.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(SMALL.read_bytes()[:1000])
    with pytest.raises(fullconv.ModelError, match="damaged.safetensors"):
        fullconv.Segmenter(damaged)
    with pytest.raises(ValueError, match="threshold"):
        fullconv.Segmenter(SMALL, threshold=0.5)
    with pytest.raises(ValueError, match='"f32" or "f16"'):
        fullconv.Segmenter(SMALL, precision="f64")
    picture = np.full((32, 32, 3), 99, np.uint8)
    assert fullconv.Segmenter(SMALL.read_bytes(), device=0, cache=False)(picture) == small(picture)


def test_closing(small):
    picture = np.full((32, 32, 3), 120, np.uint8)
    expected = small(picture)
    with fullconv.Segmenter(SMALL, device=0, cache=False) as other:
        assert other(picture) == expected
    with pytest.raises(fullconv.RequestError, match="closed"):
        other(picture)
    other.close()
    # The device is shared, and the other one still uses it.
    assert small(picture) == expected
    alone = fullconv.Segmenter(SMALL, device=0, cache=False, memory=1 << 30)
    stream = alone.stream([picture] * 5)
    next(stream)
    alone.close()
    with pytest.raises(fullconv.RequestError, match="closed"):
        list(stream)


def test_a_pickle_is_a_path_and_a_hash(small, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(SMALL.read_bytes())
    segmenter = fullconv.Segmenter(path, device=0, cache=False)
    data = pickle.dumps(segmenter)
    assert len(data) < 1000 and hashlib.sha256(SMALL.read_bytes()).hexdigest().encode() in data
    again = pickle.loads(data)
    picture = np.full((32, 32, 3), 77, np.uint8)
    assert again(picture) == segmenter(picture) == small(picture)
    segmenter.close(), again.close()
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(fullconv.ModelError, match="has changed"):
        pickle.loads(data)(picture)


def test_async(small):
    picture = np.full((32, 32, 3), 60, np.uint8)
    expected = small(picture)

    async def several():
        return await asyncio.gather(*(small.segment_async(picture) for _ in range(5)))

    assert asyncio.run(several()) == [expected] * 5


def test_torch_modules_are_exported_and_opened(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)).eval()
    segmenter = fullconv.from_torch(
        net, example=(48, 64), options={"preprocess": "torchvision", "classes": list("abcd")}, device=0, cache=False
    )
    inputs = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        expected = net(inputs)
    run = segmenter.run(inputs)
    assert segmenter.classes == list("abcd")
    assert np.allclose(run.output, expected, atol=1e-5)
    assert np.array_equal(run.labels, expected.argmax(1).numpy())
    path = tmp_path / "net.safetensors"
    fullconv.export(net, path, torch.zeros(1, 3, 32, 32))
    assert np.allclose(fullconv.Segmenter(path, device=0, cache=False).run(inputs).output, expected, atol=1e-5)
    from fullconv.exporter import ExportError

    with pytest.raises(ExportError):
        fullconv.export(torch.nn.Sequential(torch.nn.LSTM(3, 3)), tmp_path / "no.safetensors")
    assert not (tmp_path / "no.safetensors").exists()
