"""The state of a history, made of the vectors of its newest clicks: a weighted mean, or what a BERT says at the newest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.config import EncoderConfig
from ctr_kd.models.bert import Layer
from feature_store.config import EmbeddingsConfig


class PooledEncoder(nn.Module):
    """A mean of vectors, the newer clicks weighing as learned, plus a layer of it.

    Parameters
    ----------
    length : int
        Newest clicks that are read.
    width : int
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.recency = nn.Parameter(torch.linspace(1.0, -1.0, length))  # logarithms of the weights, newest first
        self.layer = nn.Linear(width, width)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, history: Tensor, seen: Tensor, vectors: Tensor) -> Tensor:
        """States, float (rows, width); zero for an empty history.

        Parameters
        ----------
        history : int64 tensor (rows, length)
            Rows of ``vectors``, newest click first.
        seen : bool tensor (rows, length)
            Whether there is such a click.
        vectors : float tensor (vectors, width)
        """
        weight = torch.exp(self.recency) * seen
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        mean = F.embedding_bag(history, vectors, mode="sum", per_sample_weights=weight)
        return mean + torch.tanh(self.layer(mean)) * seen.any(1, keepdim=True)


class BertEncoder(nn.Module):
    """What a BERT says at the newest click, added to the weighted mean: attention learns what the mean cannot see.

    Parameters
    ----------
    length : int
        Newest clicks that are read.
    config : EncoderConfig
    """

    def __init__(self, length: int, config: EncoderConfig) -> None:
        super().__init__()
        self.pooled = PooledEncoder(length, config.width)
        self.position = nn.Parameter(torch.zeros(length, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.layers)])
        self.output = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.output.weight)  # it begins as the mean
        nn.init.zeros_(self.output.bias)

    def forward(self, history: Tensor, seen: Tensor, vectors: Tensor) -> Tensor:
        """States, float (rows, width), as :class:`PooledEncoder` gives them."""
        rows, length = history.shape
        x = self.norm(F.embedding(history, vectors) + self.position)
        some = seen.any(1, keepdim=True)
        visible = torch.where(some, seen, torch.ones_like(seen))[:, None, None, :]  # somebody must be, in an empty history too
        for layer in self.layers[:-1]:
            x = layer(x, visible)
        newest = self.layers[-1](x, visible, wanted=torch.arange(rows) * length)
        return self.pooled(history, seen, vectors) + self.output(newest) * some


Encoder = PooledEncoder | BertEncoder


def build_encoder(config: EmbeddingsConfig, length: int) -> Encoder:
    """The configured encoder of histories of so many clicks; its first numbers are the same every time."""
    if config.encoder == "pooled":
        return PooledEncoder(length, config.width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return BertEncoder(length, EncoderConfig(width=config.width, layers=config.layers, heads=config.heads, dropout=0.0))


def set_parameters(encoder: Encoder, parameters: np.ndarray) -> None:
    """Give an encoder the numbers that a file of facts has."""
    own = list(encoder.parameters())
    sizes = np.cumsum([one.numel() for one in own])
    with torch.no_grad():
        for one, numbers in zip(own, np.split(parameters[: sizes[-1]], sizes[:-1]), strict=True):
            one.copy_(torch.from_numpy(numbers).view_as(one))
