"""The tuned file: the user's text as far as it can be kept, the values that it loads to, and which file it may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config.run import load, with_changes
from pipelines.errors import ConfigError
from pipelines.experiments.tuning.tuned_file import refuse_edited, tuned_path, write_tuned

CHANGES = {"distill.alpha": 0.3, "distill.student.kind": "din", "pretrain.encoder.width": 32, "finetune.rate_ratio": 0.05}
TEXTS = {
    "in blocks": """# all mine
source:
  reader: simulated   # no input
split: {fractions: [0.8, 0.1, 0.1]}
distill:
  # less of the labels
  alpha: 0.5  # was 0.7
  student:
    kind: pooled
    width: 16
""",
    "in flows": "{source: {reader: simulated}, split: {fractions: [0.8, 0.1, 0.1]}, distill: {student: {}, alpha: 0.5}}\n",
    "short": "source: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}",
    "with anchors": """source: {reader: simulated}
split: {fractions: [0.8, 0.1, 0.1]}
finetune: {members: 1, training: &loop {epochs: 3}}
distill: {training: *loop}
""",
    "with an end": "---\nsource: {reader: simulated}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n...\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_loads_to_the_values_under_the_same_name(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "mine.yaml"
    conf.write_text(text)
    changes = CHANGES | ({"distill.training.epochs": 5.0} if "&loop" in text else {})
    write_tuned(tmp_path / "mine.tuned.yaml", conf, ["seed=3", "evaluate.bootstrap=20"], changes, ["What", "", "mattered"])
    tuned = load(tmp_path / "mine.tuned.yaml")
    assert tuned == with_changes(load(conf, ["seed=3", "evaluate.bootstrap=20"]), changes, "test")
    assert tuned.name == "mine" and tuned.finetune.training.epochs == load(conf).finetune.training.epochs
    written = (tmp_path / "mine.tuned.yaml").read_text()
    assert "# What\n#\n# mattered\n" in written
    if "# all mine" in text:
        assert all(comment in written for comment in ("# all mine", "# no input", "# less of the labels", "# was 0.7"))


def test_nothing_that_changes_keeps_every_line(tmp_path: Path) -> None:
    conf = tmp_path / "mine.yaml"
    conf.write_text(TEXTS["in blocks"])
    write_tuned(tmp_path / "mine.tuned.yaml", conf, [], {}, ["Nothing better was found."])
    assert (tmp_path / "mine.tuned.yaml").read_text().endswith(TEXTS["in blocks"] + "name: mine\n")


def test_only_a_file_that_nobody_edited_is_replaced(tmp_path: Path) -> None:
    conf, tuned = tmp_path / "mine.yaml", tmp_path / "mine.tuned.yaml"
    conf.write_text(TEXTS["short"])
    refuse_edited(tuned)
    write_tuned(tuned, conf, [], CHANGES, ["one"])
    write_tuned(tuned, conf, [], CHANGES, ["two"])
    assert "# two" in tuned.read_text()
    tuned.write_text(tuned.read_text().replace("0.3", "0.4"))
    with pytest.raises(ConfigError, match=r"mine\.tuned\.yaml was not written by tune, or was edited since"):
        write_tuned(tuned, conf, [], CHANGES, ["three"])
    (tmp_path / "folder").mkdir()
    for place in (conf, tmp_path / "folder"):
        with pytest.raises(ConfigError, match="was not written by tune"):
            refuse_edited(place)


def test_a_configuration_that_comes_with_the_project_is_tuned_where_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    conf = Path("conf/simulated.yaml")
    write_tuned(tuned_path(conf), conf, [], CHANGES, [])
    assert load(tmp_path / "conf" / "simulated.tuned.yaml").name == "simulated"
    assert tuned_path(Path("simulated")) == Path("simulated.tuned.yaml")
