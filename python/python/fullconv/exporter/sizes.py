"""Sizes that follow the picture's: which node has a size, and windows, paddings and resizes to it."""

import math
from fractions import Fraction

from .values import Constant, Series, Unsupported, calculate, each

FACTORS = sorted({Fraction(n, d) for d in (1, 2, 3, 4, 5, 8, 10, 16, 20, 32) for n in range(1, 4 * d)} - {Fraction(1)},
                 key=lambda f: (f.denominator & (f.denominator - 1) != 0, f.denominator, f.numerator))
LARGEST = 64
# round(size · f), where halves go to the even number: ⌊(t · size + a) / s⌋ twice.
ROUNDED = {Fraction(1, 2): ((3, 0, 4), (2, 2, 3)), Fraction(1, 4): ((3, 0, 8), (2, 2, 3)), Fraction(1, 8): ((5, 7, 16), (2, 2, 5)),
           Fraction(1, 16): ((9, 15, 32), (2, 4, 9)), Fraction(3, 4): ((7, 2, 8), (6, 4, 7)), Fraction(3, 2): ((5, 0, 4), (6, 4, 5)),
           Fraction(5, 4): ((15, 0, 8), (2, 2, 3)), Fraction(5, 2): ((15, 0, 4), (2, 2, 3))}


def difference(a, b):
    return calculate(lambda x, y: x - y, a, b)


