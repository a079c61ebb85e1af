import datetime
import json
import shutil
from decimal import Decimal

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly
from ctr_kd.export.click_scorer import ClickRowsError, ClickScorer
from ctr_kd.export.onnx_export import export_student
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.loop import predict
from feature_store.features.summary import ClickSummary
from feature_store.special_tokens import UNKNOWN
from feature_store.tables.contracts import ContextNames
from tests.ctr_kd.drawn_weights import where_order_counts
from tests.ctr_kd.worlds import raw_frame
from tests.signatures import CLICKS


@pytest.fixture(scope="module", params=[*STUDENTS, "pooled linear"])
def exported(request, assembly, signature, tmp_path_factory):
    torch.manual_seed(2)
    kind, _, linear = request.param.partition(" ")
    model = where_order_counts(STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=0 if linear else 12))).eval()
    directory = tmp_path_factory.mktemp(request.param)
    export_student(model, signature, assembly, directory)
    return model, ClickScorer(directory), directory


def test_raw_ids_score_as_the_trained_model_does(exported, assembly, directory):
    model, scorer, _ = exported
    for split in ("train", "test"):
        expected = 1 / (1 + np.exp(-predict(model, assembly.samples(split))[:, 0].astype(np.float64)))
        np.testing.assert_allclose(scorer.score(raw_frame(directory, split)), expected, atol=1e-6)


def test_one_row_equals_many_and_order_is_kept(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "train")
    scores = scorer.score(frame)
    shuffled = np.random.default_rng(0).permutation(frame.num_rows)
    np.testing.assert_allclose(scorer.score(frame.take(shuffled)), scores[shuffled], atol=1e-7)
    many = pa.concat_tables([frame] * 120)  # beyond the chunk and beyond the hash lookup's threshold
    np.testing.assert_allclose(scorer.score(many), np.tile(scores, 120), atol=1e-7)
    for row in (0, 5):
        np.testing.assert_allclose(scorer.score(frame.slice(row, 1)), scores[row : row + 1], atol=1e-7)


@pytest.mark.parametrize(
    "offset, kind",
    [
        (10**18, pa.int64()),  # 19 digits, as hashes of 64 bits have
        (2**63 - 200, pa.int64()),
        (-(2**63), pa.int64()),
        (2**63, pa.uint64()),
        (10**18, pa.uint64()),
        (10**30, pa.string()),
        (10**18, pa.dictionary(pa.int32(), pa.string())),
        (10**18, pa.dictionary(pa.int32(), pa.int64())),
    ],
)
def test_large_ids_are_known_whatever_the_number_of_rows(exported, directory, tmp_path, offset, kind):
    """The same student over renamed items: id n is now ``offset + n``, and every row keeps its score in small and large batches."""
    _, scorer, files = exported
    shutil.copytree(files, tmp_path / "renamed")
    vocabulary = pq.read_table(files / "vocabulary.parquet").to_pylist()
    renamed = [{**row, "token": str(offset + int(row["token"])) if row["feature"] == "item" else row["token"]} for row in vocabulary]
    pq.write_table(pa.Table.from_pylist(renamed), tmp_path / "renamed" / "vocabulary.parquet")
    items = pq.read_table(files / "items.parquet")
    item_id = pa.array([str(offset + item) for item in items["item_id"].to_pylist()])
    pq.write_table(items.set_column(items.column_names.index("item_id"), "item_id", item_id), tmp_path / "renamed" / "items.parquet")
    other = ClickScorer(tmp_path / "renamed")

    def ids(values):
        encode = pa.types.is_dictionary(kind)
        plain = kind.value_type if encode else kind
        shifted = [offset + v for v in values.to_pylist()]
        column = pa.array([str(v) for v in shifted] if pa.types.is_string(plain) else shifted, plain)
        return column.dictionary_encode() if encode else column

    frame = pa.concat_tables([raw_frame(directory, "train")] * 17).combine_chunks()
    for rows in (4095, 4096):  # two ways of looking up meet here
        given = frame.slice(0, rows).combine_chunks()
        history = given["history"].chunk(0)
        lists = pa.ListArray.from_arrays(history.offsets, ids(history.values))
        changed = given.set_column(given.column_names.index("item_id"), "item_id", ids(given["item_id"]))
        changed = changed.set_column(changed.column_names.index("history"), "history", lists)
        np.testing.assert_allclose(other.score(changed), scorer.score(given), atol=1e-7)


