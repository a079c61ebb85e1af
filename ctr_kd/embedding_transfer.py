"""A student's embeddings begin where its teacher's ended, at the student's own width."""

from __future__ import annotations

import torch
from torch import Tensor

from ctr_kd.models.inputs import TokenEmbedding
from ctr_kd.samples import SPECIALS
from ctr_kd.training import TrainingError


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
    ValueError
        When the width is above the teacher's.
    TrainingError
        When a vector is not finite.
    """
    if width > vectors.shape[1]:
        raise ValueError(f"a student of width {width} cannot begin with embeddings of width {vectors.shape[1]}")
    if not torch.isfinite(vectors).all():
        raise TrainingError("the teacher's embeddings are not finite: retrain the teacher")
    vectors = vectors.double()
    # Eigenvectors of the Gram matrix, which is small whatever the number of items, ascending.
    directions = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, :width]  # (teacher's width, width)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))  # (1, width)
    return directions * largest.sign()


@torch.no_grad()
def begin_with(student: TokenEmbedding, teacher: TokenEmbedding, vocabulary: Tensor) -> None:
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
    ValueError
        When the student is wider than the teacher.
    TrainingError
        When the teacher's embeddings are not finite.
    """
    width = student.embeddings()[0].embedding_dim
    directions = principal_directions(teacher(vocabulary[len(SPECIALS) :]), width)
    for own, other in zip(student.embeddings(), teacher.embeddings(), strict=True):
        own.weight.copy_(other.weight.double() @ directions)
