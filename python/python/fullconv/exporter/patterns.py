"""Patterns: several operations of PyTorch that are one operation of fullconv."""

from .trace import Ref
from .values import Series, number

VIEWS = ("view.default", "reshape.default", "squeeze.dim", "unsqueeze.default")


def find_patterns(nodes):
    """Maps the index of a pattern's last node to the method that translates the pattern, its input and attributes."""
    found = {}
    for node in nodes:
        pattern = local_response_norm(nodes, node)
        if pattern:
            found[node.index] = pattern
    return found


def local_response_norm(nodes, node):
    """x / (k + alpha · average of x² over neighbouring channels) ^ beta."""
    def made_by(ref, *ops):
        at = nodes[ref.call] if isinstance(ref, Ref) and ref.call >= 0 else None
        return at if at and at.target in [f"aten.{op}" for op in ops] else None

    def through(ref):
        while (at := made_by(ref, *VIEWS)):
            ref = at.arguments["self"]
        return ref
    if node.target != "aten.div.Tensor":
        return None
    x, ref, numbers = node.arguments["self"], node.arguments["other"], []
    for ops, key in ((("pow.Tensor_Scalar",), "exponent"), (("add.Tensor", "add.Scalar"), "other"), (("mul.Tensor", "mul.Scalar"), "other")):
        at = made_by(ref, *ops)
        if at is None or not number(at.arguments[key]):
            return None
        numbers.append(float(at.arguments[key]))
        ref = at.arguments["self"]
    pool = made_by(through(ref), "avg_pool3d.default", "avg_pool2d.default")
    pad = pool and made_by(pool.arguments["self"], "pad.default")
    square = pad and made_by(through(pad.arguments["self"]), "mul.Tensor")
    if not square or square.arguments["self"] != x or square.arguments["other"] != x:
        return None
    kernel, padding = list(pool.arguments["kernel_size"]), list(pad.arguments["pad"])
    size = kernel[0]
    if any(isinstance(k, Series) for k in kernel) or kernel[1:] != [1] * (len(kernel) - 1) \
            or padding[-2:] != [size // 2, (size - 1) // 2]:
        return None
    beta, k, alpha = numbers
    return "local_response_norm", x, {"size": size, "alpha": alpha, "beta": beta, "k": k}
