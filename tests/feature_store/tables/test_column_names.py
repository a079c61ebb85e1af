"""The one rule about names of columns."""

from __future__ import annotations

from itertools import product

import pyarrow as pa
import pytest

from feature_store.tables.column_names import RESERVED, check_names
from feature_store.tables.contracts import DataError, log_contract, schema
from tests.odd_names import ODD_COLUMNS

GROUPS = ("categorical", "dense", "item_attributes", "user_attributes")


@pytest.mark.parametrize("name", RESERVED)
def test_a_taken_name_is_refused_by_itself_and_in_other_letters(name: str) -> None:
    for written, group in product((name, name.upper(), name.title()), GROUPS):
        taken = rf"the name of column '{written}' is taken \(.*{RESERVED[name]}.*\); rename it in the log and in `source`"
        with pytest.raises(DataError, match=taken):
            check_names(log_contract(has_impressions=True, **{group: ["fine", written]}))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("other", GROUPS)
def test_two_columns_differ_in_more_than_case(group: str, other: str) -> None:
    for names, expected in ((("a", "A"), "column 'A' is 'a' in other letters"), (("a", "a"), "column 'a' is named twice")):
        chosen = {group: list(names)} if group == other else {group: [names[0]], other: [names[1]]}
        with pytest.raises(DataError, match=f"{expected}|'a' is 'A' in other"):
            check_names(log_contract(has_impressions=True, **chosen))


def test_what_the_store_writes_is_taken_and_all_else_is_free() -> None:
    contract = log_contract(has_impressions=True, categorical=ODD_COLUMNS, dense=["hour", "item_clicks_1h"], oracle=True)
    check_names(contract)
    ids = dict.fromkeys(("user_id", "item_id", "request_id"), pa.int64())
    columns = {name for kind in ("events", "items", "users") for name in schema(kind, contract, ids).names}
    assert columns - {*ODD_COLUMNS, "hour", "item_clicks_1h"} <= RESERVED.keys()
    for name in ("", "a\0b"):
        with pytest.raises(DataError, match="is no name of a column"):
            check_names(log_contract(has_impressions=True, dense=[name]))


def test_a_column_may_be_called_as_the_weight_of_a_row_is_where_rows_have_none() -> None:
    check_names(log_contract(has_impressions=True, dense=["row_weight"]))
    with pytest.raises(DataError, match=r"the name of column 'row_weight' is taken"):
        check_names(log_contract(has_impressions=True, dense=["row_weight"], weighted=True))


def test_a_label_takes_its_columns_and_clashes_with_no_other() -> None:
    check_names(log_contract(has_impressions=True, dense=["label_bought", "score_bought"]))
    check_names(log_contract(has_impressions=True, dense=["price"], labels=["bought", "kept"]))
    for name, what in (("label_bought", "a column of the store"), ("score_bought", "a column of the scores")):
        with pytest.raises(DataError, match=rf"dense context: the name of column '{name}' is taken \({what}\)"):
            check_names(log_contract(has_impressions=True, dense=[name], labels=["Bought"]))
    with pytest.raises(DataError, match="labels: column 'bought' is named twice"):
        check_names(log_contract(has_impressions=True, categorical=["bought"], labels=["bought"]))
    with pytest.raises(DataError, match="labels: the name of column 'clicked' is taken"):
        check_names(log_contract(has_impressions=True, labels=["clicked"]))
