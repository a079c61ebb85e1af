"""Running the pipeline from Python: a result in place of printed lines, exceptions in place of exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from feature_store.config_types import is_url, parse_time
from pipelines.config.run import load, scalar
from pipelines.errors import BoundBroken, GateRefused
from pipelines.library.result import Result, result_of
from pipelines.pruning import prune_after_run
from pipelines.session import locked_workspace, run_context
from pipelines.stages import PIPELINE
from pipelines.workspace.console import Console
from pipelines.workspace.runner import Runner


def run(
    conf: str | Path,
    *,
    data: str | Path | None = None,
    workspace: str | Path = "workspace",
    overrides: Mapping[str, Any] | None = None,
    as_of: str | datetime | None = None,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
    progress: bool = False,
) -> Result:
    """Do the whole pipeline, as the command ``run`` does it: raw log, teacher, student, registry, scores. What is up to date is skipped.

    Lines of progress go to ``logging.getLogger("ctr_kd")``.

    Parameters
    ----------
    conf : path
        The YAML file.
    data : path or URL, optional
        Where the raw log lies; later runs on the same workspace may leave it out.
    workspace : path
        Where everything is kept.
    overrides : mapping, optional
        Values of the configuration by their dotted keys, such as ``{"distill.alpha": 0.3}``.
    as_of : str or datetime, optional
        Logical time (UTC): nothing later is seen by any stage.
    first, last : str, optional
        First and last stage; earlier ones run only where they are missing.
    force : bool
        Make these stages again even where they are up to date.
    progress : bool
        Print lines, and on a terminal bars, on standard error instead.

    Returns
    -------
    Result

    Raises
    ------
    ConfigError
        When the configuration is wrong; the message names file, line and key.
    DataError
        When the data broke its contract.
    GateRefused
        When the student did not pass the promotion gate. Everything else is made: the exception's ``result`` has it.
    BoundBroken
        When warm nights are worth less than their bound allows.
    WorkspaceLocked
        When another run holds the workspace.

    Examples
    --------
    >>> result = run("conf/simulated.yaml", overrides={"distill.alpha": 0.3})  # doctest: +SKIP
    >>> result.verdict, result.metrics[["auc", "auc_low", "auc_high"]]  # doctest: +SKIP
    """
    config = load(Path(conf), [f"{key}={scalar(value)}" for key, value in (overrides or {}).items()])
    place = data if data is None or (isinstance(data, str) and is_url(data)) else Path(data)
    time = None if as_of is None else parse_time(as_of)
    context = run_context(config, Path(workspace), place, time, Console() if progress else Console.logging())
    with locked_workspace(context, PIPELINE, f"pipelines.run of {conf}") as runner:
        refused: GateRefused | None = None
        try:
            runner.run(first, last, force)
        except GateRefused as error:
            refused = error
        result = result_of(runner)
        try:
            _check_warm_nights(runner)
        except BoundBroken:
            if refused is None:
                raise
        if refused is not None:
            refused.result = result
            raise refused
        if config.retention.after_run:
            prune_after_run(context)
    return result


def _check_warm_nights(runner: Runner) -> None:
    """Say what warm nights are worth less, on a night that compares."""
    if runner.context.config.training.start == "warm":
        from pipelines.experiments.warm_check import check_warm_nights

        line = check_warm_nights(runner)
        if line is not None:
            runner.context.report(line)
