"""Configurations: what is wrong is named in one line, and what is right is printed back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from feature_store.config import TokenizerConfig
from feature_store.config_statistics import DeclaredConfig
from feature_store.config_types import is_auto
from pipelines.config.run import RunConfig, describe, load, privileged, scalar
from pipelines.errors import ConfigError

YamlFile = Callable[..., Path]
CONFIGURATIONS = sorted((Path(__file__).resolve().parents[3] / "conf").glob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("history: {max_lenght: 5}", "history.max_lenght: unknown key; did you mean 'max_length'?"),
        ("histroy: {max_length: 5}", "histroy: unknown key; did you mean 'history'?"),
        ("qqq: 1", "qqq: unknown key; valid here: name, seed, budget, source"),
        ("distill: {student: {kind: lstm}}", "student.kind: there is no student 'lstm'; there are pooled, bilstm, bilstm_pair, din, dcn; "),
        ("history: {max_length: 0}", "history.max_length: should be greater than or equal to 1, not 0"),
        ("history: {max_length: twenty}", "history.max_length: should be a valid integer"),
        ("history: {max_length: [20]}", "history.max_length: should be a valid integer, not a list"),
        ("history: 20", "history: should be a block of keys (max_length, min_length), not int"),
        ("register: {auc_min: 1.5}", "register.auc_min: should be less than or equal to 1, not 1.5"),
        ("pretrain: {encoder: {width: 10, heads: 3}}", "pretrain.encoder: heads (3) must divide the width (10)"),
        ("pretrain: {training: {lazy_ids: true}}", "pretrain: training.lazy_ids has no effect in pretraining"),
        ("feature_store: {spark: {master: 'host:7077'}}", "spark.master: 'host:7077' is no master of Spark; write spark://HOST:PORT, yarn"),
        ("name: a/b", "name: String should match pattern"),
        ("seed: 1\nseed: 2", "demo.yaml:4: the key 'seed' is given twice, first in line 3"),
        ("seed: [", "not valid YAML"),
        ("seed: !!python/object/apply:os._exit [3]", "not valid YAML: could not determine a constructor for the tag"),
    ],
)
def test_an_error_names_file_key_and_what_is_allowed(yaml_file: YamlFile, text: str, expected: str) -> None:
    path = yaml_file(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_warm_nights_need_windows_in_time(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match=r"training\.start: warm continues from one window of time to the next: name split\.train"):
        load(yaml_file(), ["training.start=warm"])
    windows = "split={train: 3d, validation: 1d, test: 1d}"
    assert load(yaml_file(), [windows, "training.start=warm"]).warm.restart_every == timedelta(days=7)


def test_texts_have_no_nights() -> None:
    with pytest.raises(ConfigError, match=r"training\.start: warm continues with what is new, and texts have no times"):
        load(next(file for file in CONFIGURATIONS if file.name == "tnews.yaml"), ["training.start=warm"])


def test_candidates_are_not_compared_where_some_are_missing(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match=r"statistics\.listwise_context compares all candidates.*source\.negative_sampling_rate says"):
        load(yaml_file("statistics: {listwise_context: size}"), ["source.negative_sampling_rate=0.2"])
    events = "{path: a.csv, user: u, item: i, time: t, clicked: c, negative_sampling_rate: kept}"
    by_row = ["source.reader=tabular", f"source.events={events}"]
    with pytest.raises(ConfigError, match=r"statistics\.listwise_context compares.*source\.events\.negative_sampling_rate says"):
        load(yaml_file("statistics: {listwise_context: size}"), by_row)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        ("[views]", "statistics.of[0].count: there are no events 'views'; count some of clicks, impressions, cart"),
        ("[buy]", "statistics.of[0].count: buy is the label, whose events are counted as clicks: write clicks"),
        ("[clicks, cart]", None),
    ],
)
def test_statistics_count_events_that_there_are(tmp_path: Path, count: str, said: str | None) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(
        f"""
source:
  reader: tabular
  events: {{path: "*", user: u, item: i, time: t, type: {{column: k, label: buy, shown: view, counted: [cart]}}}}
