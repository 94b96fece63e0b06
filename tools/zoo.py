#!/usr/bin/env python3
"""Exports networks of other libraries, runs them with fullconv, compares with PyTorch in f64, and writes docs/zoo.md.

    python tools/zoo.py --fullconv target/release/fullconv [NAME ...] [--further] [--again] [--failed] [--list]

Weights are random, from a seed; batch norms have the statistics of batches that ran through. Every network runs at two
sizes, one of which the exporter did not trace. A NAME is a part of `library network encoder`, such as `unet` or
`fpn-mit_b0`. Results are kept in target/zoo/results.json, so that a later run does the rest: `--failed` repeats those
that did not succeed, `--again` all. Files of models are removed at once. `--further` takes the networks of
tools/zoo_further.py: other encoders, options of decoders, and networks of one size.

Requirements: torch, torchvision, segmentation-models-pytorch, monai, einops, safetensors, numpy.
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zoo_further import FURTHER

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "target" / "zoo"
PAGE = ROOT / "docs" / "zoo.md"

# ‖found − expected‖ / ‖expected‖ of the scores: fullconv computes in f32, PyTorch in f64.
BOUND = 2e-5
# An error of less than so many times that of PyTorch in f32 is rounding.
ROUNDING = 4
# The example's size, and others, of which the first is taken that the exporter did not trace. All are multiples of 32.
SIZE = (128, 160)
OTHERS = [(192, 256), (224, 320), (288, 352), (96, 416)]
CLASSES = 5
# Seconds after which a network counts as one without an end.
LIMIT = 900

SMP = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet", "Segformer")
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0", "timm-mobilenetv3_small_075", "vgg16_bn", "densenet121",
            "timm-resnest14d", "mit_b0")
TORCHVISION = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large",
               "lraspp_mobilenet_v3_large")
MONAI = ("UNet", "SegResNet")
LIBRARIES = {"smp": "segmentation-models-pytorch", "torchvision": "torchvision", "monai": "monai"}


def names():
    """All networks: library, network, encoder."""
    return ([("smp", network, encoder) for network in SMP for encoder in ENCODERS]
            + [("torchvision", network, "") for network in TORCHVISION] + [("monai", network, "") for network in MONAI])


def title(name):
    return "-".join(part for part in name if part)


# -- one network, in a process of its own --------------------------------------------------------------------


class Refused(Exception):
    """The library itself has no such network, or the network no such input."""


def make(library, network, encoder):
    """The network, with random weights."""
    if (library, network, encoder) in FURTHER:
        return FURTHER[library, network, encoder].make()
    if library == "torchvision":
        from torchvision.models import segmentation
        return getattr(segmentation, network)(weights=None, weights_backbone=None, num_classes=CLASSES)
    if library == "monai":
        from monai.networks import nets
        if network == "UNet":
            return nets.UNet(2, 3, CLASSES, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2)
        return nets.SegResNet(2, in_channels=3, out_channels=CLASSES, init_filters=16)
    import segmentation_models_pytorch as smp
    return getattr(smp, network)(encoder, encoder_weights=None, classes=CLASSES)


def scores(module, x):
    result = module(x)
    result = result["out"] if isinstance(result, dict) else result
    return result[0] if isinstance(result, (list, tuple)) else result


def give_statistics(module, channels, size):
    """Runs batches through, so that every batch norm has the statistics of its input; weights of norms vary, too."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for part in norms:
        part.momentum = None
        if part.affine:
            part.weight.uniform_(0.6, 1.4)
            part.bias.normal_(0.0, 0.2)
    if norms:
        module.train()
        for _ in range(2):
            scores(module, torch.randn(4, channels, *size))
    module.eval()


