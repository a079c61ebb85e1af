"""The command line: what a person or a scheduler types, and the exit code and the one line that a failure ends in."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NoReturn

import click
from rich.console import Console as Screen

from ctr_kd.training.distributed import launched
from feature_store import __version__
from feature_store.tables.plain_text import plain
from pipelines.cli.backtest import backtest_command
from pipelines.cli.experiments import features_command, next_item_command, prove_command, sweep_command, tune_command
from pipelines.cli.init import check_command, init_command
from pipelines.cli.neighbours import neighbours_table
from pipelines.cli.options import Date, Options, Source, common, set_debug
from pipelines.cli.profile import profile_table
from pipelines.cli.prune import prune_command
from pipelines.cli.refresh import refresh_command
from pipelines.cli.registry import promote_command, rollback_command
from pipelines.cli.schedule import backfill_command, monitor_command
from pipelines.cli.serving import serve_command
from pipelines.cli.session import ensure_model, say_what_was_done, session
from pipelines.cli.status import first_damage, status
from pipelines.cli.teachers import teachers_command
from pipelines.cli.ui import ui_command
from pipelines.config.run import describe
from pipelines.errors import BoundBroken, ConfigError, GateRefused
from pipelines.exit_codes import exit_code, explain
from pipelines.metrics import Metrics
from pipelines.pruning import prune_after_run
from pipelines.scoring.labelled_files import evaluate_file
from pipelines.scoring.remote_files import local_file, score_files
from pipelines.stages import PIPELINE, TO_EMBEDDINGS
from pipelines.stages.score import scores_of
from pipelines.tasks.texts import with_tokenizers
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage
from pipelines.workspace.reports import report_directory
from pipelines.workspace.runner import Runner
from pipelines.workspace.stopwatch import Stopwatch


class _InOrder(click.Group):
    """Lists its commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="%(version)s")
@click.option("--debug", is_flag=True, expose_value=False, is_eager=True, help="Show a traceback on failure.", callback=set_debug)
def cli() -> None:
    """Distil a BERT over click histories into a student that is light enough to serve, from raw log to scores.

    One YAML file describes a run; one workspace holds all that it makes of one log. Stages, in order: ingest, pretrain, finetune,
    distill, evaluate, register, score. A second run does only what is missing, and a killed run continues.

    The configurations of conf/ come with the program: where CONF is no file, simulated or conf/simulated.yaml reads the one of that name.

    \b
    Examples:
      ctr-kd run conf/simulated.yaml
      ctr-kd run conf/globo.yaml --data data/globo --workspace work/globo
      ctr-kd run conf/globo.yaml --workspace work/globo --set distill.student.kind=bilstm --from distill
      ctr-kd score conf/globo.yaml --workspace work/globo --date 2017-10-11
      ctr-kd status conf/globo.yaml --workspace work/globo
      torchrun --nproc-per-node=2 -m pipelines pretrain conf/simulated.yaml        on two processes; the same result

    \b
    Exit codes:
      0 done, or nothing to do      3 the data broke its contract                        5 another run holds the workspace
      2 configuration or usage      4 the gate refused, or a bound is broken             1 anything else
    """


cli.add_command(init_command)
cli.add_command(check_command)


@cli.command("run")
@common
@click.option("--warm", is_flag=True, help="Continue from the last champion on what is new [default: training.start]")
def run_command(options: Options) -> None:
    """Do the whole pipeline: raw log, teacher, student, registry, scores.

    What is up to date is skipped. Ends with the result table, the place of the report, and the verdict: what distillation gave, and which
    student ships.

    A warm run costs what is new: encoder, teacher and student continue from the last champion on the rows since its training ended, and on
    some older ones (warm.replay), more slowly (warm.learning_rate). Without a champion, and every warm.restart_every, it begins cold.

    \b
    Examples:
      ctr-kd run conf/simulated.yaml
      ctr-kd run conf/globo.yaml --workspace work/globo --data data/globo --until evaluate
      ctr-kd run conf/globo.yaml --workspace work/globo --from finetune --force        makes these stages again
      ctr-kd run conf/globo.yaml --workspace work/globo --as-of 2017-10-11T20:00       as if it were then
      ctr-kd run conf/mine.yaml --workspace work/mine --warm                           every night, for what is new
    """
    if options.more["warm"]:
        options = options.starting("warm")
    with _session("run", options) as runner:
        failed: GateRefused | BoundBroken | None = None
        try:
            _run_and_show(runner, options, options.first, options.last)
        except GateRefused as refused:
            failed = refused
        try:
            _show_warm_check(runner)
        except BoundBroken as broken:
            if failed is not None:
                click.echo(str(broken))
            failed = failed or broken
        if runner.context.config.retention.after_run and not isinstance(failed, GateRefused):
            prune_after_run(runner.context)
        if failed is not None:
            raise failed


