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


class Windows(nn.Module):
    """Attention in shifted windows with a table for each head and a mask, as in Swin, at one size; the second by the cosine."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 3, 1)
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)
        self.table = nn.Parameter(torch.randint(-9, 9, (2, 16, 16)) / 8)  # exact in f32 beside the mask
        self.factor, self.merge = nn.Parameter(torch.rand(2, 1, 1)), nn.Linear(32, 8)

    def attend(self, x, shift, cosine):
        n, h, w, c = x.shape
        x = torch.roll(self.norm(x), (-shift, -shift), (1, 2))
        x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = (F.normalize(q, dim=-1), F.normalize(k, dim=-1)) if cosine else (q * 0.5, k)
        scores = q @ k.transpose(-2, -1)
        scores = (scores * self.factor if cosine else scores) + self.table.unsqueeze(0)
        mask = torch.zeros(len(x), 16, 16, dtype=x.dtype)
        mask[::3, 3:] = -100.0
        scores = (scores.view(n, -1, 2, 16, 16) + mask.unsqueeze(1).unsqueeze(0)).view(-1, 2, 16, 16)
        x = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, c))
        x = x.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.roll(x, (shift, shift), (1, 2))

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        x = x + self.attend(x, 0, False)
        x = x + self.attend(x, 2, True)
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.head(self.merge(x).permute(0, 3, 1, 2))


class Patches(nn.Module):
    """Attention among the pixels at the same place of patches, as in MobileViT, and one key and value for all heads."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)
        self.key = nn.Conv2d(8, 4, 3, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2).reshape(n, c, -1, 4).transpose(1, 3).reshape(n * 4, -1, c)
        q, k, v = self.qkv(self.norm(x)).reshape(n * 4, -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n * 4, -1, c))
        x = x.reshape(n, 4, -1, c).transpose(1, 3).reshape(n * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(n, c, h, w)
        one = self.key(x).flatten(2).transpose(1, 2).unsqueeze(1)
        q = x.reshape(n, 2, 4, h * w).transpose(2, 3)
        return self.head(x + F.scaled_dot_product_attention(q, one, one).transpose(2, 3).reshape(n, c, h, w))


class Heads(nn.Module):
    """Products of channels in heads: over all pixels with a softmax, as in Restormer and XCiT, and without one, as in EfficientViT.
    Attention over the patches for each place in a patch, as in MobileViT's second version; pooled tokens, as in NextViT."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.factor = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1), nn.Parameter(torch.rand(2, 1, 1))
        self.qkv, self.weight, self.value = nn.Conv2d(8, 24, 1), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        q, k, v = (t.reshape(n, 2, 4, h * w) for t in self.qkv(x).chunk(3, 1))
        share = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.factor).softmax(-1)
        x = x + (share @ v).reshape(n, c, h, w)
        q, k, v = (t.transpose(-1, -2) for t in (q.relu(), k.relu(), v))
        v = F.pad(v, (0, 1), value=1.0)
        sums = q @ (k.transpose(-1, -2) @ v)
        x = x + (sums[..., :-1] / (sums[..., -1:] + 1)).transpose(-1, -2).reshape(n, c, h, w)
        y = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c, 4, -1)
        context = (y * self.weight(y).softmax(-1)).sum(-1, keepdim=True)
        y = self.value(y).relu() * context.expand(n, c, 4, h // 2 * (w // 2))
        x = x + y.reshape(n, c, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h, w)
        few = F.avg_pool1d(x.flatten(2), 4, 4).transpose(1, 2).unsqueeze(1)
        x = x + F.scaled_dot_product_attention(x.flatten(2).transpose(1, 2).unsqueeze(1), few, few).transpose(2, 3).reshape(n, c, h, w)
        return self.head(x)


class Queries(nn.Module):
    """Learned queries that attend to the pixels and become classes, as in MaskFormer."""

    derived = True  # the queries after their linear layer

    def __init__(self):
        super().__init__()
        self.stem, self.queries = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 6, 8))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0]
        queries = self.queries.expand(n, -1, -1)
        queries = self.layer(queries + self.attend(queries, tokens, tokens)[0])
        return torch.einsum("nqc,nchw->nqhw", queries, tokens.transpose(1, 2).reshape(n, c, h, w))


class Cut(nn.Module):
    """A table of positions that is cut to the picture, which has to be a picture of one size."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.positions = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 3, 1), nn.Parameter(torch.randn(1, 1024, 8))

    def forward(self, x):
        x = self.stem(x)
        tokens = x.flatten(2).transpose(1, 2) + self.positions[:, :x.shape[2] * x.shape[3]]
        return self.head(tokens.transpose(1, 2).reshape(x.shape))


NETS = {
    "cut": (Cut, [(64, 96)]),
    "queries": (Queries, [(64, 96), (45, 62)]),
    "heads": (Heads, [(64, 96), (44, 68)]),
    "vision": (Vision, [(64, 96), (45, 62)]),
    "windows": (Windows, [(64, 96)]),
    "patches": (Patches, [(64, 96), (44, 68)]),
}
