"""Commands beside the pipeline: what statistics and the encoder tell, what distillation gives, which student and values to choose."""

from __future__ import annotations

from dataclasses import replace

import click

from ctr_kd.training.distributed import launched
from pipelines.cli.options import Length, Options, Place, common
from pipelines.cli.session import say_what_was_done, session
from pipelines.stages import PIPELINE, TO_TEACHER, features, next_item


@click.command("features")
@common
def features_command(options: Options) -> None:
    """Show what each statistic tells by itself: meaning, nulls, quantiles, AUC and drift, on the rows of training and of validation.

    The AUC is that of ranking by one column and nothing else, .5 for one that tells nothing; the columns are in the order of it on
    validation. Its direction is that of training: below .5 on validation, the column turned around. Rows without a value are in no AUC;
    their share stands beside it. A column with an AUC of .95 or more has seen the click, and a line says so: mend that before you train.
    Drift is the population stability index between both windows; above .25 the column is another one by now. Dense context columns are
    among them. Test rows are not looked at. Writes reports/features/features.json and features.html.

    \b
    Examples:
      ctr-kd features conf/simulated.yaml
      ctr-kd features conf/globo.yaml --data data/globo --workspace work/globo
      ctr-kd features conf/globo.yaml --workspace work/globo --set "statistics.windows=[10m, 1h, 1d]"      tries other windows
    """
    options.config().need_clicks()
    with session("features", options.starting("cold"), [PIPELINE[0], features.STAGE]) as runner:
        say_what_was_done(runner.run(options.first or "features", options.last or "features", options.force))
        if features.STAGE.name in runner.context.artifacts:
            click.echo(features.features_table(runner.context))


@click.command("next-item")
@common
@click.option("--student", is_flag=True, help="Distil the encoder into a light student, too, and rank by that; see next_item.student.")
def next_item_command(options: Options) -> None:
    """Rank what users clicked next among all items by the pretrained encoder: HR@k, NDCG@k and MRR.

    The target is a user's last click in the test window, ranked on the clicks before it; with a leave-one-out split that is
    everyone's last item. The same is measured on the validation window: choose configurations by that.

    \b
    Examples:
      ctr-kd next-item conf/s3rec.yaml --data data/s3rec --workspace work/beauty
      ctr-kd next-item conf/s3rec.yaml --data data/s3rec --set source.name=LastFM --workspace work/lastfm
      ctr-kd next-item conf/globo.yaml --workspace work/globo --set next_item.exclude_history=false
      ctr-kd next-item conf/s3rec.yaml --workspace work/beauty --student      and by a light student, whose files need no torch
    """
    options.config().need_clicks()
    pipeline = [*(stage for stage in PIPELINE if stage.name in next_item.STAGE.upstream), next_item.STAGE]
    pipeline += [next_item.STUDENT_STAGE] if options.more["student"] else []
    newest = pipeline[-1].name
    with session("next-item", options.starting("cold"), pipeline) as runner:
        say_what_was_done(runner.run(options.first or newest, options.last or newest, options.force))
        if next_item.STAGE.name in runner.context.artifacts:
            click.echo(next_item.next_item_table(runner.context))
        if next_item.STUDENT_STAGE.name in runner.context.artifacts:
            click.echo(next_item.next_item_student_table(runner.context))


@click.command("prove")
@common
@click.option("--seeds", type=click.IntRange(1, 100), help="Number of student seeds [default: prove.seeds, 5]")
@click.option("--teachers", type=click.IntRange(1, 100), help="Number of teacher seeds [default: prove.teachers, 1]")
def prove_command(options: Options) -> None:
    """Prove what distillation gives: student and student alone with several seeds, under one teacher or several, and an ablation.

    Beside them stand the arms of prove.arms: the run with other keys, from its rows to its student, on the same test rows.

    Differences are paired; their intervals resample users, and as blocks the seeds of students and of teachers. With one teacher they
    leave out what another would give; --teachers 3 makes three, each from pretraining on, and trains the students under each of them.
    The ablation stays under the first. Every teacher and student is an artifact of its own: a proof that was stopped goes on where it
    was, and one with more seeds or teachers trains only those. --force trains the students again, not the teachers. Where distillation
    does not help, the first sentence says so. Writes prove.json and prove.html beside the report of the run of the same configuration,
    or into reports/latest where no run has a report.

    \b
    Examples:
      ctr-kd prove conf/globo.yaml --workspace work/globo --data data/globo --seeds 5
      ctr-kd prove conf/globo.yaml --workspace work/globo --seeds 5 --teachers 3                        intervals that cover teachers too
      ctr-kd prove conf/globo.yaml --workspace work/globo --seeds 3 --set prove.ablation=[]             the verdict alone
      ctr-kd prove conf/globo.yaml --workspace work/globo --set "prove.ablation=[soft, hints]"          these parts switched on and off
      ctr-kd prove conf/globo.yaml --workspace work/globo --set "prove.amounts=[0.5, 1, 3]"             the transfer set by its amount
      ctr-kd prove conf/globo.yaml --workspace work/globo --set "prove.arms=[{name: long, set: {history.max_length: 200}}]"   an arm
    """
    from pipelines.experiments import prove

    counts = [f"prove.{name}={options.more[name]}" for name in ("seeds", "teachers") if options.more[name]]
    options = replace(options, overrides=(*options.overrides, *counts))
    _refuse_stage_range(options, "prove")
    with session("prove", options.starting("cold"), TO_TEACHER) as runner:
        click.echo(prove.prove(runner, options.force))


