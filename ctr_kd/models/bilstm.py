"""The student of Tang et al. (2019, arXiv:1903.12136, section 3.1): one bidirectional LSTM layer over the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import ContextEncoder, Head, TokenEmbedding, compared_size, length_of, padding_mask
from ctr_kd.models.siamese import Comparing
from ctr_kd.models.user_state import UserState


class BiLSTM(Comparing):
    """Last states of both directions, projected to the candidate's width and compared with it.

    The backward direction reads each sequence reversed within its own length. So padding stays behind the tokens in both
    directions, no state ever sees it, and the graph exports without packed sequences.
    """

    def __init__(self, signature: Signature, config: StudentConfig) -> None:
        super().__init__(signature)
        self.token = TokenEmbedding(signature.tokens, config.width, vectors=signature.vectors)
        self.forward_lstm = nn.LSTM(config.width, config.width, batch_first=True)
        self.backward_lstm = nn.LSTM(config.width, config.width, batch_first=True)
        self.project = nn.Linear(2 * config.width, config.width)
        self.context = ContextEncoder(signature, 4)
        self.user_state = UserState(signature, config.width)
        size = compared_size(signature, config.width) + self.context.size
        self.head = Head(size, config.hidden, signature.outputs, config.dropout)

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of right-padded sequences; an empty one is the zero state."""
        return self.read(self.token(tokens), length)

    def read(self, x: Tensor, length: Tensor) -> Tensor:
        """Vectors (segments, width) of embedded sequences (segments, longest, width)."""
        longest, width = x.shape[1], x.shape[2]
        position = torch.arange(longest, device=x.device).unsqueeze(0)  # (1, length)
        reversed_position = torch.where(padding_mask(length, longest), length.unsqueeze(1) - 1 - position, position)
        backward_x = x.gather(1, reversed_position.unsqueeze(2).expand(-1, -1, width))
        last = (length - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, width)
        states = [
            lstm(sequence)[0].gather(1, last).squeeze(1)  # (segments, width)
            for lstm, sequence in ((self.forward_lstm, x), (self.backward_lstm, backward_x))
        ]
        seen = (length > 0).unsqueeze(1).to(x.dtype)
        return self.project(torch.cat(states, dim=1) * seen)  # (segments, width)


class BiLSTMPair(BiLSTM):
    """Both segments through the same LSTM before they are compared, as sentence pairs are (Tang et al. 2019, section 3.1)."""

    def candidate(self, segment_b: Tensor) -> Tensor:
        """Vectors (rows, width) of the second segments, read as the first ones are."""
        return self.encode(segment_b, length_of(segment_b))
