"""Seals: what was sealed comes back, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.tables.seal import SEAL, sealed, unsealed

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(lambda key: key != SEAL)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_was_sealed_comes_back_through_json(content: dict[str, Any]) -> None:
    assert unsealed(json.loads(json.dumps(sealed(content)))) == content


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), VALUES, st.data())
def test_another_value_breaks_the_seal(content: dict[str, Any], value: Any, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(content)))
    changed = sealed(content) | {key: value}
    if json.dumps(value) == json.dumps(content[key]):
        assert unsealed(changed) == content
    else:
        with pytest.raises(ValueError, match="its seal is not that of its content"):
            unsealed(changed)


def test_keys_that_are_numbers_become_texts_as_json_has_none() -> None:
    assert unsealed(json.loads(json.dumps(sealed({1: "a", 10: "b", 2: "c"})))) == {"1": "a", "10": "b", "2": "c"}  # type: ignore[dict-item]


def test_no_seal_and_a_content_with_that_key_are_refused() -> None:
    with pytest.raises(ValueError, match="it has no seal"):
        unsealed({"rows": 1})
    with pytest.raises(ValueError, match="the key of the seal"):
        sealed({SEAL: 1})
