"""ASOF joins of the feature SQL in the words of an engine that has none, or one that does not scale, as Spark's.

Spark joins every row of a key with every row of the other side that has the key, and where there is no key everything with everything:
the seconds grow with the square of the clicks of a popular item. Here the moments that are asked for and the rows that could answer
are one sequence, in order of time: the answer to a moment is the last row before it. That is one sort, whatever the keys are.
"""

from __future__ import annotations

import re

_JOIN = re.compile(r"\basof (left )?join (?=[(\w])")
_ALIAS = re.compile(r"\s*(\w+)\s+on\s+((?:\w+\.\w+ = \w+\.\w+ and )*)(\w+)\.moment < (\w+)\.timestamp")
# Of rows of one time the asked moment comes first: what happened at that very time is not before it.
_ANSWERS = """{left}join (
    select {asked_keys}asked_time, found.* from (
        select {asked_keys}asked_time, answers, last_value(answer, true) over (
            {partition}order by asked_time, answers rows between unbounded preceding and current row
        ) as found
        from (
            select distinct {keys_of_left}{time}.timestamp as asked_time, false as answers, null as answer from {relation} {time}
            union all
            select {keys_of_right}{right}.moment, true, struct({right}.*) from {rows} {right}
        )
    ) where not answers{inner}
) {right} on {same_keys}{right}.asked_time = {time}.timestamp"""


def without_asof(query: str) -> str:
    """A query whose ASOF joins are windows over a union.

    Parameters
    ----------
    query : str
        Each of its ASOF joins reads ``asof [left] join ROWS b on [b.key = a.key and ...] b.moment < a.timestamp``, and ``from RELATION a``
        comes before it. RELATION and ROWS are names, or queries in parentheses; ROWS has at most one row of a key and moment.

    Returns
    -------
    str
        The same rows and columns, for an engine with ``last_value(value, true)`` (nulls ignored) and ``struct(b.*)``.

    Examples
    --------
    >>> without_asof("select 'asof' as a from t")
    "select 'asof' as a from t"
    """
    while found := _JOIN.search(query):  # the first one: a query in parentheses comes before the join that it is an operand of
        rows_end = _operand_end(query, found.end())
        on = _ALIAS.match(query, rows_end)
        if on is None:
            raise ValueError(f"this ASOF join cannot be rewritten: {query[found.start() : rows_end + 80]}")
        right, conditions, _, time = on.groups()
        pairs = [re.findall(r"\w+\.(\w+)", pair) for pair in conditions.split(" and ")[:-1]]
        joined = _ANSWERS.format(
            left=found[1] or "",
            rows=query[found.end() : rows_end],
            relation=_relation(query[: found.start()], time),
            right=right,
            time=time,
            asked_keys="".join(f"asked_{n}, " for n in range(len(pairs))),
            partition=f"partition by {', '.join(f'asked_{n}' for n in range(len(pairs)))} " if pairs else "",
            keys_of_left="".join(f"{time}.{pair[1]} as asked_{n}, " for n, pair in enumerate(pairs)),
            keys_of_right="".join(f"{right}.{pair[0]}, " for pair in pairs),
            same_keys="".join(f"{right}.asked_{n} = {time}.{pair[1]} and " for n, pair in enumerate(pairs)),
            inner="" if found[1] else " and found is not null",
        )
        query = query[: found.start()] + joined + query[on.end() :]
    return query


def _operand_end(query: str, begin: int) -> int:
    """Where the name, or the query in parentheses, that begins at a place ends."""
    depth = 0
    for place in range(begin, len(query)):
        depth += {"(": 1, ")": -1}.get(query[place], 0)
        if depth == 0 and (query[place] == ")" or query[place].isspace()):
            return place + (query[place] == ")")
    return len(query)


def _relation(before: str, alias: str) -> str:
    """What the last ``from RELATION alias`` of a text reads.

    Examples
    --------
    >>> _relation("from (select 1 from clicks b) a left join c ", "a"), _relation("from (select 1 from clicks b ", "b")
    ('(select 1 from clicks b)', 'clicks')
    """
    for found in reversed(list(re.finditer(r"\bfrom\s+(?=[(\w])", before))):
        end = _operand_end(before, found.end())
        if re.match(rf"\s*{alias}\b", before[end:]):
            return before[found.end() : end]
    raise ValueError(f"no relation is named {alias} before this ASOF join: {before[-80:]}")