def _show_warm_check(runner: Runner) -> None:
    """Print what warm nights are worth less, on a night that says so."""
    if runner.context.config.training.start == "warm":
        from pipelines.experiments.warm_check import check_warm_nights

        line = check_warm_nights(runner)
        if line is not None:
            click.echo(line)


def _stage_command(name: str, description: str) -> None:
    earlier = "" if name == PIPELINE[0].name else "Earlier stages that are missing run first. "

    @cli.command(name, help=f"{description}\n\n{earlier}--force makes this stage again.")
    @common
    def command(options: Options) -> None:
        with _session(name, options) as runner:
            _run_and_show(runner, options, options.first or name, options.last or name)


for _name, _description in (
    ("ingest", "Read new rows of the raw log into the store, and assemble rows to learn from."),
    ("pretrain", "Train the teacher's encoder to predict masked items of click histories."),
    ("finetune", "Train the teacher: the pretrained encoder with a click head."),
    ("distill", "Train the student on the teacher's logits, and the same student alone."),
):
    _stage_command(_name, _description)


cli.add_command(features_command)
cli.add_command(next_item_command)
cli.add_command(teachers_command)
cli.add_command(prove_command)
cli.add_command(sweep_command)
cli.add_command(tune_command)
cli.add_command(backtest_command)


@cli.command("neighbours")
@common
@click.argument("item")
@click.option("-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many neighbours to print.")
def neighbours_command(options: Options) -> None:
    """Print the items nearest to ITEM by the teacher's embeddings, with similarity, clicks and attributes.

    \b
    Examples:
      ctr-kd neighbours conf/simulated.yaml i00042
      ctr-kd neighbours conf/globo.yaml --workspace work/globo 160974 -k 20
    """
    options.config().need_clicks()
    with _session("neighbours", options, TO_EMBEDDINGS) as runner:
        runner.run(options.first or "finetune", options.last or "finetune", options.force)
        if "finetune" in runner.context.artifacts:
            click.echo(neighbours_table(runner.context, options.more["item"], options.more["k"]))


_input = click.option(
    "--input", "input", type=Source(exists=True, dir_okay=False), metavar="FILE.parquet", help="Rows of your own; a file or a URL."
)
_model = click.option(
    "--model", metavar="URI", help="MLflow model [default: models:/NAME@champion, where NAME is the configuration's name]"
)


@cli.command("evaluate")
@common
@_input
@_model
def evaluate_command(options: Options) -> None:
    """Measure teacher, student and baselines on the test rows, or a model on labelled rows of your own.

    \b
    Examples:
      ctr-kd evaluate conf/simulated.yaml
      ctr-kd evaluate conf/simulated.yaml --input labelled.parquet             column clicked or label
      ctr-kd evaluate conf/simulated.yaml --input labelled.parquet --model models:/simulated/3
    """
    with _session("evaluate", options) as runner:
        if options.more["input"]:
            ensure_model(runner, options.more["model"])
            with local_file(runner.context, options.more["input"]) as file:
                click.echo(evaluate_file(runner.context, file))
        else:
            _run_and_show(runner, options, options.first or "evaluate", options.last or "evaluate")


_stage_command("register", "Register the student as challenger; it becomes champion when it passes the gate.")


@cli.command("score")
@common
@click.option("--date", type=Date(), metavar="YYYY-MM-DD", help="Date whose candidates are scored [default: last date of the test window]")
@_input
@click.option(
    "--output", type=Source(dir_okay=False), metavar="FILE.parquet", help="Where the rows of --input go, with scores; a file or a URL."
)
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Keep the best K rows of each user [default: score.top, all]")
@_model
@click.option(
    "--profile", is_flag=True, help="Print what reading, mapping ids, gathering, the graph, writing and waiting cost, by row and core."
)
def score_command(options: Options) -> None:
    """Score one date's candidates into the workspace, or the rows of a file into another: --input needs --output.

    A file of clicks needs item_id, timestamp, and history or user_id; what else it lacks is joined from the store. A file of texts
    needs text; a model that compares two texts reads text_b too. Texts have no dates: without --input the test texts are scored.

    \b
    Examples:
      ctr-kd score conf/simulated.yaml --date 2024-01-14
      ctr-kd score conf/simulated.yaml --input rows.parquet --output scored.parquet
      ctr-kd score conf/simulated.yaml --input s3://bucket/rows.parquet --output s3://bucket/scored.parquet
      ctr-kd score conf/simulated.yaml --date 2024-01-14 --model models:/simulated/3
      ctr-kd score conf/simulated.yaml --date 2024-01-14 --set score.candidates=retrieve --top 10
      ctr-kd score conf/simulated.yaml --input rows.parquet --output scored.parquet --profile
    """
    if options.more["top"] is not None:
        options = replace(options, overrides=(*options.overrides, f"score.top={options.more['top']}"))
    source, target = options.more["input"], options.more["output"]
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output belong together")
    if source is not None and options.more["date"] is not None:
        raise click.UsageError("--date scores the store's candidates, --input the rows of a file: name one of them")
    with _session("score", options) as runner:
        ensure_model(runner, options.more["model"])
        runner.context.stopwatch = Stopwatch(wanted=options.more["profile"])
        if source is not None:
            click.echo(score_files(runner.context, source, target))
        else:
            _run_and_show(runner, options, options.first or "score", options.last or "score")
            click.echo(f"scores: {scores_of(runner.context).place}")
        if options.more["profile"]:
            click.echo(profile_table(runner.context.stopwatch))


