"""How MLflow loads and asks the student. This file travels inside the registered model, beside its scorer.

A request that the scorer refuses becomes an answer with the reason and status 400; MLflow would bury it in a traceback. And a row may be
a whole request: with a list of candidates in ``item_id``, its history is sent, read and encoded once.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import json
import logging
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

VECTORS = "CTR_KD_VECTORS"  # in the environment: folder `embeddings` of the workspace whose vectors requests are to read
_HISTORY = ("history", "history_timestamps", "history_types")  # lists that are no candidates
_LONGEST_ANSWER = 1000  # characters
_LOG = logging.getLogger("ctr_kd.student")
MOST_CANDIDATES = 10_000  # of one request
MOST_CLICKS = 100_000  # of one history, of which the model reads the newest few


class PyfuncStudent:
    """The scorer, as MLflow's pyfunc flavour asks it.

    Parameters
    ----------
    data_path : str
        Folder of the exported student.
    """

    def __init__(self, data_path: str) -> None:
        # By its place: a process may load several models, and an import by name would give all of them the scorer of the first.
        code = Path(data_path).parents[1] / "code"
        module = _module(code / "student_scorer.py")
        if not hasattr(module, "SCORER"):  # the names that the release before had, whose exported student may be registered now
            module.SCORER, module.ERROR = module.StudentScorer, module.ScoringError
        self.scorer: Any = module.SCORER(data_path)
        self._refusal: type[ValueError] = module.ERROR
        self._code, self._data = code, Path(data_path)
        self._vectors: Any = None

    def read_vectors(self, root: Path) -> None:
        """Give requests that lack them product and age, by the newest item vectors that a workspace published.

        A model that reads no vectors, or is of a release before these were published, stays as it is.

        Parameters
        ----------
        root : Path
            Folder ``embeddings`` of the workspace.

        Raises
        ------
        ValueError
            When it holds no vectors of this model, in a line.
        """
        module, lineage = self._code / "newest_vectors.py", self._data / "lineage.json"
        if "embedding_product" not in self.scorer.signature.get("dense", {}) or not module.is_file():
            return
        newest_vectors = _module(module)
        keys = json.loads(lineage.read_text(encoding="utf-8"))["configuration"]["keys"]["ingest"]
        learned_by = {name: value for name, value in keys["embeddings"].items() if name not in ("refresh", "stale_rate", "vectors")}
        settings = {"embeddings": learned_by, "max_length": keys["history"]["max_length"]}
        columns = newest_vectors.columns_of(self.scorer.signature["dense"])
        self._vectors = newest_vectors.PublishedVectors(root, settings, self.scorer.casting, columns)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Scores of a frame.

        Parameters
        ----------
        frame : DataFrame
            A row per candidate; or a row per request, with lists of candidates in ``item_id``. What belongs to each candidate (a statistic,
            say) is then a list as long, what belongs to the request is not.

        Returns
        -------
        DataFrame
            What the scorer answers; of requests each of its columns, ``score`` and those of further labels, has a list per row.

        Raises
        ------
        MlflowException
            With code ``BAD_REQUEST`` and the reason, where the frame cannot be scored; with ``INTERNAL_ERROR`` and no more where something
            else went wrong.
        """
        try:
            self._check_sizes(frame)
            frame = frame if self._vectors is None else self._vectors.complete(frame)
            if "item_id" in frame.columns and len(frame) and all(map(_is_list, frame["item_id"])):
                return self._predict_requests(frame)
            return self.scorer.predict(frame)
        except self._refusal as error:
            raise _answer(str(error), "BAD_REQUEST") from error
        except Exception as error:  # MLflow would answer with the traceback, and with the paths in it
            _LOG.exception("a request could not be scored")
            raise _answer("the request could not be scored; the server's log says why", "INTERNAL_ERROR") from error

    def _check_sizes(self, frame: pd.DataFrame) -> None:
        for name, most in (("history", MOST_CLICKS), ("item_id", MOST_CANDIDATES)):
            longest = max((len(value) for value in frame[name] if _is_list(value)), default=0) if name in frame.columns else 0
            if longest > most:
                what = "candidates" if name == "item_id" else "clicks"
                raise self._refusal(f"column {name} lists {longest:,} {what} in a row, and at most {most:,} are taken: send fewer")

    def _predict_requests(self, frame: pd.DataFrame) -> pd.DataFrame:
        # Lists by name: for a few rows pandas takes longer than the model.
        columns = dict(zip(frame.columns, frame.to_numpy(object).T.tolist(), strict=True))
        count = [len(candidates) for candidates in columns["item_id"]]
        listed = [name for name in columns if name not in _HISTORY and any(map(self._lists_candidates(name), columns[name]))]
        candidates = self.scorer.to_table({name: self._joined(name, columns.pop(name), count) for name in listed})
        answer, ends = {}, np.cumsum(count)
        for name, found in self._score(self.scorer.to_table(columns), candidates, count).items():
            scores = found.tolist()
            lists = [scores[end - some : end] for end, some in zip(ends, count, strict=True)]
            answer[name] = pd.Series(lists, index=frame.index, dtype=object)
        return pd.DataFrame(answer)

    def _lists_candidates(self, name: str) -> Callable[[Any], bool]:
        """What tells a value for each candidate from one of the request; a vector is a list by itself."""
        if name in getattr(self.scorer, "projections", {}) or (name == "teacher_state" and getattr(self.scorer, "state", [])):
            return lambda value: _is_list(value) and any(map(_is_list, value))
        return _is_list

    def _score(self, requests: pa.Table, candidates: pa.Table, count: list[int]) -> dict[str, np.ndarray]:
        """Columns of the answer, each (candidates,)."""
        if getattr(self.scorer, "labels", None):  # a release before knew none
            return self.scorer.answer(self.scorer.score_labels_of_requests(requests, candidates, np.array(count)))
        return {"score": self._score_clicks(requests, candidates, count)}

    def _score_clicks(self, requests: pa.Table, candidates: pa.Table, count: list[int]) -> np.ndarray:
        if hasattr(self.scorer, "score_requests"):
            return self.scorer.score_requests(requests, candidates, np.array(count))
        # The scorer of a release before takes rows alone: what is repeated for each candidate is cut to what the model reads first.
        for name in _HISTORY:
            if name in requests.column_names:
                newest = [value and value[-self.scorer.signature["max_length"] :] for value in requests[name].to_pylist()]
                kind = requests.schema.field(name).type
                requests = requests.set_column(requests.column_names.index(name), name, pa.array(newest, kind))
        table = requests.take(pa.array(np.repeat(np.arange(requests.num_rows), count)))
        for name in candidates.column_names:
            table = table.append_column(name, candidates[name])
        return self.scorer.score(table)

    def _joined(self, name: str, values: list[Any], count: list[int]) -> list[Any]:
        """The values of all candidates, one after the other."""
        for value, expected in zip(values, count, strict=True):
            if not _is_list(value) or len(value) != expected:
                has = f"{len(value)} values" if _is_list(value) else "no list"
                raise self._refusal(f"column {name} has {has} for the {expected} candidates of a row")
        return list(chain.from_iterable(values))


def _module(file: Path) -> Any:
    """A file of the model as a module of its own."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None  # of a file that ends in .py  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _answer(text: str, code: str) -> Exception:
    """What MLflow's server answers a request with: a line without control characters, which repeats little of the request."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text[:_LONGEST_ANSWER])
    return MlflowException(line, error_code=getattr(databricks_pb2, code))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _load_pyfunc(data_path: str) -> PyfuncStudent:
    """Entry point of MLflow's pyfunc flavour."""
    server = PyfuncStudent(data_path)
    if os.environ.get(VECTORS):
        server.read_vectors(Path(os.environ[VECTORS]))
    gc.freeze()  # what is loaded stays: the collector need not go through all of MLflow while a request waits
    atexit.register(gc.unfreeze)  # but for the last time: libraries that find their objects alive at the end complain on standard error
    return server
