"""The pages of results show every file of results as it is, with a command that exists and makes it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from docs._generate import results
from pipelines.config.run import load

PAGES = {path.name: path.read_text(encoding="utf-8") for path in results.PAGES.glob("*.md")}
FILES = sorted(path.stem for path in results.RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_shown_once_with_its_command(name: str) -> None:
    shown = {what: [page for page, text in PAGES.items() if name in results.named(text)[what]] for what in ("source", "table")}
    assert len(shown["source"]) == 1 and shown["table"] == shown["source"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_results_say(page: str) -> None:
    if results.fill(PAGES[page]) != PAGES[page]:
        pytest.fail(f"docs/results/{page} is not what benchmarks/results and conf say: run make results-pages", pytrace=False)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_tables_and_no_misspelt_directive(page: str) -> None:
    assert "\n| --- |" in PAGES[page]
    assert "<!--" not in results.DIRECTIVE.sub("", PAGES[page])


@pytest.mark.parametrize("name", [name for name in FILES if "configuration" in results.load_result(name).get("run", {})])
def test_a_command_of_the_program_gives_the_configuration_of_the_file(name: str) -> None:
    data = results.load_result(name)
    written = data["run"]["configuration"]
    if "command" in data:  # of a release whose defaults follow the data: it sets what is set, and the rest is what `auto` came to
        words = shlex.split(data["command"])
        given = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
        now = dict(results.flat(load(results.ROOT / "conf" / f"{written['name']}.yaml", given).model_dump(mode="json", by_alias=True)))
        differing = {key for key, value in results.flat(written) if now[key] != value and now[key] != "auto"}
        assert differing <= {"prove.seeds"}
        return
    given = [f"{key}={value}" for key, value in results.overrides(written)]
    now = dict(results.flat(load(results.ROOT / "conf" / f"{written['name']}.yaml", given).model_dump(mode="json", by_alias=True)))
    clicks = written["source"]["reader"] != "text"  # which have no tokens, whatever is written of them
    left = {key: value for key, value in results.flat(written) if now[key] != value and not (clicks and key.startswith("tokens."))}
    assert {key: now[key] for key in left} == {key: "auto" for key in left if key.endswith((".validations", ".patience", ".members"))}
    assert {*left.values()} <= {4, None, 1}  # what they come to where epochs are given, and rows are many


def test_models_before_recency_had_none_whatever_the_default_is() -> None:
    written = load(results.ROOT / "conf" / "mind.yaml").model_dump(mode="json", by_alias=True)
    for block in (written["finetune"], written["distill"]["student"]):
        assert block.pop("recency") is False
    assert list(results.overrides(written)) == []


def test_a_key_that_a_written_configuration_does_not_know_yet_had_its_default() -> None:
    written = load(results.ROOT / "conf" / "globo.yaml").model_dump(mode="json", by_alias=True)
    assert written["finetune"].pop("cross_layers") == 2
    assert list(results.overrides(written)) == [("finetune.cross_layers", "0")]


@pytest.mark.parametrize("name", FILES)
def test_a_script_that_a_command_names_exists(name: str) -> None:
    line = results.command(name)[0].split()
    assert line[0] in ("python", "ctr-kd")
    if line[0] == "python":
        assert (results.ROOT / line[1]).is_file()


def test_a_table_says_the_figures_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "one.json").write_text('{"command": "python a.py --x 1", "runs": [{"rows": 1234, "seconds": 0.5}]}')
    page = (
        "a\n\n<!-- source one -->\n\n"
        "```sh\npython a.py --x 1\n```\n\n`benchmarks/results/one.json`. One run, no seed to vary, no interval.\n\n<!-- end -->\n\n"
        "b\n\n<!-- table runs one -->\n\n| rows | seconds |\n| --- | --- |\n| 1,234 | 0.5 |\n\n<!-- end -->\n\nc\n"
    )
    assert results.fill("a\n\n<!-- source one -->\n\nb\n\n<!-- table runs one -->\n\nc\n") == page
    assert results.fill(page) == page
    assert results.fill(page.replace("1,234", "1,235").replace("--x 1", "--x 2")) == page


def test_prose_below_a_new_directive_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directive without an end takes nothing of the one that follows it."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "two.json").write_text('{"runs": [{"rows": 1}]}')
    table = "<!-- table runs two -->\n\n| rows |\n| --- |\n| 1 |\n\n<!-- end -->"
    assert results.fill(f"<!-- table runs two -->\n\nprose\n\n{table}") == f"{table}\n\nprose\n\n{table}"


def test_the_command_writes_the_pages_that_differ(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ROOT", "RESULTS", "PAGES"):
        monkeypatch.setattr(results, name, tmp_path)
    (tmp_path / "three.json").write_text('{"runs": [{"rows": 1}]}')
    (tmp_path / "filled.md").write_text("<!-- table runs three -->\n")
    (tmp_path / "prose.md").write_text("prose\n")
    results.main()
    assert capsys.readouterr().out == "written: filled.md\n"
    assert (tmp_path / "filled.md").read_text() == "<!-- table runs three -->\n\n| rows |\n| --- |\n| 1 |\n\n<!-- end -->\n"
    results.main()
    assert capsys.readouterr().out == ""


def test_a_proof_of_several_teachers_says_what_its_intervals_cover_and_shows_each_teacher() -> None:
    proof = {
        "verdict": {},
        "data": {"test_rows": 1000, "users": 90},
        "seeds": [0, 1, 2, 3, 4],
        "teacher_seeds": [0, 1],
        "interval_covers": ["users", "student seeds", "teacher seeds"],
        "models": {
            name: {"auc": {"teachers": auc, "teachers_std": 0.0071}} for name, auc in (("teacher", [0.8, 0.79]), ("student", [0.81, 0.8]))
        },
        "comparisons": {"student-student_alone": {"auc": {"teachers": [0.0101, -0.0002], "teachers_std": 0.0073}}},
    }
    assert results.basis(proof) == (
        "Five seeds, two teachers with students of each seed, 1,000 test rows of 90 users. "
        "The 95 % intervals cover users, student seeds and teacher seeds."
    )
    lines = ["| 0 | .8000 | .8100 | +.0101 |", "| 1 | .7900 | .8000 | -.0002 |", "| standard deviation | .0071 | .0071 | .0073 |"]
    assert results.teachers(proof)[2:] == lines
    configuration = load(results.ROOT / "conf" / "globo.yaml", ["prove.seeds=3", "prove.teachers=2"]).model_dump(mode="json", by_alias=True)
    assert results.program_command("prove", configuration) == ["ctr-kd prove conf/globo.yaml --data FOLDER --seeds 3 --teachers 2"]


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no directive"):
        results.fill("<!-- table nothing prove_globo -->")


@pytest.mark.parametrize(("value", "words"), [(-0.00671, "-.0067"), (0.0114, "+.0114"), (0.0, "+.0000")])
def test_differences_have_a_sign(value: float, words: str) -> None:
    assert results.signed(value) == words
