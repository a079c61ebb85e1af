"""What was tried so far, in a database of the workspace, and what to try next. Optuna decides; nothing else here knows it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from feature_store.tables.json_files import digest_of
from pipelines.config.run import RunConfig
from pipelines.config.tune import Dimension, TuneConfig
from pipelines.errors import ConfigError
from pipelines.experiments.comparison import LEARNED_KEYS
from pipelines.experiments.tuning.space import Space, choice_names, configured_point, is_cheap
from pipelines.experiments.tuning.trials import Order, Trained
from pipelines.experiments.tuning.workers import FOLDER
from pipelines.stages.student import STAGE as STUDENT
from pipelines.tracking.client import sqlite_uri
from pipelines.workspace.artifacts import ArtifactError
from pipelines.workspace.context import RunContext

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

DATABASE = "studies.db"  # in the folder of the workspace
_GOOD = 3  # best trials so far, near one of which the next one is
_FEW, _MOST_OF_FEW = 3 / 4, 4  # share of the trials that draw a few keys, and the most that these draw
_KEEP_TEACHER = 2 / 3  # share of the trials that take the teacher of a good one
_REPEATED = 20  # draws that were tried before, one after the other, until there is nothing new

State = Literal["trained", "stopped", "failed"]


@dataclass(frozen=True)
class Tried:
    """A trial that has ended.

    Attributes
    ----------
    number : int
        From 0, the configuration as it is.
    state : str
    changes : dict
        Values by key; empty for the configuration as it is.
    objective : float or None
        What the study ranks by: the value, less the shares by which bounds are broken.
    seconds : float
        What the trial took.
    trained : Trained or None
    reason : str
        Why it failed.
    points : dict of int to float
        Values on validation during its trainings.
    """

    number: int
    state: State
    changes: dict[str, Any]
    objective: float | None
    seconds: float
    trained: Trained | None
    reason: str
    points: dict[int, float]

    @property
    def title(self) -> str:
        """What tables call it."""
        return "as configured" if not self.changes else f"trial {self.number}"

    @property
    def whole(self) -> float:
        """Seconds that it would take where nothing of it is made."""
        return self.seconds if self.trained is None else sum(self.trained.seconds.values())


def need_optuna() -> None:
    """Raises ConfigError where Optuna is not installed."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise ConfigError("ctr-kd tune needs Optuna, which is not installed: pip install -c constraints.txt 'ctr-kd[tune]'")


def study_name(run: RunContext, space: Space) -> str:
    """Name of a study: another configuration outside the space, other rows, another space, other bounds or other code is another study."""
    values = run.config.model_dump(mode="json", by_alias=True)
    blocks = {key.partition(".")[0] for key in LEARNED_KEYS}
    outside = {block: values[block] for block in sorted(blocks)}
    for key in space:
        *above, last = key.split(".")
        block: Any = outside
        for part in above:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict):
            block.pop(last, None)
    identity = {
        "configuration": outside,
        "space": {key: dimension.model_dump(mode="json") for key, dimension in space.items()},
        "bounds": [run.config.tune.rows_per_second_min, run.config.tune.bytes_max],
        "rows": run.artifacts["ingest"].finished.digest,
        "source": STUDENT.source_digests,
    }
    return f"{run.config.name}-{digest_of(identity)[:16]}"


def shortfall(trained: Trained, bounds: TuneConfig) -> float:
    """Shares by which a student breaks the bounds of cost; 0 where it keeps them.

    Examples
    --------
    >>> small = Trained(metric="auc", value=0.7, artifact="a", seconds={}, made=[], bytes=1500, parameters=1, rows_per_second=50.0)
    >>> shortfall(small, TuneConfig(bytes_max=1000)), shortfall(small, TuneConfig(rows_per_second_min=100)), shortfall(small, TuneConfig())
    (0.5, 0.5, 0.0)
    """
    found = 0.0
    if bounds.bytes_max is not None:
        found += max(0.0, trained.bytes / bounds.bytes_max - 1)
    if bounds.rows_per_second_min is not None:
        found += max(0.0, 1 - (trained.rows_per_second or 0.0) / bounds.rows_per_second_min)
    return found


