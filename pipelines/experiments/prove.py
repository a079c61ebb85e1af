"""Stage prove: what distillation gave over several seeds, under one teacher or several, and what each part of it gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctr_kd.evaluation.several_seeds import Seeded, measure_seeds, seed_differences, seed_means
from ctr_kd.evaluation.transfer_ratio import transfer_ratio as ratio_with_interval
from feature_store.tables.json_files import write_json, write_text
from pipelines.config.run import RunConfig, privileged
from pipelines.experiments.ablations import ablation_variants, alone, amount_key, by_amount
from pipelines.experiments.arms import Measure, TrainedArm, arm_figures, arms_of, train_arms
from pipelines.experiments.comparison import Comparison, Taught, compare, compared_rows, teach
from pipelines.metrics import RunFacts, mark_privileged
from pipelines.tasks import Rows, task_of
from pipelines.tasks.baselines import fitted_library
from pipelines.tasks.logits import stored_probabilities
from pipelines.training.baselines import Costs, baseline_scores
from pipelines.training.costs import combined_costs, student_costs
from pipelines.training.facts import StudentFacts, TeachersFacts
from pipelines.training.proofs import FILE, PAGE
from pipelines.training.shipping import transfer_ratio
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.reports import experiment_directory
from pipelines.workspace.runner import Runner

PAIRS = (("student", "student_alone"), ("student", "teacher"), ("teacher", "student_alone"))


def prove(runner: Runner, force: bool = False) -> str:
    """Bring the teachers, every student and the proof up to date; returns the table of the result.

    Parameters
    ----------
    runner : Runner
        Of :data:`pipelines.stages.TO_TEACHER`.
    force : bool
        Train the students again even where they are up to date; the teachers and their transfer sets stay.
    """
    wanted, arms = students(runner.context.config), arms_of(runner.context.config)  # before anything is trained
    read = fitted_library(runner.context)
    runner.run()
    taught = teach(runner, wanted, force)
    trained = train_arms(runner, arms, taught, force)
    for one in trained:
        read |= one.made_from

    def measure(context: StageContext, taught: Sequence[Taught]) -> None:
        compare_students(context, taught, trained)

    compare(runner, Comparison("prove", wanted, measure, (FILE, PAGE), read), taught)
    return proof_table(runner.context)


def student_seeds(config: RunConfig) -> list[int]:
    """Seeds of student and student alone."""
    return list(range(config.seed, config.seed + config.prove.seeds))


def teacher_seeds(config: RunConfig) -> list[int]:
    """Seeds of the teachers; the first is the run's own."""
    return list(range(config.seed, config.seed + config.prove.teachers))


def students(config: RunConfig) -> dict[int, dict[str, RunConfig]]:
    """All students of a proof, by the seed of their teacher and by ``NAME/SEED``.

    Under the first teacher stand the pairs that the verdict is of, and after them the ablation and the amounts. Under each other teacher
    stands the student, and not the student alone, which learns from none.
    """
    amounts = {title: by_amount(config)[amount] for amount, title in amount_titles(config).items()}
    variants = {"student": config, "student_alone": alone(config), **ablation_variants(config)[0], **amounts}
    pairs = [(name, seed) for seed in student_seeds(config) for name in ("student", "student_alone")]
    others = [(name, seed) for name in variants if name not in ("student", "student_alone") for seed in student_seeds(config)]
    first = {f"{name}/{seed}": variants[name].model_copy(update={"seed": seed}) for name, seed in (*pairs, *others)}
    taught = {title: first[title] for title in (f"student/{seed}" for seed in student_seeds(config))}
    return {seed: first if seed == config.seed else taught for seed in teacher_seeds(config)}


def amount_titles(config: RunConfig) -> dict[float, str]:
    """Title of the student with each amount of the transfer set, least first; one that is a variant already has that one's."""
    known = {"student": config, **ablation_variants(config)[0]}
    return {
        amount: next((title for title, variant in known.items() if variant == one), f"amount {amount!r}")
        for amount, one in by_amount(config).items()
    }


