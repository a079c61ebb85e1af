"""What `ctr-kd check` says of teachers before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.training.teachers.first_look import teacher_faults
from pipelines.workspace.context import RunContext
from tests.pipelines.training.teachers.shop import Shop

PLACE = "tests.pipelines.training.teachers.my_teachers"
FILES = {"path": "scores.csv", "score": "p_click", "user": "user", "item": "item", "time": "time"}


def faults(shop: Shop, teacher: dict[str, Any]) -> list[str]:
    run = RunContext(shop.config([{"name": "mine", **teacher}, {"name": "bert"}]), shop.workspace, shop.data, read_only=True)
    return list(teacher_faults(run, shop.data))


@pytest.mark.parametrize(
    "teacher", [{"scores": {"column": "p_click", "known": "scored_at"}}, {"scores": FILES}, {"plugin": f"{PLACE}:ByPrice"}]
)
def test_teachers_that_can_teach_have_no_faults(shop: Shop, teacher: dict[str, Any]) -> None:
    shop.log.to_csv(shop.data / "scores.csv", index=False)
    assert faults(shop, teacher) == []


@pytest.mark.parametrize(
    ("teacher", "line"),
    [
        ({"scores": {"column": "p_clik"}}, "teacher mine: no file of events has column 'p_clik'; the nearest existing name is 'p_click'"),
        ({"scores": FILES | {"path": "nowhere/*"}}, "no file matches 'nowhere/*'"),
        ({"scores": FILES | {"score": "price_of_it"}}, "column 'price_of_it' is missing"),
        ({"scores": FILES | {"score": "time"}}, "is no probability; correct it, or set scale: logit"),
        ({"plugin": f"{PLACE}:HasNoFit"}, "has no method 'fit'"),
        ({"model": "models:/ranker@champion", "trust": True}, "teacher mine: models:/ranker@champion: there is no registry at"),
        ({"model": "nowhere", "trust": True}, "mine: nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_a_line_before_anything_is_trained(shop: Shop, teacher: dict[str, Any], line: str) -> None:
    shop.log.to_csv(shop.data / "scores.csv", index=False)
    before = sorted(shop.workspace.rglob("*"))
    (found,) = faults(shop, teacher)
    assert line in found and "\n" not in found
    assert sorted(shop.workspace.rglob("*")) == before
