"""The teacher's encoder: a BERT over tokens of several features (Devlin et al. 2019, arXiv:1810.04805), post-norm as published.

With causal attention it is the decoder-only encoder of SASRec (Kang and McAuley 2018, arXiv:1808.09781) in BERT's layers; with
relative positions attention is biased by distance (ALiBi, Press et al. 2022, arXiv:2108.12409) and no position has a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.config import EncoderConfig
from ctr_kd.models.layers import Dropout, TokenEmbedding, padding_mask
from feature_store.special_tokens import CLS, MASK, SEP

LOCAL_SHARE = 0.7  # of the local filter where there is one; the rest is attention's


class Attention(nn.Module):
    """Self-attention of several heads over right-padded sequences."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = Dropout(config.dropout)
        # A mask that holds distances holds the future too; without one the kernel leaves it out by itself, which is faster.
        self.causal = config.attention == "causal" and config.positions != "relative"
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """What each token gathers from those it sees, before the output projection.

        Parameters
        ----------
        x : float tensor (batch, length, width)
        mask : tensor or None
            To broadcast over (batch, heads, length, length): False hides, a float is added.

        Returns
        -------
        float tensor (batch, length, width)
        """
        batch, length, width = x.shape
        q, k, v = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = self._attended(q, k, v, mask, self.causal)
        return y.transpose(1, 2).reshape(batch, length, width)

    def of_one(self, x: Tensor, mask: Tensor | None, wanted: Tensor) -> Tensor:
        """What one token of each sequence gathers, (batch, width), of :meth:`forward`: others only answer, and ask nothing.

        Parameters
        ----------
        x, mask
            As there.
        wanted : int64 tensor (batch,)
            Positions of the flattened (batch * length), one of each sequence in turn.
        """
        batch, length, width = x.shape
        (of_query, of_others), (bias, bias_of_others) = (p.split([width, 2 * width]) for p in self.query_key_value.parameters())
        q = F.linear(x.flatten(0, 1).index_select(0, wanted), of_query, bias).view(batch, self.heads, 1, -1)
        k, v = F.linear(x, of_others, bias_of_others).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        place = (wanted % length).view(-1, 1, 1, 1)
        if self.causal:
            mask = torch.arange(length, device=x.device) <= place  # (batch, 1, 1, length)
        elif mask is not None and mask.shape[-2] > 1:  # by query
            mask = mask.expand(batch, -1, -1, -1).take_along_dim(place, 2)  # (batch, heads, 1, length)
        return self._attended(q, k, v, mask, causal=False).reshape(batch, width)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Weighted means of ``v``, (batch, heads, queries, width of a head)."""
        rate = self.dropout.p if self.training else 0.0
        if not rate or q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate, is_causal=causal)
        # torch has no kernel with dropout for a processor, and what it does instead takes half as long again as this
        score = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (batch, heads, queries, length)
        if causal:
            later = torch.ones(score.shape[2:], dtype=torch.bool).triu(1)
            score = score.masked_fill(later, -torch.inf)
        elif mask is not None:
            score = score.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else score + mask
        return self.dropout(score.softmax(3)) @ v


class LocalFilter(nn.Module):
    """What the newest tokens say by their place alone: a causal filter of each dimension, with a residual connection, normalised behind it.

    Slow parts of a sequence pass, quick ones by a weight that is trained, as BSARec's frequency rescaler has it (Shin et al. 2024,
    arXiv:2312.10325, section 4.2). Its Fourier transform over the whole window lets every token see those behind it; a convolution over a
    token and those before it does not.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        newest = torch.softmax(0.5 * torch.arange(config.local_filter), 0)  # a mean that begins with the newest tokens weighed most
        self.weight = nn.Parameter(newest + 0.02 * torch.randn(config.width, 1, config.local_filter))
        self.quick = nn.Parameter(torch.randn(config.width))
        self.dropout = Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Each token's filtered state (batch, length, width), of right-padded states of that shape."""
        before = F.pad(x.transpose(1, 2), (self.weight.shape[2] - 1, 0))
        slow = F.conv1d(before, self.weight, groups=len(self.weight)).transpose(1, 2)
        return self.norm(x + self.dropout(slow + self.quick.square() * (x - slow)))


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a residual connection and normalised behind it (post-norm).

    Where configured, a local filter stands beside attention, and what goes on is a weighted mean of both.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        inner = config.feed_forward or 4 * config.width
        self.attention = Attention(config)
        self.local = LocalFilter(config) if config.local_filter else None
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.expand = nn.Linear(config.width, inner)
        self.contract = nn.Linear(inner, config.width)
        self.output_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, wanted: Tensor | None = None, of_each: bool = False) -> Tensor:
        """States of the next layer.

        Parameters
        ----------
        x : float tensor (batch, length, width)
        mask : tensor or None
            As :class:`Attention` takes it.
        wanted : int64 tensor (wanted,), optional
            Positions of the flattened (batch * length) whose states are asked for.
        of_each : bool
            They are one of each sequence, in turn.

        Returns
        -------
        float tensor (batch, length, width), or (wanted, width)
        """
        seen = [x] if self.local is None else [x, self.local(x)]  # (batch, length, width)
        if wanted is None or not of_each:
            seen.insert(1, self.attention(x, mask))
        if wanted is not None:  # three quarters of a layer's work come after the tokens have seen each other
            seen = [state.flatten(0, 1).index_select(0, wanted) for state in seen]  # (wanted, width)
            if of_each:
                seen.insert(1, self.attention.of_one(x, mask, wanted))
        x, y, *local = seen
        x = self.attention_norm(x + self.dropout(self.attention.output(y)))
        for state in local:
            x = LOCAL_SHARE * state + (1 - LOCAL_SHARE) * x
        return self.output_norm(x + self.dropout(self.contract(F.gelu(self.expand(x)))))  # as x


