"""What an earlier run left to one that continues it: where its rows ended, and its vocabularies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from feature_store.engines import Engine
from feature_store.features.event_log import microseconds
from feature_store.features.time_split import Split

_PRIME = 2**31 - 1
FEWEST = 200  # requests that a training window is left with, where it has them


@dataclass(frozen=True)
class Continuation:
    """How the rows of a run that continues an earlier one differ from those of a run that begins anew.

    Attributes
    ----------
    since : datetime
        Where the training window of the earlier run ended: rows from here on are new to its models.
    replay : float
        Older rows of the training window that are learned again, as a share of the new ones: what is not seen again is forgotten.
    seed : int
        Of their choice.
    vocabulary : mapping of str to sequence of str
        Tokens by feature of the earlier run, in its order.
    """

    since: datetime
    replay: float
    seed: int
    vocabulary: Mapping[str, Sequence[str]]

    def grown(self, fitted: Mapping[str, list[str]], most: int) -> dict[str, list[str]]:
        """The earlier vocabularies with what is new behind them: every token keeps its index, and with it what was learned of it.

        Parameters
        ----------
        fitted : mapping of str to list of str
            What a run that begins anew would have.
        most : int
            Tokens of a feature; where there is no place left, what is new stays unknown.

        Examples
        --------
        >>> before = Continuation(datetime(2024, 1, 1), 0.5, 0, {"item": ["a", "b"]})
        >>> before.grown({"item": ["c", "b", "d"]}, 3)
        {'item': ['a', 'b', 'c']}
        """
        grown = {}
        for name, tokens in fitted.items():
            known = list(self.vocabulary.get(name, ()))
            there = set(known)
            new = [token for token in tokens if token not in there]
            grown[name] = known + new[: max(0, most - len(known))]
        return grown

    def condition(self, engine: Engine, split: Split) -> str:
        """SQL over ``requests``: true for those that get rows, which are all but older ones of the training window that chance leaves out.

        Chance is a hash of the seed, the end of the earlier window, and time and user of the request, which any engine with 64-bit integers
        computes: every night leaves out others. A night of few new requests learns again as many as make :data:`FEWEST`, if any.
        """
        since = microseconds(self.since)
        begin = "" if split.train_from is None else f"and timestamp >= {split.train_from}"
        old, new = engine.rows(
            f"""select coalesce(max(case when timestamp < {since} then request end) - min(request) + 1, 0),
                coalesce(max(request) - min(case when timestamp >= {since} then request end) + 1, 0)
            from requests where timestamp < {split.train_until} {begin}"""
        )[0]
        again = max(self.replay * int(new), FEWEST - int(new)) if self.replay else 0
        share = min(1.0, again / max(int(old), 1))
        night = (self.seed + since) % _PRIME
        first = f"((timestamp + cast(user_code as bigint) * 69621) % {_PRIME} + {night}) % {_PRIME} * 48271 % 2147483629"
        second = f"({first}) * ({first} + 12345) % {_PRIME} * 48271 % 2147483629"
        return f"(timestamp >= {since} or ({second}) * ({second} + 12345) % {_PRIME} < {int(share * _PRIME)})"
