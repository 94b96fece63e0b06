"""Which of a module's results is the network's output, and what of its end is left out."""

from .trace import Ref
from .values import ExportError


def describe(outputs):
    return ", ".join(f"{'.'.join(path) or 'the result'} {list(tensor.shape)}" for path, _, tensor in outputs)


def choose_output(trace, wanted=None):
    """The path and the `Ref` of the output in a trace. `wanted` is a number, a key, a path of keys and numbers with dots,
    or the path of a module inside, whose result is taken."""
    outputs = [o for o in trace.outputs if o[1] is not None]
    if not outputs:
        raise ExportError("the module returns no tensor that depends on the picture")
    if wanted is not None:
        return chosen(trace, outputs, str(wanted))
    if len(outputs) == 1:
        return outputs[0][0], outputs[0][1]
    for key in ("out", "logits"):
        found = [o for o in outputs if o[0] == (key,)]
        if found:
            return found[0][0], found[0][1]
    maps = [o for o in outputs if o[2].dim() == 4 and min(o[2].shape[2:]) > 1]
    if len(maps) == 1:  # beside the classes of the whole picture
        return maps[0][0], maps[0][1]
    raise ExportError(f"the module returns {len(outputs)} tensors; --output N|NAME chooses the scores: {describe(outputs)}")


def chosen(trace, outputs, wanted):
    path = tuple(wanted.split("."))
    found = [o for o in outputs if o[0] == path] or [o for o in outputs if o[0][:len(path)] == path]
    if not found and wanted.isdigit() and int(wanted) < len(outputs):
        found = [outputs[int(wanted)]]
    if len(found) == 1:
        return found[0][0], found[0][1]
    if not found:
        inside = [i for i, call in enumerate(trace.calls) if call.path == wanted or call.path.startswith(f"{wanted}.")]
        if inside:
            return ("module", wanted), Ref(inside[-1])
    what = f"is {len(found)} tensors" if found else "is not among the results"
    raise ExportError(f"--output {wanted}: {what}: {describe(found or outputs)}")


def strip_end(nodes, ref):
    """The output before a final argmax over the classes, and the name of what was left out."""
    removed = []
    while ref.call >= 0:
        node = nodes[ref.call]
        kind = node.target.removeprefix("aten.").split(".")[0]
        source = node.arguments.get("self")
        if not isinstance(source, Ref):
            break
        if kind == "argmax" and node.arguments.get("dim") in (1, -3):
            removed.append("argmax")
            ref = source
            break
        if kind == "max" and ref.result == 1 and node.arguments.get("dim") in (1, -3):
            removed.append("argmax")
            ref = source
            break
        integers = not node.dtypes[0].is_floating_point
        if kind in ("squeeze", "unsqueeze", "to", "_to_copy", "view", "reshape") and integers:
            ref = source
            removed.append("")
            continue
        break
    return (ref, "argmax") if "argmax" in removed else (None, None)
