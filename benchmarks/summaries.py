"""The summary of an assembly that a benchmark makes of random clicks: the columns that readers ask for, and no counts."""

from __future__ import annotations

from collections.abc import Sequence

from feature_store.features.summary import ClickSummary


def columns_alone(statistics: Sequence[str] = (), categorical: Sequence[str] = (), item_attributes: Sequence[str] = ()) -> ClickSummary:
    """A summary that names these columns."""
    times = {"train_until": "2024-01-02T00:00:00Z", "validate_until": "2024-01-03T00:00:00Z", "test_until": "2024-01-04T00:00:00Z"}
    return ClickSummary.from_json(
        {
            "split": {"train_from": None, **times},
            **{name: {"train": 0, "validation": 0, "test": 0} for name in ("rows", "positives", "requests")},
            **dict.fromkeys(("users", "items", "clicks", "unseen_item_share"), 0),
            "excluded": {},
            "candidates": {"sampled": False},
            "statistics": list(statistics),
            "context": {"categorical": list(categorical), "dense": []},
            "item_attributes": list(item_attributes),
            "history": {"max_length": 20, "min_length": 0},
            "has_impressions": True,
            "oracle": False,
            "as_of": times["test_until"],
        }
    )
