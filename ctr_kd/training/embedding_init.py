"""A student's embeddings begin where its teacher's ended, or as given vectors of its tokens, at the student's own width."""

from __future__ import annotations

import torch
from torch import Tensor

from ctr_kd.models.layers import TokenEmbedding
from ctr_kd.training.errors import TrainingError
from feature_store.special_tokens import SPECIALS


def principal_directions(vectors: Tensor, width: int) -> Tensor:
    """Right singular vectors of the largest singular values: the projection that loses least of the vectors' squared length.

    Not centred: a projection without an offset keeps sums (an item is its id plus its attributes), padding at zero, and as
    much of the inner products as the width allows (Eckart and Young 1936, doi:10.1007/BF02288367); subtracting the mean would
    break the first two. Each direction's sign makes its largest part positive, so that the result repeats.

    Parameters
    ----------
    vectors : float tensor (items, teacher's width)
    width : int

    Returns
    -------
    float64 tensor (teacher's width, width)
        Orthonormal columns, the most important first.

    Raises
    ------
    TrainingError
        When the width is above the teacher's, or a vector is not finite.
    """
    if width > vectors.shape[1]:
        raise TrainingError(f"a student of width {width} cannot begin with embeddings of width {vectors.shape[1]}: lower its width")
    if not torch.isfinite(vectors).all():
        raise TrainingError("the teacher's embeddings are not finite: retrain the teacher")
    vectors = vectors.double()
    # Eigenvectors of the Gram matrix, which is small whatever the number of items, ascending.
    directions = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, :width]  # (teacher's width, width)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))  # (1, width)
    return directions * largest.sign()


@torch.no_grad()
def begin_with_teacher(student: TokenEmbedding, teacher: TokenEmbedding, vocabulary: Tensor) -> None:
    """Set the student's tables to the teacher's, projected by the principal directions of the items' vectors.

    Parameters
    ----------
    student, teacher : TokenEmbedding
        Over the same token features.
    vocabulary : int32 tensor (items, token features)
        Token of every index of the item vocabulary: attributes are summed into the vectors that find the directions, and one
        projection serves all tables, so that every sum of embeddings is projected as a whole.

    Raises
    ------
    TrainingError
        When the student is wider than the teacher, or the teacher's embeddings are not finite.
    """
    width = student.embeddings()[0].embedding_dim
    directions = principal_directions(teacher(vocabulary[len(SPECIALS) :]), width)
    for own, other in zip(student.embeddings(), teacher.embeddings(), strict=True):
        own.weight.copy_(other.weight.double() @ directions)
    for given, taught in zip(student.given(), teacher.given(), strict=True):
        given.scale.copy_(taught.scale)
        given.projection.copy_(directions.T @ taught.projection.double())
        given.none.copy_(taught.none.double() @ directions)


@torch.no_grad()
def begin_with_vectors(student: TokenEmbedding, vectors: Tensor) -> None:
    """Set the rows of the student's first table, that of the tokens' own ids, to given vectors.

    Wider vectors are projected on their principal directions; a wider student keeps what it has drawn in its other columns, and a token
    without a vector in all of them. Vectors come in any scale: they get the mean square of the drawn table, which the layers
    behind it expect.

    Parameters
    ----------
    student : TokenEmbedding
    vectors : float tensor (indices, dimensions)
        NaN where an index has none.

    Raises
    ------
    ValueError
        When the vectors are of another vocabulary.
    """
    table = student.embeddings()[0].weight
    if len(vectors) != len(table):
        raise ValueError(f"there are vectors of {len(vectors):,} tokens and the student has {len(table):,}: use the files of one assembly")
    known = ~torch.isnan(vectors).any(dim=1)
    if not known.any():
        return
    found = vectors[known].double()
    found = found @ principal_directions(found, min(table.shape[1], found.shape[1]))  # (known, columns)
    drawn = table[len(SPECIALS) :].double().square().mean().sqrt()
    columns = table[:, : found.shape[1]]
    columns[known] = (found * (drawn / found.square().mean().sqrt().clamp(min=1e-12))).to(table.dtype)
