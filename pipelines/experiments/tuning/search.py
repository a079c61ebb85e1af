"""The search itself: which trial begins when, what is made of how each ends, and the finals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.config.run import scalar
from pipelines.errors import ConfigError
from pipelines.experiments.tuning.clock import FINALS, Clock, time_text
from pipelines.experiments.tuning.finals import Finalist, finalists_of, fresh_seeds
from pipelines.experiments.tuning.study import Study, best_first, final_key
from pipelines.experiments.tuning.trials import Order, Trained, student_artifact
from pipelines.experiments.tuning.workers import Ended, Point, Pool
from pipelines.workspace.console import LogFormat
from pipelines.workspace.context import RunContext, TrialFacts

_ALL_FAIL = 5  # trials; a search of which so many first ones give no student gives none


@dataclass(frozen=True)
class Asked:
    """What the command line says of a search.

    Attributes
    ----------
    conf, output : Path
        The configuration, and where the tuned one goes.
    overrides : sequence of str
        Of ``--set``.
    budget : timedelta
        Of the whole study; what earlier commands used of it counts.
    processes : int
    anew : bool
        Whether to forget earlier trials.
    log_format : str
    """

    conf: Path
    output: Path
    overrides: Sequence[str]
    budget: timedelta
    processes: int = 1
    anew: bool = False
    log_format: LogFormat = "text"


@dataclass
class Search:
    """A search under way."""

    run: RunContext
    study: Study
    clock: Clock
    pool: Pool
    _began: dict[str, float] = field(default_factory=dict)

    def until_the_finals(self) -> None:
        """Train one trial after the other, as long as they fit.

        Raises
        ------
        ConfigError
            When the budget holds no trial beside the configuration as it is, or none gives a student.
        """
        exhausted = False
        while True:
            while self.pool.has_room and not exhausted and self._another_fits():
                order = self.study.ask()
                exhausted = order is None
                if order is not None:
                    self._begin(order)
            if not self.pool.under_way:
                break
            for event in self.pool.events(max(0.0, self.clock.left)):
                if isinstance(event, Point):
                    self.pool.answer(event, self.study.goes_on(event.order.number, event.step, event.value))
                else:
                    self._ended(event)
            self.study.keep_seconds(self.clock.used)
            if self.clock.left <= 0:
                for order in self.pool.under_way:  # a larger budget goes on with it, as after a kill
                    self.pool.give_up(order)
                    self.run.report(f"{order.title} did not end within the budget", "tune")
        self._refuse_nothing_searched(exhausted)

    def _another_fits(self) -> bool:
        most, tried = self.run.config.tune.trials, self.study.tried()
        known = len(tried) + len(self.pool.under_way)
        if self.clock.left <= 0 or (most is not None and known >= most):
            return False
        if not tried:
            # Before anything is known of what a trial takes, one at a time: with it others share what it makes.
            return not self.pool.under_way
        if len(tried) >= _ALL_FAIL and not best_first(tried):
            return False
        taken = [one.whole if not one.changes else one.seconds for one in tried if one.state != "failed" or one.seconds > 1]
        return self.clock.has_room_for_a_trial(taken, max(one.whole for one in tried))

    def _begin(self, order: Order) -> None:
        self._began[order.title] = time.monotonic()
        with_what = ", ".join(f"{_short(key)} {scalar(value)}" for key, value in order.changes.items())
        self.run.report(f"{order.title} begins{f': {with_what}' if with_what else ''}", "tune")
        self.pool.begin(order)

    def _ended(self, event: Ended) -> None:
        seconds = time.monotonic() - self._began.pop(event.order.title)
        self.study.tell(event.order.number, event.state, seconds, event.trained, event.reason)
        tried = self.study.tried()
        best, own = best_first(tried)[:1], next(one for one in tried if one.number == event.order.number)
        so_far = f"; best so far {best[0].objective:.4f}, {best[0].title}" if best else ""
        self.run.report(f"{event.order.title} {_what_became(event)} in {seconds:.0f} s{so_far}", "tune")
        _track(self.run, event, seconds, own.points)

    def _refuse_nothing_searched(self, exhausted: bool) -> None:
        tried = self.study.tried()
        budget = f"--budget {time_text(self.clock.budget)} is too small"
        if not tried:
            raise ConfigError(f"{budget} for one trial, the configuration as it is; a larger one goes on with what it made so far")
        if not best_first(tried):
            many = f"none of {len(tried)} trials" if len(tried) > 1 else "the one trial"
            raise ConfigError(f"no student came of {many}; the last one failed: {tried[-1].reason or 'stopped early'}")
        configured = tried[0]
        if exhausted or any(one.changes for one in tried) or self.run.config.tune.trials == 1:
            return
        whole, used = configured.whole, self.clock.used
        needed = 1.1 * max((used + whole) / (1 - FINALS), used + 3 * whole)
        raise ConfigError(
            f"{budget}: one trial, the configuration as it is, takes {time_text(whole)}, and a search needs another one and "
            f"two with another seed; give {time_text(needed)} or more, which goes on from here"
        )

    def finals(self) -> list[Finalist]:
        """Train the finalists with one other seed after the other, as far as they fit; none where not even two fit once."""
        known = self.study.finals
        finalists = finalists_of(self.study.tried(), self.run.config.tune.finalists)
        for number, seed in enumerate(fresh_seeds(self.run.config)):
            going_on = [one for one in finalists if not one.failed]
            wanted = [one for one in going_on if not self._take_known(one, seed, known)]
            while number == 0 and len(going_on) > 2 and not self._fit(wanted):
                going_on = going_on[:-1]  # the last of the best goes first
                wanted = [one for one in wanted if one in going_on]
            if number == 0:
                finalists = going_on
            if wanted and (len(going_on) < 2 or not self._fit(wanted)):
                break
            self._train({final_key(order): (one, order) for one in wanted for order in [one.order(seed)]})
        return finalists

    def _fit(self, wanted: Sequence[Finalist]) -> bool:
        return self.clock.together([one.tried.whole for one in wanted]) <= self.clock.left

    def _take_known(self, finalist: Finalist, seed: int, known: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether an earlier command trained it, and its student is still there."""
        said = known.get(final_key(finalist.order(seed)))
        trained = None if said is None else Trained.from_json(said)
        if trained is None or student_artifact(self.run.workspace, trained) is None:
            return False
        finalist.by_seed[seed] = trained
        return True

    def _train(self, orders: Mapping[str, tuple[Finalist, Order]]) -> None:
        waiting = list(orders.values())
        while waiting or self.pool.under_way:
            while waiting and self.pool.has_room:
                self._begin(waiting.pop(0)[1])
            for event in self.pool.events(None):
                if isinstance(event, Point):
                    self.pool.answer(event, goes_on=True)
                    continue
                finalist, order = orders[final_key(event.order)]
                seconds = time.monotonic() - self._began.pop(order.title)
                if event.trained is not None:
                    finalist.by_seed[order.seed] = event.trained
                    self.study.keep_final(order, event.trained.to_json())
                else:
                    finalist.failed = f"seed {order.seed}: {event.reason}"
                self.run.report(f"{order.title} {_what_became(event)} in {seconds:.0f} s", "tune")
                _track(self.run, event, seconds, {})
            self.study.keep_seconds(self.clock.used)


