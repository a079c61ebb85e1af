"""What the parts of a scoring cost: a stopwatch that is read wherever one part of the work ends and the next begins."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

Costs = Mapping[str, tuple[float, int]]  # by part of the work: processor seconds, and bytes that were moved


class Stopwatch:
    """Processor seconds of the parts of a piece of work, of all threads of this process, and the bytes that they move.

    Until it is started it stands still and costs nothing.

    Parameters
    ----------
    wanted : bool
        Whether :meth:`start` starts it.

    Attributes
    ----------
    costs : dict of str to (float, int)
        By part: processor seconds, and bytes moved.
    rows, cores : int
        Of the work.
    elapsed : float
        Seconds on the clock, up to the end of the last part.

    Examples
    --------
    >>> stopwatch = Stopwatch(wanted=True)
    >>> stopwatch.start()
    >>> stopwatch.lap("reading", np.zeros(3))
    >>> stopwatch.lap("head", np.zeros(2), 4)
    >>> {part: moved for part, (_, moved) in stopwatch.costs.items()}
    {'reading': 24, 'head': 20}
    """

    def __init__(self, wanted: bool = False) -> None:
        self.wanted = wanted
        self.costs: dict[str, tuple[float, int]] = {}
        self.rows, self.cores = 0, 1
        self._began = self._ended = 0.0  # on the clock
        self._last: float | None = None

    @property
    def elapsed(self) -> float:
        return self._ended - self._began

    def start(self, cores: int = 1) -> None:
        """Begin with the first part, where it is wanted."""
        if self.wanted:
            self.cores = cores
            self._began, self._last = time.perf_counter(), time.process_time()

    def lap(self, part: str, *moved: np.ndarray | pa.Table | pa.Array | int) -> None:
        """End a part of the work, which began where the last one ended.

        Parameters
        ----------
        part : str
            Its name, such as those of :data:`pipelines.cli.profile.PARTS`.
        *moved : array, table, Arrow array or int
            What it took and gave, or numbers of bytes.
        """
        if self._last is not None:
            self.add({part: (time.process_time() - self._last, sum(map(bytes_of, moved)))})
            self._last, self._ended = time.process_time(), time.perf_counter()

    def add(self, costs: Costs) -> None:
        """Add what parts of the work cost elsewhere."""
        for part, (seconds, moved) in costs.items():
            before, moved_before = self.costs.get(part, (0.0, 0))
            self.costs[part] = before + seconds, moved_before + moved


def bytes_of(value: np.ndarray | pa.Table | pa.Array | int) -> int:
    """Bytes of an array, or of the columns of a table; a dictionary, which many tables share, is left out.

    Examples
    --------
    >>> bytes_of(pa.table({"item_id": pa.array(["long text"] * 4).dictionary_encode()}))
    16
    """
    if isinstance(value, pa.Table):
        return sum(_bytes_of_array(chunk) for column in value.columns for chunk in column.chunks)
    if isinstance(value, pa.Array):
        return _bytes_of_array(value)
    return value if isinstance(value, int) else value.nbytes


def _bytes_of_array(array: pa.Array) -> int:
    values = array.values if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) else array
    shared = values.dictionary.nbytes if pa.types.is_dictionary(values.type) else 0
    return int(array.nbytes - shared)
