"""From a module to a verified graph: traces at several sizes, their alignment, the translation and its verification."""

import sys
import threading
import time

import torch

from .align import align
from .ops import Translator
from .outputs import choose_output, strip_end
from .trace import TORCH, compute, doubled, picture, trace
from .values import ExportError
from .verify import Difference, compare

# Traced and untraced sizes: both orientations, every parity, no small factors in common, one larger.
TRACED = [(64, 96), (75, 53), (97, 118), (58, 131)]
OTHERS = [(83, 110), (40, 29), (106, 69), (24, 43), (157, 212)]
# The same in multiples that a network may demand of its pictures.
UNITS_TRACED = [(2, 3), (3, 2), (5, 4), (2, 5)]
UNITS_OTHERS = [(3, 4), (4, 3), (6, 5)]
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)

# Seconds that one more comparison may take, as expected from those before it.
LONG = 20.0
# Seconds after which two comparisons are enough.
ENOUGH = 60.0


class Progress:
    """Says on stderr what is being done if it takes long."""

    EVERY = 15

    def __init__(self):
        self.text, self.begun, self.over = "", time.monotonic(), threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while not self.over.wait(self.EVERY):
            print(f"export: {self.text} ({time.monotonic() - self.begun:.0f} s)", file=sys.stderr, flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()


def plans(example):
    """Sizes to trace and sizes to verify with, from free to restricted, from small to the example's."""
    for m in MULTIPLES:
        if m <= 8:
            yield m, [tuple(-(-v // m) * m for v in s) for s in TRACED], [tuple(-(-v // m) * m for v in s) for s in OTHERS]
        else:
            yield m, [tuple(v * m for v in s) for s in UNITS_TRACED], [tuple(v * m for v in s) for s in UNITS_OTHERS]
    height, width = example
    for m in MULTIPLES:
        if (height % m, width % m) == (0, 0):
            steps = [(0, 0), (3, 1), (1, 5), (6, 2)] if m > 1 else [(0, 0), (11, 3), (6, 29), (33, 16)]
            more = [(2, 3), (5, 1), (1, 0)] if m > 1 else [(5, 14), (22, 7), (1, 0)]
            if height == width:
                more.append((0, 2))
            yield m, [(height + a * m, width + b * m) for a, b in steps], [(height + a * m, width + b * m) for a, b in more]


def failure(problem):
    """One line about an exception of the module, with the place in the user's code."""
    text = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    place, at = "", problem.__traceback__
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        if not name.startswith(TORCH) and "exporter" not in name and not name.startswith("<"):
            place = f" at {name}:{at.tb_lineno}"
        at = at.tb_next
    return f"{place}: {text}"


class Translation:
    """A graph and its tensors in f64, of a module traced at some sizes."""

    def __init__(self, module, traces, channels_in, output):
        self.channels_in, self.module = channels_in, module
        self.path, ref = choose_output(traces[0], output)
        refs = [ref]
        for one in traces[1:]:
            path, other = choose_output(one, output)
            if path != self.path:
                raise ExportError("the module returns different results for different sizes of pictures")
            refs.append(other)
        self.inside = self.path[:1] == ("module",)
        self.nodes, ref = align(traces, refs)
        before, self.removed = strip_end(self.nodes, ref)
        self.ref = before if self.removed else ref
        self.inside = self.inside or bool(self.removed)
        translator = Translator(self.nodes, [t.size for t in traces], channels_in)
        made = translator.run(self.ref)
        self.graph = translator.graph(module, made)
        self.values, self.tensors, self.live = translator.values, translator.written, translator.live
        self.channels = made.shape[1]
        self.traced = [t.size for t in traces]

    def find_inside(self, recorded):
        """The value of the output in a trace, where it is not among the module's results."""
        if len(recorded.calls) == len(self.nodes):
            return recorded.calls[self.ref.call].values[self.ref.result]
        wanted = self.nodes[self.ref.call]
        same = [c for c in recorded.calls if c.target == wanted.target and c.path == wanted.path and c.count == wanted.count
                and c.place == wanted.place]
        if not same:
            raise ExportError("the output is not computed for every size of pictures")
        return same[-1].values[self.ref.result]


def trace_all(module, sizes, channels, progress):
    traces = []
    for size in sizes:
        progress.text = f"runs the module on a picture of {size[0]}×{size[1]}"
        traces.append(trace(module, size, channels))
    return traces


def translate(module, example, output=None, fixed=False):
    """A verified `Translation` of a module. `example` is [n, c, h, w]; with `fixed`, for its size only."""
    module = doubled(module)
    channels, size = example.shape[1], tuple(example.shape[2:])
    with Progress() as progress, torch.no_grad():
        if fixed:
            try:
                traces = trace_all(module, [size], channels, progress)
            except ExportError:
                raise
            except Exception as problem:  # noqa: BLE001 - the module's own
                raise ExportError(f"the module fails for a picture of {size[0]}×{size[1]}{failure(problem)}") from problem
            translation = Translation(module, traces, channels, output)
            progress.text = "compares the graph with the module"
            try:
                compare(translation, module, size, seed=2)
            except Difference as difference:
                raise ExportError(str(difference)) from None
            translation.verified = [size]
            return translation
        return translate_free(module, size, channels, output, progress)


def translate_free(module, size, channels, output, progress):
    """A translation for pictures of every size that the module takes."""
    traces, others = first_plan(module, size, channels, progress)
    for _ in range(3):
        progress.text = "translates"
        translation = Translation(module, traces, channels, output)
        try:
            verified = check(translation, module, [*others, size], progress)
            if not verified:
                raise ExportError(f"the module takes no picture other than those of {', '.join(f'{h}×{w}' for h, w in translation.traced)}, "
                                  "so that the graph cannot be verified; --fixed-size HxW exports it for one size")
            translation.verified = verified
            return translation
        except Difference as difference:
            # A size at which the graph is wrong tells more about the module: it is traced too.
            last = difference
            if difference.size in translation.traced:
                break
            traces = [*traces, *trace_all(module, [difference.size], channels, progress)]
    raise ExportError(str(last))


def first_plan(module, size, channels, progress):
    """The traces at the first list of sizes that the module takes, and other sizes."""
    problem = None
    for _, traced, others in plans(size):
        try:
            return trace_all(module, traced, channels, progress), others
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 - the module's own
            problem = problem or error
    try:
        compute(module, picture(channels, size))
    except Exception as error:  # noqa: BLE001
        raise ExportError(f"the module fails for a picture of {size[0]}×{size[1]}{failure(error)}; --size HxW and --channels N "
                          "give one that it takes") from error
    raise ExportError(f"the module takes pictures of {size[0]}×{size[1]}, but not of other sizes{failure(problem)}; "
                      f"--fixed-size {size[0]}x{size[1]} exports it for this one")


def check(translation, module, sizes, progress):
    """The sizes at which the graph was compared with the module; those that the module refuses are left out."""
    done, rate = [], 0.0
    for size in sizes:
        # Attention takes the square of the time for twice the pixels.
        pixels = size[0] * size[1]
        if size in translation.traced or size in done or done and rate * pixels ** 2 > LONG \
                or len(done) > 1 and time.monotonic() - progress.begun > ENOUGH:
            continue
        begun = time.monotonic()
        progress.text = f"compares the graph with the module at {size[0]}×{size[1]}"
        try:
            compare(translation, module, size)
        except (Difference, ExportError):
            raise
        except Exception:  # noqa: BLE001 - the module refuses the size
            continue
        done.append(size)
        rate = max(rate, (time.monotonic() - begun) / pixels ** 2)
    compare(translation, module, translation.traced[0], seed=3)
    return done
