"""Summaries of assemblies that are made by hand."""

from __future__ import annotations

from typing import Any

from feature_store.features.summary import ClickSummary
from feature_store.text.summary import TextSummary

CLICKS = {
    "split": {
        "train_from": None,
        "train_until": "2024-01-02T00:00:00+00:00",
        "validate_until": "2024-01-03T00:00:00+00:00",
        "test_until": "2024-01-04T00:00:00+00:00",
    },
    "rows": {"train": 0, "validation": 0, "test": 0},
    "positives": {"train": 0, "validation": 0, "test": 0},
    "requests": {"train": 0, "validation": 0, "test": 0},
    "users": 0,
    "items": 0,
    "clicks": 0,
    "unseen_item_share": 0.0,
    "excluded": {},
    "candidates": {"sampled": False},
    "statistics": [],
    "context": {"categorical": [], "dense": []},
    "item_attributes": [],
    "user_attributes": [],
    "history": {"max_length": 20, "min_length": 0},
    "has_impressions": True,
    "oracle": False,
    "as_of": "2024-01-04T00:00:00+00:00",
    "negative_sampling_rate": None,
}
VIEW = {"tokens": 0, "mean_length": 0.0, "max_length": 0, "empty": 0, "unseen_token_share": 0.0}
TEXTS = {
    "rows": {"train": 0, "validation": 0, "test": 0},
    "classes": 2,
    "pair": False,
    "leaked": {"validation": 0, "test": 0},
    "unlabelled_left_out": 0,
    "views": {"teacher": VIEW, "student": VIEW},
    "unseen_token_share": 0.0,
}


def click_summary(**changes: Any) -> ClickSummary:
    """The summary of an empty assembly, changed."""
    return ClickSummary.from_json(CLICKS | changes)


def text_summary(**changes: Any) -> TextSummary:
    """The summary of an empty assembly of texts, changed."""
    return TextSummary.from_json(TEXTS | changes)
