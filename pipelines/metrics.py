"""``metrics.json``: what a run was, its data, what every model is worth and what the gate said; and the page that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from feature_store.features.summary import CandidateSummary, SplitTimes
from feature_store.tables.json_files import load_json, write_json, write_text
from feature_store.tables.json_models import JsonFile, JsonModel
from pipelines.workspace.parent import parent_of
from pipelines.workspace.resources import peak_memory_bytes

if TYPE_CHECKING:  # a worker that scores reads a model's lineage, and with it this file: the store and the console would come with them
    from pipelines.tasks import Rows
    from pipelines.workspace.context import StageContext

PLOTS = "report.json"
PAGE = "report.html"
STUDENT, ALONE = "student", "student_alone"


class RunFacts(JsonModel):
    """What a run was.

    Attributes
    ----------
    configuration : dict
        The keys that its stages read, by block.
    fingerprint : str
        Of the stage that says it.
    seed : int
    started : str, optional
        When the first of its artifacts was begun, ISO 8601.
    seconds : dict of str to float
        By stage; of the one that says it so far.
    peak_memory_bytes : int
        The largest of the stages' memories.
    parent : dict, optional
        The run that it continues (:class:`pipelines.workspace.parent.Parent`); None where it began anew.
    """

    configuration: dict[str, Any]
    fingerprint: str
    seed: int
    started: str | None
    seconds: dict[str, float]
    peak_memory_bytes: int
    parent: dict[str, Any] | None = None

    @classmethod
    def of(cls, context: StageContext) -> RunFacts:
        """Of the run of a stage, so far."""
        manifests = {name: artifact.finished for name, artifact in context.run.artifacts.items()}
        parent = parent_of(context.run.artifacts["ingest"].path) if "ingest" in context.run.artifacts else None
        configuration: dict[str, Any] = {"name": context.config.name}
        for keys in (*(manifest.config for manifest in manifests.values()), context.config.section(context.keys)):
            for key, value in keys.items():
                *blocks, last = key.split(".")
                block = configuration
                for name in blocks:
                    block = block.setdefault(name, {})
                block[last] = value
        return cls(
            configuration=configuration,
            fingerprint=context.fingerprint,
            seed=context.config.seed,
            started=min([manifest.started for manifest in manifests.values()], default=None),
            seconds={name: manifest.seconds for name, manifest in manifests.items()} | {context.stage: round(context.seconds, 3)},
            peak_memory_bytes=max(peak_memory_bytes(), *(manifest.peak_memory_bytes for manifest in manifests.values())),
            parent=None if parent is None else parent.to_json(),
        )


class DataFacts(JsonModel):
    """Sizes of the data, and how the rows were made; what a task does not know is null.

    Attributes
    ----------
    train_rows, validation_rows, test_rows : int
    word_vectors : dict
        How many of the student's tokens have a vector; absent where it has none.
    missing_vectors : int
        Those that have none; absent likewise.
    users, items, clicks, classes : int, optional
    unseen_item_share, unseen_token_share : float, optional
        Of the test rows' items or tokens.
    audit : dict, optional
    split : SplitTimes, optional
    excluded : dict of str to int, optional
    candidates : CandidateSummary, optional
        As the summary of the assembly has them.
    negative_sampling_rate : float, optional
    weighted : bool
        Rows count by the weights of the log; absent where all count alike.
    quarantined_rows : int
    """

    train_rows: int
    validation_rows: int
    test_rows: int
    word_vectors: dict[str, int] | None = None
    missing_vectors: int | None = None
    users: int | None
    items: int | None
    clicks: int | None
    classes: int | None
    unseen_item_share: float | None
    unseen_token_share: float | None
    audit: dict[str, Any] | None
    split: SplitTimes | None
    excluded: dict[str, int] | None
    candidates: CandidateSummary | None
    negative_sampling_rate: float | None
    weighted: bool = False
    quarantined_rows: int

    @classmethod
    def of(cls, context: StageContext, rows: Rows) -> DataFacts:
        """Of the rows that a stage measured."""
        said = rows.facts()
        counts = {f"{split}_rows": said["rows"][split] for split in ("train", "validation", "test")}
        known = {name: said.get(name) for name, field in cls.model_fields.items() if field.is_required() or name in said}
        recorded = context.run.artifacts["ingest"].finished.facts
        return cls.model_validate({**known, **counts, "quarantined_rows": recorded["quarantined_rows"]})


class Shipping(JsonModel):
    """Which student ships, and why.

    Attributes
    ----------
    ship : str
        As configured.
    shipped : str
        ``student`` or ``student_alone``.
    metric : str
        In which they were compared.
    validation : dict
        Student minus student alone on the validation rows: ``difference``, ``low``, ``high`` and ``p_value``, or a ``reason``.
    sentence : str
        All that as the end of a sentence.
    """

    ship: str
    shipped: str
    metric: str
    validation: dict[str, Any]
    sentence: str

    @property
    def gain_high(self) -> float | None:
        """What the shipped student is, at the upper end of the interval, better than the student alone; None where that is unknown."""
        if self.shipped == ALONE:
            return 0.0
        high: float | None = self.validation.get("high")
        return high


class Advice(JsonModel):
    """Where distillation did not pay.

    Attributes
    ----------
    cause : str
        The figures to look at first.
    change : str, optional
        ``key=value`` to try next; None where no key is the first thing to change, but other seeds should be looked at.
    """

    cause: str
    change: str | None


class Metrics(JsonFile):
    """The content of ``metrics.json``.

    Attributes
    ----------
    run : RunFacts
    data : DataFacts
    models : dict of str to dict
        Figures and costs by model. A teacher that reads columns of ``teacher_only`` has them in ``privileged``: its figures are with
        inputs that are not there when a student is served.
    comparisons : dict of str to dict
        Differences of two models, by ``FIRST-SECOND`` and figure.
    slices : dict of str to dict
        Figures by part of the test rows and model.
    gate : dict, optional
        What the promotion gate said; None before it was asked.
    shipped : str
        The student that is registered: ``student`` or ``student_alone``.
    shipping : Shipping, optional
        Why it is that one; None in a file of release 0.1.
    verdict : str, optional
        What distillation gave and which student ships, in a sentence.
    transfer_ratio : float, optional
        Share of the teacher's lead over the student alone that the student has; None where the teacher has none. Of a privileged teacher
        part of that lead comes from inputs that the student lacks, and no student could have all of it.
    transfer_ratio_interval : dict, optional
        The same with ``low`` and ``high``; its ``value`` is None, with a ``reason``, where the teacher's lead is not above chance. None in
        a file of an earlier release.
    advice : Advice, optional
        What to do where distillation did not pay.
    teachers : dict of str to dict, optional
        By configured teacher: ``kind``, ``coverage`` by split, and ``leak``, what it is worth where it teaches and on validation. None in a
        file of an earlier release.
    pretraining : dict of str to float, optional
        What the first encoder knows of held-out sequences, beside what popularity and the last click do; None of a released BERT, and in a
        file of an earlier release.
    other_seeds : dict, optional
        Student minus student alone over several seeds, from the proof of the same configuration, where there is one.
    importance : dict, optional
        What each group of the shipped student's inputs is worth on validation rows; None where there are no groups, or none was asked for.
    freshness : list of dict, optional
        Figures of the shipped student by how often item vectors are refreshed; None where it reads none.
    labels : dict of str to dict, optional
        By label beside the click: ``rows`` that say it, ``positives``, ``models`` and ``comparisons``; absent where there are none.
    """

    FILE: ClassVar[str] = "metrics.json"

    run: RunFacts
    data: DataFacts
    models: dict[str, dict[str, Any]]
    comparisons: dict[str, dict[str, Any]]
    slices: dict[str, dict[str, Any]]
    gate: dict[str, Any] | None
    shipped: str = STUDENT
    shipping: Shipping | None = None
    verdict: str | None = None
    transfer_ratio: float | None = None
    transfer_ratio_interval: dict[str, Any] | None = None
    advice: Advice | None = None
    teachers: dict[str, dict[str, Any]] | None = None
    pretraining: dict[str, float] | None = None
    other_seeds: dict[str, Any] | None = None
    importance: dict[str, Any] | None = None
    freshness: list[dict[str, Any]] | None = None
    labels: dict[str, dict[str, Any]] | None = None

    @property
    def shipped_model(self) -> dict[str, Any]:
        """Figures and costs of the student that ships."""
        return self.models[self.shipped]


def write_report(folder: Path, metrics: Metrics, plots: Mapping[str, Any]) -> None:
    """Write the figures, what the plots show, and the page that shows both."""
    from ctr_kd.report import render

    metrics.write(folder)
    write_json(folder / PLOTS, plots)
    write_text(folder / PAGE, render(metrics.to_json(), plots))


def read_plots(folder: Path) -> dict[str, Any]:
    """What the plots of a report show."""
    plots: dict[str, Any] = load_json(folder / PLOTS)
    return plots


def mark_privileged(models: Mapping[str, dict[str, Any]], columns: Sequence[str]) -> None:
    """Say of each teacher which columns it reads that no student can, in place; nothing where there are none.

    Examples
    --------
    >>> models = {"teacher": {"auc": 0.8}, "student": {"auc": 0.7}}
    >>> mark_privileged(models, ["dwell"])
    >>> models
    {'teacher': {'auc': 0.8, 'privileged': ['dwell']}, 'student': {'auc': 0.7}}
    """
    for name, figures in models.items():
        if columns and name.partition("/")[0] == "teacher":
            figures["privileged"] = list(columns)


def metric_value(student: Mapping[str, Any], name: str) -> tuple[float | None, str | None]:
    """A metric of metrics.json and, where it is undefined, the reason; it may be a plain number or carry an interval.

    Examples
    --------
    >>> metric_value({"auc": {"value": 0.7, "low": 0.6, "high": 0.8}}, "auc")
    (0.7, None)
    >>> metric_value({"auc": {"value": None, "reason": "no rows"}}, "auc")
    (None, 'no rows')
    """
    entry = student.get(name)
    if isinstance(entry, Mapping):
        return entry.get("value"), entry.get("reason")
    return entry, None if entry is not None else "not measured"