def compare_students(context: StageContext, taught: Sequence[Taught], arms: Sequence[TrainedArm] = ()) -> None:
    """Compare all students on the test rows; writes ``prove.json`` and ``prove.html``."""
    from ctr_kd.report import WORDS, quality, render_proof, verdict

    config, settings = context.config, context.config.evaluate
    test, rows, bootstrap = compared_rows(context)

    seeds, trained = student_seeds(config), taught[0].students
    beside, costs_beside = _beside(context, taught, test)

    def measure(files: Sequence[Sequence[Path]]) -> dict[str, Seeded]:
        """By metric, what each teacher seed and each student seed has on the test rows."""
        scores = [[stored_probabilities(file, test.negative_sampling_rate) for file in of_teacher] for of_teacher in files]
        return measure_seeds(rows.label, scores, bootstrap, rows.weight, rows.row_weight)

    measured = _measured(config, taught, measure)
    measured |= {name: measure_seeds(rows.label, scores, bootstrap, rows.weight, rows.row_weight) for name, scores in beside.items()}
    means = {name: seed_means(one, settings.seed) for name, one in measured.items()}
    models = {name: {metric: mean.to_json() for metric, mean in one.items()} for name, one in means.items()}
    mark_privileged(models, task_of(config).privileged(context.inputs["ingest"]))
    main = quality({"models": models})
    for name, one in means.items():
        context.report(f"{name}: {WORDS[main]} {one[main].value:.4f} over {measured[name][main].value.size} trainings")

    def against(one: Mapping[str, Seeded], other: Mapping[str, Seeded]) -> dict[str, Any]:
        """By metric: one model minus another."""
        return {metric: found.to_json() for metric, found in seed_differences(one, other, settings.seed).items()}

    under_arms = [one for arm in arms for one in arm.taught]
    teacher, student, without = (measured[name][main] for name in ("teacher", "student", "student_alone"))
    reached = ratio_with_interval(teacher, student, without, settings.seed)
    named = ("teacher", *(f"teacher/{name}" for name in _members(config)), "student", "student_alone", *beside)
    costs = student_costs(trained[f"student/{seeds[0]}"], test)
    of_model = {"teacher": combined_costs(context), "student": costs, "student_alone": costs}  # the same graph with other numbers
    of_model |= costs_beside
    pairs = (*PAIRS, *(("student", name) for name in (*(f"teacher/{name}" for name in _members(config)), *beside)))
    (variants, impossible), amounts = ablation_variants(config), amount_titles(config)
    under_first = {name: {metric: one.under_first for metric, one in measured[name].items()} for name in measured}
    figures = {
        name: {
            **{metric: mean.to_json() for metric, mean in seed_means(under_first[name], settings.seed).items()},
            "against_student": against(under_first[name], under_first["student"])[main],
            "against_student_alone": against(under_first[name], measured["student_alone"])[main],
        }
        for name in {"student", *variants, *amounts.values()}
    }
    proof: dict[str, Any] = {
        "run": RunFacts.of(context).to_json() | {"seed": config.seed, "trained": sum(len(one.students) for one in (*taught, *under_arms))},
        "seeds": seeds,
        "teacher_seeds": teacher_seeds(config),
        "interval_covers": [
            "users" if bootstrap.by_user else "rows",
            *(["student seeds"] if len(seeds) > 1 else []),
            *(["teacher seeds"] if len(taught) > 1 else []),
        ],
        "data": {"test_rows": len(rows.label), "users": bootstrap.units},
        "privileged": privileged(config),
        "models": {name: models[name] | of_model.get(name, {}) for name in named},
        "comparisons": {f"{one}-{other}": against(measured[one], measured[other]) for one, other in pairs},
        "transfer_ratio": transfer_ratio(models, main),
        "transfer_ratio_interval": reached.to_json(),
        "under_first_teacher": figures["student"],
        "ablation": [{"name": name, **figures[name]} for name in variants],
        "amounts": {
            "key": f"distill.{amount_key(config)}",
            "points": [
                {
                    "amount": amount,
                    "configured": name == "student",
                    "rows": _transfer_rows(trained[f"{name}/{seeds[0]}"]),
                    f"validation_{main}": _on_validation([trained[f"{name}/{seed}"] for seed in seeds]),
                    **figures[name],
                }
                for amount, name in amounts.items()
            ],
        },
        "not_possible": impossible,
        "arms": [arm_figures(one, measure, measured["student"], main, settings.seed) for one in arms],
    }
    said = verdict(proof)
    proof["verdict"] = {"effect": said.effect, "sentence": said.sentence}
    write_json(context.output / FILE, proof)
    write_text(context.output / PAGE, render_proof(proof))
    gain = proof["comparisons"]["student-student_alone"][main]
    context.record({"gain": gain["difference"], "gain_low": gain["low"], "gain_high": gain["high"]})