class Study:
    """Trials of one configuration on the same rows.

    Only one process uses it, the one that holds the workspace. So a trial that is under way when a study is opened was left by a command
    that was stopped: it is closed, and its values are tried first, whose trainings go on from their checkpoints.

    Parameters
    ----------
    run : RunContext
        Its rows are up to date.
    space : mapping of str to Dimension
    settled : RunConfig
        The run's configuration with numbers in place of ``auto``, as its trials have them where they change nothing.
    anew : bool
        Whether to forget the trials that it has; what they made stays.

    Attributes
    ----------
    name : str
    """

    def __init__(self, run: RunContext, space: Space, settled: RunConfig, anew: bool = False) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self._config, self._space, self._settings = study_name(run, space), settled, space, run.config.tune
        folder = run.workspace / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._trials: dict[int, optuna.trial.Trial] = {}
        self._states = optuna.trial.TrialState
        try:
            storage = _storage(folder / DATABASE)
            if anew and self.name in (one.study_name for one in storage.get_all_studies()):
                optuna.delete_study(study_name=self.name, storage=storage)
            self._study = optuna.create_study(
                study_name=self.name, storage=storage, direction="maximize", load_if_exists=True, pruner=self._pruner()
            )
            self._study.sampler = self._sampler(len(self._study.trials))
            self._close_what_was_left()
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("optuna", "sqlalchemy", "sqlite3"):
                raise
            raise ArtifactError(f"{folder / DATABASE} is damaged: {str(error).splitlines()[0]}; delete it and run again") from error

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Draws go on where those of an earlier command ended."""
        import optuna

        seed += self._config.seed
        if self._settings.sampler == "cmaes":
            return _cmaes(seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, 3 + len(self._space)), constant_liar=True)

    def _pruner(self) -> optuna.pruners.BasePruner:
        import optuna

        if self._settings.pruner == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=25, max_resource=200)
        return optuna.pruners.MedianPruner() if self._settings.pruner == "median" else optuna.pruners.NopPruner()

    def _close_what_was_left(self) -> None:
        for left in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            self._study.tell(left.number, state=self._states.FAIL)
            if left.params or "configured" in left.user_attrs:
                self._study.enqueue_trial(left.params, {name: said for name, said in left.user_attrs.items() if name == "configured"})

    @property
    def seconds(self) -> float:
        """What earlier commands used of the budget."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def keep_seconds(self, seconds: float) -> None:
        """Remember what was used of the budget, for a command that goes on after a kill."""
        self._study.set_user_attr("seconds", seconds)

    @property
    def finals(self) -> dict[str, dict[str, Any]]:
        """What the finals gave so far, by the digest of the order."""
        return {name.partition("/")[2]: said for name, said in self._study.user_attrs.items() if name.startswith("final/")}

    def keep_final(self, order: Order, said: Mapping[str, Any]) -> None:
        """Remember what one training of the finals gave."""
        self._study.set_user_attr(f"final/{final_key(order)}", dict(said))

    def ask(self) -> Order | None:
        """The next trial: first the configuration as it is, then what a stopped command left, then what the sampler draws.

        Most keep what one of the best so far has and draw a few keys anew, two in three of them keys by which students learn alone, which
        trains no teacher. None where there is nothing left that was not tried.
        """
        point = configured_point(self._config, self._space)
        known = [trial for trial in self._study.get_trials(deepcopy=False) if trial.user_attrs.get("configured") == point]
        if all(_was_left(trial) for trial in known):
            self._study.enqueue_trial(point, {"configured": point})
        for _ in range(_REPEATED):
            if not self._study.get_trials(deepcopy=False, states=(self._states.WAITING,)):
                self._stay_near_a_good_one()
            order = self._drawn()
            if order is not None:
                return order
        return None

    def _drawn(self) -> Order | None:
        trial = self._study.ask()
        changes: dict[str, Any] = {}
        configured = trial.user_attrs.get("configured")
        if configured is not None:
            for key in configured:
                self._suggest(trial, key, self._space[key])
            if configured != configured_point(self._config, self._space):  # a stopped command had another configuration
                self._study.tell(trial, state=self._states.FAIL)
                return None
        else:
            changes = {key: self._suggest(trial, key, dimension) for key, dimension in self._space.items()}
            others = [one for one in self._study.get_trials(deepcopy=False) if one.number != trial.number and "changes" in one.user_attrs]
            if any(one.params == trial.params and not _was_left(one) for one in others):
                self._study.tell(trial, state=self._states.FAIL)
                return None
        trial.set_user_attr("changes", changes)
        self._trials[trial.number] = trial
        title = "as configured" if not changes else f"trial {trial.number}"
        return Order(title=title, changes=changes, seed=self._config.seed, number=trial.number)

    def _suggest(self, trial: optuna.trial.Trial, key: str, dimension: Dimension) -> Any:
        if dimension.choices is not None:
            names = choice_names(dimension)
            return names[str(trial.suggest_categorical(key, list(names)))]
        low, high, step = dimension.low, dimension.high, dimension.step
        assert low is not None and high is not None  # noqa: S101
        if dimension.whole:
            return trial.suggest_int(key, int(low), int(high), step=1 if step is None else int(step), log=dimension.log)
        value = trial.suggest_float(key, float(low), float(high), step=step, log=dimension.log)
        return float(f"{value:.3g}" if step is None else f"{value:.6g}")

    def _stay_near_a_good_one(self) -> None:
        """Let the next trial keep what one of the best so far has, but for a few keys; now and then but for all, or all of the student.

        Draws of all keys at once are mostly worse than a configuration that somebody has thought about, and say little about each key.
        """
        done = self._study.get_trials(deepcopy=False, states=(self._states.COMPLETE,))
        if not done:
            return
        draw = random.Random(f"{self._config.seed}/{len(self._study.get_trials(deepcopy=False))}")  # noqa: S311
        good = draw.choice(sorted(done, key=lambda trial: -(trial.value or 0.0))[:_GOOD]).params
        cheap = [key for key in self._space if is_cheap(key)]
        drawn = cheap if cheap and draw.random() < _KEEP_TEACHER else list(self._space)
        if draw.random() < _FEW:
            drawn = draw.sample(drawn, min(len(drawn), draw.randint(1, _MOST_OF_FEW)))
        self._study.enqueue_trial({key: good[key] for key in self._space if key in good and key not in drawn})

    def goes_on(self, number: int, step: int, value: float) -> bool:
        """Note what validation measured during a trial; returns whether it is worth going on."""
        trial = self._trials[number]
        trial.report(value, step)
        return "configured" in trial.user_attrs or not trial.should_prune()

    def tell(self, number: int, state: State, seconds: float, trained: Trained | None = None, reason: str = "") -> None:
        """Note how a trial ended."""
        trial = self._trials.pop(number)
        trial.set_user_attr("seconds", round(seconds, 3))
        if trained is not None:
            trial.set_user_attr("trained", trained.to_json())
            self._study.tell(trial, trained.value - shortfall(trained, self._settings))
        else:
            trial.set_user_attr("reason", reason)
            self._study.tell(trial, state=self._states.PRUNED if state == "stopped" else self._states.FAIL)

    def tried(self) -> list[Tried]:
        """Every trial that has ended, in order; without those that were drawn twice, or went on under another number."""
        ended = (self._states.COMPLETE, self._states.PRUNED, self._states.FAIL)
        states: dict[Any, State] = {self._states.COMPLETE: "trained", self._states.PRUNED: "stopped", self._states.FAIL: "failed"}
        found = []
        point = configured_point(self._config, self._space)
        for trial in self._study.get_trials(states=ended):
            said = trial.user_attrs
            if "seconds" not in said or said.get("configured", point) != point:
                continue
            found.append(
                Tried(
                    trial.number,
                    states[trial.state],
                    said.get("changes", {}),
                    trial.value if trial.state == self._states.COMPLETE else None,
                    said["seconds"],
                    Trained.from_json(said["trained"]) if "trained" in said else None,
                    said.get("reason", ""),
                    dict(trial.intermediate_values),
                )
            )
        return found

    def importance(self) -> dict[str, float]:
        """Share of each key in what the objective varied by, most first (fANOVA, Hutter et al. 2014); empty where too few trials say it."""
        import optuna

        done = self._study.get_trials(deepcopy=False, states=(self._states.COMPLETE,))
        complete = [trial for trial in done if all(key in trial.params for key in self._space)]
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        varied = [key for key in self._space if len({trial.params[key] for trial in complete}) > 1]
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._config.seed)
        try:
            return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator, params=varied, target=_value_alone))
        except (ValueError, RuntimeError):  # no tree finds anything that varies
            return {}


