"""``student.onnx`` on rows that are mapped to indices already; who has raw ids asks the scorer beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from ctr_kd.data.batching import Batch
from ctr_kd.data.row_batches import answers_of
from ctr_kd.data.samples import Samples
from ctr_kd.export.projections import projected


class ExportedGraph:
    """An exported student.

    Parameters
    ----------
    file : Path
        Written by :func:`ctr_kd.export.onnx_export.export_student`.
    vectors : mapping of str to float32 array (indices, dimensions), optional
        Those of the signature of the samples.
    """

    def __init__(self, file: Path, vectors: Mapping[str, np.ndarray] | None = None) -> None:
        self._given = {f"vectors_{n}": projected(file.parent, name, table) for n, (name, table) in enumerate((vectors or {}).items())}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._read = {argument.name for argument in self._session.get_inputs()}  # the exporter leaves out what the model does not read

    def logits(self, samples: Samples, batch_size: int = 4096) -> np.ndarray:
        """Logits of all rows, in their order.

        Parameters
        ----------
        samples : Samples
            One row at least.
        batch_size : int

        Returns
        -------
        float32 array (rows, outputs)
            Those of the trained student up to rounding.
        """

        def answer(batch: Batch) -> np.ndarray:
            inputs = {name: tensor.numpy() for name, tensor in batch._asdict().items() if name in self._read}
            found: np.ndarray = self._session.run(["logit"], inputs | self._given)[0]
            return found

        return answers_of(samples, batch_size, answer)