def one(library, network, encoder, fullconv, folder):
    """The result for one network, as printed for the process that asked."""
    import torch
    sys.path.insert(0, str(HERE))
    import export
    torch.manual_seed(sum(map(ord, title((library, network, encoder)))))
    torch.set_grad_enabled(False)
    further = FURTHER.get((library, network, encoder))
    channels, only = (further.channels, further.size) if further else (3, None)
    begun = only or SIZE
    try:
        module = make(library, network, encoder)
        give_statistics(module, channels, begun)
        expected = {begun: check_finite(module, channels, begun)}
    except Exception as problem:  # noqa: BLE001 - the libraries raise many kinds
        return {"status": "library", "message": first_line(problem)}
    path, begin = Path(folder) / "net.safetensors", time.monotonic()
    try:
        translation = export.export(module, torch.zeros(1, channels, *begun), path, fixed_size=only is not None)
    except export.ExportError as problem:
        return {"status": "refused", "message": str(problem), "seconds": time.monotonic() - begin}
    seconds = time.monotonic() - begin
    traced = {tuple(size) for size in translation.traced}
    other = next(size for size in OTHERS if size not in traced)
    try:
        if not only:
            expected[other] = check_finite(module, channels, other)
    except Exception as problem:  # noqa: BLE001
        return {"status": "library", "message": f"at {other[0]}×{other[1]}: {first_line(problem)}"}
    result = {"status": "ok", "seconds": seconds, "nodes": len(translation.graph["nodes"]), "sizes": [], "errors": [], "f32": []}
    for size, (x, wanted) in expected.items():
        result["f32"].append(((scores(module.float(), x) - wanted).norm() / wanted.norm()).item())
        error, message = run(fullconv, path, x, wanted, Path(folder))
        if message:
            return {**result, "status": "run", "message": message}
        result["sizes"].append(list(size))
        result["errors"].append(error)
    return {**result, **judged(result["errors"], result["f32"])}


def judged(errors, singles):
    """The status of errors. Above the bound, the same rounding as PyTorch's own in f32 is told from a wrong result."""
    if max(errors) < BOUND:
        return {"status": "ok"}
    if any(error >= max(BOUND, ROUNDING * single) for error, single in zip(errors, singles)):
        return {"status": "wrong"}
    if all(error < BOUND or single >= BOUND for error, single in zip(errors, singles)):
        return {"status": "ok", "message": "PyTorch's own error in f32 is above the bound"}
    return {"status": "above", "message": f"within {ROUNDING} times PyTorch's own error in f32, which is below the bound"}


def check_finite(module, channels, size):
    """A picture of this size and its scores, in f64. Raises if they are not finite: then there is nothing to compare."""
    import copy

    import torch
    x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(size[0]))
    wanted = scores(copy.deepcopy(module).double(), x.double())
    if not wanted.isfinite().all():
        raise Refused("its scores with random weights are not finite")
    return x, wanted


def run(fullconv, path, x, wanted, folder):
    """The error of `fullconv run`, and a message if it fails."""
    from safetensors.torch import load_file, save_file
    given, found = folder / "x.safetensors", folder / "y.safetensors"
    save_file({"input": x}, given)
    command = [fullconv, "run", "-m", path, "--input", given, "--output", found]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip() or f"fullconv run ended with status {done.returncode}"
    output = load_file(found)["output"].double()
    found.unlink()
    if output.shape != wanted.shape:
        return None, f"fullconv run gives {list(output.shape)}, PyTorch {list(wanted.shape)}"
    return ((output - wanted).norm() / wanted.norm()).item(), None


def first_line(problem):
    lines = str(problem).strip().splitlines()
    return lines[0].strip() if lines else type(problem).__name__


# -- all networks --------------------------------------------------------------------------------------------


def apart(name, fullconv):
    """Runs one network in a process of its own: it may crash, or have no end."""
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        command = [sys.executable, "-W", "ignore", __file__, "--fullconv", fullconv, "--one", json.dumps([*name, folder])]
        begin = time.monotonic()
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return {"status": "endless", "message": f"no end within {LIMIT} seconds"}
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            tail = done.stderr.strip().splitlines()
            return {"status": "crash", "message": tail[-1] if tail else f"status {done.returncode}"}
        return {**json.loads(lines[-1]), "whole_seconds": time.monotonic() - begin}


def read_results():
    path = WORK / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_results(results):
    path = WORK / "results.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1), encoding="utf-8")
    os.replace(part, path)


