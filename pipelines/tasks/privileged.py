"""Which columns of the rows teachers alone read, by the configuration and by what the rows have."""

from __future__ import annotations

from feature_store.features.summary import ClickSummary
from feature_store.tables.contracts import nearest
from feature_store.tables.multi_values import named_by
from pipelines.config.teacher_only import TeacherOnlyConfig
from pipelines.errors import ConfigError


def privileged_columns(config: TeacherOnlyConfig, summary: ClickSummary) -> list[str]:
    """Columns that students do not read, in the order of the configuration, statistics that are counted by one of them behind it.

    Parameters
    ----------
    config : TeacherOnlyConfig
    summary : ClickSummary
        Of the rows.

    Raises
    ------
    ConfigError
        When the rows have no such column; the message names the nearest that they have.
    """
    attributes = [*summary.item_attributes, *summary.user_attributes]
    own = [name for name in summary.context.categorical if name not in summary.categorical_facts]
    described = list(dict.fromkeys([*map(named_by, attributes), *summary.categorical_facts]))
    known = {
        "context": [*own, *summary.context.dense],
        "statistics": summary.statistics,
        "categorical": described,
        "multi": described,
        "vector": [*summary.item_vectors, *summary.user_vectors],
    }
    for key, names in config.named.items():
        strange = next((name for name in names if name not in known[key]), None)
        if strange is not None:
            raise ConfigError(f"teacher_only.{key}: the rows have no such column {strange!r}; {nearest(strange, known[key])}")
    named = [name for names in config.named.values() for name in names]
    return list(dict.fromkeys([*named, *_counted_by(config.context, summary)]))


def _counted_by(columns: list[str], summary: ClickSummary) -> list[str]:
    """Statistics of the rows in whose key one of these columns is: who lacks it when it is served cannot be told them either."""
    if summary.made_with is None or not columns:
        return []
    counted = [one.name for one in summary.made_with.declared() if not set(columns).isdisjoint(one.key)]
    listwise = [f"{name}{ending}" for name in counted for ending in ("_of_request", "_rank")]
    return [name for name in (*counted, *listwise) if name in summary.statistics]
