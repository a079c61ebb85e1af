import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_kd.data import disk_arrays
from ctr_kd.data.row_pieces import RowPieces


def written(folder, requests):
    split = np.array(["train", "test"])[(np.array(requests, int) > 4).astype(int)] if requests else np.array([], str)
    table = pa.table({"row_id": np.arange(len(requests)), "request": pa.array(requests, pa.int64()), "split": pa.array(split, pa.string())})
    pq.write_table(table, folder / "rows.parquet", row_group_size=4)
    return folder / "rows.parquet"


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.integers(0, 8), max_size=20).map(sorted),
    piece=st.integers(1, 9),
    split=st.sampled_from([None, "train", "test", "validation"]),
    columns=st.sampled_from([None, ("row_id",), ("split", "row_id")]),
)
def test_pieces_are_the_rows_in_their_order_and_cut_no_request(tmp_path_factory, requests, piece, split, columns):
    file = written(tmp_path_factory.mktemp("rows"), requests)
    whole = RowPieces(file, split, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_arrays, "PIECE", piece)
        read = RowPieces(file, split, columns, in_pieces=True)
        tables = list(read)
        assert read.count == whole.count == whole.whole.num_rows and read.whole.equals(whole.whole)
    assert pa.concat_tables(tables).equals(whole.whole) and [table.equals(whole.whole) for table in whole] == [True]
    of_row = np.array(requests, int)
    seen = [set(of_row[table["row_id"].to_numpy()].tolist()) for table in tables]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert max(table.num_rows for table in tables) <= piece + max((requests.count(one) for one in requests), default=0)


def test_rows_without_requests_are_cut_anywhere(tmp_path, monkeypatch):
    pq.write_table(pa.table({"row_id": np.arange(10)}), tmp_path / "texts.parquet")
    monkeypatch.setattr(disk_arrays, "PIECE", 4)
    tables = list(RowPieces(tmp_path / "texts.parquet", in_pieces=True))
    assert [table.num_rows for table in tables] == [4, 4, 2]
