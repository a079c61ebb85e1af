"""Signatures of exported students that are made by hand."""

from __future__ import annotations

from typing import Any

from ctr_kd.export.signature import ClickSignature

CLICKS = {
    "inputs": {"segment_b": "int32 (rows, 1, token features)"},
    "output": "logit (rows, 1)",
    "special_tokens": ["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]"],
    "tokens": {"item": 5 + 4, "gap": 24},
    "categorical": {"device": 5 + 2},
    "dense": {"item_age": [0.0, 1.0]},
    "outputs": 1,
    "max_length": 5,
    "max_length_b": 1,
    "gap_buckets": 24,
    "user_attributes": [],
    "negative_sampling_rate": None,
    "columns": {
        "required": ["history", "item_id", "timestamp"],
        "optional": ["history_timestamps", "device", "item_age"],
        "answer": {"score": "double"},
    },
}


def click_signature(**changes: Any) -> ClickSignature:
    """Of a student that reads four items, two devices and the age of an item, or what is changed of it."""
    return ClickSignature.from_json(CLICKS | changes)