cli.add_command(backfill_command)
cli.add_command(monitor_command)
cli.add_command(refresh_command)


cli.add_command(promote_command)
cli.add_command(rollback_command)
cli.add_command(serve_command)


@cli.command("config")
@common
def config_command(options: Options) -> None:
    """Print the resolved configuration as YAML, every key with its meaning.

    What is auto the log decides, once `ingest` has made rows of it in this workspace; its number is then told beside it.

    \b
    Example:
      ctr-kd config conf/globo.yaml --set history.max_length=50 > conf/longer.yaml
    """
    config = options.config()
    settled = None
    if (options.workspace / "artifacts" / "ingest").is_dir():
        runner = Runner(options.context(config, read_only=True), PIPELINE[:1])
        runner.states()
        settled = runner.context.config
        if config.task == "texts" and "ingest" in runner.context.artifacts:
            settled = with_tokenizers(settled, runner.context.artifacts["ingest"].path)
    click.echo(describe(config, settled), nl=False)


@cli.command("status")
@common
def status_command(options: Options) -> None:
    """Show what is up to date and what is missing: stages, partitions, aliases. Changes nothing.

    \b
    Example:
      ctr-kd status conf/simulated.yaml
    """
    config = options.config()
    context = options.context(config, read_only=True)
    click.echo(status(context, tracking_uri(config, options.workspace)))
    if (damage := first_damage(context)) is not None:
        raise damage


cli.add_command(ui_command)
cli.add_command(prune_command)


def _session(command: str, options: Options, pipeline: Sequence[Stage] | None = None) -> AbstractContextManager[Runner]:
    return session(command, options, PIPELINE if pipeline is None else pipeline)


def _run_and_show(runner: Runner, options: Options, first: str | None, last: str | None) -> None:
    """Run stages and print what was done, and the result where one was made; also when the gate refuses."""
    try:
        say_what_was_done(runner.run(first, last, options.force))
    except GateRefused:
        _show_report(runner.context, options)
        raise
    _show_report(runner.context, options)


def _show_report(context: RunContext, options: Options) -> None:
    """Print the result table, where the report is, and the verdict; where distillation did not pay also why, and what to try next."""
    from ctr_kd.report import summary_table

    directory = report_directory(context)
    if directory is None:
        return
    # Where nobody watches, the table is not folded to some terminal's width.
    metrics = Metrics.read(directory)
    Screen(width=None if sys.stdout.isatty() else 160).print(summary_table(metrics.to_json()))
    click.echo(f"report: {directory / 'report.html'}")
    if metrics.verdict is not None:
        click.echo(metrics.verdict)
    if metrics.advice is not None:
        change = metrics.advice.change
        click.echo(f"why: {metrics.advice.cause}")
        click.echo(f"try: {options.again('run', change) if change else options.again('prove')}")


# --- how a command ends ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with the code of the contract."""
    state: dict[str, Any] = {"debug": False, "workspace": None, "log_format": "text"}
    # Threads that spin while they wait make a shared machine crawl; torch and scikit-learn read this when they are imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler's stop closes files and runs, as Ctrl-C does
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; they are no news to a user
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number, and nothing ends for it
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="ctr-kd", standalone_mode=False, obj=state)
    except BaseException as error:
        if isinstance(error, click.exceptions.Exit):
            _leave(error.exit_code)
        if isinstance(error, SystemExit):
            raise
        if isinstance(error, GateRefused):
            click.echo(error.table)
        _say_why(error, state)
        _leave(exit_code(error))
    _leave(0)


def _say_why(error: BaseException, state: Mapping[str, Any]) -> None:
    """What failed, on standard error, once however many processes there are; the traceback where it was asked for."""
    text = explain(error, state["workspace"])
    trace = "".join(traceback.format_exception(error)) if state["debug"] else ""
    if state["log_format"] == "json":
        if launched()[0] == 0:
            more = {"traceback": trace} if trace else {}
            Console(log_format="json").fail(text, exit_code=exit_code(error), **more)
        return
    if trace:
        click.echo(trace, err=True, nl=False)
    if launched()[0] == 0:
        for line in _lines(error, text):
            click.echo(f"ctr-kd: {line}", err=True)


def _lines(error: BaseException, text: str) -> Sequence[str]:
    """What a failure says: one line, or of a configuration a line for each of its problems."""
    return [plain(" ".join(problem.split())) for problem in error.problems] if isinstance(error, ConfigError) else [text]


def _leave(code: int) -> NoReturn:
    """End the process with a code. One of several leaves at once: the threads of its connections may abort an orderly exit."""
    if launched()[1] > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
