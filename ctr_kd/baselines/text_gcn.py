"""A graph convolutional network over texts and their words (Yao et al. 2019, arXiv:1809.05679), trained alone, for comparison.

It is transductive: the texts that it is asked about are in its graph while it trains, without their labels. So it has read what no other
model here has read, and a text that comes later needs a new graph and a new training: it cannot be exported or served.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import bmat, csr_matrix, diags, identity
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.text.tokenizers.words import Words

WINDOW = 20  # words; two words are neighbours where they share more windows than chance would have them
HIDDEN = 200
_LONGEST = 128  # words read of a text
RATE, DROPOUT, EPOCHS, PATIENCE = 0.02, 0.5, 200, 10  # as published


@dataclass(frozen=True)
class TextGraph:
    """Nodes are the texts, in their order, and behind them the words that at least two texts have.

    Attributes
    ----------
    adjacency : csr_matrix (nodes, nodes)
        Between texts and words TF-IDF; between words their pointwise mutual information where it is above zero; between a node and itself
        1; symmetrically normalised.
    texts : int
    """

    adjacency: csr_matrix
    texts: int


def build_graph(texts: Sequence[str], cut: Callable[[str], list[str]] | None = None) -> TextGraph:
    """The graph of some texts.

    Parameters
    ----------
    texts : sequence of str
    cut : callable, optional
        Words of a text; by default those of jieba.

    Raises
    ------
    ValueError
        When no word is in two texts.
    """
    words = [(cut or Words([], max_length=_LONGEST).cut)(text) for text in texts]
    try:
        counts = CountVectorizer(analyzer=list, min_df=2).fit(words)
    except ValueError:
        raise ValueError(f"no word is in two of the {len(texts):,} texts, so there is no graph to learn from") from None
    of_texts = TfidfTransformer(norm=None).fit_transform(counts.transform(words))
    windows = [text[begin : begin + WINDOW] for text in words for begin in range(max(1, len(text) - WINDOW + 1))]
    mutual = mutual_information(counts.transform(windows))
    whole = bmat([[None, of_texts], [of_texts.T, mutual]], format="csr") + identity(len(texts) + mutual.shape[0], format="csr")
    scale = diags(1 / np.sqrt(np.asarray(whole.sum(axis=1)).ravel()))
    return TextGraph((scale @ whole @ scale).tocsr().astype(np.float32), len(texts))


def mutual_information(windows: csr_matrix) -> csr_matrix:
    """Pointwise mutual information (words, words) of words that share a window (windows, words), where it is above zero.

    Examples
    --------
    >>> mutual_information(csr_matrix([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]])).toarray().round(3).tolist()
    [[0.0, 0.288, 0.0], [0.288, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    there = (windows > 0).astype(np.float64)
    both, alone = (there.T @ there).tocoo(), np.asarray(there.sum(axis=0)).ravel()
    information = np.log(both.data * there.shape[0] / (alone[both.row] * alone[both.col]))
    kept = (both.row != both.col) & (information > 0)
    return csr_matrix((information[kept], (both.row[kept], both.col[kept])), shape=both.shape)


class GraphConvolution(nn.Module):
    """Two layers: every node takes from its neighbours, and they from theirs. A node's input is its own vector, there are no others."""

    def __init__(self, nodes: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.empty(nodes, HIDDEN)), nn.Parameter(torch.empty(HIDDEN, outputs))
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, adjacency: Tensor) -> Tensor:
        """Logits (nodes, outputs); ``adjacency`` is sparse (nodes, nodes) and symmetric."""
        hidden = F.dropout(torch.sparse.mm(adjacency, self.first).relu(), DROPOUT, self.training)  # (nodes, hidden)
        return torch.sparse.mm(adjacency, hidden @ self.second)


def fit_text_gcn(
    graph: TextGraph,
    train: Tensor,
    validation: Tensor,
    *,
    outputs: int,
    seed: int,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[NDArray[np.float32], int]:
    """Train on the labelled texts of a graph; what is kept is the epoch with the lowest log loss of the validation texts.

    Parameters
    ----------
    graph : TextGraph
    train, validation : int64 tensors (texts,)
        Class of each text of the graph, -1 where it is none of theirs. Test texts have neither.
    outputs : int
    seed : int
    report : callable

    Returns
    -------
    logits : float32 array (texts, outputs)
    epochs : int
        How many it took.
    """
    torch.manual_seed(seed)
    matrix = graph.adjacency
    with warnings.catch_warnings():  # that PyTorch's support of this layout is young
        warnings.simplefilter("ignore", UserWarning)
        rows, columns = (torch.from_numpy(index.astype(np.int64)) for index in (matrix.indptr, matrix.indices))
        adjacency = torch.sparse_csr_tensor(rows, columns, torch.from_numpy(matrix.data), matrix.shape, check_invariants=True)
    model = GraphConvolution(matrix.shape[0], outputs)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    learned, measured = (part >= 0 for part in (train, validation))
    best, kept, kept_at = float("inf"), np.zeros((graph.texts, outputs), np.float32), 0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(adjacency)[: graph.texts][learned], train[learned]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(adjacency)[: graph.texts]
        loss = F.cross_entropy(logits[measured], validation[measured]).item()
        if loss < best:
            best, kept, kept_at = loss, logits.numpy(), epoch
        elif epoch - kept_at >= PATIENCE:
            break
    right = (torch.from_numpy(kept)[measured].argmax(1) == validation[measured]).float().mean().item()
    report(f"text_gcn: {matrix.shape[0]:,} nodes, {matrix.nnz:,} edges, epoch {kept_at}: accuracy {right:.4f}, log loss {best:.4f}")
    return kept, epoch