split: {{fractions: [0.6, 0.2, 0.2]}}
statistics: {{of: [{{by: item, count: {count}}}]}}
"""
    )
    if said is None:
        load(conf)
        return
    with pytest.raises(ConfigError) as error:
        load(conf)
    assert said in str(error.value)


def test_a_union_names_what_each_branch_wants(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match=r"split.train_from: '48q' is not a duration.*; or '48q' is not a time"):
        load(yaml_file(), ["split.train_from=48q"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temperature: 0", "soft targets need a temperature above zero; alpha: 1 trains on the labels alone"),
        ("{soft: kl, temperature: 0}", "soft targets need a temperature above zero"),
        ("{soft: logit_mse, listwise: 0.5, temperature: 0}", "soft targets need a temperature above zero"),
        ("temperature: -1", "greater than or equal to 0"),
        ("soft: none", "soft: none leaves the teacher's share (1 - alpha) without a loss"),
        ("{soft: none, listwise: 0.25}", "leaves 1 - listwise (0.75) of the teacher's weight without a loss; set listwise: 1"),
        ("listwise: 1.5", "distill.listwise: should be less than or equal to 1"),
        ("alpha: 1.5", "distill.alpha: should be less than or equal to 1"),
        ("{teachers: {bert: 0.5, boosted_trees: 0.4}}", "the weights of the teachers must be above zero and add up to 1"),
        ("{teachers: [{name: bert}, {name: bert}]}", "teachers: two are called 'bert'"),
        ("{teachers: [{name: production}]}", "or one with scores, model or plugin"),
        ("{teachers: [{name: bert, scores: {column: a}}]}", "bert is the name of a teacher that is trained here"),
        ("{teachers: [{name: a, scores: {column: a, path: b}}]}", "name where the scores are in one way: column, or path"),
        ("{teachers: [{name: a, scores: {column: a, item: b}}]}", "item is a column of files"),
        ("{teachers: [{name: a, model: m, plugin: p:C}]}", "model and plugin both say where the logits of a come from"),
        ("{teachers: [{name: a, model: 'models:/a@b'}]}", "runs code of whoever made it; set trust: true"),
        ("{teachers: [{name: bert, trust: true}]}", "trust is of a teacher that is a model"),
        ("{teachers: [{name: a, model: m, trust: true, out_of_fold: true}]}", "a was trained elsewhere"),
        ("{teachers: [{name: bert, folds: 3}]}", "folds has no effect without out_of_fold"),
        ("{teachers: [{name: bert, weigth: 3}]}", "did you mean 'weight'"),
        ("{teachers: [{name: bert, weight: 0}]}", "distill.teachers.0.weight: should be greater than 0"),
        ("{teachers: {gbdt: 1}}", "there is no teacher 'gbdt'"),
        ("{preset: tang, soft: kl}", "preset tang has soft: logit_mse, not kl"),
        ("{preset: hinton, soft: logit_mse}", "preset hinton has soft: soft_targets, not logit_mse"),
        ("{preset: [tang]}", "distill.preset: should be"),
        ("{preset: bucila}", "distill.preset: should be 'tang' or 'hinton'"),
        ("{preset: hinton, teacher_weight: 0}", "distill.teacher_weight: should be greater than 0"),
        ("{soft: none, listwise: 1, gate: label}", "gate weighs soft, which is none"),
        ("{student: {kind: din, combiner: sqrtn}}", "combiner has no effect with kind: din; remove it, or set kind: pooled or dcn"),
        ("{student: {hidden: 0, dropout: 0.5}}", "dropout has no effect with hidden: 0"),
        ("{student: {hidden: 1}}", "hidden: 1 leaves nothing for the second hidden layer; set 2 or more, or 0 for a linear head"),
        ("{student: {kind: din}, hints: {hidden: 1}}", "din reads it anew for each candidate"),
        ("{listwise: 0.5, training: {accumulate: 2}}", "training.accumulate must be 1"),
        ("{hints: {relation: 1}, training: {accumulate: 2}}", "training.accumulate must be 1"),
        ("{embeddings: teacher, teachers: {boosted_trees: 1}}", "come from the BERT, which is none of the teachers"),
        ("{embeddings: teacher, student: {width: 65}}", "needs a distill.student.width (65) up to pretrain.encoder.width (64)"),
        (
            "{training: {lazy_ids: true, embedding_decay: 0.1}}",
            "distill.training: embedding_decay is there to regularise ids and does not reach those of lazy_ids",
        ),
        ("{schedule: {weight: cosine}}", "distill.schedule.weight: should be 'constant', 'annealed' or 'warmup'"),
    ],
)
def test_a_distillation_that_cannot_be_is_one_clear_error(yaml_file: YamlFile, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(yaml_file(f"distill: {text}" if text.startswith("{") else f"distill: {{{text}}}"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shape_of_a_released_bert_is_left_to_its_folder(tmp_path: Path) -> None:
    source, path = "source: {reader: text, train: a.tsv, test: b.tsv, text: 0, label: 1}\n", tmp_path / "demo.yaml"
    path.write_text(source + "pretrain: {checkpoint: bert, encoder: {heads: 12}}")
    config = load(path)
    shape = config.pretrain.encoder.model_dump(include={"width", "layers", "heads", "feed_forward", "dropout", "norm_epsilon"})
    assert shape.pop("heads") == 12 and set(shape.values()) == {"auto"}
    path.write_text(describe(config))
    assert "    width: auto\n" in path.read_text() and load(path) == config
    path.write_text(source + "pretrain: {encoder: {layers: auto}}")
    with pytest.raises(ConfigError, match=r"encoder.layers: auto is that of a checkpoint, and there is none: write a number"):
        load(path)


def test_a_student_of_next_items_is_no_wider_than_the_encoder(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match=r"next_item.student.width \(65\) is above pretrain.encoder.width \(64\).*: lower it"):
        load(yaml_file("next_item: {student: {width: 65}}"))
    assert load(yaml_file("next_item: {student: {width: 64}}")).next_item.student.width == 64


@pytest.mark.parametrize(
    "text",
    [
        "{alpha: 1, temperature: 0}",  # how the student alone is trained
        "{alpha: 1, soft: none, gate: label, listwise: 0.5, training: {accumulate: 2}}",
        "{soft: logit_mse, temperature: 0}",
        "{preset: tang, alpha: 0.3, hints: {hidden: 0.1, relation: 1}}",
        "{preset: hinton, teacher_weight: 2, listwise: 0.5, gate: label, schedule: {weight: warmup, share: 0.3}}",
        "{soft: none, listwise: 1}",
        "{soft: none, hints: {hidden: 1}}",
        "{embeddings: teacher, student: {kind: din, width: 64}}",
        "{student: {hidden: 0}}",
    ],
)
def test_distillations_that_can_be_load_again_from_their_description(yaml_file: YamlFile, tmp_path: Path, text: str) -> None:
    config = load(yaml_file(f"distill: {text}"))
    (tmp_path / "again.yaml").write_text(describe(config))
    assert load(tmp_path / "again.yaml").distill == config.distill


def test_presets_set_what_they_are_named_for(yaml_file: YamlFile) -> None:
    tang, hinton = (load(yaml_file(), [f"distill.preset={preset}"]).distill for preset in ("tang", "hinton"))
    assert (tang.soft, tang.weights) == ("logit_mse", (0.5, 0.5))
    assert (hinton.soft, hinton.weights) == ("soft_targets", (1.0, 1.0))


def test_all_errors_come_at_once_each_with_its_line(yaml_file: YamlFile) -> None:
    path = yaml_file(
        """histroy: {max_length: 5}
