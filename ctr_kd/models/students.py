"""From a configured kind to a student: one of ours, or a plug-in's; and what a plug-in must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor, nn

from ctr_kd.config_students import STUDENT_KINDS, StudentSettings, student_plugin
from ctr_kd.data.samples import Signature
from ctr_kd.models.bilstm import BiLSTM, BiLSTMPair
from ctr_kd.models.dcn import DCN
from ctr_kd.models.din import DIN
from ctr_kd.models.pooled import Pooled
from feature_store.plugins import PluginError, register_plugin

STUDENTS: dict[str, Callable[..., nn.Module]] = {
    "pooled": Pooled,
    "bilstm": BiLSTM,
    "bilstm_pair": BiLSTMPair,
    "din": DIN,
    "dcn": DCN,
}
"""Those that come with the project."""


class Student(Protocol):
    """What a student is: a torch module of two methods, made of operations that torch exports to ONNX.

    Padding is index 0, on the right, and changes no output. Neither does the number, order or company of rows. Empty histories and null
    statistics (NaN in ``dense``) are scored. :func:`ctr_kd.training.student_checks.check_student` tries all of that before a training.

    What a student may have besides, and what for:

    - ``token``, a :class:`ctr_kd.models.layers.TokenEmbedding`: ``distill.embeddings: teacher``, ``training.lazy_ids``, vectors of words.
    - ``head``, a :class:`ctr_kd.models.layers.Head`: the training begins at the average rate.
    - ``encode`` and ``score``, as :class:`ctr_kd.models.siamese.Comparing` has them, of vectors of the configured width: ``distill.hints``.

    Attributes
    ----------
    Settings : type of StudentSettings
        Keys that a configuration may have beside ``kind`` and ``width``, with their descriptions; no others where there is no such class.
    """

    Settings: ClassVar[type[StudentSettings]]

    def __init__(self, signature: Signature, settings: StudentSettings) -> None:
        """An untrained student.

        Parameters
        ----------
        signature : Signature
            Names and sizes of the inputs and outputs.
        settings : StudentSettings
            Of the class ``Settings``.
        """

    def forward(
        self, segment_a: Tensor, segment_a_length: Tensor, segment_of_row: Tensor, segment_b: Tensor, categorical: Tensor, dense: Tensor
    ) -> Tensor:
        """Logits (rows, outputs) of a :class:`ctr_kd.data.batching.Batch`.

        Parameters
        ----------
        segment_a : int32 tensor (segments, length a, token features)
            Distinct histories, oldest click first.
        segment_a_length : int64 tensor (segments,)
        segment_of_row : int64 tensor (rows,)
            History that each row reads.
        segment_b : int32 tensor (rows, length b, token features)
            The candidate, a single token; the second text of a pair.
        categorical : int32 tensor (rows, categorical features)
        dense : float32 tensor (rows, dense inputs)
        """


OfStudent = TypeVar("OfStudent", bound=type[nn.Module])


def register_student(name: str) -> Callable[[OfStudent], OfStudent]:
    """Make a class known as ``distill.student.kind: name`` in this program, as an installed package does by an entry point.

    Parameters
    ----------
    name : str
        None of our own students'.

    Returns
    -------
    callable
        Decorator of a class that is a :class:`Student`.

    Raises
    ------
    PluginError
        When the name is taken, or the class is no torch module.

    Examples
    --------
    >>> @register_student("of_this_example")
    ... class Mine(Pooled): ...
    >>> student_class("of_this_example") is Mine
    True
    """
    if name in STUDENT_KINDS:
        raise PluginError(f"the student {name!r} is one of our own: choose another name")

    def register(student: OfStudent) -> OfStudent:
        _check_class(name, student)
        return register_plugin("ctr_kd.students", name)(student)

    return register


def student_class(kind: str) -> Callable[..., nn.Module]:
    """What makes students of a kind, of a signature and settings.

    Raises
    ------
    PluginError
        When there is no such kind, or it is no student.
    """
    if kind in STUDENTS:
        return STUDENTS[kind]
    return _check_class(kind, student_plugin(kind))


def _check_class(kind: str, student: object) -> type[nn.Module]:
    if not (isinstance(student, type) and issubclass(student, nn.Module)):
        raise PluginError(f"the student {kind!r} is no class on top of torch.nn.Module: {student!r}"[:300])
    return student
