"""Compares a run's output with the expected one.

    python check_run.py EXPECTED.safetensors GOT.safetensors [--bound 1e-5]

EXPECTED holds `output` [n, classes, h, w], the scores in f64 or f32, and may hold inner nodes.
GOT holds `output`, and may hold `labels` u8 [n, h, w] and inner nodes; missing `labels` are the argmax
of its scores. Every tensor in both files is compared.

A label may differ from the expected one only within a margin: the expected scores of the two labels
differ by less than 1e-5 of the largest magnitude of any score.

Exit status: 0 if every relative L2 error is within the bound and no label differs outside the margin,
else 1.

Requires safetensors and numpy.
"""

import argparse
import sys

import numpy as np
from safetensors.numpy import load_file

MARGIN = 1e-5


def compare_values(name, expected, got, bound):
    """Prints the error of `got`; returns whether it is within `bound`."""
    if expected.shape != got.shape:
        print(f"{name}: shape {list(got.shape)}, expected {list(expected.shape)}")
        return False
    difference = got - expected
    norm = np.linalg.norm(expected)
    relative = np.linalg.norm(difference) / norm if norm > 0 else np.linalg.norm(difference)
    print(f"{name}: relative L2 error {relative:.3e}, max abs error {np.abs(difference).max():.3e}")
    # A NaN fails this comparison.
    return bool(relative <= bound)


def compare_labels(scores, got):
    """Prints the share of equal labels; returns whether all others are within the margin."""
    expected = scores.argmax(axis=1)
    if expected.shape != got.shape or got.max() >= scores.shape[1]:
        print(f"labels: {list(got.shape)} up to {got.max()}, expected {list(expected.shape)}")
        return False
    got_scores = np.take_along_axis(scores, got[:, None].astype(np.int64), axis=1)[:, 0]
    lost = scores.max(axis=1) - got_scores
    different = got != expected
    outside = different & (lost >= MARGIN * np.abs(scores).max())
    print(
        f"labels: {1 - different.mean():.6%} equal, {different.sum()} of {different.size} differ, "
        f"{outside.sum()} of them outside the margin"
    )
    return not outside.any()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expected")
    parser.add_argument("got")
    parser.add_argument("--bound", type=float, default=1e-5, help="bound on the relative L2 error")
    arguments = parser.parse_args()

    expected, got = load_file(arguments.expected), load_file(arguments.got)
    for file, tensors in [(arguments.expected, expected), (arguments.got, got)]:
        if "output" not in tensors:
            print(f"{file}: no tensor `output`")
            sys.exit(1)

    good = True
    for name in sorted(expected.keys() & got.keys() - {"labels", "input"}):
        values = expected[name].astype(np.float64), got[name].astype(np.float64)
        good &= compare_values(name, *values, arguments.bound)
    scores = expected["output"].astype(np.float64)
    labels = got.get("labels", got["output"].argmax(axis=1))
    good &= compare_labels(scores, labels)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