@click.command("sweep")
@common
def sweep_command(options: Options) -> None:
    """Train a grid of students under one teacher and draw the frontier: AUC (of classes: accuracy) against rows per second and bytes.

    Which students are on the frontier is decided on validation; their figures are those of the test rows. Every student is an artifact
    of its own, shared with `prove`: a sweep that was stopped goes on, and a larger grid trains only what is new. --force trains
    the students again, not the teacher. Writes sweep.json and sweep.html beside the report of the run of the same configuration, or into
    reports/latest where no run has a report.

    \b
    Examples:
      ctr-kd sweep conf/globo.yaml --workspace work/globo --data data/globo
      ctr-kd sweep conf/globo.yaml --workspace work/globo --set "sweep.kinds=[pooled, din]" --set "sweep.widths=[8, 32, 128]"
    """
    from pipelines.experiments import sweep

    _refuse_stage_range(options, "sweep")
    with session("sweep", options.starting("cold"), TO_TEACHER) as runner:
        click.echo(sweep.sweep(runner, options.force))


@click.command("tune")
@common
@click.option(
    "--budget", type=Length(), required=True, help="Time for the whole search, such as 20m or 2h; what an earlier one used counts."
)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Trials at once, each in a process of its own.")
@click.option("--output", type=Place(dir_okay=False), help="The tuned configuration [default: CONF's name with .tuned.yaml]")
def tune_command(options: Options) -> None:
    """Search for better values of the configuration's own keys on validation, within a time, and write CONF.tuned.yaml with what won.

    The first trial is the configuration as it is. Each further one changes keys of pretraining, fine-tuning, distillation and student
    (those of tune.space, or some that matter most), and makes only the stages that these keys shape: most change a few keys of a good
    trial, and two in three keep its teacher and train a student alone. Trainings that say less than others did are stopped early
    (tune.pruner). The last 30 % of the time are for the finals: the best trials (tune.finalists) and the configuration as it is are
    trained anew with seeds that the search did not see (tune.seeds). What wins replaces the configuration only if it is better there in
    the mean; the file says by how much, and whether that is beyond chance. No test row is read: run the tuned file once to see what it
    is worth on them.

    A search that was stopped goes on with the same command, and one with a larger budget goes on from where it was; --force begins it
    anew, on the same artifacts. A trial that diverges, is killed or runs out of memory is recorded, and the search goes on. A file that was
    edited since tune wrote it is not replaced. Writes reports/tune/tune.json and tune.html; MLflow has a run per trial.

    \b
    Examples:
      ctr-kd tune conf/simulated.yaml --budget 20m
      ctr-kd tune conf/globo.yaml --workspace work/globo --budget 8h --processes 4
      ctr-kd tune conf/mine.yaml --budget 2h --set tune.bytes_max=200000 --set tune.rows_per_second_min=50000      at a bound of cost
      ctr-kd tune conf/mine.yaml --budget 1h --set "tune.space={distill.alpha: {low: 0.1, high: 0.9}}"             these keys alone
      ctr-kd run conf/mine.tuned.yaml                                                                              what it gives on test
    """
    from pipelines.experiments.tune import tune
    from pipelines.experiments.tuning.search import Asked
    from pipelines.experiments.tuning.tuned_file import tuned_path

    _refuse_stage_range(options, "tune")
    if launched()[1] > 1:
        raise click.UsageError("tune starts its own processes: leave out torchrun, and name --processes")
    more = options.more
    asked = Asked(
        conf=options.conf,
        output=more["output"] or tuned_path(options.conf),
        overrides=options.overrides,
        budget=more["budget"],
        processes=more["processes"],
        anew=options.force,
        log_format=options.log_format,
    )
    with session("tune", options.starting("cold"), PIPELINE[:1]) as runner:
        click.echo(tune(runner, asked))


def _refuse_stage_range(options: Options, command: str) -> None:
    if options.first or options.last:
        raise click.UsageError(
            f"{command} compares what it has trained, to its end: leave out --from and --until (`ctr-kd run` takes them)"
        )