def _cmaes(seed: int) -> optuna.samplers.BaseSampler:
    """CMA-ES whose state stays in this process: Optuna would pickle it into the database, and unpickle what it finds there.

    A command that goes on after a kill learns it anew from the trials, a generation with each draw.
    """
    import optuna

    class InThisProcess(optuna.samplers.CmaEsSampler):
        _optimizer: Any = None

        def _init_optimizer(self, *arguments: Any) -> Any:
            self._optimizer = super()._init_optimizer(*arguments)
            return self._optimizer

        def _restore_optimizer(self, completed_trials: Any) -> Any:
            return self._optimizer

        def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
            return {}

    return InThisProcess(seed=seed, n_startup_trials=5, warn_independent_sampling=False)


def _storage(database: Path) -> optuna.storages.BaseStorage:
    import optuna

    return optuna.storages.RDBStorage(sqlite_uri(database))


def _value_alone(trial: optuna.trial.FrozenTrial) -> float:
    """The metric without the bounds of cost."""
    return float(trial.user_attrs["trained"]["value"])


def _was_left(trial: optuna.trial.FrozenTrial) -> bool:
    return "seconds" not in trial.user_attrs and trial.state.is_finished()


def final_key(order: Order) -> str:
    """By what a study knows a training of the finals."""
    return digest_of([order.changes, order.seed])[:16]


def best_first(tried: Sequence[Tried]) -> list[Tried]:
    """Trials that gave a student, best first."""
    return sorted((one for one in tried if one.objective is not None), key=lambda one: -(one.objective or 0.0))
