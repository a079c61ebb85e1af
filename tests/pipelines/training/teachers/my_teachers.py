"""Classes that teach, and classes that cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class ByPrice:
    """A logistic regression on one column; it remembers what it saw."""

    fitted: list[pd.DataFrame] = []  # noqa: RUF012

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame) -> None:
        from sklearn.linear_model import LogisticRegression

        assert {"label", "history", "item_id", "user_id", "timestamp", "device", "price"} <= set(train.columns)
        ByPrice.fitted.append(train)
        self.model = LogisticRegression().fit(train[["price"]], train["label"])

    def logits(self, rows: pd.DataFrame) -> NDArray:
        assert "label" not in rows.columns
        return self.model.decision_function(rows[["price"]])


class SaysNan(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return np.full(len(rows), np.nan)


class FailsOnce(ByPrice):
    asked = 0

    def logits(self, rows: pd.DataFrame) -> NDArray:
        said = super().logits(rows)
        if FailsOnce.asked <= 500 < FailsOnce.asked + len(rows):
            said[500 - FailsOnce.asked] = np.nan
        FailsOnce.asked += len(rows)
        return said


class SaysProbabilities(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return self.model.predict_proba(rows[["price"]])[:, 1]


class SaysMoreLater(SaysProbabilities):
    asked = 0

    def logits(self, rows: pd.DataFrame) -> NDArray:
        SaysMoreLater.asked += 1
        return super().logits(rows) + (SaysMoreLater.asked == 3)


class SaysTheOpposite(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return -super().logits(rows)


class SaysBoth(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return self.model.predict_proba(rows[["price"]])


class SaysFew(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return np.zeros(3)


class SaysWords(ByPrice):
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return np.full(len(rows), "much")


class Raises(ByPrice):
    def fit(self, train: pd.DataFrame, validation: pd.DataFrame) -> None:
        raise RuntimeError("no GPU\nhere")


class HasNoFit:
    def logits(self, rows: pd.DataFrame) -> NDArray:
        return np.zeros(len(rows))
