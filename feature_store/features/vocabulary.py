"""Vocabularies: the tokens of each feature, fitted on the training window alone."""

from __future__ import annotations

from feature_store.config import VocabularyConfig
from feature_store.engines import Engine
from feature_store.features.event_log import Log
from feature_store.features.time_split import Split
from feature_store.tables.multi_values import count_values


def fit_vocabularies(engine: Engine, log: Log, split: Split, config: VocabularyConfig) -> dict[str, list[str]]:
    """Tokens by feature, most frequent first, ties in the order of their text.

    ``item`` and the item attributes count clicks known before the end of training, whether they are labels or history. The
    categorical context and the user attributes count the log's events in the training window: clicks where candidates are
    sampled, impressions else; a sampled candidate adds nothing. What is counted fewer than ``min_count`` times is left out.

    Parameters
    ----------
    engine : Engine
        Holds ``clicks``, ``requests``, ``items`` and ``users``.
    log : Log
    split : Split
    config : VocabularyConfig

    Returns
    -------
    dict of list of str
        Keys: ``item``, each item attribute, each categorical context column, each user attribute, each categorical fact, of whose values
        those count that the table of items or users had before the end of training. A name that occurs twice (a context column and an
        attribute) is refused when the log is described.
    """

    def values(expression: str, counted: str) -> list[str]:
        """Tokens of a column whose rows hold several values each."""
        counts = engine.rows(
            f"select cast({expression} as string) as cell, count(*) as n from {counted} and {expression} is not null group by {expression}"
        )
        return [value for value, count in count_values(counts) if count >= config.min_count][: config.max_size]

    def tokens(expression: str, counted: str) -> list[str]:
        return [
            token
            for (token,) in engine.rows(
                f"""select token
                from (
                    select cast({expression} as string) as token, count(*) as n
                    from {counted} and {expression} is not null
                    group by {expression} having count(*) >= {config.min_count}
                ) counts
                order by n desc, token limit {config.max_size}"""
            )
        ]

    clicked = f"clicks c join items i on i.item_code = c.item_code where c.known_at < {split.train_until}"
    start = "" if split.train_from is None else f" and r.timestamp >= {split.train_from}"
    shown = f"requests r join users u on u.user_code = r.user_code where r.timestamp < {split.train_until}{start}"
    vocabulary = {"item": tokens("i.item_id", clicked)}
    for n, name in enumerate(log.item_attributes):
        vocabulary[name] = (values if name in log.item_multi else tokens)(f"i.attribute_{n}", clicked)
    vocabulary |= {name: tokens(f"r.context_{n}", shown) for n, name in enumerate(log.categorical)}
    for n, name in enumerate(log.user_attributes):
        vocabulary[name] = (values if name in log.user_multi else tokens)(f"u.attribute_{n}", shown)
    for facts in log.facts:
        events, code = (clicked, "i.item_code") if facts.kind == "item" else (shown, "u.user_code")
        said = f"{facts.kind}_facts f on f.{facts.kind}_code = {code} and f.moment < {split.train_until}"
        counted = events.replace(" where ", f" join {said} where ", 1)
        vocabulary |= {name: tokens(f"f.fact_{n}", counted) for n, name in enumerate(facts.categorical)}
    return vocabulary
