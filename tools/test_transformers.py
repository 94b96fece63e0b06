"""Networks of tokens for tools/test_export.py, each with its test sizes; the first is the example's."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Vision(nn.Module):
    """A vision transformer as DPT has it: a class token before the pixels, and a table of positions that is resized."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 3, 1)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1 + 25, 8))
        self.qkv, self.out, self.norm, self.both = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(16, 8)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = torch.cat([self.token.expand(n, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        table = self.positions[:, 1:].reshape(1, 5, 5, 8).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(h, w), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, -1, 8)
        x = x + torch.cat([self.positions[:, :1], table], 1)
        q, k, v = self.qkv(self.norm(x)).reshape(n, -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, 8))
        token, x = x[:, :1], x[:, 1:]
        x = self.both(torch.cat([x, token.expand_as(x)], 2))
        return self.head(x.reshape(n, h, w, -1).permute(0, 3, 1, 2))


NETS = {
    "vision": (Vision, [(64, 96), (45, 62)]),
}
