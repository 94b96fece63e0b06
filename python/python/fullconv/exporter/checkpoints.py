"""Loads a module's weights from a checkpoint as trainers write them, for tools/export.py.

A checkpoint is unwrapped as it is found: the module's own tensor names decide which dictionary of the file holds the
weights, and which prefix (`module.`, `model.`, `_orig_mod.` …) stands before the names.
"""

import re
import sys
from dataclasses import dataclass, field

import torch

from .checkpoint_files import Script, read
from .values import ExportError

# Keys of dictionaries that hold the network itself, in the order in which they are taken.
USUAL = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "params", "weights")
# A part of a key or prefix that marks a copy of the network: averaged over the training, or the teacher of a student.
COPY = re.compile(r"(^|[._-])(ema|swa|shadow|averaged?|teacher|momentum)\d*([._-]|$)|params_ema", re.IGNORECASE)
# Parts that wrappers put between a module's name and its parameters.
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# Levels of dictionaries in dictionaries that are searched.
DEPTH = 5
# How many names a message lists.
LISTED = 4


@dataclass
class Candidate:
    """A dictionary of tensors in the file, and a prefix of its names under which the module's tensors lie."""
    path: str
    prefix: str
    tensors: dict  # the module's name → tensor
    others: list  # the names in the file that the module lacks
    wrappers: list = field(default_factory=list)  # the parts of WRAPPERS that its names lost
    wrong: list = field(default_factory=list)  # (name, shape in the file, the module's)

    def __str__(self):
        return ".".join(part for part in (self.path, self.prefix.rstrip(".")) if part) or "the file itself"

    @property
    def rank(self):
        keys = f"{self.path}.{self.prefix}".split(".")
        usual = min((USUAL.index(key) for key in keys if key in USUAL), default=len(USUAL) if any(keys) else 0)
        return bool(COPY.search(self.path) or COPY.search(self.prefix)), usual

    def is_called(self, key):
        names = {self.path, self.prefix.rstrip("."), str(self)}
        return key in names or f"{self}.".startswith(f"{key}.")


def load_weights(module, path, key=None, trust=False):
    """Loads the weights of `path`, bare or inside a checkpoint, into `module`, and says on stderr where they lay.

    `key` names one of several dictionaries or prefixes of the file. With `trust`, a file may hold any Python objects;
    reading these can run code. Raises ExportError, in one line, if the file does not have all of the module's tensors.
    """
    content = read(path, trust)
    if isinstance(content, (list, tuple)):
        raise ExportError(f"{path} holds a {type(content).__name__} of {len(content)}, not a state dict: "
                          "save module.state_dict() alone")
    found = list(dictionaries(content))
    if not found:
        raise ExportError(f"{path} has no state dict: it holds {describe(content)}")
    module_names = wanted(module)
    candidates = [c for place, tensors in found for c in match(place, tensors, module_names)]
    chosen, others = choose(path, candidates, found, module_names, key)
    check(path, chosen, module, module_names)
    try:
        module.load_state_dict(chosen.tensors, strict=False)
    except (RuntimeError, TypeError, ValueError) as problem:
        raise ExportError(f"{path}: {' '.join(str(problem).split())}") from problem
    kind = "TorchScript" if isinstance(content, Script) else type(content).__name__ if not isinstance(content, dict) else None
    report(path, kind, chosen, others)


def report(path, kind, chosen, others):
    """Says which of the file's weights were taken, if it is not plain, and what was left out."""
    line = [f"takes the state dict of {kind}"] if kind else []
    if chosen.path:
        line.append(f"takes the weights of {chosen.path!r}")
    lost = [*chosen.wrappers, *([chosen.prefix] if chosen.prefix else [])]
    if lost:
        line.append(f"tensor names lose {' and '.join(map(repr, lost))}")
    if others:
        line.append(f"also there: {', '.join(map(str, others))}; --key chooses one of them")
    if chosen.others:
        names = ", ".join(chosen.others[:LISTED]) + (" …" if len(chosen.others) > LISTED else "")
        line.append(f"left out, as the module does not have them: {names}")
    if line:
        print(f"export: {path}: {'; '.join(line)}", file=sys.stderr)


# -- the dictionaries of a checkpoint ------------------------------------------------------------------------


def dictionaries(content, path="", depth=0):
    """The dictionaries of tensors in a checkpoint, each with its keys joined by dots."""
    content = state_of(content)
    if not isinstance(content, dict):
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if tensors:
        yield path, tensors
    if depth < DEPTH:
        for name, value in content.items():
            if not isinstance(value, torch.Tensor):
                yield from dictionaries(value, f"{path}.{name}" if path else str(name), depth + 1)


