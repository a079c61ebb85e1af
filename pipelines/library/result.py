"""What a run made, for people who are in Python: frames, the verdict, the report and the student."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ctr_kd.frames.figures import differences_frame, models_frame
from feature_store.tables.contracts import DataError
from pipelines.metrics import Metrics, read_plots
from pipelines.registry.registration import Registration
from pipelines.tracking.client import tracking_uri
from pipelines.training.students import EXPORTS
from pipelines.workspace.artifacts import read_json_as
from pipelines.workspace.reports import PAGE, report_directory
from pipelines.workspace.runner import Runner
from pipelines.workspace.tables import text_table

if TYPE_CHECKING:
    from ctr_kd.frames.student import Student

Curve = Literal["learning", "roc", "reliability"]


@dataclass(frozen=True)
class InlinePage:
    """A page that a notebook shows in a frame, so that its style stays its own."""

    page: str

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page, quote=True)}" style="width: 100%; height: 40em; border: 0" title="report"></iframe>'
        )


@dataclass(frozen=True)
class Result:
    """What a run made; figures are there once stage evaluate ran.

    Attributes
    ----------
    workspace : Path
    artifacts : mapping of str to Path
        Folder of each stage, by its name.
    stages : DataFrame
        A line for each stage: whether this run ``made`` it, what it took (``seconds``, ``peak_memory_bytes``), and its ``folder``.
    report : Path or None
        The page ``report.html``; None before stage evaluate.
    registry : str
        MLflow's URI.
    """

    workspace: Path
    artifacts: Mapping[str, Path]
    stages: pd.DataFrame
    report: Path | None
    registry: str

    def __repr__(self) -> str:
        said = self.verdict if self.report is not None else f"stages {', '.join(self.artifacts)}"
        return f"<Result in {self.workspace}: {said}>"

    def _repr_html_(self) -> str:
        """The report, inline in a notebook."""
        if self.report is None:
            return f"<pre>{html.escape(repr(self))}</pre>"
        return InlinePage(self.report.read_text(encoding="utf-8"))._repr_html_()

    @cached_property
    def _figures(self) -> Metrics:
        if self.report is None:
            raise DataError("no figures were made: run the stages up to evaluate")
        return Metrics.read(self.report.parent)

    @property
    def metrics(self) -> pd.DataFrame:
        """Models by figures on the test rows: ``auc``, ``auc_low`` and ``auc_high`` (its 95 % interval), ..., and costs."""
        return models_frame(self._figures.models)

    @property
    def comparisons(self) -> pd.DataFrame:
        """``difference``, ``low``, ``high`` and ``p_value`` by pair of models and figure, such as ``("student-student_alone", "auc")``."""
        return differences_frame(self._figures.comparisons)

    @property
    def verdict(self) -> str | None:
        """What distillation gave and which student ships, in a sentence."""
        return self._figures.verdict

    @property
    def gate(self) -> pd.DataFrame | None:
        """The promotion gate's checks: ``value``, ``bound`` and ``passed`` by name; None before stage register."""
        gate = self._figures.gate
        return None if gate is None else pd.DataFrame(gate["checks"]).set_index("name")

    @property
    def passed(self) -> bool | None:
        """Whether the student passed the gate; None before stage register."""
        gate = self._figures.gate
        return None if gate is None else bool(gate["passed"])

    def charts(self) -> InlinePage:
        """ROC, calibration and learning curves, drawn inline in a notebook as the report draws them."""
        from ctr_kd.report import render_charts

        return InlinePage(render_charts(self._plots))

    @cached_property
    def _plots(self) -> dict[str, Any]:
        if "evaluate" not in self.artifacts:
            raise DataError("no curves were made: run the stages up to evaluate")
        return read_plots(self.artifacts["evaluate"])

    def curves(self, kind: Curve = "learning") -> pd.DataFrame:
        """What the report draws, a line for each point.

        Parameters
        ----------
        kind : "learning", "roc" or "reliability"
            ``learning``: figures by ``training`` and ``step``. ``roc``: ``false_positive_rate`` and ``true_positive_rate`` by ``model``.
            ``reliability``: ``predicted`` and ``observed`` click rate, the latter with the ends of its interval, by ``model``.
        """
        found = self._plots.get(kind) or {}
        if kind == "learning":
            lines = [{"training": name, **point} for name, curve in found.items() for point in curve["points"]]
        elif kind == "roc":
            ends = ("false_positive_rate", "true_positive_rate")
            lines = [{"model": name, **dict(zip(ends, point, strict=True))} for name, points in found.items() for point in points]
        else:
            lines = [{"model": name, **point} for name, points in found.items() for point in points]
        return pd.DataFrame(lines)

    @cached_property
    def student(self) -> Student:
        """The student that ships: the registered version of this run, or its export where it was not registered.

        Its digests are checked before it is loaded.
        """
        from ctr_kd.frames.student import load_student
        from pipelines.registry.loading import load_registered

        registered = (
            None if "register" not in self.artifacts else read_json_as(self.artifacts["register"] / Registration.FILE, Registration)
        )
        if registered is not None:
            return load_registered(registered.uri, self.registry)
        if "distill" not in self.artifacts or self.report is None:
            raise DataError("no student was made: run the stages up to evaluate, which chooses it")
        return load_student(self.artifacts["distill"] / EXPORTS[self._figures.shipped])

    def __str__(self) -> str:
        lines = [("stage", "made"), *((str(name), "made" if made else "up to date") for name, made in self.stages["made"].items())]
        return "\n".join(filter(None, [text_table(lines), self.verdict if self.report is not None else None]))


def result_of(runner: Runner) -> Result:
    """The result of a run that went as far as it was asked to, or to the refusal of the gate."""
    run = runner.context
    finished = {name: artifact.finished for name, artifact in run.artifacts.items()}
    rows = {
        name: {
            "made": name in runner.made,
            "seconds": manifest.seconds,
            "peak_memory_bytes": manifest.peak_memory_bytes,
            "folder": str(run.artifacts[name].path),
        }
        for name, manifest in finished.items()
    }
    folder = report_directory(run)
    return Result(
        workspace=run.workspace,
        artifacts={name: artifact.path for name, artifact in run.artifacts.items()},
        stages=pd.DataFrame.from_dict(rows, orient="index", columns=["made", "seconds", "peak_memory_bytes", "folder"]),
        report=None if folder is None else folder / PAGE,
        registry=tracking_uri(run.config, run.workspace),
    )
