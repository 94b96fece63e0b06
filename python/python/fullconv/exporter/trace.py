"""Records the operations of a module on one picture.

The module runs as it is, on real tensors in f64, at one concrete size: sizes are Python's integers, and code around the
operations just runs. A dispatch mode under inference mode sees ATen's operations before PyTorch decomposes them.
Operations that do not depend on the picture are not recorded: their results are constants.
"""

import copy
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .values import ExportError

NARROW = (torch.float32, torch.float16, torch.bfloat16)
OWN = f"{Path(__file__).resolve().parent}{os.sep}"
TORCH = f"{Path(torch.__file__).resolve().parent}{os.sep}"
# Operations that return their input when a network is used, not trained.
SAME = {f"aten.{name}" for name in (
    "alias.default", "detach.default", "contiguous.default", "clone.default", "dropout.default", "feature_dropout.default",
    "alpha_dropout.default", "feature_alpha_dropout.default", "lift_fresh.default", "lift_fresh_copy.default", "type_as.default",
    "resolve_conj.default", "resolve_neg.default", "to.dtype", "to.device", "to.dtype_layout", "to.other", "_to_copy.default",
    "positive.default", "detach_.default", "requires_grad_.default")}
# Questions about a tensor's form, which Python may ask.
FORM = ("sym_", "size", "stride", "numel", "dim", "is_", "storage_offset", "_has_")
WHOLE_VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten", "alias", "detach", "view_as")


@dataclass(eq=False)
class Ref:
    """A result of a recorded call; the picture is call -1."""
    call: int
    result: int = 0

    def __eq__(self, other):
        return isinstance(other, Ref) and (self.call, self.result) == (other.call, other.result)

    def __hash__(self):
        return hash((self.call, self.result))


@dataclass(eq=False)
class Call:
    """A recorded operation: ATen's name, arguments by the schema's names, results' shapes, and where it was called."""
    target: str
    arguments: dict
    shapes: list
    dtypes: list
    path: str
    count: int
    place: tuple
    values: list = field(default_factory=list)


@dataclass(eq=False)
class Known:
    """A tensor that does not depend on the picture, its name in the state dict, and the operation on such tensors that
    made it."""
    tensor: torch.Tensor
    name: str = None
    call: Call = None


class InDouble(TorchDispatchMode):
    """Computes in f64 what the module asks for in a narrower type."""

    def __init__(self):
        super().__init__()
        self.wide = {}

    def widen(self, value):
        if isinstance(value, torch.dtype):
            return torch.float64 if value in NARROW else value
        if isinstance(value, torch.Tensor) and value.dtype in NARROW:
            if id(value) not in self.wide:
                # A view of an ordinary tensor has to be an ordinary one.
                with torch.inference_mode(value.is_inference()):
                    self.wide[id(value)] = (value, value.detach().double())
            return self.wide[id(value)][1]
        return value

    def widened(self, args, kwargs):
        return torch.utils._pytree.tree_map(self.widen, (args, kwargs or {}))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.is_mutable:
            return func(*args, **(kwargs or {}))
        args, kwargs = self.widened(args, kwargs)
        return func(*args, **kwargs)