def state_of(content):
    """The state dict of a pickled module; anything else as it is. A module whose class is not importable has its
    parameters in its attributes all the same."""
    parts = getattr(content, "__dict__", {})
    if not isinstance(parts.get("_parameters"), dict) or not isinstance(parts.get("_modules"), dict):
        return content
    state = {**parts["_parameters"], **parts.get("_buffers", {})}
    state = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    for name, part in parts["_modules"].items():
        inner = state_of(part)
        if isinstance(inner, dict):
            state.update({f"{name}.{rest}": tensor for rest, tensor in inner.items()})
    return state


def describe(content):
    if isinstance(content, dict):
        names = [str(name) for name in content]
        return f"a dictionary of {', '.join(names[:LISTED])}{' …' if len(names) > LISTED else ''}" if names else "an empty dictionary"
    if isinstance(content, torch.Tensor):
        return f"one tensor of shape {list(content.shape)}"
    return f"an object of type {type(content).__module__}.{type(content).__qualname__}"


# -- names ---------------------------------------------------------------------------------------------------


def wanted(module):
    """The module's tensors by name, without the counters of batches, which inference does not need."""
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items()
            if isinstance(tensor, torch.Tensor) and not name.endswith("num_batches_tracked")}


def match(path, tensors, module_names):
    """The candidates of a dictionary: one for each prefix under which names of the module are found."""
    wrappers = [w for w in WRAPPERS if any(w in name for name in tensors) and not any(w in name for name in module_names)]
    plain = renormed({without(wrappers, name): tensor for name, tensor in tensors.items()}, module_names)
    counts = {}
    for name in plain:
        for prefix, rest in splits(name):
            if rest in module_names:
                counts[prefix] = counts.get(prefix, 0) + 1
    most = max(counts.values(), default=0)
    candidates = []
    for prefix, count in counts.items():
        # A prefix that finds few of the names that another one finds stands before a name that occurs twice.
        if 2 * count <= most:
            continue
        own = {name[len(prefix):]: tensor for name, tensor in plain.items() if name.startswith(prefix)}
        kept = {name: tensor for name, tensor in own.items() if name in module_names or name.endswith("num_batches_tracked")}
        others = [name for name in plain if not (name.startswith(prefix) and name[len(prefix):] in kept)]
        wrong = [(name, list(tensor.shape), list(module_names[name].shape)) for name, tensor in kept.items()
                 if name in module_names and not is_lazy(module_names[name]) and tensor.shape != module_names[name].shape]
        candidates.append(Candidate(path, prefix, kept, others, wrappers, wrong))
    return candidates


