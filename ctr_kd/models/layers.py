"""Input layers that teacher and students share: token embeddings, the context encoder and the comparison of segments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr_kd.data.samples import Signature, table_name
from ctr_kd.models.user_state import state_numbers, state_places
from feature_store.special_tokens import PAD, SPECIALS, UNKNOWN
from feature_store.tables.multi_values import named_by

BEYOND = 3e38  # above every number that a bin begins at
GIVEN_WIDTH = 16  # of a given vector in the context: it says more than a category


class GivenVectors(nn.Module):
    """Vectors from elsewhere, brought to the width of a model by a projection that is trained; what has none gets a trained one.

    Parameters
    ----------
    name : str
        Of the feature.
    values : float32 array (indices, dimensions)
        Not trained, and no part of the weights: another night has other items.
    width : int
    std : float
        Of the projected vectors at first.
    """

    values: Tensor
    scale: Tensor

    def __init__(self, name: str, values: np.ndarray, width: int, std: float) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("values", torch.from_numpy(values), persistent=False)
        square = float(np.square(values[len(SPECIALS) :], dtype=np.float64).sum(1).mean()) if len(values) > len(SPECIALS) else 0.0
        # vectors come in any length: their mean square becomes 1, by a factor that belongs to the weights of the projection
        self.register_buffer("scale", torch.tensor(square**-0.5 if square > 0 else 1.0))
        self.projection = nn.Parameter(torch.randn(width, values.shape[1]) * std)
        self.none = nn.Parameter(torch.zeros(width))
        self.projected: Tensor | None = None  # float (indices, width): what the exported graph is given in place of the vectors

    def weights(self) -> tuple[Tensor, Tensor]:
        """The projection with the scale in it (dimensions, width), and the vector of what has none (width,)."""
        return (self.projection * self.scale).T.detach(), self.none.detach()

    def forward(self, index: Tensor) -> Tensor:
        """Vectors (..., width) of ``index`` (...)."""
        if self.projected is not None:
            return F.embedding(index, self.projected)
        missing = (index == UNKNOWN).unsqueeze(-1)
        return F.linear(F.embedding(index, self.values) * self.scale, self.projection) + self.none * missing


class TokenEmbedding(nn.Module):
    """Sum of the embeddings of a token's features: its id, attributes, time gap. The places of one attribute share a table.

    Parameters
    ----------
    sizes : dict of str to int
        Token features and their number of indices.
    width : int
        Embedding width.
    std : float, optional
        Of the initial embeddings; by default it falls with the width.
    vectors : mapping of str to float32 array (indices, dimensions), optional
        Of the features whose vectors are given; see :class:`GivenVectors`.
    """

    def __init__(
        self, sizes: dict[str, int], width: int, std: float | None = None, vectors: Mapping[str, np.ndarray] | None = None
    ) -> None:
        super().__init__()
        std = std if std is not None else 0.02 if width >= 64 else 0.05
        self.width = width
        self.tables = nn.ModuleDict()
        own: dict[str, str] = {}
        for place, (name, size) in enumerate(sizes.items()):
            # a name with a dot, or that of a method of Torch's modules, as "type" is, cannot be that of a table
            odd = "." in name or hasattr(self.tables, name) or name.startswith("feature ")
            if named_by(name) in own:  # so weights have the same names however many places there are
                own[name] = own[named_by(name)]
                continue
            own[name] = table_name(place) if odd else name
            given = None if vectors is None else vectors.get(name)
            self.tables[own[name]] = nn.Embedding(size, width, padding_idx=PAD) if given is None else GivenVectors(name, given, width, std)
        self.names = list(own.values())
        for table in dict.fromkeys(self.embeddings()):
            nn.init.normal_(table.weight, std=std)
        self.zero_padding()

    def embeddings(self) -> list[nn.Embedding]:
        """Trained tables in the order of their token features; the first is that of the token's own id."""
        return [table for name in self.names if isinstance(table := self.tables[name], nn.Embedding)]

    def given(self) -> list[GivenVectors]:
        """What projects given vectors, in the order of their token features."""
        return [table for name in self.names if isinstance(table := self.tables[name], GivenVectors)]

    def step_by_rows(self) -> None:
        """Let the gradient of the ids' table hold the rows that were read and no others, so that the optimizer moves those alone."""
        self.embeddings()[0].sparse = True

    def zero_padding(self) -> None:
        """Padding embeds to zero, and stays there: its rows get no gradient."""
        with torch.no_grad():
            for table in self.embeddings():
                table.weight[PAD].zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed ``tokens`` (..., features) into vectors (..., width)."""
        first, *others = self.names
        vectors: Tensor = self.tables[first](tokens[..., 0])
        for i, name in enumerate(others, start=1):
            vectors = vectors + self.tables[name](tokens[..., i])
        return vectors


class PiecewiseLinear(nn.Module):
    """Piecewise linear encoding of dense inputs (Gorishniy et al. 2022, arXiv:2203.05556, section 3.2).

    A value fills its quantile bins from below: bins under it are 1, its own is filled in part, bins above are 0. Any
    monotone transform of an input gives nearly the same code, so counts and seconds need no scaling. A null has all bins 0
    and its own indicator.
    """

    low: Tensor
    scale: Tensor

    def __init__(self, edges: list[list[float]]) -> None:
        super().__init__()
        self.edges = edges
        bins = max((len(e) - 1 for e in edges), default=1)
        low = torch.full((len(edges), bins), BEYOND)  # a bin that no value reaches
        scale = torch.ones(len(edges), bins)
        for i, e in enumerate(edges):
            values = torch.tensor(e, dtype=torch.float64)
            low[i, : len(e) - 1] = values[:-1].float()
            scale[i, : len(e) - 1] = 1.0 / values.diff().float()
        self.register_buffer("low", low)
        self.register_buffer("scale", scale)
        self.size = len(edges) * (bins + 1)

    def forward(self, dense: Tensor) -> Tensor:
        """Encode ``dense`` (rows, inputs) into (rows, inputs * (bins + 1))."""
        null = torch.isnan(dense)  # (rows, inputs)
        value = torch.where(null, torch.full_like(dense, -BEYOND), dense)
        code = ((value.unsqueeze(-1) - self.low) * self.scale).clamp(0.0, 1.0)  # (rows, inputs, bins)
        return torch.cat([code.flatten(1), null.to(dense.dtype)], dim=1)


class ContextEncoder(nn.Module):
    """Context and as-of statistics as one vector: embedded categories beside the encoded dense inputs.

    A null category, or one whose column is absent, adds nothing: it embeds to zero and stays there. The places of one column share a table,
    and their vectors are summed. The numbers of a teacher's state, and whether there is one, are there as they are.
    """

    states: Tensor
    others: Tensor

    def __init__(self, signature: Signature, width: int) -> None:
        super().__init__()
        places: dict[str, list[int]] = {}
        for place, name in enumerate(signature.categorical):
            places.setdefault(named_by(name), []).append(place)
        self.places, sizes = list(places.values()), list(signature.categorical.values())
        self.tables = nn.ModuleList()
        for name, of_one in places.items():
            given = signature.vectors.get(name)
            if given is not None:
                self.tables.append(GivenVectors(name, given, GIVEN_WIDTH, 0.05))
                continue
            table = nn.Embedding(sizes[of_one[0]], width, padding_idx=PAD)
            nn.init.normal_(table.weight, std=0.05)
            with torch.no_grad():
                table.weight[PAD].zero_()
            self.tables.append(table)
        states = state_places(signature.dense)
        others = [place for place in range(len(signature.dense)) if place not in states]
        edges = list(signature.dense.values())
        self.dense = PiecewiseLinear([edges[place] for place in others])
        self.has_dense, self.has_states = len(others) > 0, len(states) > 0
        self.register_buffer("states", torch.tensor(states, dtype=torch.int64), persistent=False)
        self.register_buffer("others", torch.tensor(others, dtype=torch.int64), persistent=False)
        of_tables = sum(GIVEN_WIDTH if isinstance(table, GivenVectors) else width for table in self.tables)
        self.size = of_tables + (self.dense.size if self.has_dense else 0) + (len(states) + 1 if states else 0)

    def forward(self, categorical: Tensor, dense: Tensor) -> Tensor:
        """Encode (rows, features) and (rows, inputs) into (rows, size)."""
        return torch.cat(self.learned_and_given(categorical, dense), dim=1)

    def learned_and_given(self, categorical: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` returns in two pieces: what embeddings say, and what the inputs say by themselves, which has no gradient."""
        parts = []
        for table, (first, *others) in zip(self.tables, self.places, strict=True):
            part = table(categorical[:, first])
            for place in others:
                part = part + table(categorical[:, place])
            parts.append(part)
        given = []
        if self.has_dense:
            given.append(self.dense(dense.index_select(1, self.others) if self.has_states else dense))
        if self.has_states:
            given.append(state_numbers(dense, self.states))
        nothing = dense.new_zeros(dense.shape[0], 0)
        return torch.cat(parts, dim=1) if parts else nothing, torch.cat(given, dim=1) if given else nothing