def _measured(config: RunConfig, taught: Sequence[Taught], measure: Measure) -> dict[str, dict[str, Seeded]]:
    """By model and metric, what each teacher seed and each student seed has on the test rows."""
    seeds = student_seeds(config)
    measured = {"teacher": measure([[one.teacher / "predictions_test.parquet"] for one in taught])}
    for name in _members(config):
        measured[f"teacher/{name}"] = measure([[one.teacher / f"predictions_teacher_{name}_test.parquet"] for one in taught])
    for name in dict.fromkeys(title.rpartition("/")[0] for title in taught[0].students):
        under = taught if name == "student" else taught[:1]
        measured[name] = measure([[one.students[f"{name}/{seed}"] / "predictions_student_test.parquet" for seed in seeds] for one in under])
    return measured


def _beside(context: StageContext, taught: Sequence[Taught], test: Rows) -> tuple[dict[str, list[list[NDArray]]], Costs]:
    """What the boosted trees say of the test rows, by teacher seed where they teach, and what they cost; of rows that have such."""
    alike = not task_of(context.config).privileged(context.inputs["ingest"])
    seeds = taught if alike and "boosted_trees" in context.config.distill.teacher_weights else taught[:1]
    found = [baseline_scores(context, test, ("boosted_trees",), one.teacher, TeachersFacts.read(one.teacher)) for one in seeds]
    return {name: [[scores[name]] for scores, _ in found] for name in found[0][0]}, found[0][1]


def _members(config: RunConfig) -> list[str]:
    """Names of the teachers, where there are several that speak together."""
    return list(config.distill.teacher_weights) if len(config.distill.teacher_weights) > 1 else []


def _transfer_rows(artifact: Path) -> int:
    """Rows of the transfer set that a student had, which may be fewer than it was to have."""
    transfer = StudentFacts.read(artifact).transfer
    return 0 if transfer is None else transfer.rows


def _on_validation(artifacts: Sequence[Path]) -> float | None:
    """Mean over the seeds of the figure by which each student's checkpoint was kept."""
    kept = [StudentFacts.read(artifact).curve.kept_figure[1] for artifact in artifacts]
    known = [value for value in kept if value is not None]
    return float(np.mean(known)) if len(known) == len(kept) else None