class Recorder(InDouble):
    """Records the calls that depend on the picture."""

    def __init__(self, module, picture, keep=False):
        super().__init__()
        self.calls, self.stack, self.counts = [], [], {}
        self.paths = {id(part): path for path, part in module.named_modules()}
        self.names = {id(t): name for kind in (module.named_buffers, module.named_parameters)
                      for name, t in kind(remove_duplicate=False)}
        self.refs = {id(picture): Ref(-1)}
        self.alive = [picture]  # tensors whose ids are keys
        self.of_storage = {self.storage(picture): [picture]}
        self.views = {}  # id of a view → (its base, the operation, the arguments)
        self.origins = {}  # id of a tensor that does not depend on the picture → (the operation, the arguments, the place)
        self.origin_calls = {}  # … → the `Call`
        self.changed = set()  # storages of such tensors that were changed in place
        self.keep = keep

    @staticmethod
    def storage(tensor):
        return tensor.untyped_storage().data_ptr() if tensor.numel() else -id(tensor)

    # -- where a call is ---------------------------------------------------------------------------------------

    def enter(self, module, _):
        path = self.paths.get(id(module))
        if path is None:
            path = self.stack[-1][0] if self.stack else ""
        self.counts[path] = self.counts.get(path, -1) + 1
        self.stack.append((path, self.counts[path]))

    def leave(self, *_):
        if self.stack:
            self.stack.pop()

    @staticmethod
    def place():
        frame, first = sys._getframe(1), None
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(OWN) and not name.startswith("<"):
                first = first or (name, frame.f_lineno)
                if not name.startswith(TORCH):
                    return name, frame.f_lineno
            frame = frame.f_back
        return first

    # -- recording -----------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        args, kwargs = self.widened(args, kwargs) if not func._schema.is_mutable else (args, kwargs or {})
        leaves = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        traced = any(self.find(x) for x in leaves)
        if traced and str(func).removeprefix("aten.").startswith(("item.", "_local_scalar_dense.", "is_nonzero.", "equal.")):
            self.refuse_reading()
        arguments = self.named(func, args, kwargs) if traced else None
        before = self.bases(leaves[0]) if func._schema.is_mutable and traced and leaves else {}
        result = func(*args, **kwargs)
        results = [r for r in torch.utils._pytree.tree_leaves(result) if isinstance(r, torch.Tensor)]
        if traced and not results and not str(func).removeprefix("aten.").startswith(FORM):
            self.refuse_reading()
        if func._schema.is_mutable and results and leaves and results[0] is leaves[0]:
            self.mutated(func, leaves[0], arguments, traced, before)
            return result
        self.note_views(func, args, kwargs, leaves, results)
        if traced and results:
            if str(func) in SAME and results[0].dtype.is_floating_point:
                self.hold(results[0], self.find(leaves[0]))
            else:
                self.record(str(func), arguments, results)
        elif len(results) == 1 and results[0].dtype.is_floating_point and not any(results[0] is leaf for leaf in leaves):
            self.origins[id(results[0])] = (func, args, kwargs, leaves, self.place())
            self.alive.append(results[0])
        return result

    def refuse_reading(self):
        name, line = self.place()
        raise ExportError(f"{name}:{line}: Python reads the value of a pixel here, so that the operations depend on the picture")

    def find(self, tensor):
        ref = self.refs.get(id(tensor))
        if ref is None and id(tensor) not in self.names and tensor.numel():
            # An alias that no operation made, such as `.data`.
            for other in self.of_storage.get(self.storage(tensor), ()):
                if id(other) in self.refs and self.covers(tensor, other) and tensor.shape == other.shape:
                    return self.refs[id(other)]
        return ref

    @staticmethod
    def covers(a, b):
        return a.numel() == b.numel() and a.storage_offset() == b.storage_offset() and a.is_contiguous() == b.is_contiguous()

    def hold(self, tensor, ref):
        self.refs[id(tensor)] = ref
        self.alive.append(tensor)
        self.of_storage.setdefault(self.storage(tensor), []).append(tensor)

    def argument(self, value):
        if not isinstance(value, torch.Tensor):
            return value
        ref = self.find(value)
        if ref is not None:
            return ref
        name = self.names.get(id(value))
        if name is None and id(value) in self.wide:
            name = self.names.get(id(self.wide[id(value)][0]))
        return Known(value if name else value.clone(), name, None if name else self.origin(value))

    def origin(self, tensor):
        """The operation that made a tensor of the module's own tensors, as a call; None if there is none."""
        if id(tensor) not in self.origins or self.storage(tensor) in self.changed:
            return None
        if id(tensor) not in self.origin_calls:
            func, args, kwargs, leaves, place = self.origins[id(tensor)]
            if str(func) in SAME:
                return self.origin(leaves[0])
            arguments = self.named(func, args, kwargs)
            own = any(isinstance(x, Known) and (x.name or x.call) for x in torch.utils._pytree.tree_leaves(arguments))
            self.origin_calls[id(tensor)] = Call(str(func), arguments, [list(tensor.shape)], [tensor.dtype], "", 0, place) if own else None
        return self.origin_calls[id(tensor)]

    def named(self, func, args, kwargs):
        """The arguments by the schema's names."""
        given = torch.utils._pytree.tree_map(self.argument, (args, kwargs))
        result = {a.name: a.default_value for a in func._schema.arguments}
        result.update(zip(result, given[0]), **given[1])
        return result

    def record(self, target, arguments, results):
        path, count = self.stack[-1] if self.stack else ("", 0)
        call = Call(target, arguments, [list(r.shape) for r in results], [r.dtype for r in results], path, count, self.place())
        if self.keep:
            call.values = [r.clone() for r in results]
        self.calls.append(call)
        refs = [Ref(len(self.calls) - 1, i) for i in range(len(results))]
        for tensor, ref in zip(results, refs):
            self.hold(tensor, ref)
        return refs[0]

    # -- changes in place ----------------------------------------------------------------------------------------

    def note_views(self, func, args, kwargs, leaves, results):
        for result in results:
            if leaves and result is not leaves[0] and result.numel() and self.storage(result) == self.storage(leaves[0]):
                self.views[id(result)] = (leaves[0], func, args, kwargs)
                self.alive.extend([result, leaves[0]])
                if id(result) not in self.refs:
                    self.of_storage.setdefault(self.storage(result), []).append(result)
                    self.of_storage.setdefault(self.storage(leaves[0]), []).append(leaves[0])

    def bases(self, tensor):
        """What the tensor is a view of, as arguments, before it changes."""
        result = {}
        while id(tensor) in self.views:
            tensor = self.views[id(tensor)][0]
            result[id(tensor)] = self.argument(tensor)
        return result

    def mutated(self, func, tensor, arguments, traced, before):
        """A change in place is a new value of the tensor, of what it is a view of, and of other views of all of it."""
        if not traced:
            shared = any(id(t) in self.refs for t in self.of_storage.get(self.storage(tensor), ()))
            if not shared:
                self.changed.add(self.storage(tensor))
                return
            arguments = self.named(func, (tensor,), {})
        name, _, overload = str(func).removeprefix("aten.").partition(".")
        if str(func) in SAME or name in ("dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"):
            return
        ref = self.record(f"aten.{name.removesuffix('_')}.{overload}", arguments, [tensor])
        fresh, at = {id(tensor)}, tensor
        while id(at) in self.views:
            base, view, args, kwargs = self.views[id(at)]
            kind = str(view).removeprefix("aten.").split(".")[0]
            if kind in ("slice", "select"):
                given = self.named(view, args, kwargs)
                given.update(self=before.get(id(base), given["self"]), src=self.refs[id(at)])
                ref = self.record(f"aten.{kind}_scatter.default", given, [base])
            elif kind in WHOLE_VIEWS:
                ref = self.record("aten.reshape.default", {"self": ref, "shape": list(base.shape)}, [base])
            else:
                break
            fresh.add(id(base))
            at = base
        for other in list(self.of_storage.get(self.storage(tensor), ())):
            if id(other) in fresh:
                continue
            source = next((t for t in (tensor, at) if self.covers(other, t)), None)
            if source is not None:
                self.record("aten.reshape.default", {"self": self.refs[id(source)], "shape": list(other.shape)}, [other])
            else:
                self.record("changed_in_place", {"self": ref}, [other])
            fresh.add(id(other))


