"""Stage features: what each statistic tells by itself. It is no part of the pipeline; its command runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ctr_kd.evaluation.univariate import Column, FeatureFigures, measure_feature
from feature_store.features.statistics import state_columns, statistic_meanings, vector_columns
from feature_store.features.summary import SplitTimes
from feature_store.tables.json_files import write_json, write_text
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_apart
from pipelines.workspace.tables import text_table

FILE, PAGE = "features.json", "features.html"


@dataclass(frozen=True)
class Feature:
    """A column of the rows, and what it tells by itself.

    Attributes
    ----------
    name, meaning : str
    kind : str
        ``context`` for a dense column of the log.
    figures : FeatureFigures
    teacher_only : bool
        Students do not read it.
    """

    name: str
    kind: Literal["statistic", "context"]
    meaning: str
    figures: FeatureFigures
    teacher_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Name, kind and meaning, and the figures beside them; and whether it is of the teachers alone, where it is."""
        alone = {"teacher_only": True} if self.teacher_only else {}
        return {"name": self.name, "kind": self.kind, "meaning": self.meaning, **alone, **self.figures.to_json()}


@dataclass(frozen=True)
class FeaturesFile:
    """What ``features.json`` holds.

    Attributes
    ----------
    name : str
        Of the configuration.
    fingerprint : str
        Of the stage.
    split : SplitTimes
    features : list of Feature
        Those that tell most on validation first.
    """

    name: str
    fingerprint: str
    split: SplitTimes
    features: list[Feature]

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        features = [feature.to_json() for feature in self.features]
        return {"name": self.name, "fingerprint": self.fingerprint, "split": self.split.to_json(), "features": features}


def look_at_features(context: StageContext) -> None:
    """Measure every statistic and dense context column, one after the other; writes ``features.json`` and ``features.html``."""
    from ctr_kd.report import render_features
    from pipelines.tasks.click_rows import ClickRows
    from pipelines.tasks.privileged import privileged_columns

    rows = ClickRows(context.inputs["ingest"])
    summary = rows.summary
    hidden = privileged_columns(context.config.teacher_only, summary)
    made_as = summary.assembly(context.config.assembly)
    known = statistic_meanings(made_as.statistics)
    known |= vector_columns(0 if made_as.embeddings is None else made_as.embeddings.width_read)
    known |= {} if made_as.teacher_state is None else state_columns(made_as.teacher_state.width)
    meanings = {name: known.get(name, "number in the table of items or users, as of the request") for name in summary.statistics}
    meanings |= dict.fromkeys(summary.context.dense, "dense context column of the log")
    splits = ("train", "validation")
    clicked = {split: rows.column(split, "label") == 1 for split in splits}
    weight = {split: rows.column(split, "row_weight") if summary.weighted else None for split in splits}
    features = []
    with context.progress("columns", total=len(meanings)) as progress:
        for name, meaning in meanings.items():
            figures = measure_feature(*(Column(rows.column(split, name), clicked[split], weight[split]) for split in splits))
            kind: Literal["statistic", "context"] = "statistic" if name in summary.statistics else "context"
            said = f"{meaning} (teacher only)" if name in hidden else meaning
            features.append(Feature(name, kind, said, figures, teacher_only=name in hidden))
            progress.advance(1)
    features.sort(key=lambda feature: -feature.figures.strength)
    result = FeaturesFile(context.config.name, context.fingerprint, summary.split, features).to_json()
    write_json(context.output / FILE, result)
    write_text(context.output / PAGE, render_features(result))
    context.record({"features": len(features), "leaks": sum(feature.figures.leak is not None for feature in features)})


def features_table(run: RunContext) -> str:
    """What every column tells by itself, its values and its meaning, what stands out, and where the page is."""
    from ctr_kd.report import features as report

    result = read_json(run.artifacts["features"].path / FILE) or {}
    shown = result["features"]
    told = [("by itself", *report.FIGURES), *((one["name"], *report.figure_texts(one)) for one in shown)]
    values = [("values in training", *report.QUANTILES.values()), *((one["name"], *report.quantile_texts(one, "train")) for one in shown)]
    meanings = [("meaning", ""), *((one["name"], one["meaning"]) for one in shown)]
    tables = [text_table(rows, right=range(1, len(rows[0]))) for rows in (told, values)] + [text_table(meanings)]
    place = run.workspace / "reports" / "features" / PAGE
    return "\n".join([*(f"{table}\n" for table in tables), report.headline(result), *report.remarks(result), f"report: {place}"])


STAGE = Stage(
    "features",
    look_at_features,
    upstream=("ingest",),
    keys=("name", "statistics", "teacher_only"),
    conclude=lambda context: publish_apart(context, "features", (FILE, PAGE)),
)
