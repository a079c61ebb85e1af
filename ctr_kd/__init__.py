"""Learning: a light student from labels and from what a teacher says.

What is named here is the interface; all else may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from feature_store import __version__ as __version__

if TYPE_CHECKING:
    from ctr_kd.config import DistillConfig as DistillConfig
    from ctr_kd.frames.distillation import DistilledStudent as DistilledStudent
    from ctr_kd.frames.distillation import distill as distill
    from ctr_kd.frames.figures import compare as compare
    from ctr_kd.frames.figures import evaluate as evaluate
    from ctr_kd.frames.student import Student as Student
    from ctr_kd.frames.student import load_student as load_student
    from ctr_kd.huggingface.convert import export_bert as export_bert
    from ctr_kd.huggingface.convert import load_bert as load_bert
    from ctr_kd.huggingface.folder import InterchangeError as InterchangeError
    from ctr_kd.models.students import register_student as register_student
    from ctr_kd.training.errors import TrainingError as TrainingError

__all__ = [
    "DistillConfig",
    "DistilledStudent",
    "InterchangeError",
    "Student",
    "TrainingError",
    "__version__",
    "compare",
    "distill",
    "evaluate",
    "export_bert",
    "load_bert",
    "load_student",
    "register_student",
]

_PLACES = {  # imported when they are asked for: whoever needs a part of the package must not wait for torch
    "DistillConfig": "ctr_kd.config",
    "DistilledStudent": "ctr_kd.frames.distillation",
    "InterchangeError": "ctr_kd.huggingface.folder",
    "Student": "ctr_kd.frames.student",
    "TrainingError": "ctr_kd.training.errors",
    "compare": "ctr_kd.frames.figures",
    "distill": "ctr_kd.frames.distillation",
    "evaluate": "ctr_kd.frames.figures",
    "export_bert": "ctr_kd.huggingface.convert",
    "load_bert": "ctr_kd.huggingface.convert",
    "load_student": "ctr_kd.frames.student",
    "register_student": "ctr_kd.models.students",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
