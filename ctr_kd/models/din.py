"""Target attention: the candidate says which clicks matter (Deep Interest Network, Zhou et al. 2018, arXiv:1706.06978)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import ContextEncoder, Head, TokenEmbedding, chained, pair_features
from ctr_kd.models.user_state import UserState


class DIN(nn.Module):
    """Weighted sum of the history's embeddings, the weights from each click beside the candidate (section 4.3, equation 3).

    As published the weights are not normalised, so that the sum's length says how much of the history resembles the candidate.
    Padding embeds to zero, whatever its weight. The unit that weighs sees click, candidate, and their product; their difference is
    a linear function of the first two, and the clicks' part of its first layer is computed once per history.
    """

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__()
        width = config.width
        self.chain = signature.chain
        self.token = TokenEmbedding(signature.tokens, width, vectors=signature.vectors)
        self.from_click = nn.Linear(width, width)
        self.from_candidate = nn.Linear(width, width, bias=False)
        self.from_product = nn.Linear(width, width, bias=False)
        self.weight = nn.Sequential(nn.PReLU(), nn.Linear(width, 1))
        self.context = ContextEncoder(signature, 4)
        self.user_state = UserState(signature, width)
        self.head = Head(4 * width + self.context.size, config.hidden, signature.outputs, config.dropout)

    def attend(self, clicks: Tensor, segment_of_row: Tensor, candidate: Tensor) -> Tensor:
        """Histories as the candidates see them.

        Parameters
        ----------
        clicks : float tensor (segments, length, width)
            Embedded, zero at padding.
        segment_of_row : int64 tensor (rows,)
        candidate : float tensor (rows, width)

        Returns
        -------
        float tensor (rows, width)
        """
        own = self.from_click(clicks).index_select(0, segment_of_row)  # (rows, length, width)
        clicks = clicks.index_select(0, segment_of_row)
        hidden = own + self.from_candidate(candidate).unsqueeze(1) + self.from_product(clicks * candidate.unsqueeze(1))
        return (self.weight(hidden) * clicks).sum(1)

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`."""
        candidate = self.token(segment_b).sum(1)  # (rows, width)
        history = self.user_state(self.attend(self.token(segment_a), segment_of_row, candidate), dense)
        return self.answer(history, candidate, self.context(categorical, dense))

    def answer(self, history: Tensor, candidate: Tensor, context: Tensor) -> Tensor:
        """Logits (rows, outputs) from vectors of each row: of its history and its candidate (rows, width), and of its context."""
        logits = self.head(torch.cat([pair_features(history, candidate), context], dim=-1))  # (rows, outputs)
        return chained(logits) if self.chain else logits
