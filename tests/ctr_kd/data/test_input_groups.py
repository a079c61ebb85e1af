"""Groups of a student's inputs: every input once, and together what tells of one thing."""

from __future__ import annotations

from ctr_kd.data.input_groups import InputGroup, input_groups, statistic_key

STATISTICS = ["item_age", "item_clicks_1h", "item_device_clicks_1h", "item_device_share_1h", "user_gap", "hour"]


def test_every_input_is_a_group_and_knows_its_column() -> None:
    groups = input_groups(["item", "topic", "author"], ["device", "age_group"], [*STATISTICS, "position"], STATISTICS)
    single = {name: group for name, group in groups.items() if group.inputs == (name,)}
    assert list(single) == ["history", "item_id", "topic", "author", "device", "age_group", *STATISTICS, "position"]
    assert single["history"] == InputGroup(("history",), history=True)
    assert single["author"] == InputGroup(("author",), candidate=(2,))
    assert single["age_group"] == InputGroup(("age_group",), categorical=(1,))
    assert single["position"] == InputGroup(("position",), dense=(len(STATISTICS),))


def test_what_tells_of_one_thing_is_a_group_too() -> None:
    groups = input_groups(["item", "topic", "author"], ["device"], [*STATISTICS, "item_price"], STATISTICS)
    several = {name: group for name, group in groups.items() if len(group.inputs) > 1}
    assert several == {
        "all item attributes": InputGroup(("topic", "author"), candidate=(1, 2)),
        "item statistics": InputGroup(("item_age", "item_clicks_1h"), dense=(0, 1)),  # item_price is a column of the log
        "item_device statistics": InputGroup(("item_device_clicks_1h", "item_device_share_1h"), dense=(2, 3)),
        "all statistics": InputGroup(tuple(STATISTICS), dense=(0, 1, 2, 3, 4, 5)),
    }


def test_a_log_with_nothing_but_clicks_has_two_inputs() -> None:
    assert list(input_groups(["item"], [], [], [])) == ["history", "item_id"]


def test_a_key_is_made_of_whole_names_of_columns() -> None:
    assert statistic_key("itemised_clicks", ["item"]) == ""
    assert statistic_key("user_click_region_clicks_7d", ["user", "click_region", "click"]) == "user_click_region"
    assert statistic_key("item_age_of_first", ["item", "age_group"]) == "item"