class Sizes:
    """The part of the translator that explains sizes."""

    def like(self, size):
        """The first node with this height and width."""
        return next((m for m in self.made if m.op not in ("?", "tensor") and m.shape[2:] == list(size)), None)

    def need_like(self, size):
        return self.like(size) or self.make_like(list(size))

    def make_like(self, size):
        """Makes a node for its size, of another node's: t · ⌊(size + a) / s⌋ + b, or ⌊size · f⌋."""
        if not any(isinstance(s, Series) for s in size):
            return self.emit("adaptive_avg_pool2d", [self.emit("full", [self.input], [1, 1, *self.input.shape[2:]], channels=1)],
                             [1, 1, *size], output_size=list(size))
        seen, bases = set(), []
        for made in self.made:
            if made.op != "?" and tuple(made.shape[2:]) not in seen and any(isinstance(s, Series) for s in made.shape[2:]):
                seen.add(tuple(made.shape[2:]))
                bases.append(made)
        best = None
        for base in bases:
            chains = [self.chain(base.shape[2 + i], size[i]) for i in range(2)]
            if None not in chains and (best is None or sum(c[0] for c in chains) < best[0]):
                best = (sum(c[0] for c in chains), base, [c[1] for c in chains])
        if best is not None:
            return self.emit_chain(best[1], best[2], size)
        for base in bases:
            for factor in FACTORS:
                if all(calculate(lambda v: math.floor(v * float(factor)), b) == s for b, s in zip(base.shape[2:], size)):
                    small = self.emit("full", [base], [1, 1, *base.shape[2:]], channels=1)
                    return self.emit("interpolate", [small], [1, 1, *size], scale_factor=[float(factor)] * 2, mode="nearest")
        for base in bases:
            lines = [self.rounding(v, s) for v, s in zip(base.shape[2:], size)]
            if None not in lines:
                return self.emit_rounded(base, lines, size)
        raise Unsupported(f"a size, {size[0]} × {size[1]} for pictures of {self.input.shape[2]} × {self.input.shape[3]}, "
                          "that no other node has and no usual formula gives")

    def chain(self, base, size):
        """(its complexity, (s, a, t, b)) with size = t · ⌊(base + a) / s⌋ + b; None if there is none."""
        count = len(self.sizes)
        base, size = each(base, count), each(size, count)
        for t in range(1, 17):
            less = {s - t * b for s, b in zip(size, base)}
            if len(less) == 1 and abs(min(less)) <= LARGEST:
                return (t - 1 + (min(less) != 0), (1, 0, t, min(less)))
        for s in (2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 12, 14, 24):
            for t in (1, s, s // 2, 2, 4):
                for a in (0, s - 1, *range(1, s - 1)):
                    less = {v - t * ((b + a) // s) for v, b in zip(size, base)}
                    if t and len(less) == 1 and abs(min(less)) <= LARGEST:
                        return (s + t + (a not in (0, s - 1)) * 8 + (min(less) != 0) * 4, (s, a, t, min(less)))
        return None

    def emit_chain(self, base, chains, size):
        """The nodes of a chain; each has one channel and is made for its size."""
        (s_h, a_h, t_h, b_h), (s_w, a_w, t_w, b_w) = chains
        made = self.emit("full", [base], [1, 1, *base.shape[2:]], channels=1)

        def step(op, function, **attributes):
            shape = [calculate(function, v, i) for i, v in enumerate(made.shape[2:])]
            return self.emit(op, [made], [1, 1, *shape], **attributes)
        if a_h or a_w:
            made = step("pad", lambda v, i: v + (a_h, a_w)[i], padding=[0, a_w, 0, a_h])
        if s_h > 1 or s_w > 1:
            made = step("max_pool2d", lambda v, i: v // (s_h, s_w)[i], kernel_size=[s_h, s_w], stride=[s_h, s_w])
        if t_h > 1 or t_w > 1:
            made = step("interpolate", lambda v, i: v * (t_h, t_w)[i], scale_factor=[float(t_h), float(t_w)], mode="nearest")
        if b_h or b_w:
            made = step("pad", lambda v, i: v + (b_h, b_w)[i], padding=[0, b_w, 0, b_h])
        return made

    @staticmethod
    def rounding(base, size):
        """Steps (t, a, s), each ⌊(t · base + a) / s⌋, that round a multiple of the base to the size; None if there are none."""
        if size == base:
            return ()
        for f in FACTORS:
            n, d = f.numerator, f.denominator
            for steps in (((n, d - 1, d),), ((2 * n, d, 2 * d),), ROUNDED.get(f)):
                value = base
                for t, a, s in steps or ():
                    value = calculate(lambda v, t=t, a=a, s=s: (t * v + a) // s, value)
                if steps and value == size:
                    return steps
        return None

    def emit_rounded(self, base, lines, size):
        """The nodes of these steps: on a column for the height, on a row for the width, whose sum has both."""
        made = []
        for place, steps in enumerate(lines):
            line = self.emit("full", [base], [1, 1, *base.shape[2:]], channels=1)
            now = base.shape[2 + place]
            line = self.emit("slice", [line], [1, 1, 1, now] if place else [1, 1, now, 1], dim=3 - place, start=0, end=1)

            def step(op, line, count, **attributes):
                return self.emit(op, [line], [1, 1, 1, count] if place else [1, 1, count, 1], **attributes)
            for t, a, s in steps:
                pairs = [[1, v] if place else [v, 1] for v in (t, s)]
                now = calculate(lambda v, t=t: v * t, now)
                line = step("interpolate", line, now, scale_factor=[float(v) for v in pairs[0]], mode="nearest") if t > 1 else line
                now = calculate(lambda v, a=a: v + a, now)
                line = step("pad", line, now, padding=[0, a, 0, 0] if place else [0, 0, 0, a]) if a else line
                now = calculate(lambda v, s=s: v // s, now)
                line = step("max_pool2d", line, now, kernel_size=pairs[1], stride=pairs[1]) if s > 1 else line
            made.append(line)
        return self.emit("add", made, [1, 1, *size])

    # -- windows -------------------------------------------------------------------------------------------------

    def crop(self, made, start, size):
        """A window of a node: its first row and column, and its size."""
        whole = made.shape[2:]
        if list(size) == list(whole):
            return made
        if any(isinstance(s, Series) and not isinstance(w, Series) for s, w in zip(size, whole)):
            raise Unsupported(f"a window that follows the picture's size, of {whole[0]} × {whole[1]}, which is too small for larger "
                              "pictures; --fixed-size HxW exports it for one")
        shape = [*made.shape[:2], *size]
        left_over = [difference(w, s) for w, s in zip(whole, size)]
        if not any(isinstance(s, Series) for s in start):
            like = self.like(size)
            if like is not None and any(isinstance(s, Series) for s in size):
                return self.emit("crop", [made, like], shape, offset=list(start))
            if all(self.end(whole[i], start[i], size[i]) is not None for i in range(2)):
                for i in range(2):
                    made = self.slice_axis(made, i + 2, start[i], size[i])
                return made
            return self.emit("crop", [made, self.make_like(size)], shape, offset=list(start))
        for name, function in (("center", lambda d: d // 2), ("center_round", lambda d: round(d / 2.0))):
            if all(calculate(function, d) == s for d, s in zip(left_over, start)):
                return self.emit("crop", [made, self.need_like(size)], shape, offset=name)
        if all(d == 0 or d == s for d, s in zip(left_over, start)) and not any(isinstance(s, Series) for s in size):
            for i in range(2):
                if left_over[i] != 0:
                    shape = [*made.shape[:3 - (i == 0)], size[i], *([made.shape[3]] if i == 0 else [])]
                    made = self.emit("slice", [made], shape, dim=i + 2, start=-size[i])
            return made
        raise Unsupported(f"a window that begins at {start[0]}, {start[1]}, which depends on the picture's size")

    @staticmethod
    def end(whole, start, size):
        """The end of a slice as an attribute in a tuple: a number, negative from the end, or None for all; None if there
        is none."""
        if size == whole and start == 0:
            return (None,)
        end = calculate(lambda a, b: a + b, start, size)
        if end == whole:
            return (None,)
        if not isinstance(end, Series):
            return (end,)
        less = difference(end, whole)
        return None if isinstance(less, Series) else (less,)

    def slice_axis(self, made, dim, start, size, step=1, end=None):
        """A slice of one axis of a node; `size` is the result's."""
        whole = made.shape[dim]
        if size == whole and step == 1:
            return made
        end = end if end is not None else self.end(whole, start, size)
        shape = list(made.shape)
        shape[dim] = size
        return self.emit("slice", [made], shape, dim=dim, start=start, end=end[0], step=step)

    # -- paddings ------------------------------------------------------------------------------------------------

    def padded(self, made, padding, mode="constant", value=0.0):
        """A node after padding [left, right, top, bottom]; numbers may follow the picture's size."""
        left, right, top, bottom = padding
        if all(p == 0 for p in padding):
            return made
        size = [calculate(lambda a, b, c: a + b + c, made.shape[2], top, bottom),
                calculate(lambda a, b, c: a + b + c, made.shape[3], left, right)]
        shape, more = [*made.shape[:2], *size], {"mode": mode, "value": float(value)}
        if not any(isinstance(p, Series) for p in padding):
            return self.emit("pad", [made], shape, padding=list(padding), **more)
        grows = [difference(s, m) for s, m in zip(size, made.shape[2:])]
        aligns = {"start": lambda d: 0, "center": lambda d: d // 2, "end": lambda d: d}
        for align, function in aligns.items():
            if all(calculate(function, d) == before for d, before in zip(grows, (top, left))):
                more = {**more, "align": align}
                multiples = [next((m for m in (1, 2, 4, 8, 16, 32, 64, 128, *range(3, 65))
                                   if calculate(lambda v, m=m: -(-v // m) * m, was) == now), None)
                             for was, now in zip(made.shape[2:], size)]
                if None not in multiples:
                    return self.emit("pad", [made], shape, multiple=multiples, **more)
                return self.emit("pad", [made, self.need_like(size)], shape, **more)
        if all(p == 0 for p in (left, right)) or all(p == 0 for p in (top, bottom)):
            raise Unsupported(f"a padding of {padding}, which depends on the picture's size")
        return self.padded(self.padded(made, [0, 0, top, bottom], mode, value), [left, right, 0, 0], mode, value)

    # -- resizes -------------------------------------------------------------------------------------------------

    def resize(self, made, size, attributes):
        """A node resized to a size, which is constant or another node's."""
        shape = [*made.shape[:2], *size]
        if not any(isinstance(s, Series) for s in size):
            return self.emit("interpolate", [made], shape, size=list(size), **attributes)
        like = self.like(size)
        if like:
            return self.emit("interpolate", [made, like], shape, **attributes)
        factors = [next((f for f in range(1, 65) if calculate(lambda v, f=f: v * f, was) == now), None)
                   for was, now in zip(made.shape[2:], size)]
        if None not in factors:
            return self.emit("interpolate", [made], shape, scale_factor=[float(f) for f in factors], **attributes)
        return self.emit("interpolate", [made, self.make_like(size)], shape, **attributes)

    # -- tensors made for a size ---------------------------------------------------------------------------------

    def pattern_map(self, constant):
        """A constant as a map: one number, or coordinates from row to row or column to column."""
        shapes = [self.series(t.shape[d] for t in constant.tensors) for d in range(constant.tensors[0].dim())]
        from .views import whole
        if len(shapes) not in (2, 3, 4) or isinstance(shapes[-3] if len(shapes) > 2 else 1, Series):
            raise Unsupported("an input that does not depend on the picture")
        full = [1] * (4 - len(shapes)) + shapes
        if full[0] != 1:
            raise Unsupported("an input that does not depend on the picture")
        tensors = [t.double().reshape([1] * (4 - t.dim()) + list(t.shape)) for t in constant.tensors]
        like = self.need_like(full[2:]) if full[2:] != [1, 1] else self.emit(
            "mean", [self.input], [1, self.input.shape[1], 1, 1])
        value = constant.uniform()
        if value is not None:
            made = self.emit("full", [like], full, channels=full[1], fill_value=float(value))
        else:
            planes = [self.plane([t[:, c:c + 1] for t in tensors], like) for c in range(full[1])]
            made = planes[0] if len(planes) == 1 else self.emit("cat", planes, full)
        from .views import Value
        return Value(made, whole(full)[4 - len(shapes):])

    def plane(self, tensors, like):
        """One plane as a `full` or a `linspace`."""
        shape = [1, 1, *like.shape[2:]]
        constant = Constant(tensors)
        if constant.uniform() is not None:
            return self.emit("full", [like], shape, channels=1, fill_value=float(constant.uniform()))
        for dim in (2, 3):
            lines = [t.select(5 - dim, 0).flatten() for t in tensors]
            ends = {(round(line[0].item(), 12), round(line[-1].item(), 12)) for line in lines}
            if len(ends) == 1:
                import torch
                start, end = next(iter(ends))
                made = [torch.linspace(start, end, len(line), dtype=torch.float64) for line in lines]
                view = [m.view(1, 1, -1, 1) if dim == 2 else m.view(1, 1, 1, -1) for m in made]
                if all(torch.allclose(v.expand_as(t), t, rtol=0, atol=1e-12) for v, t in zip(view, tensors)):
                    return self.emit("linspace", [like], shape, dim=dim, start=start, end=end)
        raise Unsupported("an input that does not depend on the picture, and is neither one number nor coordinates")
