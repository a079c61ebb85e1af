"""Learning: samples, models, objectives, training, metrics and export."""

from typing import Any

from feature_store import __version__ as __version__


def __getattr__(name: str) -> Any:
    if name == "register_student":  # torch is loaded by who asks for it
        from ctr_kd.models.students import register_student

        return register_student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