history:
  max_length: 0
  min_lenght: 1
seed: 1
seed: 2
distill:
  teachers: {bert: 0.5, boosted_trees: 0.4}
pretrain:
  more_encoders:
    - width: 32
    - {width: 10, heads: 3}
"""
    )
    with pytest.raises(ConfigError) as error:
        load(path, ["vocabulary.min_count=0"])
    assert error.value.problems == (
        f"{path}:3: histroy: unknown key; did you mean 'history'?",
        f"{path}:5: history.max_length: should be greater than or equal to 1, not 0",
        f"{path}:6: history.min_lenght: unknown key; did you mean 'min_length'?",
        f"{path}:8: the key 'seed' is given twice, first in line 7",
        f"{path}:10: distill.teachers: the weights of the teachers must be above zero and add up to 1; a list of teachers divides "
        "them by their sum",
        f"{path}:14: pretrain.more_encoders.1: heads (3) must divide the width (10)",
        "--set: vocabulary.min_count: should be greater than or equal to 1, not 0",
    )


def test_keys_that_do_not_fit_together_come_at_once_too(tmp_path: Path) -> None:
    path = tmp_path / "clicks.yaml"
    path.write_text("source: {reader: simulated}\nevaluate:\n  text_gcn: true\npretrain:\n  checkpoint: bert\n")
    with pytest.raises(ConfigError) as error:
        load(path)
    assert [problem.removeprefix(str(path)).split(" is ")[0] for problem in error.value.problems] == [
        ":3: evaluate.text_gcn",
        ":5: pretrain.checkpoint",
        ": split",
    ]


@pytest.mark.parametrize("content", ["", "split: {fractions: [0.8, 0.1, 0.1]}"])
def test_what_is_missing_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="source: missing; it is required"):
        load(path)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "list.yaml").write_text("- source")
    with pytest.raises(ConfigError, match="should hold keys and values"):
        load(tmp_path / "list.yaml")


def test_the_name_is_that_of_the_file(yaml_file: YamlFile) -> None:
    assert load(yaml_file(name="my news.yaml")).name == "my-news"
    assert load(yaml_file("name: other")).name == "other"


def test_overrides_win_and_are_named_in_errors(yaml_file: YamlFile) -> None:
    path = yaml_file("history: {max_length: 5, min_length: 1}")
    config = load(path, ["history.max_length=7", "split.fractions=[0.7, 0.2, 0.1]", "distill.student.kind=bilstm", "tracking.uri=null"])
    assert (config.history.max_length, config.history.min_length) == (7, 1)
    assert config.split.fractions == (0.7, 0.2, 0.1)
    assert config.distill.student.kind == "bilstm"
    for override, expected in (
        ("history.max_lenght=7", "--set: history.max_lenght: unknown key"),
        ("history.max_length=-1", "--set: history.max_length: should be"),
        ("distill.calibration=maybe", "--set: distill.calibration: should be"),
        ("pretrain.checkpoint=bert", "--set: pretrain.checkpoint is a BERT of words"),  # beside keys that the file holds
        ("pretrain={checkpoint: bert}", "--set: pretrain.checkpoint is a BERT of words"),
        ("history.max_length", "write key.path=value"),
        ("history.max_length.x=1", "is a single value and has no keys below it"),
        ("seed={", "the value is not valid YAML"),
    ):
        with pytest.raises(ConfigError) as error:
            load(path, [override])
        assert expected in str(error.value)


def test_a_tag_in_an_override_is_no_code(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match=r"--set seed=!!python/object/apply:os._exit \[3\]: the value is not valid YAML"):
        load(yaml_file(), ["seed=!!python/object/apply:os._exit [3]"])


def test_setting_one_key_of_a_block_keeps_the_defaults_of_the_others(yaml_file: YamlFile) -> None:
    default, changed = load(yaml_file()), load(yaml_file("pretrain: {training: {epochs: 0.5}}"))
    assert changed.pretrain.training.epochs == 0.5
    assert changed.pretrain.training.model_dump(exclude={"epochs"}) == default.pretrain.training.model_dump(exclude={"epochs"})


def test_dates_may_be_quoted_or_not(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    texts = ("2024-01-10", "'2024-01-10'", "2024-01-10T00:00", "2024-01-10T00:00:00Z", "2024-01-10 01:00:00+01:00")
    found = set()
    for text in texts:
        path.write_text(
            f"source: {{reader: simulated}}\nsplit: {{train_until: {text}, validate_until: 2024-01-11, test_until: 2024-01-12}}"
        )
        found.add(load(path).split.train_until)
    assert len(found) == 1


def test_the_description_loads_to_the_same_configuration(yaml_file: YamlFile, tmp_path: Path) -> None:
    overrides = ["candidates.window=90m", "statistics.windows=[45s, 90m]", "split.train_from=2024-01-03", "tracking.uri='http://host:5000'"]
    config = load(yaml_file("distill: {student: {kind: bilstm}}"), overrides)
    again = tmp_path / "again.yaml"
    again.write_text(describe(config))
    assert load(again) == config


def test_a_list_of_blocks_is_described_as_it_is_written_and_so_are_its_keys(yaml_file: YamlFile, tmp_path: Path) -> None:
    config = load(yaml_file("statistics: {of: [{by: [item, device], count: clicks, windows: [90m, 2d], trend: true}]}"))
    described = describe(config)
    assert "\n  of: [{by: [item, device], count: [clicks], windows: [90m, 2d], trend: true}]\n" in described
    assert "\n  #   trend: each count over that of the next longer window\n" in described
    (tmp_path / "demo.yaml").write_text(described)
    assert load(tmp_path / "demo.yaml") == config


def test_a_path_is_described_as_text(yaml_file: YamlFile) -> None:
    assert "\n  points: a/b.json\n" in describe(load(yaml_file("sweep: {points: a/b.json}")))


def test_the_description_explains_every_key(config: RunConfig) -> None:
    lines = describe(config).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), f"{line!r} has no comment"
    assert "(no description)" not in "\n".join(lines)


def test_a_section_holds_the_keys_that_were_asked_for(config: RunConfig) -> None:
    section = config.section(["seed", "history.max_length", "register"])
    assert section["seed"] == 0
    assert section["history.max_length"] == config.history.max_length
    assert section["register"]["auc_min"] == config.register_.auc_min
    with pytest.raises(KeyError):
        config.section(["history.length"])


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_configurations_that_come_with_the_project(path: Path) -> None:
    config = load(path)
    assert config.name == path.stem
    assert yaml.safe_load(describe(config))["source"]["reader"] == config.source.reader


TEXTS = "{reader: text, train: a.tsv, test: b.tsv}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokens: {teacher: {kind: words, vectors: w.txt}}", "tokens.teacher.vectors has no effect: the BERT learns its embeddings"),
        (
            "tokens: {teacher: {kind: words}, student: {kind: words, vectors: w.txt}}\ndistill: {embeddings: teacher}",
            "are two beginnings of one table",
        ),
    ],
)
def test_word_vectors_that_would_have_no_effect_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "texts.yaml").write_text(f"source: {TEXTS}\n{text}\n")
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path / "texts.yaml")


def test_clicks_have_no_texts_to_augment_and_no_teachers_of_texts(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match="augmentation makes texts, and there are none"):
        load(yaml_file("distill: {transfer: {augmentation: {amount: 1}}}"))
    with pytest.raises(ConfigError, match="linear_words is a teacher of texts; clicks have bert and boosted_trees"):
        load(yaml_file("distill: {teachers: {linear_words: 1}}"))


def test_a_bound_on_trees_that_are_not_grown_is_refused(yaml_file: YamlFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asks for what evaluate\.boosted_trees: false leaves out"):
        load(yaml_file("register: {boosted_trees_gain_min: 0}\nevaluate: {boosted_trees: false}"))
    (tmp_path / "texts.yaml").write_text(f"source: {TEXTS}\nregister: {{boosted_trees_gain_min: 0}}\n")
    with pytest.raises(ConfigError, match="is of clicks; texts have no boosted trees"):
        load(tmp_path / "texts.yaml")


def test_a_checkpoint_brings_its_layout_and_its_words(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text(f"source: {TEXTS}\npretrain: {{checkpoint: bert, encoder: {{width: 768, layers: 12, heads: 12}}}}\n")
    config = load(path, ["tokens.teacher.max_length=48"])
    assert (config.pretrain.encoder.positions, config.pretrain.encoder.framed, config.pretrain.encoder.layers) == ("from_start", True, 12)
    assert config.tokens.teacher == TokenizerConfig(kind="wordpiece", vocabulary="bert/vocab.txt", max_length=48)
    again = tmp_path / "again.yaml"
    again.write_text(describe(config))
    assert load(again) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pretrain: {checkpoint: bert, next_segment: 1}", "pretrain: next_segment has no effect with a checkpoint"),
        ("pretrain: {checkpoint: bert, encoder: {positions: relative}}", "encoder.positions cannot be chosen for a checkpoint"),
        ("pretrain: {encoder: {framed: true}}", "encoder.framed is the layout of a checkpoint"),
        ("pretrain: {more_encoders: [{framed: true}]}", "encoder.framed is the layout of a checkpoint"),
        ("pretrain: {more_encoders: [{width: 32}, {}]}", "more_encoders holds one that is there already"),
        ("pretrain: {checkpoint: bert, more_encoders: [{width: 32}]}", "more_encoders has no effect with a checkpoint"),
        ("pretrain: {checkpoint: bert}\ntokens: {teacher: {kind: characters}}", "has words of its own: remove tokens.teacher.vocabulary"),
        ("pretrain: {checkpoint: bert}\ntokens: {teacher: {vocabulary: my.txt}}", "has words of its own: remove tokens.teacher.vocabulary"),
        ("pretrain: {checkpoint: bert}\ntokens: {teacher: {min_count: 1}}", "min_count and max_size have no effect"),
        ("pretrain: {next_segment: 1}\nfinetune: {strategy: next_segment}", "whether two texts match, and there is one"),
        ("finetune: {strategy: next_segment, members: 2}", "finetune: members and hard_negatives have no effect"),
    ],
)
def test_what_a_checkpoint_and_its_next_segment_head_cannot_do(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "texts.yaml").write_text(f"source: {TEXTS}\n{text}\n")
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path / "texts.yaml")


def test_clicks_have_no_checkpoint_and_no_untrained_head(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match="a click log has items of its own"):
        load(yaml_file("pretrain: {checkpoint: bert}"))
    with pytest.raises(ConfigError, match=r"asks the head that pretrain\.next_segment trains"):
        load(yaml_file("finetune: {strategy: next_segment}"))
    assert load(yaml_file("finetune: {strategy: next_segment}\npretrain: {next_segment: 1}")).finetune.strategy == "next_segment"


TABULAR = """
source:
  reader: tabular
  events: {path: "*.csv", user: u, item: i, time: t, clicked: c}
  items: {path: items.csv, item: i, categorical: [topic]}
  context: {categorical: [device], dense: [price]}
