"""Who replaced whom: what rollbacks go back through, and that the notes survive them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.registry.alias_history import GATE, PROMOTE, ROLLBACK, Change, changes_in, history_table, line_of_champions, tag_of


@given(st.lists(st.one_of(st.integers(1, 4).map(str), st.none()), max_size=30))
def test_rollbacks_go_back_as_a_stack_would(steps: list[str | None]) -> None:
    """A number is a promotion, None a rollback."""
    stack: list[str] = []
    changes: list[Change] = []
    for version in steps:
        before = stack[-1] if stack else None
        if version is None:
            line = line_of_champions(changes, before)
            assert line == stack
            if len(stack) > 1:
                stack.pop()
                changes.append(Change(ROLLBACK, before, line[-2]))
        elif version != before:
            stack.append(version)
            changes.append(Change(PROMOTE, before, version))
    assert line_of_champions(changes, stack[-1] if stack else None) == stack


def test_a_champion_that_somebody_chose_by_other_means_is_gone_back_from() -> None:
    changes = [Change(GATE, None, "1"), Change(GATE, "1", "2")]
    assert line_of_champions(changes, "7") == ["1", "2", "7"]
    assert line_of_champions(changes, "1") == ["1"]
    assert line_of_champions([*changes, Change(PROMOTE, "9", "3")], "3") == ["1", "2", "9", "3"]
    assert line_of_champions(changes, None) == []


def test_notes_keep_their_order_and_survive_the_way_through_tags() -> None:
    changes = [Change(GATE, str(n), str(n + 1), "why " * n, "night", "2024-05-01 03:00:00") for n in range(12)]
    tags = dict([tag_of(change, number) for number, change in enumerate(changes)][::-1])
    assert changes_in(tags | {"owner": "me"}) == changes
    assert len(changes_in(dict([tag_of(Change(GATE, None, "1", "x" * 9999), 0)]))[0].why) == 1000


def test_the_table_has_the_newest_and_counts_the_others() -> None:
    changes = [Change(GATE, str(n), str(n + 1), "two\nlines", "night", "2024-05-01 03:00:00") for n in range(12)]
    lines = history_table(changes).splitlines()
    assert len(lines) == 12
    assert lines[-2].endswith("11 -> 12  gate  night  two lines")
    assert lines[-1] == "and 2 earlier changes"
