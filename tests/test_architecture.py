"""What import-linter and ruff cannot see: nothing is unpickled, a floor speaks no word of a floor above it, text is UTF-8."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipelines.config.run import RunConfig

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("feature_store", "ctr_kd", "pipelines")


def imported(source: str) -> Iterator[str]:
    """Top-level names of all modules that a file imports, at its head or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def files(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_nothing_is_unpickled(floor: str) -> None:
    """Loading a pickle runs whatever it says; tensors are read with weights_only."""
    for path in files(floor):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = ast.unparse(node.func.value)
                safe = any(word.arg == "weights_only" and getattr(word.value, "value", None) is True for word in node.keywords)
                assert owner not in ("pickle", "joblib", "cloudpickle") and (owner != "torch" or safe), f"{path}:{node.lineno}"
        assert "pickle" not in set(imported(path.read_text(encoding="utf-8"))), path


def reads_by_locale(call: ast.Call) -> bool:
    """Whether a call opens, reads or writes text in the encoding of the locale; ruff sees only what it knows to be a path."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {word.arg: word.value for word in call.keywords}
    if "encoding" in given:
        return False
    if name in ("run", "Popen", "check_output"):
        return not {"text", "universal_newlines"}.isdisjoint(given)
    if name == "open" and isinstance(call.func, ast.Name):
        mode = given.get("mode", call.args[1] if len(call.args) > 1 else ast.Constant("r"))
        return "b" not in getattr(mode, "value", "b")
    return (name == "read_text" and not call.args) or (name == "write_text" and len(call.args) == 1 and not isinstance(call.func, ast.Name))


@pytest.mark.parametrize("floor", FLOORS)
def test_no_locale_decides_how_a_text_is_read(floor: str) -> None:
    calls = [
        (path, node)
        for path in files(floor)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert not [f"{path.relative_to(ROOT)}:{call.lineno}" for path, call in calls if reads_by_locale(call)]


def test_the_check_of_encodings_knows_what_is_text() -> None:
    wrong = ["open('a')", "open('a', 'w')", "x.read_text()", "x.write_text('a')", "subprocess.run(['a'], text=True)"]
    right = ["open('a', 'rb')", "open('a', encoding='utf-8')", "x.read_text('utf-8')", "write_text(path, 'a')", "subprocess.run(['a'])"]
    calls = [node for text in wrong + right for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert [reads_by_locale(call) for call in calls] == [True] * len(wrong) + [False] * len(right)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r"(?<!\.)\bread_(?:parquet|csv|json)\w*\(|_scan\(|\bfrom '", "feature_store/engines/duckdb_files.py"),
        (r"sqlite:///", "pipelines/tracking/client.py"),
        (r"\$\$", "nowhere: what is filled in is a parameter"),
    ],
)
def test_what_comes_from_outside_reaches_an_engine_in_one_place(text: str, place: str) -> None:
    """Names and paths in SQL and in URIs are written by helpers that know what their signs mean there."""
    for path in [path for floor in FLOORS for path in files(floor)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(text, node.value):
                assert path == ROOT / place or ">>>" in node.value, f"{path}:{node.lineno}: belongs into {place}"


def keys_above(floor: str) -> set[str]:
    """Keys of the blocks of the configuration that a floor above this one defines, such as ``score.candidates``."""
    above = FLOORS[FLOORS.index(floor) + 1 :]
    blocks = {field.alias or name: field.annotation for name, field in RunConfig.model_fields.items()}
    return {
        f"{block}.{field.alias or name}"
        for block, kind in blocks.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__.split(".")[0] in above
        for name, field in kind.model_fields.items()
    }


def words_of_floors_above(text: str, floor: str) -> list[str]:
    """Keys, options and commands in a text that only a higher floor may name.

    ``ctr-kd[spark]`` is no command but the package, ``--share:`` no option but a name of CSS.
    """
    keys = rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(keys_above(floor))))})\b"
    return re.findall(rf"{keys}|\bctr-kd [a-z][\w-]*|(?<![\w-])--[a-z][\w-]*+(?!\s*:)", text)


@pytest.mark.parametrize("floor", FLOORS[:-1])
def test_a_floor_names_no_key_and_no_command_of_a_floor_above_it(floor: str) -> None:
    texts = [
        (path, node.value, node.lineno)
        for path in files(floor)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    others = sorted(path for ending in ("sql", "html") for path in (ROOT / floor).rglob(f"*.{ending}"))
    texts += [(path, path.read_text(encoding="utf-8"), 1) for path in others]
    wrong = [f"{path.relative_to(ROOT)}:{line}: {found}" for path, text, line in texts if (found := words_of_floors_above(text, floor))]
    assert not wrong, "\n".join(wrong)


def test_the_check_knows_whose_words_are_whose() -> None:
    assert {"pretrain.checkpoint", "distill.transfer", "score.candidates", "tracking.uri"} <= keys_above("feature_store")
    assert not any(key.startswith(("source.", "split.", "feature_store.", "tokens.")) for key in keys_above("feature_store"))
    assert "distill.transfer" not in keys_above("ctr_kd") and {"score.candidates", "register.auc_min"} <= keys_above("ctr_kd")
    said = "run `ctr-kd ingest --data DIR`, or set score.candidates; pip install ctr-kd[spark]; see score.json, schedule.share"
    assert words_of_floors_above(said, "ctr_kd") == ["ctr-kd ingest", "--data", "score.candidates"]
