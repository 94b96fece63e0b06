"""Compares a profile with the predicted times of `./check gpus`, layer by layer.

    fullconv profile --json … > profile.json
    python predicted.py profile.json [--half] [--predicted FILE] [--network NAME]

A ratio above 1: the layer takes longer than predicted. Layers that only one side has are counted at the end.
"""

import argparse
import json
from pathlib import Path

import markdown

HEADS = ["layer", "kernel", "measured, ms", "predicted, ms", "ratio", "predicted bound"]

Key = tuple[str, str]


def by_layer(steps: list[dict]) -> dict[Key, dict]:
    """The steps, of which a layer may have several, by the names of layer and kernel."""
    layers: dict[Key, dict] = {}
    for step in steps:
        key = (step["name"], step["kernel"])
        known = layers.setdefault(key, {"ms": 0.0, "bound": step.get("bound") or ""})
        known["ms"] += step["ms"] or 0.0
    return layers


def ratio(measured: float, predicted: float) -> str:
    return f"{measured / predicted:.2f}" if predicted > 0 else "–"


def comparison(profile: dict, predicted: dict, network: str, half: bool) -> str:
    plans = [p for p in predicted["plans"] if p["network"] == network and p["half"] == half]
    if len(plans) != 1:
        raise SystemExit(f"no prediction of {network} in {'f16' if half else 'f32'}")
    measured, expected = by_layer(profile["steps"]), by_layer(plans[0]["layers"])
    rows = []
    for key in sorted(measured.keys() & expected.keys(), key=lambda key: -measured[key]["ms"]):
        ours, theirs = measured[key]["ms"], expected[key]["ms"]
        figures = [f"{ours:.3f}", f"{theirs:.3f}", ratio(ours, theirs), expected[key]["bound"]]
        rows.append([key[0], f"`{key[1]}`", *figures])
    total = [sum(layer["ms"] for layer in side.values()) for side in (measured, expected)]
    rows.append(["**all**", "", *[f"{ms:.3f}" for ms in total], ratio(*total), ""])
    others = [len(measured.keys() - expected.keys()), len(expected.keys() - measured.keys())]
    return (
        f"{profile['device']}, beside the prediction for {predicted['chip']} ({predicted['device']}, "
        f"{predicted['driver']}).\n\n{markdown.table(HEADS, rows, left=2)}\n\n"
        f"{others[0]} layers were only measured, {others[1]} only predicted: another plan.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path)
    default = Path(__file__).with_name("predicted-h200.json")
    parser.add_argument("--predicted", type=Path, default=default, metavar="FILE")
    parser.add_argument("--network", default="FCN-8s", metavar="NAME")
    parser.add_argument("--half", action="store_true", help="the profile is in f16")
    arguments = parser.parse_args()
    profile, predicted = (
        json.loads(path.read_text()) for path in (arguments.profile, arguments.predicted)
    )
    print(comparison(profile, predicted, arguments.network, arguments.half))


if __name__ == "__main__":
    main()
