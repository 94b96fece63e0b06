"""The stages of a network: class scores inside it, at coarser strides than its output's."""

import torch

from .trace import compute, picture
from .values import ExportError
from .verify import BOUND, evaluate, relative

ALIGN = ("start", "center")
MOST = 64


def add_stages(translation, stages, align):
    """Adds `stages`, {node or module: stride}, to the translation's graph, after a comparison with the module."""
    if align not in ALIGN:
        raise ExportError(f"align {align!r} is neither start nor center; it says where the scores of the stages lie")
    strides = list(stages.values())
    if not all(isinstance(s, int) and 1 <= s <= MOST for s in strides):
        raise ExportError(f"the stages' strides are numbers from 1 to {MOST}, not {strides}")
    if len(strides) < 2 or strides != sorted(set(strides), reverse=True):
        raise ExportError(f"stages are at least two, the largest stride first, not {strides}")
    names = {stage: node_of(translation, stage) for stage in stages}
    for size in translation.traced[:2]:
        compare(translation, stages, names, size)
    translation.graph["stages"] = {
        "align": align, "scores": [{"node": names[stage], "stride": stride} for stage, stride in stages.items()]}


def node_of(translation, stage):
    """The name of a node that is called so, or else of the last one of the module of this path."""
    live = translation.live
    if any(made.name == stage for made in live):
        return stage
    inside = [m.name for m in live if m.source.path == stage or m.source.path.startswith(f"{stage}.")]
    if not inside:
        raise ExportError(f"stage {stage!r} is no node and no module that the scores depend on")
    return inside[-1]


def compare(translation, stages, names, size):
    """Raises unless the stages' nodes have the values of the modules, and the sizes of their strides."""
    module, results = translation.module, {}
    inside = dict(module.named_modules())

    def keep(stage):
        return lambda _, __, result: results.update({stage: result})

    hooks = [inside[stage].register_forward_hook(keep(stage)) for stage in stages if stage in inside]
    x = picture(translation.channels_in, size)
    try:
        compute(module, x)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        values = evaluate(translation.graph, translation.tensors, x)
    for stage, stride in stages.items():
        found, expected = values[names[stage]], results.get(stage)
        if stage in inside and (not isinstance(expected, torch.Tensor) or expected.shape != found.shape
                                or not relative(found, expected.double()) <= BOUND):
            raise ExportError(f"stage {stage}: the module's result is not that of a node of the graph")
        wanted = [1, translation.channels, *(-(-side // stride) for side in size)]
        if list(found.shape) != wanted:
            raise ExportError(f"stage {stage}: {list(found.shape)} for a picture of {size[0]}×{size[1]}; with stride {stride} "
                              f"it is {wanted}")