def line(name, result):
    """One line for the terminal."""
    errors = ", ".join(f"{h}×{w} {e:.1e}" for (h, w), e in zip(result.get("sizes", []), result.get("errors", [])))
    message = " | ".join(result.get("message", "").splitlines())
    return f"{title(name):44} {result['status']:8} {errors} {message[:300]}".rstrip()


def page(results):
    """The tables as Markdown."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("torch", *LIBRARIES.values()))
    lines = [
        "# Networks of other libraries", "",
        "`tools/zoo.py` (`./check zoo`) exports these networks with `tools/export.py`, runs them with `fullconv run` and writes",
        "this page. Weights are random, batch norms have the statistics of batches that ran through. The errors are relative",
        "L2 errors of the scores against PyTorch in f64, at a size that the exporter traced and at one that it did not. Beside",
        f"them are PyTorch's own errors in f32: random weights may amplify every rounding. {versions}.", "",
        *table({name: results[title(name)] for name in names() if title(name) in results}),
    ]
    further = {name: results[title(name)] for name in FURTHER if title(name) in results}
    if further:
        lines += ["", "## Further networks", "", "Other encoders, options of decoders, and networks exported for one size (`--further`).", "",
                  *table(further)]
    return "\n".join(lines) + "\n"


def table(done):
    """The lines of a table of results."""
    taken = {name: result for name, result in done.items() if result["status"] != "library"}
    right = sum(result["status"] == "ok" for result in taken.values())
    below = sum(result["status"] == "ok" and max(result["errors"]) < BOUND for result in taken.values())
    lines = [
        f"**{right} of {len(taken)} networks** are equal to PyTorch: {below} with errors below {BOUND:.0e}, {right - below} where PyTorch's",
        f"own error in f32 is above it. Their library refuses {len(done) - len(taken)} other combinations.", "",
        "| network | encoder | sizes | errors | PyTorch in f32 | export | remark |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    kinds = {"refused": "refused", "run": "fullconv run", "wrong": "wrong", "above": "above the bound", "endless": "no end", "crash": "crash",
             "library": "the library refuses it", "ok": ""}
    for (library, network, encoder), result in done.items():
        sizes = ", ".join(f"{h}×{w}" for h, w in result.get("sizes", []))
        errors, single = (", ".join(f"{e:.1e}" for e in result.get(key, [])) for key in ("errors", "f32"))
        seconds = f"{result['seconds']:.0f} s" if "seconds" in result else ""
        message = re.sub(r"/\S*/", "", "; ".join(result.get("message", "").splitlines())).replace("|", "\\|")
        message = message if len(message) <= 240 else message[:239] + "…"
        remark = ": ".join(filter(None, [kinds[result["status"]], message]))
        lines.append(f"| {library} {network} | {encoder} | {sizes} | {errors} | {single} | {seconds} | {remark} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description="Exports networks of other libraries and compares them with PyTorch.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only networks whose name has this part")
    parser.add_argument("--fullconv", default="target/release/fullconv", help="the program")
    parser.add_argument("--again", action="store_true", help="repeat networks that have a result")
    parser.add_argument("--failed", action="store_true", help="repeat networks that did not succeed")
    parser.add_argument("--further", action="store_true", help="the networks of tools/zoo_further.py")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        library, network, encoder, folder = json.loads(options.one)
        print(json.dumps(one(library, network, encoder, options.fullconv, folder)))
        return 0
    wanted = [name for name in (FURTHER if options.further else names()) if not options.names or any(part.lower() in title(name).lower() for part in options.names)]
    if options.list:
        print("\n".join(map(title, wanted)))
        return 0
    if not wanted:
        print(f"zoo: no network is called {' or '.join(options.names)}; --list prints the names", file=sys.stderr)
        return 2
    if not Path(options.fullconv).is_file():
        print(f"zoo: {options.fullconv} is not the program; --fullconv FILE names it", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    results, bad = read_results(), 0
    for name in wanted:
        result = results.get(title(name))
        repeat = options.again or options.failed and result is not None and result["status"] not in ("ok", "library")
        if result is None or repeat:
            result = results[title(name)] = apart(name, options.fullconv)
            write_results(results)
            PAGE.write_text(page(results), encoding="utf-8")
        print(line(name, result), flush=True)
        bad += result["status"] in ("wrong", "crash", "endless")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