split: {fractions: [0.8, 0.1, 0.1]}
"""


def test_the_gate_looks_at_parts_of_columns_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(TABULAR)
    assert load(path, ["register.slices=[device, topic, item, history_length]"]).register_.slices[0] == "device"
    with pytest.raises(
        ConfigError, match=r"register.slices: there is no column 'price' with few values; there are device, topic, history_"
    ):
        load(path, ["register.slices=[device, price]"])
    path.write_text("source: {reader: text, train: a.tsv, test: b.tsv}\nregister: {slices: [device]}")
    with pytest.raises(ConfigError, match=r"register.slices: there is no column 'device' with few values; there are label"):
        load(path)


def test_statistics_are_chosen_only_where_there_are_some(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(f"source: {TEXTS}\nstatistics: {{auto: true}}\n")
    with pytest.raises(ConfigError, match=r"statistics\.auto has no effect on texts, which have no statistics: remove it"):
        load(path)
    source = "{reader: tabular, events: {path: '*.csv', user: u, item: i, time: t}%s}"
    events = f"source: {source}\nsplit: {{leave_one_out: true}}\nstatistics: {{auto: true}}\n"
    path.write_text(events % "")
    with pytest.raises(ConfigError, match=r"statistics\.auto needs columns .*: name source\.context, items or users, or remove it"):
        load(path)
    path.write_text(events % ", context: {categorical: [device]}")
    assert load(path).chooses_statistics


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ("", True),
        ("statistics: {windows: [2h]}", True),
        ("statistics: {auto: false}", False),
        ("statistics: {of: [{by: user, age_of_last: true}]}", False),
        ("statistics: {of: [{by: user, age_of_last: true}], auto: true}", True),
        ("statistics: {co_clicks: {window: 1d}}", False),
    ],
)
def test_statistics_are_chosen_by_default_where_none_is_declared(tmp_path: Path, keys: str, chosen: bool) -> None:
    path = tmp_path / "demo.yaml"
    source = "source: {reader: tabular, events: {path: '*.csv', user: u, item: i, time: t}, context: {categorical: [device]}}"
    path.write_text(f"{source}\nsplit: {{train: 8d, validation: 1d, test: 1d}}\n{keys}\n")
    assert load(path).chooses_statistics is chosen


@pytest.mark.parametrize(
    "keys",
    [
        "source: {reader: tabular, events: {path: '*.csv', user: u, item: i, time: t}}\nsplit: {train: 8d, validation: 1d, test: 1d}\n",
        "source: {reader: tabular, events: {path: '*.csv', user: u, item: i, time: t}, context: {categorical: [device]}}\n"
        "split: {leave_one_out: true}\n",
        f"source: {TEXTS}\n",
    ],
)
def test_statistics_are_not_chosen_where_nothing_can_be_crossed_or_judged(tmp_path: Path, keys: str) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(keys)
    assert not load(path).chooses_statistics


def test_a_declared_statistic_is_printed_as_it_is_written() -> None:
    declared = DeclaredConfig(by=("referrer", "item"), count=("clicks",), windows=("10m", "1d"), share_of=("item",))
    assert scalar([declared]) == "[{by: [item, referrer], count: [clicks], windows: [10m, 1d], share_of: [[item]]}]"


def test_a_run_without_teacher_states_says_nothing_of_them(yaml_file: YamlFile) -> None:
    assert "teacher_state" not in load(yaml_file("")).section(["split", "teacher_state"])
    section = load(yaml_file("teacher_state: {width: 16}")).section(["teacher_state"])
    assert section["teacher_state"]["width"] == 16 and section["teacher_state"]["encoder"] is None


def test_teacher_states_need_times_and_users(yaml_file: YamlFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher_state needs times, night by night"):
        load(yaml_file("teacher_state: {}"), ["split={leave_one_out: true}"])
    texts = tmp_path / "texts.yaml"
    texts.write_text("source: {reader: text, train: a.tsv, test: b.tsv, text: 0, label: 1}\nteacher_state: {}\n")
    with pytest.raises(ConfigError, match="teacher_state is of users and what they click, and texts have none"):
        load(texts)


SEVERAL = ["source.reader=tabular", "source.events={path: a.csv, user: u, item: i, time: t, clicked: c, labels: [bought]}"]


def test_labels_are_read_as_the_contract_has_them(yaml_file: YamlFile) -> None:
    at_once = [
        "source.reader=tabular",
        "source.events={path: a.csv, user: u, item: i, time: t}",
        "source.labels={clicked: c, bought: bought}",
    ]
    assert load(yaml_file(""), at_once).source == load(yaml_file(""), SEVERAL).source
    with pytest.raises(ConfigError, match="labels names the column of each label, clicked among them"):
        load(yaml_file(""), [*at_once[:2], "source.labels={bought: bought}"])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["labels.chain=true"], "labels.chain is about labels beside the click, and source.events.labels names none"),
        (
            [*SEVERAL, "distill.weighting=learned", "distill.teachers={bert: 0.5, boosted_trees: 0.5}"],
            "distill.weighting: learned weighs teachers of one label",
        ),
        (
            [*SEVERAL, "labels.chain=true", "finetune.hard_negatives.amount=1"],
            "labels.chain learns from what was shown, and finetune.hard_neg",
        ),
    ],
)
def test_keys_that_do_not_go_with_labels_are_named(yaml_file: YamlFile, keys: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(yaml_file(""), keys)


def test_a_run_of_one_label_says_nothing_of_labels(yaml_file: YamlFile) -> None:
    assert load(yaml_file("")).section(("seed", "labels")) == {"seed": 0}
    assert load(yaml_file(""), [*SEVERAL, "labels.chain=true"]).section(("labels",)) == {"labels": {"chain": True}}


SCORED = "source: {reader: tabular, events: {path: a, user: u, item: i, time: t, clicked: c}}\nsplit: {fractions: [0.8, 0.1, 0.1]}\n"


def test_a_column_that_a_teacher_repeats_is_kept_in_the_store_which_is_another_without_it(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(SCORED + "distill: {teachers: [{name: bert}, {name: production, scores: {column: p, known: k}}]}")
    config, plain = load(path), load(path, ["distill.teachers={bert: 1}"])
    assert config.source.events is not None and config.source.events.scores == {"p": "k"}
    assert plain.source.events is not None and plain.source.events.scores == {}
    named = load(path, ["distill.teachers={bert: 1}", "source.events.scores={p: k}"])
    assert config.source.log() == named.source.log() != plain.source.log()
    assert config.distill.teacher_weights == {"bert": 0.5, "production": 0.5}
    assert load(write(tmp_path / "again.yaml", describe(config))) == config


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{teachers: [{name: p, scores: {column: p}}], transfer: {amount: 1}}", "makes rows that nobody scored"),
        ("{teachers: [{name: p, scores: {column: 'a b'}}]}", "a column of scores has a name of letters, digits and _ alone"),
    ],
)
def test_scores_that_cannot_teach_are_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(write(tmp_path / "demo.yaml", SCORED + f"distill: {text}"))


def test_a_column_of_scores_is_of_the_reader_tabular(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match="give its scores in files"):
        load(yaml_file("distill: {teachers: [{name: p, scores: {column: p}}]}"))


def test_nothing_is_out_of_fold_on_a_warm_night(yaml_file: YamlFile) -> None:
    with pytest.raises(ConfigError, match="bert is to be out of fold, and a warm night trains no teacher anew"):
        load(
            yaml_file("distill: {teachers: [{name: bert, out_of_fold: true}]}\ntraining: {start: warm}"),
            ["split={train: 2d, validation: 1d, test: 1d}"],
        )


def test_a_teacher_is_privileged_where_it_reads_columns_that_students_do_not(config: RunConfig) -> None:
    assert not privileged(config)
    for alone, expected in (({"context": ["device"]}, True), ({"future_clicks": 3}, False)):
        given = RunConfig.model_validate(config.model_dump(by_alias=True) | {"teacher_only": alone})
        assert privileged(given) == expected


@pytest.mark.parametrize(
    ("text", "teachers", "weighting"),
    [
        ("", {"bert": 0.5, "boosted_trees": 0.5}, "validation"),
        ("distill: {weighting: fixed}", {"bert": 0.5, "boosted_trees": 0.5}, "fixed"),
        ("distill: {teachers: {bert: 1}}", {"bert": 1.0}, "fixed"),
    ],
)
def test_where_nobody_is_named_trees_teach_beside_the_bert(
    yaml_file: YamlFile, text: str, teachers: dict[str, float], weighting: str
) -> None:
    distill = load(yaml_file(text)).distill
    assert distill.teacher_weights == teachers and distill.weighting == weighting


def test_what_an_earlier_release_printed_of_a_click_log_is_read(yaml_file: YamlFile) -> None:
    before = "tokens: {teacher: {kind: wordpiece, max_length: 128}, student: {kind: words, max_length: 128}}"
    assert load(yaml_file(before)).section(("tokens",)) == {}


def test_windows_of_sequences_without_times_are_weeks(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text("source: {reader: s3rec, name: Beauty}\nsplit: {leave_one_out: true}\n")
    assert (load(path).candidates.window.days, [window.days for window in load(path).statistics.windows]) == (60, [7, 60])
    assert load(path, ["candidates.window=3d"]).candidates.window.days == 3


def test_the_student_of_single_texts_is_linear_unless_something_is_said(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text("source: {reader: text, train: a.tsv, test: b.tsv, text: 0, label: 1}\n")
    plain = load(path)
    assert (plain.tokens.student.kind, plain.distill.student.hidden, plain.distill.training.unknown_rate) == ("auto", 0, 0.0)
    assert plain.distill.teacher_weights == {"bert": 0.25, "linear": 0.25, "linear_words": 0.25, "naive_bayes": 0.25}
    assert load(path, ["distill.training.epochs=3"]).distill.training.epochs == 3
    assert load(path, ["distill.training.learning_rate=0.1"]).distill.training.learning_rate == 0.1
    for said in ("tokens.student={kind: words}", "distill.student={kind: bilstm}", "source.text_b=2"):
        other = load(path, [said])
        assert is_auto(other.distill.training.learning_rate) and other.tokens.student.kind == "words"
    again = tmp_path / "again.yaml"
    again.write_text(describe(plain))
    assert load(again) == plain


def test_a_block_that_stands_in_two_places_is_changed_in_one(yaml_file: Callable[[str], Path]) -> None:
    path = yaml_file("finetune: {members: 1, training: &loop {epochs: 3}}\ndistill: {training: *loop}\n")
    config = load(path, ["distill.training.epochs=5"])
    assert (config.finetune.training.epochs, config.distill.training.epochs) == (3, 5)
    assert is_auto(config.distill.training.unknown_rate), "each keeps its own defaults"
