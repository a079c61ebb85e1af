"""How MLflow loads and asks the student. This file travels inside the registered model, beside its scorer.

A request that the scorer refuses becomes an answer with the reason and status 400; MLflow would bury it in a traceback.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class StudentServer:
    """The scorer, as MLflow's pyfunc flavour asks it.

    Parameters
    ----------
    data_path : str
        Folder of the exported student.
    """

    def __init__(self, data_path: str) -> None:
        self._module = importlib.import_module("student_scorer")
        self.scorer: Any = self._module.StudentScorer(data_path)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Scores of a frame; raises ``MlflowException`` with code ``BAD_REQUEST`` where the frame cannot be scored."""
        try:
            return self.scorer.predict(frame)
        except self._module.ScoringError as error:
            from mlflow.exceptions import MlflowException
            from mlflow.protos.databricks_pb2 import BAD_REQUEST

            raise MlflowException(str(error), error_code=BAD_REQUEST) from error


def _load_pyfunc(data_path: str) -> StudentServer:
    """Entry point of MLflow's pyfunc flavour."""
    return StudentServer(data_path)