def test_words_that_look_like_integers_stay_words(exported, tmp_path):
    _, scorer, files = exported
    shutil.copytree(files, tmp_path / "odd")
    vocabulary = pq.read_table(files / "vocabulary.parquet").to_pylist()
    odd = {"100": "--5", "101": "-0", "102": "0100", "103": "9" * 5000}
    renamed = [{**row, "token": odd.get(row["token"], row["token"])} for row in vocabulary]
    pq.write_table(pa.Table.from_pylist(renamed), tmp_path / "odd" / "vocabulary.parquet")
    lookup = ClickScorer(tmp_path / "odd").lookups["item"]
    known = scorer.lookups["item"](pa.array([104]))[0]
    for times in (1, 2000):
        assert lookup(pa.array([0, 100, 104] * times)).tolist() == [UNKNOWN, UNKNOWN, known] * times


@pytest.mark.parametrize("device, topic", [('a.b "c"', "type"), ("$x ${y}", "a.b"), ("hour", "items"), ("x\ny; <b>", "it's 50% küche")])
def test_the_names_of_columns_decide_no_score(directory, tmp_path, device, topic):
    scores = []
    for names in ({}, {"device": device, "topic": topic}):
        folder = tmp_path / f"assembly {len(names)}"
        shutil.copytree(directory, folder)
        for name in ("rows", "items"):
            table = pq.read_table(folder / f"{name}.parquet")
            pq.write_table(table.rename_columns([names.get(column, column) for column in table.column_names]), folder / f"{name}.parquet")
        vocabulary = json.loads((folder / "vocabulary.json").read_text())
        (folder / "vocabulary.json").write_text(json.dumps({names.get(name, name): tokens for name, tokens in vocabulary.items()}))
        context = {"categorical": [names.get("device", "device")], "dense": []}
        summary = ClickSummary.read(folder)
        summary.model_copy(update={"context": ContextNames(**context), "item_attributes": [names.get("topic", "topic")]}).write(folder)
        assembly = Assembly(folder, 5)
        signature = assembly.signature()
        torch.manual_seed(2)
        model = STUDENTS["pooled"](signature, StudentConfig(kind="pooled", width=8, hidden=12)).eval()
        export_student(model, signature, assembly, folder / "student")
        frame = raw_frame(directory, "test")
        frame = frame.rename_columns([names.get(column, column) for column in frame.column_names])
        scores.append(ClickScorer(folder / "student").predict(frame.to_pandas())["score"])
    assert scores[0].equals(scores[1])


def test_pandas_equals_arrow(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "test")
    np.testing.assert_allclose(scorer.predict(frame.to_pandas())["score"], scorer.score(frame), atol=1e-7)
    text = frame.to_pandas().assign(item_id=lambda f: f.item_id.astype(str), history=lambda f: [[str(i) for i in h] for h in f.history])
    np.testing.assert_allclose(scorer.predict(text)["score"], scorer.score(frame), atol=1e-7)


def test_sparse_rows_are_scored(exported):
    """Unknown ids, empty and null histories, null statistics and missing optional columns."""
    _, scorer, _ = exported
    frame = pd.DataFrame(
        {"history": [[], None, ["nobody knows this"]], "item_id": ["100", "unseen", None], "timestamp": pd.Timestamp("2024-01-01")}
    )
    assert np.isfinite(scorer.predict(frame)["score"]).all()
    assert len(scorer.predict(frame.iloc[:0])) == 0
    with_null = frame.assign(item_age=[None, 1.0, 2.0], device=[None, "d0", "what"])
    assert np.isfinite(scorer.predict(with_null)["score"]).all()


def test_long_histories_keep_their_newest_clicks(exported):
    _, scorer, _ = exported
    row = {"item_id": [101], "timestamp": [pd.Timestamp("2024-01-01")]}
    long = scorer.predict(pd.DataFrame({**row, "history": [list(range(100, 115))]}))
    cut = scorer.predict(pd.DataFrame({**row, "history": [list(range(110, 115))]}))
    assert long["score"].iloc[0] == pytest.approx(cut["score"].iloc[0], abs=1e-7)


