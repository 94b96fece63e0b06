"""Translates ATen operations into fullconv's."""

from .attention import Products, Scores
from .batches import Batches
from .elements import Elements
from .geometry import Geometry
from .graph import Walk
from .layers import Layers
from .patterns import find_patterns
from .registry import HANDLERS
from .reshapes import Reshapes
from .sizes import Sizes
from .tokens import Tokens


class Translator(Layers, Elements, Geometry, Reshapes, Products, Batches, Tokens, Sizes, Walk):
    """Translates each ATen operation."""

    handlers = HANDLERS

    def __init__(self, nodes, sizes, channels):
        super().__init__(nodes, sizes, channels)
        self.patterns = find_patterns(nodes)

    def lowered(self, scores):
        if scores.done != "pairs" and (scores.heads > 1 or scores.bias is not None):
            return self.lowered_heads(scores)
        return super().lowered(scores)

    def map(self, value):
        return super().map(self.lowered(value) if isinstance(value, Scores) else value)

    def activation(self, value):
        if isinstance(value, Scores) and self.node.target.split(".")[1] not in KEEPING:
            value = self.lowered(value)
        return super().activation(value)


# Operations that leave scores as they are.
KEEPING = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view", "view_as", "permute", "transpose", "t",
           "movedim", "swapaxes", "reshape_as", "matmul", "bmm", "einsum", "softmax", "_softmax", "scaled_dot_product_attention")
