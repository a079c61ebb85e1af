"""Tables of the results pages, from the files of ``benchmarks/results``: ``python -m docs._generate.results`` writes them.

A page of ``docs/results`` holds prose and directives, each on a line of its own:

    <!-- source NAME -->         how the figures of benchmarks/results/NAME.json came about: command, seeds, rows, intervals
    <!-- table KIND NAME -->     one of the tables below
    <!-- overview NAME ... -->   several proofs, one line each

What a directive asks for stands below it and ends with a line ``<!-- end -->``. A new directive needs no end: it is written too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ctr_kd.report import coverage
from feature_store.config_types import is_auto
from pipelines.config.run import RunConfig, as_it_was, load, scalar

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "results"
# A directive with what it was filled with. That holds no other comment, so the prose below a directive without an end is left alone.
DIRECTIVE = re.compile(r"^<!-- (source|table|overview) ([\w ]+?) -->(?:\n(?:(?!<!-- ).*\n)*<!-- end -->)?$", re.MULTILINE)
PROOFS = ("prove", "sweep")  # made by a command of the program, which writes down its configuration
NAMES = {"student_alone": "student alone", "teacher/bert": "teacher's BERT", "boosted_trees": "boosted trees", "bert": "teacher's BERT"}


@cache
def load_result(name: str) -> dict[str, Any]:
    """What a file of results holds."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Fills every page, and says which ones changed."""
    for path in sorted(PAGES.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


def fill(markdown: str) -> str:
    """A page with what its directives ask for below each of them, in place of what stood there.

    Raises
    ------
    ValueError
        When a directive names no kind of table.
    FileNotFoundError
        When it names no file of results.
    """
    return DIRECTIVE.sub(lambda match: "\n".join(_filled(match[1], match[2])), markdown)


def _filled(what: str, words: str) -> Iterator[str]:
    yield from (f"<!-- {what} {words} -->", "", *_asked_for(what, words.split()), "", "<!-- end -->")


def _asked_for(what: str, words: Sequence[str]) -> Iterable[str]:
    if what == "source" and len(words) == 1:
        return source(words[0])
    if what == "overview":
        return overview(words)
    if what == "table" and len(words) == 2 and words[0] in TABLES:
        return TABLES[words[0]](load_result(words[1]))
    raise ValueError(f"<!-- {what} {' '.join(words)} --> is no directive; tables are {', '.join(TABLES)}")


def named(markdown: str) -> dict[str, set[str]]:
    """Files of results that a page names, by ``source`` and ``table``."""
    found: dict[str, set[str]] = {"source": set(), "table": set()}
    for what, words in DIRECTIVE.findall(markdown):
        if what in found:
            found[what].add(words.split()[-1])
    return found


# --- how figures came about --------------------------------------------------------------------------------------------


def source(name: str) -> Iterator[str]:
    """The command that makes a file of results again, and what its figures rest on."""
    data = load_result(name)
    yield from ("```sh", *command(name), "```", "", f"`benchmarks/results/{name}.json`. {basis(data)}")


def command(name: str) -> list[str]:
    """Lines of the command that makes a file of results."""
    data = load_result(name)
    if "command" in data:
        return [data["command"]]
    if name.partition("_")[0] in PROOFS:
        return program_command(name.partition("_")[0], data["run"]["configuration"])
    script = f"benchmarks/bench_{name}.py"
    if not (ROOT / script).is_file():
        raise ValueError(f"{name}.json does not say its command, and {script} does not exist")
    return [f"python {script}"]


def program_command(command: str, configuration: Mapping[str, Any]) -> list[str]:
    """Lines of the command of the program that has a configuration: what differs from its file in ``conf`` is set.

    Parameters
    ----------
    command : str
        ``prove`` or ``sweep``.
    configuration : mapping
        As a result holds it.
    """
    lines = [f"ctr-kd {command} conf/{configuration['name']}.yaml --data FOLDER"]
    for key, value in overrides(configuration):
        if key in ("prove.seeds", "prove.teachers"):
            lines[0] += f" --{key.removeprefix('prove.')} {value}"
        else:
            assignment = f"{key}={value}"
            lines.append(f'  --set "{assignment}"' if re.search(r"[\[{ ]", assignment) else f"  --set {assignment}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def overrides(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys, and values as YAML, in which a written configuration differs from its file in ``conf``; one that came later had its default."""
    file = load(ROOT / "conf" / f"{configuration['name']}.yaml").model_dump(mode="json", by_alias=True)
    present, distill = dict(flat(file)), configuration["distill"]
    if configuration["source"]["reader"] != "text":
        finetune, student = (
            as_it_was(configuration["finetune"], file["finetune"]),
            as_it_was(distill["student"], file["distill"]["student"]),
        )
        configuration = {**configuration, "finetune": finetune, "distill": {**distill, "student": student}, "tokens": file["tokens"]}
    for key, value in flat(RunConfig.model_validate(configuration).model_dump(mode="json", by_alias=True)):
        # validations and patience follow from epochs, which are given or another key; a log of many rows has one member
        follows = is_auto(present.get(key)) and (key.endswith((".validations", ".patience")) or (key, value) == ("finetune.members", 1))
        if not follows and (key not in present or present[key] != value):  # a block of keys that the other has not is null there
            yield key, scalar(_duration(value))


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _duration(value: Any) -> Any:
    """A duration in place of its text in a JSON file."""
    return TypeAdapter(timedelta).validate_python(value) if isinstance(value, str) and re.fullmatch(r"P[\dDTHMS]+", value) else value


def basis(data: Mapping[str, Any]) -> str:
    """Seeds, rows and intervals of a result, in words."""
    if "verdict" in data:
        units = "users" if data["data"]["users"] < data["data"]["test_rows"] else "rows"
        covers = data.get("interval_covers", [units, "student seeds"])  # release 0.2 knew one teacher
        teachers = len(data.get("teacher_seeds", [0]))
        of = "one teacher" if teachers == 1 else f"{_number(teachers)} teachers with students of each seed"
        return f"{_seeds(len(data['seeds']))}, {of}, {_rows(data)}. {coverage(covers)}"
    if "absent" in data:
        absent = "".join(f" Failed: {name}, {why}." for name, why in data["failed"].items())
        absent += f" Not measured: {'; '.join(data['absent'])}." if data["absent"] else ""
        return (
            f"One seed, {len(data['logs'])} logs. Intervals of a log are of 95 %, by bootstrap over users (of texts: rows): they do not "
            f"hold what another seed would change. Means over logs resample logs, as blocks.{absent}"
        )
    if "students" in data:
        return f"One seed, {_rows(data)}. Intervals are of 95 %, by bootstrap over users: they do not hold what another seed would change."
    if "trials" in data:
        count = int(data["seeds"])
        rows = f"{data['test_rows']:,} test rows, {data['train_rows']:,} to learn from"
        more = "users: they do not hold what another seed would change" if count == 1 else "users and seeds"
        return f"{_seeds(count)}, {rows}. Intervals are of 95 %, by bootstrap over {more}."
    if "nights" in data:
        count = f"{_number(len(data['nights']))} nights".capitalize()
        return f"{count}, one seed. Intervals are of 95 % and resample nights, as blocks: they do not hold what another seed would change."
    if "column" in data:
        return f"{_seeds(data['seeds'])}, one teacher, {data['rows']:,} test rows. The 95 % intervals cover users and student seeds."
    if isinstance(data.get("seeds"), list):
        if len(data["seeds"]) == 1:
            units = data.get("units", "rows")
            return f"One seed. Intervals on test are of 95 %, by bootstrap over {units}: they do not hold what another seed would change."
        return f"{_seeds(len(data['seeds']))}; figures are means. The means have no interval."
    if isinstance(data.get("sets"), Mapping):
        count = len(next(iter(data["sets"].values()))["seeds"])
        return f"{_seeds(count)}: accuracies are means, the speed is the median. The means have no interval."
    if "sets" in data:
        return f"{_seeds(len(data['sets'][0]['seeds']))}. No bootstrap interval; the standard error over users stands in the table."
    if "mixtures" in data:
        rows = data["rows"]
        return f"{rows['out_of_fold']:,} training rows out of fold and {rows['validation']:,} validation rows. One seed, no interval."
    if "losses" in data:
        return f"One seed. {data['users']:,} users; an interval stands where the file has one."
    if "trainings" in data:
        return f"{_number(data['trainings'])} trainings of each setting: means, and in brackets standard deviations.".capitalize()
    return "One run, no seed to vary, no interval."


def _seeds(count: int) -> str:
    return f"{_number(count)} seed{'s' if count > 1 else ''}".capitalize()


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def _rows(data: Mapping[str, Any]) -> str:
    rows, users = data["data"]["test_rows"], data["data"]["users"]
    return f"{rows:,} test rows" + (f" of {users:,} users" if users < rows else "")


# --- cells --------------------------------------------------------------------------------------------------------------


def share(value: float | None) -> str:
    """A number between 0 and 1, as tables of results write it.

    Examples
    --------
    >>> share(0.80821), share(1.0), share(None)
    ('.8082', '1.0000', '-')
    """
    return "-" if value is None else f"{value:.4f}".removeprefix("0")


def signed(value: float) -> str:
    """A difference.

    Examples
    --------
    >>> signed(0.0114), signed(-0.00671)
    ('+.0114', '-.0067')
    """
    return f"{value:+.4f}".replace("0.", ".", 1)


def between(entry: Mapping[str, Any], cell: Callable[[float], str] = share) -> str:
    """The interval of a figure, or a stroke where it has none."""
    return "-" if entry.get("low") is None else f"{cell(entry['low'])} to {cell(entry['high'])}"


def difference(entry: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    return f"{signed(entry['difference'])} [{signed(entry['low'])}, {signed(entry['high'])}]"


def plain(value: Any) -> str:
    """Any other value of a result: whole numbers with their thousands, others with four digits.

    Examples
    --------
    >>> plain(433848), plain(94811.5), plain(0.84213), plain(None), plain([])
    ('433,848', '94,812', '0.8421', '-', 'none')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(plain(one) for one in value) or "none"
    return str(value)


def _words(key: str) -> str:
    return NAMES.get(key, key.replace("_", " "))


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


# --- tables ---------------------------------------------------------------------------------------------------------------


def models(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: every model with its figures, means over the seeds."""
    classes = "accuracy" in data["models"]["student"]
    rows = []
    for name, entry in data["models"].items():
        accuracy = [share(entry["accuracy"]["value"]), between(entry["accuracy"])] if classes else []
        figures = [share(entry["auc"]["value"]), between(entry["auc"]), share(entry["log_loss"]["value"])]
        rows.append([_words(name), *accuracy, *figures, plain(entry.get("rows_per_second")), plain(entry.get("parameters"))])
    header = ["model", *(["accuracy", "95 %"] if classes else []), "AUC", "95 %", "log loss", "rows/s, one thread", "parameters"]
    return _grid(header, rows)


def comparisons(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: paired differences."""
    metric = "accuracy" if "accuracy" in data["models"]["student"] else "auc"
    rows = []
    for pair, entry in data["comparisons"].items():
        first, second = pair.split("-")
        cells = [difference(entry[metric]), f"{entry[metric]['p_value']:.3f}", difference(entry["log_loss"])]
        rows.append([f"{_words(first)} less {_words(second)}", *cells])
    return _grid(["", "AUC" if metric == "auc" else metric, "p", "log loss"], rows)


def seeds(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: student and student alone by seed, under several teachers the mean over them."""
    metric = "accuracy" if "accuracy" in data["models"]["student"] else "auc"
    ours, alone, less = (
        data["models"]["student"][metric]["seeds"],
        data["models"]["student_alone"][metric]["seeds"],
        data["comparisons"]["student-student_alone"][metric]["seeds"],
    )
    rows = [[str(seed), share(a), share(b), signed(c)] for seed, a, b, c in zip(data["seeds"], ours, alone, less, strict=True)]
    return _grid(["seed", "student", "student alone", "difference"], rows)


def teachers(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: each teacher with its students, and the standard deviation over the teachers."""
    metric = "accuracy" if "accuracy" in data["models"]["student"] else "auc"
    ours = [data["models"][name][metric] for name in ("teacher", "student")]
    less = data["comparisons"]["student-student_alone"][metric]
    columns = zip(data["teacher_seeds"], *(one["teachers"] for one in (*ours, less)), strict=True)
    rows = [[str(seed), share(teacher), share(student), signed(gain)] for seed, teacher, student, gain in columns]
    last = ["standard deviation", *(share(one["teachers_std"]) for one in (*ours, less))]
    return _grid(["teacher seed", "teacher", "its students", "less the student alone"], [*rows, last])


def arms(data: Mapping[str, Any]) -> list[str]:
    """Of a proof with arms: what each is worth, over its own student alone and over the configured student."""
    metric = "accuracy" if "accuracy" in data["models"]["student"] else "auc"
    told = [{"name": "as configured", "models": data["models"], "comparisons": data["comparisons"]}, *data["arms"]]
    rows = []
    for arm in told:
        values = [share(arm["models"][name][metric]["value"]) for name in ("teacher", "student", "student_alone")]
        over = arm["comparisons"].get("student-configured")
        gains = [difference(arm["comparisons"]["student-student_alone"][metric]), "-" if over is None else difference(over[metric])]
        rows.append([arm["name"], *values, *gains])
    return _grid(["arm", "teacher", "student", "student alone", "student less its student alone", "less the configured student"], rows)


def nights(data: Mapping[str, Any]) -> list[str]:
    """Of a backtest: AUC of each night's models on the window after it, of warm nights the student's begun cold too, and their means."""
    names = [name for name in ("student", "student_alone", "teacher", "boosted_trees") if name in data["mean"]]
    warm = any("warm" in night for night in data["nights"])
    rows = []
    for night in data["nights"]:
        cold = night.get("cold", {}).get("models", {}).get("student", {}).get("auc", {}).get("value")
        cells = [night["validate_until"][:16].replace("T", " "), *(share(night["models"][name]["auc"]["value"]) for name in names)]
        begins = f"warm, {night['warm']['nights']}" if "warm" in night else "cold"
        rows.append([*cells, *([begins, share(cold)] if warm else []), f"{night['seconds']:.0f}"])
    means = [f"{share(data['mean'][name]['auc']['value'])} [{between(data['mean'][name]['auc'])}]" for name in names]
    last = ["mean over nights", *means, *(["", ""] if warm else []), ""]
    more = ["begins", "begun cold, student"] if warm else []
    return _grid(["night", *(NAMES.get(name, name) for name in names), *more, "seconds"], [*rows, last])


def ablation(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: each part of distillation switched by itself, all under the first teacher."""
    pair = data["comparisons"]["student-student_alone"]["auc"]
    configured = data.get("under_first_teacher", {"auc": data["models"]["student"]["auc"], "against_student_alone": pair})
    first = ["as configured", share(configured["auc"]["value"]), "", difference(configured["against_student_alone"])]
    rows = [
        [one["name"], share(one["auc"]["value"]), difference(one["against_student"]), difference(one["against_student_alone"])]
        for one in data["ablation"]
    ]
    return _grid(["student", "AUC", "less the configured one", "less the student alone"], [first, *rows])


def amounts(data: Mapping[str, Any]) -> list[str]:
    """Of a proof: the transfer set by its amount."""
    rows = [
        [
            f"{one['amount']:g}" + (" (configured)" if one["configured"] else ""),
            f"{one['rows']:,}",
            share(one["validation_auc"]),
            share(one["auc"]["value"]),
            difference(one["against_student_alone"]),
        ]
        for one in data["amounts"]["points"]
    ]
    return _grid([f"`{data['amounts']['key']}`", "rows", "AUC on validation", "on test", "less the student alone"], rows)


def sweep(data: Mapping[str, Any]) -> list[str]:
    """Of a sweep: every student, the best by validation first, the teacher and models of others."""
    rows = []
    for one in sorted(data["students"], key=lambda one: -one["validation_auc"]):
        frontier = one["on_frontier"]["rows_per_second"]
        rows.append([f"`{one['name']}`", *_swept(one), "yes" if frontier else "no"])
    rows.append(["teacher", *_swept(data["teacher"]), ""])
    rows += [[f"{one['name']} (torch-rechub)", *_swept(one), ""] for one in data["others"]]
    return _grid(["student", "AUC on validation", "on test", "95 %", "rows/s, one thread", "kB", "on the frontier of speed"], rows)


def _swept(one: Mapping[str, Any]) -> list[str]:
    size = "-" if one.get("bytes") is None else f"{one['bytes'] / 1000:,.0f}"
    return [share(one.get("validation_auc")), share(one["auc"]["value"]), between(one["auc"]), plain(one["rows_per_second"]), size]


def peers(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of quality: our models beside those of torch-rechub."""
    rows = []
    for name, one in data["models"].items():
        validation = sum(one["validation_auc"]) / len(one["validation_auc"])
        rows.append([_words(name), share(validation), share(one["test_auc"]["mean"]), between(one["test_auc"])])
    return _grid(["model", "AUC on validation", "on test", "95 %"], rows)


def peer_differences(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of quality: ours less theirs."""
    rows = [[pair.replace("-", " less "), difference(one), f"{one['p_value']:.3f}"] for pair, one in data["differences"].items()]
    return _grid(["", "AUC", "p"], rows)


def tuning(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of quality: validation AUC of every trial, and what was chosen."""
    rows = []
    for name, one in data["tuning"].items():
        chosen = one["chosen"]
        if isinstance(chosen, Mapping):
            words = ", ".join(f"{_words(key)} {plain(value)}" for key, value in chosen.items() if key in ("width", "dropout", "epochs"))
            words += f", rate {chosen['learning_rate']:g}, batches of {chosen['batch_size']:,}"
        else:
            words = ", ".join(f"`{override}`" for override in chosen) or "as configured"
        rows.append([_words(name), ", ".join(share(value) for value in one["validation_auc"]), words])
    return _grid(["model", "AUC on validation, by trial", "chosen"], rows)


def finetuning(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of fine-tuning: what each strategy destroys of pretraining, and what it buys."""
    metric = "accuracy" if "test_accuracy" in next(iter(data["mean"].values())) else "auc"
    alone = data["seeds"][0]["strategies"] if len(data["seeds"]) == 1 else None  # of one seed there is an interval
    rows = []
    for name, one in data["mean"].items():
        accuracy, loss, lost = one["masked_item_accuracy"], one["masked_item_loss"], one["share_destroyed"]
        rows.append(
            [
                f"`{name}`",
                f"{share(accuracy['before'])} to {share(accuracy['after'])}",
                "-" if lost is None else f"{max(0.0, lost):.0%}",
                f"{loss['before']:.2f} to {loss['after']:.2f}",
                share(one[f"validation_{metric}"]),
                share(one[f"test_{metric}"]) + (f" [{between(alone[name][f'test_{metric}'])}]" if alone else ""),
            ]
        )
    words = "AUC" if metric == "auc" else metric
    header = ["strategy", "masked-token accuracy", "destroyed", "its loss", f"{words} on validation", "on test"]
    return _grid(header, sorted(rows, key=lambda row: row[4]))


def stability(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of stability: mean and standard deviation over the trainings, by what is kept of them."""
    figures = ("validation_bert", "validation_teacher", "test_bert", "test_teacher")
    rows = [
        [setting if setting == "as configured" else f"`{setting}`", way, *(_scattered(found[figure]) for figure in figures)]
        for setting, ways in data["settings"].items()
        for way, found in ways.items()
    ]
    return _grid(["setting", "weights", "BERT on validation", "teacher on validation", "BERT later", "teacher later"], rows)


def _scattered(entry: Mapping[str, Any]) -> str:
    return share(entry["mean"]) + (f" ({share(entry['deviation'])})" if entry["deviation"] is not None else "")


def next_items(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of next items: ours beside published figures."""
    rows = []
    for one in data["sets"]:
        error = f"{share(one['mean']['hr@10'])} (standard error {share(one['standard_error_of_hr@10_over_users'])})"
        rows.append([one["set"], f"{one['users']:,}", "ctr_kd", error, share(one["mean"]["ndcg@10"])])
        if one.get("student"):
            taught = sum("student" in run for run in one["seeds"])
            label = "its light student" + (
                "" if taught == len(one["seeds"]) else " (of the first seed)" if taught == 1 else f" ({taught} seeds)"
            )
            rows.append([one["set"], "", label, share(one["student"]["hr@10"]), share(one["student"]["ndcg@10"])])
        rows += [[one["set"], "", name, share(found["hr@10"]), share(found["ndcg@10"])] for name, found in one["published"].items()]
    return _grid(["set", "users", "model", "HR@10", "NDCG@10"], rows)


def next_item_seeds(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of next items: ours by seed."""
    keys = ("validation_hr@10", "validation_ndcg@10", "hr@10", "ndcg@10")
    rows = [
        [one["set"], str(run["seed"]), *(share(run[key]) for key in keys), plain(run["seconds"])]
        for one in data["sets"]
        for run in one["seeds"]
    ]
    return _grid(["set", "seed", "HR@10 on validation", "NDCG@10", "HR@10 on test", "NDCG@10", "seconds"], rows)


def released_teachers(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of a released teacher: here, by transformers, and the ratio of their speeds."""
    rows = []
    for name, one in data["sets"].items():
        for who in ("here", "transformers"):
            ratio = f"{one['speed_ratio']:.2f}" if who == "here" else "1"
            rows.append([name, who, share(one[who]["validation"]), share(one[who]["test"]), ratio])
        less = one["here_less_transformers"]
        rows.append([name, "difference", signed(less["validation"]), signed(less["test"]), ""])
    return _grid(["set", "fine-tuned", "validation", "test", "steps a second, ratio"], rows)


def negatives(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of negatives: ranks by the loss over the items."""
    rows = []
    for name, one in data["losses"].items():
        less = one.get("hr@10_less_softmax")
        apart = "-" if less is None else f"{signed(less['mean'])} [{signed(less['interval'][0])}, {signed(less['interval'][1])}]"
        rows.append([name, share(one["hr@10"]), apart, share(one["ndcg@10"]), plain(one["training_seconds"])])
    return _grid(["loss over the items", "HR@10", "less softmax", "NDCG@10", "seconds"], rows)


def mixtures(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of text teachers: mixtures out of fold and on validation."""
    rows = [
        [name, *(cell for part in ("out_of_fold", "validation") for cell in (share(one[part]["accuracy"]), share(one[part]["log_loss"])))]
        for name, one in data["mixtures"].items()
    ]
    return _grid(["teachers", "accuracy out of fold", "log loss", "accuracy on validation", "log loss"], rows)


def defaults(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of the defaults: every log with its models, and what distillation and what ships are worth."""
    names = ("teacher", "student", "student_alone", "shipped", "instead")
    rows = []
    for name, one in data["logs"].items():
        ends = [f"{one['rows'][split]:,}" for split in ("train", "test")]
        values = [share(one["models"][model]["value"]) for model in names]
        gains = [difference(one["differences"][pair]) for pair in ("student-student_alone", "shipped-instead")]
        rows.append([name, *ends, "AUC" if one["metric"] == "auc" else one["metric"], *values, *gains, f"{one['minutes']:.1f}"])
    header = ["log", "training rows", "test rows", "metric", "teacher", "student", "student alone", "ships", "instead"]
    return _grid([*header, "student less student alone", "what ships less instead", "minutes"], rows)


def defaults_summary(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of the defaults: means over the logs, and on how many a difference is above zero or below its bound."""
    rows = []
    for pair, one in data["summary"].items():
        if pair == "reached":
            continue
        first, second = pair.split("-")
        mean = f"{signed(one['mean'])} [{signed(one['low'])}, {signed(one['high'])}]"
        reached = plain(data["summary"]["reached"][pair])
        rows.append([f"{_words(first)} less {_words(second)}", mean, f"{one['above']} of {one['logs']}", plain(one["below"]), reached])
    return _grid(["", "mean over the logs", "above zero", "below the bound", "target reached"], rows)


def defaults_tuned(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of the defaults: logs that were tuned by hand as well."""
    rows = [
        [name, share(one["models"]["shipped"]["value"]), share(one["tuned"]["value"]), difference(one["tuned"]["defaults-tuned"])]
        for name, one in data["logs"].items()
        if "tuned" in one
    ]
    return _grid(["log", "ships by default", "ships after tuning by hand", "default less tuned"], rows or [["none", "-", "-", "-"]])


def runs(data: Mapping[str, Any]) -> list[str]:
    """A list of runs: what they share is the header."""
    listed: list[dict[str, Any]] = data["runs"]
    keys = list(dict.fromkeys(key for run in listed for key in run))
    return _grid([_words(key) for key in keys], [[plain(run.get(key)) for key in keys] for run in listed])


def values(data: Mapping[str, Any]) -> list[str]:
    """Everything but the command and the lists of a result, one figure a row."""
    left_out = ("command", "who", "goal_ratio")  # the last: how far a bound that the benchmark asks for is passed
    rows = [(key, value) for key, value in flat(data) if key.rpartition(".")[2] not in left_out and not isinstance(value, list)]
    return _grid(["", ""], [[_words(key).replace(".", ", "), plain(value)] for key, value in rows])


def teachers_speed(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of scoring: rows per second of students, and how many times those of a teacher."""
    measured = ("teacher_shared_histories", "teacher_row_by_row", "bert_base_shared_histories", "bert_base_row_by_row")
    students = [key for key in data if f"{key}_over_{measured[0]}" in data]
    rows = [[f"`{name}`", plain(data[name]), *(f"{plain(data[f'{name}_over_{one}'])} times" for one in measured)] for name in students]
    header = ["student", "rows/s, one thread", *(f"{_words(one)} ({plain(data[one])} rows/s)" for one in measured)]
    return _grid(header, rows)


def requests(data: Mapping[str, Any]) -> list[str]:
    """Of the benchmark of serving: milliseconds of a request."""
    rows = [
        [f"`{kind}`, {way}", *(f"{one[key]:.1f}" for key in ("p50", "p95", "p99"))]
        for kind, ways in data.items()
        if isinstance(ways, Mapping)
        for way, one in ways.items()
    ]
    return _grid([f"one history of {data['history']} clicks, {data['candidates']} candidates", "p50, ms", "p95", "p99"], rows)


def overview(names: Sequence[str]) -> list[str]:
    """Of several proofs: one line each."""
    rows = []
    for name in names:
        data = load_result(name)
        metric = "accuracy" if "accuracy" in data["models"]["student"] else "auc"
        three = [share(data["models"][one][metric]["value"]) for one in ("teacher", "student", "student_alone")]
        configuration = data["run"]["configuration"]["name"]
        compared, trees = difference(data["comparisons"]["student-student_alone"][metric]), data["comparisons"].get("student-boosted_trees")
        counts = str(len(data["seeds"])), str(len(data.get("teacher_seeds", [0])))
        rows.append(
            [
                f"`conf/{configuration}.yaml`",
                "AUC" if metric == "auc" else metric,
                *counts,
                *three,
                compared,
                "-" if trees is None else difference(trees[metric]),
            ]
        )
    header = ["configuration", "metric", "student seeds", "teacher seeds", "teacher", "student", "student alone"]
    return _grid([*header, "student less student alone", "student less boosted trees"], rows)


def privileged(data: Mapping[str, Any]) -> list[str]:
    """What a column gives that the teacher alone reads."""
    rows = []
    for name, models in data["auc"].items():
        student, alone = (share(models[one]["value"]) for one in ("student", "student_alone"))
        rows.append([f"`{data['column']}`: {name}", student, alone, difference(data["gain"]) if name == "teacher reads it" else "-"])
    return _grid(["", "student", "student alone", "less the student of a teacher that does not"], rows)


TABLES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    **{
        one.__name__: one
        for one in (
            models,
            comparisons,
            seeds,
            teachers,
            arms,
            privileged,
            nights,
            ablation,
            amounts,
            sweep,
            peers,
            peer_differences,
            tuning,
        )
    },
    **{
        one.__name__: one
        for one in (finetuning, stability, next_items, next_item_seeds, released_teachers, negatives, mixtures, runs, values)
    },
    **{one.__name__: one for one in (teachers_speed, requests, defaults, defaults_summary, defaults_tuned)},
}


if __name__ == "__main__":
    main()