def _short(key: str) -> str:
    return key.removeprefix("distill.") if key.startswith("distill.") else key


def _what_became(event: Ended) -> str:
    if event.trained is not None:
        return f"has {event.trained.metric} {event.trained.value:.4f}"
    return "is stopped early" if event.state == "stopped" else f"failed: {event.reason};"


def _track(run: RunContext, event: Ended, seconds: float, points: Mapping[int, float]) -> None:
    """Tell MLflow of a trial."""
    if run.tracker is None:
        return
    trained, ended = event.trained, datetime.now(UTC)
    metrics: dict[str, float] = {"seconds": seconds}
    if trained is not None:
        metrics |= {f"validation_{trained.metric}": trained.value, "bytes": trained.bytes, "parameters": trained.parameters}
        metrics |= {} if trained.rows_per_second is None else {"rows_per_second": trained.rows_per_second}
    tags = {"trial": event.state, **({"reason": event.reason} if event.reason else {})}
    tags |= {} if trained is None else {"student": trained.artifact}
    run.tracker.trial(
        run,
        TrialFacts(
            event.order.title,
            {"seed": event.order.seed, **event.order.changes},
            metrics,
            points,
            tags,
            ended - timedelta(seconds=seconds),
            ended,
            event.state != "failed",
        ),
    )