def pair_features(a: Tensor, b: Tensor) -> Tensor:
    """[a, b, a * b, |a - b|] of two segments' vectors (..., width): (..., 4 * width) (Tang et al. 2019, arXiv:1903.12136, section 3.1)."""
    return torch.cat([a, b, a * b, (a - b).abs()], dim=-1)


def compared_size(signature: Signature, width: int) -> int:
    """Size of what a head is told of both segments: :func:`pair_features` of them, or segment A alone where there is no segment B."""
    return 4 * width if signature.max_length_b else width


def length_of(tokens: Tensor) -> Tensor:
    """Lengths (sequences,) of right-padded sequences (sequences, longest, features): where their padding begins."""
    return (tokens[:, :, 0] != PAD).sum(1)


def mean_of(vectors: Tensor, length: Tensor) -> Tensor:
    """Means (sequences, width) of vectors (sequences, longest, width) that are zero at padding; an empty sequence's is zero."""
    return vectors.sum(1) / length.clamp(min=1).unsqueeze(1).to(vectors.dtype)


def scaled_sum_of(vectors: Tensor, length: Tensor) -> Tensor:
    """Like :func:`mean_of`, but divided by the root of the length: of independent vectors the same spread whatever their number."""
    return vectors.sum(1) / length.clamp(min=1).unsqueeze(1).to(vectors.dtype).sqrt()