class Bert(nn.Module):
    """Encoder over token sequences.

    Parameters
    ----------
    tokens : dict of str to int
        Token features and their number of indices.
    positions : int
        Longest sequence, special tokens included.
    config : EncoderConfig
    vectors : mapping of str to float32 array (indices, dimensions), optional
        Of the token features whose vectors are given.
    """

    def __init__(
        self, tokens: dict[str, int], positions: int, config: EncoderConfig, vectors: Mapping[str, np.ndarray] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.token = TokenEmbedding(tokens, config.width, vectors=vectors)
        self.position = None if config.positions == "relative" else nn.Embedding(positions, config.width)
        self.segment = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.layers)])
        self.apply(_initialise)
        self.token.zero_padding()

    def forward(
        self,
        tokens: Tensor,
        length: Tensor,
        segment: Tensor | None = None,
        wanted: Tensor | None = None,
        end: Tensor | None = None,
        *,
        of_each: bool = False,
    ) -> Tensor:
        """Encode right-padded sequences.

        Parameters
        ----------
        tokens : int32 tensor (batch, length, features)
        length : int64 tensor (batch,)
            It may stay on the CPU, wherever the tokens are: then it is known without waiting whether anything is padded. Where nothing is,
            attention needs no mask, and is faster, above all in bfloat16 on a GPU: FlashAttention takes none.
        segment : int64 tensor (batch, length), optional
            0 for segment A (the default), 1 for segment B.
        wanted : int64 tensor (wanted,), optional
            Positions of the flattened (batch * length) whose states are asked for; the last layer computes no others.
        end : int64 tensor (batch,), optional
            Place from which ``positions: from_end`` counts, both ways; by default the last token.
        of_each : bool
            ``wanted`` is one position of each sequence, in turn: the last layer's other tokens need not look at any.

        Returns
        -------
        float tensor (batch, length, width), or (wanted, width)
            Hidden states; those of padded positions mean nothing.
        """
        longest = tokens.shape[1]
        # Compiled, either case would be a graph of its own; traced, as for ONNX, that of the example would stand for both.
        one_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
        padded = one_graph or length.device.type != "cpu" or bool((length < longest).any())
        length = length.to(tokens.device, non_blocking=True)
        x = self.token(tokens) + (self.segment.weight[0] if segment is None else self.segment(segment))
        if self.position is not None:
            position = torch.arange(longest, device=tokens.device).unsqueeze(0)  # (1, length)
            if self.config.positions == "from_end":
                # Positions count from the newest token back, so that recency keeps its meaning whatever the history's length.
                last = length - 1 if end is None else end
                position = last.unsqueeze(1) - position  # (batch, length)
                position = position.clamp(min=0) if end is None else position.abs()
            if end is not None:  # padding, and what follows a full history, may lie farther than any position that was learned
                position = position.clamp(max=self.position.num_embeddings - 1)
            x = x + self.position(position)
        x = self.dropout(self.norm(x))
        mask = self._mask(length, longest, padded)
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        return self.layers[-1](x, mask, wanted, of_each)

    def first(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Segment A as this encoder's sequences have it: bare, or between [CLS] and [SEP]."""
        return prepend_cls(*append_token(tokens, length, SEP)) if self.config.framed else (tokens, length)

    def second(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Segment B as it comes behind A: bare, or with a [SEP]."""
        return append_token(tokens, length, SEP) if self.config.framed else (tokens, length)

    def _mask(self, length: Tensor, longest: int, padded: bool) -> Tensor | None:
        """What attention adds or hides, to broadcast over (batch, heads, length, length); None where nothing but the future is hidden."""
        # Padding is on the right, so a token that sees only what is before it never sees any.
        causal, relative = self.config.attention == "causal", self.config.positions == "relative"
        masked = not causal and (padded or relative)  # with distances there is a mask anyway
        seen = padding_mask(length.clamp(min=1), longest)[:, None, None, :] if masked else None  # (batch, 1, 1, length)
        if not relative:
            return seen
        bias = distance_bias(longest, self.config.heads, causal, length.device)  # (heads, length, length)
        return bias if seen is None else torch.where(seen, bias, -torch.inf)


def distance_bias(length: int, heads: int, causal: bool, device: torch.device | None = None) -> Tensor:
    """ALiBi: attention falls linearly with the distance of two tokens, in each head at a slope of its own (Press et al. 2022, section 3).

    So a token sees the same at every place of a sequence. A vector per position is learned for full histories at one end alone,
    and a causal encoder trains at all places but ranks at the last one. Slopes are 2 ** (1 - 2 h) for heads h = 1, 2, ...: steeper
    than published, for histories of tens of clicks and not texts of thousands of words.

    Parameters
    ----------
    length, heads : int
    causal : bool
    device : torch.device, optional

    Returns
    -------
    float tensor (heads, length, length)
        Minus slope times distance, query by key; minus infinity for keys behind the query where causal.

    Examples
    --------
    >>> distance_bias(3, 2, causal=True)[0].tolist()
    [[-0.0, -inf, -inf], [-0.5, -0.0, -inf], [-1.0, -0.5, -0.0]]
    """
    at = torch.arange(length, device=device)
    distance = at.unsqueeze(1) - at  # query by key
    slope = 2.0 ** (1.0 - 2.0 * torch.arange(1, heads + 1, device=device))
    bias = -slope[:, None, None] * distance.abs()
    return bias.masked_fill(distance < 0, -torch.inf) if causal else bias


def append_token(tokens: Tensor, length: Tensor, token: int) -> tuple[Tensor, Tensor]:
    """Put a special token behind every sequence.

    Parameters
    ----------
    tokens : int32 tensor (batch, length, features)
        Right-padded.
    length : int64 tensor (batch,)
    token : int

    Returns
    -------
    tokens : int32 tensor (batch, length + 1, features)
    length : int64 tensor (batch,)
    """
    tokens = F.pad(tokens, (0, 0, 0, 1))
    index = length.view(-1, 1, 1).expand(-1, 1, tokens.shape[2])
    last = torch.full_like(index, 0, dtype=tokens.dtype)
    last[:, :, 0] = token
    return tokens.scatter(1, index, last), length + 1


def prepend_cls(tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Put a [CLS] before every sequence, so that causal attention has something to predict the first item from.

    Parameters
    ----------
    tokens : int32 tensor (batch, length, features)
    length : int64 tensor (batch,)

    Returns
    -------
    tokens : int32 tensor (batch, length + 1, features)
    length : int64 tensor (batch,)
    """
    tokens = F.pad(tokens, (0, 0, 1, 0))
    cls = torch.full_like(tokens[:, :1], 0)
    cls[:, :, 0] = CLS
    return torch.cat([cls, tokens[:, 1:]], dim=1), length + 1


def past_length(tokens: Tensor, length: Tensor) -> Tensor:
    """Clicks of each history (batch,) that lie before its request: all, or those before a [MASK] that stands for it.

    Examples
    --------
    >>> past_length(torch.tensor([[[7], [8], [0]], [[7], [MASK], [9]]]), torch.tensor([2, 3])).tolist()
    [2, 1]
    """
    request = tokens[:, :, 0] == MASK  # (batch, length)
    return torch.where(request.any(1), request.int().argmax(1), length)


def last_position(tokens: Tensor, length: Tensor) -> Tensor:
    """Place of the last token of each sequence in the flattened (batch * length), int64 (batch,)."""
    return torch.arange(len(length), device=length.device) * tokens.shape[1] + length - 1


class MaskedItemModel(nn.Module):
    """Pretraining model: the encoder, the masked-item head with tied embeddings, and the next-segment head.

    Parameters
    ----------
    bert : Bert
    vocabulary : int32 tensor (items, token features)
        Token of every item of the vocabulary, attributes included: an item is predicted by the same sum of embeddings that
        represents it as input, so a rare item borrows from its category.
    """

    vocabulary: Tensor

    def __init__(self, bert: Bert, vocabulary: Tensor) -> None:
        super().__init__()
        width = bert.norm.normalized_shape[0]
        self.bert = bert
        hidden = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=bert.norm.eps))
        self.transform = hidden if bert.config.prediction == "transformed" else nn.Identity()
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self.next_segment = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        self.transform.apply(_initialise)
        self.next_segment.apply(_initialise)

    def states(self, tokens: Tensor, length: Tensor, position: Tensor, of_each: bool = False) -> Tensor:
        """What predicts an item, (chosen, width), at some positions of the flattened (batch * length) alone; see :meth:`Bert.forward`."""
        return self.transform(self.bert(tokens, length, wanted=position, of_each=of_each))

    def history_state(self, tokens: Tensor, length: Tensor) -> Tensor:
        """What predicts the item that follows each history, (batch, width): the summary of a history, empty ones included.

        It is the state of a [MASK] behind the history, whose hidden state predicts the next item; with causal attention that of its newest
        click, or of the [CLS] before it.
        """
        causal = self.bert.config.attention == "causal"
        tokens, length = prepend_cls(tokens, length) if causal else append_token(tokens, length, MASK)
        tokens, length = self.bert.first(tokens, length)
        behind = int(self.bert.config.framed)  # the [SEP]
        return self.states(tokens, length, last_position(tokens, length) - behind, of_each=True)

    def state_between(self, tokens: Tensor, length: Tensor) -> Tensor:
        """:meth:`history_state`, (batch, width), of histories behind which a [MASK] and clicks that came later may stand.

        The state is that of the [MASK], as pretraining hid items in the middle of sequences. Later clicks carry the embedding of segment B,
        and both sides count their positions from the request: what is past has the positions that it has without a future. For
        bidirectional attention alone.
        """
        at = past_length(tokens, length)
        followed = length > at + 1
        tokens, _ = append_token(tokens, at, MASK)  # it is there already where clicks follow
        tokens, length = self.bert.first(tokens, torch.maximum(length, at + 1))
        framed = int(self.bert.config.framed)
        at = at + framed  # behind the [CLS]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        later = (place > at.unsqueeze(1)) & followed.unsqueeze(1)
        wanted = last_position(tokens, at + 1)
        return self.transform(self.bert(tokens, length, later.long(), wanted=wanted, end=at + framed, of_each=True))

    def all_items(self, state: Tensor) -> Tensor:
        """Logits (states, vocabulary) of every item."""
        return F.linear(state, self.bert.token(self.vocabulary), self.bias)

    def some_items(self, item: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (items, width) and biases (items,) of some items: a logit is the product of a state and a vector plus the bias."""
        return self.bert.token(self.vocabulary.index_select(0, item)), self.bias.index_select(0, item)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02 if module.in_features >= 256 else 0.05)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)
