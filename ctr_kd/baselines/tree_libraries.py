"""The two libraries that grow boosted trees, behind one call: LightGBM where it is installed, else scikit-learn."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctr_kd.metrics.checks import Floats

Library = Literal["lightgbm", "scikit-learn"]
Inputs = NDArray[np.float32]  # (rows, columns), column after column in memory; nan is null


class Installed(NamedTuple):
    """The library that grows trees here, and one line where LightGBM is installed but does not load."""

    name: Library
    trouble: str | None = None


class LabelledRows(NamedTuple):
    """Rows to learn from, or to stop by."""

    inputs: Inputs
    clicked: NDArray[np.bool_]  # (rows,)
    weight: NDArray[np.float32] | None = None  # (rows,), of mean 1


@dataclass(frozen=True)
class TreeSettings:
    """How trees are grown; the same for both libraries.

    Attributes
    ----------
    trees : int
        At most so many.
    patience : int
        Growing stops when validation has not improved for so many.
    learning_rate : float
    leaves : int
        At most, of a tree.
    leaf_rows : int
        At least, of a leaf.
    column_share : float
        Of the columns, drawn anew: those that a tree (LightGBM) or a split (scikit-learn) may use.
    row_share : float
        Of the rows, drawn anew for each tree; LightGBM alone knows it.
    """

    trees: int = 500
    patience: int = 30
    learning_rate: float = 0.08
    leaves: int = 127
    leaf_rows: int = 200
    column_share: float = 0.8
    row_share: float = 0.8

    @classmethod
    def for_rows(cls, rows: int) -> TreeSettings:
        """What somebody finds in ten minutes for so many training rows: small logs want smaller trees and steps.

        By validation of four logs: 31 leaves and steps of .05 give .001 to .004 AUC more than the defaults with 80,000 to 290,000 rows,
        and .003 less with 2.4 million.
        """
        if rows >= 1_000_000:
            return cls()
        return cls(learning_rate=0.05, leaves=31, leaf_rows=max(1, min(200, rows // 100)))


@dataclass(frozen=True)
class Trees:
    """Trees that were fitted.

    Attributes
    ----------
    log_odds : callable
        Logits of the click probability, (rows,), of the inputs of one row or more.
    count : int
        Trees in use: those with the least log loss on validation.
    validation_losses : tuple of float
        Log loss on validation after each tree that was grown.
    """

    log_odds: Callable[[Inputs], Floats]
    count: int
    validation_losses: tuple[float, ...]


@cache
def installed_library() -> Installed:
    """What grows trees in this process. It is asked before every run, so it loads no more than the library's binary.

    A binary may lack the OpenMP of GCC (libgomp), which small images leave out. torch brings one along. It is loaded here, and not by
    chance because torch was imported before, so that a workspace has the same trees in every process.
    """
    found = importlib.util.find_spec("lightgbm")
    if found is None or found.origin is None:
        return Installed("scikit-learn")
    for binary in Path(found.origin).parent.glob("lib/lib_lightgbm.*"):
        try:
            _load(binary)
        except OSError as error:
            trouble = f"lightgbm is installed but does not load ({error}), so scikit-learn grows the trees"
            return Installed("scikit-learn", trouble)
    return Installed("lightgbm")


def import_library() -> None:
    """Import what grows trees in this process: a second of Python, which a thread may do beside work that is none."""
    with suppress(Exception):  # whoever grows trees says what is wrong
        importlib.import_module("lightgbm" if installed_library().name == "lightgbm" else "sklearn.ensemble")


def _load(binary: Path) -> None:
    try:
        ctypes.CDLL(str(binary))
    except OSError:
        torch = importlib.util.find_spec("torch")
        for openmp in Path(torch.origin).parent.glob("lib/libgomp*") if torch and torch.origin else ():
            ctypes.CDLL(str(openmp))
        ctypes.CDLL(str(binary))


def fit_lightgbm(train: LabelledRows, validation: LabelledRows, is_categorical: Sequence[bool], settings: TreeSettings, seed: int) -> Trees:
    """LightGBM (Ke et al. 2017), the same trees with any number of threads.

    Parameters
    ----------
    train, validation : LabelledRows
    is_categorical : sequence of bool, one for each column
    settings : TreeSettings
    seed : int
    """
    import lightgbm

    options = {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.leaf_rows,
        "feature_fraction": settings.column_share,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "cat_smooth": 50,
        "cat_l2": 20,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    categorical = np.flatnonzero(is_categorical).tolist()
    binned = lightgbm.Dataset(train.inputs, train.clicked, weight=train.weight, categorical_feature=categorical, params=options).construct()
    del train
    stops = lightgbm.Dataset(
        validation.inputs, validation.clicked, binned, weight=validation.weight, categorical_feature=categorical, params=options
    ).construct()
    del validation
    found: dict[str, Any] = {}
    booster = lightgbm.train(
        options,
        binned,
        settings.trees,
        valid_sets=[stops],
        callbacks=[lightgbm.early_stopping(settings.patience, verbose=False), lightgbm.record_evaluation(found)],
    )
    (losses,) = found["valid_0"].values()
    booster.free_dataset()
    count = 1 + int(np.argmin(losses))
    return Trees(lambda inputs: booster.predict(inputs, raw_score=True, num_iteration=count), count, tuple(losses))


def fit_scikit_learn(
    train: LabelledRows, validation: LabelledRows, is_categorical: Sequence[bool], settings: TreeSettings, seed: int
) -> Trees:
    """scikit-learn's trees, made after LightGBM's. See :func:`fit_lightgbm`; where the cores are shared, ``OMP_WAIT_POLICY=PASSIVE`` in
    the environment keeps its threads from spinning for each other, which multiplies the time."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        learning_rate=settings.learning_rate,
        max_iter=settings.trees,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.leaf_rows,
        max_features=settings.column_share,
        l2_regularization=1.0,
        categorical_features=list(is_categorical),
        early_stopping=True,
        n_iter_no_change=settings.patience,
        random_state=seed,
    )
    model.fit(
        train.inputs,
        train.clicked,
        train.weight,
        X_val=validation.inputs,
        y_val=validation.clicked,
        sample_weight_val=validation.weight,
    )
    losses = [-float(score) for score in model.validation_score_[1:]]  # the first is the average rate, before any tree
    count = 1 + int(np.argmin(losses))
    # The classifier keeps the trees grown while it waited for an improvement; its staged output stops before them.
    return Trees(lambda inputs: next(islice(model.staged_decision_function(inputs), count - 1, None)), count, tuple(losses))


FITS: Mapping[Library, Callable[[LabelledRows, LabelledRows, Sequence[bool], TreeSettings, int], Trees]] = {
    "lightgbm": fit_lightgbm,
    "scikit-learn": fit_scikit_learn,
}