COMBINERS = {"mean": mean_of, "sqrtn": scaled_sum_of}


def padding_mask(length: Tensor, longest: int) -> Tensor:
    """True where a position (sequences, longest) holds a token."""
    return torch.arange(longest, device=length.device).unsqueeze(0) < length.unsqueeze(1)


def chained(logits: Tensor) -> Tensor:
    """Logits of further labels that follow a click: of the product of each one's probability given a click with that of the click.

    p(purchased) = p(clicked) * p(purchased | clicked), learned from all impressions (ESMM, Ma et al. 2018, arXiv:1804.07931, section 2.2).
    With the odds exp(z) of the click and exp(w) of a label given it, the odds of their product are
    1 / (exp(-z) + exp(-w) + exp(-z - w)).

    Parameters
    ----------
    logits : float tensor (rows, labels)
        Of the click, then of each further label given a click.

    Returns
    -------
    float tensor (rows, labels)

    Examples
    --------
    >>> chained(torch.tensor([[0.0, 0.0]])).sigmoid()
    tensor([[0.5000, 0.2500]])
    """
    click, given = logits[:, :1], logits[:, 1:]
    product = -torch.logsumexp(torch.stack([-click.expand_as(given), -given, -click - given]), dim=0)
    return torch.cat([click, product], dim=1)


def linear_of_two(weight: Tensor, bias: Tensor | None, first: Tensor, second: Tensor) -> Tensor:
    """A linear layer of two inputs (rows, ...) beside each other: (rows, outputs).

    They are not joined, so that one that needs no gradient costs none: what numbers say is most of a model's inputs.
    """
    of_first, of_second = weight.split([first.shape[1], second.shape[1]], dim=1)
    return F.linear(first, of_first, bias) + F.linear(second, of_second)


class Dropout(nn.Dropout):
    """Dropout whose mask costs a quarter on a processor, where torch draws the numbers of its own one by one as doubles.

    Here a draw of 64 bits decides for four, 16 bits each, so a rate is one of 65,536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As torch has it."""
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        below = round(self.p * 2**16)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all integers of 64 bits
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= below - 2**15
        return x * (kept.to(x.dtype) * (2**16 / (2**16 - below)))


class Head(nn.Module):
    """From the compared segments and the context to the logits: two hidden layers, or where their width is 0 one linear layer."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        if hidden:
            first = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden // 2), nn.ReLU()]
            self.layers = nn.Sequential(*first, nn.Linear(hidden // 2, outputs))
        else:
            self.layers = nn.Sequential(nn.Linear(inputs, outputs))

    def begin_at(self, logits: Tensor) -> None:
        """Let the untrained head answer about ``logits`` (outputs,), such as those of the average rate.

        Clicks are rare. From an even chance, the first hundreds of steps would teach the hidden layers that, and nothing else (Lin et al.
        2017, arXiv:1708.02002, section 3.3).
        """
        with torch.no_grad():
            self.layers[-1].get_parameter("bias").copy_(logits)

    def forward(self, features: Tensor, more: Tensor | None = None) -> Tensor:
        """Logits (rows, outputs) of ``features`` (rows, inputs), the last of which may come as ``more``, see :func:`linear_of_two`.

        But for training they are computed in single precision, whatever is around: of bfloat16 there are some hundred different logits,
        and among candidates ties would count.
        """
        device = features.device.type
        if self.training or not torch.is_autocast_enabled(device):
            return self._logits(features, more)
        with torch.autocast(device, enabled=False):
            return self._logits(features.float(), None if more is None else more.float())

    def _logits(self, features: Tensor, more: Tensor | None) -> Tensor:
        if more is None:
            return self.layers(features)
        x = linear_of_two(self.layers[0].get_parameter("weight"), self.layers[0].get_parameter("bias"), features, more)
        for layer in list(self.layers)[1:]:
            x = layer(x)
        return x