@dataclass(eq=False)
class Trace:
    """The calls of a module on a picture, and its result: paths of keys and indices, with what they lead to."""
    size: tuple
    calls: list
    outputs: list


def leaves(result, path=()):
    """The tensors of a module's result, with their paths."""
    if isinstance(result, torch.Tensor):
        yield path, result
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(result, (list, tuple)):
        keys = getattr(result, "_fields", range(len(result)))
        for key, value in zip(keys, result):
            yield from leaves(value, (*path, str(key)))
    elif hasattr(result, "__dataclass_fields__"):
        for key in result.__dataclass_fields__:
            yield from leaves(getattr(result, key), (*path, str(key)))


def picture(channels, size, seed=0):
    """A picture of smooth shapes and noise, the same each time."""
    generator = torch.Generator().manual_seed(seed + 7919 * size[0] + size[1])
    return torch.randn(1, channels, *size, generator=generator, dtype=torch.float64)


class Run:
    """A context in which the module runs in f64, without gradients."""

    def __enter__(self):
        self.default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        self.fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its fused operation hides what it computes
        self.inference = torch.inference_mode()
        self.inference.__enter__()

    def __exit__(self, *error):
        self.inference.__exit__(*error)
        torch.backends.mha.set_fastpath_enabled(self.fast)
        torch.set_default_dtype(self.default)


def copied(module):
    """A copy of a module that shares its parameters. Tensors that hang on others, as the old `weight_norm` leaves them, are
    copied by value."""
    memo = {id(parameter): parameter for parameter in module.parameters()}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def doubled(module):
    return copy.deepcopy(copied(module)).cpu().eval().double()


def trace(module, size, channels, keep=False, seed=0):
    """The trace of a copy of the module, which is in f64, on a picture of this size."""
    module = copied(module)
    x = picture(channels, size, seed)
    recorder = Recorder(module, x, keep)
    modules = torch.nn.modules.module
    hooks = [modules.register_module_forward_pre_hook(recorder.enter),
             modules.register_module_forward_hook(recorder.leave, always_call=True)]
    try:
        with Run(), recorder:
            result = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [(path, recorder.find(tensor), tensor) for path, tensor in leaves(result)]
    return Trace(tuple(size), recorder.calls, outputs)


def compute(module, x):
    """The tensors of the module's result for a picture in f64, with their paths."""
    module = copied(module)
    with Run(), InDouble():
        return list(leaves(module(x)))


def where(node):
    """The module and the line of a call, for messages."""
    place = [f"in {node.path}"] if node.path else []
    if node.place:
        file = Path(node.place[0])
        file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        place.append(f"at {file}:{node.place[1]}")
    return f" {' '.join(place)}" if place else ""


def title(node):
    """The name of a call's operation."""
    parts = node.target.split(".")
    return parts[1] if len(parts) > 2 else parts[0]
