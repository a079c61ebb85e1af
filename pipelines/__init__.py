"""Jobs: configuration, stages, workspace, registry and command line.

What is named here is the interface; all else may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from feature_store import __version__ as __version__

if TYPE_CHECKING:
    from feature_store.tables.contracts import DataError as DataError
    from pipelines.errors import BoundBroken as BoundBroken
    from pipelines.errors import ConfigError as ConfigError
    from pipelines.errors import GateRefused as GateRefused
    from pipelines.errors import WorkspaceLocked as WorkspaceLocked
    from pipelines.library.result import Result as Result
    from pipelines.library.runs import run as run
    from pipelines.tracking.client import TrackingError as TrackingError
    from pipelines.workspace.artifacts import ArtifactError as ArtifactError

__all__ = [
    "ArtifactError",
    "BoundBroken",
    "ConfigError",
    "DataError",
    "GateRefused",
    "Result",
    "TrackingError",
    "WorkspaceLocked",
    "__version__",
    "run",
]

_PLACES = {  # imported when they are asked for: a command must not wait for what another one needs
    "ArtifactError": "pipelines.workspace.artifacts",
    "BoundBroken": "pipelines.errors",
    "ConfigError": "pipelines.errors",
    "DataError": "feature_store.tables.contracts",
    "GateRefused": "pipelines.errors",
    "Result": "pipelines.library.result",
    "TrackingError": "pipelines.tracking.client",
    "WorkspaceLocked": "pipelines.errors",
    "run": "pipelines.library.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