TIME = pd.Timestamp("2024-01-01")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"item_id": None}, "column item_id is missing"),
        ({"history": None}, "column history is missing"),
        ({"history": 3}, "history must hold lists"),
        ({"history": 3.5}, "history must hold lists, not float"),
        ({"history": "abc"}, "history must hold lists, not str"),
        ({"history": b"abc"}, "history must hold lists, not bytes"),
        ({"history": {"100": 1}}, "history must hold lists, not dict"),
        ({"history": {100}}, "history must hold lists, not set"),
        ({"history": [[[100]]]}, "history must hold text or integer ids, not list"),
        ({"history": [[100.5]]}, "history must hold text or integer ids, not 100.5"),
        ({"history": [["a", 1.5]]}, "history must hold text or integer ids, not 1.5"),
        ({"history": [[True]]}, "history must hold text or integer ids, not bool"),
        ({"history": [["a", True]]}, "history must hold text or integer ids, not bool"),
        ({"history": [[b"\xff"]]}, "history must hold text or integer ids, not b'.xff'"),
        ({"item_age": "old"}, "item_age must hold numbers, not 'old'"),
        ({"item_age": np.inf}, "item_age must hold numbers, not inf"),
        ({"item_age": -1e39}, "item_age must hold numbers, not -1e.39"),
        ({"item_age": TIME}, "item_age must hold numbers, not timestamp"),
        ({"timestamp": None}, "column timestamp is missing"),
        ({"timestamp": 1.5}, "timestamp must hold times since 1990, not 1.5"),
        ({"timestamp": "soon"}, "timestamp must hold times since 1990, not 'soon'"),
        ({"timestamp": datetime.time(12)}, "timestamp must hold times since 1990, not time64"),
        ({"item_id": 1.5}, "item_id must hold text or integer ids, not 1.5"),
        ({"item_id": True}, "item_id must hold text or integer ids, not bool"),
        ({"item_id": TIME}, "item_id must hold text or integer ids, not timestamp"),
        ({"item_id": Decimal("1.5")}, "item_id must hold text or integer ids, not Decimal"),
        ({"device": [["d0"]]}, "device must hold text or integer ids, not list"),
        ({"device": [{"d0": 1}]}, "device must hold text or integer ids, not struct"),
        ({"history_timestamps": [[]]}, "one time for every item"),
        ({"history_timestamps": [[TIME, TIME]]}, "one time for every item"),
        ({"history_timestamps": "2024"}, "history_timestamps must hold lists, not str"),
        ({"history_timestamps": [["yesterday"]]}, "history_timestamps must hold times since 1990, not 'yesterday'"),
        ({"history_timestamps": [[1.5]]}, "history_timestamps must hold times since 1990, not 1.5"),
        ({"history_timestamps": [[True]]}, "history_timestamps must hold times since 1990, not bool"),
    ],
)
def test_mistakes_are_named(exported, change, message):
    _, scorer, _ = exported
    columns = {"history": [[100]], "item_id": ["100"], "timestamp": [TIME]}
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = value if isinstance(value, list) else [value]
    with pytest.raises(ClickRowsError, match=f"column {message}" if "column" not in message and "one time" not in message else message):
        scorer.predict(pd.DataFrame(columns))


def test_mistakes_are_named_among_mixed_values(exported):
    _, scorer, _ = exported
    row = {"history": [[], []], "timestamp": TIME}
    for item_id, kind in (([1, True], "bool"), (["a", ["b"]], "list"), (["a", TIME], "timestamp"), ([2**70, b"\xff"], "b'.xff'")):
        with pytest.raises(ClickRowsError, match=f"column item_id must hold text or integer ids, not {kind}"):
            scorer.predict(pd.DataFrame({**row, "item_id": pd.Series(item_id, dtype=object)}))
    with pytest.raises(ClickRowsError, match="column timestamp must hold times since 1990, not 'x'"):
        scorer.predict(pd.DataFrame({**row, "item_id": ["a", "b"], "timestamp": pd.Series([TIME, "x"], dtype=object)}))


