"""A stopwatch tells parts of a scoring apart, and what they moved; it stands still where nobody wants to know."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.workspace.stopwatch import Stopwatch, bytes_of


def test_it_stands_still_unless_it_is_wanted() -> None:
    stopwatch = Stopwatch()
    stopwatch.start()
    stopwatch.lap("reading", 5)
    assert stopwatch.costs == {}
    assert stopwatch.elapsed == 0


def test_what_a_process_adds_counts_as_its_own() -> None:
    stopwatch = Stopwatch(wanted=True)
    stopwatch.start()
    stopwatch.lap("head", np.zeros((2, 3), np.float32), 10)
    stopwatch.add({"head": (1.5, 6), "writing": (0.5, 1)})
    assert stopwatch.costs["head"][1] == 40 and stopwatch.costs["head"][0] >= 1.5
    assert stopwatch.costs["writing"] == (0.5, 1)


def test_bytes_of_columns_leave_out_a_dictionary_that_many_tables_share() -> None:
    coded = pa.array(["a long text"] * 3).dictionary_encode()
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), coded)
    assert bytes_of(pa.table({"id": coded, "n": pa.array([1.0, 2.0, 3.0])})) == 3 * 4 + 3 * 8
    assert bytes_of(pa.table({"history": lists})) == 2 * 4 + 3 * 4  # where lists end, and numbers of texts
    assert bytes_of(pa.table({"history": pa.nulls(2)})) == 0
