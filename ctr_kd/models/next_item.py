"""A light model of the next item: a history is one vector, an item is one vector, and their dot product says what comes next."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.config import NextItemStudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import TokenEmbedding


class NextItemStudent(nn.Module):
    """Weighs the clicks of a history by their age in clicks alone, and puts one feed-forward network behind their sum.

    No click looks at another, so a request costs a gather per click and two small products, whatever the teacher's layers; and the
    history vectors of all prefixes of a sequence are one convolution, so a training step predicts every click.

    Parameters
    ----------
    signature : Signature
        Of the assembly whose clicks the teacher has read.
    vocabulary : int32 tensor (items, token features)
        Token of every index of the item vocabulary. A click is read as its item is there: by its id and attributes, without its gap.
    width : int
        Of the vectors.
    config : NextItemStudentConfig
    """

    vocabulary: Tensor

    def __init__(self, signature: Signature, vocabulary: Tensor, width: int, config: NextItemStudentConfig) -> None:
        super().__init__()
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        self.token = TokenEmbedding(signature.tokens, width, vectors=signature.vectors)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        # By age: the newest click first. The beginning of every history is a click of its own, so an empty one has a vector. No item
        # follows the last click of a sequence, so a history is one click shorter than the longest of them.
        self.age = nn.Parameter(torch.softmax(-0.1 * torch.arange(signature.max_length), 0).repeat(width, 1))
        self.beginning = nn.Parameter(torch.randn(width) * 0.05)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, config.hidden)
        self.contract = nn.Linear(config.hidden, width)
        self.output_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Vectors (items, width) of the item vocabulary, or of some indices (items,) of it."""
        return self.token(self.vocabulary if items is None else self.vocabulary.index_select(0, items))

    def prefixes(self, items: Tensor, vectors: Tensor) -> Tensor:
        """Vector of every prefix of some sequences, the empty one first.

        Parameters
        ----------
        items : int64 tensor (sequences, length)
            Indices of the vocabulary, oldest first, padded with 0 on the right.
        vectors : float tensor (items, width)
            :meth:`item_vectors`.

        Returns
        -------
        float tensor (sequences, length + 1, width)
        """
        begin = self.beginning.expand(len(items), 1, -1)
        x = self.dropout(torch.cat([begin, F.embedding(items, vectors)], dim=1))
        reach = min(self.age.shape[1], x.shape[1])
        weight = self.age[:, :reach].flip(1).unsqueeze(1)  # (width, 1, reach): the newest last
        return self._behind(F.conv1d(F.pad(x.transpose(1, 2), (reach - 1, 0)), weight, groups=len(weight)).transpose(1, 2))

    def forward(self, items: Tensor, length: Tensor, vectors: Tensor) -> Tensor:
        """Vectors (histories, width) of whole histories, as production asks for them.

        Parameters
        ----------
        items : int64 tensor (histories, length)
            Indices of the vocabulary, the newest first, padded with 0 on the right; fewer than the longest sequence has.
        length : int64 tensor (histories,)
            Clicks of each.
        vectors : float tensor (items, width)
        """
        age = self.age.T  # (longest sequence, width)
        clicks = (F.embedding(items, vectors) * age[: items.shape[1]]).sum(1)
        return self._behind(clicks + self.beginning * age[length])

    def history_state(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vector (batch, width) of each history, of right-padded tokens (batch, length, token features), as the encoder has it."""
        vectors = self.prefixes(tokens[:, :, 0].long(), self.item_vectors())
        return vectors.flatten(0, 1).index_select(0, torch.arange(len(length), device=length.device) * vectors.shape[1] + length)

    def all_items(self, state: Tensor) -> Tensor:
        """Logits (states, vocabulary) of every item."""
        return F.linear(state, self.item_vectors(), self.bias)

    def _behind(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.output_norm(x + self.dropout(self.contract(F.gelu(self.expand(x)))))
