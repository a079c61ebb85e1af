"""Facts as of a time: events in, point-in-time rows out.

What is named here is the interface; all else may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_store.frames import FeatureStore as FeatureStore
    from feature_store.frames import open_store as open_store
    from feature_store.frames import store_of_events as store_of_events
    from feature_store.tables.contracts import DataError as DataError

__version__ = "0.2.0"

__all__ = ["DataError", "FeatureStore", "__version__", "open_store", "store_of_events"]

_PLACES = {  # imported when they are asked for: whoever needs a part of the package must not wait for all of it
    "DataError": "feature_store.tables.contracts",
    "FeatureStore": "feature_store.frames",
    "open_store": "feature_store.frames",
    "store_of_events": "feature_store.frames",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