def test_every_spelling_of_an_id_scores_alike(exported):
    """Integers, their text, categories, mixtures and nulls; a column of nulls alone may have any type."""
    _, scorer, _ = exported
    row = {"history": [[101, 102], [103]], "item_id": [100, 104], "timestamp": TIME}
    expected = scorer.predict(pd.DataFrame(row))["score"].to_numpy()
    spellings = [
        {"item_id": ["100", 104]},
        {"item_id": pd.Series([100, 104], dtype="Int64")},
        {"item_id": pd.Series(["100", "104"], dtype="category")},
        {"item_id": pd.Series([100, 104], dtype="category")},
        {"history": [["101", 102], np.array([103])]},
        {"history": [(101, 102), pd.Series([103])]},
        {"history": [pd.array([101, 102], dtype="Int64"), ["103"]]},
        {"device": [np.nan, np.nan]},
        {"device": ["", None]},
        {"item_id": [100.0, 104.0]},
        {"item_id": ["100.0", 104]},
        {"item_id": [b"100", Decimal("104.00")]},
        {"history": [[101.0, "102"], [b"103"]]},
        {"item_age": ["", None]},
        {"timestamp": [TIME, "2024-01-01T00:00:00Z"]},
        {"timestamp": [1704067200, 1704067200000.0]},
        {"history_timestamps": [[np.nan, np.nan], [None]]},
    ]
    for change in spellings:
        np.testing.assert_allclose(scorer.predict(pd.DataFrame({**row, **change}))["score"], expected, atol=1e-7, err_msg=str(change))
    unknown = scorer.predict(pd.DataFrame({**row, "item_id": ["x", "x"], "history": [["x", "x"], ["x"]]}))["score"]
    huge = scorer.predict(pd.DataFrame({**row, "item_id": [2**70, -1], "history": [[2**70, -1], [2**64]]}))["score"]
    np.testing.assert_allclose(huge, unknown, atol=1e-7)
    without = scorer.predict(pd.DataFrame({**row, "history": [[], []]}))["score"]
    nothing = scorer.predict(pd.DataFrame({**row, "history": [np.nan, pd.NA]}))["score"]
    np.testing.assert_allclose(nothing, without, atol=1e-7)


def test_a_row_without_times_has_unknown_gaps(exported, directory):
    """Null in the optional column is a row whose gaps are unknown, among rows whose gaps are known."""
    _, scorer, _ = exported
    frame = raw_frame(directory, "train")
    place = frame.column_names.index("history_timestamps")
    none = scorer.score(frame.drop_columns("history_timestamps"))
    scores = scorer.score(frame)
    silent = np.arange(frame.num_rows) % 3 == 1
    times = pc.if_else(pa.array(silent), pa.scalar(None, frame.schema.field(place).type), frame["history_timestamps"])
    some = scorer.score(frame.set_column(place, "history_timestamps", times))
    np.testing.assert_allclose(some, np.where(silent, none, scores), atol=1e-7)
    assert np.abs(scores - none)[silent].max() > 1e-6
    np.testing.assert_allclose(scorer.predict(frame.set_column(place, "history_timestamps", times).to_pandas())["score"], some, atol=1e-7)


def test_the_graph_is_the_student_alone(exported):
    model, _, directory = exported
    graph = onnx.load(str(directory / "student.onnx")).graph
    stored = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    own = sum(value.numel() for value in model.state_dict().values())
    assert stored <= own * 1.1 + 64
    written = json.loads((directory / "signature.json").read_text())
    assert {node.name for node in graph.input} <= set(written["inputs"])
    assert list(written) == list(CLICKS)  # in this order: the bytes of the file are part of a student's digest


def test_sampled_negatives_are_corrected_back(exported, directory):
    _, scorer, _ = exported
    frame = raw_frame(directory, "test")
    plain = scorer.score(frame)
    scorer.signature["negative_sampling_rate"] = 0.25
    try:
        np.testing.assert_allclose(scorer.score(frame), plain / (plain + (1 - plain) / 0.25), atol=1e-9)
    finally:
        scorer.signature["negative_sampling_rate"] = None