def proof_table(run: RunContext) -> str:
    """The verdict, both students and the teachers by seed, the ablation, the amounts of a transfer set, and where the page is."""
    from ctr_kd.report import WORDS, coverage, quality

    proof: Mapping[str, Any] = read_json(run.artifacts["prove"].path / FILE) or {}
    main = quality(proof)
    under = f"  (under teacher seed {proof['teacher_seeds'][0]} alone)" if len(proof["teacher_seeds"]) > 1 else ""
    pair = proof["comparisons"]["student-student_alone"][main]
    student, other = (proof["models"][name][main]["seeds"] for name in ("student", "student_alone"))
    lines = [
        proof["verdict"]["sentence"],
        coverage(proof["interval_covers"]),
        "",
        f"{'seed':<28}{'student':>9}{'alone':>9}{'difference':>12}",
    ]
    for seed, one, two, gain in zip(proof["seeds"], student, other, pair["seeds"], strict=True):
        lines.append(f"{seed:<28}{one:>9.4f}{two:>9.4f}{gain:>+12.4f}")
    lines.append(f"{'mean':<28}{np.mean(student):>9.4f}{np.mean(other):>9.4f}{pair['difference']:>+12.4f}")
    lines += _arm_lines(proof, main)
    lines += _teacher_lines(proof, main)
    lines += ["", f"{'beside':<28}{WORDS[main]:>9}{'the student against it':>33}"]
    beside = {}
    for name in (name for name in proof["models"] if name.split("/")[0] in ("teacher", "boosted_trees")):
        more = " (privileged)" if proof["models"][name].get("privileged") else ""
        beside[name.removeprefix("teacher/") + more] = name
    for name, model in beside.items():  # trees that teach too have one line, unless they read more as teachers
        lines.append(_line(name, proof["models"][model][main], proof["comparisons"][f"student-{model}"][main]))
    if proof["ablation"]:
        lines += ["", f"{'changed':<28}{WORDS[main]:>9}{'against the student':>33}{under}"]
    lines += [_line(one["name"], one[main], one["against_student"]) for one in proof["ablation"]]
    lines += [f"{name:<28}{'–':>9}  {reason}" for name, reason in proof["not_possible"].items()]
    points = proof["amounts"]["points"]
    if points:
        lines += [
            "",
            f"{proof['amounts']['key'].partition('.')[2]:<28}{WORDS[main]:>9}{'against the student alone':>33}  validation{under}",
        ]
    for one in points:
        name = f"{one['amount']:g}{' (configured)' if one['configured'] else ''}"
        value = one[f"validation_{main}"]
        lines.append(f"{_line(name, one[main], one['against_student_alone'])}{'–' if value is None else f'{value:.4f}':>12}")
    return "\n".join([*lines, f"report: {experiment_directory(run, 'prove', PAGE) / PAGE}"])


def _arm_lines(proof: Mapping[str, Any], main: str) -> Iterator[str]:
    """Every arm after the configured run: its models, what it gave, and what its student costs."""
    from ctr_kd.report import Figure
    from ctr_kd.report.arms import PRIVILEGED, lines_of

    if not proof["arms"]:
        return
    heads = f"{'teacher':>9}{'student':>9}{'alone':>9}{'over alone':>29}{'over configured':>29}{'of the lead':>24}{'rows/s':>12}{'kB':>8}"
    yield from ("", f"{'arm':<28}{heads}")
    for one in lines_of(proof):
        values = (f"{one['models'][name][main]['value']:>9.4f}" for name in ("teacher", "student", "student_alone"))
        pairs = (one["comparisons"].get(pair) for pair in ("student-student_alone", "student-configured"))
        differences = (f"{'–' if pair is None else _interval(pair[main]):>29}" for pair in pairs)
        student, reached = one["models"]["student"], Figure.of(one["transfer_ratio_interval"]).percent()
        speed = f"{student['rows_per_second']:,.0f}" if student["rows_per_second"] else "–"
        costs = f"{reached:>24}{speed:>12}{student['bytes'] / 1000:>8,.0f}"
        yield f"{one['name']:<28}{''.join(values)}{''.join(differences)}{costs}{f'  {PRIVILEGED}' if one['privileged'] else ''}"


def _teacher_lines(proof: Mapping[str, Any], main: str) -> Iterator[str]:
    """Of several teachers what each is worth, and what its students are."""
    names = ("teacher", "student")
    columns = [proof["models"][name][main] for name in names] + [proof["comparisons"]["student-student_alone"][main]]
    if len(proof["teacher_seeds"]) == 1:
        return
    yield from ("", f"{'teacher seed':<28}{'teacher':>9}{'student':>9}{'against alone':>15}")
    for seed, *values in zip(proof["teacher_seeds"], *(one["teachers"] for one in columns), strict=True):
        yield f"{seed:<28}{values[0]:>9.4f}{values[1]:>9.4f}{values[2]:>+15.4f}"
    deviations = [one["teachers_std"] for one in columns]
    yield f"{'standard deviation':<28}{deviations[0]:>9.4f}{deviations[1]:>9.4f}{deviations[2]:>15.4f}"


def _line(name: str, figure: Mapping[str, Any], difference: Mapping[str, Any]) -> str:
    return f"{name:<28}{figure['value']:>9.4f}{_interval(difference):>33}"


def _interval(difference: Mapping[str, Any]) -> str:
    return f"{difference['difference']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