def splits(name):
    """The ways to cut a name at a dot, the whole name first."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[:dot.end()], name[dot.end():]


def without(wrappers, name):
    for wrapper in wrappers:
        name = name.replace(wrapper, "")
    return name


def is_lazy(tensor):
    return torch.nn.parameter.is_lazy(tensor)


# -- weight norm and spectral norm ---------------------------------------------------------------------------

# The names of torch.nn.utils.weight_norm and spectral_norm, and those of their successors in parametrizations.
RENAMED = {
    ("_g", "_v"): (".original0", ".original1"),
    ("_orig", "_u", "_v"): (".original", ".0._u", ".0._v"),
}


def renormed(tensors, module_names):
    """The tensors under the names of the module's kind of weight norm, or of spectral norm; a weight norm that the
    module does not have becomes the weight that it stands for."""
    new_style = any(".parametrizations." in f".{name}" for name in module_names)
    old_style = any(name.endswith(("_g", "_orig")) for name in module_names)
    for old, new in RENAMED.items():
        for name in list(tensors):
            if name.endswith(old[0]) and all(name[:-len(old[0])] + part in tensors for part in old):
                layer, _, weight = name[:-len(old[0])].rpartition(".")
                names = [name[:-len(old[0])] + part for part in old]
                renamed = [f"{layer + '.' if layer else ''}parametrizations.{weight}{part}" for part in new]
                same = new_style
            elif name.endswith(new[0]) and "parametrizations." in name:
                stem = name[:-len(new[0])]
                layer, _, weight = stem.rpartition("parametrizations.")
                names = [stem + part for part in new]
                renamed = [f"{layer}{weight}{part}" for part in old]
                same = old_style
            else:
                continue
            if not all(part in tensors for part in names):
                continue
            plain = f"{layer.rstrip('.')}.{weight}".lstrip(".")
            if same:
                tensors.update({to: tensors.pop(at) for at, to in zip(names, renamed)})
            elif len(names) == 2 and not new_style and not old_style:
                g, v = (tensors.pop(at) for at in names)
                tensors[plain] = normed(g, v)
    return tensors


def normed(g, v):
    """The weight of a weight norm: g · v / ‖v‖; the norm is over the axes of which g has one."""
    axes = [axis for axis in range(v.dim()) if g.dim() <= axis or g.shape[axis] == 1]
    norm = v.double().pow(2).sum(axes, keepdim=True).sqrt()
    return (v.double() / norm * g.double().reshape(norm.shape)).to(v.dtype)


# -- the choice ----------------------------------------------------------------------------------------------


def choose(path, candidates, found, module_names, key):
    """The candidate that holds the module's weights, and the other complete ones.

    The network itself goes before averaged copies of it, then the usual keys of trainers go first.
    """
    if key is not None:
        named = [c for c in candidates if c.is_called(key)]
        if not named:
            there = sorted({str(c) for c in candidates} | {place for place, _ in found if place})
            raise ExportError(f"{path} has no weights called {key!r}; it has {', '.join(there[:12]) or 'no such key'}")
        candidates = named
    if not candidates:
        names = [name for _, tensors in found for name in tensors]
        raise ExportError(f"{path} has none of the module's tensors: the file has {listed(names)}; "
                          f"the module {listed(list(module_names))}")
    complete = [c for c in candidates if not c.wrong and not missing(c, module_names)]
    if not complete:
        return max(candidates, key=lambda c: (len(c.tensors) - len(c.wrong), [-int(r) for r in c.rank])), []
    complete.sort(key=lambda c: c.rank)
    first, *others = complete
    rivals = [c for c in others if c.rank == first.rank]
    if any(not same(first, rival) for rival in rivals):
        names = ", ".join(str(c) for c in (first, *rivals))
        raise ExportError(f"{path} has several sets of weights for the module: {names}; choose one with --key")
    return first, others


def same(a, b):
    """Whether two candidates hold the same numbers."""
    return all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items() if name in b.tensors)


def missing(candidate, module_names):
    """The module's tensors that the candidate lacks; a file needs a shared tensor once, under any of its names."""
    shared = {id(module_names[name]) for name in candidate.tensors if name in module_names}
    return [name for name, tensor in module_names.items() if name not in candidate.tensors and id(tensor) not in shared]


def check(path, candidate, module, module_names):
    """Raises ExportError unless the candidate has all of the module's tensors, in its shapes, as plain numbers."""
    place = path if str(candidate) == "the file itself" else f"{path}, {candidate}"
    lacking = missing(candidate, module_names)
    if candidate.wrong:
        shapes = "; ".join(f"{name} is {theirs} in the file, {ours} in the module" for name, theirs, ours in candidate.wrong[:3])
        rest = len(candidate.wrong) - 3
        raise ExportError(f"{place}: {shapes}{f'; and {rest} more' if rest > 0 else ''}")
    if lacking:
        raise ExportError(f"{place} lacks {len(lacking)} of the module's {len(module_names)} tensors: {listed(lacking)}; "
                          f"it has {listed(candidate.others) if candidate.others else 'no others'}")
    for name, tensor in candidate.tensors.items():
        ours = module_names.get(name)
        if tensor.is_quantized or tensor.is_sparse or tensor.is_meta:
            raise ExportError(f"{place}: {name} is a quantised, sparse or empty tensor; dense f32 weights are needed")
        floats = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        if ours is not None and ours.is_floating_point() and not floats:
            raise ExportError(f"{place}: {name} is {str(tensor.dtype).removeprefix('torch.')}; weights have to be f32, f16, bf16 or f64")


def listed(names):
    return ", ".join(names[:LISTED]) + (f" … ({len(names)} in all)" if len(names) > LISTED else "")


# -- the module ----------------------------------------------------------------------------------------------


def without_parametrizations(module):
    """The module with the weights that its weight norms and other parametrizations compute; changed in place."""
    for part in module.modules():
        for hook in list(part._forward_pre_hooks.values()):
            if type(hook).__name__ == "WeightNorm":
                torch.nn.utils.remove_weight_norm(part, hook.name)
            elif type(hook).__name__ == "SpectralNorm":
                part.eval()
                torch.nn.utils.remove_spectral_norm(part, hook.name)
        if torch.nn.utils.parametrize.is_parametrized(part):
            for name in list(part.parametrizations):
                part.eval()
                torch.nn.utils.parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    return module
