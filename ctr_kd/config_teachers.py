"""Typed settings of the teachers: which models say what the student learns, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from feature_store.config_types import Config

TEXT_TEACHERS = ("linear", "linear_words", "naive_bayes")
"""Teachers of texts that are no network."""
OWN_TEACHERS = ("bert", "boosted_trees", *TEXT_TEACHERS)
"""Teachers that the pipeline trains itself."""
Kind = Literal["own", "scores", "model", "plugin"]


class LoggedScoresConfig(Config):
    """What another model said of rows, such as the one in production: a column of the log, or files."""

    column: str | None = Field(None, description="column of the log's events; or path")
    path: str | None = Field(
        None,
        description="in place of column: files below the data folder, as a glob, with a score a row; .csv, .csv.gz, .tsv or .parquet. "
        "Their rows are found by item and request, or where request is null by user, item and time",
    )
    score: str = Field("score", description="path: column with the score")
    request: str | None = Field(None, description="path: column with the request, as in source.events.request")
    user: str = Field("user_id", description="path: column with the user, where request is null")
    item: str = Field("item_id", description="path: column with the item")
    time: str = Field("timestamp", description="path: column with the time of the request, where request is null")
    scale: Literal["probability", "logit"] = Field("probability", description="what the scores are: click probabilities, or their logits")
    known: str | None = Field(
        None,
        description="column with the time at which a score was known; one that was known after the request is left out. Absent means that "
        "all were known in time",
    )
    min_coverage: float = Field(0.5, ge=0, le=1, description="least share of the training rows that have a score; below it the stage fails")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.column is None) == (self.path is None):
            raise ValueError("name where the scores are in one way: column, or path")
        of_files = ("score", "request", "user", "item", "time")
        idle = next((name for name in of_files if self.column is not None and is_set(self, name)), None)
        if idle is not None:
            raise ValueError(f"{idle} is a column of files, and the scores are a column of the log: remove it")
        return self


class TeacherConfig(Config):
    """One teacher. Its name alone says one that is trained here; another one has scores, model or plugin."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*$",
        max_length=80,
        description="what reports call it; bert, boosted_trees and, of texts, linear, linear_words and naive_bayes are trained here",
    )
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="share of its logits; the weights are divided by their sum")
    scores: LoggedScoresConfig | None = Field(None, description="scores that another model gave the rows")
    model: str | None = Field(
        None,
        description="a model that MLflow loads (pyfunc), as models:/NAME@ALIAS or a folder, asked with the raw columns of its signature",
    )
    trust: bool = Field(False, description="model: loading it runs code of whoever made it; true says that this is wanted")
    registry: str | None = Field(None, description="model: MLflow registry that holds it; null is the one of the run")
    output: str | None = Field(
        None, description="model: column of its answer that is the score; null where it has one, or one called score"
    )
    scale: Literal["probability", "logit"] = Field("probability", description="model: what it answers: probabilities, or their logits")
    plugin: str | None = Field(
        None, description="a class with fit and logits: package.module:Class, or a name of the entry points ctr_kd.teachers"
    )
    out_of_fold: bool = Field(
        False,
        description="each training row is judged by a teacher that was trained on earlier rows alone, in folds by time; the rows of the "
        "first fold learn from the labels and the other teachers. Costs a training for each fold",
    )
    folds: int = Field(4, ge=2, le=20, description="out_of_fold: parts of the training rows, by time")

    @property
    def kind(self) -> Kind:
        """Where its logits come from."""
        kinds: tuple[Kind, ...] = ("scores", "model", "plugin")
        return next((kind for kind in kinds if getattr(self, kind) is not None), "own")

    @property
    def partial(self) -> bool:
        """Whether it may say nothing of some rows."""
        return self.scores is not None or self.out_of_fold

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("scores", "model", "plugin") if getattr(self, kind) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{kinds[0]} and {kinds[1]} both say where the logits of {self.name} come from; remove one of them")
        if kinds and self.name in OWN_TEACHERS:
            raise ValueError(f"{self.name} is the name of a teacher that is trained here; call this one otherwise")
        if not kinds and self.name not in OWN_TEACHERS:
            of_texts = ", ".join(TEXT_TEACHERS)
            raise ValueError(
                f"there is no teacher {self.name!r}; the teachers are bert, boosted_trees (of clicks), {of_texts} (of texts), or one with "
                "scores, model or plugin"
            )
        own = {"model": ("trust", "registry", "output", "scale")}
        for kind, names in own.items():
            idle = next((name for name in names if self.kind != kind and is_set(self, name)), None)
            if idle is not None:
                raise ValueError(f"{idle} is of a teacher that is a {kind}, and {self.name} is none; remove it")
        if self.kind == "model" and not self.trust:
            raise ValueError(f"{self.name}: loading {self.model} runs code of whoever made it; set trust: true if you trust them")
        if self.out_of_fold and self.kind in ("scores", "model"):
            raise ValueError(f"out_of_fold trains a teacher on earlier rows, and {self.name} was trained elsewhere; remove it")
        if is_set(self, "folds") and not self.out_of_fold:
            raise ValueError("folds has no effect without out_of_fold: true; remove it")
        return self


def in_short(teachers: Sequence[TeacherConfig]) -> Any:
    """Teachers as :func:`as_teachers` reads them: ``{NAME: WEIGHT}`` where that says all of them, else a list without what is default."""
    said = [teacher.model_dump(mode="json", exclude_defaults=True) for teacher in teachers]
    short = {teacher.name: teacher.weight for teacher in teachers}
    plain = all(set(one) <= {"name", "weight"} for one in said)
    return short if plain and abs(math.fsum(short.values()) - 1) <= 1e-6 else said


def is_set(config: Config, name: str) -> bool:
    """Whether a key has another value than its default."""
    return bool(getattr(config, name) != type(config).model_fields[name].default)


def as_teachers(value: Any) -> Any:
    """Teachers in the short form ``{NAME: WEIGHT}``, whose weights add up to 1, as a list of them."""
    if not isinstance(value, dict):
        return value
    weights = [weight for weight in value.values() if isinstance(weight, (int, float))]
    if not value or (len(weights) == len(value) and (min(weights) <= 0 or abs(math.fsum(weights) - 1) > 1e-6)):
        raise ValueError("the weights of the teachers must be above zero and add up to 1; a list of teachers divides them by their sum")
    return [{"name": name, "weight": weight} for name, weight in value.items()]
