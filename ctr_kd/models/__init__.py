"""Models, one file each; `students` and `teachers` turn a configuration into one of them.

What a student of another package is made of is named here, and stays.
"""

from ctr_kd.config_students import StudentSettings
from ctr_kd.data.samples import Signature
from ctr_kd.models.layers import (
    ContextEncoder,
    Head,
    TokenEmbedding,
    chained,
    compared_size,
    length_of,
    mean_of,
    padding_mask,
    pair_features,
)
from ctr_kd.models.siamese import Comparing
from ctr_kd.models.students import Student, register_student

__all__ = [
    "Comparing",
    "ContextEncoder",
    "Head",
    "Signature",
    "Student",
    "StudentSettings",
    "TokenEmbedding",
    "chained",
    "compared_size",
    "length_of",
    "mean_of",
    "padding_mask",
    "pair_features",
    "register_student",
]
