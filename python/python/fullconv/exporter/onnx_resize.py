"""ONNX's Resize and Upsample."""

import math

import numpy as np
import torch.nn.functional as F

from .onnx_operators import integers, operator
from .onnx_windows import NotApplicable


@operator("Resize", "Upsample")
def resize(node, x, roi=None, scales=None, sizes=None):
    if node.op == "Upsample":
        scales, places = roi, "asymmetric"
    else:
        places = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode, size, factors = node.attributes.get("mode", "nearest"), None, None
    axes = [a % x.dim() for a in node.attributes.get("axes", range(x.dim()))]
    if scales is not None and np.size(scales):
        factors = dict(zip(axes, (float(s) for s in np.asarray(scales).flatten())))
        if any(factors.get(axis, 1.0) != 1.0 for axis in (0, 1)) or x.dim() != 4:
            raise NotApplicable("of other axes than height and width")
        factors = [factors.get(axis, 1.0) for axis in (2, 3)]
        size = [int(math.floor(n * f + 1e-9)) for n, f in zip(x.shape[2:], factors)]
    elif sizes is not None:
        wanted = dict(zip(axes, integers(sizes, "sizes")))
        if any(wanted.get(axis, x.shape[axis]) != x.shape[axis] for axis in (0, 1)) or x.dim() != 4:
            raise NotApplicable("of other axes than height and width")
        if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NotApplicable(f"keep_aspect_ratio_policy {node.attributes['keep_aspect_ratio_policy']}")
        size = [wanted.get(axis, x.shape[axis]) for axis in (2, 3)]
    else:
        raise NotApplicable("without scales and sizes")
    constant = factors is not None and len(node.fixed) > (1 if node.op == "Upsample" else 2) and node.fixed[1 if node.op == "Upsample" else 2]
    exact = factors is None or all(math.isclose(n * f, s, rel_tol=1e-6) for n, f, s in zip(x.shape[2:], factors, size))
    if mode == "nearest":
        return nearest(node, x, size, factors, places, constant)
    if mode not in ("linear", "cubic"):
        raise NotApplicable(f"mode {mode}")
    if places == "half_pixel_symmetric" and exact or places == "pytorch_half_pixel" and min(size) > 1:
        places = "half_pixel"
    if places not in ("half_pixel", "align_corners") or places == "align_corners" and not exact:
        raise NotApplicable(f"mode {mode} with coordinate_transformation_mode {places}, which PyTorch does not have"
                            if exact or places != "align_corners" else "align_corners with a size that is not whole")
    antialias, outside = bool(node.attributes.get("antialias", 0)), node.attributes.get("exclude_outside", 0)
    if antialias != bool(outside) and (antialias or mode == "cubic"):
        raise NotApplicable(f"antialias {int(antialias)} with exclude_outside {outside}: PyTorch treats the border otherwise")
    coefficient = node.attributes.get("cubic_coeff_a", -0.75)
    if mode == "cubic" and not math.isclose(coefficient, -0.5 if antialias else -0.75):
        raise NotApplicable(f"cubic_coeff_a {coefficient}, where PyTorch has {-0.5 if antialias else -0.75}")
    options = {"mode": {"linear": "bilinear", "cubic": "bicubic"}[mode], "align_corners": places == "align_corners", "antialias": antialias}
    if exact and not constant:
        return F.interpolate(x, size=size, **options)
    return F.interpolate(x, scale_factor=factors, recompute_scale_factor=False, **options)


def nearest(node, x, size, factors, places, constant):
    """The mode of PyTorch that takes the same pixels at this size."""
    rule = node.attributes.get("nearest_mode", "round_prefer_floor") if node.op == "Resize" else "floor"
    for mode in ("nearest", "nearest-exact"):
        for exact in ((False, True) if constant else (True, False)) if factors else (True,):
            same = True
            for axis in (0, 1):
                count, out = int(x.shape[2 + axis]), size[axis]
                scale = factors[axis] if factors else out / count
                theirs = places_of(np.arange(out, dtype=np.float64), count, out, scale, places, rule)
                step = 1.0 / scale if factors and not exact else count / out
                ours = np.floor((np.arange(out) + (0.5 if mode == "nearest-exact" else 0.0)) * step)
                same = same and np.array_equal(theirs, ours.clip(0, count - 1))
            if same:
                options = {"size": size} if exact else {"scale_factor": factors, "recompute_scale_factor": False}
                return F.interpolate(x, mode=mode, **options)
    raise NotApplicable(f"nearest_mode {rule} with coordinate_transformation_mode {places}: other pixels than PyTorch's")


def places_of(y, count, out, scale, places, rule):
    """The pixels that ONNX's rules take for the pixels `y` of the output."""
    if places == "align_corners":
        at = y * (count - 1) / (out - 1) if out > 1 else y * 0.0
    elif places == "asymmetric":
        at = y / scale
    elif places == "half_pixel" or places == "pytorch_half_pixel" and out > 1:
        at = (y + 0.5) / scale - 0.5
    elif places == "half_pixel_symmetric" and math.isclose(out, count * scale):
        at = (y + 0.5) / scale - 0.5
    elif places == "tf_half_pixel_for_nn":
        at = (y + 0.5) / scale
    else:
        raise NotApplicable(f"coordinate_transformation_mode {places}")
    round_ = {"floor": np.floor, "ceil": np.ceil, "round_prefer_ceil": lambda v: np.floor(v + 0.5),
              "round_prefer_floor": lambda v: np.ceil(v - 0.5)}[rule]
    return round_(np.round(at, 9)).clip(0, count - 1)
