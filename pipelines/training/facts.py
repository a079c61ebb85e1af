"""``training.json``: what a stage that trains found out, by stage. Written and read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, PlainSerializer

from ctr_kd.training.learning_curve import LearningCurve
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.json_models import IsoTime, JsonFile, JsonModel

FILE = "training.json"
_TEACHER = "teacher/"  # before a teacher's name

Curve = Annotated[
    LearningCurve,
    BeforeValidator(lambda value: LearningCurve.from_dict(value) if isinstance(value, Mapping) else value),
    PlainSerializer(LearningCurve.to_dict),
]


class EncoderFacts(JsonModel):
    """A pretrained encoder.

    Attributes
    ----------
    facts : dict of str to float
        What was measured of it: masked-item accuracy and loss of held-out sequences, and sequences and tokens of its training.
    parameters, bytes : int
    curve : LearningCurve
        Absent where a checkpoint was taken over.
    """

    facts: dict[str, float]
    parameters: int
    bytes: int
    curve: Curve | None = None


class PretrainingFacts(EncoderFacts, JsonFile):
    """Of stage ``pretrain``: the first encoder, and the others.

    Attributes
    ----------
    until : datetime, optional
        Before which clicks were seen; None for rows without times.
    checkpoint : dict of str to str
        Digests of the files of a released BERT; absent where the encoder was trained.
    untrained : list of str
        Heads that the released BERT lacks; absent likewise.
    more_encoders : list of EncoderFacts
    """

    FILE: ClassVar[str] = FILE

    until: IsoTime | None
    checkpoint: dict[str, str] | None = None
    untrained: list[str] = Field(default_factory=list)
    more_encoders: list[EncoderFacts]


class BeforeAndAfter(JsonModel):
    """A figure before and after fine-tuning."""

    before: float
    after: float


class MemberFacts(JsonModel):
    """One fine-tuned encoder of the teacher.

    Attributes
    ----------
    auc, accuracy : float, optional
        Of the validation rows, the one that the task has.
    seconds : float
    encoder : int
        Number of the pretrained encoder that it began with.
    """

    auc: float | None = None
    accuracy: float | None = None
    seconds: float
    encoder: int


class PairFacts(JsonModel):
    """Rows of users and items that never met.

    Attributes
    ----------
    asked, rows : int
        Rows asked for and made.
    neighbours, popularity : int
        Rows of each draw; absent where rows were not drawn so.
    index : str
        Kind of the search for neighbours.
    recall : float
        Of that search.
    """

    asked: int
    rows: int
    neighbours: int | None = None
    popularity: int | None = None
    index: str
    recall: float


class MadeTextFacts(JsonModel):
    """Texts without labels.

    Attributes
    ----------
    wanted, rows : int
        Texts asked for and made.
    augmented : int
        Those made of training texts.
    """

    wanted: int
    rows: int
    augmented: int


TransferFacts = PairFacts | MadeTextFacts


class FinetuningFacts(JsonFile):
    """Of stage ``finetune``: the teacher.

    Attributes
    ----------
    curve : LearningCurve
        Of the first member.
    auc, accuracy : float
        Of the validation rows, the one that the task has.
    members : list of MemberFacts
    held_out_sequences : int
        On which the masked-item figures are measured, of the first member.
    masked_item_accuracy, masked_item_loss : BeforeAndAfter
    strategy, rate_ratio, layer_decay, frozen_share : str, float, float, float
        As configured.
    hard_negatives : PairFacts
        Absent where there are none.
    parameters, bytes : int
    rows_per_second, rows_per_second_alone : float
        With shared histories, and row by row.
    """

    FILE: ClassVar[str] = FILE

    curve: Curve
    auc: float | None = None
    accuracy: float | None = None
    members: list[MemberFacts]
    held_out_sequences: int
    masked_item_accuracy: BeforeAndAfter
    masked_item_loss: BeforeAndAfter
    strategy: str
    rate_ratio: float
    layer_decay: float
    frozen_share: float
    hard_negatives: PairFacts | None = None
    parameters: int
    bytes: int
    rows_per_second: float
    rows_per_second_alone: float


class WeightFacts(JsonModel):
    """Weights of one teacher: the fixed one, and mean and range (5 % to 95 %) of those per row."""

    fixed: float
    mean: float
    low: float
    high: float


class FitFacts(JsonModel):
    """What combined teachers are worth on the validation rows: ``auc``, or of classes ``accuracy``."""

    auc: float | None = None
    accuracy: float | None = None
    log_loss: float


class WeightingFacts(JsonModel):
    """How the teachers' weights were chosen or learned.

    Attributes
    ----------
    rows : int
        On which they were fitted.
    teachers : dict of str to WeightFacts
    validation : dict of str to FitFacts
        With ``fixed`` and with ``chosen`` or ``learned`` weights.
    used : str
        Which of them validation preferred.
    """

    rows: int
    teachers: dict[str, WeightFacts]
    validation: dict[str, FitFacts]
    used: str


class StudentFacts(JsonFile):
    """A student; the file is that of stage ``student``.

    Attributes
    ----------
    curve : LearningCurve
    parameters : int
    kind, calibration : str
        As configured.
    bytes : int
        Of its graph.
    transfer : PairFacts or MadeTextFacts
        The transfer set of stage ``student``; absent where there is none.
    """

    FILE: ClassVar[str] = FILE

    curve: Curve
    parameters: int
    kind: str
    calibration: str
    bytes: int
    transfer: TransferFacts | None = None


class FitOnRows(JsonModel):
    """What a teacher is worth on some rows.

    Attributes
    ----------
    rows : int
        That it has logits of.
    auc, accuracy : float, optional
        The one that the task has; None where it is undefined.
    calibration_ratio : float, optional
        Predicted clicks over clicks; None of classes.
    """

    rows: int
    auc: float | None = None
    accuracy: float | None = None
    calibration_ratio: float | None = None


class LeakFacts(JsonModel):
    """A teacher on rows that it teaches, and on rows that it cannot have learned from.

    Attributes
    ----------
    training : FitOnRows
        Of the newest training rows, as many as there are in validation.
    validation : FitOnRows
    difference, low, high : float, optional
        Of the metric, training minus validation, with its 95 % interval.
    foresees : bool
        It is meant to be better there: of training rows it may read what came later. Absent otherwise.
    """

    training: FitOnRows
    validation: FitOnRows
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    foresees: bool = False

    @property
    def beyond_chance(self) -> bool:
        """Whether it is better on the rows that it teaches than chance explains, and than it is meant to be."""
        return self.low is not None and self.low > 0 and not self.foresees


class TeacherFacts(JsonModel):
    """A teacher.

    Attributes
    ----------
    kind : str
        ``own``, ``scores``, ``model`` or ``plugin``.
    digest : str
        Of all that its logits depend on besides the rows.
    until : datetime, optional
        Before which what it learned from happened; None where nobody knows.
    rows_per_second : float, optional
        None of logged scores, which are asked of nobody.
    trees : int
        Of boosted trees; absent otherwise.
    library : str
        Which grew them; absent likewise.
    coverage : dict of str to float
        Share of the rows of each split that have a logit.
    leak : LeakFacts, optional
    """

    kind: str = "own"
    digest: str = ""
    until: IsoTime | None = None
    rows_per_second: float | None = None
    trees: int | None = None
    library: str | None = None
    coverage: dict[str, float] = Field(default_factory=dict)
    leak: LeakFacts | None = None

    def on_rows(self) -> dict[str, Any]:
        """What is known of it and the rows of a run, as metrics.json has it."""
        return {"kind": self.kind, "coverage": self.coverage, "leak": None if self.leak is None else self.leak.to_json()}


@dataclass(frozen=True)
class TeachersFacts:
    """Of stage ``teacher``: the teachers by name, and how weights were learned, where they were."""

    teachers: Mapping[str, TeacherFacts] = field(default_factory=dict)
    weighting: WeightingFacts | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        teachers = {f"{_TEACHER}{name}": one.to_json() for name, one in self.teachers.items()}
        return teachers | ({} if self.weighting is None else {"weighting": self.weighting.to_json()})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What the file says."""
        named = {name.removeprefix(_TEACHER): one for name, one in content.items() if name.startswith(_TEACHER)}
        weighting = content.get("weighting")
        return cls(
            {name: TeacherFacts.from_json(one) for name, one in named.items()},
            None if weighting is None else WeightingFacts.from_json(weighting),
        )

    def write(self, folder: Path) -> None:
        """Write the file of an artifact."""
        write_json(folder / FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file of an artifact."""
        return cls.from_json(load_json(folder / FILE))


@dataclass(frozen=True)
class DistillationFacts:
    """Of stage ``distill``: the transfer set, where there is one, the teachers, and both students."""

    transfer: TransferFacts | None
    teachers: TeachersFacts
    student: StudentFacts
    student_alone: StudentFacts

    def of(self, name: str) -> StudentFacts:
        """Of one of the two students, by its name."""
        return {"student": self.student, "student_alone": self.student_alone}[name]

    def write(self, folder: Path) -> None:
        """Write the file of an artifact."""
        transfer = {} if self.transfer is None else {"transfer": self.transfer.to_json()}
        students = {"student": self.student.to_json(), "student_alone": self.student_alone.to_json()}
        write_json(folder / FILE, transfer | self.teachers.to_json() | students)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file of an artifact."""
        content = load_json(folder / FILE)
        return cls(
            transfer_facts(content["transfer"]) if "transfer" in content else None,
            TeachersFacts.from_json(content),
            StudentFacts.from_json(content["student"]),
            StudentFacts.from_json(content["student_alone"]),
        )


def transfer_facts(content: Mapping[str, Any]) -> TransferFacts:
    """What is known of a transfer set, of whichever task."""
    return PairFacts.from_json(content) if "asked" in content else MadeTextFacts.from_json(content)


def write_transfer_facts(folder: Path, facts: TransferFacts) -> None:
    """Write the file of stage ``transfer``."""
    write_json(folder / FILE, facts.to_json())


def read_transfer_facts(folder: Path) -> TransferFacts:
    """The file of stage ``transfer``."""
    return transfer_facts(load_json(folder / FILE))
